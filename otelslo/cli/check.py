"""`otelslo check`: find out before the start what a configuration promises, or what is wrong with it and where.

What cannot be read is refused by the parsers; of what can be read, the linter says what will not do as it seems.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import click

from otelslo import channels, config, openslo
from otelslo.cli.app_routes import importing, leaves
from otelslo.errors import DefinitionError, nearest
from otelslo.features import INDICATOR, watch_of
from otelslo.lint import ERROR, NOTE, WARNING, Finding, lint
from otelslo.maintenance import Window
from otelslo.period import Calendar
from otelslo.slo import SLO, rules_table
from otelslo.window import DAY_NS, SECOND_NS, readable_duration

OK, WARNED, USAGE = 0, 1, 2
DEFAULT_CHANNELS = {"log": "log"}
SHOWN_WINDOWS = 3
MEAN_MONTH_NS = DAY_NS * 3_652_425 // 120_000  # a twelfth of 365.2425 days

_HELP = """Check a configuration and show what it promises.

    FILE is a YAML or TOML file, a Python file that has `slos`, or "package.module:slos". Without it: $OTELSLO_CONFIG,
    then ./slo.yaml, then the default objective. Code that it names is imported from this directory, too. Exit code 2 if
    it is wrong, with file, line and remedy; warnings count only with --strict, as exit code 1.

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
        with importing():
            loaded = config.load(file)
        found = _linted(loaded, app)
        documents = openslo.write(loaded.slos, loaded.channels) if as_openslo else None
    except DefinitionError as refused:
        click.echo(f"error: {refused}", err=True)
        sys.exit(USAGE)
    for notice in loaded.notices:
        click.echo(f"note: {notice}", err=True)
    unmade = [*_channels(loaded), *_drift(loaded)]
    for severity, text in unmade:
        click.echo(f"{severity}: {text}", err=True)
    code = _exit_code({one.severity for one in found} | {severity for severity, _ in unmade}, strict)
    if documents is not None:
        if loaded.limits:
            click.echo("note: limits are left out, OpenSLO has nothing of their kind", err=True)
        for finding in (one for one in found if one.severity != NOTE):
            place = loaded.place(finding.slo, finding.path) or finding.place
            click.echo(f"{finding.severity}: {place}: {finding.problem}. {finding.remedy}", err=True)
        click.echo(documents, nl=False)
    else:
        _show(loaded, found, rules, as_json, wrong=code == USAGE)
    sys.exit(code)


def _linted(loaded: config.Config, app: str | None) -> list[Finding]:
    routes = None if app is None else leaves(app)
    kinds = {name: kind for name, (kind, _) in loaded.channels.items()} or DEFAULT_CHANNELS
    return lint(loaded.slos, routes, channels=kinds, now_wall_ns=time.time_ns(), limits=loaded.limits)


def _channels(loaded: config.Config) -> Iterator[tuple[str, str]]:
    """(severity, text) of each channel that cannot be made; better now than when somebody is to be woken. A secret may
    be only where the workers are."""
    for name, (kind, options) in loaded.channels.items():
        try:
            channels.load(kind)(name, options).close(time.monotonic_ns())
        except DefinitionError as refused:
            place = refused.place if loaded.channels_at is None else loaded.channels_at(refused)
            text = f"{place}: channel {name!r}: {refused.problem}"
            yield (
                (NOTE, f"{text} here; the workers need it")
                if refused.not_here
                else (ERROR, f"{text}. {refused.remedy}")
            )
        except Exception as failure:  # a channel from elsewhere
            yield ERROR, f"channel {name!r} ({kind}) cannot be made: {type(failure).__name__}: {failure}"


def _drift(loaded: config.Config) -> Iterator[tuple[str, str]]:
    """(severity, text) of each baseline that cannot be had, and of limits to be told that there are not."""
    limits = [limit.name for limit in loaded.limits]
    for slo in (one for one in loaded.slos if one.indicator == INDICATOR):
        try:
            watch_of(slo)
        except DefinitionError as refused:
            yield ERROR, f"SLO {slo.name!r}: {refused}"
        for name in slo.option("tells"):
            if name not in limits:
                remedy = nearest(name, limits) if limits else f"Add limits: [{{name: {name}, limit: 0.1}}]"
                yield WARNING, f"SLO {slo.name!r}.tells: no limit is named {name!r}. {remedy}"


def _exit_code(severities: Collection[str], strict: bool) -> int:
    if ERROR in severities:
        return USAGE
    return WARNED if strict and WARNING in severities else OK


def _show(loaded: config.Config, found: Sequence[Finding], rules: bool, as_json: bool, wrong: bool) -> None:
    resolved = [_resolved(slo, rules) for slo in loaded.slos]
    limits = [limit.definition() for limit in loaded.limits]
    for shown in resolved + limits:
        own = [finding for finding in found if finding.slo == shown["name"]]
        shown["findings"] = [finding.to_json(loaded.place(finding.slo, finding.path)) for finding in own]
    if as_json:
        click.echo(json.dumps(resolved + limits, indent=2))
        return
    from otelslo.cli import tables
    from otelslo.cli.resolved import draw, draw_findings

    out = tables.console()
    draw(out, loaded.path, resolved, limits, wrong=wrong)
    draw_findings(out, resolved + limits)


def _resolved(slo: SLO, rules: bool) -> dict[str, Any]:
    now_wall_ns = time.time_ns()
    windows = [_window(window) for window in slo.planned.upcoming(now_wall_ns, SHOWN_WINDOWS)]
    shown = slo.definition() | {
        "kind": slo.kind,
        "measures": slo.measures,
        "budget": _budget(slo, now_wall_ns),
        "next_maintenance": windows,
    }
    own = {} if slo.measures else slo.options or {}  # what is measured says it all, and leaves passwords out
    shown["options"] = {key: _written(value) for key, value in own.items()}
    if rules:
        lines = rules_table(slo)
        shown["rules"] = [{"happened": what, "outcome": kind, "reason": reason} for what, kind, reason in lines]
    return shown


def _written(value: Any) -> str:
    """As it stands in a file, in short: "{name: kl, unit: nats}"."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_written(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _budget(slo: SLO, now_wall_ns: int) -> dict[str, Any]:
    """Of the window; a calendar's differ in length, so of the one that holds now."""
    start_ns, end_ns = slo.period.bounds(now_wall_ns)
    per_window_ns, per_month_ns = budget_time_ns(slo, end_ns - start_ns), budget_time_ns(slo, MEAN_MONTH_NS)
    this = f" (this {slo.period.unit})" if isinstance(slo.period, Calendar) else ""
    text = f"{readable_duration(per_window_ns)} of {readable_duration(end_ns - start_ns)}{this}"
    return {
        "window_s": per_window_ns / SECOND_NS,
        "mean_month_s": per_month_ns / SECOND_NS,
        "text": f"{text}; {readable_duration(per_month_ns)} of a mean month",
    }


def _window(window: Window) -> dict[str, Any]:
    bounds = {"start_unix_ns": window.start_ns, "end_unix_ns": window.end_ns}
    return {"name": window.name, "timezone": window.timezone, "text": window.text} | bounds


def budget_time_ns(slo: SLO, span_ns: int) -> int:
    """Nanoseconds of full outage that the target allows in `span_ns`, rounded down."""
    allowed = (1 - slo.target_ratio) * span_ns
    return allowed.numerator // allowed.denominator
