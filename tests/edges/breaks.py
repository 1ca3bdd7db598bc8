"""Our own calls, made to fail: each point is a call that a request goes through, some only in rare cases.

A break raises at the n-th call and at all after it, or answers as if the block had been taken away.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from otelslo.sites import Paths

ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: ZeroDivisionError("a fault of ours"),
    lambda: OSError(28, "no space is left for us"),
    lambda: MemoryError(),
    lambda: KeyError("ours"),
    lambda: RuntimeError("ours"),
    lambda: StopIteration("ours"),
    lambda: OverflowError("ours"),
)


def _kernels(edge: Any) -> Any:
    return edge


# Where, and what: the owner of a call, found from the edge, and the call's name.
POINTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "kernel begin": (_kernels, "_kernel_begin"),
    "kernel end": (_kernels, "_kernel_end"),
    "plan_for": (lambda edge: edge.engine, "plan_for"),
    "track_for": (lambda edge: edge.engine, "track_for"),
    "attach": (lambda edge: edge.engine, "attach"),
    "trace_loss": (lambda edge: edge.engine, "trace_loss"),
    "memo": (lambda edge: edge.engine, "memo"),
    "judge": (lambda edge: edge.engine.judge, "plan_for"),
    "judging": (lambda edge: edge.engine.judge, "_judge"),
    "entry": (lambda edge: edge.engine.objectives[0], "entries"),
    "row": (lambda edge: edge.engine.objectives[-1], "row_of"),
    "string": (lambda edge: edge.engine.names, "string"),
    "histogram": (lambda edge: edge.engine.names, "histogram_of"),
    "find": (lambda edge: edge._sites, "find"),
    "late": (lambda edge: edge._sites, "late"),
    "named": (lambda edge: edge._sites, "named"),
    "site": (lambda edge: edge._sites, "_site"),
    "template": (lambda edge: edge._sites, "_template"),
    "edge find": (_kernels, "_find"),
    "edge late": (_kernels, "_late"),
    "edge plan": (_kernels, "_plan"),
    "edge status": (_kernels, "_status"),
    "edge header": (_kernels, "_header"),
    "joined": (_kernels, "_joined"),
    "begin again": (_kernels, "_begin_again"),
    "after": (_kernels, "_after"),
    "clock": (_kernels, "now_ns"),
    "fault count": (lambda edge: edge.engine.own_faults, "_record"),
    "site_of": (_kernels, "_site_of"),
}
LOST: dict[str, int] = {"_kernel_begin": 0, "_kernel_end": -1}


class Break:
    """A call that fails from its n-th time on."""

    def __init__(self, name: str, usual: Any, after: int, error: Callable[[], Exception] | None, answer: Any) -> None:
        self.name = name
        self.happened = False
        self.silent = name == "fault count"
        self._usual = usual
        self._left = after
        self._error = error
        self._answer = answer

    @property
    def is_counted(self) -> bool:
        """Whether it must have been counted as a fault."""
        return self.happened and not self.silent

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self._left > 0:
            self._left -= 1
            return self._usual(*arguments, **named)
        self.happened = True
        if self._error is not None:
            raise self._error()
        return self._answer


def broken(rng: random.Random, edge: Any, patch: pytest.MonkeyPatch) -> Break:
    """Break one call of this edge."""
    name = rng.choice([name for name, (owner, attribute) in POINTS.items() if hasattr(owner(edge), attribute)])
    owner, attribute = POINTS[name]
    error: Callable[[], Exception] | None = rng.choice(ERRORS)
    if attribute in LOST and rng.random() < 0.5:
        error = None
    usual = getattr(owner(edge), attribute)
    made = Break(name, usual, rng.choice((0, 0, 0, 1, 2)), error, LOST.get(attribute))
    patch.setattr(owner(edge), attribute, made)
    if rng.random() < 0.3 and not made.silent:  # and the fault cannot be counted either
        made.silent = True
        patch.setattr(edge.engine.own_faults, "_record", Break("fault count", None, 0, ERRORS[0], None))
    if name in ("attach", "begin again"):
        patch.setattr(edge, "_kernel_begin", Break("kernel begin", None, 0, None, 0))
    if name == "fault count":  # so that there is a fault to be counted
        patch.setattr(edge, "_late", Break("edge late", None, 0, ERRORS[0], None))
    return made


def forget(edge: Any) -> None:
    """Have the edge look up and judge the next request as if it were the first."""
    edge._by_path.clear()
    edge._sites._sites.clear()
    for paths in edge._sites._paths.values():
        paths.clear()
        paths.anywhere = Paths.anywhere
    edge.engine.forget_plans()
