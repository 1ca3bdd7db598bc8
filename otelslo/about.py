"""Who an objective belongs to and why it is promised: what alerts and reports carry along."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otelslo.errors import Place, shown

MOST_LABELS = 32
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_TAKEN = ("slo", "group", "alert", "severity", "alertname")


@dataclass(frozen=True, slots=True)
class About:
    """Texts of an objective, "" where there is none; `labels` are the operator's own."""

    owner: str = ""
    because: str = ""
    runbook_url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "owner": self.owner,
            "because": self.because,
            "runbook_url": self.runbook_url,
            "labels": dict(self.labels),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> About:
        owner, because, runbook_url = (str(data.get(key, "")) for key in ("owner", "because", "runbook_url"))
        labels = {str(key): str(value) for key, value in (data.get("labels") or {}).items()}
        return cls(owner, because, runbook_url, labels)


def parse_about(owner: object, because: object, runbook_url: object, labels: object, place: Place) -> About:
    """Raises DefinitionError."""
    texts = {"owner": owner, "because": because, "runbook_url": runbook_url}
    for key, value in texts.items():
        place.at(key).expect(value, str, "a text")
    if runbook_url and not re.match(r"https?://", str(runbook_url)):
        raise place.at("runbook_url").error(f"{shown(runbook_url)} is no address", "Write https://...")
    if not isinstance(labels, Mapping):
        raise place.at("labels").error(f"{shown(labels)} is no mapping", "Write {team: payments}")
    if len(labels) > MOST_LABELS:
        raise place.at("labels").error(f"{len(labels)} labels are too many", f"Use {MOST_LABELS} at most")
    for key, value in labels.items():
        spot = place.at("labels", str(key))
        if not isinstance(key, str) or not _LABEL.fullmatch(key) or key in _TAKEN:
            remedy = f"Use letters, digits and _ . -, not {', '.join(_TAKEN)}"
            raise spot.error(f"{shown(key)} cannot be a label", remedy)
        spot.expect(value, str, 'a text in quotes, such as "payments"')
    return About(str(owner), str(because), str(runbook_url), dict(labels))
