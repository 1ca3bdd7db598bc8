"""Limits for whoever looks: a line each, that says since when they are met or breached."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from otelslo.cli.tables import Glyphs, ago, clean, clock_time
from otelslo.limits import BREACHED, MET, NO_DATA, LimitStatus

_STYLES = {MET: "bold green", BREACHED: "bold red", NO_DATA: "dim"}
_WORDS = {MET: "met", BREACHED: "breached", NO_DATA: "no data"}


def draw(limits: Sequence[LimitStatus], g: Glyphs) -> Table:
    """All of them: "fraud-model-age  breached since 2026-11-20 04:00: 93 d, limit 90 d"."""
    marks = {MET: g.met, BREACHED: g.breached, NO_DATA: g.empty}
    stack = Table.grid(expand=True, padding=(0, 1))
    stack.add_column(width=1)
    stack.add_column(ratio=1, overflow="fold")
    for one in limits:
        line = Text.assemble((clean(one.name), "bold"), "  ", (standing(one), _STYLES[one.state]))
        line.append(f": {one.text}")
        if one.state == NO_DATA and one.at_wall_ns is not None:
            line.append(f", last observed {ago(one.now_wall_ns - one.at_wall_ns)}", style="dim")
        stack.add_row(Text(marks[one.state], style=_STYLES[one.state]), line)
        if one.state == BREACHED:
            about = one.limit.about
            parts = [f"owner {about.owner}"] if about.owner else []
            parts += [text for text in (about.runbook_url, about.because) if text]
            if parts:
                stack.add_row("", Text(f" {g.dot} ".join(clean(part, 400) for part in parts), style="cyan"))
    return stack


def standing(one: LimitStatus) -> str:
    """Its state and since when: "breached since 04:00:12"."""
    if one.since_wall_ns is None:
        return _WORDS[one.state]
    return f"{_WORDS[one.state]} since {clock_time(one.since_wall_ns, one.now_wall_ns)}"
