"""Whether a run has been silent for so long that its launcher, on a machine not seen from here, may be gone. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cluster.live import Live
from cluster.samples import pause
from cluster.units import format_duration

#: Seconds without an event in which nothing is amiss while tasks run, and more of remote storage, to which events are
#: copied now and then.
QUIET, COPYING = 300.0, 1800.0
#: Pauses between `usage` events that may be left out.
_PAUSES = 3


def patience(live: Live) -> float | None:
    """Seconds without an event after which the launcher may be gone; None while nobody knows.

    While a job waits for resources, and for a restart, nothing happens for as long as its spec allows.
    """
    if live.phase in ("placing", "starting"):
        return None if live.within is None else live.within + QUIET
    if live.phase == "restarting":
        return live.after + QUIET
    return max(QUIET, _PAUSES * pause(len(live.tasks)))


def silent_for(live: Live, about: Mapping[str, Any], uri: str, now: float) -> float | None:
    """Seconds since the last event of a run that goes on, where its launcher may be gone for it; else None.

    Args:
        live: the run.
        about: what its launcher said of itself.
        uri: the run directory.
        now: seconds since the Unix epoch.
    """
    longest = patience(live)
    here = about.get("hostname") == os.uname().nodename  # whether it lives is known here, see `cluster.runs`
    if live.ended or here or longest is None:
        return None
    silent = now - live.at
    return silent if silent > longest + (COPYING if "://" in uri else 0.0) else None


def silence_text(live: Live, about: Mapping[str, Any], uri: str, now: float) -> str:
    """`no word for 3h05m, its launcher on gpu-7 may be gone`, or '' where that is not so."""
    silent = silent_for(live, about, uri, now)
    if silent is None:
        return ""
    where = f" on {about['hostname']}" if about.get("hostname") else ""
    return f"no word for {format_duration(silent)}, its launcher{where} may be gone"
