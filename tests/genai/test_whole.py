"""Histograms as a plain list of values would have them: by any number of workers, and over a lost ring."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from otelslo import SLO, Engine, ManualClock
from otelslo.event import Ending, Event
from otelslo.genai.declared import GenAI
from otelslo.genai.measures import Measures
from otelslo.genai.series import Series, series_of
from otelslo.genai.values import measured
from otelslo.stream import StreamFacts

DECLARED = [GenAI("chat", "p", side=side, model="m", match={"route": side}) for side in ("server", "client")]
SLOS = [SLO("done", match={"kind": "call"})]
HOURS_NS = 3_600 * 10**9


def histograms(engine: Engine) -> dict[tuple[str, frozenset[tuple[str, str]]], Series]:
    """Every series of the ring that has counted something."""
    reader = engine.ring.reader
    rows = ((reader.row_name(row), reader.row_birth_ns(row), reader.cells(row)) for row in range(reader.rows))
    found = {(one.instrument.name, frozenset(one.attributes.items())): one for one in series_of(rows)}
    return {key: one for key, one in found.items() if sum(one.buckets)}


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, Event, tuple[int, int] | None]:
    times = draw(st.lists(st.integers(0, 200 * 10**9), max_size=6).map(sorted))
    end = max(times, default=0) + draw(st.integers(0, 10**9))
    failed = draw(st.booleans())
    event = Event(
        "call",
        Ending.EXCEPTION if failed else Ending.COMPLETE,
        exception="E" if failed else None,
        latency_ns=end,
        stream=StreamFacts.of(times, end) if draw(st.booleans()) else None,
    )
    return (
        draw(st.sampled_from(["server", "client"])),
        event,
        draw(st.none() | st.tuples(st.integers(0, 9), st.just(2))),
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), calls()), max_size=20))
def test_two_workers_have_the_buckets_and_sums_of_all_values(played) -> None:
    twin: dict[tuple[str, frozenset[tuple[str, str]]], list[int]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        made = [Engine(SLOS, state_dir=folder, clock=ManualClock(), runner=False, gen_ai=DECLARED) for _ in "ab"]
        with made[0] as first, made[1] as second:
            workers = [Measures(DECLARED, one.ring, lambda: None, one.fault) for one in (first, second)]
            for who, (side, event, usage) in played:
                site = workers[who].of("call", side, "")
                assert site is not None
                site.count(event, usage)
                own = {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "p",
                    "gen_ai.request.model": "m",
                }
                for one in measured(side, event, usage):
                    where = {"otel.metric.overflow": "true"} if one.error else own
                    token = {"gen_ai.token.type": one.token} if one.token else {}
                    twin[one.instrument.name, frozenset((where | token).items())] += one.values
            found = histograms(first)
            assert first.faults() == {}
    assert found.keys() == {key for key, values in twin.items() if values}
    for key, one in found.items():
        bounds = [Fraction(text) * one.instrument.scale for text in one.instrument.bounds.split()]
        naive = [sum(value <= bound for value in twin[key]) for bound in bounds]
        assert list(one.buckets) == [b - a for a, b in zip([0, *naive], [*naive, len(twin[key])], strict=True)]
        assert one.total == sum(twin[key])


def test_they_survive_the_ring_and_sums_larger_than_a_slot_holds(tmp_path: Path) -> None:
    """A sum of 100 hours is beyond the 48 bits of a boundary, which nobody reads of these rows."""
    clock = ManualClock()

    def engine() -> Engine:
        return Engine(SLOS, state_dir=tmp_path, clock=clock, runner=False, gen_ai=DECLARED).start()

    first = engine()
    for _ in range(5):
        first.judge.measures.of("call", "server", "").count(Event("call", latency_ns=100 * HOURS_NS), None)
        clock.advance(s=400)
        first.ring.blocks.advance_manual_clock()
        first.runner.tick()
    before = histograms(first)
    ring_id = first.ring.header.ring_id
    first.close()
    (tmp_path / "live.ring").unlink()
    again = engine()
    assert again.ring.header.ring_id == ring_id
    assert histograms(again) == before
    assert [one.total for one in before.values()] == [500 * HOURS_NS]
    again.judge.measures.of("call", "server", "").count(Event("call", latency_ns=1), None)
    assert [one.total for one in histograms(again).values()] == [500 * HOURS_NS + 1]
    assert again.faults() == {}
    again.close()
