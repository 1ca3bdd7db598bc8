"""Real Flask and Django under the WSGI edge: their route templates, and their ways to answer and to fail."""

from __future__ import annotations

from collections import Counter

import pytest
from drive import cells, groups, names
from drive_wsgi import Server, environ_of, run

from otelslo import SLO
from otelslo.exchange import Exchange
from otelslo.frameworks import router_of
from otelslo.wsgi import EXCHANGE_KEY, SLOMiddleware

flask = pytest.importorskip("flask", reason="flask is not installed")
pytest.importorskip("django", reason="django is not installed")

import django_site  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from werkzeug.middleware.dispatcher import DispatcherMiddleware  # noqa: E402
from werkzeug.middleware.proxy_fix import ProxyFix  # noqa: E402


@pytest.fixture
def by_route(make_engine):
    return make_engine(SLO("a", group_by="route", health_checks=[], max_groups=64))


def routes_of(engine, slo="a"):
    """{template: events}"""
    return {name.removeprefix("route="): sum(counts.values()) for name, counts in groups(engine, slo).items()}


def expected(templates, times=1):
    """What `routes_of` gives after each path was asked for."""
    return {name or "(unknown)": times * count for name, count in Counter(templates.values()).items()}


# ── Flask ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def flask_app():
    app = flask.Flask("shop", static_folder=None)
    shop = flask.Blueprint("shop", "shop", url_prefix="/shop/<slug>")
    inner = flask.Blueprint("inner", "inner", url_prefix="/inner")

    @app.get("/")
    @app.get("/items/<int:id>")
    @app.get("/files/<path:path>")
    @app.get("/slash/")
    @app.get("/größe/<name>")
    @app.get("/any/<any(red):colour>")
    @app.post("/items/new")
    @shop.get("/cart")
    @inner.get("/leaf/<uuid:id>")
    def ok(**more):
        return "ok"

    @app.get("/answers/<int:code>")
    def answers(code):
        return "said", code

    @app.get("/missing/<int:id>")
    def missing(id):
        flask.abort(404)

    @app.get("/fails")
    def fails():
        raise RuntimeError("boom")

    @app.get("/streams")
    def streams():
        return flask.Response(flask.stream_with_context(part for part in (b"a", b"b")))

    @app.get("/breaks")
    def breaks():
        def body():
            yield b"a"
            raise RuntimeError("cut")

        return flask.Response(body())

    @app.get("/file")
    def file():
        return flask.send_file(__file__)

    @app.get("/speaks")
    def speaks():
        flask.request.environ.get(EXCHANGE_KEY, Exchange()).bad("nonsense")
        return "ok"

    shop.register_blueprint(inner)
    app.register_blueprint(shop)
    return app


FLASK_TEMPLATES = {
    "/": "/",
    "/items/1": "/items/<int:id>",
    "/items/22": "/items/<int:id>",
    "/items/x": None,
    "/items/new": "/items/new",  # by POST alone, so it is a 405
    "/files/a/b": "/files/<path:path>",
    "/slash/": "/slash/",
    "/slash": None,  # Flask redirects it
    "/größe/xl": "/größe/<name>",
    "/any/red": "/any/<any(red):colour>",
    "/any/green": None,
    "/missing/1": "/missing/<int:id>",
    "/shop/a/cart": "/shop/<slug>/cart",
    "/shop/a/inner/leaf/0af76519-16cd-43dd-8448-eb211c80319c": "/shop/<slug>/inner/leaf/<uuid:id>",
    "/shop/a/nope": None,
    "/nope": None,
}
WAYS = {
    "wsgi_app": lambda app, engine: setattr(app, "wsgi_app", SLOMiddleware(app.wsgi_app, engine=engine)) or app,
    "around": lambda app, engine: SLOMiddleware(app, engine=engine),
    "over other middleware": lambda app, engine: SLOMiddleware(ProxyFix(app.wsgi_app), engine=engine),
    "over a closure": lambda app, engine: SLOMiddleware(lambda *both: app.wsgi_app(*both), engine=engine),
}


@pytest.mark.parametrize("how", WAYS)
def test_flask_templates(by_route, how):
    app = WAYS[how](flask_app(), by_route)
    for _ in range(2):
        for path in FLASK_TEMPLATES:
            run(app, environ_of(path))
    assert routes_of(by_route) == expected(FLASK_TEMPLATES, 2)
    assert run(app, environ_of("/items/new", "POST")).code == 200
    assert routes_of(by_route)["/items/new"] == 3
    assert by_route.faults() == {}


