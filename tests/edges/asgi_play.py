"""ASGI apps as data, and a server that steps them by hand: two runs of a script can be compared entry by entry.

A step of an app is a tuple: send, receive, pause, tick, raise, try, both, later, say, set, get, scope, unscope. The
server's part is data too: what `receive` gives, which sends fail, and what happens when the app waits the n-th time.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from drive import DISCONNECT, REQUEST, http_scope, websocket_scope
from starlette.requests import ClientDisconnect

VAR: contextvars.ContextVar[Any] = contextvars.ContextVar("edges.var", default="unset")
MOST_WAITS = 40
SCOPES: dict[str, Callable[[], dict[str, Any]]] = {
    "http": http_scope,
    "websocket": lambda: {key: value for key, value in websocket_scope().items() if key != "method"},
    "lifespan": lambda: {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}},
}


class Unspeakable(RuntimeError):
    """An exception that cannot be made a text of."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Unfathomable(Exception):
    """An exception without a truth value."""

    def __bool__(self) -> bool:
        raise ValueError("neither")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "RuntimeError": lambda: RuntimeError("boom", 1),
    "OSError": lambda: OSError(9, "of the app's own"),
    "ConnectionResetError": ConnectionResetError,
    "KeyError": lambda: KeyError("k"),
    "StopIteration": lambda: StopIteration("inside"),
    "StopAsyncIteration": StopAsyncIteration,
    "RecursionError": RecursionError,
    "CancelledError": lambda: asyncio.CancelledError("own"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "ClientDisconnect": ClientDisconnect,
    "NoResponse": lambda: RuntimeError("No response returned"),
    "Unspeakable": lambda: Unspeakable("x"),
    "Unfathomable": Unfathomable,
    "Group": lambda: ExceptionGroup("g", [ValueError(1), ClientDisconnect()]),
    "GoneGroup": lambda: ExceptionGroup("g", [ClientDisconnect(), ExceptionGroup("h", [ClientDisconnect()])]),
    "BaseGroup": lambda: BaseExceptionGroup("b", [SystemExit(1)]),
    "LongName": lambda: type("E" * 400 + "\u00e9", (Exception,), {})(),
}
CATCHES = {"OSError": OSError, "Exception": Exception, "BaseException": BaseException}


@dataclass(frozen=True)
class Script:
    """An app, its scope and what its server does.

    Args:
        form: what kind of callable the app is.
        changes: keys of the scope that differ from the usual; `...` for one that is missing.
        incoming: what `receive` gives, one by one: a message, or ("fail", error); then it waits for the disconnect.
        sends: (n, "wait" or an error) for the sends that are special.
        at: (n, "cancel" | "left" | "exit" | "close") for the n-th wait.
        strict: the server refuses messages out of place by a RuntimeError.
        refuses_when_left: sends fail once the client has left.
    """

    steps: tuple[Any, ...] = ()
    kind: Any = "http"
    form: str = "async def"
    value: Any = None
    changes: tuple[tuple[str, Any], ...] = ()
    incoming: tuple[Any, ...] = (REQUEST,)
    sends: tuple[tuple[int, str], ...] = ()
    at: tuple[tuple[int, str], ...] = ()
    strict: bool = False
    refuses_when_left: bool = False

    def scope(self) -> dict[str, Any]:
        make = SCOPES.get(self.kind) if isinstance(self.kind, str) else None
        scope = make() if make else {"type": self.kind}
        for key, value in self.changes:
            if value is ...:
                scope.pop(key, None)
            else:
                scope[key] = value
        return scope


@dataclass
class Transcript:
    """All that server and app can see of each other; equal for two runs that cannot be told apart."""

    log: list[tuple[str, int, Any]] = field(default_factory=list)
    error: Any = None
    frames: list[str] = field(default_factory=list)
    value: Any = None
    scope: Any = None
    variables: dict[str, Any] = field(default_factory=dict)
    history: list[tuple[str, int, Any]] = field(default_factory=list, compare=False)


@types.coroutine
def suspend(label: Any) -> Iterator[Any]:
    """Wait until the server steps on."""
    yield label


