"""What a group of an objective is called outside: OpenTelemetry attributes, the same for OTLP, meters and `/metrics`.

Two exporters that named a group differently would be two sets of series for one budget.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType

from otelslo.definition import OVERFLOW, UNKNOWN, Definition
from otelslo.rowkey import RowKey

NAME, OUTCOME, REASON, WINDOW, GROUP = "slo.name", "slo.outcome", "slo.reason", "slo.window", "slo.group"
KIND, ROUTE = "slo.kind", "http.route"
LABEL_STATE = "slo.label.state"
ALERT, SEVERITY = "slo.alert.name", "slo.alert.severity"
CHANNEL, DELIVERY = "otelslo.channel", "otelslo.outcome"

_SEMCONV = MappingProxyType(
    {
        "route": ROUTE,
        "method": "http.request.method",
        "version": "service.version",
        "host": "server.address",
    }
)
_KEY_OF = MappingProxyType({name: key for key, name in _SEMCONV.items()})
_OURS = "slo."
_ESCAPE = re.compile("%([0-9A-F]{2})")


def attributes_of(row_key: RowKey, definition: Definition) -> dict[str, str]:
    """The attributes that tell a row's group from the objective's other groups; without the objective's name.

    route, method, version and host get their names of the semantic conventions, other keys stay as they are. A group
    that has no values (overflow, unknown), or was written by other keys than `definition.group_by`, is `slo.group`.
    """
    group = row_key.group
    if group is None:
        return {}
    if group in (OVERFLOW, UNKNOWN):
        return {GROUP: group}
    pairs = [part.partition("=") for part in group.split(",")]
    if [key for key, _, _ in pairs] != list(definition.group_by):
        return {GROUP: group}
    names = attribute_names(definition.group_by)
    return {name: _unescaped(value) for name, (_, _, value) in zip(names, pairs, strict=True)}


def traffic_attributes_of(histogram_key: str) -> dict[str, str]:
    """The attributes of a latency histogram by its key, "kind route": a call site and a route may have one name."""
    kind, _, route = histogram_key.partition(" ")
    return {KIND: kind, ROUTE: route}


def attribute_names(group_by: Sequence[str]) -> list[str]:
    """The attribute of each key, all different: a key that would take another's name, or ours, is `slo.group.<key>`."""
    return [f"{GROUP}.{key}" if _clashes(key, group_by) else _SEMCONV.get(key, key) for key in group_by]


def _clashes(key: str, group_by: Sequence[str]) -> bool:
    return key.startswith(_OURS) or _KEY_OF.get(key) in group_by


def _unescaped(value: str) -> str:
    """As the event said it: `otelslo.group` writes what separates, and control characters, as %XX."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), value)
