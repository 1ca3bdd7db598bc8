"""What became of notices is counted by channel in the ring: by whoever leads, told by every worker."""

from __future__ import annotations

import pytest
from drive import advance
from exporters.reports import encoded, report_of, values
from prometheus_client.parser import text_string_to_metric_families

from channels.boxes import DAY, LOST, REFUSED, Scene
from otelslo import SLO
from otelslo.errors import CapacityError
from otelslo.openmetrics import render
from otelslo.postbook import OUTCOMES, PostBook
from otelslo.ring.live import Ring

SLOS = (SLO("calls", match={"kind": "call"}),)


def page(engine) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(render(engine, "")[1].decode())
    return {
        (sample.labels["otelslo_channel"], sample.labels["otelslo_outcome"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "otelslo_notices_total"
    }


def commit(engine) -> None:
    advance(engine, s=1)
    engine.runner.tick()
    advance(engine, s=1)


def test_the_courier_tells_each_outcome() -> None:
    told: list[tuple[str, str]] = []
    scene = Scene("ops", count=lambda *one: told.append(one))
    scene.ops.endings = [LOST, None, REFUSED]
    scene.post(1, 2)
    scene.turns(10)
    assert told == [("ops", "failed"), ("ops", "delivered"), ("ops", "failed"), ("ops", "dropped")]
    scene.ops.ending = LOST
    scene.post(3)
    scene.turns(3 * DAY // 10**9 + 600)
    assert told[-2:] == [("ops", "failed"), ("ops", "dropped")]


def test_counts_are_there_at_0_and_told_by_otlp_and_the_page(make_engine) -> None:
    engine = make_engine(*SLOS)
    commit(engine)
    assert page(engine) == {("log", outcome): 0 for outcome in OUTCOMES}
    book = PostBook(engine.ring, ["log", "ops"], engine.fault)
    assert page(engine)["log", "failed"] == 0
    for channel, outcome in [("ops", "failed")] * 3 + [("ops", "dropped"), ("log", "delivered"), ("gone", "failed")]:
        book.count(channel, outcome)
    commit(engine)
    wanted = dict.fromkeys([(channel, outcome) for channel in ("log", "ops") for outcome in OUTCOMES], 0)
    wanted |= {("ops", "failed"): 3, ("ops", "dropped"): 1, ("log", "delivered"): 1}
    assert page(engine) == wanted
    exported = values(encoded(report_of(engine)), "otelslo.notices")
    assert {
        (dict(where)["otelslo.channel"], dict(where)["otelslo.outcome"]): value for where, value in exported.items()
    } == wanted
    assert sum(engine.ring.reader.loss_heads()) == 0  # failures of a channel are no losses of the service
    assert [status.slo for status in engine.status()] == ["calls"]


def test_whoever_leads_next_counts_on(make_engine, tmp_path) -> None:
    first = make_engine(*SLOS, state_dir=tmp_path / "shared")
    second = make_engine(*SLOS, state_dir=tmp_path / "shared", clock=first.clock)
    PostBook(first.ring, ["log"], first.fault).count("log", "delivered")
    commit(first)
    assert page(second)["log", "delivered"] == 1
    first.close()
    commit(second)
    PostBook(second.ring, ["log"], second.fault).count("log", "delivered")
    commit(second)
    assert page(second)["log", "delivered"] == 2


def test_a_ring_without_room_costs_the_count_only(make_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(*SLOS)
    ring: Ring = engine.ring

    def full(key: str, birth_ns: int) -> int:
        raise CapacityError("the directory is full")

    monkeypatch.setattr(ring.directory, "row", full)
    book = PostBook(ring, ["ops"], engine.fault)
    book.count("ops", "failed")
    assert engine.faults()["capacity"] == 1
