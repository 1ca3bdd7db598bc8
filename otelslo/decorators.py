"""The function edge: counts calls of whatever Python code is made of, as a decorator or around a block.

    @otelslo.track("recommender", version="2026-11-01")
    def recommend(user): ...                           # def, async def, generators of both kinds, methods

    with otelslo.track("rerank") as event:             # or async with
        event.bad("nonsense")

What the function returns or raises passes through untouched; what we get wrong is counted, logged once, and never
reaches it. State of a call lies in its `Call`, which the function finds as `otelslo.current()`.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import types
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import Token
from types import FrameType, TracebackType
from typing import Any, TypeVar, cast

from otelslo import default
from otelslo.calls import Call, Place, Stream, Track
from otelslo.chunks import is_token
from otelslo.engine import Engine
from otelslo.errors import DefinitionError, shown
from otelslo.event import Ending
from otelslo.words import Words, here, leave

F = TypeVar("F")
Function = Callable[..., Any]

log = logging.getLogger("otelslo")

_PLACE = "otelslo.track"
_said: list[str] = []


def track(name: str, /, *, engine: Engine | None = None, **attributes: str) -> Tracked:
    """Count calls under `name` (kind "call", its route in `match`): `@track("rerank")` or `with track("rerank")`.

    The engine is looked for, and started, by the first call and not before. A call lasts until it returns or raises; a
    generator from its first item until it is exhausted, closed or collected. One that was cancelled or closed early is
    its caller's decision: see `otelslo.calls.ending_by`.

    Args:
        engine: by default the process's own (see `otelslo.default`).
        attributes: to group by, such as version="2026-11-01".

    Raises:
        DefinitionError: the name is none, or what is decorated is no function.
    """
    if not isinstance(name, str) or not name:
        raise DefinitionError(_PLACE, f"{shown(name)} is no name", 'Write @otelslo.track("recommender")')
    return Tracked(name, engine, attributes)


class Tracked:
    """What `track` makes. It may be shared among threads and tasks, and entered again while it is open."""

    def __init__(self, name: str, engine: Engine | None, attributes: dict[str, str]) -> None:
        self._name = name
        self._engine = engine
        self._attributes = attributes
        self.track: Track | None = None
        self.words: Callable[[], Words] = Words  # what a call of a function is made of
        self._open: dict[int, list[Call]] = {}  # by the frame of the `with` statement

    def begin(self, call: Call) -> Call:
        """Have `call` begun, unless we are off. Never raises."""
        try:
            track = self.track or self.resolve()
            if track is not None:
                track.open(call)
        except Exception as e:
            self.fault(e)
        return call

    def resolve(self) -> Track | None:
        """The call site, by the first call that finds an engine; None as long as there is none."""
        engine = default.running(self._engine)
        if engine is not None:
            try:
                self.track = engine.track(self._name, **self._attributes)
                self._tell_clock(engine)
            except Exception as e:
                engine.fault("internal", self._uncounted(e))
        return self.track

    def _tell_clock(self, engine: Engine) -> None:
        """Have the calls of functions know a clock that is turned by hand, the one that has found the engine too."""
        if engine.clock.manual:
            self.words = type("Words", (Words,), {"clock_ns": staticmethod(engine.clock.ring_ns)})
            if type(first := here.get(None)) is Words:
                first.clock_ns = engine.clock.ring_ns

    def failed(
        self, words: Words, entered: Token[Words], place: Place | None, token: int, error: BaseException
    ) -> None:
        """Count a call that has raised. Never raises."""
        try:
            leave(entered)
            if token and self.track is not None and place is not None:
                self.track.end(words, place, token, error)
        except Exception as e:
            self.fault(e)

    def fault(self, error: Exception) -> None:
        """Count a fault of ours. Never raises."""
        if self.track is not None:
            self.track.fault("internal", self._uncounted(error))
        elif not _said:
            _said.append(self._name)
            log.error("%s", self._uncounted(error))

    def _uncounted(self, error: Exception) -> str:
        return f"a call of {self._name!r} was not counted: {type(error).__name__}: {error}"

    # ── as a decorator ─────────────────────────────────────────────────────────────────────────────────────────────
    def __call__(self, function: F) -> F:
        """`function`, counted; it stays what it is: coroutine function, generator function, class or static method."""
        if isinstance(function, classmethod | staticmethod):
            return cast("F", type(function)(self(function.__func__)))
        if isinstance(function, type) or not callable(function):
            problem = f"{shown(function)} is no function"
            raise DefinitionError(
                f"{_PLACE}({self._name!r})", problem, "Decorate functions and methods, below @property"
            )
        tracked = _form(function)(self, function)
        functools.update_wrapper(tracked, function, updated=("__dict__",) if inspect.isfunction(function) else ())
        return cast("F", tracked)

    # ── around a block ─────────────────────────────────────────────────────────────────────────────────────────────
    def __enter__(self) -> Call:
        return self._enter(sys._getframe(1))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._exit(sys._getframe(1), error)

    async def __aenter__(self) -> Call:
        return self._enter(sys._getframe(1))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._exit(sys._getframe(1), error)

    def _enter(self, frame: FrameType) -> Call:
        call = Call()
        try:
            self._open.setdefault(_statement(frame), []).append(call)
            self.begin(call.enter())
        except Exception as e:
            self.fault(e)
        return call

    def _exit(self, frame: FrameType, error: BaseException | None) -> None:
        """Close what was entered in this frame last: among tasks and generators that share us nothing else is right.

        Entered and left in different functions (an exit stack kept for later), it is the last one entered anywhere.
        """
        try:
            key = _statement(frame)
            if key not in self._open:
                key = list(self._open)[-1]
            calls = self._open[key]
            call = calls.pop()
            if not calls:
                del self._open[key]
            call.close(error)
        except Exception as e:
            self.fault(e)


def _statement(frame: FrameType | None) -> int:
    """The frame that holds the `with` statement, or that uses an exit stack of contextlib."""
    while frame is not None and frame.f_globals.get("__name__") == "contextlib":
        frame = frame.f_back
    return id(frame)


# ── functions, by what they are made of ────────────────────────────────────────────────────────────────────────────
def _form(function: Function) -> Callable[[Tracked, Function], Function]:
    """The wrapper for a function of this kind; what an object with `__call__` is, its method says."""
    code: Any = function
    while isinstance(code, functools.partial):
        code = code.func
    if not inspect.isroutine(code):
        code = code.__call__
    if inspect.isasyncgenfunction(code):
        return _async_generator
    if inspect.iscoroutinefunction(code) or _is_marked(code):
        return _coroutine
    if inspect.isgeneratorfunction(code):
        iterable_coroutine = code.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE
        return _awaitable_generator if iterable_coroutine else _generator
    return _function


def _is_marked(code: Function) -> bool:
    """Whether asyncio's older mark is on it, which asgiref sets before Python 3.12."""
    asyncio_coroutines = sys.modules.get("asyncio.coroutines")
    mark = getattr(asyncio_coroutines, "_is_coroutine", None)
    return mark is not None and getattr(code, "_is_coroutine", None) is mark


