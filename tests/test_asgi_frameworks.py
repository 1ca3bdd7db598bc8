"""Real Starlette and FastAPI: route templates wherever frameworks hide them, and their ways to answer and to fail."""

from __future__ import annotations

import asyncio
import contextlib
import resource

import pytest
from drive import DISCONNECT, REQUEST, cells, groups, http_scope, names, serve, websocket_scope
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.convertors import Convertor, register_url_convertor
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from otelslo import SLO
from otelslo.asgi import SLOMiddleware

fastapi = pytest.importorskip("fastapi")

GONE = (REQUEST, DISCONNECT)


async def ok(request):
    return PlainTextResponse("ok")


class Visitor:
    """Sends requests one after another, each in a loop of its own; as a server does, it survives what an app raises."""

    def __init__(self, app):
        self.app = app

    def lifespan(self):
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        asyncio.run(serve(self.app, {"type": "lifespan", "state": {}}, incoming))
        return self

    def visit(self, path, method="GET", headers=(), incoming=GONE, **more):
        """The status, or what the app raised."""
        sent = []
        with contextlib.suppress(RuntimeError):
            sent = asyncio.run(serve(self.app, http_scope(path, method, headers, **more), incoming))
        return next((message["status"] for message in sent if message["type"] == "http.response.start"), None)


def wrapped(app, engine, how):
    """As its documents say: the last one added; or around everything."""
    if how == "added":
        app.add_middleware(SLOMiddleware, engine=engine)
        return Visitor(app)
    return Visitor(SLOMiddleware(app, engine=engine))


WAYS = pytest.mark.parametrize("how", ["added", "around"])


@pytest.fixture
def by_route(make_engine):
    return make_engine(SLO("a", group_by="route", health_checks=[]), SLO("w", indicator="websocket", group_by="route"))


def routes_of(engine, slo="a"):
    """{template: events}"""
    found = {name.removeprefix("route="): sum(counts.values()) for name, counts in groups(engine, slo).items()}
    return found


class Even(Convertor[int]):
    regex = "[0-9]*[02468]"

    def convert(self, value):
        return int(value)

    def to_string(self, value):
        return str(value)


def starlette_app(directory):
    register_url_convertor("even", Even())
    sub = Starlette(routes=[Route("/", ok), Route("/leaf/{x}", ok)])
    return Starlette(
        routes=[
            Route("/", ok),
            Route("/items/{id:int}", ok),
            Route("/items/new", ok, methods=["POST"]),
            Route("/even/{n:even}", ok),
            Route("/files/{path:path}", ok),
            Route("/class", HTTPEndpoint),
            Route("/slash/", ok),
            Mount("/static", app=StaticFiles(directory=directory)),
            Mount("/t/{tenant}", routes=[Mount("/v{version:int}", routes=[Route("/users/{id}", ok)])]),
            Mount("/one", app=sub),
            Mount("/two", app=sub),
            Mount("/opaque", app=lambda scope, receive, send: ok_app(scope, receive, send)),
            Host("api.example", app=Router([Route("/hosted/{x}", ok)])),
            Route("/hosted/{other}", ok),
        ]
    )


async def ok_app(scope, receive, send):
    await PlainTextResponse("ok")(scope, receive, send)


@WAYS
def test_starlette_templates(by_route, tmp_path, how):
    (tmp_path / "a.css").write_text("a")
    visitor = wrapped(starlette_app(tmp_path), by_route, how).lifespan()
    expected = {
        "/": ["/"],
        "/items/{id}": ["/items/1", "/items/22"],
        "/even/{n}": ["/even/8"],
        "/files/{path}": ["/files/a", "/files/a/b/c"],
        "/class": ["/class"],
        "/static/*": ["/static/a.css", "/static/missing.css"],
        "/t/{tenant}/v{version}/users/{id}": ["/t/acme/v2/users/9"],
        "/one/": ["/one/"],
        "/one/leaf/{x}": ["/one/leaf/1"],
        "/two/leaf/{x}": ["/two/leaf/1", "/two/leaf/2"],
        "/opaque/*": ["/opaque/x/y"],
        "/hosted/{other}": ["/hosted/1"],
        "/items/new": [],
        "(unknown)": ["/nope", "/items/x", "/even/3", "/slash", "/one", "/t/acme/nope", "/two/nope"],
    }
    for paths in expected.values():
        for path in paths:
            visitor.visit(path)
    assert visitor.visit("/items/new", "POST") == 200
    assert visitor.visit("/hosted/1", headers={"host": "api.example"}) == 200
    counts = {template: len(paths) for template, paths in expected.items() if paths}
    assert routes_of(by_route) == counts | {"/items/new": 1, "/hosted/{x}": 1}
    assert by_route.faults() == {}


