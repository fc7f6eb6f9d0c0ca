"""What an API server, or something in its place, may answer: pages, logs that break off, jobs that are gone."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cluster.errors import RunNotFoundError, SubmissionError
from cluster.kube_api import Api
from cluster.kube_submitted import SubmittedRayJob

LOGIN = b"<html>\n<title>Log in</title></html>"


@dataclass
class Server:
    """Answers what a test says.

    Attributes:
        logs: answers to requests for a log, one after the other, the last one from then on; one that is cut says that
            more would come, and ends.
        states: of the RayJob at each look, the last one from then on; None is one that is gone.
        page: in place of every answer: code, type and body.
        in_chunks: whether logs come so, as they do from an API server, or their length is told first.
    """

    logs: list[tuple[str, bool]] = field(default_factory=list)
    states: list[dict[str, Any] | None] = field(default_factory=list)
    page: tuple[int, str, bytes] | None = None
    in_chunks: bool = True
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, str, bytes, int]:
        """Code, type, body, and the length that is promised."""
        self.asked.append(path)
        if self.page:
            return *self.page, len(self.page[2])
        if path.split("?")[0].endswith("/log"):
            text, is_cut = self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]
            waits = json.dumps({"kind": "Status", "message": 'container "x" is waiting to start'}).encode()
            return (
                (200, "text/plain", text.encode(), len(text) + is_cut) if text else (400, "a/json", waits, len(waits))
            )
        code, document = self._document(urlsplit(path).path)
        body = json.dumps(document).encode()
        return code, "application/json", body, len(body)

    def _document(self, path: str) -> tuple[int, dict[str, Any]]:
        if path.endswith("/rayjobs/x"):
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            if state is None:
                gone = {"name": "x", "group": "ray.io", "kind": "rayjobs"}
                return 404, {"kind": "Status", "reason": "NotFound", "message": "no x", "details": gone}
            return 200, {"metadata": {"name": "x", "namespace": "ml"}, "spec": {}, "status": state}
        if "/rayclusters/" in path:
            return 200, {"spec": {"authOptions": {"mode": "token"}}}
        if "/secrets/" in path:
            return 200, {"data": {"auth_token": base64.b64encode(path.rpartition("/")[2].encode()).decode()}}
        labels = {"batch.kubernetes.io/controller-uid": "1"}
        pod = {"metadata": {"name": "x-1", "labels": labels}, "status": {"phase": "Succeeded"}}
        return 200, {"items": [pod] if path.endswith("/pods") else []}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that KUBECONFIG names."""
    made = Server(logs=[("", False)], states=[RUNNING])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            code, kind, body, length = made.answer(self.path)
            self.send_response(code)
            self.send_header("Content-Type", kind)
            if "/log?" in self.path and code == 200 and made.in_chunks and not made.page:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for line in body.splitlines(keepends=True):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                self.wfile.write(b"0\r\n\r\n" if length == len(body) else b"")
            else:
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)
            self.close_connection = self.close_connection or length != len(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}).start()
    address = f"http://127.0.0.1:{http.server_port}"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": address}}], "users": [{"name": "it", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "ml"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr("cluster.kube_output.EVERY", 0.01)
    monkeypatch.setattr("cluster.kube_submitted.EVERY", 0.01)
    yield made
    http.shutdown()
    http.server_close()


RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
SUCCEEDED = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
FAILED = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "... failed with exit code 11"}


def job() -> SubmittedRayJob:
    return SubmittedRayJob("x", "ml", api=Api())


def lines(*texts: str, first: int = 1) -> str:
    """Lines of a log as the API server writes them."""
    return "".join(f"2026-11-30T20:00:{first + n:02d}.0Z {text}\n" for n, text in enumerate(texts))


PAGES = [(200, "text/html", LOGIN), (302, "text/html", b""), (200, "application/json", b"[]"), (200, "a", b"\xff")]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_in_place_of_an_answer(server: Server, page: tuple[int, str, bytes]) -> None:
    server.page = page
    for ask in (job().status, lambda: Api().list("RayJob"), lambda: Api().find("RayJob", "x")):
        with pytest.raises(SubmissionError) as caught:
            ask()
        assert f"what answers is no Kubernetes API server · http://127.0.0.1:{Api().server[-5:]}" in str(caught.value)
        assert f"HTTP {page[0]}" in str(caught.value)
        assert "log in to the proxy" in str(caught.value)


def test_a_page_in_place_of_a_log(server: Server) -> None:
    server.page = (200, "text/html", LOGIN)
    with pytest.raises(SubmissionError, match=r"no Kubernetes API server · .*<html> <title>Log in</title></html>"):
        list(Api().log("x-1", "c", follow=False))


@pytest.mark.parametrize("in_chunks", [True, False])
def test_a_log_that_breaks_off_once_is_whole(server: Server, in_chunks: bool) -> None:
    server.in_chunks = in_chunks
    server.logs = [(lines("one", "two"), True), (lines("one", "two", "three"), False)]
    told: list[str] = []
    assert job().logs(tell=told.append) == "one\ntwo\nthree\n"
    assert told == []
    asked = [parse_qs(urlsplit(path).query) for path in server.asked if "/log?" in path]
    assert ["sinceSeconds" in query for query in asked] == [False, True]


