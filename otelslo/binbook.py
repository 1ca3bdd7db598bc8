"""Histograms of fixed bins in the ring: how much fell in each bin, of all workers together, and nothing lost by a kill.

A histogram has a name and a number of bins, both fixed for good: other bins are another name. Its bins are the cells of
rows of its own, 16 a row, which no objective counts; so they are summed, committed and rebuilt as every other cell.
Features of a model are counted so, and whatever else has buckets that somebody else has fixed. Loads numpy.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from otelslo.kernels import layout as at
from otelslo.rowkey import BINS, RowKey

if TYPE_CHECKING:
    from otelslo.kernels.ring import Kernels
    from otelslo.ring.live import Ring

_NO_REASONS = ("",) * at.CELLS
_ADD_WORDS = at.ADD // 8


class Rows(Protocol):
    """The rows of a ring, live or committed."""

    @property
    def rows(self) -> int: ...
    def row_name(self, row: int) -> RowKey: ...
    def cells(self, row: int) -> list[int]: ...


class _Engine(Protocol):
    """What is needed of an engine."""

    page: int
    ring: Ring
    kernels: Kernels

    def attach(self) -> bool: ...
    def fault(self, reason: str, detail: str) -> None: ...


class BinBook:
    """Some histograms as one process counts into them; their bins lie one after the other, in the order given.

    Made off the request path, since it may make rows; one for each ring.

    Args:
        sizes: how many bins each histogram has, by its name.

    Raises:
        CapacityError, StateError: the ring has no room for the rows.
    """

    def __init__(self, engine: _Engine, sizes: Mapping[str, int]) -> None:
        self._engine = engine
        places = [place for name, size in sizes.items() for place in _places(engine.ring, name, size)]
        self.size = len(places)
        self._places = np.array(places, dtype=np.int64).reshape(-1, 2)
        self._ones = [(row, cell, 1) for row, cell in places]

    def add(self, counts: npt.NDArray[np.int64]) -> None:
        """Add to every bin, by one commit where at most 512 of them are not 0, else by several. Never raises.

        Args:
            counts: array (size,), none negative.
        """
        try:
            filled = np.flatnonzero(counts)
            for start in range(0, len(filled), at.REDO_PAIRS):
                self._commit(filled[start : start + at.REDO_PAIRS], counts)
        except Exception as e:
            self._engine.fault("internal", f"bins were not counted: {type(e).__name__}: {e}")

    def add_one(self, bins: Iterable[int]) -> None:
        """Add 1 to each of some bins, all of them different, as `add` does. Never raises."""
        try:
            ones = [self._ones[number] for number in bins]
            for start in range(0, len(ones), at.REDO_PAIRS):
                part = ones[start : start + at.REDO_PAIRS]
                words = array("q", (len(part), *chain.from_iterable(part)))
                self._kernel(words.buffer_info()[0])
        except Exception as e:
            self._engine.fault("internal", f"bins were not counted: {type(e).__name__}: {e}")

    def _commit(self, filled: npt.NDArray[np.intp], counts: npt.NDArray[np.int64]) -> None:
        words = np.empty(1 + _ADD_WORDS * len(filled), dtype=np.int64)
        words[0] = len(filled)
        words[1::_ADD_WORDS] = self._places[filled, 0]
        words[2::_ADD_WORDS] = self._places[filled, 1]
        words[3::_ADD_WORDS] = counts[filled]
        self._kernel(words.ctypes.data)

    def _kernel(self, adds: int) -> None:
        engine = self._engine
        code = engine.kernels.add(engine.page, adds)
        if code == at.NOT_ATTACHED and engine.attach():
            code = engine.kernels.add(engine.page, adds)
        if code < 0:
            engine.fault("not_attached", "bins were not counted")


def totals(rows: Rows, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """What every bin has counted since its histogram's birth, by the histogram's name; 0 where it has no rows yet."""
    known = _rows_by_name(rows, sizes)
    found = {}
    for name, size in sizes.items():
        cells: list[int] = []
        for part in range(-(-size // at.CELLS)):
            row = known.get((name, part))
            cells += [0] * at.CELLS if row is None else rows.cells(row)
        found[name] = tuple(cells[:size])
    return found


def first_row(rows: Rows, name: str) -> int | None:
    """The first row of a histogram, for its birth; None where it has none."""
    return _rows_by_name(rows, (name,)).get((name, 0))


def _rows_by_name(rows: Rows, names: Iterable[str]) -> dict[tuple[str, int], int]:
    wanted, found = set(names), {}
    for row in range(rows.rows):
        key = rows.row_name(row)
        if key.slo == BINS and key.group in wanted:
            found[key.group or "", int(key.meaning)] = row
    return found


def _places(ring: Ring, name: str, size: int) -> list[tuple[int, int]]:
    """(row, cell) of each bin."""
    born_ns = ring.clock.ring_ns()
    rows = [
        ring.directory.row(RowKey(BINS, str(part), name, _NO_REASONS).text(), born_ns)
        for part in range(-(-size // at.CELLS))
    ]
    return [(rows[number // at.CELLS], number % at.CELLS) for number in range(size)]
