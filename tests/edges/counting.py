"""How many random apps are run, and what each has added to the objectives."""

from __future__ import annotations

import os
from typing import Any

from drive import cells

from otelslo import Engine

FULL = os.environ.get("OTELSLO_TORTURE") == "full"
APPS = 50_000 if FULL else 2_000
ONE = os.environ.get("OTELSLO_EDGES_SEED")
SLOS = ("availability", "latency", "websocket")


def seeds(first: int, apps: int) -> range:
    """The numbers of a run, or the one that is asked for."""
    return range(int(ONE), int(ONE) + 1) if ONE else range(first, first + apps)


class Counted:
    """What one more request has added to the objectives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before = self._now()

    def _now(self) -> list[dict[str, int]]:
        return [cells(self._engine, slo) for slo in SLOS]

    def more(self) -> list[list[str]]:
        """Each objective's new events, such as [["good"], ["bad slow"], []]."""
        before, self._before = self._before, self._now()
        return [
            sorted(key for key, count in now.items() for _ in range(count - then.get(key, 0)))
            for then, now in zip(before, self._before, strict=True)
        ]


def differences(given: Any, bare: Any, wrapped: Any) -> str:
    """Where two transcripts differ, for people."""
    for at, (one, other) in enumerate(zip(bare.log, wrapped.log, strict=False)):
        if one != other:
            return f"{given}\nentry {at}\nbare:    {one}\nwrapped: {other}"
    return f"{given}\nbare:    {bare}\nwrapped: {wrapped}"
