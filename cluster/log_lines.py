"""Lines of a task's log: how bad each is, and what of it a reader should see. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["info", "warning", "error"]
#: The least first.
LEVELS: tuple[Level, ...] = get_args(Level)

_WORDS: dict[str, Level] = {
    "D": "info", "I": "info", "W": "warning", "E": "error", "F": "error",
    "DEBUG": "info", "INFO": "info", "WARN": "warning", "WARNING": "warning",
    "ERROR": "error", "CRITICAL": "error", "FATAL": "error",
}  # fmt: skip
#: Words that are levels in JSON lines only: as the start of a line they are words like others.
_IN_JSON: dict[str, Level] = {
    **_WORDS, "TRACE": "info", "NOTICE": "info", "ERR": "error", "PANIC": "error", "ALERT": "error",
    "EMERGENCY": "error", "EXCEPTION": "error",
}  # fmt: skip
_NAMES = r"(?P<level>DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\b"
#: What stands before the text of a line; group `level` is its letter or word.
#: `2026-03-01 14:05:59.123456: W tensorflow/…` (tensorflow/core/platform/default/logging.cc)
_TENSORFLOW = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: (?P<level>[IWEF]) ")
#: `W0301 14:05:59.123456  1920 file.cc:464] `, also with the time as seconds (absl/log/internal/log_format.cc)
_ABSL = re.compile(r"(?P<level>[IWEF])\d{4} \d\d:\d\d:[\d.]+\s+\d+ (?=[^\s\]]+:\d+\])")
#: `WARNING:tensorflow:…`, `ERROR …`, `[WARNING] …`, and with a time and a name before, as loggers are configured
_PYTHON = re.compile(
    rf"(?:\[?\d{{4}}([-/])\d\d\1\d\d[ T]\d\d:\d\d:\d\d\S*[\s:|-]+(?:[\w.]+[\s:|-]+)?)?\[?{_NAMES}[\s:|\]]"
)
#: `train.py:12: UserWarning: …` (warnings.formatwarning)
_WARNING = re.compile(r"\S+:\d+: \w*Warning: ")
#: `ValueError: …`, `tensorflow.python.framework.errors_impl.InternalError: …`: the last line of a traceback
_EXCEPTION = re.compile(r"[\w.]*(?:Error|Exception|Interrupt)\b(?:: |$)")
_ERRORS = (
    "Traceback (most recent call last):",
    "During handling of the above exception",
    "The above exception was the direct cause",
    "Fatal Python error",
    "Segmentation fault",
    "terminate called",
    "*** Check failure",
)
#: Colours, moves of the cursor and titles of terminals (ECMA-48), and control characters without a meaning in a line.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class LogLine:
    """One line that a task wrote.

    Attributes:
        task: its name, such as `worker-0`.
        text: as it was written.
        at: when it arrived, in seconds since the Unix epoch; None where that was not noted.
        level: how bad it is; None where it does not say.
    """

    task: str
    text: str
    at: float | None = None
    level: Level | None = None


class LevelReader:
    """Tells the levels of one task's lines, which come in order: a traceback is an error down to its last line."""

    def __init__(self) -> None:
        self._level: Level | None = None
        self._traceback = False

    def level(self, text: str) -> Level | None:
        """The level of the next line."""
        indented = text.startswith((" ", "\t"))
        found = _own_level(text)
        if self._traceback and not indented and text:
            self._traceback = text.startswith(_ERRORS)
            found = found or "error"
        elif text.startswith(_ERRORS[0]):
            self._traceback, found = True, "error"
        elif found is None and (indented or self._traceback):
            found = "error" if self._traceback else self._level
        self._level = found
        return found


def _own_level(text: str) -> Level | None:
    head = text[:120]
    for pattern in (_TENSORFLOW, _ABSL, _PYTHON):
        match = pattern.match(head)
        if match:
            return _WORDS[match["level"]]
    if head.startswith("{") and text.rstrip().endswith("}"):
        return _json_level(text)
    if head.startswith(_ERRORS) or _EXCEPTION.match(head):
        return "error"
    return "warning" if _WARNING.match(head) else None


#: Keys under which loggers write the level of a line of JSON: structlog, Python's formatters, Google Cloud, ECS.
_JSON_LEVEL = re.compile(r'"(?:level|levelname|severity|log\.level)"\s*:\s*"')
_JSON_KEYS = ("level", "levelname", "severity", "log.level")


def _json_level(text: str) -> Level | None:
    """The level of a line that is one JSON object."""
    if not _JSON_LEVEL.search(text):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    named = (document.get(key) for key in _JSON_KEYS)
    return next((_IN_JSON[word.upper()] for word in named if isinstance(word, str) and word.upper() in _IN_JSON), None)


def at_least(level: Level | None, wanted: Level) -> bool:
    """Whether a line is as bad as `wanted`, or worse."""
    return level is not None and LEVELS.index(level) >= LEVELS.index(wanted)


def plain(text: str) -> str:
    """A line as a terminal would leave it: what a progress bar wrote last, without colours and control characters."""
    if "\r" in text or "\x08" in text:
        text = next((part for part in reversed(re.split(r"\r|\x08+", text)) if part.strip()), "")
    return _ESCAPES.sub("", text)


def same_text(text: str) -> str:
    """What is equal in equal lines of several tasks: the text without its time and process id."""
    for pattern in (_TENSORFLOW, _ABSL):
        match = pattern.match(text)
        if match:
            return f"{match['level']} {text[match.end() :]}"
    return text
