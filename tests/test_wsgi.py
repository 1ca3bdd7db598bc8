"""The WSGI edge, driven by hand: every line of the outcome table, exact to the nanosecond, and nothing touched."""

from __future__ import annotations

import contextlib
import gc
import io
import sys
from dataclasses import dataclass, field
from wsgiref.util import FileWrapper

import pytest
from drive import advance, cells
from drive_wsgi import HEADERS, Server, environ_of, run

from otelslo.wsgi import SLOMiddleware

MS = 1_000_000
THRESHOLD_NS = 200 * MS
CANCEL_AFTER_NS = 10_000 * MS
FAILS = RuntimeError("boom")
GOOD = ("good", "good", "bad slow")


@dataclass
class Case:
    """What an app does, and what it is worth: availability, latency at the threshold, and a nanosecond above it.

    It does in order: start with a status, ("write", data), raise an exception, or return a body: a list, or what a
    function makes. If `late`, the app is a generator, and yields what is no start and no exception.
    """

    name: str
    does: list
    worth: tuple[str, str, str]
    how: dict = field(default_factory=dict)
    method: str = "GET"
    late: bool = False


def both(name, does, outcome, **more):
    """A case that the latency does not change."""
    return Case(name, does, (outcome,) * 3, **more)


class Closing:
    """A body with a `close`, no length, and an end as told."""

    def __init__(self, steps, close_raises=None):
        self.steps = iter(steps)
        self.close_raises = close_raises
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        step = next(self.steps)
        if isinstance(step, BaseException):
            raise step
        return step

    def close(self):
        self.closed += 1
        if self.close_raises is not None:
            raise self.close_raises


class Sequence:
    """A sized body that is no list, by the old protocol."""

    def __len__(self):
        return 2

    def __getitem__(self, at):
        return [b"a", b"b"][at]


def closing(*steps, **more):
    return lambda: Closing(steps, **more)


def gen(*steps):
    return lambda: (step for step in steps)


def again():
    """A start_response that is called after an error, as error middleware does."""
    try:
        raise FAILS
    except RuntimeError:
        return "500 Internal Server Error", HEADERS, sys.exc_info()


def status(code):
    return f"{code} Reason"


