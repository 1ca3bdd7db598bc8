"""`otelslo doctor`: what a person needs to know when something is off, from any shell, with nothing started or written.

Each line is fine, a note or a problem with its remedy. It asks nobody and takes no lock, so it may be used at any time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from otelslo.cli import state
from otelslo.cli.findings import NOTE, PROBLEM, Finding, problem
from otelslo.definition import Definition

_HEALTHY, _SICK, _NO_STATE = 0, 1, 3
_VERDICTS = {_HEALTHY: "healthy", _SICK: "problem", _NO_STATE: "no state"}
_HELP = """What is installed, who works and leads, how old the last commit is, what was dropped, who would be told.

    Starts nothing, writes nothing and disturbs no worker; only with --test-channels is anything sent. Exit code 0 if
    nothing is wrong, 1 if something is, 3 if there is no state directory yet.

    \b
    Examples:
      otelslo doctor
      otelslo doctor --state-dir /var/lib/shop/otelslo --deep
      otelslo doctor --test-channels
      otelslo doctor --json | jq '.findings[] | select(.state == "problem")'
"""


@click.command("doctor", help=_HELP)
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
@click.option("--deep", is_flag=True, help="Read all of the history and check it, too.")
@click.option("--test-channels", is_flag=True, help="Send a test to every channel of the configuration here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: verdict, and a list of findings.")
def command(state_dir: str | None, deep: bool, test_channels: bool, as_json: bool) -> None:
    path = state.directory(state_dir)
    exists = path.is_dir()
    findings = [*_machine(), *(_state(path, deep) if exists else _stateless(path)), *_channels(path, test_channels)]
    well = _HEALTHY if exists else _NO_STATE
    code = _SICK if any(one.state == PROBLEM for one in findings) else well
    if as_json:
        found = {"state_dir": str(path), "verdict": _VERDICTS[code], "findings": [one.to_json() for one in findings]}
        click.echo(json.dumps(found, indent=2))
    else:
        _draw(findings, path, code)
    sys.exit(code)


def _machine() -> Iterator[Finding]:
    from otelslo.cli import doctor_host, doctor_zones

    yield from doctor_host.versions()
    yield from doctor_host.machine()
    yield from doctor_zones.zones()


def _channels(path: Path, test: bool) -> Iterator[Finding]:
    from otelslo.cli import doctor_channels, doctor_host
    from otelslo.ring import state as files

    running = doctor_channels.written(path / files.DEFINITIONS_FILE)
    yield from doctor_channels.configured(doctor_host.channels_here(), running, test=test)


def _stateless(path: Path) -> Iterator[Finding]:
    from otelslo.cli import doctor_host

    if path.exists():
        yield problem("directory", f"{path} is no directory", "Name the directory of the workers: --state-dir")
    else:
        text = f"{path.absolute()} is not there"
        yield Finding("directory", NOTE, text, "Start the app once, or name its directory: --state-dir")
    yield from doctor_host.configuration(None)
    yield from doctor_host.environment(os.environ)


def _state(path: Path, deep: bool) -> Iterator[Finding]:
    from otelslo.cli import doctor_history, doctor_host, doctor_labels, doctor_ring
    from otelslo.ring import state as files

    yield from doctor_host.directory(path)
    reader, unusable = doctor_ring.inspected(path / files.RING_FILE)
    ring_id, created_ns = ("", 0) if reader is None else (reader.header.ring_id.hex(), reader.header.created_ns)
    examined = doctor_history.Examination(path / files.DATABASE_FILE, ring_id, created_ns, time.time_ns(), deep)
    definitions = _running(path / files.DEFINITIONS_FILE)
    if reader is not None:
        yield from doctor_ring.ring(reader)
        yield from doctor_ring.people(reader)
        yield from doctor_ring.dropped(reader, definitions or (), examined.logged)
    elif unusable is not None:
        yield unusable
    else:
        yield Finding("ring", NOTE, f"there is no {files.RING_FILE}", "Start the app: its first worker makes it")
    yield from examined.findings
    yield from doctor_labels.waiting(path, examined.offsets, time.time_ns())
    yield from doctor_host.configuration(definitions)
    yield from doctor_host.environment(os.environ)


def _running(path: Path) -> list[Definition] | None:
    """The objectives that the last worker to start wrote down."""
    try:
        return [Definition.from_json(item) for item in json.loads(path.read_text())["slos"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _draw(findings: Sequence[Finding], path: Path, code: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import tables

    out = tables.console()
    glyphs = tables.glyphs(out)
    marks = {NOTE: Text(glyphs.warning, "yellow"), PROBLEM: Text(glyphs.breached, "bold red")}
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for one in sorted(findings, key=lambda one: _AREAS.index(one.area)):
        shown = Text(tables.clean(one.text, 600))
        if one.remedy:
            shown.append(f"\n{tables.clean(one.remedy, 300)}", style="bold" if one.state == PROBLEM else "dim")
        table.add_row(marks.get(one.state, Text(glyphs.met, "green")), one.area if one.area != before else "", shown)
        before = one.area
    out.print(table)
    out.print()
    problems = sum(one.state == PROBLEM for one in findings)
    verdict = f"{problems} problem{'s' * (problems != 1)}" if problems else _VERDICTS[code]
    out.print(Text(verdict, style="bold red" if problems else "bold green" if code == _HEALTHY else "bold"))


_AREAS = (
    "versions", "platform", "time zones", "directory", "ring", "workers",
    "leader", "dropped", "history", "labels", "configuration", "exporters", "channels", "notices",
)  # fmt: skip
