"""gRPC over real sockets: every case is played bare and wrapped, must look the same to its client, and be counted."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import pytest
from drive import cells, groups, names
from live.servers import until

import otelslo
from otelslo import SLO
from otelslo.words import Words

grpc = pytest.importorskip("grpc", reason="needs grpcio")
grpc_rpc = pytest.importorskip("otelslo.integrations.grpc_rpc")
integration = pytest.importorskip("otelslo.integrations.grpc")

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
EXPECTED = {
    "INVALID_ARGUMENT": "excluded client_error", "FAILED_PRECONDITION": "excluded client_error",
    "OUT_OF_RANGE": "excluded client_error", "UNAUTHENTICATED": "excluded unauthorised",
    "PERMISSION_DENIED": "excluded unauthorised", "NOT_FOUND": "excluded client_error",
    "ALREADY_EXISTS": "excluded client_error", "ABORTED": "excluded client_error",
    "RESOURCE_EXHAUSTED": "excluded client_error", "CANCELLED": "excluded client_cancel",
    "UNKNOWN": "bad 5xx", "INTERNAL": "bad 5xx", "DATA_LOSS": "bad 5xx", "UNIMPLEMENTED": "bad 5xx",
    "UNAVAILABLE": "bad 5xx", "DEADLINE_EXCEEDED": "bad 5xx",
}  # fmt: skip


class Service:
    """Does what its request says: "ok", "abort NOT_FOUND", "set", "raise", "wait" until nobody is there, "say"."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.go_on = threading.Event()

    def act(self, request: bytes, context: Any) -> bytes:
        word, _, rest = request.decode().partition(" ")
        context.set_trailing_metadata((("word", word),))
        if word == "abort":
            context.abort(grpc.StatusCode[rest], "aborted")
        elif word in ("set", "set-raise"):
            context.set_code(grpc.StatusCode[rest])
            context.set_details("set")
        if word in ("raise", "set-raise"):
            raise LookupError("the app's own fault")
        if word == "wait":
            context.add_callback(self.go_on.set)
            self.waiting.set()
            assert self.go_on.wait(30)
        if word == "hold":
            self.waiting.set()
            assert self.go_on.wait(30)
        if word == "say":
            otelslo.current().bad(rest)
        if word == "none":
            return None
        return b"<" + request + b">"

    def unary_unary(self, request: bytes, context: Any) -> bytes:
        return self.act(request, context)

    def unary_stream(self, request: bytes, context: Any) -> Any:
        yield b"first"
        yield self.act(request, context)

    def stream_unary(self, requests: Any, context: Any) -> bytes:
        return self.act(list(requests)[-1], context)

    def stream_stream(self, requests: Any, context: Any) -> Any:
        for request in requests:
            yield self.act(request, context)


KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
# After one in a stream for a unary answer, a bare server (grpcio 1.85) never ends its stop.
UNREADABLE = {kind: () if kind == "stream_unary" else (b"\xff",) for kind in KINDS}


def text(message: bytes) -> bytes:
    """A (de)serialiser that does not take everything."""
    if message == b"\xff":
        raise ValueError("no message")
    return bytes(message)


class Generic(grpc.GenericRpcHandler):
    def __init__(self, service: Any, serialised: bool) -> None:
        transforms = (text, text) if serialised else (None, None)
        self.handlers = {
            f"/test.Service/{kind}": getattr(grpc, f"{kind}_rpc_method_handler")(getattr(service, kind), *transforms)
            for kind in KINDS
        }

    def service(self, details: Any) -> Any:
        return self.handlers.get(details.method)