@pytest.mark.parametrize("in_chunks", [True, False])
def test_a_log_that_breaks_off_twice_is_no_whole_log(server: Server, in_chunks: bool) -> None:
    server.in_chunks = in_chunks
    server.logs = [(lines("one"), True), (lines("one", "two"), True)]
    told: list[str] = []
    with pytest.raises(SubmissionError, match="the job's log broke off twice"):
        job().logs(tell=told.append)
    assert told == ["one\ntwo"]


def test_a_container_that_has_not_started_has_written_nothing(server: Server) -> None:
    server.logs = [("", False)]
    assert job().logs() == ""


@pytest.mark.parametrize("in_chunks", [True, False])
def test_a_run_directory_in_what_has_come_of_a_log(server: Server, in_chunks: bool) -> None:
    server.in_chunks = in_chunks
    server.logs = [(lines("run directory: s3://bucket/runs/x", "more"), True)]
    assert job().run_dir() == "s3://bucket/runs/x"
    server.logs = [(lines("one"), True)]
    with pytest.raises(SubmissionError, match="broke off twice"):
        job().run_dir()
    server.logs = [(lines("one"), False)]
    with pytest.raises(RunNotFoundError, match="no run directory yet"):
        job().run_dir()


@pytest.mark.parametrize(
    ("cluster", "secret"),
    [("flights-abcde", "flights-abcde"), ("f" * 53, "f" * 50), ("abc" + "-" + "f" * 49, "r" + "f" * 49)],
)
def test_the_secret_of_a_cluster_with_a_long_name(server: Server, cluster: str, secret: str) -> None:
    """As KubeRay's CheckName has it."""
    assert job()._token({"status": {"rayClusterName": cluster}}) == secret


def followed(found: SubmittedRayJob) -> tuple[str, list[str]]:
    """What is written, and what is told."""
    told: list[str] = []
    out = io.StringIO()
    assert found.logs(follow=True, stream=out, tell=told.append) == out.getvalue()
    return out.getvalue(), told


def ended(found: SubmittedRayJob) -> tuple[str, int | None]:
    return found.wait(5), found.exit_code()


@pytest.mark.parametrize(("end", "expected"), [(SUCCEEDED, ("SUCCEEDED", 0)), (FAILED, ("FAILED", 11))])
def test_a_job_that_is_deleted_after_its_end(server: Server, end: dict[str, Any], expected: tuple[str, int]) -> None:
    """It was seen to have ended, by rules that delete it at once."""
    server.logs = [(lines("one"), False)]
    server.states = [RUNNING, {**end, "jobDeploymentStatus": "Running"}, end, None]
    found = job()
    assert followed(found)[0] == "one\n"
    assert ended(found) == expected
    assert not found.stop()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["SUCC cli.py:66 -- Job 'j-1' succeeded"], ("SUCCEEDED", 0)),
        (["WARN cli.py:85 -- Job 'j-1' was stopped"], ("STOPPED", 130)),
        (
            [
                "ERR cli.py:75 -- \x1b[31mJob 'j-1' failed\x1b[39m",
                "INFO cli.py:89 -- Status message: Job entrypoint command failed with exit code 10, last",
                "one",
            ],
            ("FAILED", 10),
        ),
    ],
)
def test_a_job_that_is_deleted_before_it_is_seen_to_have_ended(
    server: Server, said: list[str], expected: tuple[str, int]
) -> None:
    """Ray's own words in the log tell how it ended."""
    carried = [f"2026-11-30 20:00:42,482\t{words}" if "cli.py" in words else words for words in said]
    server.logs = [(lines("one", *carried), False)]
    server.states = [RUNNING, None]
    found = job()
    assert followed(found) == ("one\n", [f"RayJob x was deleted after its end: {expected[0]}"])
    assert ended(found) == expected
    assert not found.stop()


@pytest.mark.parametrize("in_chunks", [True, False])
def test_a_followed_log_that_breaks_off_after_the_end(server: Server, in_chunks: bool) -> None:
    server.in_chunks = in_chunks
    server.states = [SUCCEEDED]
    server.logs = [(lines("one"), True), (lines("one", "two"), True), (lines("one", "two", "three"), False)]
    assert followed(job()) == ("one\ntwo\nthree\n", [])
    server.logs = [(lines("one"), True)]
    found = job()
    text, told = followed(found)
    assert text == "one\n"
    assert len(told) == 1
    assert told[0].startswith("the end of the job's log is missing: ")
    assert ended(found) == ("SUCCEEDED", 0)


def test_a_job_that_is_deleted_while_it_runs(server: Server) -> None:
    server.logs = [(lines("one"), False)]
    looks: list[Callable[[SubmittedRayJob], object]] = [followed, lambda found: found.wait(5, every=0.01)]
    for look in looks:
        server.states = [RUNNING, RUNNING, None]
        with pytest.raises(
            RunNotFoundError, match=r"deleted before its end was seen · x in ml: RUNNING when last seen"
        ):
            look(job())
    server.states = [None]
    with pytest.raises(RunNotFoundError, match="there is no RayJob of that name"):
        job().status()
