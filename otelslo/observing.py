"""Observations of limits: what the app tells goes to the database, where the leader and every reader judge it.

For cold paths: a training job, a nightly check, a scheduled task. It needs no running engine, so a job of its own may
tell what the service's workers alert on.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Protocol

from otelslo.borrowed import Owner, store_of
from otelslo.clock import Clock
from otelslo.errors import BadValue, StateError, nearest, shown
from otelslo.exporters.sqlite_reader import Reader
from otelslo.limit import Limit
from otelslo.limits import LimitStatus, assess, observed, parse_observation
from otelslo.ring import state

log = logging.getLogger("otelslo")

Told = float | Decimal | Fraction | str | timedelta
Moment = datetime | float | Decimal


class _Engine(Owner, Protocol):
    """What is needed of an engine."""

    clock: Clock
    limits: tuple[Limit, ...]

    def fault(self, reason: str, detail: str) -> None: ...


class Observing:
    """Observations of the limits of one engine."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._said: set[str] = set()

    def tell(self, name: str, value: object = None, since: object = None) -> None:
        """Write down what was observed just now, in one short transaction.

        Nothing of ours is raised: that it could not be written is counted as a fault. A name that is no limit's is
        logged once.

        Args:
            value: a number for a limit that is one (a float is read as it is printed); for a duration a timedelta or a
                text such as "12d".
            since: instead of a duration: a datetime with a time zone, or Unix time in seconds. The value is the time
                since then, and grows by itself.

        Raises:
            TypeError: both or neither are given.
            BadValue: what is given cannot be compared with this limit.
        """
        if (value is None) == (since is None):
            raise TypeError(f"observe({shown(name)}): give either a value or since=")
        limit = self._named(name)
        if limit is None:
            return
        if limit.model is not None:
            raise BadValue(f"limit {name!r} is the age of a model", f"Tell it by otelslo.model({limit.model!r}, ...)")
        try:
            seen = parse_observation(limit, value, since, self._engine.clock.wall_ns())
        except BadValue as refused:
            raise BadValue(f"limit {name!r}: {refused.problem}", refused.remedy) from None
        try:
            with store_of(self._engine, seen.at_wall_ns) as store:
                store.limits.observe(limit.name, partial(observed, limit, now=seen), seen.at_wall_ns)
        except Exception as e:
            self._engine.fault("internal", f"limit {name!r} was not written: {type(e).__name__}: {e}")

    def statuses(self) -> list[LimitStatus]:
        """How the limits stand now; without data where the database cannot be read."""
        engine = self._engine
        try:
            seen = Reader(engine.state_dir / state.DATABASE_FILE).limits.observations()
        except StateError:
            seen = {}
        now_wall_ns = engine.clock.wall_ns()
        return [assess(limit, seen.get(limit.source), now_wall_ns) for limit in engine.limits]

    def _named(self, name: str) -> Limit | None:
        known = {limit.name: limit for limit in self._engine.limits}
        if name not in known:
            if name not in self._said:
                self._said.add(name)
                remedy = nearest(str(name), known) if known else "There are none"
                log.warning("observe: no limit is named %s. %s", shown(name), remedy)
            return None
        return known[name]
