"""The OpenAI-compatible server and client: two workers of uvicorn, asked by the real `openai` package."""

from __future__ import annotations

from pathlib import Path

import pytest

from .playing import Example

pytest.importorskip("fastapi", reason="needs fastapi")
openai = pytest.importorskip("openai", reason="needs openai")


def test_a_conversation(tmp_path: Path) -> None:
    with Example("openai_streaming", tmp_path) as example:
        port = example.serve("server:app", workers=2)
        base = f"http://127.0.0.1:{port}/v1"
        for _ in range(3):
            assert example.run("client.py", "hello there my friend", base) == "hello there my friend\n"
        with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client:
            messages = [{"role": "user", "content": "say it at once"}]
            answer = client.chat.completions.create(model="parrot-mini", messages=messages)
            assert answer.choices[0].message.content == "say it at once"
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(model="nightingale", messages=messages)
            broken = client.chat.completions.create(
                model="parrot", messages=[{"role": "user", "content": "one !crash"}], stream=True
            )
            with pytest.raises(openai.APIConnectionError):
                list(broken)
        streamed = {"good": 3, "bad exception": 1}
        assert example.counted("answers") == {"good": 3}
        assert example.counted("first-token") == streamed | {"excluded not_evaluable": 1, "excluded client_error": 1}
        assert example.counted("pace") == example.counted("goodput") == example.counted("first-token")
        assert example.statuses()["goodput"]["sli"] == 0.75
        assert example.faults() == {}

        metrics = example.gen_ai()
        (ttft,) = [one for one in metrics["gen_ai.server.time_to_first_token"] if not one.overflow]
        durations = metrics["gen_ai.server.request.duration"]
        assert sum(sum(one.buckets) for one in durations) == 6  # the 404 and the crash among them
        assert ttft.attributes["gen_ai.request.model"] == "parrot"
        usage = metrics["gen_ai.client.token.usage"]
        assert {one.attributes["gen_ai.token.type"]: one.total for one in usage if not one.overflow}.keys() <= {
            "input",
            "output",
        }
        assert sum(one.total for one in usage) == 3 * (4 + 4)
