"""A process that compiles the kernels once and forks for every scenario asked of it, so that a kill costs no compile.

python -m core.scenario_server faults|plain: with fault points before every shared store, or as shipped. Asked by a
line of JSON {"scenario": "module:function", "arguments": {...}}; answers {"answer": ...} or {"error": traceback}.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
_LONGEST_S = 3600


class ScenarioServer:
    """The asking side."""

    def __init__(self, mode: str) -> None:
        command = [sys.executable, "-m", "core.scenario_server", mode]
        self._process = subprocess.Popen(command, cwd=_TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, scenario: str, **arguments: Any) -> Any:
        """What the scenario returned; AssertionError with its traceback if it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"scenario": scenario, "arguments": arguments}).encode() + b"\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:  # select() itself takes no descriptor above 1023
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(_LONGEST_S), f"{scenario} hangs"
        line = self._process.stdout.readline()
        assert line, "the scenario server is gone"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=10)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    module, function = request["scenario"].split(":")
    try:
        return {"answer": getattr(importlib.import_module(f"core.{module}"), function)(**request["arguments"])}
    except BaseException:
        return {"error": traceback.format_exc()[-8000:]}  # a pipe holds 64 KB


def _serve(answers: int) -> None:
    for line in sys.stdin:
        from_child, to_server = os.pipe()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            os.close(from_child)
            os.write(to_server, json.dumps(_answer(json.loads(line))).encode())
            os._exit(0)
        os.close(to_server)
        _, status = os.waitpid(child, 0)  # only when the process is gone, and its files with it, is the answer given
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what a failed scenario has left stopped
        with os.fdopen(from_child, "rb") as pipe:
            answer = pipe.read()
        if status != 0:
            error = f"the scenario's process ended by {os.waitstatus_to_exitcode(status)}"
            answer = json.dumps({"error": error}).encode()
        os.write(answers, answer + b"\n")


def _main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)
    from otelslo.kernels import words

    if sys.argv[1] == "faults":
        from core import faults

        words.FAULT_WORDS = faults.ADDRESS
    from otelslo.kernels.ring import compile_kernels

    compile_kernels()
    if sys.argv[1] == "plain":
        from core import loops

        loops.compile_loops()
    _serve(answers)


if __name__ == "__main__":
    _main()
