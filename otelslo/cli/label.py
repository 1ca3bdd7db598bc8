"""`otelslo label`: labels from a file, for predictions that the app has logged."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from otelslo import config as configuration
from otelslo.applying import Applying
from otelslo.cli import notebook, state
from otelslo.cli.exclude import told_errors
from otelslo.errors import BadValue, DefinitionError, StateError
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_reader import Reader
from otelslo.inbox import Inbox, backlog, spools
from otelslo.kept import COUNTERS
from otelslo.label_lines import CSV, BadLine, from_csv, from_json, from_json_text, guessed_form
from otelslo.label_record import Label, name_of

USAGE, FAILED = 2, 1
_MOST_SHOWN = 20
_PATIENCE_S = 5.0
_LOOK_S = 0.05
_PORTION = 20_000
_HELP = """Label predictions of MODEL from FILE: what was true of them, by their id.

    FILE is CSV with the header id,truth or id,truth,at, or JSON lines of {"id": ..., "truth": ..., "at": ...}; "-" is
    standard input. Good lines are taken, bad ones are named; a file without the right header is refused. The leading
    worker counts them, in the slots of their predictions; where none runs, this command does. A file may be given
    again: labels that say the same are duplicates.

    Exit code 0 if every line was taken, 1 if any was not, 2 if nothing could be.

    \b
    Examples:
      otelslo label fraud chargebacks.csv
      psql -c "copy (select id, truth from verdicts) to stdout csv header" | otelslo label fraud -
      otelslo label fraud --purge      delete what is kept of its predictions; counts stay
"""


@click.command("label", help=_HELP)
@click.argument("model")
@click.argument("file", required=False, type=click.File("r", encoding="utf-8", errors="surrogateescape"))
@click.option("--purge", is_flag=True, help="Delete what is kept of the model's predictions, instead.")
@click.option("--config", metavar="FILE", help="The objectives, where no worker runs. [$OTELSLO_CONFIG, ./slo.yaml]")
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str, file: TextIO | None, purge: bool, config: str | None, state_dir: str | None, as_json: bool
) -> None:
    if (file is None) is not purge:
        raise click.UsageError("give a FILE of labels, or --purge")
    try:
        name_of(model)
    except BadValue as e:
        raise click.UsageError(str(e)) from e
    path = state.directory(state_dir)
    with told_errors():
        notebook.database_of(path)
        if purge:
            _purge(path, model, as_json)
        elif file is not None:
            _take(path, config, model, file, as_json)


def _take(path: Path, config: str | None, model: str, file: TextIO, as_json: bool) -> None:
    bad, taken, before = list[BadLine](), 0, _counters(path, model)
    refused: list[str] = []
    inbox = Inbox(path, lambda reason, detail: refused.append(detail))
    with _counting(path, config) as counting:
        try:
            for portion in _portions(_labels(file, model)):
                for one in portion:
                    if isinstance(one, BadLine):
                        bad.append(one)
                    elif inbox.put(one):
                        taken += 1
                    else:
                        raise StateError(refused[-1])
                if len(portion) == _PORTION:
                    counting.make_room()
        except BadValue as e:
            click.echo(f"error: {getattr(file, 'name', '-')}: {e}", err=True)
            sys.exit(USAGE)
        finally:
            inbox.finish()
        waits = counting.end()
    after = _counters(path, model)
    counted = {what: after.get(what, 0) - before.get(what, 0) for what in COUNTERS}
    _tell(model, taken, bad, {what: n for what, n in counted.items() if n}, waits, as_json)
    sys.exit(FAILED if bad else 0)


def _labels(file: TextIO, model: str) -> Iterator[Label | BadLine]:
    now_ns = time.time_ns()
    first = file.readline()
    lines = itertools.chain([first], file) if first else iter(())
    if guessed_form(getattr(file, "name", ""), first) == CSV:
        return from_csv(lines, model, now_ns)
    if first.lstrip().startswith("["):
        return from_json_text(first + file.read(), model, now_ns)
    return from_json(lines, model, now_ns)


def _portions(labels: Iterable[Label | BadLine]) -> Iterator[list[Label | BadLine]]:
    left = iter(labels)
    while portion := list(itertools.islice(left, _PORTION)):
        yield portion


class _Leader:
    """Somebody leads: labels are his to count, and are waited for a little."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make_room(self) -> None:
        give_up_at = time.monotonic() + 12 * _PATIENCE_S
        while backlog(self._path) > 16 << 20 and time.monotonic() < give_up_at:
            time.sleep(_LOOK_S)

    def end(self) -> str:
        """Why labels still wait; "" if they do not."""
        give_up_at, mine = time.monotonic() + _PATIENCE_S, f"-{os.getpid()}-"
        while any(mine in path.name for path in spools(self._path)):
            if time.monotonic() > give_up_at:
                return "the leading worker has them and counts them when it comes to it"
            time.sleep(_LOOK_S)
        return ""


