"""What leaves for a genuine OpenTelemetry Collector equals the ring exactly, whatever dies on the way.

Real workers under a client of a fixed number of requests, the Collector as `.ci/collector` builds it, and behind it a
receiver that sees every point: no counter ever goes back, and no series begins anywhere but at 0.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import pytest
from components import Attributes, Books, Collector, VictoriaMetrics, receiving, service_environment

from otelslo.kernels import layout as at
from otelslo.rowkey import NOTICES, SELF, RowKey

from .history import saved_counts
from .ledger import LINGERING, MIXED, Client, Order, send_all
from .ledger import Books as ClientBooks
from .servers import Service, Worker, until
from .watch import Watch, settled

FULL = os.environ.get("OTELSLO_TORTURE") == "full"
ROUNDS = 30 if FULL else 4
LOSSES = 20 if FULL else 3
REQUESTS = 3_000 if FULL else 1_000  # a round
OUTAGE_S = 60 if FULL else 0  # or until two attempts have failed, if that is longer
SEED = int(os.environ.get("OTELSLO_SEED", "20264"))
INTERVAL_MS = 400
ARRIVES_S = 150.0 if FULL else 60.0  # only ends a test that hangs
PATHS = list(MIXED)


def outcome_of(cell: int) -> str:
    return "good" if cell < at.FIRST_BAD else "bad" if cell < at.FIRST_EXCLUDED else "excluded"


def group_attributes(key: RowKey) -> dict[str, str]:
    """As the routes of this app, which have nothing to escape, are called outside."""
    if key.group is None:
        return {}
    name, is_route, route = key.group.partition("=")
    return {"http.route": route} if is_route and name == "route" else {"slo.group": key.group}


class World:
    """Workers that export through the Collector, and all that can be asked about them."""

    def __init__(self, service: Service, collector: Collector, books: Books) -> None:
        self.service = service
        self.collector = collector
        self.books = books
        self.sent = 0
        self.clients = ClientBooks()
        self.look_again()

    def look_again(self, carried: int = 0) -> None:
        """At the ring file that is there now; `carried` requests of its totals began before it was made."""
        self.watch = Watch(self.service.state_dir / "live.ring")
        self.carried = carried

    @property
    def ring_id(self) -> str:
        return self.watch.ring_id

    # ── traffic ────────────────────────────────────────────────────────────────────────────────────────────────────
    def order(self, number: int, weights: dict[str, int]) -> Order:
        first, self.sent = self.sent, self.sent + number
        return Order(self.service.port, number, 8, SEED + first, first, weights)

    def send(self, number: int, weights: dict[str, int] = MIXED) -> None:
        """Requests that must all be answered; afterwards none is in flight."""
        books = send_all(self.order(number, weights))
        assert (books.cut, books.wrong) == ([], [])
        self.clients.add(books)
        self.quiet()

    def quiet(self) -> None:
        until(lambda: settled(self.watch, self.counted_here), "nothing is in flight")

    def counted_here(self) -> int:
        """Requests counted since this ring file was made."""
        return self.watch.counts("all").total - self.carried

    # ── the ring's truth, and what arrived ─────────────────────────────────────────────────────────────────────────
    def in_ring(self) -> dict[Attributes, int]:
        """Every cell that has a name, by the attributes that it must have outside."""
        reader = self.watch.fresh()
        found: dict[Attributes, int] = {}
        for row in range(reader.rows):
            key = reader.row_name(row)
            for cell, (reason, count) in enumerate(zip(key.reasons, reader.cells(row), strict=True)):
                if key.slo not in (SELF, NOTICES) and reason:
                    told = {"slo.name": key.slo, "slo.outcome": outcome_of(cell), **group_attributes(key)}
                    why = {"slo.reason": reason} if cell else {}
                    found[frozenset((told | why).items())] = count
        return found

    def arrived(self) -> dict[Attributes, int | float]:
        return self.books.newest("slo.events", self.ring_id)

    def arrived_of(self, slo: str) -> int | float:
        return sum(value for attributes, value in self.arrived().items() if ("slo.name", slo) in attributes)

    def difference(self) -> dict[str, tuple[object, object]]:
        """Ring and newest arrival, where they differ."""
        ring, arrived = self.in_ring(), self.arrived()
        return {
            str(sorted(key)): (ring.get(key), arrived.get(key))
            for key in ring.keys() | arrived.keys()
            if ring.get(key) != arrived.get(key)
        }

    def await_equal(self, what: str) -> None:
        """Until the newest points are the ring's totals: the same series, and in each the same number."""
        try:
            until(lambda: not self.difference(), what, ARRIVES_S)
        except AssertionError:
            raise AssertionError(
                f"{what}: {self.difference()}\n{self.service.said()}\n{self.collector.said()}"
            ) from None
        assert self.arrived_of("all") == self.watch.fresh().begun() + self.carried
        assert self.books.findings == []

    def await_zeros(self) -> None:
        """Until every row of the ring is known outside, before anything has happened."""
        self.await_equal("the series arrive")
        assert set(self.arrived().values()) == {0}

    def await_routes(self) -> None:
        """The first request of a route has its row made, and counts as overflow; until all are known outside."""
        for path in PATHS:
            self.send(1, {path: 1})
        self.await_equal("the routes' series arrive")

    def after_all(self) -> None:
        """What holds for all that ever arrived."""
        assert self.books.findings == []
        assert self.clients.wrong == []
        begun = [p for p in self.books.points() if p.kind != "gauge" and not 0 < p.start_ns <= p.time_ns]
        assert begun == []
        for instance in self.books.instances():
            first = self.books.first("slo.events", instance)
            assert first
            # A group's row is made by its first event, so it may have counted more before it is first exported.
            grouped = {key for key in first if ("slo.name", "by-route") in key}
            assert {key: value for key, value in first.items() if value and key not in grouped} == {}


