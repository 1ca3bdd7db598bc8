"""The indicator `inference` end to end: tracked calls that fail, are cold or slow, on a clock turned by hand."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from drive import advance, cells, http_scope, run
from test_failure import CUDA_OOM, ENGINE_DEAD

import otelslo
from otelslo import SLO, DefinitionError, current
from otelslo.asgi import SLOMiddleware


def inference(name="model", **more):
    return SLO(name, indicator="inference", **more)


def raising(engine, *errors, name="rerank", s=0):
    """Call a tracked function once for each error, which it raises; None: it returns."""

    @otelslo.track(name, engine=engine)
    def called(error):
        advance(engine, s=s)
        if error is not None:
            raise error

    for error in errors:
        with suppress(BaseException):
            called(error)


def test_each_kind_has_its_reason(make_engine):
    engine = make_engine(inference())
    raising(engine, None, MemoryError(), TimeoutError(), ConnectionError(), ValueError())
    raising(engine, RuntimeError("CUDA error: misaligned address"), name="other")
    kinds = {"bad oom": 1, "bad framework_crash": 1, "bad timeout": 1, "bad infrastructure": 1, "bad exception": 1}
    assert cells(engine, "model") == {"good": 1} | kinds
    assert engine.faults() == {}


def test_equal_types_are_told_apart_by_what_they_say(make_engine):
    """A plan is remembered by the kind of failure too, and not by the exception's name alone."""
    engine = make_engine(inference())
    raising(engine, *2 * [RuntimeError("CUDA error: x"), RuntimeError(), RuntimeError("x: " + "NCCL error")])
    assert cells(engine, "model") == {"bad framework_crash": 4, "bad exception": 2}


def test_the_clients_and_the_callers_are_excluded(make_engine):
    fastapi = pytest.importorskip("fastapi.exceptions", reason="fastapi is not installed")
    engine = make_engine(inference())
    raising(engine, fastapi.RequestValidationError([]), asyncio.CancelledError())
    raising(engine, asyncio.CancelledError(), s=11)
    assert cells(engine, "model") == {"excluded client_error": 1, "excluded client_cancel": 1, "bad other": 1}


def test_a_caller_that_waited_past_the_threshold_had_a_reason(make_engine):
    engine = make_engine(inference(threshold="2s"))
    raising(engine, asyncio.CancelledError(), s=2)
    raising(engine, asyncio.CancelledError(), s=3)
    assert cells(engine, "model") == {"excluded client_cancel": 1, "bad slow": 1}  # it was abandoned


def test_the_threshold_is_exact_and_optional(make_engine):
    engine = make_engine(inference("timed", threshold="2s"), inference("any"))
    raising(engine, None, s=2)
    raising(engine, None, s=3)
    assert cells(engine, "timed") == {"good": 1, "bad slow": 1}
    assert cells(engine, "any") == {"good": 2}


# ── cascades ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_oom_that_takes_the_engine_down_marks_what_follows(make_engine):
    engine = make_engine(inference(options={"cascade": "30s"}), SLO("a", match={"kind": "call"}))
    raising(engine, RuntimeError(CUDA_OOM), ValueError(), ENGINE_DEAD(), ValueError(), TimeoutError(), None)
    advance(engine, s=31)
    raising(engine, ENGINE_DEAD())
    failed = {"bad oom": 1, "bad exception": 1, "bad oom_cascade": 3, "bad framework_crash": 1}
    assert cells(engine, "model") == {"good": 1} | failed
    assert cells(engine, "a") == {"good": 1, "bad exception": 6}


def test_another_site_has_another_engine(make_engine):
    engine = make_engine(inference())
    raising(engine, RuntimeError(CUDA_OOM), ENGINE_DEAD())
    raising(engine, ENGINE_DEAD(), name="other")
    assert cells(engine, "model") == {"bad oom": 1, "bad oom_cascade": 1, "bad framework_crash": 1}


