"""What counts say of each alert of a plan now; what follows from it for people is `alert_states`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any, Literal

from otelslo.alerts import BUDGET_EXHAUSTED, EXCLUSION_SHARE, NO_DATA, TICKET, AlertPlan, Tier
from otelslo.binomial import rejects
from otelslo.counts import Counts
from otelslo.window import HOUR_NS, WEEK_NS

Verdict = Literal["firing", "quiet", "unknown"]
CountsOver = Callable[[int], Counts]
Reaches = Callable[[int], bool]  # whether it reaches into the last so many ns

FEWEST = 2  # with the guard on, one failure never fires: the first request of a night is no trend
RECOVERED = Fraction(1, 100)
SHARE_FLOOR = Fraction(5, 100)
SHARE_TIMES = 3
SHARE_EVENTS = 20


def never(length_ns: int) -> bool:
    """Nothing reaches in."""
    return False


@dataclass(frozen=True, slots=True)
class Finding:
    """What counts say of one alert now; "unknown" neither fires nor resolves. `data` are the facts, fit for JSON; there
    are none of what does not fire and has nothing to tell."""

    alert: str
    severity: str
    verdict: Verdict
    data: Mapping[str, Any] = field(default_factory=dict)


def findings(
    plan: AlertPlan,
    target: Fraction,
    window_ns: int,
    counts_over: CountsOver,
    excess: Callable[[int], int],
    *,
    remaining_ratio: Fraction | None,
    observed_ns: int,
    ever_valid: bool,
    firing: Collection[str] = (),
    events_over: CountsOver | None = None,
    parts: int = 1,
    maintained: Reaches = never,
    cut: Reaches = never,
) -> list[Finding]:
    """One finding for each alert of the plan, in its order.

    `counts_over(length_ns)` are the counts of the last `length_ns`; `excess(length_ns)` is the sum of n * (n - 1)
    over the causes (a crash, a trace) that n of its bad events share, and is asked only where it can matter.
    `remaining_ratio` is what is left of the budget (None: no data). `observed_ns` is for how long, up to now, events
    would have been seen; `ever_valid` whether any valid one was. `firing` names the alerts that fire already: they go
    on while their windows say so, without another test of chance. Where counts are of slices, `events_over` are those
    of events, and a slice has `parts`.

    `maintained` is of maintenance that was declared ahead, `cut` of what was excluded after the fact; each is asked
    only where something hangs on it. While maintenance reaches into their windows, it is as planned that events are
    excluded or none come, and EXCLUSION_SHARE and NO_DATA are unknown. So is NO_DATA where an exclusion after the fact
    reaches in; but EXCLUSION_SHARE goes on then, since whoever hides failures so is to be seen.
    """
    counts_over = cache(counts_over)
    events_over = counts_over if events_over is None else events_over
    judge = _Tiers(plan, target, window_ns, counts_over, excess, parts)
    found = [judge.finding(tier, tier.name in firing) for tier in plan.tiers]
    if plan.no_data_ns is not None:
        found.append(_no_data(plan.no_data_ns, events_over, observed_ns, ever_valid, maintained, cut))
    if plan.exhausted is not None:
        found.append(_exhausted(plan.exhausted, remaining_ratio, BUDGET_EXHAUSTED in firing))
    if plan.exclusion_share is not None:
        fires = EXCLUSION_SHARE in firing
        found.append(_exclusion_share(plan, plan.exclusion_share, events_over, fires, maintained))
    return found


@dataclass(frozen=True, slots=True)
class _Tiers:
    """Burn-rate alerts: both windows above the factor, and for the first time only if that is hardly chance."""

    plan: AlertPlan
    target: Fraction
    window_ns: int
    counts_over: CountsOver
    excess: Callable[[int], int]
    parts: int

    def finding(self, tier: Tier, fires: bool) -> Finding:
        long = self.counts_over(tier.long_ns)
        short = self.counts_over(tier.short_ns)
        if long.bad == 0 and not fires:  # most are, each time
            return Finding(tier.name, tier.severity, "quiet" if short.valid else "unknown")
        bar = tier.factor * (1 - self.target)  # the failure ratio at which the burn rate is the factor
        causes, held = None, False
        if not short.valid:
            verdict: Verdict = "unknown"
        elif not (_above(short.bad, short.valid, bar) and _above(long.bad, long.valid, bar)):
            verdict = "quiet"
        else:
            verdict = "firing"
            if not fires and self.plan.confidence is not None:
                causes, held = self._chance(tier, long, bar, self.plan.confidence)
                verdict = "quiet" if held else "firing"
        data = self._facts(tier, long, short, bar) | {"causes": causes, "held": held}
        return Finding(tier.name, tier.severity, verdict, data)

    def _chance(self, tier: Tier, long: Counts, bar: Fraction, confidence: Fraction) -> tuple[int | None, bool]:
        """How many failures of their own these are as good as, and whether those can be chance, or are a single one.

        Kish's effective size, (sum n)^2 / sum n^2 over causes with n failures each, of as many events as keep the
        ratio: a crash counts once among many, and where each trace fails three times the alert is not held back for
        good, as it would be if repeats were only left out.
        """
        bad, valid = long.bad // self.parts, long.valid // self.parts
        if bad < FEWEST or not rejects(bad, valid, bar, confidence):
            return None, True  # fewer failures would be no better evidence
        causes = bad * bad // (bad + max(self.excess(tier.long_ns), 0))
        return causes, causes < FEWEST or not rejects(causes, valid * causes // bad, bar, confidence)

    def _facts(self, tier: Tier, long: Counts, short: Counts, bar: Fraction) -> dict[str, Any]:
        return {
            "long_ns": tier.long_ns,
            "short_ns": tier.short_ns,
            "factor": float(tier.factor),
            "bar_ratio": float(bar),
            "valid_long": long.valid,
            "bad_long": long.bad,
            "burn_long": self._burn(long),
            "valid_short": short.valid,
            "bad_short": short.bad,
            "burn_short": self._burn(short),
            "budget_spent_ratio": self._burn(long, Fraction(tier.long_ns, self.window_ns)),
            "confidence": None if self.plan.confidence is None else float(self.plan.confidence),
        }

    def _burn(self, counts: Counts, share: Fraction = Fraction(1)) -> float | None:
        """Times `share`, rounded once; for showing only."""
        if not counts.valid:
            return None
        allowance = self.target.denominator - self.target.numerator
        spent = counts.bad * self.target.denominator * share.numerator
        return spent / (counts.valid * allowance * share.denominator)


def _no_data(
    length_ns: int, counts_over: CountsOver, observed_ns: int, ever_valid: bool, maintained: Reaches, cut: Reaches
) -> Finding:
    """A valid event ends it whatever was planned: there is data."""
    valid = counts_over(length_ns).valid
    verdict: Verdict = "firing"
    if valid or not ever_valid:
        verdict = "quiet"
    elif observed_ns < length_ns or maintained(length_ns) or cut(length_ns):
        verdict = "unknown"
    return Finding(NO_DATA, TICKET, verdict, {"no_data_ns": length_ns, "valid": valid})


def _exhausted(severity: str, remaining_ratio: Fraction | None, fires: bool) -> Finding:
    """Fires at nothing left, exactly; resolves at a hundredth of the budget, so that it does not flap about zero."""
    if remaining_ratio is None:
        return Finding(BUDGET_EXHAUSTED, severity, "unknown", {"remaining_ratio": None})
    spent = remaining_ratio < RECOVERED if fires else remaining_ratio <= 0
    data = {"remaining_ratio": float(remaining_ratio)}
    return Finding(BUDGET_EXHAUSTED, severity, "firing" if spent else "quiet", data)


def _recent_ns(counts_over: CountsOver, longest_ns: int) -> int:
    """An hour, or as often its double as it takes for something valid to be in the newer half, since labels come late.

    What is excluded at once is then at most twice its share of what will be known; the alert asks for three times.
    """
    length_ns = HOUR_NS
    while length_ns < longest_ns and not counts_over(length_ns // 2).valid:
        length_ns *= 2
    return min(length_ns, longest_ns)


def _exclusion_share(
    plan: AlertPlan, severity: str, counts_over: CountsOver, fires: bool, maintained: Reaches
) -> Finding:
    """More than three times the week's share of all events, and more than 5 %, are excluded in the last hour, and none
    of it was declared ahead as maintenance. Where labels are waited for it is a longer while, of two label_within at
    most, and four times that instead of a week.
    """
    recent_ns, confidence = _recent_ns(counts_over, plan.excluded_over_ns), plan.confidence
    usual_ns = max(WEEK_NS, 4 * recent_ns)
    hour, week = counts_over(recent_ns), counts_over(usual_ns)
    if not hour.excluded and not fires:
        return Finding(EXCLUSION_SHARE, severity, "quiet" if hour.total else "unknown")
    bar = max(SHARE_TIMES * (week.excluded_ratio or Fraction(0)), SHARE_FLOOR)
    verdict: Verdict = "unknown"
    if hour.total and not maintained(recent_ns):
        above = _above(hour.excluded, hour.total, bar)
        if above and not fires:
            above = hour.total >= SHARE_EVENTS
            above = above and (confidence is None or rejects(hour.excluded, hour.total, bar, confidence))
        verdict = "firing" if above else "quiet"
    data = {
        "excluded": hour.excluded,
        "total": hour.total,
        "excluded_ratio": hour.excluded / hour.total if hour.total else None,
        "week_excluded": week.excluded,
        "week_total": week.total,
        "week_excluded_ratio": week.excluded / week.total if week.total else None,
        "bar_ratio": float(bar),
        "recent_ns": recent_ns,
        "usual_ns": usual_ns,
    }
    return Finding(EXCLUSION_SHARE, severity, verdict, data)


def _above(part: int, whole: int, ratio: Fraction) -> bool:
    """part / whole > ratio, exactly and strictly."""
    return part * ratio.denominator > whole * ratio.numerator
