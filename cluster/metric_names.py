"""Names of metrics as every line, file and picture can show them."""

from __future__ import annotations

import re

#: Characters of a name, at most.
LONGEST = 200
#: What breaks a line, moves a terminal's cursor, turns the direction of text, or is no character at all.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def metric_name(text: str) -> str:
    r"""`text`, with `\n` and the like for what is unfit, cut where it is absurdly long; the same when done twice."""
    shown = _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), text[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