@pytest.mark.parametrize(
    ("path", "method", "code", "outcome"),
    [
        ("/items/1", "GET", 200, "good"),
        ("/items/1", "HEAD", 200, "good"),
        ("/items/1", "OPTIONS", 200, "good"),
        ("/slash", "GET", 308, "good"),
        ("/answers/503", "GET", 503, "bad 5xx"),
        ("/answers/403", "GET", 403, "excluded unauthorised"),
        ("/missing/1", "GET", 404, "excluded client_error"),
        ("/items/new", "GET", 405, "excluded client_error"),
        ("/fails", "GET", 500, "bad 5xx"),
        ("/streams", "GET", 200, "good"),
        ("/breaks", "GET", 200, "bad exception"),
        ("/file", "GET", 200, "good"),
        ("/speaks", "GET", 200, "bad other"),
    ],
)
def test_flask_outcomes(engine, path, method, code, outcome):
    answers = [run(app, environ_of(path, method)) for app in (flask_app(), WAYS["wsgi_app"](flask_app(), engine))]
    assert answers[0].sent == answers[1].sent
    assert [answer.code for answer in answers] == [code] * 2
    assert cells(engine, "availability") == {outcome: 1}
    assert (engine.in_flight(), engine.faults()) == (0, {})


def test_flask_that_propagates_exceptions(engine):
    app = flask_app()
    app.config["PROPAGATE_EXCEPTIONS"] = True
    assert isinstance(run(WAYS["wsgi_app"](app, engine), environ_of("/fails")).error, RuntimeError)
    assert cells(engine, "availability") == {"bad exception": 1}


def test_flask_stream_that_is_left(engine):
    """Its own teardown runs all the same."""
    app, torn = flask_app(), []
    app.teardown_request(torn.append)
    run(WAYS["wsgi_app"](app, engine), environ_of("/streams"), send_fails=[1])
    assert cells(engine, "availability") == {"excluded client_cancel": 1}
    assert [type(error) for error in torn] == [type(None), GeneratorExit]


def test_flask_routes_that_come_late(by_route):
    app = flask_app()
    wrapped = SLOMiddleware(app.wsgi_app, engine=by_route)
    run(wrapped, environ_of("/late/1"))
    app._got_first_request = False
    app.add_url_rule("/late/<int:id>", view_func=lambda id: "ok")
    for _ in range(2):
        run(wrapped, environ_of("/late/1"))
        by_route.housekeeping()
    found = routes_of(by_route)
    assert (found["(unknown)"], found["/late/<int:id>"], found["(overflow)"]) == (1, 1, 1)


def test_flask_hosts_are_left_to_flask(by_route):
    """The rule that it chose is known when the request ends."""
    app = flask.Flask("hosts", static_folder=None, host_matching=True)
    app.add_url_rule("/x/<a>", "a", lambda a: "a", host="a.example")
    app.add_url_rule("/x/<b>", "b", lambda b: "b", host="b.example")
    wrapped = SLOMiddleware(app.wsgi_app, engine=by_route)
    for host in ("a.example", "b.example", "b.example", "c.example"):
        run(wrapped, environ_of("/x/1", headers={"host": host}))
    assert routes_of(by_route) == {"/x/<a>": 1, "/x/<b>": 2, "(unknown)": 1}


def test_flask_behind_a_rewritten_path(by_route):
    """By what Flask says in the end."""
    app = flask_app()

    class Rewriting:
        def __init__(self, app):
            self.app = app

        def __call__(self, environ, start_response):
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/v1")
            return self.app(environ, start_response)

    wrapped = SLOMiddleware(Rewriting(app.wsgi_app), engine=by_route)
    for path in ("/v1/items/1", "/v1/nope", "/items/1"):
        run(wrapped, environ_of(path))
    assert routes_of(by_route) == {"/items/<int:id>": 2, "(unknown)": 1}


def test_what_a_converter_raises_is_the_apps(engine):
    """The request is counted, and what Flask makes of it is its answer."""
    app = flask_app()

    class Broken(app.url_map.converters["default"]):
        def to_python(self, value):
            raise ZeroDivisionError

    app.url_map.converters["broken"] = Broken
    app.add_url_rule("/broken/<broken:x>", "broken", lambda x: "ok")
    assert run(SLOMiddleware(app.wsgi_app, engine=engine), environ_of("/broken/1")).code == 500
    assert cells(engine, "availability") == {"bad 5xx": 1}
    assert engine.faults() == {"user_code": 1}


def mounted(engine):
    front, api, page = (
        flask_app(),
        flask_app(),
        lambda environ, start_response: (start_response("200 OK", []), [b""])[1],
    )
    return SLOMiddleware(
        DispatcherMiddleware(front.wsgi_app, {"/api": api, "/api/v2": api, "/page": page}), engine=engine
    )


