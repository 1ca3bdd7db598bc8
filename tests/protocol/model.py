"""The ring protocol as programs of single loads, stores and compare-and-swaps, so that every order can be tried.

Written from the protocol's description, not from the kernels. One track books on all rows. What one process knows is in
its arguments and local names; all else is a word:

    block{b}.nonce begun ended head        one writer: whoever holds block{b}.lock
    block{b}.row{r}.good|bad|crashed       cells; they only grow
    block{b}.count, to{i}, value{i}        the redo record: pairs of (offset in the block, new value)
    blocks_used, row{r}.open               shared; raised by compare-and-swap
    row{r}.fine{n}.good|bad                boundary words: lap and count; coarse{n} likewise
    begun, row{r}.good|bad.in{slot}        tallies: the truth, that only checks and watchers read

Time is the argument `slot`: a process that is late, or whose clock is ahead, is one that runs in another order.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from .explorer import Await, Broken, Cas, Load, Steps, Store, TryLock, Unlock, program

COUNTER_OF = {"good": "good", "bad": "bad", "crashed": "bad"}
LAP = 1000  # a boundary word is lap * LAP + count; lap 0 was never written


class Rule(Enum):
    """What the protocol leans on. A control leaves one rule out, and the explorer has to find the damage."""

    CLEAR_COUNT = auto()  # count 0 is stored once the values are
    ABSOLUTE_VALUES = auto()  # the record holds new values, not differences
    COUNT_LAST = auto()  # the count is stored after the pairs: it is the commit
    ENDED_LAST = auto()  # `ended` is the last value of a commit
    LOCK = auto()  # nobody settles a block without its lock
    NONCE_FIRST = auto()  # whoever takes a block raises its nonce before anything else
    PAUSE = auto()  # ... and waits until a kernel that did not see the new nonce has returned
    SETTLER_OPENS = auto()  # settling opens the rows at its own now, like any end
    COPY_FIRST = auto()  # boundary words are filled before `open` is raised
    LOOK_AGAIN = auto()  # `open` is read again between the sum and the first boundary word
    BOUNDARY_FIRST = auto()  # a reader reads the boundary before the cells
    COVER_LAST = auto()  # a reader reads blocks_used after the boundary, which may hold a block that has just joined
    FILL_AGAIN = auto()  # an opener whose compare-and-swap failed against an older lap tries again
    KEEP_NEWER_LAP = auto()  # an opener leaves a word alone that already has a newer lap


@dataclass(frozen=True)
class Ring:
    """The geometry of a model, and the rule that it leaves out."""

    blocks: int = 1
    rows: int = 1
    cells: tuple[str, ...] = ("good", "bad", "crashed")
    last_slot: int = 1  # the latest slot that any process takes for now
    fine: int = 8  # fine boundary slots in the ring
    per_coarse: int = 0  # fine slots in a coarse one; 0: the rows have no coarse boundaries
    shared_lock: bool = False  # the lock keeps nobody out: a live worker has lost it
    without: Rule | None = None

    def keeps(self, rule: Rule) -> bool:
        return rule is not self.without

    @property
    def counters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(COUNTER_OF[cell] for cell in self.cells))

    def cells_of(self, counter: str) -> list[str]:
        return [cell for cell in self.cells if COUNTER_OF[cell] == counter]

    def counted(self, block: int) -> list[str]:
        """The words of a block that a commit may name; the offset of a word is its place in this list."""
        cells = [f"block{block}.row{row}.{cell}" for row in range(self.rows) for cell in self.cells]
        return [*cells, f"block{block}.head", f"block{block}.ended"]

    def growing(self) -> list[str]:
        """The words that no store may lower."""
        blocks = range(self.blocks)
        return [word for b in blocks for word in (*self.counted(b), f"block{b}.begun", f"block{b}.nonce")]

    def tally(self, word: str, slot: int) -> str | None:
        """The tally that grows with a word of a block: when an event is added is when it is dated."""
        _block, *row, name = word.split(".")
        return f"{row[0]}.{COUNTER_OF[name]}.in{slot}" if row else None

    def words(self) -> dict[str, int]:
        """All words of a new ring, zero: the rows are born, and open, in slot 0."""
        names = ["blocks_used", "begun"]
        for block in range(self.blocks):
            names += [f"block{block}.{name}" for name in ("lock", "nonce", "inside", "begun", "count")]
            names += self.counted(block)
            names += [f"block{block}.{half}{i}" for i in range(self.rows + 2) for half in ("to", "value")]
        for row in range(self.rows):
            names.append(f"row{row}.open")
            names += [f"row{row}.{counter}.in{s}" for counter in self.counters for s in range(self.last_slot + 1)]
            for slot in range(self.last_slot + 1):
                boundaries = self.boundaries(row, slot, with_coarse=bool(self.per_coarse))
                names += [word for word, _, _ in boundaries if word not in names]
        return dict.fromkeys(names, 0)

    def fine_word(self, row: int, slot: int, counter: str) -> tuple[str, int]:
        """The fine boundary word of the slot, and the lap it has once it is filled."""
        return f"row{row}.fine{slot % self.fine}.{counter}", 1 + slot // self.fine

    def boundaries(self, row: int, slot: int, *, with_coarse: bool) -> list[tuple[str, int, str]]:
        """(word, lap, counter) of every boundary that the slot begins with."""
        words = [(*self.fine_word(row, slot, counter), counter) for counter in self.counters]
        if with_coarse:
            words += [(f"row{row}.coarse{slot // self.per_coarse}.{counter}", 1, counter) for counter in self.counters]
        return words


# --- a commit -------------------------------------------------------------------------------------------------------


def commit(ring: Ring, block: int, additions: Mapping[str, int], slot: int) -> Steps:
    """Adds to several words of the block at once: killed before the count it never happened, after it always did."""
    offsets, pairs = ring.counted(block), []
    for word, n in additions.items():
        before = (yield Load(word)) if ring.keeps(Rule.ABSOLUTE_VALUES) else 0
        pairs.append((offsets.index(word), before + n))
    if not ring.keeps(Rule.COUNT_LAST):
        yield Store(f"block{block}.count", len(pairs))
    for i, (offset, value) in enumerate(pairs):
        yield Store(f"block{block}.to{i}", offset)
        yield Store(f"block{block}.value{i}", value)
    if ring.keeps(Rule.COUNT_LAST):
        yield Store(f"block{block}.count", len(pairs))
    for offset, value in pairs:
        yield from apply(ring, block, offset, value, slot)
    if ring.keeps(Rule.CLEAR_COUNT):
        yield Store(f"block{block}.count", 0)


def apply(ring: Ring, block: int, offset: int, value: int, slot: int) -> Steps:
    """Stores one value of the record."""
    word = ring.counted(block)[offset]
    if not ring.keeps(Rule.ABSOLUTE_VALUES):
        value += yield Load(word)
    yield Store(word, value, ring.tally(word, slot))


def replay(ring: Ring, block: int, slot: int) -> Steps:
    """Completes the commit of a dead writer, if there is one; doing it twice changes nothing."""
    count = yield Load(f"block{block}.count")
    for i in range(count):
        offset = yield Load(f"block{block}.to{i}")
        value = yield Load(f"block{block}.value{i}")
        yield from apply(ring, block, offset, value, slot)
    if count and ring.keeps(Rule.CLEAR_COUNT):
        yield Store(f"block{block}.count", 0)


# --- a worker: attach, then begin and end ---------------------------------------------------------------------------


def worker(ring: Ring, slot: int, endings: tuple[str, ...]) -> Steps:
    """Attaches to the first free block, settles what its last owner left, and serves one request per ending."""
    for block in range(ring.blocks):
        if (yield TryLock(f"block{block}.lock")):
            nonce = yield from take_over(ring, block, slot)
            return program(serve, ring, block, nonce, slot, endings)
    return None


def serve(ring: Ring, block: int, nonce: int, slot: int, endings: tuple[str, ...]) -> Steps:
    """A worker that is attached: begins and ends one request after the other, until the block is no longer its own."""
    if not endings:
        return None
    if not (yield from guarded(ring, block, nonce, begin(block))):
        return None
    return program(finish, ring, block, nonce, slot, endings)


def finish(ring: Ring, block: int, nonce: int, slot: int, endings: tuple[str, ...]) -> Steps:
    """The second half of a request."""
    if not (yield from guarded(ring, block, nonce, end(ring, block, slot, endings[0]))):
        return None
    return program(serve, ring, block, nonce, slot, endings[1:])


def guarded(ring: Ring, block: int, nonce: int, kernel: Steps) -> Generator[Any, Any, bool]:
    """One compiled call: does nothing, and says so, if the block's nonce is not the one on the private page."""
    if ring.shared_lock:
        yield Store(f"block{block}.inside", 1)
    own: bool = (yield Load(f"block{block}.nonce")) == nonce
    if own:
        yield from kernel
    if ring.shared_lock:
        yield Store(f"block{block}.inside", 0)
    return own


