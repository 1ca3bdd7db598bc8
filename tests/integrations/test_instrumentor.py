"""What zero-code does to classes: in the place of the right ones, all of it undone, and never in the service's way."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from drive import cells, http_scope, serve

pytest.importorskip("opentelemetry.instrumentation.instrumentor", reason="needs opentelemetry-instrumentation")
pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("flask", reason="needs flask")
pytest.importorskip("gunicorn", reason="needs gunicorn")

import fastapi.applications
import flask.app
import gunicorn.workers.base
import gunicorn.workers.sync
import starlette.applications
import uvicorn.config
from otelslo.integrations import instrumentor
from otelslo.integrations.instrumentor import SLOInstrumentor

from otelslo import Engine, asgi, default, wsgi

PATCHED = [
    (fastapi.applications.FastAPI, "__call__"),
    (starlette.applications.Starlette, "__call__"),
    (flask.app.Flask, "__call__"),
    (uvicorn.config.Config, "load"),
    (gunicorn.workers.base.Worker, "load_wsgi"),
]


@pytest.fixture
def own(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The process's own engine."""
    monkeypatch.setattr(default, "running", lambda given=None: engine)
    monkeypatch.setattr(default, "engine", lambda: engine)
    return engine


@pytest.fixture
def instrumented() -> Iterator[SLOInstrumentor]:
    found = SLOInstrumentor()
    found.instrument(skip_dep_check=True)
    yield found
    if found.is_instrumented_by_opentelemetry:
        found.uninstrument()


def application() -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.get("/ok")
    async def ok() -> str:
        return "ok"

    return app


def visit(app: Any) -> int:
    sent = asyncio.run(serve(app, http_scope("/ok")))
    return int(sent[0]["status"])


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "otelslo"]


def worker(cls: type, app: Any) -> Any:
    found = cls.__new__(cls)
    found.app = SimpleNamespace(wsgi=lambda: app)
    return found


def test_all_of_it_is_undone() -> None:
    before = [vars(cls)[name] for cls, name in PATCHED]
    found = SLOInstrumentor()
    for _ in range(2):
        found.instrument(skip_dep_check=True)
        assert all(vars(cls)[name] is not bare for (cls, name), bare in zip(PATCHED, before, strict=True))
        assert inspect.iscoroutinefunction(fastapi.FastAPI.__call__)  # servers ask
        assert not inspect.iscoroutinefunction(flask.Flask.__call__)
        found.uninstrument()
        assert [vars(cls)[name] for cls, name in PATCHED] == before


def test_what_others_patched_since_is_theirs(
    own: Engine, instrumented: SLOInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = fastapi.FastAPI.__call__

    async def theirs(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await ours(self, scope, receive, send)

    with monkeypatch.context() as patch:
        patch.setattr(fastapi.FastAPI, "__call__", theirs)
        instrumented.uninstrument()
        assert fastapi.FastAPI.__call__ is theirs
        assert visit(application()) == 200
    fastapi.FastAPI.__call__ = ours.__wrapped__  # type: ignore[attr-defined, method-assign]
    assert cells(own, "availability") == {}


@pytest.mark.parametrize("switch", ["OTELSLO_DISABLED", "OTEL_SDK_DISABLED"])
def test_the_kill_switch_patches_nothing(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [vars(cls)[name] for cls, name in PATCHED]
    monkeypatch.setenv(switch, "True")
    found = SLOInstrumentor()
    found.instrument(skip_dep_check=True)
    assert [vars(cls)[name] for cls, name in PATCHED] == before
    found.uninstrument()


def test_a_class_in_the_place_of_another_is_looked_through(instrumented: SLOInstrumentor) -> None:
    """OTel's Starlette instrumentation has replaced the class before ours is called."""

    class Defining:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    class Replacing(Defining): ...

    bare = Defining.__call__
    module = SimpleNamespace(__name__="starlette.applications", Starlette=Replacing)
    for _ in range(2):  # a second time is harmless
        instrumentor._patch(module)
    assert Defining.__call__.__wrapped__ is bare  # type: ignore[attr-defined]
    assert "__call__" not in vars(Replacing)


@pytest.mark.parametrize(
    "module",
    [SimpleNamespace(), SimpleNamespace(__name__="flask.app"), SimpleNamespace(__name__="flask.app", Flask=object())],
)
def test_a_module_that_is_not_as_it_should_be(
    instrumented: SLOInstrumentor, module: Any, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentor._patch(module)
    assert len(said(caplog)) == 1


def raising(*arguments: Any, **named: Any) -> Any:
    raise RuntimeError("ours is broken")


@pytest.mark.parametrize(
    ("owner", "name"),
    [(default, "running"), (asgi.SLOMiddleware, "__init__"), (instrumentor, "_is_counted"), (instrumentor, "_weakly")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_app_that_cannot_be_counted_is_served(
    own: Engine,
    instrumented: SLOInstrumentor,
    owner: Any,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = application()
    monkeypatch.setattr(owner, name, raising)
    assert [visit(app) for _ in range(3)] == [200, 200, 200]
    assert len(said(caplog)) == 1
    assert cells(own, "availability") == {}


def test_a_patch_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(instrumentor.wrapt, "register_post_import_hook", raising)
    found = SLOInstrumentor()
    found.instrument(skip_dep_check=True)
    assert len(said(caplog)) == 1
    found.uninstrument()


# ── servers ────────────────────────────────────────────────────────────────────────────────────────────────────────
def loaded(app: Any) -> Any:
    config = uvicorn.config.Config(app, log_level=logging.CRITICAL, proxy_headers=False)
    config.load()
    return config.loaded_app


def test_what_uvicorn_calls_counts_and_nothing_below(own: Engine, instrumented: SLOInstrumentor) -> None:
    app = application()
    outside = loaded(app)
    assert isinstance(outside, asgi.SLOMiddleware)
    assert visit(outside) == 200
    assert cells(own, "availability") == {"good": 1}
    assert visit(app) == 200  # not by way of the server
    assert cells(own, "availability") == {"good": 1}


@pytest.mark.parametrize("how", ["off", "raises"])
def test_uvicorn_serves_the_app_itself_where_we_are_off(
    own: Engine, instrumented: SLOInstrumentor, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default, "running", raising if how == "raises" else lambda: None)
    app = application()
    assert loaded(app) is app


def test_only_what_is_wsgi_is_wrapped_in_gunicorn(own: Engine, instrumented: SLOInstrumentor) -> None:
    """A worker that is not gunicorn's own may call an app of another protocol."""

    class Sync(gunicorn.workers.sync.SyncWorker): ...  # type: ignore[misc, unused-ignore]

    class Foreign(gunicorn.workers.base.Worker): ...  # type: ignore[misc, unused-ignore]

    app = object()
    for cls, wrapped in ((Foreign, False), (Sync, True)):
        found = worker(cls, app)
        found.load_wsgi()
        assert (found.wsgi is not app) is wrapped
        assert isinstance(found.wsgi, wsgi.SLOMiddleware) is wrapped


def test_what_an_app_raises_while_it_is_loaded_is_its_own(own: Engine, instrumented: SLOInstrumentor) -> None:
    found = gunicorn.workers.sync.SyncWorker.__new__(gunicorn.workers.sync.SyncWorker)
    found.app = SimpleNamespace(wsgi=raising)
    with pytest.raises(RuntimeError, match="ours is broken"):
        found.load_wsgi()