class _Alone:
    """Nobody leads: this command counts, by the objectives of the configuration."""

    def __init__(self, path: Path, store: Store, config: str | None) -> None:
        self.why = ""
        try:
            found = configuration.load(config)
        except DefinitionError as e:
            self.why = f"no worker runs, and the objectives are not known here: {e}"
            return
        self._slos = found.slos
        longest_ns = max((slo.window_ns for slo in found.slos), default=0)
        store.keep(longest_ns)
        self.applying = Applying(path, store, _say, lambda: store.kept_ns, os.environ.get("OTELSLO_SAMPLE_KEY"))

    def make_room(self) -> None:
        while not self.why and self.applying.turn(self._slos, time.time_ns()):
            pass

    def end(self) -> str:
        self.make_room()
        return self.why


@contextlib.contextmanager
def _counting(path: Path, config: str | None) -> Iterator[_Leader | _Alone]:
    if _is_led(path):
        yield _Leader(path)
        return
    with _open_store(path) as store:
        yield _Alone(path, store, config)


@contextlib.contextmanager
def _open_store(path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(notebook.database_of(path))) as store:
        store.open(time.time_ns())
        yield store


def _is_led(path: Path) -> bool:
    try:
        view = state.look(path)
    except StateError:
        return False
    return view.reader is not None and view.reader.leader_block is not None and view.quiet_ns() is None


def _say(reason: str, detail: str) -> None:
    click.echo(f"{reason}: {detail}", err=True)


def _counters(path: Path, model: str) -> dict[str, int]:
    return Reader(notebook.database_of(path)).labels.counters().get(model, {})


def _purge(path: Path, model: str, as_json: bool) -> None:
    with _open_store(path) as store:
        found = Applying(path, store, _say, lambda: store.kept_ns).purge((), model, time.time_ns())
    if as_json:
        click.echo(json.dumps({"model": model, "purged": found}))
    else:
        click.echo(f"{found:,} predictions of {model} are deleted; what was counted of them stays")


def _tell(model: str, taken: int, bad: list[BadLine], counted: dict[str, int], waits: str, as_json: bool) -> None:
    for one in bad[:_MOST_SHOWN]:
        click.echo(f"line {one.line}: {one.text}", err=True)
    if len(bad) > _MOST_SHOWN:
        click.echo(f"and {len(bad) - _MOST_SHOWN:,} lines more", err=True)
    if as_json:
        wrong: list[dict[str, Any]] = [one._asdict() for one in bad]
        told = {"model": model, "taken": taken, "bad": wrong, "counted": counted, "waits": waits or None}
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"{taken:,} label{'s' * (taken != 1)} of {model} taken, {len(bad):,} bad lines")
    for what, count in counted.items():
        click.echo(f"  {count:,} {COUNTERS[what]}")
    if waits:
        click.echo(f"not counted yet: {waits}", err=True)
