"""What `otelslo status` shows of decisions: alerts, both bases of a budget, windows, slices, what is apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from otelslo import SLO, Engine, ManualClock
from otelslo.cli import alarms, standing, state
from otelslo.cli.standing import _bounds
from otelslo.cli.tables import glyphs
from otelslo.notes import SNAP_NS
from otelslo.ring.geometry import Geometry
from otelslo.status import Status
from otelslo.window import format_ratio

from .invoke import invoke

SECOND_NS = 1_000_000_000
CALLS = {"kind": "call"}
WIDTHS = [60, 80, 120]
GEOMETRY = Geometry(max_blocks=4, snapshots=4)


class Played:
    """An engine with a clock turned by hand, a leader's tick every ten seconds, and its statuses as a screen."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def play(self, seconds: int, good: int = 0, bad: int = 0) -> Played:
        track = self.engine.track("job")
        for second in range(seconds):
            for outcome, times in (("good", good), ("bad", bad)):
                for _ in range(times):
                    self.engine.record(track, outcome, 0)
            self.engine.clock.advance(s=1)
            self.engine.ring.blocks.advance_manual_clock()
            if second % 10 == 9:
                self.engine.runner.tick()
        return self

    def statuses(self) -> list[Status]:
        view = state.look(self.engine.state_dir)
        view.now_ns = self.engine.clock.ring_ns()
        return view.statuses()

    def drawn(self, columns: int = 80) -> str:
        """Alerts and objectives; every line fits."""
        found = self.statuses()
        out = Console(width=columns, highlight=False, force_terminal=False)
        with out.capture() as captured:
            firing = alarms.draw(found, glyphs(out))
            if firing is not None:
                out.print(firing)
            out.print(standing.objectives(found, out))
        lines = captured.get().splitlines()
        assert max(map(len, lines)) <= columns
        assert not any("…" in line for line in lines)
        return " ".join(captured.get().split())


@pytest.fixture
def played(tmp_path: Path, make_engine) -> Callable[..., Played]:
    def make(*slos: SLO, start: datetime | None = None, **objective: object) -> Played:
        clock = ManualClock() if start is None else ManualClock(int(start.timestamp()) * SECOND_NS)
        chosen = slos or (SLO("calls", **({"match": CALLS, "alerts": {"guard": "off"}} | objective)),)
        engine = make_engine(*chosen, clock=clock, geometry=GEOMETRY, state_dir=tmp_path / "state")
        engine.channels = {}
        engine.runner.tick()
        return Played(engine)

    return make


# ── alerts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("columns", WIDTHS)
def test_a_page_says_since_when_and_what_it_rests_on(played, columns: int) -> None:
    seen = played(
        owner="payments",
        runbook_url="https://run/book",
        because="money is lost",
        alerts={"guard": "off", "tiers": {"page-slow": {"for": "1h"}}},
    )
    drawn = seen.play(3500, good=1).play(100, bad=1).drawn(columns)
    assert "PAGE page-fast since" in drawn
    assert "times" not in drawn
    assert "100 of 3,600 events bad" in drawn
    assert "it fires above 14.4×" in drawn
    assert "silenced while a page fires: ticket-fast, ticket-slow" in drawn
    assert "pending page page-slow since" in drawn
    assert "owner payments · https://run/book · money is lost" in drawn
    assert alarms.tally(seen.statuses()).plain == "1 page fires"


def test_without_alerts_there_is_no_such_part(played) -> None:
    seen = played().play(20, good=1)
    assert alarms.draw(seen.statuses(), glyphs(Console())) is None
    assert alarms.tally(seen.statuses()).plain == ""


def test_other_alerts_say_what_they_rest_on(played) -> None:
    seen = played(window="1h", alerts={"guard": "off", "tiers": "off", "no_data": "5m"})
    track = seen.engine.track("job")
    seen.play(3300, good=1)
    for _ in range(2000):
        seen.engine.record(track, "excluded", 0)
    drawn = seen.play(330, bad=1).play(320).drawn()
    assert "ticket budget-exhausted since" in drawn
    assert "× the budget of the window is spent" in drawn
    assert "ticket no-data since" in drawn
    assert "no valid event for 5 min" in drawn
    assert alarms.tally(seen.statuses()).plain.endswith("tickets fire")


def test_what_another_version_wrote_is_shown_as_far_as_it_is_known(played) -> None:
    (status,) = played().play(20, good=1).statuses()
    odd = [
        {"name": "a\x1b[31m", "severity": "loud", "state": "firing", "since": "yesterday", "data": {"valid_long": 3}},
        {"name": "b", "state": "firing", "data": None},
        {"odd": 1},
    ]
    object.__setattr__(status, "alerts", tuple(odd))
    out = Console(width=80, force_terminal=False)
    with out.capture() as captured:
        out.print(alarms.draw([status], glyphs(out)))
    assert "loud a?[31m" in captured.get()


