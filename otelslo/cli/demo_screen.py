"""The demo while it runs: a live picture in a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from otelslo.cli import standing, tables
from otelslo.cli.demo_load import CLASSES, CUT
from otelslo.cli.demo_run import Run

_LINE_S = 3.0


class Screen:
    """A `demo_run.Watcher` on a console. Leaving the context ends the live picture."""

    def __init__(self, out: Console, run: Run) -> None:
        self._out = out
        self._run = run
        self._phase = ""
        self._next_line = 0.0
        self._live = Live(console=out, auto_refresh=False, transient=True) if out.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def phase(self, name: str) -> None:
        """A new part of the plot."""
        self._phase = name
        line = Text.assemble((f"{self._run.elapsed_s:5.1f} s  ", "dim"), name)
        if self._live is not None:
            self._live.console.print(line)
            self.show()
        else:
            self._out.print(line)
            self._next_line = time.monotonic() + _LINE_S

    def show(self) -> None:
        """The run as it is now; without a terminal a line every few seconds."""
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        elif time.monotonic() >= self._next_line and self._run.load is not None:
            self._next_line = time.monotonic() + _LINE_S
            g = tables.glyphs(self._out)
            left = [f"{s.slo} {tables.budget_left(s, g, s.budget).plain}" for s in self._run.statuses]
            self._out.print(Text(f"{self._run.elapsed_s:5.1f} s    {self._ledger().plain}"), soft_wrap=True)
            self._out.print(Text(f"           budget of what came so far  {', '.join(left)}"), soft_wrap=True)

    def _picture(self) -> Group:
        run = self._run
        share = min(1.0, run.elapsed_s / max(run.seconds, 1.0))
        g = tables.glyphs(self._out)
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        width = max(10, self._out.width - 22)
        full = int(share * width)
        bar = Text.assemble((g.full * full, "cyan"), (g.rest * (width - full), "dim"))
        head.add_row(bar, Text(f"{run.elapsed_s:4.0f} s of {run.seconds:.0f} s", style="dim"))
        parts: list[Text | Table] = [Text(), head, Text()]
        if run.statuses:
            parts += [standing.compact(run.statuses, self._out, so_far=True), Text(), self._ledger()]
        return Group(*parts)

    def _ledger(self) -> Text:
        """What the client has received so far."""
        load = self._run.load
        ended = {} if load is None else load.latest["ended"]
        text = Text.assemble(("client  ", "dim"), f"{0 if load is None else load.latest['sent']:,} sent")
        styles = {"5xx": "red", CUT: "bold red"}
        for name in (*CLASSES, CUT):
            if ended.get(name):
                label = "cut off" if name == CUT else name
                text.append("  ").append(f"{ended[name]:,} {label}", style=styles.get(name, ""))
        return text
