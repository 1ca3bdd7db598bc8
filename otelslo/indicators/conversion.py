"""Conversion: did what was offered lead to a click, a sale, whatever `positive` says, within `label_within`?

Good: the label is `positive` (by default 1, and so is a yes). Valid: every prediction: one that no label came for has
not converted, since nobody reports a click that was not made; that is bad as `lapsed`, unless `otherwise: excluded`.
Until the time is up it is not counted. Not seen: whether it was shown to anybody; use `valid` for that.
"""

from __future__ import annotations

from otelslo.indicators import Option, Options
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled
from otelslo.window import parse_positive_duration

KIND, DATED, TICKETS_ONLY = labels.KIND, True, True
LOSS_CLASS = "quality"
OPTIONS = labels.options(
    lapsed=labels.BAD,
    positive=Option(labels.parse_positive_class, default="1", example="1", free=True),
) | {"label_within": Option(parse_positive_duration, required=True, example="30m")}
RULES = labels.table(
    labels.good("converted", "a label came, and says positive"),
    labels.bad("not_converted", "a label came, and says otherwise"),
)


def _found(labelled: Labelled, options: Options) -> str | None:
    truth = labels.truth_of(labelled)
    if truth is None:
        return None
    return "converted" if truth == options["positive"] else "not_converted"


_LABELLING = labels.Labelling(RULES, _found)
keys, keys_by, answered = labels.keys, _LABELLING.keys_by, labels.answered
judge, settled, check = _LABELLING.judge, _LABELLING.settled, labels.nothing_to_check
