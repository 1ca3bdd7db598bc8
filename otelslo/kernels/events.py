"""Events: begun, ended or recorded, each by one commit into this process's block; and what a dead worker left, settled.

A request that touches several objectives, a histogram, the loss log and the in-flight count is one commit: the new
values go into the redo record, one store commits, then they are applied.
"""

from __future__ import annotations

from otelslo.kernels import bounds as b
from otelslo.kernels import layout as at
from otelslo.kernels.buckets import word_of
from otelslo.kernels.page import attached_block, duration_now, ring_now
from otelslo.kernels.slots import open_histogram, open_row, open_rows
from otelslo.kernels.words import inner, load, store


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
def apply(block: int, pairs: int) -> None:
    # By address and not by number: LLVM 14 and 15 (numba below 0.62) unroll a counted loop here and run past its end
    # when there is a single pair.
    pair = block + at.B_REDO_PAIRS
    end_of_pairs = pair + 16 * pairs
    while pair < end_of_pairs:
        store(block + load(pair), load(pair + 8))
        pair += 16
    store(block + at.B_REDO, 0)


@inner
def commit(page: int, block: int, plan: int, latency: int, count: int, ended: int) -> int:
    """Count `count` events by one commit: the pairs, then their number (this store is the commit), then the values.

    `ended` is the offset of the track's ended word, or 0. A kill before the number: nothing happened. After: whoever
    settles the block stores the values again, which is harmless since nobody else writes it. Answers 0, or,
    if the event was bad in some rows, the loss log's new head and the number of its new records: head << 8 | records.
    """
    now = ring_now(page)
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
            open_row(page, row, slot)
        if at.FIRST_BAD <= cell < at.FIRST_EXCLUDED:
            _log(page, block, head + logged, row, cell, now, latency, count, plan)
            logged += 1
        k = _pair(block, k, cells + row * at.ROW_CELLS_BYTES + cell * 8, count)
    histogram = load(plan + at.PLAN_HISTOGRAM)
    if histogram >= 0:
        minute = now // load(page + at.P_SNAPSHOT_NS)
        if load(load(page + at.P_HISTOGRAM_HOT) + histogram * at.HOT_ENTRY) < minute:
            open_histogram(page, histogram, minute)
        words = load(page + at.P_HISTOGRAMS) + histogram * (b.WORDS * 8)
        k = _pair(block, k, words + 8 * word_of(latency), count)
        k = _pair(block, k, words + 8 * b.SUM, ((latency + 512) >> b.SUM_SHIFT) * count)
    if logged > 0:
        k = _pair(block, k, at.B_LOG_HEAD, logged)
    if ended != 0:
        k = _pair(block, k, ended, count)
    store(block + at.B_REDO, k)
    apply(block, k)
    return ((head + logged) << 8) | logged if logged > 0 else 0


def begin(page: int, track: int) -> int:
    """One request of `track` has begun: its token (the duration clock, > 0), or 0 where the process is not attached."""
    block = attached_block(page)
    if block == 0:
        return 0
    begun = block + at.B_TRACKS + 16 * track
    store(begun, load(begun) + 1)
    return duration_now(page)  # type: ignore[no-any-return]


def end(page: int, track: int, token: int, plan: int) -> int:
    """The request of `token` has ended as `plan` says. NOT_ATTACHED for a token older than the attach: do nothing."""
    block = attached_block(page)
    if block == 0 or token < load(page + at.P_ATTACHED):
        return at.NOT_ATTACHED
    latency = duration_now(page) - token
    if latency < 0:
        latency = 0
    return commit(page, block, plan, latency, 1, at.B_TRACKS + 16 * track + 8)  # type: ignore[no-any-return]


def record(page: int, plan: int, latency: int) -> int:
    """One event of known latency (ns, 0 to 2**62), begun and ended in one commit."""
    block = attached_block(page)
    if block == 0:
        return at.NOT_ATTACHED
    if latency < 0 or latency > 1 << 62:
        return at.BAD_LATENCY
    return commit(page, block, plan, latency, 1, 0)  # type: ignore[no-any-return]


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
            store(words, load(words) + ((latency + 512) >> b.SUM_SHIFT))
    return refused


