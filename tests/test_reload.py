"""New objectives in a running service: taken over at once and whole, or refused and nothing changed."""

from __future__ import annotations

import logging
import os

import pytest
from conftest import SMALL
from drive import LAST, START, cells, http_scope, run

from otelslo import SLO, DefinitionError, Engine, OtelsloError
from otelslo.asgi import SLOMiddleware
from otelslo.clock import ManualClock
from otelslo.ring.reader import open_reader

YAML = """\
slos:
  - name: availability
    target: "{target}"
    window: 1d
{more}"""


async def app(scope, receive, send):
    await send(START | {"status": 500 if scope["path"] == "/fail" else 200})
    await send(LAST)


def test_a_new_objective_counts_from_then_on(make_engine):
    engine = make_engine(SLO("availability"))
    edge = SLOMiddleware(app, engine=engine)
    run(edge)
    told = engine.reload([SLO("availability", target="99%"), SLO("quick", indicator="latency", threshold="1s")])
    assert told == "2 objectives, quick added, availability changed"
    run(edge)
    run(edge, http_scope("/fail"))
    assert cells(engine, "availability") == {"good": 2, "bad 5xx": 1}
    assert cells(engine, "quick") == {"good": 1, "bad 5xx": 1}
    assert [str(status.target) for status in engine.status()] == ["99/100", "999/1000"]


def test_an_objective_that_is_gone_counts_no_more(make_engine):
    engine = make_engine(SLO("availability"), SLO("other"))
    edge = SLOMiddleware(app, engine=engine)
    run(edge)
    old = engine.objectives[1]
    engine.reload([SLO("availability")])
    run(edge)
    assert engine.ring.reader.counts(old.rows[None]).good == 1
    assert [status.slo for status in engine.status()] == ["availability"]


def test_a_request_in_flight_ends_by_the_old_or_the_new_objectives_and_once(make_engine):
    engine = make_engine(SLO("availability"))

    async def reloading(scope, receive, send):
        await send(START)
        engine.reload([SLO("availability"), SLO("second")])
        await send(LAST)

    run(SLOMiddleware(reloading, engine=engine))
    assert engine.in_flight() == 0
    assert cells(engine, "availability") == {"good": 1}
    assert cells(engine, "second") in ({}, {"good": 1})


def test_a_crash_after_the_reload_is_booked_on_the_new_objectives(make_engine, tmp_path):
    engine = make_engine(SLO("availability", match={"route": "/elsewhere"}))
    edge = SLOMiddleware(app, engine=engine, routes=["/x"])
    run(edge)
    engine.reload([SLO("availability")])
    track = edge._sites.find("GET", http_scope())
    assert track.track == engine.track_for("http", "/x", "GET", "")


def test_call_sites_follow(make_engine):
    engine = make_engine(SLO("availability"))
    site = engine.track("rerank")
    engine.record(site, "good", 10)
    engine.reload([SLO("calls", match={"kind": "call"})])
    engine.record(site, "bad", 10)
    engine.record(engine.track("rerank"), None, 10)
    assert cells(engine, "calls") == {"good": 1, "bad other": 1}
    assert site.index == engine.track_for("call", "rerank", "", "")


@pytest.mark.parametrize(
    ("slos", "error"),
    [
        ([SLO("a"), SLO("A")], DefinitionError),
        ([SLO("availability", window="300d")], OtelsloError),
    ],
    ids=["twins", "too long for the running ring"],
)
def test_what_is_refused_changes_nothing(make_engine, slos, error):
    engine = make_engine(SLO("availability"))
    edge = SLOMiddleware(app, engine=engine)
    run(edge)
    before = (engine.slos, engine.judge, engine.definitions_json)
    with pytest.raises(error):
        engine.reload(slos)
    assert (engine.slos, engine.judge, engine.definitions_json) == before
    run(edge)
    assert cells(engine, "availability") == {"good": 2}


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """An engine of a file, with a runner that is turned by hand, and a function that writes the file anew."""
    path = tmp_path / "slo.yaml"
    turned = iter(range(1, 100))

    def write(target, more=""):
        path.write_text(YAML.format(target=target, more=more) if target else more)
        stamp = next(turned)
        os.utime(path, (stamp, stamp))

    write("99%")
    monkeypatch.setenv("OTELSLO_CONFIG", str(path))
    engine = Engine(state_dir=tmp_path / "state", clock=ManualClock(), geometry=SMALL, runner=False).start()
    yield engine, write
    engine.close()


def test_a_changed_file_is_taken_over_at_the_next_turn(configured):
    engine, write = configured
    engine.runner.tick()
    write("99.5%")
    engine.runner.tick()
    assert [definition.target for definition in engine.definitions] == ["99.5%"]
    journal = [(entry.kind, entry.text) for entry in engine.runner.store.journal(9)]
    assert ("configuration", "1 objectives, availability changed") in journal


def test_a_bad_file_is_refused_once_with_place_and_remedy(configured, caplog):
    engine, write = configured
    with caplog.at_level(logging.ERROR, "otelslo"):
        write("", "slos:\n  - name: availability\n    target: 100%\n")
        engine.runner.tick()
        engine.runner.tick()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "refused" in said[0]
    assert "slo.yaml:3:13" in said[0]
    assert [definition.target for definition in engine.definitions] == ["99%"]
    write("99.9%")
    engine.runner.tick()
    assert [definition.target for definition in engine.definitions] == ["99.9%"]


def test_readers_see_the_new_definitions(configured):
    engine, write = configured
    write("99%", "  - name: second\n")
    engine.runner.tick()
    reader = open_reader(engine.state_dir / "live.ring")
    assert "second" in {reader.row_name(row).slo for row in range(reader.rows)}
    assert '"second"' in (engine.state_dir / "definitions.json").read_text()
