"""`otelslo exclude`: take a span of time out of the budgets after the fact, list what was taken out, put it back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from otelslo.budget import Budget
from otelslo.cli import notebook, state
from otelslo.cli.explain import definition_of
from otelslo.cli.moments import Moments, moments, of_option
from otelslo.cli.state import View
from otelslo.counts import Counts
from otelslo.errors import BadValue, StateError
from otelslo.exporters.sqlite_reader import Reader
from otelslo.notes import SNAP_NS, Exclusion, Marked, snapped
from otelslo.status import NO_DATA, Status
from otelslo.window import SECOND_NS, readable_duration

FAILED, USAGE = 1, 2
SLOT = readable_duration(SNAP_NS)

_HELP = """Take a span of time out of the budgets after the fact, or put it back.

    Good and bad events of the span become excluded ones: they are still counted and shown, apart from the others.
    What is known ahead belongs into the configuration, `maintenance:`, where it applies to the event exactly. After the
    fact an exclusion takes whole slots of 5 minutes, outward.

    \b
    Examples:
      otelslo exclude add --from 10:00 --to 10:20 "load test, ticket 4711"
      otelslo exclude list
      otelslo exclude undo 1
"""
_ADD_HELP = """Exclude the events from T to T of one objective, or of all.

    T is ISO 8601, local ("2026-12-01T22:00") or with an offset, a time of today ("22:00"), "now", or "-2h" for ago. It
    snaps outward to whole slots of 5 minutes, and says which, and how many events that moves. Exit code 1 if it could
    not be recorded, 2 for a span that cannot be meant, 3 if there is no data.

    \b
    Examples:
      otelslo exclude add --from 10:00 --to 10:20 "load test, ticket 4711"
      otelslo exclude add --from -2h --to -90m --slo checkout --dry-run "provider outage"
