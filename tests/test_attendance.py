"""Slices in which no worker was attached follow a rule of their own, so that a service that is down is not let off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from drive import advance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_tally import GEOMETRY, NoHistory

from otelslo import SLO, DefinitionError, Engine, ManualClock, config
from otelslo.attendance import Attendance
from otelslo.cli import standing, tables
from otelslo.cli.history import SavedRows
from otelslo.committed import CommittedRows
from otelslo.counts import Counts
from otelslo.dated import DatedCounts, DatedRow
from otelslo.definition import Definition
from otelslo.evaluate import Book, statuses
from otelslo.exporters.sqlite_reader import Reader
from otelslo.notes import Exclusion, Marked
from otelslo.ring.collect import Collector
from otelslo.rowkey import ATTENDED, RowKey
from otelslo.slices import Slices
from otelslo.window import HOUR_NS, MINUTE_NS, SECOND_NS

CALLS = {"kind": "call"}
START_NS = 1_700_000_100 * SECOND_NS  # a slice of a minute begins here
PROPERTY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def objective(name="calls", **more):
    return SLO(
        name,
        **({"match": CALLS, "window": "1h", "budgeting": "timeslices", "slice": "1m", "slice_target": "90%"} | more),
    )


class Host:
    """Workers and an agent that share one ring and one clock, turned by hand."""

    def __init__(self, directory, *slos):
        self.directory, self.slos, self.clock = directory, slos, ManualClock(START_NS)
        self.up = []

    def start(self, agent=False):
        engine = Engine(
            self.slos, state_dir=self.directory, clock=self.clock, runner=False, geometry=GEOMETRY, agent=agent
        )
        self.up.append(engine.start())
        return engine

    def stop(self, engine):
        self.up.remove(engine)
        engine.close()

    def pass_time(self, s):
        """In steps of a few seconds, each process with its background thread's turn."""
        while s > 0:
            step = min(s, 5)
            s -= step
            self.clock.advance(s=step)
            for engine in self.up:
                engine.ring.blocks.advance_manual_clock()
                engine.runner.tick()


@pytest.fixture
def host(tmp_path):
    made = []

    def make(*slos):
        made.append(Host(tmp_path / f"host{len(made)}", *slos))
        return made[-1]

    yield make
    for one in made:
        for engine in list(one.up):
            one.stop(engine)


def slices_of(engine, **marked):
    (status,) = statuses(engine.definitions, engine.ring.reader, engine.clock.ring_ns(), **marked)
    return status


# ── by hand ────────────────────────────────────────────────────────────────────────────────────────────────────────
def record(engine, outcome="good"):
    engine.record(engine.track("job"), outcome, 0)


def down_for_three_slices(host):
    """Two slices with a worker, the first also with an event; three without; one with a worker again."""
    worker = host.start()
    host.pass_time(1)
    record(worker)
    host.pass_time(118)
    host.stop(worker)
    host.pass_time(180)
    worker = host.start()
    host.pass_time(61)
    return worker


@pytest.mark.parametrize(
    ("rules", "counts"),
    [
        ({}, Counts(1, 0, 5)),
        ({"unattended": "bad"}, Counts(1, 3, 2)),
        ({"unattended": "ignore", "empty_slices": "bad"}, Counts(1, 2, 3)),
        ({"unattended": "bad", "empty_slices": "good"}, Counts(3, 3, 0)),
        ({"unattended": "bad", "empty_slices": "bad"}, Counts(1, 5, 0)),
    ],
)
def test_a_service_that_is_down_for_three_slices(host, rules, counts):
    worker = down_for_three_slices(host(objective(**rules)))
    status = slices_of(worker)
    assert (status.counts, status.empty_slices) == (counts, 5)
    assert status.unattended_slices == (3 if "unattended" in rules else None)
    assert worker.status()[0].counts == counts
    shown = status.to_json()["slices"]
    assert (shown["unattended"], shown["unattended_rule"]) == (status.unattended_slices, rules.get("unattended"))
    assert worker.faults() == {}


