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
from otelslo.definition import Definition
from otelslo.errors import BadValue, DefinitionError, Place, StateError, nearest
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_reader import Reader
from otelslo.inbox import Inbox, backlog, spools
from otelslo.kept import COUNTERS
from otelslo.label_lines import CSV, BadLine, from_csv, from_json, from_json_text, guessed_form
from otelslo.label_record import Label, name_of
from otelslo.match import parse_match

USAGE, FAILED = 2, 1
_MOST_SHOWN = 20
_PATIENCE_S = 5.0
_LOOK_S = 0.05
_PORTION = 20_000
_KIND = "prediction"
_REMEDY = "Name the service's with --config or OTELSLO_CONFIG, or start the service, which counts them"
_HELP = """Label predictions of MODEL from FILE: what was true of them, by their id.

    FILE is CSV with the header id,truth or id,truth,at, or JSON lines of {"id": ..., "truth": ..., "at": ...}; "-" is
    standard input. Good lines are taken, bad ones are named; a file without the right header is refused. The leading
    worker counts them, in the slots of their predictions; where none runs, this command does, by a configuration that
    has an objective about MODEL: without one they wait in the inbox. A file may be given again: labels that say the
    same are duplicates.

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
    with _counting(path, config, model) as counting:
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


class _Waiting:
    """Nobody leads, and the objectives are not known here: whatever is in the inbox stays there."""

    def __init__(self, why: str) -> None:
        self._why = f"no worker runs, and {why}"

    def make_room(self) -> None:
        pass

    def end(self) -> str:
        return self._why


class _Alone:
    """Nobody leads: this command counts, by the objectives of the configuration."""

    def __init__(self, path: Path, store: Store, found: configuration.Config) -> None:
        self._slos = found.slos
        self._applying = Applying(path, store, _say, lambda: store.kept_ns, os.environ.get("OTELSLO_SAMPLE_KEY"))

    def make_room(self) -> None:
        while self._applying.turn(self._slos, time.time_ns()):
            pass

    def end(self) -> str:
        self.make_room()
        return ""


@contextlib.contextmanager
def _counting(path: Path, config: str | None, model: str) -> Iterator[_Leader | _Waiting | _Alone]:
    view = _led(path)
    if view is not None:
        instead = _instead_of(model, view.definitions)
        if instead:  # he would count them as ignored
            click.echo(f"error: {path}: no objective in force is about the model {model!r}. {instead}", err=True)
            sys.exit(USAGE)
        yield _Leader(path)
        return
    try:
        found = configuration.load(config)
    except DefinitionError as e:
        yield _Waiting(f"the objectives are not known here: {e}")
        return
    instead = _instead_of(model, [slo.as_definition for slo in found.slos])
    if instead:
        where = f"{found.path} has no objective" if found.path else "there is no configuration here with an objective"
        yield _Waiting(f"{where} about the model {model!r}. {instead}. {_REMEDY}")
        return
    with _open_store(path, found) as store:
        yield _Alone(path, store, found)


def _instead_of(model: str, definitions: Iterable[Definition]) -> str:
    """What is there instead of an objective about a model; "" where there is one."""
    matches = [
        parse_match(one.match or {}, "", Place(one.name)) for one in definitions if (one.match or {}).get("kind")
    ]
    ours = [match for match in matches if match.kind == _KIND]
    if any(match.covers(_KIND, model, "", "") for match in ours):
        return ""
    known = {name for match in ours if match.routes is not None for name in match.routes.patterns}
    return nearest(model, known).rstrip(".") if known else "No objective is about predictions"


@contextlib.contextmanager
def _open_store(path: Path, found: configuration.Config | None = None) -> Iterator[Store]:
    """The database, whose slots are to be kept as long as the configuration says."""
    longest_ns = max((slo.window_ns for slo in found.slos), default=0) if found else 0
    store = Store(notebook.database_of(path), found.retention_ns if found else None, longest_ns)
    with contextlib.closing(store):
        store.open(time.time_ns())
        yield store


def _led(path: Path) -> state.View | None:
    """The state directory, if somebody leads there."""
    try:
        view = state.look(path)
    except StateError:
        return None
    leads = view.reader is not None and view.reader.leader_block is not None and view.quiet_ns() is None
    return view if leads else None


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
