# ruff: noqa: E501 - the lines are as they were written
"""The launcher's lines among those of Ray's command, and each of them once, over breaks and Pods."""

from __future__ import annotations

import pytest

from cluster.kube_logs import Cursor

#: What `ray job submit` and `ray job logs` of Ray 2.60 wrote for a job that failed; the job's own lines stand in between.
BEFORE = """\
Waiting for Ray Dashboard GCS to become healthy at http://x:8265 ...
2026-11-23 20:00:33,881\tINFO cli.py:42 -- \x1b[37mJob submission server address\x1b[39m: \x1b[1mhttp://127.0.0.1:9932\x1b[22m
2026-11-23 20:00:33,922\tSUCC cli.py:66 -- \x1b[32m--------------------------------\x1b[39m
2026-11-23 20:00:33,926\tSUCC cli.py:67 -- \x1b[32mJob 'j-1' submitted successfully\x1b[39m
2026-11-23 20:00:33,926\tINFO cli.py:330 -- \x1b[36mNext steps\x1b[39m
2026-11-23 20:00:33,927\tINFO cli.py:333 -- \x1b[1mray job logs j-1\x1b[22m
""".splitlines()
JOB = ["2026-11-23 20:00:33,905\tINFO job_manager.py:581 -- Runtime env is setting up.", "one", "", "  three", "four"]
AFTER = """\
2026-11-23 20:00:42,482\tINFO sdk.py:520 -- WebSocket closed for job j-1 with close code 1000
2026-11-23 20:00:42,491\tERR cli.py:75 -- \x1b[31mJob 'j-1' failed\x1b[39m
2026-11-23 20:00:42,492\tINFO cli.py:89 -- Status message: Job entrypoint command failed with exit code 10, last
one

  three
four
""".splitlines()


def timed(lines: list[str], first: int = 0) -> list[bytes]:
    """The lines as the API server writes them."""
    return [f"2026-11-23T20:00:00.{first + n:09d}Z {line}".encode() for n, line in enumerate(lines)]


def test_only_the_launchers_lines() -> None:
    cursor = Cursor()
    cursor.begin("a")
    assert list(cursor.take(timed([*BEFORE, *JOB, *AFTER]))) == JOB
    assert cursor.lines == len(JOB)


@pytest.mark.parametrize("cut", range(1, len(BEFORE) + len(JOB) + len(AFTER)))
def test_a_break_at_any_line(cut: int) -> None:
    lines = timed([*BEFORE, *JOB, *AFTER])
    cursor = Cursor()
    seen: list[str] = []
    cursor.begin("a")
    seen += cursor.take(lines[:cut])
    cursor.begin("a")
    seen += cursor.take(lines[max(0, cut - 3) :])  # the server goes back a little
    assert seen == JOB


@pytest.mark.parametrize("cut", range(1, len(BEFORE) + len(JOB)))
def test_another_pod_says_it_all_again(cut: int) -> None:
    cursor = Cursor()
    seen: list[str] = []
    cursor.begin("a")
    seen += cursor.take(timed([*BEFORE, *JOB])[:cut])
    cursor.begin("b")
    seen += cursor.take(timed([*BEFORE, *JOB, *AFTER], first=1000))
    assert seen == JOB


def test_a_job_that_is_started_anew_says_something_else() -> None:
    cursor = Cursor()
    cursor.begin("a", "first")
    seen = list(cursor.take(timed([*BEFORE, *JOB])))
    cursor.begin("b", "second")
    seen += cursor.take(timed([*BEFORE, "other", *JOB], first=1000))
    assert seen == [*JOB, "other", *JOB]


def test_lines_of_the_same_time_are_all_passed_on() -> None:
    cursor = Cursor()
    cursor.begin("a")
    assert list(cursor.take([b"2026-11-23T20:00:00.000000001Z one", b"2026-11-23T20:00:00.000000001Z two"])) == [
        "one",
        "two",
    ]


def test_the_age_of_the_last_line() -> None:
    cursor = Cursor()
    assert cursor.age(0.0) is None
    cursor.begin("a")
    list(cursor.take([b"1970-01-01T00:01:40.000000000Z one"]))
    assert cursor.age(160.0) == pytest.approx(60.0 + 300.0)
    assert cursor.age(50.0) == pytest.approx(300.0)  # this machine's clock is behind


def test_bytes_that_are_no_text() -> None:
    cursor = Cursor()
    cursor.begin("a")
    assert list(cursor.take([b"2026-11-23T20:00:00.000000001Z \xff"])) == ["\ufffd"]


def test_what_rays_command_says_of_the_end() -> None:
    cursor = Cursor()
    cursor.begin("a", "first")
    list(cursor.take(timed([*BEFORE, "Job 'of-the-users' succeeded"])))
    assert (cursor.end, cursor.message) == ("", "")
    list(cursor.take(timed(AFTER, first=100)))
    said = "Job entrypoint command failed with exit code 10, last"
    assert (cursor.end, cursor.message) == ("FAILED", said)
    cursor.begin("b", "second")
    assert (cursor.end, cursor.message) == ("", "")
