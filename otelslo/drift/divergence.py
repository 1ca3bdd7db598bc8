"""How far live counts are from a baseline's, on the same bins: PSI, KL and JS divergence.

Counts are integers; a divergence is a logarithm, so it is a float, with an error far below 1e-12. A bin that only one
side fills has an infinite divergence as it stands. There the empty side is read as half an event, the half of the
least that could have been seen, and its total grows by that. So the value follows from how much was counted, and from
no epsilon that somebody chose (an epsilon of 1e-4 or 1e-6 makes 1.6 or 2.5 of the same data). Where no bin is empty,
nothing is added. A bin that neither side fills is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from otelslo.errors import BadValue, nearest, shown

Direction = Literal["live_from_baseline", "baseline_from_live"]
Unit = Literal["nats", "bits"]
PSI, KL, JS = "psi", "kl", "js"
MEASURES = (PSI, KL, JS)
DIRECTIONS: tuple[Direction, ...] = ("live_from_baseline", "baseline_from_live")
UNITS: tuple[Unit, ...] = ("nats", "bits")

_LN2 = math.log(2)
_OF_CHI_SQUARE = {PSI: 1.0, KL: 0.5, JS: 0.125}  # the first term of each in a small difference, in nats


def psi(baseline: Sequence[int], live: Sequence[int]) -> float:
    """The population stability index, sum of (a - e) ln(a / e): in nats by definition, the same in both directions.

    ValueError for counts that are not of the same bins, are negative, or of which one side has none at all.
    """
    return math.fsum(more * log for _, _, more, log in _filled(baseline, live))


def kl(of: Sequence[int], against: Sequence[int], *, unit: Unit) -> float:
    """The Kullback-Leibler divergence D(of || against), sum of p ln(p / q) with p of `of`. ValueError as `psi`."""
    nats = math.fsum(p * log - more for _, p, more, log in _filled(against, of))
    return _in(unit, max(nats, 0.0))


def js(baseline: Sequence[int], live: Sequence[int], *, unit: Unit) -> float:
    """The Jensen-Shannon divergence, at most ln 2 nats or 1 bit; not its root, the distance. ValueError as `psi`."""
    terms: list[float] = []
    for e, a, _, _ in _filled(baseline, live):
        middle = (e + a) / 2
        terms += (e * math.log(e / middle), a * math.log(a / middle))
    return _in(unit, min(max(math.fsum(terms) / 2, 0.0), _LN2))


@dataclass(frozen=True, slots=True)
class Measure:
    """A divergence with all that its number depends on. Make it by `parse`, which refuses what is left open."""

    name: str
    unit: Unit = "nats"
    direction: Direction | None = None

    @classmethod
    def parse(cls, name: object, *, unit: object = None, direction: object = None) -> Measure:
        """`psi`; `js` with a unit; `kl` with a unit and a direction. Raises BadValue."""
        if name == "js_distance":
            raise BadValue("the JS distance is the root of the divergence", "Write js, and the limit squared")
        if name not in MEASURES:
            raise BadValue(f"{shown(name)} is no divergence", nearest(str(name), MEASURES))
        if name == PSI:
            if unit not in (None, "nats") or direction is not None:
                raise BadValue("PSI is in nats and the same in both directions", "Leave unit and direction out")
            return cls(PSI)
        if unit not in UNITS:
            kind = str(name).upper()
            problem = f"{kind} in {shown(unit)}" if unit is not None else f"it is not said in which unit {kind} is"
            raise BadValue(problem, f"Write {_written(str(name), 'nats', direction)}, or bits (1 nat is 1.44 bits)")
        if name == JS:
            if direction is not None:
                raise BadValue("JS is the same in both directions", "Leave direction out")
            return cls(JS, unit)
        if direction not in DIRECTIONS:
            unsaid = "it is not said in which direction KL is"
            problem = unsaid if direction is None else f"{shown(direction)} is no direction of KL"
            raise BadValue(problem, f"Write {_written(KL, unit, None)}, or baseline_from_live: the two differ")
        return cls(KL, unit, direction)

    def __str__(self) -> str:
        if self.name == PSI:
            return "PSI"
        direction = {"live_from_baseline": "(live || baseline)", "baseline_from_live": "(baseline || live)", None: ""}
        return f"{self.name.upper()}{direction[self.direction]} in {self.unit}"

    def value(self, baseline: Sequence[int], live: Sequence[int]) -> float:
        """The divergence of these counts, in `unit`. ValueError as `psi`."""
        if self.name == PSI:
            return psi(baseline, live)
        if self.name == JS:
            return js(baseline, live, unit=self.unit)
        of, against = (live, baseline) if self.direction == "live_from_baseline" else (baseline, live)
        return kl(of, against, unit=self.unit)

    def of_chi_square(self, statistic: float, baseline_rows: int, live_rows: int) -> float:
        """The value, in `unit`, that so small a difference makes: every divergence is a chi-square to first order."""
        scale = 1 / baseline_rows + 1 / live_rows
        return _in(self.unit, _OF_CHI_SQUARE[self.name] * statistic * scale)


def _written(name: str, unit: object, direction: object) -> str:
    """How a measure is written, with what was said of it already."""
    way = direction if direction in DIRECTIONS else DIRECTIONS[0]
    return f"measure: {{name: {name}, {f'direction: {way}, ' * (name == KL)}unit: {unit}}}"


def _filled(reference: Sequence[int], other: Sequence[int]) -> list[tuple[float, float, float, float]]:
    """Per bin that is filled: the share q of `reference`, p of `other`, p - q and ln(p / q), each from integers."""
    if len(reference) != len(other):
        raise ValueError(f"{len(reference)} and {len(other)} bins cannot be compared")
    if min(reference, default=0) < 0 or min(other, default=0) < 0:
        raise ValueError("a count is negative")
    if not any(reference) or not any(other):
        raise ValueError("nothing was counted on one side: that is no divergence, but no data")
    halves = [(2 * int(q) or 1, 2 * int(p) or 1) for q, p in zip(reference, other, strict=True) if q or p]
    all_q, all_p = (sum(side) for side in zip(*halves, strict=True))
    return [
        (q / all_q, p / all_p, (p * all_q - q * all_p) / (all_q * all_p), _log_ratio(p * all_q, q * all_p))
        for q, p in halves
    ]


def _log_ratio(p: int, q: int) -> float:
    """ln(p / q) of integers, with no digits lost near 1."""
    return math.log1p((p - q) / q) if q < 2 * p < 4 * q else math.log(p / q)


def _in(unit: Unit, nats: float) -> float:
    return nats / _LN2 if unit == "bits" else nats
