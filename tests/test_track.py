"""`otelslo.track`: whatever is decorated or wrapped, the outcome table decides, and generators keep their protocol."""

from __future__ import annotations

import asyncio
import functools
import gc
from contextlib import suppress

import pytest
from drive import advance, cells, groups
from track_forms import CALLS, ENDINGS, FORMS, SLOS, counted

import otelslo
from otelslo import SLO, current
from otelslo.event import Ending


@pytest.fixture
def engine(make_engine):
    return make_engine(*SLOS)


@pytest.fixture
def track(engine):
    return otelslo.track("rerank", engine=engine)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("act", ENDINGS, ids=lambda f: f.__name__)
def test_every_form_by_the_table(engine, track, form, act):
    with suppress(BaseException):
        form(track, functools.partial(act, engine))
    assert counted(engine) == ENDINGS[act]


def test_attributes_are_groups(make_engine):
    engine = make_engine(SLO("a", match=CALLS, group_by="version", group_values={"version": ["1", "2", "3"]}))

    @otelslo.track("rerank", engine=engine, version=1)
    def rerank(newer):
        if newer:
            current().set(version=2)

    rerank(False)
    rerank(True)
    engine.housekeeping()
    rerank(True)
    with otelslo.track("rerank", engine=engine, version="3"):
        pass
    assert groups(engine, "a") == {"version=1": {"good": 1}, "(overflow)": {"good": 1}, "version=2": {"good": 1}} | {
        "version=3": {"good": 1}
    }


def test_user_code_sees_the_latency_of_each_call(make_engine):
    engine = make_engine(SLO("a", match=CALLS, good=lambda event: event.latency_s < 1))
    timed = otelslo.track("rerank", engine=engine)(lambda s: advance(engine, s=s))
    for s in (0, 2, 0):
        timed(s)
        engine.record(engine.track("rerank"), None, s * 1_000_000_000)
    assert cells(engine, "a") == {"good": 4, "bad not_good": 2}


HEADER_RULE = {"name": "probe", "header": "x-probe"}


@pytest.mark.parametrize(
    ("status", "header", "error", "cell"),
    [
        (200, {}, None, "good"),
        (404, {}, None, "excluded client_error"),
        (500, {}, ValueError(), "bad 5xx"),
        (200, {"x-probe": "1"}, None, "excluded probe"),
    ],
)
def test_calls_of_kind_http(make_engine, status, header, error, cell):
    engine = make_engine(SLO("a", match={"route": "/pkg.Service/*", "method": "POST"}, exclude=[HEADER_RULE]))
    site = engine.call_site("http", "/pkg.Service/Get", "POST", {"version": "7"})
    assert site is engine.call_site("http", "/pkg.Service/Get", "POST", {"version": "7"})
    header = {"traceparent": f"00-{7:032x}-{1:016x}-01"} | header
    site.open().close(error, ending=Ending.COMPLETE, status=status, header=header.get)
    assert cells(engine, "a") == {cell: 1}
    assert engine.in_flight() == 0
    losses = [loss.trace_id for loss in engine.ring.reader.losses(0)[0]]
    assert losses == ([f"{7:032x}"] if error else [])


def test_an_exception_that_has_no_name_yet_is_told_from_none(make_engine):
    class Unheard(Exception):
        pass

    engine = make_engine(SLO("a", match={"kind": "call"}))
    site = engine.call_site("call", "rerank", "")
    site.open().close(Unheard())
    engine.housekeeping()
    site.open().close(Unheard())
    assert [loss.exception for loss in engine.ring.reader.losses(0)[0]] == ["(unnamed)", "Unheard"]


# ── generators ─────────────────────────────────────────────────────────────────────────────────────────────────────
def echo(*told):
    """Yields what is sent, until told to stop; survives a ValueError once."""
    sent = yield ("first", *told)
    while sent != "stop":
        try:
            sent = yield sent
        except ValueError as e:
            sent = yield repr(e)
    return "value"


def playing(generator):
    said = [next(generator), generator.send("a"), generator.throw(ValueError("x"))]
    with pytest.raises(StopIteration) as stopped:
        generator.send("stop")
    return said, stopped.value.value


def test_a_generator_keeps_its_protocol(engine, track):
    assert playing(track(echo)("x")) == playing(echo("x"))
    assert counted(engine)[0] == {"good": 1}


