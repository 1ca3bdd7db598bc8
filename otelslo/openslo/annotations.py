"""Annotations `otelslo.io/<key>` of an SLO: what OpenSLO has no word for, or says less exactly than an SLO needs it.

They are laid over what the document itself says, and may not contradict it: then one of the two was forgotten when the
other was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from otelslo.document import compose_all
from otelslo.errors import DefinitionError, nearest
from otelslo.openslo.draft import Draft
from otelslo.openslo.objects import Part
from otelslo.openslo.spelling import (
    PREFIX,
    SERVICE,
    clipped,
    duration_text,
    length_ns,
    number,
    ratio,
    ratio_text,
    shorthand,
)
from otelslo.window import parse_duration, parse_target

ALERTS = "alerts"
RATIO_KEYS = ("target", "slice_target", "sla")
STRUCTURED_KEYS = ("labels", "notify", "slice_count", "policy", "maintenance")
KEYS = (
    *("name", "description", "window", "calendar", "timezone", "slice", "empty_slices", "unattended", "owner"),
    *("because", "runbook_url", *RATIO_KEYS, *STRUCTURED_KEYS, SERVICE, ALERTS),
)
_OF_ONE = ("name", "slice", "slice_count", *RATIO_KEYS)
# What the document's own field is read as, where an annotation says it more exactly.
_AS_READ: dict[str, Callable[[str], str]] = {
    "target": lambda text: ratio_text(Fraction(number(parse_target(ratio(text))))),
    "window": lambda text: duration_text(length_ns(shorthand(parse_duration(text)))),
    "slice": lambda text: duration_text(length_ns(shorthand(parse_duration(text)))),
    "description": clipped,
}


def lay_over(draft: Draft, annotations: Mapping[str, Part], has_policies: bool, one_of_many: bool) -> None:
    """Add what the annotations say; an empty one takes the key away. Raises DefinitionError."""
    for key, part in annotations.items():
        if key not in KEYS:
            remedy = nearest(f"{PREFIX}{key}", [f"{PREFIX}{known}" for known in KEYS])
            raise part.error(f"unknown annotation {PREFIX}{key}", remedy, at_key=True)
        if one_of_many and key in _OF_ONE:
            problem = f"{key} cannot be meant for several objectives at once"
            raise part.error(problem, "Write each objective as an SLO of its own", at_key=True)
        if key == ALERTS:
            _merge_alerts(draft, part, has_policies)
        elif key == SERVICE:
            _set_service(draft, part)
        elif part.value == "":
            draft.drop(key)
        else:
            _agree(draft, key, part)
            draft.put(key, _value(key, part), part)


def written(part: Part) -> Any:
    """The value of an annotation that holds YAML in a text. Raises DefinitionError."""
    try:
        return compose_all(PREFIX, part.text())[0].value
    except DefinitionError as refused:
        raise part.error(f"it cannot be read: {refused.problem}", refused.remedy) from None


def disagreement(part: Part, said: str) -> DefinitionError:
    """For an annotation beside which the document itself says something else."""
    problem = f"it says {part.value}, and the document itself {said}"
    return part.error(problem, "Remove the annotation, or make both say the same")


def _value(key: str, part: Part) -> Any:
    if key in RATIO_KEYS:
        return part.parse(ratio)
    return written(part) if key in STRUCTURED_KEYS else part.text()


def _agree(draft: Draft, key: str, part: Part) -> None:
    as_read = _AS_READ.get(key)
    if as_read is None or key not in draft.data:
        return
    said = draft.data[key]
    said = ratio_text(said) if isinstance(said, Fraction) else said
    if part.parse(as_read) != said:
        raise disagreement(part, str(said))


def _set_service(draft: Draft, part: Part) -> None:
    labels = {key: value for key, value in draft.data.get("labels", {}).items() if key != SERVICE}
    if part.value:
        labels[SERVICE] = part.text()
    draft.put("labels", labels, part)


def _merge_alerts(draft: Draft, part: Part, has_policies: bool) -> None:
    """The annotation says what is around the tiers, the policies say the tiers."""
    ours = written(part)
    if not has_policies:
        draft.put(ALERTS, ours, part)
        return
    if not isinstance(ours, Mapping) or "tiers" in ours:
        problem = "the document has alertPolicies, and they are the tiers"
        raise part.error(problem, "Write only guard, no_data, exhausted and exclusion_share here")
    draft.data[ALERTS] = {**draft.data[ALERTS], **ours}
    draft.origins.update({(ALERTS, str(key)): part for key in ours})
