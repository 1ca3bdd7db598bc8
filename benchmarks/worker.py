"""A process that is measured from outside: `python -m benchmarks.worker ROLE ...`. It prints JSON, one object a line.

Nothing is imported before the role asks for it, since imports are part of what is measured.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import timeit
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asgi_apps import App


SITES = 4  # an event is counted on 64 rows at most


def rss_mb() -> float:
    """Resident memory of this process now, in units of 10^6 bytes (Linux), or its peak elsewhere."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def say(**values: object) -> None:
    """Print one JSON object."""
    print(json.dumps(values), flush=True)


def requests(app: App) -> timeit.Timer:
    """Runs requests through the app: `.timeit(1000)` for a thousand of them."""
    from .asgi_apps import REQUEST, request_names

    return timeit.Timer(REQUEST, globals=request_names(app))


def start(state_dir: str) -> None:
    """Import the library and make an engine ready, as a worker does."""
    began_ns = time.perf_counter_ns()
    from otelslo import Engine

    from . import ours

    engine = Engine(slos=ours.slos(2), state_dir=state_dir)
    engine.start()
    ready_ns = time.perf_counter_ns() - began_ns
    engine.close()
    say(ready_s=ready_ns / 1e9)


def memory(with_engine: str, state_dir: str) -> None:
    """A web worker's imports, with or without an engine that has served a request."""
    import starlette.applications  # noqa: F401
    import uvicorn  # noqa: F401

    if with_engine == "bare":
        say(rss_mb=rss_mb())
        return
    from . import ours
    from .asgi_apps import plain

    with ours.engine(ours.slos(2), state_dir=state_dir, runner=True) as engine:
        requests(ours.wrapped(plain, engine)).timeit(1000)
        say(rss_mb=rss_mb())


def drive(state_dir: str, slo_count: str) -> None:
    """Record requests without a pause until stopped or orphaned."""
    from . import ours
    from .asgi_apps import plain

    parent = os.getppid()
    with ours.engine(ours.slos(int(slo_count)), state_dir=state_dir) as engine:
        load = requests(ours.wrapped(plain, engine))
        load.timeit(1000)
        say(ready=True)
        while os.getppid() == parent:
            load.timeit(1000)


def leader(state_dir: str, slo_count: str, seconds: str) -> None:
    """Let the runner tick beside one event a second for each SLO; report the process's CPU time over wall time.

    Measured from when it has taken the lead: its first turn, of about 60 ms, creates files, tables and all alerts.
    """
    from . import ours
    from .harness import expect

    each, sites = int(slo_count) // SITES, [f"model-{number}" for number in range(SITES)]
    made = (ours.slos(each, first=each * n, kind="call", route=site) for n, site in enumerate(sites))
    objectives = [*chain.from_iterable(made)]
    with ours.engine(objectives, state_dir=state_dir, runner=True) as engine:
        tracks = [*map(engine.track, sites)]

        def second() -> int:
            for track in tracks:
                engine.record(track, "good", 12_000_000)
            time.sleep(1)
            return 1

        given = second()
        while not ours.has_committed(engine):
            given += second()
        gc.collect()  # what starting has left, and numba's heap to be searched for it: 90 ms, once
        wall_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        given += sum(second() for _ in range(int(seconds)))
        cpu_ns = time.process_time_ns() - cpu_ns
        wall_ns = time.perf_counter_ns() - wall_ns
        for counted in ours.valid(engine, objectives):
            expect("leader", counted, given)
    say(cpu_percent=100 * cpu_ns / wall_ns)


def serve(kind: str, state_dir: str) -> None:
    """Serve the plain app by uvicorn on a free port; say at the end how many requests were counted.

    `kind` is bare, wrapped, quiet (without alerts) or many (198 more objectives that no request is about).
    """
    import signal
    import socket
    from contextlib import nullcontext

    import uvicorn

    from . import ours
    from .asgi_apps import plain

    # uvicorn ends on SIGTERM and then raises it again for whoever had it before: that must not end us yet
    signal.signal(signal.SIGTERM, lambda *_: None)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as uvicorn's own have it
    wrap = kind != "bare"
    objectives = ours.slos(2, alerts="off" if kind == "quiet" else None) if wrap else []
    objectives += ours.slos(198, first=2, kind="call") if kind == "many" else []
    with ours.engine(objectives, state_dir=state_dir, runner=True) if wrap else nullcontext() as engine:
        app = ours.wrapped(plain, engine) if wrap else plain
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", access_log=False, log_level="warning"))
        say(port=listener.getsockname()[1])
        server.run(sockets=[listener])
        if wrap:
            say(counted=min(ours.valid(engine, objectives[:2])))


ROLES = {role.__name__: role for role in (start, memory, drive, leader, serve)}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
