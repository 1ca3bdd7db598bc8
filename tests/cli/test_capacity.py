"""`otelslo capacity`: what it is told, what it tells the tool, and what it says where nothing is known.

With a real service and real load it is tested in tests/live.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import Result

from otelslo import SLO, Engine
from otelslo.cli.capacity import Profile, Seen, _find
from otelslo.rowkey import SHED
from otelslo.window import SECOND_NS

from .invoke import invoke

ECHO = ("--", "true", "{rate}")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    load = SLO("load", indicator="throughput", threshold="1s", options={"rate": 10, "scope": "fleet"})
    with Engine([load, SLO("other")], state_dir=tmp_path / "state", runner=False) as made:
        yield made


def run(engine: Engine | Path, *arguments: object) -> Result:
    directory = engine.state_dir if isinstance(engine, Engine) else engine
    return invoke("capacity", "--state-dir", directory, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("load", "--rates", "10,x", *ECHO), "'x' is no rate. Write requests a second"),
        (("load", "--rates", "", *ECHO), "'' is no rate"),
        (("load", *ECHO), "Missing option '--rates'"),
        (("load", "--rates", "10"), "Missing argument"),
        (("load", "--rates", "10", "--for", "0s", *ECHO), "'0s' is zero"),
        (("load", "--rates", "10", "--tolerance", "2", *ECHO), "'2' is no share. Write 5%, or 0."),
        (("load", "--rates", "10", "--at-least", "11", *ECHO), "No step reaches --at-least"),
        (("load", "--rates", "10", "--", "true", "{seconds}"), "The command says no {rate}"),
        (("laod", "--rates", "10", *ECHO), "There is no SLO 'laod'"),
        (("other", "--rates", "10", *ECHO), "'other' promises no rate. Known: load"),
        (("load", "--rates", "10", "--", "no-such-tool", "{rate}"), "'no-such-tool' cannot be run: No such file"),
    ],
)
def test_what_cannot_be_meant(engine: Engine, arguments: tuple[str, ...], message: str) -> None:
    result = run(engine, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_no_state_and_no_worker(tmp_path: Path, engine: Engine) -> None:
    nowhere = run(tmp_path / "nowhere", "load", "--rates", "10", *ECHO)
    assert nowhere.exit_code == 3
    assert "no data: " in nowhere.stderr
    told = json.loads((engine.state_dir / "definitions.json").read_text())
    told["slos"][0]["meaning"] = "0" * 16
    (engine.state_dir / "definitions.json").write_text(json.dumps(told))
    changed = run(engine, "load", "--rates", "10", *ECHO)
    assert changed.exit_code == 3
    assert "no worker counts load as it is defined now. Restart them" in changed.stderr


def test_a_tool_that_sends_nothing(engine: Engine) -> None:
    """Each step is run, and what the tool says or answers is no verdict."""
    told = run(engine, "load", "--rates", "20,10", "--for", "1s", "--json", "--", sys.executable, "-c", "exit({rate})")
    assert told.exit_code == 3
    found = json.loads(told.stdout)
    assert [(one["rate"], one["verdict"], one["tool_exit_code"]) for one in found["steps"]] == [
        (10, "nothing", 10),
        (20, "nothing", 20),
    ]
    assert (found["capacity_per_s"], found["exit_code"], found["scope"]) == (None, 3, "fleet")
    assert "this host's share" in found["note"]
    shown = run(engine, "load", "--rates", "20", "--", "false", "{rate}")
    assert shown.exit_code == 3
    assert "no request of the objective came; the tool's exit code is 1" in " ".join(shown.stdout.split())
    assert "no rate was seen to hold (of the fleet)" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(
    ("rate", "said", "expected"),
    [
        (Fraction(100), "-q{rate}", "-q100"),
        (Fraction(100), "{rate/8}x{seconds}s", "12.500x2.5s"),
        (Fraction(100), "{rate/3} {rates} {} {rate/0}", "33.334 {rates} {} {rate/0}"),
        (Fraction(1, 2), "{rate}", "0.500"),
    ],
)
def test_placeholders(engine: Engine, rate: Fraction, said: str, expected: str) -> None:
    """Rounded up, so that a tool is not told too little; what is no placeholder is left alone."""
    profile = Profile(_find("load", str(engine.state_dir)), [said], 5 * SECOND_NS // 2, Fraction(0))
    assert profile.arguments(rate) == [expected.replace("2.5s", "2.500s")]


def test_the_counts_are_those_of_the_ring(engine: Engine) -> None:
    """Of the objective alone, and what was shed of them."""
    gauge = _find("load", str(engine.state_dir))
    track = engine.call_site("http", "/x", "GET")
    for outcome, latency_ns in (("good", 0), ("good", 2 * SECOND_NS), ("shed", 0), ("bad", 0), ("excluded", 0)):
        engine.record(track, outcome, latency_ns)
    counts, shed = gauge.read()
    assert (counts.good, counts.bad, counts.excluded, shed) == (1, 3, 1, 1)
    assert gauge.reader.row_name(gauge.shed_row).slo == SHED


def test_the_span_in_which_something_came() -> None:
    """From the first change that was seen to the last."""
    times = iter([10, 20, 70])
    seen = Seen(lambda: next(times))
    for count in (5, 5, 6, 6, 9, 9, 10, 10):
        seen.look(count)
    assert seen.span_ns == 60
