"""Zero-code with real services under the real `opentelemetry-instrument`: every request is counted, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from exporters.receiver import Receiver, receiving
from live.servers import until, warm_state, warm_up

from .zero import APPS, CONFIG, INSTRUMENT, NUMBERS, TOTAL, Zero, expected

pytest.importorskip("opentelemetry.instrumentation.auto_instrumentation", reason="needs opentelemetry-distro")
pytest.importorskip("opentelemetry.distro", reason="needs opentelemetry-distro")
for needed in ("fastapi", "flask", "django", "litestar", "gunicorn", "httptools"):
    pytest.importorskip(needed, reason=f"needs {needed}")

_LIMIT_S = 100
BRACES: dict[str, str | None] = {"/items/7": "/items/{number}", "/items/8": "/items/{number}"}
ANGLES: dict[str, str | None] = {"/items/7": "/items/<int:number>", "/items/8": "/items/<int:number>"}
UVICORN = ["uvicorn", "--fd", "{fd}"]
GUNICORN = ["gunicorn", "--bind", "fd://{fd}", "--workers", "2"]


@pytest.fixture(scope="module", autouse=True)
def _warm_kernels(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("warm"))


# ── OTel's own instrumentation beside it ───────────────────────────────────────────────────────────────────────────
def durations(receiver: Receiver, scope: str) -> int:
    """Requests in what OTel's instrumentation has sent; it was told to send what is new each time."""
    found = 0
    for request in list(receiver.requests):
        for resource in request.resource_metrics:
            for scoped in resource.scope_metrics:
                for metric in scoped.metrics:
                    if metric.name == "http.server.request.duration" and scoped.scope.name.endswith(scope):
                        found += sum(point.count for point in metric.histogram.data_points)
    return found


@pytest.mark.parametrize(
    ("command", "processes", "routes", "scope"),
    [
        ([*UVICORN, "fastapi_app:app"], 1, BRACES, "fastapi"),
        ([*UVICORN, "fastapi_app:app", "--workers", "4"], 4, BRACES, "fastapi"),
        ([*GUNICORN, "flask_app:application"], 2, ANGLES, "flask"),
        ([*GUNICORN, "flask_app:application", "--preload"], 2, ANGLES, "flask"),
    ],
    ids=["fastapi", "fastapi-4-workers", "flask-gunicorn", "flask-gunicorn-preload"],
)
def test_counts_equal_the_clients_and_otels(
    tmp_path: Path, command: list[str], processes: int, routes: dict[str, str | None], scope: str
) -> None:
    pytest.importorskip(f"opentelemetry.instrumentation.{scope}", reason=f"needs opentelemetry-instrumentation-{scope}")
    with receiving() as receiver:
        environment = {
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        }
        with Zero(tmp_path, command, environment=environment) as service:
            service.send_all()
            service.settle()
            assert service.counted() == expected(routes)
            until(lambda: durations(receiver, scope) >= TOTAL, "OTel's metrics come")
            assert durations(receiver, scope) == TOTAL
            until(lambda: len(service.owners()) == processes, "every worker has a block")
            serving = {owner.pid for owner in service.owners()}
            assert serving == {service.pid} if processes == 1 else service.pid not in serving


