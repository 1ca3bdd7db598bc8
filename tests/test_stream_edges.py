"""Streams at the edges, on a clock turned by hand: generators, blocks, responses, iterators of model clients."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from drive import CHUNK, DISCONNECT, LAST, REQUEST, START, Request, advance, cells, pause, run

import otelslo
from otelslo import SLO, current
from otelslo.asgi import SLOMiddleware

CALLS = (
    SLO("ttft", indicator="ttft", threshold="300ms"),
    SLO("tpot", indicator="tpot", threshold="100ms"),
    SLO("stalls", indicator="inter_token", threshold="250ms"),
    SLO("goodput", indicator="goodput", options={"ttft": "300ms", "tpot": "100ms", "inter_token": "250ms"}),
)
HTTP = tuple(
    SLO(slo.name, indicator=slo.indicator, threshold=slo.threshold, options=slo.options, match={"kind": "http"})
    for slo in CALLS
)
GONE = asyncio.CancelledError


@pytest.fixture
def engine(make_engine):
    return make_engine(*CALLS, SLO("done", match={"kind": "call"}))


def counted(engine):
    """By objective, what the one event was."""
    assert engine.in_flight() == 0
    assert engine.faults() == {}
    found = {slo.name: cells(engine, slo.name) for slo in engine.slos}
    for counts in found.values():
        assert sum(counts.values()) == 1
    return {name: next(iter(counts)) for name, counts in found.items()}


# ── what streams do, and what they are then: a wait in ms, an item, an error ───────────────────────────────────────
GOOD = dict.fromkeys(("ttft", "tpot", "stalls", "goodput"), "good")
ALONE = GOOD | dict.fromkeys(("tpot", "stalls"), "excluded not_evaluable")
BROKEN = dict.fromkeys(GOOD, "bad exception")
SCRIPTS = {
    "in time": ((300, "a", 100, "b", 100, "c"), GOOD),
    "late": ((301, "a", 100, "b"), GOOD | {"ttft": "bad slow_ttft", "goodput": "bad slow_ttft"}),
    "slow": ((1, "a", 101, "b", 101, "c"), GOOD | {"tpot": "bad slow_tpot", "goodput": "bad slow_tpot"}),
    "stalls": ((1, *("a", 20) * 9, 240, "b"), GOOD | {"stalls": "bad stalled", "goodput": "bad stalled"}),
    "single": ((300, "a", 9000), ALONE),
    "empty": ((300,), dict.fromkeys(GOOD, "bad empty")),
    "empty text": ((100, "", 300, "a"), ALONE | {"ttft": "bad slow_ttft", "goodput": "bad slow_ttft"}),
    "breaks": ((1, "a", 1, "b", ValueError("boom")), BROKEN),
    "breaks at once": ((1, ValueError("boom")), BROKEN),
    "cancelled": ((1, "a", 1, GONE()), dict.fromkeys(GOOD, "excluded client_cancel")),
    "cancelled late": (
        (1, "a", 10_001, GONE()),
        dict.fromkeys(GOOD, "bad abandoned") | {"ttft": "excluded client_cancel"},
    ),
    "markers": ((100, "data: [DONE]\n\n", 200, "data: a\n\n"), ALONE),
}
scripts = pytest.mark.parametrize(("script", "expected"), SCRIPTS.values(), ids=SCRIPTS)


def steps(engine, script):
    for step in script:
        if isinstance(step, int):
            advance(engine, ns=step * 1_000_000)
        elif isinstance(step, BaseException):
            raise step
        else:
            yield step


async def asteps(engine, script):
    for step in steps(engine, script):
        yield step


async def drained(stream):
    with suppress(ValueError, GONE):
        async for _ in stream:
            pass


@scripts
@pytest.mark.parametrize("form", ["decorated", "wrapped", "made"])
def test_generators(engine, script, expected, form):
    """Decorated ones, ones that are handed over, and ones that are made when they are asked for."""
    if form == "decorated":
        stream = otelslo.track("chat", engine=engine)(steps)(engine, script)
    elif form == "wrapped":
        stream = otelslo.track_stream("chat", steps(engine, script), engine=engine)
    else:
        stream = otelslo.track_stream("chat", lambda: steps(engine, script), engine=engine)
    with suppress(ValueError, GONE):
        list(stream)
    assert {name: counted(engine)[name] for name in expected} == expected


@scripts
@pytest.mark.parametrize("form", ["decorated", "wrapped", "made", "awaited"])
def test_async_generators(engine, script, expected, form):
    """The same, and what an async client's `create` is: awaited for its stream."""

    async def create():
        return asteps(engine, script)

    if form == "decorated":
        stream = otelslo.track("chat", engine=engine)(asteps)(engine, script)
    elif form == "wrapped":
        stream = otelslo.track_stream("chat", asteps(engine, script), engine=engine)
    elif form == "made":
        stream = otelslo.track_stream("chat", lambda: asteps(engine, script), engine=engine)
    else:
        stream = otelslo.track_stream("chat", create, engine=engine)
    asyncio.run(drained(stream))
    assert {name: counted(engine)[name] for name in expected} == expected


