"""What alerts cost a request at the slow end: p99 with 200 objectives and all their alerts against two without any.

The leader decides them all every 10 s in the very process that serves, so each run is long enough to meet it. hey sends
at a fixed rate, far from what the server could do: at full load p99 says how long the queue is.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from . import ours
from .child import Running, running
from .harness import Plan, Unavailable, WrongCount
from .results import Results

NAMES = ("alerts_p99_ratio",)
_CONNECTIONS, _PER_CONNECTION = 4, 100  # hey tells no p99 of fewer than 100 answers


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES. Raises Unavailable without hey or uvicorn."""
    if shutil.which("hey") is None:
        raise Unavailable("hey is not installed")
    try:
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise Unavailable(f"uvicorn is not installed: {error}") from error
    with (
        ours.state_dir() as few_dir,
        ours.state_dir() as many_dir,
        running("serve", "quiet", few_dir) as few,
        running("serve", "many", many_dir) as many,
    ):
        ratios, shown = _pairs(few, many, plan)
    rate = _CONNECTIONS * _PER_CONNECTION
    note = f"hey at {rate}/s, {plan.tail_pairs} pairs of {plan.tail_s} s; p99 in ms {', '.join(shown)}"
    results.figure("alerts_p99_ratio", ratios, note)


def _pairs(few: Running, many: Running, plan: Plan) -> tuple[list[float], list[str]]:
    for server in (few, many):
        _p99_s(server, 2)
    ratios, shown = [], []
    for pair in range(plan.tail_pairs):
        order = (few, many) if pair % 2 == 0 else (many, few)
        found = {server: _p99_s(server, plan.tail_s) for server in order}
        ratios.append(found[many] / found[few])
        shown.append(f"{1e3 * found[few]:.1f}/{1e3 * found[many]:.1f}")
    return ratios, shown


def _p99_s(server: Running, seconds: int) -> float:
    url = f"http://127.0.0.1:{server.ready['port']}/items/42"
    command = ["hey", "-z", f"{seconds}s", "-c", str(_CONNECTIONS), "-q", str(_PER_CONNECTION), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"99% in ([\d.]+) secs", said)
    if found is None or "Error distribution" in said:
        raise WrongCount(f"hey had failures or said something new: {' '.join(said.split())}")
    return float(found[1])