@pytest.mark.parametrize("method", ["timeslices", "ratio_timeslices"])
def test_the_leader_the_live_reader_and_the_history_say_the_same(host, method):
    bar = {} if method == "timeslices" else {"slice_target": None}
    one = host(objective(budgeting=method, slice="5m", unattended="bad", **bar))
    worker = one.start()
    one.pass_time(2)
    one.clock.advance(s=600)
    one.pass_time(1)
    one.stop(worker)
    one.clock.advance(s=900)
    worker = one.start()
    one.pass_time(2)
    one.clock.advance(s=300)
    one.pass_time(1)
    live = slices_of(worker)
    assert (live.unattended_slices, live.counts.bad) == (3, 3 * live.slices.parts)
    book = Book()
    for _ in range(2):
        assert slices_of(worker, book=book) == live
    now_ns = worker.clock.ring_ns()
    snapshot = Collector(worker.ring, NoHistory()).collect(now_ns, "{}")
    committed = CommittedRows(snapshot, worker.ring.reader)
    assert statuses(worker.definitions, committed, now_ns) == [live]
    saved = Reader(worker.state_dir / "otelslo.db").load()
    (told,) = statuses(worker.definitions, SavedRows(saved), saved.at_ns)
    assert (told.counts, told.unattended_slices) == (live.counts, 3)


def test_an_agent_alone_is_nobody(host):
    """It leads and looks while the worker is down; another one that waits to lead serves nothing either."""
    one = host(objective(unattended="bad"))
    agent, waiting = one.start(agent=True), one.start(agent=True)
    one.pass_time(120)
    worker = one.start()
    one.pass_time(59)
    one.stop(worker)
    one.pass_time(121)
    assert agent.runner.leading
    assert not waiting.runner.leading
    status = slices_of(agent)
    assert (status.counts, status.unattended_slices) == (Counts(0, 4, 1), 4)


def test_a_worker_that_dies_before_anybody_has_looked_was_not_there(host):
    """As in a crash loop."""
    one = host(objective(unattended="bad"))
    agent = one.start(agent=True)
    worker = one.start()
    one.pass_time(59)
    one.stop(worker)
    for _ in range(12):
        loop = one.start()
        one.stop(loop)
        one.pass_time(10)
    one.pass_time(1)
    assert agent.runner.leading
    status = slices_of(agent)
    assert (status.counts, status.unattended_slices) == (Counts(0, 2, 1), 2)


def test_before_the_first_look_slices_are_as_empty_ones(host, tmp_path):
    """The rule begins when it is written, and the slice in which it does is not judged by it."""
    one = host(objective())
    worker = one.start()
    one.pass_time(61)
    one.stop(worker)
    one.pass_time(120)
    one.slos = (objective(unattended="bad"),)
    worker = one.start()
    one.pass_time(60)
    one.stop(worker)
    one.pass_time(180)
    worker = one.start()
    one.pass_time(60)
    status = slices_of(worker)
    assert (status.counts.bad, status.unattended_slices) == (2, 2)
    assert status.empty_slices == status.counts.total


def test_without_the_rule_no_row_is_spent_on_it(host):
    one = host(objective(), SLO("occurrences", match=CALLS))
    worker = one.start()
    one.pass_time(3)
    assert ATTENDED not in [worker.ring.reader.row_name(row).slo for row in range(worker.ring.reader.rows)]
    worker.reload([objective(unattended="ignore")])
    for _ in range(3):
        one.pass_time(1)
    row = next(row for row in range(worker.ring.reader.rows) if worker.ring.reader.row_name(row).slo == ATTENDED)
    assert worker.ring.reader.counts(row) == Counts(3)


def test_it_is_counted_while_there_is_no_database(host, monkeypatch):
    one = host(objective(unattended="bad"))
    worker = one.start()
    one.pass_time(1)
    worker.runner.leader.step_down()

    def broken(*_):
        from otelslo.exporters.sqlite import StoreUnavailable

        raise StoreUnavailable("no disk")

    monkeypatch.setattr("otelslo.exporters.sqlite.Store.open", broken)
    one.pass_time(120)
    assert not worker.runner.leading
    assert slices_of(worker).unattended_slices == 0