def test_the_command_shows_and_tells_them(played) -> None:
    seen = played().play(3500, good=1).play(100, bad=1)
    seen.engine.runner.tick()
    result = invoke("status", "--state-dir", seen.engine.state_dir)
    assert "2 pages fire" in result.stdout
    assert "Alerts" in result.stdout
    (found,) = json.loads(invoke("status", "--state-dir", seen.engine.state_dir, "--json").stdout)
    firing = {one["name"]: one["severity"] for one in found["alerts"] if one["state"] == "firing"}
    assert firing["page-fast"] == "page"
    assert all({"since", "data", "inhibited"} <= set(one) for one in found["alerts"])


# ── objectives ─────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("columns", WIDTHS)
def test_a_calendar_window_has_bounds_and_both_bases(played, columns: int) -> None:
    start = datetime(2026, 3, 3, 12, tzinfo=ZoneInfo("America/New_York"))
    seen = played(calendar="month", timezone="America/New_York", sla="99%", start=start, alerts="off")
    drawn = seen.play(600, good=199, bad=1).drawn(columns)
    assert "since 1 Mar 00:00 EST, ends 1 Apr 00:00 EDT" in drawn
    assert "month (America/New_York)" in drawn
    assert "of the month at this traffic; of what came so far, 5.00× spent" in drawn
    assert "99% met, " in drawn
    (status,) = seen.statuses()
    assert f"{format_ratio(status.full_budget.remaining_ratio)} left" in drawn
    assert status.full_budget.remaining > 0 > status.budget.remaining


def test_bounds_are_brief() -> None:
    def bounds(*moments: tuple[int, int, int, int], zone: str = "Europe/Paris") -> str:
        first, last = (int(datetime(*one, tzinfo=ZoneInfo(zone)).timestamp()) * SECOND_NS for one in moments)
        return _bounds(first, last, zone).plain

    assert bounds((2026, 11, 1, 0), (2026, 12, 1, 0)) == "since 1 Nov 00:00 CET, ends 1 Dec"
    assert bounds((2026, 12, 1, 0), (2027, 1, 1, 0)) == "since 1 Dec 00:00 CET, ends 1 Jan 2027"
    assert bounds((2026, 10, 1, 0), (2026, 11, 1, 0)) == "since 1 Oct 00:00 CEST, ends 1 Nov 00:00 CET"


def test_a_window_that_was_seen_whole_has_one_basis(played) -> None:
    drawn = played(window="5m", target="90%", alerts="off").play(400, good=19, bad=1).drawn()
    assert "50.00% left" in drawn
    assert "at this traffic" not in drawn


@pytest.mark.parametrize("columns", WIDTHS)
def test_slices_are_counted_as_slices(played, columns: int) -> None:
    slices = {"match": CALLS, "slice": "1m", "target": "99%", "alerts": "off"}
    seen = played(
        SLO("whole", budgeting="timeslices", slice_target="50%", **slices),
        SLO("parts", budgeting="ratio_timeslices", empty_slices="good", **slices),
        start=datetime(2026, 11, 24, 12, tzinfo=ZoneInfo("UTC")),
    )
    drawn = seen.play(300, good=1).play(60, good=1, bad=3).play(120).play(60, good=3, bad=1).drawn(columns)
    assert "1 of 7 slices of 1m bad · 2 of 9 empty, left out" in drawn
    assert "1 of 9 slices of 1m bad · 2 empty, as good" in drawn
    drawn = seen.play(60, good=4, bad=1).drawn(columns)
    assert "1.20 of 10 slices of 1m bad · 2 empty, as good" in drawn


@pytest.mark.parametrize("columns", WIDTHS)
def test_what_was_set_apart_is_said(played, columns: int) -> None:
    seen = played(alerts="off", start=datetime(2026, 11, 24, 12, tzinfo=ZoneInfo("UTC")))
    seen.play(100, good=2, bad=1).play(SNAP_NS // SECOND_NS).play(50, good=1, bad=1)
    wall_ns, notes = seen.engine.clock.wall_ns(), seen.engine.runner.store.notes
    first_ns = wall_ns - (150 + SNAP_NS // SECOND_NS) * SECOND_NS
    notes.exclude("calls", first_ns, first_ns + 100 * SECOND_NS, "a provider was down", wall_ns)
    notes.annotate("release", None, wall_ns - 49 * SECOND_NS, None, "2", "planned", True, wall_ns)
    drawn = seen.drawn(columns)
    assert "200 good and 100 bad events excluded after the fact; 50 bad events in planned work, spent" in drawn
    assert "50 good · 50 bad · 300 excluded" in drawn


@pytest.mark.parametrize("columns", WIDTHS)
def test_many_objectives_are_a_line_each(tmp_path: Path, make_engine, columns: int) -> None:
    slos = [SLO(f"objective-{number}", match=CALLS) for number in range(standing.MOST_BLOCKS + 1)]
    engine = make_engine(*slos, geometry=GEOMETRY)
    engine.record(engine.track("job"), "good", 0)
    drawn = invoke("status", "--state-dir", engine.state_dir, columns=columns).stdout
    assert max(map(len, drawn.splitlines())) <= columns
    lines = [line for line in drawn.splitlines() if "objective-" in line]
    assert len(lines) == len(slos)
    assert all("100.00% left" in line for line in lines)
