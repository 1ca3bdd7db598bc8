"""One track shared by nested calls, threads, tasks and processes: no call's state is another's."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import ExitStack, suppress
from contextvars import copy_context

import pytest
from conftest import SMALL
from drive import advance, cells
from track_forms import SLOS, counted

import otelslo
from otelslo import Engine, current
from otelslo.calls import ending_by
from otelslo.event import Ending


@pytest.fixture
def engine(make_engine):
    return make_engine(*SLOS)


@pytest.fixture
def track(engine):
    return otelslo.track("rerank", engine=engine)


def test_nested_and_recursive(engine, track):
    @track
    def factorial(n):
        with track as event, track:
            if n == 3:
                event.bad("nonsense")
            return 1 if n == 0 else n * factorial(n - 1)

    assert factorial(4) == 24
    assert counted(engine)[0] == {"good": 14, "bad nonsense": 1}


def test_a_shared_with_keeps_interleaved_calls_apart(engine, track):
    """Not last in, first out: each generator's call has its own latency and its own words."""

    def held(word):
        with track as event:
            if word:
                event.bad(word)
            yield

    first, second = held(None), held("nonsense")
    next(first)
    advance(engine, s=1)
    next(second)
    first.close()
    second.close()
    with suppress(StopIteration):
        next(held(None))
    assert cells(engine, "latency") == {"bad abandoned": 1, "bad nonsense": 1, "excluded client_cancel": 1}


def test_an_exit_stack_kept_for_later(engine, track):
    class Kept:
        def open(self):
            self.stack = ExitStack()
            self.stack.enter_context(track)

        def close(self):
            self.stack.close()

    kept = Kept()
    kept.open()
    kept.close()
    assert counted(engine)[0] == {"good": 1}


def test_threads_share_a_track(engine, track):
    @track
    def work(i):
        current().set(version=i)
        with track as event:
            if i % 2:
                event.bad("nonsense")
            assert current() is event

    def many():
        for i in range(500):
            work(i)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(engine)[0] == {"good": 3000, "bad nonsense": 1000}


def test_two_threads_make_the_same_names(engine, monkeypatch):
    """One is overtaken by the other in between."""
    directory = engine.names._directory
    intern, histogram = directory.intern, directory.histogram

    def overtaken(*arguments):
        monkeypatch.undo()
        engine.names.make(engine.clock.ring_ns())
        return intern(*arguments) if len(arguments) == 1 else histogram(*arguments)

    for part in ("intern", "histogram"):
        monkeypatch.setattr(directory, part, overtaken)
        otelslo.track(part, engine=engine)(lambda: None)()
    assert counted(engine)[0] == {"good": 2}


def test_tasks_share_a_track(engine, track):
    @track
    async def work(i):
        async with track as event:
            await asyncio.sleep(0)
            assert current() is event
            if i % 2:
                event.bad("nonsense")
        await asyncio.sleep(0)
        if i % 5 == 0:
            current().exclude("probe")

    async def all_of_them():
        await asyncio.gather(*(work(i) for i in range(100)))

    asyncio.run(all_of_them())
    assert counted(engine)[0] == {"good": 130, "bad nonsense": 50, "excluded other": 20}


@pytest.mark.parametrize("error", [None, ValueError("x")])
def test_current_is_afterwards_what_it_was(engine, track, error):
    seen = []

    def act():
        seen.append(current())
        if error is not None:
            raise error

    @track
    async def coroutine():
        act()

    @track
    async def items():
        yield
        act()

    async def one_after_another():
        async with otelslo.track("outer", engine=engine) as outer:
            with suppress(ValueError):
                track(act)()
            assert current() is outer
            with suppress(ValueError):
                await coroutine()
            assert current() is outer
            with suppress(ValueError):
                async for _ in items():
                    assert current() is outer
            assert current() is outer
        assert outer not in seen

    asyncio.run(one_after_another())
    assert len(set(map(id, seen))) == 3
    assert counted(engine)[0] == ({"good": 4} if error is None else {"good": 1, "bad exception": 3})


def test_a_coroutine_that_is_closed_in_another_context(engine, track):
    @track
    async def waits():
        await asyncio.sleep(0)

    with otelslo.track("outer", engine=engine) as outer:
        stepped = waits()
        copy_context().run(stepped.send, None)
        stepped.close()
        assert current() is outer
    assert counted(engine)[0] == {"good": 1, "excluded client_cancel": 1}


def test_a_time_out_around_a_call_is_its_callers(engine, track):
    inner = otelslo.track("inner", engine=engine)

    @track
    async def waits():
        await asyncio.Event().wait()

    @inner
    async def waits_no_longer():
        async with asyncio.timeout(0):
            await waits()

    with pytest.raises(TimeoutError):
        asyncio.run(waits_no_longer())
    assert counted(engine)[0] == {"excluded client_cancel": 1, "bad exception": 1}


@pytest.mark.parametrize(
    ("name", "ending"),
    [("Cancelled", Ending.CLIENT_CANCEL), ("Timeout", Ending.CLIENT_CANCEL), ("WorkerStop", Ending.SERVER_CANCEL)],
)
def test_what_other_loops_raise(name, ending):
    raised = type(name, (BaseException,), {})
    assert ending_by(type("Subclass", (raised,), {})()) is ending
    assert ending_by(BaseExceptionGroup("all", [raised(), raised()])) is ending
    assert ending_by(type(name, (Exception,), {})()) is Ending.EXCEPTION


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────
def real_engine(tmp_path):
    return Engine(SLOS, state_dir=tmp_path / "state", runner=False, geometry=SMALL)


def exit_code(work):
    """Of a forked child."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_calls_in_flight_in_a_killed_process_have_crashed(tmp_path):
    engine = real_engine(tmp_path)
    track = otelslo.track("rerank", engine=engine)

    def work():
        generator = track(lambda: (yield))()
        next(generator)
        track(lambda: None)()
        with track:
            track(lambda: os.kill(os.getpid(), signal.SIGKILL))()

    assert exit_code(work) == -signal.SIGKILL
    with engine:
        assert cells(engine, "availability") == cells(engine, "latency") == {"good": 1, "bad crashed": 3}


def test_a_forked_child_counts_its_own_calls(tmp_path):
    with real_engine(tmp_path) as engine:
        work = otelslo.track("rerank", engine=engine)(lambda: None)
        work()

        def in_child():
            work()
            work()
            engine.close()
            os._exit(0)

        assert exit_code(in_child) == 0
        work()
        assert cells(engine, "availability") == {"good": 4}
        assert engine.faults() == {}
