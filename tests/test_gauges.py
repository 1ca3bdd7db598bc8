"""What is decided is told the same by OTLP, meters and `/metrics`: budgets, alerts, agreements, slices, marks."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction

import pytest
from drive import advance
from exporters.reports import encoded, points
from prometheus_client.parser import text_string_to_metric_families

from otelslo import SLO, Engine
from otelslo.alerts import AlertPlan, parse_alerts
from otelslo.delivery import DeliveryState
from otelslo.errors import Place
from otelslo.gauges import ALERTS, GAUGES, gauges, planned
from otelslo.meter import observe
from otelslo.notes import SNAP_NS
from otelslo.openmetrics import render
from otelslo.report import Report
from otelslo.ring.geometry import Geometry
from otelslo.status import Status
from otelslo.totals import host_totals
from otelslo.window import DAY_NS, HOUR_NS, SECOND_NS

metrics = pytest.importorskip("opentelemetry.sdk.metrics", reason="needs opentelemetry-sdk")
export = pytest.importorskip("opentelemetry.sdk.metrics.export", reason="needs opentelemetry-sdk")

GEOMETRY = Geometry(max_blocks=4, snapshots=4)
CALLS = {"kind": "call"}
NOWHERE = {"ops": ("webhook", {"url": "http://127.0.0.1:9/", "allow_http": True, "allow_private": True})}
NAMES = {gauge.name.replace(".", "_"): gauge.name for gauge in GAUGES}
Told = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Idle:
    """A destination, so that there is somebody to report to."""

    def state(self) -> DeliveryState:
        return DeliveryState("idle")

    def close(self, deadline_ns: int) -> None:
        pass


class Observed:
    """An engine that leads, and what each way out tells of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reports: list[Report] = []
        dispatch = engine.runner.leader.dispatch
        dispatch.due = lambda now_ns: True  # type: ignore[method-assign]
        dispatch.offer = self.reports.append  # type: ignore[method-assign]
        dispatch._deliveries.append(Idle())  # type: ignore[arg-type]
        self.reader = export.InMemoryMetricReader()
        observe(engine, metrics.MeterProvider([self.reader], shutdown_on_exit=False))
        self.tick()

    def tick(self, seconds: float = 1) -> None:
        """Time passes, the leader commits, and time passes until nothing older is told."""
        advance(self.engine, s=seconds)
        self.engine.runner.tick()
        advance(self.engine, s=1)

    def play(self, seconds: int, good: int = 0, bad: int = 0) -> None:
        track = self.engine.track("job")
        for second in range(seconds):
            for outcome, times in (("good", good), ("bad", bad)):
                for _ in range(times):
                    self.engine.record(track, outcome, 0)
            advance(self.engine, s=1)
            if second % 10 == 9:
                self.engine.runner.tick()
        self.tick()

    def otlp(self) -> Told:
        found = points(encoded(self.reports[-1]))
        return {(name, where): point.as_double for (name, where), point in found.items() if name in set(NAMES.values())}

    def meter(self) -> Told:
        data = self.reader.get_metrics_data()
        return {
            (metric.name, frozenset(point.attributes.items())): point.value
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }

    def page(self) -> Told:
        """/metrics, with the names of OpenTelemetry."""
        return {
            (NAMES[name], frozenset((label.replace("_", "."), value) for label, value in labels)): told
            for (name, labels), told in samples(self.engine).items()
            if name in NAMES
        }

    def told(self) -> Told:
        """What all three tell alike."""
        otlp = self.otlp()
        assert self.page() == otlp
        assert self.meter() == otlp
        return otlp

    def of(self, name: str, slo: str = "calls") -> dict[str, float]:
        """The values of one gauge, by what tells its points apart."""
        return {
            " ".join(value for key, value in sorted(where) if key != "slo.name"): value
            for (gauge, where), value in self.told().items()
            if gauge == name and ("slo.name", slo) in where
        }


