"""A promised rate: slices against a list of events judged one by one, exact edges, idle nights, and the load beside."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from drive import advance, cells
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated import NoHistory

import otelslo
from otelslo import SLO
from otelslo.cli.capacity import command as capacity
from otelslo.committed import CommittedRows
from otelslo.counts import Counts
from otelslo.definition import Definition
from otelslo.errors import BadValue, DefinitionError
from otelslo.evaluate import Book, statuses
from otelslo.event import Ending, Event
from otelslo.lint import lint
from otelslo.notes import Exclusion, Marked, snapped
from otelslo.openslo import read, write
from otelslo.ring.collect import Collector
from otelslo.ring.geometry import Geometry
from otelslo.rowkey import SHED
from otelslo.slices import Slices
from otelslo.tally import merged
from otelslo.throughput import FLEET_NOTE, Load, Throughput, pace_text, parse_rate, parse_scope, parse_share, rate_text
from otelslo.window import HOUR_NS, MINUTE_NS, SECOND_NS

GEOMETRY = Geometry(max_blocks=4, fine_slots=64, coarse_slots=400, snapshots=4, log_records=64)
CALLS = {"kind": "call"}
LIMIT_NS = 200_000_000
# What is recorded, and what the naive twin calls it.
HAPPENED = {
    "good": ("good", LIMIT_NS),
    "slow": ("good", LIMIT_NS + 1),
    "failed": ("bad", 0),
    "shed": ("shed", 0),
    "aside": ("excluded", 0),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["good", "good", "good", "slow", "failed", "shed", "aside"]),
        st.integers(1, 5),
        st.integers(0, 3 * MINUTE_NS),
    ),
    max_size=40,
)
SPANS = st.lists(st.tuples(st.integers(0, 60 * MINUTE_NS), st.integers(1, 10 * MINUTE_NS)), max_size=2)
PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def promised(rate: object = "1000/s", **more: object) -> SLO:
    options = {"rate": rate} | {key: more.pop(key) for key in ("share", "scope") if key in more}
    arguments = {"threshold": "200ms", "target": "99%", "window": "1h", "match": CALLS} | more
    return SLO("rate", indicator="throughput", options=options, **arguments)


class Played:
    """An engine after some events, and the list of them."""

    def __init__(self, make_engine, slo, steps=()):
        self.engine = make_engine(slo, geometry=GEOMETRY)
        self.slices: Slices = slo.slices
        self.events: list[tuple[int, str]] = []
        self.play(steps)

    def play(self, steps):
        track = self.engine.track("job")
        for happened, times, pause_ns in steps:
            for _ in range(times):
                self.engine.record(track, *HAPPENED[happened])
                self.events.append((self.engine.clock.ring_ns(), happened))
            advance(self.engine, ns=pause_ns)
        self.now_ns = self.engine.clock.ring_ns()

    def status(self, marked=Marked(), book=None):  # noqa: B008
        engine = self.engine
        snapshot = Collector(engine.ring, NoHistory()).collect(self.now_ns, "{}")
        rows = CommittedRows(snapshot, engine.ring.reader)
        definitions = [Definition.from_json(one.to_json()) for one in engine.definitions]
        [committed] = statuses(definitions, rows, self.now_ns, marked=marked, book=book)
        [live] = statuses(engine.definitions, engine.ring.reader, self.now_ns, engine.count_since, marked=marked)
        assert committed == live
        return committed

    def naive(self, first, cut=()):
        """Units, peak and held of the closed slices from number `first` on, by the rule as it is written down."""
        length_ns, rate = self.slices.length_ns, self.slices.rate
        born_ns = self.engine.ring.reader.row_birth_ns(self.engine.objectives[0].rows[None])
        units, peak, held = Counts(), 0, 0
        for number in range(max(first, born_ns // length_ns), self.now_ns // length_ns):
            found = Counter(
                what
                for at_ns, what in self.events
                if at_ns // length_ns == number and not any(a <= at_ns < b for a, b in cut)
            )
            good, shed = found["good"], found["shed"]
            offered = good + found["slow"] + found["failed"] + shed
            missed = offered > shed and Fraction(good, offered - shed) < rate.share
            needed = rate.rate * Fraction(length_ns, SECOND_NS)
            is_valid = offered >= needed or shed > 0 or missed
            is_good = good >= needed or (shed == 0 and not missed)
            units += Counts(int(is_valid and is_good), int(is_valid and not is_good), int(not is_valid))
            peak = max(peak, offered)
            held = max(held, 0 if shed or missed else offered)
        return units, peak, held


@PROPERTY
@given(
    steps=STEPS,
    more=STEPS,
    spans=SPANS,
    rate=st.sampled_from(["1/min", "4/min", "7/min", "0.1/s", "11/h", "1000/s"]),
    share=st.sampled_from(["50%", "60%", "99%", "100%"]),
    minutes=st.sampled_from([1, 5]),
)
def test_slices_and_load_are_those_of_a_naive_twin(make_engine, steps, more, spans, rate, share, minutes):
    """With exclusions after the fact, live and as committed, counted at once or one slice after the other."""
    played = Played(make_engine, promised(rate, share=share, slice=f"{minutes}m"), steps)
    book = Book()
    played.status(book=book)
    played.play(more)
    found = [(played.now_ns - back_ns, played.now_ns - back_ns + length_ns) for back_ns, length_ns in spans]
    marked = Marked(tuple(Exclusion(n, None, a, b, "", 0) for n, (a, b) in enumerate(found)))
    cut = merged([snapped(a, b) for a, b in found])
    first = -(-(played.now_ns - HOUR_NS) // played.slices.length_ns)
    for marks, gone in ((Marked(), ()), (marked, cut)):
        units, peak, held = played.naive(first, gone)
        for _ in range(2):
            status = played.status(marks, book)
            assert status.counts == units
            assert (status.load.peak, status.load.held) == (peak, held)
    recent = played.naive(played.now_ns // played.slices.length_ns - 30 // minutes)[0]
    burn = played.status().burn["30m"]
    assert burn == (Fraction(recent.bad, recent.valid) / Fraction(1, 100) if recent.valid else None)


@pytest.mark.parametrize(
    ("good", "slow", "shed", "expected"),
    [
        (0, 0, 0, "idle"),
        (599, 0, 0, "idle"),  # one short of 10/s over a minute, and all in time
        (600, 0, 0, "good"),
        (594, 6, 0, "good"),  # exactly 99 % of exactly what is promised
        (593, 7, 0, "bad"),
        (99, 1, 0, "idle"),  # exactly 99 % of little
        (98, 1, 0, "bad"),  # missed at low load
        (5, 0, 1, "bad"),  # shed at low load
        (0, 0, 1, "bad"),
        (599, 0, 1, "bad"),
        (600, 0, 5_000, "good"),  # what is promised was served, though more came
        (599, 0, 5_000, "bad"),
        (600, 400, 0, "good"),
        (599, 400, 0, "bad"),
        (0, 1, 0, "bad"),
    ],
)
def test_the_rule_at_its_edges(good, slow, shed, expected):
    rate = Throughput(Fraction(10), Fraction(99, 100))
    units = Slices("timeslices", MINUTE_NS, rate.share, rate=rate).of(Counts(good, slow + shed), shed)
    assert units == {"good": Counts(1), "bad": Counts(0, 1), "idle": Counts(0, 0, 1)}[expected]


def test_a_rate_that_is_no_whole_number_of_requests():
    """10 a slice of 33 1/3 are needed: 33 are short of it, 34 are not."""
    rate = Throughput(parse_rate("2000/h"), Fraction(1))
    assert rate.needed(MINUTE_NS) == Fraction(100, 3)
    assert rate.of(Counts(33), 0, MINUTE_NS) == Counts(0, 0, 1)
    assert rate.of(Counts(34), 0, MINUTE_NS) == Counts(1)


def test_a_count_that_fell_into_the_next_slice():
    """Both rows of a shed request are one commit, but their slots may be closed a moment apart."""
    rate = Throughput(Fraction(10), Fraction(99, 100))
    assert rate.of(Counts(), 1, MINUTE_NS) == Counts(0, 1)
    assert rate.of(Counts(3), 7, MINUTE_NS) == Counts(0, 1)


def test_a_night_of_idle_burns_nothing(make_engine):
    """A busy day, then eight hours of single requests: the budget is as it was."""
    busy = [("good", 60, MINUTE_NS)] * 10 + [("shed", 1, MINUTE_NS)]
    played = Played(make_engine, promised("60/min", window="1d"), busy)
    before = played.status()
    assert before.counts == Counts(10, 1, 0)
    played.play([("good", 1, 10 * MINUTE_NS)] * 48)
    after = played.status()
    assert after.counts == Counts(10, 1, 480)
    assert after.budget == before.budget
    assert after.burn["1h"] is None
    assert after.load.peak == after.load.held == 60


def test_the_whole_windows_budget_is_that_of_the_slices_that_count(make_engine):
    """Half of them are idle: a whole window has half as many, by all that is known."""
    played = Played(make_engine, promised("2/min", window="1d"), [("good", 2, MINUTE_NS), ("good", 1, MINUTE_NS)] * 30)
    status = played.status()
    assert status.counts == Counts(30, 0, 30)
    assert status.projected.allowed == Fraction(12 * 60, 100)


def test_what_is_shed_is_counted_on_one_row_more(make_engine):
    """In the same commit; it is shown nowhere, logged once, and never taken for events of the objective."""
    slo, other = promised("1/min"), SLO("other", match=CALLS)
    engine = make_engine(slo, other, geometry=GEOMETRY)
    with otelslo.track("job", engine=engine) as event:
        event.shed()
    with otelslo.track("job", engine=engine) as event:
        event.bad("shed")
    with otelslo.track("job", engine=engine):
        pass
    engine.record(engine.track("job"), "bad", 0)
    assert cells(engine, "rate") == {"good": 1, "bad shed": 2, "bad other": 1}
    reader = engine.ring.reader
    rows = {reader.row_name(row): row for row in range(reader.rows)}
    (key,) = [key for key in rows if key.slo == SHED]
    assert (key.group, key.meaning, reader.cells(rows[key])[0]) == ("rate", slo.meaning, 2)
    assert {(one.slo, one.group) for one in engine.status()} == {("rate", None), ("other", None)}
    assert engine.count("rate", HOUR_NS) == Counts(1, 3)
    losses = reader.losses(0)[0]
    assert sorted((reader.row_name(one.row).slo, one.reason) for one in losses) == sorted(
        [
            ("rate", "shed"),
            ("rate", "shed"),
            ("rate", "other"),
            ("other", "shed"),
            ("other", "shed"),
            ("other", "other"),
        ]
    )
    assert engine._is_wanted(reader.row_key(rows[key]))
    engine.reload([other])
    assert not engine._is_wanted(reader.row_key(rows[key]))


def test_another_promise_keeps_the_history(make_engine):
    """Rate, share and scope decide about slices and not about events; the threshold does."""
    assert promised("1/min").meaning == promised("2/s", share="50%", scope="fleet", slice="5m").meaning
    assert promised("1/min").meaning != promised("1/min", threshold="1s").meaning
    played = Played(make_engine, promised("100/min"), [("good", 10, MINUTE_NS), ("good", 9, MINUTE_NS)])
    book = Book()
    assert played.status(book=book).counts == Counts(0, 0, 2)
    played.engine.reload([promised("10/min")])
    assert played.status(book=book).counts == Counts(1, 0, 1)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"status": 200}, "good good"),
        ({"status": 404}, "good good"),
        ({"status": 401}, "good good"),
        ({"status": 200, "latency_ns": LIMIT_NS + 1}, "bad slow"),
        ({"status": 404, "latency_ns": LIMIT_NS + 1}, "bad slow"),
        ({"status": 500}, "bad 5xx"),
        ({"status": 503, "ending": Ending.SHED}, "bad shed"),
        ({"ending": Ending.EXCEPTION}, "bad exception"),
        ({"ending": Ending.CLIENT_CANCEL}, "excluded client_cancel"),
        ({"ending": Ending.CLIENT_CANCEL, "latency_ns": LIMIT_NS + 1}, "bad abandoned"),
        ({"status": 200, "route": "/healthz"}, "excluded health_check"),
    ],
)
def test_what_is_load(facts, expected):
    """Refusals of the client's are; health checks are not."""
    event = Event("http", **{"latency_ns": LIMIT_NS, "route": "/x"} | facts)
    slo = SLO("rate", indicator="throughput", threshold="200ms", options={"rate": 1000})
    assert " ".join(slo.judge(event).outcome(event.latency_ns)) == expected


