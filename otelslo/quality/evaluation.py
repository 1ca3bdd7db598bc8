"""OpenTelemetry's event `gen_ai.evaluation.result` as a label: the id of the answer, and what a judge says of it.

Names as of the GenAI semantic conventions (Development): gen_ai.evaluation.name, .score.value, .score.label,
gen_ai.response.id, error.type. Neither labels nor directions of scores are standardised there, so a reader says which
of its evaluator's labels mean what, and a score is read only where it says which way is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from otelslo.errors import BadValue, nearest, shown
from otelslo.labelled import JUDGE_ERROR, VERDICTS, number_of

EVENT_NAME = "gen_ai.evaluation.result"
NAME, LABEL, SCORE = "gen_ai.evaluation.name", "gen_ai.evaluation.score.label", "gen_ai.evaluation.score.value"
RESPONSE_ID, ERROR = "gen_ai.response.id", "error.type"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How to read the results of one evaluator.

    Args:
        name: its `gen_ai.evaluation.name`; results of others are left alone.
        labels: its labels and what they mean: {"pass": "supported", "fail": "hallucinated"}. Case matters.
        supported_from, supported_to: where it gives no label: scores from this one up, or from this one down, are
            supported, others hallucinated. One at most; without either a bare score is refused.
        id_attribute: where the id of the prediction is.

    Raises:
        BadValue: a meaning that is no verdict, two directions, or nothing that could be read.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    supported_from: float | str | None = None
    supported_to: float | str | None = None
    id_attribute: str = RESPONSE_ID
    _bar: Fraction | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        for label, verdict in self.labels.items():
            if verdict not in VERDICTS:
                raise BadValue(f"{shown(label)} is to mean {shown(verdict)}", nearest(str(verdict), VERDICTS))
        bars = [bar for bar in (self.supported_from, self.supported_to) if bar is not None]
        if len(bars) == 2:
            raise BadValue("a score is better one way only", "Leave supported_from or supported_to out")
        if not bars and not self.labels:
            remedy = "Add labels such as {'pass': 'supported'}, or supported_from: 0.5"
            raise BadValue(f"nothing says what results of {shown(self.name)} mean", remedy)
        if bars:
            bar = number_of(bars[0])
            if bar is None:
                raise BadValue(f"{shown(bars[0])} is no score", "Write a number")
            object.__setattr__(self, "_bar", bar)

    def read(self, attributes: Mapping[str, object]) -> tuple[str, str] | None:
        """(id, truth) for `otelslo.log_label`, of the attributes of one event; None if it is another evaluator's.

        A result with `error.type` is the judge's own failure ("judge_error"), whatever else it says. A label goes
        before a score.

        Raises:
            BadValue: it has no id, a label that nobody gave a meaning, or a bare score without a direction.
        """
        if attributes.get(NAME) != self.name:
            return None
        identity = attributes.get(self.id_attribute)
        if not isinstance(identity, str) or not identity:
            remedy = f"Have the evaluator set {self.id_attribute}, or name another id_attribute"
            raise BadValue(f"a result of {shown(self.name)} has no {self.id_attribute}", remedy)
        if attributes.get(ERROR):
            return identity, JUDGE_ERROR
        return identity, self._verdict(attributes.get(LABEL), attributes.get(SCORE))

    def _verdict(self, label: object, score: object) -> str:
        if isinstance(label, str) and label in self.labels:
            return self.labels[label]
        if label is not None and (self.labels or self._bar is None):
            raise BadValue(f"nobody says what the label {shown(label)} means", f"Add it to labels of {self.name}")
        value = number_of(score)
        if value is None:
            raise BadValue(f"a result of {shown(self.name)} has neither label nor score", "It says nothing")
        if self._bar is None:
            problem = f"a bare score of {shown(score)} says not which way is good"
            raise BadValue(problem, "Add supported_from or supported_to, or have the evaluator give labels")
        good = value >= self._bar if self.supported_from is not None else value <= self._bar
        return "supported" if good else "hallucinated"
