"""The WSGI edge beside its body: words and routes, start, threads and forks, and our own faults."""

from __future__ import annotations

import gc
import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from drive import advance, cells, groups
from drive_wsgi import HEADERS, Server, environ_of, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelslo import SLO, Engine
from otelslo.clock import ManualClock
from otelslo.errors import DefinitionError
from otelslo.wsgi import EXCHANGE_KEY, SLOMiddleware


def answering(code=200):
    def app(environ, start_response):
        start_response(f"{code} Reason", HEADERS)
        return [b"."]

    return app


def saying(engine, code, *says):
    def app(environ, start_response):
        for name, arguments in says:
            getattr(environ[EXCHANGE_KEY], name)(*arguments)
        return answering(code)(environ, start_response)

    return SLOMiddleware(app, engine=engine)


# ── what the app says ──────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("code", "says", "availability", "latency"),
    [
        (200, [("bad", ["nonsense"])], "bad other", "bad other"),
        (500, [("good", [])], "good", "good"),
        (200, [("exclude", ["warm_up"])], "excluded other", "excluded other"),
        (503, [("shed", [])], "bad shed", "excluded shed"),
        (429, [("shed", [])], "bad shed", "excluded shed"),
        (500, [("shed", [])], "bad 5xx", "bad 5xx"),
        (200, [("shed", [])], "good", "good"),
    ],
)
def test_the_apps_word(engine, code, says, availability, latency):
    """Also where a request of the same status, without a word, has been remembered before."""
    run(saying(engine, code))
    before = cells(engine, "availability"), cells(engine, "latency")
    run(saying(engine, code, *says))
    run(saying(engine, code))
    for slo, expected, old in zip(("availability", "latency"), (availability, latency), before, strict=True):
        assert Counter(cells(engine, slo)) == Counter({key: 2 * n for key, n in old.items()}) + Counter([expected])


def test_groups_that_the_app_makes(make_engine):
    engine = make_engine(SLO("a", group_by="version"))

    def app(environ, start_response):
        environ[EXCHANGE_KEY].set(version="v1")
        return answering()(environ, start_response)

    wrapped = SLOMiddleware(app, engine=engine)
    run(wrapped)
    engine.housekeeping()
    run(wrapped)
    assert groups(engine, "a") == {"(overflow)": {"good": 1}, "version=v1": {"good": 1}}


def test_wrapped_twice_is_counted_once(engine):
    assert run(SLOMiddleware(SLOMiddleware(answering(), engine=engine), engine=engine)).body == b"."
    assert cells(engine, "availability") == {"good": 1}


def test_wrapped_by_two_engines_is_counted_by_both(engine, make_engine):
    """And both hear what the app says."""
    other = make_engine(SLO("other"))
    assert run(SLOMiddleware(saying(engine, 200, ("bad", ["x"])), engine=other)).body == b"."
    assert (cells(engine, "availability"), cells(other, "other")) == ({"bad other": 1}, {"bad other": 1})


# ── routes, methods, hosts, headers ────────────────────────────────────────────────────────────────────────────────
def test_declared_routes(make_engine):
    """Paths are the bytes of UTF-8; the server's SCRIPT_NAME is no part of them."""
    engine = make_engine(SLO("a", group_by="route"))
    wrapped = SLOMiddleware(answering(), engine=engine, routes=["/items/new", "/items/{id}", "/größe/{id}"])
    for _ in range(2):
        for path in ("/items/new", "/items/7", "/items/ü", "/größe/7", "/items/7/8", "/"):
            run(wrapped, environ_of(path, SCRIPT_NAME="/api"))
    assert groups(engine, "a") == {
        "route=/items/new": {"good": 2},
        "route=/items/{id}": {"good": 4},
        "route=/größe/{id}": {"good": 2},
        "(unknown)": {"good": 4},
    }
    assert engine.faults() == {}


def test_unknown_methods_are_one(make_engine):
    engine = make_engine(SLO("a", group_by="method"), SLO("posts", match={"method": "POST"}))
    wrapped = SLOMiddleware(answering(), engine=engine, routes=["/x"])
    for method in ["POST", *(f"M{i}" for i in range(300)), "post", "", "WEBSOCKET"]:
        run(wrapped, environ_of(method=method))
        engine.housekeeping()
    assert cells(engine, "posts") == {"good": 1}
    assert groups(engine, "a") == {"(overflow)": {"good": 2}, "method=_OTHER": {"good": 302}}