def test_blocks_tell_their_tokens(engine):
    """A block is a stream once it says so; the time of its tokens is when they are told."""
    with otelslo.track("chat", engine=engine) as event:
        for _ in range(3):
            advance(engine, s=0.3)
            event.tokens(4)
    assert counted(engine) == GOOD | {"stalls": "bad stalled", "goodput": "bad stalled", "done": "good"}


def test_async_blocks_and_functions_tell_theirs(make_engine):
    """By the engine's clock from the first call on."""
    engine = make_engine(*CALLS)

    async def block():
        async with otelslo.track("chat", engine=engine) as event:
            advance(engine, s=0.301)
            event.tokens()

    @otelslo.track("chat", engine=engine)
    def answer():
        advance(engine, s=0.301)
        current().tokens()

    answer()
    assert cells(engine, "ttft") == {"bad slow_ttft": 1}
    answer()
    asyncio.run(block())
    assert cells(engine, "ttft") == {"bad slow_ttft": 3}


def test_a_plain_call_is_not_evaluable(engine):
    """It is seen among the excluded, and good to whom it is no stream that counts."""
    otelslo.track("chat", engine=engine)(lambda: None)()
    assert counted(engine) == dict.fromkeys(GOOD, "excluded not_evaluable") | {"done": "good"}


def test_awaitable_generators_are_no_streams(engine):
    """What they yield is for the event loop."""
    import types

    @otelslo.track("chat", engine=engine)
    @types.coroutine
    def called():
        yield

    called().send(None)
    gc.collect()
    assert counted(engine)["ttft"] == "excluded client_cancel"
    run_to_end = called()
    run_to_end.send(None)
    with pytest.raises(StopIteration):
        run_to_end.send(None)
    assert cells(engine, "ttft") == {"excluded client_cancel": 1, "excluded not_evaluable": 1}


def test_an_item_may_hold_several_tokens_or_none(engine):
    """As speculative decoding has it: six tokens in 500 ms, after a heartbeat that is none."""

    @otelslo.track("chat", engine=engine)
    def answer():
        current().tokens(0)
        yield "heartbeat"
        advance(engine, s=0.3)
        for size in (1, 2, 3):
            current().tokens(size)
            yield "text"
            advance(engine, s=0.25)

    list(answer())
    assert counted(engine) == GOOD | {"done": "good"}


