"""The alerts that fire or are about to, for whoever looks: how bad, since when, and on how many events they rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from otelslo.alerts import PAGE, TICKET
from otelslo.cli import standing, tables
from otelslo.cli.tables import Glyphs
from otelslo.limits import LimitStatus
from otelslo.status import Status
from otelslo.window import readable_duration

FIRING, PENDING = "firing", "pending"
MOST_OBJECTIVES = 8
_STYLES = {PAGE: "bold red", TICKET: "bold yellow"}
_Alert = Mapping[str, Any]


def tally(statuses: Iterable[Status | LimitStatus]) -> Text:
    """ "1 page and 2 tickets fire"; empty while nothing does, and without tickets that a page silences."""
    firing = [one for status in statuses for one in _of(status, FIRING) if not one.get("inhibited")]
    parts = []
    for severity in (PAGE, TICKET):
        count = sum(1 for one in firing if one.get("severity") == severity)
        parts += [f"{count} {severity}{'s' * (count != 1)}"] if count else []
    if not parts:
        return Text()
    style = _STYLES[PAGE if any(one.get("severity") == PAGE for one in firing) else TICKET]
    return Text(f"{' and '.join(parts)} {'fires' if len(firing) == 1 else 'fire'}", style=style)


def draw(statuses: Sequence[Status], g: Glyphs) -> Table | None:
    """All of them by objective, pages first; None where there is none."""
    active = [status for status in statuses if any(_of(status, FIRING, PENDING))]
    if not active:
        return None
    stack = Table.grid(expand=True, padding=0)
    stack.add_column(ratio=1, overflow="fold")
    for status in sorted(active, key=_urgency)[:MOST_OBJECTIVES]:
        stack.add_row(Text.assemble(tables.mark(status, g), " ", tables.title(status)))
        for line in _lines(status, g):
            stack.add_row(Padding(line, (0, 0, 0, 2)))
    if len(active) > MOST_OBJECTIVES:
        stack.add_row(Text(f"and {len(active) - MOST_OBJECTIVES} more with alerts", style="dim"))
    return stack


def _of(status: Status | LimitStatus, *states: str) -> list[_Alert]:
    return [one for one in status.alerts if one.get("state") in states]


def _urgency(status: Status) -> int:
    firing = {one.get("severity") for one in _of(status, FIRING)}
    return 0 if PAGE in firing else 1 if firing else 2


def _lines(status: Status, g: Glyphs) -> Iterator[Text | Padding]:
    firing = _of(status, FIRING)
    told = [one for one in firing if not one.get("inhibited")]
    for one in sorted(told, key=lambda one: one.get("severity") != PAGE):
        yield _head(status, one)
        grounds = _grounds(status, one.get("data") or {}, g)
        if grounds:
            yield Padding(Text(grounds), (0, 0, 0, 2))
    silenced = [tables.clean(str(one.get("name"))) for one in firing if one.get("inhibited")]
    if silenced:
        yield Text(f"silenced while a page fires: {', '.join(silenced)}", style="dim")
    for one in _of(status, PENDING):
        yield _head(status, one)
    about = [f"owner {status.about.owner}"] if status.about.owner else []
    about += [text for text in (status.about.runbook_url, status.about.because) if text]
    if about and firing:
        yield Text(f" {g.dot} ".join(tables.clean(text, 400) for text in about), style="cyan")


def _head(status: Status, one: _Alert) -> Text:
    """ "PAGE page-fast since 13:08:24, for 12 s": a pending one is not so loud."""
    severity, pending = str(one.get("severity")), one.get("state") == PENDING
    word = f"pending {severity}" if pending else severity.upper() if severity == PAGE else severity
    text = Text.assemble((tables.clean(word), "dim" if pending else _STYLES.get(severity, "bold")), " ")
    text.append(tables.clean(str(one.get("name"))), style="" if pending else "bold")
    try:
        since_ns = round(datetime.fromisoformat(str(one["since"])).timestamp() * 1e9)
    except (KeyError, ValueError, OverflowError):
        return text
    lasted = tables.ago(status.now_ns - since_ns).removesuffix(" ago")
    return text.append(f" since {tables.clock_time(since_ns, status.now_ns)}, for {lasted}", style="dim")


def _grounds(status: Status, data: _Alert, g: Glyphs) -> str:
    """What it rests on; "" where another version wrote something else."""
    try:
        if "valid_long" in data:
            return _burned(status, data, g)
        if "remaining_ratio" in data:
            over = Fraction(1) - Fraction(data["remaining_ratio"])
            return f"{tables.rate_text(over)}{g.times} the budget of the window is spent"
        if "no_data_ns" in data:
            return f"no valid event for {readable_duration(data['no_data_ns'])}"
        if "week_excluded" in data:
            return (
                f"{data['excluded']:,} of {data['total']:,} events of the last hour are excluded, "
                f"{data['week_excluded']:,} of {data['week_total']:,} of the last week"
            )
    except (KeyError, TypeError, ValueError):
        pass
    return ""


def _burned(status: Status, data: _Alert, g: Glyphs) -> str:
    what = "events" if status.slices is None else "slices"
    parts = []
    for span in ("long", "short"):
        length, rate = readable_duration(data[f"{span}_ns"]), tables.rate_text(Fraction(data[f"burn_{span}"] or 0))
        bad, valid = (standing.units(status, data[f"{kind}_{span}"]) for kind in ("bad", "valid"))
        parts.append(f"{rate}{g.times} in {length}: {bad} of {valid} {what} bad")
        what = ""
    long, short = parts
    return f"{long}; {short.removesuffix('  bad')}; it fires above {data['factor']:.3g}{g.times}"
