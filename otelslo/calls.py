"""Call sites: what is counted without being a request, by name, with a plan at hand for each outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otelslo.event import Event


class Track:
    """A named call site, made by `Engine.track`: its plans by outcome.

    Args:
        index: the track's number in the ring.
        plan_for: makes the plan of an event.
        memo: has a dict of plans forgotten when they no longer hold.
    """

    __slots__ = ("attributes", "index", "name", "plans")

    def __init__(
        self,
        name: str,
        index: int,
        attributes: Mapping[str, str],
        plan_for: Callable[[Event], int],
        memo: Callable[[dict[Any, int]], dict[Any, int]],
    ) -> None:
        self.name = name
        self.index = index
        self.attributes = attributes
        self.plans: dict[str | None, int] = memo(_Plans(self, plan_for))

    def event(self, outcome: str | None) -> Event:
        """A complete call with this outcome: "good", "bad", "excluded", a bad reason, or None: nothing was said."""
        verdict = None
        if outcome == "bad":
            verdict = ("bad", "other")
        elif outcome in ("good", "excluded"):
            verdict = (outcome, "good" if outcome == "good" else "other")
        elif outcome is not None:
            verdict = ("bad", outcome)
        return Event("call", route=self.name, latency_ns=0, attributes=self.attributes, verdict=verdict)


class _Plans(dict["str | None", int]):
    """Plans of one call site by outcome; a missing one is made."""

    def __init__(self, track: Track, plan_for: Callable[[Event], int]) -> None:
        super().__init__()
        self._track = track
        self._plan_for = plan_for

    def __missing__(self, outcome: str | None) -> int:
        plan = self[outcome] = self._plan_for(self._track.event(outcome))
        return plan
