"""What an exporter gets: one committed snapshot, and what was decided from exactly that snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from otelslo.definition import Definition
from otelslo.limits import LimitStatus
from otelslo.snapshot import Snapshot
from otelslo.status import Status


@dataclass(frozen=True, slots=True)
class Report:
    """`statuses` are those of `definitions`, the objectives in force, as of `snapshot`.

    `in_flight` is how many requests had begun and not ended, where somebody looked. `alerts_decided` is whether anybody
    decides alerts here, so that one that is not in a status is known not to fire. `limits` are those in force.
    """

    snapshot: Snapshot
    statuses: tuple[Status, ...]
    definitions: tuple[Definition, ...]
    in_flight: int | None = None
    alerts_decided: bool = True
    limits: tuple[LimitStatus, ...] = ()
