"""What is written beside the counts: exclusions made after the fact, and annotations. Times are Unix nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otelslo.dated import NOTHING_DATED, DatedCounts

ANNOTATION_KINDS = ("release", "incident", "experiment", "maintenance", "other")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Events of `slo` (None: of all) from start to end, in whole slots, are excluded; unless it was undone."""

    id: int
    slo: str | None
    start_wall_ns: int
    end_wall_ns: int
    reason: str
    created_wall_ns: int
    undone_wall_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """Something that happened; `end_wall_ns` is None while it goes on.

    What was spent inside planned ones is shown apart; it stays spent. They take whole slots, as an exclusion does, and
    of an objective in slices those that lie in them as a whole; one that is an instant holds nothing.
    """

    id: int
    kind: str
    slo: str | None
    start_wall_ns: int
    end_wall_ns: int | None
    version: str
    text: str
    planned: bool
    created_wall_ns: int


# Exclusions made after the fact, and planned annotations, take whole slots of this length, so that they mean the same
# when they are old.
SNAP_NS = 300 * 10**9
_APART_NS = 500_000_000  # the wall clock and ring time are never quite the same: 10:00 is a boundary all the same


def snapped(start_ns: int, end_ns: int) -> tuple[int, int]:
    """The whole slots that hold the span, but for half a second at either end; at least one."""
    begin_ns = (start_ns + _APART_NS) // SNAP_NS * SNAP_NS
    return begin_ns, max(-(-(end_ns - _APART_NS) // SNAP_NS) * SNAP_NS, begin_ns + SNAP_NS)


Alerts = Mapping[tuple[str, str | None], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Marked:
    """What the history adds to the counts of a ring, as the deciders get it: all exclusions in force, all annotations,
    the alerts of each objective and group as a status shows them, and what is counted there alone."""

    exclusions: tuple[Exclusion, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    alerts: Alerts = field(default_factory=dict)
    dated: DatedCounts = NOTHING_DATED