def begin(block: int) -> Steps:
    """One more request in flight."""
    before = yield Load(f"block{block}.begun")
    yield Store(f"block{block}.begun", before + 1, tally="begun")


def end(ring: Ring, block: int, slot: int, ending: str) -> Steps:
    """One cell of every row, the head of the loss log if the request was bad, `ended`: one commit."""
    yield from open_rows(ring, slot)
    additions = {f"block{block}.row{row}.{ending}": 1 for row in range(ring.rows)}
    if ending == "bad":
        additions[f"block{block}.head"] = 1
    ended = {f"block{block}.ended": 1}
    additions = additions | ended if ring.keeps(Rule.ENDED_LAST) else ended | additions
    yield from commit(ring, block, additions, slot)


# --- settling -------------------------------------------------------------------------------------------------------


def leader(ring: Ring, slot: int) -> Steps:
    """Settles every block that nobody holds. (The real one looks at its words first, only to save work.)"""
    for block in range(ring.blocks):
        locking = ring.keeps(Rule.LOCK) and not ring.shared_lock
        if not locking or (yield TryLock(f"block{block}.lock")):
            yield from take_over(ring, block, slot)
            if locking:
                yield Unlock(f"block{block}.lock")


def take_over(ring: Ring, block: int, slot: int) -> Generator[Any, Any, int]:
    """What everyone does who has just got a block's lock; settling is an end, with k requests instead of one."""
    nonce: int = (yield Load(f"block{block}.nonce")) + 1
    if ring.keeps(Rule.NONCE_FIRST):
        yield Store(f"block{block}.nonce", nonce)
    if ring.shared_lock and ring.keeps(Rule.PAUSE):
        yield Await(f"block{block}.inside", 0)
    yield from raise_to("blocks_used", block + 1)
    if ring.keeps(Rule.SETTLER_OPENS):
        yield from open_rows(ring, slot)
    yield from replay(ring, block, slot)
    lost = (yield Load(f"block{block}.begun")) - (yield Load(f"block{block}.ended"))
    if lost > 0:
        crashed = {f"block{block}.row{row}.crashed": lost for row in range(ring.rows)}
        yield from commit(ring, block, crashed | {f"block{block}.ended": lost}, slot)
    if not ring.keeps(Rule.NONCE_FIRST):
        yield Store(f"block{block}.nonce", nonce)
    return nonce


