"""gRPC: counts the RPCs of a server, sync or aio, first of its interceptors.

    from otelslo.integrations.grpc import server_interceptor
    server = grpc.server(pool, interceptors=[server_interceptor()])

    from otelslo.integrations.grpc import aio_server_interceptor
    server = grpc.aio.server(interceptors=[aio_server_interceptor()])

An RPC lasts from its arrival, the wait for a thread included, until its last response is taken or serialised. Its route
is "/package.Service/Method", its status what its code is mapped to: NOT_FOUND is a 404, UNAVAILABLE a 503, a deadline
that passed a 504; a method that nobody serves is a 404, too. Handlers find their call as `otelslo.current()`.

To a handler a stop of the server looks like a client that cancels. Call `interceptor.stopping()` before
`server.stop(grace)`, and what is cancelled from then on is bad `server_cancel`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
from otelslo.integrations.grpc_rpc import Handler, Methods, Rpc, handler_for, like

from otelslo.engine import Engine
from otelslo.words import here, leave

Behaviour = Callable[..., Any]


def server_interceptor(engine: Engine | None = None) -> ServerInterceptor:
    """An interceptor for `grpc.server`; `engine` is by default the process's own, started by the first RPC."""
    return ServerInterceptor(engine)


def aio_server_interceptor(engine: Engine | None = None) -> AioServerInterceptor:
    """An interceptor for `grpc.aio.server`; `engine` is by default the process's own, started by the first RPC."""
    return AioServerInterceptor(engine)


class _Interceptor:
    def __init__(self, engine: Engine | None) -> None:
        self._methods = Methods(engine)

    def stopping(self) -> None:
        """The server is about to be stopped: it, and no client, cancels from now on."""
        self._methods.stopping.set()

    def _arrived(self, details: Any) -> Rpc | None:
        return self._methods.arrived(Rpc(self._methods, details.method, details.invocation_metadata))

    @staticmethod
    def _taken(rpc: Rpc, handler: Any, wrap: Any, guard: Any) -> Any:
        """What the server is given for `handler`."""
        if handler is None:
            rpc.quietly(rpc.not_served)
            return None
        try:
            return handler_for(rpc, handler, wrap, guard)
        except Exception as e:
            rpc.exclude("not_wrapped")
            if rpc.track is not None:
                rpc.track.fault("internal", f"a handler could not be wrapped: {type(e).__name__}: {e}")
            return handler


# ── sync: in the threads of the server's pool ──────────────────────────────────────────────────────────────────────
class ServerInterceptor(_Interceptor, grpc.ServerInterceptor):  # type: ignore[misc]
    """See `server_interceptor`."""

    def intercept_service(self, continuation: Behaviour, handler_call_details: Any) -> Handler | Any:
        rpc = self._arrived(handler_call_details)
        if rpc is None:
            return continuation(handler_call_details)
        try:
            handler = continuation(handler_call_details)
        except BaseException as e:
            rpc.quietly(rpc.refused_by, e)
            raise
        return self._taken(rpc, handler, _threaded, _guarded)


def _guarded(rpc: Rpc, transform: Behaviour | None, is_last: bool) -> Behaviour | None:
    """A serialiser or deserialiser; the server makes INTERNAL of what it raises, and of None."""
    if transform is None:
        return None

    def guarded(message: Any) -> Any:
        try:
            done = transform(message)
        except Exception as e:
            rpc.quietly(rpc.broke, e)
            raise
        if done is None:
            rpc.quietly(rpc.broke, TypeError())
        elif is_last:
            rpc.quietly(_answered_in_time, rpc)
        return done

    return guarded


def _answered_in_time(rpc: Rpc) -> None:
    if rpc.context is not None and not rpc.context.is_active():
        rpc.left()
    else:
        rpc.returned(False)


def _threaded(rpc: Rpc, behaviour: Behaviour, streams: bool, serialises: bool) -> Behaviour:
    def handled(request: Any, context: Any, *sending: Any) -> Any:
        rpc.quietly(_begin_threaded, rpc, context)
        entered = here.set(rpc)
        try:
            answer = behaviour(request, context, *(_last_seen(rpc, send) for send in sending))
        except BaseException as e:
            rpc.quietly(_failed_threaded, rpc, e)
            raise
        finally:
            leave(entered)
        if streams:
            return answer if sending else _Responses(rpc, answer)
        if not serialises:
            rpc.quietly(_answered_in_time, rpc)
        return answer

    return like(handled, behaviour)  # type: ignore[no-any-return]


def _begin_threaded(rpc: Rpc, context: Any) -> None:
    rpc.handled(context)
    context.add_callback(
        functools.partial(rpc.quietly, rpc.over)
    )  # at once when a client goes, whatever the handler does


def _failed_threaded(rpc: Rpc, error: BaseException) -> None:
    rpc.failed(error, is_here=rpc.context is None or rpc.context.is_active())


def _last_seen(rpc: Rpc, send: Behaviour) -> Behaviour:
    """gRPC's experimental callback for responses, whose last one is None."""

    def sending(response: Any) -> None:
        if response is None:
            rpc.quietly(_answered_in_time, rpc)
        send(response)

    return sending


