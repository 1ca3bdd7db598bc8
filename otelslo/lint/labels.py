"""Rules about labels that come late, about days and about windows of drift: those of an objective that are over before
they can be judged, or hold too few of them."""

from __future__ import annotations

from collections.abc import Iterator

from otelslo.lint.finding import NOTE, WARNING, Finding, at
from otelslo.slo import SLO
from otelslo.window import DAY_NS, format_duration

_FEW_DAYS = 7
_DRIFT = "drift"


def of(slo: SLO) -> Iterator[Finding]:
    within_ns, window_ns = slo.option("label_within"), slo.period.nominal_ns
    window = slo.period.text
    if within_ns is not None and within_ns >= window_ns:
        each = format_duration(within_ns)
        problem = f"a label may take {each} and the window is {window}: what is judged last is never in it"
        remedy = "Use a window of several times label_within"
        yield at(slo, "label_within")(WARNING, "labels-too-late", problem, remedy)
    elif within_ns is not None and 2 * within_ns > window_ns:
        each = format_duration(within_ns)
        problem = f"a label may take {each}, most of the window of {window}: its budget rests on the little before that"
        yield at(slo, "label_within")(NOTE, "labels-too-late", problem, "Use a window of several times label_within")
    if within_ns is None and slo.labels_ns is not None and slo.alert_plan.tiers:
        longest = format_duration(max(tier.short_ns for tier in slo.alert_plan.tiers))
        problem = f"nothing says how late a label may be; its burn-rate alerts see those that take less than {longest}"
        yield at(slo, "label_within")(NOTE, "no-label-within", problem, "Add label_within, such as 7d")
    if slo.indicator == _DRIFT and window_ns <= slo.option("every"):
        each = format_duration(slo.option("every"))
        problem = f"it counts one event each {each}, and its window of {window} holds one at most"
        yield at(slo, "window")(WARNING, "window-too-short", problem, "Use a window of many times every, such as 364d")
    if slo.daily and window_ns < _FEW_DAYS * DAY_NS:
        problem = f"it counts one unit a day, of which the window of {window} has {window_ns // DAY_NS}"
        yield at(slo, "window")(WARNING, "window-too-short", problem, "Use a window of 28d or more")
