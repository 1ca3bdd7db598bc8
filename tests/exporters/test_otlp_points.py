"""A report as OTLP points: every total exactly as the snapshot has it, by a twin that reads the bytes word by word."""

from __future__ import annotations

from fractions import Fraction

from drive import advance
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from opentelemetry.sdk.resources import Resource

from exporters.reports import RING_ID, START_NS, attributes, encoded, points, report, report_of, row, values, word
from otelslo import SLO
from otelslo.exporters.otlp_points import MOST_POINTS, requests
from otelslo.faults import REASONS
from otelslo.gauges import planned
from otelslo.report import Report
from otelslo.rowkey import SELF, RowKey

PLAIN = SLO("checkout")
BY_ROUTE = SLO("search", indicator="latency", threshold="200ms", target="95%", group_by=["route", "version"])
GROUPS = ["(overflow)", "(unknown)", *(f"route=/r{n},version=v{n % 3}" for n in range(40))]
COUNT = st.integers(0, 2**48 - 1)


def label(**pairs: str) -> frozenset[tuple[str, str]]:
    return frozenset((name.replace("_", "."), value) for name, value in pairs.items())


# ── totals ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def twin_of_events(given: Report, slos: list[SLO]) -> dict[frozenset[tuple[str, str]], int]:
    """slo.events, the slow way."""
    found = {}
    for number, text in enumerate(given.snapshot.row_keys):
        key = RowKey.parse(text)
        if (key.slo, key.meaning) not in [(slo.name, slo.meaning) for slo in slos]:
            continue
        where = {"slo.name": key.slo}
        if key.group in ("(overflow)", "(unknown)"):
            where["slo.group"] = key.group
        elif key.group is not None:
            route, version = key.group.split(",")
            where |= {"http.route": route.removeprefix("route="), "service.version": version.removeprefix("version=")}
        for cell in range(16):
            if key.reasons[cell]:
                outcome = "good" if cell == 0 else "bad" if cell < 10 else "excluded"
                reason = {} if cell == 0 else {"slo.reason": key.reasons[cell]}
                total = word(given.snapshot.cells, 16 * number + cell)
                found[frozenset((where | {"slo.outcome": outcome} | reason).items())] = total
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(COUNT, min_size=16, max_size=16),
    st.dictionaries(st.sampled_from(GROUPS), st.lists(COUNT, min_size=16, max_size=16)),
    st.booleans(),
)
def test_every_total_is_the_snapshots(plain, groups, forgotten) -> None:
    rows = [row(PLAIN, plain), *(row(BY_ROUTE, cells, group) for group, cells in groups.items())]
    rows.append(row(SLO("gone"), [5, 5, 5]))  # no objective any more
    in_force = [PLAIN] if forgotten else [PLAIN, BY_ROUTE]
    given = report(in_force, rows)
    assert values(encoded(given), "slo.events") == twin_of_events(given, in_force)


def test_sums_are_cumulative_and_start_with_their_row() -> None:
    late_ns = START_NS + 10**9
    found = encoded(report([PLAIN, BY_ROUTE], [row(PLAIN, [3]), row(BY_ROUTE, [1], "(unknown)", late_ns)]))
    for metric in found[0].resource_metrics[0].scope_metrics[0].metrics:
        assert (metric.name, metric.unit) == ("slo.events", "{event}")
        assert metric.sum.is_monotonic
        assert metric.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    for (_, where), point in points(found).items():
        assert point.start_time_unix_nano == (START_NS if ("slo.name", "checkout") in where else late_ns)
        assert point.time_unix_nano == START_NS + 60 * 10**9


def test_a_wall_clock_that_went_back_puts_no_total_before_its_beginning() -> None:
    found = points(encoded(report([PLAIN], [row(PLAIN, [3])], wall_offset_ns=-3600 * 10**9)))
    assert {point.time_unix_nano for point in found.values()} == {START_NS}


def test_the_identity_is_the_rings_and_not_a_workers() -> None:
    for request in encoded(report([PLAIN], [row(PLAIN)])):
        (found,) = request.resource_metrics
        assert attributes(found.resource.attributes) == {("service.name", "shop"), ("service.instance.id", RING_ID)}


def test_requests_are_full_but_never_fuller() -> None:
    rows = [row(BY_ROUTE, [n] * 16, f"route=/{n},version=v") for n in range(150)]
    given = report([BY_ROUTE], rows)
    sizes = [size for size, _ in requests(given, Resource({}))]
    assert sizes == [MOST_POINTS] * (len(sizes) - 1) + sizes[-1:]
    assert len(sizes) > 2
    found = encoded(given)
    assert [len(points([request])) for request in found] == sizes
    assert values(found, "slo.events") == twin_of_events(given, [BY_ROUTE])


def test_an_empty_report_is_no_request() -> None:
    assert encoded(report()) == []


