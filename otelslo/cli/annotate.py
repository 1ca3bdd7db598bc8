"""`otelslo annotate`: note what happened beside the counts, so that a report can say what was going on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from otelslo.cli import notebook, state
from otelslo.cli.exclude import ahead_note, looked, slots_of, snap_note, told_errors, zoned
from otelslo.cli.explain import definition_of
from otelslo.cli.moments import Moments, of_option
from otelslo.cli.state import View
from otelslo.errors import BadValue, StateError
from otelslo.exporters.sqlite_reader import Reader
from otelslo.notes import ANNOTATION_KINDS, Annotation
from otelslo.status import NO_DATA
from otelslo.window import parse_positive_duration

_HELP = """Note a release, an incident, an experiment or maintenance beside the counts.

    Nothing is excluded by it: what is spent inside planned ones is shown apart, and stays spent. It is an instant
    unless it has an end (--to) or goes on (--open). A planned one is no instant, in which nothing could be spent; it
    snaps outward to whole slots of 5 minutes, as exclusions do. T is ISO 8601, local or with an offset, a time of today
    ("22:00"), "now", "-2h" for ago, or "+2h".

    \b
    Examples:
      otelslo annotate release --version 2.1.0
      otelslo annotate incident "database failover" --from -40m --open --slo checkout
      otelslo annotate end 7
      otelslo annotate experiment "half of the traffic to model B" --from now --to +2h --planned
