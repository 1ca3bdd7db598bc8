"""Zero-code: counts the requests of a service that knows nothing of us, under `opentelemetry-instrument`.

    OTELSLO_CONFIG=slo.yaml opentelemetry-instrument uvicorn app:app
    OTELSLO_CONFIG=slo.yaml opentelemetry-instrument gunicorn app:app

In uvicorn and gunicorn, what the server calls is wrapped in the process that serves, once the app is loaded: whatever
the app is made with, and whatever is around it; nothing else counts in that process. Under other servers the
frameworks' own classes count, from the first call of an app on. A request is counted once however often it meets us, by
hand or here, as long as the engine is the process's own.

Nothing is imported that the service does not import itself, nothing starts in a parent that serves nothing, and nothing
of ours is raised into the service: what fails is logged once, and the service runs uncounted.
"""

from __future__ import annotations

import functools
import logging
import os
import weakref
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined, unused-ignore]
from otelslo.integrations import environment

from otelslo import asgi, default, wsgi
from otelslo.engine import Engine
from otelslo.switch import disabled

log = logging.getLogger("otelslo")

_Function = Callable[..., Any]
_Edge = type[asgi.SLOMiddleware] | type[wsgi.SLOMiddleware]
# What other workers of gunicorn call need not be WSGI: an app of Tornado or aiohttp, or ASGI by way of uvicorn.
_WSGI_WORKERS = frozenset({"gunicorn.workers." + name for name in ("sync", "gthread", "ggevent", "geventlet")})


class SLOInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]
    """What `opentelemetry-instrument` finds by its entry point; `SLOInstrumentor().instrument()` does the same."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing: each framework is looked at when it is imported."""
        return ()

    def _instrument(self, **_: Any) -> None:
        try:
            environment.take_options(os.environ)
            if not disabled():
                _state.on = True
                for module in _TARGETS:
                    wrapt.register_post_import_hook(_patch, module)
        except Exception as e:
            _failed("nothing is counted", e)

    def _uninstrument(self, **_: Any) -> None:
        _state.on = False
        while _state.patches:
            cls, name, bare, ours = _state.patches.pop()
            if vars(cls).get(name) is ours:  # else somebody else has patched it since, and ours passes everything on
                setattr(cls, name, bare)
        _state.counters.clear()
        _state.served, _state.engine = False, None


class _Counter(NamedTuple):
    """What counts one app object: at which of its classes, by which edge (None: not at all)."""

    cls: type
    edge: _Function | None
    app: Callable[[], Any]


class _State:
    """What is patched in this process, and what counts in it."""

    on = False
    served = False  # by a server that we know: what it calls is counted, and so nothing below
    engine: Engine | None = None

    def __init__(self) -> None:
        self.patches: list[tuple[type, str, _Function, _Function]] = []
        self.counters: dict[int, _Counter] = {}  # by id: neither hash nor equality of an app is ours to ask for


class _Itself:
    """An app as its class alone would call it.

    Held weakly where it can be: the engine keeps what an edge wraps for as long as it lives.
    """

    def __init__(self, app: Callable[[], Any], bare: _Function) -> None:
        self._app = app
        self._bare = bare

    @property
    def app(self) -> Any:
        """Where the routes are to be found."""
        return self._app()

    def __call__(self, *arguments: Any) -> Any:
        return self._bare(self._app(), *arguments)


_state = _State()


# ── patches ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _patch(module: Any) -> None:
    """Put ours in the place of what the module's class has; called when the module has been imported."""
    try:
        class_name, name, make = _TARGETS[module.__name__]
        # OTel's instrumentors put subclasses in the place of classes: what they inherit is what counts.
        cls = next(cls for cls in getattr(module, class_name).__mro__ if name in vars(cls))
        bare = vars(cls)[name]
        if not _state.on or cls is object or any(bare is ours for _, _, _, ours in _state.patches):
            return
        ours = make(cls, bare)
        setattr(cls, name, ours)
        _state.patches.append((cls, name, bare, ours))
    except Exception as e:
        _failed(f"apps of {getattr(module, '__name__', module)} are not counted", e)


def _failed(what: str, error: Exception) -> None:
    log.error("otelslo: %s: %s: %s", what, type(error).__name__, error)


