"""Hallucination: is what the model said supported, by the label of a judge or of people?

Good: the label `supported`. Bad: `hallucinated`. Valid: these two. Excluded, each by its reason: `unknown`, where the
judge cannot tell; `judge_error`, where the judge itself failed; `bare_score`, a number, which says not which way is
good; `no_verdict`, any other text. The raw label decides the budget, whatever the judge's own errors are; by an `audit`
of the judge, `otelslo status` shows the corrected rate beside it: see `otelslo.quality.judged_rate`.
Not seen: answers that no judge looked at, and what a judge overlooks.
"""

from __future__ import annotations

from otelslo.errors import BadValue
from otelslo.indicators import Option, Options
from otelslo.indicators import _labels as labels
from otelslo.labelled import JUDGE_ERROR, VERDICTS, Labelled, number_of
from otelslo.quality.judged_rate import Audit

KIND, DATED, TICKETS_ONLY = labels.KIND, True, True
LOSS_CLASS = "quality"
AUDIT = Option(Audit.parse, example={"tp": 48, "fn": 2, "tn": 95, "fp": 5}, meant=False)
OPTIONS = labels.options(audit=AUDIT)
RULES = labels.table(
    labels.good("supported", "the label says that the output is supported"),
    labels.bad("hallucinated", "the label says that the output is hallucinated"),
    labels.excluded(JUDGE_ERROR, "the judge itself failed"),
    labels.excluded("unknown", "the judge could not tell"),
    labels.excluded("bare_score", "the label is a number, which says not which way is good"),
    labels.excluded("no_verdict", "the label is another text"),
)


def _found(labelled: Labelled, options: Options) -> str | None:
    truth = labelled.truth
    if truth is None:
        return None
    if truth in (*VERDICTS, JUDGE_ERROR):
        return str(truth)
    return "no_verdict" if isinstance(truth, str) and number_of(truth) is None else "bare_score"


_LABELLING = labels.Labelling(RULES, _found)
keys, keys_by, answered = labels.keys, _LABELLING.keys_by, labels.answered
judge, settled = _LABELLING.judge, _LABELLING.settled


def check(options: Options) -> None:
    """Raises BadValue: what lapsed is no verdict, and the audit is of verdicts."""
    if options["audit"] is not None and options["otherwise"] == labels.BAD:
        raise BadValue("otherwise: bad counts what has no verdict, which no audit corrects", "Leave one out")
