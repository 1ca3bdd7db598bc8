"""`otelslo capacity` against a real service that answers one request at a time, 50 a second at most."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .servers import Service

PATH = "/narrow?ms=20"
CONFIG = """
slos:
  - {name: load, indicator: throughput, rate: 40, threshold: 500ms, match: {route: /narrow}}
  - {name: refused, indicator: throughput, rate: 40, threshold: 500ms, match: {route: /refuse}}
"""
FULL = os.environ.get("OTELSLO_TORTURE") == "full"
LENGTH_S = 10 if FULL else 2


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("capacity")
    (directory / "slo.yaml").write_text(CONFIG)
    environment = {**os.environ, "OTELSLO_CONFIG": str(directory / "slo.yaml")}
    with Service(directory, 1, environment=environment) as service:
        yield service


def capacity(service: Service, slo: str, *options: str, tool: list[str]) -> tuple[int, dict[str, Any]]:
    """The exit code and what is told, with half of the load as tolerance: this machine does other things too."""
    told = ["--state-dir", str(service.state_dir), "--for", f"{LENGTH_S}s", "--tolerance", "50%", "--json"]
    command = [sys.executable, "-m", "otelslo", "capacity", slo, *told, *options, "--", *tool]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def paced(service: Service, rate: str = "{rate}", path: str = PATH) -> list[str]:
    script = os.fspath(Path(__file__).with_name("paced.py"))
    return [sys.executable, script, rate, "{seconds}", str(service.port), path]


def test_the_rate_that_holds_is_found(service: Service) -> None:
    """What a step counts is what the tool has sent, exactly; after the first that fails none is run."""
    code, told = capacity(
        service, "load", "--rates", "10,20,200,400", "--at-least", "20", tool=paced(service, path=PATH)
    )
    steps = told["steps"]
    assert [(one["rate"], one["offered"]) for one in steps] == [(r, r * LENGTH_S) for r in (10, 20, 200)]
    assert [one["verdict"] for one in steps] == ["held", "held", "failed"], told
    assert all(one["tool_exit_code"] == 0 for one in steps)
    assert (code, told["capacity_per_s"], told["exit_code"]) == (0, 20, 0)


def test_a_rate_that_does_not_hold_fails_the_check(service: Service) -> None:
    """Also what is shed, however fast."""
    code, told = capacity(service, "load", "--rates", "200", "--at-least", "200", tool=paced(service))
    assert (code, told["capacity_per_s"]) == (1, None)
    code, told = capacity(service, "refused", "--rates", "10", tool=paced(service, path="/refuse"))
    assert (code, told["steps"][0]["shed"], told["steps"][0]["in_time"]) == (1, 10 * LENGTH_S, None)


def test_a_tool_that_is_too_weak_proves_nothing(service: Service) -> None:
    code, told = capacity(service, "load", "--rates", "100", "--at-least", "100", tool=paced(service, "{rate/10}"))
    assert (code, told["steps"][0]["verdict"], told["steps"][0]["offered"]) == (3, "weak", 10 * LENGTH_S)
    assert "the tool is too weak" in told["steps"][0]["text"]


@pytest.mark.skipif(shutil.which("hey") is None, reason="needs hey")
def test_under_hey(service: Service) -> None:
    """It waits for answers: with 60 clients each of them waits for more than a second."""
    url = f"http://127.0.0.1:{service.port}{PATH}"
    code, told = capacity(
        service, "load", "--rates", "10", tool=["hey", "-z", "{seconds}s", "-c", "2", "-q", "{rate/2}", url]
    )
    assert (code, told["capacity_per_s"]) == (0, 10), told
    code, told = capacity(
        service, "load", "--rates", "600", tool=["hey", "-z", "{seconds}s", "-c", "60", "-q", "{rate/60}", url]
    )
    assert (code, told["steps"][0]["verdict"]) == (1, "failed"), told
