"""Deaths by the OOM killer: what follows from a group's count; and a worker that is really killed, where it may be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.invoke import invoke
from drive import advance

from otelslo import SLO
from otelslo.clock import ManualClock, SystemClock
from otelslo.exporters.sqlite_reader import Reader
from otelslo.oomwatch import HELD_NS, OomWatch

S = 10**9


class Group:
    """A count as the kernel would tell it."""

    def __init__(self, kills=0):
        self.kills = kills

    def __call__(self):
        return self.kills


def test_a_rise_explains_one_death_each():
    group = Group(7)
    watch = OomWatch(group)
    assert (watch.look(0), watch.explains()) == (0, False)  # those before it began explain nothing
    group.kills += 2
    assert watch.look(S) == 2
    assert [watch.explains() for _ in range(3)] == [True, True, False]


def test_a_rise_is_remembered_for_a_while():
    group = Group()
    watch = OomWatch(group)
    group.kills += 1
    watch.look(S)
    watch.look(S + HELD_NS)
    assert watch.explains()
    group.kills += 1
    watch.look(2 * S)
    watch.look(2 * S + HELD_NS + 1)
    assert not watch.explains()


def test_where_nothing_is_known_nothing_is_explained():
    """Also where the count comes and goes, or begins anew in another group."""
    group = Group(None)
    watch = OomWatch(group)
    for kills in (None, 5, None, 9, 3):
        group.kills = kills
        assert (watch.look(S), watch.explains()) == (0, False)


# ── in the journal ─────────────────────────────────────────────────────────────────────────────────────────────────
def abandoned(make_engine, state_dir, clock, calls):
    """A worker that is gone with calls in flight: its block's lock is free, and nothing in it is ended."""
    worker = make_engine(SLO("jobs", match={"kind": "call"}), state_dir=state_dir, clock=clock)
    for _ in range(calls):
        worker.track("job").open()
    worker.ring.blocks.detach()


def journal(engine, kind):
    return [entry.text for entry in Reader(engine.state_dir / "otelslo.db").journal(kind=kind)]


@pytest.mark.parametrize("seen_before", [False, True], ids=["in the same turn", "some seconds before"])
def test_a_death_after_a_kill_is_told_apart(make_engine, tmp_path, seen_before):
    """By a made-up count: a worker that dies without one is not."""
    clock = ManualClock()
    engine = make_engine(SLO("jobs", match={"kind": "call"}), state_dir=tmp_path, clock=clock)
    group = Group()
    engine.runner.leader.oom = OomWatch(group)
    engine.runner.tick()
    abandoned(make_engine, tmp_path, clock, 1)
    advance(engine, s=1)
    engine.runner.tick()
    group.kills += 1
    if seen_before:
        advance(engine, s=1)
        engine.runner.tick()
    abandoned(make_engine, tmp_path, clock, 3)
    advance(engine, s=5)
    engine.runner.tick()
    newest, oldest = journal(engine, "crash")
    pid = os.getpid()
    assert oldest == f"worker {pid} died with 1 requests in flight, counted as crashed"
    assert newest == (
        f"crashed.oom: worker {pid} died with 3 requests in flight, counted as crashed: the OOM killer had just killed "
        "one of its control group"
    )
    assert journal(engine, "oom") == ["the OOM killer has killed 1 in this process's control group"]
    (status,) = engine.status()
    assert status.counts.bad == 4


def test_who_comes_to_lead_after_the_leader_was_killed_knows_of_it(make_engine, tmp_path):
    """Every worker looks at each turn, whoever leads."""
    clock = ManualClock()
    first, second = (make_engine(SLO("jobs", match={"kind": "call"}), state_dir=tmp_path, clock=clock) for _ in "ab")
    group = Group()
    second.runner.leader.oom = OomWatch(group)
    for engine in (first, second):
        engine.runner.tick()
    assert first.runner.leading
    group.kills += 1
    clock.advance(s=1)
    second.ring.blocks.advance_manual_clock()
    second.runner.tick()
    first.track("job").open()
    first.ring.blocks.detach()
    first.runner.leader.step_down()
    advance(second, s=1)
    second.runner.tick()
    assert second.runner.leading
    assert [text.partition(":")[0] for text in journal(second, "crash")] == ["crashed.oom"]


def test_explain_and_doctor_say_so(make_engine, tmp_path):
    engine = make_engine(SLO("jobs", match={"kind": "call"}), state_dir=tmp_path, clock=SystemClock())
    group = engine.runner.leader.oom = OomWatch(Group())
    engine.runner.tick()
    abandoned(make_engine, tmp_path, SystemClock(), 2)
    group._kills.kills += 1
    engine.runner.tick()
    for command in ("explain jobs", "explain jobs --json", "doctor", "status"):
        shown = invoke(*command.split(), "--state-dir", tmp_path, columns=240)
        assert "crashed.oom: worker" in shown.stdout, command
    (told,) = json.loads(invoke("explain", "jobs", "--json", "--state-dir", tmp_path).stdout)
    assert told["crashes"] == journal(engine, "crash")


# ── for real ───────────────────────────────────────────────────────────────────────────────────────────────────────
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
LIMIT = 400 << 20

HOST = """
import json, os, subprocess, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
from otelslo import SLO, Engine
from otelslo.exporters.sqlite_reader import Reader
slos = [SLO("jobs", match={"kind": "call"})]
with Engine(slos, state_dir=sys.argv[2], runner=False) as engine:
    engine.runner.tick()
    worker = subprocess.Popen([sys.executable, "-c", sys.argv[3], sys.argv[2]], stdout=subprocess.PIPE)
    assert worker.stdout.readline() == b"begun\\n"
    died = worker.wait()
    engine.runner.tick()
    (status,) = engine.status()
    texts = [entry.text for entry in Reader(engine.state_dir / "otelslo.db").journal(kind="crash")]
    print(json.dumps({"died": died, "bad": status.counts.bad, "worker": worker.pid, "journal": texts}))
"""
WORKER = """
import sys
from otelslo import SLO, Engine
engine = Engine([SLO("jobs", match={"kind": "call"})], state_dir=sys.argv[1], runner=False).start()
calls = [engine.track("job").open() for _ in range(2)]
open("/proc/self/oom_score_adj", "w").write("1000")
print("begun", flush=True)
eaten = []
while True:
    eaten.append(bytearray(b"x") * (8 << 20))
"""


@pytest.fixture
def control_group():
    """A group of our own with a limit of memory, gone with the test."""
    is_v1 = (V1 / "memory.limit_in_bytes").exists()
    folder = (V1 if is_v1 else V2) / f"otelslo-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as e:
        pytest.skip(f"no control group can be made here: {e.strerror}")
    try:
        (folder / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(LIMIT))
    except OSError as e:
        folder.rmdir()
        pytest.skip(f"no limit of memory can be set here: {e.strerror}")
    yield folder
    folder.rmdir()


def test_a_worker_that_the_oom_killer_really_kills(control_group, tmp_path):
    command = [sys.executable, "-c", HOST, str(control_group), str(tmp_path), WORKER]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["died"], found["bad"]) == (-signal.SIGKILL, 2)
    (text,) = found["journal"]
    assert text.startswith(f"crashed.oom: worker {found['worker']} died with 2 requests in flight")
