"""Commands that go by the clock that a test turns by hand: what they read, and what they call now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otelslo import SLO, Engine, ManualClock
from otelslo.cli import moments, state

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
FIVE_MINUTES_NS = 300 * SECOND_NS
TEN_OCLOCK_NS = 1_700_042_400 * SECOND_NS  # 2023-11-15T10:00:00Z


@contextmanager
def turned(monkeypatch: pytest.MonkeyPatch, directory: Path, *slos: SLO, **more: object) -> Iterator[Engine]:
    """A started engine at ten o'clock, and commands of the same time."""
    clock = ManualClock(TEN_OCLOCK_NS)
    monkeypatch.setattr(state, "SystemClock", lambda epoch_ns=0: clock)
    monkeypatch.setattr(moments, "SystemClock", lambda: clock)
    with Engine(slos, state_dir=directory, clock=clock, runner=False, **more) as engine:
        yield engine


def advance(engine: Engine, *, s: float = 0, ns: int = 0) -> None:
    engine.clock.advance(s=s, ns=ns)
    engine.ring.blocks.advance_manual_clock()


def record(engine: Engine, name: str, good: int = 0, bad: int = 0, reason: str = "bad") -> None:
    """Calls of `name` now."""
    track = engine.track(name)
    for outcome, count in (("good", good), (reason, bad)):
        for _ in range(count):
            engine.record(track, outcome, 1_000_000)
