"""What has changed between two sets of objectives and limits, line by line: for the journal, and whoever reloads.

A new target, window or name of a person keeps an objective's history; a new meaning of good starts to count anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_SHOWN = {
    "target": "target",
    "limit": "limit",
    "window": "window",
    "sla": "SLA",
    "slices": "slices",
    "alerts": "alerts",
}
_REST = ("severity", "stale_after_ns", "about", "description", "notify", "policy", "max_groups", "maintenance")


def revisions(before: str, after: str) -> list[str]:
    """One line for each objective or limit that came, went or changed; `before` and `after` are what `definitions.json`
    holds.

    Nothing where one of them cannot be read: then there is nothing to compare.
    """
    old, new = _by_name(before), _by_name(after)
    if not old or not new:
        return []
    lines = [f"{name}: added, {_promise(one)}" for name, one in new.items() if name not in old]
    lines += [f"{name}: removed" for name in old if name not in new]
    for name in old.keys() & new.keys():
        changes = _changes(old[name], new[name])
        if changes:
            lines.append(f"{name}: {', '.join(changes)}")
    return sorted(lines)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = [
        f"{label} {old.get(key)} -> {new.get(key)}" if isinstance(new.get(key), str) else f"{label} changed"
        for key, label in _SHOWN.items()
        if old.get(key) != new.get(key)
    ]
    if old.get("meaning") != new.get("meaning"):
        found.append("what counts as good changed, so it is counted anew")
    found += [f"{key} changed" for key in _REST if key in old and old.get(key) != new.get(key)]
    return found


def _promise(one: Mapping[str, Any]) -> str:
    return f"never more than {one['limit']}" if "limit" in one else f"{one.get('target')} over {one.get('window')}"


def _by_name(text: str) -> dict[str, Mapping[str, Any]]:
    try:
        told = json.loads(text)
        return {str(one["name"]): one for one in (*told["slos"], *(told.get("limits") or ()))}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
