"""The courier's outbox over the real database: order, tries, what cannot be read, and one courier after another."""

from __future__ import annotations

import json

import pytest

from channels.boxes import LOST, NOW, Scene, alert, keys
from otelslo.exporters.sqlite import Store
from otelslo.notice import Notice
from otelslo.outbox import StoredOutbox


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "otelslo.db")
    yield found
    found.close()


def post(store: Store, *given: Notice, channel: str = "ops") -> None:
    store.notes.post([(told.key, channel, json.dumps(told.to_json())) for told in given], NOW)


def outbox(store: Store, faults: list[tuple[str, str]] | None = None) -> StoredOutbox:
    return StoredOutbox(store.notes, lambda *fault: (faults if faults is not None else []).append(fault), lambda: NOW)


def test_parcels_come_back_as_they_were_posted(store) -> None:
    post(store, alert(2), alert(1, event="resolved"))
    post(store, alert(2), channel="am")
    post(store, alert(2))  # decided again: the same key for the same channel
    box = outbox(store)
    found = box.due(NOW, 10)
    assert [(parcel.channel, parcel.key, parcel.tries, parcel.notice) for parcel in found] == [
        ("ops", keys(2)[0], 0, alert(2)),
        ("ops", keys(1)[0], 0, alert(1, event="resolved")),
        ("am", keys(2)[0], 0, alert(2)),
    ]
    assert len(box.due(NOW, 2)) == 3  # of each channel: one that takes nothing hides nothing of the others
    assert [parcel.channel for parcel in box.due(NOW, 1)] == ["ops", "am"]
    box.failed(found[0].id, NOW + 7, "busy")
    assert [(parcel.tries, parcel.next_wall_ns) for parcel in box.due(NOW, 1)[:1]] == [(1, NOW + 7)]
    box.sent(found[0].id)
    box.sent(found[0].id)
    assert [parcel.id for parcel in box.due(NOW, 10)] == [parcel.id for parcel in found[1:]]


def test_no_number_is_given_twice(store) -> None:
    """Or whoever records late would take away a notice that came in between."""
    box = outbox(store)
    numbers = []
    for number in range(3):
        post(store, alert(number))
        numbers.append(box.due(NOW, 10)[0].id)
        box.sent(numbers[-1])
    assert len(set(numbers)) == 3


def test_what_cannot_be_read_is_dropped_and_said(store) -> None:
    for number, payload in enumerate(("{", "[]", '{"key": 1}', "[" * 100_000)):
        store.notes.post([(f"{number:032x}", "ops", payload)], NOW)
    post(store, alert(9))
    faults: list[tuple[str, str]] = []
    box = outbox(store, faults)
    for _ in range(2):
        assert [parcel.key for parcel in box.due(NOW, 10)] == keys(9)
    assert [reason for reason, _ in faults] == ["internal"] * 4


def test_a_courier_delivers_and_its_successor_goes_on(store) -> None:
    first = Scene("ops", "am", box=outbox(store))  # type: ignore[arg-type]
    first.plays["am"].ending = LOST
    for channel in ("ops", "am"):
        post(store, alert(1), alert(2, event="resolved"), channel=channel)
    first.turn()
    assert first.ops.arrived == keys(1, 2)
    second = Scene("ops", "am", box=outbox(store), clock=first.clock)  # type: ignore[arg-type]
    second.turns(2)
    assert second.ops.tried == []
    assert second.plays["am"].arrived == keys(1, 2)
    assert outbox(store).due(NOW, 10) == []


def test_a_database_that_is_gone_is_waited_for(tmp_path) -> None:
    (tmp_path / "otelslo.db").mkdir()
    store = Store(tmp_path / "otelslo.db")
    scene = Scene(box=outbox(store))  # type: ignore[arg-type]
    assert [scene.turn(), scene.turn()] == [1, 2]
    (tmp_path / "otelslo.db").rmdir()
    post(store, alert(1))
    scene.turn()
    assert scene.ops.arrived == keys(1)
    store.close()
