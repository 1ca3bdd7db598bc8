"""The metrics as they leave a genuine OpenTelemetry Collector, and as PromQL sees them: whole, over a killed leader.

The streaming server of the examples under real uvicorn with two workers, asked by a plain client.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from components import Collector, Point, VictoriaMetrics, receiving, service_environment
from examples.playing import Example
from live.servers import until
from live.watch import Watch

from otelslo.genai.instruments import INSTRUMENTS, SERVER

pytest.importorskip("fastapi", reason="needs fastapi")

INTERVAL_MS = 400
ARRIVES_S = 60.0  # only ends a test that hangs
CHAT = "/v1/chat/completions"
ROUND = 12
WORDS = 6
REQUESTS = "gen_ai.server.request.duration"


def answer(example: Example, port: int, model: str) -> int:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "w " * WORDS}]}
    return example.ask(port, CHAT, body)[0]


def ask_many(example: Example, port: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        models = ["parrot-mini", "nightingale", "parrot-mini"] * (ROUND // 3)
        statuses = list(pool.map(lambda model: answer(example, port, model), models))
    assert sorted(statuses) == [200] * (ROUND * 2 // 3) + [404] * (ROUND // 3)


def test_whole_histograms_arrive_at_a_collector_and_in_promql(tmp_path: Path) -> None:
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        promql = stack.enter_context(VictoriaMetrics(tmp_path))
        collector = stack.enter_context(Collector(tmp_path, receiver.metrics_url, promql.metrics_url))
        environment = service_environment(collector.endpoint, INTERVAL_MS)
        example = stack.enter_context(Example("openai_streaming", tmp_path))
        example.environment |= {key: value for key, value in environment.items() if key.startswith("OTEL_")}
        port = example.serve("server:app", workers=2)
        ask_many(example, port)
        example.quiet()
        until(lambda: Watch(example.ring).leader_pid() > 0, "one leads", ARRIVES_S)
        leader = Watch(example.ring).leader_pid()
        os.kill(leader, signal.SIGKILL)  # uvicorn starts another in its place
        until(lambda: Watch(example.ring).leader_pid() not in (0, leader), "another leads", ARRIVES_S)
        ask_many(example, port)
        asked = 2 * ROUND
        while not any(one.attributes.get("error.type") for one in example.gen_ai()[REQUESTS]):
            assert answer(example, port, "nightingale") == 404
            asked += 1
        example.quiet()

        until(receiver.books.instances, "something arrives", ARRIVES_S)
        (ring_id,) = receiver.books.instances()

        def newest(name: str) -> list[Point]:
            found = {point.attributes: point for point in receiver.books.points(name, ring_id)}
            return [point for point in found.values() if point.value]

        def arrived() -> int | float:
            return sum(point.value for point in newest(REQUESTS))

        until(lambda: arrived() == asked, "all requests arrive", ARRIVES_S)
        assert receiver.books.findings == []
        assert receiver.books.instances() == [ring_id]
        kept = example.gen_ai()
        for instrument in INSTRUMENTS:
            if not instrument.name.startswith(f"gen_ai.{SERVER}"):
                continue
            points = newest(instrument.name)
            assert {(p.unit, p.bounds, p.kind) for p in points} == {("s", instrument.explicit_bounds, "histogram")}
            assert sorted((p.buckets, p.sum) for p in points) == sorted(
                (one.buckets, one.total_in_unit) for one in kept[instrument.name]
            )
        good = 2 * ROUND * 2 // 3
        assert sum(point.value for point in newest("gen_ai.server.time_to_first_token")) == good
        assert sum(point.value for point in newest("gen_ai.server.time_per_output_token")) == good
        assert {dict(p.attributes).get("error.type") for p in newest(REQUESTS)} >= {"404"}

        until(
            lambda: promql.query("sum(gen_ai_server_request_duration_seconds_count)")[0][1] == asked,
            "all requests are known to PromQL",
            ARRIVES_S,
        )
        (found,) = promql.query('sum(gen_ai_server_time_to_first_token_seconds_bucket{le="10"})')
        assert found[1] == good
        labels = {
            labels.get("gen_ai_request_model")
            for labels, _ in promql.query("gen_ai_server_time_to_first_token_seconds_count")
        }
        assert labels >= {"parrot-mini"}
        assert example.faults() == {}