"""
_MOST = 10_000
Extent = tuple[int, int | None]  # Unix ns; None: it goes on
_WHAT = {
    "release": "A new version went out.",
    "incident": "Something broke.",
    "experiment": "Something was tried, such as a fault or another model.",
    "maintenance": "Work on the system.",
    "other": "Anything else.",
}
_directory = click.option(
    "--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]"
)
_timezone = click.option("--timezone", metavar="ZONE", help="Of times without an offset, such as Europe/Paris. [local]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("annotate", help=_HELP)
def command() -> None:
    pass


def _kind_command(kind: str) -> click.Command:
    @click.command(kind, help=_WHAT[kind])
    @click.argument("text", default="")
    @click.option("--from", "start", metavar="T", default="now", show_default=True, help="When it began.")
    @click.option("--to", "end", metavar="T", help="When it ends. [an instant]")
    @click.option("--open", "is_open", is_flag=True, help='It goes on, until "otelslo annotate end".')
    @click.option("--version", default="", help="Of what was released or tried.")
    @click.option("--slo", metavar="NAME", help="One objective. [all]")
    @click.option("--planned", is_flag=True, help="What is spent until --to was meant, and is shown apart.")
    @_timezone
    @_json
    @_directory
    def add(
        text: str, start: str, end: str | None, is_open: bool, timezone: str | None, as_json: bool, **given: Any
    ) -> None:
        at = zoned(timezone)
        start_ns, end_ns = _extent(at, start, end, is_open)
        if given["planned"] and start_ns == end_ns:
            problem = "--planned is of what is spent meanwhile, and an instant takes no time"
            raise click.UsageError(f"{problem}. Give an end, such as --to +30m, or --open while it goes on")
        _annotate(at, kind, start_ns, end_ns, text.strip(), as_json, **given)

    return add


for _kind in ANNOTATION_KINDS:
    command.add_command(_kind_command(_kind))


@command.command("end")
@click.argument("number", type=int)
@click.option("--at", "moment", metavar="T", default="now", show_default=True, help="When it ended.")
@_timezone
@_json
@_directory
def end(number: int, moment: str, timezone: str | None, as_json: bool, state_dir: str | None) -> None:
    """End annotation NUMBER, which goes on. Exit code 2 if there is none such."""
    at = zoned(timezone)
    with of_option("--at"):
        end_ns = at.parse(moment)
    with told_errors(), notebook.writing(state.directory(state_dir), at.now_wall_ns) as notes:
        one = next((a for a in notes.annotations(limit=_MOST) if a.id == number and a.end_wall_ns is None), None)
        if one is None:
            raise click.UsageError(f"no annotation {number} goes on. See: otelslo annotate list")
        if end_ns < one.start_wall_ns:
            with of_option("--at"):
                raise BadValue(f"it began only at {at.text(one.start_wall_ns)}", "Give a later end")
        notes.end_annotation(number, end_ns, at.now_wall_ns)
        one = next(a for a in notes.annotations(limit=_MOST) if a.id == number)
    _tell(at, one, _slots(_view(state.directory(state_dir), [one]), one), as_json)


@command.command("list")
@click.option("--last", metavar="DURATION", default="30d", show_default=True, help="Those that went on in that time.")
@_timezone
@_json
@_directory
def listed(last: str, timezone: str | None, as_json: bool, state_dir: str | None) -> None:
    """List annotations, newest first."""
    at = zoned(timezone)
    with of_option("--last"):
        since_ns = max(0, at.now_wall_ns - parse_positive_duration(last))
    with told_errors():
        found = Reader(notebook.database_of(state.directory(state_dir))).notes.annotations(since_ns, _MOST)
    if as_json:
        view = _view(state.directory(state_dir), found)
        click.echo(json.dumps([_plain(one, at, _slots(view, one)) for one in found], indent=2))
    elif not found:
        click.echo(f"no annotations in the last {last}")
    else:
        _draw_list(found, at)


def _extent(at: Moments, start: str, end: str | None, is_open: bool) -> tuple[int, int | None]:
    if is_open and end is not None:
        raise click.UsageError("--open and --to exclude each other: it goes on, or it has an end")
    with of_option("--from"):
        start_ns = at.parse(start)
    with of_option("--to"):
        end_ns = start_ns if end is None else at.parse(end)
        if end_ns < start_ns:
            problem = f"it ends at {at.text(end_ns)}, and begins at {at.text(start_ns)}"
            raise BadValue(problem, "Give an end after the beginning")
    return start_ns, None if is_open else end_ns


def _annotate(
    at: Moments,
    kind: str,
    start_ns: int,
    end_ns: int | None,
    text: str,
    as_json: bool,
    version: str,
    slo: str | None,
    planned: bool,
    state_dir: str | None,
) -> None:
    path = state.directory(state_dir)
    with told_errors():
        notebook.database_of(path)
    if slo is not None:
        try:
            definition_of(state.look(path), slo)
        except StateError as e:
            click.echo(f"no data: {e}", err=True)
            raise SystemExit(NO_DATA) from None
    entry = (kind, slo, start_ns, end_ns, version, text, planned)
    with told_errors(), notebook.writing(path, at.now_wall_ns) as notes:
        number = notes.annotate(*entry, at.now_wall_ns)
    one = Annotation(number, *entry, at.now_wall_ns)
    _tell(at, one, _slots(_view(path, [one]), one), as_json)


def _view(path: Path, found: Sequence[Annotation]) -> View | None:
    """Only for planned ones: others have no slots."""
    return looked(path) if any(one.planned for one in found) else None


def _slots(view: View | None, one: Annotation) -> Extent | None:
    """Unix ns of the whole slots whose spending is planned; None where it is not, or only the database is left."""
    if not one.planned or one.end_wall_ns == one.start_wall_ns:
        return None
    end_ns = one.start_wall_ns if one.end_wall_ns is None else one.end_wall_ns
    slots = slots_of(view, one.start_wall_ns, end_ns)
    return None if slots is None else (slots[0], None if one.end_wall_ns is None else slots[1])


def _extent_text(extent: Extent, at: Moments) -> str:
    start_ns, end_ns = extent
    if end_ns is None:
        return f"since {at.text(start_ns)}"
    return at.text(start_ns) if end_ns == start_ns else at.span(start_ns, end_ns)


def _plain(one: Annotation, at: Moments, slots: Extent | None) -> dict[str, Any]:
    return {
        "number": one.id,
        "kind": one.kind,
        "slo": one.slo,
        "from": at.iso(one.start_wall_ns),
        "to": None if one.end_wall_ns is None else at.iso(one.end_wall_ns),
        "slots": None
        if slots is None
        else {"from": at.iso(slots[0]), "to": None if slots[1] is None else at.iso(slots[1])},
        "version": one.version or None,
        "text": one.text,
        "planned": one.planned,
        "made": at.iso(one.created_wall_ns),
    }


def _what(one: Annotation) -> str:
    from otelslo.cli.tables import clean

    parts = [f"planned {one.kind}" if one.planned else one.kind, one.version and f"of {clean(one.version, 60)}"]
    return " ".join(part for part in parts if part)


def _tell(at: Moments, one: Annotation, slots: Extent | None, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_plain(one, at, slots), indent=2))
        return
    from otelslo.cli.tables import clean

    of, asked = clean(one.slo) if one.slo else "all objectives", (one.start_wall_ns, one.end_wall_ns)
    click.echo(f"annotation {one.id}: {_what(one)}, {_extent_text(slots or asked, at)}, for {of}")
    if slots is not None and slots != asked:
        click.echo(snap_note(_extent_text(asked, at)))
    if slots is not None and slots[1] is not None and (one.end_wall_ns or 0) <= at.now_wall_ns < slots[1]:
        click.echo(ahead_note(at, slots[1], "planned"))
    if one.end_wall_ns is None:
        click.echo(f"It goes on until: otelslo annotate end {one.id}")


def _draw_list(found: Sequence[Annotation], at: Moments) -> None:
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import tables

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("no.", "when", "what", "objective", "text"):
        table.add_column(name, overflow="fold")
    for one in found:
        extent = _extent_text((one.start_wall_ns, one.end_wall_ns), at)
        when = Text(extent, style="yellow" if one.end_wall_ns is None else "")
        what, objective = _what(one), tables.clean(one.slo or "all")
        table.add_row(str(one.id), when, what, objective, Text(tables.clean(one.text, 400)))
    tables.console().print(table)
