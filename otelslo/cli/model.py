"""`otelslo model`: tell when a model's version was trained or evaluated, for jobs that are no Python, and list it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from otelslo.cli import notebook, state
from otelslo.cli.exclude import told_errors, zoned
from otelslo.cli.moments import Moments, of_option
from otelslo.errors import BadValue
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_models import ToldVersion
from otelslo.exporters.sqlite_reader import Reader
from otelslo.models import ModelFacts
from otelslo.registry import checked_names
from otelslo.window import SECOND_NS, readable_duration

_HELP = """Tell when a model's version was trained or evaluated, or list what is known.

    NAME is the call site that the model serves (or what the objective's `model` says), VERSION what its attribute
    `version` says. Objectives of the indicator freshness and limits with `model` go by it, in seconds. T is ISO 8601,
    local or with an offset, "now", or "-2h" for ago. "list" lists all versions, or those of one model.

    \b
    Examples:
      otelslo model recommender 2026-11-01 --trained-at 2026-11-01T03:00Z
      otelslo model recommender 2026-11-01 --evaluated-at now
      otelslo model list recommender --json
"""
_LIST = "list"


@click.command("model", help=_HELP)
@click.argument("name")
@click.argument("version", required=False)
@click.option("--trained-at", metavar="T", help="When this version was trained.")
@click.option("--evaluated-at", metavar="T", help="When it was evaluated last.")
@click.option(
    "--correct", is_flag=True, help="What is known was wrong: put these dates in its place, also earlier ones."
)
@click.option("--timezone", metavar="ZONE", help="Of times without an offset, such as Europe/Paris. [local]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
def command(
    name: str,
    version: str | None,
    trained_at: str | None,
    evaluated_at: str | None,
    correct: bool,
    timezone: str | None,
    as_json: bool,
    state_dir: str | None,
) -> None:
    at = zoned(timezone)
    directory = state.directory(state_dir)
    if name == _LIST:
        if trained_at or evaluated_at or correct:
            raise click.UsageError('"list" tells nothing; name a model and its version')
        _list(at, directory, version, as_json)
        return
    if version is None:
        raise click.UsageError(f'Name a version too, or list those that are known: "otelslo model list {name}"')
    with of_option("NAME VERSION"):
        checked_names(name, version)
    told = ModelFacts(_moment(at, "--trained-at", trained_at), _moment(at, "--evaluated-at", evaluated_at))
    if told == ModelFacts():
        raise click.UsageError("nothing is told: give --trained-at or --evaluated-at")
    with told_errors():
        database = _database(directory)
        with contextlib.closing(Store(database)) as store:
            store.open(at.now_wall_ns)
            kept = store.models.tell(name, version, told, at.now_wall_ns, correct=correct)
        one = next(found for found in Reader(database).models.versions(name) if found.version == version)
    if as_json:
        click.echo(json.dumps(_plain(one, at), indent=2))
        return
    for option, new, now in zip(("--trained-at", "--evaluated-at"), told, kept, strict=True):
        if new is not None and now is not None and new != now:
            click.echo(f"{option} is earlier than what is known ({at.text(now)}), which stays; see --correct", err=True)
    click.echo(_told(one, at))


def _database(directory: Path) -> Path:
    database = notebook.database_of(directory)
    Reader(database).limits.observations()  # a damaged one is the leader's to judge, and to set aside
    return database


def _moment(at: Moments, option: str, text: str | None) -> int | None:
    if text is None:
        return None
    with of_option(option):
        at_ns = at.parse(text)
        if at_ns > at.now_wall_ns:
            raise BadValue(f"{at.text(at_ns)} is in the future", "Give a moment that is over")
        if at_ns < 0:
            raise BadValue(f"{at.text(at_ns)} is before 1970", "Give the moment of this model")
    return at_ns


def _list(at: Moments, directory: Path, model: str | None, as_json: bool) -> None:
    with told_errors():
        found = Reader(notebook.database_of(directory)).models.versions(model)
    if as_json:
        click.echo(json.dumps([_plain(one, at) for one in found], indent=2))
    elif not found:
        click.echo("no model version is known" + (f" of {model}" if model else ""))
    else:
        _draw(found, at)


def _plain(one: ToldVersion, at: Moments) -> dict[str, Any]:
    trained, evaluated = (None if at_ns is None else at.iso(at_ns) for at_ns in one.facts)
    since_ns = one.facts.since_ns()
    return {
        "model": one.model,
        "version": one.version,
        "trained_at": trained,
        "evaluated_at": evaluated,
        "age_s": None if since_ns is None else max(0, at.now_wall_ns - since_ns) / SECOND_NS,
        "told_at": at.iso(one.told_wall_ns),
        "evaluations": [at.iso(at_ns) for at_ns in one.evaluations],
    }


def _when(at_ns: int | None, at: Moments) -> str:
    return "never told" if at_ns is None else at.text(at_ns)


def _age(one: ToldVersion, at: Moments) -> str:
    since_ns = one.facts.since_ns()
    if since_ns is None:
        return "unknown"
    age_ns = max(0, at.now_wall_ns - since_ns)
    return readable_duration(age_ns // SECOND_NS * SECOND_NS)


def _told(one: ToldVersion, at: Moments) -> str:
    from otelslo.cli.tables import clean

    trained, evaluated = (_when(at_ns, at) for at_ns in one.facts)
    name = f"{clean(one.model)} {clean(one.version)}"
    return f"{name}: trained {trained}, evaluated {evaluated}; its age is {_age(one, at)}"


def _draw(found: Sequence[ToldVersion], at: Moments) -> None:
    from rich.table import Table

    from otelslo.cli import tables

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("model", "version", "trained", "evaluated", "age"):
        table.add_column(name, overflow="fold")
    for one in found:
        trained, evaluated = (_when(at_ns, at) for at_ns in one.facts)
        table.add_row(tables.clean(one.model), tables.clean(one.version), trained, evaluated, _age(one, at))
    tables.console().print(table)
