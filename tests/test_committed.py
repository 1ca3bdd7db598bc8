"""What is decided from a snapshot says what it held, however far the ring has moved on; against a naive list."""

from __future__ import annotations

from conftest import SMALL
from drive import advance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelslo import SLO
from otelslo.committed import CommittedRows
from otelslo.counts import Counts
from otelslo.evaluate import statuses
from otelslo.ring.collect import Collector

FINE_NS = SMALL.fine_ns
STEPS = st.lists(
    st.tuples(st.sampled_from(["good", "bad", "excluded"]), st.integers(0, 3), st.integers(0, 3 * FINE_NS)), max_size=30
)


class _NoHistory:
    needs_full = False

    def load(self):
        return None


def play(engine, track, steps, naive):
    for outcome, times, pause_ns in steps:
        for _ in range(times):
            engine.record(track, outcome, 0)
            naive.append((engine.clock.ring_ns(), outcome))
        advance(engine, ns=pause_ns)


def counted(naive, start_ns):
    since = [outcome for at_ns, outcome in naive if at_ns // FINE_NS >= start_ns // FINE_NS]
    return Counts(since.count("good"), since.count("bad"), since.count("excluded"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=STEPS, after=STEPS, reaches=st.lists(st.integers(0, 40 * FINE_NS), min_size=1, max_size=6))
def test_windows_end_at_the_snapshot(make_engine, before, after, reaches):
    engine = make_engine(SLO("calls", match={"kind": "call"}))
    track, naive = engine.track("job"), []
    play(engine, track, before, naive)
    now = engine.clock.ring_ns()
    snapshot = Collector(engine.ring, _NoHistory()).collect(now, "{}")
    play(engine, track, after, [])
    rows = CommittedRows(snapshot, engine.ring.reader)
    row = engine.objectives[0].rows[None]
    assert rows.counts(row) == counted(naive, 0)
    for reach_ns in reaches:
        assert rows.window(row, now - reach_ns, now).counts == counted(naive, now - reach_ns)


def test_a_boundary_newer_than_the_totals_is_no_negative_window(make_engine):
    """Blocks are not read at one instant: a slot may have been opened after the totals of one were read."""
    engine = make_engine(SLO("calls", match={"kind": "call"}))
    track = engine.track("job")
    engine.record(track, "good", 0)
    advance(engine, ns=2 * FINE_NS)
    engine.record(track, "bad", 0)
    now, row = engine.clock.ring_ns(), engine.objectives[0].rows[None]
    assert engine.ring.reader.window(row, now, now).counts == Counts(bad=1)
    assert engine.ring.reader.window(row, now, now, until=Counts()).counts == Counts()
    assert engine.ring.reader.window(row, now, now, until=Counts(good=1)).counts == Counts()


def test_statuses_are_those_of_the_snapshot(make_engine):
    engine = make_engine(SLO("calls", match={"kind": "call"}))
    track = engine.track("job")
    engine.record(track, "good", 0)
    now = engine.clock.ring_ns()
    snapshot = Collector(engine.ring, _NoHistory()).collect(now, "{}")
    engine.record(track, "bad", 0)
    [status] = statuses(engine.definitions, CommittedRows(snapshot, engine.ring.reader), now)
    assert (status.counts, status.burn["5m"], status.reasons_total) == (Counts(good=1), 0, {})