def samples(engine: Engine) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(render(engine, "")[1].decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def leading(make_engine) -> Callable[..., Observed]:
    def make(*slos: SLO, **objective: object) -> Observed:
        chosen = slos or (SLO("calls", **({"match": CALLS, "alerts": {"guard": "off"}} | objective)),)
        engine = make_engine(*chosen, geometry=GEOMETRY)
        engine.channels = NOWHERE
        return Observed(engine)

    return make


# ── budgets ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_budget_told_is_that_of_a_whole_window(leading) -> None:
    """The first failure of a new service has not used up a month, however much of its traffic so far it was."""
    seen = leading(target="90%", window="1h", alerts="off")
    seen.play(600, good=1)
    seen.play(300, bad=1)
    (status,) = seen.reports[-1].statuses
    assert status.budget.remaining < 0
    allowed = Fraction(1, 10) * status.counts.valid * HOUR_NS / status.observed_ns
    assert seen.of("slo.error_budget.remaining.ratio") == {"": float(1 - status.counts.bad / allowed)}
    seen.play(4000, good=1)
    (status,) = seen.reports[-1].statuses
    assert status.projected is None
    assert seen.of("slo.error_budget.remaining.ratio") == {"": float(status.budget.remaining_ratio)}


def test_an_agreement_has_gauges_of_its_own(leading) -> None:
    seen = leading(
        SLO("calls", match=CALLS, target="99%", sla="90%", window="1h"), SLO("bare", match=CALLS, window="1h")
    )
    seen.play(600, good=19, bad=1)
    (status,) = [one for one in seen.reports[-1].statuses if one.slo == "calls"]
    assert seen.of("slo.sla.target.ratio") == {"": 0.9}
    left = seen.of("slo.sla.error_budget.remaining.ratio")[""]
    allowed = Fraction(1, 10) * status.counts.valid * HOUR_NS / status.observed_ns
    assert left == float(1 - status.counts.bad / allowed)
    assert left > seen.of("slo.error_budget.remaining.ratio")[""]
    assert seen.of("slo.sla.target.ratio", "bare") == {}
    seen.play(4000, good=19, bad=1)  # a whole window: half of the agreement's budget is spent
    assert seen.of("slo.sla.error_budget.remaining.ratio")[""] == 0.5


def test_slices_are_told_in_slices(leading) -> None:
    slices = {"slice": "1m", "match": CALLS, "target": "99%"}
    seen = leading(
        SLO("calls", budgeting="timeslices", slice_target="50%", **slices),
        SLO("parts", budgeting="ratio_timeslices", empty_slices="good", **slices),
        SLO("events", match=CALLS),
    )
    advance(seen.engine, ns=60 * SECOND_NS - seen.engine.clock.ring_ns() % (60 * SECOND_NS))
    for good, bad in [(1, 0)] * 5 + [(1, 3)] * 2 + [(0, 0)] * 3:
        seen.play(58, good=good, bad=bad)  # and two seconds until it is told: a minute
    found, empty = seen.of("slo.slices"), seen.of("slo.slices.empty")[""]
    assert found == {"good": 5, "bad": 2, "excluded": empty}
    assert empty >= 3
    assert seen.of("slo.slices", "parts") == {"good": 5 + 0.5 + empty, "bad": 1.5, "excluded": 0}
    assert seen.of("slo.slices", "events") == {}


# ── what has a time of its own ─────────────────────────────────────────────────────────────────────────────────────
def test_events_that_may_be_revised_are_gauges_of_the_window(leading) -> None:
    """A correction takes one away from `good`: a counter that goes back is read as a restart, and counted whole."""
    seen = leading(
        SLO("right", indicator="accuracy", target="90%", window="7d", options={"label_within": "10m"}),
        SLO("calls", match=CALLS),
    )
    engine = seen.engine
    for number, truth in enumerate([1, 1, 1, 0, None]):
        engine.log_prediction("m", id=number, output=1)
        if truth is not None:
            engine.log_label("m", id=number, truth=truth)
    seen.tick(), seen.tick(10)
    assert seen.of("slo.window.events", "right") == {"good": 3, "bad": 1, "excluded": 0}
    assert seen.of("slo.predictions", "right") == {"labelled": 4, "pending": 1, "lapsed": 0, "gone": 0}
    assert seen.of("slo.window.events", "calls") == seen.of("slo.predictions", "calls") == {}
    engine.log_label("m", id=0, truth=0)
    seen.tick(1200), seen.tick(10)
    assert seen.of("slo.window.events", "right") == {"good": 2, "bad": 2, "excluded": 1}
    assert seen.of("slo.predictions", "right") == {"labelled": 4, "pending": 0, "lapsed": 1, "gone": 0}
    assert "slo_window_events" in render(engine, "application/openmetrics-text; version=1.0.0")[1].decode()
    engine.runner.store.notes.exclude("right", 0, engine.clock.wall_ns(), "a wrong feed", engine.clock.wall_ns())
    seen.tick(10), seen.tick(10)
    assert seen.of("slo.window.events", "right") == {"good": 0, "bad": 0, "excluded": 5}
    assert seen.of("slo.predictions", "right") == {}
    counted = {dict(where)["slo.name"] for name, where in points(encoded(seen.reports[-1])) if name == "slo.events"}
    assert counted == {"calls"}


# ── alerts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
PAGES, TICKETS = {"page-fast page", "page-slow page"}, {"ticket-fast ticket", "ticket-slow ticket"}
OTHERS = {"budget-exhausted ticket", "exclusion-share ticket", "no-data ticket"}


def test_every_alert_of_the_plan_is_there_at_0_and_is_1_while_it_fires(leading) -> None:
    seen = leading(alerts={"guard": "off", "no_data": "1h"})
    assert seen.of("slo.alert.firing") == dict.fromkeys(PAGES | TICKETS | OTHERS, 0)
    seen.play(3600, good=1)
    seen.play(120, bad=1)
    found = seen.of("slo.alert.firing")
    assert {name for name, value in found.items() if value == 1} == PAGES | TICKETS  # tickets are silenced, and fire
    seen.play(400, good=1)
    assert seen.of("slo.alert.firing")["page-fast page"] == 0
    assert set(seen.of("slo.alert.firing")) == set(found)


def test_what_fires_keeps_its_severity_and_outlives_its_plan(leading) -> None:
    seen = leading()
    (status,) = seen.reports[-1].statuses
    (definition,) = seen.reports[-1].definitions

    def alerts(plan: AlertPlan, *shown: tuple[str, str, str]) -> dict[tuple[str, str], float]:
        states = tuple({"name": name, "severity": severity, "state": state} for name, severity, state in shown)
        told: Iterable[tuple[float, dict[str, str]]] = ALERTS.points(
            replace(status, alerts=states), replace(definition, alerts=plan)
        )
        return {(where["slo.alert.name"], where["slo.alert.severity"]): value for value, where in told}

    plan = parse_alerts({"tiers": "off", "exclusion_share": "off"}, 30 * DAY_NS, Fraction(999, 1000), Place("test"))
    assert alerts(plan) == {("budget-exhausted", "ticket"): 0}
    assert alerts(plan, ("budget-exhausted", "page", "firing"), ("gone", "page", "firing")) == {
        ("budget-exhausted", "page"): 1,
        ("gone", "page"): 1,
    }
    for state in ("pending", "resolved"):
        assert alerts(plan, ("budget-exhausted", "page", state)) == {("budget-exhausted", "ticket"): 0}
    assert planned(AlertPlan(exhausted=None, exclusion_share=None)) == {}


def test_where_nobody_decides_alerts_none_is_told(make_engine, tmp_path) -> None:
    assert [gauge.name for gauge in GAUGES if gauge not in gauges(False)] == ["slo.alert.firing"]
    (tmp_path / "file").touch()
    engine = make_engine(SLO("calls", match=CALLS), state_dir=tmp_path / "file" / "state")
    assert engine.ring.path is None
    assert not any(name == "slo_alert_firing" for name, _ in samples(engine))
    assert any(name == "slo_target_ratio" for name, _ in samples(engine))


# ── marks ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def counts_of(statuses: Iterable[Status]) -> list[tuple[str, int, int, int]]:
    return [(one.slo, one.counts.good, one.counts.bad, one.planned_bad) for one in statuses]


def test_any_worker_goes_by_the_same_marks_as_the_leader(leading, make_engine) -> None:
    seen = leading(alerts="off")
    engine = seen.engine
    advance(engine, ns=SNAP_NS - engine.clock.ring_ns() % SNAP_NS)
    seen.play(100, good=1, bad=1)
    advance(engine, s=SNAP_NS // SECOND_NS)
    seen.play(50, good=1, bad=1)
    wall_ns, notes = engine.clock.wall_ns(), engine.runner.store.notes
    other = make_engine(*engine.slos, geometry=GEOMETRY, state_dir=engine.state_dir, clock=engine.clock)
    assert counts_of(host_totals(other).read().statuses) == [("calls", 150, 150, 0)]
    first_ns = wall_ns - (50 + SNAP_NS // SECOND_NS + 110) * SECOND_NS
    notes.exclude("calls", first_ns, first_ns + 100 * SECOND_NS, "a provider was down", wall_ns)
    notes.annotate("release", None, wall_ns - 60 * SECOND_NS, None, "2", "planned", True, wall_ns)
    advance(other, s=1)  # a second later, with no new commit
    told = host_totals(other).read()
    assert counts_of(told.statuses) == [("calls", 50, 50, 50)]
    assert told.statuses[0].excluded_since.valid == 200
    seen.tick(10)
    assert counts_of(seen.reports[-1].statuses) == [("calls", 50, 50, 50)]
    assert samples(other)["slo_sli_ratio", (("slo_name", "calls"),)] == 0.5


def test_a_database_of_before_there_were_marks_is_no_hindrance(leading) -> None:
    seen = leading()
    seen.play(20, good=1)
    with sqlite3.connect(seen.engine.state_dir / "otelslo.db") as connection:
        for table in ("exclusions", "annotations", "alerts"):
            connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    connection.close()
    engine = seen.engine
    host_totals(engine)._marks = None  # as in a worker that has never read them
    advance(engine, s=2)
    totals = host_totals(engine).read()
    assert counts_of(totals.statuses) == [("calls", 20, 0, 0)]
    assert not totals.alerts_decided
    assert sum(engine.faults().values()) == 0


# ── the page ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_promtool_finds_nothing_to_complain_of(leading) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    seen = leading(
        SLO("calls", match=CALLS, sla="99%", alerts={"guard": "off"}),
        SLO("slices", match=CALLS, budgeting="timeslices", slice="1m", slice_target="50%", target="99%"),
    )
    seen.play(120, good=1, bad=1)
    ended = subprocess.run([promtool, "check", "metrics"], input=render(seen.engine, "")[1], capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_group_that_is_named_like_a_label_of_ours_takes_no_label_away(make_engine) -> None:
    engine = make_engine(SLO("calls", match=CALLS, group_by=["slo_window"], group_values={"slo_window": ["1h", "x"]}))
    track = engine.track("job", slo_window="1h")
    engine.record(track, "good", 0)
    found = [labels for name, labels in samples(engine) if name == "slo_burn_rate" and ("slo_window", "5m") in labels]
    assert any(value == "1h" and key != "slo_window" for labels in found for key, value in labels)
