"""F1, precision or recall of a whole UTC day, from its confusion counts: good if the day's value is at `bar` or above.

`positive` gives that of one class; `average` that over all classes of the day: `macro`, `weighted` or `micro`, as
scikit-learn has it with zero_division=nan. Parts of a day: predictions with an output and a label. The comparison is
exact. Not seen: how many predictions a day rests on; a day of one weighs as much as any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from hashlib import blake2b

from otelslo.errors import BadValue
from otelslo.event import Outcome
from otelslo.indicators import Option, Options
from otelslo.indicators import _daily as daily
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled
from otelslo.quality.confusion import METRICS, Confusion
from otelslo.quality.sample import parse_share

KIND, DATED, TICKETS_ONLY, DAILY = labels.KIND, True, True, True
LOSS_CLASS = "quality"
BINARY = "binary"
OPTIONS = daily.options(
    bar=Option(parse_share, required=True, example="80%"),
    positive=Option(labels.parse_positive_class, example="1", free=True),
    average=Option(labels.one_of(BINARY, "macro", "weighted", "micro"), example="binary"),
    metric=Option(labels.one_of(*METRICS), default="f1", example="f1"),
)
RULES = daily.RULES
_LONGEST = 64


def check(options: Options) -> None:
    """Raises BadValue: neither a positive class nor an average, or both."""
    positive, average = options["positive"], options["average"]
    if positive is None and average in (None, BINARY):
        raise BadValue("nothing says of which classes", "Add positive: 1, or average: macro, weighted or micro")
    if positive is not None and average not in (None, BINARY):
        raise BadValue(f"an average over all classes ({average}) has no positive one", "Leave one of the two out")


def _missing(labelled: Labelled) -> str | None:
    if labels.truth_of(labelled) is None:
        return labels.NO_LABEL
    return labels.NO_OUTPUT if labels.key_of(labelled.output) is None else None


def tally(labelled: Labelled, options: Options) -> Mapping[str, int]:
    """One under the JSON of [truth, output], by their class keys; of a positive class, whether each is it: [1, 0].

    A class of more than 64 characters is known by its first ones and a hash of all.
    """
    pair = [labels.truth_of(labelled), labels.key_of(labelled.output)]
    positive = options["positive"]
    cell = [_short(key or "") for key in pair] if positive is None else [int(key == positive) for key in pair]
    return {json.dumps(cell, separators=(",", ":")): 1}


def _short(key: str) -> str:
    if len(key) <= _LONGEST:
        return key
    return f"{key[:32]}#{blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=15).hexdigest()}"


def day(sums: Mapping[str, int], options: Options) -> tuple[Outcome, Fraction | None]:
    """The day's outcome and value, exactly."""
    cells = [(*json.loads(key), count) for key, count in sums.items()]
    confusion = Confusion.from_cells(cells)
    metric, positive = options["metric"], options["positive"]
    value = confusion.average(metric, options["average"]) if positive is None else confusion.of_label(metric, 1)
    return daily.outcome(value, options["bar"]), value


_PARTS = daily.Parts(_missing)
keys, keys_by, answered = labels.keys, _PARTS.keys_by, labels.answered
judge, settled = _PARTS.judge, daily.never_settled
