"""gunicorn: has each worker ready before its first request, and all that it counted committed at its end.

    # gunicorn.conf.py
    from otelslo.integrations.gunicorn import on_exit, post_worker_init, worker_exit

Call these in hooks of your own, if you have them. Without them everything is counted the same; the first request of a
worker waits until its engine has started, seconds at most, and what was counted in the last second is committed by the
next start. With `preload_app` too, engines start in the workers, unless the app starts one while it is imported. ASGI
workers need no hooks: the middleware starts and ends with the app's lifespan.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

from otelslo import default
from otelslo.engine import Engine
from otelslo.frameworks import layers
from otelslo.wsgi import SLOMiddleware

log = logging.getLogger("otelslo")

_started: list[Engine] = []  # in this worker


def post_worker_init(worker: Any) -> None:
    """Start the engine of every WSGI middleware in the worker's app, or the process's own where none is found.

    Takes seconds where nothing is compiled yet, less than the worker's own time-out. Never raises.
    """
    try:
        application = getattr(worker, "wsgi", None)
        found = _middleware_in(application)
        for middleware in found:
            middleware.start()
            _started.append(middleware.engine)
        if not found and not _is_asynchronous(application):
            own = default.running()
            if own is not None:
                _started.append(own)
    except Exception as e:
        log.error("this worker will be ready with its first request: %s: %s", type(e).__name__, e)


def worker_exit(server: Any, worker: Any) -> None:
    """Commit what this worker has counted, and give back its place. Never raises."""
    try:
        while _started:
            _started.pop().close()
        for middleware in _middleware_in(getattr(worker, "wsgi", None)):
            middleware.engine.close()
    except Exception as e:
        log.error("what this worker counted last is committed by another: %s: %s", type(e).__name__, e)


def on_exit(server: Any) -> None:
    """Commit for an app that was preloaded and has started its engine in the master, which then leads. Never raises."""
    try:
        for middleware in _middleware_in(getattr(getattr(server, "app", None), "callable", None)):
            middleware.engine.close()
        default.engine().close()
    except Exception as e:
        log.error("what was counted last is committed by the next start: %s: %s", type(e).__name__, e)


def _middleware_in(application: Any) -> list[SLOMiddleware]:
    """Ours, whatever is wrapped around it."""
    return [layer for layer in layers(application) if isinstance(layer, SLOMiddleware)]


def _is_asynchronous(application: Any) -> bool:
    if inspect.iscoroutinefunction(application):
        return True
    return callable(application) and inspect.iscoroutinefunction(type(application).__call__)
