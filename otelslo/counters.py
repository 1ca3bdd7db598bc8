"""Named counters that are no objective's, in rows of the ring: any number of them is added to by one commit.

All workers add up, kills lose nothing, and they are saved and told like every other row. The names are those of the
cells, so that a reader needs nothing but the row's key. Failures among them are no losses: nothing is logged.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from otelslo.errors import CapacityError, StateError
from otelslo.kernels import layout as at
from otelslo.rowkey import RowKey

if TYPE_CHECKING:
    from otelslo.ring.live import Ring


class Cell(NamedTuple):
    """Where a counter lies."""

    row: int
    cell: int


def row_keys(table: str, meaning: str, group: str, names: Sequence[str]) -> tuple[RowKey, ...]:
    """The keys of the rows that hold counters of these names, 16 in each. No name is "" or stands twice."""
    padded = [*names, *[""] * (-len(names) % at.CELLS)]
    return tuple(
        RowKey(table, meaning, group, tuple(padded[first : first + at.CELLS]))
        for first in range(0, len(padded), at.CELLS)
    )


def make_counters(ring: Ring, table: str, meaning: str, group: str, names: Sequence[str]) -> tuple[Cell, ...]:
    """The cell of each name, in rows that are made where there are none. Takes a lock: not in a request.

    Args:
        table: what the counters are of, in brackets so that no objective has that name ("(gen_ai)").
        meaning: changes when the names mean something else.
        group: tells sets of the same names apart.

    Raises:
        CapacityError: the ring has no room for a row.
        StateError: the disk is full.
    """
    now_ns = ring.clock.ring_ns()
    rows = [ring.directory.row(key.text(), now_ns) for key in row_keys(table, meaning, group, names)]
    return tuple(Cell(rows[n // at.CELLS], n % at.CELLS) for n in range(len(names)))


def add(ring: Ring, numbers: Mapping[Cell, int]) -> None:
    """Add to counters by one commit of this process's block; takes no lock.

    Raises:
        CapacityError: more than 512 counters at once.
        StateError: the process is not attached (after a fork), and nothing was counted.
    """
    words = array("q", (len(numbers), *chain.from_iterable((*cell, number) for cell, number in numbers.items())))
    code = ring.kernels.add(ring.page, words.buffer_info()[0])
    if code == at.TOO_LARGE:
        raise CapacityError(f"{len(numbers)} counters at once, {at.REDO_PAIRS} at most can be committed")
    if code < 0:
        raise StateError("this process has no block of the ring")
