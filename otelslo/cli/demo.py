"""`otelslo demo`: the whole thing in half a minute, with nothing to set up and nothing taken on trust.

A real app under two server processes, real HTTP load from a third, an incident with errors, slowness and a SIGKILL, and
at the end two accounts side by side: what the client received and what otelslo counted.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otelslo.errors import OtelsloError, StateError
from otelslo.ring import state as files
from otelslo.ring.state import DIRECTORY

if TYPE_CHECKING:
    from otelslo.cli.demo_run import Run

DISAGREES, USAGE, INTERRUPTED = 1, 2, 130
_CONFIG = "slo.yaml"
_HELP = """See it work: a real app, real load, an incident, and an exact ledger.

    Starts a small shop under uvicorn with the middleware, sends it requests from another process, breaks its checkout,
    slows its search and kills a worker with SIGKILL; then sets what the client received beside what otelslo counted.
    Needs no configuration. Exit code 0 if the two agree to the request, 1 if not.

    \b
    Examples:
      otelslo demo
      otelslo demo --seconds 60 --workers 4
      otelslo demo --json | jq .ledger
"""


@click.command("demo", help=_HELP)
@click.option("--seconds", type=click.IntRange(5, 3600), default=30, show_default=True, help="How long, all in all.")
@click.option("--workers", type=click.IntRange(1, 16), default=2, show_default=True, help="Server processes.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="On 127.0.0.1; any free one by default.")
@click.option("--state-dir", metavar="DIR", help="Where to keep the state. [a fresh one under .otelslo/demo]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end; progress goes to stderr.")
def command(seconds: int, workers: int, port: int, state_dir: str | None, as_json: bool) -> None:
    from otelslo.cli import demo_report, tables
    from otelslo.cli.demo_processes import DemoFailed
    from otelslo.cli.demo_run import Run, Stopped
    from otelslo.cli.demo_screen import Screen

    out = tables.console(stderr=as_json)
    try:
        with _interruptible() as stop:
            directory = _directory(state_dir)
            run = Run(directory, _write_config(directory), seconds=seconds, workers=workers, port=port, stop=stop)
            with Screen(out, run) as screen:
                run.play(screen)
    except Stopped:
        click.echo("stopped; the shop and the load are gone", err=True)
        sys.exit(INTERRUPTED)
    except DemoFailed as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(DISAGREES)
    except (OtelsloError, OSError) as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(USAGE)
    if as_json:
        click.echo(json.dumps(demo_report.as_json(run), indent=2))
    else:
        demo_report.draw(out, run)
    sys.exit(_exit_code(run))


def _exit_code(run: Run) -> int:
    return 0 if run.account is not None and run.account.agrees else DISAGREES


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set. The run asks it at each turn: an exception in the middle of starting a
    process would leave that one behind."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _directory(given: str | None) -> Path:
    """A state directory that works: the given one, else a fresh one here, else one for temporary files.

    Raises:
        StateError: the given one cannot be used.
    """
    if given is not None:
        files.prepare(Path(given))
        return Path(given)
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        path = Path(DIRECTORY) / "demo" / (f"{stamp}-{number}" if number else stamp)
        if path.exists():
            continue
        try:
            files.prepare(path)
        except StateError:
            break
        return path
    path = Path(tempfile.mkdtemp(prefix="otelslo-demo-"))
    files.prepare(path)
    return path


def _write_config(directory: Path) -> Path:
    from otelslo.cli.demo_app import SLOS

    path = directory / _CONFIG
    path.write_text(SLOS)
    return path
