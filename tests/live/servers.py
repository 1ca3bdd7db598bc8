"""A supervisor of worker processes on one port, each of which can be killed and replaced.

Workers share the port by SO_REUSEPORT. The log of all workers of a service goes to one file; a worker that does not
come up is an error that shows that log.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .app import Settings

_START_S = 90.0
_STOP_S = 30.0
_LOOK_S = 0.01
_pause = threading.Event()
_warm: list[Path] = []  # compiled kernels of the first service, for the state directories of later ones


def warm_up(directory: Path) -> None:
    """Compile the kernels, once a run; every later service with a new state directory of its own starts with them."""
    if _warm:
        return
    with Service(directory, 1) as service:
        service.stop()
    shutil.copytree(
        service.state_dir,
        directory / "warm",
        ignore=lambda _, names: [
            name for name in names if name.startswith(("live", "otelslo", "locks", "definitions", "."))
        ],
    )
    _warm.append(directory / "warm")


def warm_state(state_dir: Path) -> None:
    """A new state directory that has the compiled kernels and nothing else."""
    for kernels in _warm:  # none while the first service makes them
        shutil.copytree(kernels, state_dir)


def until(condition: Callable[[], object], what: str, limit_s: float = 30.0) -> None:
    """Wait for what other processes bring about; the limit only ends a test that hangs."""
    give_up_at = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up_at, f"still waiting: {what}"
        _pause.wait(_LOOK_S)


class Worker:
    """One process; `prefix` is a command that starts it in some other surroundings (setpriv, unshare)."""

    def __init__(self, service: Service, prefix: Sequence[str], environment: Mapping[str, str]) -> None:
        self._ready, ready_fd = os.pipe()
        settings = Settings(service.port, os.fspath(service.state_dir), os.fspath(service.ledger), ready_fd)
        command = [*prefix, sys.executable, os.fspath(Path(__file__).with_name(service.script)), settings.text()]
        with open(service.log, "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, pass_fds=[ready_fd], env=dict(environment), cwd=service.directory
            )
        os.close(ready_fd)
        self.pid = self._process.pid
        self.is_ready = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> bool:
        """Whether it accepts connections; False if it ended instead."""
        if not self.is_ready:
            with selectors.DefaultSelector() as selector:  # select() itself takes no descriptor above 1023
                selector.register(self._ready, selectors.EVENT_READ)
                readable = bool(selector.select(_START_S))
            self.is_ready = readable and os.read(self._ready, 64).startswith(b"ready")
        return self.is_ready

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self._close()

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait_gone(self) -> int:
        code = self._process.wait(_STOP_S)
        self._close()
        return code

    def _close(self) -> None:
        with suppress(OSError):
            os.close(self._ready)


class Service:
    """W workers over one state directory; a context manager that leaves no process behind.

    Args:
        directory: where ledger and log go; also the workers' working directory.
        script: what a worker runs, beside this file.
    """

    def __init__(
        self,
        directory: Path,
        workers: int,
        *,
        state_dir: Path | None = None,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        script: str = "app.py",
    ) -> None:
        self.directory = directory
        self.script = script
        self.state_dir = state_dir or directory / "state"
        self.ledger = directory / "ledger"
        self.log = directory / "log"
        self.workers: list[Worker] = []
        self._number = workers
        self._fresh = state_dir is None and not self.state_dir.exists()
        self._prefix = list(prefix)
        self._environment = dict(os.environ if environment is None else environment)
        # Bound but not listening: it keeps the port ours while workers come and go.
        self._port_keeper = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._port_keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port_keeper.bind(("127.0.0.1", 0))
        self.port: int = self._port_keeper.getsockname()[1]

    def __enter__(self) -> Service:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers:
            if worker.alive:
                worker.kill()
        self.workers = []
        self._port_keeper.close()

    def start(self) -> None:
        """Start all workers at once and wait until each accepts connections."""
        if self._fresh:
            warm_state(self.state_dir)
        self._fresh = False
        self.workers = [self._new() for _ in range(self._number)]
        for worker in self.workers:
            self._wait_ready(worker)

    def stop(self) -> None:
        """SIGTERM to all at once; each ends its requests and closes its engine."""
        for worker in self.workers:
            worker.terminate()
        codes = [worker.wait_gone() for worker in self.workers]
        assert set(codes) <= {0, -signal.SIGTERM}, f"workers ended with {codes}\n{self.said()}"
        self.workers = []

    def replace(self, worker: Worker) -> Worker:
        """Start another worker in the place of a dead one, not ready yet."""
        assert not worker.alive
        new = self._new()
        self.workers[self.workers.index(worker)] = new
        return new

    def wait_ready(self) -> None:
        for worker in self.workers:
            self._wait_ready(worker)

    def said(self) -> str:
        """The log of all workers so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self) -> list[int]:
        """Request ids in the ledger that the app wrote before it answered."""
        return [int(line) for line in self.ledger.read_bytes().splitlines()] if self.ledger.exists() else []

    def _new(self) -> Worker:
        return Worker(self, self._prefix, self._environment)

    def _wait_ready(self, worker: Worker) -> None:
        assert worker.wait_ready(), f"a worker did not come up\n{self.said()}"