# The path of every call of a function is kept flat, its state in local variables: a `Call` costs 0.5 us more.
def _function(site: Tracked, function: Function) -> Function:
    def tracked(*args: Any, **kwargs: Any) -> Any:
        words, place, token = site.words(), None, 0
        entered = here.set(words)
        try:
            track = site.track or site.resolve()
            if track is not None:
                begin, end, page, index = place = track.place
                token = begin(page, index) or track.begin_again()
        except Exception as e:
            site.fault(e)
        try:
            result = function(*args, **kwargs)
        except BaseException as e:
            site.failed(words, entered, place, token, e)
            raise
        try:
            leave(entered)
            if token and track is not None and place is not None:
                if words.spoken or track.judged_each:
                    track.end(words, place, token)
                elif code := end(page, index, token, track.plans[None]):
                    track.after(code)
        except Exception as e:
            site.fault(e)
        return result

    return tracked


def _coroutine(site: Tracked, function: Function) -> Function:
    async def tracked(*args: Any, **kwargs: Any) -> Any:
        words, place, token = site.words(), None, 0
        entered = here.set(words)
        try:
            track = site.track or site.resolve()
            if track is not None:
                begin, end, page, index = place = track.place
                token = begin(page, index) or track.begin_again()
        except Exception as e:
            site.fault(e)
        try:
            result = await function(*args, **kwargs)
        except BaseException as e:
            site.failed(words, entered, place, token, e)
            raise
        try:
            leave(entered)
            if token and track is not None and place is not None:
                if words.spoken or track.judged_each:
                    track.end(words, place, token)
                elif code := end(page, index, token, track.plans[None]):
                    track.after(code)
        except Exception as e:
            site.fault(e)
        return result

    return tracked


# Generators are stepped by hand, and not by `yield from`: `current()` must hold within each step and not between them,
# where the code that consumes the items runs.
def _generator(site: Tracked, function: Function, streams: bool = True) -> Function:
    def tracked(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = site.begin(Call())
        handed_over = call.stream(is_token) if streams else None
        try:
            items = function(*args, **kwargs)
            step, value, closing = items.send, None, None
            while True:
                entered = here.set(call)
                try:
                    item = step(value)
                finally:
                    value = None  # no exception is to be kept by the frame that it has passed
                    here.reset(entered)
                if handed_over is not None:
                    try:
                        handed_over(item)
                    except Exception as e:
                        site.fault(e)
                try:
                    value = yield item
                    step = items.send
                except BaseException as e:
                    step, value, closing = items.throw, e, _closing(e)
        except StopIteration as e:  # raised by the steps alone
            call.close(ending=closing)
            return e.value
        except BaseException as e:
            call.close(e)
            raise

    return tracked


def _awaitable_generator(site: Tracked, function: Function) -> Function:
    return types.coroutine(_generator(site, function, streams=False))


def _async_generator(site: Tracked, function: Function) -> Function:
    async def tracked(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = site.begin(Stream())
        handed_over = call.stream(is_token)
        try:
            items = function(*args, **kwargs)
            awaitable, closing = _first_of(items), None
            while True:
                entered = here.set(call)
                try:
                    item = await awaitable
                finally:
                    awaitable = None
                    try:  # noqa: SIM105  # `leave`, flat: this is the path of every token
                        here.reset(entered)
                    except ValueError:
                        pass
                if handed_over is not None:
                    try:
                        handed_over(item)
                    except Exception as e:
                        site.fault(e)
                try:
                    awaitable = items.asend((yield item))
                except BaseException as e:
                    awaitable, closing = items.athrow(e), _closing(e)
        except StopAsyncIteration:
            call.close(ending=closing)
        except BaseException as e:
            call.close(e)
            raise

    return tracked


def _closing(error: BaseException) -> Ending | None:
    """How a generator has ended that returns when `error` is thrown in; None: as it should."""
    return Ending.CLIENT_CANCEL if isinstance(error, GeneratorExit) else None


def _first_of(items: AsyncGenerator[Any, Any]) -> Any:
    """The first step. The event loop is to know and to close the wrapper alone: closing both, it would meet itself."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return items.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)