"""
_directory = click.option(
    "--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]"
)
_timezone = click.option("--timezone", metavar="ZONE", help="Of times without an offset, such as Europe/Paris. [local]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("exclude", help=_HELP)
def command() -> None:
    pass


@command.command("add", help=_ADD_HELP)
@click.argument("reason")
@click.option("--from", "start", metavar="T", required=True, help="When it began.")
@click.option("--to", "end", metavar="T", required=True, help="When it ended.")
@click.option("--slo", metavar="NAME", help="One objective. [all]")
@click.option("--dry-run", is_flag=True, help="Say what it would move, and record nothing.")
@_timezone
@_json
@_directory
def add(
    reason: str,
    start: str,
    end: str,
    slo: str | None,
    dry_run: bool,
    timezone: str | None,
    as_json: bool,
    state_dir: str | None,
) -> None:
    if not reason.strip():
        raise click.UsageError("the reason is empty. Say why, for whoever reads the report")
    at = zoned(timezone)
    with of_option("--from"):
        start_ns = at.parse(start)
    with of_option("--to"):
        end_ns = at.parse(end)
    path = state.directory(state_dir)
    with told_errors():
        notebook.database_of(path)
    view = _look(path)
    if slo is not None:
        definition_of(view, slo)
    _refuse(view, at, start_ns, end_ns)
    one = Exclusion(0, slo, start_ns, end_ns, reason.strip(), at.now_wall_ns)
    moves = _moves(view, view.marked, replace(view.marked, exclusions=(*view.marked.exclusions, one)))
    if not dry_run:
        with told_errors(), notebook.writing(path, at.now_wall_ns) as notes:
            one = replace(one, id=notes.exclude(slo, start_ns, end_ns, one.reason, at.now_wall_ns))
    _tell(view, at, one, moves, as_json, "would exclude" if dry_run else f"exclusion {one.id}:")


@command.command("list")
@click.option("--all", "undone", is_flag=True, help="Also those that were undone.")
@_timezone
@_json
@_directory
def listed(undone: bool, timezone: str | None, as_json: bool, state_dir: str | None) -> None:
    """List exclusions in the order in which they were made."""
    at = zoned(timezone)
    path = state.directory(state_dir)
    with told_errors():
        found = Reader(notebook.database_of(path)).notes.exclusions(undone=undone)
    if as_json:
        click.echo(json.dumps([_plain(one, at, _slots(looked(path), one)) for one in found], indent=2))
    elif not found:
        click.echo("nothing is excluded after the fact")
    else:
        _draw_list(found, at, looked(path))


@command.command("undo")
@click.argument("number", type=int)
@_timezone
@_json
@_directory
def undo(number: int, timezone: str | None, as_json: bool, state_dir: str | None) -> None:
    """Put exclusion NUMBER back: its events count again. It stays on record. Exit code 2 if there is none in force."""
    at = zoned(timezone)
    path = state.directory(state_dir)
    with told_errors(), notebook.writing(path, at.now_wall_ns) as notes:
        one = next((e for e in notes.exclusions() if e.id == number), None)
        if one is None or not notes.undo_exclusion(number, at.now_wall_ns):
            raise click.UsageError(f"there is no exclusion {number} in force. See: otelslo exclude list --all")
    view = looked(path)
    moves = []
    if view is not None:
        moves = _moves(view, replace(view.marked, exclusions=(*view.marked.exclusions, one)), view.marked)
    _tell(view, at, replace(one, undone_wall_ns=at.now_wall_ns), moves, as_json, f"exclusion {number} is undone:")


# ── what other commands that write use too ──
def zoned(timezone: str | None) -> Moments:
    with of_option("--timezone"):
        return moments(timezone)


@contextmanager
def told_errors() -> Iterator[None]:
    """Errors of the state directory as text and exit code: 2 where there is nothing, 1 where it cannot be used."""
    try:
        yield
    except notebook.NothingThere as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(USAGE)
    except StateError as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(FAILED)


def looked(path: Path) -> View | None:
    """To show what can be shown; the database alone may be all that there is."""
    try:
        return state.look(path)
    except StateError:
        return None


def slots_of(view: View | None, start_wall_ns: int, end_wall_ns: int) -> tuple[int, int] | None:
    """Unix ns of the whole slots that a span takes; None where only the database is left."""
    if view is None:
        return None
    ring_ns = view.rows.ring_at(start_wall_ns), view.rows.ring_at(end_wall_ns)
    start_ns, end_ns = snapped(*ring_ns)
    return start_wall_ns - (ring_ns[0] - start_ns), end_wall_ns + (end_ns - ring_ns[1])


def snap_note(asked: str) -> str:
    """Said where the slots are not what was asked for."""
    return f"That is {asked} in whole slots of {SLOT}"


def ahead_note(at: Moments, end_ns: int, so: str) -> str:
    """Said where the last slot ends only at `end_ns`: what comes until then is `so` too."""
    ahead = readable_duration((end_ns - at.now_wall_ns) // SECOND_NS * SECOND_NS)
    return f"The last slot goes on for {ahead}: what comes in it is {so} too"


def _look(path: Path) -> View:
    try:
        view = state.look(path)
    except StateError as e:
        click.echo(f"no data: {e}", err=True)
        sys.exit(NO_DATA)
    if view.unread:
        click.echo(f"error: {view.unread}", err=True)
        sys.exit(FAILED)
    return view


# ── the span ──
def _refuse(view: View, at: Moments, start_ns: int, end_ns: int) -> None:
    with of_option("--to"):
        if end_ns <= start_ns:
            problem = f"it ends at {at.text(end_ns)}, and begins at {at.text(start_ns)}"
            raise BadValue(problem, "Give an end after the beginning")
        if end_ns > at.now_wall_ns:
            problem = f"{at.text(end_ns)} is in the future"
            raise BadValue(problem, "For what is known ahead use `maintenance:` in the configuration")
    kept_ns = view.kept_since_ns()
    if view.rows.ring_at(start_ns) < kept_ns:
        earliest = at.text(kept_ns + view.rows.wall_offset_ns())
        with of_option("--from"):
            raise BadValue(f"{at.text(start_ns)} is older than what is kept", f"The earliest is {earliest}")


def _slots(view: View | None, one: Exclusion) -> tuple[int, int] | None:
    return slots_of(view, one.start_wall_ns, one.end_wall_ns)


# ── what it moves ──
@dataclass(frozen=True, slots=True)
class Move:
    """Of one objective and group: events that become excluded (or valid again), and the budget before and after."""

    slo: str
    group: str | None
    events: Counts
    before: Status
    after: Status

    def to_json(self) -> dict[str, Any]:
        return {
            "slo": self.slo,
            "group": self.group,
            "good": self.events.good,
            "bad": self.events.bad,
            "met": [self.before.met, self.after.met],
            "budget_remaining_ratio": [_ratio(self.before.budget), _ratio(self.after.budget)],
            "full_budget_remaining_ratio": [_ratio(self.before.full_budget), _ratio(self.after.full_budget)],
        }


def _moves(view: View, before: Marked, after: Marked) -> list[Move]:
    """By the code that `otelslo status` uses, with and without; only where something moves."""
    then = {(one.slo, one.group): one for one in view.statuses(marked=before)}
    moves = []
    for now in view.statuses(marked=after):
        was = then.get((now.slo, now.group))
        if was is None:
            continue
        more = now.excluded_since - was.excluded_since
        events = Counts(abs(more.good), abs(more.bad))
        if events.valid:
            moves.append(Move(now.slo, now.group, events, was, now))
    return moves


def _ratio(budget: Budget) -> float | None:
    return None if budget.remaining_ratio is None else float(budget.remaining_ratio)


def _plain(one: Exclusion, at: Moments, slots: tuple[int, int] | None) -> dict[str, Any]:
    return {
        "number": one.id or None,
        "slo": one.slo,
        "from": at.iso(one.start_wall_ns),
        "to": at.iso(one.end_wall_ns),
        "slots": None if slots is None else {"from": at.iso(slots[0]), "to": at.iso(slots[1])},
        "reason": one.reason,
        "made": at.iso(one.created_wall_ns),
        "undone": None if one.undone_wall_ns is None else at.iso(one.undone_wall_ns),
    }


def _tell(view: View | None, at: Moments, one: Exclusion, moves: Sequence[Move], as_json: bool, what: str) -> None:
    slots = _slots(view, one)
    if as_json:
        click.echo(json.dumps(_plain(one, at, slots) | {"moved": [move.to_json() for move in moves]}, indent=2))
        return
    from rich.text import Text

    from otelslo.cli import tables

    out = tables.console()
    span = at.span(*slots) if slots is not None else at.span(one.start_wall_ns, one.end_wall_ns)
    out.print(Text.assemble(f"{what} ", (span, "bold"), f" of {tables.clean(one.slo or 'all objectives')}"))
    if slots is not None and slots != (one.start_wall_ns, one.end_wall_ns):
        out.print(Text(snap_note(at.span(one.start_wall_ns, one.end_wall_ns)), style="yellow"))
    if slots is not None and one.undone_wall_ns is None and slots[1] > at.now_wall_ns:
        out.print(Text(ahead_note(at, slots[1], "excluded"), style="yellow"))
    if moves:
        now = "count again" if one.undone_wall_ns is not None else "are excluded now"
        out.print(Text(f"Of these objectives so many events {'would be excluded' if not one.id else now}:"))
        out.print(_drawn(moves, tables.glyphs(out)))
    elif view is not None:
        out.print(Text("No good or bad event lies in it, so no budget changes", style="yellow"))


def _drawn(moves: Sequence[Move], g: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import tables

    table = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
    table.add_column("objective", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("good", "bad", "budget before", "and after"):
        table.add_column(name, justify="right")
    for move in moves:
        bad = Text(f"{move.events.bad:,}", style="red" if move.events.bad else "dim")
        left = [tables.budget_left(status, g) for status in (move.before, move.after)]
        table.add_row(tables.title(move.after), f"{move.events.good:,}", bad, *left)
    return table


def _draw_list(found: Sequence[Exclusion], at: Moments, view: View | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import tables

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("no.", "whole slots", "objective", "reason"):
        table.add_column(name, overflow="fold")
    for one in found:
        span = at.span(*(_slots(view, one) or (one.start_wall_ns, one.end_wall_ns)))
        reason = Text(tables.clean(one.reason, 400))
        if one.undone_wall_ns is not None:
            reason.append(f"  undone {at.text(one.undone_wall_ns)}", style="dim")
        table.add_row(str(one.id), span, tables.clean(one.slo or "all"), reason)
    tables.console().print(table)
