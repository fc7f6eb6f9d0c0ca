"""What an API server answered → our errors, each with what to do. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.errors import RunNotFoundError, SubmissionError, TfClusterError

#: Answers after which the same request may well succeed.
_PASSING = (429, 500, 502, 503, 504)
_UNABLE, _REFUSED = "the API server is not able to answer", "the API server refused"
_UNKNOWN = "the API server does not have that"
#: Who one is to a server that got no credentials, such as from a login command that failed.
_NOBODY = "system:anonymous"
#: How server-side apply says that it does not know a field, or cannot have its value there.
_NO_SCHEMA = "failed to create typed patch object"
INSTALL = (
    "install its operator: helm repo add kuberay https://ray-project.github.io/kuberay-helm/ && helm install "
    "kuberay-operator kuberay/kuberay-operator --version 1.7.0 --namespace kuberay-system --create-namespace"
)
_QUOTA = re.compile(r"exceeded quota: ([^,]+), requested: (.*?), used: (.*?), limited: (.*)$", re.DOTALL)
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        verb: create, get, list, delete.
        kind: of the object, such as RayJob.
        name: of the object, or ''.
        namespace: that it is in.
        server: address of the API server.
    """

    verb: str
    kind: str
    name: str
    namespace: str
    server: str

    def __str__(self) -> str:
        return f"{self.verb} {self.kind}{f' {self.name}' if self.name else ''} in namespace {self.namespace}"


