"""The demo's account: what the client received beside what otelslo counted, and whether the two agree to the event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otelslo.cli.demo_load import CUT

# How the reasons of an availability objective add up to what a client sees.
_CLASSES = {"good": "2xx", "5xx": "5xx", "exception": "5xx", "client_error": "4xx", "unauthorised": "4xx"}
CRASHED, PROBES, OTHER = "crashed", "probes", "other"
ANSWERED = ("2xx", "4xx", "5xx")


def tally(cells: Mapping[str, int]) -> dict[str, int]:
    """Counts by class of answer, of the cells of one objective over all requests; health checks are probes."""
    total = dict.fromkeys((*ANSWERED, CRASHED, PROBES, OTHER), 0)
    for reason, count in cells.items():
        if reason == CRASHED:
            total[CRASHED] += count
        elif reason == "health_check":
            total[PROBES] += count
        else:
            total[_CLASSES.get(reason, OTHER)] += count
    return total


@dataclass(frozen=True, slots=True)
class Account:
    """`client` and `engine` hold counts by class; what was counted before the load began is already taken off."""

    client: Mapping[str, int]
    engine: Mapping[str, int]

    @property
    def differences(self) -> dict[str, int]:
        """Counted less received, by class of answer."""
        return {name: self.engine[name] - self.client.get(name, 0) for name in ANSWERED}

    @property
    def cut(self) -> int:
        return self.client.get(CUT, 0)

    @property
    def late(self) -> int:
        """Answers that the client had received just before the kill, in the moment before they were committed: they
        are booked as crashed."""
        return sum(-difference for difference in self.differences.values() if difference < 0)

    @property
    def undelivered(self) -> int:
        """Answers that were finished and counted, and then cut off on their way by the kill."""
        return sum(difference for difference in self.differences.values() if difference > 0) + self.engine[OTHER]

    @property
    def unreached(self) -> int:
        """Requests that the client sent and no worker ever began."""
        return self.cut - (self.engine[CRASHED] - self.late) - self.undelivered

    @property
    def agrees(self) -> bool:
        """received <= counted <= received + cut off, each request exactly once; only what was in flight at the kill may
        be booked as crashed."""
        return self.late <= self.engine[CRASHED] and self.unreached >= 0 and not self.client.get("3xx", 0)

    def to_json(self) -> dict[str, Any]:
        return {
            "client": dict(self.client),
            "engine": dict(self.engine),
            "differences": self.differences,
            "cut_off": {"crashed": self.engine[CRASHED], "undelivered": self.undelivered, "unreached": self.unreached},
            "answered_and_crashed": self.late,
            "agrees": self.agrees,
        }