class _Responses:
    """A stream of responses, which the server's threads take one by one."""

    def __init__(self, rpc: Rpc, responses: Iterator[Any]) -> None:
        self._rpc = rpc
        self._responses = responses

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        rpc = self._rpc
        entered = here.set(rpc)
        try:
            response = next(self._responses)
            if response is None:  # ends the stream as well
                rpc.quietly(_answered_in_time, rpc)
            return response
        except StopIteration:
            rpc.quietly(_answered_in_time, rpc)
            raise
        except BaseException as e:
            rpc.quietly(_failed_threaded, rpc, e)
            raise
        finally:
            leave(entered)


# ── aio: in one task for each RPC ──────────────────────────────────────────────────────────────────────────────────
class AioServerInterceptor(_Interceptor, grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """See `aio_server_interceptor`."""

    async def intercept_service(self, continuation: Behaviour, handler_call_details: Any) -> Handler | Any:
        rpc = self._arrived(handler_call_details)
        if rpc is None:
            return await continuation(handler_call_details)
        rpc.quietly(_watch, rpc)
        try:
            handler = await continuation(handler_call_details)
        except BaseException as e:
            rpc.quietly(rpc.refused_by, e)
            raise
        return self._taken(rpc, handler, _asynchronous, _noted)


def _watch(rpc: Rpc) -> None:
    """Have the end of the task that serves it be its end, at the latest."""
    task = asyncio.current_task()

    def done(task: asyncio.Task[Any]) -> None:
        if rpc.token and task.cancelling():
            rpc.quietly(rpc.left)
        rpc.quietly(rpc.over)

    if task is not None:
        task.add_done_callback(done)


def _noted(rpc: Rpc, transform: Behaviour | None, is_last: bool) -> Behaviour | None:
    """A serialiser or deserialiser; what it raises may go through the handler first."""
    if transform is None:
        return None

    def noted(message: Any) -> Any:
        try:
            done = transform(message)
        except Exception as e:
            rpc.broken = e
            raise
        if is_last:
            rpc.quietly(rpc.returned, False)
        return done

    return noted


def _asynchronous(rpc: Rpc, behaviour: Behaviour, streams: bool, serialises: bool) -> Behaviour:
    """By the same marks by which the server tells them apart."""
    if inspect.iscoroutinefunction(behaviour):
        return _coroutine(rpc, behaviour, serialises and not streams)
    if inspect.isasyncgenfunction(behaviour):
        return _async_generator(rpc, behaviour)
    return _in_executor(rpc, behaviour, streams, serialises)


def _coroutine(rpc: Rpc, behaviour: Callable[..., Awaitable[Any]], serialises: bool) -> Behaviour:
    async def handled(request: Any, context: Any) -> Any:
        rpc.quietly(rpc.handled, context)
        entered = here.set(rpc)
        try:
            answer = await behaviour(request, context)
        except BaseException as e:
            rpc.quietly(_failed_in_task, rpc, e)
            raise
        finally:
            leave(entered)
        rpc.quietly(rpc.returned, serialises)
        return answer

    return like(handled, behaviour)  # type: ignore[no-any-return]


def _async_generator(rpc: Rpc, behaviour: Callable[..., AsyncIterable[Any]]) -> Behaviour:
    async def handled(request: Any, context: Any) -> AsyncGenerator[Any, None]:
        rpc.quietly(rpc.handled, context)
        responses = aiter(behaviour(request, context))
        while True:
            entered = here.set(rpc)
            try:
                response = await anext(responses)
            except StopAsyncIteration:
                rpc.quietly(rpc.returned, False)
                return
            except BaseException as e:
                rpc.quietly(_failed_in_task, rpc, e)
                raise
            finally:
                leave(entered)
            yield response

    return like(handled, behaviour)  # type: ignore[no-any-return]


def _failed_in_task(rpc: Rpc, error: BaseException) -> None:
    rpc.failed(error, is_here=not isinstance(error, asyncio.CancelledError))


def _in_executor(rpc: Rpc, behaviour: Behaviour, streams: bool, serialises: bool) -> Behaviour:
    """A sync handler on an aio server, in a thread of its pool."""

    def handled(request: Any, context: Any) -> Any:
        observed = _Observed(context)
        rpc.quietly(rpc.handled, observed)
        entered = here.set(rpc)
        try:
            answer = behaviour(request, observed)
        except BaseException as e:
            rpc.quietly(_failed_in_task, rpc, e)
            raise
        finally:
            leave(entered)
        if streams:
            return _ExecutorResponses(rpc, answer)
        rpc.quietly(rpc.returned, serialises)
        return answer

    return like(handled, behaviour)  # type: ignore[no-any-return]


class _ExecutorResponses(_Responses):
    """As `_Responses`, of a server that does not say whether its client is there."""

    def __next__(self) -> Any:
        rpc = self._rpc
        entered = here.set(rpc)
        try:
            return next(self._responses)
        except StopIteration:
            rpc.quietly(rpc.returned, False)
            raise
        except BaseException as e:
            rpc.quietly(_failed_in_task, rpc, e)
            raise
        finally:
            leave(entered)


class _Observed:
    """The context of such a handler, which does not tell the code that was set: it is noted on its way."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._told: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_code(self, code: Any) -> None:
        self._context.set_code(code)
        self._told = code

    def abort(self, code: Any, *arguments: Any, **named: Any) -> Any:
        self._told = code
        return self._context.abort(code, *arguments, **named)

    def code(self) -> Any:
        return self._told
