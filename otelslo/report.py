"""What an exporter gets: one committed snapshot, and what was decided from exactly that snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from otelslo.definition import Definition
from otelslo.snapshot import Snapshot
from otelslo.status import Status


@dataclass(frozen=True, slots=True)
class Report:
    """`statuses` are those of `definitions`, the objectives in force, as of `snapshot`.

    `in_flight` is how many requests had begun and not ended, where somebody looked.
    """

    snapshot: Snapshot
    statuses: tuple[Status, ...]
    definitions: tuple[Definition, ...]
    in_flight: int | None = None
