"""`otelslo gate`: go or no-go for a release, by the policies of the objectives; for CI and deploy tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from otelslo.cli import override as overriding
from otelslo.cli import state
from otelslo.cli.gate_answer import GO, NO_GO, Answer, answer, has_such_groups
from otelslo.clock import SystemClock
from otelslo.errors import BadValue, StateError, nearest, shown
from otelslo.policy import NO_DATA
from otelslo.window import parse_positive_duration

_HELP = """Whether a release may go out, by the error budgets.

    Asks the policy of each SLO (by default: no when the budget is used up or a page fires). While a window is not full
    yet its budget is that of all of it, at the traffic so far. Exit code 0 go, 1 no-go, 2 usage, 3 not known: no state,
    nothing valid seen in the window, or nobody has kept the state for --max-age.

    Of a grouped SLO each group is asked, and all of them together; groups without events stop nothing. With --group
    and without names, SLOs without such groups, and limits, are asked all the same. A limit is no while it is breached.

    \b
    Examples:
      otelslo gate
      otelslo gate checkout-availability --json
      otelslo gate --override "the fix for incident 42"
"""
_NOT_FULL = " A window that is not full yet is judged as a whole one, at the traffic so far."


def _duration_ns(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        return parse_positive_duration(value)
    except BadValue as refused:
        raise click.BadParameter(str(refused)) from None


def _reason(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    reason = " ".join(value.split())
    if not reason or len(reason) > overriding.LONGEST_REASON:
        raise click.BadParameter(f"Say why, in {overriding.LONGEST_REASON} characters at most.")
    return reason


@click.command("gate", help=_HELP)
@click.argument("slos", nargs=-1, metavar="[SLO]...")
@click.option("--group", metavar="GROUP", help="Of SLOs with such groups this one alone, such as version=2026-11-01.")
@click.option(
    "--on-no-data",
    type=click.Choice(["deny", "allow"]),
    default="deny",
    show_default=True,
    help="What not knowing means.",
)
@click.option("--override", metavar="REASON", callback=_reason, help="Go all the same; recorded, and told to channels.")
@click.option(
    "--max-age", metavar="DURATION", default="60s", show_default=True, callback=_duration_ns, help="How old is too old."
)
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    slos: Sequence[str],
    group: str | None,
    on_no_data: str,
    override: str | None,
    max_age: int,
    state_dir: str | None,
    as_json: bool,
) -> None:
    directory, now_wall_ns = state.directory(state_dir), SystemClock().wall_ns()
    found = _look(directory, slos, group, max_age, now_wall_ns, on_no_data == "allow")
    for text in found.let_through:
        click.echo(f"warning: {text}; it goes by --on-no-data allow", err=True)
    code, failure = found.exit_code, ""
    if override is not None:
        code, failure = _override(directory, found, override, now_wall_ns)
    if as_json:
        click.echo(json.dumps(_as_json(found, code, override, failure), indent=2))
    else:
        _draw(found, code, override, failure)
    sys.exit(code)


def _look(
    directory: Path, slos: Sequence[str], group: str | None, max_age_ns: int, now_wall_ns: int, allow_no_data: bool
) -> Answer:
    try:
        view = state.look(directory)
    except StateError as e:
        return Answer(problem=str(e), allow_no_data=allow_no_data)
    known = [one.name for one in view.definitions] + [limit.name for limit in view.limits]
    for name in slos:
        if name not in known:
            raise click.UsageError(f"There is no SLO {shown(name)} in {directory}. {nearest(name, known)}")
    if group is not None and not slos and not any(has_such_groups(one, group) for one in view.definitions):
        problem = f"There is no group {shown(group)}: no SLO in {directory} has such groups"
        raise click.UsageError(f"{problem}. Name it as `otelslo status` does, such as version=2026-11-01")
    return answer(view, slos, group, max_age_ns, now_wall_ns, allow_no_data)


def _override(directory: Path, found: Answer, reason: str, now_wall_ns: int) -> tuple[int, str]:
    """The exit code, and why it could not be recorded. What nobody can find later does not go out."""
    try:
        overriding.record(directory, found, overriding.who(), reason, now_wall_ns)
    except StateError as e:
        return NO_GO, f"the override could not be recorded, so it does not hold: {e}"
    return GO, ""


def _as_json(found: Answer, code: int, reason: str | None, failure: str) -> dict[str, object]:
    overridden = None if reason is None else {"who": overriding.who(), "reason": reason, "recorded": not failure}
    return {
        "go": code == GO,
        "exit_code": code,
        "because": failure or found.because,
        "would_be": found.exit_code,
        "problem": found.problem or None,
        "override": overridden,
        "warnings": found.let_through,
        "objectives": [line.to_json() for line in found.lines],
    }


def _draw(found: Answer, code: int, reason: str | None, failure: str) -> None:
    from rich.text import Text

    from otelslo.cli import tables

    out = tables.console()
    if found.lines:
        out.print(_table(found))
        if any(line.status is not None and line.status.projected is not None for line in found.lines):
            out.print(Text(_NOT_FULL, style="dim"))
        out.print()
    if code == GO and reason is not None:
        would_be = "GO" if found.exit_code == GO else "NO GO"
        out.print(Text.assemble(("GO", "bold green"), f"  by override: {tables.clean(reason, 500)}"))
        out.print(Text(f"Recorded in the journal. It would have been {would_be}: {tables.clean(found.because, 1000)}"))
        return
    word = ("GO", "bold green") if code == GO else ("NO GO", "bold red")
    out.print(Text.assemble(word, f"  {tables.clean(failure or found.because, 1000)}"))


def _table(found: Answer) -> object:
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import tables

    g = tables.glyphs(tables.console())
    table = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
    table.add_column("", width=1)
    table.add_column("objective", ratio=1, overflow="fold")
    table.add_column("step", no_wrap=True)
    table.add_column("budget left", justify="right", no_wrap=True)
    for line in found.lines:
        judged, status = line.verdict, line.status
        style = "dim" if not line.decides else "green" if judged.allowed else "red"
        mark = g.empty if judged.step == NO_DATA else g.met if judged.allowed else g.breached
        name = Text(tables.clean(line.definition.name), style="bold")
        name.append(f"  {tables.clean(line.group)}" if line.group is not None else "", style="not bold cyan")
        name.append(f"\n{tables.clean(judged.message, 300)}" if judged.message else "", style="not bold")
        name.append("" if judged.allowed else f"\n{tables.clean(judged.because, 1000)}", style="not bold dim")
        left = Text(g.dash, style="dim") if status is None else tables.budget_left(status, g)
        table.add_row(Text(mark, style=style), name, Text(tables.clean(judged.step), style=style), left)
    return table