@contextmanager
def world(directory: Path, workers: int = 2, *more_destinations: str) -> Iterator[World]:
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        collector = Collector(directory, receiver.metrics_url, *more_destinations)
        stack.enter_context(collector)
        environment = service_environment(collector.endpoint, INTERVAL_MS)
        service = stack.enter_context(Service(directory, workers, environment=environment))
        made = World(service, collector, receiver.books)
        yield made
        made.after_all()


def kill_one(it: World, number: int, chance: random.Random) -> None:
    """A worker dies by SIGKILL in the middle of its requests and is replaced; every other time the leader."""
    begun = it.watch.fresh().begun()
    client = Client(it.order(REQUESTS, LINGERING))
    try:
        kill_at = begun + chance.randrange(REQUESTS // 10, REQUESTS * 6 // 10)
        until(lambda: it.watch.fresh().begun() >= kill_at or not client.running, "enough requests have begun")
        leader = it.watch.leader_pid()
        leading = [worker for worker in it.service.workers if worker.pid == leader]
        victim: Worker = leading[0] if leading and number % 2 == 0 else chance.choice(it.service.workers)
        victim.kill()
        it.service.replace(victim)
        it.clients.add(client.books())
    finally:
        client.stop()
    it.service.wait_ready()
    it.quiet()


def kill_all(it: World) -> None:
    for worker in it.service.workers:
        worker.kill()


def test_totals_arrive_exactly_and_every_series_begins_at_0(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        it.await_zeros()
        it.await_routes()
        it.send(REQUESTS)
        it.await_equal("the totals arrive")
        assert set(it.books.first("slo.events", it.ring_id).values()) == {0}
        assert it.books.instances() == [it.ring_id]
        assert it.arrived_of("all") == it.sent
        durations = it.books.newest("slo.request.duration", it.ring_id)
        assert sum(durations.values()) == it.sent
        assert set(it.books.newest("otelslo.faults", it.ring_id).values()) == {0}


@pytest.mark.torture
def test_totals_stay_exact_when_workers_and_leaders_are_killed(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with world(tmp_path) as it:
        it.await_zeros()
        leaders = set()
        for number in range(ROUNDS):
            leaders.add(it.watch.leader_pid())
            kill_one(it, number, chance)
            it.await_equal(f"the totals after kill {number} arrive")
            answers, cut = it.clients.answers, len(it.clients.cut)
            assert answers <= it.arrived_of("all") <= answers + cut == it.sent
        assert len(leaders) > 1
        assert it.books.instances() == [it.ring_id]
        print(f"{it.sent} sent, {answers} answered, {cut} cut off, {len(it.books)} points, {len(leaders)} leaders")


def test_series_go_on_over_a_restart_of_all_workers(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        it.await_zeros()
        for end in (it.service.stop, lambda: kill_all(it), it.service.stop):
            it.send(REQUESTS // 2)
            end()
            it.service.start()
            it.look_again()
        it.send(REQUESTS // 2)
        it.await_equal("the totals after the restarts arrive")
        assert it.arrived_of("all") == it.sent
        assert it.books.instances() == [it.ring_id]


def test_the_last_totals_arrive_when_the_service_stops(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        it.await_zeros()
        it.send(REQUESTS // 2)
        it.service.stop()
        it.await_equal("what was counted last arrives")


@pytest.mark.torture
def test_the_newest_totals_arrive_after_an_outage_of_the_collector(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        it.await_zeros()
        it.send(REQUESTS // 2)
        it.collector.kill()
        gone_at, rounds = time.monotonic(), 0
        while it.watch.faults()["export"] < 2 or time.monotonic() < gone_at + OUTAGE_S:
            it.send(100)  # all answered, as ever
            rounds += 1
            assert time.monotonic() < gone_at + OUTAGE_S + ARRIVES_S, f"no loss is counted: {it.watch.faults()}"
        before, back_ns = len(it.books), time.time_ns()
        it.collector.start()
        it.await_equal("the totals after the outage arrive")
        stale = {p.time_ns for p in it.books.points(since=before) if p.time_ns < back_ns}
        assert len(stale) <= 1, "a backlog of old totals was sent"
        assert it.arrived_of("all") == it.sent
        until(
            lambda: sum(it.books.newest("otelslo.faults", it.ring_id).values()) == it.watch.faults()["export"],
            "the loss is told",
            ARRIVES_S,
        )
        print(f"{rounds} rounds of 100 requests without a collector, {it.watch.faults()['export']} attempts failed")


def lose_ring(it: World) -> int:
    """Delete the ring of a stopped service and start it; what "all" had in the database that it is rebuilt from."""
    saved = saved_counts(it.service.state_dir)["all"].total
    (it.service.state_dir / "live.ring").unlink()
    it.service.start()
    it.look_again(carried=saved)
    assert "live.ring was rebuilt" in it.service.said()
    return saved


def test_series_go_on_when_the_ring_is_rebuilt_from_the_database(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        it.await_zeros()
        it.send(REQUESTS // 2)
        ring_id = it.ring_id
        it.service.stop()
        assert lose_ring(it) == it.sent
        it.send(REQUESTS // 2)
        it.await_equal("the totals of the rebuilt ring arrive")
        assert it.arrived_of("all") == it.sent
        assert it.books.instances() == [ring_id] == [it.ring_id]


def lose_all_under_load(it: World, number: int) -> None:
    """Kill all workers as soon as totals of this round have left, and with them lose what was not committed."""
    before = it.arrived_of("all")
    client = Client(it.order(4 * REQUESTS, LINGERING))
    try:
        until(lambda: it.arrived_of("all") > before or not client.running, "totals leave in the middle")
        kill_all(it)
        at_death, left = it.watch.counts("all").total, it.arrived_of("all")
        saved = lose_ring(it)
        it.clients.add(client.books())
    finally:
        client.stop()
    assert before <= left <= saved <= at_death
    it.quiet()
    it.await_equal(f"the totals after loss {number} arrive")
    print(f"{at_death} counted, {saved} of them in the database, {left} had left; {it.arrived_of('all')} at last")


@pytest.mark.torture
def test_no_counter_goes_back_when_a_ring_is_lost_under_load(tmp_path: Path) -> None:
    """What was not committed is lost with the ring, so none of it may have left."""
    with world(tmp_path) as it:
        it.await_zeros()
        ring_id = it.ring_id
        for number in range(LOSSES):
            lose_all_under_load(it, number)
        assert it.clients.answers + len(it.clients.cut) == it.sent >= it.arrived_of("all")
        assert it.books.instances() == [ring_id] == [it.ring_id]


def test_with_the_database_lost_too_a_new_generation_begins(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        it.await_zeros()
        it.send(REQUESTS // 2)
        old_id = it.ring_id
        it.service.stop()
        stopped_ns = time.time_ns()
        it.await_equal("the last totals of the old ring arrive")
        for name in ("live.ring", "otelslo.db"):
            (it.service.state_dir / name).unlink()
        it.service.start()
        it.look_again()
        assert it.ring_id != old_id
        it.await_zeros()
        it.send(REQUESTS // 4)
        it.await_equal("the totals of the new ring arrive")
        assert it.arrived_of("all") == REQUESTS // 4
        assert it.books.instances() == [old_id, it.ring_id]
        # The collector may hand on the rest of the last report late, but nothing newer was said of the old ring.
        assert max(point.time_ns for point in it.books.points(instance=old_id)) <= stopped_ns


def test_promql_counts_every_event_once_over_kills_and_restarts(tmp_path: Path) -> None:
    """A counter that went back by one would be a reset to PromQL, and count whole."""
    chance = random.Random(SEED)
    with VictoriaMetrics(tmp_path) as metrics, world(tmp_path, 2, metrics.metrics_url) as it:
        it.await_zeros()
        it.await_routes()
        for number in range(2):
            kill_one(it, number, chance)
        it.service.stop()
        it.service.start()
        it.look_again()
        it.send(REQUESTS)
        it.await_equal("the totals arrive")
        for slo in ("all", "by-route", "slow"):
            expected = {outcome: Fraction(0) for outcome in ("good", "bad", "excluded")}
            for attributes, count in it.in_ring().items():
                if ("slo.name", slo) in attributes:
                    expected[dict(attributes)["slo.outcome"]] += count
            chosen = f'slo_events_total{{slo_name="{slo}",service_instance_id="{it.ring_id}"}}'

            def asked(promql: str) -> dict[str, Fraction]:
                return {labels["slo_outcome"]: value for labels, value in metrics.query(promql)}

            total, increase = f"sum({chosen}) by (slo_outcome)", f"sum(increase({chosen}[1h])) by (slo_outcome)"
            until(lambda: asked(total) == expected, f"{slo} is whole: {asked(total)}, {expected}")  # noqa: B023
            assert asked(increase) == expected
