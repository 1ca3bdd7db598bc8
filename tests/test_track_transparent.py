"""`otelslo.track` is not to be noticed: what is decorated stays what it is, whatever fails in us; and being off."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
import types
import weakref

import pytest
from drive import cells
from track_forms import FORMS, SLOS, counted

import otelslo
from otelslo import DefinitionError, Engine, calls, current, decorators, default
from otelslo.calls import Track
from otelslo.switch import disabled


@pytest.fixture
def engine(make_engine):
    return make_engine(*SLOS)


@pytest.fixture
def track(engine):
    return otelslo.track("rerank", engine=engine)


# ── it stays what it is ────────────────────────────────────────────────────────────────────────────────────────────
def plain(a: int, *, b: str = "x") -> str:
    """Doc."""
    return b * a


async def coroutine(a: int) -> int:
    return a


def generator(a: int):
    yield a


async def async_generator(a: int):
    yield a


@types.coroutine
def awaitable_generator(a):
    return (yield a)


KINDS = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


@pytest.mark.parametrize(
    "function",
    [plain, coroutine, generator, async_generator, awaitable_generator, functools.partial(coroutine, 1)],
    ids=["plain", "coroutine", "generator", "async generator", "awaitable generator", "partial"],
)
def test_its_kind_name_and_signature(track, function):
    tracked = track(function)
    assert [kind(tracked) for kind in KINDS] == [kind(function) for kind in KINDS]
    assert inspect.signature(tracked) == inspect.signature(function)
    assert tracked.__wrapped__ is function
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(tracked, name, None) == getattr(function, name, getattr(tracked, name, None))


def test_marks_of_coroutine_functions(engine, track):
    def marked(a):
        return coroutine(a)

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(marked)
    else:
        marked._is_coroutine = asyncio.coroutines._is_coroutine

    assert asyncio.run(track(marked)(5)) == 5
    assert counted(engine)[0] == {"good": 1}


def test_an_awaitable_generator_is_awaited(engine, track):
    async def called():
        return await track(awaitable_generator)(7)

    stepped = called()
    assert stepped.send(None) == 7
    assert engine.in_flight() == 1
    with pytest.raises(StopIteration) as stopped:
        stepped.send("answer")
    assert stopped.value.value == "answer"
    assert counted(engine)[0] == {"good": 1}


class OwnError(Exception):
    pass


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_exceptions_are_the_same(track, form):
    """The traceback is longer by our own frames; cause and context are as they were."""
    error = OwnError("x")

    def act(event):
        raise error

    with pytest.raises(OwnError) as raised:
        form(track, act)
    assert raised.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "act"


def raised_by(form, track):
    """A weak reference to what has been raised; asyncio's own cycles are not looked at."""

    def act(event):
        raise OwnError("x")

    try:
        form(track, act)
    except OwnError as e:
        return weakref.ref(e)


@pytest.mark.parametrize(
    "form", [form for form in FORMS if "asyncio" not in form.__code__.co_names], ids=lambda f: f.__name__
)
def test_exceptions_are_in_no_cycle(track, form):
    gc.collect()
    gc.disable()
    try:
        assert raised_by(form, track)() is None
    finally:
        gc.enable()


def test_exceptions_thrown_into_a_generator_are_in_no_cycle(track):
    def thrown():
        stepped = track(generator)(1)
        next(stepped)
        try:
            stepped.throw(OwnError("x"))
        except OwnError as e:
            return weakref.ref(e)

    gc.collect()
    gc.disable()
    try:
        assert thrown()() is None
    finally:
        gc.enable()


def test_what_is_returned_is_the_same(track):
    value = object()
    assert track(lambda *args, **kwargs: (args, kwargs, value))(1, b=2) == ((1,), {"b": 2}, value)
    assert asyncio.run(track(coroutine)(value)) is value


@pytest.mark.parametrize(
    "what", [int, property(plain), functools.cached_property(plain), 7], ids=lambda x: type(x).__name__
)
def test_what_is_no_function_is_refused(track, what):
    with pytest.raises(DefinitionError, match=r"otelslo\.track\('rerank'\): .* is no function\. Decorate"):
        track(what)


def test_a_name_is_needed():
    with pytest.raises(DefinitionError, match=r"is no name\. Write @otelslo\.track\(\"recommender\"\)"):
        otelslo.track(plain)


# ── whatever fails in us ───────────────────────────────────────────────────────────────────────────────────────────
class Broken(Exception):
    pass


def breaking(*args, **kwargs):
    raise Broken


PARTS = {
    "running": (default, "running"),
    "resolve": (decorators.Tracked, "resolve"),
    "track": (Engine, "track"),
    "open": (Track, "open"),
    "begin_again": (Track, "begin_again"),
    "end": (Track, "end"),
    "plan": (Track, "_plan"),
    "ending_by": (calls, "ending_by"),
    "plan_for": (Engine, "plan_for"),
    "fault": (Engine, "fault"),
    "call": (decorators, "_statement"),
}


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("part", [*PARTS, "kernels"])
def test_a_failure_of_ours_is_not_felt(engine, track, form, part, monkeypatch):
    if form.__name__ == "by_open" and part in ("track", "open", "plan_for"):
        return  # by hand, on purpose: these say so
    done = []
    if part == "kernels":
        site = engine.track("rerank")
        site.place = (breaking, breaking, *site.place[2:])
    else:
        monkeypatch.setattr(*PARTS[part], breaking)

    def failing(event):
        event.set(version="1")
        raise error

    form(track, done.append)
    assert len(done) == 1
    error = ValueError("x")
    with pytest.raises(ValueError, match="x") as raised:
        form(track, failing)
    assert raised.value is error


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_a_failure_of_ours_is_counted(engine, track, form):
    site = engine.track("rerank")
    site.place = (breaking, breaking, *site.place[2:])
    form(track, lambda event: None)
    assert engine.faults() == {"internal": 1}


