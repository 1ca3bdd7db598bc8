"""The first rows of a stream as its baseline, gathered by all workers of the host together.

Each worker keeps copies of what passes and writes them to the history about once a second; whoever finds enough rows
there makes the baseline of the first ones, and everybody takes it over. What came in between is neither in the baseline
nor judged by it; of a worker that is killed the rows of its last second are not gathered. Loads numpy.
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

from otelslo.drift.baseline import Gathering, Kind
from otelslo.drift.bins import as_category, as_column, as_number
from otelslo.drift.rows import Table
from otelslo.errors import DefinitionError
from otelslo.exporters import sqlite_drift as kept_in

Kept = Mapping[str, Mapping[str, Any]]


class _Store(Protocol):
    @property
    def writing(self) -> Callable[[int], AbstractContextManager[Any]]: ...


def source_key(rows: int, kinds: Mapping[str, str | None]) -> str:
    """What a live baseline is kept under: another number of rows, or other features, is another one."""
    return f"live:{rows} {json.dumps(sorted(kinds.items()))}"


class LiveBaseline:
    """What one process gathers for one stream. `offer` is for requests, `turn` for the background thread.

    Args:
        rows: how many make a baseline.
        kinds: numeric or categorical, by feature.
    """

    def __init__(self, stream: str, rows: int, kinds: Mapping[str, str | None]) -> None:
        self.stream, self.key = stream, source_key(rows, kinds)
        self.kinds = {feature: cast("Kind", kind) for feature, kind in kinds.items()}
        self._rows = rows
        self._pieces: deque[tuple[int, dict[str, list[Any]]]] = deque()
        self._taken = 0
        self._pid = os.getpid()

    def offer(self, table: Table) -> None:
        """Keep a copy of these rows, as long as there are not enough."""
        self._renew_in_child()
        rows = min(table.rows, self._rows - self._taken)
        if rows > 0:
            self._taken += rows
            columns = {
                feature: list(as_column(table.columns[feature])[:rows])
                for feature in self.kinds
                if feature in table.columns
            }
            self._pieces.append((rows, columns))

    def turn(self, store: _Store, wall_ns: int) -> Kept | None:
        """Write down what was gathered; the baselines once there are any, by feature, with an `error` for those that
        could not be made. Raises StoreUnavailable."""
        self._renew_in_child()
        taken = [self._pieces.popleft() for _ in range(len(self._pieces))]
        try:
            plain = [(rows, json.dumps(self._plain(rows, columns))) for rows, columns in taken]
            with store.writing(wall_ns) as connection:
                kept = kept_in.kept_baselines(connection, self.stream, self.key)
                for rows, text in () if kept else plain:
                    kept_in.gather(connection, self.stream, self.key, rows, text)
                rows, pieces = kept_in.gathered_rows(connection, self.stream, self.key, self._rows)
        except BaseException:
            self._pieces.extendleft(reversed(taken))
            raise
        return kept or (self._kept(store, wall_ns, self._made(pieces)) if rows >= self._rows else None)

    def _renew_in_child(self) -> None:
        """What was there at a fork, the parent writes."""
        if self._pid != os.getpid():
            self._pid, self._pieces = os.getpid(), deque()

    def _kept(self, store: _Store, wall_ns: int, made: Kept) -> Kept:
        """What is made, unless another worker has been faster."""
        with store.writing(wall_ns) as connection:
            kept = kept_in.kept_baselines(connection, self.stream, self.key)
            if not kept:
                kept_in.put_baselines(connection, self.stream, self.key, made, wall_ns)
        return kept or made

    def _plain(self, rows: int, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        return {
            feature: [_plain(value, kind) for value in columns[feature]] if feature in columns else [None] * rows
            for feature, kind in self.kinds.items()
        }

    def _made(self, pieces: list[Mapping[str, list[Any]]]) -> dict[str, Mapping[str, Any]]:
        made: dict[str, Mapping[str, Any]] = {}
        for feature, kind in self.kinds.items():
            gathering = Gathering(feature, kind, self._rows)
            for piece in pieces:
                gathering.add(piece[feature])
            try:
                made[feature] = gathering.baseline().plain()
            except DefinitionError as e:
                made[feature] = {"error": str(e)}
        return made


def _plain(value: object, kind: Kind) -> float | str | None:
    """A live value cannot be refused: what is no number, or infinite, is missing."""
    if kind == "categorical":
        return as_category(value)
    number = as_number(value)
    return number if math.isfinite(number) else None