def test_an_environ_with_little_in_it(engine):
    """Some callers give no more than they must."""
    assert run(SLOMiddleware(answering(), engine=engine), {}).body == b"."
    assert cells(engine, "availability") == {"good": 1}


def test_hosts(make_engine):
    engine = make_engine(SLO("shop", match={"host": "*.shop.example"}), SLO("a"))
    wrapped = SLOMiddleware(answering(), engine=engine)
    for host in ("www.shop.example", "WWW.SHOP.EXAMPLE:8080", "shop.example", "evil.example", ""):
        run(wrapped, environ_of(headers={"host": host}))
    assert (cells(engine, "shop"), cells(engine, "a")) == ({"good": 2}, {"good": 5})


def test_losses_carry_trace_ids(engine):
    headers = {"traceparent": "00-" + "a" * 32 + "-b7ad6b7169203331-01"}
    run(SLOMiddleware(answering(500), engine=engine), environ_of(headers=headers))
    losses, _ = engine.ring.reader.losses(0)
    assert [loss.trace_id for loss in losses] == ["a" * 32] * 2
    assert [loss.status for loss in losses] == [500, 500]


def test_only_the_operators_header_excludes(make_engine):
    engine = make_engine(SLO("a", exclude=[{"name": "probe", "header": "x-probe", "equals": "1"}]))
    wrapped = SLOMiddleware(answering(500), engine=engine)
    for headers in ({"x-probe": "1"}, {"x-probe": "0"}, {"user-agent": "kube-probe/1.30"}):
        run(wrapped, environ_of(headers=headers))
    assert cells(engine, "a") == {"bad 5xx": 2, "excluded probe": 1}


# ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def broken(*_arguments, **_more):
    raise ZeroDivisionError("a fault of ours")


def test_a_wrong_configuration_fails_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("otelslo.default._engine", [])
    monkeypatch.setenv("OTELSLO_CONFIG", str(tmp_path / "missing.yaml"))
    with pytest.raises(DefinitionError, match=r"missing\.yaml"):
        SLOMiddleware(answering())


@pytest.mark.parametrize("switch", ["OTELSLO_DISABLED", "OTEL_SDK_DISABLED"])
def test_the_kill_switch(tmp_path, monkeypatch, switch):
    """Nothing is read, opened or counted, and the app may still speak."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTELSLO_CONFIG", str(tmp_path / "missing.yaml"))
    monkeypatch.setenv(switch, "true")
    edge = saying(None, 200, ("bad", ["x"]))
    assert run(edge).body == b"."
    assert list(tmp_path.iterdir()) == []


def test_the_default_engine_is_the_process_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTELSLO_CONFIG", raising=False)
    monkeypatch.setattr("otelslo.default._engine", [])
    edge = SLOMiddleware(answering())
    try:
        run(edge)
        (status,) = edge.engine.status()
        assert (status.slo, status.counts.good, status.group) == ("availability", 1, None)
    finally:
        edge.engine.close()


def test_an_engine_that_cannot_start_turns_itself_off(make_engine, monkeypatch, caplog):
    engine = make_engine(SLO("a"))
    monkeypatch.setattr(engine, "start", broken)
    edge = saying(engine, 200, ("bad", ["nobody listens"]))
    assert [run(edge).body for _ in range(3)] == [b"."] * 3
    assert [record.message for record in caplog.records] == ["otelslo is off in this process: a fault of ours"]
    assert cells(engine, "a") == {}


def test_start_is_for_a_servers_hooks(engine, monkeypatch):
    """Nothing is compiled or opened in a request after it."""
    edge = SLOMiddleware(answering(), engine=engine)
    edge.start()
    edge.start()
    monkeypatch.setattr(engine, "start", broken)
    run(edge)
    assert cells(engine, "availability") == {"good": 1}


# ── many at once ───────────────────────────────────────────────────────────────────────────────────────────────────
PROGRAMS = {
    "good": lambda chunks: ("200 OK", chunks),
    "bad 5xx": lambda chunks: ("500 Oops", chunks),
    "bad exception": lambda chunks: ("200 OK", [*chunks, RuntimeError("boom")]),
    "bad no_response": lambda chunks: (None, chunks),
    "excluded client_error": lambda chunks: ("404 Not Found", chunks),
    "bad other": lambda chunks: ("200 OK", chunks),
}


def program(environ, start_response):
    kind = environ["test.kind"]
    if kind == "bad other":
        environ[EXCHANGE_KEY].bad(environ["PATH_INFO"])
    status, chunks = PROGRAMS[kind]([b"", b"a", b"", b"b"])
    if status is not None:
        start_response(status, HEADERS)
    for chunk in chunks:
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


def test_threads_equal_a_sequential_model(make_engine):
    """4,000 requests by eight threads that all start at once, before anything is ready."""
    engine = make_engine(SLO("a"))
    edge = SLOMiddleware(program, engine=engine)
    rng = random.Random(20261124)
    kinds = [rng.choice(list(PROGRAMS)) for _ in range(4000)]
    together = threading.Barrier(8)

    def serving(kinds):
        together.wait()
        for number, kind in enumerate(kinds):
            run(edge, environ_of(f"/{number}", **{"test.kind": kind}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(serving, [kinds[start::8] for start in range(8)]))
    assert cells(engine, "a") == dict(Counter(kinds))
    assert (engine.in_flight(), engine.faults()) == (0, {})
    assert not {name for name, value in vars(edge).items() if isinstance(value, list)}


def test_interleaved_bodies(engine):
    """In one thread, as servers that poll have them, with a clock of each request's own."""
    edge = SLOMiddleware(program, engine=engine)
    rng = random.Random(1)
    expected, running = Counter(), []
    for number in range(2000):
        kind = rng.choice(["good", "bad 5xx", "excluded client_error", "bad other"])
        body = edge(environ_of(f"/{number}", **{"test.kind": kind}), lambda *_: None)
        running.append((iter(body), body, kind, engine.clock.ring_ns()))
        while len(running) > (50 if number < 1999 else 0):
            chosen = rng.randrange(len(running))
            chunks, body, kind, since = running[chosen]
            if next(chunks, None) is None:
                slow = engine.clock.ring_ns() - since > 200_000_000
                expected["bad slow" if slow and kind == "good" else kind] += 1
                body.close()
                del running[chosen]
            advance(engine, ns=rng.randrange(4_000_000))
    assert cells(engine, "latency") == dict(expected)
    assert engine.in_flight() == 0