@contextlib.contextmanager
def serving(service: Any, *interceptors: Any, threads: int = 4, serialised: bool = True, **options: Any) -> Any:
    pool = futures.ThreadPoolExecutor(threads)
    server = grpc.server(pool, [Generic(service, serialised)], interceptors=interceptors, **options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield SimpleNamespace(server=server, channel=channel)
    finally:
        server.stop(None).wait()
        pool.shutdown()


def begin(channel: Any, kind: str, *requests: bytes, **more: Any) -> Any:
    """A call under way; of a stream of responses, nothing is taken yet."""
    stub = getattr(channel, kind)(f"/test.Service/{kind}")
    argument = iter(requests) if kind.startswith("stream") else requests[0]
    return stub(argument, **more) if kind.endswith("stream") else stub.future(argument, **more)


def ask(channel: Any, kind: str, request: bytes, **more: Any) -> tuple[Any, ...]:
    """All that a client sees of an RPC."""
    call = begin(channel, kind, *([b"ok"] if kind.startswith("stream") else []), request, **{"timeout": 30, **more})
    got = []
    with contextlib.suppress(grpc.RpcError):
        if kind.endswith("stream"):
            for response in call:
                got.append(response)
        else:
            got.append(call.result())
    trailing = sorted((key, value) for key, value in call.trailing_metadata())
    return tuple(got), call.code(), call.details(), trailing


@pytest.fixture
def engine(make_engine: Any) -> Any:
    return make_engine(SLO("a", group_by="route"), SLO("call", match={"kind": "call"}))


@pytest.fixture
def wrapped(engine: Any) -> Any:
    return integration.server_interceptor(engine)


def counted(engine: Any) -> dict[str, int]:
    until(lambda: engine.in_flight() == 0, "all RPCs have ended")
    assert not engine.faults(), engine.faults()
    return cells(engine, "a")


def test_every_code_by_every_way(engine, wrapped):
    asked = [(kind, f"{way} {code.name}".encode()) for kind in KINDS for code in CODES for way in ("abort", "set")]
    asked += [("unary_unary", f"set-raise {code.name}".encode()) for code in CODES]
    asked += [(kind, word) for kind in KINDS for word in (b"ok", b"raise")]
    with serving(Service()) as bare, serving(Service(), wrapped) as ours:
        for kind, request in asked:
            assert ask(ours.channel, kind, request) == ask(bare.channel, kind, request), (kind, request)
    expected = Counter(EXPECTED[request.decode().split()[-1]] for _, request in asked if b" " in request)
    assert counted(engine) == expected | {"good": 4, "bad exception": 4}
    assert set(groups(engine, "a")) >= {f"route=/test.Service/{kind}" for kind in KINDS}


def test_what_nobody_serves_is_no_route(engine, wrapped):
    with serving(Service(), wrapped) as ours:
        for number in range(50):
            with pytest.raises(grpc.RpcError) as caught:
                ours.channel.unary_unary(f"/made.Up/Method{number}")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert counted(engine) == {"excluded client_error": 50}
    assert not any("made.Up" in name for name in names(engine))


def test_an_interceptor_that_refuses_everything_makes_no_routes(engine, wrapped):
    class Refusing(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            if ("token", "1") in details.invocation_metadata:
                return continuation(details)
            no = grpc.StatusCode.UNAUTHENTICATED
            return grpc.unary_unary_rpc_method_handler(lambda request, context: context.abort(no, "who?"))

    with serving(Service(), wrapped, Refusing()) as ours:
        for number in range(20):
            with pytest.raises(grpc.RpcError):
                ours.channel.unary_unary(f"/made.Up/Method{number}")(b"")
        for kind in KINDS:
            ask(ours.channel, kind, b"ok", metadata=(("token", "1"),))
    assert counted(engine) == {"excluded unauthorised": 20, "good": 4}
    assert not any("made.Up" in name for name in names(engine))


def test_names_are_bounded(engine, wrapped, monkeypatch):
    """Where a generic handler takes any name, as a proxy does."""
    monkeypatch.setattr(grpc_rpc, "_MOST_METHODS", 5)
    anything = grpc.method_handlers_generic_handler("x", {})
    anything.service = lambda details: grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    with serving(Service(), wrapped) as ours:
        ours.server.add_generic_rpc_handlers([anything])
        for number in range(20):
            ours.channel.unary_unary(f"/made.Up/Method{number}")(b"")
    assert counted(engine) == {"good": 20}
    assert len([name for name in groups(engine, "a") if name and "made.Up" in name]) == 5


def test_an_interceptor_that_raises(engine, wrapped):
    class Raising(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            raise LookupError("its own fault")

    with serving(Service(), Raising()) as bare, serving(Service(), wrapped, Raising()) as ours:
        assert ask(ours.channel, "unary_unary", b"ok") == ask(bare.channel, "unary_unary", b"ok")
    assert counted(engine) == {"bad exception": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_messages_that_cannot_be_read_or_written(engine, wrapped, kind):
    with serving(Service()) as bare, serving(Service(), wrapped) as ours:
        for request in UNREADABLE[kind] + (b"none",):
            assert ask(ours.channel, kind, request) == ask(bare.channel, kind, request)
    # None ends a stream of responses as it should.
    bad = len(UNREADABLE[kind])
    assert counted(engine) == ({"bad 5xx": bad + 1} if kind.endswith("unary") else {"bad 5xx": bad, "good": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_the_client_cancels(engine, wrapped, kind):
    service = Service()
    with serving(service, wrapped) as ours:
        call = begin(ours.channel, kind, b"wait")
        assert service.waiting.wait(30)
        call.cancel()
        assert counted(engine) == {"excluded client_cancel": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_the_deadline_passes(engine, wrapped, kind):
    service = Service()
    with serving(service, wrapped) as ours:
        call = begin(ours.channel, kind, b"wait", timeout=0.3)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert counted(engine) == {"bad 5xx": 1}
        assert service.waiting.is_set()


def test_the_server_stops(engine, wrapped):
    service = Service()
    with serving(service, wrapped) as ours:
        call = begin(ours.channel, "unary_stream", b"wait")
        assert service.waiting.wait(30)
        wrapped.stopping()
        ours.server.stop(None).wait()
        with pytest.raises(grpc.RpcError):
            list(call)
    assert counted(engine) == {"bad server_cancel": 1}


def test_a_handler_is_not_called(engine, wrapped):
    """A client that leaves the queue, and one too many."""
    service = Service()
    with serving(service, wrapped, threads=1, maximum_concurrent_rpcs=2) as ours:
        first = begin(ours.channel, "unary_unary", b"hold")
        assert service.waiting.wait(30)
        second = begin(ours.channel, "unary_unary", b"ok")
        until(lambda: engine.in_flight() == 2, "the second waits for a thread")
        assert ask(ours.channel, "unary_unary", b"ok")[1] is grpc.StatusCode.RESOURCE_EXHAUSTED
        second.cancel()
        service.go_on.set()
        assert first.result() == b"<hold>"
        assert counted(engine) == {"bad shed": 1, "excluded client_cancel": 1, "good": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("serialised", [True, False])
def test_handlers_speak_to_their_call(engine, wrapped, kind, serialised):
    with serving(Service(), wrapped, serialised=serialised) as ours:
        assert ask(ours.channel, kind, b"say nonsense")[1] is grpc.StatusCode.OK
    assert counted(engine) == {"bad other": 1}
    assert type(otelslo.current()) is Words


def test_a_non_blocking_handler(engine, wrapped):
    """gRPC's experimental one, which sends by a callback from wherever it likes."""

    def handler(request: bytes, context: Any, send: Any) -> None:
        def later() -> None:
            send(b"1")
            send(b"2")
            send(None)

        threading.Thread(target=later).start()

    handler.experimental_non_blocking = True
    service = Service()
    service.unary_stream = handler
    with serving(service, wrapped) as ours:
        assert ask(ours.channel, "unary_stream", b"")[:2] == ((b"1", b"2"), grpc.StatusCode.OK)
        assert counted(engine) == {"good": 1}


@pytest.mark.parametrize(
    "broken", ["arrived", "named", "handled", "returned", "answered", "failed", "not_served", "_end", "left", "over"]
)
def test_nothing_of_ours_hurts_an_rpc(engine, wrapped, monkeypatch, broken):
    def fail(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("our own fault")

    owner = grpc_rpc.Methods if broken in ("arrived", "named") else grpc_rpc.Rpc
    if broken == "arrived":
        monkeypatch.setattr(engine, "call_site", fail)
    else:
        monkeypatch.setattr(owner, broken, fail)
    asked = [(kind, word) for kind in KINDS for word in (b"ok", b"raise", b"abort NOT_FOUND", *UNREADABLE[kind])]
    with serving(Service()) as bare, serving(Service(), wrapped) as ours:
        for kind, request in asked:
            assert ask(ours.channel, kind, request) == ask(bare.channel, kind, request), (kind, request)
        with pytest.raises(grpc.RpcError):
            ours.channel.unary_unary("/made.Up/Method")(b"")


def test_switched_off(monkeypatch):
    monkeypatch.setattr(otelslo.default, "running", lambda given: None)
    with serving(Service(), integration.server_interceptor()) as ours:
        assert ask(ours.channel, "unary_unary", b"ok")[0] == (b"<ok>",)
