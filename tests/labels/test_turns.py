"""A turn and a transaction end when their time is up, whatever lies in the inbox, and nothing starves for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelslo import SLO
from otelslo.applying import Applying
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_labels import LabelBook
from otelslo.inbox import Inbox
from otelslo.label_record import Label, Prediction
from otelslo.window import DAY_NS, HOUR_NS

NOW_NS = 1_700_000_000 * 10**9
SLOS = [
    SLO("sold", indicator="conversion", options={"label_within": "30m"}),
    SLO("drawn", indicator="accuracy", options={"sample": "100/d", "label_within": "2d"}),
    SLO("daily", indicator="f1", options={"positive": 1, "bar": "50%", "label_within": "2d"}),
]


class Host:
    """An inbox and a database, and somebody who counts by a clock that goes on by `step_ns` whenever it is read."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path / "otelslo.db")
        self.store.open(NOW_NS)
        self.step_ns, self._monotonic_ns = 0, 0
        self.inbox = Inbox(path, self._fault)
        self.applying = Applying(path, self.store, self._fault, lambda: 90 * DAY_NS, monotonic_ns=self._read)

    def _fault(self, *told: Any) -> None:
        pytest.fail(str(told))

    def _read(self) -> int:
        self._monotonic_ns += self.step_ns
        return self._monotonic_ns

    def predict(self, how_many: int, name: str = "p", at_ns: int = NOW_NS) -> None:
        for n in range(how_many):
            self.inbox.put(Prediction("m", f"{name}{n}", at_ns, 1, None, {}))

    def count(self, table: str, where: str = "1") -> int:
        return int(self.store._fetch(f"SELECT count(*) FROM {table} WHERE {where}", ())[0][0])

    def counters(self) -> dict[str, int]:
        return self.store.labels.counters().get("m", {})


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.inbox.finish()
    made.store.close()


@pytest.fixture
def transactions(monkeypatch: Any) -> list[int]:
    """How many predictions and labels each transaction counted."""
    found: list[int] = []
    close = LabelBook.close

    def closing(book: LabelBook) -> None:
        found.append(sum(book._counts.values()))
        close(book)

    monkeypatch.setattr(LabelBook, "close", closing)
    return found


def test_a_transaction_ends_when_its_time_is_up_and_the_next_goes_on_from_there(
    host: Host, transactions: list[int]
) -> None:
    host.predict(10)
    host.step_ns = 30_000_000
    assert host.applying.turn(SLOS, NOW_NS) == 10
    assert transactions[:4] == [3, 3, 3, 1]
    assert host.counters() == {"predictions": 10}


def test_a_quiet_machine_takes_hundreds_at_once(host: Host, transactions: list[int]) -> None:
    host.predict(1000)
    assert host.applying.turn(SLOS, NOW_NS) == 1000
    assert transactions[:2] == [500, 500]


def test_what_falls_due_has_a_time_of_its_own(host: Host) -> None:
    """However much comes in, each turn settles some of each sort, and forgets some."""
    host.predict(20, "old")
    host.applying.turn(SLOS, NOW_NS)
    for n in range(20):
        host.inbox.put(Label("m", f"old{n}", NOW_NS, 1))
    host.predict(200, "unlabelled")
    host.applying.turn(SLOS, NOW_NS)
    host.applying._most_kept = 200
    host.predict(200, "new", NOW_NS + DAY_NS)
    host.step_ns = 2 * 10**9
    assert host.applying.turn(SLOS, NOW_NS + DAY_NS + HOUR_NS) == 0
    assert host.count("label_slots", "lapsed > 0") == 1
    assert host.count("label_draws") < 100
    assert host.count("label_days", "due = 0") == 1
    assert host.count("predictions") < 220


def test_what_falls_due_is_settled_in_shorter_transactions_where_they_last(host: Host) -> None:
    host.predict(200)
    host.applying.turn(SLOS[:1], NOW_NS)
    host.step_ns = 100_000_000
    host.applying.turn(SLOS[:1], NOW_NS + HOUR_NS)
    assert host.applying._at_once < 50
    assert 0 < host.count("label_due") < 200
    host.step_ns = 0
    host.applying.turn(SLOS[:1], NOW_NS + HOUR_NS)
    assert host.count("label_due") == 0


def test_the_last_turn_is_short_and_settles_nothing(host: Host) -> None:
    host.predict(10)
    host.applying.turn(SLOS, NOW_NS)
    host.predict(100, "more", NOW_NS + HOUR_NS)
    host.step_ns = 30_000_000
    taken = host.applying.turn(SLOS, NOW_NS + HOUR_NS, last=True)
    assert 0 < taken < 10
    assert host.count("label_slots", "lapsed > 0") == 0


def test_a_leader_that_ends_takes_its_last_turn(make_engine: Any, monkeypatch: Any) -> None:
    engine = make_engine(*SLOS)
    engine.runner.tick()
    told = []
    monkeypatch.setattr(Applying, "turn", lambda *arguments, last: told.append(last))
    engine.close()
    assert told == [True]