def test_a_ring_in_memory_is_attended_by_its_process(host, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("otelslo.ring.memory.os.posix_fallocate", full, raising=False)
    monkeypatch.setattr("otelslo.ring.opening.state.prepare", _refuse)
    one = host(objective(unattended="bad"))
    worker = one.start()
    assert worker.ring.path is None
    one.pass_time(125)
    status = slices_of(worker)
    assert (status.unattended_slices, status.empty_slices) == (0, 2)


def _refuse(directory):
    from otelslo.errors import StateError

    raise StateError("no")


def test_after_a_rebuild_it_is_known_as_before(host):
    one = host(objective(slice="5m", unattended="bad"))
    worker = one.start()
    one.pass_time(2)
    one.clock.advance(s=300)
    one.pass_time(2)
    one.stop(worker)
    one.clock.advance(s=900)
    (one.directory / "live.ring").unlink()
    worker = one.start()
    one.pass_time(2)
    one.clock.advance(s=300)
    one.pass_time(1)
    status = slices_of(worker)
    # Looked at in the slices 0, 1, 4 and 5, the first of which is the row's own.
    assert (status.unattended_slices, status.counts.bad) == (2, 2)


def test_what_is_excluded_after_the_fact_is_excluded(host):
    one = host(objective(slice="5m", unattended="bad"))
    worker = one.start()
    one.pass_time(2)
    one.stop(worker)
    one.clock.advance(s=1200)
    worker = one.start()
    one.pass_time(1)
    status = slices_of(worker)
    assert (status.counts, status.unattended_slices) == (Counts(0, 3, 1), 3)
    at_ns = START_NS + 11 * MINUTE_NS
    marked = Marked((Exclusion(1, "calls", at_ns, at_ns + 1, "", 0),))
    assert slices_of(worker, marked=marked).counts == Counts(0, 2, 2)


def test_an_objective_whose_counts_are_dated(host):
    """Its rows are the history's; who was there is the ring's."""
    one = host(objective(slice="5m", unattended="bad"))
    worker = one.start()
    one.pass_time(2)
    one.stop(worker)
    one.clock.advance(s=1200)
    worker = one.start()
    one.pass_time(1)
    definition = Definition.from_json(
        objective(name="dated", slice="5m", unattended="bad").definition() | {"meaning": "m"}
    )
    key = RowKey("dated", "m", None, definition.reason_cells)
    slot = (1, *[0] * 15)
    dated = DatedRow(key, START_NS, {START_NS // (300 * SECOND_NS) * 300 * SECOND_NS + 600 * SECOND_NS: slot})
    now_ns = worker.clock.ring_ns()
    (status,) = statuses([definition], worker.ring.reader, now_ns, marked=Marked(dated=DatedCounts((dated,))))
    assert (status.counts, status.unattended_slices) == (Counts(1, 2, 1), 2)


# ── the slow twin ──────────────────────────────────────────────────────────────────────────────────────────────────
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.just(0)),
        st.tuples(st.sampled_from(["up", "down"]), st.just(0)),
        st.tuples(st.just("call"), st.sampled_from(["good", "bad", "excluded"])),
        st.tuples(st.just("wait"), st.sampled_from([1, 20, 59, 60, 61, 150, 400])),
    ),
    max_size=50,
)


