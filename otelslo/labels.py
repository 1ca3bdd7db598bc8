"""Where predictions and labels come in: logged by the app, or by a job that learns the truth later.

Both are written to the inbox of the state directory, which costs a few microseconds and waits for no lock and no
database (for the page cache, where a disk hangs); the leading process counts them about once a second. So a job needs
no running engine, only the same state directory.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from otelslo.clock import Clock
from otelslo.errors import BadValue
from otelslo.inbox import FAULT, Inbox
from otelslo.label_record import Label, Prediction, Record, attributes_of, id_of, name_of, score_of
from otelslo.labelled import Class, plain_class
from otelslo.labelling import LONGEST_CLASS, Labelling
from otelslo.limits import moment_ns
from otelslo.slo import SLO

log = logging.getLogger("otelslo")


class _Engine(Protocol):
    """What is needed of an engine."""

    clock: Clock
    slos: tuple[SLO, ...]
    state_dir: Path
    attributes: dict[str, str]

    @property
    def running(self) -> bool: ...
    def fault(self, reason: str, detail: str) -> None: ...


class Labels:
    """Predictions and labels of one engine. Nothing here raises, but for arguments that a signature does not know."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._inbox = Inbox(engine.state_dir, self._fault)
        self._rules: tuple[Sequence[SLO], Labelling] | None = None
        self._said: set[str] = set()

    def log_prediction(
        self, name: str, /, *, id: Any, output: Any = None, score: Any = None, at: Any = None, **attributes: Any
    ) -> bool:
        """Log what a model predicted: see `otelslo.log_prediction`. Whether it was written; never raises."""
        try:
            at_ns = self._engine.clock.wall_ns() if at is None else max(0, moment_ns(at))
            told = attributes_of({**self._engine.attributes, **attributes})
            record = Prediction(
                name_of(name), id_of(id), at_ns, self._output(name, output), self._score(name, score), told
            )
        except Exception as e:
            self._refused(f"a prediction of {name!r} is not logged", e)
            return False
        return self._inbox.put(record)

    def log_label(self, name: str, /, *, id: Any, truth: Any, at: Any = None) -> bool:
        """Log what is true of a prediction: see `otelslo.log_label`. Whether it was written; never raises."""
        try:
            at_ns = self._engine.clock.wall_ns() if at is None else max(0, moment_ns(at))
            record = Label(name_of(name), id_of(id), at_ns, plain_class(truth))
        except Exception as e:
            self._refused(f"a label of {name!r} is not logged", e)
            return False
        return self._inbox.put(record)

    def put(self, record: Record) -> bool:
        """Leave a record that is made already. Whether it was written; never raises."""
        return self._inbox.put(record)

    def finish(self) -> str | None:
        """Let go of this process's file, whose name that is; the next record begins another."""
        return self._inbox.finish()

    def _output(self, name: str, output: object) -> Class | None:
        """What is no class is left out, so that the prediction is seen all the same; and so is a text that no objective
        here needs."""
        if output is None:
            return None
        try:
            plain = plain_class(output)
        except BadValue as e:
            self._refused(f"a prediction of {name!r} is logged without its output", e)
            return None
        if isinstance(plain, str) and len(plain) > LONGEST_CLASS and not self._keeps_texts(name):
            return None
        return plain

    def _score(self, name: str, score: object) -> float | None:
        try:
            return score_of(score)
        except BadValue as e:
            self._refused(f"a prediction of {name!r} is logged without its score", e)
            return None

    def _keeps_texts(self, name: str) -> bool:
        slos = self._engine.slos
        if self._rules is None or self._rules[0] is not slos:
            self._rules = (slos, Labelling(slos, self._fault, 0))
        return self._rules[1].keeps_texts(name)

    def _refused(self, what: str, why: Exception) -> None:
        self._fault(FAULT, f"{what}: {why if isinstance(why, BadValue) else f'{type(why).__name__}: {why}'}")

    def _fault(self, reason: str, detail: str) -> None:
        if self._engine.running:
            self._engine.fault(reason, detail)
        elif detail not in self._said and len(self._said) < 100:  # there is no ring to count it in
            self._said.add(detail)
            log.error("%s: %s", reason, detail)