@WAYS
def test_statuses_that_routers_make(by_route, tmp_path, how):
    """Redirects are good and of no route; a wrong method belongs to its route."""
    visitor = wrapped(starlette_app(tmp_path), by_route, how).lifespan()
    assert visitor.visit("/slash") == 307
    assert visitor.visit("/items/1", "DELETE") == 405
    assert visitor.visit("/items/1", "BREW") == 405
    assert visitor.visit("/nope") == 404
    assert groups(by_route, "a") == {
        "(unknown)": {"good": 1, "excluded client_error": 1},
        "route=/items/{id}": {"excluded client_error": 2},
    }


@WAYS
def test_the_servers_root_path(by_route, tmp_path, how):
    visitor = wrapped(starlette_app(tmp_path), by_route, how).lifespan()
    for path in ("/api/items/1", "/api/one/leaf/2", "/items/3", "/api/class", "/class", "/apiary"):
        visitor.visit(path, root_path="/api")
    assert routes_of(by_route) == {"/items/{id}": 2, "/one/leaf/{x}": 1, "/class": 2, "(unknown)": 1}


@WAYS
@pytest.mark.parametrize("lifespan", [True, False])
def test_routes_added_after_the_start(by_route, how, lifespan):
    """Known by their template from their first request on, whatever was answered without a route before."""
    app = Starlette(routes=[Route("/old", ok)], exception_handlers={404: lambda request, error: PlainTextResponse("")})
    visitor = wrapped(app, by_route, how)
    if lifespan:
        visitor.lifespan()
    assert visitor.visit("/new/1") == 200
    app.routes.append(Mount("/new", routes=[Route("/{x}", ok)]))
    for _ in range(2):
        visitor.visit("/new/1")
        by_route.housekeeping()
    assert routes_of(by_route) == {"(unknown)": 1, "(overflow)": 1, "/new/{x}": 1}
    assert "http /new/{x}" in names(by_route)


@WAYS
def test_routes_added_by_the_lifespan(by_route, how):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        app.routes.append(Route("/late/{x}", ok))
        yield

    visitor = wrapped(Starlette(lifespan=lifespan), by_route, how).lifespan()
    visitor.visit("/late/1")
    assert routes_of(by_route) == {"/late/{x}": 1}


class Rewriting:
    """/v1/x -> /x, in the scope itself."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            scope["path"] = scope["path"].removeprefix("/v1")
        await self.app(scope, receive, send)


@WAYS
def test_paths_rewritten_on_the_inside(by_route, how):
    app = Starlette(routes=[Mount("/m", routes=[Route("/items/{id}", ok)])])
    app.add_middleware(Rewriting)
    visitor = wrapped(app, by_route, how).lifespan()
    for path in ("/v1/m/items/1", "/m/items/2", "/v1/nope"):
        visitor.visit(path)
    assert routes_of(by_route) == {"/m/items/{id}": 2, "(unknown)": 1}


def test_inside_of_a_mount(by_route):
    """The outer router's templates are not ours."""
    inner = SLOMiddleware(Starlette(routes=[Route("/leaf/{x}", ok)]), engine=by_route)
    visitor = Visitor(Starlette(routes=[Mount("/outer/{y}", app=inner), Route("/else", ok)]))
    for path in ("/outer/1/leaf/2", "/outer/3/leaf/4", "/outer/1/nope", "/else"):
        visitor.visit(path)
    assert routes_of(by_route) == {"/leaf/{x}": 2, "(unknown)": 1}


