"""The registry of model versions: what jobs tell goes to the database, and comes back to every worker that asks.

Telling is for cold paths: a training or evaluation job, a deployment. It needs no running engine. Workers read on the
background thread what was told, and judge by what they have read last, whatever becomes of the database meanwhile.
"""

from __future__ import annotations

import logging
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from otelslo.borrowed import Owner, store_of
from otelslo.clock import Clock
from otelslo.errors import BadValue, StateError, shown
from otelslo.exporters.sqlite import StoreUnavailable
from otelslo.exporters.sqlite_reader import Reader
from otelslo.limits import moment_ns
from otelslo.models import Facts, ModelFacts
from otelslo.ring import state
from otelslo.window import MINUTE_NS, SECOND_NS

log = logging.getLogger("otelslo")

When = datetime | str | float | Decimal

EVERY_NS, AGAIN_NS = 2 * SECOND_NS, 10 * SECOND_NS
_SKEW_NS = MINUTE_NS  # by which the clock of whoever tells may be ahead
_LONGEST = 200
_TRIES = 5  # each waits for two seconds
_LISTED = "list"
_MOMENTS = "Give a datetime with a time zone, ISO 8601 such as 2026-11-01T12:00Z, or Unix time in seconds"


class _Engine(Owner, Protocol):
    """What is needed of an engine."""

    clock: Clock

    def fault(self, reason: str, detail: str) -> None: ...
    def learn(self) -> None: ...


class Judging(Protocol):
    """What is needed of whoever judges events."""

    @property
    def ages(self) -> bool: ...
    @property
    def facts(self) -> Facts | None: ...
    def learn(self, facts: Facts | None) -> None: ...


class Registry:
    """Model versions as one engine tells and knows them.

    `facts` are what was read last, None if nothing could be read yet.
    """

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self.facts: Facts | None = None
        self._next_ns: int | None = None
        self._fails = False

    def tell(
        self,
        model: str,
        version: str,
        *,
        trained_at: When | None = None,
        evaluated_at: When | None = None,
        correct: bool = False,
    ) -> None:
        """Write down when a version was trained, or has been evaluated (again), in one short transaction.

        Nothing of ours is raised: that it could not be written is counted as a fault.

        Args:
            model: the name of the call site that it serves, or what the objective's `model` says.
            version: as the call site's attribute `version` says it.
            trained_at, evaluated_at: a datetime with a time zone, ISO 8601 text with one, or Unix time in seconds. What
                is not given stays as it is; what is earlier than what is known does not move it back.
            correct: what is known was wrong: these dates take its place, earlier or not.

        Raises:
            BadValue: a name is none, no date is given, or one is none, has no time zone or is in the future.
        """
        wall_ns = self._engine.clock.wall_ns()
        checked_names(model, version)
        told = ModelFacts(_moment("trained_at", trained_at, wall_ns), _moment("evaluated_at", evaluated_at, wall_ns))
        if told == ModelFacts():
            raise BadValue(f"nothing is told of {shown(model)} {shown(version)}", "Give trained_at or evaluated_at")
        try:
            kept = self._written(model, version, told, wall_ns, correct)
        except Exception as e:
            self._engine.fault("internal", f"model {model!r} was not written: {type(e).__name__}: {e}")
            return
        for name, new, now in zip(("trained_at", "evaluated_at"), told, kept, strict=True):
            if new is not None and new != now:
                told_text = f"model {model!r} {version!r}: {name} is earlier than what is known, which stays"
                log.warning("%s; correct=True puts it in its place", told_text)
        self._next_ns = None
        if self._engine.running:
            self._engine.learn()  # what this process serves next is judged by it

    def _written(self, model: str, version: str, told: ModelFacts, wall_ns: int, correct: bool) -> ModelFacts:
        """Tried again while others keep the database busy: jobs tell once, and nobody tells it for them."""
        for left in reversed(range(_TRIES)):
            try:
                with store_of(self._engine, wall_ns) as store:
                    return store.models.tell(model, version, told, wall_ns, correct=correct)
            except StoreUnavailable:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def teach(self, judge: Judging) -> bool:
        """Have `judge` go by what has been told, read anew if it is time to; whether that is news to it.

        Off the request path: the database may be busy.
        """
        if not judge.ages:
            return False
        now_ns = self._engine.clock.ring_ns()
        if self._next_ns is None or now_ns >= self._next_ns:
            self._next_ns = now_ns + (EVERY_NS if self._read() else AGAIN_NS)
        if judge.facts is self.facts:
            return False
        judge.learn(self.facts)
        return True

    def _read(self) -> bool:
        """Whether it could be read; the last known facts hold where it could not, and where the database is new."""
        try:
            found = Reader(self._engine.state_dir / state.DATABASE_FILE).models.facts()
            if not found and self.facts:
                found = dict(self.facts)
                self._engine.runner.store.models.put_back(found, self._engine.clock.wall_ns())
        except StateError as e:
            if not self._fails:
                holds = "events are excluded until they can" if self.facts is None else "the last known ones hold"
                self._engine.fault("internal", f"model versions cannot be read, {holds}: {e}")
            self._fails = True
            return False
        self._fails = False
        if found != self.facts:
            self.facts = found
        return True


def checked_names(model: object, version: object) -> None:
    """Raises BadValue: one of them is no name."""
    if model == _LISTED:
        raise BadValue(f"{shown(model)} is no model: `otelslo model list` lists them", "Choose another name")
    for what, name, example in (("model", model, "recommender"), ("version", version, "2026-11-01")):
        if not isinstance(name, str) or not name.strip():
            raise BadValue(f"the {what} is {shown(name)}", f'Write a text such as "{example}"')
        if len(name) > _LONGEST or not name.isprintable():
            raise BadValue(f"{shown(name)} is too long or not one line", f"Write {_LONGEST} characters at most")


def _moment(name: str, value: object, now_wall_ns: int) -> int | None:
    if value is None:
        return None
    at_ns = _moment_ns(name, value)
    if at_ns > now_wall_ns + _SKEW_NS:
        raise BadValue(f"{name}={shown(value)} is in the future", "Give a moment that is over; Unix time in seconds")
    if at_ns < 0:
        raise BadValue(f"{name}={shown(value)} is before 1970", _MOMENTS)
    return at_ns


def _moment_ns(name: str, value: object) -> int:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise BadValue(f"{name}={shown(value)} is no time", _MOMENTS) from None
    if isinstance(moment, datetime) and moment.utcoffset() is None:
        raise BadValue(f"{name}={shown(str(value))} has no time zone", _MOMENTS)
    try:
        return moment_ns(moment)
    except BadValue as refused:
        raise BadValue(f"{name}: {refused.problem}", _MOMENTS) from None
