"""Gauges on a real MeterProvider: what the leader decided, from the leader alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from drive import advance

from otelslo import SLO, Engine, ManualClock, OtelsloError
from otelslo.gauges import GAUGES, planned
from otelslo.meter import observe
from otelslo.totals import host_totals

metrics = pytest.importorskip("opentelemetry.sdk.metrics", reason="needs opentelemetry-sdk")
export = pytest.importorskip("opentelemetry.sdk.metrics.export", reason="needs opentelemetry-sdk")

LEFT = "slo.error_budget.remaining.ratio"
NAMES = {"slo.sli.ratio", "slo.target.ratio", LEFT, "slo.burn_rate", "slo.alert.firing"}
SLOS = [
    SLO("answers", target="90%", match={"kind": "call"}, group_by="route"),
    SLO("quiet", target="99%", match={"kind": "call", "route": "nobody"}),
]
Points = dict[tuple[str, tuple[tuple[str, object], ...]], float]


class Watched:
    """A provider that observes one engine, read by hand."""

    def __init__(self, engine: Engine) -> None:
        self.reader = export.InMemoryMetricReader()
        self.provider = metrics.MeterProvider([self.reader], shutdown_on_exit=False)
        observe(engine, self.provider)

    def points(self) -> Points:
        data = self.reader.get_metrics_data()
        found: Points = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                assert scope.scope.name == "otelslo"
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        found[metric.name, tuple(sorted(point.attributes.items()))] = point.value
        return found


def record(engine: Engine, good: int, bad: int) -> None:
    track = engine.track("rank")
    for outcome, count in (("good", good), ("bad", bad)):
        for _ in range(count):
            engine.record(track, outcome, 1_000_000)


def commit(engine: Engine) -> None:
    advance(engine, s=1)
    engine.runner.tick()


def test_the_leader_s_gauges(make_engine) -> None:
    engine = make_engine(*SLOS)
    watched = Watched(engine)
    record(engine, good=95, bad=5)
    commit(engine)
    points = watched.points()
    assert {name for name, _ in points} == NAMES
    rank = (("http.route", "rank"), ("slo.name", "answers"))
    assert points["slo.sli.ratio", rank] == 0.95
    assert points["slo.target.ratio", rank] == 0.9
    status = next(one for one in host_totals(engine).read().statuses if one.group == "route=rank")
    assert points[LEFT, rank] == float(status.full_budget.remaining_ratio)
    assert points["slo.burn_rate", (*rank, ("slo.window", "1h"))] == 0.5
    quiet = (("slo.name", "quiet"),)
    assert [name for name, attributes in points if attributes == quiet] == ["slo.target.ratio"]  # no data is not good
    firing = [
        value for (name, attributes), value in points.items() if name == "slo.alert.firing" and quiet[0] in attributes
    ]
    assert firing == [0] * len(planned(SLOS[1].as_definition.alerts))


def test_only_the_leader_reports_and_its_successor_after_it(make_engine, tmp_path) -> None:
    first = make_engine(*SLOS, state_dir=tmp_path / "shared")
    second = make_engine(*SLOS, state_dir=tmp_path / "shared")
    watched = [Watched(first), Watched(second)]
    assert [one.points() for one in watched] == [{}, {}]
    record(first, good=9, bad=1)
    for engine in (first, second):
        commit(engine)
    assert [bool(one.points()) for one in watched] == [True, False]
    told = watched[0].points()
    first.close()
    commit(second)
    commit(second)
    assert watched[0].points() == {}
    now = watched[1].points()
    assert now.keys() == told.keys()
    assert {key for key in now if now[key] != told[key]} <= {key for key in now if key[0] == LEFT}  # more was observed


def test_a_leader_that_stood_still_and_was_replaced_reports_nothing(make_engine, tmp_path) -> None:
    still = make_engine(*SLOS, state_dir=tmp_path / "shared")
    other = make_engine(*SLOS, state_dir=tmp_path / "shared")
    watched = Watched(still)
    commit(still)
    assert watched.points()
    advance(other, s=60)
    commit(other)
    assert other.runner.leading
    assert still.runner.leading  # as far as it knows
    assert watched.points() == {}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reports_nothing(make_engine) -> None:
    engine = make_engine(*SLOS)
    watched = Watched(engine)
    commit(engine)
    assert watched.points()
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if watched.points() == {} else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_ring_in_private_memory_reports_its_own(make_engine, tmp_path) -> None:
    (tmp_path / "file").touch()
    engine = make_engine(*SLOS, state_dir=tmp_path / "file" / "state")
    record(engine, good=9, bad=1)
    assert ("slo.sli.ratio", (("http.route", "rank"), ("slo.name", "answers"))) in Watched(engine).points()


def test_an_engine_that_does_not_run_reports_nothing_and_is_not_started(tmp_path) -> None:
    engine = Engine(SLOS, state_dir=tmp_path / "state", clock=ManualClock(), runner=False)
    assert Watched(engine).points() == {}
    assert not engine.running


def test_failures_of_ours_are_counted_and_hurt_no_other_instrument(make_engine, monkeypatch) -> None:
    engine = make_engine(*SLOS)
    watched = Watched(engine)
    watched.provider.get_meter("app").create_counter("orders").add(7)
    commit(engine)

    def broken(self):
        raise RuntimeError("broken")

    monkeypatch.setattr("otelslo.totals.HostTotals.read", broken)
    data = watched.reader.get_metrics_data()
    names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.data.data_points}
    assert names == {"orders"}
    assert sum(engine.faults().values()) == len(GAUGES)


def test_without_opentelemetry_there_is_a_remedy() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\nimport otelslo, otelslo.meter\n"
        "try: otelslo.meter.observe(otelslo.Engine([otelslo.SLO('a')]))\n"
        "except otelslo.OtelsloError as e: print(e)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install opentelemetry-api" in ended.stdout
    assert issubclass(OtelsloError, Exception)


def test_importing_it_loads_no_opentelemetry() -> None:
    code = "import otelslo.meter, sys; print([m for m in ('opentelemetry', 'numba', 'numpy') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
