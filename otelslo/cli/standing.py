"""How objectives stand, in a terminal: a block of lines each, or a line each where there are many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from fractions import Fraction
from math import ceil, floor

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from otelslo.budget import Budget
from otelslo.cli import corrected, days, tables
from otelslo.cli.beside import Beside
from otelslo.cli.tables import Glyphs
from otelslo.coverage import Coverage
from otelslo.period import local_text
from otelslo.status import Status
from otelslo.throughput import FLEET, FLEET_NOTE
from otelslo.window import format_duration, format_target

MOST_BLOCKS = 8  # more objectives and groups than that are shown one a line
NARROW = 72  # below, what stands at the right gets a line of its own
_EMPTY = {"good": "as good", "bad": "as bad", "ignore": "left out"}
_NONE = Beside()
_Fact = tuple[str, Text, Text | None]  # its name, what it is, what stands at the right


def objectives(statuses: Sequence[Status], out: Console, beside: Beside = _NONE) -> RenderableType:
    """All of them: a block each, or a line each where there are many."""
    return lines(statuses, out, beside) if len(statuses) > MOST_BLOCKS else blocks(statuses, out, beside)


def blocks(statuses: Sequence[Status], out: Console, beside: Beside = _NONE) -> Table:
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
        stack.add_row(Padding(_block(status, out, g, beside), (0, 0, 1, 2)))
    return stack


def _block(status: Status, out: Console, g: Glyphs, beside: Beside) -> Table:
    stack = Table.grid(expand=True, padding=0)
    stack.add_column(ratio=1)
    bar_width = max(12, min(out.width, tables.WIDEST) - 56)
    for name, fact, right in _facts(status, bar_width, g, beside):
        if right is None or out.width >= NARROW:
            stack.add_row(_line(name, fact, right))
        else:
            stack.add_row(_line(name, fact, None))
            stack.add_row(_line("", right, None))
    return stack


def _line(name: str, fact: Text, right: Text | None) -> Table:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(style="dim", width=6, no_wrap=True)
    line.add_column(ratio=1, overflow="fold")
    if right is None:
        line.add_row(name, fact)
    else:
        line.add_column(justify="right", no_wrap=True)
        line.add_row(name, fact, right)
    return line


def _facts(status: Status, bar_width: int, g: Glyphs, beside: Beside) -> Iterator[_Fact]:
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
    yield from _of_models((status.slo, status.group), g, beside)
    if status.timezone is not None and status.end_ns is not None:
        yield "window", _bounds(status.start_ns, status.end_ns, status.timezone), Text(status.window, style="dim")
    if status.sla is not None and status.full_sla_budget is not None:
        yield "SLA", _sla(status, g, status.sla, status.full_sla_budget), tables.budget_time(status.full_sla_budget)
    apart = _apart(status)
    if apart:
        yield "apart", Text("; ".join(apart)), None


def _of_models(of: tuple[str, str | None], g: Glyphs, beside: Beside) -> Iterator[_Fact]:
    known, rate, found = beside.known.get(of), beside.rates.get(of), beside.days.get(of)
    if known is not None:
        yield "labels", _labels(known, g), _bounded(known)
    if rate is not None:
        yield "judged", Text(corrected.told(rate)), None
    if found:
        yield "days", Text(days.told(found)), None


def _labels(known: Coverage, g: Glyphs) -> Text:
    """ "812 of 1,000 labelled · 150 wait, 38 lapsed, 95 % mature"."""
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
    if known.maturity is not None:
        parts.append(f"{_percent(known.maturity)} mature")
    text = Text(f"{known.labelled:,} of {known.predictions:,} labelled")
    if parts:
        text.append(f" {g.dot} {', '.join(parts)}", style="dim")
    return text


def _percent(share: Fraction) -> str:
    """Rounded down: 100 % is all of it."""
    return f"{floor(share * 100)} %"


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


def lines(statuses: Sequence[Status], out: Console, beside: Beside) -> RenderableType:
    """One line an objective or group, and a dim one under it where its SLI cannot be read without."""
    drawn = out.render_lines(compact(statuses, out), new_lines=True)  # each row is one line: nothing in it wraps
    parts: list[RenderableType] = [Segments(drawn[0])]
    for status, line in zip(statuses, drawn[1:], strict=True):
        parts.append(Segments(line))
        more = _more(status, beside)
        if more:
            parts.append(Padding(Text(f" {tables.glyphs(out).dot} ".join(more), style="dim"), (0, 0, 0, 4)))
    return Group(*parts)


def _more(status: Status, beside: Beside) -> list[str]:
    """ "labels 52 %", "SLI 81.2 % to 97.9 %", and the like."""
    of, found = (status.slo, status.group), list[str]()
    known, rate, worth = beside.known.get(of), beside.rates.get(of), beside.days.get(of)
    if known is not None and known.ratio is not None:
        mature = "" if known.maturity in (None, 1) else f", {_percent(known.maturity)} mature"
        found.append(f"labels {_percent(known.ratio)}{mature}")
        bounds = _bounded(known)
        found += [] if bounds is None else [bounds.plain]
    if rate is not None:
        found.append(corrected.told(rate))
    if status.load is not None:
        found.append(status.load.text)
    if worth:
        found.append(days.told(worth))
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
