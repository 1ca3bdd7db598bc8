"""What the demo ends with: the two accounts, what burned the budgets, when to be alerted, what is left and next."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otelslo.cli import causes, standing, tables
from otelslo.cli.demo_ledger import ANSWERED, CRASHED, Account
from otelslo.cli.demo_run import Run

_MEANING = {"2xx": "good", "4xx": "excluded: the client's own errors", "5xx": "bad: 5xx and exceptions"}


def as_json(run: Run) -> dict[str, Any]:
    """Everything that `draw` shows, as plain data."""
    assert run.account is not None
    return {
        "ledger": run.account.to_json(),
        "peak_burn_5m": {slo: float(peak.burn) for slo, peak in run.peaks.items()},
        "alerts": {
            slo: {name: {"severity": severity, "after_s": after_s} for name, (severity, after_s) in peak.alerts.items()}
            for slo, peak in run.peaks.items()
        },
        "status": [status.to_json() for status in run.statuses],
        "seconds": run.elapsed_s,
        "state_dir": str(run.state_dir),
    }


def draw(out: Console, run: Run) -> None:
    """Print the report."""
    assert run.account is not None
    assert run.view is not None
    out.print()
    out.print(causes.heading("The ledger", "what the client received, and what otelslo counted"))
    out.print(_ledger(run.account))
    out.print(_verdict(run.account, out))
    out.print()
    out.print(causes.heading("What burned the budgets", causes.BY_REASON))
    causes.burned(out, run.statuses, run.view.bad_reasons(), run.view.causes(), run.view.now_wall_ns)
    out.print()
    g = tables.glyphs(out)
    out.print(causes.heading("Who was told", "decided every 10 s, by the budget of a whole window"))
    out.print(_alerts(run, g))
    out.print()
    out.print(causes.heading("Budgets left"))
    out.print(standing.blocks(run.statuses, out))
    out.print(causes.heading("Next"))
    out.print(_next(run))


def _ledger(account: Account) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("answer", "client", "otelslo", "difference"):
        table.add_column(name, justify="left" if name == "answer" else "right", no_wrap=True)
    table.add_column("counts as", style="dim", overflow="fold")
    for name in ANSWERED:
        difference = account.differences[name]
        shown = Text(f"{difference:+,}" if difference else "0", style="yellow" if difference else "green")
        client, engine = f"{account.client.get(name, 0):,}", f"{account.engine[name]:,}"
        table.add_row(f"  {name}", client, engine, shown, _MEANING[name])
    crashed = f"{account.engine[CRASHED]:,}"
    table.add_row("  cut off", f"{account.cut:,}", crashed, "", "bad: crashed, in flight at the kill")
    return table


def _verdict(account: Account, out: Console) -> Text:
    g = tables.glyphs(out)
    if not account.agrees:
        text = Text(f"{g.breached} The accounts do not agree: ", style="bold red")
        return text.append("this is a bug, please report it with the state directory.", style="not bold")
    exact = not any(account.differences.values())
    first = "Every answer is counted exactly once, difference 0." if exact else "Every request is counted exactly once."
    text = Text.assemble((f"{g.met} {first}", "bold green"))
    if account.cut or account.engine[CRASHED]:
        text.append(f" {_cut_off(account)}")
    return text


def _cut_off(account: Account) -> str:
    """Where each request that the kill cut off is to be found."""
    parts = [f"{account.engine[CRASHED] - account.late:,} in flight, counted as crashed"]
    if account.undelivered:
        parts.append(f"{account.undelivered:,} answered and counted, but the answer was lost on its way")
    if account.unreached:
        parts.append(f"{account.unreached:,} had not reached the app")
    text = f"The kill cut off {account.cut:,}: {', '.join(parts)}."
    if account.late:
        text += f" {account.late:,} more had its answer a moment before and is counted as crashed too."
    return text


def _alerts(run: Run, g: tables.Glyphs) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for slo, peak in run.peaks.items():
        pages = {name: after_s for name, (severity, after_s) in peak.alerts.items() if severity == "page"}
        if pages:
            word = Text(f"paged {min(pages.values()):.1f} s into the incident ({', '.join(pages)})", style="bold red")
        elif peak.alerts:
            word = Text(f"a ticket, no page ({', '.join(peak.alerts)})", style="yellow")
        else:
            word = Text("nobody needs to wake up", style="dim")
        table.add_row(Text(f"  {slo}", style="bold"), Text.assemble("peak ", tables.burn(peak.burn, g)), word)
    return table


def _next(run: Run) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold", style="cyan")
    grid.add_row(f"  otelslo status --state-dir {run.state_dir}")
    grid.add_row(f"  otelslo check {run.config} --rules")
    grid.add_row(Text.assemble("  app.add_middleware(SLOMiddleware)", ("   from otelslo.asgi, in your app", "dim")))
    return grid
