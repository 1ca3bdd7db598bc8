"""What a worker pays once: time from import to a ready engine, and resident memory.

Cold: no compiled code is cached anywhere; warm: the same directories once more. The system's own file cache is warm
in both. Memory is that of a process with uvicorn, Starlette, an engine and 1000 requests, beside one with uvicorn
and Starlette only.
"""

from __future__ import annotations

import tempfile

from .child import report_of
from .harness import Plan
from .results import Results

NAMES = (
    "worker_start_s_cold",
    "worker_start_s_warm",
    "worker_rss_mb",
    "bare_worker_rss_mb",
    "worker_rss_added_mb",
)


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    cold_s, warm_s, with_engine_mb, bare_mb = [], [], [], []
    for _ in range(plan.process_runs):
        with tempfile.TemporaryDirectory(prefix="otelslo-benchmark-") as path:
            caches = {"NUMBA_CACHE_DIR": f"{path}/numba", "XDG_CACHE_HOME": f"{path}/cache", "HOME": path}
            state = f"{path}/state"
            cold_s.append(report_of("start", state, environment=caches)["ready_s"])
            warm_s.append(report_of("start", state, environment=caches)["ready_s"])
            with_engine_mb.append(report_of("memory", "engine", state, environment=caches)["rss_mb"])
            bare_mb.append(report_of("memory", "bare", state, environment=caches)["rss_mb"])
    results.figure("worker_start_s_cold", cold_s, "import and Engine.start with nothing compiled yet")
    results.figure("worker_start_s_warm", warm_s, "the same with what the first start left behind")
    results.figure("worker_rss_mb", with_engine_mb, "uvicorn, Starlette, engine, 1000 requests; 1 MB = 10^6 bytes")
    results.figure("bare_worker_rss_mb", bare_mb, "uvicorn and Starlette only")
    added_mb = [mine - bare for mine, bare in zip(with_engine_mb, bare_mb, strict=True)]
    results.figure("worker_rss_added_mb", added_mb, "the difference")
