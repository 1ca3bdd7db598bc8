"""What the tests see of a ring from outside: a reader of its own, and a thread that watches that nothing goes back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from otelslo.counts import Counts
from otelslo.errors import StateError
from otelslo.kernels import layout as at
from otelslo.ring import reader as ring_reader
from otelslo.rowkey import SELF

_LOOK_S = 0.004
_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Owner:
    """A worker block as it stands; `in_flight` counts what a settlement now would book as crashed."""

    block: int
    nonce: int
    pid: int
    in_flight: int


class Watch:
    """A reader of one ring file, opened again as the file grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self.reader = ring_reader.open_reader(self._path)
        self._words = self.reader._words

    def fresh(self) -> ring_reader.Reader:
        """The reader, which sees all of the file."""
        if self.reader.used_bytes > 8 * len(self._words):
            self._open()
        return self.reader

    @property
    def ring_id(self) -> str:
        return self.reader.header.ring_id.hex()

    # ── counts ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def counts(self, slo: str) -> Counts:
        """Everything that the objective ever counted, all groups together."""
        reader = self.fresh()
        total = Counts()
        for row in range(reader.rows):
            if reader.row_name(row).slo == slo:
                total += reader.counts(row)
        return total

    def reasons(self, slo: str) -> Counter[str]:
        """Events of the objective by reason, "good" among them, all groups together."""
        reader = self.fresh()
        total: Counter[str] = Counter()
        for row in range(reader.rows):
            name = reader.row_name(row)
            if name.slo == slo:
                for reason, count in zip(name.reasons, reader.cells(row), strict=True):
                    total[reason] += count
        return +total

    def faults(self) -> Counter[str]:
        """The engine's own faults."""
        return self.reasons(SELF)

    def groups(self, slo: str) -> set[str | None]:
        reader = self.fresh()
        return {name.group for name in map(reader.row_name, range(reader.rows)) if name.slo == slo}

    # ── workers ────────────────────────────────────────────────────────────────────────────────────────────────────
    def leader_pid(self) -> int:
        """The pid of the worker that leads; 0 if none ever did."""
        leader = self._words[at.M_LEADER // 8]
        return self.owner(leader - 1).pid if leader else 0

    def owners(self) -> list[Owner]:
        return [self.owner(block) for block in range(self.fresh().blocks)]

    def owner(self, block: int) -> Owner:
        reader, words = self.fresh(), self._words
        offset = words[reader.header.geometry.block_table // 8 + block] // 8
        start = offset + at.B_TRACKS // 8
        size = 2 * words[at.M_TRACKS_USED // 8]
        begun_ended = words[start : start + size].tolist()
        for pair in range(words[offset + at.B_REDO // 8]):  # committed, not applied: as good as done
            word, value = words[offset + at.B_REDO_PAIRS // 8 + 2 * pair :][:2].tolist()
            if 0 <= word // 8 - at.B_TRACKS // 8 < size:
                begun_ended[word // 8 - at.B_TRACKS // 8] = value
        in_flight = sum(begun_ended[0::2]) - sum(begun_ended[1::2])
        return Owner(block, words[offset + at.B_NONCE // 8], words[offset + at.B_PID // 8], in_flight)

    def owner_of(self, pid: int) -> Owner | None:
        return next((owner for owner in self.owners() if owner.pid == pid), None)


class Guard:
    """A live reader beside the load: totals never go back, windows are never negative, equal objectives agree.

    A thread; its findings are raised at the end of the `with` block.
    """

    def __init__(self, path: Path, twins: tuple[str, str] = ("all", "twin")) -> None:
        self._watch = Watch(path)
        self._twins = twins
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)
        self._seen: dict[tuple[str, int], list[int]] = {}
        self.looks = 0
        self.findings: list[str] = []

    def __enter__(self) -> Guard:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:
            assert self.looks > 0
            assert not self.findings, self.findings[:5]

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            try:
                self._look()
            except StateError as e:
                self.findings.append(f"the ring cannot be read: {e}")
            except Exception as e:
                self.findings.append(f"the reader failed: {type(e).__name__}: {e}")
            self.looks += 1

    def _look(self) -> None:
        reader = self._watch.fresh()
        for row in range(reader.rows):
            self._never_back(f"cells of row {row}", row, reader.cells(row))
            now_ns = reader._words[at.M_HEARTBEAT_NS // 8]
            counts = reader.window(row, now_ns - _HOUR_NS, now_ns).counts
            if min(counts.good, counts.bad, counts.excluded) < 0:
                self.findings.append(f"negative window: row {row}: {counts}")
        ended = sum(ended for _, ended in reader._begun_ended())
        self._never_back("begun, ended", -1, [reader.begun(), ended])
        self._twins_agree()

    def _never_back(self, what: str, row: int, values: list[int]) -> None:
        before = self._seen.get((what, row), [0] * len(values))
        if any(now < then for now, then in zip(values, before, strict=True)):
            self.findings.append(f"{what} went back: {before} to {values}")
        self._seen[(what, row)] = values

    def _twins_agree(self) -> None:
        """One worker may stand between two rows of one request, so the second is bracketed by the first, +- workers."""
        first, second = self._twins
        before = self._watch.counts(first).total
        between = self._watch.counts(second).total
        after = self._watch.counts(first).total
        blocks = self._watch.reader.blocks
        if not before - blocks <= between <= after + blocks:
            self.findings.append(f"{first} and {second} disagree: {before}, {between}, {after}")


def settled(watch: Watch, total: Callable[[], int]) -> bool:
    """Whether nothing is in flight and everything begun is in the total."""
    reader = watch.fresh()
    return reader.in_flight() == 0 and total() == reader.begun()