def test_the_load_beside_the_promise():
    load = Load(Throughput(Fraction(1000), Fraction(99, 100)), MINUTE_NS, peak=84_000, held=75_000)
    assert (load.peak_rate, load.held_rate) == (1400, 1250)
    assert load.headroom == Fraction(75, 84)
    assert load.held_of_promise == Fraction(5, 4)
    assert load.promise_of_peak == Fraction(10, 14)
    assert load.text == "held 1,250/s, 89.28% of the peak of 1,400/s; 125.00% of the promised 1,000/s of the host"
    assert load.to_json() == {
        "promise_per_s": 1000,
        "share": "99%",
        "scope": "host",
        "note": None,
        "peak_per_s": 1400,
        "held_per_s": 1250,
        "headroom": 75 / 84,
        "held_of_promise": 1.25,
        "promise_of_peak": 10 / 14,
    }
    none = Load(Throughput(Fraction(1, 3), Fraction(1), "fleet"), MINUTE_NS)
    assert (none.headroom, none.promise_of_peak, none.held_of_promise) == (None, None, 0)
    assert none.text == "none yet; the promised 20/min of the fleet has not been seen"
    assert none.to_json()["note"] == FLEET_NOTE


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        (1000, Fraction(1000)),
        ("1000", Fraction(1000)),
        ("1000/s", Fraction(1000)),
        ("60000/min", Fraction(1000)),
        ("1 / m", Fraction(1, 60)),
        (0.1, Fraction(1, 10)),
        ("2.5/h", Fraction(1, 1440)),
        (Fraction(1, 7), Fraction(1, 7)),
    ],
)
def test_rates_are_read_exactly(written, rate):
    assert parse_rate(written) == rate