CASES = [
    *[Case(f"{s}", [status(s), [b"."]], GOOD) for s in (200, 201, 204, 206, 301, 304, 399)],
    Case("status without a reason", ["200", [b"."]], GOOD),
    Case("no chunks", [status(200), []], GOOD),
    Case("a tuple", [status(200), (b"a", b"b")], GOOD),
    Case("a generator", [status(200), gen(b"a", b"b")], GOOD),
    Case("empty chunks", [status(200), gen(b"", b"a", b"")], GOOD),
    Case("an iterator with close", [status(200), closing(b"a")], GOOD),
    Case("the old protocol", [status(200), Sequence], GOOD),
    Case("written", [status(200), ("write", b"a"), [b"b"]], GOOD),
    Case("starts late", [status(200), b"a", b"b"], GOOD, late=True),
    Case("head", [status(200), []], GOOD, method="HEAD"),
    Case("head, closed at once", [status(200), [b"."]], GOOD, {"stop_after": 0}, method="HEAD"),
    Case("304, closed at once", [status(304), [b"."]], GOOD, {"stop_after": 0}),
    Case("close raises after the end", [status(200), closing(b"a", close_raises=FAILS)], GOOD),
    Case("never closed", [status(200), [b"a"]], GOOD, {"close": False}),
    *[both(f"{s}", [status(s), [b"."]], "bad 5xx") for s in (500, 501, 502, 503, 504, 599)],
    *[both(f"{s}", [status(s), [b"."]], "excluded unauthorised") for s in (401, 403)],
    *[both(f"{s}", [status(s), [b"."]], "excluded client_error") for s in (400, 404, 405, 418, 429, 499)],
    both("200, then a 500 with exc_info", [status(200), again, [b"."]], "bad 5xx"),
    both("that comes too late", [status(200), ("write", b"a"), again, [b"."]], "bad exception"),
    both("late, a 500 with exc_info", [status(200), again, b"a"], "bad 5xx", late=True),
    both("exception before start", [FAILS], "bad exception"),
    both("exception after start", [status(200), FAILS], "bad exception"),
    both("exception after a 404's start", [status(404), FAILS], "bad exception"),
    both("exception in the first chunk", [status(200), closing(FAILS)], "bad exception"),
    both("exception in the body", [status(200), closing(b"a", FAILS)], "bad exception"),
    both("exception in a late body", [status(200), b"a", FAILS], "bad exception", late=True),
    both("exception before a late start", [FAILS], "bad exception", late=True),
    both("and its close raises too", [status(200), closing(b"a", FAILS, close_raises=KeyError())], "bad exception"),
    both("no start", [[b"."]], "bad no_response"),
    both("no start and no chunks", [[]], "bad no_response"),
    both("no start, late", [b"."], "bad no_response", late=True),
    both("a body that is none", [None], "bad no_response"),
    both("a body that is none, after a start", [status(200), None], "bad cut"),
    both("chunks of text", [status(200), gen(b"a", "b")], "bad cut"),
    both("a list of text", [status(200), ["b"]], "bad cut"),
    both("interpreter exits", [status(200), SystemExit(1)], "bad server_cancel"),
    both("interpreter exits in the body", [status(200), closing(SystemExit(1))], "bad server_cancel"),
    both(
        "a time-out while sending", [status(200), [b"a"]], "bad server_cancel", how={"interrupted": {0: SystemExit()}}
    ),
    both("a 500 that is left", [status(500), gen(b"a", b"b")], "bad 5xx", how={"send_fails": [1]}),
]
LEFT = {
    "send of the only chunk fails": ([status(200), [b"a"]], {"send_fails": [0]}),
    "send of a chunk fails": ([status(200), gen(b"a", b"b", b"c")], {"send_fails": [1]}),
    "send of a sized body's chunk fails": ([status(200), Sequence], {"send_fails": [1]}),
    "a late start's": ([status(200), b"a", b"b"], {"send_fails": [1]}),
    "a write fails": ([status(200), ("write", b"a"), [b"b"]], {"send_fails": [0]}),
    "a write fails, and the app answers all the same": ([status(200), ("try", b"a"), [b""]], {"send_fails": [0]}),
    "closed before its end": ([status(200), gen(b"a", b"b")], {"stop_after": 1}),
    "closed before its begin": ([status(200), gen(b"a", b"b")], {"stop_after": 0}),
    "close raises": ([status(200), closing(b"a", b"b", close_raises=FAILS)], {"stop_after": 1}),
    "dropped": ([status(200), gen(b"a", b"b")], {"stop_after": 1, "close": False}),
}


def doing(engine, steps, ns, late=False):
    """An app that takes `ns` before its first step, and does the rest in no time."""

    def stepping(start_response):
        advance(engine, ns=ns)
        write = None
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            if step is again:
                start_response(*again())
            elif isinstance(step, str) and step[:1].isdigit():
                write = start_response(step, HEADERS)
            elif isinstance(step, tuple) and step[0] == "write":
                write(step[1])
            elif isinstance(step, tuple) and step[0] == "try":
                with contextlib.suppress(OSError):
                    write(step[1])
            else:
                yield step() if callable(step) else step

    if late:
        return lambda environ, start_response: stepping(start_response)
    return lambda environ, start_response: next(stepping(start_response))


