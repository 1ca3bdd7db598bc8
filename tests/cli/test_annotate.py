"""`otelslo annotate`: instants, extents, what goes on and ends; what was planned is shown apart and stays spent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from otelslo import SLO, Engine
from otelslo.cli.annotate import command
from otelslo.exporters.sqlite_reader import Reader
from otelslo.notes import ANNOTATION_KINDS, Annotation

from .invoke import invoke
from .turned import MINUTE_NS, TEN_OCLOCK_NS, advance, record, turned


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    slos = [SLO(name, target="90%", match={"kind": "call"}) for name in ("answers", "other")]
    with turned(monkeypatch, tmp_path / "state", *slos) as made:
        made.runner.tick()
        yield made


def run(engine: Engine, *arguments: object, columns: int = 80) -> Result:
    return invoke("annotate", *arguments, "--state-dir", engine.state_dir, columns=columns)


def stored(engine: Engine) -> list[Annotation]:
    return Reader(engine.state_dir / "otelslo.db").notes.annotations()


def test_every_kind_has_a_command() -> None:
    assert set(command.commands) == {*ANNOTATION_KINDS, "end", "list"}


def test_an_instant_is_the_default(engine: Engine) -> None:
    result = run(engine, "release", "--version", "2.1.0", "--timezone", "UTC")
    assert result.stdout == "annotation 1: release of 2.1.0, 2023-11-15 10:00:00 UTC, for all objectives\n"
    expected = Annotation(1, "release", None, TEN_OCLOCK_NS, TEN_OCLOCK_NS, "2.1.0", "", False, TEN_OCLOCK_NS)
    assert stored(engine) == [expected]


def test_extents(engine: Engine) -> None:
    given = ("experiment", "model B", "--from", "-10m", "--to", "+20m", "--planned", "--slo", "answers", "--json")
    data = json.loads(run(engine, *given, "--timezone", "Europe/Paris").stdout)
    assert data == {
        "number": 1,
        "kind": "experiment",
        "slo": "answers",
        "from": "2023-11-15T10:50:00+01:00",
        "to": "2023-11-15T11:20:00+01:00",
        "slots": {"from": "2023-11-15T10:50:00+01:00", "to": "2023-11-15T11:20:00+01:00"},
        "version": None,
        "text": "model B",
        "planned": True,
        "made": "2023-11-15T11:00:00+01:00",
    }
    (one,) = stored(engine)
    assert (one.start_wall_ns, one.end_wall_ns) == (TEN_OCLOCK_NS - 10 * MINUTE_NS, TEN_OCLOCK_NS + 20 * MINUTE_NS)


def test_what_goes_on_is_ended(engine: Engine) -> None:
    result = run(engine, "incident", "failover", "--open", "--from", "09:30", "--timezone", "UTC")
    assert "otelslo annotate end 1" in result.stdout
    assert stored(engine)[0].end_wall_ns is None
    advance(engine, s=600)
    for moment, words in (("09:29", "it began only at 2023-11-15 09:30:00 UTC"), ("nonsense", "--at")):
        refused = run(engine, "end", 1, "--at", moment, "--timezone", "UTC")
        assert (refused.exit_code, words in refused.stderr) == (2, True)
    assert "09:30:00 to 10:10:00 UTC" in run(engine, "end", 1, "--timezone", "UTC").stdout
    assert stored(engine)[0].end_wall_ns == TEN_OCLOCK_NS + 10 * MINUTE_NS
    again = run(engine, "end", 1)
    assert (again.exit_code, "no annotation 1 goes on" in again.stderr) == (2, True)
    assert run(engine, "end", 2).exit_code == 2


def test_an_old_one_that_still_goes_on_can_be_ended(engine: Engine) -> None:
    run(engine, "maintenance", "--open")
    advance(engine, s=90 * 86_400)
    assert run(engine, "end", 1, "--at", "-1d").exit_code == 0


def test_list(engine: Engine) -> None:
    assert "no annotations in the last 30d" in run(engine, "list").stdout
    run(engine, "release", "--version", "1", "--from", "-40d")
    run(engine, "release", "--version", "2", "--from", "-2d")
    run(engine, "incident", "--open", "--from", "-50d")
    listed = json.loads(run(engine, "list", "--json").stdout)
    assert [(one["kind"], one["version"]) for one in listed] == [("release", "2"), ("incident", None)]
    assert len(json.loads(run(engine, "list", "--json", "--last", "60d").stdout)) == 3
    drawn = run(engine, "list", "--timezone", "UTC", columns=120).stdout
    assert "2023-11-13 10:00:00 UTC" in drawn
    assert "since 2023-09-26 10:00:00 UTC" in drawn


def test_what_was_spent_inside_planned_ones_is_shown_apart(engine: Engine) -> None:
    record(engine, "rank", good=90, bad=3)
    advance(engine, s=300)
    record(engine, "rank", bad=4)
    advance(engine, s=300)
    record(engine, "rank", bad=9)
    run(engine, "experiment", "--planned", "--slo", "answers", "--from", "10:05", "--to", "10:10", "--timezone", "UTC")
    run(engine, "release", "--from", "10:00", "--to", "10:10", "--timezone", "UTC")  # not planned
    found = json.loads(invoke("status", "--json", "--state-dir", engine.state_dir).stdout)
    assert {one["slo"]: (one["bad"], one["planned_bad"]) for one in found} == {"answers": (16, 4), "other": (16, 0)}
    drawn = invoke("explain", "answers", "--state-dir", engine.state_dir).stdout
    assert "Inside planned annotations: 4 bad events; they stay spent" in drawn


def test_planned_ones_take_whole_slots_and_say_so(engine: Engine) -> None:
    """In the words of `otelslo exclude add`."""
    given = ("experiment", "--planned", "--timezone", "UTC")
    assert run(engine, *given, "--from", "09:32", "--to", "09:34").stdout == (
        "annotation 1: planned experiment, 2023-11-15 09:30:00 to 09:35:00 UTC, for all objectives\n"
        "That is 2023-11-15 09:32:00 to 09:34:00 UTC in whole slots of 5 min\n"
    )
    assert "whole slots" not in run(engine, *given, "--from", "09:30", "--to", "09:45").stdout
    advance(engine, s=120)
    ongoing = run(engine, *given, "--from", "10:01", "--open").stdout.splitlines()
    assert ongoing[0] == "annotation 3: planned experiment, since 2023-11-15 10:00:00 UTC, for all objectives"
    assert ongoing[1] == "That is since 2023-11-15 10:01:00 UTC in whole slots of 5 min"
    ended = run(engine, "end", 3, "--timezone", "UTC").stdout
    assert "2023-11-15 10:00:00 to 10:05:00 UTC" in ended
    assert "The last slot goes on for 3 min: what comes in it is planned too" in ended
    assert "goes on" not in run(engine, *given, "--to", "+31m").stdout
    run(engine, "release", "--to", "+1m")
    listed = json.loads(run(engine, "list", "--json", "--timezone", "UTC").stdout)
    assert [one["slots"] and one["slots"]["to"] for one in sorted(listed, key=lambda one: one["number"])] == [
        *("2023-11-15T09:35:00+00:00", "2023-11-15T09:45:00+00:00", "2023-11-15T10:05:00+00:00"),
        *("2023-11-15T10:35:00+00:00", None),
    ]


def test_what_was_planned_does_not_change_when_it_is_old(engine: Engine) -> None:
    """Ten failures at 10:01, two at 10:03; 10:02 to 10:04 was planned, and hours later there is only the slot."""
    for seconds, bad in ((60, 10), (120, 2), (120, 0)):
        advance(engine, s=seconds)
        record(engine, "rank", bad=bad)
    given = ("--planned", "--from", "10:02", "--to", "10:04", "--timezone", "UTC")
    assert "whole slots of 5 min" in run(engine, "experiment", *given).stdout
    for hours in (0, 2, 3, 3, 24):
        advance(engine, s=3600 * hours)
        found = json.loads(invoke("status", "--json", "--state-dir", engine.state_dir).stdout)
        assert [(one["bad"], one["planned_bad"]) for one in found] == [(12, 12), (12, 12)], hours


def test_what_was_excluded_after_the_fact_is_not_spent(engine: Engine) -> None:
    record(engine, "rank", good=9, bad=2)
    advance(engine, s=600)
    record(engine, "rank", bad=4)
    advance(engine, s=600)
    run(engine, "experiment", "--planned", "--from", "10:00", "--to", "10:20", "--timezone", "UTC")
    span = ("--from", "10:10", "--to", "10:20", "--timezone", "UTC", "--state-dir", engine.state_dir)
    assert invoke("exclude", "add", "a provider was down", *span).exit_code == 0
    drawn = " ".join(invoke("status", "--state-dir", engine.state_dir).stdout.split())
    assert "0 good and 4 bad events excluded after the fact; 2 bad events in planned work, spent" in drawn
    drawn = invoke("explain", "answers", "--state-dir", engine.state_dir).stdout
    assert "Inside planned annotations: 2 bad events; they stay spent" in drawn


def test_slices_are_the_unit_of_what_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three failures in a slice that is good nevertheless, then a bad slice."""
    bar = {"budgeting": "timeslices", "slice": "5m", "slice_target": "90%", "target": "50%"}
    with turned(monkeypatch, tmp_path / "state", SLO("answers", match={"kind": "call"}, **bar)) as engine:
        engine.runner.tick()
        record(engine, "rank", good=97, bad=3)
        advance(engine, s=300)
        run(engine, "experiment", "--planned", "--from", "-5m", "--to", "now")
        directory = ("--state-dir", engine.state_dir)
        assert "planned work" not in invoke("status", *directory).stdout
        assert "planned annotations" not in invoke("explain", "answers", *directory).stdout
        record(engine, "rank", bad=5)
        advance(engine, s=300)
        run(engine, "experiment", "--planned", "--from", "-5m", "--to", "now")
        assert "1 bad slice in planned work, spent" in " ".join(invoke("status", *directory).stdout.split())
        (found,) = json.loads(invoke("status", "--json", *directory).stdout)
        assert (found["unit"], found["bad"], found["planned_bad"]) == ("timeslices", 1, 1)
        for span in ((), ("--last", "10m")):
            told = invoke("explain", "answers", *span, *directory).stdout
            assert "Inside planned annotations: 1 bad slices; they stay spent" in told
            (data,) = json.loads(invoke("explain", "answers", *(span or ("--last", "1h")), "--json", *directory).stdout)
            assert data["planned_bad"] == 1


