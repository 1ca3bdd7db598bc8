"""`otelslo check`: find out before the start what a configuration promises, or what is wrong with it and where.

What cannot be read is refused by the parsers; of what can be read, the linter says what will not do as it seems.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from otelslo import config, openslo
from otelslo.errors import DefinitionError
from otelslo.lint import ERROR, NOTE, WARNING, Finding, lint
from otelslo.maintenance import Window
from otelslo.slo import SLO, rules_table
from otelslo.window import DAY_NS, SECOND_NS, readable_duration

OK, WARNED, USAGE = 0, 1, 2
DEFAULT_CHANNELS = {"log": "log"}
SHOWN_WINDOWS = 3
MEAN_MONTH_NS = DAY_NS * 3_652_425 // 120_000  # a twelfth of 365.2425 days

_HELP = """Check a configuration and show what it promises.

    FILE is a YAML file, a Python file that has `slos`, or "package.module:slos". Without it: $OTELSLO_CONFIG, then
    ./slo.yaml, then the default objective. Exit code 2 if it is wrong, with file, line and remedy; warnings count only
    with --strict, as exit code 1.

    \b
    Examples:
      otelslo check slo.yaml
      otelslo check slo.yaml --rules     what counts as good, bad or excluded
      otelslo check slo.yaml --openslo   the same objectives as OpenSLO documents
      otelslo check slo.yaml --app shop:app --strict   in CI: also whether each objective has a route
"""


@click.command("check", help=_HELP)
@click.argument("file", required=False)
@click.option("--rules", is_flag=True, help="Show what counts as good, bad and excluded in each objective.")
@click.option("--openslo", "as_openslo", is_flag=True, help="Print the objectives as OpenSLO v1 documents.")
@click.option("--app", metavar="MODULE:NAME", help="Compare with this app's routes; it is imported, not started.")
@click.option("--strict", is_flag=True, help="Exit code 1 if there is any warning.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object per objective, with its findings.")
def command(file: str | None, rules: bool, as_openslo: bool, app: str | None, strict: bool, as_json: bool) -> None:
    try:
        loaded = config.load(file)
        found = _linted(loaded, app)
        documents = openslo.write(loaded.slos, loaded.channels) if as_openslo else None
    except DefinitionError as refused:
        click.echo(f"error: {refused}", err=True)
        sys.exit(USAGE)
    for notice in loaded.notices:
        click.echo(f"note: {notice}", err=True)
    if documents is not None:
        if loaded.limits:
            click.echo("note: limits are left out, OpenSLO has nothing of their kind", err=True)
        for finding in (one for one in found if one.severity != NOTE):
            place = loaded.place(finding.slo, finding.path) or finding.place
            click.echo(f"{finding.severity}: {place}: {finding.problem}. {finding.remedy}", err=True)
        click.echo(documents, nl=False)
    else:
        _show(loaded, found, rules, as_json)
    sys.exit(_exit_code(found, strict))


def _linted(loaded: config.Config, app: str | None) -> list[Finding]:
    routes = None
    if app is not None:
        from otelslo.cli.app_routes import leaves

        routes = leaves(app)
    channels = {name: kind for name, (kind, _) in loaded.channels.items()} or DEFAULT_CHANNELS
    return lint(loaded.slos, routes, channels=channels, now_wall_ns=time.time_ns())


def _exit_code(found: Sequence[Finding], strict: bool) -> int:
    severities = {finding.severity for finding in found}
    if ERROR in severities:
        return USAGE
    return WARNED if strict and WARNING in severities else OK


def _show(loaded: config.Config, found: Sequence[Finding], rules: bool, as_json: bool) -> None:
    resolved = [_resolved(slo, rules) for slo in loaded.slos]
    for shown in resolved:
        own = [finding for finding in found if finding.slo == shown["name"]]
        shown["findings"] = [finding.to_json(loaded.place(finding.slo, finding.path)) for finding in own]
    limits = [limit.definition() for limit in loaded.limits]
    if as_json:
        click.echo(json.dumps(resolved + limits, indent=2))
        return
    from otelslo.cli import tables
    from otelslo.cli.resolved import draw, draw_findings

    out = tables.console()
    draw(out, loaded.path, resolved, limits)
    draw_findings(out, resolved)


def _resolved(slo: SLO, rules: bool) -> dict[str, Any]:
    definition = slo.as_definition
    per_window_ns = budget_time_ns(slo, definition.window_ns)
    per_month_ns = budget_time_ns(slo, MEAN_MONTH_NS)
    budget = {
        "window_s": per_window_ns / SECOND_NS,
        "mean_month_s": per_month_ns / SECOND_NS,
        "text": f"{readable_duration(per_window_ns)} of {readable_duration(definition.window_ns)}; "
        f"{readable_duration(per_month_ns)} of a mean month",
    }
    windows = [_window(window) for window in slo.planned.upcoming(time.time_ns(), SHOWN_WINDOWS)]
    shown = slo.definition() | {"kind": slo.kind, "budget": budget, "next_maintenance": windows}
    if rules:
        lines = rules_table(slo)
        shown["rules"] = [{"happened": what, "outcome": kind, "reason": reason} for what, kind, reason in lines]
    return shown


def _window(window: Window) -> dict[str, Any]:
    bounds = {"start_unix_ns": window.start_ns, "end_unix_ns": window.end_ns}
    return {"name": window.name, "timezone": window.timezone, "text": window.text} | bounds


def budget_time_ns(slo: SLO, span_ns: int) -> int:
    """Nanoseconds of full outage that the target allows in `span_ns`, rounded down."""
    allowed = (1 - slo.target_ratio) * span_ns
    return allowed.numerator // allowed.denominator
