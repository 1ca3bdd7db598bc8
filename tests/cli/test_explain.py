"""`otelslo explain`: beside a live ring, from the history alone, and where there is nothing to explain."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware
from otelslo.ring.geometry import Geometry

from .invoke import invoke
from .turned import advance, record, turned

HOUR_S = 3_600
SLOS = (
    SLO("answers", target="90%", match={"kind": "call"}, group_by="route"),
    SLO("fast", indicator="latency", threshold="200ms", target="50%", window="1d", match={"kind": "call"}),
    SLO("web", target="99%"),
    SLO("sliced", target="90%", match={"kind": "call"}, budgeting="timeslices", slice="5m", slice_target="90%"),
)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with turned(monkeypatch, tmp_path / "state", *SLOS) as made:
        yield made


def run(engine: Engine, *arguments: object, columns: int = 80) -> Result:
    return invoke("explain", *arguments, "--state-dir", engine.state_dir, columns=columns)


def told(engine: Engine, *arguments: object) -> list[dict]:
    result = run(engine, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def shares(explanation: dict, *by: str) -> dict:
    (found,) = [one["shares"] for one in explanation["shares"] if one["by"] == list(by)]
    return {tuple(share[name] for name in by): share["count"] for share in found}


def groups_of_three(engine: Engine) -> None:
    for name in ("rank", "search", "mail"):
        engine.track(name)
    for name, good, bad in (("rank", 80, 20), ("search", 50, 2), ("mail", 10, 3)):
        record(engine, name, good, bad)
        engine.housekeeping()
        engine.housekeeping()


def test_before_any_commit_the_ring_s_own_log_makes_shares_exact(engine: Engine) -> None:
    groups_of_three(engine)
    (whole,) = told(engine, "answers")
    assert (whole["good"], whole["bad"], whole["logged"], whole["exact"]) == (140, 25, 25, True)
    assert shares(whole, "route") == {("rank",): 20, ("search",): 2, ("mail",): 3}
    assert sum(shares(whole, "group").values()) == 25
    assert [share["share"] for share in whole["shares"][0]["shares"]] == [1.0]


def test_after_a_commit_no_loss_counts_twice(engine: Engine) -> None:
    groups_of_three(engine)
    engine.runner.tick()
    record(engine, "rank", bad=4)
    (whole,) = told(engine, "answers", "--by", "route,reason", "--by", "route,reason")
    assert len(whole["shares"]) == 1
    assert (whole["bad"], whole["logged"], whole["exact"]) == (29, 29, True)
    assert shares(whole, "route", "reason")[("rank", "other")] == 24


def test_it_agrees_with_status(engine: Engine) -> None:
    groups_of_three(engine)
    record(engine, "rank", bad=1)
    status = json.loads(invoke("status", "--json", "--state-dir", engine.state_dir).stdout)
    of = {(one["slo"], one["group"]): one for one in status}
    for (slo, group), one in of.items():
        if one["valid"] and slo == "answers":
            (whole,) = told(engine, slo, "--group", group)
            assert [whole[key] for key in ("good", "bad", "valid", "excluded")] == [
                one[key] for key in ("good", "bad", "valid", "excluded")
            ]
            assert sum(shares(whole, "route").values()) == whole["bad"]


def test_a_span_takes_only_its_own(engine: Engine) -> None:
    record(engine, "rank", good=100, bad=10)
    advance(engine, s=2 * HOUR_S)
    record(engine, "rank", good=50, bad=5)
    advance(engine, s=60)
    engine.runner.tick()
    (hour,) = told(engine, "fast", "--last", "1h")
    (three,) = told(engine, "fast", "--last", "3h")
    assert [(one["bad"], one["logged"], one["valid"]) for one in (hour, three)] == [(5, 5, 55), (15, 15, 165)]


def test_without_a_span_the_last_hour_or_the_first_longer_one_with_failures(engine: Engine) -> None:
    record(engine, "rank", good=100, bad=60)
    advance(engine, s=4 * HOUR_S)
    record(engine, "rank", good=100)
    assert "Last" not in run(engine, "fast").stdout  # observed for 4 h: 6 h are all there is
    advance(engine, s=HOUR_S)
    record(engine, "rank", bad=1)
    advance(engine, s=4 * HOUR_S)
    assert [round(one["seen_s"]) for one in told(engine, "fast")] == [6 * HOUR_S, 9 * HOUR_S]
    drawn = run(engine, "fast").stdout
    assert drawn.index("Last 6h") < drawn.index("Whole window")
    record(engine, "rank", bad=1)
    assert [round(one["seen_s"]) for one in told(engine, "fast")] == [HOUR_S, 9 * HOUR_S]


def test_a_log_that_overflowed_says_it_is_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Geometry(max_blocks=8, log_records=64)
    with turned(monkeypatch, tmp_path / "small", SLO("calls", match={"kind": "call"}), geometry=small) as engine:
        record(engine, "rank", good=10, bad=200)
        (whole,) = told(engine, "calls")
        assert (whole["bad"], whole["logged"], whole["exact"]) == (200, 64, False)
        by_reason, by_route = whole["shares"][:2]
        assert (by_reason["exact"], by_reason["of"], by_route["exact"], by_route["of"]) == (True, 200, False, 64)
        drawn = " ".join(run(engine, "calls").stdout.split())
        assert "Shares by reason are exact; the others are those of a sample" in drawn
        assert "the loss log has 64 of the 200 bad events" in drawn


def fails(engine: Engine, trace: str) -> None:
    async def app(scope, receive, send):
        raise RuntimeError("boom")

    headers = [(b"traceparent", f"00-{trace}-b7ad6b7169203331-01".encode())]
    scope = {"type": "http", "method": "GET", "path": "/pay", "headers": headers, "query_string": b""}
    calling = SLOMiddleware(app, engine=engine)(scope, None, None)
    with pytest.raises(RuntimeError):
        calling.send(None)


def test_requests_have_exceptions_and_trace_ids(engine: Engine) -> None:
    for number in range(5):
        fails(engine, f"{number + 1:032x}")
        advance(engine, s=1)
    engine.housekeeping()
    (whole,) = told(engine, "web", "--by", "reason,exception")
    (share,) = whole["shares"][0]["shares"]
    assert (share["reason"], share["exception"], share["count"]) == ("exception", "RuntimeError", 5)
    assert share["trace_ids"] == [f"{n:032x}" for n in (5, 4, 3)]
    assert f"{5:032x}" in run(engine, "web", columns=120).stdout.split("Newest")[0]
    assert f"{5:032x}" in run(engine, "web", columns=80).stdout


def test_slices(engine: Engine) -> None:
    record(engine, "rank", good=10, bad=10)
    advance(engine, s=300)
    record(engine, "rank", good=10)
    advance(engine, s=300)
    (whole,) = told(engine, "sliced")
    assert (whole["unit"], whole["bad"], whole["valid"], whole["events"]["bad"]) == ("timeslices", 1, 2, 10)
    assert whole["exact"]
    assert "In events: 10 bad of 30 valid" in run(engine, "sliced").stdout


def test_the_history_alone(engine: Engine) -> None:
    groups_of_three(engine)
    for _ in range(3):
        advance(engine, s=HOUR_S)
        engine.runner.tick()
    record(engine, "rank", good=5, bad=7)
    engine.runner.tick()
    before = told(engine, "answers", "--last", "2h")[0]
    engine.close()
    (engine.state_dir / "live.ring").unlink()
    result = run(engine, "answers", "--last", "2h", "--json")
    (after,) = json.loads(result.stdout)
    assert "from the history" in result.stderr
    assert (after["bad"], after["logged"], after["exact"]) == (7, 7, True) == (before["bad"], before["logged"], True)
    assert "from the history" in run(engine, "answers").stdout


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_the_picture_fits(engine: Engine, columns: int) -> None:
    groups_of_three(engine)
    drawn = run(engine, "answers", columns=columns).stdout
    assert max(map(len, drawn.splitlines())) <= columns
    assert "3 groups together" in " ".join(drawn.split())
    for words in ("by route", "80%", "rank", "25 bad"):
        assert words in drawn


def test_a_terminal_without_unicode_or_colour(engine: Engine) -> None:
    groups_of_three(engine)
    argv = [sys.executable, "-m", "otelslo", "explain", "answers", "--state-dir", str(engine.state_dir)]
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "", "NO_COLOR": "1"}
    ended = subprocess.run(argv, capture_output=True, env=environment, check=True)
    assert b"by route" in ended.stdout
    assert ended.stdout.isascii()
    assert b"\x1b" not in ended.stdout


def test_what_came_with_requests_cannot_draw(engine: Engine) -> None:
    record(engine, "evil\x1b[31m\nroute\u202e[red]", good=1, bad=1)
    engine.housekeeping()
    drawn = run(engine, "fast", columns=120).stdout
    assert "evil?[31m?route?[red]" in drawn
    assert "\x1b" not in drawn


def test_a_calendar_window_begins_in_its_own_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slo = SLO("monthly", target="90%", calendar="month", timezone="Asia/Tokyo", match={"kind": "call"})
    with turned(monkeypatch, tmp_path / "state", slo) as engine:
        record(engine, "rank", good=9, bad=1)
        engine.housekeeping()
        assert "-01 00:00 JST" in run(engine, "monthly").stdout


def test_usage(engine: Engine) -> None:
    groups_of_three(engine)
    record(engine, "rank", bad=1)
    for arguments, words in (
        (("answer",), "Did you mean 'answers'?"),
        (("answers", "--group", "route=rnk"), "Did you mean 'route=rank'?"),
        (("fast", "--group", "x"), "The objective has no groups"),
        (("answers", "--by", "rute"), "Did you mean 'route'?"),
        (("answers", "--last", "6"), "--last"),
        (("answers", "--last", "0s"), "--last"),
        (("fast", "--last", "25h"), "Use at most 1d"),
    ):
        result = run(engine, *arguments)
        assert result.exit_code == 2
        assert words in result.stderr


def test_no_data(engine: Engine, tmp_path: Path) -> None:
    assert run(engine, "answers").exit_code == 3
    result = run(engine, "fast", "--json")
    assert (result.exit_code, json.loads(result.stdout)[0]["burn"]) == (3, None)
    result = invoke("explain", "fast", "--state-dir", tmp_path / "nothing", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (3, [])
    assert not (tmp_path / "nothing").exists()


def test_nothing_heavy_is_imported(engine: Engine) -> None:
    record(engine, "rank", good=9, bad=1)
    engine.runner.tick()
    code = (
        "import sys\nfrom otelslo.cli import main\ntry:\n    main(['explain', 'fast', '--state-dir', sys.argv[1]])\n"
        "except SystemExit:\n    heavy = ('numba', 'numpy', 'opentelemetry', 'sqlite_utils', 'starlette')\n"
        "    print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    argv = [sys.executable, "-c", code, str(engine.state_dir)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True, encoding="utf-8")
    assert ended.stderr.strip() == "[]"
