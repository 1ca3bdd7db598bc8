"""Whose failure a loss is: memory, the model's framework, the machine, the client, the answer's quality.

By the reason that it was counted with; where that says only that something was raised, by the exception's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from otelslo.failure import kind_by_name

OTHER = "other"
QUALITY = "quality"
# Each class and the reasons that are of it, in the words of the indicators. The first six are kinds of failure.
_REASONS = {
    "oom": "oom oom_cascade",
    "framework_crash": "framework_crash",
    "timeout": "timeout",
    "infrastructure": "infrastructure crashed",
    "client_error": "client_error unauthorised",
    "cancelled": "cancelled server_cancel client_cancel",
    "error": "exception cut no_response",
    "slow": "slow slow_ttft slow_tpot stalled abandoned",
    "overload": "shed",
    QUALITY: "not_good empty",
}
CLASSES = (*_REASONS, OTHER)
_CLASS_OF = {reason: name for name, reasons in _REASONS.items() for reason in reasons.split()}
_STATUS = re.compile(r"[1-5](?:xx|[0-9][0-9])")
_VAGUE = frozenset({"exception", OTHER})  # what the exception's name tells more of


def class_of_reason(reason: str, otherwise: str = OTHER) -> str:
    """The class of a reason or rule by its name: "oom", "5xx", "404"; `otherwise` of one that has none."""
    if _STATUS.fullmatch(reason):
        return "overload" if reason == "429" else "client_error" if reason[0] == "4" else "error"
    return _CLASS_OF.get(reason, otherwise)


def classes_of(
    reasons: Iterable[str], ruled: Iterable[tuple[str, str]], said: Iterable[str], otherwise: str
) -> dict[str, str]:
    """The class of each of an objective's bad reasons.

    Args:
        ruled: (rule, reason) of what the operator has changed: such a reason is of its rule's class, and of none where
            two rules disagree.
        said: reasons of the app's own, which say of an answer that it was no good.
        otherwise: the class of reasons that only the indicator knows.
    """
    found: dict[str, str] = {}
    for key, reason in ruled:
        one = class_of_reason(key, otherwise)
        found[reason] = one if found.get(reason, one) == one else OTHER
    for reason in said:
        found.setdefault(reason, class_of_reason(reason, QUALITY))
    for reason in reasons:
        found.setdefault(reason, class_of_reason(reason, OTHER if reason == OTHER else otherwise))
    return found


def class_of(reason: str, exception: str, classes: Mapping[str, str]) -> str:
    """The class of one loss; `classes` are those of its objective's reasons."""
    if reason in _VAGUE and exception:
        kind = kind_by_name(exception)
        if kind is not None:
            return kind
        if reason == OTHER:
            return "error"  # something was raised, as with "exception"
    return classes.get(reason) or class_of_reason(reason)


def by_class(reasons: Mapping[str, int], classes: Mapping[str, str]) -> dict[str, int] | None:
    """Counts by class from counts by reason; None where a reason alone does not tell."""
    counts: dict[str, int] = {}
    for reason, count in reasons.items():
        if not count:
            continue
        if reason in _VAGUE:
            return None
        one = class_of(reason, "", classes)
        counts[one] = counts.get(one, 0) + count
    return counts
