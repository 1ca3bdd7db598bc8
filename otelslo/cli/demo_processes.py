"""The demo's processes: workers that share one listening socket, one of which gets killed, and the load.

Each is a session of its own, so that Ctrl-C reaches the demo alone and it ends them in order; and each ends by itself
when the pipe to the demo closes, so that none is left behind however the demo ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from otelslo.errors import OtelsloError

_STOP_PATIENCE_S = 6.0


class DemoFailed(OtelsloError):
    """The demo could not be run; says what happened and where to look."""


def _spawn(
    module: str, arguments: list[str], env: dict[str, str], log: IO[bytes], **more: Any
) -> subprocess.Popen[bytes]:
    package = Path(__file__).resolve().parents[2]
    paths = [str(package), *filter(None, [env.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**env, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
        **more,
    )


class Worker:
    """One server process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == b"ready":
                self.ready.set()

    def tell(self, words: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(f"{words}\n".encode())
            self.process.stdin.flush()


class Servers:
    """The workers behind one listening socket. Leaving the context ends them all.

    Args:
        state_dir: for their engine, and `workers.log`.
        port: 0 for any free one.
    """

    def __init__(self, state_dir: Path, config: Path, port: int) -> None:
        self.log_path = state_dir / "workers.log"
        self._log = open(self.log_path, "ab")  # noqa: SIM115 (closed by __exit__)
        self._env = {
            **os.environ,
            "OTELSLO_STATE_DIR": str(state_dir.resolve()),
            "OTELSLO_CONFIG": str(config.resolve()),
        }
        self._words = ""
        self.workers: list[Worker] = []
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
            self._socket.listen(512)
        except OSError as e:
            self._close()
            raise OtelsloError(f"port {port} cannot be used: {e.strerror}. Leave --port out to get a free one") from e
        self.host, self.port = self._socket.getsockname()

    def __enter__(self) -> Servers:
        return self

    def start(self) -> Worker:
        """Begin one more worker; it is ready when its `ready` is set."""
        fd = self._socket.fileno()
        worker = Worker(_spawn("otelslo.cli.demo_app", [str(fd)], self._env, self._log, pass_fds=[fd]))
        worker.tell(self._words)
        self.workers.append(worker)
        return worker

    def check(self) -> None:
        """Raises DemoFailed if a worker ended that nobody killed."""
        for worker in self.workers:
            code = worker.process.poll()
            if code is not None:
                raise DemoFailed(f"a worker ended by itself (exit code {code}). Its last words:\n{self._last_words()}")

    def ready(self) -> bool:
        """Whether every worker serves."""
        return all(worker.ready.is_set() for worker in self.workers)

    def trouble(self, *words: str) -> None:
        """What is wrong with the shop from now on, also for workers to come."""
        self._words = " ".join(words)
        for worker in self.workers:
            worker.tell(self._words)

    def kill(self, pid: int | None) -> int:
        """SIGKILL the worker with this pid, or the first; the pid that it was."""
        victim = next((worker for worker in self.workers if worker.pid == pid), self.workers[0])
        self.workers.remove(victim)
        victim.process.kill()
        victim.process.wait()
        _close_pipes(victim.process)
        return victim.pid

    def stop(self) -> None:
        """End all workers: politely, so that the last counts are committed, then not."""
        for worker in self.workers:
            assert worker.process.stdin is not None
            with contextlib.suppress(OSError):
                worker.process.stdin.close()
        deadline = time.monotonic() + _STOP_PATIENCE_S
        for worker in self.workers:
            _reap(worker.process, max(0.1, deadline - time.monotonic()))
        self.workers.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is not None:
                for worker in self.workers:
                    worker.process.kill()
            self.stop()
        finally:
            self._close()

    def _close(self) -> None:
        self._socket.close()
        self._log.close()

    def _last_words(self) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-8:])
        except OSError:
            return "(none)"


class Load:
    """The load process; `latest` is its ledger as last reported. Leaving the context ends it."""

    def __init__(self, servers: Servers, state_dir: Path, rate: float, connections: int, seconds: float) -> None:
        arguments = [servers.host, *map(str, (servers.port, rate, connections, seconds))]
        with open(state_dir / "load.log", "ab") as log:
            self._process = _spawn("otelslo.cli.demo_load", arguments, dict(os.environ), log)
        self.latest: dict[str, Any] = {"sent": 0, "ended": {}, "workers": {}}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        _reap(self._process, _STOP_PATIENCE_S)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.latest = json.loads(line)

    @property
    def begun(self) -> bool:
        return bool(self.latest["sent"])

    @property
    def done(self) -> bool:
        """Whether the last line of the ledger is in. Raises DemoFailed if the process ended without."""
        if not self._thread.is_alive() and "done" not in self.latest:
            raise DemoFailed(f"the load process ended by itself (exit code {self._process.wait()})")
        return "done" in self.latest

    def busiest_worker(self) -> int | None:
        """The pid of the worker that answered most."""
        workers = self.latest["workers"]
        return int(max(workers, key=workers.__getitem__)) if workers else None


def _reap(process: subprocess.Popen[bytes], patience_s: float) -> None:
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _close_pipes(process)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
