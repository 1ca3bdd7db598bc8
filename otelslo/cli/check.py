"""`otelslo check`: find out before the start what a configuration promises, or what is wrong with it and where."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from otelslo import config
from otelslo.errors import DefinitionError
from otelslo.slo import SLO, rules_table
from otelslo.window import DAY_NS, SECOND_NS, readable_duration

USAGE = 2
MEAN_MONTH_NS = DAY_NS * 3_652_425 // 120_000  # a twelfth of 365.2425 days

_HELP = """Check a configuration and show what it promises.

    FILE is a YAML file, a Python file that has `slos`, or "package.module:slos". Without it: $OTELSLO_CONFIG, then
    ./slo.yaml, then the default objective. Exit code 2 if it is wrong, with file, line and remedy.

    \b
    Examples:
      otelslo check slo.yaml
      otelslo check slo.yaml --rules     what counts as good, bad or excluded
"""


@click.command("check", help=_HELP)
@click.argument("file", required=False)
@click.option("--rules", is_flag=True, help="Show what counts as good, bad and excluded in each objective.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object per objective.")
def command(file: str | None, rules: bool, as_json: bool) -> None:
    try:
        loaded = config.load(file)
    except DefinitionError as refused:
        click.echo(f"error: {refused}", err=True)
        sys.exit(USAGE)
    resolved = [_resolved(slo, rules) for slo in loaded.slos]
    if as_json:
        click.echo(json.dumps(resolved, indent=2))
        return
    from otelslo.cli import tables
    from otelslo.cli.resolved import draw

    draw(tables.console(), loaded.path, resolved)


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
    shown = definition.to_json() | {"kind": slo.kind, "budget": budget}
    if rules:
        lines = rules_table(slo)
        shown["rules"] = [{"happened": what, "outcome": kind, "reason": reason} for what, kind, reason in lines]
    return shown


def budget_time_ns(slo: SLO, span_ns: int) -> int:
    """Nanoseconds of full outage that the target allows in `span_ns`, rounded down."""
    allowed = (1 - slo.target_ratio) * span_ns
    return allowed.numerator // allowed.denominator
