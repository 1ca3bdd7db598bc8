"""`otelslo status`: how the objectives stand, from any shell on the host, without waking or disturbing a worker."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import click

from otelslo.cli import corrected, days, state
from otelslo.cli.beside import Beside
from otelslo.cli.state import View
from otelslo.errors import StateError
from otelslo.limits import LimitStatus
from otelslo.status import NO_DATA, Status, healthy

_MOST_ENTRIES = 6
_HELP = """How much of each error budget is left, and what burned it.

    Reads the state directory of running (or stopped) workers; needs none of them. Exit code 0 if every objective with
    data is met, 1 if one is missed, 3 if there is no data.

    \b
    Examples:
      otelslo status
      otelslo status --state-dir /var/lib/shop/otelslo
      otelslo status --json | jq '.[] | {slo, sli, left: .budget.remaining_ratio}'
"""


@click.command("status", help=_HELP)
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON list, one object per objective and group, and per limit."
)
def command(state_dir: str | None, as_json: bool) -> None:
    try:
        view = state.look(state.directory(state_dir))
    except StateError as e:
        _nothing(str(e), state_dir, as_json)
    found, limits = view.statuses(), view.limit_statuses()
    if as_json:
        for note in view.notes:
            click.echo(f"note: {note} as of {_as_of(view)}", err=True)
        if view.unread:
            click.echo(f"note: {view.unread}", err=True)
        beside = _beside(view, found)
        told = [one.to_json() | _told(beside, (one.slo, one.group)) for one in found]
        told += [one.to_json() for one in limits]
        click.echo(json.dumps(told, indent=2))
    else:
        _draw(view, found, limits)
    sys.exit(healthy([*found, *limits]))


def _nothing(why: str, state_dir: str | None, as_json: bool) -> NoReturn:
    click.echo(f"no data: {why}", err=True)
    demo = None if state_dir else state.newest_demo()
    if demo is not None:
        click.echo(f"A demo left its state: otelslo status --state-dir {demo}", err=True)
    if as_json:
        click.echo("[]")
    sys.exit(NO_DATA)


def _beside(view: View, found: list[Status]) -> Beside:
    return Beside(view.coverages(found), corrected.rates(view.definitions, found), view.days(found))


def _told(beside: Beside, of: tuple[str, str | None]) -> dict[str, Any]:
    known = beside.known.get(of)
    return {
        "labels": None if known is None else known.to_json(),
        "judged": corrected.plain(beside.rates.get(of)),
        "days": days.plain(beside.days.get(of)),
    }


def _as_of(view: View) -> str:
    from otelslo.cli.tables import clock_time

    return clock_time(view.now_wall_ns, view.now_wall_ns)


def _draw(view: View, found: list[Status], limits: list[LimitStatus]) -> None:
    from rich.text import Text

    from otelslo.cli import alarms, causes, limited, standing, tables

    out = tables.console()
    out.print(_headline(view, found, limits))
    for note in view.notes:
        out.print(Text(f"{tables.clean(note, 400)} as of {_as_of(view)}, to 5 minutes exactly", style="yellow"))
    if view.unread:
        out.print(Text(tables.clean(view.unread, 400), style="yellow"))
    firing = alarms.draw(found, tables.glyphs(out))
    if firing is not None:
        out.print()
        quiet_ns = view.quiet_ns()
        decided = "" if quiet_ns is None else f"as they stood {tables.ago(quiet_ns)}, when the last worker stopped"
        out.print(causes.heading("Alerts", decided))
        out.print(firing)
    out.print()
    out.print(standing.objectives(found, out, _beside(view, found)))
    if len(found) > standing.MOST_BLOCKS:  # blocks have an empty line below each
        out.print()
    if limits:
        out.print(causes.heading("Limits", "what must never be exceeded"))
        out.print(limited.draw(limits, tables.glyphs(out)))
        out.print()
    if any(one.counts.bad for one in found):
        out.print(causes.heading("What burned it", causes.BY_REASON))
        causes.burned(out, found, view.bad_reasons(), view.causes(), view.now_wall_ns)
        out.print()
    traffic = view.traffic()
    if traffic:
        out.print(causes.heading("Traffic", f"last {_span(view)}, {view.in_flight()} in flight now"))
        out.print(causes.routes(traffic, view.traffic_span_ns()))
        out.print()
    faults = view.faults()
    if faults:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in faults.items())
        out.print(Text(f"otelslo's own faults: {listed}. The log of the app says more", style="red"))
    entries = view.journal()
    if entries:
        out.print(causes.heading("Journal", "last hour"))
        out.print(causes.journal(entries[:_MOST_ENTRIES], view.now_wall_ns))


def _span(view: View) -> str:
    from otelslo.window import SECOND_NS, readable_duration

    return readable_duration(max(SECOND_NS, view.traffic_span_ns() // SECOND_NS * SECOND_NS))


def _headline(view: View, found: list[Status], limits: list[LimitStatus]) -> object:
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import alarms, tables

    verdicts = [one.met for one in found] + [one.met for one in limits]
    missed, silent = verdicts.count(False), verdicts.count(None)
    known = len(verdicts) - silent
    if not known:
        verdict = Text("no data yet", style="dim")
    elif missed:
        verdict = Text(f"{missed} of {known} objectives missed", style="bold red")
    else:
        verdict = Text(f"all {known} objectives met" if known > 1 else "the objective is met", style="bold green")
    if known and silent:
        verdict.append(f", {silent} without data", style="not bold yellow")
    fires = alarms.tally([*found, *limits])
    if fires:
        verdict.append(", ").append(fires)
    quiet_ns = view.quiet_ns()
    pulse = "" if quiet_ns is None else f"no worker runs; the last one did {tables.ago(quiet_ns)}"
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(no_wrap=True)
    line.add_column(ratio=1, justify="right", style="dim", overflow="ellipsis", no_wrap=True)
    line.add_row(verdict, Text(pulse or tables.clean(str(view.path))))
    return line
