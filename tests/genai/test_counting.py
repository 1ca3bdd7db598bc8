"""Model calls in the metrics: what an engine has counted, as it leaves by OTLP and as `/metrics` shows it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from drive import CHUNK, LAST, Request, advance, groups, http_scope
from exporters.reports import attributes, encoded, report_of

import otelslo
from otelslo import SLO, Engine, current, wsgi
from otelslo.asgi import SLOMiddleware
from otelslo.genai import measures
from otelslo.genai.declared import GenAI
from otelslo.genai.instruments import TIME_TO_FIRST_TOKEN
from otelslo.openmetrics import render

MS = 1_000_000
NAMES = frozenset({("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "openai")})
MODEL = frozenset({("gen_ai.request.model", "m")})
SERVER = GenAI("chat", "openai", match={"route": "chat"}, model="m")
CLIENT = GenAI("chat", "openai", match={"route": "chat"}, model="m", side="client")
OVERFLOW = frozenset({("otel.metric.overflow", "")})  # a yes/no value
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


def exported(engine: Engine) -> dict[tuple[str, frozenset[tuple[str, str]]], Any]:
    """Every point of gen_ai metrics that leaves by OTLP and has a value; all are checked."""
    found = {}
    for request in encoded(report_of(engine)):
        for metric in request.resource_metrics[0].scope_metrics[0].metrics:
            if metric.name.startswith("gen_ai."):
                for point in metric.histogram.data_points:
                    assert sum(point.bucket_counts) == point.count
                    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
                    if point.count:
                        found[metric.name, attributes(point.attributes)] = point
                    else:
                        assert point.sum == 0
    return found


def told(engine: Engine) -> dict[tuple[str, frozenset[tuple[str, str]]], tuple[int, float]]:
    """Count and sum of each series that has a value."""
    assert engine.faults() == {}
    return {key: (point.count, point.sum) for key, point in exported(engine).items()}


def say(engine: Engine, script: tuple[Any, ...], name: str = "chat", **attributes_told: str) -> None:
    """One streamed call: a wait in ms, an item, an error."""

    @otelslo.track(name, engine=engine, **attributes_told)
    def answer():
        for step in script:
            if isinstance(step, int):
                advance(engine, ns=step * MS)
            elif isinstance(step, Exception):
                raise step
            else:
                yield step

    with suppress(ValueError):
        list(answer())


def test_a_server_counts_durations_first_tokens_and_the_pace(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[SERVER])
    assert told(engine) == {}
    say(engine, (250, "a", 100, "b", 100, "c", 50))
    say(engine, (20, "alone"))
    say(engine, (5, "a", 5, ValueError("boom")))
    say(engine, (5, "x"), name="other")
    series = NAMES | MODEL
    # The first call that fails finds no series of its kind yet, and is in the overflow.
    assert told(engine) == {
        ("gen_ai.server.request.duration", series): (2, 0.52),
        ("gen_ai.server.request.duration", OVERFLOW): (1, 0.01),
        ("gen_ai.server.time_to_first_token", series): (2, 0.27),
        ("gen_ai.server.time_per_output_token", series): (1, 0.125),
    }
    ttft = exported(engine)["gen_ai.server.time_to_first_token", series]
    found = dict(zip((*ttft.explicit_bounds, None), ttft.bucket_counts, strict=True))
    assert {bound: count for bound, count in found.items() if count} == {0.02: 1, 0.25: 1}
    engine.housekeeping()
    say(engine, (5, "a", 5, ValueError("boom")))
    failed = series | {("error.type", "ValueError")}
    assert told(engine)["gen_ai.server.request.duration", failed] == (1, 0.01)


def test_series_that_the_configuration_names_begin_at_0(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[CLIENT])
    (request,) = encoded(report_of(engine))
    metrics = {metric.name: metric for metric in request.resource_metrics[0].scope_metrics[0].metrics}
    points = metrics["gen_ai.client.token.usage"].histogram.data_points
    usual = [NAMES | MODEL | {("gen_ai.token.type", kind)} for kind in ("input", "output")]
    assert {attributes(point.attributes) for point in points} >= set(usual)
    assert metrics["gen_ai.client.token.usage"].unit == "{token}"
    assert metrics["gen_ai.client.operation.duration"].unit == "s"
    assert all(point.count == 0 for metric in metrics.values() for point in metric.histogram.data_points)


def test_a_client_counts_chunks_and_the_tokens_that_the_last_one_tells(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[CLIENT])
    words = [{"choices": [{"delta": {"content": word}}]} for word in "abc"]
    last = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 17}}

    def chunks():
        for chunk in (*words, last):
            advance(engine, ns=30 * MS)
            yield chunk

    assert list(otelslo.track_stream("chat", chunks, engine=engine)) == [*words, last]
    series = NAMES | MODEL
    assert told(engine) == {
        ("gen_ai.client.operation.duration", series): (1, 0.12),
        ("gen_ai.client.operation.time_to_first_chunk", series): (1, 0.03),
        ("gen_ai.client.operation.time_per_output_chunk", series): (2, 0.06),
        ("gen_ai.client.token.usage", series | {("gen_ai.token.type", "input")}): (1, 5.0),
        ("gen_ai.client.token.usage", series | {("gen_ai.token.type", "output")}): (1, 17.0),
    }


@pytest.mark.parametrize(("per", "good"), [("call", 3), ("item", 12)])
def test_calls_of_one_class_of_batches_are_counted_each(make_engine, per, good) -> None:
    """A batch is one call with the tokens of all its items, whether an objective counts items or calls."""
    slo = SLO("model", indicator="inference", options={"per": per}, group_by="batch_class")
    engine = make_engine(slo, gen_ai=[CLIENT])

    @otelslo.track("chat", engine=engine)
    def ask() -> None:
        current().batch(4)
        current().usage(input_tokens=8)
        advance(engine, ns=MS)

    for _ in range(3):
        ask()
    assert groups(engine, "model") == {"batch_class=2-8": {"good": good}}
    counted = told(engine)
    assert counted["gen_ai.client.operation.duration", NAMES | MODEL] == (3, 0.003)
    assert counted["gen_ai.client.token.usage", NAMES | MODEL | {("gen_ai.token.type", "input")}] == (3, 24.0)


def test_the_app_tells_model_and_tokens(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[CLIENT])

    @otelslo.track("chat", engine=engine)
    def ask(model: str) -> None:
        current().set(**{"gen_ai.request.model": model})
        current().usage(input_tokens=9)
        current().usage(output_tokens=20)
        current().usage(output_tokens=-1)  # no number of tokens: not a word
        advance(engine, ns=MS)

    ask("other")
    engine.housekeeping()
    ask("other")
    for who in (OVERFLOW, NAMES | {("gen_ai.request.model", "other")}):
        assert told(engine)["gen_ai.client.operation.duration", who] == (1, 0.001)
        assert told(engine)["gen_ai.client.token.usage", who | {("gen_ai.token.type", "output")}] == (1, 20.0)


def test_models_that_nobody_declared_are_one(make_engine) -> None:
    declared = GenAI("chat", "openai", match={"route": "chat"}, models=["a", "b"], model="a")
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[declared])
    for _ in range(2):
        for model in ("a", "b", "x", "y"):
            say(engine, (5, "t"), **{"gen_ai.request.model": model})
        engine.housekeeping()
    named = [
        dict(where).get("gen_ai.request.model")
        for (name, where) in told(engine)
        if name == "gen_ai.server.time_to_first_token"
    ]
    assert sorted(filter(None, named)) == ["_OTHER", "a", "b"]


def test_past_fifty_combinations_the_rest_is_one_series(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[SERVER])
    other = Engine(
        [SLO("done", match={"kind": "call"})],
        state_dir=engine.state_dir,
        clock=engine.clock,
        runner=False,
        gen_ai=[SERVER],
    ).start()
    for _ in range(2):
        for number in range(measures.MOST_COMBINATIONS + 20):
            say(engine if number % 2 else other, (5, "t"), **{"gen_ai.request.model": f"m{number}"})
        for one in (engine, other):
            one.housekeeping()
    found = {where: count for (name, where), (count, _) in told(engine).items() if name.endswith("request.duration")}
    assert len(found) == measures.MOST_COMBINATIONS  # "m" of the configuration has no call; one is the overflow
    assert sum(found.values()) == 2 * (measures.MOST_COMBINATIONS + 20)
    assert found[OVERFLOW] == measures.MOST_COMBINATIONS + 20 + 21
    other.close()


def test_two_workers_add_up_and_a_new_one_goes_on(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[SERVER])
    more = {"state_dir": engine.state_dir, "clock": engine.clock}
    for _ in range(3):
        worker = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[SERVER], **more)
        say(worker, (10, "a", 10, "b"))
        say(engine, (10, "a", 10, "b"))
        worker.close()
    assert told(engine)["gen_ai.server.time_per_output_token", NAMES | MODEL] == (6, 0.06)


def test_what_one_worker_has_met_the_others_know(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[SERVER])
    other = make_engine(
        SLO("done", match={"kind": "call"}), gen_ai=[SERVER], state_dir=engine.state_dir, clock=engine.clock
    )
    say(engine, (5, "t"), **{"gen_ai.request.model": "new"})
    engine.housekeeping()
    other.housekeeping()
    say(other, (5, "t"), **{"gen_ai.request.model": "new"})
    series = NAMES | {("gen_ai.request.model", "new")}
    assert told(other)["gen_ai.server.request.duration", series][0] == 1


def test_nothing_is_counted_or_made_where_it_is_off(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}))
    say(engine, (10, "a", 10, "b"))
    assert told(engine) == {}
    track = engine.track("chat")
    assert track.measure is None
    assert not track.judged_each
    assert not track.paced


def test_a_reload_turns_it_on_and_off(make_engine, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = "slos:\n  - {name: done, target: 99%, match: {kind: call}}\n"
    more = "gen_ai:\n  - {operation: chat, provider: openai, match: {route: chat}}\n"
    (tmp_path / "slo.yaml").write_text(plain)
    engine = Engine(state_dir=tmp_path / "s", clock=otelslo.ManualClock(), runner=False).start()
    for text, count in ((plain, None), (plain + more, (1, 0.01)), (plain + more, (2, 0.02)), (plain, (2, 0.02))):
        (tmp_path / "slo.yaml").write_text(text)
        engine.reload()
        say(engine, (10, "a"))
        assert told(engine).get(("gen_ai.server.request.duration", NAMES)) == count
    engine.close()


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────────
HTTP = GenAI("chat", "vllm", match={"kind": "http", "route": "/v1/chat"}, model="m")


def serve(engine: Engine, script: tuple[Any, ...], path: str = "/v1/chat") -> None:
    async def app(scope, receive, send):
        for step in script:
            if isinstance(step, int):
                advance(engine, ns=step * MS)
            else:
                await send(step)

    Request(SLOMiddleware(app, engine=engine, routes=["/v1/chat", "/other"]), http_scope(path)).step()


def test_requests_through_the_middleware(make_engine) -> None:
    engine = make_engine(SLO("availability"), gen_ai=[HTTP])
    serve(engine, (10, START, 90, CHUNK, 20, CHUNK, 20, LAST))
    serve(engine, (10, START, 90, CHUNK, 20, CHUNK, 20, LAST), path="/other")
    serve(engine, (7, {**START, "status": 503, "headers": []}, LAST))
    series = frozenset({("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "vllm")}) | MODEL
    assert told(engine) == {
        ("gen_ai.server.request.duration", series): (1, 0.14),
        ("gen_ai.server.request.duration", OVERFLOW): (1, 0.007),
        ("gen_ai.server.time_to_first_token", series): (1, 0.1),
        ("gen_ai.server.time_per_output_token", series): (1, 0.02),
    }
    assert engine.count("availability", 10**12).total == 3


def test_requests_of_wsgi_have_durations(make_engine) -> None:
    engine = make_engine(SLO("availability"), gen_ai=[HTTP])

    def app(environ, start_response):
        advance(engine, ns=30 * MS)
        environ["otelslo.exchange"].set(**{"gen_ai.provider.name": "flask"})
        start_response("200 OK", [])
        return [b"a"]

    environ: dict[str, Any] = {"PATH_INFO": "/v1/chat", "REQUEST_METHOD": "POST"}
    setup_testing_defaults(environ)
    edge = wsgi.SLOMiddleware(app, engine=engine, routes=["/v1/chat"])
    for _ in range(2):
        body = edge(dict(environ), lambda status, headers: None)
        assert list(body) == [b"a"]
        body.close()
        engine.housekeeping()
    series = frozenset({("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "flask")}) | MODEL
    name = "gen_ai.server.request.duration"
    assert told(engine) == {(name, OVERFLOW): (1, 0.03), (name, series): (1, 0.03)}


# ── /metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_page_shows_them_under_their_names_in_prometheus(make_engine) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[SERVER, CLIENT])
    say(engine, (250, "a", 100, "b", 100, "c", 50))
    _, page = render(engine, "application/openmetrics-text")
    lines = page.decode().splitlines()
    assert "# TYPE gen_ai_server_time_to_first_token_seconds histogram" in lines
    assert "# UNIT gen_ai_server_time_to_first_token_seconds seconds" in lines
    assert "# TYPE gen_ai_client_token_usage histogram" in lines
    labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="m"'
    bucket = re.compile(rf'gen_ai_server_time_to_first_token_seconds_bucket{{{labels},le="([^"]+)"}} (\d+)')
    found = [match.groups() for line in lines if (match := bucket.fullmatch(line))]
    bounds = [repr(bound) for bound in TIME_TO_FIRST_TOKEN.explicit_bounds]
    assert found == [(bound, "0" if number < 8 else "1") for number, bound in enumerate([*bounds, "+Inf"])]
    assert f"gen_ai_server_time_to_first_token_seconds_sum{{{labels}}} 0.25" in lines
    parser = pytest.importorskip("prometheus_client.openmetrics.parser", reason="needs prometheus-client")
    families = {family.name: family for family in parser.text_string_to_metric_families(page.decode())}
    assert families["gen_ai_server_time_per_output_token_seconds"].type == "histogram"


def test_a_process_without_a_block_says_so_and_hurts_no_call(make_engine, caplog) -> None:
    engine = make_engine(SLO("done", match={"kind": "call"}), gen_ai=[SERVER])
    call = engine.track("chat").open()
    engine.ring.blocks.detach()
    call.close()
    assert "not_attached: a call was not counted in gen_ai metrics: this process has no block" in caplog.text
    assert engine.attach()
    say(engine, (10, "a"))
    assert exported(engine)["gen_ai.server.request.duration", NAMES | MODEL].count == 1
