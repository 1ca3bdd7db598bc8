"""Rules about alerts: those that can never fire, fire too late or too early, and those that nobody hears."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from otelslo.alerting import FEWEST
from otelslo.alerts import PAGE, Tier, default_tiers
from otelslo.binomial import rejects
from otelslo.errors import Key, nearest
from otelslo.lint.finding import ERROR, NOTE, WARNING, Finding, Found, at
from otelslo.slices import STEP_NS, TIMESLICES
from otelslo.slo import SLO
from otelslo.tiers import sees
from otelslo.window import DAY_NS, format_duration, format_ratio, format_target

_LOG = "log"


def of(slo: SLO, channels: Mapping[str, str] | None) -> Iterator[Finding]:
    if slo.alert_plan.off:
        return
    defaults = _defaults(slo)
    for index, tier in enumerate(slo.alert_plan.tiers):
        yield from _tier(slo, tier, tier not in defaults)
        yield from _shadowed(slo, tier, index)
    yield from _without_tiers(slo)
    yield from _late_labels(slo, defaults)
    yield from _heard(slo, channels)


def _defaults(slo: SLO) -> tuple[Tier, ...]:
    slice_ns = slo.slices.length_ns if slo.slices is not None else DAY_NS if slo.daily else None
    return default_tiers(slo.period.nominal_ns, slo.target_ratio, slice_ns=slice_ns, labels_ns=slo.labels_ns)


def _tier(slo: SLO, tier: Tier, written: bool) -> Iterator[Finding]:
    found = at(slo, *_path(tier))
    window_ns = slo.period.nominal_ns
    if (number := _held_back(slo, tier)) is not None:
        confidence = format_target(slo.alert_plan.confidence or Fraction(0))
        problem = (
            f"{tier.name} can never fire: its long window holds {number} slice{'s' * (number != 1)}, and even if all "
            f"are bad that can be chance ({confidence} is asked for)"
        )
        remedy = "Lengthen its long window, or write guard: off, or turn it off"
        yield found(ERROR if written else NOTE, "dead-alert", problem, remedy)
    spent = tier.share(window_ns) + tier.factor * tier.for_ns / window_ns
    if spent >= 1:
        problem = (
            f"{tier.name} comes too late: by the slowest burn that it is about, {format_ratio(spent)} of the budget"
        )
        remedy = "Lower its factor or budget, its windows or its `for`"
        yield found(WARNING, "late-alert", f"{problem} is spent before it fires", remedy)
    if tier.factor < 1:
        yield _early(found, tier, written)
    if tier.short_ns < STEP_NS:
        short, slot = format_duration(tier.short_ns), format_duration(STEP_NS)
        problem = f"the short window of {tier.name} ({short}) is shorter than what is counted, which is {slot} each"
        yield found(WARNING, "window-too-short", problem, f"Use {slot} at least; a twelfth of the long one is usual")


def _early(found: Found, tier: Tier, written: bool) -> Finding:
    """Of a default it is a note: a share of a short window's budget is soon spent, and early is what it is to be."""
    fires = "fires" if written else "can fire"
    problem = f"{tier.name} {fires} while the objective is met: at {float(tier.factor):.6g}, and its target burns at 1"
    if written:
        return found(WARNING, "early-alert", problem, "Use a factor of 1 or more")
    remedy = f"To be told later, write under alerts: {{tiers: {{{tier.name}: {{factor: 1}}}}}}, or {tier.name}: off"
    return found(NOTE, "early-alert", problem, remedy)


