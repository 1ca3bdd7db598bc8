"""Streams of the real `openai` client, whose network is played so that a test decides when each event comes."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
from drive import advance, cells

import otelslo
from otelslo import SLO

openai = pytest.importorskip("openai", reason="openai is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

SLOS = (
    SLO("ttft", indicator="ttft", threshold="300ms"),
    SLO("tpot", indicator="tpot", threshold="100ms"),
    SLO("stalls", indicator="inter_token", threshold="250ms"),
    SLO("goodput", indicator="goodput", options={"ttft": "300ms", "tpot": "100ms", "inter_token": "250ms"}),
)
GOOD = {slo.name: "good" for slo in SLOS}


def event(**delta):
    choices = [{"index": 0, "delta": delta, "finish_reason": None}] if delta else []
    usage = None if delta else {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return f"data: {json.dumps(chunk | {'usage': usage})}\n\n".encode()


ROLE, USAGE, DONE = event(role="assistant", content=""), event(), b"data: [DONE]\n\n"
HEL, LO = event(content="Hel"), event(content="lo")
TOOL = event(tool_calls=[{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}])
SLOW, NONE, STALLED = "bad slow_ttft", "excluded not_evaluable", "bad stalled"
SCRIPTS = {
    "whole": ((ROLE, 300, HEL, 100, LO, 900, USAGE, DONE), GOOD, 4),
    "late": ((ROLE, 301, HEL, 100, LO, DONE), GOOD | {"ttft": SLOW, "goodput": SLOW}, 3),
    "stalls": ((1, HEL, *(20, LO) * 9, 251, LO, DONE), GOOD | {"stalls": STALLED, "goodput": STALLED}, 11),
    "single": ((1, HEL, 900, DONE), GOOD | {"tpot": NONE, "stalls": NONE}, 1),
    "a call of a tool": ((ROLE, 1, TOOL, 20, TOOL, DONE), GOOD, 3),
    "empty": ((ROLE, 1, USAGE, DONE), dict.fromkeys(GOOD, "bad empty"), 2),
    "breaks": ((ROLE, 1, HEL, httpx.ReadError("reset")), dict.fromkeys(GOOD, "bad exception"), 2),
}  # fmt: skip


@pytest.fixture
def engine(make_engine):
    return make_engine(*SLOS)


def steps(engine, script):
    for step in script:
        if isinstance(step, int):
            advance(engine, ns=step * 1_000_000)
        elif isinstance(step, Exception):
            raise step
        else:
            yield step


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, engine, script):
        self.steps = steps(engine, script)

    def __iter__(self):
        return self.steps

    async def __aiter__(self):
        for step in self.steps:
            yield step


def transport(engine, script, status=200):
    headers = {"content-type": "text/event-stream"}
    return httpx.MockTransport(lambda request: httpx.Response(status, headers=headers, stream=Body(engine, script)))


ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
CLIENT = {"api_key": "none", "base_url": "http://model.test/v1", "max_retries": 0}


def client(engine, script, **how):
    return openai.OpenAI(http_client=httpx.Client(transport=transport(engine, script, **how)), **CLIENT)


def async_client(engine, script, **how):
    return openai.AsyncOpenAI(http_client=httpx.AsyncClient(transport=transport(engine, script, **how)), **CLIENT)


def counted(engine):
    assert engine.in_flight() == 0
    assert engine.faults() == {}
    found = {slo.name: cells(engine, slo.name) for slo in SLOS}
    assert all(sum(counts.values()) == 1 for counts in found.values())
    return {name: next(iter(counts)) for name, counts in found.items()}


@pytest.mark.parametrize(("script", "expected", "chunks"), SCRIPTS.values(), ids=SCRIPTS)
def test_streams_of_the_client(engine, script, expected, chunks):
    made = client(engine, script)
    got = []
    with suppress(httpx.ReadError, openai.APIConnectionError):
        for chunk in otelslo.track_stream("chat", lambda: made.chat.completions.create(**ASKED), engine=engine):
            got.append(chunk)
    assert [type(chunk).__name__ for chunk in got] == ["ChatCompletionChunk"] * chunks
    assert counted(engine) == expected


@pytest.mark.parametrize(("script", "expected", "chunks"), SCRIPTS.values(), ids=SCRIPTS)
def test_streams_of_the_async_client(engine, script, expected, chunks):
    async def consume():
        made, number = async_client(engine, script), 0
        with suppress(httpx.ReadError, openai.APIConnectionError):
            async for _ in otelslo.track_stream("chat", lambda: made.chat.completions.create(**ASKED), engine=engine):
                number += 1
        return number

    assert asyncio.run(consume()) == chunks
    assert counted(engine) == expected


def test_its_user_may_leave(engine):
    """By `with`, by `close`; the response is closed as without us."""
    made = client(engine, (ROLE, 1, HEL, 20, LO, DONE))
    with otelslo.track_stream("chat", lambda: made.chat.completions.create(**ASKED), engine=engine) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    assert stream.response.is_closed
    assert counted(engine) == dict.fromkeys(GOOD, "excluded client_cancel")


def test_a_refusal_is_no_stream(engine):
    """What the client raises is the call's failure."""
    made = client(engine, (b"{}",), status=500)
    with pytest.raises(openai.InternalServerError):
        otelslo.track_stream("chat", lambda: made.chat.completions.create(**ASKED), engine=engine)
    assert counted(engine) == dict.fromkeys(GOOD, "bad exception")


def test_its_errors_are_told_apart(make_engine):
    engine = make_engine(SLO("model", indicator="inference"))
    for error in (httpx.ReadTimeout("slow"), httpx.ConnectError("gone")):

        def fail(request, error=error):
            raise error

        made = openai.OpenAI(http_client=httpx.Client(transport=httpx.MockTransport(fail)), **CLIENT)
        with pytest.raises(openai.APIConnectionError), otelslo.track("chat", engine=engine):
            made.chat.completions.create(model="m", messages=[])
    assert cells(engine, "model") == {"bad timeout": 1, "bad infrastructure": 1}


def test_completions_of_the_older_kind(engine):
    def part(text):
        choices = [{"index": 0, "text": text, "finish_reason": None, "logprobs": None}]
        chunk = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": choices}
        return f"data: {json.dumps(chunk)}\n\n".encode()

    made = client(engine, (part(""), 300, part("a"), 100, part("b"), 900, DONE))
    asked = {"model": "m", "prompt": "hi", "stream": True}
    list(otelslo.track_stream("chat", lambda: made.completions.create(**asked), engine=engine))
    assert counted(engine) == GOOD
