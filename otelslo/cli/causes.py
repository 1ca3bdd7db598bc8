"""What burned the budgets, which routes are how fast, what was noted: the lower half of `otelslo status`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from otelslo.cli import tables
from otelslo.cli.state import Cause
from otelslo.evaluate import Traffic
from otelslo.snapshot import JournalEntry
from otelslo.status import Status
from otelslo.window import MILLISECOND_NS, SECOND_NS

MOST_OBJECTIVES = 5
MOST_CAUSES = 4
MOST_ROUTES = 10

BY_REASON = "by reason since the time beside it; shares are those of the loss log"

BadReasons = Mapping[tuple[str, str | None], Mapping[str, int]]


def heading(text: str, note: str = "") -> Text:
    return Text.assemble((text, "bold"), (f"  {note}" if note else "", "dim"))


def burned(
    out: Console, statuses: Sequence[Status], reasons: BadReasons, causes: Sequence[Cause], now_wall_ns: int
) -> None:
    """Print, per objective and group that lost something: exact reasons, then the shares by the loss log."""
    losing = sorted((s for s in statuses if s.counts.bad), key=lambda s: s.budget.remaining_ratio or 0)
    for status in losing[:MOST_OBJECTIVES]:
        mine = [cause for cause in causes if (cause.slo, cause.group) == (status.slo, status.group)]
        mine_by_reason = reasons.get((status.slo, status.group), {})
        if not mine and not mine_by_reason:  # slices without any event may be bad
            continue
        out.print(_reasons(status, mine_by_reason, tables.glyphs(out), now_wall_ns))
        if mine:
            out.print(Padding(_shares(mine, now_wall_ns), (0, 0, 0, 2)))
    if len(losing) > MOST_OBJECTIVES:
        out.print(Text(f"and {len(losing) - MOST_OBJECTIVES} more", style="dim"))


def _reasons(status: Status, reasons: Mapping[str, int], g: tables.Glyphs, now_wall_ns: int) -> Text:
    parts = f" {g.dot} ".join(f"{count:,} {tables.clean(reason)}" for reason, count in reasons.items())
    since = "" if status.born_ns is None else f"  since {tables.clock_time(status.born_ns, now_wall_ns)}"
    return Text.assemble(tables.title(status), "  ", (parts, "red"), (since, "dim"))


def _shares(causes: Sequence[Cause], now_wall_ns: int) -> Table:
    logged = sum(cause.count for cause in causes)
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(justify="right", width=4, no_wrap=True)
    table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column(ratio=5, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", style="dim", no_wrap=True)
    for cause in causes[:MOST_CAUSES]:
        table.add_row(
            _percent(cause.count, logged), _where(cause), _what(cause), tables.ago(now_wall_ns - cause.last_wall_ns)
        )
    if len(causes) > MOST_CAUSES:
        rest = sum(cause.count for cause in causes[MOST_CAUSES:])
        table.add_row(_percent(rest, logged), Text(f"{len(causes) - MOST_CAUSES} other causes", style="dim"), "", "")
    return table


def _where(cause: Cause) -> Text:
    """The route's template; what a killed worker had in flight is booked before its route is known, and a label is of
    no request."""
    if cause.route:
        return Text(tables.clean(cause.route))
    if cause.reason == "crashed":
        return Text("in flight", style="dim")
    return Text("no route" if cause.status or cause.exception else "", style="dim")


def _percent(part: int, whole: int) -> Text:
    return Text(f"{100 * part // whole}%" if 100 * part >= whole else "<1%", style="bold")


def _what(cause: Cause) -> Text:
    parts = [cause.exception or (str(cause.status) if cause.status else ""), cause.version and f"v {cause.version}"]
    if cause.trace_id:
        parts.append(f"trace {cause.trace_id[:8]}")
    detail = " ".join(tables.clean(part, 60) for part in parts if part)
    shown = Text(tables.clean(cause.reason, 40), style="red")
    return shown.append(f" {detail}", style="not red") if detail else shown


def routes(traffic: Iterable[Traffic], span_ns: int) -> Table:
    """Requests a second and latency percentiles by route or call site, busiest first, of `span_ns`."""
    busiest = sorted(traffic, key=lambda one: (-one.events, one.name))
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
    table.add_column("route", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("events", "per s", "p50", "p95", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in busiest[:MOST_ROUTES]:
        rate = one.events * SECOND_NS / span_ns
        per_s = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        where = Text(tables.clean(one.name))
        if one.kind != "http":
            where.append(f"  {one.kind}", style="dim")
        table.add_row(where, f"{one.events:,}", per_s, *map(latency, (one.p50_ns, one.p95_ns, one.p99_ns)))
    if len(busiest) > MOST_ROUTES:
        table.add_row(Text(f"and {len(busiest) - MOST_ROUTES} more", style="dim"))
    return table


def latency(latency_ns: int | None) -> str:
    """In ms or s, with two or three digits: percentiles are within 4.43 %."""
    if latency_ns is None:
        return ""
    if latency_ns >= SECOND_NS:
        return f"{latency_ns / SECOND_NS:.2f} s"
    value = latency_ns / MILLISECOND_NS
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2f} ms"


def journal(entries: Iterable[JournalEntry], now_wall_ns: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for entry in entries:
        when = tables.clock_time(entry.wall_ns, now_wall_ns)
        table.add_row(when, Text.assemble((f"{tables.clean(entry.kind)}  ", "yellow"), tables.clean(entry.text, 400)))
    return table
