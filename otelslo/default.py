"""The process's own engine, made from the configuration when it is first needed.

For the two-line middleware and for calls that name no engine; everything else takes an explicit `Engine`.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from otelslo.engine import Engine
from otelslo.observing import Moment, Told
from otelslo.registry import When
from otelslo.serving import AtLeast
from otelslo.switch import disabled

log = logging.getLogger("otelslo")

_lock = threading.RLock()
_busy = threading.local()
_engine: list[Engine] = []
_switched_off: list[bool] = []  # asked once a process, when something is first tracked
_is_wrong: list[Exception] = []  # why there can be no default engine
_cannot_start: weakref.WeakSet[Engine] = weakref.WeakSet()
_asked_in: list[int] = []  # the process in which `budget_allows` was asked before there was an engine


def engine() -> Engine:
    """The engine of `OTELSLO_CONFIG` or `slo.yaml`, not started yet when new.

    Raises:
        DefinitionError: the configuration is wrong.
    """
    with _lock:
        if not _engine:
            with _making():
                _engine.append(Engine())
        return _engine[0]


def fault(reason: str, detail: str) -> bool:
    """Count a fault of ours on the process's own engine, and whether there is one. Never raises."""
    if _engine:
        _engine[0].fault(reason, detail)
    return bool(_engine)


def running(given: Engine | None = None) -> Engine | None:
    """`given`, else the process's own engine, started, which takes seconds the first time. Never raises.

    None where the kill switch is on, or where it cannot be made or started: that is logged once, and stays so in this
    process. None as well while this thread is making or starting one, and so is what calls us.
    """
    found = _engine[0] if given is None and _engine else given
    if found is not None and found.running and _switched_off == [False]:
        return found
    if getattr(_busy, "here", False) or (_switched_off and _is_off(given)):
        return None
    try:
        with _lock, _making():
            return None if _is_off(given) else _started(given)
    except Exception as e:
        log.error("otelslo is off in this process: %s", e)
        return None


def budget_allows(slo: str, group: str | None = None, *, at_least: AtLeast = 0) -> bool:
    """Whether there is error budget left, by the process's own engine: see `Engine.budget_allows`. Never raises.

    Where nothing has started that engine yet, the first question has it started in the background, and answers are yes
    until then.
    """
    try:
        if _engine:
            return _engine[0].budget_allows(slo, group, at_least=at_least)
        _start_aside()
    except Exception as e:
        log.error("budget_allows: %s: %s", type(e).__name__, e)
    return True


def observe(limit: str, value: Told | None = None, *, since: Moment | None = None) -> None:
    """Tell the value of a limit of the configuration, or since when its age grows; for cold paths, it writes to disk.

    Starts nothing: a job without a service around it may call it. Does nothing where the kill switch is on, or where
    the configuration is wrong, which is logged.

    Args:
        value: a number for a limit that is one; for a duration a timedelta or a text such as "12d".
        since: instead of a duration: a datetime with a time zone, or Unix time in seconds.

    Raises:
        TypeError: both or neither are given.
        BadValue: what is given cannot be compared with this limit.
    """
    if getattr(_busy, "here", False) or _is_off(None):
        return
    try:
        own = engine()
    except Exception as e:
        log.error("observe: %s is not written: %s", limit, e)
        return
    own.observe(limit, value, since=since)


def model(
    model: str,
    version: str,
    *,
    trained_at: When | None = None,
    evaluated_at: When | None = None,
    correct: bool = False,
) -> None:
    """Tell when a model version was trained, or has been evaluated (again); for cold paths, it writes to disk.

    The objectives of `freshness` and the limits with `model` go by it. Starts nothing: a training or evaluation job may
    call it. Does nothing where the kill switch is on, or where the configuration is wrong, which is logged.

    Args:
        model: the name of the call site that it serves, or what the objective's `model` says.
        version: as the call site's attribute `version` says it.
        trained_at, evaluated_at: a datetime with a time zone, ISO 8601 text with one, or Unix time in seconds. What is
            not given stays as it is; what is earlier than what is known does not move it back.
        correct: what is known was wrong: these dates take its place, earlier or not.

    Raises:
        BadValue: a name is none, no date is given, or one is none, has no time zone or is in the future.
    """
    if getattr(_busy, "here", False) or _is_off(None):
        return
    try:
        own = engine()
    except Exception as e:
        log.error("model: %s is not written: %s", model, e)
        return
    own.model(model, version, trained_at=trained_at, evaluated_at=evaluated_at, correct=correct)