@PROPERTY
@given(
    moves=MOVES,
    minutes=st.sampled_from([1, 5]),
    empty=st.sampled_from(["good", "bad", "ignore"]),
    unattended=st.sampled_from([None, "bad", "ignore"]),
)
def test_as_a_list_of_looks_says(tmp_path_factory, moves, minutes, empty, unattended):
    host = Host(
        tmp_path_factory.mktemp("host"), objective(slice=f"{minutes}m", empty_slices=empty, unattended=unattended)
    )
    agent, worker = host.start(agent=True), None
    attendance, events, looks = Attendance(agent.fault), [], []
    for move, more in moves:
        if move == "look":
            attendance.look(agent.ring)
            looks.append((agent.clock.ring_ns(), worker is not None))
        elif move == "up" and worker is None:
            worker = host.start()
        elif move == "down" and worker is not None:
            host.stop(worker)
            worker = None
        elif move == "call" and worker is not None:
            record(worker, more)
            events.append((agent.clock.ring_ns(), more))
        elif move == "wait":
            host.clock.advance(s=more)
            for engine in host.up:
                engine.ring.blocks.advance_manual_clock()
    now_ns = agent.clock.ring_ns()
    slices = agent.definitions[0].slices
    expected, alone, length_ns = Counts(), 0, slices.length_ns
    born_ns = agent.ring.reader.row_birth_ns(agent.objectives[0].rows[None])
    for number in range(max(born_ns // length_ns, -(-(now_ns - HOUR_NS) // length_ns)), now_ns // length_ns):
        start_ns, end_ns = number * length_ns, (number + 1) * length_ns
        found = Counts()
        for at_ns, outcome in events:
            found += Counts(**{outcome: 1}) if start_ns <= at_ns < end_ns else Counts()
        seen = any(found_one for at_ns, found_one in looks if start_ns <= at_ns < end_ns)
        nobody = start_ns >= born_ns and not seen and unattended is not None
        alone += nobody and found.valid == 0
        expected += slices.of(found, attended=not nobody)
    for status in (slices_of(agent), slices_of(agent, book=Book())):
        assert status.counts == expected
        assert status.unattended_slices == (None if unattended is None else alone)
    assert agent.faults() == {}
    for engine in list(host.up):
        host.stop(engine)


# ── written ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_rule_is_checked_and_kept():
    with pytest.raises(DefinitionError, match=r"'good' is no rule\. Write bad or ignore"):
        objective(unattended="good")
    with pytest.raises(DefinitionError, match="has a meaning only in slices"):
        SLO("calls", unattended="bad")
    slo = objective(unattended="bad")
    assert Definition.from_json(json.loads(json.dumps(slo.definition()))).slices == slo.slices
    old = slo.slices.to_json()
    del old["unattended"]  # as an earlier version has written it
    assert Slices.from_json(old).unattended is None
    assert slo.meaning == objective().meaning


def test_a_clock_that_is_turned_shows_a_look_in_its_slice(make_engine):
    engine = make_engine(objective(unattended="bad"), geometry=GEOMETRY)
    engine.runner.tick()
    advance(engine, s=600)
    engine.runner.tick()
    assert slices_of(engine).unattended_slices == 9


WORKER = """
import sys
from pathlib import Path
from otelslo import SLO, Engine
with Engine([SLO("calls", match={"kind": "call"})], state_dir=sys.argv[1], runner=False, agent=sys.argv[2] == "agent"):
    print("attached", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["worker", "agent"])
def test_a_killed_process_is_not_there_any_more(tmp_path, kind):
    """Real processes: seen without their word, gone without it; a block that is taken over is its owner's."""
    command = [sys.executable, "-c", WORKER, str(tmp_path / "state")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    slo = SLO("calls", match=CALLS)
    with Engine([slo], state_dir=tmp_path / "state", runner=False, agent=True) as agent:
        assert not agent.ring.blocks.attended()
        for who in (kind, "worker"):
            with subprocess.Popen([*command, who], **pipes) as process:
                assert process.stdout.readline() == "attached\n"
                assert agent.ring.blocks.attended() is (who == "worker")
                process.kill()
                process.wait()
            assert not agent.ring.blocks.attended()


def test_the_page_s_example_is_a_good_configuration(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "slices.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "slo.yaml").write_text(text)
    (slo,) = config.load(str(tmp_path / "slo.yaml")).slos
    assert (slo.slices.empty, slo.slices.unattended) == ("ignore", "bad")


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("bad", "3 of 4 slices of 1m bad · 2 of 6 empty, left out · 3 without a worker, as bad"),
        ("ignore", "0 of 1 slices of 1m bad · 2 of 6 empty, left out · 3 without a worker, left out"),
    ],
)
def test_status_tells_them_apart(host, rule, told):
    worker = down_for_three_slices(host(objective(unattended=rule)))
    assert standing._slices(slices_of(worker), tables._UNICODE).plain == told
