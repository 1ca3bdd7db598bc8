"""`otelslo exclude`: what it moves is what status says, slots are whole, and nothing is ever lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from otelslo import SLO, Engine
from otelslo.cli import state
from otelslo.exporters.sqlite_reader import Reader

from .invoke import invoke
from .turned import FIVE_MINUTES_NS, SECOND_NS, TEN_OCLOCK_NS, advance, record, turned

SLOS = (
    SLO("answers", target="90%", match={"kind": "call"}),
    SLO("other", target="90%", match={"kind": "call", "route": "other"}),
    SLO("sliced", target="90%", match={"kind": "call"}, budgeting="timeslices", slice="5m", slice_target="90%"),
)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with turned(monkeypatch, tmp_path / "state", *SLOS) as made:
        made.runner.tick()  # which makes the database
        yield made


def run(engine: Engine, *arguments: object, columns: int = 80) -> Result:
    return invoke("exclude", *arguments, "--state-dir", engine.state_dir, columns=columns)


def add(engine: Engine, start: str, end: str, *more: object) -> dict:
    result = run(engine, "add", "--from", start, "--to", end, "--timezone", "UTC", "--json", "why", *more)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def bad_in(engine: Engine, slo: str = "answers") -> tuple[int, int]:
    """Bad and excluded events, as `otelslo status` says."""
    found = json.loads(invoke("status", "--json", "--state-dir", engine.state_dir).stdout)
    (one,) = [one for one in found if one["slo"] == slo]
    return one["bad"], one["excluded"]


def an_hour(engine: Engine) -> None:
    """From ten o'clock on, at the start of each 5 minutes: 1, 2, 4, ... bad ones, and one nanosecond before the end
    of them, 10 good ones."""
    for number in range(12):
        record(engine, "rank", bad=2**number if number < 7 else 0)
        advance(engine, ns=FIVE_MINUTES_NS - 1)
        record(engine, "rank", good=10)
        advance(engine, ns=1)
    engine.runner.tick()


def test_it_snaps_outward_to_whole_slots_and_says_so(engine: Engine) -> None:
    an_hour(engine)
    found = add(engine, "10:06", "10:10:01")
    assert found["slots"] == {"from": "2023-11-15T10:05:00+00:00", "to": "2023-11-15T10:15:00+00:00"}
    assert (found["from"], found["to"]) == ("2023-11-15T10:06:00+00:00", "2023-11-15T10:10:01+00:00")
    moved = {one["slo"]: (one["good"], one["bad"]) for one in found["moved"]}
    assert moved == {"answers": (20, 6), "sliced": (20, 6)}
    assert bad_in(engine) == (127 - 6, 26)
    drawn = " ".join(run(engine, "undo", 1, "--timezone", "UTC").stdout.split())
    assert "2023-11-15 10:05:00 to 10:15:00 UTC of all objectives" in drawn
    assert "That is 2023-11-15 10:06:00 to 10:10:01 UTC in whole slots of 5 min" in drawn
    assert bad_in(engine) == (127, 0)


@pytest.mark.parametrize(
    ("start", "end", "bad"),
    [("10:00", "10:05", 1), ("10:04:59", "10:05:01", 3), ("10:05", "10:10", 2), ("10:00", "11:00", 127)],
)
def test_whole_slots_move_exactly_their_events(engine: Engine, start: str, end: str, bad: int) -> None:
    an_hour(engine)
    found = add(engine, start, end, "--slo", "answers")
    assert [(one["slo"], one["bad"]) for one in found["moved"]] == [("answers", bad)]
    assert bad_in(engine)[0] == 127 - bad
    assert bad_in(engine, "sliced")[1] == 0


def test_overlapping_ones_move_an_event_once(engine: Engine) -> None:
    an_hour(engine)
    assert add(engine, "10:00", "10:10")["moved"][0]["bad"] == 3
    assert add(engine, "10:05", "10:15")["moved"][0]["bad"] == 4
    assert bad_in(engine)[0] == 127 - 7
    undone = json.loads(run(engine, "undo", 1, "--json").stdout)
    assert undone["moved"][0]["bad"] == 1
    assert bad_in(engine)[0] == 127 - 6


def test_the_slot_that_still_goes_on_is_told(engine: Engine) -> None:
    an_hour(engine)
    advance(engine, s=60)
    result = run(engine, "add", "--from", "-1m", "--to", "now", "load test", columns=120)
    assert "The last slot goes on for 4 min: what comes in it is excluded too" in result.stdout
    assert "No good or bad event lies in it, so no budget changes" in result.stdout
    record(engine, "rank", bad=50)
    assert bad_in(engine)[0] == 127


def test_a_step_of_the_wall_clock_moves_the_slots_as_they_are_shown_not_the_events(engine: Engine) -> None:
    an_hour(engine)
    engine.clock.step_wall(s=7)
    engine.runner.tick()
    advance(engine, s=600)
    found = add(engine, "11:05:00", "11:06:00")
    assert found["slots"] == {"from": "2023-11-15T11:00:07+00:00", "to": "2023-11-15T11:10:07+00:00"}
    assert add(engine, "10:00", "10:04")["slots"]["from"] == "2023-11-15T10:00:00+00:00"


def test_what_burned_it_leaves_excluded_failures_out(engine: Engine) -> None:
    record(engine, "rank", bad=5)
    advance(engine, s=300)
    record(engine, "search", bad=3)
    advance(engine, s=300)
    engine.runner.tick()
    add(engine, "10:00", "10:05", "--slo", "answers")
    causes = {(cause.slo, cause.route): cause.count for cause in state.look(engine.state_dir).causes()}
    assert causes == {("answers", "search"): 3, ("sliced", "rank"): 5, ("sliced", "search"): 3}
    result = invoke("explain", "answers", "--json", "--state-dir", engine.state_dir)
    (whole,) = json.loads(result.stdout)
    assert (whole["bad"], whole["logged"], whole["exact"], whole["excluded_since"]["bad"]) == (3, 3, True, 5)


def test_dry_run_records_nothing(engine: Engine) -> None:
    an_hour(engine)
    found = add(engine, "10:00", "10:05", "--dry-run")
    assert (found["number"], found["moved"][0]["bad"]) == (None, 1)
    assert bad_in(engine)[0] == 127
    assert json.loads(run(engine, "list", "--all", "--json").stdout) == []
    assert "nothing is excluded" in run(engine, "list").stdout


def test_list(engine: Engine) -> None:
    an_hour(engine)
    add(engine, "10:00", "10:05")
    add(engine, "10:10", "10:15", "--slo", "other")
    run(engine, "undo", 1)
    assert [one["number"] for one in json.loads(run(engine, "list", "--json").stdout)] == [2]
    every = json.loads(run(engine, "list", "--all", "--json").stdout)
    assert [(one["number"], one["slo"], bool(one["undone"])) for one in every] == [(1, None, True), (2, "other", False)]
    drawn = run(engine, "list", "--all", "--timezone", "Europe/Paris", columns=120).stdout
    assert "2023-11-15 11:00:00 to 11:05:00 CET" in drawn
    assert "undone 2023-11-15 12:00:00 CET" in drawn


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_and_names_cannot_draw(engine: Engine, columns: int) -> None:
    an_hour(engine)
    result = run(engine, "add", "--from", "-30m", "--to", "-20m", "a\x1b[31mb\nc", columns=columns)
    drawn = result.stdout + run(engine, "list", columns=columns).stdout
    assert max(map(len, drawn.splitlines())) <= columns
    assert "\x1b" not in drawn


def test_spans_that_cannot_be_meant(engine: Engine) -> None:
    an_hour(engine)
    for arguments, words in (
        (("--from", "now", "--to", "-1h", "x"), "Give an end after the beginning"),
        (("--from", "-1h", "--to", "-1h", "x"), "Give an end after the beginning"),
        (("--from", "-1h", "--to", "+1m", "x"), "`maintenance:` in the configuration"),
        (("--from", "-60d", "--to", "-1h", "x"), "The earliest is 2023-"),
        (("--from", "-1h", "--to", "now", "--slo", "answer", "x"), "Did you mean 'answers'?"),
        (("--from", "-1h", "--to", "now", " "), "Say why"),
        (("--from", "yesterday", "--to", "now", "x"), "--from"),
        (("--from", "-1h", "--to", "now", "--timezone", "Europe/Pariss", "x"), "Did you mean 'Europe/Paris'?"),
        (("--from", "2023-10-29T02:30", "--to", "now", "--timezone", "Europe/Paris", "x"), "two times"),
    ):
        result = run(engine, "add", *arguments)
        assert result.exit_code == 2
        assert words in " ".join(result.stderr.split())
    result = run(engine, "undo", 7)
    assert (result.exit_code, "no exclusion 7 in force" in result.stderr) == (2, True)
    assert Reader(engine.state_dir / "otelslo.db").notes.exclusions(undone=True) == []


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    for arguments in (("add", "--from", "-1h", "--to", "now", "x"), ("list",), ("undo", 1)):
        result = invoke("exclude", *arguments, "--state-dir", tmp_path / "none")
        assert result.exit_code == 2
        assert "no such state directory" in result.stderr
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    for arguments in (("add", "--from", "-1h", "--to", "now", "x"), ("list",), ("undo", 1)):
        assert invoke("exclude", *arguments, "--state-dir", tmp_path / "empty").exit_code == 2
    assert list((tmp_path / "empty").iterdir()) == []


def of_an_earlier_otelslo(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        for table in ("exclusions", "annotations"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE meta SET value = 1 WHERE key = 'schema'")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


def test_a_database_of_an_earlier_otelslo_is_read_and_left_alone(engine: Engine) -> None:
    an_hour(engine)
    engine.close()
    of_an_earlier_otelslo(engine.state_dir / "otelslo.db")
    assert bad_in(engine) == (127, 0)
    assert state.look(engine.state_dir).unread == ""
    result = run(engine, "add", "--from", "-1h", "--to", "now", "x")
    assert (result.exit_code, "of an earlier otelslo" in result.stderr) == (1, True)
    with closing(sqlite3.connect(engine.state_dir / "otelslo.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_without_a_database_status_has_no_exclusions(engine: Engine) -> None:
    an_hour(engine)
    (engine.state_dir / "otelslo.db").unlink()
    assert bad_in(engine) == (127, 0)
    assert state.look(engine.state_dir).unread == ""


def test_a_database_that_cannot_be_read_is_told_and_left_alone(engine: Engine) -> None:
    an_hour(engine)
    add(engine, "10:00", "10:05")
    database = engine.state_dir / "otelslo.db"
    engine.close()
    database.write_bytes(b"nonsense" * 1000)
    view = state.look(engine.state_dir)
    assert [one.counts.bad for one in view.statuses() if one.slo == "answers"] == [127]
    assert "cannot be read" in view.unread
    result = run(engine, "add", "--from", "-1h", "--to", "now", "x")
    assert result.exit_code == 1
    assert database.read_bytes() == b"nonsense" * 1000
    assert list(engine.state_dir.glob("*.bad-*")) == []
    assert "left out" in invoke("explain", "answers", "--state-dir", engine.state_dir).stdout


def test_beside_a_writer_it_waits_or_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    an_hour(engine)
    monkeypatch.setattr("otelslo.exporters.sqlite_schema.BUSY_TIMEOUT_S", 0.0)
    with closing(sqlite3.connect(engine.state_dir / "otelslo.db")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        result = run(engine, "add", "--from", "-1h", "--to", "now", "x")
        connection.rollback()
    assert result.exit_code == 1
    assert "try again" in result.stderr
    assert bad_in(engine)[0] == 127


def test_the_history_alone_can_be_excluded_from(engine: Engine) -> None:
    an_hour(engine)
    engine.close()
    (engine.state_dir / "live.ring").unlink()
    assert [one["bad"] for one in add(engine, "10:05", "10:10")["moved"]] == [2, 2]
    assert bad_in(engine)[0] == 125


def test_it_is_in_the_journal(engine: Engine) -> None:
    an_hour(engine)
    add(engine, "10:00", "10:05")
    (entry,) = [one for one in Reader(engine.state_dir / "otelslo.db").journal() if one.kind == "exclusion"]
    assert entry.text == "1 of all objectives: why"
    assert entry.wall_ns == TEN_OCLOCK_NS + 3_600 * SECOND_NS
