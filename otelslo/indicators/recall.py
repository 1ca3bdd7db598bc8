"""Recall: was what truly is `positive` predicted as such?

Good: the label says positive, and so did the prediction. Valid: the label says positive; what it says of others is
excluded as `not_positive`. One that got no label in `label_within` may be positive or not; it is what `otherwise` says.
Not seen: false alarms. See `precision`.
"""

from __future__ import annotations

from otelslo.indicators import Options
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled

KIND, DATED, TICKETS_ONLY = labels.KIND, True, True
LOSS_CLASS = "quality"
OPTIONS = labels.options(positive=labels.POSITIVE)
RULES = labels.table(
    labels.good("true_positive", "the label says positive, and it was predicted so"),
    labels.bad("false_negative", "the label says positive, and another class was predicted"),
    labels.excluded("not_positive", "the label says that it is another class"),
    output=True,
)


def _found(labelled: Labelled, options: Options) -> str | None:
    truth = labels.truth_of(labelled)
    if truth is None:
        return None
    if truth != options["positive"]:
        return "not_positive"
    return "true_positive" if labels.key_of(labelled.output) == truth else "false_negative"


_LABELLING = labels.Labelling(RULES, _found, needs_output=True)
keys, keys_by, answered = labels.keys, _LABELLING.keys_by, labels.answered
judge, settled, check = _LABELLING.judge, _LABELLING.settled, labels.nothing_to_check
