"""The live ring as one process holds it: its file, its parts, and the words that belong to no part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from otelslo.clock import Clock, SystemClock
from otelslo.kernels import layout as at
from otelslo.ring import state
from otelslo.ring.blocks import Blocks
from otelslo.ring.directory import Directory
from otelslo.ring.geometry import Header
from otelslo.ring.locks import MakingLock
from otelslo.ring.memory import Memory
from otelslo.ring.reader import Reader

if TYPE_CHECKING:
    from otelslo.kernels.ring import Kernels

_WALL_STEP_NS = 100_000_000  # a change of wall minus ring time worth an entry in the table


class Ring:
    """One ring as one process uses it; made by `open_ring`."""

    def __init__(
        self, memory: Memory, header: Header, kernels: Kernels, making: MakingLock, path: Path | None, clock: Clock
    ) -> None:
        self.header = header
        self.geometry = header.geometry
        self.kernels = kernels
        self.path = path
        self.memory = memory
        self.clock = clock
        if isinstance(clock, SystemClock):
            clock.epoch_ns = header.epoch_ns
        self.directory = Directory(memory, header.geometry, making, kernels.publish)
        locks = None if path is None else path.parent / state.LOCKS
        self.blocks = Blocks(memory, header, kernels, self.directory, making, locks, clock)
        self.reader = Reader(memory.words, header)
        self.making = making

    @property
    def row_bytes(self) -> int:
        return self.geometry.row_bytes

    @property
    def latency_row_bytes(self) -> int:
        return self.geometry.histogram_bytes

    @property
    def page(self) -> int:
        """Address of the private page: the first argument of every kernel."""
        return self.blocks.page.address

    def put(self, word_offset: int, value: int) -> None:
        """Set one of the mutable words (`layout.M_*`)."""
        self.kernels.publish(self.memory.base + word_offset, value)

    def note_wall(self, wall_ns: int) -> int | None:
        """Enter wall minus ring time into the table if it has moved; by how many ns it moved, if it did."""
        ring_ns = self.clock.ring_ns()
        offset = wall_ns - ring_ns
        entries = self.memory.words[at.M_CLOCK_ENTRIES // 8]
        moved = offset - self.reader.wall_offset_ns()
        if entries and abs(moved) < _WALL_STEP_NS:
            return None
        entry = at.M_CLOCK_TABLE + 16 * (entries % at.CLOCK_ENTRIES)
        self.put(entry, ring_ns)
        self.put(entry + 8, offset)
        self.put(at.M_CLOCK_ENTRIES, entries + 1)
        return moved if entries else None

    def trace_loss(self, code: int, trace_id: int) -> None:
        """Put a trace id (128 bits) into the loss records that a kernel answered with, in this process's block."""
        g, words = self.geometry, self.memory.words
        block = self.blocks.page.words[at.P_BLOCK // 8] - self.memory.base
        if block < 0:
            return
        halves = [half - 2**64 if half >= 2**63 else half for half in (trace_id >> 64, trace_id & (2**64 - 1))]
        head, records = code >> 8, code & 0xFF
        for number in range(head - records, head):
            record = (block + g.block_log + (number % g.log_records) * at.LOG_RECORD) // 8
            if words[record + at.L_SEQ // 8] == number + 1:
                words[record + at.L_TRACE_HI // 8], words[record + at.L_TRACE_LO // 8] = halves

    def file_is(self) -> str:
        """Whether the path leads to the mapped file: "ours", "missing" or "another"; somebody may have replaced it."""
        if self.path is None or self.memory.fd is None:
            return "ours"
        try:
            there = os.stat(self.path)
        except OSError:
            return "missing"
        mapped = os.fstat(self.memory.fd)
        return "ours" if (there.st_dev, there.st_ino) == (mapped.st_dev, mapped.st_ino) else "another"
