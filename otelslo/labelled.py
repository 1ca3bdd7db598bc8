"""A prediction that has met its label, or has waited for one in vain: what a quality indicator judges.

A leaf: what is kept of a prediction, and what a label says, as plain values.
"""

from __future__ import annotations

from dataclasses import dataclass

Class = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Labelled:
    """What was predicted, and what is known to be true.

    `output` is the predicted class or text and `score` the model's own number, None where not given. `truth` is what
    the label says; it is None only where `lapsed`: no label came in the time that one was waited for.
    """

    output: Class | None = None
    score: float | None = None
    truth: Class | None = None
    lapsed: bool = False
