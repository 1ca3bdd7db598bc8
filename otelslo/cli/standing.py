"""How objectives stand, in a terminal: a block of lines each, or a line each where there are many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from fractions import Fraction
from math import ceil, floor
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from otelslo.budget import Budget
from otelslo.cli import corrected, tables
from otelslo.cli.corrected import Rates
from otelslo.cli.tables import Glyphs
from otelslo.coverage import Coverage
from otelslo.period import local_text
from otelslo.quality.judged_rate import JudgedRate
from otelslo.status import Status
from otelslo.throughput import FLEET, FLEET_NOTE
from otelslo.window import format_duration, format_target

MOST_BLOCKS = 8  # more objectives and groups than that are shown one a line
NARROW = 72  # below, what stands at the right gets a line of its own
_EMPTY = {"good": "as good", "bad": "as bad", "ignore": "left out"}
Known = Mapping[tuple[str, str | None], Coverage]
_NONE: Mapping[tuple[str, str | None], Any] = MappingProxyType({})
_Fact = tuple[str, Text, Text | None]  # its name, what it is, what stands at the right


def objectives(statuses: Sequence[Status], out: Console, known: Known = _NONE, rates: Rates = _NONE) -> Table:
    """All of them: a block each, or a line each where there are many. `known`: what is known of their predictions;
    `rates`: what stands behind a judge's."""
    return compact(statuses, out) if len(statuses) > MOST_BLOCKS else blocks(statuses, out, known, rates)


def blocks(statuses: Sequence[Status], out: Console, known: Known = _NONE, rates: Rates = _NONE) -> Table:
    g = tables.glyphs(out)
    stack = Table.grid(expand=True, padding=0)
    stack.add_column(ratio=1)
    for status in statuses:
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(width=1)
        head.add_column(ratio=1, overflow="fold")
        head.add_column(justify="right", no_wrap=True)
        promise = Text.assemble(tables.sli(status), (f"  target {format_target(status.target)}", "dim"))
        head.add_row(tables.mark(status, g), tables.title(status), promise)
        stack.add_row(head)
        of = (status.slo, status.group)
        stack.add_row(Padding(_block(status, out, g, known.get(of), rates.get(of)), (0, 0, 1, 2)))
    return stack


def _block(status: Status, out: Console, g: Glyphs, known: Coverage | None, rate: JudgedRate | None) -> Table:
    stack = Table.grid(expand=True, padding=0)
    stack.add_column(ratio=1)
    bar_width = max(12, min(out.width, tables.WIDEST) - 56)
    for name, fact, beside in _facts(status, bar_width, g, known, rate):
        if beside is None or out.width >= NARROW:
            stack.add_row(_line(name, fact, beside))
        else:
            stack.add_row(_line(name, fact, None))
            stack.add_row(_line("", beside, None))
    return stack


def _line(name: str, fact: Text, beside: Text | None) -> Table:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(style="dim", width=6, no_wrap=True)
    line.add_column(ratio=1, overflow="fold")
    if beside is None:
        line.add_row(name, fact)
    else:
        line.add_column(justify="right", no_wrap=True)
        line.add_row(name, fact, beside)
    return line


def _facts(
    status: Status, bar_width: int, g: Glyphs, known: Coverage | None, rate: JudgedRate | None
) -> Iterator[_Fact]:
    yield "budget", _left(status, bar_width, g, status.full_budget), tables.budget_time(status.full_budget)
    if status.projected is not None:
        yield "", _basis(status, g), None
    yield "burn", _rates(status, g), tables.exhaustion(status, g.dash)
    if status.slices is None:
        yield "events", tables.events(status, g), tables.observed(status)
    else:
        yield "slices", _slices(status, g), tables.observed(status)
    if status.load is not None:
        yield "load", Text(status.load.text), None
        if status.load.promise.scope == FLEET:
            yield "", Text(FLEET_NOTE, style="dim"), None
    if known is not None:
        yield "labels", _labels(known, g), _bounded(known)
    if rate is not None:
        yield "judged", Text(corrected.told(rate)), None
    if status.timezone is not None and status.end_ns is not None:
        yield "window", _bounds(status.start_ns, status.end_ns, status.timezone), Text(status.window, style="dim")
    if status.sla is not None and status.full_sla_budget is not None:
        yield "SLA", _sla(status, g, status.sla, status.full_sla_budget), tables.budget_time(status.full_sla_budget)
    apart = _apart(status)
    if apart:
        yield "apart", Text("; ".join(apart)), None


def _labels(known: Coverage, g: Glyphs) -> Text:
    """ "812 of 1,000 labelled · 150 wait, 38 lapsed"."""
    parts = [
        f"{count:,} {word}"
        for count, word in (
            (known.pending, "wait"),
            (known.lapsed, "lapsed"),
            (known.gone, "given up"),
            (known.corrections, "corrected"),
        )
        if count
    ]
    text = Text(f"{known.labelled:,} of {known.predictions:,} labelled")
    if parts:
        text.append(f" {g.dot} {', '.join(parts)}", style="dim")
    return text