# --- boundaries -----------------------------------------------------------------------------------------------------


def open_rows(ring: Ring, slot: int) -> Steps:
    """Opens the slot in every row; the leader's tick is this and nothing else."""
    for row in range(ring.rows):
        yield from open_row(ring, row, slot)


def open_row(ring: Ring, row: int, slot: int) -> Steps:
    """Fills the boundary of the slot, then publishes it. Anyone, any number at once; nobody owns it."""
    is_open = yield Load(f"row{row}.open")
    if is_open >= slot:
        return
    if not ring.keeps(Rule.COPY_FIRST):
        yield from raise_to(f"row{row}.open", slot)
    turns = ring.per_coarse and is_open // ring.per_coarse < slot // ring.per_coarse
    found = []
    for word, lap, counter in ring.boundaries(row, slot, with_coarse=bool(turns)):
        found.append((word, lap, counter, (yield Load(word))))
    sums = yield from totals(ring, row)
    if ring.keeps(Rule.LOOK_AGAIN) and ring.keeps(Rule.COPY_FIRST) and (yield Load(f"row{row}.open")) >= slot:
        return
    for word, lap, counter, before in found:
        yield from fill(ring, word, before, lap, sums[counter])
    yield from raise_to(f"row{row}.open", slot)


def fill(ring: Ring, word: str, before: int, lap: int, total: int) -> Steps:
    """Puts the boundary in, unless the word has its lap or a newer one. Only an opener that slept for a whole ring can
    be beaten to it by an older lap, or find a newer one."""
    while before // LAP < lap if ring.keeps(Rule.KEEP_NEWER_LAP) else before // LAP != lap:
        if (yield Cas(word, before, lap * LAP + total)) or not ring.keeps(Rule.FILL_AGAIN):
            return
        before = yield Load(word)