def test_behind_other_middleware_without_a_lifespan(by_route):
    visitor = Visitor(SLOMiddleware(Rewriting(Rewriting(Starlette(routes=[Route("/x/{y}", ok)]))), engine=by_route))
    visitor.visit("/x/1")
    assert routes_of(by_route) == {"/x/{y}": 1}


def test_a_framework_that_only_leaves_a_template(by_route):
    async def app(scope, receive, send):
        if scope["path"] != "/health":
            scope["path_template"] = "/orders/{order_id}"
        await PlainTextResponse("")(scope, receive, send)

    visitor = Visitor(SLOMiddleware(app, engine=by_route))
    for path in ("/health", "/orders/1", "/orders/2"):
        visitor.visit(path)
        by_route.housekeeping()
    visitor.visit("/orders/3")
    assert routes_of(by_route) == {"(unknown)": 1, "(overflow)": 1, "/orders/{order_id}": 2}


# ── FastAPI ────────────────────────────────────────────────────────────────────────────────────────────────────────
def fastapi_app(directory):
    app = fastapi.FastAPI(openapi_url=None)
    leaf, middle = fastapi.APIRouter(prefix="/leaf"), fastapi.APIRouter(prefix="/middle")

    @leaf.get("/{x}")
    async def get_leaf(x: int):
        return x

    @leaf.websocket("/ws/{x}")
    async def socket(websocket: fastapi.WebSocket, x: str):
        await websocket.accept()
        await websocket.close()

    @app.get("/items/{id}")
    async def get_item(id: int):
        if id == 500:
            raise RuntimeError("boom")
        if id > 500:
            raise fastapi.HTTPException(id)
        return id

    middle.include_router(leaf)
    app.include_router(middle, prefix="/v1")
    app.include_router(middle, prefix="/v2/{tenant}")
    mounted = fastapi.APIRouter()
    mounted.mount("/static", StaticFiles(directory=directory))
    app.include_router(mounted, prefix="/assets")
    sub = fastapi.FastAPI(openapi_url=None)
    sub.include_router(leaf, prefix="/deep")
    app.mount("/sub/{y}", sub)
    return app


@WAYS
def test_fastapi_templates(by_route, tmp_path, how):
    (tmp_path / "a.css").write_text("a")
    visitor = wrapped(fastapi_app(tmp_path), by_route, how).lifespan()
    expected = {
        "/items/{id}": ["/items/1", "/items/x", "/items/500", "/items/503"],
        "/v1/middle/leaf/{x}": ["/v1/middle/leaf/1", "/v1/middle/leaf/2"],
        "/v2/{tenant}/middle/leaf/{x}": ["/v2/acme/middle/leaf/1"],
        "/assets/static/*": ["/assets/static/a.css"],
        "/sub/{y}/deep/leaf/{x}": ["/sub/1/deep/leaf/2", "/sub/2/deep/leaf/x"],
        "(unknown)": ["/leaf/1", "/v1/middle", "/sub/1/nope", "/"],
    }
    for paths in expected.values():
        for path in paths:
            visitor.visit(path)
    assert routes_of(by_route) == {template: len(paths) for template, paths in expected.items()}
    # Around everything, an unhandled exception is seen after the 500 that the framework has sent for it.
    failed = {"bad exception": 1, "bad 5xx": 1} if how == "added" else {"bad 5xx": 2}
    assert groups(by_route, "a")["route=/items/{id}"] == {"good": 1, "excluded client_error": 1} | failed
    assert by_route.faults() == {}


@WAYS
def test_fastapi_routes_added_after_the_start(by_route, how):
    app = fastapi.FastAPI(openapi_url=None)
    visitor = wrapped(app, by_route, how).lifespan()
    router = fastapi.APIRouter(prefix="/r")

    @router.get("/{x}")
    async def get(x: str):
        return x

    app.include_router(router, prefix="/late")
    for _ in range(2):
        visitor.visit("/late/r/1")
        by_route.housekeeping()
    assert routes_of(by_route) == {"(overflow)": 1, "/late/r/{x}": 1}