# ── whatever it is made of ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("command", "routes"),
    [
        ([*UVICORN, "fastapi_app:child"], BRACES),
        ([*UVICORN, "fastapi_app:outside"], BRACES),
        ([*UVICORN, "starlette_app:app", "--lifespan", "off"], BRACES),
        ([*UVICORN, "django_app:asgi"], ANGLES),
        ([*UVICORN, "flask_app:application", "--interface", "wsgi"], ANGLES),
        ([*GUNICORN, "django_app:wsgi"], ANGLES),
        ([*GUNICORN, "flask_app:application", "--worker-class", "gthread", "--threads", "3"], ANGLES),
        ([*GUNICORN, "starlette_app:app", "--worker-class", "uvicorn.workers.UvicornWorker"], BRACES),
        # One: a SIGTERM that comes while a worker of this class still loads is lost, and gunicorn waits for 30 s.
        ([*GUNICORN, "starlette_app:app", "--worker-class", "asgi", "--workers", "1"], BRACES),
    ],
    ids=[
        *("fastapi-subclass", "middleware-around-fastapi", "starlette-no-lifespan", "django-asgi", "flask-in-uvicorn"),
        *("django-gunicorn", "flask-gthread", "starlette-uvicorn-worker", "starlette-gunicorn-asgi"),
    ],
)
def test_servers_and_frameworks(tmp_path: Path, command: list[str], routes: dict[str, str | None]) -> None:
    with Zero(tmp_path, command) as service:
        service.send_all()
        service.settle()
        assert service.counted() == expected(routes)


@pytest.mark.parametrize(
    "command",
    [[*UVICORN, "starlette_app:bare"], [*GUNICORN, "flask_app:bare"], [*UVICORN, "litestar_app:app"]],
    ids=["asgi", "wsgi", "litestar"],
)
def test_apps_whose_routes_nobody_can_read_beforehand(tmp_path: Path, command: list[str]) -> None:
    with Zero(tmp_path, command, config=CONFIG.replace("    group_by: route\n", "")) as service:
        service.send_all()
        service.settle()
        assert service.counted() == {None: expected(dict.fromkeys(NUMBERS))["(unknown)"]}


def test_wsgi_and_asgi_apps_mounted_in_one_another(tmp_path: Path) -> None:
    numbers = {prefix + path: number for prefix in ("", "/inner", "/wsgi") for path, number in NUMBERS.items()}
    routes = BRACES | {"/inner" + path: f"/inner{route}" for path, route in BRACES.items()}
    with Zero(tmp_path, [*UVICORN, "fastapi_app:mounting"]) as service:
        service.send_all(numbers)
        service.settle(sum(numbers.values()))
        assert service.counted() == expected(routes | {"/wsgi" + path: "/wsgi/*" for path in NUMBERS}, numbers)


@pytest.mark.parametrize(
    ("command", "routes"),
    [([*UVICORN, "fastapi_app:app"], BRACES), ([*GUNICORN, "flask_app:application", "--preload"], ANGLES)],
    ids=["fastapi", "flask-preload"],
)
def test_wrapped_by_hand_as_well(tmp_path: Path, command: list[str], routes: dict[str, str | None]) -> None:
    with Zero(tmp_path, command, environment={"BY_HAND": "1"}) as service:
        service.send_all()
        service.settle()
        assert service.counted() == expected(routes)


# ── what must not hurt ─────────────────────────────────────────────────────────────────────────────────────────────
SERVERS = pytest.mark.parametrize(
    "command", [[*UVICORN, "fastapi_app:app"], [*GUNICORN, "flask_app:application"]], ids=["uvicorn", "gunicorn"]
)


@SERVERS
def test_a_wrong_configuration_is_said_once_and_the_service_runs(tmp_path: Path, command: list[str]) -> None:
    command = [part.replace("2", "1") if part == "2" else part for part in command]
    with Zero(tmp_path, command, config=CONFIG.replace("99%", "199%")) as service:
        service.send_all()
        said = [line for line in service.said().splitlines() if "otelslo" in line and "Traceback" not in line]
        said = [line for line in said if "slo.yaml" in line]
        assert len(said) == 1, service.said()
        assert "slo.yaml:5:13" in said[0]
        assert not (service.state_dir / "live.ring").exists()


@SERVERS
@pytest.mark.parametrize("switch", ["OTELSLO_DISABLED", "OTEL_SDK_DISABLED"])
def test_the_kill_switch(tmp_path: Path, command: list[str], switch: str) -> None:
    with Zero(tmp_path, command, environment={switch: "true"}) as service:
        service.send_all()
        assert not (service.state_dir / "live.ring").exists()
        assert "otelslo" not in service.said().replace("/otelslo", "")


