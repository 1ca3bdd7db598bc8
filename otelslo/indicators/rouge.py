"""ROUGE of a whole UTC day: the mean F1 of outputs against the texts of their labels: good if at `bar` or above.

`variant` is rouge1, rouge2 or rougeL (the default). Each F1 is an exact fraction, rounded once to 10**-12, so that a
day's sum depends on no order and can be taken back; the mean is compared exactly. Parts of a day: predictions with a
text as output and as label, which have a word (for rouge2, two) between them. Not seen: how many texts a day rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from otelslo.event import Outcome
from otelslo.indicators import Option, Options
from otelslo.indicators import _daily as daily
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled
from otelslo.quality.sample import parse_share
from otelslo.quality.text import ROUGES, MeanCounts, rouge

KIND, DATED, TICKETS_ONLY, DAILY, TEXTS = labels.KIND, True, True, True, True
OPTIONS = daily.options(
    bar=Option(parse_share, required=True, example="0.4"),
    variant=Option(labels.one_of(*ROUGES), default="rougeL", example="rougeL"),
)
RULES = daily.RULES


def tally(labelled: Labelled, options: Options) -> Mapping[str, int]:
    """How many, and the sum of their F1 in units of 10**-12; nothing of two texts without a word."""
    value = rouge(options["variant"], str(labelled.output), str(labelled.truth)).f1
    if value is None:
        return {}
    counts = MeanCounts.of(value)
    return {"sum": counts.sum_units, "n": counts.n}


def day(sums: Mapping[str, int], options: Options) -> tuple[Outcome, Fraction | None]:
    """The day's outcome and mean."""
    mean = MeanCounts(sums.get("sum", 0), sums.get("n", 0)).mean
    return daily.outcome(mean, options["bar"]), mean


_PARTS = daily.Parts(daily.no_text)
keys, keys_by, answered = labels.keys, _PARTS.keys_by, labels.answered
judge, settled, check = _PARTS.judge, daily.never_settled, labels.nothing_to_check