def record_many(page: int, batch: int) -> int:
    """A batch by one commit; answers the events refused. `batch`: number, addresses of int8 outcomes (8-byte aligned,
    padded to 8) and int64 latencies, then the plans of good, bad and excluded, which name the same rows in order.

    With 0 for the outcomes' address they are all alike: number, 0, their latency, their one plan, and the token of the
    request that they belong to, as in `end`.
    """
    block = attached_block(page)
    if block == 0:
        return at.NOT_ATTACHED
    if load(batch + 8) == 0:
        if load(batch + 32) < load(page + at.P_ATTACHED):
            return at.NOT_ATTACHED
        commit(page, block, load(batch + 24), load(batch + 16), load(batch), 0)
        return 0
    cells = page + at.P_BATCH_CELLS
    plan = load(batch + 24)
    rows = load(plan)
    histogram = load(plan + at.PLAN_HISTOGRAM)
    for i in range(rows * at.CELLS + b.WORDS):
        store(cells + 8 * i, 0)
    refused = _tally(batch, cells, rows, histogram)
    now = ring_now(page)
    slot = now // load(page + at.P_FINE_NS)
    head = load(block + at.B_LOG_HEAD)
    logged = 0
    k = 0
    for i in range(rows):
        row = load(plan + at.PLAN_HEAD + i * at.PLAN_ROW)
        open_row(page, row, slot)
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
        open_histogram(page, histogram, now // load(page + at.P_SNAPSHOT_NS))
        words = load(page + at.P_HISTOGRAMS) + histogram * (b.WORDS * 8)
        for i in range(b.USED_WORDS):
            count = load(cells + rows * at.ROW_CELLS_BYTES + 8 * i)
            if count != 0:
                k = _pair(block, k, words + 8 * i, count)
    if logged > 0:
        k = _pair(block, k, at.B_LOG_HEAD, logged)
    store(block + at.B_REDO, k)
    apply(block, k)
    return refused  # type: ignore[no-any-return]


def add(page: int, adds: int) -> int:
    """Counts into cells by one commit, dated now, with no loss records. `adds`: how many, then the row, the cell and
    the count of each; no cell twice, since each pair of the redo record holds a new value and not a difference."""
    block = attached_block(page)
    if block == 0:
        return at.NOT_ATTACHED
    pairs = load(adds)
    if pairs < 0 or pairs > at.REDO_PAIRS:
        return at.TOO_LARGE
    slot = ring_now(page) // load(page + at.P_FINE_NS)
    hot = load(page + at.P_ROW_HOT)
    cells = load(page + at.P_CELLS)
    k = 0
    for i in range(pairs):
        one = adds + 8 + i * at.ADD
        row = load(one)
        if load(hot + row * at.HOT_ENTRY) < slot:
            open_row(page, row, slot)
        k = _pair(block, k, cells + row * at.ROW_CELLS_BYTES + load(one + 8) * 8, load(one + 16))
    store(block + at.B_REDO, k)
    apply(block, k)
    return 0


@inner
def _books_inside(base: int, plan: int) -> bool:
    """Whether the plan of a track names only rows, cells and a histogram that there are."""
    rows = load(plan + at.PLAN_ROWS)
    histogram = load(plan + at.PLAN_HISTOGRAM)
    if rows < 0 or rows > at.MAX_PLAN_ROWS or histogram < -1 or histogram >= load(base + at.M_HISTOGRAMS_USED):
        return False
    for i in range(rows):
        entry = plan + at.PLAN_HEAD + i * at.PLAN_ROW
        row = load(entry)
        within = load(entry + 16)
        beyond = load(entry + 24)
        if row < 0 or row >= load(base + at.M_ROWS_USED):
            return False
        if within < 0 or within >= at.CELLS or beyond < 0 or beyond >= at.CELLS:
            return False
    return True


@inner
def _left(block: int, track: int) -> int:
    """Requests of a track that had begun and not ended."""
    word = block + at.B_TRACKS + 16 * track
    return load(word) - load(word + 8)  # type: ignore[no-any-return]


def settle(page: int) -> int:
    """Finish what a dead worker left in the page's block; answers the requests booked as crashed.

    The caller holds the block's lock and has raised its nonce. Rows are opened first, so that crashes are dated now.
    BAD_REDO: the record names words outside the block, and nothing was replayed; or what a crash is booked by names
    rows that there are not, and no crash was booked.
    """
    block = attached_block(page)
    if block == 0:
        return at.NOT_ATTACHED
    open_rows(page)
    pairs = load(block + at.B_REDO)
    if pairs < 0 or pairs > at.REDO_PAIRS:
        return at.BAD_REDO
    for i in range(pairs):
        offset = load(block + at.B_REDO_PAIRS + 16 * i)
        if offset < at.B_LOG_HEAD or offset & 7 != 0 or offset >= load(page + at.P_BLOCK_BYTES):
            return at.BAD_REDO
    if pairs > 0:
        apply(block, pairs)
    base = load(page + at.P_BASE)
    tracks = load(base + at.M_TRACKS_USED)
    for track in range(tracks):
        if _left(block, track) > 0 and not _books_inside(base, load(page + at.P_TRACKS) + track * at.TRACK_ENTRY):
            return at.BAD_REDO
    crashed = 0
    for track in range(tracks):
        left = _left(block, track)
        if left > 0:
            plan = load(page + at.P_TRACKS) + track * at.TRACK_ENTRY
            commit(page, block, plan, 0, left, at.B_TRACKS + 16 * track + 8)
            crashed += left
    return crashed
