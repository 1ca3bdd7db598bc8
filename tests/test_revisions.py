"""Changed objectives: what is said of the change, and that history goes on or begins anew without nonsense."""

from __future__ import annotations

import json
import math

import pytest
from drive import advance

from otelslo import SLO, Engine, Limit
from otelslo.clock import ManualClock
from otelslo.revisions import revisions

CALLS = {"kind": "call"}


def told(*slos):
    return json.dumps({"slos": [slo.definition() for slo in slos]})


def test_each_change_is_named():
    before = told(SLO("a"), SLO("b"), SLO("gone"), SLO("d"))
    after = told(
        SLO("a", target="99%", window="28d"), SLO("b", calendar="month"), SLO("d", indicator="websocket"), SLO("new")
    )
    assert revisions(before, after) == [
        "a: target 99.9% -> 99%, window 30d -> 28d, alerts changed",
        "b: window 30d -> month (UTC)",
        "d: what counts as good changed, so it is counted anew",
        "gone: removed",
        "new: added, 99.9% over 30d",
    ]
    assert revisions(before, before) == revisions("", after) == revisions("no json", after) == []
    assert revisions(told(SLO("a")), told(SLO("a", owner="x"))) == ["a: about changed"]


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({"target": "50%"}, 90),
        ({"window": "7d"}, 90),
        ({"calendar": "month"}, 90),
        ({"budgeting": "timeslices", "slice_target": "50%"}, 0),
        ({"good": "json:loads"}, 0),
    ],
)
def test_history_goes_on_and_no_number_is_none(tmp_path, changed, good):
    """Also in the first moment after the change, and before anything has happened since."""
    clock = ManualClock()
    with Engine([SLO("calls", match=CALLS)], state_dir=tmp_path, clock=clock, runner=False) as engine:
        track = engine.track("job")
        for n in range(100):
            engine.record(track, "bad" if n < 10 else "good", 0)
        advance(engine, s=20)
        engine.runner.tick()
        engine.reload([SLO("calls", match=CALLS, **changed)])
        [status] = engine.status()
        assert status.counts.good == good
        assert all(math.isfinite(number) for number in numbers(status.to_json()))
        engine.runner.tick()
        kinds = [entry.kind for entry in engine.runner.store.journal(20)]
        assert "objective" in kinds


def numbers(value):
    """Every number in JSON-able data, which NaN and infinity are not."""
    json.dumps(value, allow_nan=False)
    if isinstance(value, dict):
        for one in value.values():
            yield from numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float):
        yield value


def test_changes_of_limits_are_told_too():
    def limited(*limits):
        return json.dumps({"slos": [SLO("a").definition()], "limits": [limit.definition() for limit in limits]})

    before = limited(Limit("age", limit="90d"), Limit("gone", limit=1))
    after = limited(Limit("age", limit="30d", severity="page"), Limit("drift", limit=0.1))
    assert revisions(before, after) == [
        "age: limit 90d -> 30d, severity changed",
        "drift: added, never more than 0.1",
        "gone: removed",
    ]
