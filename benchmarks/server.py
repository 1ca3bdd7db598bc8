"""Throughput of a real server under real load: uvicorn, one worker, wrapped against bare.

Both servers run all the time and wrk loads one of them after the other, in pairs whose order alternates; the figure
is wrapped / bare within a pair, so higher is better and 1 means that nobody notices.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from . import ours
from .child import Running, running
from .harness import Plan, Unavailable, WrongCount
from .results import Results

NAMES = ("uvicorn_throughput_ratio",)


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES. Raises Unavailable without wrk or uvicorn."""
    if shutil.which("wrk") is None:
        raise Unavailable("wrk is not installed")
    try:
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise Unavailable(f"uvicorn is not installed: {error}") from error
    with ours.state_dir() as path, running("serve", "bare", path) as bare, running("serve", "wrapped", path) as wrapped:
        shares, answered = _pairs(bare, wrapped, plan)
    counted = wrapped.ending.get("counted", 0)
    if counted < answered:
        raise WrongCount(f"wrk got {answered} answers and the engine counted {counted}")
    note = f"wrk -t1 -c16, {plan.wrk_pairs} pairs of {plan.wrk_s} s; higher is better"
    results.figure("uvicorn_throughput_ratio", shares, note)


def _pairs(bare: Running, wrapped: Running, plan: Plan) -> tuple[list[float], int]:
    """Returns wrapped / bare of each pair, and how many answers the wrapped server gave in all."""
    _load(bare, 1)
    answered = _load(wrapped, 1)[1]
    shares = []
    for pair in range(plan.wrk_pairs):
        rates: dict[Running, float] = {}
        for server in (bare, wrapped) if pair % 2 == 0 else (wrapped, bare):
            rates[server], answers = _load(server, plan.wrk_s)
            answered += answers if server is wrapped else 0
        shares.append(rates[wrapped] / rates[bare])
    return shares, answered


def _load(server: Running, seconds: int) -> tuple[float, int]:
    """One wrk run; returns requests per second and answers. Raises WrongCount when an answer was not a success."""
    url = f"http://127.0.0.1:{server.ready['port']}/items/42"
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    answers = re.search(r"(\d+) requests in", said)
    if rate is None or answers is None or "Non-2xx" in said or "Socket errors" in said:
        raise WrongCount(f"wrk had failures or said something new: {' '.join(said.split())}")
    return float(rate[1]), int(answers[1])
