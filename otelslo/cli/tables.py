"""How numbers about objectives look in a terminal: one way for `status`, `check` and `demo`, from 80 columns on.

Everything is built of `Text`, never of markup: names that came with requests cannot colour, move or clear anything.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from rich.console import Console
from rich.text import Text

from otelslo.budget import Budget
from otelslo.status import Status
from otelslo.window import DAY_NS, SECOND_NS, format_duration, format_ratio, readable_duration

WIDEST = 100
PAGE_BURN = Fraction(144, 10)  # 2 % of a 30-day budget in one hour
TICKET_BURN = Fraction(6)


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters beyond letters; terminals that have no Unicode get others."""

    met: str
    breached: str
    warning: str
    empty: str
    full: str
    rest: str
    times: str
    dot: str
    dash: str


_UNICODE = Glyphs("✓", "✗", "▲", "○", "━", "─", "×", "·", "–")
_ASCII = Glyphs("+", "x", "!", "o", "#", "-", "x", "|", "-")


def console(*, stderr: bool = False) -> Console:
    """A console that never fails on a character and is not wider than tables are good to read."""
    stream = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    made.width = min(made.width, WIDEST)
    return made


def glyphs(out: Console) -> Glyphs:
    return _UNICODE if out.encoding.lower().startswith("utf") else _ASCII


def clean(text: str, longest: int = 200) -> str:
    """A text from elsewhere as it may be printed: no control characters, no line breaks, not too long."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


# ── one objective ──
def mark(status: Status, g: Glyphs) -> Text:
    """Met, burning, breached or without data, told by its form and not only by its colour."""
    if status.met is None:
        return Text(g.empty, style="dim")
    if not status.met:
        return Text(g.breached, style="bold red")
    fires = {alert.get("severity") for alert in status.alerts if alert.get("state") == "firing"}
    if fires:
        return Text(g.warning, style="bold red" if "page" in fires else "bold yellow")
    burning = max((rate or 0 for name, rate in status.burn.items() if name in ("5m", "1h")), default=0)
    if burning >= TICKET_BURN or (status.full_budget.remaining_ratio or 0) < Fraction(1, 10):
        return Text(g.warning, style="bold yellow")
    return Text(g.met, style="bold green")


def title(status: Status) -> Text:
    text = Text(clean(status.slo), style="bold")
    if status.group is not None:
        text.append(f"  {clean(status.group)}", style="not bold cyan")
    return text


def sli(status: Status) -> Text:
    """The ratio, never rounded across the target."""
    if status.counts.sli is None:
        return Text("no data", style="dim")
    return Text(format_ratio(status.counts.sli, status.target), style="bold green" if status.met else "bold red")


def bar(ratio: Fraction | None, width: int, g: Glyphs) -> Text:
    """A budget's remaining share; full and empty parts differ in form, so it reads without colours."""
    part = Fraction(0) if ratio is None else min(max(ratio, Fraction(0)), Fraction(1))
    full = -(-part.numerator * width // part.denominator)  # a little left is not nothing
    if part < 1:
        full = min(full, width - 1)
    return Text.assemble((g.full * full, _budget_style(ratio)), (g.rest * (width - full), "dim"))


def _budget_style(ratio: Fraction | None) -> str:
    if ratio is None:
        return "dim"
    if ratio <= 0:
        return "bold red"
    return "yellow" if ratio < Fraction(1, 4) else "green"


def budget_left(status: Status, g: Glyphs, of: Budget | None = None) -> Text:
    """ "88.12% left", or how many times over the budget was spent; by default of a whole window's budget."""
    ratio = (of or status.full_budget).remaining_ratio
    if ratio is None:
        return Text("untouched", style="dim")
    if ratio < 0:
        return Text(f"{rate_text(1 - ratio)}{g.times} spent", style="bold red")
    return Text(f"{format_ratio(ratio)} left", style=_budget_style(ratio))


def budget_time(budget: Budget) -> Text:
    """The budget as time of full outage: "38 min 2 s of 43 min 12 s"."""
    allowed = readable_duration(budget.allowed_time_ns)
    left_ns = budget.remaining_time_ns
    if left_ns is None:
        return Text(f"{allowed} a window", style="dim")
    if left_ns < 0:
        return Text(f"{readable_duration(-left_ns)} beyond {allowed}", style="red")
    return Text(f"{readable_duration(left_ns)} of {allowed}")


def burn(rate: Fraction | None, g: Glyphs) -> Text:
    if rate is None:
        return Text(g.dash, style="dim")
    if rate >= PAGE_BURN:
        style = "bold red"
    elif rate >= TICKET_BURN:
        style = "red"
    else:
        style = "yellow" if rate > 1 else "green"
    return Text(f"{rate_text(rate)}{g.times}", style=style)


def rate_text(rate: Fraction) -> str:
    if rate >= 10:
        return f"{float(rate):,.0f}" if rate >= 100 else f"{float(rate):.1f}"
    return f"{float(rate):.2f}" if rate else "0"


def exhaustion(status: Status, dash: str) -> Text:
    if status.full_budget.remaining_ratio is None:
        return Text(dash, style="dim")
    if status.full_budget.remaining <= 0:
        return Text("budget exhausted", style="bold red")
    if status.exhausts_at_ns is None:
        return Text("lasts at the last hour's rate", style="dim")
    left = readable_duration(status.exhausts_at_ns - status.now_ns)
    return Text(f"exhausted in {left} at this rate", style="yellow")


def events(status: Status, g: Glyphs) -> Text:
    counts = status.counts
    dot = (f" {g.dot} ", "dim")
    bad = (f"{counts.bad:,} bad", "red" if counts.bad else "dim")
    return Text.assemble(f"{counts.good:,} good", dot, bad, dot, (f"{counts.excluded:,} excluded", "dim"))


def observed(status: Status) -> Text:
    if status.observed_since_ns is None:
        return Text("not observed yet", style="dim")
    return Text(f"seen {readable_duration(_whole(status.observed_ns))} of {format_duration(status.window_ns)}", "dim")


def _whole(duration_ns: int) -> int:
    """Without fractions of a second, once there are whole ones."""
    return duration_ns // SECOND_NS * SECOND_NS if duration_ns >= SECOND_NS else duration_ns


def ago(duration_ns: int) -> str:
    return f"{readable_duration(_whole(max(0, duration_ns)))} ago" if duration_ns >= SECOND_NS else "now"


def clock_time(wall_ns: int, now_wall_ns: int) -> str:
    """Local time; with the date if that is not today's."""
    moment = datetime.fromtimestamp(wall_ns / 1e9).astimezone()
    return moment.strftime("%H:%M:%S" if now_wall_ns - wall_ns < DAY_NS else "%Y-%m-%d %H:%M")
