"""What `vllm serve` does with `--middleware`, without vLLM, which needs more than a test machine has: as a process.

The app is put together in the order of its `build_app` (vllm/entrypoints/openai/api_server.py, main of 2026): routers,
the mount of /metrics with its changed pattern, CORS, exception handlers, other middleware, and last what the command
line names: a class by `add_middleware`, a coroutine function by `middleware("http")`.

Arguments: file descriptor of the listening socket, then middleware.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount

router = APIRouter()


@router.get("/health")
@router.get("/ping")
@router.post("/ping")
@router.get("/version")
@router.get("/load")
async def fine() -> Response:
    return Response(status_code=200)


@router.post("/v1/chat/completions")
async def chat(raw: Request) -> Response:
    """By its `model`: "dead" raises as a dead engine does, "missing" is no model, "endless" never stops to answer."""
    asked = await raw.json()
    if asked["model"] == "dead":
        raise RuntimeError("EngineDeadError")
    if asked["model"] == "missing":
        raise HTTPException(404, "The model does not exist.")
    if not asked.get("stream"):
        return JSONResponse({"choices": [{"message": {"content": "a b c"}}]})

    async def chunks() -> AsyncIterator[str]:
        for word in ("a", "b", "c"):
            yield f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n"
        while asked["model"] == "endless":
            await asyncio.sleep(0.01)
            yield "data: {}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(content=chunks(), media_type="text/event-stream")


async def metrics(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("vllm:num_requests_running 0\n")(scope, receive, send)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield


async def on_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 500)


class RequestIds:
    """In the place of vLLM's own middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def build_app(middleware: list[str]) -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    mounted = Mount("/metrics", metrics)
    mounted.path_regex = re.compile("^/metrics(?P<path>.*)$")
    app.routes.append(mounted)
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    app.exception_handler(Exception)(on_error)
    app.add_middleware(RequestIds)
    for path in middleware:
        module, name = path.rsplit(".", 1)
        imported = getattr(importlib.import_module(module), name)
        if inspect.isclass(imported):
            app.add_middleware(imported)
        elif inspect.iscoroutinefunction(imported):
            app.middleware("http")(imported)
        else:
            raise ValueError(f"Invalid middleware {path}. Must be a function or a class.")
    return app


if __name__ == "__main__":
    config = uvicorn.Config(build_app(sys.argv[2:]), log_level="critical", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
