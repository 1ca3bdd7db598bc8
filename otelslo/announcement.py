"""What people are told of one transition of an alert, in the language of budgets: the notice that channels render."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otelslo.alert_states import FIRING, AlertState, Transition
from otelslo.alerts import BUDGET_EXHAUSTED, EXCLUSION_SHARE, NO_DATA
from otelslo.definition import Definition
from otelslo.evaluate import Judged
from otelslo.explain import explain, explain_text
from otelslo.explanation import Explanation
from otelslo.limit import Limit
from otelslo.limits import LimitStatus
from otelslo.notice import Notice
from otelslo.slices import Slices
from otelslo.snapshot import SavedLoss
from otelslo.status import iso
from otelslo.window import HOUR_NS, WEEK_NS, readable_duration


def span_ns(one: Judged, transition: Transition) -> int:
    """How far back the announcement looks: the (long) window of what it tells, a budget's own, else an hour."""
    data = transition.state.data
    length_ns = data.get("long_ns", data.get("recent_ns"))
    if isinstance(length_ns, int):
        return length_ns
    return one.status.window_ns if transition.state.name == BUDGET_EXHAUSTED else HOUR_NS


def announce(one: Judged, transition: Transition, losses: Sequence[SavedLoss]) -> Notice:
    """The notice of a transition. `losses` are those of the objective and group within `span_ns`."""
    definition, status, state = one.definition, one.status, transition.state
    length_ns = span_ns(one, transition)
    start_ns = one.now_ns - length_ns
    explanation = explain(
        status,
        one.tally.over(length_ns),
        length_ns,
        losses,
        events=one.tally.kept(start_ns),
        excluded_since=one.tally.excluded_since(start_ns),
        loss_classes=definition.loss_classes,
    )
    title = headline(one, state)
    first, *rest = explain_text(explanation)  # how bad it is, before why it was told
    text = "\n".join([first, *_grounds(state.data, status.slices), *rest])
    return Notice(
        key=transition.key,
        event=transition.event,
        slo=definition.name,
        group=status.group,
        alert=state.name,
        severity=state.severity,
        at_wall_ns=status.now_ns,
        since_wall_ns=state.fired_wall_ns or state.since_wall_ns,
        title=title,
        text=text,
        labels=_labels(definition, status.group, state.name, state.severity),
        annotations=_annotations(definition, title, text),
        data=_data(state.data, explanation),
    )


def announce_limit(status: LimitStatus, transition: Transition) -> Notice:
    """The notice of a transition of a limit's alert."""
    limit, state = status.limit, transition.state
    title = limit_headline(status, state)
    known = f"by what was observed at {iso(status.at_wall_ns)}"
    text = f"{status.text}\nIt is {status.state.replace('_', ' ')} since {iso(status.since_wall_ns)}, {known}."
    return Notice(
        key=transition.key,
        event=transition.event,
        slo=limit.name,
        group=None,
        alert=state.name,
        severity=state.severity,
        at_wall_ns=status.now_wall_ns,
        since_wall_ns=state.fired_wall_ns or state.since_wall_ns,
        title=title,
        text=text,
        labels=_labels(limit, None, state.name, state.severity),
        annotations=_annotations(limit, title, text),
        data=dict(state.data),
    )


def announce_removal(transition: Transition, now_wall_ns: int) -> Notice:
    """The end of an alert whose objective is defined no more."""
    state = transition.state
    name = state.slo if state.group is None else f"{state.slo} [{state.group}]"
    title = f"{name}: the objective was removed, and {state.name} with it"
    labels = {"slo": state.slo, "alert": state.name, "severity": state.severity}
    return Notice(
        key=transition.key,
        event=transition.event,
        slo=state.slo,
        group=state.group,
        alert=state.name,
        severity=state.severity,
        at_wall_ns=now_wall_ns,
        since_wall_ns=state.fired_wall_ns or state.since_wall_ns,
        title=title,
        text=title,
        labels=labels | ({} if state.group is None else {"group": state.group}),
        annotations={"title": title, "text": title},
        data=state.data,
    )