@pytest.mark.parametrize(
    "written", ["", "fast", "0", 0, -1, "1,000", "1000 rps", "1000/y", True, None, [], "1e3", 10**10]
)
def test_what_is_no_rate(written):
    with pytest.raises(BadValue, match=r"Write requests a second, such as 1000"):
        parse_rate(written)


def test_rates_shares_and_scopes_in_words():
    assert [rate_text(Fraction(*r)) for r in ((1000, 1), (5, 3), (1, 7200), (1, 86_400), (1, 7))] == [
        *("1,000/s", "100/min", "12/d", "1/d", "8.57/min")
    ]
    assert [pace_text(Fraction(n, 60)) for n in (75_000, 60, 61, 5_999, 59, 0)] == [
        *("1,250/s", "1/s", "1.01/s", "99.98/s", "59/min", "0/s")
    ]
    assert (parse_share("100%"), parse_share(0.5)) == (1, Fraction(1, 2))
    with pytest.raises(BadValue, match="is no target"):
        parse_share(True)
    with pytest.raises(BadValue, match="Write host"):
        parse_scope("pod")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budgeting": "occurrences"}, r"budgeting: a rate is kept or not in a slice of time.* Leave it out"),
        ({"budgeting": "ratio_timeslices"}, r"budgeting: a rate is kept or not"),
        ({"slice_target": "95%"}, r"slice_target: the rate and its share say which slices are good"),
        ({"slice_count": 3}, r"slice_count: the rate and its share"),
        ({"empty_slices": "bad"}, r"empty_slices: the rate and its share"),
        ({"slice": "7s"}, r"slice: 7s is no slice"),
        ({"group_by": "route"}, r"group_by: the rate is promised of all requests together"),
        ({"share": "lots"}, r"share: 'lots' is no target"),
        ({"scope": "pod"}, r"scope: 'pod' is no scope"),
        ({"threshold": None}, r"threshold: the indicator 'throughput' needs threshold"),
    ],
)
def test_bad_definitions_are_refused(arguments, message):
    with pytest.raises(DefinitionError, match=message):
        promised(**arguments)


