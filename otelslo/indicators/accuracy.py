"""Accuracy: was the predicted class the true one?

Good: output and label are one class (`otelslo.labelled.class_key`: 1, 1.0, True and "1" are). Valid: every prediction
that got a label. One that got none in `label_within` is what `otherwise` says: excluded, unless it says bad.
Not seen: whether a class that is rare is ever found. See `precision` and `recall`.
"""

from __future__ import annotations

from otelslo.indicators import Options
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled

KIND, DATED, TICKETS_ONLY = labels.KIND, True, True
LOSS_CLASS = "quality"
OPTIONS = labels.options()
RULES = labels.table(
    labels.good("right", "the output is what the label says"),
    labels.bad("wrong", "the output is another class than the label says"),
    output=True,
)


def _found(labelled: Labelled, options: Options) -> str | None:
    truth = labels.truth_of(labelled)
    if truth is None:
        return None
    return "right" if labels.key_of(labelled.output) == truth else "wrong"


_LABELLING = labels.Labelling(RULES, _found, needs_output=True)
keys, keys_by, answered = labels.keys, _LABELLING.keys_by, labels.answered
judge, settled, check = _LABELLING.judge, _LABELLING.settled, labels.nothing_to_check