class Play:
    """One run of a script.

    Args:
        tick: lets a number of ns pass in whatever measures from outside.
    """

    def __init__(self, script: Script, tick: Callable[[int], None] | None = None) -> None:
        self.script = script
        self.now_ns = 0
        self.seen = Transcript()
        self.passed: list[Any] = []
        self._tick = tick
        self._kept: list[BaseException] = []
        self._later: list[Any] = []
        self._incoming = list(script.incoming)
        self._sends = dict(script.sends)
        self._at = dict(script.at)
        self._counts = {"send": 0, "wait": 0}
        self._left = self._started = self._over = self._thrown = False

    def note(self, what: str, thing: Any = None, shown: Any = None) -> None:
        self.seen.history.append((what, self.now_ns, thing))
        self.seen.log.append((what, self.now_ns, repr(thing) if shown is None else shown))

    # ── the app ────────────────────────────────────────────────────────────────────────────────────────────────────
    def app(self) -> Any:
        """The callable, of the script's form."""
        if self.script.form == "async def":
            return self._application
        return _FORMS[self.script.form](self)

    async def _application(self, scope: Any, receive: Any, send: Any) -> Any:
        self.note("began", None, sorted(key for key in scope if key != "otelslo") if isinstance(scope, dict) else None)
        try:
            await self._do(self.script.steps, scope, receive, send)
        except BaseException as e:
            self.note("left", e, self._exception(e))
            raise
        self.note("returned")
        return self.script.value

    async def _do(self, steps: tuple[Any, ...], scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            what = step[0]
            if what == "send":
                self.passed.append(step[1])
                self.note("answer", await send(step[1]))
            elif what == "receive":
                self.note("received", await receive())
            elif what == "pause":
                await self._wait("app")
            elif what == "try":
                await self._try(step, scope, receive, send)
            elif what == "both":
                parts = [self._do(part, scope, receive, send) for part in step[1:]]
                await side_by_side(parts)
            elif what == "later":
                self._later.append(self._do(step[1], scope, receive, send))
            else:
                self._at_once(what, step, scope)

    def _at_once(self, what: str, step: tuple[Any, ...], scope: Any) -> None:
        """The steps that wait for nothing."""
        if what == "tick":
            self.now_ns += step[1]
            if self._tick is not None:
                self._tick(step[1])
        elif what == "say":
            self.note("said", step[1])
            exchange = scope.get("otelslo")
            if exchange is not None:
                getattr(exchange, step[1])(**dict(step[2:]))
        elif what == "set":
            VAR.set(step[1])
        elif what == "get":
            self.note("variable", VAR.get())
        elif what == "scope":
            scope[step[1]] = step[2]
        elif what == "unscope":
            self.note("popped", scope.pop(step[1], None))
        else:
            self._raise(step[1])

    def _raise(self, name: str) -> None:
        kept = self._kept[-1] if self._kept else ValueError("nothing kept")
        if name == "kept":
            raise kept
        if name == "from kept":
            raise RuntimeError("from") from kept
        if name == "kept from itself":
            raise kept from kept
        error = ERRORS[name]()
        self._kept.append(error)
        raise error

    async def _try(self, step: tuple[Any, ...], scope: Any, receive: Any, send: Any) -> None:
        _, steps, catch, handler = step
        try:
            await self._do(steps, scope, receive, send)
        except CATCHES[catch] as e:
            self._kept.append(e)
            self.note("caught", e, self._exception(e))
            await self._do(handler, scope, receive, send)

    # ── the server ─────────────────────────────────────────────────────────────────────────────────────────────────
    async def _receive(self) -> Any:
        self.note("receive")
        VAR.set(f"{VAR.get()}+receive")
        while not self._incoming:
            if self._left:
                return DISCONNECT if self.script.kind == "http" else {"type": "websocket.disconnect", "code": 1001}
            await self._wait("receive")
        message = self._incoming.pop(0)
        if isinstance(message, tuple):
            error = ERRORS[message[1]]()
            self.note("receive failed", error, self._exception(error))
            raise error
        self._left = self._left or (isinstance(message, dict) and "disconnect" in str(message.get("type")))
        return message

    async def _send(self, message: Any) -> Any:
        number = self._counts["send"]
        self._counts["send"] += 1
        self.note("send", None, (number, any(message is one for one in self.passed), VAR.get()))
        special = self._sends.get(number)
        if special == "wait":
            await self._wait("send")
        if special in ERRORS or (self._left and self.script.refuses_when_left):
            error = ERRORS[special]() if special in ERRORS else OSError("the client is gone")
            self._kept.append(error)
            self.note("send failed", error, self._exception(error))
            raise error
        if self.script.strict:
            self._check(message)
        self.note("sent", message)
        return None

    def _check(self, message: Any) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if self._started or not isinstance(message["status"], int):
                raise RuntimeError(f"unexpected {kind}")
            self._started = message["status"] >= 200 or message["status"] == 101
        elif kind.startswith("http.response."):
            if not self._started or self._over:
                raise RuntimeError(f"unexpected {kind}")
            self._over = kind == "http.response.body" and not message.get("more_body", False)
        elif self.script.kind == "http":
            raise RuntimeError(f"unexpected {kind}")

    async def _wait(self, where: str) -> None:
        number = self._counts["wait"]
        self._counts["wait"] += 1
        await suspend((number, where))

    def run(self, app: Any) -> Transcript:
        """Serve one request, and what the app has left to be done later."""
        self._scope = self.script.scope()
        context = contextvars.copy_context()
        context.run(VAR.set, "server")
        self._step(self._served(app), context)
        for later in self._later:
            self.note("later")
            self._step(later, context)
        seen = self.seen
        seen.scope = {key: repr(value) for key, value in self._scope.items() if key != "otelslo"}
        seen.variables = {variable.name: context[variable] for variable in context}
        return seen

    async def _served(self, app: Any) -> Any:
        return await app(self._scope, self._receive, self._send)

    def _step(self, running: Any, context: contextvars.Context) -> None:
        """Until it is done: cancelled after many waits, closed after many more."""
        waits, what = 0, ""
        try:
            while True:
                label = self._turn(running, context, what)
                waits += 1
                self.note("waits", None, label)
                what = "cancel" if waits == MOST_WAITS else "close" if waits > MOST_WAITS + 5 else ""
                what = what or self._at.get(label[0], "")
        except StopIteration as e:
            self.seen.value = repr(e.value)
            self.note("over", None, "")
        except BaseException as e:
            self.seen.error = self._exception(e)
            self.seen.frames = [] if self._thrown else frames_of(e)
            self.note("over", e, "")

    def _turn(self, running: Any, context: contextvars.Context, what: str) -> Any:
        if what == "left":
            self._left = True
        # CPython 3.11 loses frames of what a coroutine raises after it has handled what was thrown into it.
        self._thrown = self._thrown or what in ("cancel", "exit")
        if what == "cancel":
            return context.run(running.throw, asyncio.CancelledError("by the server"))
        if what == "exit":
            return context.run(running.throw, SystemExit(1))
        if what == "close":
            for _ in range(MOST_WAITS):
                try:
                    context.run(running.close)
                except RuntimeError as e:
                    self.note("close", e)
                else:
                    break
            raise StopIteration("closed")
        return context.run(running.send, None)

    def _exception(self, error: BaseException | None, depth: int = 4) -> Any:
        """Type, arguments, which one it is of those the app or server keeps, and what it came from."""
        if error is None or depth == 0:
            return None
        kept = [number for number, one in enumerate(self._kept) if one is error]
        args = tuple(map(_argument, error.args))
        cause, below = self._exception(error.__cause__, depth - 1), self._exception(error.__context__, depth - 1)
        return (type(error).__name__, args, kept, cause, below, error.__suppress_context__)


def _argument(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return type(value).__name__


def frames_of(error: BaseException) -> list[str]:
    """The frames that a traceback goes through, without ours."""
    found, at = [], error.__traceback__
    while at is not None:
        if not str(at.tb_frame.f_globals.get("__name__")).startswith("otelslo"):
            found.append(f"{at.tb_frame.f_code.co_name}:{at.tb_lineno}")
        at = at.tb_next
    return found


@types.coroutine
def side_by_side(parts: list[Any]) -> Iterator[Any]:
    """Step several coroutines in turn, as a task group would; one that fails has the others cancelled."""
    running, turn = list(parts), 0
    while running:
        part = running[turn % len(running)]
        turn += 1
        try:
            label = part.send(None)
        except StopIteration:
            running.remove(part)
            continue
        except BaseException:
            _cancel([other for other in running if other is not part])
            raise
        try:
            yield label
        except BaseException:
            _cancel(running)
            raise


def _cancel(parts: list[Any]) -> None:
    for part in parts:
        try:
            part.throw(asyncio.CancelledError("a sibling failed"))
            part.close()
        except BaseException:
            continue


class _Object:
    def __init__(self, play: Play) -> None:
        self._play = play

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return await self._play._application(scope, receive, send)


class _Awaitable:
    def __init__(self, running: Any) -> None:
        self._running = running

    def __await__(self) -> Iterator[Any]:
        return self._running.__await__()


def _raising(play: Play) -> Any:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        raise TypeError("an app of another protocol")

    return app


_FORMS: dict[str, Callable[[Play], Any]] = {
    "object": _Object,
    "function": lambda play: lambda *arguments: play._application(*arguments),
    "awaitable": lambda play: lambda *arguments: _Awaitable(play._application(*arguments)),
    "raises when called": _raising,
    "no awaitable": lambda play: lambda *arguments: None,
    "wrong signature": lambda play: lambda scope: play._application(scope, None, None),
}
FORMS = ("async def", *_FORMS)
