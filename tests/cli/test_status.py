"""`otelslo status`: beside a live ring, from the history alone, and with nothing to read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from otelslo import SLO, Engine, ManualClock
from otelslo.cli import state
from otelslo.cli.tables import clean, clock_time
from otelslo.ring.check import check

from .invoke import invoke

SECOND_NS = 1_000_000_000
FIELDS = {
    *("slo", "group", "target", "window", "observed_since", "observed_s", "whole", "good", "bad", "valid"),
    *("excluded", "excluded_ratio", "sli", "met", "budget", "burn", "reasons_total", "alerts", "window_start"),
    *(
        "window_end",
        "unit",
        "budget_projected",
        "sla",
        "slices",
        "excluded_since",
        "planned_bad",
        "about",
        "throughput",
        "labels",
        "judged",
        "days",
    ),
}
BUDGET_FIELDS = {
    *("allowed", "spent", "remaining", "remaining_ratio", "allowed_time_s", "remaining_time_s", "exhausts_at"),
}


def run(*arguments: object, columns: int = 80) -> Result:
    return invoke("status", *arguments, columns=columns)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engine(tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    slos = [
        SLO("answers", target="90%", match={"kind": "call"}, group_by="route"),
        SLO("fast", indicator="latency", threshold="200ms", target="50%", window="1d", match={"kind": "call"}),
        SLO("never-asked", match={"kind": "call", "route": "nobody"}),
    ]
    with Engine(slos, state_dir=tmp_path / "state", clock=clock, runner=False) as made:
        yield made


def record(engine: Engine, name: str, good: int = 0, bad: int = 0, latency_ns: int = 1_000_000) -> None:
    track = engine.track(name)
    for outcome, count in (("good", good), ("bad", bad)):
        for _ in range(count):
            engine.record(track, outcome, latency_ns)


def by_name(result: Result) -> dict[tuple[str, str | None], dict]:
    return {(one["slo"], one["group"]): one for one in json.loads(result.stdout)}


def test_json_has_the_fields_and_the_exact_counts(engine: Engine) -> None:
    record(engine, "rank", good=95, bad=5)
    record(engine, "rank", good=10, latency_ns=300_000_000)
    result = run("--state-dir", engine.state_dir, "--json")
    assert result.exit_code == 0
    found = by_name(result)
    assert all(set(one) == FIELDS and set(one["budget"]) == BUDGET_FIELDS for one in found.values())
    answers = found["answers", "route=rank"]
    assert (answers["good"], answers["bad"], answers["valid"], answers["met"]) == (105, 5, 110, True)
    assert answers["budget"]["allowed"] == 11
    assert answers["budget"]["remaining"] == 6
    assert (answers["target"], answers["window"]) == ("90%", "30d")
    assert set(answers["burn"]) == {"5m", "30m", "1h", "2h", "6h", "1d", "3d"}
    fast = found["fast", None]
    assert (fast["good"], fast["bad"], fast["reasons_total"]) == (95, 15, {"slow": 10, "other": 5})
    assert found["never-asked", None]["sli"] is None
    assert found["never-asked", None]["labels"] is None


def test_it_agrees_with_the_engine(engine: Engine) -> None:
    record(engine, "rank", good=7, bad=3)
    ours = [(s.slo, s.group, s.counts) for s in engine.status()]
    assert [(s.slo, s.group, s.counts) for s in state.look(engine.state_dir).statuses()] == ours


def test_exit_codes(engine: Engine) -> None:
    assert run("--state-dir", engine.state_dir).exit_code == 3  # objectives, but no event
    record(engine, "rank", good=9, bad=1)
    assert run("--state-dir", engine.state_dir).exit_code == 0
    record(engine, "rank", bad=1)
    assert run("--state-dir", engine.state_dir).exit_code == 1
    assert run("--nonsense").exit_code == 2


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_picture_fits_and_says_what_burned(engine: Engine, columns: int) -> None:
    record(engine, "rank", good=80, bad=20)
    engine.runner.tick()
    drawn = run("--state-dir", engine.state_dir, columns=columns).stdout
    assert max(map(len, drawn.splitlines())) <= columns
    so_far = "of 30d at this traffic; of what came so far, 2.00× spent"
    assert so_far in " ".join(drawn.split())
    for words in ("1 of 2 objectives missed", "80.00%", "target 90%", "80 good", "20 bad", "What burned it", "2.00×"):
        assert words in drawn
    assert "rank" in drawn.split("Traffic")[1]


def test_reasons_are_told_from_the_row_s_birth_not_from_the_window_s_start(engine: Engine, clock: ManualClock) -> None:
    record(engine, "rank", bad=3)
    clock.advance(s=40 * 86_400)
    engine.ring.blocks.advance_manual_clock()
    record(engine, "rank", bad=2)
    engine.runner.tick()
    status = next(one for one in state.look(engine.state_dir).statuses() if one.slo == "answers")
    assert (status.counts.bad, status.reasons_total) == (2, {"other": 5})
    drawn = run("--state-dir", engine.state_dir).stdout
    assert "since the time beside it" in drawn
    born = clock_time(status.born_ns, status.now_ns)
    assert f"5 other  since {born}" in drawn


def test_many_groups_are_a_line_each(engine: Engine) -> None:
    for number in range(12):
        record(engine, f"model-{number:02d}", good=9 + number, bad=1)
    drawn = run("--state-dir", engine.state_dir).stdout
    lines = [line for line in drawn.split("What burned it")[0].splitlines() if "route=model-" in line]
    assert len(lines) == 12
    assert all("left" in line for line in lines)


def test_what_came_with_requests_cannot_draw(engine: Engine) -> None:
    record(engine, "evil\x1b[31m\nroute\u202e[red]", good=1, bad=1)
    engine.runner.tick()
    drawn = run("--state-dir", engine.state_dir, columns=120).stdout
    assert "evil?[31m?route?[red]" in drawn
    assert "\x1b" not in drawn
    assert "\u202e" not in drawn


def test_clean() -> None:
    assert clean("a\x00b\r\nc\x9b") == "a?b??c?"
    assert clean("x" * 300) == "x" * 197 + "..."
    assert clean("größe 名前") == "größe 名前"


def history_of(engine: Engine, clock: ManualClock) -> None:
    """Events 7 hours, 2 hours and 2 minutes ago, all committed."""
    clock.advance(s=-clock.ring_ns() % (300 * SECOND_NS) / SECOND_NS)
    for good, bad, then_s in ((40, 4, 5 * 3600), (30, 3, 2 * 3600 - 120), (20, 2, 120)):
        engine.ring.blocks.advance_manual_clock()
        record(engine, "rank", good=good, bad=bad)
        engine.runner.tick()
        clock.advance(s=then_s)
        engine.runner.tick()


def test_the_history_alone_gives_the_same_counts(engine: Engine, clock: ManualClock) -> None:
    history_of(engine, clock)
    before = by_name(run("--state-dir", engine.state_dir, "--json"))["answers", "route=rank"]
    engine.close()
    (engine.state_dir / "live.ring").unlink()
    result = run("--state-dir", engine.state_dir, "--json")
    assert "there is no live.ring; from the history as of" in result.stderr
    after = by_name(result)["answers", "route=rank"]
    assert (after["good"], after["bad"]) == (90, 9) == (before["good"], before["bad"])
    drawn = run("--state-dir", engine.state_dir).stdout
    assert "from the history as of" in " ".join(drawn.split())
    assert "What burned it" in drawn
    burn = state.look(engine.state_dir)
    counts = {
        hours: burn.rows.window(1, burn.now_ns - hours * 3600 * SECOND_NS, burn.now_ns).counts for hours in (1, 6)
    }
    row = next(i for i in range(burn.rows.rows) if burn.rows.row_name(i).group == "route=rank")
    counts = {h: burn.rows.window(row, burn.now_ns - h * 3600 * SECOND_NS, burn.now_ns).counts for h in (1, 6, 8)}
    assert {h: (c.good, c.bad) for h, c in counts.items()} == {1: (20, 2), 6: (50, 5), 8: (90, 9)}


@pytest.mark.parametrize("damage", ["garbled", "cut short", "earlier boot"])
def test_a_ring_that_cannot_be_used(engine: Engine, clock: ManualClock, damage: str) -> None:
    history_of(engine, clock)
    engine.close()
    ring = engine.state_dir / "live.ring"
    whole = ring.read_bytes()
    if damage == "earlier boot":
        ring.write_bytes(replace(check(ring), boot_id=b"another boot id!").encode() + whole[4096:])
    else:
        ring.write_bytes(b"nonsense" + whole[8:] if damage == "garbled" else whole[:5000])
    result = run("--state-dir", engine.state_dir, "--json")
    assert by_name(result)["answers", "route=rank"]["good"] == 90
    assert result.exit_code == 0
    assert "live.ring" in result.stderr


def test_a_ring_of_an_earlier_boot_is_read_where_there_is_no_history(engine: Engine) -> None:
    record(engine, "rank", good=5)
    engine.close()
    ring = engine.state_dir / "live.ring"
    ring.write_bytes(replace(check(ring), boot_id=b"another boot id!").encode() + ring.read_bytes()[4096:])
    assert "earlier boot" in state.look(engine.state_dir).notes[0]


def test_definitions_come_from_the_history_when_their_file_is_gone(engine: Engine) -> None:
    record(engine, "rank", good=5)
    engine.runner.tick()
    (engine.state_dir / "definitions.json").write_text("{")
    assert by_name(run("--state-dir", engine.state_dir, "--json"))["answers", "route=rank"]["good"] == 5


def test_nothing_to_read_is_exit_code_3_with_a_remedy(tmp_path: Path) -> None:
    result = run("--state-dir", tmp_path / "nothing", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == []
    assert "--state-dir" in result.stderr
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "live.ring").write_bytes(b"x" * 10_000)
    (tmp_path / "state" / "otelslo.db").write_bytes(b"x" * 10_000)
    result = run("--state-dir", tmp_path / "state")
    assert result.exit_code == 3
    assert "Traceback" not in result.stderr


def test_the_directory_is_found_by_environment_then_configuration(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTELSLO_STATE_DIR", raising=False)
    monkeypatch.delenv("OTELSLO_CONFIG", raising=False)
    assert state.directory(None) == Path(".otelslo")
    (tmp_path / "slo.yaml").write_text("state_dir: /var/lib/shop\nslos: [{name: a}]\n")
    assert state.directory(None) == Path("/var/lib/shop")
    monkeypatch.setenv("OTELSLO_STATE_DIR", "from-env")
    assert state.directory(None) == Path("from-env")
    assert state.directory("given") == Path("given")


def test_nothing_heavy_is_imported(engine: Engine) -> None:
    record(engine, "rank", good=9, bad=1)
    engine.runner.tick()
    code = (
        "import sys\nfrom otelslo.cli import main\ntry:\n    main(['status', '--state-dir', sys.argv[1]])\n"
        "except SystemExit:\n    heavy = ('numba', 'llvmlite', 'numpy', 'opentelemetry', 'sqlite_utils', 'starlette',"
        " 'uvicorn')\n    print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    argv = [sys.executable, "-c", code, str(engine.state_dir)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True, encoding="utf-8")
    assert ended.stderr.strip() == "[]"
    assert "What burned it" in ended.stdout


def test_a_terminal_without_unicode(engine: Engine) -> None:
    record(engine, "rank", good=9, bad=1)
    argv = [sys.executable, "-m", "otelslo", "status", "--state-dir", str(engine.state_dir)]
    ended = subprocess.run(argv, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""}, check=True)
    assert b"budget" in ended.stdout
    assert ended.stdout.isascii()


def test_a_promised_rate_and_the_load_beside_it(tmp_path: Path, clock: ManualClock) -> None:
    """Idle slices are named so; of a fleet it is said that one host alone is seen."""
    options = {"rate": "2/min", "scope": "fleet"}
    rate = SLO("load", indicator="throughput", threshold="200ms", target="99%", match={"kind": "call"}, options=options)
    with Engine([rate], state_dir=tmp_path / "state", clock=clock, runner=False) as engine:
        for good, bad in ((2, 0), (3, 0), (3, 1), (1, 0)):
            record(engine, "job", good, bad)
            clock.advance(s=60)
            engine.ring.blocks.advance_manual_clock()
        view = state.View(tmp_path, engine.ring.reader, clock.ring_ns(), engine.definitions, engine.ring.reader)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(state, "look", lambda path: view)
            shown, told = run(), run("--json")
    assert "0 of 3 slices of 1m bad" in shown.output
    assert "1 of 4 idle, left out" in shown.output
    text = " ".join(shown.output.split())
    assert "held 3/min, 75.00% of the peak of 4/min; 150.00% of the promised 2/min of the fleet" in text
    assert "judged by this host's share of the load alone" in text
    (one,) = json.loads(told.stdout)
    assert (one["throughput"]["headroom"], one["throughput"]["held_of_promise"]) == (0.75, 1.5)
