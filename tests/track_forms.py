"""Every form in which a call can be tracked, and every way in which it can end, with what it is then."""

from __future__ import annotations

import asyncio
import functools
from contextlib import AsyncExitStack, ExitStack

from drive import advance, cells

from otelslo import SLO, current

CALLS = {"kind": "call"}
SLOS = (
    SLO("availability", match=CALLS, reasons=["nonsense"]),
    SLO("latency", indicator="latency", threshold="200ms", target="95%", match=CALLS, reasons=["nonsense"]),
)


def counted(engine):
    assert engine.in_flight() == 0
    assert engine.faults() == {}
    return cells(engine, "availability"), cells(engine, "latency")


def by_function(track, act):
    track(lambda: act(current()))()


def by_coroutine(track, act):
    @track
    async def called():
        await asyncio.sleep(0)
        act(current())

    asyncio.run(called())


def by_generator(track, act):
    @track
    def called():
        yield 1
        act(current())

    assert list(called()) == [1]


def by_async_generator(track, act):
    @track
    async def called():
        yield 1
        act(current())

    async def consume():
        assert [item async for item in called()] == [1]

    asyncio.run(consume())


class Methods:
    """Methods of each kind are decorated in the two orders that Python allows."""

    def __init__(self, track, act):
        class Ranker:
            run = track(lambda self: act(current()))
            of_class = classmethod(track(lambda cls: act(current())))
            of_nothing = track(staticmethod(lambda: act(current())))
            wrapped = track(classmethod(lambda cls: act(current())))

        self.ranker = Ranker()


def by_method(track, act):
    Methods(track, act).ranker.run()


def by_class_method(track, act):
    Methods(track, act).ranker.of_class()


def by_class_method_inside(track, act):
    Methods(track, act).ranker.wrapped()


def by_static_method(track, act):
    Methods(track, act).ranker.of_nothing()


def by_object(track, act):
    class Ranker:
        async def __call__(self, extra):
            act(current())

    asyncio.run(track(functools.partial(Ranker(), 1))())


def by_with(track, act):
    with track as event:
        act(event)


def by_current_in_with(track, act):
    with track:
        act(current())


def by_async_with(track, act):
    async def called():
        async with track as event:
            await asyncio.sleep(0)
            act(event)

    asyncio.run(called())


def by_exit_stack(track, act):
    with ExitStack() as stack:
        act(stack.enter_context(track))


def by_async_exit_stack(track, act):
    async def called():
        async with AsyncExitStack() as stack:
            act(await stack.enter_async_context(track))

    asyncio.run(called())


def by_open(track, act):
    call = track._engine.track("rerank").open()
    try:
        act(call)
    except BaseException as e:
        call.close(e)
        raise
    call.close()
    call.close()


FORMS = [form for name, form in list(globals().items()) if name.startswith("by_")]


def returns(engine, event):
    pass


def is_slow(engine, event):
    advance(engine, s=1)


def raises(engine, event):
    raise ValueError("no")


def raises_a_group(engine, event):
    raise BaseExceptionGroup("several", [asyncio.CancelledError(), KeyError("no")])


def is_cancelled(engine, event):
    raise asyncio.CancelledError


def is_cancelled_after_a_second(engine, event):
    advance(engine, s=1)
    raise asyncio.CancelledError


def is_cancelled_late(engine, event):
    advance(engine, s=11)
    raise asyncio.CancelledError


def leaves_the_process(engine, event):
    raise SystemExit(3)


def says_bad(engine, event):
    event.bad("nonsense")


def says_good(engine, event):
    event.good()
    raise ValueError("expected")


def says_exclude(engine, event):
    event.exclude("probe")


def sheds(engine, event):
    event.shed()
    raise RuntimeError("overloaded")


ENDINGS = {
    returns: ({"good": 1}, {"good": 1}),
    is_slow: ({"good": 1}, {"bad slow": 1}),
    raises: ({"bad exception": 1}, {"bad exception": 1}),
    raises_a_group: ({"bad exception": 1}, {"bad exception": 1}),
    is_cancelled: ({"excluded client_cancel": 1}, {"excluded client_cancel": 1}),
    is_cancelled_after_a_second: ({"excluded client_cancel": 1}, {"bad abandoned": 1}),
    is_cancelled_late: ({"bad abandoned": 1}, {"bad abandoned": 1}),
    leaves_the_process: ({"bad server_cancel": 1}, {"bad server_cancel": 1}),
    says_bad: ({"bad nonsense": 1}, {"bad nonsense": 1}),
    says_good: ({"good": 1}, {"good": 1}),
    says_exclude: ({"excluded other": 1}, {"excluded other": 1}),
    sheds: ({"bad shed": 1}, {"excluded shed": 1}),
}
