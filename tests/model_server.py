"""A model server played by hand: requests wait, are taken into a batch, and get a token each turn; no chance in it.

Each request is an async generator under `otelslo.track`, in a context of its own as a task would have, and is stepped
when its next token is made. Times are integer ns of the engine's manual clock.
"""

from __future__ import annotations

import contextvars
import heapq
import types
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from drive import advance

import otelslo
from otelslo import Engine

ARRIVAL, TURN = 0, 1  # of two things at the same time, arrivals come first


@dataclass(frozen=True, slots=True)
class Model:
    """How long a turn takes: `base_ns`, `context_ns` for each context token of those that are new in it, and `each_ns`
    for each request in it, of which there are at most `batch`. Who finds `waiting` requests before it is refused."""

    base_ns: int
    context_ns: int
    each_ns: int
    batch: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a trace."""

    at_ns: int
    context: int
    tokens: int


class Refused(Exception):
    """By the server's own shedding."""


@types.coroutine
def _token() -> Any:
    yield


@dataclass(slots=True)
class Served:
    """A request in the server: its stream, stepped by hand."""

    asked: Asked
    stream: Any
    left: int
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    _step: Any = None

    def begin(self) -> None:
        """Ask for the first token."""
        self._step = self.stream.__anext__()
        self.context.run(self._go)

    def token(self) -> bool:
        """Its next token is made; whether it was the last."""
        self.context.run(self._go)
        self._step = self.stream.__anext__()
        self.context.run(self._go)
        self.left -= 1
        return self.left == 0

    def _go(self) -> None:
        try:
            self._step.send(None)
        except (StopIteration, StopAsyncIteration, Refused):
            self._step = None


class Server:
    """Replays a trace.

    Args:
        name: the call site.
    """

    def __init__(self, engine: Engine, model: Model, name: str) -> None:
        self._engine = engine
        self._model = model
        self._answer = otelslo.track(name, engine=engine)(self._answered)
        self._waiting: deque[Served] = deque()
        self._running: list[Served] = []
        self._events: list[tuple[int, int, int, Asked | None]] = []
        self._turning = False

    async def _answered(self, asked: Asked, *, refused: bool) -> AsyncIterator[str]:
        if refused:
            otelslo.current().shed()
            raise Refused
        for _ in range(asked.tokens):
            await _token()
            yield "token"

    def replay(self, trace: Iterable[Asked]) -> None:
        """From the first arrival until all are answered; the clock must not be later."""
        self._events = [(asked.at_ns, ARRIVAL, number, asked) for number, asked in enumerate(trace)]
        heapq.heapify(self._events)
        while self._events:
            at_ns, kind, _, asked = heapq.heappop(self._events)
            advance(self._engine, ns=at_ns - self._engine.clock.ring_ns())
            if kind == ARRIVAL:
                assert asked is not None
                self._arrive(asked)
            else:
                self._turn()

    def _arrive(self, asked: Asked) -> None:
        refused = len(self._waiting) >= self._model.waiting
        served = Served(asked, self._answer(asked, refused=refused), asked.tokens)
        served.begin()
        if refused:
            return
        self._waiting.append(served)
        if not self._turning:
            self._turning = True
            heapq.heappush(self._events, (self._engine.clock.ring_ns(), TURN, 0, None))

    def _turn(self) -> None:
        """The turn before has made its tokens; the next begins, with whoever waits and finds room."""
        self._running = [served for served in self._running if not served.token()]
        model, new = self._model, 0
        while self._waiting and len(self._running) < model.batch:
            self._running.append(self._waiting.popleft())
            new += self._running[-1].asked.context
        self._turning = bool(self._running)
        if self._turning:
            length_ns = model.base_ns + model.context_ns * new + model.each_ns * len(self._running)
            heapq.heappush(self._events, (self._engine.clock.ring_ns() + length_ns, TURN, 0, None))
