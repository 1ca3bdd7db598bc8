"""What one ring hands over to the next: a sound file, or SQLite, as one form that a new file is filled from.

A ring too short, of an earlier boot or full of dead rows is not thrown away: its own totals and boundaries become what
SQLite would give. What is restored counts as having happened when it did, never as fresh.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otelslo.kernels import layout as at
from otelslo.kernels.bounds import USED_WORDS
from otelslo.kernels.bounds import WORDS as HISTOGRAM_WORDS
from otelslo.rowkey import OURS, RowKey
from otelslo.snapshot import Saved, SlotClose

if TYPE_CHECKING:
    from otelslo.ring.live import Ring

Totals = tuple[int, int, int]
Keep = Callable[[str], bool]  # row key text -> whether the row is still wanted
_MOST_ASIDE = 3  # files of each kind that stay


# ── out of a ring ──────────────────────────────────────────────────────────────────────────────────────────────────
def saved_from(
    ring: Ring, now_ns: int, rows: Sequence[int] | None = None, histograms: Sequence[int] | None = None
) -> Saved:
    """The ring as of `now_ns` (ring time), or some of its rows and histograms; nobody may be writing it any more."""
    reader = ring.reader
    rows = range(reader.rows) if rows is None else rows
    histograms = range(reader.histograms) if histograms is None else histograms
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
        slots=_slots_of(ring, now_ns, rows),
    )


def holds_all_of(ring: Saved, database: Saved) -> bool:
    """Whether `ring` is the ring that the database knows, and counts no less in any cell."""
    rows, histograms = len(database.row_keys), len(database.histogram_keys)
    if (database.ring_id, database.row_keys, database.births_ns, database.histogram_keys) != (
        ring.ring_id,
        ring.row_keys[:rows],
        ring.births_ns[:rows],
        ring.histogram_keys[:histograms],
    ):
        return False
    held, known = memoryview(ring.cells).cast("q"), memoryview(database.cells).cast("q")
    return all(have >= wanted for have, wanted in zip(held, known, strict=False))


def without_dead_rows(ring: Ring, now_ns: int, keep: Keep) -> Saved | None:
    """What a ring nearly full hands over once dead rows and idle histograms are left out; None if that frees little.

    Tracks and strings are made anew by whoever still needs them. A lack of histograms alone is no reason: a night
    without traffic would cost a ring its identity.
    """
    reader, g = ring.reader, ring.geometry
    rows = [row for row in range(reader.rows) if _is_wanted(reader.row_key(row), keep)]
    histograms = [h for h in range(reader.histograms) if any(reader.histogram_since(h, 0, 0))]
    names = [*map(reader.row_key, rows), *map(reader.histogram_key, histograms)]
    words = ring.memory.words
    uses = (
        (reader.rows, len(rows), g.max_rows),
        (words[at.M_TRACKS_USED // 8], _tracks_over(ring, set(rows)), g.max_tracks),
        (words[at.M_STRINGS_END // 8], sum(16 + len(name.encode(errors="replace")) for name in names), g.strings_bytes),
    )
    if not any(_frees_enough(*use) for use in uses):
        return None
    return saved_from(ring, now_ns, rows, histograms)


def _is_wanted(key: str, keep: Keep) -> bool:
    return RowKey.parse(key).slo in OURS or keep(key)


def _tracks_over(ring: Ring, rows: set[int]) -> int:
    """How many tracks book crashes on none but these rows."""
    g, words = ring.geometry, ring.memory.words
    found = 0
    for track in range(words[at.M_TRACKS_USED // 8]):
        plan = (g.tracks + at.TRACK_ENTRY * track) // 8
        first, count = plan + at.PLAN_HEAD // 8, min(words[plan + at.PLAN_ROWS // 8], at.MAX_PLAN_ROWS)
        found += rows.issuperset(words[first + i * at.PLAN_ROW // 8] for i in range(count))
    return found


def _frees_enough(used: int, kept: int, room: int) -> bool:
    """More than 3/4 used, and a 16th of the room comes free, or whatever there is where the last 16th is begun.

    A new identity breaks exported series: it must not be the price of each restart.
    """
    freed = used - kept
    return 4 * used > 3 * room and freed > 0 and (16 * freed >= room or 16 * used > 15 * room)


def _slots_of(ring: Ring, now_ns: int, rows: Sequence[int]) -> Callable[[int, int, int], Iterator[SlotClose]]:
    coarse_ns = ring.geometry.coarse_ns
    found: dict[int, list[tuple[int, Totals]]] = {}

    def slots(row: int, start_ns: int, end_ns: int) -> Iterator[SlotClose]:
        if row not in found:
            found[row] = _turns(_boundaries(ring, rows[row], now_ns))
        for slot, totals in found[row]:
            if start_ns <= slot * coarse_ns < end_ns:
                yield SlotClose(row, slot * coarse_ns, *totals)

    return slots


def _boundaries(ring: Ring, row: int, now_ns: int) -> list[tuple[int, Totals]]:
    """The row's boundaries within reach, and the one after its last open slot, which is its total of today.

    After a power cut pages of different age lie together: no boundary may exceed a later one, or today's total.
    """
    g = ring.geometry
    total = ring.reader.counts(row)
    today = (total.good, total.bad, total.excluded)
    newest, after = now_ns // g.coarse_ns, _opened(ring, row) + 1
    found = [(slot, seen) for slot, seen in _written(ring, row, newest) if slot < after]
    if after <= newest:
        found.append((max(after, newest - g.coarse_slots + 2), today))
    bounded = []
    for slot, (good, bad, excluded) in reversed(found):
        today = (min(good, today[0]), min(bad, today[1]), min(excluded, today[2]))
        bounded.append((slot, today))
    return bounded[::-1]


def _opened(ring: Ring, row: int) -> int:
    """The coarse slot up to which the row is open: nothing was counted after it."""
    g = ring.geometry
    return ring.memory.words[(g.row_hot + at.HOT_ENTRY * row + at.HOT_OPEN) // 8] // g.fine_per_coarse


def _written(ring: Ring, row: int, newest: int) -> list[tuple[int, Totals]]:
    """(slot, totals) of every coarse boundary of `row` that was written and lies within reach of slot `newest`."""
    g, memory = ring.geometry, ring.memory.words
    extent = memory[g.row_table // 8 + row // at.ROWS_PER_EXTENT]
    start = (extent + g.fine_slots * at.BOUNDARY_STRIDE + (row % at.ROWS_PER_EXTENT) * at.CLASSES * 8) // 8
    step = at.BOUNDARY_STRIDE // 8
    end = start + g.coarse_slots * step
    words = list(zip(*(memory[start + i : end + i : step].tolist() for i in range(at.CLASSES)), strict=True))
    found = []
    for slot in range(max(0, newest - g.coarse_slots + 2), newest + 1):
        seen = words[slot % g.coarse_slots]
        lap = 1 + (slot // g.coarse_slots) % at.LAPS
        if all((word >> at.LAP_SHIFT) & at.LAP_MASK == lap for word in seen):
            good, bad, excluded = (word & at.COUNT_MASK for word in seen)
            found.append((slot, (good, bad, excluded)))
    return found


def _turns(found: list[tuple[int, Totals]]) -> list[tuple[int, Totals]]:
    """Without boundaries that equal both neighbours: a missing one says just that. The last one always stays."""
    totals = [total for _, total in found]
    same = [False, *(totals[i - 1] == totals[i] == totals[i + 1] for i in range(1, len(totals) - 1)), False]
    return [one for one, drop in zip(found, same, strict=False) if not drop]


# ── into a ring ────────────────────────────────────────────────────────────────────────────────────────────────────
def restore(ring: Ring, saved: Saved) -> None:
    """Write saved totals into block 0, which the first worker adopts, and saved boundaries into the coarse slots."""
    g, words = ring.geometry, ring.memory.words
    block = ring.directory.extent(g.block_table, 0, g.block_bytes)
    cells = memoryview(saved.cells).cast("q")
    for i, (key, birth) in enumerate(zip(saved.row_keys, saved.births_ns, strict=True)):
        row = ring.directory.row(key, birth)
        start = (block + g.block_cells + at.ROW_CELLS_BYTES * row) // 8
        own = cells[at.CELLS * i : at.CELLS * (i + 1)]
        words[start : start + at.CELLS] = own
        _restore_boundaries(ring, saved, i, row, _totals(own.tolist()))
    _restore_histograms(ring, saved, block)
    words[at.M_BLOCKS_USED // 8] = 1
    words[at.M_COMMITTED_SEQ // 8] = saved.seq
    words[at.M_COMMITTED_NS // 8] = saved.at_ns


def _totals(cells: list[int]) -> Totals:
    return cells[0], sum(cells[at.FIRST_BAD : at.FIRST_EXCLUDED]), sum(cells[at.FIRST_EXCLUDED :])


def _restore_boundaries(ring: Ring, saved: Saved, number: int, row: int, latest: Totals) -> None:
    """Saved boundaries of a row, and one at the slot of the last commit: the newest saved one is its total there.

    Without any, all that a row younger than the ring's reach counted came after that slot had begun, or it would have
    one; those of an older row were dropped with their age, and so all that it counted is old.
    """
    g = ring.geometry
    newest = saved.at_ns // g.coarse_ns
    oldest_ns = max(0, newest - g.coarse_slots + 1) * g.coarse_ns
    last: Totals | None = None
    for close in saved.slots(number, oldest_ns, saved.at_ns + 1):
        last = (close.good, close.bad, close.excluded)
        _put_boundary(ring, row, g.fine_slots, g.coarse_slots, close.slot_start_ns // g.coarse_ns, last)
    if last is None:
        for close in saved.slots(number, 0, oldest_ns):
            last = (close.good, close.bad, close.excluded)
    if last is None:
        last = (0, 0, 0) if saved.births_ns[number] >= oldest_ns else latest
    _put_boundary(ring, row, g.fine_slots, g.coarse_slots, newest, last)
    hot = (g.row_hot + at.HOT_ENTRY * row + at.HOT_OPEN) // 8
    ring.memory.words[hot] = opened = max(ring.memory.words[hot], saved.at_ns // g.fine_ns)
    # Fine boundaries serve only windows that begin after the rebuild: nothing of what is restored is in those.
    _put_boundary(ring, row, 0, g.fine_slots, opened, latest)


def _put_boundary(ring: Ring, row: int, first_place: int, slots: int, slot: int, totals: Totals) -> None:
    g, words = ring.geometry, ring.memory.words
    extent = words[g.row_table // 8 + row // at.ROWS_PER_EXTENT]
    place = first_place + slot % slots
    first = (extent + place * at.BOUNDARY_STRIDE + (row % at.ROWS_PER_EXTENT) * at.CLASSES * 8) // 8
    for i, total in enumerate(totals):
        words[first + i] = _boundary_word(slot, slots, total)


def _boundary_word(slot: int, slots: int, total: int) -> int:
    lap = 1 + (slot // slots) % at.LAPS
    lap = lap - (1 << 16) if lap >= 1 << 15 else lap  # the word is signed
    return (lap << at.LAP_SHIFT) | (total & at.COUNT_MASK)


def _restore_histograms(ring: Ring, saved: Saved, block: int) -> None:
    """Saved totals, and the same as the snapshot of this minute: no window that can be asked for begins before it.

    The birth lies before all of them, or a window that begins before the rebuild would show the totals of a lifetime.
    """
    g, words, now_ns = ring.geometry, ring.memory.words, ring.header.created_ns
    slot = now_ns // g.snapshot_ns
    buckets = memoryview(saved.buckets).cast("q")
    for i, key in enumerate(saved.histogram_keys):
        histogram = ring.directory.histogram(key, max(0, now_ns - (g.snapshots + 1) * g.snapshot_ns))
        own = buckets[HISTOGRAM_WORDS * i : HISTOGRAM_WORDS * (i + 1)].tolist()
        start = (block + g.block_histograms + 8 * HISTOGRAM_WORDS * histogram) // 8
        extent = words[g.histogram_table // 8 + histogram]
        first = (extent + (slot % g.snapshots) * HISTOGRAM_WORDS * 8) // 8
        for word, total in enumerate(own):
            words[start + word] = total
            if word < USED_WORDS:
                words[first + word] = _boundary_word(slot, g.snapshots, total)
        words[(g.histogram_hot + at.HOT_ENTRY * histogram + at.HOT_OPEN) // 8] = slot


# ── beside a ring ──────────────────────────────────────────────────────────────────────────────────────────────────
def forget_oldest(path: Path, why: str, newest: Path) -> None:
    """Of the files set aside for one reason `newest` and the two before it stay: each is as large as a ring."""

    def age(aside: Path) -> tuple[str, int]:
        stamp = aside.name.removeprefix(f"{path.name}.{why}-").partition("-")[0]
        return stamp, aside.lstat().st_ctime_ns  # of the renaming

    with contextlib.suppress(OSError):
        others = sorted((one for one in path.parent.glob(f"{path.name}.{why}-*") if one != newest), key=age)
        for aside in others[: 1 - _MOST_ASIDE]:
            aside.unlink()
