"""The example for vLLM on its stand-in: vLLM itself cannot be installed where the tests run."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import pytest
from live.servers import until

from .playing import Example

pytest.importorskip("fastapi", reason="needs fastapi")

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MIDDLEWARE = "otelslo.integrations.vllm.SLOMiddleware"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        return True
    return False


def test_the_middleware_by_its_import_path(tmp_path: Path) -> None:
    with Example("vllm", tmp_path) as example:
        port = free_port()
        example.start("stand_in", "--middleware", MIDDLEWARE, "--port", str(port))
        until(lambda: answers(port), "the server is up", 60)
        for _ in range(3):
            status, body = example.ask(port, CHAT, {"model": "m", "stream": True, "messages": []})
            assert (status, body.count(b"data: ")) == (200, 6)
        assert example.ask(port, COMPLETIONS, {"model": "m", "stream": True, "prompt": ""})[0] == 200
        assert b"All happy models" in example.ask(port, COMPLETIONS, {"model": "m", "prompt": ""})[1]
        assert example.ask(port, "/health") == (200, b"")
        assert example.counted("chat-goodput") == {"good": 3}
        assert example.counted("completions-goodput") == {"good": 1, "excluded not_evaluable": 1}
        assert example.counted("answers") == {"good": 5, "excluded health_check": 1}
        metrics = example.gen_ai()
        assert {
            (one.attributes["gen_ai.operation.name"], sum(one.buckets))
            for one in metrics["gen_ai.server.time_to_first_token"]
        } == {("chat", 3), ("text_completion", 1)}
        assert sum(sum(one.buckets) for one in metrics["gen_ai.server.request.duration"]) == 5
        assert example.faults() == {}
