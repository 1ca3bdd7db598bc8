"""Exact under murder: workers are killed under load and replaced, and what had begun is what is counted.

Whether a request of a killed worker was answered or crashed is uncertain by what was in flight; their sum is not.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from otelslo.counts import Counts

from .ledger import LINGERING, Books, Client, Order
from .servers import Service, Worker, until
from .watch import Guard, Watch, settled

FULL = os.environ.get("OTELSLO_TORTURE") == "full"
ROUNDS = 50 if FULL else 5
REQUESTS = 5_000 if FULL else 3_000  # a round
SEED = int(os.environ.get("OTELSLO_SEED", "20262"))
WORKERS = 2


@dataclass(slots=True)
class Round:
    """One kill: who it was, what was in flight then, and what the client saw."""

    number: int
    pid: int
    led: bool
    in_flight: int | None  # None: somebody had settled the block before we could look
    crashed: int
    books: Books


class Murder:
    """The rounds on one service."""

    def __init__(self, service: Service, watch: Watch) -> None:
        self.service = service
        self.watch = watch
        self.random = random.Random(SEED)
        self.begun = 0
        self.books = Books()
        self.sent = 0

    def total(self) -> int:
        return self.watch.counts("all").total

    def crashed(self) -> int:
        return self.watch.reasons("all")["crashed"]

    def round(self, number: int) -> Round:
        client = Client(Order(self.service.port, REQUESTS, 24, SEED + number, self.sent, LINGERING))
        try:
            kill_at = self.begun + self.random.randrange(REQUESTS // 10, REQUESTS * 6 // 10)
            until(lambda: self.watch.fresh().begun() >= kill_at or not client.running, "enough requests have begun")
            crashed_before = self.crashed()
            victim, led = self.choose(number)
            in_flight = self.kill(victim)
            self.service.replace(victim)
            books = client.books()
        finally:
            client.stop()
        self.sent += REQUESTS
        self.service.wait_ready()
        until(lambda: settled(self.watch, self.total), "the dead worker is settled")
        return Round(number, victim.pid, led, in_flight, self.crashed() - crashed_before, books)

    def choose(self, number: int) -> tuple[Worker, bool]:
        """Every other time the leader, otherwise anyone."""
        leader = self.watch.leader_pid()
        leading = [worker for worker in self.service.workers if worker.pid == leader]
        victim = leading[0] if leading and number % 2 else self.random.choice(self.service.workers)
        return victim, victim.pid == leader

    def kill(self, victim: Worker) -> int | None:
        """What the victim's block had in flight once it was dead."""
        before = self.watch.owner_of(victim.pid)
        victim.kill()
        after = self.watch.owner_of(victim.pid)
        if before is None or after is None or after.nonce != before.nonce:
            return None
        again = self.watch.owner(after.block)
        return after.in_flight if again.nonce == before.nonce else None

    def check(self, round_: Round) -> None:
        books = round_.books
        begun = self.watch.fresh().begun()
        counted = begun - self.begun
        self.begun = begun
        self.books.add(books)
        assert books.wrong == []
        assert books.answers + len(books.cut) == REQUESTS
        assert books.answers <= counted <= books.answers + len(books.cut)
        if round_.in_flight is not None:
            assert round_.crashed == round_.in_flight
        self.check_sums()
        self.check_lines()

    def check_sums(self) -> None:
        """Every objective about all requests has each that had begun; the split is uncertain by what was cut off."""
        counts = self.watch.counts("all")
        assert counts.total == self.watch.fresh().begun()
        assert counts == self.watch.counts("twin") == self.watch.counts("answered") == self.watch.counts("by-route")
        assert all(owner.in_flight == 0 for owner in self.watch.owners())
        cut = len(self.books.cut)
        received = Counts(self.books.with_status(200), self.books.with_status(500), self.books.with_status(403, 404))
        assert received.good - self.crashed() <= counts.good <= received.good + cut
        assert received.excluded - self.crashed() <= counts.excluded <= received.excluded + cut
        assert received.bad <= counts.bad <= received.bad + self.crashed() + cut
        assert self.watch.faults() == {}

    def check_lines(self) -> None:
        """The app's own lines: each at most once, every request received, and none that was not counted as begun."""
        lines = self.service.lines()
        assert len(lines) == len(set(lines))
        cut = set(self.books.cut)
        assert set(range(self.sent)) - cut <= set(lines)
        assert self.books.answers <= len(lines) <= self.begun <= self.sent


@pytest.mark.torture
def test_nothing_is_lost_or_doubled_when_workers_are_killed(tmp_path: Path) -> None:
    with Service(tmp_path, WORKERS) as service:
        ring = service.state_dir / "live.ring"
        murder = Murder(service, Watch(ring))
        rounds: list[Round] = []
        print(f"seed {SEED}")
        with Guard(ring) as guard:
            for number in range(ROUNDS):
                rounds.append(murder.round(number))
                last = rounds[-1]
                print(
                    f"{number}: killed {last.pid}{' (leader)' if last.led else ''}, {last.in_flight} in flight, "
                    f"{last.crashed} crashed, {len(last.books.cut)} cut off"
                )
                murder.check(last)
        compared = [r for r in rounds if r.in_flight is not None]
        print(
            f"{murder.sent} sent, {murder.books.answers} received, {murder.begun} counted, "
            f"{len(murder.books.cut)} cut off, {murder.crashed()} crashed; {sum(r.led for r in rounds)} leaders, "
            f"{len(compared)} deaths compared, {guard.looks} looks"
        )
        assert any(r.led for r in rounds)
        assert len(compared) >= len(rounds) // 2
        assert len(murder.watch.owners()) <= WORKERS + 1
        service.stop()
        assert murder.watch.fresh().begun() == murder.begun
