"""One RPC of a gRPC server, in flight from its arrival until it has ended: what both interceptors count.

On the wire an RPC is a POST to /package.Service/Method, so it is an event of kind "http" with the status that its code
is mapped to everywhere, and the whole outcome table applies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc

from otelslo import default
from otelslo.calls import Call, Track
from otelslo.engine import Engine
from otelslo.event import Ending

_CODES = grpc.StatusCode
_STATUS = {
    _CODES.OK: 200,
    _CODES.INVALID_ARGUMENT: 400,
    _CODES.FAILED_PRECONDITION: 400,
    _CODES.OUT_OF_RANGE: 400,
    _CODES.UNAUTHENTICATED: 401,
    _CODES.PERMISSION_DENIED: 403,
    _CODES.NOT_FOUND: 404,
    _CODES.ALREADY_EXISTS: 409,
    _CODES.ABORTED: 409,
    _CODES.RESOURCE_EXHAUSTED: 429,
    _CODES.UNKNOWN: 500,
    _CODES.INTERNAL: 500,
    _CODES.DATA_LOSS: 500,
    _CODES.UNIMPLEMENTED: 501,
    _CODES.UNAVAILABLE: 503,
    _CODES.DEADLINE_EXCEEDED: 504,
}
_BY_NUMBER = {code.value[0]: code for code in _CODES}
_NOT_SERVED = 404  # as gRPC itself reads this status: UNIMPLEMENTED
_REFUSALS = frozenset({401, 403, 501})  # what answers to names that nobody serves, too
_MOST_METHODS = 1000


class Methods:
    """The call sites of one server by method, and its engine.

    Names come from clients: one becomes a route when a handler has first answered to it, and not by a refusal, with
    which an interceptor may answer to any name. Until then, and past a number, calls are of no route.
    """

    def __init__(self, engine: Engine | None) -> None:
        self._given = engine
        self._named: dict[str, Track] = {}
        self._unnamed: Track | None = None
        self.stopping = threading.Event()

    def arrived(self, rpc: Rpc) -> Rpc | None:
        """Begin an RPC; None: it is not counted. Never raises."""
        engine = default.running(self._given)
        if engine is None:
            return None
        try:
            track = self._named.get(rpc.name) or self._unnamed
            if track is None:
                track = self._unnamed = engine.call_site("http", None, "POST")
            track.open(rpc)
        except Exception as e:
            engine.fault("internal", f"an RPC was not counted: {type(e).__name__}: {e}")
            return None
        return rpc

    def named(self, name: str) -> Track | None:
        """The call site of a method that is served."""
        found = self._named.get(name)
        if found is None and len(self._named) < _MOST_METHODS:
            engine = default.running(self._given)
            if engine is not None:
                found = self._named[name] = engine.call_site("http", name, "POST")
        return found


class Rpc(Call):
    """One RPC. Whoever sees it end first says how; what is said later is not heard.

    `accepted`: the server has looked at its handler, so it has not refused it for too many others.
    """

    accepted = False
    context: Any = None  # the handler's, once that was called
    broken: Exception | None = None  # a message could not be serialised, or read
    _limit_s = 0.0

    def __init__(self, methods: Methods, name: str, metadata: Any) -> None:
        self._methods = methods
        self.name = name
        self._metadata = metadata

    def quietly(self, step: Callable[..., None], *arguments: Any) -> None:
        """Take a step of ours, which is not to raise into the server."""
        try:
            step(*arguments)
        except Exception as e:
            if self.track is not None:
                self.track.fault("internal", f"an RPC's end was not understood: {type(e).__name__}: {e}")

    # ── what is seen ───────────────────────────────────────────────────────────────────────────────────────────────
    def handled(self, context: Any) -> None:
        """Its handler is called now."""
        self.context = context
        self._limit_s = self._remaining_s() or 0.0

    def returned(self, more: bool) -> None:
        """The handler has returned; `more`: its answer is yet to be serialised, if it is one."""
        code = self._code()
        if not more or code not in (None, _CODES.OK):
            self.answered(code)

    def answered(self, code: Any) -> None:
        """It ends with this code; None is OK."""
        if code is _CODES.CANCELLED:
            self._end(ending=Ending.CLIENT_CANCEL)
            return
        status = 200 if code is None else _STATUS.get(code, 500)
        if status not in _REFUSALS:
            self._take_name()
        self._end(status=status)

    def failed(self, error: BaseException, *, is_here: bool) -> None:
        """The handler has raised. `is_here`: the client still waits.

        A code that was set goes to the client, also by `context.abort`; else it is UNKNOWN, an exception of the app's.
        """
        code = self._code()
        if not is_here and (not isinstance(error, Exception) or isinstance(error, grpc.RpcError)):
            self.left()
        elif code not in (None, _CODES.OK) and isinstance(error, Exception):
            self.answered(code)
        else:
            self._take_name()
            self._end(error)

    def refused_by(self, error: BaseException) -> None:
        """An interceptor or a service has raised instead of giving a handler."""
        self._end(error)

    def not_served(self) -> None:
        """There is no such method."""
        self._end(status=_NOT_SERVED)

    def broke(self, error: Exception) -> None:
        """A message could not be serialised or read, and the client is told INTERNAL."""
        self._end(status=500)

    def left(self) -> None:
        """Nobody waits any longer: its deadline has passed, its client has cancelled it, or the server stops."""
        remaining_s = self._remaining_s()
        # The client's own timer runs out at about the same time, and what it tells us was rounded up by 1 % at most.
        if remaining_s is not None and remaining_s <= 0.02 + self._limit_s / 100:
            self._take_name()
            self._end(status=504)
        else:
            self._end(ending=Ending.SERVER_CANCEL if self._methods.stopping.is_set() else Ending.CLIENT_CANCEL)

    def over(self) -> None:
        """It has ended, by whatever nobody has seen."""
        if not self.token:
            return
        code = None if self.context is None else self._code()
        if self.broken is not None:
            self._end(status=500)
        elif code not in (None, _CODES.OK):
            self.answered(code)
        elif not self.accepted:
            self._end(ending=Ending.SHED, status=429)
        else:
            self.left()

    def __del__(self) -> None:
        """Dropped by a server that never called its handler."""
        self.quietly(self.over)

    # ── how it is told ─────────────────────────────────────────────────────────────────────────────────────────────
    def _end(
        self, error: BaseException | None = None, *, ending: Ending | None = None, status: int | None = None
    ) -> None:
        self.context = None
        self.close(error, ending=ending, status=status, header=self._header)

    def _take_name(self) -> None:
        if self.token:
            self.track = self._methods.named(self.name) or self.track

    def _code(self) -> Any:
        code = None if self.context is None else self.context.code()
        return _BY_NUMBER.get(code, code) if isinstance(code, int) else code

    def _remaining_s(self) -> float | None:
        return None if self.context is None else self.context.time_remaining()

    def _header(self, name: str) -> str | None:
        return next((value for key, value in self._metadata or () if key == name and isinstance(value, str)), None)


class Handler(type(grpc.unary_unary_rpc_method_handler(print))):  # type: ignore[misc]
    """A handler for one RPC, of the type that all interceptors know, which notes that the server has accepted it."""

    rpc: Rpc | None = None

    @property
    def request_streaming(self) -> bool:
        if self.rpc is not None:
            self.rpc.accepted = True
        return bool(self[0])


def handler_for(rpc: Rpc, handler: Any, wrap: Callable[[Rpc, Any, bool, bool], Any], guard: Any) -> Handler:
    """`handler` for this RPC, its behaviour and its (de)serialisers wrapped.

    Args:
        wrap: makes a behaviour, told whether its responses are a stream and whether they are serialised.
        guard: makes a serialiser or deserialiser, told whether it is what ends an RPC with one response.
    """
    streams, serialises = bool(handler.response_streaming), handler.response_serializer is not None
    behaviours = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    found = Handler(
        handler.request_streaming,
        handler.response_streaming,
        guard(rpc, handler.request_deserializer, False),
        guard(rpc, handler.response_serializer, not streams),
        *(None if behaviour is None else wrap(rpc, behaviour, streams, serialises) for behaviour in behaviours),
    )
    found.rpc = rpc
    return found


def like(wrapped: Any, behaviour: Any) -> Any:
    """`wrapped` with the marks of `behaviour` that the server looks for, and its name."""
    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        if hasattr(behaviour, name):
            setattr(wrapped, name, getattr(behaviour, name))
    wrapped.__dict__.update(getattr(behaviour, "__dict__", {}))
    return wrapped
