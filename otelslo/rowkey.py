"""What a row of the ring is called: the SLO, what counts as good in it, and the group.

A new target or window keeps the row and so its history; a new meaning of good is a new row. The names of the cells are
part of the key, so that a reader knows reasons without the definitions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import unquote

SELF = "(otelslo)"  # the row that counts our own faults
GEN_AI = "(gen_ai)"  # rows of the histograms of `otelslo.genai`; the group is a metric with its attributes
ATTENDED = "(attended)"  # the row that counts the leader's looks that found somebody attached
NOTICES = "(notices)"  # rows that count what became of notices; the group is the channel
SHED = "(shed)"  # rows that count what was shed, good there, of an objective whose slices ask; the group is its name
BINS = "(bins)"  # rows whose cells are bins of a histogram; the group is its name, the meaning which of its rows
OURS = (SELF, GEN_AI, ATTENDED, NOTICES)  # rows that are no objective's, and always wanted


@dataclass(frozen=True, slots=True)
class RowKey:
    """`reasons` names the 16 cells; unused cells have an empty name."""

    slo: str
    meaning: str
    group: str | None
    reasons: tuple[str, ...]

    @property
    def values(self) -> dict[str, str]:
        """What its group says of an event, by key of `group_by`; see `otelslo.group.Grouping.text`."""
        parts = [part.partition("=") for part in (self.group or "").split(",")]
        return {key: unquote(value) for key, equals, value in parts if equals}

    def text(self) -> str:
        return json.dumps([self.slo, self.meaning, self.group, list(self.reasons)], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> RowKey:
        """The key of `text`; one that is not ours is shown as an SLO of that name without reasons."""
        try:
            slo, meaning, group, reasons = json.loads(text)
            return cls(slo, meaning, group, tuple(reasons))
        except (ValueError, TypeError):
            return cls(text, "", None, ("",) * 16)
