"""How much of a window's predictions is known by now: coverage, maturity, and what the rest could still change.

A quality SLI is about predictions whose labels have come. Fresh ones have none yet, so a young window rests on few; and
where labels come for failures first, it is not the truth that it tends to. So it is shown with its bounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from otelslo.counts import Counts
from otelslo.dated import SLOT_NS, slot_of
from otelslo.kept import Row, SlotCounts

Span = tuple[int, int]  # start and end, Unix ns


@dataclass(frozen=True, slots=True)
class Coverage:
    """Predictions of one objective and group in one window that need a label, by what became of them.

    `pending` still wait, `lapsed` waited longer than `label_within`, `gone` were given up (too old, too many, purged).
    `mature` are those older than `within_ns`, to the slot of 5 minutes; None where nothing says how long labels take.
    `corrections` are outcomes that a later label changed. `counts` are the events of the SLI, and None where it is one
    of days or of slices, which predictions cannot be added to; `unknown` are predictions that nothing was counted of,
    since no label came.
    """

    predictions: int
    labelled: int
    lapsed: int
    gone: int
    corrections: int
    within_ns: int | None = None
    mature: int | None = None
    counts: Counts | None = None
    lapsed_counts: bool = False

    @property
    def pending(self) -> int:
        return self.predictions - self.labelled - self.lapsed - self.gone

    @property
    def unknown(self) -> int:
        return self.pending + self.gone + (0 if self.lapsed_counts else self.lapsed)

    @property
    def ratio(self) -> Fraction | None:
        """labelled / predictions; None without any."""
        return Fraction(self.labelled, self.predictions) if self.predictions else None

    @property
    def maturity(self) -> Fraction | None:
        """mature / predictions; None without any, or where nothing says how long labels take."""
        return None if self.mature is None or not self.predictions else Fraction(self.mature, self.predictions)

    @property
    def bounds(self) -> tuple[Fraction, Fraction] | None:
        """The SLI if all that is unknown were bad, and if it were good; exact. None where nothing could be valid.

        Some of it may turn out to be excluded: then the SLI lies between these, too.
        """
        if self.counts is None or not self.counts.valid + self.unknown:
            return None
        valid = self.counts.valid + self.unknown
        return Fraction(self.counts.good, valid), Fraction(self.counts.good + self.unknown, valid)

    def to_json(self) -> dict[str, Any]:
        """Plain data; ratios are JSON numbers or null."""
        bounds = self.bounds
        return {
            "predictions": self.predictions,
            "labelled": self.labelled,
            "pending": self.pending,
            "lapsed": self.lapsed,
            "gone": self.gone,
            "corrections": self.corrections,
            "coverage": _number(self.ratio),
            "maturity": _number(self.maturity),
            "sli_if_unknown_bad": None if bounds is None else float(bounds[0]),
            "sli_if_unknown_good": None if bounds is None else float(bounds[1]),
        }


def spans_to_sum(row: Row, start_wall_ns: int, now_wall_ns: int, excluded: Iterable[Span]) -> list[Span]:
    """The window from `start_wall_ns` to the slot that holds now, in pieces whose slots may be taken as one: without
    the spans that are excluded (in order, in whole slots), and divided where predictions are mature. All in Unix ns."""
    edges, begin_ns, end_ns = list[Span](), slot_of(start_wall_ns), slot_of(now_wall_ns) + SLOT_NS
    for out_ns, back_ns in [*excluded, (end_ns, end_ns)]:
        if min(out_ns, end_ns) > begin_ns:
            edges.append((begin_ns, min(out_ns, end_ns)))
        begin_ns = max(begin_ns, back_ns)
    if row.within_ns is None:
        return edges
    ripe_ns = slot_of(now_wall_ns - row.within_ns)
    halves = [((a, min(b, ripe_ns)), (max(a, ripe_ns), b)) for a, b in edges]
    return [(a, b) for both in halves for a, b in both if a < b]


def coverage_of(row: Row, slots: Iterable[SlotCounts], counts: Counts | None, now_wall_ns: int) -> Coverage:
    """Of the slots (or `spans_to_sum`) of one window, and its `counts`, None where they are of slices; `now_wall_ns`
    (Unix ns) is what maturity is measured from."""
    of = list(slots)
    mature = None
    if row.within_ns is not None:
        until_ns = now_wall_ns - row.within_ns
        mature = sum(one.predicted for one in of if one.slot_wall_ns + SLOT_NS <= until_ns)
    return Coverage(
        predictions=sum(one.predicted for one in of),
        labelled=sum(one.labelled for one in of),
        lapsed=sum(one.lapsed for one in of),
        gone=sum(one.gone for one in of),
        corrections=sum(one.corrected for one in of),
        within_ns=row.within_ns,
        mature=mature,
        counts=counts if row.otherwise else None,
        lapsed_counts=row.otherwise == "bad",
    )


def _number(ratio: Fraction | None) -> float | None:
    return None if ratio is None else float(ratio)