def test_a_forked_worker_attaches_by_itself(tmp_path):
    """As under gunicorn's preload: wrapped and started before the fork, counted after it."""
    engine = Engine([SLO("a")], state_dir=tmp_path / "s", runner=False).start()
    edge = SLOMiddleware(answering(), engine=engine)
    run(edge)
    child = os.fork()
    if child == 0:
        try:
            run(edge)
            os._exit(engine.count("a", 10**9).good if engine.faults() == {} else 77)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    run(edge)
    assert engine.count("a", 60 * 10**9).good == 3
    engine.close()


# ── transparency ───────────────────────────────────────────────────────────────────────────────────────────────────
STEPS = st.sampled_from([b"a", b"", b"b", "text", None, RuntimeError, OSError, SystemExit, KeyError, StopIteration])
APPS = st.fixed_dictionaries(
    {
        "before": st.lists(st.sampled_from(["200 OK", "404 Not", "500 Oops", "again", "write", "raise"]), max_size=4),
        "steps": st.lists(STEPS, max_size=4),
        "form": st.sampled_from(["list", "tuple", "generator", "late", "closing", "none", "bytes"]),
        "close": st.sampled_from([None, RuntimeError, SystemExit]),
    }
)
SERVERS = st.fixed_dictionaries(
    {"send_fails": st.sets(st.integers(0, 3), max_size=2), "stop_after": st.sampled_from([None, None, 0, 1])}
)


class Body:
    def __init__(self, seen, steps, close):
        self.seen, self.steps, self.raises = seen, iter(steps), close

    def __iter__(self):
        self.seen.append("iterated")
        return self

    def __next__(self):
        return done(next(self.steps))

    def close(self):
        self.seen.append("closed")
        if self.raises is not None:
            raise self.raises("close")


def done(step):
    if isinstance(step, type):
        raise step("step")
    return step


