"""What an engine can be asked: counts, statuses, traffic of the whole host, by whatever worker is asked."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from otelslo.clock import Clock
from otelslo.counts import Counts
from otelslo.definition import Definition
from otelslo.evaluate import Book, Traffic, statuses, traffic
from otelslo.faults import Faults
from otelslo.kernels import layout as at
from otelslo.marks import Marks
from otelslo.objective import Objective
from otelslo.serving import AtLeast, Serving
from otelslo.status import Status

if TYPE_CHECKING:
    import threading

    from otelslo.kernels.ring import Kernels
    from otelslo.ring.live import Ring


class Standing(ABC):
    """The part of an engine that answers."""

    clock: Clock
    ring: Ring
    kernels: Kernels
    definitions: list[Definition]
    own_faults: Faults
    _pid: int
    _counting: threading.Lock
    _marks: Marks
    _serving: Serving

    @abstractmethod
    def start(self) -> Any:
        """See `Engine.start`."""

    @abstractmethod
    def attach(self) -> bool:
        """See `Engine.attach`."""

    @property
    @abstractmethod
    def objectives(self) -> list[Objective]:
        """Those in force."""

    def count_since(self, row: int, start_ns: int) -> Counts:
        """Events of a row since the slot of ring time `start_ns`."""
        if self._pid != os.getpid():
            self.attach()
        page = self.ring.blocks.page
        with self._counting:
            if self.kernels.count(page.address, row, start_ns) < 0:  # rare: the reader asks again as often as needed
                return self.ring.reader.window(row, start_ns, self.clock.ring_ns()).counts
            good, bad, excluded = page.words[at.P_COUNTS // 8 : at.P_COUNTS // 8 + 3].tolist()
        return Counts(good, bad, excluded)

    def count(self, slo: str, window_ns: int) -> Counts:
        """Events of an objective, all groups together, in the last `window_ns`.

        Raises:
            KeyError: there is no objective of that name.
        """
        self.start()
        objective = next((o for o in self.objectives if o.slo.name == slo), None)
        if objective is None:
            raise KeyError(slo)
        start = self.clock.ring_ns() - window_ns
        mine = (objective.slo.name, objective.slo.meaning)
        reader, total = self.ring.reader, Counts()
        for row in range(reader.rows):  # not only those that this worker has met
            key = reader.row_name(row)
            if (key.slo, key.meaning) == mine:
                total += self.count_since(row, start)
        return total

    def status(self) -> list[Status]:
        """One status per objective and group, now."""
        self.start()
        return self._judged(self.definitions)

    def _judged(self, definitions: Iterable[Definition], book: Book | None = None) -> list[Status]:
        marked = self._marks(self.clock.wall_ns() - max((one.window_ns for one in self.definitions), default=0))
        return statuses(definitions, self.ring.reader, self.clock.ring_ns(), self.count_since, marked, book)

    def budget_allows(self, slo: str, group: str | None = None, *, at_least: AtLeast = 0) -> bool:
        """Whether there is error budget left to spend on what is risky; for use in requests. Never raises.

        A dict look-up of what the background thread computes each second of what was ever asked. Yes while nothing is
        known: at first, without events, for an unknown name (logged once), and when a no is older than 5 s.

        Args:
            group: as statuses name it; None is all groups of the objective together.
            at_least: the share of the budget that must be left, 0 to 1 ("25%", 0.25). An exhausted budget never allows.
        """
        return self._serving.allows(slo, group, at_least)

    def traffic(self, window_ns: int = 300_000_000_000) -> list[Traffic]:
        """Traffic and latency percentiles of every route and call site in the last `window_ns` (two hours at most)."""
        self.start()
        return list(traffic(self.ring.reader, self.clock.ring_ns(), window_ns))

    def in_flight(self) -> int:
        """Requests begun and not ended, in all workers."""
        return self.ring.reader.in_flight()

    def faults(self) -> dict[str, int]:
        """Our own faults by reason, all workers, since the ring's birth."""
        return self.own_faults.counts()
