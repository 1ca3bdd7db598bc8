"""`otelslo drift`: make a baseline from a file, and see what was found of the last windows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from otelslo.cli import notebook, state
from otelslo.cli.exclude import told_errors, zoned
from otelslo.cli.moments import Moments
from otelslo.errors import DefinitionError
from otelslo.exporters.sqlite_drift import ClosedWindow
from otelslo.exporters.sqlite_reader import Reader

if TYPE_CHECKING:
    from otelslo.drift.baseline import Baseline

_NO, _NO_DATA = 1, 3
_BINS_SHOWN = 3
_HELP = """Drift of what models are fed: baselines, and what was found of closed windows.

    \b
    Examples:
      otelslo drift baseline training.csv --features age,amount,country:categorical --out baseline.json
      otelslo drift show
      otelslo drift show fraud-drift --last 12 --json
"""


@click.group("drift", help=_HELP)
def command() -> None:
    pass


@command.command("baseline")
@click.argument("file")
@click.option(
    *("--features", "named"), required=True, metavar="NAMES", help="Columns; numeric, unless they say age:categorical."
)
@click.option("--out", required=True, metavar="FILE", help="The JSON file to write, for `baseline:` of objectives.")
@click.option("--bins", type=int, metavar="N", help="At most so many bins or values a feature. [10, 20 of categories]")
@click.option("--nan-is-missing", is_flag=True, help="Take NaN for a missing value, instead of refusing it.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def baseline(file: str, named: str, out: str, bins: int | None, nan_is_missing: bool, as_json: bool) -> None:
    """Cut the columns of FILE (CSV with a header, or Parquet) into bins and count them: a baseline.

    One row in four chooses the bins, the others are counted. Exit code 2 for what makes no baseline.
    """
    try:
        made = [_baseline_of(file, *_kind(name), bins, nan_is_missing) for name in named.split(",")]
        _write(out, made)
    except DefinitionError as e:
        raise click.UsageError(str(e)) from e
    if as_json:
        click.echo(json.dumps([one.plain() for one in made], indent=2))
        return
    for one in made:
        click.echo(f"{one.feature}: {one.rows:,} rows counted in {one.bins.size} bins")
    click.echo(f"written to {out}")


def _kind(name: str) -> tuple[str, str]:
    feature, _, kind = name.strip().rpartition(":") if ":" in name else (name.strip(), "", "numeric")
    return feature, kind


def _baseline_of(file: str, feature: str, kind: Any, bins: int | None, nan_is_missing: bool) -> Baseline:
    if file.endswith((".parquet", ".pq")):
        from otelslo.drift.parquet import baseline_of_parquet as of_file
    else:
        from otelslo.drift.column import baseline_of_csv as of_file
    return of_file(file, feature, kind, bins=bins, nan_is_missing=nan_is_missing)


def _write(out: str, made: Sequence[Baseline]) -> None:
    from otelslo.drift.kept import write_baselines

    names = [one.feature for one in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DefinitionError("--features", f"{twice!r} is named twice", "Name each once")
    write_baselines(out, made)


@command.command("show")
@click.argument("slo", required=False)
@click.option("--last", type=click.IntRange(min=1), default=1, show_default=True, help="How many windows.")
@click.option("--timezone", metavar="ZONE", help="Of the times shown, such as Europe/Paris. [local]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object per window and feature.")
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
def show(slo: str | None, last: int, timezone: str | None, as_json: bool, state_dir: str | None) -> None:
    """What was found of the last closed windows, by feature.

    Exit code 1 if a feature had drifted in the last window of an objective, 3 if there is no window yet, or too few
    rows in all of them.
    """
    at = zoned(timezone)
    with told_errors():
        found = Reader(notebook.database_of(state.directory(state_dir))).drift.windows(slo, last)
    if as_json:
        click.echo(json.dumps([plain(one) for one in found], indent=2))
    elif not found:
        click.echo(f"no window {'of ' + slo + ' ' if slo else ''}is closed yet")
    else:
        _draw(found, at)
    click.get_current_context().exit(exit_code(found))


def exit_code(found: Sequence[ClosedWindow]) -> int:
    """By the newest window of each objective."""
    newest: dict[str, int] = {}
    for one in found:
        newest[one.slo] = max(newest.get(one.slo, 0), one.start_wall_ns)
    states = {one.state for one in found if one.start_wall_ns == newest[one.slo]}
    return _NO if "drifted" in states else 0 if "steady" in states else _NO_DATA


def plain(one: ClosedWindow) -> dict[str, Any]:
    """As --json prints it: times ISO 8601 in UTC, divergences as numbers or null."""
    utc = Moments(0, zoned("UTC").zone)
    edges = {"start": utc.iso(one.start_wall_ns), "end": utc.iso(one.end_wall_ns)}
    return {"slo": one.slo, "stream": one.stream, "feature": one.feature, "state": one.state, **edges, **one.data}


def _draw(found: Sequence[ClosedWindow], at: Moments) -> None:
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import tables

    out = tables.console()
    styles = {"drifted": "bold red", "steady": "bold green", "not_enough_data": "dim"}
    for (name, start_ns), group in groupby(found, key=lambda one: (one.slo, one.start_wall_ns)):
        features = list(group)
        first = features[0]
        out.print(Text.assemble((tables.clean(name), "bold"), f"  {_promise(first.data)}"))
        out.print(Text(f"  {at.span(start_ns, first.end_wall_ns)}{_spans(first.data)}", style="dim"))
        table = Table(box=None, padding=(0, 1), pad_edge=True)
        for heading in ("feature", "", "value", "bias", "corrected", "p", "rows", "needed"):
            table.add_column(heading, justify="left" if heading in ("feature", "") else "right", style=None)
        for one in features:
            mark = Text(one.state.replace("_", " "), style=styles.get(one.state, ""))
            table.add_row(Text(tables.clean(one.feature)), mark, *_numbers(one.data))
        out.print(table)
        for one in features:
            if one.state == "drifted":
                out.print(Text(f"  {tables.clean(one.feature)}: {_bins(one.data)}"))


def _promise(data: Mapping[str, Any]) -> str:
    return f"{data['measure']} at most {data['limit']:g}"


def _spans(data: Mapping[str, Any]) -> str:
    return f", closed late: it holds what came in {data['spans']} windows" if data.get("spans", 1) > 1 else ""


def _numbers(data: Mapping[str, Any]) -> list[str]:
    values = [_short(data.get(key)) for key in ("value", "bias", "corrected", "p_value")]
    needed = data.get("rows_needed")
    return [*values, f"{data['live_rows']:,}", "-" if needed is None else f"{needed:,}"]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _bins(data: Mapping[str, Any]) -> str:
    """The bins that moved most: "[12, 20) 10.1% -> 2.3%"."""
    from otelslo.cli import tables

    baseline_rows, live_rows = max(data["baseline_rows"], 1), max(data["live_rows"], 1)
    return ", ".join(
        f"{tables.clean(one['bin'], 40)} {one['baseline'] / baseline_rows:.1%} -> {one['live'] / live_rows:.1%}"
        for one in data["top_bins"][:_BINS_SHOWN]
    )
