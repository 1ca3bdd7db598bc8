"""What a sound ring hands over to a larger one: its own totals and boundaries, in the form that SQLite would give."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from otelslo.ring.reader import Reader
from otelslo.snapshot import Saved, SlotClose


def saved_from(reader: Reader, now_ns: int) -> Saved:
    """The ring as of `now_ns` (ring time); nobody may be writing it any more."""
    rows, histograms = range(reader.rows), range(reader.histograms)
    return Saved(
        ring_id=reader.header.ring_id.hex(),
        at_ns=now_ns,
        wall_offset_ns=reader.wall_offset_ns(),
        seq=reader.committed_seq,
        row_keys=tuple(map(reader.row_key, rows)),
        births_ns=tuple(map(reader.row_birth_ns, rows)),
        cells=array("q", [cell for row in rows for cell in reader.cells(row)]).tobytes(),
        histogram_keys=tuple(map(reader.histogram_key, histograms)),
        buckets=array("q", [word for h in histograms for word in reader.histogram(h)]).tobytes(),
        config="",
        closed_ns=None,
        clock=(),
        slots=_slots_of(reader),
    )


def _slots_of(reader: Reader) -> Callable[[int, int, int], Iterator[SlotClose]]:
    """Boundaries that were written; a total that changed since is in the boundary of a later slot."""
    coarse_ns = reader.header.geometry.coarse_ns

    def slots(row: int, start_ns: int, end_ns: int) -> Iterator[SlotClose]:
        for slot in range(-(-start_ns // coarse_ns), -(-end_ns // coarse_ns)):
            found = reader.coarse_boundary(row, slot)
            if found is not None:
                yield SlotClose(row, slot * coarse_ns, *found)

    return slots