@pytest.mark.parametrize(
    ("thrown", "cell"),
    [(KeyError("k"), "bad exception"), (StopIteration(), "bad exception"), (OSError, "bad exception")],
)
def test_what_is_thrown_in_comes_out(engine, track, thrown, cell):
    outcomes = []
    for generator in (echo(), track(echo)()):
        next(generator)
        with pytest.raises(BaseException) as raised:  # noqa: PT011
            generator.throw(thrown)
        outcomes.append((type(raised.value), str(raised.value), raised.value is thrown))
    assert outcomes[0] == outcomes[1]
    assert counted(engine)[0] == {"bad server_cancel" if isinstance(thrown, SystemExit) else "bad exception": 1}


def stubborn():
    try:
        yield 1
    except GeneratorExit:
        yield 2


def yielding():
    try:
        yield 1
    except GeneratorExit:
        return "value"


@pytest.mark.parametrize("function", [echo, yielding, stubborn], ids=lambda f: f.__name__)
def test_closing_early_is_the_consumers_decision(engine, track, function):
    answers = []
    for generator in (function(), track(function)()):
        next(generator)
        try:
            answers.append(generator.close())
        except RuntimeError as e:
            answers.append(str(e))
        with suppress(StopIteration):
            next(generator)
    assert answers[0] == answers[1]
    assert counted(engine)[0] == {"excluded client_cancel": 1}


def test_a_generator_that_is_collected_unfinished(engine, track):
    generator = track(echo)()
    next(generator)
    assert engine.in_flight() == 1
    del generator
    assert counted(engine)[0] == {"excluded client_cancel": 1}
    track(echo)()  # never stepped: never begun
    assert counted(engine)[0] == {"excluded client_cancel": 1}


def test_current_holds_within_a_step_and_not_between_them(engine, track):
    seen = []

    @track
    def items():
        for _ in range(2):
            current().bad("nonsense")
            seen.append(current())
            yield

    with otelslo.track("consumer", engine=engine) as outer:
        for _ in items():
            assert current() is outer
    assert seen[0] is seen[1]
    assert counted(engine)[0] == {"good": 1, "bad nonsense": 1}


async def async_echo(*told):
    try:
        sent = yield ("first", *told)
        while sent != "stop":
            try:
                sent = yield sent
            except ValueError as e:
                sent = yield repr(e)
    finally:
        await asyncio.sleep(0)


async def async_playing(generator):
    said = [await anext(generator), await generator.asend("a"), await generator.athrow(ValueError("x"))]
    with pytest.raises(StopAsyncIteration):
        await generator.asend("stop")
    return said


def test_an_async_generator_keeps_its_protocol(engine, track):
    assert asyncio.run(async_playing(track(async_echo)("x"))) == asyncio.run(async_playing(async_echo("x")))
    assert counted(engine)[0] == {"good": 1}


@pytest.mark.parametrize("how", ["aclose", "athrow", "break", "cancel", "left to the loop"])
def test_an_async_generator_that_ends_early(engine, track, how, caplog):
    async def consume():
        generator = track(async_echo)()
        async for _ in generator:
            if how == "cancel":
                asyncio.current_task().cancel()
                await asyncio.sleep(0)
            break
        if how == "aclose":
            await generator.aclose()
        elif how == "athrow":
            with pytest.raises(KeyError):
                await generator.athrow(KeyError("k"))
        elif how == "left to the loop":
            return generator
        return None

    with suppress(asyncio.CancelledError):
        kept = asyncio.run(consume())
        del kept
    gc.collect()
    assert counted(engine)[0] == {"bad exception" if how == "athrow" else "excluded client_cancel": 1}
    assert caplog.records == []


async def begun(generator):
    await anext(generator)
    return generator


@pytest.mark.parametrize("loop_is_closed", [False, True])
def test_an_async_generator_without_a_loop_is_closed_when_it_is_collected(engine, track, loop_is_closed):
    @track
    async def items():
        yield 1

    if loop_is_closed:
        loop = asyncio.new_event_loop()
        generator = loop.run_until_complete(begun(items()))
        loop.close()
    else:
        generator = items()
        with pytest.raises(StopIteration):
            generator.asend(None).send(None)
    assert engine.in_flight() == 1
    del generator
    gc.collect()
    assert counted(engine)[0] == {"excluded client_cancel": 1}
