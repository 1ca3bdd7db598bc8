"""Score: did a number reach its `bar`?

Which number, says `of`: `truth`, the label (a rating, a judge's mark, a ROUGE of your own); `score`, what the model
said of itself when it predicted, which needs no label; `error`, the distance |output - truth| of a regression.
Good: at the bar or better. `better: higher` (of an error `lower`) is the default. Numbers are compared exactly as they
are written: 0.7 is 7/10. Valid: whatever has that number; what has none is excluded as `no_score`.
Not seen: by how much the bar was missed.
"""

from __future__ import annotations

from fractions import Fraction

from otelslo.errors import BadValue
from otelslo.indicators import Option, Options
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled, number_of

KIND, DATED, TICKETS_ONLY = labels.KIND, True, True
LOSS_CLASS = "quality"
OPTIONS = labels.options(
    bar=Option(labels.parse_number, required=True, example="4"),
    of=Option(labels.one_of("truth", "score", "error"), default="truth", example="truth"),
    better=Option(labels.one_of("higher", "lower"), example="higher"),
)
RULES = labels.table(
    labels.good("met", "at the bar, or better"),
    labels.bad("below_bar", "below the bar, where higher is better"),
    labels.bad("above_bar", "above the bar, where lower is better"),
    labels.excluded("no_score", "there is no number to compare"),
)


def check(options: Options) -> None:
    """Raises BadValue: an error that shall be large."""
    if options["of"] == "error" and options["better"] == "higher":
        raise BadValue("an error is no better when it is higher", "Write better: lower, or leave it out")


def _value(labelled: Labelled, options: Options) -> Fraction | None:
    if options["of"] == "score":
        return number_of(labelled.score)
    truth = number_of(labelled.truth)
    if options["of"] == "truth":
        return truth
    output = number_of(labelled.output)
    return None if truth is None or output is None else abs(output - truth)


def _found(labelled: Labelled, options: Options) -> str | None:
    if labelled.truth is None and options["of"] != "score":
        return None
    value = _value(labelled, options)
    if value is None:
        return "no_score"
    if options["better"] == "lower" or options["of"] == "error":
        return "met" if value <= options["bar"] else "above_bar"
    return "met" if value >= options["bar"] else "below_bar"


def _needs_no_label(labelled: Labelled, options: Options) -> bool:
    return bool(options["of"] == "score")


_LABELLING = labels.Labelling(RULES, _found, settled_by=_needs_no_label)
keys, keys_by, answered = labels.keys, _LABELLING.keys_by, labels.answered
judge, settled = _LABELLING.judge, _LABELLING.settled
