"""How a run is shown: a table for people, an object for programs, and the machine that it ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otelslo.window import SECOND_NS, readable_duration

from .results import Finding, Results, significant
from .targets import TARGETS

if TYPE_CHECKING:
    from rich.table import Table

PACKAGES = (
    "otelslo",
    "numba",
    "numpy",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-instrumentation-wsgi",
    "flask",
    "prometheus_client",
    "starlette_exporter",
    "starlette",
    "uvicorn",
)
TABLE_WIDTH = 130
METHOD = (
    "Medians over interleaved rounds, with quartiles. Ratios are ours / peer. 'gross' is with nothing subtracted. "
    "Subtracted: from one record, an empty loop; from a middleware, the bare app. "
    "No background thread runs beside record, middleware and core: neither our runner nor a peer's exporter."
)


def environment(load_before: tuple[float, float, float]) -> dict[str, Any]:
    """Interpreter, machine, package versions (null where absent) and the load average before the run."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load_average_before": [round(load, 2) for load in load_before],
        "packages": {name: _version(name) for name in PACKAGES},
    }


def as_object(results: Results, machine: dict[str, Any]) -> dict[str, Any]:
    """The JSON form: "ratios" and "figures" by name (number or null), "details", and why any are missing."""
    sections: dict[str, dict[str, Any]] = {"ratios": {}, "figures": {}}
    for name, finding in results.findings.items():
        sections[finding.section][name] = significant(finding.spread.median) if finding.spread else None
    details = {name: finding.details(name) for name, finding in results.findings.items()}
    return {
        **sections,
        "details": details,
        "tables": {name: {"rows": list(table.rows), "note": table.note} for name, table in results.tables.items()},
        "skipped": results.skipped,
        "failed": results.failed,
        "method": METHOD,
        "environment": machine,
    }


def show(results: Results, machine: dict[str, Any]) -> None:
    """Print the tables, and a line for whatever was skipped or failed."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.width < TABLE_WIDTH:
        console = Console(highlight=False, width=TABLE_WIDTH)
    for section in ("ratios", "figures"):
        rows = {name: found for name, found in results.findings.items() if found.section == section}
        if rows:
            console.print(_table(section, rows))
    for name, table in results.tables.items():
        console.print(_simulated(name, table.rows))
        console.print(f"{name}: {table.note}", style="dim", markup=False)
    for name, finding in results.findings.items():
        if finding.note:
            console.print(f"{name}: {finding.note}", style="dim", markup=False)
    loads = machine["load_average_before"]
    console.print(METHOD, style="dim", markup=False)
    console.print(f"Python {machine['python']}, {machine['processor']}, {machine['cpus']} CPUs, load before: {loads}")
    for label, reasons in (("skipped", results.skipped), ("FAILED", results.failed)):
        for name, reason in reasons.items():
            console.print(f"{label} {name}: {reason}", markup=False)


def _table(section: str, rows: dict[str, Finding]) -> Table:
    from rich.table import Table

    table = Table(title=section)
    table.add_column("name", no_wrap=True)
    for heading in ("median", "quartiles", "gross"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("target")
    for name, finding in rows.items():
        table.add_row(name, *_cells(name, finding))
    return table


def _simulated(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(title=name)
    for column in rows[0]:
        table.add_column(column.removesuffix("_s"), justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_plain(column, value) for column, value in row.items()))
    return table


def _plain(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if column.endswith("_s"):
        return readable_duration(round(value) * SECOND_NS)
    return str(significant(value))


def _cells(name: str, finding: Finding) -> list[str]:
    spread = finding.spread
    if spread is None:
        return ["-", "", "", "see below"]
    quartiles = f"{significant(spread.low)} .. {significant(spread.high)}" if spread.rounds > 1 else ""
    gross = "" if finding.gross is None else str(significant(finding.gross))
    return [str(significant(spread.median)), quartiles, gross, _verdict(name, spread.median)]


def _verdict(name: str, median: float) -> str:
    target = TARGETS.get(name)
    if target is None:
        return ""
    colour = "green" if median <= target else "red"
    return f"[{colour}]target <= {significant(target)}, got {significant(median)}[/{colour}]"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
