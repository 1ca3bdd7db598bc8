"""What people are told: one transition of an alert, or another recorded event, as plain data.

The decider writes it, the outbox keeps it as JSON, and every channel renders the same one, so nothing that is shown
somewhere is decided there. Times are Unix ns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otelslo.errors import StateError, shown

EVENTS = ("firing", "resolved", "exhausted", "override", "policy", "test")
SEVERITIES = ("page", "ticket", "info")
_TEXTS = ("key", "event", "slo", "alert", "severity", "title", "text")
_MOMENTS = ("at_wall_ns", "since_wall_ns")
_MAPPINGS = ("labels", "annotations", "data")


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell.

    Args:
        key: 32 hex digits, the same for every try of one transition; receivers drop what they know by it.
        event: one of EVENTS.
        slo: the objective's name, "" where it is about none (a test).
        group: the objective's group, None for the whole.
        alert: the tier's or rule's name, such as "page-fast".
        severity: one of SEVERITIES.
        at_wall_ns: when it was decided, Unix ns.
        since_wall_ns: since when that state holds, Unix ns: for "resolved", since when it had fired.
        title: one line.
        text: a few lines in the language of budgets.
        labels: what receivers route by: slo, group, alert, severity, owner and the objective's own.
        annotations: what they show: title, text, because, runbook_url and others.
        data: counts, burn rates and causes; whatever JSON holds.
    """

    key: str
    event: str
    slo: str
    group: str | None
    alert: str
    severity: str
    at_wall_ns: int
    since_wall_ns: int
    title: str
    text: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def whole_text(self) -> str:
        """`text`, and why it matters and what to do, for channels that show no annotations."""
        beside = {"Why it matters": "because", "Runbook": "runbook_url"}
        known = [f"{what}: {self.annotations[name]}" for what, name in beside.items() if self.annotations.get(name)]
        return "\n".join([self.text, *known] if self.text else known)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON; `from_json` makes an equal notice of it."""
        return {
            **{name: getattr(self, name) for name in ("key", "event", "slo", "group", "alert", "severity")},
            **{name: getattr(self, name) for name in (*_MOMENTS, "title", "text")},
            **{name: dict(getattr(self, name)) for name in _MAPPINGS},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Notice:
        """The notice that `to_json` wrote, also where a newer version has written more.

        Raises:
            StateError: it is no notice; the text names the field.
        """
        if not isinstance(value, Mapping):
            raise StateError(f"{shown(value)} is no notice")
        group = value.get("group")
        if group is not None and not isinstance(group, str):
            raise StateError(f"a notice's group is {shown(group)}, which is no text")
        fields: dict[str, Any] = {name: _field(value, name, str) for name in _TEXTS}
        fields |= {name: _field(value, name, int) for name in _MOMENTS}
        fields |= {name: dict(_field(value, name, Mapping)) for name in _MAPPINGS}
        return cls(group=group, **fields)


def _field(value: Mapping[str, Any], name: str, kind: type) -> Any:
    found = value.get(name)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise StateError(f"a notice's {name} is {shown(found)}")
    return found
