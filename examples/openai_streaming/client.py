"""Asks the server by OpenAI's own client, and counts each answer as the one who waits for it sees it.

    python client.py "hello there" [base URL, default http://127.0.0.1:8000/v1]

It shares the server's slo.yaml and state, so `otelslo status` shows both sides.
"""

from __future__ import annotations

import sys

import openai

import otelslo


def ask(client: openai.OpenAI, prompt: str, model: str = "parrot") -> str:
    """The answer. The clock runs from the request to the last chunk; the client's stream stays what it is."""
    stream = otelslo.track_stream(
        "ask",
        lambda: client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},  # its last chunk tells the tokens, which go into gen_ai metrics
        ),
        **{"gen_ai.request.model": model},
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


if __name__ == "__main__":
    prompt, *rest = sys.argv[1:] or ["hello there, how are you"]
    with openai.OpenAI(base_url=rest[0] if rest else "http://127.0.0.1:8000/v1", api_key="none", max_retries=0) as ai:
        print(ask(ai, prompt))
