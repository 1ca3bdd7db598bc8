"""Reads the whole ring once for the leader: absolute totals, newly closed slots and new losses, as one snapshot.

Closed slots and losses are offered until a commit returned, so that a locked database or a full disk loses none that
the ring still holds.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from otelslo.kernels import layout as at
from otelslo.kernels.bounds import WORDS as HISTOGRAM_WORDS
from otelslo.ring.live import Ring
from otelslo.snapshot import Loss, Saved, SlotClose, Snapshot


class _History(Protocol):
    needs_full: bool

    def load(self) -> Saved | None: ...


class Collector:
    """What one leader has read and committed of one ring.

    Args:
        history: the database, asked once for the newest slot that it has.
    """

    def __init__(self, ring: Ring, history: _History) -> None:
        self._ring = ring
        self._history = history
        saved = history.load()
        ours = saved is not None and saved.ring_id == ring.header.ring_id.hex()
        self._seq = max(ring.memory.words[at.M_COMMITTED_SEQ // 8], saved.seq if saved is not None and ours else 0)
        self._closed_slot = self._oldest_slot()
        if saved is not None and ours and saved.closed_ns is not None:
            self._closed_slot = max(self._closed_slot, saved.closed_ns // ring.geometry.coarse_ns)
        self._row_keys: tuple[str, ...] = ()
        self._births_ns: tuple[int, ...] = ()
        self._heads: list[int] = []
        self._pending_heads: list[int] = []
        self._pending_slot = self._closed_slot
        self.full = False

    def collect(self, now_ns: int, config: str) -> Snapshot:
        """The ring at `now_ns`; what is new since the last snapshot that was `committed`."""
        ring, reader = self._ring, self._ring.reader
        self.full = self._history.needs_full
        if self.full:
            self._closed_slot, self._heads = self._oldest_slot(), []
        rows, histograms = reader.rows, reader.histograms
        self._seq += 1
        if rows > len(self._row_keys):  # rows are only ever added
            self._row_keys = tuple(map(reader.row_key, range(rows)))
            self._births_ns = tuple(map(reader.row_birth_ns, range(rows)))
        return Snapshot(
            ring_id=ring.header.ring_id.hex(),
            at_ns=now_ns,
            wall_offset_ns=reader.wall_offset_ns(),
            row_keys=self._row_keys,
            births_ns=self._births_ns,
            cells=self._sum(ring.geometry.block_cells, rows * at.CELLS),
            histogram_keys=tuple(reader.histogram_key(h) for h in range(histograms)),
            buckets=self._sum(ring.geometry.block_histograms, histograms * HISTOGRAM_WORDS),
            closes=self._closes(now_ns, rows),
            losses=self._losses(),
            config=config,
            seq=self._seq,
        )

    def committed(self, snapshot: Snapshot) -> None:
        """The snapshot is in the database: offer only what is newer from now on."""
        self._heads = self._pending_heads
        self._closed_slot = self._pending_slot

    def _sum(self, offset: int, words: int) -> bytes:
        total = np.zeros(words, dtype="<i8")
        memory = self._ring.memory.words
        for block in memory[self._ring.geometry.block_table // 8 :][: self._ring.reader.blocks].tolist():
            start = (block + offset) // 8
            total += np.frombuffer(memory[start : start + words], dtype=np.int64)
        return total.tobytes()

    def _oldest_slot(self) -> int:
        g = self._ring.geometry
        return self._ring.clock.ring_ns() // g.coarse_ns - g.coarse_slots + 2

    def _closes(self, now_ns: int, rows: int) -> tuple[SlotClose, ...]:
        """Boundaries that a rebuild needs of the slots up to now: around each slot in which the row counted something.

        A slot without events needs none of its own. The boundary after an event is kept too, so that the newest one
        kept is always the row's total at the start of the current slot.
        """
        g, reader = self._ring.geometry, self._ring.reader
        self._pending_slot = now_ns // g.coarse_ns
        closes = []
        for row in range(rows if self._pending_slot > self._closed_slot else 0):
            first = max(self._closed_slot, reader.row_birth_ns(row) // g.coarse_ns)
            totals = self._boundaries(row, first, self._pending_slot)
            for i, total in enumerate(totals):
                if (i > 0 and total != totals[i - 1]) or (i + 1 < len(totals) and total != totals[i + 1]):
                    closes.append(SlotClose(row, (first + i) * g.coarse_ns, *total))
        return tuple(closes)

    def _boundaries(self, row: int, first: int, last: int) -> list[tuple[int, int, int]]:
        """Totals at the start of each coarse slot; one that was never written had no event, and equals the next."""
        born = self._ring.reader.row_birth_ns(row) // self._ring.geometry.coarse_ns
        total = self._ring.reader.coarse_boundary(row, last) if last > born else (0, 0, 0)
        totals = []
        for slot in range(last, first - 1, -1):
            found = (0, 0, 0) if slot <= born else self._ring.reader.coarse_boundary(row, slot)
            total = found or total
            if total is not None:
                totals.append(total)
        return totals[::-1]

    def _losses(self) -> tuple[Loss, ...]:
        reader = self._ring.reader
        losses: list[Loss] = []
        heads = []
        for block in range(reader.blocks):
            after = self._heads[block] if block < len(self._heads) else 0
            found, head = reader.losses(block, after)
            losses += found
            heads.append(head)
        self._pending_heads = heads
        return tuple(losses)
