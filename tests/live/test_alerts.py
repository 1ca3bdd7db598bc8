"""Nobody misses a transition of an alert, whenever the leader is killed: between deciding, sending and noting as sent.

Real workers under steady traffic that turns bad and good again, the real Alertmanager with a receiver behind it, and a
webhook straight to a receiver. What they were told is compared with the journal, which is committed with each decision.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, groupby, islice
from pathlib import Path
from typing import Any

import pytest
from channels.hook import Hook, hooked
from channels.test_alertmanager import managed, real
from exporters.receiver import PATIENCE_S, TAKEN, status

from otelslo.alert_states import FIRING, RESOLVED, transition_key
from otelslo.exporters.sqlite_reader import Reader

from .ledger import Books, Client, Order
from .servers import Service, Worker, until
from .watch import Watch, settled

FULL = os.environ.get("OTELSLO_TORTURE") == "full"
TURNS = 26 if FULL else 4  # from good to bad or back; two leaders die about each
WORKERS = 3  # so that somebody is there to lead when the second dies
CONNECTIONS = 4
SEED = int(os.environ.get("OTELSLO_SEED", "20265"))
ARRIVES_S = 90.0  # only ends a test that hangs

OBJECTIVES = ("checkout", "search", "signup")  # all about every request, so that several notices are sent at once
ALERT = "fast"
GOOD = {"/ok": 1, "/slow?ms=30": 3}
BAD = {"/boom": 1, "/slow?ms=30": 1}
ANSWERS = {"/ok 200", "/slow?ms=30 200", "/boom 500"}

# Above 10 % bad: a few requests that were in flight in a killed worker are not enough.
_TIER = {"severity": "page", "long": "1m", "short": "3s", "factor": 10}
_ALERTS = {"guard": "off", "exhausted": "off", "exclusion_share": "off", "tiers": {ALERT: _TIER}}

Told = tuple[str, str, str]  # objective, event, key


def configuration(hook: Hook, alertmanager: str) -> dict[str, Any]:
    slos = [{"name": name, "target": "99%", "window": "1h", "alerts": _ALERTS} for name in OBJECTIVES]
    webhook = {"url": hook.url, "allow_http": True, "allow_private": True}
    # In this order, so that nothing has gone to Alertmanager while the first answer of the hook is awaited.
    return {"slos": slos, "channels": {"hook": {"webhook": webhook}, "am": {"alertmanager": {"url": alertmanager}}}}


class Hold:
    """An answer that is given only when the test says so: meanwhile the notice is there, and nobody knows."""

    def __init__(self) -> None:
        self.reached, self.released = threading.Event(), threading.Event()

    def __call__(self, handler: Any) -> None:
        self.reached.set()
        self.released.wait(PATIENCE_S)
        TAKEN(handler)


class Traffic:
    """Requests without a pause from a few connections, a thread; `weights` may be changed at any time."""

    def __init__(self, port: int) -> None:
        self.weights = GOOD
        self.books = Books()
        self.sent = 0
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the last answer has been read."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            client = Client(Order(self._port, 100, CONNECTIONS, SEED + self.sent, self.sent, self.weights))
            try:
                self.books.add(client.books())
            finally:
                client.stop()
            self.sent += 100


@dataclass(slots=True)
class World:
    """A service whose alerts go to two receivers, and all that can be asked about them."""

    service: Service
    hook: Hook
    behind: Hook  # behind Alertmanager
    traffic: Traffic
    watch: Watch
    config: Path
    deaths: int = 0

    # ── what is decided, and what was told ─────────────────────────────────────────────────────────────────────────
    @property
    def history(self) -> Reader:
        return Reader(self.service.state_dir / "otelslo.db")

    def decided(self) -> dict[str, list[Told]]:
        """Each transition of the journal with the key that it must have, by objective and in order."""
        found: dict[str, list[Told]] = {name: [] for name in OBJECTIVES}
        fired_ns = dict.fromkeys(OBJECTIVES, 0)
        for entry in reversed(self.history.journal(10_000, kind="alert")):
            name, _, text = entry.text.partition(": ")
            event = "resolved" if text.startswith("no longer") else "firing"
            if event == "firing":
                fired_ns[name] = entry.wall_ns
            found[name].append((name, event, transition_key(name, None, ALERT, fired_ns[name], event)))
        return found

    def at_hook(self) -> dict[str, list[Told]]:
        """What reached the hook, by objective and in order, also again and again."""
        found: dict[str, list[Told]] = {name: [] for name in OBJECTIVES}
        for told in self.hook.told:
            found[told["slo"]].append((told["slo"], told["event"], told["key"]))
        return found

    def behind_alertmanager(self) -> dict[str, list[Told]]:
        found: dict[str, list[Told]] = {name: [] for name in OBJECTIVES}
        for told in self.behind.told:
            for alert in told["alerts"]:
                name = alert["labels"]["slo"]
                found[name].append((name, alert["status"], alert["annotations"]["otelslo_key"]))
        return found

    def states(self) -> list[str]:
        return [data["state"] for data in self.history.notes.alerts().values()]

    def await_told(self, event: str) -> None:
        """Until this is the last that everybody was told of every objective."""
        self.await_(lambda: set(self.states()) == {event} and len(self.states()) == len(OBJECTIVES), f"all are {event}")
        self.await_(lambda: not self.history.notes.parcels(), "nothing is left to send")
        self.await_(lambda: _once(self.behind_alertmanager()) == self.decided(), "Alertmanager has told all")

    def await_(self, condition: Callable[[], object], what: str) -> None:
        try:
            until(condition, what, ARRIVES_S)
        except AssertionError:
            told = f"decided {self.decided()}\nat the hook {self.at_hook()}\nbehind {self.behind_alertmanager()}"
            raise AssertionError(f"{what}: states {self.states()}\n{told}\n{self.service.said()}") from None

    # ── killing ────────────────────────────────────────────────────────────────────────────────────────────────────
    def leader(self) -> Worker | None:
        pid = self.watch.leader_pid()
        return next((worker for worker in self.service.workers if worker.alive and worker.pid == pid), None)

    def kill_leader(self) -> None:
        until(self.leader, "a worker leads")
        leader = self.leader()
        assert leader is not None
        leader.kill()
        self.service.replace(leader)
        self.deaths += 1

    def turn(self, weights: dict[str, int]) -> None:
        self.traffic.weights = weights

    def pass_requests(self, number: int) -> None:
        begun = self.watch.fresh().begun()
        until(lambda: self.watch.fresh().begun() >= begun + number, "requests begin")


def _once(told: dict[str, list[Told]]) -> dict[str, list[Told]]:
    """Without the repetitions of what came just before."""
    return {name: [each for each, _ in groupby(of)] for name, of in told.items()}


@contextmanager
def world(directory: Path) -> Iterator[World]:
    with ExitStack() as stack:
        hook, behind = stack.enter_context(hooked()), stack.enter_context(hooked())
        (directory / "am").mkdir()
        manager = stack.enter_context(managed(directory / "am", behind))
        config = directory / "slo.yaml"
        config.write_text(json.dumps(configuration(hook, manager.url)))
        environment = dict(os.environ) | {"OTELSLO_CONFIG": os.fspath(config)}
        service = stack.enter_context(Service(directory, WORKERS, environment=environment))
        traffic = Traffic(service.port)
        made = World(service, hook, behind, traffic, Watch(service.state_dir / "live.ring"), config)
        traffic.start()
        stack.callback(traffic.stop)
        made.pass_requests(100)
        yield made
        traffic.stop()
        after_all(made)


def after_all(it: World) -> None:
    """What holds at the end of each test: everybody was told of every transition, and no request was hurt."""
    decided = it.decided()
    for told in decided.values():
        assert [event for _, event, _ in told] == ["firing", "resolved"] * (len(told) // 2)
        assert told
    assert _once(it.at_hook()) == decided
    assert _once(it.behind_alertmanager()) == decided
    assert [headers["idempotency-key"] for headers in it.hook.headers] == [told["key"] for told in it.hook.told]
    bodies = set(it.hook.bodies)
    assert len(bodies) == len({told["key"] for told in it.hook.told}), "one key, and two texts"
    books = it.traffic.books
    assert books.wrong == []
    assert set(books.received) <= ANSWERS
    assert books.answers + len(books.cut) == it.traffic.sent
    assert len(books.cut) <= CONNECTIONS * it.deaths
    until(lambda: settled(it.watch, lambda: it.watch.counts("search").total), "nothing is in flight")
    again = len(it.hook.bodies) - len(bodies)
    print(
        f"{it.deaths} leaders killed, {sum(map(len, decided.values()))} transitions, {again} of them told again; ",
        end="",
    )
    print(f"{it.traffic.sent} requests, {len(books.cut)} cut off")


def killed_twice(it: World, chance: random.Random) -> None:
    """The traffic has turned: one leader dies at any moment from now on, the next one at a moment that hurts most."""
    held, known = Hold(), len(it.history.journal(10_000, kind="alert"))
    if chance.random() < 0.6:  # one of the first notices has arrived, and is not noted as sent
        it.hook.answers = [TAKEN] * chance.randrange(len(OBJECTIVES)) + [held]
    else:  # it is decided, and somewhere on its way
        held.reached.set()
    it.pass_requests(chance.randrange(400))
    it.kill_leader()
    it.await_(held.reached.is_set, "a notice comes")
    it.await_(lambda: len(it.history.journal(10_000, kind="alert")) > known, "it is decided")
    it.kill_leader()
    held.released.set()
    it.service.wait_ready()


@real
@pytest.mark.torture
def test_every_transition_is_told_however_often_the_leader_dies(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    with world(tmp_path) as it:
        for weights, event in islice(cycle([(BAD, FIRING), (GOOD, RESOLVED)]), TURNS):
            it.turn(weights)
            killed_twice(it, chance)
            it.await_told(event)
        assert it.deaths == 2 * TURNS
        assert it.watch.faults() == {}


@real
def test_what_is_decided_and_not_sent_is_sent_by_the_next_leader(tmp_path: Path) -> None:
    """The kill falls after the first notice has reached the hook, and before anything has gone to Alertmanager."""
    with world(tmp_path) as it:
        for weights, event in ((BAD, FIRING), (GOOD, RESOLVED)):
            held, before = Hold(), it.behind_alertmanager()
            it.hook.answers = [held]
            it.turn(weights)
            it.await_(held.reached.is_set, "the first notice comes")
            doubtful = it.hook.told[-1]
            assert set(it.states()) == {event}
            assert len(it.history.notes.parcels()) == 2 * len(OBJECTIVES)
            it.kill_leader()
            assert it.behind_alertmanager() == before
            held.released.set()
            it.await_told(event)
            assert it.hook.told.count(doubtful) == 2  # its first sender never knew that it had arrived


@real
def test_a_receiver_that_is_away_while_leaders_change_is_told_all_in_order(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        it.hook.answer = status(503)
        for weights, event in ((BAD, FIRING), (GOOD, RESOLVED)):
            it.turn(weights)
            it.await_(lambda event=event: set(it.states()) == {event}, f"all are {event}")  # type: ignore[misc]
            tried = len(it.hook.bodies)
            it.await_(lambda tried=tried: len(it.hook.bodies) > tried, "it is tried again")  # type: ignore[misc]
            it.kill_leader()
            it.await_(lambda: _once(it.behind_alertmanager()) == it.decided(), "the other one is told all the same")
        assert {event for of in it.at_hook().values() for _, event, _ in of} == {"firing"}  # each line waits
        it.hook.answer = TAKEN
        it.await_told(RESOLVED)
        assert set(it.watch.faults()) == {"export"}


@contextmanager
def agent_of(it: World) -> Iterator[None]:
    """`otelslo agent` leads; killed at the end."""
    command = [sys.executable, "-m", "otelslo", "agent", "--config", os.fspath(it.config)]
    with open(it.service.log, "ab") as log:
        process = subprocess.Popen([*command, "--state-dir", os.fspath(it.service.state_dir)], stdout=log, stderr=log)
    try:
        until(lambda: it.watch.leader_pid() == process.pid, "the agent leads")
        yield
    finally:
        process.kill()
        process.wait()


@real
def test_what_an_agent_has_decided_is_told_after_its_death(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        for weights, event in ((BAD, FIRING), (GOOD, RESOLVED)):
            held = Hold()
            with agent_of(it):
                it.hook.answers = [held]
                it.turn(weights)
                it.await_(held.reached.is_set, "the agent sends")
                doubtful = it.hook.told[-1]
            held.released.set()
            it.await_told(event)
            assert it.hook.told.count(doubtful) == 2
        assert (it.deaths, it.watch.faults()) == (0, {})
        assert it.traffic.books.cut == []
