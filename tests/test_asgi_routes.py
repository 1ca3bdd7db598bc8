"""The ASGI edge at its start, and which objective and group a request belongs to: routes, hosts, headers."""

from __future__ import annotations

import pytest
from asgi_steps import FAILS, answer, broken, doing, saying
from drive import LAST, START, Request, cells, groups, http_scope, pause, run

from otelslo import SLO
from otelslo.asgi import SLOMiddleware
from otelslo.errors import DefinitionError


# ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_wrong_configuration_fails_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("otelslo.default._engine", [])
    monkeypatch.setenv("OTELSLO_CONFIG", str(tmp_path / "missing.yaml"))
    with pytest.raises(DefinitionError, match=r"missing\.yaml"):
        SLOMiddleware(doing(None, (), 0))


@pytest.mark.parametrize("routes", ["/x", ["x"], [1], ["/ok", ""]])
def test_wrong_templates_are_refused(engine, routes):
    with pytest.raises(DefinitionError, match="no route template"):
        SLOMiddleware(doing(engine, (), 0), engine=engine, routes=routes)


def test_the_default_engine_is_the_process_own(tmp_path, monkeypatch):
    """Without any configuration: one availability objective over everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTELSLO_CONFIG", raising=False)
    monkeypatch.setattr("otelslo.default._engine", [])

    async def app(scope, receive, send):
        await send(START)
        await send(LAST)

    edge = SLOMiddleware(app)
    try:
        run(edge)
        (status,) = edge.engine.status()
        assert (status.slo, status.to_json()["target"], status.to_json()["window"]) == ("availability", "99.9%", "30d")
        assert (status.counts.good, status.group) == (1, None)
        assert (tmp_path / ".otelslo" / "live.ring").exists()
    finally:
        edge.engine.close()


def test_nothing_is_compiled_or_opened_in_a_request_once_started(engine, monkeypatch):
    """The lifespan does it."""
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine)
    run(wrapped, {"type": "lifespan"}, [])
    monkeypatch.setattr(engine, "start", broken)
    monkeypatch.setattr("otelslo.kernels.ring.compile_kernel", broken)
    run(wrapped)
    assert cells(engine, "availability") == {"good": 1}


# ── declared routes, groups, hosts, headers ────────────────────────────────────────────────────────────────────────
def test_declared_routes(make_engine):
    engine = make_engine(SLO("a", group_by="route"))
    routes = ["/items/new", "/items/{id}", "/files/{path:path}", "/a.b"]
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine, routes=routes)
    for path in ("/items/new", "/items/7", "/items/7/8", "/files/a/b", "/a.b", "/axb", "/items/9"):
        run(wrapped, http_scope(path))
    assert groups(engine, "a") == {
        "route=/items/new": {"good": 1},
        "route=/items/{id}": {"good": 2},
        "route=/files/{path:path}": {"good": 1},
        "route=/a.b": {"good": 1},
        "(unknown)": {"good": 2},
    }


def test_groups_that_the_app_makes_come_late(make_engine):
    """In overflow until housekeeping has made their row; past the cap they stay there."""
    engine = make_engine(SLO("a", group_by="version", max_groups=2))

    async def app(scope, receive, send):
        scope["otelslo"].set(version=scope["path"][1:])
        await send(START)
        await send(LAST)

    wrapped = SLOMiddleware(app, engine=engine)
    for _ in range(2):
        for version in ("v1", "v2", "v3"):
            run(wrapped, http_scope(f"/{version}"))
        engine.housekeeping()
    assert groups(engine, "a") == {
        "(overflow)": {"good": 4},
        "version=v1": {"good": 1},
        "version=v2": {"good": 1},
    }


def test_undeclared_values_stay_in_overflow(make_engine):
    engine = make_engine(SLO("a", group_by="version", group_values={"version": ["v1"]}))
    for version in ("v1", "v2", "v1", "x" * 300):
        run(saying(engine, 200))
        wrapped = saying(engine, 200)

        async def app(scope, receive, send, version=version, inner=wrapped.app):
            scope["otelslo"].set(version=version)
            await inner(scope, receive, send)

        run(SLOMiddleware(app, engine=engine))
        engine.housekeeping()
    assert groups(engine, "a") == {"(unknown)": {"good": 4}, "(overflow)": {"good": 3}, "version=v1": {"good": 1}}


def test_attributes_win_over_the_engines_own(make_engine):
    engine = make_engine(SLO("a", group_by=["version", "tier"]), version="v0")

    async def app(scope, receive, send):
        scope["otelslo"].set(tier="gold")
        if scope["path"] == "/new":
            scope["otelslo"].set(version="v1")
        await send(START)
        await send(LAST)

    wrapped = SLOMiddleware(app, engine=engine)
    for _ in range(2):
        run(wrapped, http_scope("/old"))
        run(wrapped, http_scope("/new"))
        engine.housekeeping()
    assert groups(engine, "a") == {
        "(overflow)": {"good": 2},
        "version=v0,tier=gold": {"good": 1},
        "version=v1,tier=gold": {"good": 1},
    }


def test_unknown_methods_are_one(make_engine):
    engine = make_engine(SLO("a", group_by="method"), SLO("posts", match={"method": "POST"}))
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine, routes=["/x"])
    for method in ["POST", *(f"M{i}" for i in range(1000)), "post"]:
        run(wrapped, http_scope(method=method))
        engine.housekeeping()
    assert cells(engine, "posts") == {"good": 1}
    assert groups(engine, "a") == {
        "(overflow)": {"good": 2},
        "method=_OTHER": {"good": 1000},
    }
    assert len(wrapped._sites._paths) < 20


def test_host_match(make_engine):
    engine = make_engine(SLO("shop", match={"host": "*.shop.example"}), SLO("a"))
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine)
    for host in ("www.shop.example", "WWW.SHOP.EXAMPLE:8080", "shop.example", "evil.example", ""):
        run(wrapped, http_scope(headers={"host": host} if host else {}))
    assert cells(engine, "shop") == {"good": 2}
    assert cells(engine, "a") == {"good": 5}


def test_a_crash_of_a_hosts_request_is_booked_on_the_hosts_objective(make_engine):
    engine = make_engine(SLO("shop", match={"host": "shop.example"}), SLO("a"))

    async def app(scope, receive, send):
        await pause()

    wrapped = SLOMiddleware(app, engine=engine)
    requests = [Request(wrapped, http_scope(headers={"host": host})) for host in ("shop.example", "other.example")]
    for request in requests:
        request.step()
    engine.ring.blocks.detach()
    engine.ring.blocks.attach()
    assert cells(engine, "shop") == {"bad crashed": 1}
    assert cells(engine, "a") == {"bad crashed": 2}


def test_one_shot_headers_are_the_apps_to_read(make_engine):
    engine = make_engine(SLO("shop", match={"host": "shop.example"}))
    read = []

    async def app(scope, receive, send):
        read.extend(scope["headers"])

    run(SLOMiddleware(app, engine=engine), http_scope() | {"headers": iter([(b"host", b"shop.example")])})
    assert read == [(b"host", b"shop.example")]


SPOOFS = {
    "user-agent": "kube-probe/1.30",
    "x-otelslo-exclude": "1",
    "k-ignore-metrics": "true",
    "x-health-check": "1",
    "x-synthetic": "1",
    "x-probe": "0",
    "baggage": "slo.outcome=excluded",
    "traceparent": "00-" + "f" * 32 + "-b7ad6b7169203331-01",
}


def test_a_client_cannot_exclude_itself(make_engine):
    """Only the header that the operator named, with the value that was named; health checks go by route."""
    engine = make_engine(SLO("a"), SLO("probed", exclude=[{"name": "probe", "header": "x-probe", "equals": "1"}]))
    wrapped = SLOMiddleware(doing(engine, answer(500), 0), engine=engine, routes=["/x", "/healthz"])
    for key, value in SPOOFS.items():
        run(wrapped, http_scope(headers={key: value}))
    run(wrapped, http_scope("/healthz/../x"))
    run(wrapped, http_scope(headers={"x-probe": "1"}))
    n = len(SPOOFS) + 1
    assert cells(engine, "a") == {"bad 5xx": n + 1}
    assert cells(engine, "probed") == {"bad 5xx": n, "excluded probe": 1}
    run(wrapped, http_scope("/healthz"))
    assert cells(engine, "a") == {"bad 5xx": n + 1, "excluded health_check": 1}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        ("00-" + "f" * 32 + "-b7ad6b7169203331-00", "f" * 32),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", ""),
        ("00-" + "g" * 32 + "-b7ad6b7169203331-01", ""),
        ("00-0af7-b7ad6b7169203331-01", ""),
        ("\x00", ""),
        ("-" * 100_000, ""),
        ("é" * 40, ""),
    ],
)
def test_losses_carry_trace_ids(engine, header, expected):
    """Of a well-formed header; any other is no trace and no harm."""
    scope = http_scope() | {"headers": [(b"traceparent", header.encode())]}
    run(SLOMiddleware(doing(engine, (FAILS,), 0), engine=engine), scope)
    losses, _ = engine.ring.reader.losses(0)
    assert [loss.reason for loss in losses] == ["exception", "exception"]
    assert losses[-1].trace_id == expected
    assert engine.faults() == {}


def test_every_objectives_loss_carries_the_trace_id(engine):
    headers = {"traceparent": "00-" + "a" * 32 + "-b7ad6b7169203331-01"}
    run(SLOMiddleware(doing(engine, (FAILS,), 0), engine=engine), http_scope(headers=headers))
    losses, _ = engine.ring.reader.losses(0)
    assert [loss.trace_id for loss in losses] == ["a" * 32] * 2


def test_groups_by_host(make_engine):
    """Of the declared hosts."""
    engine = make_engine(SLO("a", group_by="host", group_values={"host": ["shop.example"]}))
    wrapped = SLOMiddleware(doing(engine, answer(200), 0), engine=engine)
    for host in ("shop.example", "evil.example"):
        run(wrapped, http_scope(headers={"host": host}))
    engine.housekeeping()
    run(wrapped, http_scope(headers={"host": "shop.example"}))
    assert groups(engine, "a") == {"host=shop.example": {"good": 1}, "(overflow)": {"good": 2}}
