"""Boundaries: a row's totals at the start of each slot, filled by anyone, published by `open`, counted back from now.

The order of every load and store is that of the ring protocol: copy first and publish after when a slot is opened, the
boundary before the cells when a window is counted.
"""

from __future__ import annotations

from otelslo.kernels import bounds as b
from otelslo.kernels import layout as at
from otelslo.kernels.page import ring_now
from otelslo.kernels.words import cas, inner, load, store


@inner
def _lap(slot: int, slots: int) -> int:
    return 1 + (slot // slots) % at.LAPS


@inner
def _lap_of(word: int) -> int:
    return (word >> at.LAP_SHIFT) & at.LAP_MASK


@inner
def _put(address: int, seen: int, lap: int, count: int) -> None:
    """Fill a boundary word whose lap is older, from the value that was read before the sum was taken.

    Only an opener that slept for a whole ring can find a newer lap, which it leaves alone, or be beaten to the word by
    an older one, and then it fills it again.
    """
    while _lap_of(seen) == 0 or 0 < (lap - _lap_of(seen)) % at.LAPS < at.LAPS // 2:
        if cas(address, seen, (lap << at.LAP_SHIFT) | (count & at.COUNT_MASK)):
            return
        seen = load(address)


@inner
def _raise_open(hot: int, slot: int) -> None:
    opened = load(hot)
    while opened < slot:
        cas(hot, opened, slot)
        opened = load(hot)


@inner
def _block(page: int, w: int) -> int:
    return load(page + at.P_BASE) + load(load(page + at.P_BLOCK_TABLE) + 8 * w)  # type: ignore[no-any-return]


@inner
def _sum_cells(page: int, row: int) -> tuple[int, int, int]:
    good = 0
    bad = 0
    excluded = 0
    offset = load(page + at.P_CELLS) + row * at.ROW_CELLS_BYTES
    for w in range(load(load(page + at.P_BASE) + at.M_BLOCKS_USED)):
        cells = _block(page, w) + offset
        good += load(cells)
        for i in range(at.FIRST_BAD, at.FIRST_EXCLUDED):
            bad += load(cells + 8 * i)
        for i in range(at.FIRST_EXCLUDED, at.CELLS):
            excluded += load(cells + 8 * i)
    return good, bad, excluded


@inner
def _fine_word(page: int, row: int, slot: int) -> int:
    extent = load(page + at.P_BASE) + load(load(page + at.P_ROW_TABLE) + 8 * (row // at.ROWS_PER_EXTENT))
    place = slot % load(page + at.P_FINE_SLOTS)
    return extent + place * at.BOUNDARY_STRIDE + (row % at.ROWS_PER_EXTENT) * at.CLASSES * 8  # type: ignore[no-any-return]


@inner
def _coarse_word(page: int, row: int, slot: int) -> int:
    extent = load(page + at.P_BASE) + load(load(page + at.P_ROW_TABLE) + 8 * (row // at.ROWS_PER_EXTENT))
    place = load(page + at.P_FINE_SLOTS) + slot % load(page + at.P_COARSE_SLOTS)
    return extent + place * at.BOUNDARY_STRIDE + (row % at.ROWS_PER_EXTENT) * at.CLASSES * 8  # type: ignore[no-any-return]


@inner
def open_row(page: int, row: int, slot: int) -> None:
    """Copy the row's totals to the boundary of `slot`, then publish it; anyone may, any number at once.

    Words are read before the cells are summed and `open` is looked at again after: whoever slept in between finds
    either `open` moved or the word filled, and later totals never reach an old boundary.
    """
    hot = load(page + at.P_ROW_HOT) + row * at.HOT_ENTRY
    opened = load(hot)
    if opened >= slot:
        return
    per_coarse = load(page + at.P_FINE_PER_COARSE)
    coarse = slot // per_coarse
    with_coarse = opened // per_coarse < coarse
    fine_at = _fine_word(page, row, slot)
    coarse_at = _coarse_word(page, row, coarse)
    f0, f1, f2 = load(fine_at), load(fine_at + 8), load(fine_at + 16)
    c0, c1, c2 = load(coarse_at), load(coarse_at + 8), load(coarse_at + 16)
    good, bad, excluded = _sum_cells(page, row)
    if load(hot) >= slot:
        return
    lap = _lap(slot, load(page + at.P_FINE_SLOTS))
    _put(fine_at, f0, lap, good)
    _put(fine_at + 8, f1, lap, bad)
    _put(fine_at + 16, f2, lap, excluded)
    if with_coarse:
        lap = _lap(coarse, load(page + at.P_COARSE_SLOTS))
        _put(coarse_at, c0, lap, good)
        _put(coarse_at + 8, c1, lap, bad)
        _put(coarse_at + 16, c2, lap, excluded)
    _raise_open(hot, slot)


@inner
def _histogram_sum(page: int, histogram: int, word: int) -> int:
    total = 0
    offset = load(page + at.P_HISTOGRAMS) + (histogram * b.WORDS + word) * 8
    for w in range(load(load(page + at.P_BASE) + at.M_BLOCKS_USED)):
        total += load(_block(page, w) + offset)
    return total


@inner
def open_histogram(page: int, histogram: int, slot: int) -> None:
    """As `open_row`, word by word; the sum of latencies is kept in units of 1,024 ns to fit the 48 bits for longer."""
    hot = load(page + at.P_HISTOGRAM_HOT) + histogram * at.HOT_ENTRY
    if load(hot) >= slot:
        return
    slots = load(page + at.P_SNAPSHOTS)
    extent = load(page + at.P_BASE) + load(load(page + at.P_HISTOGRAM_TABLE) + 8 * histogram)
    words = extent + (slot % slots) * (b.WORDS * 8)
    lap = _lap(slot, slots)
    for i in range(b.USED_WORDS):
        seen = load(words + 8 * i)
        total = _histogram_sum(page, histogram, i)
        if load(hot) >= slot:
            return
        _put(words + 8 * i, seen, lap, total)
    _raise_open(hot, slot)


@inner
def open_rows(page: int) -> None:
    base = load(page + at.P_BASE)
    now = ring_now(page)
    slot = now // load(page + at.P_FINE_NS)
    for row in range(load(base + at.M_ROWS_USED)):
        open_row(page, row, slot)
    minute = now // load(page + at.P_SNAPSHOT_NS)
    for histogram in range(load(base + at.M_HISTOGRAMS_USED)):
        open_histogram(page, histogram, minute)


def open_all(page: int) -> int:
    """Open every row and histogram at the current slot: for speed only, so that readers and requests find it done."""
    if load(page + at.P_BASE) == 0:
        return at.NOT_ATTACHED
    open_rows(page)
    return 0


@inner
def _boundary(page: int, row: int, slot: int, opened: int, fine: bool) -> tuple[bool, int, int, int]:
    """Totals at the first boundary at or after `slot` up to `opened`; False: the ring moved on meanwhile.

    A word that lacks its lap at or below `open` means "no event in that slot": the next boundary has the same totals.
    """
    slots = load(page + at.P_FINE_SLOTS) if fine else load(page + at.P_COARSE_SLOTS)
    while slot <= opened:
        word = _fine_word(page, row, slot) if fine else _coarse_word(page, row, slot)
        lap = _lap(slot, slots)
        w0, w1, w2 = load(word), load(word + 8), load(word + 16)
        if _lap_of(w0) == lap and _lap_of(w1) == lap and _lap_of(w2) == lap:
            return True, w0 & at.COUNT_MASK, w1 & at.COUNT_MASK, w2 & at.COUNT_MASK
        seen = _lap_of(w0)
        if seen != 0 and seen != lap and (seen - lap) % at.LAPS < at.LAPS // 2:
            return False, 0, 0, 0
        slot += 1
    return False, 0, 0, 0


def count(page: int, row: int, start: int) -> int:
    """Events of `row` from the slot that holds ring time `start` until now, into the page's P_COUNTS words.

    0: counted; 1: `start` is older than the ring, all that it holds was counted; ASK_AGAIN: the ring moved on.
    Order of reads: `open`, the boundary, then blocks used and their cells, so that no difference is ever negative: a
    block that joins in between may be in the boundary already.
    """
    if load(page + at.P_BASE) == 0:
        return at.NOT_ATTACHED
    hot = load(page + at.P_ROW_HOT) + row * at.HOT_ENTRY
    fine_ns = load(page + at.P_FINE_NS)
    per_coarse = load(page + at.P_FINE_PER_COARSE)
    opened = load(hot)
    born = load(hot + at.HOT_BIRTH_SLOT)
    slot = start // fine_ns
    current = max(ring_now(page) // fine_ns, opened)
    fine = current - slot < load(page + at.P_FINE_SLOTS) - 1 and start >= load(page + at.P_FINE_FROM_NS)
    clipped = 0
    if not fine:
        slot = slot // per_coarse
        opened = opened // per_coarse
        born = born // per_coarse
        oldest = current // per_coarse - load(page + at.P_COARSE_SLOTS) + 2
        if slot < oldest and born < oldest:
            slot = oldest
            clipped = 1
    out = page + at.P_COUNTS
    good, bad, excluded = 0, 0, 0
    if slot <= opened:
        if slot > born:
            found, good, bad, excluded = _boundary(page, row, slot, opened, fine)
            if not found:
                return at.ASK_AGAIN
        total_good, total_bad, total_excluded = _sum_cells(page, row)
        good = (total_good - good) & at.COUNT_MASK
        bad = (total_bad - bad) & at.COUNT_MASK
        excluded = (total_excluded - excluded) & at.COUNT_MASK
    store(out, good)
    store(out + 8, bad)
    store(out + 16, excluded)
    return clipped