def test_mounted_wsgi_apps(by_route):
    templates = {
        "/items/1": "/items/<int:id>",
        "/api/items/1": "/api/items/<int:id>",
        "/api/v2/items/1": "/api/v2/items/<int:id>",
        "/api/v2/nope": None,
        "/apis/items/1": None,
        "/api": None,  # Flask redirects it
        "/page/anything/at/all": "/page/*",
        "/page": "/page/*",
    }
    for path in templates:
        run(mounted(by_route), environ_of(path, SCRIPT_NAME="/root"))
    assert routes_of(by_route) == expected(templates)


def test_a_mounted_app_that_is_wrapped_itself(by_route):
    """It knows nothing of where it is mounted: the server's SCRIPT_NAME is no part of a template."""
    api = flask_app()
    api.wsgi_app = SLOMiddleware(api.wsgi_app, engine=by_route)
    for path in ("/api/items/1", "/api/nope", "/items/1"):
        run(DispatcherMiddleware(flask_app(), {"/api": api}), environ_of(path))
    assert routes_of(by_route) == {"/items/<int:id>": 1, "(unknown)": 1}


def test_clients_make_no_names(by_route):
    """Whatever they ask for."""
    app = WAYS["wsgi_app"](flask_app(), by_route)
    run(app, environ_of("/items/1"))
    by_route.housekeeping()
    before = names(by_route)
    for number in range(300):
        run(app, environ_of(f"/{number}"))
        run(app, environ_of(f"/items/{number}"))
        run(app, environ_of(f"/shop/{number}/cart", f"M{number}"))
        by_route.housekeeping()
    assert [name for name in names(by_route) if name not in before and name != "NotFound"] == []


# ── Django ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_django_templates(by_route):
    application = SLOMiddleware(get_wsgi_application(), engine=by_route)
    for path in django_site.TEMPLATES:
        run(application, environ_of(path))
    by_route.housekeeping()
    for path in django_site.TEMPLATES:
        run(application, environ_of(path, SCRIPT_NAME="/root"))
    found = routes_of(by_route)
    other_language = "/de/about/<slug:page>/"  # each but the default one comes with its first request
    assert found.pop("(overflow)", 0) + found[other_language] == 2
    assert found | {other_language: 2} == expected(django_site.TEMPLATES, 2)
    assert by_route.faults() == {}


@pytest.mark.parametrize(
    ("path", "method", "code", "outcome"),
    [
        ("/items/1/", "GET", 200, "good"),
        ("/items/1/", "HEAD", 200, "good"),
        ("/items/1", "GET", 301, "good"),
        ("/answers/503/", "GET", 503, "bad 5xx"),
        ("/forbidden/", "GET", 403, "excluded unauthorised"),
        ("/missing/1/", "GET", 404, "excluded client_error"),
        ("/nope/", "GET", 404, "excluded client_error"),
        ("/fails/", "GET", 500, "bad 5xx"),
        ("/streams/", "GET", 200, "good"),
        ("/breaks/", "GET", 200, "bad exception"),
        ("/file/", "GET", 200, "good"),
        ("/speaks/", "GET", 200, "bad other"),
    ],
)
def test_django_outcomes(engine, path, method, code, outcome):
    application = get_wsgi_application()
    bare = run(application, environ_of(path, method))
    answer = run(SLOMiddleware(application, engine=engine), environ_of(path, method))
    assert (answer.code, answer.body) == (code, bare.body)
    assert cells(engine, "availability") == {outcome: 1}
    assert (engine.in_flight(), engine.faults()) == (0, {})


def test_a_django_file_goes_by_the_servers_wrapper(engine):
    """Which closes the response, as Django has patched it to."""
    from wsgiref.util import FileWrapper

    from django.core.signals import request_finished

    finished = []

    def heard(**more):
        finished.append(1)

    request_finished.connect(heard)
    try:
        application = SLOMiddleware(get_wsgi_application(), engine=engine)
        body = application(environ_of("/file/") | {"wsgi.file_wrapper": FileWrapper}, Server().start_response)
        assert type(body) is FileWrapper
        assert (b"".join(body), engine.in_flight()) == (django_site.CONTENT, 1)
        body.close()
    finally:
        request_finished.disconnect(heard)
    assert (len(finished), cells(engine, "availability"), engine.in_flight()) == (1, {"good": 1}, 0)


# ── who is asked ───────────────────────────────────────────────────────────────────────────────────────────────────
class Endless:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Endless()

    def __call__(self, *both):
        return []


class Raising:
    @property
    def app(self):
        raise RuntimeError("not yet")


@pytest.mark.parametrize("application", [None, 1, Endless(), Raising(), lambda: None, len])
def test_apps_that_nobody_can_read(application):
    assert router_of(application) is None


def test_a_subclass_is_its_frameworks():
    class Shop(flask.Flask):
        pass

    assert router_of(Shop("shop")) is not None