# ── servers ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _serving(edge: _Edge, attribute: str, cls: type, bare: _Function) -> _Function:
    """A server's method that loads the app into `attribute`, in the process that will serve it."""

    @functools.wraps(bare)
    def load(self: Any, *arguments: Any, **named: Any) -> Any:
        loaded = bare(self, *arguments, **named)
        if _state.on and (attribute != "wsgi" or any(c.__module__ in _WSGI_WORKERS for c in type(self).__mro__)):
            _serve(self, attribute, edge)
        return loaded

    return load


def _serve(server: Any, attribute: str, edge: _Edge) -> None:
    try:
        if default.running() is None:  # has said why
            return
        counted = edge(getattr(server, attribute))
        if isinstance(counted, wsgi.SLOMiddleware):  # ASGI has a lifespan to start by
            counted.start()
        setattr(server, attribute, counted)
        _state.served = True
    except Exception as e:
        _failed("the server's app is not counted as a whole", e)


# ── frameworks ─────────────────────────────────────────────────────────────────────────────────────────────────────
def _asgi_class(cls: type, bare: _Function) -> _Function:
    @functools.wraps(bare)
    async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> None:
        edge = _edge_of(self, cls, bare, asgi.SLOMiddleware, scope, "otelslo")
        if edge is None:
            await bare(self, scope, receive, send)
        else:
            await edge(scope, receive, send)

    return __call__


def _wsgi_class(cls: type, bare: _Function) -> _Function:
    @functools.wraps(bare)
    def __call__(self: Any, environ: Any, start_response: Any) -> Any:
        edge = _edge_of(self, cls, bare, wsgi.SLOMiddleware, environ, wsgi.EXCHANGE_KEY)
        return bare(self, environ, start_response) if edge is None else edge(environ, start_response)

    return __call__


def _edge_of(app: Any, cls: type, bare: _Function, edge: _Edge, request: Any, key: str) -> _Function | None:
    """What is to count this request at this class of the app; None: nothing, or it is counted already. Never raises."""
    try:
        if not _state.on or _state.served or _is_counted(request.get(key)):
            return None
        counter = _state.counters.get(id(app)) or _new_counter(app, cls, bare, edge)
        return counter.edge if counter.cls is cls else None  # of FastAPI's and Starlette's `__call__` the first
    except Exception as e:
        _uncountable(app, cls, e)
        return None


def _is_counted(exchange: Any) -> bool:
    """Whether an edge of our engine is around; one that does not say which engine counts wants no other, either."""
    if exchange is None:
        return False
    by = exchange.counted_by
    return not by or _state.engine in by


def _new_counter(app: Any, cls: type, bare: _Function, edge: _Edge) -> _Counter:
    """By the edge of this app object; of two threads that come at once, the first one's."""
    _state.engine = default.running()
    held = _weakly(app)
    counted = None if _state.engine is None else edge(_Itself(held, bare))
    return _state.counters.setdefault(id(app), _Counter(cls, counted, held))


def _weakly(app: Any) -> Callable[[], Any]:
    number = id(app)
    try:
        return weakref.ref(app, lambda _: _state.counters.pop(number, None))
    except TypeError:  # Litestar's have slots, and none for this
        return lambda: app


def _uncountable(app: Any, cls: type, error: Exception) -> None:
    """Said once for each app, which is then left alone."""
    if id(app) not in _state.counters:
        _state.counters[id(app)] = _Counter(cls, None, lambda: app)
        _failed(f"an app of {cls.__name__} is not counted", error)


# By module: the class, its method, and what makes ours.
_TARGETS: dict[str, tuple[str, str, Callable[[type, _Function], _Function]]] = {
    "uvicorn.config": ("Config", "load", functools.partial(_serving, asgi.SLOMiddleware, "loaded_app")),
    "gunicorn.workers.base": ("Worker", "load_wsgi", functools.partial(_serving, wsgi.SLOMiddleware, "wsgi")),
    "gunicorn.workers.gasgi": ("ASGIWorker", "load_wsgi", functools.partial(_serving, asgi.SLOMiddleware, "asgi")),
    "starlette.applications": ("Starlette", "__call__", _asgi_class),
    "fastapi.applications": ("FastAPI", "__call__", _asgi_class),
    "litestar.app": ("Litestar", "__call__", _asgi_class),
    "django.core.handlers.asgi": ("ASGIHandler", "__call__", _asgi_class),
    "django.core.handlers.wsgi": ("WSGIHandler", "__call__", _wsgi_class),
    "flask.app": ("Flask", "__call__", _wsgi_class),
}
