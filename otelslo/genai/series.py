"""The metrics as series: which rows of the ring hold one, and what exporters make of rows.

A series is a metric with its attributes; both stand in the key of its rows, so that whoever reads them needs no
configuration. Past the most combinations of attributes there is one series of each metric for all others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from otelslo.genai.declared import MODEL, OPERATION, PROVIDER
from otelslo.genai.instruments import BY_NAME, CLIENT, SERVER, SUM, Instrument
from otelslo.rowkey import GEN_AI, RowKey

MEANING = "1"  # of the bounds: others would be another
ERROR, TOKEN = "error.type", "gen_ai.token.type"
OVERFLOWED = "otel.metric.overflow"  # of OpenTelemetry's SDKs, a yes/no value


class Combination(NamedTuple):
    """What calls have in common that count together; `operation` None: those of the overflow."""

    operation: str | None = None
    provider: str | None = None
    model: str | None = None
    error: str | None = None

    def attributes(self, token: str | None = None) -> dict[str, str]:
        """Those of its series; `token` is gen_ai.token.type, of the one metric that has it."""
        found = {OPERATION: self.operation, PROVIDER: self.provider, MODEL: self.model, ERROR: self.error, TOKEN: token}
        if self.operation is None:
            found |= {OVERFLOWED: "true"}
        return {name: value for name, value in found.items() if value is not None}


def group_of(instrument: Instrument, attributes: Mapping[str, str]) -> str:
    """The group in the key of the rows of a series."""
    return json.dumps([instrument.name, dict(sorted(attributes.items()))], separators=(",", ":"))


def combination_in(key: RowKey) -> tuple[str, Combination] | None:
    """The side and the combination that a row counts for; None if it is none of these rows, or the overflow's."""
    named = _named(key)
    if named is None or OVERFLOWED in named[1]:
        return None
    side = SERVER if named[0].name.startswith(f"gen_ai.{SERVER}.") else CLIENT
    return side, Combination(*(named[1].get(name) for name in (OPERATION, PROVIDER, MODEL, ERROR)))


@dataclass(frozen=True, slots=True)
class Series:
    """One histogram: `buckets` has one count more than there are bounds, `total` the sum of its values in ns or tokens.

    `overflow` says that it is of all combinations that have no series of their own.
    """

    instrument: Instrument
    attributes: Mapping[str, str]
    born_ns: int
    buckets: tuple[int, ...]
    total: int

    @property
    def overflow(self) -> bool:
        return OVERFLOWED in self.attributes

    @property
    def total_in_unit(self) -> float:
        """The sum in the metric's unit."""
        return self.total / self.instrument.scale


def series_of(rows: Iterable[tuple[RowKey, int, Sequence[int]]]) -> list[Series]:
    """The series in rows of a ring, given with birth and cells. A series that has not all its rows is left out."""
    found: dict[str, tuple[int, dict[str, int]]] = {}
    for key, born_ns, cells in rows:
        if key.slo == GEN_AI and key.meaning == MEANING and key.group is not None:
            first_ns, counted = found.setdefault(key.group, (born_ns, {}))
            counted.update((name, count) for name, count in zip(key.reasons, cells, strict=True) if name)
            found[key.group] = min(first_ns, born_ns), counted
    made = (_series(RowKey(GEN_AI, MEANING, group, ()), *parts) for group, parts in found.items())
    return sorted(filter(None, made), key=lambda one: one.instrument.name)


def _series(key: RowKey, born_ns: int, counted: Mapping[str, int]) -> Series | None:
    named = _named(key)
    if named is None or not counted.keys() >= {*named[0].names}:
        return None
    instrument, attributes = named
    buckets = tuple(counted[name] for name in instrument.names if name != SUM)
    return Series(instrument, attributes, born_ns, buckets, counted[SUM])


def _named(key: RowKey) -> tuple[Instrument, dict[str, str]] | None:
    """The metric and the attributes in a row's key; None where another version, or damage, wrote it."""
    if key.slo != GEN_AI or key.meaning != MEANING or key.group is None:
        return None
    try:
        name, attributes = json.loads(key.group)
        return BY_NAME[name], {str(one): str(value) for one, value in attributes.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
