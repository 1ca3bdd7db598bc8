"""The history of an engine for a moment: a job tells a fact also where no engine runs beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from otelslo.exporters.sqlite import Store
from otelslo.ring import state


class _Runner(Protocol):
    @property
    def store(self) -> Store: ...


class Owner(Protocol):
    """What is needed of an engine."""

    state_dir: Path

    @property
    def runner(self) -> _Runner: ...
    @property
    def running(self) -> bool: ...


@contextlib.contextmanager
def store_of(engine: Owner, wall_ns: int) -> Iterator[Store]:
    """The store that a running engine has open anyway, else one that is opened for this, now (Unix ns).

    Raises:
        StateError: the database cannot be had.
    """
    if engine.running:
        yield engine.runner.store
        return
    state.prepare(engine.state_dir)
    with contextlib.closing(Store(engine.state_dir / state.DATABASE_FILE)) as store:
        store.open(wall_ns)
        yield store
