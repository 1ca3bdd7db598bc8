"""A ring under attack: a victim is stopped or killed at its n-th shared store while another worker looks and goes on.

`every_store` moves n from 1 until the victim's operation ends before n, and checks after each: every row's total is
what had begun, the loss log holds every bad event, windows lie where the events are.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from otelslo.clock import ManualClock
from otelslo.kernels import layout as at
from otelslo.kernels.bounds import USED_WORDS, ZERO

from . import faults
from .small_rings import BAD, SLOT_NS, START_NS, THRESHOLD_NS, Worker, forget, scratch

SLOW_NS = THRESHOLD_NS + 1
EARLIER = 40  # requests before the attack: an answer that forgets its boundary is off by more than what is in flight
BINS = ((14, 2), (15, 4))  # cells that nothing else counts in, and how much is added to each
BATCH = ([0, 1, 2, 0, 1], [5, 5, 5, SLOW_NS, 7_000])  # good, bad, excluded, slow, bad


class Victim(Worker):
    """A worker with two requests behind it and one in flight."""

    def prepare(self) -> None:
        for _ in range(2):
            self.end(self.begin(), self.good)
        self.token = self.begin()


def begin(victim: Victim) -> None:
    victim.begin()


def end_good(victim: Victim) -> None:
    victim.end(victim.token, victim.good)


def end_bad(victim: Victim) -> None:
    victim.end(victim.token, victim.bad)


def request(victim: Victim) -> None:
    victim.end(victim.begin(), victim.bad)


def batch(victim: Victim) -> None:
    victim.record_many([victim.good, victim.bad, victim.excluded], *BATCH)


def batch_of_one_call(victim: Victim) -> None:
    """A call of six items: five alike, then its end."""
    assert victim.record_alike(victim.bad, len(BATCH[0]), 5, victim.token) == 0
    victim.end(victim.token, victim.bad)


def add(victim: Victim) -> None:
    victim.add([(row, cell, count) for row in victim.rows for cell, count in BINS])


def open_all(victim: Victim) -> None:
    victim.kernels.open_all(victim.page)


def new_row(victim: Victim) -> None:
    names, now_ns = victim.ring.directory, victim.clock.ring_ns()
    for i in range(20):  # the 17th needs a new extent
        names.row(f"another row {i}", now_ns)


def new_names(victim: Victim) -> None:
    names, now_ns = victim.ring.directory, victim.clock.ring_ns()
    names.histogram("another histogram", now_ns)
    names.track("another track", [1, -1, 0, 0, 0, 0, victim.rows[0], at.NO_THRESHOLD, BAD, BAD])
    names.intern("a text")


def attach(victim: Victim) -> None:
    """Adopt what a dead worker left: the victim itself detaches with a request in flight and takes a block again."""
    victim.ring.blocks.detach()
    victim.attach()


def settle(victim: Victim) -> None:
    victim.ring.blocks.settle_dead()


def attach_new(victim: Victim) -> None:
    """Make a block that nobody had: three in-process workers have taken those that are there."""
    for _ in range(3):
        Worker(victim.directory, victim.clock, rows=len(victim.rows))


OPERATIONS: dict[str, Callable[[Victim], None]] = {
    f.__name__: f
    for f in (
        *(begin, end_good, end_bad, request, batch, batch_of_one_call, add, open_all, new_row, new_names),
        *(attach, settle, attach_new),
    )
}


class Scene:
    """The ring of one attack and the worker that outlives it."""

    def __init__(self, directory: Path, rows: int) -> None:
        self.directory = directory
        self.clock = ManualClock(START_NS)
        self.rows = rows
        self.other = Worker(directory, self.clock, rows=rows)
        self.own: list[int] = []  # slots in which `other` counted a request

    def victim(self) -> Victim:
        victim = Victim(self.directory, ManualClock(self.clock.ring_ns()), rows=self.rows)
        victim.directory = self.directory
        return victim

    def count_one(self) -> None:
        self.other.end(self.other.begin(), self.other.good)
        self.own.append(self.clock.ring_ns() // SLOT_NS)

    def advance(self, slots: int) -> None:
        self.other.advance(slots * SLOT_NS)

    def leave_a_corpse(self, store: int) -> None:
        """A worker that dies at this store of a request's end, with two more in flight."""

        def live() -> None:
            victim = self.victim()
            victim.prepare()
            victim.begin()
            faults.arm(store, signal.SIGKILL)
            end_bad(victim)

        wait_for(fork(live))


