"""`Api`: a connection to a Kubernetes API server; it asks again while that is away, and has its errors as ours."""

from __future__ import annotations

import json
import os
import random
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from cluster.errors import RunNotFoundError, SpecError, SubmissionError
from cluster.kube_errors import (
    Request,
    error_of,
    is_unknown,
    is_unready,
    may_pass,
    no_kubernetes,
    unreachable,
    untrusted,
)  # fmt: skip

Document = dict[str, Any]

#: Who applies: the field manager of all that we make.
MANAGER = "tfcluster"
#: Seconds that an API server is waited for: at first, when its address may be wrong, and once it has answered.
FIRST, LATER = 10.0, 300.0
#: Seconds before the first new try, and at most between two.
_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
#: Seconds for a connection, and for an answer.
_CONNECT, _ANSWER = 5.0, 30.0
#: Seconds without a line after which the connection of a log that is followed is made anew: it may be dead.
_SILENCE = 60.0
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_PATHS = {
    "RayJob": ("apis/ray.io/v1", "rayjobs"),
    "RayCluster": ("apis/ray.io/v1", "rayclusters"),
    "ConfigMap": ("api/v1", "configmaps"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Secret": ("api/v1", "secrets"),
    "Pod": ("api/v1", "pods"),
    "Event": ("api/v1", "events"),
    "Workload": ("apis/kueue.x-k8s.io/v1beta2", "workloads"),
}
#: Where a server has no such path, an older one.
_OLDER = {"apis/kueue.x-k8s.io/v1beta2": "apis/kueue.x-k8s.io/v1beta1"}


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class NoLogError(ConnectionError):
    """A container that has not started, and so has no log yet."""


class Api:
    """One API server, as one of its users, in one namespace.

    Args:
        context: of the kubeconfig, or '' for its current one; inside a Pod without a kubeconfig it is the Pod's own.
        namespace: or '' for the context's.
        tell: is told when the server is away, and when it is back.

    Raises:
        SpecError: there is no kubeconfig, or no such context.
    """

    def __init__(self, context: str = "", namespace: str = "", tell: Callable[[str], None] = _to_stderr) -> None:
        self.context = context
        self._tell = tell
        self._answered = False
        self._configuration, of_context = _configuration(context)
        self.namespace = namespace or of_context or "default"
        self.server = str(self._configuration.host).rstrip("/")
        self._client = _client(self._configuration)

    def get(self, kind: str, name: str) -> Document:
        """One object.

        Raises:
            RunNotFoundError: there is none of that name.
            SubmissionError: any other answer, see `cluster.kube_errors`.
        """
        return self._ask("get", kind, name)

    def find(self, kind: str, name: str) -> Document | None:
        """One object, or None where there is none of that name."""
        try:
            return self.get(kind, name)
        except RunNotFoundError:
            return None

    def list(self, kind: str, **selectors: str) -> list[Document]:
        """Objects; `labels` and `fields` select them.

        Raises:
            SubmissionError: see `cluster.kube_errors`.
        """
        query = {f"{key.removesuffix('s')}Selector": value for key, value in selectors.items()}
        items: list[Document] = []
        while True:
            page = self._ask("list", kind, query={**query, "limit": "500"})
            items += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return [{"kind": kind, **item} for item in items]
            query["continue"] = more

    def apply(self, document: Mapping[str, Any], *, trial: bool = False) -> Document:
        """Server-side apply; a field that the server does not know is an error.

        Args:
            document: whole object.
            trial: ask whether it would be taken, and change nothing.

        Raises:
            SubmissionError: see `cluster.kube_errors`.
        """
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", **({"dryRun": "All"} if trial else {})}
        name, kind = str(document["metadata"]["name"]), str(document["kind"])
        return self._ask("create", kind, name, query=query, body=document)

    def delete(self, kind: str, name: str) -> bool:
        """Delete an object and what it owns; False where there was none."""
        try:
            self._ask("delete", kind, name, query={"propagationPolicy": "Background"})
        except RunNotFoundError:
            return False
        return True

    def log(self, pod: str, container: str, *, follow: bool, since: float | None = None) -> Iterator[bytes]:
        """Lines of a container's log, each with the time of its writing before it.

        Args:
            pod: its name.
            container: its name.
            follow: go on until the container ends.
            since: only lines that were written so many seconds ago, or later.

        Raises:
            RunNotFoundError: there is no such Pod.
            SubmissionError: see `cluster.kube_errors`.
            NoLogError: the container has not started.
            ConnectionError: the connection broke; what came before it has been passed on.
        """
        query = {"container": container, "timestamps": "true", "follow": "true" if follow else "false"}
        if since is not None:
            query["sinceSeconds"] = str(max(1, int(since + 1)))
        try:
            answer = self._answer("get", "Pod", pod, "/log", query, None, stream=True)
        except SubmissionError as error:
            if is_unready(error):
                raise NoLogError(str(error)) from None
            raise
        if str(answer.headers.get("Content-Type")).startswith("text/html"):  # a log is plain text
            raise no_kubernetes(answer.status, answer.data, Request("get", "Pod", pod, self.namespace, self.server))
        rest = b""
        answer.enforce_content_length = False  # what has come is to be had, also where there should be more
        try:
            for part in answer.stream(65536, decode_content=True):
                *lines, rest = (rest + part).split(b"\n")
                yield from lines
            if answer.length_remaining:
                raise ConnectionError(f"{answer.length_remaining} bytes are missing")
        except ConnectionError:
            raise
        except Exception as error:  # urllib3 has a dozen, and a timeout or a reset may come as itself
            raise ConnectionError(f"{type(error).__name__}: {error}") from None
        finally:
            answer.release_conn()
        if rest:
            yield rest

    def forward(self, pod: str, port: int) -> Any:
        """A socket to a port of a Pod.

        Raises:
            ConnectionError: it cannot be had.
        """
        from kubernetes import client, stream
        from kubernetes.client.exceptions import ApiException

        try:
            core = client.CoreV1Api(_client(self._configuration))  # its own: the call replaces the client's methods
            ask = core.connect_get_namespaced_pod_portforward
            forwarded = stream.portforward(ask, pod, self.namespace, ports=str(port))
        except ApiException as error:
            raise ConnectionError(str(error.reason).splitlines()[0]) from None
        return forwarded.socket(port)

    def _ask(
        self, verb: str, kind: str, name: str = "", query: Mapping[str, str] | None = None, body: Any = None
    ) -> Document:
        answer = self._answer(verb, kind, name, "", query or {}, body, stream=False)
        try:
            document = json.loads(answer.data)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise no_kubernetes(answer.status, answer.data, Request(verb, kind, name, self.namespace, self.server))
        return document

    def _answer(
        self, verb: str, kind: str, name: str, part: str, query: Mapping[str, str], body: Any, *, stream: bool
    ) -> Any:
        """The server's answer; asks again while the server is away, or too busy."""
        request = Request(verb, kind, name, self.namespace, self.server)
        prefix, plural = _PATHS[kind]
        path = f"namespaces/{quote(self.namespace)}/{plural}" + (f"/{quote(name)}{part}" if name else "")
        path += f"?{urlencode(query)}" if query else ""
        method = {"create": "PATCH", "delete": "DELETE"}.get(verb, "GET")
        begun, pause, told, renewed = time.monotonic(), _PAUSE, False, False
        while True:
            patience = LATER if self._answered else FIRST
            failure, wait = None, pause
            try:
                answer = self._send(method, f"{self.server}/{prefix}/{path}", body, stream)
            except _broken() as error:
                if _is_untrusted(error):
                    raise untrusted(self.server, _reason(error)) from None
                wrong = _reason(error)
            else:
                code = int(answer.status)
                if code < 300:
                    if told:
                        self._tell("the API server answers again")
                    self._answered = True
                    return answer
                failure = error_of(code, answer.data, request)
                if is_unknown(failure) and prefix in _OLDER:
                    prefix = _OLDER[prefix]
                    continue
                if code == 401 and not renewed:  # a token may have been renewed by whoever has it
                    renewed = True
                    self._renew()
                    continue
                if not may_pass(code, answer.data):
                    self._answered = True
                    raise failure
                wrong, wait = f"HTTP {code}", max(pause, _asked_for(answer))
                patience = FIRST if code == 500 else patience  # such as a webhook that is away: it may stay away
            waited = time.monotonic() - begun
            if waited + wait > patience:
                raise failure or unreachable(self.server, wrong, waited)
            if not told and waited > 1.0:
                told = True
                self._tell(f"the API server does not answer ({wrong}); trying for {patience:.0f} s")
            time.sleep(wait * random.uniform(0.8, 1.2))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _send(self, method: str, url: str, body: Any, stream: bool) -> Any:
        from urllib3 import Timeout

        headers = {"Accept": "*/*" if stream else "application/json", "User-Agent": "ray-tfcluster"}
        for setting in self._configuration.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
        if body is not None:
            headers["Content-Type"] = "application/apply-patch+yaml"
        return self._client.rest_client.pool_manager.request(
            method,
            url,
            headers=headers,
            body=None if body is None else json.dumps(body),
            timeout=Timeout(connect=_CONNECT, read=_SILENCE if stream else _ANSWER),
            retries=False,
            preload_content=not stream,
        )

    def _renew(self) -> None:
        self._configuration, _ = _configuration(self.context)
        self._client = _client(self._configuration)


def _configuration(context: str) -> tuple[Any, str]:
    """The client's configuration, and the namespace of the context or Pod."""
    from kubernetes import client, config

    made = client.Configuration()
    try:
        # The package looks at KUBECONFIG only once, when it is imported.
        path = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
        config.load_kube_config(path, context=context or None, client_configuration=made)
        contexts, current = config.list_kube_config_contexts(path)
        chosen = next(c for c in contexts if c["name"] == context) if context else current
        return made, str((chosen.get("context") or {}).get("namespace") or "")
    except config.ConfigException as error:
        if not context and _NAMESPACE_FILE.exists():
            config.load_incluster_config(client_configuration=made)
            return made, _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        raise _no_configuration(context, error) from None
    except Exception as error:  # a kubeconfig that is no YAML, a file of it that is missing
        raise _no_configuration(context, error) from None


def _no_configuration(context: str, error: Exception) -> SpecError:
    said = str(error).strip().splitlines()
    seen = f"{f'context {context}: ' if context else ''}{said[0] if said else type(error).__name__}"
    todo = "name a kubeconfig in KUBECONFIG, and a context of it by --context; see: kubectl config get-contexts"
    return SpecError("there is no way to a Kubernetes cluster", seen, todo)


def _client(configuration: Any) -> Any:
    from kubernetes import client

    return client.ApiClient(configuration)


def _broken() -> tuple[type[Exception], ...]:
    """What a connection can end with."""
    from urllib3.exceptions import HTTPError

    return (HTTPError, OSError)


def _is_untrusted(error: BaseException | None) -> bool:
    """Whether a connection ended over the server's certificate."""
    while error is not None:
        inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = inner or error.__cause__
    return False


def _reason(error: Exception) -> str:
    text = str(getattr(error, "reason", None) or error)
    return text.rpartition(": ")[2].splitlines()[0][:200] if text else type(error).__name__


def _asked_for(answer: Any) -> float:
    """Seconds that the server asks to wait."""
    try:
        return min(float(answer.headers.get("Retry-After") or 0), _LONGEST_PAUSE)
    except ValueError:
        return 0.0
