"""What a request costs as SLOs and workers are added: 1, 4, 16 SLOs on its route, 1 and 2 processes recording.

The second process drives the same app on the same state directory while this one is timed, each on a CPU of its own.
Time is the recording thread's CPU time, since a machine whose cores are shared or busy makes wall time double by
itself; what the thread waits for the other's cache lines is in CPU time. Subtracted: the bare app, in the same process
and round. The note says what share of a core the thread got: well below 100 %, the two hardly ran at once and the
figure says little.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter_ns, thread_time_ns

from . import ours
from .asgi_apps import REQUEST, plain, request_names
from .child import running
from .harness import Contender, Plan, Samples, WrongCount, expect, interleave, shorter
from .results import Results

SLO_COUNTS = (1, 4, 16)
WORKERS = (1, 2)


def name_of(slo_count: int, workers: int) -> str:
    """The figure's name, such as middleware_ns_slos_4_workers_2."""
    return f"middleware_ns_slos_{slo_count}_workers_{workers}"


NAMES = tuple(name_of(count, workers) for workers in WORKERS for count in SLO_COUNTS)


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    for workers in WORKERS:
        for slo_count in SLO_COUNTS:
            _measure(slo_count, workers, shorter(plan, 2), results)


def _measure(slo_count: int, workers: int, plan: Plan, results: Results) -> None:
    objectives = ours.slos(slo_count)
    with ExitStack() as stack:
        path = stack.enter_context(ours.state_dir())
        engine = stack.enter_context(ours.engine(objectives, state_dir=path))
        for worker in range(1, workers):
            with on_cpu(worker):  # the child inherits it
                stack.enter_context(running("drive", path, str(slo_count)))
        stack.enter_context(on_cpu(0))
        mine = Contender("ours", REQUEST, request_names(ours.wrapped(plain, engine)), clock=thread_time_ns)
        bare = Contender("bare", REQUEST, request_names(plain), clock=thread_time_ns)
        samples, share = _with_share([mine, bare], plan)
        counted = ours.valid(engine, objectives)
    for events in counted:
        if workers == 1:
            expect("SLOMiddleware", events, mine.calls)
        elif events <= mine.calls:
            raise WrongCount(f"two workers recorded {events}, no more than the {mine.calls} of this one alone")
    note = f"thread CPU time; the thread had {share:.0%} of a core"
    results.timing(name_of(slo_count, workers), samples, "ours", "bare", note)


def _with_share(contenders: list[Contender], plan: Plan) -> tuple[Samples, float]:
    wall_ns, cpu_ns = perf_counter_ns(), thread_time_ns()
    samples = interleave(contenders, plan)
    return samples, (thread_time_ns() - cpu_ns) / (perf_counter_ns() - wall_ns)


@contextmanager
def on_cpu(number: int) -> Iterator[None]:
    """Keep this process, and children started meanwhile, on one of its CPUs; does nothing where that cannot be."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) <= number:
        yield
        return
    os.sched_setaffinity(0, {allowed[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, set(allowed))