def test_a_call_that_cannot_be_judged_ends_all_the_same(engine, track, monkeypatch):
    work = track(lambda: current().bad("nonsense"))
    work()
    monkeypatch.setattr(Engine, "plan_for", breaking)
    work()
    assert engine.in_flight() == 0
    assert engine.faults() == {"internal": 1}


def test_user_code_of_an_objective_that_fails_is_its_own_fault(make_engine):
    engine = make_engine(otelslo.SLO("a", match={"kind": "call"}, good=breaking))
    otelslo.track("rerank", engine=engine)(plain)(1)
    assert cells(engine, "a") == {"good": 1}
    assert engine.faults() == {"user_code": 1}


# ── off, misconfigured, and the process's own engine ───────────────────────────────────────────────────────────────
@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """As in a process that has tracked nothing yet; the default engine is closed at the end."""
    for name in ("_engine", "_switched_off", "_is_wrong"):
        monkeypatch.setattr(default, name, [])
    monkeypatch.setattr(default, "_cannot_start", weakref.WeakSet())
    monkeypatch.setenv("OTELSLO_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "slo.yaml"
    path.write_text("slos: [{name: availability, match: {kind: call}}]\n")
    monkeypatch.setenv("OTELSLO_CONFIG", str(path))
    yield path
    for engine in default._engine:
        engine.close()


def test_the_first_calls_make_one_engine(fresh):
    work = otelslo.track("rerank")(lambda: current().set(version="1"))
    assert default._engine == []
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with otelslo.track("other"):
        pass
    assert default._engine == [default.engine()]
    assert cells(default.engine(), "availability") == {"good": 9}


def test_a_wrong_configuration_is_said_once_and_the_function_runs(fresh, caplog):
    fresh.write_text("slos: [{name: availability, target: 100%}]\n")
    one, other = otelslo.track("one")(plain), otelslo.track("other")(plain)
    for _ in range(3):
        assert one(2) + other(1) == "xxx"
        with otelslo.track("block") as event:
            event.bad("nonsense")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "off in this process: " in caplog.text
    assert "target" in caplog.text
    with pytest.raises(DefinitionError):
        Engine()


def test_an_engine_that_cannot_start_is_said_once(fresh, caplog, monkeypatch):
    monkeypatch.setattr(Engine, "start", breaking)
    engine = Engine([otelslo.SLO("a")])
    for name in ("one", "other"):
        assert otelslo.track(name, engine=engine)(plain)(2) == "xx"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", ["OTELSLO_DISABLED", "OTEL_SDK_DISABLED"])
@pytest.mark.parametrize(
    ("value", "off"), [("true", True), ("1", True), ("YES", True), ("false", False), ("0", False), ("", False)]
)
def test_the_kill_switch(fresh, make_engine, monkeypatch, name, value, off):
    monkeypatch.setenv(name, value)
    assert disabled() is off
    given = make_engine(*SLOS)
    for _ in range(2):
        assert otelslo.track("one", engine=given)(plain)(2) == "xx"
        with otelslo.track("one") as event:
            event.bad("nonsense")
    assert counted(given)[0] == ({} if off else {"good": 2})
    assert default._engine == [] if off else len(default._engine) == 1


def test_what_the_configuration_imports_may_be_tracked(fresh, tmp_path, monkeypatch):
    """It is called while the engine is being made: not counted then, no deadlock, and counted later."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "judging_by_us.py").write_text(
        "import otelslo\n\n@otelslo.track('early')\ndef early():\n    return 1\n\nearly()\n\n"
        "def is_good(event):\n    return None\n"
    )
    fresh.write_text("slos: [{name: availability, match: {kind: call}, good: 'judging_by_us:is_good'}]\n")
    otelslo.track("rerank")(plain)(1)
    sys.modules.pop("judging_by_us").early()
    assert cells(default.engine(), "availability") == {"good": 2}


def test_a_tracked_log_handler(fresh, caplog):
    class Handler(logging.Handler):
        emit = otelslo.track("emit")(lambda self, record: None)

    handler = Handler()
    logging.getLogger("otelslo").addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "otelslo"):
            otelslo.track("rerank")(plain)(1)
    finally:
        logging.getLogger("otelslo").removeHandler(handler)
    assert cells(default.engine(), "availability")["good"] >= 1


def test_decorating_starts_and_reads_nothing(fresh):
    fresh.unlink()
    code = "import otelslo, sys\n@otelslo.track('x')\ndef f(): pass\nprint({'numba', 'asyncio'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_a_fork_while_another_thread_makes_the_engine(fresh):
    held, done = threading.Event(), threading.Event()

    def hold():
        with default._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        os._exit(0 if otelslo.track("x")(plain)(2) == "xx" and default._engine else 1)
    done.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
