"""The rate that a judge's verdicts stand for, once an audit tells its own errors: for display, never for budgets.

A judge that flags 4 % has flagged some that people would not, and missed others. An audit says how often: a sample on
which people have given the verdict as well. It must have been drawn without a look at what the judge said, or its
sensitivity and specificity are not those of the judge.

Sources: Rogan and Gladen, American Journal of Epidemiology 107 (1978), for the rate; Lang and Reiczigel, Preventive
Veterinary Medicine 113 (2014), 13-22, for the interval, which includes the error of the audit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction

from otelslo.errors import BadValue, nearest, shown

FEWEST = 10  # of each class, below which nothing is said of the judge
CONFIDENCE = Fraction(95, 100)
_COUNTS = ("tp", "fn", "tn", "fp")
_SUCH = "Write {tp: 48, fn: 2, tn: 95, fp: 5}: t where people agree with the judge, p where it says hallucinated"
_NOT_OF_THESE = "it is not of this judge, or not of such answers"
_CONTRADICTED = {
    "few": f"fewer are flagged than would be by false alarms alone, as the audit has them: {_NOT_OF_THESE}",
    "many": f"more are flagged than would be if all were hallucinated, as the audit has it: {_NOT_OF_THESE}",
}


@dataclass(frozen=True, slots=True)
class Audit:
    """How often the judge agreed with people: counts of whole numbers from 0 on. BadValue for others.

    `tp` both say hallucinated, `fn` people do and the judge does not, `tn` neither does, `fp` only the judge does.
    """

    tp: int
    fn: int
    tn: int
    fp: int

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _checked_count(getattr(self, name), name)

    @classmethod
    def parse(cls, value: object) -> Audit:
        """The audit of a mapping with the four counts.

        Raises:
            BadValue: it is none, or corrects no rate at all, whatever is judged: see `judged_rate`.
        """
        if not isinstance(value, Mapping):
            raise BadValue(f"{shown(value)} is no audit", _SUCH)
        for key in value:
            if key not in _COUNTS:
                raise BadValue(f"an audit has no {shown(key)}", nearest(str(key), _COUNTS))
        missing = [key for key in _COUNTS if key not in value]
        if missing:
            raise BadValue(f"the audit does not say {', '.join(missing)}", _SUCH)
        audit = cls(**value)
        refused = _why_never(audit, _z(CONFIDENCE))
        if refused:
            raise BadValue(refused, "Audit more answers, or leave it out")
        return audit

    def to_json(self) -> dict[str, int]:
        """The four counts, as `parse` reads them."""
        return asdict(self)

    @property
    def sensitivity(self) -> Fraction | None:
        """The share of what people flag that the judge flags too; None without any."""
        return Fraction(self.tp, self.tp + self.fn) if self.tp + self.fn else None

    @property
    def specificity(self) -> Fraction | None:
        """The share of what people pass that the judge passes too; None without any."""
        return Fraction(self.tn, self.tn + self.fp) if self.tn + self.fp else None


@dataclass(frozen=True, slots=True)
class JudgedRate:
    """A judge's rate, and what it stands for.

    `observed` is the share that the judge flagged, None of nothing. `corrected` is the Rogan-Gladen rate, with `low`
    and `high` at `confidence`: all three from 0 to 1, and `clipped` says that one of them lay outside and was cut.
    Where `refused` says why there can be none, they are None.
    """

    observed: Fraction | None
    corrected: Fraction | None = None
    low: float | None = None
    high: float | None = None
    confidence: Fraction = CONFIDENCE
    clipped: bool = False
    refused: str = ""


def judged_rate(flagged: int, judged: int, audit: Audit, *, confidence: Fraction = CONFIDENCE) -> JudgedRate:
    """What a rate of `flagged` of `judged` verdicts stands for, by the audit of the judge.

    Verdicts are "hallucinated" and "supported"; unknown ones and the judge's own failures are in neither count.
    Refused are an audit with fewer than FEWEST of a class, a judge that it cannot tell from a coin (sensitivity +
    specificity not surely above 1, and the rate divides by that difference), and a sample that contradicts it.

    Raises:
        BadValue: what is no count, more flagged than judged, or no confidence between 1/2 and 1.
    """
    _checked_count(flagged, "flagged")
    _checked_count(judged, "judged")
    if flagged > judged:
        raise BadValue(f"{flagged} flagged of {judged}", "Give the flagged ones among those that were judged")
    if isinstance(confidence, bool) or not Fraction(1, 2) <= confidence < 1:
        raise BadValue(f"a confidence of {shown(confidence)}", "Write one from 1/2 to below 1, such as 95/100")
    observed = Fraction(flagged, judged) if judged else None
    z = _z(confidence)
    refused = _why_never(audit, z) if judged else "nothing was judged"
    if observed is None or refused:
        return JudgedRate(observed, confidence=confidence, refused=refused)
    sensitivity, specificity = audit.sensitivity or Fraction(0), audit.specificity or Fraction(0)
    rate = (observed + specificity - 1) / (sensitivity + specificity - 1)
    low, high = _interval(float(observed), judged, audit, z)
    if high <= 0 or low >= 1:
        return JudgedRate(observed, confidence=confidence, refused=_CONTRADICTED["few" if high <= 0 else "many"])
    return JudgedRate(
        observed,
        min(max(rate, Fraction(0)), Fraction(1)),
        min(max(low, 0.0), 1.0),
        min(max(high, 0.0), 1.0),
        confidence,
        clipped=not (0 <= rate <= 1 and low >= 0 and high <= 1),
    )


def _z(confidence: Fraction) -> float:
    from statistics import NormalDist  # slow to import, and only needed where there is an audit

    return NormalDist().inv_cdf(float(1 + confidence) / 2)


def _why_never(audit: Audit, z: float) -> str:
    """Why the audit corrects no rate, whatever is judged; "" where it does."""
    for verdict, size in (("hallucinated", audit.tp + audit.fn), ("supported", audit.tn + audit.fp)):
        if size < FEWEST:
            return f"the audit has {size} that people call {verdict}, and {FEWEST} are the fewest that say anything"
    sensitivity, specificity = audit.sensitivity or Fraction(0), audit.specificity or Fraction(0)
    if sensitivity + specificity <= 1:
        return f"the judge is no better than a coin: its sensitivity and specificity add up to {_percent(audit)}"
    se, sp, se_n, sp_n = _adjusted(audit)
    if se + sp - 1 <= z * math.sqrt(se * (1 - se) / se_n + sp * (1 - sp) / sp_n):
        return f"the audit is too small to tell the judge from a coin: sensitivity and specificity of {_percent(audit)}"
    return ""


def _percent(audit: Audit) -> str:
    return f"{float((audit.sensitivity or 0) + (audit.specificity or 0)):.0%}, where 100% says nothing"


def _adjusted(audit: Audit) -> tuple[float, float, float, float]:
    """Sensitivity and specificity, and their sizes, with one more of either answer, as Lang and Reiczigel have it."""
    se_n, sp_n = audit.tp + audit.fn + 2, audit.tn + audit.fp + 2
    return (audit.tp + 1) / se_n, (audit.tn + 1) / sp_n, se_n, sp_n


def _interval(observed: float, judged: int, audit: Audit, z: float) -> tuple[float, float]:
    """The limits of equation 16: around a shifted rate of adjusted counts, with the variances of all three samples."""
    se, sp, se_n, sp_n = _adjusted(audit)
    n = judged + z * z
    apparent = (judged * observed + z * z / 2) / n
    youden = se + sp - 1
    rate = (apparent + sp - 1) / youden
    of_se, of_sp = se * (1 - se) / se_n, sp * (1 - sp) / sp_n
    shift = 2 * z * z * (rate * of_se - (1 - rate) * of_sp)
    spread = math.sqrt(apparent * (1 - apparent) / n + rate**2 * of_se + (1 - rate) ** 2 * of_sp) / youden
    return rate + shift - z * spread, rate + shift + z * spread


def _checked_count(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadValue(f"{name} of {shown(value)} is no count", "Write a whole number from 0 on")
