"""Forks, other start methods and namespaces: each process counts into a block of its own, nothing counts twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from otelslo.counts import Counts

from . import forking
from .history import saved_counts
from .servers import warm_state
from .watch import Watch

_LIMIT_S = 100


def run(scenario: str, state_dir: Path, prefix: Sequence[str] = ()) -> dict[str, Any]:
    if not state_dir.exists():
        warm_state(state_dir)
    command = [*prefix, sys.executable, os.fspath(Path(forking.__file__)), scenario, os.fspath(state_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def assert_counted(state_dir: Path, events: int) -> Watch:
    watch = Watch(state_dir / "live.ring")
    expected = Counts(good=events - events // 10, bad=events // 10)
    assert watch.counts("calls") == watch.counts("twin") == expected
    assert all(owner.in_flight == 0 for owner in watch.owners())
    assert watch.faults() == {}
    assert saved_counts(state_dir)["calls"] == expected
    return watch


def test_children_of_a_preloading_parent_have_blocks_of_their_own(tmp_path: Path) -> None:
    did = run("preload", tmp_path / "state")
    assert set(did["codes"]) == {0}
    watch = assert_counted(tmp_path / "state", did["calls"])
    assert 2 <= len(watch.owners()) <= 1 + forking.CHILDREN


def test_a_request_begun_before_a_fork_ends_once(tmp_path: Path) -> None:
    did = run("fork_inside_request", tmp_path / "state")
    assert (did["codes"], did["in_flight"]) == ([0], 0)
    watch = Watch(tmp_path / "state" / "live.ring")
    assert watch.counts("requests") == Counts(good=did["requests"])
    assert watch.fresh().begun() == did["requests"]


def test_forks_at_any_moment_of_the_background_thread(tmp_path: Path) -> None:
    did = run("fork_while_the_background_thread_works", tmp_path / "state")
    assert set(did["codes"]) == {0}
    assert_counted(tmp_path / "state", did["calls"])


def test_every_start_method_of_multiprocessing(tmp_path: Path) -> None:
    did = run("start_methods", tmp_path / "state")
    assert did["codes"] == [0, 0, 0]
    assert_counted(tmp_path / "state", did["calls"])


@pytest.mark.parametrize(
    "namespace", [["--pid", "--fork"], ["--time", "--boottime", "100000", "--monotonic", "100000"]], ids=["pid", "time"]
)
def test_other_namespaces_on_one_directory(tmp_path: Path, namespace: list[str]) -> None:
    """A process that sees other pids or another boot time finds the holder alive, and dates events alike."""
    prefix = ["unshare", *namespace]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip(f"{' '.join(prefix)} is not permitted here")
    state_dir = tmp_path / "state"
    warm_state(state_dir)
    with forking.engine_of(os.fspath(state_dir)) as engine:
        forking.record(engine, forking.EVENTS)
        did = run("recorder", state_dir, prefix)
        forking.record(engine, forking.EVENTS)
        assert did["block"] != engine.ring.blocks.index
        assert did["last_minute"] == 2 * forking.EVENTS
        assert engine.count("calls", 60_000_000_000).total == 3 * forking.EVENTS
    assert_counted(state_dir, 3 * forking.EVENTS)