def observe_features(stream: str, rows: Any, names: Sequence[str] | None = None) -> None:
    """Count rows that a model is fed, for objectives of drift about `stream`: see `otelslo.features`. Never raises.

    Args:
        rows: one row or many: {feature: value}, {feature: column}, a list of such rows, a structured array, an array
            (rows, features) with `names`, a data frame.
        names: the features of the columns of an array, in order.
    """
    found = running()
    if found is not None:
        found.features.observe(stream, rows, names)


def log_prediction(
    name: str, /, *, id: Any, output: Any = None, score: Any = None, at: Moment | None = None, **attributes: Any
) -> None:
    """Log what a model predicted, so that quality objectives can count it when its label comes. For requests: it takes
    a few microseconds, waits for no lock and never raises. What cannot be logged is counted as a fault, `labels`.

        otelslo.log_prediction("fraud", id=transaction, output=1, score=0.93, version="2026-11-01")

    Args:
        name: the model, `route` in `match`.
        id: a text, a whole number or a UUID, by which its label finds it; 7 and "7" are one. The first one of an id
            counts, as long as it is kept.
        output: the predicted class (a text, a number, a yes/no value), or a text. What is longer than 200 characters is
            kept only where an objective needs it (bleu, rouge, or code of the app's own).
        score: the model's own number.
        at: when it was made: a datetime with a time zone, or Unix time in seconds. By default now.
        attributes: for groups and rules, such as version="2026-11-01".
    """
    own = for_labels()
    if own is not None:
        own.log_prediction(name, id=id, output=output, score=score, at=at, **attributes)


def log_label(name: str, /, *, id: Any, truth: Any, at: Moment | None = None) -> None:
    """Log what is true of a prediction, from any process that uses the same state directory, whenever it is known.

    Starts nothing, waits for no lock and never raises; what cannot be logged is counted as a fault. The leading process
    counts it in the slot of its prediction: see docs/indicators/labels.md.

    Args:
        name: the model.
        id: as in `log_prediction`.
        truth: a text, a number or a yes/no value.
        at: when it became known, which decides whether it is late: as in `log_prediction`.
    """
    own = for_labels()
    if own is not None:
        own.log_label(name, id=id, truth=truth, at=at)


def loaded(name: str) -> None:
    """The model of the call sites `name` has been loaded anew: their next calls in this process are cold starts.

    Without a word the first calls of a process are. Never raises; see `cold_start` of the indicator `inference`.
    """
    if _engine:
        _engine[0].loaded(name)


def for_labels() -> Engine | None:
    """The process's own engine, started or not; None where it is off, or the configuration is wrong. Never raises."""
    if _engine and _switched_off == [False]:
        return _engine[0]
    if getattr(_busy, "here", False) or _is_off(None):
        return None
    try:
        return engine()
    except Exception as e:
        _is_wrong.append(e)
        log.error("otelslo is off in this process: %s", e)
        return None


def _start_aside() -> None:
    """Once a process. No daemon: the interpreter must not end while a compiler runs in it."""
    here = os.getpid()
    if _asked_in != [here]:
        _asked_in[:] = [here]
        threading.Thread(target=running, name="otelslo-start").start()


def _is_off(given: Engine | None) -> bool:
    if not _switched_off:
        _switched_off.append(disabled())
    return _switched_off[0] or bool(_is_wrong if given is None else given in _cannot_start)


def _started(given: Engine | None) -> Engine:
    try:
        return (engine() if given is None else given).start()
    except Exception as e:
        if given is None:
            _is_wrong.append(e)
        else:
            _cannot_start.add(given)
        raise


@contextmanager
def _making() -> Iterator[None]:
    """User code that is called in here (imported by the configuration, handling our log) is not to start another."""
    before, _busy.here = getattr(_busy, "here", False), True
    try:
        yield
    finally:
        _busy.here = before


def _renew_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_renew_in_child)
