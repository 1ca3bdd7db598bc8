"""What is kept of predictions and labels from one batch to the next: the words between the rules and the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otelslo.labelled import Class

MAINTAINED, SETTLED, LAPSED, LABELLED, CANDIDATE, NOT_OURS = "m", "s", "l", "t", "c", "x"
# What a prediction is to one row: None while it waits, or how it was settled and what was counted: a cell, or sums.
State = tuple[str, Any] | None

COUNTERS: Mapping[str, str] = {
    "predictions": "predictions taken in",
    "labels": "labels that were the first of their prediction",
    "duplicates": "labels that said the same again",
    "corrections": "labels that said otherwise than the one before",
    "late": "labels that came too late for an objective",
    "unknown": "labels whose prediction never came",
    "repeated": "predictions of an id that there was already",
    "not_sampled": "predictions and labels of ids that no sample holds",
    "ignored": "predictions and labels of a model that no objective is about",
    "undrawn": "predictions that were read when the sample of their day, or of a later one, had been drawn",
    "too_old": "predictions from before what is kept",
    "dropped": "predictions given up while they waited, since there were too many",
    "expired": "predictions given up while they waited, since they were too old",
    "purged": "predictions given up while they waited, since somebody deleted them",
    "cut": "pieces of files that were no record that can be counted",
}


@dataclass(slots=True)
class Kept:
    """A prediction as it is kept. `states`: by the row's number. `truth_key` tells the last truth from others, None
    before there is one; the truth itself is kept only while a day's sample is open."""

    model: str
    id: str
    at_wall_ns: int
    output: Class | None
    score: float | None
    attributes: Mapping[str, str]
    states: dict[int, State]
    truth: Class | None = None
    truth_key: str | None = None
    told_wall_ns: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A row of one objective and group; `key` is its name in the counts, `number` its name in what is kept.

    `within_ns` and `otherwise` are what the objective says of labels that do not come; the latter is "" where its unit
    is a day.
    """

    number: int
    key: str
    slo: str
    meaning: str
    group: str | None
    within_ns: int | None
    otherwise: str


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """Predictions of one row that need a label, by their own time, in the slot that starts at `slot_wall_ns`, or in
    several from there on.

    `gone` are those that were given up while they waited; what is neither labelled nor lapsed nor gone still waits.
    """

    slot_wall_ns: int
    predicted: int = 0
    labelled: int = 0
    lapsed: int = 0
    gone: int = 0
    corrected: int = 0