def test_usage(engine: Engine) -> None:
    for arguments, words in (
        (("relase",), "relase"),
        (("release", "--open", "--to", "now"), "--open and --to exclude each other"),
        (("release", "--to", "-1h"), "Give an end after the beginning"),
        (("release", "--planned"), "Give an end, such as --to +30m, or --open"),
        (("release", "--planned", "--from", "-1h", "--to", "-1h"), "Give an end, such as --to +30m, or --open"),
        (("release", "--slo", "answer"), "Did you mean 'answers'?"),
        (("release", "--from", "soon"), "is no time"),
        (("release", "--timezone", "CETT"), "time zone"),
        (("list", "--last", "x"), "--last"),
    ):
        result = run(engine, *arguments)
        assert (result.exit_code, words in " ".join(result.stderr.split())) == (2, True), arguments
    assert stored(engine) == []


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    for arguments in (("release",), ("list",), ("end", 1), ("release", "--slo", "x")):
        result = invoke("annotate", *arguments, "--state-dir", tmp_path / "none")
        assert (result.exit_code, "no such state directory" in result.stderr) == (2, True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_and_names_cannot_draw(engine: Engine, columns: int) -> None:
    run(engine, "incident", "a\x1b[31mb\nc " + "long " * 60, "--version", "\x1b[2J", "--open")
    drawn = run(engine, "list", columns=columns).stdout
    assert max(map(len, drawn.splitlines())) <= columns
    assert "\x1b" not in drawn + run(engine, "end", 1).stdout
