"""Real Django and Litestar under the ASGI edge: their route templates, and their ways to answer and to fail."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import pytest
from drive import DISCONNECT, REQUEST, cells, groups, http_scope

from otelslo import SLO
from otelslo.asgi import SLOMiddleware

pytest.importorskip("django", reason="django is not installed")

import django_site
from django.core.asgi import get_asgi_application


@pytest.fixture
def by_route(make_engine):
    return make_engine(SLO("a", group_by="route", health_checks=[], max_groups=64))


def routes_of(engine):
    """{template: events}"""
    return {name.removeprefix("route="): sum(counts.values()) for name, counts in groups(engine, "a").items()}


async def ask(app, scope, leaves_after=None):
    """Status, body and error of one request whose client stays, or leaves after that many messages."""
    sent, gone, unread = [], asyncio.Event(), [REQUEST]

    async def receive():
        if unread:
            return unread.pop()
        await gone.wait()
        return DISCONNECT

    async def send(message):
        sent.append(message)
        if len(sent) == leaves_after:
            gone.set()
        await asyncio.sleep(0)

    error = None
    try:
        await app(scope, receive, send)
    except Exception as e:
        error = type(e)
    status = next((message["status"] for message in sent if message["type"] == "http.response.start"), None)
    return status, b"".join(message.get("body", b"") for message in sent), error


def test_django_templates(by_route):
    """The server's root path is no part of them."""
    application = SLOMiddleware(get_asgi_application(), engine=by_route)

    async def all_of(**more):
        for path in django_site.TEMPLATES:
            await ask(application, http_scope(more.get("root_path", "") + path, **more))

    asyncio.run(all_of())
    by_route.housekeeping()
    asyncio.run(all_of(root_path="/root"))
    found = routes_of(by_route)
    other_language = "/de/about/<slug:page>/"  # each but the default one comes with its first request
    assert found.pop("(overflow)", 0) + found[other_language] == 2
    expected = Counter(template or "(unknown)" for template in django_site.TEMPLATES.values())
    assert found | {other_language: 2} == {template: 2 * count for template, count in expected.items()}
    assert by_route.faults() == {}


@pytest.mark.filterwarnings(
    "ignore:StreamingHttpResponse must consume synchronous iterators",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # Django leaves its body file open when a stream raises
)
@pytest.mark.parametrize(
    ("path", "method", "status", "outcome"),
    [
        ("/items/1/", "GET", 200, "good"),
        ("/items/1/", "HEAD", 200, "good"),
        ("/waits/", "GET", 200, "good"),
        ("/answers/503/", "GET", 503, "bad 5xx"),
        ("/forbidden/", "GET", 403, "excluded unauthorised"),
        ("/missing/1/", "GET", 404, "excluded client_error"),
        ("/fails/", "GET", 500, "bad 5xx"),
        ("/streams/", "GET", 200, "good"),
        ("/breaks/", "GET", 200, "bad exception"),
        ("/file/", "GET", 200, "good"),
        ("/speaks/", "GET", 200, "bad other"),
    ],
)
def test_django_outcomes(engine, path, method, status, outcome):
    application = get_asgi_application()
    bare = asyncio.run(ask(application, http_scope(path, method)))
    assert asyncio.run(ask(SLOMiddleware(application, engine=engine), http_scope(path, method))) == bare
    assert bare[0] == status
    assert cells(engine, "availability") == {outcome: 1}
    assert (engine.in_flight(), engine.faults()) == (0, {})
    gc.collect()


def test_django_whose_client_leaves(engine):
    """Django cancels a view that still works; one that streams goes on until it notices."""
    application = SLOMiddleware(get_asgi_application(), engine=engine)
    asyncio.run(ask(application, http_scope("/endless/"), leaves_after=3))
    assert cells(engine, "availability") == {"excluded client_cancel": 1}
    assert engine.in_flight() == 0


# ── Litestar ───────────────────────────────────────────────────────────────────────────────────────────────────────
def litestar_app():
    litestar = pytest.importorskip("litestar", reason="litestar is not installed")

    @litestar.get("/")
    async def root() -> str:
        return "ok"

    @litestar.get("/items/{id:int}")
    async def item(id: int) -> str:
        return "ok"

    @litestar.get("/fails")
    async def fails() -> str:
        raise RuntimeError("boom")

    @litestar.get("/leaf/{name:str}", sync_to_thread=False)
    def leaf(name: str) -> str:
        return "ok"

    inner = litestar.Router("/inner/{tenant:str}", route_handlers=[leaf])
    return litestar.Litestar([root, item, fails, inner], openapi_config=None, logging_config=None)


LITESTAR_TEMPLATES = {
    "/": "/",
    "/items/1": "/items/{id}",
    "/items/2": "/items/{id}",
    "/inner/acme/leaf/x": "/inner/{tenant}/leaf/{name}",
    "/nope": None,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of how its handlers say where parameters are
def test_litestar_templates(by_route):
    """By the template that it leaves in the scope: rows come with the first request of each."""
    app = SLOMiddleware(litestar_app(), engine=by_route)

    async def all_of():
        for path in LITESTAR_TEMPLATES:
            await ask(app, http_scope(path))

    asyncio.run(all_of())
    for _ in LITESTAR_TEMPLATES:
        by_route.housekeeping()
    asyncio.run(all_of())
    found = routes_of(by_route)
    assert found.pop("(overflow)") == 4
    assert found == {"/": 1, "/items/{id}": 2, "/inner/{tenant}/leaf/{name}": 1, "(unknown)": 2}
    assert by_route.faults() == {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("path", "status", "outcome"),
    [("/items/1", 200, "good"), ("/items/x", 404, "excluded client_error"), ("/fails", 500, "bad 5xx")],
)
def test_litestar_outcomes(engine, path, status, outcome):
    app = litestar_app()
    answer = asyncio.run(ask(SLOMiddleware(app, engine=engine), http_scope(path)))
    assert answer == asyncio.run(ask(app, http_scope(path)))
    assert answer[0] == status
    assert cells(engine, "availability") == {outcome: 1}
