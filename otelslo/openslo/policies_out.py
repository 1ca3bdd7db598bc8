"""An alert plan as AlertPolicies, one for each tier, with one condition each as OpenSLO wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from otelslo.alerts import OFF, AlertPlan, Tier
from otelslo.openslo.spelling import (
    ALL_CHANNELS,
    PREFIX,
    SOURCE_TYPE,
    dns_name,
    duration_text,
    length_ns,
    number,
    ratio_text,
    shorthand,
)


def policies(plan: AlertPlan, notify: Sequence[str] | None) -> list[dict[str, Any]]:
    """The tiers; what else the plan says is `alerts_annotation`."""
    taken: set[str] = set()
    told = notify if notify is not None else (ALL_CHANNELS,)
    written = []
    for tier in plan.tiers:
        name = dns_name(tier.name, taken)
        taken.add(name)
        said = {"alertWhenBreaching": True, "alertWhenResolved": True, "alertWhenNoData": plan.no_data_ns is not None}
        spec = said | {
            "conditions": [_condition(tier, name)],
            "notificationTargets": [target(channel) for channel in told],
        }
        written.append({"kind": "AlertPolicy", "metadata": {"name": name}, "spec": spec})
    return written


def _condition(tier: Tier, name: str) -> dict[str, Any]:
    exact = {"short": duration_text(tier.short_ns)}
    if name != tier.name:
        exact["name"] = tier.name
    if length_ns(shorthand(tier.long_ns)) != tier.long_ns:
        exact["long"] = duration_text(tier.long_ns)
    if tier.for_ns and length_ns(shorthand(tier.for_ns)) != tier.for_ns:
        exact["for"] = duration_text(tier.for_ns)
    if Fraction(number(tier.factor)) != tier.factor:
        exact["factor"] = f"{tier.factor.numerator}/{tier.factor.denominator}"
    condition = {
        "kind": "burnrate",
        "op": "gt",
        "threshold": number(tier.factor),
        "lookbackWindow": shorthand(tier.long_ns),
    }
    if tier.for_ns:
        condition["alertAfter"] = shorthand(tier.for_ns)
    annotations = {f"{PREFIX}{key}": text for key, text in exact.items()}
    return {
        "kind": "AlertCondition",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"severity": tier.severity, "condition": condition},
    }


def target(channel: str, exact: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The notification target that stands for the channel, or for all; `exact` are annotations of ours."""
    name = dns_name(channel)
    exact = ({} if name == channel else {"name": channel}) | dict(exact or {})
    annotations = {"annotations": {f"{PREFIX}{key}": text for key, text in exact.items()}} if exact else {}
    metadata = {"name": name} | annotations
    return {"kind": "AlertNotificationTarget", "metadata": metadata, "spec": {"target": SOURCE_TYPE}}


def alerts_annotation(plan: AlertPlan) -> dict[str, str] | str:
    """What of the plan is not in its tiers and not the default, as `alerts` in slo.yaml; empty if there is nothing."""
    if plan == OFF:
        return "off"
    usual = AlertPlan()
    said = {}
    if plan.confidence != usual.confidence:
        said["guard"] = "off" if plan.confidence is None else ratio_text(plan.confidence)
    if plan.no_data_ns is not None:
        said["no_data"] = duration_text(plan.no_data_ns)
    for key in ("exhausted", "exclusion_share"):
        if getattr(plan, key) != getattr(usual, key):
            said[key] = getattr(plan, key) or "off"
    return said if plan.tiers else said | {"tiers": "off"}
