"""vLLM: counts the requests of its API server, streamed answers until they have ended.

    vllm serve MODEL --middleware otelslo.integrations.vllm.SLOMiddleware

Named last among several, it is the outermost. /health and /ping are excluded as health checks, /version and /load are
not: name them in an objective's `health_checks` where a router asks for them all the time. A client that leaves in the
middle of a stream is excluded, as anywhere.

    vllm serve MODEL --middleware otelslo.integrations.vllm.FirstTokenMiddleware

has the clock of each request stop at its first chunk instead of its last, so that a latency objective is about the time
to first token. Take one of the two: they have the same engine, and a request is counted once.
"""

from __future__ import annotations

from otelslo import asgi

# vLLM takes a class by its import path, and makes it with nothing but the app.


class SLOMiddleware(asgi.SLOMiddleware):
    """The middleware of `otelslo.asgi` with the process's own engine."""

    def __init__(self, app: asgi.App) -> None:
        super().__init__(app)


class FirstTokenMiddleware(asgi.SLOMiddleware):
    """The same, by the time to the first chunk of an answer."""

    def __init__(self, app: asgi.App) -> None:
        super().__init__(app, first_byte=True)
