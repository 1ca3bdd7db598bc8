"""A worker's block: found and locked at attach, settled after its death, adopted by the next worker.

Whoever takes a block first raises its nonce and waits a moment, so that a process that lost the lock without knowing
stops writing; then it finishes what the last owner left: a half-applied commit, and the requests in flight, which are
booked as crashed. The private page is filled last.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otelslo.clock import Clock, duration_ns, time_namespace_offset_ns
from otelslo.errors import CapacityError
from otelslo.kernels import layout as at
from otelslo.ring.directory import Directory
from otelslo.ring.geometry import Header
from otelslo.ring.liveness import is_held
from otelslo.ring.locks import FileLock, MakingLock
from otelslo.ring.memory import Memory, PrivatePage

if TYPE_CHECKING:
    from otelslo.kernels.ring import Kernels

_NONCE_PAUSE_S = 0.001  # a kernel call that passed the nonce check is over by then


@dataclass(frozen=True, slots=True)
class Settled:
    """What was done for a dead worker: its block, its pid (for display), requests booked as crashed.

    `damaged`: its redo record names words outside the block; the block counts on but is out of use from now on.
    """

    block: int
    pid: int
    crashed: int
    damaged: bool = False


class Blocks:
    """The worker blocks of one ring as this process sees them.

    Args:
        locks: the folder of lock files; None where the ring is this process's private memory.
    """

    def __init__(
        self,
        memory: Memory,
        header: Header,
        kernels: Kernels,
        directory: Directory,
        making: MakingLock,
        locks: Path | None,
        clock: Clock,
    ) -> None:
        self._memory = memory
        self._header = header
        self._kernels = kernels
        self._directory = directory
        self._making = making
        self._locks = locks
        self._clock = clock
        self.page = PrivatePage(at.PRIVATE_BYTES)
        self._settling = PrivatePage(at.PRIVATE_BYTES)
        self._lock: FileLock | None = None
        self._attaching = threading.RLock()
        self.index: int | None = None
        self.is_agent = False  # this process serves nothing, see `attended`; to be said before it attaches
        _live.add(self)

    @property
    def attached(self) -> bool:
        return bool(self.page.words[at.P_BLOCK // 8])

    def attach(self) -> Settled | None:
        """Get a block for this process, or keep the one it has; what the last owner had left in it.

        Raises:
            CapacityError: every block is taken.
            StateError: no room on the disk for a new block.
        """
        with self._attaching:
            if self.attached and self._nonce_is_ours():
                return None
            self._release()
            for index, lock in self._free():
                settled = self._settle(index)
                if settled.damaged:
                    if lock is not None:
                        lock.release()
                    continue
                self._lock = lock
                self.index = index
                self._fill(self.page, index)
                return settled
            raise CapacityError(f"all {self._header.geometry.max_blocks} worker blocks of the ring are taken")

    def detach(self) -> None:
        """Give the block back; requests still in flight are booked as crashed by the next owner."""
        with self._attaching:
            self._release()

    def settle_dead(self) -> list[Settled]:
        """Finish the blocks of dead workers that left something; the leader does this each second."""
        done = []
        with self._attaching:  # a thread that attaches settles through the same private page
            for index in range(self._memory.words[at.M_BLOCKS_USED // 8]):
                if index == self.index or not self._left_something(index):
                    continue
                lock = self._try(index)
                if lock is None:
                    continue
                try:
                    done.append(self._settle(index))
                finally:
                    lock.release()
        return done

    def attended(self) -> bool:
        """Whether any process that may serve something has a block now; an agent, which only leads, is none."""
        if self.attached and not self.is_agent:
            return True
        used = range(self._memory.words[at.M_BLOCKS_USED // 8])
        return self._locks is not None and any(self._is_served(index) for index in used if index != self.index)

    def _is_served(self, index: int) -> bool:
        assert self._locks is not None
        if self._word(index, at.B_AGENT) or self._word(index, at.B_OUT_OF_USE):
            return False
        held = is_held(self._locks / f"block-{index:03d}")
        if held is None:  # nobody can tell: look as the next worker would
            lock = self._try(index)
            if lock is not None:
                lock.release()
            held = lock is None
        return held

    def advance_manual_clock(self) -> None:
        """Show the kernels the manual clock's new time."""
        if self._clock.manual:
            for page in (self.page, self._settling):
                page.words[at.P_NOW // 8] = self._clock.ring_ns()

    # ── taking ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _free(self) -> Iterator[tuple[int, FileLock | None]]:
        """Blocks that are nobody's, locked, in order; in private memory there is nobody else to lock out."""
        for index in range(self._header.geometry.max_blocks):
            lock = None
            if self._locks is not None:
                lock = self._try(index)
                if lock is None:
                    continue
            try:
                self._ensure(index)
            except BaseException:
                if lock is not None:
                    lock.release()
                raise
            if self._word(index, at.B_OUT_OF_USE) == 0:
                yield index, lock
            elif lock is not None:
                lock.release()

    def _try(self, index: int) -> FileLock | None:
        assert self._locks is not None
        lock = FileLock(self._locks / f"block-{index:03d}")
        return lock if lock.acquire(wait=False) else None

    def _ensure(self, index: int) -> None:
        """Reserve the block, and those before it: a count of blocks used must not cover one that has no place yet.

        Whoever holds the lock of an earlier one may not have come so far.
        """
        g = self._header.geometry
        with self._making:
            for i in range(index + 1):
                offset = self._directory.extent(g.block_table, i, g.block_bytes)
        self._memory.populate(offset, g.block_bytes)

    def _settle(self, index: int) -> Settled:
        """Nonce, pause, cover the block, replay and book; the caller holds the lock."""
        self._put(index, at.B_NONCE, self._word(index, at.B_NONCE) + 1)
        if self._locks is not None:
            time.sleep(_NONCE_PAUSE_S)
        with self._making:
            if self._memory.words[at.M_BLOCKS_USED // 8] <= index:
                self._kernels.publish(self._memory.base + at.M_BLOCKS_USED, index + 1)
        self._fill(self._settling, index)
        crashed = self._kernels.settle(self._settling.address)
        self._settling.words[at.P_BLOCK // 8] = 0
        damaged = crashed == at.BAD_REDO
        if damaged:
            self._put(index, at.B_OUT_OF_USE, 1)
        return Settled(index, self._word(index, at.B_PID), max(0, crashed), damaged)

    def _left_something(self, index: int) -> bool:
        if self._word(index, at.B_OUT_OF_USE):
            return False
        tracks = self._memory.words[at.M_TRACKS_USED // 8]
        start = (self._offset(index) + at.B_TRACKS) // 8
        begun_ended = self._memory.words[start : start + 2 * tracks].tolist()
        return self._word(index, at.B_REDO) != 0 or begun_ended[0::2] != begun_ended[1::2]

    def _release(self) -> None:
        self.page.words[at.P_BLOCK // 8] = 0
        self.index = None
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _nonce_is_ours(self) -> bool:
        assert self.index is not None
        return self._word(self.index, at.B_NONCE) == self.page.words[at.P_NONCE // 8]

    # ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _offset(self, index: int) -> int:
        return self._memory.words[self._header.geometry.block_table // 8 + index]

    def _word(self, index: int, offset: int) -> int:
        return self._memory.words[(self._offset(index) + offset) // 8]

    def _put(self, index: int, offset: int, word: int) -> None:
        self._kernels.publish(self._memory.base + self._offset(index) + offset, word)

    def _fill(self, page: PrivatePage, index: int) -> None:
        """Tell the kernels where everything is; the block's address goes in last."""
        words, g, base = page.words, self._header.geometry, self._memory.base
        for offset, word in (
            (at.P_NONCE, self._word(index, at.B_NONCE)),
            (at.P_BASE, base),
            (at.P_OFFSET, self._header.epoch_ns - time_namespace_offset_ns()),
            (at.P_MANUAL, int(self._clock.manual)),
            (at.P_NOW, self._clock.ring_ns()),
            (at.P_ROW_HOT, base + g.row_hot),
            (at.P_HISTOGRAM_HOT, base + g.histogram_hot),
            (at.P_TRACKS, base + g.tracks),
            (at.P_BLOCK_TABLE, base + g.block_table),
            (at.P_ROW_TABLE, base + g.row_table),
            (at.P_HISTOGRAM_TABLE, base + g.histogram_table),
            (at.P_CELLS, g.block_cells),
            (at.P_HISTOGRAMS, g.block_histograms),
            (at.P_LOG, g.block_log),
            (at.P_LOG_RECORDS, g.log_records),
            (at.P_BLOCK_BYTES, g.block_bytes),
            (at.P_FINE_NS, g.fine_ns),
            (at.P_FINE_SLOTS, g.fine_slots),
            (at.P_FINE_PER_COARSE, g.fine_per_coarse),
            (at.P_COARSE_SLOTS, g.coarse_slots),
            (at.P_SNAPSHOT_NS, g.snapshot_ns),
            (at.P_SNAPSHOTS, g.snapshots),
            (at.P_FINE_FROM_NS, self._header.fine_from_ns),
            (at.P_ATTACHED, self._clock.ring_ns() if self._clock.manual else duration_ns()),
        ):
            words[offset // 8] = word
        if page is self.page:
            self._put(index, at.B_PID, os.getpid())
            self._put(index, at.B_AGENT, int(self.is_agent))
            self._put(index, at.B_ATTACHED_NS, self._clock.ring_ns())
        words[at.P_BLOCK // 8] = base + self._offset(index)

    def _drop_in_child(self) -> None:
        self._attaching = threading.RLock()
        self._lock = None  # its descriptor is closed by the locks' own hook
        self.index = None
        for page in (self.page, self._settling):
            if not page.wiped_by_system:
                page.words[at.P_BLOCK // 8] = 0


_live: weakref.WeakSet[Blocks] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for blocks in list(_live):
        blocks._drop_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
