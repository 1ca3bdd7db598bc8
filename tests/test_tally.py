"""Windows of every kind, slices and exclusions after the fact, against a list of events counted one by one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from drive import advance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelslo import SLO
from otelslo.cli.history import SavedRows
from otelslo.committed import CommittedRows
from otelslo.counts import Counts
from otelslo.evaluate import Book, statuses
from otelslo.notes import SNAP_NS, Annotation, Exclusion, Marked, snapped
from otelslo.period import Calendar
from otelslo.ring.collect import Collector
from otelslo.ring.geometry import Geometry
from otelslo.slices import RATIO_PARTS, Slices
from otelslo.snapshot import Saved
from otelslo.tally import Line, merged, without
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

GEOMETRY = Geometry(max_blocks=4, fine_slots=64, coarse_slots=400, snapshots=4, log_records=64)
FINE_NS = GEOMETRY.fine_ns
STEPS = st.lists(
    st.tuples(st.sampled_from(["good", "good", "bad", "excluded"]), st.integers(1, 4), st.integers(0, 9 * MINUTE_NS)),
    max_size=40,
)
SPANS = st.lists(st.tuples(st.integers(0, 90 * MINUTE_NS), st.integers(1, 20 * MINUTE_NS)), max_size=3)
WINDOW_NS = HOUR_NS
CALLS = {"kind": "call"}
PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class NoHistory:
    needs_full = False

    def load(self):
        return None


class Played:
    """An engine after some events, and the list of them."""

    def __init__(self, make_engine, steps, **objective):
        self.engine = make_engine(
            SLO("calls", match=CALLS, **({} if "calendar" in objective else {"window": "1h"}) | objective),
            geometry=GEOMETRY,
        )
        self.events = []
        track = self.engine.track("job")
        for outcome, times, pause_ns in steps:
            for _ in range(times):
                self.engine.record(track, outcome, 0)
                self.events.append((self.engine.clock.ring_ns(), outcome))
            advance(self.engine, ns=pause_ns)
        self.now_ns = self.engine.clock.ring_ns()

    def status(self, marked=Marked(), book=None):  # noqa: B008
        snapshot = Collector(self.engine.ring, NoHistory()).collect(self.now_ns, "{}")
        rows = CommittedRows(snapshot, self.engine.ring.reader)
        [committed] = statuses(self.engine.definitions, rows, self.now_ns, marked=marked, book=book)
        [live] = statuses(
            self.engine.definitions, self.engine.ring.reader, self.now_ns, self.engine.count_since, marked=marked
        )
        assert committed == live
        return committed

    def between(self, start_ns, end_ns, cut=()):
        """Events of a span of whole slots, those in `cut` as excluded."""
        found = Counts()
        for at_ns, outcome in self.events:
            if start_ns <= at_ns < end_ns:
                outcome = "excluded" if any(a <= at_ns < b for a, b in cut) else outcome
                found += Counts(**{outcome: 1})
        return found

    def each_slice(self, slices, first, cut=()):
        """Start, end and units of the closed slices from number `first` on, since the row's birth; whether it is
        empty, and no exclusion has made it so."""
        born_ns = self.engine.ring.reader.row_birth_ns(self.engine.objectives[0].rows[None])
        for number in range(max(first, born_ns // slices.length_ns), self.now_ns // slices.length_ns):
            start_ns, end_ns = number * slices.length_ns, (number + 1) * slices.length_ns
            events = self.between(start_ns, end_ns, cut)
            hidden = events.valid == 0 and any(a < end_ns and b > start_ns for a, b in cut)
            units = Counts(excluded=slices.parts) if hidden else slices.of(events)
            yield start_ns, end_ns, units, events.valid == 0 and not hidden

    def sliced(self, slices, first, cut=()):
        """Their units together."""
        return sum((units for _, _, units, _ in self.each_slice(slices, first, cut)), Counts())


def cuts(played, spans):
    """Exclusions at these distances before now, and what they cut out of the list."""
    found = [(played.now_ns - back_ns, played.now_ns - back_ns + length_ns) for back_ns, length_ns in spans]
    exclusions = [Exclusion(n, None, a, b, "", 0) for n, (a, b) in enumerate(found)]
    return Marked(tuple(exclusions)), merged([snapped(a, b) for a, b in found])


@PROPERTY
@given(steps=STEPS, spans=SPANS)
def test_a_rolling_window_without_what_was_excluded_since(make_engine, steps, spans):
    played = Played(make_engine, steps)
    marked, cut = cuts(played, spans)
    status = played.status(marked)
    start_ns = (played.now_ns - WINDOW_NS) // SNAP_NS * SNAP_NS
    end_ns = played.now_ns + 1
    raw = played.between(start_ns, end_ns)
    assert status.counts == played.between(start_ns, end_ns, cut)
    assert status.counts.total == raw.total
    taken = status.excluded_since
    assert Counts(status.counts.good + taken.good, status.counts.bad + taken.bad, raw.excluded) == raw


@PROPERTY
@given(
    steps=STEPS,
    spans=SPANS,
    minutes=st.sampled_from([1, 5, 10]),
    method=st.sampled_from(["timeslices", "ratio_timeslices"]),
    empty=st.sampled_from(["good", "bad", "ignore"]),
)
def test_slices_from_the_same_events(make_engine, steps, spans, minutes, method, empty):
    bars = {"slice_target": "60%", "slice_count": 2} if method == "timeslices" else {}
    played = Played(make_engine, steps, budgeting=method, slice=f"{minutes}m", empty_slices=empty, **bars)
    slices = played.engine.definitions[0].slices
    marked, cut = cuts(played, spans)
    book = Book()
    for _ in range(2):  # with the book a second time: nothing is counted again
        status = played.status(marked, book)
        first = -(-(played.now_ns - WINDOW_NS) // slices.length_ns)
        assert status.counts == played.sliced(slices, first, cut)
        assert status.empty_slices == sum(empty for *_, empty in played.each_slice(slices, first, cut))
    last_hour = played.sliced(slices, played.now_ns // slices.length_ns - 30 // minutes, cut)
    assert (status.burn["30m"] is None) == (last_hour.valid == 0)
    if last_hour.valid:
        assert status.burn["30m"] == Fraction(last_hour.bad, last_hour.valid) / (1 - status.target)


@PROPERTY
@given(steps=STEPS, more=STEPS)
def test_a_book_goes_on_where_it_ended(make_engine, steps, more):
    """Slices counted one after the other are those counted at once."""
    played = Played(make_engine, steps, budgeting="timeslices", slice="1m", slice_target="60%")
    book = Book()
    played.status(book=book)
    track = played.engine.track("job")
    for outcome, times, pause_ns in more:
        for _ in range(times):
            played.engine.record(track, outcome, 0)
            played.events.append((played.engine.clock.ring_ns(), outcome))
        advance(played.engine, ns=pause_ns)
    played.now_ns = played.engine.clock.ring_ns()
    assert played.status(book=book) == played.status()


def test_what_is_excluded_means_the_same_when_it_is_old(make_engine):
    """Exclusions take whole slots of five minutes, also while there are finer ones."""
    played = Played(make_engine, [("bad", 1, 100 * SECOND_NS)] * 30)
    at_ns = played.events[10][0]
    marked = Marked((Exclusion(1, "calls", at_ns, at_ns + 1, "", 0),))
    fresh = played.status(marked).excluded_since
    assert fresh.bad == played.between(*snapped(at_ns, at_ns + 1)).bad > 1
    advance(played.engine, s=25 * 60)
    played.now_ns = played.engine.clock.ring_ns()
    assert played.status(marked).excluded_since == fresh
    assert played.status(Marked((Exclusion(1, "others", at_ns, at_ns + 1, "", 0),))).excluded_since == Counts()


def annotated(start_ns, end_ns, planned=True):
    return Annotation(1, "release", None, start_ns, end_ns, "2", "", planned, 0)


def test_planned_spending_is_shown_apart_and_stays_spent(make_engine):
    played = Played(make_engine, [("bad", 1, 5 * MINUTE_NS)] * 6)
    at_ns = played.events[3][0]
    status = played.status(Marked((), (annotated(at_ns, None),)))
    assert (status.counts.bad, status.planned_bad) == (6, 3)
    assert played.status(Marked((), (annotated(at_ns, None, planned=False),))).planned_bad == 0
    assert played.status(Marked((), (annotated(at_ns, at_ns),))).planned_bad == 0  # an instant takes no time
    assert played.status(Marked((), (annotated(played.now_ns + 1, None),))).planned_bad == 0  # it is still to come


def within(moment_ns, spans):
    return any(a <= moment_ns < b for a, b in spans)


@PROPERTY
@given(steps=STEPS, spans=SPANS, planned=SPANS)
def test_planned_spending_without_what_was_excluded_since(make_engine, steps, spans, planned):
    """Each bad event by itself: in a whole slot that was planned, and in none that was excluded."""
    played = Played(make_engine, steps)
    marked, cut = cuts(played, spans)
    ends = [(played.now_ns - back_ns, played.now_ns - back_ns + length_ns) for back_ns, length_ns in planned]
    status = played.status(replace(marked, annotations=tuple(annotated(a, b) for a, b in ends)))
    slots, start_ns = [snapped(a, b) for a, b in ends], (played.now_ns - WINDOW_NS) // SNAP_NS * SNAP_NS
    bad = [at_ns for at_ns, outcome in played.events if outcome == "bad" and at_ns >= start_ns]
    assert status.planned_bad == sum(within(at_ns, slots) and not within(at_ns, cut) for at_ns in bad)
    assert status.planned_bad <= status.counts.bad


@PROPERTY
@given(
    steps=STEPS,
    spans=SPANS,
    planned=SPANS,
    minutes=st.sampled_from([1, 5, 10]),
    method=st.sampled_from(["timeslices", "ratio_timeslices"]),
)
def test_planned_spending_in_slices(make_engine, steps, spans, planned, minutes, method):
    """In the unit of the budget: of each slice that lies in a planned span as a whole what is bad."""
    bars = {"slice_target": "60%"} if method == "timeslices" else {}
    played = Played(make_engine, steps, budgeting=method, slice=f"{minutes}m", empty_slices="bad", **bars)
    slices = played.engine.definitions[0].slices
    marked, cut = cuts(played, spans)
    ends = [(played.now_ns - back_ns, played.now_ns - back_ns + length_ns) for back_ns, length_ns in planned]
    book, marked = Book(), replace(marked, annotations=tuple(annotated(a, b) for a, b in ends))
    slots = merged([snapped(a, b) for a, b in ends])
    first = -(-(played.now_ns - WINDOW_NS) // slices.length_ns)
    meant = [
        units.bad
        for start_ns, end_ns, units, _ in played.each_slice(slices, first, cut)
        if any(a <= start_ns and end_ns <= b for a, b in slots)
    ]
    for _ in range(2):
        assert played.status(marked, book).planned_bad == sum(meant)


@pytest.mark.parametrize("objective", [{"window": "3h"}, {"budgeting": "timeslices", "slice": "1m", "slice_target": 1}])
def test_what_was_planned_means_the_same_when_it_is_old(make_engine, objective):
    """Whether or not the ring has slots finer than five minutes of it any more."""
    steps = [("bad", 10, MINUTE_NS), ("good", 1, MINUTE_NS), ("bad", 2, MINUTE_NS), ("bad", 1, 12 * MINUTE_NS)]
    played = Played(make_engine, [("good", 1, 4 * MINUTE_NS), *steps], **({"window": "3h"} | objective))
    engine, (at_ns,) = played.engine, {at for at, _ in played.events[12:14]}
    marked = Marked((), (annotated(at_ns - MINUTE_NS, at_ns + MINUTE_NS),))
    slots = snapped(at_ns - MINUTE_NS, at_ns + MINUTE_NS)
    fresh, expected = played.status(marked), played.between(*slots).bad
    if fresh.slices is not None:
        expected = len({at // MINUTE_NS for at, outcome in played.events if outcome == "bad" and within(at, [slots])})
    assert fresh.planned_bad == expected > 0
    for _ in range(8):
        advance(engine, ns=7 * MINUTE_NS)
        played.now_ns = engine.clock.ring_ns()
        assert played.status(marked).planned_bad == expected


def test_an_empty_slice_that_was_cut_is_not_told_as_empty():
    """Neither empty nor unattended: what was in it is not known."""
    line = Line(
        Slices("timeslices", MINUTE_NS, Fraction(1, 2), empty="bad", unattended="bad"), [(60 * 10**9, 2 * 60 * 10**9)]
    )
    line.extend(lambda at_ns: Counts(), 0, 4 * MINUTE_NS, nobody=lambda start_ns, end_ns: start_ns < 2 * MINUTE_NS)
    assert (line.since(0), line.empty(0), line.unattended(0)) == (Counts(0, 3, 1), 3, 1)


@given(spans=SPANS, cut=SPANS)
def test_spans_without_others(spans, cut):
    """Second by second."""
    spans, cut = (merged([(a // SECOND_NS, (a + b) // SECOND_NS) for a, b in each]) for each in (spans, cut))
    left = without(spans, cut)
    assert merged(left) == left
    moments = range(0, 111 * 60)
    assert [at for at in moments if within(at, left)] == [
        at for at in moments if within(at, spans) and not within(at, cut)
    ]


def test_a_calendar_window_begins_at_midnight(make_engine):
    """Only today's events count; the window's bounds are named; a day that began before the ring is not observed."""
    played = Played(make_engine, [], calendar="day", timezone="Europe/Paris")
    engine = played.engine
    track = engine.track("job")
    start_ns, end_ns = engine.definitions[0].over.bounds(played.now_ns)
    engine.record(track, "bad", 0)
    advance(engine, ns=end_ns - played.now_ns - 1)
    engine.record(track, "good", 0)
    played.now_ns = engine.clock.ring_ns()
    yesterday = played.status()
    assert (yesterday.counts, yesterday.start_ns, yesterday.end_ns) == (Counts(1, 1), start_ns, end_ns)
    advance(engine, ns=1)
    engine.record(track, "good", 0)
    played.now_ns = engine.clock.ring_ns()
    today = played.status()
    assert (today.counts, today.start_ns) == (Counts(1, 0), end_ns)
    assert today.to_json()["window"] == "day (Europe/Paris)"


@pytest.mark.parametrize("objective", [{}, {"budgeting": "timeslices", "slice": "5m", "slice_target": "60%"}])
def test_the_history_alone_tells_the_same(make_engine, objective):
    """Rows of the last commit, with boundaries five minutes apart."""
    played = Played(make_engine, [("bad", 1, 3 * MINUTE_NS), ("good", 3, 3 * MINUTE_NS)] * 8, **objective)
    played.engine.kernels.open_all(played.engine.page)  # as the leader does before it reads
    snapshot = Collector(played.engine.ring, NoHistory()).collect(played.now_ns, "{}")
    ring_part = {name: getattr(snapshot, name) for name in ("ring_id", "at_ns", "wall_offset_ns", "seq", "row_keys")}
    names = ("births_ns", "cells", "histogram_keys", "buckets", "config")
    saved = Saved(
        **ring_part,
        **{name: getattr(snapshot, name) for name in names},
        closed_ns=None,
        clock=(),
        slots=lambda row, a, b: (c for c in snapshot.closes if c.row == row and a <= c.slot_start_ns < b),
    )
    [told] = statuses(played.engine.definitions, SavedRows(saved), played.now_ns)
    assert told.counts == played.status().counts


def test_a_slice_by_hand():
    bar = Slices("timeslices", MINUTE_NS, Fraction(95, 100), 10, "bad")
    assert bar.of(Counts(95, 5)) == Counts(1, 0)
    assert bar.of(Counts(94, 5)) == Counts(0, 1)
    assert bar.of(Counts(9, 0)) == Counts(0, 1)  # too few
    assert bar.of(Counts(0, 0, 7)) == Counts(0, 1)  # nothing valid
    ratio = Slices("ratio_timeslices", MINUTE_NS)
    assert ratio.of(Counts(1, 2)) == Counts(333_333_333, 666_666_667)
    assert ratio.of(Counts()) == Counts(excluded=RATIO_PARTS)
    assert Slices.from_json(bar.to_json()) == bar


def test_a_line_forgets_what_no_window_reaches():
    """A row may be years old, and be looked at each second."""
    minute = Slices("timeslices", MINUTE_NS, Fraction(1, 2))

    def totals_at(at_ns):
        return Counts(at_ns // MINUTE_NS, at_ns // (3 * MINUTE_NS))

    def asked(line):
        return [(line.since(now_ns - span * MINUTE_NS), line.empty(now_ns - span * MINUTE_NS)) for span in (1, 7, 30)]

    whole, kept = Line(minute), Line(minute, keep_ns=30 * MINUTE_NS)
    for number in (*range(200), 900, 901):
        now_ns = number * MINUTE_NS
        whole.extend(totals_at, 0, now_ns)
        kept.extend(totals_at, 0, now_ns)
        assert asked(kept) == asked(whole)
    late = Line(minute, keep_ns=30 * MINUTE_NS)
    late.extend(totals_at, 0, now_ns)
    assert asked(late) == asked(whole)
    assert len(late._sums[0]) == len(kept._sums[0]) == 32 < len(whole._sums[0])


@pytest.mark.parametrize("apart_ns", [-SECOND_NS // 3, -1, 0, 1, SECOND_NS // 3])
def test_an_exclusion_of_whole_slots_takes_no_other(apart_ns):
    """Ring time and the wall clock are never quite the same."""
    start_ns, end_ns = 10 * SNAP_NS, 14 * SNAP_NS
    assert snapped(start_ns + apart_ns, end_ns + apart_ns) == (start_ns, end_ns)
    assert snapped(start_ns + apart_ns, start_ns + apart_ns + 1) == (start_ns, start_ns + SNAP_NS)


def test_a_live_ring_stands_still_while_it_is_judged(make_engine):
    """Events that come between two looks at it are in no difference of windows."""
    played = Played(make_engine, [("good", 1, MINUTE_NS)] * 20)
    engine, reader = played.engine, played.engine.ring.reader
    track, window = engine.track("job"), type(reader).window

    def busy(*arguments):
        engine.record(track, "bad", 0)
        return window(*arguments)

    marked = Marked((Exclusion(1, None, played.now_ns - 3 * SNAP_NS, played.now_ns - 2 * SNAP_NS, "", 0),))
    before = played.status(marked)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(reader), "window", busy)
        [during] = statuses(engine.definitions, reader, played.now_ns, engine.count_since, marked=marked)
    assert (during.counts, during.excluded_since) == (before.counts, before.excluded_since)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/London", "Asia/Kathmandu", "Pacific/Auckland"])
def test_a_calendar_day_holds_no_closed_slice_of_a_day(zone):
    """Slices are whole days of UTC; also on days of 23 and 25 hours. One of 23 h fits in at times."""
    day, counted = Calendar("day", zone), {}
    start_ns = 1_772_323_200 * SECOND_NS  # 2026-03-01
    for length_ns in (DAY_NS, 23 * HOUR_NS):
        line = Line(Slices("timeslices", length_ns, least=1))
        counted[length_ns] = 0
        for now_ns in range(start_ns, start_ns + 260 * DAY_NS, HOUR_NS // 2):
            line.extend(lambda at_ns: Counts(good=at_ns // HOUR_NS), start_ns, now_ns)
            counted[length_ns] += line.since(day.bounds(now_ns)[0]).valid
    assert counted[DAY_NS] == 0
    assert counted[23 * HOUR_NS] > 0
