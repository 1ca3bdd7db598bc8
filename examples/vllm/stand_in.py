"""No vLLM, but takes `--middleware` as it does, and streams in the shape of its API, so that `slo.yaml` can be tried.

    python stand_in.py --middleware otelslo.integrations.vllm.SLOMiddleware [--port 8000] &
    curl -N localhost:8000/v1/chat/completions -d '{"model": "m", "stream": true, "messages": []}'; otelslo status

Of vLLM it has how middleware is loaded, two routes, and the form of their events.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Sequence

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

WORDS = ["All", "happy", "models", "are", "alike"]


def build_app(middleware: Sequence[str]) -> FastAPI:
    """The app; each middleware is named by its import path, and is loaded as vLLM's `build_app` loads it."""
    app = FastAPI()
    app.add_api_route("/health", health)
    for route in ("/v1/chat/completions", "/v1/completions"):
        app.add_api_route(route, complete, methods=["POST"], response_model=None)
    for path in middleware:
        module_path, name = path.rsplit(".", 1)
        imported = getattr(importlib.import_module(module_path), name)
        if inspect.isclass(imported):
            app.add_middleware(imported)
        elif inspect.iscoroutinefunction(imported):
            app.middleware("http")(imported)
        else:
            raise ValueError(f"Invalid middleware {path}. Must be a function or a class.")
    return app


async def health() -> Response:
    return Response()


async def complete(request: Request) -> JSONResponse | StreamingResponse:
    """Always the same words."""
    asked = json.loads(await request.body())
    is_chat = request.url.path.endswith("/chat/completions")
    if asked.get("stream"):
        return StreamingResponse(events(is_chat), media_type="text/event-stream")
    text = " ".join(WORDS)
    return JSONResponse({"choices": [{"message": {"content": text}} if is_chat else {"text": text}]})


async def events(is_chat: bool) -> AsyncIterator[str]:
    for word in WORDS:
        await asyncio.sleep(0.01)
        choice = {"index": 0, "delta": {"content": word}} if is_chat else {"index": 0, "text": word}
        yield f"data: {json.dumps({'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--middleware", action="append", default=[], metavar="MODULE.NAME")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    uvicorn.run(build_app(given.middleware), port=given.port, log_level="warning")