def test_no_pace_is_kept_where_nobody_asks(make_engine):
    """No objective of streams: a generator is what it was; its event has no stream."""
    seen = []
    engine = make_engine(SLO("done", match={"kind": "call"}), SLO("other", indicator="ttft", threshold="1s",
        match={"route": "else"}))  # fmt: skip
    assert not engine.track("chat").paced
    assert engine.track("else").paced
    watching = make_engine(SLO("done", match={"kind": "call"}, good=lambda event: seen.append(event.stream) or True))
    list(otelslo.track("chat", engine=watching)(steps)(watching, ("a", 5, "b")))
    assert [(facts.items, facts.last_ns, facts.end_ns) for facts in seen] == [(2, 5_000_000, 5_000_000)]


def test_a_new_objective_asks_from_then_on(make_engine):
    """Reloaded objectives are asked by calls that begin after."""
    engine = make_engine(SLO("done", match={"kind": "call"}))
    answer = otelslo.track("chat", engine=engine)(steps)
    list(answer(engine, ("a",)))
    engine.reload(CALLS[:1], limits=[])
    list(answer(engine, ("a",)))
    assert cells(engine, "ttft") == {"good": 1}


# ── streams of others ──────────────────────────────────────────────────────────────────────────────────────────────
class Source:
    """An iterator with things of its own, as clients' streams have."""

    def __init__(self, *chunks):
        self.left = list(chunks)
        self.closed = 0
        self.response = "response"

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop(0)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed += 1

    def close(self):
        self.closed += 1
        return "closed"


def test_a_wrapped_stream_keeps_what_it_has(engine):
    """Its attributes, its `close`, its `with`; closed before its end its caller has left."""
    source = Source("a", "b")
    stream = otelslo.track_stream("chat", source, engine=engine, version="7")
    assert stream.response == "response"
    stream.note = "set"
    assert (source.note, next(stream), next(iter(stream)), stream.close()) == ("set", "a", "b", "closed")
    assert source.closed == 1
    assert not hasattr(stream, "nothing")
    assert counted(engine)["ttft"] == "excluded client_cancel"
    with otelslo.track_stream("chat", Source("a"), engine=engine) as stream:
        assert list(stream) == ["a"]
    assert stream.closed == 1
    assert cells(engine, "ttft") == {"excluded client_cancel": 1, "good": 1}


@pytest.mark.parametrize("take", [next, lambda stream: next(iter(stream)), iter, lambda stream: stream])
def test_a_stream_that_is_dropped_was_left(engine, take):
    """Collected unfinished, it is no event in flight for ever."""
    take(otelslo.track_stream("chat", Source("a", "b"), engine=engine))
    gc.collect()
    assert counted(engine)["ttft"] == "excluded client_cancel"


def test_a_loop_may_be_left_and_begun_again(engine):
    """The stream goes on until it is dropped or ends."""
    stream = otelslo.track_stream("chat", Source(*"abc"), engine=engine)
    for item in stream:
        assert item == "a"
        break
    assert engine.in_flight() == 1
    assert list(stream) == ["b", "c"]
    assert list(stream) == []
    assert counted(engine)["goodput"] == "good"