def fork(live: Callable[[], None]) -> int:
    """A child that does `live` and exits 0; 1 with a traceback if it raises."""
    pid = os.fork()
    if pid == 0:
        try:
            live()
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return pid


def wait_for(pid: int) -> int:
    """The child's exit code, or minus the signal that killed or stopped it."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return -os.WSTOPSIG(status)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"a child ended by {code}"
    return code


def every_store(operation: str, fault: int, rows: int, turn: int, skip: int, sleep_slots: int) -> dict[str, int]:
    """Attack an operation at each of its stores.

    Args:
        fault: SIGKILL or SIGSTOP.
        turn: slots by which time has moved before the operation.
        skip: slots that then pass without anybody's event, so that nobody else opens the victim's slot.
        sleep_slots: slots that pass, with a request in each of the first three, before the victim wakes or is settled.
    """
    store = 0
    while True:
        store += 1
        with scratch() as directory:
            scene = Scene(directory, rows)
            try:
                came = attack(scene, OPERATIONS[operation], store, fault, turn, skip, sleep_slots)
                check(scene)
            except BaseException as e:
                raise AssertionError(f"{operation}, store {store}: {e}") from e
            finally:
                forget(scene.other.ring)
        if not came:
            return {"stores": store - 1}


def attack(
    scene: Scene, operate: Callable[[Victim], None], store: int, fault: int, turn: int, skip: int, sleep_slots: int
) -> bool:
    for _ in range(EARLIER):
        scene.count_one()

    def live() -> None:
        victim = scene.victim()
        victim.prepare()
        victim.advance(turn * SLOT_NS)
        if operate is settle:
            scene.leave_a_corpse(1 + store % 60)
        faults.arm(store, fault)
        operate(victim)
        if faults.disarm() and fault == signal.SIGSTOP:
            os._exit(0)

    pid = fork(live)
    code = wait_for(pid)
    scene.advance(turn + skip)
    for _ in range(min(3, sleep_slots)):
        scene.count_one()
        look(scene)
        scene.advance(1)
    scene.advance(max(0, sleep_slots - 3))
    scene.count_one()
    look(scene)
    if code == -signal.SIGSTOP:
        os.kill(pid, signal.SIGCONT)
        assert wait_for(pid) == 0
    return code != 0


def look(scene: Scene) -> None:
    """What a reader sees at any moment: nothing negative, nothing above what has begun, both readers alike."""
    other = scene.other
    for row in other.rows:
        for slot in starts(scene) if row == other.rows[0] else (START_NS // SLOT_NS + 1, START_NS // SLOT_NS + 5):
            by_kernel = other.count(row, slot * SLOT_NS)
            assert by_kernel == other.window(row, slot * SLOT_NS), f"row {row} from slot {slot}: {by_kernel}"
            floor = floored(scene, slot)
            own = sum(of >= floor for of in scene.own)
            begun = other.ring.reader.begun()
            assert own <= sum(by_kernel), f"row {row} from slot {slot}: {by_kernel} of {own} of our own"
            most = own + begun - len(scene.own) + 2 * len(BATCH[0])
            assert sum(by_kernel) <= most, f"row {row} from slot {slot}: {by_kernel}, at most {most}"
    look_at_latencies(scene)


def look_at_latencies(scene: Scene) -> None:
    other = scene.other
    reader, g, now_ns = other.ring.reader, other.ring.geometry, other.clock.ring_ns()
    for back in range(g.snapshots):
        start_ns = now_ns - back * g.snapshot_ns
        words = reader.histogram_since(other.histogram, start_ns, now_ns)
        floor = max(start_ns // g.snapshot_ns, now_ns // g.snapshot_ns - g.snapshots + 2) * g.snapshot_ns // SLOT_NS
        own = sum(of >= floor for of in scene.own)
        seen = sum(words[ZERO:USED_WORDS])
        most = own + reader.begun() - len(scene.own) + 2 * len(BATCH[0])
        assert own <= seen <= most, f"latencies of the last {back} snapshots: {seen}, not from {own} to {most}"


def starts(scene: Scene) -> set[int]:
    now, then = scene.clock.ring_ns() // SLOT_NS, START_NS // SLOT_NS
    near = {then - 1, then, then + 1, then + 2, then + 3, then + 4, then + 8, now - 63, now - 62, now - 5, now - 1}
    return {slot for slot in near | {now, now + 1} if slot <= now + 1}


def floored(scene: Scene, slot: int) -> int:
    """The slot from which a window of this start is answered: its own, or the first of its coarse one."""
    g = scene.other.ring.geometry
    now = scene.clock.ring_ns() // SLOT_NS
    if now - slot < g.fine_slots - 1:
        return slot
    oldest = now // g.fine_per_coarse - g.coarse_slots + 2
    return max(slot // g.fine_per_coarse, oldest) * g.fine_per_coarse


def check(scene: Scene) -> None:
    """Once settled: begun = ended + crashed exactly, in every row, the log and the histogram."""
    other = scene.other
    scene.advance(2)  # rows are idle when the dead are settled
    settle_now(other)
    fresh = Worker(scene.directory, scene.clock, rows=scene.rows)
    fresh.end(fresh.begin(), fresh.bad)
    reader = other.ring.reader
    assert reader.in_flight() == 0
    begun = reader.begun()
    totals = [reader.cells(row) for row in other.rows]
    assert all(cells == totals[0] for cells in totals), f"rows differ: {totals}"
    assert min(totals[0]) >= 0
    binned = [totals[0][cell] for cell, _ in BINS]
    assert binned in ([0, 0], [count for _, count in BINS]), f"a part of what was added at once: {totals[0]}"
    extra = sum(totals[0]) - sum(binned) - begun
    assert extra in (0, len(BATCH[0])), f"{begun} begun, {totals[0]} counted"
    words = reader.histogram(other.histogram)
    crashed = totals[0][2]
    assert sum(words[ZERO:USED_WORDS]) == sum(totals[0]) - crashed - sum(binned), "the histogram differs"
    check_log(scene, sum(totals[0][at.FIRST_BAD : at.FIRST_EXCLUDED]))
    look(scene)
    check_blocks(scene)
    forget(fresh.ring)


def settle_now(other: Worker) -> None:
    """What settling adds, replayed or booked as crashed, is dated when it was settled."""
    now_ns, reader = other.clock.ring_ns(), other.ring.reader
    before = [(reader.counts(row).total, sum(other.count(row, now_ns))) for row in other.rows]
    other.ring.blocks.settle_dead()
    for row, (total, latest) in zip(other.rows, before, strict=True):
        added = reader.counts(row).total - total
        assert sum(other.count(row, now_ns)) - latest == added, f"{added} settled in row {row}, dated before"


def check_log(scene: Scene, bad: int) -> None:
    reader = scene.other.ring.reader
    losses = [loss for block in range(reader.blocks) for loss in reader.losses(block)[0]]
    assert len(losses) == sum(reader.loss_heads()), "a loss record is damaged"
    for row in scene.other.rows:
        assert sum(loss.count for loss in losses if loss.row == row) == bad, f"{bad} bad, log {losses}"


def check_blocks(scene: Scene) -> None:
    blocks = scene.other.ring.blocks
    for index in range(scene.other.ring.reader.blocks):
        assert blocks._word(index, at.B_REDO) == 0
        assert blocks._word(index, at.B_OUT_OF_USE) == 0