def _bounded(known: Coverage) -> Text | None:
    """ "SLI 81.2 % to 97.9 %": what it is if all that is unknown were bad, and if it were good."""
    if known.bounds is None or not known.unknown:
        return None
    low, high = known.bounds
    return Text(f"SLI {floor(low * 1000) / 10:.1f} % to {ceil(high * 1000) / 10:.1f} %", style="dim")


def _left(status: Status, width: int, g: Glyphs, of: Budget) -> Text:
    return Text.assemble(tables.bar(of.remaining_ratio, width, g), " ", tables.budget_left(status, g, of))


def _basis(status: Status, g: Glyphs) -> Text:
    """What the budget above is of, and how the same looks by what came so far."""
    whole = format_duration(status.window_ns) if status.end_ns is None else f"the {status.window.partition(' ')[0]}"
    so_far = tables.budget_left(status, g, status.budget).plain
    return Text(f"of {whole} at this traffic; of what came so far, {so_far}", style="dim")


def _rates(status: Status, g: Glyphs) -> Text:
    rates: list[Text | tuple[str, str]] = []
    for name in ("5m", "1h", "6h"):
        rates += [(f"{name} ", "dim"), tables.burn(status.burn.get(name), g), ("  ", "")]
    return Text.assemble(*rates)


def units(status: Status, count: int) -> str:
    """So many events, or slices; a ratio slice may be bad in part."""
    if status.slices is None or count % status.slices.parts == 0:
        return f"{count if status.slices is None else count // status.slices.parts:,}"
    return f"{count / status.slices.parts:,.2f}"


def _slices(status: Status, g: Glyphs) -> Text:
    assert status.slices is not None
    counts, rule = status.counts, _EMPTY.get(status.slices.empty, status.slices.empty)
    length = format_duration(status.slices.length_ns)
    text = Text(f"{units(status, counts.bad)} of {units(status, counts.valid)} slices of {length} bad")
    text.stylize("red" if counts.bad else "")
    alone = status.unattended_slices or 0
    if status.load is not None:
        if counts.excluded:
            text.append(f" {g.dot} {counts.excluded:,} of {counts.total:,} idle, {rule}", style="dim")
    elif status.empty_slices > alone:
        of = f" of {units(status, counts.total)}" if counts.excluded else ""
        text.append(f" {g.dot} {status.empty_slices - alone:,}{of} empty, {rule}", style="dim")
    if alone:
        told = _EMPTY.get(status.slices.unattended or "", rule)
        text.append(f" {g.dot} {alone:,} without a worker, {told}", style="dim")
    return text


def _bounds(start_ns: int, end_ns: int, timezone: str) -> Text:
    """ "since 1 Nov 00:00 CET, ends 1 Dec": the end's time only where it is none that one would expect."""
    (start, since, zone), (end, until, end_zone) = (local_text(at, timezone).split(" ") for at in (start_ns, end_ns))
    first, last = date.fromisoformat(start), date.fromisoformat(end)
    year = f" {last.year}" if last.year != first.year else ""
    exact = "" if (until, end_zone) == ("00:00", zone) else f" {until} {end_zone}"
    return Text(f"since {first.day} {first:%b} {since} {zone}, ends {last.day} {last:%b}{year}{exact}")


def _sla(status: Status, g: Glyphs, sla: Fraction, of: Budget) -> Text:
    text = Text(f"{format_target(sla)} ")
    if status.sla_met is not None:
        text.append("met, " if status.sla_met else "missed, ", style="green" if status.sla_met else "bold red")
    return text.append(tables.budget_left(status, g, of))


def _apart(status: Status) -> list[str]:
    """What was set apart: it changes what is counted, or explains it."""
    gone = status.excluded_since
    found = []
    if gone.valid:
        found.append(f"{gone.good:,} good and {gone.bad:,} bad events excluded after the fact")
    if status.planned_bad:
        what = "event" if status.slices is None else "slice"
        many = "" if status.planned_bad == (1 if status.slices is None else status.slices.parts) else "s"
        found.append(f"{units(status, status.planned_bad)} bad {what}{many} in planned work, spent")
    return found


def compact(statuses: Sequence[Status], out: Console, *, so_far: bool = False) -> Table:
    """One line an objective or group; with `so_far` budgets are those of what came so far."""
    g = tables.glyphs(out)
    narrow = out.width < NARROW
    table = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
    table.add_column("", width=1)
    table.add_column("objective", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("SLI", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("target", justify="right", no_wrap=True)
    table.add_column("budget", no_wrap=True, justify="right" if narrow else "left")
    table.add_column("burn 5m", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("bad", justify="right", no_wrap=True)
    for status in statuses:
        of = status.budget if so_far else status.full_budget
        first = (tables.mark(status, g), tables.title(status), tables.sli(status))
        rate = tables.burn(status.burn.get("5m"), g)
        if narrow:
            table.add_row(*first, tables.budget_left(status, g, of), rate)
            continue
        target = Text(format_target(status.target), style="dim")
        bad = Text(units(status, status.counts.bad), style="red" if status.counts.bad else "dim")
        table.add_row(*first, target, _left(status, 8, g, of), rate, bad)
    return table