def transcript(wrap, app, how, method):
    """All that a server and an app can see of each other."""
    seen = []

    def begin(start_response):
        write = None
        for step in app["before"]:
            if step == "raise":
                raise RuntimeError("before")
            if step == "write":
                seen.append(("wrote", write and write(b"w")))
            elif step == "again":
                error = KeyError("again")
                write = start_response("503 Again", [], (KeyError, error, None))
            else:
                write = start_response(step, [("a", "b")])

    def late(start_response):
        try:
            begin(start_response)
            yield from map(done, app["steps"])
        finally:
            seen.append("finished")

    def called(environ, start_response):
        seen.append(sorted(key for key in environ if not key.startswith("otelslo.")))
        if app["form"] == "late":
            return late(start_response)
        begin(start_response)
        steps = app["steps"]
        return {
            "list": steps, "tuple": tuple(steps), "generator": (done(step) for step in steps),
            "closing": Body(seen, steps, app["close"]), "none": None, "bytes": b"abc",
        }[app["form"]]  # fmt: skip

    answer = Server(**how).run(wrap(called), environ_of(method=method))
    error = answer.error and (type(answer.error), str(answer.error))
    gc.collect(0)
    return seen, answer.status, answer.headers, answer.sent, answer.length, error


@pytest.fixture(scope="module")
def lasting_engine(tmp_path_factory):
    slos = [SLO("a"), SLO("l", indicator="latency", threshold="200ms")]
    directory = tmp_path_factory.mktemp("transparency") / "s"
    with Engine(slos, state_dir=directory, clock=ManualClock(), runner=False) as engine:
        yield engine


METHODS = st.sampled_from(["GET", "HEAD", "POST"])
LASTING = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@LASTING
@given(app=APPS, how=SERVERS, method=METHODS)
def test_wrapped_and_bare_cannot_be_told_apart(lasting_engine, app, how, method):
    bare = transcript(lambda app: app, app, how, method)
    before = lasting_engine.ring.reader.counts(lasting_engine.objectives[0].rows[None])
    assert transcript(lambda app: SLOMiddleware(app, engine=lasting_engine), app, how, method) == bare
    after = lasting_engine.ring.reader.counts(lasting_engine.objectives[0].rows[None])
    assert (lasting_engine.in_flight(), lasting_engine.faults()) == (0, {})
    assert sum((after.good, after.bad, after.excluded)) - sum((before.good, before.bad, before.excluded)) == 1


BREAKS = {
    "begin": lambda edge, patch: patch.setattr(edge, "_kernel_begin", broken),
    "end": lambda edge, patch: patch.setattr(edge, "_kernel_end", broken),
    "look-up": lambda edge, patch: [edge._by_path.clear(), patch.setattr(edge._sites, "find", broken)],
    "plan": lambda edge, patch: patch.setattr(edge.engine, "plan_for", broken),
    "route": lambda edge, patch: patch.setattr(edge._sites, "chosen", broken),
    "strings": lambda edge, patch: patch.setattr(edge.engine.names, "string", broken),
    "rows": lambda edge, patch: [patch.setattr(o, "entries", broken) for o in edge.engine.objectives],
}


@pytest.mark.parametrize("name", BREAKS)
@settings(LASTING, max_examples=40)
@given(app=APPS, how=SERVERS)
def test_our_own_faults_reach_no_request(lasting_engine, name, app, how):
    """Whatever call of ours fails: the same answers, and a fault is counted."""
    bare = transcript(lambda app: app, app, how, "GET")
    before, open_before = sum(lasting_engine.faults().values()), lasting_engine.in_flight()
    lasting_engine.forget_plans()
    with pytest.MonkeyPatch.context() as patch:

        def wrap(app):
            edge = SLOMiddleware(app, engine=lasting_engine)
            edge.start()
            BREAKS[name](edge, patch)
            return edge

        assert transcript(wrap, app, how, "GET") == bare
    if name != "route":  # which is not asked if nothing starts
        assert sum(lasting_engine.faults().values()) > before
    if name != "end":
        assert lasting_engine.in_flight() == open_before


@pytest.mark.filterwarnings("ignore::wsgiref.validate.WSGIWarning")
@pytest.mark.parametrize("form", ["list", "generator"])
def test_the_validator_of_wsgiref_is_content(engine, form):
    """Around us and within: we are a server to the app, and an app to the server."""

    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        return [b"a"] if form == "list" else (chunk for chunk in (b"a", b"b"))

    environ = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    answer = run(validator(SLOMiddleware(validator(app), engine=engine)), environ)
    assert (answer.error, answer.status) == (None, "200 OK")
    assert cells(engine, "availability") == {"good": 1}