def outcome(engine, slo):
    (found,) = cells(engine, slo).items()
    assert found[1] == 1
    return found[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("over", [0, 1])
def test_the_outcome_table(engine, case, over):
    """At the threshold, and a nanosecond above it; the answer is the bare app's."""
    app = doing(engine, case.does, THRESHOLD_NS + over, case.late)
    bare = run(app, environ_of(method=case.method), **case.how)
    answer = run(SLOMiddleware(app, engine=engine), environ_of(method=case.method), **case.how)
    assert seen(answer) == seen(bare)
    gc.collect()
    assert outcome(engine, "availability") == case.worth[0]
    assert outcome(engine, "latency") == case.worth[1 + over]
    assert engine.in_flight() == 0
    assert engine.faults() == {}


def seen(answer):
    error = answer.error and (type(answer.error), answer.error.args)
    return answer.status, answer.headers, answer.sent, answer.length, error


@pytest.mark.parametrize(("does", "how"), list(LEFT.values()), ids=list(LEFT))
@pytest.mark.parametrize(
    ("ns", "availability", "latency"),
    [
        (THRESHOLD_NS, "excluded client_cancel", "excluded client_cancel"),
        (THRESHOLD_NS + 1, "excluded client_cancel", "bad abandoned"),
        (CANCEL_AFTER_NS, "excluded client_cancel", "bad abandoned"),
        (CANCEL_AFTER_NS + 1, "bad abandoned", "bad abandoned"),
    ],
)
def test_the_client_goes_away(engine, does, how, ns, availability, latency):
    """Before and after it had waited for long."""
    app = doing(engine, does, ns, late=does[1:] == [b"a", b"b"])
    bare = run(app, **how)
    assert seen(run(SLOMiddleware(app, engine=engine), **how)) == seen(bare)
    gc.collect()
    assert outcome(engine, "availability") == availability
    assert outcome(engine, "latency") == latency
    assert engine.in_flight() == 0


def test_a_write_that_fails_hides_no_failure(engine):
    """What follows from it is the client's; an exception of the app's own is one, whoever still waits for it."""
    app = doing(engine, [status(200), ("try", b"a"), FAILS], 0)
    assert run(SLOMiddleware(app, engine=engine), send_fails=[0]).error is FAILS
    assert cells(engine, "availability") == {"bad exception": 1}


def test_a_server_that_works_in_an_except_of_its_own(engine):
    """What it handled before the request is no word on it."""
    app = doing(engine, [status(200), gen(b"a", b"b")], 0)
    try:
        raise KeyError("no such worker yet")
    except KeyError:
        run(SLOMiddleware(app, engine=engine), stop_after=1)
    assert cells(engine, "availability") == {"excluded client_cancel": 1}


def test_a_generator_around_us_that_is_closed_early(engine):
    """As a compressing middleware's is."""
    wrapped = SLOMiddleware(doing(engine, [status(200), gen(b"a", b"b")], 0), engine=engine)

    def around(environ, start_response):
        body = wrapped(environ, start_response)
        try:
            yield from body
        finally:
            body.close()

    run(around, stop_after=1)
    assert cells(engine, "availability") == {"excluded client_cancel": 1}


def test_a_generator_around_us_that_never_begins(engine):
    """So that nobody closes ours: it ends when it is collected."""
    wrapped = SLOMiddleware(doing(engine, [status(200), gen(b"a")], 0), engine=engine)

    def dropping(environ, start_response):
        wrapped(environ, start_response)
        raise FAILS

    assert run(dropping).error is FAILS
    FAILS.__traceback__ = None
    gc.collect()
    assert (cells(engine, "availability"), engine.in_flight()) == ({"excluded client_cancel": 1}, 0)


# ── what is timed ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_close_does_is_not_the_users_wait(engine):
    body = closing(b"a")()
    body.close = lambda: advance(engine, s=60)
    run(SLOMiddleware(doing(engine, [status(200), lambda: body], 0), engine=engine))
    assert cells(engine, "latency") == {"good": 1}


def test_a_streams_time_is_its_wait(engine):
    """Not the time until the app returns its generator."""

    def slow():
        yield b"a"
        advance(engine, ns=THRESHOLD_NS + 1)
        yield b"b"

    run(SLOMiddleware(doing(engine, [status(200), slow], 0), engine=engine))
    assert cells(engine, "latency") == {"bad slow": 1}


FIRST_BYTES = {
    "written": [("write", b"a"), []],
    "a list": [[b"a"]],
    "after nothing": [gen(b"", b"a")],
}


@pytest.mark.parametrize("does", FIRST_BYTES.values(), ids=FIRST_BYTES)
def test_first_byte(engine, does):
    """The clock stops there; the event still ends with the body."""
    for ns in (THRESHOLD_NS, THRESHOLD_NS + 1):
        app = doing(engine, [status(200), *does], ns)

        def slowly(environ, start_response, app=app):
            yield from app(environ, start_response)
            advance(engine, s=60)
            yield b"later"

        run(SLOMiddleware(slowly, engine=engine, first_byte=True))
        run(SLOMiddleware(app, engine=engine, first_byte=True))
    assert cells(engine, "latency") == {"good": 2, "bad slow": 2}


# ── the body ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("body", [[b"a"], (b"a", b"b"), [], Sequence()], ids=["list", "tuple", "empty", "sequence"])
def test_lengths(engine, body):
    """Servers tell the Content-Length of a single chunk by it."""
    wrapped = SLOMiddleware(lambda environ, start_response: body, engine=engine)
    ours = wrapped(environ_of(), Server().start_response)
    assert len(ours) == len(body)
    assert list(ours) == list(body) == list(ours)
    assert not isinstance(body, list | tuple) or list(ours[:1]) == list(body[:1])


@pytest.mark.parametrize("body", [gen(b"a"), closing(b"a"), lambda: io.BytesIO(b"a")])
def test_no_lengths(engine, body):
    ours = SLOMiddleware(lambda environ, start_response: body(), engine=engine)(environ_of(), Server().start_response)
    assert not hasattr(ours, "__len__")
    assert next(ours) == b"a"
    with pytest.raises(StopIteration):
        next(ours)
    ours.close()


def test_close_is_passed_on_as_often_as_it_comes(engine):
    body = closing(b"a")()
    ours = SLOMiddleware(doing(engine, [status(200), lambda: body], 0), engine=engine)(
        environ_of(), Server().start_response
    )
    ours.close()
    ours.close()
    assert body.closed == 2


def test_what_is_no_body_is_passed_as_it_is(engine):
    """Some servers have a word of their own for "it is answered already"."""
    word = object()
    wrapped = SLOMiddleware(lambda environ, start_response: word, engine=engine)
    assert wrapped(environ_of(), Server().start_response) is word
    assert engine.in_flight() == 0


class OwnWrapper:
    """A file wrapper that a server takes only as it is, with a `close` as mod_wsgi's: of the class."""

    def __init__(self, file, size=8192):
        self.file = file
        self.closed = 0

    def __iter__(self):
        return iter(self.file)

    def close(self):
        self.closed += 1


class SlottedWrapper(OwnWrapper):
    """One that lets nobody watch it."""

    __slots__ = ()

    def __setattr__(self, name, value):
        if name == "close":
            raise AttributeError(name)
        super().__setattr__(name, value)


@pytest.mark.parametrize("wrapper", [FileWrapper, OwnWrapper, SlottedWrapper])
@pytest.mark.parametrize("fails", [False, True])
def test_file_wrappers_are_passed_as_they_are(engine, wrapper, fails):
    """So that the server may use sendfile; the event ends at the wrapper's close, if that can be watched."""
    file = io.BytesIO(b"content")

    def app(environ, start_response):
        start_response(status(200), HEADERS)
        return environ["wsgi.file_wrapper"](file)

    wrapped = SLOMiddleware(app, engine=engine)
    ours = wrapped(environ_of() | {"wsgi.file_wrapper": wrapper}, Server().start_response)
    assert type(ours) is wrapper
    watched = wrapper is not SlottedWrapper
    assert engine.in_flight() == (1 if watched else 0)
    try:
        raise BrokenPipeError if fails else KeyError
    except BrokenPipeError:
        ours.close()
    except KeyError:
        pass
    ours.close()
    gone = fails and watched
    assert cells(engine, "availability") == {"excluded client_cancel" if gone else "good": 1}
    assert getattr(ours, "closed", 1 + fails) == 1 + fails
    assert wrapper is not FileWrapper or file.closed
    assert (engine.in_flight(), engine.faults()) == (0, {})


def test_a_wrapper_that_is_a_function(engine):
    """uWSGI's answers with the file itself, and looks for that very object."""
    file = io.BytesIO(b"content")
    wrapped = SLOMiddleware(doing(engine, [status(200), lambda: file], 0), engine=engine)
    environ = environ_of() | {"wsgi.file_wrapper": lambda file, size=0: file}
    assert wrapped(environ, Server().start_response) is file
    assert engine.in_flight() == 1
    file.close()
    assert cells(engine, "availability") == {"good": 1}


def test_servers_without_a_write(engine):
    """Whatever their start_response answers."""

    def app(environ, start_response):
        assert start_response(status(200), HEADERS) is None
        return [b""]

    body = SLOMiddleware(app, engine=engine)(environ_of(), lambda status, headers: None)
    assert list(body) == [b""]
    assert cells(engine, "availability") == {"good": 1}
