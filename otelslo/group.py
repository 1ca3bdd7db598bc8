"""Which group of an objective an event belongs to: by route, method, version, host, or an attribute that the app sets.

A group is a row of a file of fixed size, so what a client can choose must not make them without bounds: unknown methods
are one value, hosts need a declared list, and whatever is undeclared or too long goes to the overflow group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otelslo.definition import OVERFLOW, UNKNOWN
from otelslo.errors import Place, shown
from otelslo.event import Event
from otelslo.match import texts
from otelslo.sizes import Classes, parse_classes, size_of

FACTS = ("route", "method", "host")
METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"])
OTHER_METHOD = "_OTHER"
_LONGEST_VALUE = 200
_MOST_KEYS = 4
_ESCAPED = str.maketrans({c: f"%{ord(c):02X}" for c in "%,=\x7f" + "".join(map(chr, range(32)))})


@dataclass(frozen=True, slots=True)
class Grouping:
    """The keys of `group_by`, the values that may be seen of each where they are declared, and classes of sizes."""

    keys: tuple[str, ...] = ()
    declared: Mapping[str, frozenset[str]] | None = None
    classes: Mapping[str, Classes] = field(default_factory=dict)

    @property
    def by_attributes(self) -> bool:
        """Whether the app's attributes are needed, which can differ from one request to the next."""
        return any(key not in FACTS and key not in self.classes for key in self.keys)

    def text(self, event: Event) -> str | None:
        """ "route=/x,method=GET"; UNKNOWN if no key has a value, OVERFLOW for an undeclared one, None if ungrouped."""
        if not self.keys:
            return None
        values = [self._value(key, event) for key in self.keys]
        if OVERFLOW in values:
            return OVERFLOW
        if all(value is None for value in values):
            return UNKNOWN
        return ",".join(f"{k}={UNKNOWN if v is None else v}" for k, v in zip(self.keys, values, strict=True))

    def _value(self, key: str, event: Event) -> str | None:
        classes = self.classes.get(key)
        value = _raw(key, event) if classes is None else classes.name(size_of(key, event))
        if value is None:
            return None
        declared = self.declared.get(key) if self.declared else None
        if len(value) > _LONGEST_VALUE or (declared is not None and value not in declared):
            return OVERFLOW
        return value.translate(_ESCAPED)


def _raw(key: str, event: Event) -> str | None:
    if key == "route":
        return event.route
    if key == "method":
        method = event.method.upper()
        return None if not method else method if method in METHODS else OTHER_METHOD
    if key == "host":
        return event.host.lower() or None
    value = event.attributes.get(key)
    return None if value is None else str(value)


def parse_grouping(
    group_by: object,
    group_values: object,
    place: Place,
    batch_classes: object = None,
    payload_classes: object = None,
) -> Grouping:
    """`group_by`, `group_values` and the classes of sizes of a definition. Raises DefinitionError."""
    spot = place.at("group_by")
    keys = texts(group_by, spot) if group_by is not None and group_by != [] and group_by != () else ()
    if len(set(keys)) != len(keys):
        raise spot.error(f"{shown(list(keys))} names a key twice", "Name each once")
    if len(keys) > _MOST_KEYS:
        raise spot.error(f"{len(keys)} keys make too many groups", f"Group by {_MOST_KEYS} keys at most")
    for key in keys:
        if not key.replace(".", "_").replace("-", "_").isidentifier():
            raise spot.error(f"{shown(key)} is no key", "Use route, method, version, host or an attribute's name")
    declared = _declared(group_values, keys, place.at("group_values"))
    if "host" in keys and "host" not in declared:
        remedy = "Add group_values: {host: [shop.example.com, ...]}"
        raise spot.error("the host is chosen by the client, so its values must be declared", remedy)
    return Grouping(keys, declared, parse_classes(keys, batch_classes, payload_classes, place))


def _declared(value: object, keys: tuple[str, ...], place: Place) -> dict[str, frozenset[str]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no mapping", "Write {version: [v1, v2]}")
    place.only(value, keys)
    lists = {key: texts(values, place.at(key)) for key, values in value.items()}
    fold = {"host": str.lower, "method": str.upper}
    return {key: frozenset(map(fold.get(key, str), values)) for key, values in lists.items()}
