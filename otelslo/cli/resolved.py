"""How `otelslo check` draws objectives that it has resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from otelslo.alerts import BUDGET_EXHAUSTED, EXCLUSION_SHARE, NO_DATA, PAGE, TICKET, AlertPlan, Tier
from otelslo.cli.tables import clean, glyphs
from otelslo.lint import SEVERITIES
from otelslo.slices import RATIO_TIMESLICES, Slices
from otelslo.window import HOUR_NS, format_duration, format_limit, format_target

_MOST_PLACES = 3
_SEVERITY = {"error": "bold red", "warning": "yellow", "note": "dim"}
_EMPTY = {"good": "count as good", "bad": "count as bad", "ignore": "are left out"}
_COLOUR = {"good": "green", "bad": "red", "excluded": "dim"}


def draw(
    console: Console,
    path: str | None,
    resolved: Sequence[Mapping[str, Any]],
    limits: Sequence[Mapping[str, Any]],
    *,
    wrong: bool,
) -> None:
    """Print objectives as `otelslo check --json` gives them; `wrong` if anything of theirs cannot be meant."""
    source = clean(path) if path else "no configuration found, so the default"
    count = f"{len(resolved)} objective" + ("" if len(resolved) == 1 else "s")
    count += f", {len(limits)} limit{'s' * (len(limits) != 1)}" if limits else ""
    g = glyphs(console)
    mark = (g.breached, "bold red") if wrong else (g.met, "green")
    console.print(Text.assemble(mark, " ", (source, "bold"), (f"  {count}", "dim")))
    for slo in resolved:
        console.print()
        console.print(_title(slo))
        console.print(Padding(_facts(slo), (0, 0, 0, 2)))
        if "rules" in slo:
            console.print(Padding(_rules(slo["rules"]), (1, 0, 0, 2)))
    for limit in limits:
        console.print()
        console.print(_title(limit))
        console.print(Padding(_bounds(limit), (0, 0, 0, 2)))


def _title(slo: Mapping[str, Any]) -> Text:
    title = Text(slo["name"], style="bold")
    if slo["description"]:
        title.append(f"  {clean(slo['description'])}", style="not bold dim")
    return title


_EVENTS = {
    **{"http": "requests", "websocket": "websocket connections", "call": "calls"},
    **{"probe": "probes", "sample": "samples", "prediction": "predictions"},
}


def _facts(slo: Mapping[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("promise", Text(_promise(slo)))
    if slo["slices"] is not None:
        kind = "empty" if slo["slices"]["rate"] is None else "idle"
        grid.add_row(f"{kind} slices", Text(_EMPTY[slo["slices"]["empty"]]))
        if slo["slices"]["unattended"]:
            grid.add_row("no worker", Text(f"slices in which none was attached {_EMPTY[slo['slices']['unattended']]}"))
    grid.add_row("budget", Text(slo["budget"]["text"], style="cyan"))
    if slo["sla"] is not None:
        grid.add_row("SLA", Text(_sla(slo)))
    grid.add_row("good is", Text(_good(slo)))
    grid.add_row("applies to", Text(_scope(slo)))
    if slo["group_by"]:
        grid.add_row("grouped by", Text(f"{', '.join(slo['group_by'])}, {slo['max_groups']} groups at most"))
    if slo["maintenance"]:
        windows = [clean(window["text"]) for window in slo["next_maintenance"]] or ["all planned windows are over"]
        grid.add_row("maintenance", Text("\n".join(windows)))
    plan = AlertPlan.from_json(slo["alerts"])
    for severity in (PAGE, TICKET):
        if told := _alerts(plan, severity):
            grid.add_row(f"{severity}s", Text(", ".join(told)))
    if plan.off:
        grid.add_row("alerts", Text("off"))
    if slo["notify"] is not None:
        grid.add_row("told", Text(clean(", ".join(slo["notify"]))))
    return grid


def _sla(slo: Mapping[str, Any]) -> str:
    sla, target = Fraction(*slo["sla"]), Fraction(slo["target_num"], slo["target_den"])
    beside = "looser" if sla < target else "as tight as the target" if sla == target else "tighter than the target"
    return f"{format_target(sla)}, {beside}, shown beside"


def _promise(slo: Mapping[str, Any]) -> str:
    target = Fraction(slo["target_num"], slo["target_den"])
    exact = f" = {target}" if slo["target"] != str(target) else ""
    share = f"{slo['target']}{exact} of"
    if slo["slices"] is None:
        return f"{share} valid events over {slo['window']} are good"
    slices = Slices.from_json(slo["slices"])
    if slices.method == RATIO_TIMESLICES:
        return f"{share} {slices.text} over {slo['window']}, each good in the proportion of its events"
    return f"{share} {slices.text} over {slo['window']}"


def _alerts(plan: AlertPlan, severity: str) -> list[str]:
    """The alerts of one severity: "page-fast (burn > 14.4 in 1h and 5m, for 2m)"."""
    found = [_tier(tier) for tier in plan.tiers if tier.severity == severity]
    if plan.no_data_ns is not None and severity == TICKET:
        found.append(f"{NO_DATA} (for {format_duration(plan.no_data_ns)})")
    found += [BUDGET_EXHAUSTED] if plan.exhausted == severity else []
    late_ns = plan.excluded_over_ns
    share = EXCLUSION_SHARE + (f" (in the last {format_duration(late_ns)} at most)" if late_ns > HOUR_NS else "")
    return found + ([share] if plan.exclusion_share == severity else [])


def _tier(tier: Tier) -> str:
    windows = f"{format_duration(tier.long_ns)} and {format_duration(tier.short_ns)}"
    waits = f", for {format_duration(tier.for_ns)}" if tier.for_ns else ""
    return f"{tier.name} (burn > {float(tier.factor):.4g} in {windows}{waits})"


def _bounds(limit: Mapping[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("promise", Text(f"never more than {clean(limit['limit'])}; a {limit['severity']} while it is"))
    told = 'the app tells it: otelslo.observe("' + limit["name"] + '", ...)'
    if limit["model"] is not None:
        told = f"the age of the newest version of {clean(limit['model'])}, by otelslo.model(...)"
    if limit["value"] is not None:
        told = f"{clean(limit['value'])} is asked every {format_duration(limit['every_ns'])}"
    grid.add_row("value", Text(told))
    if limit["stale_after_ns"] is not None:
        grid.add_row("no data", Text(f"where it is older than {format_duration(limit['stale_after_ns'])}"))
    return grid


def _good(slo: Mapping[str, Any]) -> str:
    if slo["threshold_ns"] is not None:
        return f"{slo['indicator']}: {format_limit(slo['threshold_ns'])}"
    told = [f"{key} {clean(value)}" for key, value in slo["options"].items()]
    return f"{slo['indicator']}: {', '.join(told)}" if told else str(slo["indicator"])


def _scope(slo: Mapping[str, Any]) -> str:
    match = slo["match"] or {}
    if slo.get("measures"):
        return str(slo["measures"])
    events, parts = _EVENTS[slo["kind"]], []
    for key in ("route", "method", "host"):
        if match.get(key):
            parts.append(f"{key} {' or '.join(match[key])}")
    if match.get("where"):
        parts.append(f"where {match['where']}")
    return f"{events} with {', '.join(parts)}" if parts else f"all {events}"


def _rules(rules: Sequence[Mapping[str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("what happened")
    table.add_column("counts as", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    for rule in rules:
        outcome = Text(rule["outcome"], style=_COLOUR.get(rule["outcome"], ""))
        reason = Text("" if rule["reason"] == rule["outcome"] else rule["reason"])
        table.add_row(Text(clean(rule["happened"])), outcome, reason)
    return table


def draw_findings(console: Console, resolved: Sequence[Mapping[str, Any]]) -> None:
    """Print what the linter found, the gravest first; what is said of several objectives is said once."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for severity in SEVERITIES:
        for finding in (one for slo in resolved for one in slo["findings"] if one["severity"] == severity):
            places.setdefault((severity, finding["problem"], finding["remedy"]), []).append(finding["place"])
    if not places:
        return
    g = glyphs(console)
    marks = {"error": g.breached, "warning": g.warning, "note": g.dot}
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for (severity, problem, remedy), where in places.items():
        style = _SEVERITY[severity]
        text = Text(f"{severity}: {clean(problem, 600)}", style=style)
        text.append(f"\n{clean(remedy, 300)}", style="dim" if severity == "note" else "default not bold")
        text.append(f"\n{_places(where)}", style="dim not bold")
        table.add_row(Text(marks[severity], style=style), text)
    console.print()
    console.print(table)
    console.print()
    console.print(Text(_counted(resolved), style="dim"))


def _places(where: Sequence[str]) -> str:
    more = len(where) - _MOST_PLACES
    return ", ".join(map(clean, where[:_MOST_PLACES])) + (f" and {more} more" if more > 0 else "")


def _counted(resolved: Sequence[Mapping[str, Any]]) -> str:
    found = [one["severity"] for slo in resolved for one in slo["findings"]]
    numbers = {severity: found.count(severity) for severity in SEVERITIES}
    return ", ".join(f"{number} {severity}{'s' * (number != 1)}" for severity, number in numbers.items() if number)
