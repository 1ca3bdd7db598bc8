"""Reads a ring without the compiler: what `otelslo status` sees, and what the leader commits.

The same words in the same order as the kernels: `open`, then the boundary, then blocks used and their cells. A word
validates itself by its lap, so no lock is needed and a reader may look at any time. Rows are not read at one instant.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from otelslo.clock import ring_at
from otelslo.counts import Counts
from otelslo.kernels import layout as at
from otelslo.kernels.bounds import USED_WORDS
from otelslo.kernels.bounds import WORDS as HISTOGRAM_WORDS
from otelslo.ring.check import check
from otelslo.ring.directory import read_string
from otelslo.ring.geometry import Header
from otelslo.rowkey import RowKey
from otelslo.snapshot import Loss

_MOST_TRIES = 100  # the ring moves on under a reader at most once or twice


@dataclass(frozen=True, slots=True)
class Window:
    """What a row counted from a slot boundary until now.

    `whole` is False where the ring does not reach so far back; what was counted then begins at `reach_ns` (ring time),
    or at the row's birth if that is later.
    """

    counts: Counts
    whole: bool
    reach_ns: int = 0


class Reader:
    """Views of one ring's words.

    Args:
        words: the mapped file as int64; may be longer than the file.
    """

    def __init__(self, words: memoryview, header: Header) -> None:
        self._words = words
        self._bytes = words.cast("B")
        self.header = header
        self._geometry = header.geometry
        self._row_hot, self._row_table = header.geometry.row_hot, header.geometry.row_table
        self._block_cells = header.geometry.block_cells
        self._text: dict[int, str] = {}
        self._names: dict[int, RowKey] = {}

    # ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def rows(self) -> int:
        return self._words[at.M_ROWS_USED // 8]

    @property
    def histograms(self) -> int:
        return self._words[at.M_HISTOGRAMS_USED // 8]

    @property
    def blocks(self) -> int:
        return self._words[at.M_BLOCKS_USED // 8]

    @property
    def used_bytes(self) -> int:
        return self._words[at.M_FILE_END // 8]

    @property
    def leader_heartbeat_ns(self) -> int:
        return self._words[at.M_HEARTBEAT_NS // 8]

    @property
    def leader_block(self) -> int | None:
        """The block of the worker that leads; None if there was none yet, or it has begun its last commit."""
        leader = self._words[at.M_LEADER // 8]
        return leader - 1 if leader else None

    @property
    def agent_heartbeat_ns(self) -> int:
        """Of the last process that was started to lead for all workers, ring time; 0 if there was none."""
        return self._words[at.M_AGENT_NS // 8]

    @property
    def committed_ns(self) -> int:
        """Ring time of the last commit to SQLite; 0 if there was none."""
        return self._words[at.M_COMMITTED_NS // 8]

    @property
    def committed_seq(self) -> int:
        return self._words[at.M_COMMITTED_SEQ // 8]

    def string(self, offset: int) -> str:
        found = self._text.get(offset)
        if found is None:
            found = self._text[offset] = read_string(self._bytes, self._geometry, offset)
        return found

    def row_key(self, row: int) -> str:
        return self.string(self._words[(self._geometry.rows + at.ROW_ENTRY * row + at.R_KEY) // 8])

    def row_name(self, row: int) -> RowKey:
        found = self._names.get(row)
        if found is None:
            found = self._names[row] = RowKey.parse(self.row_key(row))
        return found

    def row_birth_ns(self, row: int) -> int:
        return self._words[(self._geometry.rows + at.ROW_ENTRY * row + at.R_BIRTH_NS) // 8]

    def histogram_key(self, histogram: int) -> str:
        return self.string(self._words[(self._geometry.histograms + at.ROW_ENTRY * histogram + at.R_KEY) // 8])

    def ring_at(self, wall_ns: int) -> int:
        """The ring time that the wall clock called `wall_ns` (Unix ns)."""
        entries = self._words[at.M_CLOCK_ENTRIES // 8]
        first, start = max(0, entries - at.CLOCK_ENTRIES + 1), at.M_CLOCK_TABLE // 8
        places = (start + 2 * (number % at.CLOCK_ENTRIES) for number in range(first, entries))
        return ring_at([(self._words[place], self._words[place + 1]) for place in places], wall_ns)

    def wall_offset_ns(self) -> int:
        """Unix time minus ring time, as last noted."""
        entries = self._words[at.M_CLOCK_ENTRIES // 8]
        if entries == 0:
            return 0
        last = (entries - 1) % at.CLOCK_ENTRIES
        return self._words[at.M_CLOCK_TABLE // 8 + 2 * last + 1]

    # ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def cells(self, row: int) -> list[int]:
        """The row's 16 cells, summed over blocks."""
        start = self._block_cells + at.ROW_CELLS_BYTES * row
        return self._sum(start, at.CELLS)

    def counts(self, row: int) -> Counts:
        """Everything that the row ever counted."""
        return _classes(self.cells(row))

    def window(self, row: int, start_ns: int, now_ns: int, until: Counts | None = None) -> Window:
        """Events of `row` from the slot that holds `start_ns` until now, both in ring time; or until the row's totals
        were `until`, which were read at `now_ns`."""
        for _ in range(_MOST_TRIES):
            found = self._window(row, start_ns, now_ns, until)
            if found is not None:
                return found
        return Window(until or self.counts(row), whole=False)  # its boundaries are damaged: all that it ever counted

    def _window(self, row: int, start_ns: int, now_ns: int, until: Counts | None) -> Window | None:
        g, words = self._geometry, self._words
        hot = (self._row_hot + at.HOT_ENTRY * row) // 8
        opened, born = words[hot + at.HOT_OPEN // 8], words[hot + at.HOT_BIRTH_SLOT // 8]
        slot = start_ns // g.fine_ns
        current = max(now_ns // g.fine_ns, opened)
        fine = current - slot < g.fine_slots - 1 and start_ns >= self.header.fine_from_ns
        whole, reach_ns = True, 0
        if not fine:
            slot, opened, born = (n // g.fine_per_coarse for n in (slot, opened, born))
            oldest = current // g.fine_per_coarse - g.coarse_slots + 2
            if slot < oldest and born < oldest:
                slot, whole, reach_ns = oldest, False, oldest * g.coarse_ns
        if slot > opened:
            return Window(Counts(), whole, reach_ns)
        boundary = (0, 0, 0)
        if slot > born:
            found = self._boundary(row, slot, opened, fine)
            if found is None:
                return None
            boundary = found
        total = until or self.counts(row)
        good = (total.good - boundary[0]) & at.COUNT_MASK
        bad = (total.bad - boundary[1]) & at.COUNT_MASK
        excluded = (total.excluded - boundary[2]) & at.COUNT_MASK
        if until is not None and max(good, bad, excluded) > at.COUNT_MASK // 2:
            return Window(Counts(), whole, reach_ns)  # the first boundary since `slot` came after `until` was read
        return Window(Counts(good, bad, excluded), whole, reach_ns)

    def _boundary(self, row: int, slot: int, opened: int, fine: bool) -> tuple[int, int, int] | None:
        """Totals at the first boundary at or after `slot` up to `opened`; None: the ring moved on meanwhile."""
        slots = self._geometry.fine_slots if fine else self._geometry.coarse_slots
        for s in range(slot, opened + 1):
            good, bad, excluded = self._boundary_words(row, s, fine)
            lap = 1 + (s // slots) % at.LAPS
            first = (good >> at.LAP_SHIFT) & at.LAP_MASK
            if (
                first == lap
                and (bad >> at.LAP_SHIFT) & at.LAP_MASK == lap
                and (excluded >> at.LAP_SHIFT) & at.LAP_MASK == lap
            ):
                return good & at.COUNT_MASK, bad & at.COUNT_MASK, excluded & at.COUNT_MASK
            if first not in (0, lap) and (first - lap) % at.LAPS < at.LAPS // 2:
                return None
        return None

    def _boundary_words(self, row: int, slot: int, fine: bool) -> list[int]:
        g = self._geometry
        extent = self._words[self._row_table // 8 + row // at.ROWS_PER_EXTENT]
        place = slot % g.fine_slots if fine else g.fine_slots + slot % g.coarse_slots
        start = extent + place * at.BOUNDARY_STRIDE + (row % at.ROWS_PER_EXTENT) * at.CLASSES * 8
        return self._words[start // 8 : start // 8 + at.CLASSES].tolist()

    def coarse_boundary(self, row: int, slot: int) -> tuple[int, int, int] | None:
        """Totals of `row` at the start of coarse slot `slot`, if that boundary was written and still stands."""
        seen = self._boundary_words(row, slot, fine=False)
        lap = 1 + (slot // self._geometry.coarse_slots) % at.LAPS
        if any((word >> at.LAP_SHIFT) & at.LAP_MASK != lap for word in seen):
            return None
        good, bad, excluded = (word & at.COUNT_MASK for word in seen)
        return good, bad, excluded

    # ── latencies ──────────────────────────────────────────────────────────────────────────────────────────────────
    def histogram(self, histogram: int) -> list[int]:
        """The histogram's words since its birth, summed over blocks: sum in 1,024 ns, then buckets."""
        return self._sum(self._geometry.block_histograms + 8 * HISTOGRAM_WORDS * histogram, HISTOGRAM_WORDS)

    def histogram_since(self, histogram: int, start_ns: int, now_ns: int) -> list[int]:
        """The histogram of a window of at most `snapshots * snapshot_ns`."""
        g = self._geometry
        hot = (g.histogram_hot + at.HOT_ENTRY * histogram) // 8
        opened, born = self._words[hot], self._words[hot + 1]
        slot = max(start_ns // g.snapshot_ns, max(now_ns // g.snapshot_ns, opened) - g.snapshots + 2)
        if slot > opened:
            return [0] * HISTOGRAM_WORDS
        then = [0] * HISTOGRAM_WORDS if slot <= born else self._snapshot(histogram, slot, opened)
        total = self.histogram(histogram)
        return [max(0, now - before) for now, before in zip(total, then, strict=True)]

    def _snapshot(self, histogram: int, slot: int, opened: int) -> list[int]:
        g = self._geometry
        extent = self._words[g.histogram_table // 8 + histogram]
        for s in range(slot, opened + 1):
            start = (extent + (s % g.snapshots) * HISTOGRAM_WORDS * 8) // 8
            seen = self._words[start : start + HISTOGRAM_WORDS].tolist()
            lap = 1 + (s // g.snapshots) % at.LAPS
            # All words: whoever opened this slot may have been killed between two of them.
            if all((word >> at.LAP_SHIFT) & at.LAP_MASK == lap for word in seen[:USED_WORDS]):
                return [word & at.COUNT_MASK for word in seen]
        return [0] * HISTOGRAM_WORDS

    # ── blocks ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def in_flight(self) -> int:
        """Requests begun and not ended, over all blocks; ended is read first, so it is never negative."""
        return sum(max(0, begun - ended) for begun, ended in self._begun_ended())

    def begun(self) -> int:
        return sum(begun for begun, _ in self._begun_ended())

    def _begun_ended(self) -> Iterator[tuple[int, int]]:
        tracks = self._words[at.M_TRACKS_USED // 8]
        for block in self._block_offsets():
            start = (block + at.B_TRACKS) // 8
            ended = sum(self._words[start : start + 2 * tracks].tolist()[1::2])
            yield sum(self._words[start : start + 2 * tracks].tolist()[0::2]), ended

    def loss_heads(self) -> list[int]:
        """How many loss records each block ever wrote."""
        return [self._words[(block + at.B_LOG_HEAD) // 8] for block in self._block_offsets()]

    def losses(self, block: int, after: int = 0) -> tuple[list[Loss], int]:
        """Loss records of a block newer than number `after`, oldest first, and the head up to which they go."""
        g = self._geometry
        offset = self._words[g.block_table // 8 + block]
        head = self._words[(offset + at.B_LOG_HEAD) // 8]
        first = max(after, head - g.log_records)
        records = [(n, self._log_record(offset, n)) for n in range(first, head)]
        oldest = self._words[(offset + at.B_LOG_HEAD) // 8] - g.log_records
        # The writer takes a record's number away before it writes over it: what still has it was read whole.
        numbers = [self._log_record(offset, n)[0] for n, _ in records]
        kept = [
            self._loss(record, block)
            for (n, record), number in zip(records, numbers, strict=True)
            if n >= oldest and record[0] == number == n + 1
        ]
        return kept, head

    def _log_record(self, block: int, number: int) -> list[int]:
        g = self._geometry
        start = (block + g.block_log + (number % g.log_records) * at.LOG_RECORD) // 8
        return self._words[start : start + at.LOG_RECORD // 8].tolist()

    def _loss(self, record: list[int], block: int) -> Loss:
        high, low = (record[i // 8] & (2**64 - 1) for i in (at.L_TRACE_HI, at.L_TRACE_LO))
        return Loss(
            at_ns=record[at.L_AT // 8],
            row=record[at.L_ROW // 8],
            reason=self.row_name(record[at.L_ROW // 8]).reasons[record[at.L_CELL // 8]],
            count=record[at.L_COUNT // 8],
            route=self.string(record[at.L_ROUTE // 8]),
            status=record[at.L_STATUS // 8],
            exception=self.string(record[at.L_EXCEPTION // 8]),
            version=self.string(record[at.L_VERSION // 8]),
            latency_ns=max(0, record[at.L_LATENCY // 8]),
            trace_id=f"{high:016x}{low:016x}" if high or low else "",
            worker=str(block),
        )

    def _block_offsets(self) -> list[int]:
        table = self._geometry.block_table // 8
        return self._words[table : table + self.blocks].tolist()

    def _sum(self, start: int, size: int) -> list[int]:
        total = [0] * size
        for block in self._block_offsets():
            first = (block + start) // 8
            total = [a + b for a, b in zip(total, self._words[first : first + size].tolist(), strict=True)]
        return total


def _classes(cells: list[int]) -> Counts:
    return Counts(cells[0], sum(cells[at.FIRST_BAD : at.FIRST_EXCLUDED]), sum(cells[at.FIRST_EXCLUDED :]))


def open_reader(path: Path) -> Reader:
    """A reader of a ring file, for a process that only looks; errors as for `check`."""
    header = check(path)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    size = len(mapped) // 8 * 8
    return Reader(memoryview(mapped)[:size].cast("q"), header)