# ── cold starts ────────────────────────────────────────────────────────────────────────────────────────────────────
COLD = {"threshold": "2s", "options": {"cold_start": "exclude"}}


def test_the_first_call_is_excluded_if_so_asked(make_engine):
    engine = make_engine(inference(**COLD), inference("counted", threshold="2s"))
    raising(engine, None, s=9)
    raising(engine, None, None)
    assert cells(engine, "model") == {"excluded cold_start": 1, "good": 2}
    assert cells(engine, "counted") == {"bad slow": 1, "good": 2}


def test_all_that_began_before_it_returned_are_cold(make_engine):
    engine = make_engine(inference(**COLD))
    site = engine.track("rerank")
    first, second = site.open(), site.open()
    second.close()
    third = site.open()
    for call in (first, third):
        call.close()
    assert cells(engine, "model") == {"excluded cold_start": 2, "good": 1}


def test_a_cold_failure_is_a_failure_and_leaves_it_cold(make_engine):
    """A worker that dies of each first call must not be excused."""
    engine = make_engine(inference(**COLD))
    raising(engine, MemoryError(), None, None)
    assert cells(engine, "model") == {"bad oom": 1, "excluded cold_start": 1, "good": 1}


def test_a_caller_that_did_not_wait_for_a_load(make_engine):
    engine = make_engine(inference(**COLD))
    raising(engine, asyncio.CancelledError(), s=9)
    assert cells(engine, "model") == {"excluded cold_start": 1}


def test_loaded_again_is_cold_again(make_engine):
    engine = make_engine(inference(**COLD))
    raising(engine, None, None)
    before = engine.track("rerank").open()
    engine.loaded("rerank")
    engine.loaded("unknown")
    before.close()
    raising(engine, None, None)
    assert cells(engine, "model") == {"excluded cold_start": 2, "good": 3}


def test_what_the_app_says_of_a_cold_call_holds(make_engine):
    engine = make_engine(inference(reasons=["nonsense"], **COLD))
    with otelslo.track("rerank", engine=engine) as event:
        event.bad("nonsense")
    with otelslo.track("rerank", engine=engine):
        current()
    assert cells(engine, "model") == {"bad nonsense": 1, "good": 1}


def test_a_reload_does_not_cool(make_engine):
    engine = make_engine(inference(**COLD))
    raising(engine, None)
    engine.reload([inference(**COLD)], [])
    raising(engine, None)
    assert cells(engine, "model") == {"excluded cold_start": 1, "good": 1}


# ── rules of other indicators, and other edges ─────────────────────────────────────────────────────────────────────
def test_kinds_are_keys_of_any_rules(make_engine):
    rules = {"timeout": "excluded", "oom": "bad:memory", "exception": "bad:raised"}
    engine = make_engine(SLO("a", match={"kind": "call"}, rules=rules))
    raising(engine, TimeoutError(), MemoryError(), ValueError(), ConnectionError())
    assert cells(engine, "a") == {"excluded timeout": 1, "bad memory": 1, "bad raised": 2}


def test_the_web_edge_tells_them_apart_too(make_engine):
    engine = make_engine(SLO("a", rules={"oom": "bad:memory"}))

    async def app(scope, receive, send):
        raise RuntimeError(CUDA_OOM if scope["path"] == "/gpu" else "")

    edge = SLOMiddleware(app, engine=engine)
    for path in ("/gpu", "/cpu"):
        run(edge, http_scope(path))
    assert cells(engine, "a") == {"bad memory": 1, "bad exception": 1}


@pytest.mark.parametrize("key", ["oom_kill", "outofmemory"])
def test_an_unknown_rule_is_refused(key):
    with pytest.raises(DefinitionError, match="unknown rule"):
        SLO("a", rules={key: "bad"})


@pytest.mark.parametrize("options", [{"cold_start": "maybe"}, {"cascade": "soon"}, {"cascade": "0s"}])
def test_bad_options_are_refused(options):
    with pytest.raises(DefinitionError):
        inference(options=options)
