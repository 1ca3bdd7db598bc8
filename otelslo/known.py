"""What is known of the predictions that objectives stand on: the counts of a history, joined with its labels.

One way for `otelslo status` and for all that is exported, so that both leave out what is excluded after the fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from otelslo.coverage import Coverage, coverage_of, spans_to_sum
from otelslo.dated import apart_ns
from otelslo.definition import Definition
from otelslo.errors import StateError
from otelslo.evaluate import Rows, excluded_spans
from otelslo.kept import Row, SlotCounts
from otelslo.notes import Marked
from otelslo.status import Status

Known = dict[tuple[str, str | None], Coverage]


class Labels(Protocol):
    """The labels of a history. May raise StateError."""

    def rows(self) -> list[Row]: ...
    def between(self, row: int, start_wall_ns: int, end_wall_ns: int) -> SlotCounts: ...


def coverages(
    definitions: Iterable[Definition], found: Sequence[Status], labels: Labels, rows: Rows, marked: Marked
) -> Known:
    """Of each of these objectives and groups that predictions came for, in its window.

    Raises:
        StateError: the history cannot be read.
    """
    meanings = {(one.name, one.meaning) for one in definitions}
    of, apart = {(one.slo, one.group): one for one in found}, apart_ns(rows.wall_offset_ns())
    known: Known = {}
    for row in labels.rows():
        status = of.get((row.slo, row.group))
        if status is None or (row.slo, row.meaning) not in meanings:
            continue
        excluded = [(begin + apart, end + apart) for begin, end in excluded_spans(row.slo, rows, marked)]
        spans = spans_to_sum(row, status.start_ns, status.now_ns, excluded)
        counts = status.counts if status.slices is None else None
        slots = [labels.between(row.number, *span) for span in spans]
        known[row.slo, row.group] = coverage_of(row, slots, counts, status.now_ns)
    return known


def with_known(
    definitions: Iterable[Definition], found: Sequence[Status], labels: Labels, rows: Rows, marked: Marked
) -> list[Status]:
    """The same statuses, with what is known of their predictions; without where the history cannot be read."""
    if not any(one.dated for one in found):
        return list(found)
    try:
        known = coverages(definitions, found, labels, rows, marked)
    except StateError:
        return list(found)
    return [replace(one, known=known.get((one.slo, one.group))) if one.dated else one for one in found]
