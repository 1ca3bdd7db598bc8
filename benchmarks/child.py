"""Starts `python -m benchmarks.worker ROLE ...`: what must be measured in a process of its own."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
DEADLINE_S = 120


class ChildFailed(Exception):
    """A measuring process ended badly or said nothing."""


def command(role: str, *arguments: str) -> list[str]:
    """The command line of a worker in this role."""
    return [sys.executable, "-m", "benchmarks.worker", role, *arguments]


def report_of(role: str, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a worker to its end; returns the JSON object on its last line. Raises ChildFailed."""
    done = subprocess.run(
        command(role, *arguments),
        cwd=PROJECT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return _parsed(role, done.stdout, done.stderr, done.returncode)


class Running:
    """A worker in the background; `ready` is what it said when it was ready, `ending` what it said at its end."""

    def __init__(self, role: str, *arguments: str) -> None:
        self._role = role
        self._process = subprocess.Popen(command(role, *arguments), cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(DEADLINE_S):
                self._process.kill()
        line = self._process.stdout.readline()
        self.ready = _parsed(role, line, "see above", self._process.poll() or 0)
        self.ending: dict[str, Any] = {}

    def stop(self) -> None:
        """Ask the worker to end, and take its last words if it has any."""
        self._process.terminate()
        try:
            last_words, _ = self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            last_words, _ = self._process.communicate()
        if last_words.strip():
            self.ending = _parsed(self._role, last_words, "", 0)


@contextmanager
def running(role: str, *arguments: str) -> Iterator[Running]:
    """A background worker that is stopped on the way out."""
    worker = Running(role, *arguments)
    try:
        yield worker
    finally:
        worker.stop()


def _parsed(role: str, stdout: str, stderr: str, code: int) -> dict[str, Any]:
    lines = stdout.strip().splitlines()
    if code not in (0, -15) or not lines:
        last = stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise ChildFailed(f"worker '{role}' ended with code {code}: {last[0]}")
    report: dict[str, Any] = json.loads(lines[-1])
    return report
