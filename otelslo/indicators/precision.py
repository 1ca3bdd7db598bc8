"""Precision: was what the model flagged as `positive` truly so?

Good: predicted positive, and the label says positive too. Valid: predicted as positive; what was not is excluded as
`not_positive`, and waits for no label. One that got no label in `label_within` is what `otherwise` says.
Not seen: positives that were never predicted. See `recall`.
"""

from __future__ import annotations

from otelslo.indicators import Options
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled

KIND, DATED, TICKETS_ONLY = labels.KIND, True, True
LOSS_CLASS = "quality"
SETTLES_EXCLUDED = True  # what was not flagged is known to be excluded long before the rest has its labels
OPTIONS = labels.options(positive=labels.POSITIVE)
RULES = labels.table(
    labels.good("true_positive", "predicted as positive, and the label says so"),
    labels.bad("false_positive", "predicted as positive, and the label says otherwise"),
    labels.excluded("not_positive", "predicted as another class"),
    output=True,
)


def _unflagged(labelled: Labelled, options: Options) -> bool:
    return labels.key_of(labelled.output) != str(options["positive"])


def _found(labelled: Labelled, options: Options) -> str | None:
    if _unflagged(labelled, options):
        return "not_positive"
    truth = labels.truth_of(labelled)
    if truth is None:
        return None
    return "true_positive" if truth == options["positive"] else "false_positive"


_LABELLING = labels.Labelling(RULES, _found, needs_output=True, settled_by=_unflagged)
keys, keys_by, answered = labels.keys, _LABELLING.keys_by, labels.answered
judge, settled, check = _LABELLING.judge, _LABELLING.settled, labels.nothing_to_check
