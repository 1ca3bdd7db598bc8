"""Real gunicorn, its workers coming and going: what the ring counts is what a client with a fixed number has seen."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from live.history import saved_counts
from live.servers import until
from live.watch import Watch
from otelslo.integrations import gunicorn as hooks

from otelslo import Engine
from otelslo.wsgi import SLOMiddleware

gunicorn_package = pytest.importorskip("gunicorn", reason="needs gunicorn")

PATHS = ["/ok", "/items/7", "/boom", "/raise", "/forbidden", "/missing", "/stream"]
HOOKS = "from otelslo.integrations.gunicorn import on_exit, post_worker_init, worker_exit\n"


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory that has the compiled kernels and nothing else."""
    directory = tmp_path_factory.mktemp("warm")
    Engine((), state_dir=directory, runner=False).start().close()
    for path in directory.iterdir():
        if path.name.startswith(("live", "otelslo", "locks", "definitions", ".")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return directory


class Gunicorn:
    """A master with two workers, and what its ring has counted."""

    def __init__(self, folder: Path, kernels: Path, arguments: list[str], hooks: bool, **environment: str) -> None:
        self.state = folder / "state"
        self.log = folder / "log"
        shutil.copytree(kernels, self.state)
        (folder / "slo.yaml").write_text('slos:\n  - {name: all, target: "99%", window: 1d}\n')
        (folder / "gunicorn.conf.py").write_text(HOOKS if hooks else "")
        environment = os.environ | environment | {
            "OTELSLO_CONFIG": os.fspath(folder / "slo.yaml"),
            "OTELSLO_STATE_DIR": os.fspath(self.state),
        }  # fmt: skip
        with socket.create_server(("127.0.0.1", 0)) as listening, self.log.open("wb") as log:
            self.port = listening.getsockname()[1]
            command = [sys.executable, "-m", "gunicorn", "-c", os.fspath(folder / "gunicorn.conf.py")]
            command += ["-b", f"fd://{listening.fileno()}", "-w", "2", "--graceful-timeout", "20", *arguments]
            self.process = subprocess.Popen(
                command,
                cwd=TESTS,
                env=environment,
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
            )

    def ask(self, path: str) -> int | str:
        """The status, or "cut"."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
        except (http.client.HTTPException, OSError):
            return "cut"
        finally:
            connection.close()
        return answer.status

    def ask_all(self, number: int) -> Counter[str]:
        """What comes of so many requests, four at a time, in the ring's words."""
        words = {200: "good", 403: "unauthorised", 404: "client_error"}
        paths = [PATHS[index % len(PATHS)] for index in range(number)]
        with ThreadPoolExecutor(4) as pool:
            answers = zip(paths, pool.map(self.ask, paths), strict=True)
            return Counter(
                words.get(status, status) if status != 500 else "exception" if path == "/raise" else "5xx"
                for path, status in answers
            )

    def counted(self) -> Counter[str]:
        return Watch(self.state / "live.ring").reasons("all")

    def workers(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in children.split()}

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log.read_text()


@pytest.fixture
def gunicorn(tmp_path: Path, kernels: Path) -> Iterator[Any]:
    started: list[Gunicorn] = []

    def start(*arguments: str, hooks: bool = False, **environment: str) -> Gunicorn:
        started.append(Gunicorn(tmp_path, kernels, list(arguments), hooks, **environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


TESTS = Path(__file__).parents[1]
WSGI = "integrations.gunicorn_app:application"
CASES = {
    "sync": (["-k", "sync", WSGI], False, {}),
    "sync preloaded with hooks": (["-k", "sync", "--preload", WSGI], True, {}),
    "threads preloaded": (["-k", "gthread", "--threads", "3", "--preload", WSGI], False, {}),
    "threads with hooks": (["-k", "gthread", "--threads", "3", WSGI], True, {}),
    "started by the master": (["-k", "sync", "--preload", WSGI], True, {"MASTER_STARTS": "1"}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_request_is_counted_once(gunicorn, case):
    """Over workers that end after some requests, and a reload of all of them."""
    arguments, hooked, environment = CASES[case]
    server = gunicorn("--max-requests", "50", "--max-requests-jitter", "10", *arguments, hooks=hooked, **environment)
    seen = server.ask_all(140)
    before = server.workers()
    server.process.send_signal(signal.SIGHUP)
    seen += server.ask_all(70)
    until(lambda: not before & server.workers(), "the old workers have gone")
    seen += server.ask_all(70)
    server.stop()
    if gunicorn_package.version_info < (
        27,
    ):  # older ones, bare too, close some connections that they have not read from
        assert seen.total() == 280
        del seen["cut"]
        assert server.counted() == seen
        return
    assert seen == {"good": 120, **dict.fromkeys(("5xx", "exception", "unauthorised", "client_error"), 40)}
    assert server.counted() == seen, server.log.read_text()[-5000:]
    watch = Watch(server.state / "live.ring")
    assert watch.reader.in_flight() == 0
    assert not watch.faults()
    if hooked:
        assert saved_counts(server.state)["all"].total == seen.total()


def test_hooks_compile_before_the_first_request(gunicorn):
    server = gunicorn(WSGI, hooks=True)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/compiled")
    assert connection.getresponse().read() == b"yes"
    server.stop()


def test_a_worker_that_is_timed_out(gunicorn):
    """By SIGABRT, which the app sees as an exit of its worker; by SIGKILL where it sees nothing."""
    server = gunicorn("-k", "sync", "--timeout", "2", WSGI, hooks=True)
    assert server.ask("/ok") == 200
    assert server.ask("/hang") in (500, "cut")
    assert server.ask("/stuck") == "cut"
    assert server.ask("/ok") == 200
    until(lambda: server.counted()["crashed"] == 1, "the killed worker is settled")
    server.stop()
    assert server.counted() == {"good": 2, "server_cancel": 1, "crashed": 1}, server.log.read_text()
    assert not Watch(server.state / "live.ring").faults()


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_workers_of_uvicorn(gunicorn, preload):
    pytest.importorskip("uvicorn_worker", reason="needs uvicorn-worker")
    application = "integrations.gunicorn_app:asgi_application()"
    server = gunicorn("-k", "uvicorn_worker.UvicornWorker", "--max-requests", "60", *preload, application, hooks=True)
    seen = server.ask_all(140)
    server.process.send_signal(signal.SIGHUP)
    seen += server.ask_all(140)
    server.stop()
    assert seen.total() == 280
    del seen["cut"]  # connections that a worker has accepted and, at its end, not read from: no app knows of them
    assert server.counted() == seen, server.log.read_text()[-5000:]
    assert saved_counts(server.state)["all"].total == seen.total()


def test_hooks_find_what_is_wrapped(make_engine, tmp_path):
    """And they close it again, whichever engine it has; what is no app of ours is left alone."""
    engine = make_engine()
    engine.close()
    ours = SLOMiddleware(lambda environ, start_response: [b""], engine=engine)

    class Application:
        wsgi_app = staticmethod(ours)

        def __call__(self, environ: Any, start_response: Any) -> Any:
            return self.wsgi_app(environ, start_response)

    worker = SimpleNamespace(wsgi=Application())
    hooks.post_worker_init(worker)
    assert engine.running
    hooks.worker_exit(None, worker)
    assert not engine.running
    hooks.worker_exit(None, SimpleNamespace())


def test_an_engine_of_the_master(make_engine, monkeypatch):
    engine, own = make_engine(), make_engine()
    monkeypatch.setattr("otelslo.default.engine", lambda: own)
    ours = SLOMiddleware(lambda environ, start_response: [b""], engine=engine)
    hooks.on_exit(SimpleNamespace(app=SimpleNamespace(callable=ours)))
    assert not engine.running
    assert not own.running


def test_hooks_never_raise(monkeypatch):
    def fail(*arguments: Any) -> None:
        raise RuntimeError("our own fault")

    monkeypatch.setattr(hooks, "_middleware_in", fail)
    hooks.post_worker_init(SimpleNamespace(wsgi=None))
    hooks.worker_exit(None, SimpleNamespace(wsgi=None))
    hooks.on_exit(SimpleNamespace())
