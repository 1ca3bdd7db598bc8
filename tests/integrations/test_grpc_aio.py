"""gRPC's aio server over real sockets, with handlers of every form: bare and wrapped they look the same to a client."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import pytest
from drive import cells, names
from live.servers import until

import otelslo
from otelslo import SLO

grpc = pytest.importorskip("grpc", reason="needs grpcio")

from otelslo.integrations import grpc as integration  # noqa: E402
from otelslo.integrations import grpc_rpc  # noqa: E402

from .test_grpc import CODES, EXPECTED, KINDS, Generic, Service, ask, begin  # noqa: E402


class Coroutines:
    """As `Service`, by coroutines and async generators."""

    def __init__(self) -> None:
        self.waiting = threading.Event()

    async def act(self, request: bytes, context: Any) -> bytes:
        word, _, rest = request.decode().partition(" ")
        context.set_trailing_metadata((("word", word),))
        if word == "abort":
            await context.abort(grpc.StatusCode[rest], "aborted")
        elif word in ("set", "set-raise"):
            context.set_code(grpc.StatusCode[rest])
            context.set_details("set")
        if word in ("raise", "set-raise"):
            raise LookupError("the app's own fault")
        if word == "wait":
            self.waiting.set()
            await asyncio.Event().wait()
        if word == "say":
            otelslo.current().bad(rest)
        return None if word == "none" else b"<" + request + b">"

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        return await self.act(request, context)

    async def unary_stream(self, request: bytes, context: Any) -> Any:
        yield b"first"
        yield await self.act(request, context)

    async def stream_unary(self, requests: Any, context: Any) -> bytes:
        return await self.act([request async for request in requests][-1], context)

    async def stream_stream(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            yield await self.act(request, context)


class Writers(Coroutines):
    """Streams by the other API: coroutines that read and write."""

    async def unary_stream(self, request: bytes, context: Any) -> None:
        await context.write(b"first")
        await context.write(await self.act(request, context))

    async def stream_stream(self, requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(await self.act(request, context))


FORMS = [Coroutines, Writers, Service]
# A sync handler's thread that reads from or writes to a client that has gone waits for good, bare too.
LEFT = [(form, kind) for form in FORMS for kind in KINDS if form is not Service or kind == "unary_unary"]


@contextlib.contextmanager
def serving(service: Any, *interceptors: Any, **options: Any) -> Any:
    """A server in an event loop of its own, in a thread."""
    started: futures.Future[Any] = futures.Future()
    ended = asyncio.Event()
    pool = futures.ThreadPoolExecutor(4)

    async def run() -> None:
        server = grpc.aio.server(pool, [Generic(service, True)], interceptors=interceptors, **options)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        started.set_result((server, port, asyncio.get_running_loop()))
        await ended.wait()
        await server.stop(None)

    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    server, port, loop = started.result(30)

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has been stopped before
            loop.call_soon_threadsafe(ended.set)
        thread.join()

    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield SimpleNamespace(channel=channel, server=server, stop=stop)
    finally:
        stop()
        pool.shutdown()


@pytest.fixture
def engine(make_engine: Any) -> Any:
    return make_engine(SLO("a", group_by="route"))


@pytest.fixture
def wrapped(engine: Any) -> Any:
    return integration.aio_server_interceptor(engine)


def counted(engine: Any) -> dict[str, int]:
    until(lambda: engine.in_flight() == 0, "all RPCs have ended")
    assert not engine.faults(), engine.faults()
    return cells(engine, "a")


@pytest.mark.parametrize("form", FORMS)
def test_every_code_by_every_way(engine, wrapped, form):
    asked = [(kind, f"{way} {code.name}".encode()) for kind in KINDS for code in CODES for way in ("abort", "set")]
    asked += [("unary_unary", f"set-raise {code.name}".encode()) for code in CODES]
    asked += [(kind, word) for kind in KINDS for word in (b"ok", b"raise", b"say nonsense")]
    if form is Service:  # a sync generator that aborts: a bare server's answer is one of several
        asked = [(kind, request) for kind, request in asked if kind.endswith("unary") or b"abort" not in request]
    with serving(form()) as bare, serving(form(), wrapped) as ours:
        for kind, request in asked:
            assert ask(ours.channel, kind, request) == ask(bare.channel, kind, request), (kind, request)
    expected = Counter(EXPECTED[request.decode().split()[-1]] for _, request in asked if request.split()[-1].isupper())
    assert counted(engine) == expected | {"good": 4, "bad exception": 4, "bad other": 4}


@pytest.mark.parametrize("form", [Coroutines, Writers])
@pytest.mark.parametrize("kind", KINDS)
def test_messages_that_cannot_be_read_or_written(engine, wrapped, form, kind):
    with serving(form()) as bare, serving(form(), wrapped) as ours:
        for request in (b"\xff", b"none"):
            assert ask(ours.channel, kind, request) == ask(bare.channel, kind, request)
    assert sum(counted(engine).values()) == 2
    assert all(cell in ("bad 5xx", "bad exception") for cell in counted(engine))


@pytest.mark.parametrize(("form", "kind"), LEFT)
def test_the_client_cancels(engine, wrapped, form, kind):
    service = form()
    with serving(service, wrapped) as ours:
        call = begin(ours.channel, kind, b"hold" if form is Service else b"wait")
        assert service.waiting.wait(30)
        call.cancel()
        assert counted(engine) == {"excluded client_cancel": 1}
        if form is Service:
            service.go_on.set()


@pytest.mark.parametrize(("form", "kind"), LEFT)
def test_the_deadline_passes(engine, wrapped, form, kind):
    service = form()
    with serving(service, wrapped) as ours:
        call = begin(ours.channel, kind, b"hold" if form is Service else b"wait", timeout=0.3)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert counted(engine) == {"bad 5xx": 1}
        if form is Service:
            service.go_on.set()


def test_the_server_stops(engine, wrapped):
    service = Coroutines()
    with serving(service, wrapped) as ours:
        call = begin(ours.channel, "unary_unary", b"wait")
        assert service.waiting.wait(30)
        wrapped.stopping()
        ours.stop()
        assert call.code() is not grpc.StatusCode.OK
    assert counted(engine) == {"bad server_cancel": 1}


def test_one_too_many(engine, wrapped):
    service = Coroutines()
    with serving(service, wrapped, maximum_concurrent_rpcs=1) as ours:
        first = begin(ours.channel, "unary_unary", b"wait")
        assert service.waiting.wait(30)
        assert ask(ours.channel, "unary_unary", b"ok")[1] is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()
        assert counted(engine) == {"bad shed": 1, "excluded client_cancel": 1}


def test_what_nobody_serves_is_no_route(engine, wrapped):
    with serving(Coroutines(), wrapped) as ours:
        for number in range(20):
            with pytest.raises(grpc.RpcError) as caught:
                ours.channel.unary_unary(f"/made.Up/Method{number}")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert counted(engine) == {"excluded client_error": 20}
    assert not any("made.Up" in name for name in names(engine))


def test_current_holds_in_each_step_and_not_between(engine, wrapped):
    """Two streams at once on one loop; what one says is not heard of the other."""
    seen = []

    class Two(Coroutines):
        async def stream_stream(self, requests: Any, context: Any) -> Any:
            async for request in requests:
                seen.append(otelslo.current())
                if request == b"bad":
                    otelslo.current().bad("nonsense")
                yield request

    with serving(Two(), wrapped) as ours:
        calls = [begin(ours.channel, "stream_stream", *[word] * 20) for word in (b"bad", b"good")]
        for call in calls:
            assert len(list(call)) == 20
    assert counted(engine) == {"good": 1, "bad other": 1}
    assert len({id(call) for call in seen}) == 2


@pytest.mark.parametrize("broken", ["call_site", "named", "handled", "returned", "answered", "failed", "_end", "over"])
def test_nothing_of_ours_hurts_an_rpc(engine, wrapped, monkeypatch, broken):
    def fail(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("our own fault")

    owners = {"call_site": engine, "named": grpc_rpc.Methods}
    monkeypatch.setattr(owners.get(broken, grpc_rpc.Rpc), broken, fail)
    asked = [(kind, word) for kind in KINDS for word in (b"ok", b"raise", b"abort NOT_FOUND", b"\xff")]
    with serving(Coroutines()) as bare, serving(Coroutines(), wrapped) as ours:
        for kind, request in asked:
            assert ask(ours.channel, kind, request) == ask(bare.channel, kind, request), (kind, request)
    assert engine.faults()["internal"] > 0