# ── servers that we know nothing of ────────────────────────────────────────────────────────────────────────────────
def run_alone(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process under `opentelemetry-instrument`."""
    state_dir = tmp_path / "state"
    if not state_dir.exists():
        warm_state(state_dir)
    config = tmp_path / "slo.yaml"
    config.write_text(CONFIG)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHONPATH"))}
    inherited |= {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    done = subprocess.run(
        [os.fspath(INSTRUMENT), *arguments],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        cwd=APPS,
        check=False,
        env=inherited | {"OTELSLO_CONFIG": os.fspath(config), "OTELSLO_STATE_DIR": os.fspath(state_dir)} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done


def by_class(tmp_path: Path, which: str, **environment: str) -> dict[str, list[int]]:
    """Good, bad and excluded by route, of what was driven in one process."""
    done = run_alone(tmp_path, sys.executable, "by_class.py", which, **environment)
    return {route.removeprefix("route="): counts for route, counts in json.loads(done.stdout).items() if any(counts)}


def test_classes_and_their_subclasses(tmp_path: Path) -> None:
    """/own is not counted: a class of the service's answers it before ours hears of it."""
    assert by_class(tmp_path, "hierarchy") == {"/ok": [5, 0, 0], "/raise": [0, 1, 0], "/items/{number}": [1, 0, 0]}


def test_what_is_mounted_has_no_routes_of_its_own(tmp_path: Path) -> None:
    done = run_alone(tmp_path, sys.executable, "by_class.py", "mounted")
    found = json.loads(done.stdout)
    assert {route: counts for route, counts in found.items() if any(counts)} == {
        "route=/inner/ok": [1, 0, 0],
        "route=/inner/items/{number}": [1, 0, 0],
        "route=/ok": [1, 0, 0],
    }


def test_classes_and_an_edge_by_hand(tmp_path: Path) -> None:
    """Around FastAPI, and inside of Flask."""
    found = by_class(tmp_path, "by_hand", BY_HAND="1")
    assert found == {"/ok": [2, 0, 0], "/items/{number}": [1, 0, 0], "/boom": [0, 1, 0]}


def test_websockets_are_no_requests(tmp_path: Path) -> None:
    assert by_class(tmp_path, "sockets") == {}


def test_apps_are_not_kept(tmp_path: Path) -> None:
    done = run_alone(tmp_path, sys.executable, "by_class.py", "many")
    assert json.loads(done.stdout)["route=/ok"] == [5, 0, 0]
    assert int(done.stderr.split("left")[-1]) <= 1  # OTel's instrumentation may keep the last


def test_a_parent_that_serves_nothing_has_no_engine(tmp_path: Path) -> None:
    assert by_class(tmp_path, "nothing") == {}
    assert not (tmp_path / "state" / "live.ring").exists()


def modules_of(tmp_path: Path, code: str = "", **environment: str) -> Sequence[str]:
    done = run_alone(tmp_path, sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)", **environment)
    return done.stdout.split()


def test_nothing_is_imported_for_its_own_sake(tmp_path: Path) -> None:
    without = set(modules_of(tmp_path, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="otelslo"))
    roots = {name.partition(".")[0] for name in set(modules_of(tmp_path)) - without}
    assert "otelslo" in roots
    assert not roots & {"django", "litestar", "gunicorn", "uvicorn", "numba", "numpy", "flask", "fastapi", "starlette"}


def test_options_of_the_command(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    code = "import os; print(os.environ['OTELSLO_CONFIG'], os.environ['OTELSLO_STATE_DIR'])"
    arguments = ["--slo_config", os.fspath(other), "--slo_state_dir", "there", sys.executable, "-c", code]
    assert run_alone(tmp_path, *arguments).stdout.split() == [os.fspath(other), "there"]