def status_of(body: bytes | str) -> dict[str, Any]:
    """The `Status` in an answer; what is no JSON is its message."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    try:
        document = json.loads(text)
    except ValueError:
        return {"message": text.strip()[:500]}
    return document if isinstance(document, dict) else {"message": text.strip()[:500]}


def error_of(code: int, body: bytes | str, request: Request) -> TfClusterError:
    """The error that says what the answer `code` with this body means."""
    status = status_of(body)
    message = " ".join(str(status.get("message") or f"HTTP {code}").split())
    if code < 400:
        return no_kubernetes(code, body, request)
    if code == 401:
        return _nobody(message, request)
    if code == 403:
        return _forbidden(message, request)
    if code == 404:
        return _not_found(status, message, request)
    if code == 409:
        return _conflict(status, message, request)
    if code == 413:
        todo = "leave files out, or have code go to object storage: code: s3://bucket/code"
        return SubmissionError("the API server finds it too large", str(request), todo)
    if code == 422 or (code == 400 and "strict decoding" in message) or _NO_SCHEMA in message:
        return SubmissionError("the API server refused it as not valid", str(request), _causes(status, message))
    if code in _PASSING:
        return SubmissionError(_UNABLE, f"{request}: {message}", "try again in a while")
    return SubmissionError(_REFUSED, f"{request}: HTTP {code}", message)


def no_kubernetes(code: int, body: bytes | str, request: Request) -> TfClusterError:
    """An answer that no API server gives, such as the page of a proxy where one logs in."""
    text = " ".join((body.decode(errors="replace") if isinstance(body, bytes) else body).split())
    seen = f"{request.server}: HTTP {code}{f', {text[:100]!r}' if text else ''}"
    todo = "log in to the proxy before it, if there is one, or correct the address of the cluster in the kubeconfig"
    return SubmissionError("what answers is no Kubernetes API server", seen, todo)


def _nobody(message: str, request: Request) -> TfClusterError:
    todo = (
        "log in again, for example by `kubectl get pods` or your cloud's login; the token may have expired, or the "
        "command that the kubeconfig names for it may have failed"
    )
    return SubmissionError("the API server does not know who you are", f"{request.server}: {message}", todo)


def may_pass(code: int, body: bytes | str) -> bool:
    """Whether the same request may well succeed in a while."""
    return code in _PASSING and _NO_SCHEMA not in str(status_of(body).get("message"))


def _forbidden(message: str, request: Request) -> TfClusterError:
    quota = _QUOTA.search(message)
    if quota:
        name, requested, used, limited = quota.groups()
        seen = f"quota {name} of namespace {request.namespace}: asked {requested}, used {used}, at most {limited}"
        todo = "delete what you no longer need (tfcluster list --kubernetes), ask for less, or ask for a larger quota"
        return SubmissionError("the namespace's quota is used up", seen, todo)
    found = _FORBIDDEN.search(message)
    if found and found["user"] == _NOBODY:
        return _nobody(f"you are {_NOBODY}", request)
    if found:
        group = f".{found['group']}" if found["group"] else ""
        what = f"{found['verb']} {found['resource']}{group} in namespace {found['namespace'] or request.namespace}"
        todo = "ask whoever runs the cluster for a Role that allows it: docs/kubernetes.md has one"
        return SubmissionError(f"you may not {what}", f"you are {found['user']}", todo)
    return SubmissionError("the cluster's admission refused", str(request), message)


def _not_found(status: Mapping[str, Any], message: str, request: Request) -> TfClusterError:
    details = status.get("details") or {}
    if details.get("kind") == "namespaces":
        todo = f"kubectl create namespace {request.namespace}, or name another one: --namespace"
        return SubmissionError("there is no such namespace", request.namespace, todo)
    if request.kind.startswith("Ray") and not details.get("name"):
        return SubmissionError(
            "KubeRay is not installed in this cluster", f"{request.server} has no {request.kind}", INSTALL
        )
    if not details.get("name"):
        return SubmissionError(_UNKNOWN, f"{request}: {message}")
    todo = f"see: tfcluster list --kubernetes --namespace {request.namespace}"
    return RunNotFoundError(f"there is no {request.kind} of that name", f"{request.name} in {request.namespace}", todo)


def _conflict(status: Mapping[str, Any], message: str, request: Request) -> TfClusterError:
    if status.get("reason") == "AlreadyExists":
        return taken(request)
    owners = [
        str(cause.get("message")) for cause in _cause_list(status) if cause.get("reason") == "FieldManagerConflict"
    ]
    seen = f"{request}: {'; '.join(dict.fromkeys(owners)) or message}"
    return SubmissionError("somebody else has changed it meanwhile", seen, "try again, or take another name")


def taken(request: Request) -> TfClusterError:
    """There is one of that name."""
    todo = (
        f"take another name, or delete it: kubectl -n {request.namespace} delete {request.kind.lower()} {request.name}"
    )
    return SubmissionError(f"there is a {request.kind} of that name", f"{request.name} in {request.namespace}", todo)


def _cause_list(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((status.get("details") or {}).get("causes") or [])


def _causes(status: Mapping[str, Any], message: str) -> str:
    """The fields that are wrong, one a line; or admission's own words."""
    causes = [f"{c['field']}: {c.get('message', '')}" for c in _cause_list(status) if c.get("field")]
    if not causes:
        return message
    return causes[0] if len(causes) == 1 else "".join(f"\n  - {cause}" for cause in causes)


def unreachable(server: str, reason: str, seconds: float) -> TfClusterError:
    """Nothing answered for so long."""
    todo = "is the cluster up, and are you on its network? another one: --context"
    waited = f", tried for {seconds:.0f} s" if seconds >= 1 else ""
    return SubmissionError("the API server does not answer", f"{server} ({reason}{waited})", todo)


def untrusted(server: str, reason: str) -> TfClusterError:
    """The server's certificate is not one that we know; waiting does not help."""
    todo = (
        "have the cluster's certificate-authority in your kubeconfig name the authority that signed it, and its server "
        "be a name in it; a proxy on the way may show one of its own"
    )
    return SubmissionError("the API server's certificate is not trusted", f"{server} ({reason})", todo)


def is_passing(error: TfClusterError) -> bool:
    """Whether the server, or the node that it asked, may answer later."""
    return error.happened == _UNABLE


def is_unready(error: TfClusterError) -> bool:
    """Whether the server answered that there is nothing to show yet, such as the log of a container that waits."""
    return error.happened == _REFUSED


def is_unknown(error: TfClusterError) -> bool:
    """Whether the server answered that it has no such thing, such as a version of an API."""
    return error.happened == _UNKNOWN


def is_closed(error: TfClusterError) -> bool:
    """Whether the server answered that one may not see something, or that it has no such thing."""
    return error.happened.startswith("you may not ") or is_unknown(error)