def test_what_cannot_be_made_is_bad(engine):
    """The error is the caller's, and the stream's."""
    with pytest.raises(ZeroDivisionError):
        otelslo.track_stream("chat", lambda: 1 // 0, engine=engine)
    assert counted(engine)["ttft"] == "bad exception"


@dataclass
class Thing:
    """A chunk, choice or delta of some client."""

    choices: list | None = None
    delta: object = None
    content: str | None = None
    role: str | None = None


@dataclass
class Choice:
    delta: Thing = field(default_factory=Thing)


def of_objects(**delta):
    return Thing([Choice(Thing(**delta))])


def of_dicts(**delta):
    return {"choices": [{"index": 0, "delta": delta}]}


def of_openai(**delta):
    types = pytest.importorskip("openai.types.chat.chat_completion_chunk", reason="needs openai")
    choice = types.Choice(index=0, delta=types.ChoiceDelta(**delta), finish_reason=None)
    return types.ChatCompletionChunk(
        id="1", object="chat.completion.chunk", created=1, model="m", choices=[choice] if delta else []
    )


@pytest.mark.parametrize("chunk", [of_objects, of_dicts, of_openai])
def test_only_chunks_with_content_are_tokens(engine, chunk):
    """Not the first, which tells a role, nor the last, which tells a usage."""
    parts = (chunk(role="assistant", content=""), 300, chunk(content="Hel"), 50, chunk(content="lo"), 900, chunk())
    assert len(list(otelslo.track_stream("chat", steps(engine, parts), engine=engine))) == 4
    assert counted(engine) == GOOD | {"done": "good"}


def test_a_chunk_that_cannot_be_read_is_a_token(engine):
    """And its error is not felt."""

    class Odd:
        @property
        def choices(self):
            raise RuntimeError("odd")

    assert len(list(otelslo.track_stream("chat", [Odd(), Odd()], engine=engine))) == 2
    assert counted(engine)["goodput"] == "good"


def test_a_failure_of_ours_is_not_felt(engine, monkeypatch):
    """The items go on; the fault is counted."""

    def breaking(*args):
        raise RuntimeError("ours")

    monkeypatch.setattr("otelslo.decorators.is_token", breaking)
    monkeypatch.setattr("otelslo.tracked_stream.is_token", breaking)
    assert list(otelslo.track("chat", engine=engine)(steps)(engine, "ddd")) == ["d", "d", "d"]
    assert list(otelslo.track_stream("chat", iter("ddd"), engine=engine)) == ["d", "d", "d"]
    assert engine.faults()["internal"] >= 2
    assert engine.in_flight() == 0


# ── responses ──────────────────────────────────────────────────────────────────────────────────────────────────────
EVENTS = START | {"headers": [(b"content-type", b"text/event-stream; charset=utf-8")]}


def piece(text, more=True):
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def app_of(engine, script):
    async def app(scope, receive, send):
        for step in steps(engine, script):
            if step == "receive":
                await receive()
            elif step == "pause":
                await pause()
            else:
                await send(step)

    return SLOMiddleware(app, engine=engine)


def served(engine, *script, **how):
    found = run(app_of(engine, script), **how)
    assert found.done
    return {name: counted(engine)[name] for name in GOOD}


ROLE = 'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
END = piece("", more=False)
# There are fewer cells than reasons: those of goodput are taken by its limits.
OTHER = {"goodput": "bad other"}
RAISED = {"goodput": "bad exception"}  # what is of its class counts with it
RESPONSES = {
    "in time": ((EVENTS, 300, piece("data: a\n\n"), 100, piece("data: b\n\n"), 900, END), GOOD),
    "comments are none": (
        (EVENTS, piece(": ping\n\n"), 301, piece("data: a\n\n"), END),
        ALONE | {"ttft": "bad slow_ttft", "goodput": "bad slow_ttft"},
    ),
    "nor is the end's mark": ((EVENTS, 1, piece("data: a\n\n"), 900, piece("data: [DONE]\n\n"), END), ALONE),
    "nor a role": (
        (EVENTS, piece(ROLE), 301, piece("data: a\n\n"), END),
        ALONE | {"ttft": "bad slow_ttft", "goodput": "bad slow_ttft"},
    ),
    "empty": ((EVENTS, 1, END), dict.fromkeys(GOOD, "bad empty")),
    "all at once": ((EVENTS, 300, piece("data: a\n\n", more=False)), ALONE),
    "cut": ((EVENTS, 1, piece("data: a\n\n")), dict.fromkeys(GOOD, "bad cut") | RAISED),
    "breaks": ((EVENTS, 1, piece("data: a\n\n"), ValueError("boom")), BROKEN),
    "server stops": ((EVENTS, 1, piece("data: a\n\n"), GONE()), dict.fromkeys(GOOD, "bad server_cancel") | OTHER),
    "an answer": ((START, 1, LAST), dict.fromkeys(GOOD, "excluded not_evaluable")),
    "a download": ((START, 1, CHUNK, 1, CHUNK, LAST), dict.fromkeys(GOOD, "excluded not_evaluable")),
    "refused": ((START | {"status": 500}, 1, LAST), dict.fromkeys(GOOD, "bad 5xx") | RAISED),
    "refused as a stream": ((EVENTS | {"status": 404}, 1, LAST), dict.fromkeys(GOOD, "excluded client_error")),
}  # fmt: skip


@pytest.mark.parametrize(("script", "expected"), RESPONSES.values(), ids=RESPONSES)
def test_responses(make_engine, script, expected):
    """Server-sent events, whose comments and markers are no tokens; other responses are no streams."""
    assert served(make_engine(*HTTP), *script) == expected


def test_a_client_that_leaves_a_response(make_engine):
    """It is excluded while tokens came, and was let down when they did not."""
    for wait_s, expected in ((10, "excluded client_cancel"), (11, "bad abandoned")):
        engine = make_engine(*HTTP)
        script = (EVENTS, 1, piece("data: a\n\n"), "receive", "receive", wait_s * 1000, GONE())
        found = served(engine, *script, incoming=(REQUEST, DISCONNECT))
        assert found == dict.fromkeys(GOOD, expected) | {"ttft": "excluded client_cancel"}


def test_any_streamed_response_if_asked_for(make_engine):
    """One message is no stream; several are, whatever their type."""
    asked = {"ttft": "300ms", "responses": "streamed"}
    for script, expected in (
        ((START, 300, CHUNK, 50, CHUNK, LAST), "good"),
        ((START, 301, CHUNK, 50, CHUNK, LAST), "bad slow_ttft"),
        ((START, 1, LAST), "excluded not_evaluable"),
        ((START, 301, CHUNK, DISCONNECT, LAST), "bad slow_ttft"),
    ):
        engine = make_engine(*HTTP, SLO("any", indicator="goodput", options=asked, match={"kind": "http"}))
        run(app_of(engine, script))
        assert cells(engine, "any") == {expected: 1}
        assert cells(engine, "goodput") == {"excluded not_evaluable": 1}


def test_an_app_counts_its_tokens_itself(make_engine):
    """In place of the messages, and by the clock of the engine."""
    engine = make_engine(*HTTP)

    async def app(scope, receive, send):
        await send(EVENTS)
        for _ in range(2):
            advance(engine, s=0.2)
            scope["otelslo"].tokens(2)
            await send(piece("data: ab\n\n"))
        await send(END)

    run(SLOMiddleware(app, engine=engine))
    assert {name: counted(engine)[name] for name in GOOD} == GOOD


def test_first_byte_and_streams_do_not_mix_their_clocks(make_engine):
    """With `first_byte` the latency stops at the first message; the stream's times go on from the request's begin."""
    engine = make_engine(*HTTP, SLO("latency", indicator="latency", threshold="300ms"))
    script = (EVENTS, 300, piece("data: a\n\n"), 5000, piece("data: b\n\n"), END)
    run(SLOMiddleware(app_of(engine, script).app, engine=engine, first_byte=True))
    assert cells(engine, "latency") == {"good": 1}
    assert cells(engine, "ttft") == {"good": 1}
    assert cells(engine, "tpot") == {"bad slow_tpot": 1}


def test_requests_that_share_a_middleware_keep_their_own_pace(make_engine):
    """Two at once, one late."""
    engine = make_engine(*HTTP)
    app = app_of(engine, (EVENTS, "pause", piece("data: a\n\n"), END))
    first = Request(app, {"type": "http", "method": "GET", "path": "/a", "headers": []})
    first.step()
    advance(engine, s=0.2)
    second = Request(app, {"type": "http", "method": "GET", "path": "/b", "headers": []})
    second.step()
    advance(engine, s=0.2)
    second.finish()
    first.finish()
    assert cells(engine, "ttft") == {"good": 1, "bad slow_ttft": 1}
