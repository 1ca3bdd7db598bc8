"""`otelslo explain`: what burned one objective's budget, for whoever was woken by it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from otelslo.burn import BURN_WINDOWS
from otelslo.cli import state
from otelslo.cli.days import Day, bar_text
from otelslo.cli.moments import of_option
from otelslo.cli.state import View
from otelslo.counts import Counts
from otelslo.definition import Definition
from otelslo.errors import BadValue, StateError, nearest, shown
from otelslo.explain import Explanation, explain, explain_text, parse_dimensions, together
from otelslo.notes import SNAP_NS
from otelslo.period import local_text
from otelslo.rowkey import RowKey
from otelslo.rules import CRASHED
from otelslo.snapshot import SavedLoss
from otelslo.status import NO_DATA, Status
from otelslo.window import HOUR_NS, format_duration, parse_positive_duration

if TYPE_CHECKING:
    from rich.console import Console

MOST_LOSSES = 100_000  # all that the history keeps
_MOST_SHARES = 6
_MOST_CRASHES = 3
_MOST_DAYS = 14
_HELP = """Say what burned the budget of the objective SLO: how many events, how fast, and who had which share.

    Without --last: the last hour (or the shortest of 2h, 6h, 1d and 3d in which anything failed), then the objective's
    whole window. Without --by: each of reason, class, route, status, exception, group and version by itself;
    "--by route,version" is by both together, and --by may be given again for another breakdown. The groups of a grouped
    objective are taken together; --group is for one of them.

    Counts are exact. Shares are exact where the loss log holds every failure; where it does not, it is said of how many
    they are. Exit code 2 for an unknown objective or group, 3 if there is no data.

    \b
    Examples:
      otelslo explain checkout-availability
      otelslo explain checkout-availability --last 6h --by route,exception,version
      otelslo explain checkout-availability --json | jq '.[0].shares'
