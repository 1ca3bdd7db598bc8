"""What tracking adds to a model call that two inference SLOs judge, against the bare one.

As they are called in practice: a function, a coroutine (stepped by hand), a batch whose size decides the group, a batch
of which every item is counted, and a call that fails, whose exception is told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import ours
from .harness import Contender, Plan, expect, interleave
from .results import Results
from .track import coroutine, drain, function

BATCH = 32


def failing(x: int) -> int:
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def fails(call: Callable[[int], int]) -> None:
    """Call what raises."""
    try:
        call(1)
    except RuntimeError:
        return


# name: bare function, statement, options of the second SLO, whether a batch is told, events of the second SLO a call
FORMS: dict[str, tuple[Callable[[int], Any], str, dict[str, Any], bool, int]] = {
    "inference_function_added_ns": (function, "it(1)", {}, False, 1),
    "inference_coroutine_added_ns": (coroutine, "drain(it(1))", {}, False, 1),
    "inference_batch_class_added_ns": (function, "it(1)", {"group_by": "batch_class"}, True, 1),
    "inference_batch_items_added_ns": (function, "it(1)", {"options": {"per": "item"}}, True, BATCH),
    "inference_failure_added_ns": (failing, "fails(it)", {}, False, 1),
}
NAMES = (*FORMS,)


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    for name, (bare, statement, second, batched, events) in FORMS.items():
        objectives = ours.inference_slos(second)
        with ours.engine(objectives) as engine:
            names = {"drain": drain, "fails": fails}
            tracked = ours.track(engine)(ours.telling_batch(bare, BATCH) if batched else bare)
            mine = Contender("ours", statement, {**names, "it": tracked})
            samples = interleave([mine, Contender("bare", statement, {**names, "it": bare})], plan)
            calls, items = ours.valid(engine, objectives)
            expect(name, calls, mine.calls)
            expect(name, items, mine.calls * events)
        results.timing(name, samples, "ours", "bare", "2 inference SLOs on the call site")