@WAYS
@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
def test_fastapis_own_root_path(by_route, how):
    app = fastapi.FastAPI(openapi_url=None, root_path="/proxy")

    @app.get("/x/{y}")
    async def get(y: str):
        return y

    visitor = wrapped(app, by_route, how).lifespan()
    assert visitor.visit("/x/1") == 200
    assert visitor.visit("/proxy/x/1") == 200
    assert routes_of(by_route) == {"/x/{y}": 2}


def connecting(app, path):
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    return asyncio.run(serve(app, websocket_scope(path), incoming))


@WAYS
def test_websocket_routes(by_route, tmp_path, how):
    """Of Starlette and FastAPI; a refused path is a 403 of no route."""

    async def echo(websocket):
        await websocket.accept()
        await websocket.receive_text()

    app = fastapi_app(tmp_path)
    app.routes.append(Mount("/ws", routes=[WebSocketRoute("/echo/{x}", echo), Route("/http", ok)]))
    visitor = wrapped(app, by_route, how).lifespan()
    for path in ("/v1/middle/leaf/ws/1", "/v2/t/middle/leaf/ws/1", "/sub/1/deep/leaf/ws/9", "/nope", "/ws/http"):
        connecting(visitor.app, path)
    # Starlette says by an exception that the client has closed.
    with contextlib.suppress(Exception):
        connecting(visitor.app, "/ws/echo/1")
    assert groups(by_route, "w") == {
        "route=/v1/middle/leaf/ws/{x}": {"good": 1},
        "route=/v2/{tenant}/middle/leaf/ws/{x}": {"good": 1},
        "route=/sub/{y}/deep/leaf/ws/{x}": {"good": 1},
        "route=/ws/echo/{x}": {"good": 1},
        "(unknown)": {"excluded unauthorised": 2},
    }
    assert cells(by_route, "a") == {}


# ── how frameworks answer, fail and work on ────────────────────────────────────────────────────────────────────────
class Boom(Exception):
    pass


async def raises(request):
    raise RuntimeError("unhandled")


async def handled(request):
    raise Boom


async def streams(request):
    async def body():
        yield b"a"
        if "fail" in request.query_params:
            raise RuntimeError("in the stream")
        await asyncio.sleep(0)
        yield b"b"

    return StreamingResponse(body())


async def endless(request):
    async def body():
        while True:
            yield b"a"
            await asyncio.sleep(0)

    return StreamingResponse(body())


async def background(request):
    async def later():
        raise RuntimeError("in the background")

    return PlainTextResponse("ok", background=BackgroundTask(later))


async def on_boom(request, error):
    return PlainTextResponse("handled", 409 if "conflict" in request.query_params else 500)


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


@WAYS
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/ok", b"", "good"),
        ("/raises", b"", "bad exception"),
        ("/handled", b"", "bad 5xx"),
        ("/handled", b"conflict", "excluded client_error"),
        ("/streams", b"", "good"),
        ("/streams", b"fail", "bad exception"),
        ("/background", b"", "good"),
        ("/empty", b"", "good"),
    ],
)
def test_ways_to_answer(engine, how, base, path, query, expected):
    """Also with BaseHTTPMiddleware inside, which ends a stream that fails as if it were whole, and raises later."""
    routes = [Route("/ok", ok), Route("/raises", raises), Route("/handled", handled), Route("/streams", streams)]
    routes += [Route("/background", background), Route("/empty", lambda request: Response(status_code=204))]
    app = Starlette(routes=routes, exception_handlers={Boom: on_boom})
    if base:
        app.add_middleware(Passing)
    visitor = wrapped(app, engine, how)

    async def main():
        never = asyncio.Event()
        incoming = [REQUEST]

        async def receive():
            return incoming.pop() if incoming else await never.wait()

        async def send(message):
            pass

        with contextlib.suppress(RuntimeError, ExceptionGroup):
            await visitor.app(http_scope(path, query_string=query), receive, send)

    asyncio.run(main())
    if (path, how) == ("/raises", "around"):
        expected = "bad 5xx"  # ServerErrorMiddleware has answered before it raises again
    if base and query == b"fail":
        expected = "good"
    assert cells(engine, "availability") == {expected: 1}
    assert engine.in_flight() == 0