def test_a_rate_is_needed():
    with pytest.raises(DefinitionError, match=r"rate: the indicator 'throughput' needs rate. Add rate: 1000/s"):
        SLO("rate", indicator="throughput", threshold="1s")


def test_defaults_and_alerts():
    """A minute, 99 % in time, of the host; alerts go slice by slice, and none of them is dead."""
    data = {"name": "rate", "indicator": "throughput", "rate": 1000, "threshold": "200ms", "target": "99%"}
    slo = SLO.from_mapping(data)
    assert slo.slices.text == "1m slices with 1,000/s of the host, 99% in time"
    assert slo.slices.length_ns == MINUTE_NS
    assert SLO.from_mapping(data | {"budgeting": "timeslices"}).definition() == slo.definition()
    assert (
        slo.alert_plan.tiers
        == SLO("a", target="99%", budgeting="timeslices", slice="1m", slice_count=1).alert_plan.tiers
    )
    assert not [one for one in lint([slo]) if one.severity == "error"]


@pytest.mark.parametrize("slo", [promised(), promised("100/min", share="100%", scope="fleet", slice="10s")])
def test_as_openslo_and_back(slo):
    """The rate has no word there: it goes under `otelslo` as a source's own keys."""
    (same,) = read(write([slo]), "slo.yaml").slos
    assert same.definition() == slo.definition()


def test_the_page_says_what_is_true():
    """Its objective is one, and its command is understood."""
    page = (Path(__file__).parent.parent / "docs" / "indicators" / "throughput.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    (item,) = yaml.safe_load(text)["slos"]
    slo = SLO.from_mapping(item)
    assert (slo.slices.rate.needed(slo.slices.length_ns), slo.slices.rate.share) == (60_000, Fraction(99, 100))
    (line,) = re.findall(r"^```sh\notelslo capacity (.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    told = capacity.make_context("capacity", shlex.split(line)).params
    assert (told["slo"], told["rates"], told["at_least"]) == (slo.name, [100, 200, 400], 200)
    told = Load(slo.slices.rate, MINUTE_NS).to_json()
    assert {key for key in told if f"| `{key}` |" in page} == told.keys() - {"promise_per_s", "share", "scope", "note"}
    row_mib = [Geometry().for_objectives([], [ns]).row_bytes / 2**20 for ns in (MINUTE_NS, 10 * SECOND_NS)]
    assert [round(mib, 1) for mib in row_mib] == [1.2, 7.0]
