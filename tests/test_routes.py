"""Templates by path, against the router that answers: whatever Starlette reaches is what the table says."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace

import pytest
from drive import http_scope, run, websocket_scope
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from otelslo.routes import RouteTable, application_routes, router_path

HOSTS = ["a.example", "b.example", "{sub}.example"]
SEGMENTS = ["/x", "/y", "/{p}", "/{n:int}", "/x.y", "/{p}-{q}", "/{rest:path}"]
PATHS = ["", "/", "/x", "/y", "/1", "/x/", "/x/y", "/x/1", "/y/x/1", "/x.y", "/xzy", "/a-b", "/x/y/x/y", "/1/1/1", "/%"]


class Endpoint:
    """An ASGI endpoint that says which route reached it."""

    def __init__(self, template):
        self.template = template

    async def __call__(self, scope, receive, send):
        await send({"type": "reached", "template": self.template})


def trees(depth, used):
    """Lists of routes with nested mounts and hosts, as descriptions."""
    leaf = st.tuples(st.just("route"), st.sampled_from(SEGMENTS), st.sampled_from([None, ("GET",), ("POST", "PUT")]))
    socket = st.tuples(st.just("socket"), st.sampled_from(SEGMENTS), st.none())
    if depth == 0:
        return st.lists(leaf | socket, min_size=1, max_size=3)
    inner = trees(depth - 1, used)
    # A parameter's name must not come twice on one way, so mounts have others than routes.
    mount = st.tuples(st.just("mount"), st.sampled_from(["", "/x", "/y", f"/{{m{depth}}}", "/x/y"]), inner)
    host = st.tuples(st.just("host"), st.sampled_from(HOSTS), inner)
    opaque = st.tuples(st.just("opaque"), st.sampled_from(["/x", "/y/x"]), st.none())
    return st.lists(leaf | socket | mount | host | opaque, min_size=1, max_size=4)


def formatted(path):
    """The template as frameworks write it, without convertors."""
    return re.sub(r":\w+\}", "}", path)


def built(tree, prefix=""):
    routes = []
    for kind, path, more in tree:
        full = prefix + formatted(path)
        if kind == "route":
            route = Route(path, Endpoint(full))
            route.methods = None if more is None else set(more) | ({"HEAD"} if "GET" in more else set())
            routes.append(route)
        elif kind == "socket":
            routes.append(WebSocketRoute(path, Endpoint(full)))
        elif kind == "mount":
            routes.append(Mount(path, routes=built(more, full)))
        elif kind == "host":
            routes.append(Host(path, app=Router(built(more, prefix))))
        else:
            routes.append(Mount(path, app=Endpoint(full + "/*")))
    return routes


def answered(routes, scope):
    """The template that Starlette reached; "405" where the method was wrong; None where nothing was found."""
    request = run(Router(routes, redirect_slashes=False), scope)
    assert request.error is None
    message = request.sent[0]
    if message["type"] == "reached":
        return message["template"]
    return "405" if message.get("status") == 405 else None


@settings(max_examples=400, deadline=None)
@given(
    tree=trees(2, ()),
    paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=8),
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE", None]),
    host=st.sampled_from(["a.example", "B.example:80", "c.example", "other"]),
)
def test_the_table_equals_the_router(tree, paths, method, host):
    """Nested mounts, hosts, methods, websockets; what a mount does not know never goes on to later routes."""
    routes = built(tree)
    table = RouteTable(routes)
    for path in paths:
        headers = {"host": host}
        scope = websocket_scope(path) if method is None else http_scope(path, method)
        scope["headers"] = http_scope(headers=headers)["headers"]
        expected = answered(routes, scope)
        found = table.template(method or "", path, host)
        if expected == "405":
            assert found is not None
        else:
            assert found == expected


def test_a_wrong_method_has_the_template_of_the_path():
    table = RouteTable([Route("/x", Endpoint(""), methods=["POST"]), Route("/{p}", Endpoint(""), methods=["GET"])])
    assert table.template("GET", "/x") == "/{p}"
    assert table.template("DELETE", "/x") == "/x"


def test_convertors_of_ones_own():
    """With groups of their own, which must not be taken for routes."""

    class Either(Convertor[str]):
        regex = "(a|b)(?P<digit>[0-9])?"

        def convert(self, value):
            return value

        def to_string(self, value):
            return value

    register_url_convertor("either", Either())
    table = RouteTable(
        [Route("/{e:either}/x", Endpoint("")), Route("/c/{f:either}", Endpoint("")), Route("/d", Endpoint(""))]
    )
    found = [table.template("GET", path) for path in ("/a/x", "/b7/x", "/c/x", "/c/b1", "/d", "/ab/x")]
    assert found == ["/{e}/x", "/{e}/x", None, "/c/{f}", "/d", None]


def test_a_path_route_is_no_mount():
    """Their patterns are the same."""
    table = RouteTable([Route("/files/{path:path}", Endpoint(""), methods=["PUT"])])
    (leaf,) = table.leaves
    assert (leaf.template, leaf.methods, leaf.websocket) == ("/files/{path}", {"PUT"}, False)
    assert table.template("PUT", "/files/a/b") == "/files/{path}"


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/api/x", "", "/api/x"),
        ("/api/x", "/api", "/x"),
        ("/apiary", "/api", "/apiary"),
        ("/api", "/api", ""),
        ("/x", "/api", "/x"),
        ("/api/", "/api", "/"),
    ],
)
def test_root_paths_end_at_a_slash(path, root, expected):
    assert router_path(path, root) == expected


def test_routers_are_found_through_middleware():
    class Wrapping:
        def __init__(self, app):
            self.app = app

    inner = Starlette(routes=[Route("/x", Endpoint(""))])
    assert [route.path for route in application_routes(Wrapping(Wrapping(inner)))] == ["/x"]
    table = RouteTable([Mount("/sub", app=Wrapping(inner))])
    assert table.template("GET", "/sub/x") == "/sub/x"
    assert table.template("GET", "/sub/y") is None


class Raising:
    @property
    def routes(self):
        raise RuntimeError("not yet")


def endless():
    made = SimpleNamespace()
    made.app = made
    return made


@pytest.mark.parametrize("application", [None, object(), Raising(), endless(), SimpleNamespace(routes=lambda: []), 1])
def test_applications_without_a_router(application):
    assert application_routes(application) == []


def test_a_router_mounted_in_itself():
    """Twice, so that the ways through it double at each turn."""
    app = Starlette(routes=[Route("/x", Endpoint(""))])
    app.mount("/a", app)
    app.mount("/b", app)
    app.routes.append(Route("/last", Endpoint("")))
    table = RouteTable(app.routes)
    assert len(table.leaves) < 50
    found = [table.template("GET", path) for path in ("/x", "/a/x", "/b/a/x", "/b/a/b/x", "/last")]
    assert found == ["/x", "/a/x", "/b/a/x", "/b/a/b/*", "/last"]


def test_what_is_not_understood_is_left_out():
    odd = [
        object(),
        SimpleNamespace(path_regex="text", path="/t"),
        SimpleNamespace(path_regex=re.compile("(") if False else None),
    ]
    assert RouteTable(odd).leaves == []


def test_many_hosts_do_not_compile_without_bound():
    routes = [Host(f"{{sub}}.{name}", app=Router([Route(f"/{name}", Endpoint(""))])) for name in ("a", "b")]
    routes += [Host(f"{c}{{any}}", app=Router([Route("/x", Endpoint(""))])) for c in "cdefghijkl"]
    table = RouteTable(routes)
    for letters in itertools.product("cdefghijklmnop", repeat=3):
        table.template("GET", "/x", "".join(letters) + ".a")
    assert len(table._compiled) <= 256
