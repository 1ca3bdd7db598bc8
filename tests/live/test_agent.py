"""An agent leads for all workers, also from another pid namespace; when it dies a worker leads."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from otelslo.exporters.sqlite_reader import Reader

from .history import saved_counts
from .servers import Service, until
from .test_restart import await_commit, send, watch_of
from .watch import Watch

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL")


def can_unshare() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    )


class Agent:
    """`otelslo agent` as a process; `prefix` starts it in some other surroundings."""

    def __init__(self, service: Service, prefix: tuple[str, ...] = ()) -> None:
        config = service.directory / "objectives.py"
        here = str(Path(__file__).parent)
        config.write_text(
            f"import sys\nsys.path.insert(0, {here!r})\nfrom app import objectives\nslos = objectives()\n"
        )
        self.log = service.directory / "agent.log"
        command = [*prefix, sys.executable, "-m", "otelslo", "agent"]
        command += ["--state-dir", str(service.state_dir), "--config", str(config)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stand_still(self, database: Path) -> None:
        """Stop it, but not in the middle of a commit: then nobody could write before it goes on."""
        while True:
            self.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
            if can_be_written(database):
                return
            self.process.send_signal(signal.SIGCONT)
            until(lambda: can_be_written(database), "the agent's own reading or commit ends")

    def end(self, number: signal.Signals) -> None:
        """Signal the agent itself, not the command that started it in its surroundings."""
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(children[0]) if children else self.process.pid, number)
        self.process.wait(30)


def can_be_written(database: Path) -> bool:
    """Whether nobody holds the database's lock; a worker's own short commit is waited for."""
    with closing(sqlite3.connect(database, timeout=2)) as db:
        try:
            db.execute("BEGIN EXCLUSIVE")  # a stopped reader holds a commit up too
        except sqlite3.OperationalError:
            return False
        db.execute("ROLLBACK")
    return True


@contextmanager
def agent_of(service: Service, prefix: tuple[str, ...] = ()) -> Iterator[Agent]:
    agent = Agent(service, prefix)
    try:
        yield agent
    finally:
        agent.process.kill()
        agent.process.wait()


def leads(service: Service, watch: Watch, *, agent: bool) -> bool:
    """Whether the agent, or a worker, leads by what the ring says."""
    leader = watch.fresh().leader_block
    if leader is None:
        return False
    return (watch.owner(leader).pid in {worker.pid for worker in service.workers}) is not agent


@pytest.mark.parametrize("prefix", [(), UNSHARE], ids=["same namespaces", "own pid namespace"])
def test_an_agent_leads_and_workers_take_over_when_it_dies(tmp_path: Path, prefix: tuple[str, ...]) -> None:
    if prefix and not can_unshare():
        pytest.skip("needs unshare and the right to make a pid namespace")
    with Service(tmp_path, 2) as service:
        watch = watch_of(service)
        until(lambda: leads(service, watch, agent=False), "a worker leads")
        counted = send(service, 300)
        with agent_of(service, prefix) as agent:
            until(lambda: leads(service, watch, agent=True), "the workers hand over")
            counted += send(service, 300, 300)
            await_commit(watch)
            assert saved_counts(service.state_dir)["all"] == counted
            agent.end(signal.SIGKILL)
        until(lambda: leads(service, watch, agent=False), "a worker leads after the agent's death")
        counted += send(service, 300, 600)
        await_commit(watch)
        assert saved_counts(service.state_dir)["all"] == counted
        assert "died with" not in service.said() + agent.log.read_text()  # every worker was seen alive
        with agent_of(service, prefix) as agent:
            until(lambda: leads(service, watch, agent=True), "the workers hand over again")
            agent.end(signal.SIGTERM)
        until(lambda: leads(service, watch, agent=False), "a worker leads after the agent's end")
        counted += send(service, 100, 900)
        assert watch.counts("all") == counted
        assert (watch.reasons("all")["crashed"], watch.faults()) == (0, {})


def test_an_agent_that_stands_still_does_not_keep_workers_from_leading(tmp_path: Path) -> None:
    with Service(tmp_path, 2) as service, agent_of(service) as agent:
        watch = watch_of(service)
        until(lambda: leads(service, watch, agent=True), "the agent leads")
        agent.stand_still(service.state_dir / "otelslo.db")
        counted = send(service, 200)
        until(lambda: leads(service, watch, agent=False), "a worker leads")
        await_commit(watch)
        assert saved_counts(service.state_dir)["all"] == counted
        agent.process.send_signal(signal.SIGCONT)
        until(lambda: leads(service, watch, agent=True), "the agent leads again")
        await_commit(watch)
        assert saved_counts(service.state_dir)["all"] == counted


def test_sighup_has_the_configuration_read_again(tmp_path: Path) -> None:
    with Service(tmp_path, 1) as service, agent_of(service) as agent:
        until(lambda: leads(service, watch_of(service), agent=True), "the agent leads")
        config = service.directory / "objectives.py"
        config.write_text('from otelslo import SLO\nslos = [SLO("all"), SLO("more")]\n')
        agent.process.send_signal(signal.SIGHUP)
        until(lambda: "more added" in agent.log.read_text(), "the agent takes it over")
        config.write_text('from otelslo import SLO\nslos = [SLO("all", target="100%")]\n')
        until(lambda: "refused" in agent.log.read_text(), "the agent refuses it by itself")
        journal = Reader(service.state_dir / "otelslo.db").journal(20)
        assert any("more added" in entry.text or "refused" in entry.text for entry in journal)


def test_it_says_why_it_cannot_lead(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "otelslo",
        "agent",
        "--state-dir",
        "/proc/otelslo",
        "--config",
        str(tmp_path / "no.yaml"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, "no.yaml" in ended.stderr) == (2, True)
    ended = subprocess.run(command[:-2], capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, "/proc/otelslo" in ended.stderr) == (1, True)
