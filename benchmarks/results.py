"""What a run found: ratios and figures by name, each with its spread, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .harness import Samples, Spread, minus, quotients
from .targets import TARGETS

Section = Literal["ratios", "figures"]


@dataclass(frozen=True)
class Finding:
    """One measured value; `gross` is the same median with nothing subtracted."""

    section: Section
    spread: Spread | None
    gross: float | None = None
    note: str = ""

    def details(self, name: str) -> dict[str, Any]:
        """The JSON form: numbers or null, target and whether it is met."""
        target = TARGETS.get(name)
        median = self.spread.median if self.spread else None
        return {
            "median": significant(median),
            "low": significant(self.spread.low if self.spread else None),
            "high": significant(self.spread.high if self.spread else None),
            "rounds": self.spread.rounds if self.spread else 0,
            "gross": significant(self.gross),
            "target": significant(target),
            "met": None if target is None or median is None else median <= target,
            "note": self.note,
        }


@dataclass(frozen=True)
class Table:
    """Rows of one shape; the unit of a column is its name's last part."""

    rows: Sequence[Mapping[str, Any]]
    note: str


@dataclass
class Results:
    """Collects findings in the order in which they were measured."""

    findings: dict[str, Finding] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str, samples: Samples, ours: tuple[str, str], peer: tuple[str, str], note: str = "") -> None:
        """Store ours / peer; each side is (contender, what is subtracted from it)."""
        net = quotients(minus(samples[ours[0]], samples[ours[1]]), minus(samples[peer[0]], samples[peer[1]]))
        gross = quotients(samples[ours[0]], samples[peer[0]])
        self.findings[name] = Finding("ratios", Spread.of(net), Spread.of(gross).median, note)

    def timing(self, name: str, samples: Samples, contender: str, subtracted: str, note: str = "") -> None:
        """Store a contender's own ns per event, less what is subtracted."""
        net = Spread.of(minus(samples[contender], samples[subtracted]))
        self.findings[name] = Finding("figures", net, Spread.of(samples[contender]).median, note)

    def figure(self, name: str, values: Sequence[float], note: str = "") -> None:
        """Store a value that was measured once or in several runs, in the unit that its name says."""
        self.findings[name] = Finding("figures", Spread.of(values), None, note)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], note: str) -> None:
        """Store what is no single figure."""
        self.tables[name] = Table(rows, note)

    def skip(self, name: str, reason: str) -> None:
        """Say why a name has no value; that is no failure."""
        self._absent(name)
        self.skipped[name] = reason

    def fail(self, name: str, reason: str) -> None:
        """Say what went wrong; the run ends with exit code 1."""
        self._absent(name)
        self.failed[name] = reason

    def _absent(self, name: str) -> None:
        section: Section = "ratios" if "_vs_" in name else "figures"
        self.findings[name] = Finding(section, None)


def significant(value: float | None) -> float | int | None:
    """Four significant digits, so that noise does not pose as precision."""
    if value is None or isinstance(value, int):
        return value
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() else rounded
