"""What is known of the versions of models: when each was trained, and when it was last evaluated. Times are Unix ns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SINCE = ("either", "trained", "evaluated")


class ModelFacts(NamedTuple):
    """One version; None: nobody has told."""

    trained_wall_ns: int | None = None
    evaluated_wall_ns: int | None = None

    def since_ns(self, since: str = "either") -> int | None:
        """The moment that its age counts from, by one of SINCE; "either" is the later of both."""
        if since == "trained":
            return self.trained_wall_ns
        if since == "evaluated":
            return self.evaluated_wall_ns
        return max((at_ns for at_ns in self if at_ns is not None), default=None)

    def after(self, told: ModelFacts, *, correct: bool = False) -> ModelFacts:
        """As it is once `told`: what is not told stays, and no moment moves back, unless this is a correction."""
        return ModelFacts(
            *(
                known if new is None else new if known is None or correct else max(known, new)
                for known, new in zip(self, told, strict=True)
            )
        )


Facts = Mapping[tuple[str, str], ModelFacts]  # by model and version


class Known(NamedTuple):
    """The facts that an event which ends at `at_wall_ns` is judged by; None: they could not be read yet."""

    facts: Facts | None
    at_wall_ns: int
