"""The launcher's output, from the log of the Pod that handed the job to Ray, and where to go on after a break."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cluster.kube_pending import seconds

#: What Ray's own command says around a job's output, and what KubeRay's does while it waits for the head.
_RAY_SAYS = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\s+[A-Z]+\s+(?:cli|sdk)\.py:\d+ -- ?")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_WAITING = "Waiting for Ray Dashboard GCS to become healthy"
#: Seconds by which the clocks of this machine and of a node may differ.
_CLOCKS = 300.0
#: With this the job's last words are repeated when it has failed.
_REPEATED = "Status message: "
#: How Ray's command says that a job has ended.
_ENDED = re.compile(r"Job '[^']*' (?:(succeeded)|(failed)|was (stopped))$")


@dataclass
class Cursor:
    """How far a launcher's output has been read; the next Pod, if there is one, says it all from the start.

    Attributes:
        pod: whose log was read last.
        output: what tells one launcher's output from another's, where KubeRay has started the job anew.
        time: of the last line, as the API server tells it.
        lines: of this output that were passed on, over all Pods.
        end: SUCCEEDED, FAILED or STOPPED, once Ray's command has said it.
        message: what Ray says of a job that has failed.
        broken: why the log broke off where it was read last, or ''.
    """

    pod: str = ""
    output: str = ""
    time: str = ""
    lines: int = 0
    end: str = ""
    message: str = ""
    broken: str = ""
    _mark: str = field(default="", repr=False)
    _skip: int = field(default=0, repr=False)
    _over: bool = field(default=False, repr=False)

    def begin(self, pod: str, output: str = "") -> None:
        """The lines that come next are of this Pod, perhaps with some that have come before."""
        if output != self.output:
            self.output, self.lines, self.end, self.message = output, 0, "", ""
        if pod != self.pod:
            self.pod, self.time, self._skip, self._over = pod, "", self.lines, False
        self._mark = self.time

    def age(self, now: float) -> float | None:
        """Seconds since the last line, with a margin for clocks that differ; None where there was none."""
        if not self.time:
            return None
        return max(0.0, now - seconds(self.time, now)) + _CLOCKS

    def take(self, lines: Iterable[bytes]) -> Iterator[str]:
        """The launcher's lines that were not passed on yet, of lines with times before them."""
        for raw in lines:
            time, _, text = raw.decode("utf-8", errors="replace").partition(" ")
            if time <= self._mark:  # told before the connection broke
                continue
            self.time = time
            if self._is_ours(text):
                if self._skip:
                    self._skip -= 1
                    continue
                self.lines += 1
                yield text

    def _is_ours(self, text: str) -> bool:
        """Whether a line is the launcher's, and not of those who carry it."""
        plain = _COLOURS.sub("", text)
        if self._over or plain.startswith(_WAITING):
            return False
        carried = _RAY_SAYS.match(plain)
        if carried is None:
            return True
        self._hear(plain[carried.end() :].strip())
        return False

    def _hear(self, said: str) -> None:
        """What Ray's command says of the job itself."""
        ended = _ENDED.match(said)
        if ended:
            self.end = next(word for word in ended.groups() if word).upper()
        # What comes after these words has stood above.
        self._over = said.startswith(_REPEATED)
        if self._over:
            self.message = said.removeprefix(_REPEATED)
