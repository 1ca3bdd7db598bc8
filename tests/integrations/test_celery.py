"""Celery: real workers as processes over a broker of files, and eager tasks in this process."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drive import cells, groups
from live.servers import until
from live.watch import Watch

from otelslo import SLO
from otelslo.definition import FIRST_EXCLUDED

celery = pytest.importorskip("celery", reason="needs celery")

from otelslo.integrations.celery import instrument, uninstrument  # noqa: E402

TESTS = Path(__file__).parents[1]
STOP_S = 30
LIMIT_S = 120.0  # ends a test that hangs
CONFIGURATION = """
slos:
  - {name: tasks, match: {kind: call}, group_by: route, target: "99%", window: 1d, reasons: [nonsense]}
"""


class Worker:
    """A Celery worker as a process, and this process as its client."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.ring = folder / "state" / "live.ring"
        (folder / "slo.yaml").write_text(CONFIGURATION)
        environment = os.environ | {
            "CELERY_FOLDER": os.fspath(folder),
            "OTELSLO_CONFIG": os.fspath(folder / "slo.yaml"),
            "OTELSLO_STATE_DIR": os.fspath(folder / "state"),
        }
        command = [sys.executable, "-m", "celery", "-A", "integrations.celery_app", "worker", "-l", "INFO"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--without-gossip", "--without-mingle", *arguments],
                cwd=TESTS,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def counted(self) -> Counter[str]:
        """Runs by task, side and reason: {"add good": 40, "again excluded other": 2}."""
        found: Counter[str] = Counter()
        reader = Watch(self.ring).reader if self.ring.exists() else None
        for row in range(0 if reader is None else reader.rows):
            name = reader.row_name(row)
            task = (name.group or "").removeprefix("route=").rpartition(".")[2]
            for cell, count in enumerate(reader.cells(row) if name.slo == "tasks" else ()):
                side = "" if cell == 0 else "bad " if cell < FIRST_EXCLUDED else "excluded "
                found[f"{task} {side}{name.reasons[cell]}"] += count
        return +found

    def wait_for(self, expected: dict[str, int]) -> None:
        """Until as much is counted, and then exactly that."""
        total = sum(expected.values())
        with contextlib.suppress(AssertionError):
            until(lambda: self.counted().total() >= total, f"{total} runs", LIMIT_S)
        assert self.counted() == expected, (self.folder / "log").read_text()[-5000:]

    def stop(self) -> None:
        """A warm shutdown; of all processes by force where the pool waits for one of its locks (billiard's
        `tell_others`), which a killed process of its own has left locked: all was counted before."""
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(STOP_S) == 0
        except subprocess.TimeoutExpired:
            self.end()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tasks, bound to this test's broker."""
    monkeypatch.setenv("CELERY_FOLDER", os.fspath(tmp_path))
    sys.modules.pop("integrations.celery_app", None)
    yield importlib.import_module("integrations.celery_app")
    uninstrument()


@pytest.fixture
def started(tmp_path: Path, tasks: Any) -> Iterator[Any]:
    workers: list[Worker] = []

    def start(*arguments: str) -> Worker:
        workers.append(Worker(tmp_path, *arguments))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


RUNS = {"add": 40, "fail": 7, "again": 5, "ignored": 3, "rejected": 2, "nonsense": 2, "hang": 1}
COUNTED = {
    "add good": 40,
    "fail bad exception": 7,
    "again good": 5,  # the last attempt of three
    "again excluded other": 10,
    "ignored excluded other": 3,
    "rejected excluded other": 2,
    "nonsense bad nonsense": 2,
    "hang bad exception": 1,  # a soft time limit
}


def send(tasks: Any, runs: dict[str, int]) -> None:
    for name, number in runs.items():
        for index in range(number):
            getattr(tasks, name).delay(*([index, index] if name == "add" else []))


def test_prefork(started, tasks, tmp_path):
    """Two processes, of which some are killed: every run is counted once, by how it ended."""
    worker = started("--concurrency=2")
    send(tasks, RUNS)
    worker.wait_for(COUNTED)
    for _ in range(2):
        tasks.killed.delay()
    until(lambda: worker.counted()["(unknown) bad crashed"] == 2, "the killed ones are settled", LIMIT_S)
    run = tasks.endless.delay()
    until((tmp_path / "endless").exists, "it runs", LIMIT_S)
    tasks.app.control.revoke(run.id, terminate=True)
    worker.wait_for(COUNTED | {"(unknown) bad crashed": 2, "endless bad server_cancel": 1})
    worker.stop()
    assert Watch(worker.ring).reader.in_flight() == 0
    assert not Watch(worker.ring).faults()


def test_threads(started, tasks):
    """No process is forked: the worker's own engine counts, and is closed at its end."""
    worker = started("--concurrency=4", "--pool=threads")
    runs = {name: number for name, number in RUNS.items() if name != "hang"}  # threads cannot be interrupted
    send(tasks, runs)
    worker.wait_for({key: number for key, number in COUNTED.items() if not key.startswith("hang")})
    worker.stop()
    assert [owner.in_flight for owner in Watch(worker.ring).owners()] == [0]
    assert not Watch(worker.ring).faults()
    assert (worker.folder / "state" / "otelslo.db").stat().st_size > 0


@pytest.fixture
def eager(make_engine: Any, tasks: Any) -> Any:
    """An engine that counts the eager tasks of this process."""
    tasks.app.conf.task_always_eager = True
    uninstrument()
    engine = make_engine(SLO("tasks", match={"kind": "call"}, group_by="route", reasons=["nonsense"]))
    instrument(engine)
    return engine


@pytest.mark.parametrize("propagates", [False, True])
def test_eager(eager, tasks, propagates):
    tasks.app.conf.task_eager_propagates = propagates
    assert tasks.add.delay(1, 2).result == 3
    with contextlib.suppress(LookupError):
        tasks.fail.delay()
    tasks.nonsense.delay()
    counted = cells(eager, "tasks")
    assert counted == {"good": 1, "bad exception": 1, "bad nonsense": 1}
    assert set(groups(eager, "tasks")) == {
        f"route=integrations.celery_app.{name}" for name in ("add", "fail", "nonsense")
    }


def test_eager_attempts_lie_in_each_other(eager, tasks):
    """Each attempt runs within the one before, under the same id."""
    assert tasks.again.delay().result == 2
    assert cells(eager, "tasks") == {"good": 1, "excluded other": 2}
    assert eager.in_flight() == 0


def test_instrumented_twice_is_counted_once(eager, tasks):
    instrument(eager)
    tasks.add.delay(1, 2)
    assert cells(eager, "tasks") == {"good": 1}
    uninstrument()
    tasks.add.delay(1, 2)
    assert cells(eager, "tasks") == {"good": 1}


def test_nothing_of_ours_hurts_a_task(eager, tasks, monkeypatch):
    def fail(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("our own fault")

    monkeypatch.setattr(eager, "track", fail)
    assert tasks.add.delay(1, 2).result == 3
    monkeypatch.setattr("otelslo.integrations.celery.track", fail)
    assert tasks.ignored.delay().state == "IGNORED"
    assert eager.faults()["internal"] == 1
