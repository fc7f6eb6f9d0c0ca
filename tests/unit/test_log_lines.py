"""How bad a line is, and what a reader sees of it."""

from __future__ import annotations

import pytest

from cluster.log_lines import LevelReader, at_least, plain, same_text

TENSORFLOW = "2026-03-01 14:05:59.123456: {} tensorflow/core/framework/dataset.cc:993] Input will not be optimized"


def levels(*lines: str) -> list[str | None]:
    reader = LevelReader()
    return [reader.level(line) for line in lines]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (TENSORFLOW.format("I"), "info"),
        (TENSORFLOW.format("W"), "warning"),
        (TENSORFLOW.format("E"), "error"),
        (TENSORFLOW.format("F"), "error"),
        ("I0000 00:00:1795405460.278143    1920 grpc_server_lib.cc:464] Started server", "info"),
        ("W1123 14:05:59.123456  1920 service.cc:1] slow", "warning"),
        ("E1123 14:05:59.123456 1920 /a/b.py:12] gone", "error"),
        ("WARNING: All log messages before absl::InitializeLog() is called are written to STDERR", "warning"),
        ("WARNING:tensorflow:5 out of the last 5 calls triggered retracing", "warning"),
        ("INFO:root:hello", "info"),
        ("ERROR:absl:no", "error"),
        ("CRITICAL:x:no", "error"),
        ("[WARNING] low on memory", "warning"),
        ("2026-03-01 14:05:59,123 - my.module - ERROR - no such file", "error"),
        ("2026-03-01T14:05:59Z WARN slow", "warning"),
        ("[2026-03-01 14:05:59] DEBUG: x", "info"),
        ("2026/03/01 10:00:00 ERROR no such file", "error"),
        ("2026/03/01 10:00:00 my.module WARNING: slow", "warning"),
        ("[2026/03/01 10:00:00.123] [INFO] hello", "info"),
        ("2026/03-01 10:00:00 ERROR is no date", None),
        ('{"level": "error", "msg": "no such file"}', "error"),
        ('{"asctime": "2026-03-01 10:00:00", "message": "slow", "levelname": "WARNING"}', "warning"),
        ('{"severity":"Info","message":"hello"}', "info"),
        ('{"message": "' + "x" * 200 + '", "log.level": "fatal"}', "error"),
        ('{"level": "silly"}', None),
        ('{"level": 50}', None),
        ('{"loss": 0.5, "of": {"level": "error"}}', None),
        ('{"message": "\\"level\\": \\"error\\""}', None),
        ('{"level": "error"', None),
        ("{'level': 'error'}", None),
        ("train.py:12: UserWarning: this is odd", "warning"),
        ("ValueError: bad value", "error"),
        ("KeyboardInterrupt", "error"),
        ("tensorflow.python.framework.errors_impl.InternalError: gone", "error"),
        ("Fatal Python error: Segmentation fault", "error"),
        ("epoch 1 loss 0.25", None),
        ("Errors: 0, warnings: 0", None),
        ("no error here", None),
        ("WARNINGS are off", None),
        ("", None),
    ],
)
def test_a_line_says_how_bad_it_is(line: str, level: str | None) -> None:
    assert levels(line) == [level]


def test_a_traceback_is_an_error_down_to_its_last_line() -> None:
    lines = [
        "before",
        "Traceback (most recent call last):",
        '  File "train.py", line 3, in train',
        "    raise Odd(1)",
        "",
        "custom.Odd: one",
        "after",
    ]
    assert levels(*lines) == [None, "error", "error", "error", "error", "error", None]


def test_an_error_that_came_of_another() -> None:
    lines = [
        "Traceback (most recent call last):",
        "  one",
        "KeyError: 'a'",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        "  two",
        "RuntimeError: b",
        "on it goes",
    ]
    assert levels(*lines) == ["error"] * 3 + [None, "error", None] + ["error"] * 3 + [None]


def test_indented_lines_belong_to_the_one_before() -> None:
    assert levels("WARNING:x:first", "  second", "\tthird", "fourth", "  fifth") == ["warning"] * 3 + [None, None]


@pytest.mark.parametrize(
    ("level", "wanted", "shown"),
    [("error", "warning", True), ("warning", "warning", True), ("info", "warning", False), (None, "info", False)],
)
def test_at_least_so_bad(level, wanted, shown: bool) -> None:
    assert at_least(level, wanted) == shown


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("\x1b[1m\x1b[32m5/5\x1b[0m done", "5/5 done"),
        ("10%\r50%\r100%", "100%"),
        ("done\r", "done"),
        ("1/5\x08\x08\x08\x08\x08\x08 5/5 [==]", " 5/5 [==]"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\x00b\tc", "ab\tc"),
        ("\r", ""),
        ("übergröße ✓", "übergröße ✓"),
    ],
)
def test_what_a_reader_sees(text: str, seen: str) -> None:
    assert plain(text) == seen


def test_times_and_process_ids_make_no_difference() -> None:
    first = "I0000 00:00:1795405460.278143    1920 a.cc:464] Started"
    assert same_text(first) == same_text("I0000 00:00:1795405461.000000    77 a.cc:464] Started")
    assert same_text(first) != same_text("W0000 00:00:1795405461.000000    77 a.cc:464] Started")
    later = TENSORFLOW.format("W").replace("05:59", "06:01")
    assert same_text(TENSORFLOW.format("W")) == same_text(later)
    assert same_text("loss 0.1") != same_text("loss 0.2")
