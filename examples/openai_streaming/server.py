"""A chat server that speaks OpenAI's API and streams, with promises on its first token, its pace, and both together.

    pip install otelslo fastapi openai; cd examples/openai_streaming
    uvicorn server:app --workers 2 &
    python client.py "hello there"; otelslo status

State and history lie in .otelslo/ here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from otelslo.asgi import SLOMiddleware

TOKEN_S = {"parrot": 0.02, "parrot-mini": 0.005}  # how long each model takes for a word

app = FastAPI()
app.add_middleware(SLOMiddleware)  # added last: the outermost, which sees what a client sees


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/v1/chat/completions", response_model=None)
async def chat(request: Request) -> JSONResponse | StreamingResponse:
    """Says what it was told, word by word."""
    asked = await request.json()
    model = asked["model"]
    if model not in TOKEN_S:
        raise HTTPException(404, f"the model {model!r} does not exist")
    prompt = asked["messages"][-1]["content"]
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(prompt.split())}
    usage["total_tokens"] = sum(usage.values())

    # What only the app knows of its request: the model that was asked for, and its tokens.
    said = request.scope["otelslo"]
    said.set(**{"gen_ai.request.model": model})
    said.usage(input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"])

    if asked.get("stream"):
        return StreamingResponse(events(model, prompt, usage), media_type="text/event-stream")
    words = [word async for word in generate(model, prompt)]
    message = {"role": "assistant", "content": "".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse({**head(model, "chat.completion"), "choices": [choice], "usage": usage})


async def generate(model: str, prompt: str) -> AsyncIterator[str]:
    """The model: as slow as one."""
    for number, word in enumerate(prompt.split()):
        await asyncio.sleep(TOKEN_S[model])
        if word == "!crash":
            raise RuntimeError("the engine is dead")
        yield f" {word}" if number else word


async def events(model: str, prompt: str, usage: dict[str, int]) -> AsyncIterator[str]:
    """Its words as server-sent events. The first chunk tells a role and the last a usage: neither is a token."""
    yield event(model, [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    async for word in generate(model, prompt):
        yield event(model, [{"index": 0, "delta": {"content": word}, "finish_reason": None}])
    yield event(model, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    yield event(model, [], usage=usage)
    yield "data: [DONE]\n\n"


def event(model: str, choices: list[Any], **more: Any) -> str:
    return f"data: {json.dumps({**head(model, 'chat.completion.chunk'), 'choices': choices, **more})}\n\n"


def head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_790_000_000, "model": model}