def _held_back(slo: SLO, tier: Tier) -> int | None:
    """How many slices the guard has to judge by, if even their all being bad is no evidence to it."""
    guard, slices = slo.alert_plan.confidence, slo.slices
    if guard is None or slices is None or slices.method != TIMESLICES:
        return None
    number = max(1, tier.long_ns // slices.length_ns)
    sure = number >= FEWEST and rejects(number, number, tier.factor * (1 - slo.target_ratio), guard)
    return None if sure else number


def _shadowed(slo: SLO, tier: Tier, index: int) -> Iterator[Finding]:
    """Another one of the same windows fires whenever this one does, and this one says nothing more."""
    for number, other in enumerate(slo.alert_plan.tiers):
        if number == index or (other.long_ns, other.short_ns) != (tier.long_ns, tier.short_ns):
            continue
        sooner = other.factor <= tier.factor and other.for_ns <= tier.for_ns
        same = (other.factor, other.for_ns, other.severity) == (tier.factor, tier.for_ns, tier.severity)
        if sooner and other.severity in (PAGE, tier.severity) and not (same and number > index):
            problem = f"{tier.name} tells nothing new: {other.name} has the same windows, and fires whenever it does"
            remedy = "Change its windows or its severity, or turn it off"
            yield at(slo, *_path(tier))(WARNING, "shadowed-alert", problem, remedy)
            return


def _path(tier: Tier) -> tuple[Key, ...]:
    return ("alerts", "tiers", tier.name)


def _without_tiers(slo: SLO) -> Iterator[Finding]:
    chosen = isinstance(slo.alerts, Mapping) and slo.alerts.get("tiers") is not None
    if not slo.alert_plan.tiers and not chosen:
        problem = (
            f"no burn-rate alert is usual for a target of {format_target(slo.target_ratio)} over {slo.period.text}, so "
            "nobody is told before the budget is spent"
        )
        yield at(slo, "alerts")(NOTE, "no-burn-alerts", problem, "Write tiers of its own under alerts")


def _late_labels(slo: SLO, defaults: tuple[Tier, ...]) -> Iterator[Finding]:
    """Tiers whose short window is over before labels come; of the default ones a longer one goes along."""
    within_ns = slo.option("label_within")
    if within_ns is None or slo.labels_ns is None or not slo.alert_plan.tiers:
        return
    usual, within = {(tier.long_ns, tier.short_ns) for tier in defaults}, format_duration(within_ns)
    for tier in slo.alert_plan.tiers:
        if (tier.long_ns, tier.short_ns) not in usual and not sees(tier, within_ns):
            problem = (
                f"{tier.name} can hardly fire: a label may take {within}, and its short window "
                f"({format_duration(tier.short_ns)}) is over by then"
            )
            remedy = f"Use a short window of {format_duration(2 * within_ns)}, or leave it to the default tiers"
            yield at(slo, *_path(tier))(WARNING, "late-labels", problem, remedy)
    if not any(sees(tier, within_ns) for tier in slo.alert_plan.tiers):
        problem = (
            f"its burn-rate alerts can hardly fire: a label may take {within}, and every short window is over by then"
        )
        yield at(slo, "alerts")(NOTE, "late-labels", problem, "Use a window of several times label_within")


def _heard(slo: SLO, channels: Mapping[str, str] | None) -> Iterator[Finding]:
    pages = _pages(slo)
    if pages and not slo.about.runbook_url:
        problem = "it pages people and does not say what they are to do"
        yield at(slo, "runbook_url")(NOTE, "no-runbook", problem, "Add runbook_url: https://...")
    if channels is None:
        return
    told = [name for name in channels if slo.notify is None or name in slo.notify]
    if not told:
        wanted = " or ".join(map(repr, slo.notify or ()))
        problem = f"its alerts reach nobody: there is no channel {wanted}"
        yield at(slo, "notify")(ERROR, "unheard", problem, nearest((slo.notify or [""])[0], channels))
    elif pages and all(channels[name] == _LOG for name in told):
        problem = "its pages go to the log only, which wakes nobody"
        yield at(slo, "notify")(NOTE, "unheard", problem, "Add a channel under channels: a webhook, alertmanager, ...")


def _pages(slo: SLO) -> bool:
    plan = slo.alert_plan
    return PAGE in (plan.exhausted, plan.exclusion_share, *(tier.severity for tier in plan.tiers))
