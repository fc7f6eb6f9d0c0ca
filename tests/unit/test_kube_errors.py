# ruff: noqa: E501 - in the tables a line is a case
"""Answers of an API server, as errors that say what to do; the bodies are what real servers wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.errors import RunNotFoundError, SubmissionError
from cluster.kube_errors import Request, error_of, may_pass, no_kubernetes, unreachable, untrusted

REQUEST = Request("create", "RayJob", "flights-1", "ml", "https://api:6443")
LIST = Request("list", "RayJob", "", "ml", "https://api:6443")


def body(reason: str, message: str, **details: Any) -> bytes:
    return json.dumps({"kind": "Status", "reason": reason, "message": message, "details": details}).encode()


@pytest.mark.parametrize(
    ("code", "answer", "request_", "parts"),
    [
        (401, body("Unauthorized", "Unauthorized"), REQUEST, ("does not know who you are", "log in again")),
        (403, body("Forbidden", 'rayjobs.ray.io "x" is forbidden: User "ada" cannot patch resource "rayjobs" in API group "ray.io" in the namespace "ml"'), REQUEST, ("you may not patch rayjobs.ray.io in namespace ml", "you are ada")),
        (403, body("Forbidden", 'rayjobs.ray.io is forbidden: User "system:anonymous" cannot list resource "rayjobs" in API group "ray.io" in the namespace "ml"'), LIST, ("does not know who you are · https://api:6443: you are system:anonymous", "log in again", "the command that the kubeconfig names")),
        (302, b"", LIST, ("what answers is no Kubernetes API server · https://api:6443: HTTP 302 ·",)),
        (403, body("Forbidden", 'pods is forbidden: User "ada" cannot list resource "pods" in API group "" in the namespace "ml"'), LIST, ("you may not list pods in namespace ml",)),
        (403, body("Forbidden", 'configmaps "x" is forbidden: exceeded quota: team, requested: count/configmaps=1, used: count/configmaps=5, limited: count/configmaps=5'), REQUEST, ("quota is used up", "quota team of namespace ml: asked count/configmaps=1, used count/configmaps=5, at most")),
        (403, body("Forbidden", 'admission webhook "x" denied the request: no'), REQUEST, ("admission refused", "no")),
        (404, b"404 page not found\n", LIST, ("KubeRay is not installed", "helm install kuberay-operator")),
        (404, body("NotFound", "the server could not find the requested resource"), REQUEST, ("KubeRay is not installed",)),
        (404, body("NotFound", 'namespaces "ml" not found', name="ml", kind="namespaces"), REQUEST, ("there is no such namespace · ml", "kubectl create namespace ml")),
        (409, body("AlreadyExists", 'rayjobs.ray.io "flights-1" already exists'), REQUEST, ("there is a RayJob of that name · flights-1 in ml", "kubectl -n ml delete rayjob flights-1")),
        (409, body("Conflict", "Apply failed with 1 conflict", causes=[{"reason": "FieldManagerConflict", "message": 'conflict with "kueue": .spec.suspend', "field": ".spec.suspend"}]), REQUEST, ("somebody else has changed it", 'conflict with "kueue": .spec.suspend')),
        (413, b"", REQUEST, ("too large", "object storage")),
        (422, body("Invalid", "RayJob is invalid", causes=[{"field": "spec.a", "message": "Invalid value: 1"}, {"field": "spec.b", "message": "Required"}]), REQUEST, ("not valid", "\n  - spec.a: Invalid value: 1\n  - spec.b: Required")),
        (422, body("Invalid", "ValidatingAdmissionPolicy 'x' denied request: name your team"), REQUEST, ("name your team",)),
        (400, body("BadRequest", 'strict decoding error: unknown field "spec.x"'), REQUEST, ('unknown field "spec.x"',)),
        (500, body("", "failed to create typed patch object: .spec.x: field not declared in schema"), REQUEST, ("not valid", ".spec.x: field not declared")),
        (503, b"upstream", REQUEST, ("not able to answer", "try again in a while")),
        (418, b"<html>teapot</html>", REQUEST, ("HTTP 418", "teapot")),
    ],
)  # fmt: skip
def test_errors(code: int, answer: bytes, request_: Request, parts: tuple[str, ...]) -> None:
    error = error_of(code, answer, request_)
    assert isinstance(error, SubmissionError)
    for part in parts:
        assert part in str(error)


def test_an_object_that_is_not_there() -> None:
    answer = body("NotFound", 'rayjobs.ray.io "x" not found', name="x", group="ray.io", kind="rayjobs")
    error = error_of(404, answer, Request("get", "RayJob", "x", "ml", "https://api"))
    assert isinstance(error, RunNotFoundError)
    assert "there is no RayJob of that name · x in ml" in str(error)


@pytest.mark.parametrize(
    ("code", "answer", "passes"),
    [
        (429, b"", True),
        (500, body("InternalError", "failed calling webhook"), True),
        (500, body("", "failed to create typed patch object: x"), False),
        (503, b"", True),
        (403, b"", False),
    ],
)
def test_what_may_pass(code: int, answer: bytes, passes: bool) -> None:
    assert may_pass(code, answer) is passes


def test_a_server_that_does_not_answer() -> None:
    error = unreachable("https://api", "Connection refused", 12.3)
    assert "https://api (Connection refused, tried for 12 s)" in str(error)


def test_what_is_no_kubernetes() -> None:
    error = no_kubernetes(200, b"<html>\n  Log in" + b"." * 200, LIST)
    assert str(error).startswith(
        "what answers is no Kubernetes API server · https://api:6443: HTTP 200, '<html> Log in.."
    )
    assert len(str(error)) < 350


def test_a_certificate_that_is_not_trusted() -> None:
    error = untrusted("https://api", "self-signed certificate")
    assert "https://api (self-signed certificate)" in str(error)
    assert "certificate-authority" in str(error)
