"""Runs a user's judge on a sample of answers, off the request path, and hands its verdicts on as labels.

    chat_judge = otelslo.judged("chat", is_supported, sample="5%")

    if chat_judge.offer(answer_id, question, answer):
        otelslo.log_prediction("chat", id=answer_id)

A request only hashes an id and puts what is to be judged into a queue, if there is room: it takes no lock and waits for
nobody. What the judge raises, or says that is no verdict, is the judge's own failure, a label of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import inspect
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from fractions import Fraction
from queue import SimpleQueue
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from otelslo import default
from otelslo.errors import BadValue, shown
from otelslo.labelled import JUDGE_ERROR, VERDICTS
from otelslo.quality.sample import Id, Sampling, parse_share
from otelslo.switch import disabled
from otelslo.window import SECOND_NS, parse_positive_duration

if TYPE_CHECKING:
    import asyncio  # which is slow to import, and loaded where something is judged

log = logging.getLogger("otelslo")

MOST_WORKERS = 64
CLOSING_S = 2.0  # how long the end of a process waits for a verdict in the making
COUNTERS = ("offered", "sampled", "dropped", "judged", "errors", "unreported", "refused")
_OFFERED, _SAMPLED, _DROPPED, _JUDGED, _ERRORS, _UNREPORTED, _REFUSED = range(len(COUNTERS))

Reported = Callable[[Id, str], object]
_Item = tuple[Id, tuple[Any, ...], dict[str, Any]]


class _Counts:
    """Counters that many threads add to without a lock: each to its own."""

    def __init__(self) -> None:
        self._by_thread: dict[int, list[int]] = {}

    def add(self, counter: int) -> None:
        here = get_ident()
        own = self._by_thread.get(here)
        if own is None:
            own = self._by_thread[here] = [0] * len(COUNTERS)
        own[counter] += 1

    def total(self, counter: int) -> int:
        return sum(own[counter] for own in list(self._by_thread.values()))


class Judged:
    """A judge of the answers of one model: see `judged`. Of one process: each worker judges what it answered itself."""

    def __init__(
        self,
        name: str,
        judge: Callable[..., object],
        *,
        sample: str | float | Fraction = "5%",
        workers: int = 1,
        queue: int = 1000,
        timeout: str | timedelta | None = None,
        key: str | bytes | None = None,
        label: Reported | None = None,
    ) -> None:
        if not callable(judge):
            raise BadValue(f"{shown(judge)} is no judge", "Give a function of what is offered")
        self.name = name
        self._judge = judge
        self._share = parse_share(sample)
        self._workers = _checked(workers, "workers", MOST_WORKERS)
        self._room = _checked(queue, "places in the queue", 1_000_000)
        self._timeout_s = _timeout_s(timeout, judge)
        self._sampling = Sampling(f"otelslo.judge\0{name}" if key is None else key)
        self._label = self._log_label if label is None else label
        self._off = disabled()
        self._renew()
        _all.add(self)

    def _renew(self) -> None:
        """What a forked child cannot have from its parent: threads, and what waits for them."""
        self._pid = os.getpid()
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._counts = _Counts()
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._drop_told = False
        self._said: set[str] = set()

    # ── the request's side: never waits, never raises ──────────────────────────────────────────────────────────────
    def offer(self, id: Id, /, *payload: Any, **named: Any) -> bool:
        """Have an answer judged, if its id is in the sample and there is room; whether it will be.

        The first of a process starts the threads. Nothing is raised; an id that is none is counted as refused.

        Args:
            id: of the prediction: a text, a whole number or a UUID.
            payload, named: what the judge is called with. It is kept as it is: give texts, not what changes later.
        """
        if self._off:
            return False
        if self._pid != os.getpid():
            self._renew()
        self._counts.add(_OFFERED)
        try:
            if not self._sampling.holds(id, self._share):
                return False
        except Exception as e:
            self._counts.add(_REFUSED)
            self._say("refused", f"an answer is not judged: {e}")
            return False
        self._counts.add(_SAMPLED)
        if self._closed or self._queue.qsize() >= self._room or not self._started():
            self._counts.add(_DROPPED)
            self._tell_first_drop()
            return False
        self._queue.put((id, payload, named))
        return True

    def counts(self) -> dict[str, int]:
        """What became of the answers of this process, by COUNTERS.

        Dropped had no room, or came when it closed; errors are the judge's failures among what was judged; unreported
        verdicts could not be handed on; refused have no id.
        """
        if self._pid != os.getpid():
            self._renew()
        return {name: self._counts.total(counter) for counter, name in enumerate(COUNTERS)}

    def _tell_first_drop(self) -> None:
        """At once: a judge that hangs never comes to tell of one. How many there are is told after its next verdict."""
        if not self._closed and not self._drop_told:
            self._drop_told = True
            taken = f"{self._queue.qsize()} of {self._room} places in the queue are taken"
            self._fault("first drop", f"no judge is free, so answers are dropped from now on ({taken})")

    def _started(self) -> bool:
        """Whether there are threads; only one caller makes them, others go on."""
        if len(self._threads) == self._workers or not self._starting.acquire(blocking=False):
            return True
        try:
            while len(self._threads) < self._workers:
                number = len(self._threads)
                thread = threading.Thread(
                    target=self._run, args=(self._queue,), name=f"otelslo-judge-{self.name}-{number}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
            return True
        except RuntimeError as e:  # the interpreter is ending, or the system has no more threads
            self._say("threads", f"no thread to judge in: {e}")
            return bool(self._threads)
        finally:
            self._starting.release()

    # ── the judge's side ───────────────────────────────────────────────────────────────────────────────────────────
    def _run(self, queue: SimpleQueue[_Item | None]) -> None:
        import asyncio

        told = 0
        runner = asyncio.Runner()  # makes a loop when it is first used
        try:
            while (item := queue.get()) is not None:
                if self._closed:
                    self._counts.add(_DROPPED)
                    continue
                identity, payload, named = item
                self._report(identity, self._verdict(runner, payload, named))
                del item, payload, named  # or the last answer is kept until the next one
                dropped = self._counts.total(_DROPPED)
                if dropped > told:
                    self._fault("dropped", f"the queue of {self._room} was full, {dropped} answers are not judged")
                    told = dropped
        finally:
            runner.close()

    def _verdict(self, runner: asyncio.Runner, payload: tuple[Any, ...], named: dict[str, Any]) -> str:
        """What the judge says; anything that it raises is its failure, an exit and a cancellation too."""
        self._counts.add(_JUDGED)
        try:
            said = self._judge(*payload, **named)
            if inspect.isawaitable(said):
                said = runner.run(self._awaited(said))
            if isinstance(said, str) and said in VERDICTS:
                return str(said)
            why = f"it said {shown(said)}, and not {', '.join(VERDICTS)}"
        except BaseException as e:
            why = f"{type(e).__name__}: {e}"
        self._counts.add(_ERRORS)
        self._say("errors", f"the judge failed: {why}")
        return JUDGE_ERROR

    async def _awaited(self, said: Awaitable[object]) -> object:
        import asyncio

        async with asyncio.timeout(self._timeout_s):
            return await said

    def _report(self, identity: Id, truth: str) -> None:
        try:
            self._label(identity, truth)
        except Exception as e:
            self._counts.add(_UNREPORTED)
            self._fault("unreported", f"a verdict is lost: {type(e).__name__}: {e}")

    def _log_label(self, identity: Id, truth: str) -> None:
        importlib.import_module("otelslo").log_label(self.name, id=identity, truth=truth)

    def _fault(self, what: str, text: str) -> None:
        """A failure of ours, on the process's own engine if it has one: `otelslo doctor` shows it."""
        if not default.fault("judge", f"{self.name}: {text}"):
            self._say(what, text)

    def _say(self, what: str, text: str) -> None:
        if what in self._said:
            return
        self._said.add(what)
        with contextlib.suppress(Exception):  # of a handler or filter of the app's own
            log.warning("judge of %s: %s (said once; see counts())", self.name, text)

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────
    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing more, drop what waits, and wait so long at most (CLOSING_S) for all verdicts in the making. Ends
        of itself when the process does."""
        _join(self._ending(), CLOSING_S if timeout_s is None else timeout_s)

    def _ending(self) -> list[threading.Thread]:
        """The threads, told to end."""
        if self._pid != os.getpid():
            self._renew()
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        return self._threads

    def __enter__(self) -> Judged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_all: weakref.WeakSet[Judged] = weakref.WeakSet()


def judged(
    name: str,
    judge: Callable[..., object],
    *,
    sample: str | float | Fraction = "5%",
    workers: int = 1,
    queue: int = 1000,
    timeout: str | timedelta | None = None,
    key: str | bytes | None = None,
    label: Reported | None = None,
) -> Judged:
    """A judge that looks at a sample of a model's answers, in threads of its own.

    Args:
        name: the model, as in `log_prediction`.
        judge: called with what is offered; says "hallucinated", "supported" or "unknown", or awaits to say so. Anything
            else that it says, such as a bare score, and whatever it raises is labelled "judge_error".
        sample: the share of ids that are judged, chosen by a keyed hash: the same in every process, and all that are in
            a smaller share are in a larger one.
        workers: threads; each judges one answer at a time, an async judge in an event loop of its own.
        queue: how many answers may wait; more are dropped and counted.
        timeout: of an async judge. One that is not must bound its own calls.
        key: a secret, so that nobody can choose ids that are not judged. The same in every process.
        label: told (id, verdict) in place of `otelslo.log_label`.

    Raises:
        BadValue: a share, number, timeout or key that cannot be meant.
    """
    return Judged(name, judge, sample=sample, workers=workers, queue=queue, timeout=timeout, key=key, label=label)


def _timeout_s(timeout: str | timedelta | None, judge: Callable[..., object]) -> float | None:
    if timeout is None:
        return None
    call = getattr(judge, "__call__", None)  # noqa: B004  # of an object, the function that is called
    if not (inspect.iscoroutinefunction(judge) or inspect.iscoroutinefunction(call)):
        raise BadValue("a judge that is not async cannot be stopped", "Give the client that it calls a timeout")
    return parse_positive_duration(timeout) / SECOND_NS


def _checked(value: int, what: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BadValue(f"{shown(value)} {what}", f"Write a whole number from 1 to {most}")
    return value


def _join(threads: Iterable[threading.Thread], timeout_s: float) -> None:
    """Wait for all of them together."""
    until = monotonic() + timeout_s
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, until - monotonic()))


def _close_all() -> None:
    _join([thread for one in list(_all) for thread in one._ending()], CLOSING_S)


atexit.register(_close_all)
