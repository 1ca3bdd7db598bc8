"""The demo, run once as a user runs it: two workers, an incident, a kill, and accounts that agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

OTELSLO = [sys.executable, "-m", "otelslo"]


def environment() -> dict[str, str]:
    """The surroundings without settings for otelslo, and with this package."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTELSLO_")}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[2])}


def otelslo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OTELSLO, *arguments], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=180
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    cwd = tmp_path_factory.mktemp("demo")
    return cwd, otelslo("demo", "--seconds", "8", "--json", cwd=cwd)


def test_the_accounts_agree(demo) -> None:
    _, ended = demo
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    ledger = report["ledger"]
    assert ledger["agrees"] is True
    client, engine, cut = ledger["client"], ledger["engine"], ledger["cut_off"]
    assert min(client["2xx"], client["5xx"]) > 0
    received = client["2xx"] + client["4xx"] + client["5xx"]
    counted = engine["2xx"] + engine["4xx"] + engine["5xx"] + engine["crashed"] + engine["other"]
    assert received <= counted <= received + client["cut"]
    assert received + client["cut"] - counted == cut["unreached"]
    assert {status["slo"] for status in report["status"]} == {
        "availability", "checkout-availability", "search-latency",
    }  # fmt: skip


def test_status_reads_what_the_demo_left(demo) -> None:
    cwd, ended = demo
    report = json.loads(ended.stdout)
    left = otelslo("status", "--state-dir", report["state_dir"], "--json", cwd=cwd)
    assert left.returncode == 1, left.stderr  # the incident breaks objectives
    counts = {one["slo"]: (one["good"], one["bad"], one["excluded"]) for one in json.loads(left.stdout)}
    assert counts == {one["slo"]: (one["good"], one["bad"], one["excluded"]) for one in report["status"]}


def test_status_draws_it_and_points_to_it(demo) -> None:
    cwd, ended = demo
    state_dir = json.loads(ended.stdout)["state_dir"]
    drawn = otelslo("status", "--state-dir", state_dir, cwd=cwd)
    assert "What burned it" in drawn.stdout
    assert "/checkout/{cart}" in drawn.stdout
    pointed = otelslo("status", cwd=cwd)
    assert pointed.returncode == 3
    assert state_dir in pointed.stderr


def test_nothing_of_it_is_visible_to_git(demo) -> None:
    cwd, ended = demo
    assert (cwd / json.loads(ended.stdout)["state_dir"] / ".gitignore").read_text() == "*\n"


def test_its_configuration_is_one_that_check_explains(demo) -> None:
    cwd, ended = demo
    result = otelslo("check", f"{json.loads(ended.stdout)['state_dir']}/slo.yaml", cwd=cwd)
    assert result.returncode == 0
    assert "search-latency" in result.stdout


def servers_of(directory: Path) -> list[str]:
    """Pids of processes whose state lies under `directory`, as far as the system tells."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"OTELSLO_STATE_DIR={directory}".encode() in environ.read_bytes():
                found.append(environ.parent.name)
        except OSError:
            continue
    return found


def test_no_process_is_left(demo) -> None:
    cwd, _ = demo
    assert servers_of(cwd) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_everything_with_it(tmp_path: Path, number: signal.Signals) -> None:
    env = environment() | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*OTELSLO, "demo"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "workers start" in process.stdout.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in said
    assert servers_of(tmp_path) == []
