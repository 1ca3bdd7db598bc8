"""How large an event was, as its app told it: items answered at once and bytes taken in; and the classes to group by.

A class is a span of sizes with its upper bound inside, so that a few of them stand for all sizes there are.
"""

from __future__ import annotations

import operator
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from otelslo.errors import BadValue, Place, shown
from otelslo.event import Event

BATCH, PAYLOAD = "batch_class", "payload_class"
CLASS_KEYS = (BATCH, PAYLOAD)
DEFAULT_BATCHES = (1, 8, 64)
DEFAULT_PAYLOADS = (1 << 10, 1 << 16, 1 << 20)
_MOST_CLASSES = 16
LARGEST_PAYLOAD = 1 << 62
MOST_ITEMS = 1 << 31
_BYTES = re.compile(r"([0-9]{1,18}) ?(B|KiB|MiB|GiB|kB|MB|GB)?")
_UNITS = {"GiB": 1 << 30, "GB": 10**9, "MiB": 1 << 20, "MB": 10**6, "KiB": 1 << 10, "kB": 1000, "B": 1}
_BATCH_REMEDY = "Write the classes' upper bounds, rising: [1, 8, 64]"
_PAYLOAD_REMEDY = "Write the classes' upper bounds, rising: [1KiB, 64KiB, 1MiB]"


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes by their upper bounds, and one above them all."""

    bounds: tuple[int, ...]
    names: tuple[str, ...]

    def name(self, size: int | None) -> str | None:
        """The class of this size; None of what has none."""
        return None if size is None else self.names[bisect_left(self.bounds, size)]

    @property
    def sizes(self) -> tuple[int, ...]:
        """A size of each class."""
        return (*self.bounds, self.bounds[-1] + 1)


def batch_classes(bounds: tuple[int, ...]) -> Classes:
    """ "1", "2-8", "9-64", ">64" """
    lows = (1, *(bound + 1 for bound in bounds))
    spans = [str(high) if low == high else f"{low}-{high}" for low, high in zip(lows, bounds, strict=False)]
    return Classes(bounds, (*spans, f">{bounds[-1]}"))


def payload_classes(bounds: tuple[int, ...]) -> Classes:
    """ "0-1KiB", "1KiB-64KiB", ">64KiB": more than the first, up to the second"""
    texts = [format_bytes(bound) for bound in bounds]
    spans = [f"{low}-{high}" for low, high in zip(("0", *texts), texts, strict=False)]
    return Classes(bounds, (*spans, f">{texts[-1]}"))


def format_bytes(size: int) -> str:
    """In the largest unit that says it in whole numbers: "64KiB", "1500B"."""
    unit = next(unit for unit, factor in _UNITS.items() if size % factor == 0)
    return f"{size // _UNITS[unit]}{unit}"


def parse_classes(keys: Iterable[str], batches: object, payloads: object, place: Place) -> Mapping[str, Classes]:
    """The classes that `group_by` asks for, by its key. Raises DefinitionError."""
    asked = frozenset(keys)
    found = {}
    for key, given, default, parse, make in (
        (BATCH, batches, DEFAULT_BATCHES, _parse_items, batch_classes),
        (PAYLOAD, payloads, DEFAULT_PAYLOADS, parse_bytes, payload_classes),
    ):
        spot = place.at(f"{key}es")
        if given is not None and key not in asked:
            raise spot.error(f"nothing is grouped by {key}", f"Add group_by: {key}", at_key=True)
        if key in asked:
            found[key] = make(default if given is None else _parse_bounds(given, parse, spot))
    return MappingProxyType(found)


def _parse_bounds(given: object, parse: Callable[[object], int], place: Place) -> tuple[int, ...]:
    remedy = _BATCH_REMEDY if parse is _parse_items else _PAYLOAD_REMEDY
    if not isinstance(given, list | tuple) or not given:
        raise place.error(f"{shown(given)} is no list of bounds", remedy)
    if len(given) >= _MOST_CLASSES:
        raise place.error(f"{len(given)} bounds make too many groups", f"Use {_MOST_CLASSES - 1} at most")
    bounds = tuple(place.at(index).parse(parse, one) for index, one in enumerate(given))
    if any(low >= high for low, high in pairwise(bounds)):
        raise place.error(f"{shown(list(given))} does not rise", remedy)
    return bounds


def _parse_items(value: object) -> int:
    if type(value) is not int or not 1 <= value < MOST_ITEMS:
        raise BadValue(f"{shown(value)} is no number of items", _BATCH_REMEDY)
    return value


def parse_bytes(value: object) -> int:
    """Bytes of "64KiB", "1MB" or a whole number above 0. Raises BadValue."""
    form = _BYTES.fullmatch(str(value)) if type(value) in (int, str) else None
    size = 0 if form is None else int(form[1]) * _UNITS[form[2] or "B"]
    if not 1 <= size < LARGEST_PAYLOAD:
        raise BadValue(f"{shown(value)} is no size", "Write a number and B, KiB, MiB, GiB, kB, MB or GB, such as 64KiB")
    return size


def size_of(key: str, event: Event) -> int | None:
    """What the classes of `key` are of: a call that says nothing answers one item, an empty batch is of no class."""
    return event.payload_bytes if key == PAYLOAD else _items(event.batch)


def _items(batch: int | None) -> int | None:
    return 1 if batch is None else batch or None


def of_each_class(event: Event, classes: Mapping[str, Classes]) -> list[Event]:
    """`event` once in each of the classes, or just so where there are none."""
    found = [event]
    for key, one in classes.items():
        if key == BATCH:
            found = [replace(event, batch=size) for event in found for size in one.sizes]
        else:
            found = [replace(event, payload_bytes=size) for event in found for size in one.sizes]
    return found


class Slots:
    """Tells apart the sizes of which some objective makes different groups, and no others."""

    def __init__(self, all_classes: Iterable[Mapping[str, Classes]]) -> None:
        bounds: dict[str, set[int]] = {}
        for classes in all_classes:
            for key, one in classes.items():
                bounds.setdefault(key, set()).update(one.bounds)
        self._bounds = {key: sorted(found) for key, found in bounds.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._bounds

    def of(self, batch: int | None, payload_bytes: int | None) -> tuple[int, ...]:
        """Equal for sizes that are of equal classes to every objective; -1 stands for no size."""
        found = []
        for key, bounds in self._bounds.items():
            size = payload_bytes if key == PAYLOAD else _items(batch)
            found.append(-1 if size is None else bisect_left(bounds, size))
        return tuple(found)


def is_told(value: object, most: int) -> bool:
    """Whether a size is said, or not said, as it should be: a whole number in its range, or None."""
    return value is None or (type(value) is int and 0 <= value <= most)


def told(value: object, what: str, most: int, fault: Callable[[str, str], None]) -> int | None:
    """A size that the app has said, None if it has said none; one that is none is a fault `user_code`, and no size."""
    if value is None:
        return None
    try:
        size = operator.index(value)  # type: ignore[arg-type]
    except Exception:
        size = -1
    if not 0 <= size <= most:
        fault("user_code", f"{what}({shown(value)}) is no size: say a whole number from 0 to {most:,}")
        return None
    return int(size)


def told_sizes(
    batch: object, payload: object, content_length: str | None, fault: Callable[[str, str], None]
) -> dict[str, Any]:
    """The sizes of an event by its fields; what the app says of its payload holds before the header's word."""
    found = {}
    items = told(batch, "batch", MOST_ITEMS, fault)
    size = told(payload, "payload", LARGEST_PAYLOAD, fault)
    if size is None and content_length is not None and content_length.isascii() and content_length.isdecimal():
        size = min(int(content_length[:20]), LARGEST_PAYLOAD)
    if items is not None:
        found["batch"] = items
    if size is not None:
        found["payload_bytes"] = size
    return found