# ── what an engine has counted ─────────────────────────────────────────────────────────────────────────────────────
def test_series_exist_at_zero_before_the_first_event(make_engine) -> None:
    engine = make_engine(PLAIN, BY_ROUTE)
    found = values(encoded(report_of(engine)), "slo.events")
    assert set(found.values()) == {0}
    named = [reason for reason in PLAIN.reason_cells[1:] if reason]
    assert len([key for key in found if ("slo.name", "checkout") in key]) == 1 + len(named)
    assert label(slo_name="checkout", slo_outcome="good") in found
    assert label(slo_name="checkout", slo_outcome="bad", slo_reason="crashed") in found
    assert {group for key in found for name, group in key if name == "slo.group"} == {"(overflow)", "(unknown)"}


def test_no_data_has_no_ratio_but_a_target(make_engine) -> None:
    found = {name for name, _ in points(encoded(report_of(make_engine(PLAIN))))}
    assert found == {"slo.events", "slo.target.ratio", "slo.alert.firing", "slo.request.duration", "otelslo.faults"}


def test_gauges_are_what_was_decided_from_the_same_snapshot(make_engine) -> None:
    slo = SLO("calls", target="99%", match={"kind": "call"})
    engine = make_engine(slo)
    track = engine.track("f")
    for outcome in ["good"] * 97 + ["bad"] * 3:
        engine.record(track, outcome, 10**6)
    given = report_of(engine)
    engine.record(track, "bad", 10**6)  # after the snapshot
    found, where = encoded(given), frozenset({("slo.name", "calls")})
    assert values(found, "slo.target.ratio") == {where: 0.99}
    assert values(found, "slo.sli.ratio") == {where: 0.97}
    (left,) = values(found, "slo.error_budget.remaining.ratio").values()
    assert left == float(given.statuses[0].full_budget.remaining_ratio)
    burn = values(found, "slo.burn_rate")
    assert burn == {where | {("slo.window", name)}: 3.0 for name in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")}


def test_an_sli_just_below_the_target_is_not_rounded_onto_it(make_engine) -> None:
    engine = make_engine(SLO("calls", target="99%", match={"kind": "call"}))
    given = report_of(engine)
    status = given.statuses[0]
    counts = type(status.counts)(good=99 * 10**16 - 1, bad=10**16 + 1)
    told = type(status)(**{name: getattr(status, name) for name in status.__slots__} | {"counts": counts})
    (sli,) = values(encoded(Report(given.snapshot, (told,), given.definitions)), "slo.sli.ratio").values()
    assert counts.sli < Fraction(99, 100)
    assert sli < 0.99


def test_alerts_and_requests_in_flight_where_there_are_any(make_engine) -> None:
    given = report_of(make_engine(PLAIN))
    status = given.statuses[0]
    alerts = (
        {"name": "page-fast", "severity": "page", "state": "firing"},
        {"name": "page-slow", "severity": "page", "state": "pending"},
    )
    told = type(status)(**{name: getattr(status, name) for name in status.__slots__} | {"alerts": alerts})
    found = encoded(Report(given.snapshot, (told,), given.definitions, in_flight=7))
    firing = {dict(where)["slo.alert.name"]: value for where, value in values(found, "slo.alert.firing").items()}
    assert firing == {**dict.fromkeys(planned(given.definitions[0].alerts), 0), "page-fast": 1}
    assert values(found, "otelslo.requests.in_flight") == {frozenset(): 7}


def test_totals_never_go_back_over_successive_reports(make_engine) -> None:
    slo = SLO("calls", match={"kind": "call"}, group_by=["version"])
    engine = make_engine(slo)
    before: dict = {}
    for turn in range(12):
        track = engine.track("f", version=f"v{turn // 4}")
        for outcome in ("good", "bad", "excluded", None)[: turn % 4 + 1]:
            engine.record(track, outcome, turn * 10**6)
        advance(engine, s=7)
        found = values(encoded(report_of(engine)), "slo.events")
        assert set(before) <= set(found)
        assert all(found[key] >= total for key, total in before.items())
        assert sum(found.values()) == sum(before.values()) + turn % 4 + 1
        before = found


def test_our_own_faults_are_one_series_for_each_reason(make_engine) -> None:
    engine = make_engine(PLAIN)
    for reason, times in {"internal": 3, "capacity": 1}.items():
        for _ in range(times):
            engine.fault(reason, "a test")
    found = values(encoded(report_of(engine)), "otelslo.faults")
    named = [reason for reason in REASONS[1:] if reason]
    wanted = dict.fromkeys(named, 0) | {"internal": 3, "capacity": 1}
    assert found == {frozenset({("otelslo.fault.reason", reason)}): count for reason, count in wanted.items()}


def test_faults_that_another_version_counted_are_added() -> None:
    old = RowKey(SELF, "", None, ("good", "internal", "other", *[""] * 13)).text()
    new = RowKey(SELF, "", None, ("good", "internal", "export", "other", *[""] * 12)).text()
    cells = [[9, 2, 3, *[0] * 13], [9, 5, 7, 1, *[0] * 12]]
    rows = [(old, START_NS, cells[0]), (new, START_NS + 5, cells[1])]
    found = values(encoded(report([], rows)), "otelslo.faults")
    assert {dict(key)["otelslo.fault.reason"]: count for key, count in found.items()} == {
        "internal": 7,
        "export": 7,
        "other": 4,
    }