def totals(ring: Ring, row: int, used: int | None = None) -> Generator[Any, Any, dict[str, int]]:
    """The row's counters, each cell read once; `used` if blocks_used has been read before."""
    if used is None:
        used = yield from covered(ring)
    sums = dict.fromkeys(ring.counters, 0)
    for block in range(used):
        for cell in ring.cells:
            sums[COUNTER_OF[cell]] += yield Load(f"block{block}.row{row}.{cell}")
    return sums


def covered(ring: Ring) -> Generator[Any, Any, int]:
    """How many blocks a sum goes over."""
    used: int = yield Load("blocks_used")
    return used


def raise_to(word: str, value: int) -> Steps:
    """Raises the word to the value unless somebody has raised it as far."""
    while (seen := (yield Load(word))) < value:
        if (yield Cas(word, seen, value)):
            return


# --- readers --------------------------------------------------------------------------------------------------------


def count(ring: Ring, row: int, since: int) -> Generator[Any, Any, dict[str, int] | None]:
    """The row's counters over [since, now); None if the ring has moved on and the reader has to start again."""
    used = None if ring.keeps(Rule.COVER_LAST) else (yield from covered(ring))
    sums = None if ring.keeps(Rule.BOUNDARY_FIRST) else (yield from totals(ring, row, used))
    is_open = yield Load(f"row{row}.open")
    if since > is_open:
        return dict.fromkeys(ring.counters, 0)
    before = dict.fromkeys(ring.counters, 0)  # since <= 0, the row's birth: everything
    if since > 0:
        for counter in ring.counters:
            boundary = yield from boundary_word(ring, row, since, is_open, counter)
            if boundary is None:
                return None
            before[counter] = boundary
    if sums is None:
        sums = yield from totals(ring, row, used)
    return {counter: sums[counter] - before[counter] for counter in ring.counters}


def boundary_word(ring: Ring, row: int, since: int, is_open: int, counter: str) -> Generator[Any, Any, int | None]:
    """The count at the first boundary from `since` to `is_open`: a word without its lap means that nothing was added in
    that slot. None if a newer lap has taken the word."""
    for slot in range(since, is_open + 1):
        word, lap = ring.fine_word(row, slot, counter)
        seen: int = yield Load(word)
        if seen // LAP == lap:
            return seen % LAP
        if seen // LAP > lap:
            return None
    raise Broken(f"row{row} is open at {is_open} and has no boundary from {since} on")


def watcher(ring: Ring, row: int, since: int) -> Steps:
    """A live reader of [since, now): whatever had been added there when it began is in its answer, and nothing is
    negative."""
    added = dict.fromkeys(ring.counters, 0)
    for counter in ring.counters:
        for slot in range(since, ring.last_slot + 1):
            added[counter] += yield Load(f"row{row}.{counter}.in{slot}")
    answer = yield from count(ring, row, since)
    if answer and any(answer[counter] < added[counter] for counter in ring.counters):
        raise Broken(f"the window from slot {since} holds {answer}, of {added}")


def auditor(ring: Ring, row: int, block: int) -> Steps:
    """A live reader of one block: ended <= the row's total <= begun, when they are read in this order."""
    ended = yield Load(f"block{block}.ended")
    total = 0
    for cell in ring.cells:
        total += yield Load(f"block{block}.row{row}.{cell}")
    begun = yield Load(f"block{block}.begun")
    if not ended <= total <= begun:
        raise Broken(f"ended {ended}, total {total}, begun {begun}")
