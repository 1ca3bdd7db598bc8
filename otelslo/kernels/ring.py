"""The ring's kernels: begin, end, record, record_many, settle, open_all, count.

Each is called with the address of the private page, which says where the block and the mapping lie; the page is zero in
a process that is not attached (the system wipes it on fork), and then a kernel does nothing. Time is read here, once
per call, unless the page holds a manual clock. The order of every load and store is that of the ring protocol: see the
notes beside `_commit`, `_open_row` and `count`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from otelslo.kernels import bounds as b
from otelslo.kernels import layout as at
from otelslo.kernels.buckets import word_of
from otelslo.kernels.words import boot_ns, cas, compile_kernel, inner, load, monotonic_ns, store, versions


@inner
def _ring_now(page: int) -> int:
    if load(page + at.P_MANUAL) != 0:
        return load(page + at.P_NOW)  # type: ignore[no-any-return]
    return boot_ns(page + at.P_SCRATCH) + load(page + at.P_OFFSET)  # type: ignore[no-any-return]


@inner
def _duration_now(page: int) -> int:
    if load(page + at.P_MANUAL) != 0:
        return load(page + at.P_NOW)  # type: ignore[no-any-return]
    return monotonic_ns(page + at.P_SCRATCH)  # type: ignore[no-any-return]


@inner
def _attached_block(page: int) -> int:
    """The block of this process, or 0: never attached, forked, or the block was taken away (its nonce moved on)."""
    block = load(page + at.P_BLOCK)
    if block != 0 and load(block + at.B_NONCE) != load(page + at.P_NONCE):
        return 0
    return block  # type: ignore[no-any-return]


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
def _open_row(page: int, row: int, slot: int) -> None:
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
def _open_histogram(page: int, histogram: int, slot: int) -> None:
    """As `_open_row`, word by word; the sum of latencies is kept in units of 1,024 ns to fit the 48 bits for longer."""
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
        if i == b.SUM:
            total = total >> 10
        _put(words + 8 * i, seen, lap, total)
    _raise_open(hot, slot)


@inner
def _log(page: int, block: int, head: int, row: int, cell: int, now: int, latency: int, count: int, plan: int) -> None:
    """Write loss record number `head`; it counts once the head that covers it is committed."""
    record = block + load(page + at.P_LOG) + (head % load(page + at.P_LOG_RECORDS)) * at.LOG_RECORD
    store(record + at.L_SEQ, 0)
    store(record + at.L_AT, now)
    store(record + at.L_ROW, row)
    store(record + at.L_CELL, cell)
    store(record + at.L_COUNT, count)
    store(record + at.L_ROUTE, load(plan + at.PLAN_ROUTE))
    store(record + at.L_STATUS, load(plan + at.PLAN_STATUS))
    store(record + at.L_EXCEPTION, load(plan + at.PLAN_EXCEPTION))
    store(record + at.L_VERSION, load(plan + at.PLAN_VERSION))
    store(record + at.L_LATENCY, latency)
    store(record + at.L_TRACE_HI, 0)
    store(record + at.L_TRACE_LO, 0)
    store(record + at.L_SEQ, head + 1)


@inner
def _pair(block: int, k: int, offset: int, add: int) -> int:
    """Note in the redo record that the word at `offset` of the block becomes its value + add."""
    pair = block + at.B_REDO_PAIRS + 16 * k
    store(pair, offset)
    store(pair + 8, load(block + offset) + add)
    return k + 1


@inner
def _apply(block: int, pairs: int) -> None:
    for i in range(pairs):
        pair = block + at.B_REDO_PAIRS + 16 * i
        store(block + load(pair), load(pair + 8))
    store(block + at.B_REDO, 0)


@inner
def _commit(page: int, block: int, plan: int, latency: int, count: int, ended: int) -> int:
    """Count `count` events by one commit: the pairs, then their number (this store is the commit), then the values.

    `ended` is the offset of the track's ended word, or 0. A kill before the number: nothing happened. After: whoever
    settles the block stores the values again, which is harmless since nobody else writes it. Answers the loss log's
    new head if the event was bad in some row, else 0.
    """
    now = _ring_now(page)
    slot = now // load(page + at.P_FINE_NS)
    hot = load(page + at.P_ROW_HOT)
    cells = load(page + at.P_CELLS)
    head = load(block + at.B_LOG_HEAD)
    logged = 0
    k = 0
    for i in range(load(plan + at.PLAN_ROWS)):
        entry = plan + at.PLAN_HEAD + i * at.PLAN_ROW
        row = load(entry)
        cell = load(entry + 16) if latency <= load(entry + 8) else load(entry + 24)
        if load(hot + row * at.HOT_ENTRY) < slot:
            _open_row(page, row, slot)
        if at.FIRST_BAD <= cell < at.FIRST_EXCLUDED:
            _log(page, block, head + logged, row, cell, now, latency, count, plan)
            logged += 1
        k = _pair(block, k, cells + row * at.ROW_CELLS_BYTES + cell * 8, count)
    histogram = load(plan + at.PLAN_HISTOGRAM)
    if histogram >= 0:
        minute = now // load(page + at.P_SNAPSHOT_NS)
        if load(load(page + at.P_HISTOGRAM_HOT) + histogram * at.HOT_ENTRY) < minute:
            _open_histogram(page, histogram, minute)
        words = load(page + at.P_HISTOGRAMS) + histogram * (b.WORDS * 8)
        k = _pair(block, k, words + 8 * word_of(latency), count)
        k = _pair(block, k, words + 8 * b.SUM, latency * count)
    if logged > 0:
        k = _pair(block, k, at.B_LOG_HEAD, logged)
    if ended != 0:
        k = _pair(block, k, ended, count)
    store(block + at.B_REDO, k)
    _apply(block, k)
    return head + logged if logged > 0 else 0  # type: ignore[no-any-return]


def begin(page: int, track: int) -> int:
    """One request of `track` has begun: its token (the duration clock, > 0), or 0 where the process is not attached."""
    block = _attached_block(page)
    if block == 0:
        return 0
    begun = block + at.B_TRACKS + 16 * track
    store(begun, load(begun) + 1)
    return _duration_now(page)  # type: ignore[no-any-return]


def end(page: int, track: int, token: int, plan: int) -> int:
    """The request of `token` has ended as `plan` says. NOT_ATTACHED for a token older than the attach: do nothing."""
    block = _attached_block(page)
    if block == 0 or token < load(page + at.P_ATTACHED):
        return at.NOT_ATTACHED
    latency = _duration_now(page) - token
    if latency < 0:
        latency = 0
    return _commit(page, block, plan, latency, 1, at.B_TRACKS + 16 * track + 8)  # type: ignore[no-any-return]


def record(page: int, plan: int, latency: int) -> int:
    """One event of known latency (ns, 0 to 2**62), begun and ended in one commit."""
    block = _attached_block(page)
    if block == 0:
        return at.NOT_ATTACHED
    if latency < 0 or latency > 1 << 62:
        return at.BAD_LATENCY
    return _commit(page, block, plan, latency, 1, 0)  # type: ignore[no-any-return]


@inner
def _batch_cell(plan: int, i: int, latency: int) -> int:
    entry = plan + at.PLAN_HEAD + i * at.PLAN_ROW
    return load(entry + 16) if latency <= load(entry + 8) else load(entry + 24)  # type: ignore[no-any-return]


@inner
def _tally(batch: int, cells: int, rows: int, histogram: int) -> int:
    """Add a batch up into `cells` (16 words a row, then a histogram); how many events had no valid latency."""
    outcomes = load(batch + 8)
    latencies = load(batch + 16)
    words = cells + rows * at.ROW_CELLS_BYTES
    refused = 0
    for e in range(load(batch)):
        latency = load(latencies + 8 * e)
        outcome = (load(outcomes + (e & ~7)) >> (8 * (e & 7))) & 0xFF
        if latency < 0 or latency > 1 << 62 or outcome > 2:
            refused += 1
            continue
        plan = load(batch + 24 + 8 * outcome)
        for i in range(rows):
            cell = cells + i * at.ROW_CELLS_BYTES + 8 * _batch_cell(plan, i, latency)
            store(cell, load(cell) + 1)
        if histogram >= 0:
            word = words + 8 * word_of(latency)
            store(word, load(word) + 1)
            store(words, load(words) + latency)
    return refused


def record_many(page: int, batch: int) -> int:
    """A batch by one commit; answers the events refused. `batch`: number, addresses of int8 outcomes (8-byte aligned,
    padded to 8) and int64 latencies, then the plans of good, bad and excluded, which name the same rows in order."""
    block = _attached_block(page)
    if block == 0:
        return at.NOT_ATTACHED
    cells = page + at.P_BATCH_CELLS
    plan = load(batch + 24)
    rows = load(plan)
    histogram = load(plan + at.PLAN_HISTOGRAM)
    for i in range(rows * at.CELLS + b.WORDS):
        store(cells + 8 * i, 0)
    refused = _tally(batch, cells, rows, histogram)
    now = _ring_now(page)
    slot = now // load(page + at.P_FINE_NS)
    head = load(block + at.B_LOG_HEAD)
    logged = 0
    k = 0
    for i in range(rows):
        row = load(plan + at.PLAN_HEAD + i * at.PLAN_ROW)
        _open_row(page, row, slot)
        for cell in range(at.CELLS):
            count = load(cells + i * at.ROW_CELLS_BYTES + 8 * cell)
            if count == 0:
                continue
            if k > at.REDO_PAIRS - b.USED_WORDS - 2:
                return at.TOO_LARGE
            k = _pair(block, k, load(page + at.P_CELLS) + row * at.ROW_CELLS_BYTES + 8 * cell, count)
            if at.FIRST_BAD <= cell < at.FIRST_EXCLUDED:
                _log(page, block, head + logged, row, cell, now, -1, count, load(batch + 32))
                logged += 1
    if histogram >= 0:
        _open_histogram(page, histogram, now // load(page + at.P_SNAPSHOT_NS))
        words = load(page + at.P_HISTOGRAMS) + histogram * (b.WORDS * 8)
        for i in range(b.USED_WORDS):
            count = load(cells + rows * at.ROW_CELLS_BYTES + 8 * i)
            if count != 0:
                k = _pair(block, k, words + 8 * i, count)
    if logged > 0:
        k = _pair(block, k, at.B_LOG_HEAD, logged)
    store(block + at.B_REDO, k)
    _apply(block, k)
    return refused  # type: ignore[no-any-return]


@inner
def _open_all(page: int) -> None:
    base = load(page + at.P_BASE)
    now = _ring_now(page)
    slot = now // load(page + at.P_FINE_NS)
    for row in range(load(base + at.M_ROWS_USED)):
        _open_row(page, row, slot)
    minute = now // load(page + at.P_SNAPSHOT_NS)
    for histogram in range(load(base + at.M_HISTOGRAMS_USED)):
        _open_histogram(page, histogram, minute)


def open_all(page: int) -> int:
    """Open every row and histogram at the current slot: for speed only, so that readers and requests find it done."""
    _open_all(page)
    return 0


def settle(page: int) -> int:
    """Finish what a dead worker left in the page's block; answers the requests booked as crashed.

    The caller holds the block's lock and has raised its nonce. Rows are opened first, so that crashes are dated now.
    BAD_REDO: the record names words outside the block; nothing was replayed.
    """
    block = _attached_block(page)
    if block == 0:
        return at.NOT_ATTACHED
    _open_all(page)
    pairs = load(block + at.B_REDO)
    if pairs < 0 or pairs > at.REDO_PAIRS:
        return at.BAD_REDO
    for i in range(pairs):
        offset = load(block + at.B_REDO_PAIRS + 16 * i)
        if offset < at.B_LOG_HEAD or offset & 7 != 0 or offset >= load(page + at.P_BLOCK_BYTES):
            return at.BAD_REDO
    if pairs > 0:
        _apply(block, pairs)
    crashed = 0
    for track in range(load(load(page + at.P_BASE) + at.M_TRACKS_USED)):
        word = at.B_TRACKS + 16 * track
        left = load(block + word) - load(block + word + 8)
        if left > 0:
            _commit(page, block, load(page + at.P_TRACKS) + track * at.TRACK_ENTRY, 0, left, word + 8)
            crashed += left
    return crashed


@inner
def _boundary(page: int, row: int, slot: int, opened: int, fine: bool) -> tuple[bool, int, int, int]:
    """Totals at the first boundary at or after `slot` up to `opened`; False: the ring moved on meanwhile.

    A word that lacks its lap at or below `open` means "no event in that slot", so the next boundary has the same totals.
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

    0: counted; 1: `start` is older than the ring, all that it holds was counted; -1: the ring moved on, ask again.
    Order of reads: `open`, the boundary, then blocks used and their cells, so that no difference is ever negative: a
    block that joins in between may be in the boundary already.
    """
    hot = load(page + at.P_ROW_HOT) + row * at.HOT_ENTRY
    fine_ns = load(page + at.P_FINE_NS)
    per_coarse = load(page + at.P_FINE_PER_COARSE)
    opened = load(hot)
    born = load(hot + at.HOT_BIRTH_SLOT)
    slot = start // fine_ns
    current = max(_ring_now(page) // fine_ns, opened)
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
                return -1
        total_good, total_bad, total_excluded = _sum_cells(page, row)
        good = (total_good - good) & at.COUNT_MASK
        bad = (total_bad - bad) & at.COUNT_MASK
        excluded = (total_excluded - excluded) & at.COUNT_MASK
    store(out, good)
    store(out + 8, bad)
    store(out + 16, excluded)
    return clipped


def publish(address: int, word: int) -> int:
    """Store a word with release ordering, for what Python makes off the request path."""
    store(address, word)
    return 0


class Kernels(NamedTuple):
    """Entry points, each taking int64 arguments and answering one; see the functions of the same names."""

    begin: Callable[..., int]
    end: Callable[..., int]
    record: Callable[..., int]
    record_many: Callable[..., int]
    settle: Callable[..., int]
    open_all: Callable[..., int]
    count: Callable[..., int]
    publish: Callable[..., int]


_compiled: list[Kernels] = []
_ARGUMENTS = {begin: 2, end: 4, record: 3, record_many: 2, settle: 1, open_all: 1, count: 3, publish: 2}


def compile_kernels(cache: Path | None = None) -> Kernels:
    """Compile once per process; before a fork where the server preloads, so that children inherit it.

    Compiling takes about 3 s, loading what another process compiled 0.1 s.

    Args:
        cache: a folder that only this user can write; the caller holds a lock on it. None: compile.
    """
    if not _compiled:
        folder = None if cache is None else cache / f"kernels-{_digest()}"
        try:
            _compiled.append(_compile(folder))
        except Exception:
            if folder is None:
                raise
            _compiled.append(_compile(None))  # a cache that cannot be used is not worth an app
    return _compiled[0]


def _compile(cache: Path | None) -> Kernels:
    if cache is not None:
        cache.mkdir(mode=0o700, exist_ok=True)
    return Kernels(**{f.__name__: compile_kernel(f, arguments, cache) for f, arguments in _ARGUMENTS.items()})


def _digest() -> str:
    """numba looks at the file of a kernel alone; here every file that kernels are made of is looked at."""
    digest = hashlib.sha256(versions().encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