"""


@click.command("explain", help=_HELP)
@click.argument("slo")
@click.option("--group", help="One group of the objective, as `otelslo status` names it.")
@click.option("--last", metavar="DURATION", help="The span to explain, such as 6h.")
@click.option("--by", multiple=True, metavar="NAMES", help="reason, class, route, status, exception, group, version.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object per span.")
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
def command(
    slo: str, group: str | None, last: str | None, by: tuple[str, ...], as_json: bool, state_dir: str | None
) -> None:
    with of_option("--by"):
        breakdowns = list(dict.fromkeys(parse_dimensions(one) for one in by)) or None
    with of_option("--last"):
        span_ns = None if last is None else parse_positive_duration(last)
    try:
        view = state.look(state.directory(state_dir))
    except StateError as e:
        _nothing(str(e), as_json)
    definition = definition_of(view, slo)
    case = _case(view, definition, group)
    if case is None:
        _nothing(f"nothing has been counted for {slo}", as_json)
    if span_ns is not None and span_ns > case.whole.window_ns:
        longest = format_duration(case.whole.window_ns)
        with of_option("--last"):
            raise BadValue(f"{last} is longer than the objective's window", f"Use at most {longest}")
    spans = _telling(case) if span_ns is None else [span_ns]
    found = [case.explain(one, breakdowns) for one in spans]
    if as_json:
        _tell_notes(view)
        worth = _worth(case)
        told = [one.to_json() | {"text": explain_text(one), "crashes": _crashes(view, one)} for one in found]
        told = [one | {"days": worth} for one in told]
        click.echo(json.dumps(told, indent=2))
    else:
        _draw(view, case, found)
    sys.exit(0 if any(one.counts.valid for one in found) else NO_DATA)


def definition_of(view: View, name: str) -> Definition:
    """The objective of that name; a usage error with the nearest one if there is none."""
    for definition in view.definitions:
        if definition.name == name:
            return definition
    if name in [limit.name for limit in view.limits]:
        raise click.UsageError(f"{name} is a limit, which has no budget. See: otelslo status")
    known = [definition.name for definition in view.definitions]
    raise click.UsageError(f"there is no objective {shown(name)}. {nearest(name, known)}")


def _nothing(why: str, as_json: bool) -> NoReturn:
    click.echo(f"no data: {why}", err=True)
    if as_json:
        click.echo("[]")
    sys.exit(NO_DATA)


def _tell_notes(view: View) -> None:
    for note in (*view.notes, view.unread):
        if note:
            click.echo(f"note: {note}", err=True)


@dataclass
class Case:
    """One objective, in one look at a state directory: one group of it, or all together."""

    view: View
    definition: Definition
    whole: Status
    groups: frozenset[str | None]
    in_sum: bool

    def explain(self, span_ns: int | None, by: Sequence[tuple[str, ...]] | None) -> Explanation:
        """The last `span_ns`, or the whole window."""
        view, whole = self.view, self.whole
        start_ns = self._window_start() if span_ns is None else view.slot_start(view.now_ns - span_ns)
        losses = self._losses(start_ns)  # before the counts, so that there are never more of them
        reasons, events = self._reasons(), self.over(start_ns, in_events=True)
        units = events
        if self.definition.slices is not None:
            units = [whole] if span_ns is None else self.over(start_ns)
        return explain(
            whole,
            _sum(units),
            view.now_wall_ns - whole.start_ns if span_ns is None else span_ns,
            losses,
            by,
            events=_sum(events),
            reasons=reasons,
            bad_by_group={one.group: one.counts.bad for one in events} if self.in_sum else None,
            excluded_since=sum((one.excluded_since for one in events), Counts()),
            planned_bad=sum(one.planned_bad for one in units),
            loss_classes=self.definition.loss_classes,
        )

    def over(self, start_ns: int, in_events: bool = False) -> list[Status]:
        """The groups' statuses since `start_ns` (ring time), by the code that `otelslo status` uses."""
        span = replace(self.definition, window_ns=max(1, self.view.now_ns - start_ns), period=None)
        if in_events:
            span = replace(span, slices=None)
        return [one for one in self.view.statuses([span]) if one.group in self.groups]

    def _window_start(self) -> int:
        """Ring time; a calendar window begins with the slot whose start is nearest."""
        if self.whole.end_ns is None:
            return self.view.slot_start(self.view.now_ns - self.whole.window_ns)
        start_ns = self.view.rows.ring_at(self.whole.start_ns)
        return (start_ns + SNAP_NS // 2) // SNAP_NS * SNAP_NS

    def _losses(self, start_ns: int) -> list[SavedLoss]:
        keys: dict[str | None, bool] = {}
        kept = []
        for one in self.view.losses(start_ns, MOST_LOSSES):
            if one.row_key not in keys:
                keys[one.row_key] = self._is_ours(RowKey.parse(one.row_key or ""))
            if keys[one.row_key]:
                kept.append(one)
        return kept

    def _is_ours(self, key: RowKey) -> bool:
        ours = (key.slo, key.meaning) == (self.definition.name, self.definition.meaning)
        return ours and key.group in self.groups

    def _reasons(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for (slo, group), reasons in self.view.bad_reasons().items():
            if slo == self.definition.name and group in self.groups:
                for reason, count in reasons.items():
                    found[reason] = found.get(reason, 0) + count
        return found


def _case(view: View, definition: Definition, group: str | None) -> Case | None:
    found = view.statuses([definition])
    if not found:
        return None
    if group is not None:
        known = [one.group for one in found if one.group is not None]
        found = [one for one in found if one.group == group]
        if not found:
            remedy = nearest(group, known) if known else "The objective has no groups"
            raise click.UsageError(f"{definition.name} has no group {shown(group)}. {remedy}")
    return Case(view, definition, together(found), frozenset(one.group for one in found), len(found) > 1)


def _sum(statuses: Sequence[Status]) -> Counts:
    return sum((one.counts for one in statuses), Counts())


def _telling(case: Case) -> list[int | None]:
    """The last hour, or the shortest longer span in which anything failed, if any did; and the whole window (None)."""
    for _, span_ns in BURN_WINDOWS:
        if HOUR_NS <= span_ns < case.whole.observed_ns:
            start_ns = case.view.slot_start(case.view.now_ns - span_ns)
            if _sum(case.over(start_ns, in_events=True)).bad:
                return [span_ns, None]
    return [None]


def _days(case: Case) -> list[tuple[str | None, Day]]:
    """What the newest days were worth in each of the groups, the newest first."""
    found = case.view.days(case.view.statuses([case.definition]))
    each = [(group, day) for (_, group), some in found.items() if group in case.groups for day in some]
    return sorted(each, key=lambda one: (-one[1].start_wall_ns, one[0] or ""))


def _worth(case: Case) -> list[dict[str, Any]] | None:
    """None where the objective is not about days."""
    if case.definition.day_bar is None:
        return None
    return [{"group": group, **day.to_json()} for group, day in _days(case)]


# ── for people ──
def _draw(view: View, case: Case, found: Sequence[Explanation]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from otelslo.cli import causes, tables
    from otelslo.explain import headline

    out = tables.console()
    name = tables.title(case.whole)
    if case.in_sum:
        name.append(f"  {len(case.groups)} groups together, each with a budget of its own", style="not bold dim")
    out.print(name)
    for note in (*view.notes, view.unread):
        if note:
            out.print(Text(tables.clean(note, 400), style="yellow"))
    for one in found:
        out.print()
        whole = one.start_ns <= case.whole.start_ns
        span = "Whole window" if whole else f"Last {format_duration(one.span_ns)}"
        since = tables.clock_time(one.start_ns, one.status.now_ns)
        if whole and one.status.timezone is not None:
            since = local_text(one.start_ns, one.status.timezone)
        out.print(causes.heading(span, f"since {since}"))
        for number, line in enumerate(headline(one)):
            out.print(Padding(Text(line, style="dim" if number else "red" if one.counts.bad else ""), (0, 0, 0, 2)))
        if one.events.bad:
            _draw_shares(out, one)
            for text in _crashes(view, one)[:_MOST_CRASHES]:
                out.print(Padding(Text(tables.clean(text, 300), style="dim"), (0, 0, 0, 2)))
    _draw_days(out, _days(case))


def _draw_days(out: Console, found: Sequence[tuple[str | None, Day]]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from otelslo.cli import causes, tables

    if not found:
        return
    out.print()
    out.print(causes.heading("Days", f"UTC, the newest first; bar {bar_text(found[0][1])}"))
    for group, day in found[:_MOST_DAYS]:
        style = {"good": "", "bad": "red"}.get(day.outcome, "dim")
        line = Text.assemble(f"{day.date}  ", (f"{day.text:>8}  {day.outcome}", style))
        if group is not None:
            line.append(f"  {tables.clean(group)}", style="cyan")
        out.print(Padding(line, (0, 0, 0, 2)))
    if len(found) > _MOST_DAYS:
        out.print(Padding(Text(f"{len(found) - _MOST_DAYS} more: --json, or --group", style="dim"), (0, 0, 0, 2)))


def _crashes(view: View, one: Explanation) -> list[str]:
    """What is known of the workers that died, where their requests are among the failures."""
    crashed = any(CRASHED.reason in share.values for part in one.breakdowns for share in part.shares)
    return view.crashes(one.start_ns) if crashed else []


def _draw_shares(out: Console, one: Explanation) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import tables
    from otelslo.explain import newest_traces, percent, since_birth, source_text

    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(justify="right", width=4, no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(style="dim", no_wrap=True)
    for breakdown in one.breakdowns:
        if not breakdown.tells:
            continue
        table.add_row("", "", Text(f"by {', '.join(breakdown.by)}", style="bold"), "")
        for share in breakdown.shares[:_MOST_SHARES]:
            trace = tables.clean(share.trace_ids[0] if share.trace_ids else "", 32)
            shown_trace = trace if out.width >= tables.WIDEST else trace[:8]
            label = Text(tables.clean(share.label, 200), style="" if any(share.values) else "dim")
            table.add_row(Text(percent(share.share), style="bold"), Text(f"{share.count:,}"), label, Text(shown_trace))
        rest = breakdown.shares[_MOST_SHARES:]
        if rest:
            count = sum(share.count for share in rest)
            table.add_row("", Text(f"{count:,}"), Text(f"{len(rest)} others", style="dim"), "")
    out.print(Padding(table, (0, 0, 0, 2)))
    traces = newest_traces(one)
    told = [*since_birth(one), source_text(one), *(["Newest traces: " + " ".join(traces)] if traces else [])]
    for line in told:
        if line:
            out.print(Padding(Text(line, style="dim"), (0, 0, 0, 2)))