def headline(one: Judged, state: AlertState) -> str:
    """One line on an alert that has begun or ceased to fire."""
    event = "firing" if state.state == FIRING else "resolved"
    return f"{_name(one)}: {_headline(state.name, event, state.data)}"


def limit_headline(status: LimitStatus, state: AlertState) -> str:
    """One line on a limit one of whose alerts has begun or ceased to fire."""
    if state.name == NO_DATA:
        length = readable_duration(state.data["no_data_ns"])
        return f"{status.name}: " + (f"nothing observed for {length}" if state.state == FIRING else "observed again")
    if state.state == FIRING:
        return f"{status.name}: {status.value_text}, more than its limit of {status.limit_text}"
    return f"{status.name}: {status.value_text}, within its limit of {status.limit_text} again"


def _name(one: Judged) -> str:
    return one.definition.name if one.status.group is None else f"{one.definition.name} [{one.status.group}]"


def _headline(alert: str, event: str, data: Mapping[str, Any]) -> str:
    if alert == BUDGET_EXHAUSTED:
        return "the error budget is used up" if event == "firing" else "there is error budget again"
    if alert == NO_DATA:
        length = readable_duration(data["no_data_ns"])
        return f"no valid event for {length}" if event == "firing" else "events come again"
    if alert == EXCLUSION_SHARE:
        return "unusually many events are excluded" if event == "firing" else "as many events are excluded as usual"
    if event != "firing":
        return f"no longer burning too fast ({alert})"
    rates = f"{_rate(data.get('burn_long'))} times too fast over {readable_duration(data['long_ns'])}"
    return f"burning the error budget {rates} ({alert})"


def _grounds(data: Mapping[str, Any], slices: Slices | None) -> list[str]:
    """What the decision rests on."""
    if "valid_long" in data:
        unit, parts = ("events", 1) if slices is None else ("slices", slices.parts)
        valid, bad, few, few_bad = (
            data[key] // parts for key in ("valid_long", "bad_long", "valid_short", "bad_short")
        )
        causes = data.get("causes") or bad
        once = f" (as good as {causes:,}: some share a crash, a trace or a batch)" if causes < bad else ""
        return [
            f"Rests on {valid:,} valid {unit} in {readable_duration(data['long_ns'])}, {bad:,} bad{once}; "
            f"{few:,} and {few_bad:,} in {readable_duration(data['short_ns'])}; "
            f"it fires above a burn rate of {_rate(data['factor'])}"
        ]
    if "week_excluded" in data:
        recent, usual = _last(data.get("recent_ns", HOUR_NS)), _last(data.get("usual_ns", WEEK_NS))
        return [
            f"{data['excluded']:,} of {data['total']:,} events were excluded in the last {recent}; "
            f"{data['week_excluded']:,} of {data['week_total']:,} in the last {usual}"
        ]
    return []


def _last(length_ns: int) -> str:
    return {HOUR_NS: "hour", WEEK_NS: "week"}.get(length_ns) or readable_duration(length_ns)


def _rate(rate: float | None) -> str:
    if rate is None:
        return "?"
    return f"{rate:,.0f}" if rate >= 999.5 else f"{rate:.3g}"


def _labels(definition: Definition | Limit, group: str | None, alert: str, severity: str) -> dict[str, str]:
    labels = dict(definition.about.labels) | {"slo": definition.name, "alert": alert, "severity": severity}
    labels |= {} if group is None else {"group": group}
    return labels | ({"owner": definition.about.owner} if definition.about.owner else {})


def _annotations(definition: Definition | Limit, title: str, text: str) -> dict[str, str]:
    about = definition.about
    optional = {"because": about.because, "runbook_url": about.runbook_url, "description": definition.description}
    return {"title": title, "text": text} | {key: value for key, value in optional.items() if value}


def _data(data: Mapping[str, Any], explanation: Explanation) -> dict[str, Any]:
    return dict(data) | {"explanation": explanation.to_json()}