@WAYS
@pytest.mark.parametrize("base", [False, True])
def test_the_client_leaves_a_stream(engine, how, base):
    """Starlette hears it and returns without a last body."""
    app = Starlette(routes=[Route("/endless", endless)])
    if base:
        app.add_middleware(Passing)
    visitor = wrapped(app, engine, how)
    visitor.visit("/endless")
    assert cells(engine, "availability") == {"excluded client_cancel": 1}
    assert engine.in_flight() == 0


def test_the_app_speaks_through_its_request(make_engine):
    engine = make_engine(SLO("a", reasons=["nonsense"]))

    async def endpoint(request):
        request.scope["otelslo"].bad("nonsense")
        return PlainTextResponse("ok")

    app = Starlette(routes=[Mount("/m", routes=[Route("/x", endpoint)])])
    app.add_middleware(Passing)
    wrapped(app, engine, "added").visit("/m/x")
    assert cells(engine, "a") == {"bad nonsense": 1}


# ── groups and names ───────────────────────────────────────────────────────────────────────────────────────────────
@WAYS
def test_known_routes_have_their_groups_before_traffic(make_engine, tmp_path, how):
    """By route and method, and by a version that is the engine's own; HEAD only once it comes."""
    engine = make_engine(
        SLO("routes", group_by="route"),
        SLO("both", group_by=["route", "method"], match={"route": "/v1/*"}),
        SLO("versions", group_by=["route", "version"], match={"route": "/items/*"}),
        SLO("tiers", group_by=["route", "tier"]),
        version="7",
    )
    visitor = wrapped(fastapi_app(tmp_path), engine, how).lifespan()
    visitor.visit("/v1/middle/leaf/1")
    visitor.visit("/items/1")
    assert groups(engine, "routes") == {
        "route=/v1/middle/leaf/{x}": {"good": 1},
        "route=/items/{id}": {"good": 1},
    }
    assert groups(engine, "both") == {"route=/v1/middle/leaf/{x},method=GET": {"good": 1}}
    assert groups(engine, "versions") == {"route=/items/{id},version=7": {"good": 1}}
    assert groups(engine, "tiers") == {"(overflow)": {"good": 2}}


def test_the_cap_on_groups(make_engine):
    """The first routes get rows, the others share the overflow row."""
    engine = make_engine(SLO("a", group_by="route", max_groups=3))
    app = Starlette(routes=[Route(f"/r{i}", ok) for i in range(6)])
    visitor = wrapped(app, engine, "around").lifespan()
    for _ in range(2):
        for i in range(6):
            visitor.visit(f"/r{i}")
        engine.housekeeping()
    assert groups(engine, "a") == {f"route=/r{i}": {"good": 2} for i in range(3)} | {"(overflow)": {"good": 6}}


def test_no_client_makes_names(by_route, tmp_path):
    """100,000 paths, methods and hosts: nothing of them in the ring, and no memory for them."""
    app = starlette_app(tmp_path)
    app.add_middleware(SLOMiddleware, engine=by_route)

    async def flood(first, count):
        for i in range(first, first + count):
            path = (f"/secret{i}", f"/items/{i}", f"/one/leaf/secret{i}", f"/t/secret{i}/v{i}/users/secret{i}")[i % 4]
            method = f"SECRET{i}" if i % 10 == 0 else "HEAD" if i % 4 == 2 else "GET"
            await serve(app, http_scope(path, method, {"host": f"secret{i}.example"}))

    asyncio.run(flood(0, 2000))
    by_route.housekeeping()
    before, texts = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, names(by_route)
    asyncio.run(flood(2000, 98_000))
    by_route.housekeeping()
    assert names(by_route) == texts
    assert not [text for text in texts if "secret" in text.lower() or "/items/4" in text]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024
    assert sum(cells(by_route, "a").values()) == 100_000
    assert by_route.faults() == {}
