"""The rate that stands behind a judge's verdicts, beside the raw one, where an objective has an audit of the judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import ceil, floor
from typing import Any

from otelslo.definition import Definition
from otelslo.quality.judged_rate import JudgedRate, judged_rate
from otelslo.status import Status

Rates = Mapping[tuple[str, str | None], JudgedRate]


def rates(definitions: Iterable[Definition], statuses: Iterable[Status]) -> dict[tuple[str, str | None], JudgedRate]:
    """Of each objective and group with an audit, in its window: what is bad is flagged, what is valid was judged."""
    audits = {one.name: one.audit for one in definitions if one.audit is not None}
    return {
        (one.slo, one.group): judged_rate(one.counts.bad, one.counts.valid, audits[one.slo])
        for one in statuses
        if one.slo in audits
    }


def plain(found: JudgedRate | None) -> dict[str, Any] | None:
    """As `otelslo status --json` has it: rates are numbers or null; None where there is no audit."""
    if found is None:
        return None
    return {
        "observed": None if found.observed is None else float(found.observed),
        "corrected": None if found.corrected is None else float(found.corrected),
        "low": found.low,
        "high": found.high,
        "confidence": float(found.confidence),
        "clipped": found.clipped,
        "refused": found.refused or None,
    }


def told(found: JudgedRate) -> str:
    """ "3.2% hallucinated as judged; 2.8% by its audit (1.9% to 4.1%, 95%)", or why there is no corrected rate."""
    judged = "" if found.observed is None else f"{float(found.observed):.1%} hallucinated as judged; "
    if found.corrected is None or found.low is None or found.high is None:
        return f"{judged}not corrected, since {found.refused}"
    rate, sure = f"{float(found.corrected):.1%}", f"{float(found.confidence):.0%}"
    return f"{judged}{rate} by its audit ({_cut(floor, found.low)} to {_cut(ceil, found.high)}, {sure})"


def _cut(side: Any, share: float) -> str:
    """Rounded outwards, so that what is shown holds the interval."""
    return f"{float(Fraction(side(share * 1000), 10)):.1f}%"
