"""What has been told of model versions. Any process may tell, in a short transaction of its own; nobody else needs to
run for it.

Of each version the last evaluations are kept, of each model the versions that were told of last. What a limit on the
model's age is judged by is written with it, so that whoever tells need not know the limits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from otelslo.exporters.sqlite_limits import put_observation
from otelslo.limit import SECONDS, model_source
from otelslo.limits import Observation
from otelslo.models import Facts, ModelFacts

MOST_VERSIONS, MOST_EVALUATIONS = 1000, 20


class ToldVersion(NamedTuple):
    """One version as it is kept; `evaluations` (Unix ns) are the latest, newest first, also those that came late."""

    model: str
    version: str
    facts: ModelFacts
    told_wall_ns: int
    evaluations: tuple[int, ...] = ()


class ModelsReader:
    """The questions. May raise StoreUnavailable."""

    def __init__(self, fetch: Callable[[str, tuple[object, ...]], list[Any]]) -> None:
        self._fetch = fetch

    def facts(self) -> dict[tuple[str, str], ModelFacts]:
        """Of every version, by model and version."""
        found = self._fetch("SELECT model, version, trained_wall_ns, evaluated_wall_ns FROM models", ())
        return {(model, version): _facts(trained, evaluated) for model, version, trained, evaluated in found}

    def versions(self, model: str | None = None) -> list[ToldVersion]:
        """Of one model or of all: by the model's name, what was told last first."""
        evaluations: dict[tuple[str, str], list[int]] = {}
        for name, version, at_ns in self._fetch(
            "SELECT model, version, evaluated_wall_ns FROM evaluations WHERE ? IS NULL OR model = ?"
            " ORDER BY evaluated_wall_ns DESC",
            (model, model),
        ):
            evaluations.setdefault((name, version), []).append(at_ns)
        rows = self._fetch(
            "SELECT model, version, trained_wall_ns, evaluated_wall_ns, told_wall_ns FROM models"
            " WHERE ? IS NULL OR model = ? ORDER BY model, told_wall_ns DESC, version DESC",
            (model, model),
        )
        return [
            ToldVersion(name, version, _facts(trained, evaluated), told, tuple(evaluations.get((name, version), ())))
            for name, version, trained, evaluated, told in rows
        ]


class Models(ModelsReader):
    """The writing side."""

    def __init__(
        self,
        fetch: Callable[[str, tuple[object, ...]], list[Any]],
        writing: Callable[[int], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        super().__init__(fetch)
        self._writing = writing

    def tell(self, model: str, version: str, told: ModelFacts, wall_ns: int, *, correct: bool = False) -> ModelFacts:
        """Keep what is told at `wall_ns` (Unix ns); the facts as they then are. Raises StoreUnavailable."""
        with self._writing(wall_ns) as connection:
            row = connection.execute(
                "SELECT trained_wall_ns, evaluated_wall_ns FROM models WHERE (model, version) = (?, ?)",
                (model, version),
            ).fetchone()
            kept = (ModelFacts() if row is None else _facts(*row)).after(told, correct=correct)
            connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?)", (model, version, *kept, wall_ns))
            if correct and told.evaluated_wall_ns is not None:
                late = (model, version, told.evaluated_wall_ns)
                connection.execute(
                    "DELETE FROM evaluations WHERE (model, version) = (?, ?) AND evaluated_wall_ns > ?", late
                )
            if told.evaluated_wall_ns is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?)",
                    (model, version, told.evaluated_wall_ns, wall_ns),
                )
            _trim(connection, model, version)
            _put_age(connection, model, wall_ns)
        return kept

    def put_back(self, facts: Facts, wall_ns: int) -> None:
        """Enter what is known, beside what is told already: the database is a new one. Raises StoreUnavailable."""
        with self._writing(wall_ns) as connection:
            rows = [(*names, *known, wall_ns) for names, known in facts.items()]
            connection.executemany("INSERT OR IGNORE INTO models VALUES (?, ?, ?, ?, ?)", rows)
            for model in {model for model, _ in facts}:
                _put_age(connection, model, wall_ns)


def _put_age(connection: sqlite3.Connection, model: str, wall_ns: int) -> None:
    """Since when the model's age grows: by the version that was trained or evaluated last."""
    (since_ns,) = connection.execute(
        "SELECT max(max(coalesce(trained_wall_ns, evaluated_wall_ns), coalesce(evaluated_wall_ns, trained_wall_ns)))"
        " FROM models WHERE model = ?",
        (model,),
    ).fetchone()
    if since_ns is not None:
        put_observation(connection, model_source(model), Observation(SECONDS, None, since_ns, wall_ns))


def _trim(connection: sqlite3.Connection, model: str, version: str) -> None:
    connection.execute(
        "DELETE FROM evaluations WHERE (model, version) = (?, ?) AND evaluated_wall_ns NOT IN (SELECT evaluated_wall_ns"
        " FROM evaluations WHERE (model, version) = (?, ?) ORDER BY evaluated_wall_ns DESC LIMIT ?)",
        (model, version, model, version, MOST_EVALUATIONS),
    )
    gone = connection.execute(
        "SELECT version FROM models WHERE model = ? ORDER BY told_wall_ns DESC, version = ? DESC LIMIT -1 OFFSET ?",
        (model, version, MOST_VERSIONS),
    ).fetchall()
    for table in ("models", "evaluations"):
        connection.executemany(
            f"DELETE FROM {table} WHERE (model, version) = (?, ?)", [(model, old) for (old,) in gone]
        )


def _facts(trained: object, evaluated: object) -> ModelFacts:
    """What is no moment was never told."""
    return ModelFacts(*(at_ns if isinstance(at_ns, int) else None for at_ns in (trained, evaluated)))
