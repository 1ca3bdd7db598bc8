"""An objective as plain data: what its row, its history and its readers know it by, with no user code in it.

A reader in another process (`otelslo status`, a dashboard) has this and the counts, and needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from otelslo.about import About
from otelslo.alerts import AlertPlan
from otelslo.errors import DefinitionError, shown
from otelslo.event import Outcome
from otelslo.period import Calendar, Period, Rolling
from otelslo.policy import DEFAULT_POLICY, Policy
from otelslo.quality.judged_rate import Audit
from otelslo.slices import Slices
from otelslo.window import format_target

# Standard reasons that found no cell count with the one that tells the same class of failure, if that has one.
_KIN = {"oom_cascade": "oom", "abandoned": "slow", "5xx": "exception", "no_response": "exception", "cut": "exception"}

CELLS = 16
FIRST_EXCLUDED = 10
OTHER = "other"
OVERFLOW = "(overflow)"
UNKNOWN = "(unknown)"

_BAD_ROOM = FIRST_EXCLUDED - 2
_EXCLUDED_ROOM = CELLS - FIRST_EXCLUDED - 1
MOST_DECLARED = _BAD_ROOM - 1


def reason_cells(
    bad: Sequence[str], bad_named: Sequence[str], excluded: Sequence[str], excluded_named: Sequence[str]
) -> tuple[str, ...]:
    """The 16 cells of a row: "good", 9 bad, 6 excluded; the last bad and the last excluded one are "other".

    The first of `bad` (crashed) and whatever someone named comes before the other standard reasons when room is short;
    what finds none is counted with its kin, or in "other". Unused cells are "".
    """
    bad_cells = _allot(bad, [*bad[:1], *bad_named], _BAD_ROOM)
    excluded_cells = _allot(excluded, excluded_named, _EXCLUDED_ROOM)
    return ("good", *bad_cells, OTHER, *excluded_cells, OTHER)


def _allot(standard: Sequence[str], wanted: Iterable[str], room: int) -> list[str]:
    kept = set(list(dict.fromkeys([*wanted, *standard]))[:room])
    cells = [reason for reason in dict.fromkeys([*standard, *wanted]) if reason in kept and reason != OTHER]
    return cells + [""] * (room - len(cells))


def cell_index(cells: Sequence[str]) -> dict[Outcome, int]:
    """The cell of every outcome that has one: its own, or that of its reason's kin."""
    index = {Outcome("good", "good"): 0}
    for cell, reason in enumerate(cells[1:], start=1):
        if reason:
            index[Outcome("bad" if cell < FIRST_EXCLUDED else "excluded", reason)] = cell
    for reason, kin in _KIN.items():
        if Outcome("bad", kin) in index:
            index.setdefault(Outcome("bad", reason), index[Outcome("bad", kin)])
    return index


def cell_of(index: Mapping[Outcome, int], outcome: Outcome) -> int:
    """The outcome's cell, or the "other" of its side; everything good is in cell 0."""
    own = index.get(outcome)
    if own is not None:
        return own
    return {"good": 0, "bad": FIRST_EXCLUDED - 1, "excluded": CELLS - 1}[outcome.kind]


def meaning_of(parts: Mapping[str, object]) -> str:
    """16 hexadecimal digits that change whenever a part does."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Definition:
    """What deciders and readers need of an objective; durations in nanoseconds.

    `window_ns` is the window's length, or of a calendar window the longest that it can have; `loss_classes` the class
    of each bad reason (see `otelslo.loss_class`). `audit` is of the judge whose verdicts count, and `day_bar` what the
    value of a day is measured by.
    """

    name: str
    indicator: str
    target_ratio: Fraction
    window_ns: int
    meaning: str
    reason_cells: tuple[str, ...]
    threshold_ns: int | None = None
    match: Mapping[str, Any] | None = None
    group_by: tuple[str, ...] = ()
    max_groups: int = 50
    description: str = ""
    period: Period | None = None
    slices: Slices | None = None
    sla_ratio: Fraction | None = None
    about: About = field(default_factory=About)
    alerts: AlertPlan = field(default_factory=AlertPlan)
    notify: tuple[str, ...] | None = None
    policy: Policy = DEFAULT_POLICY
    loss_classes: Mapping[str, str] = field(default_factory=dict)
    audit: Audit | None = None
    day_bar: Fraction | None = None

    @property
    def over(self) -> Period:
        """The window that it is measured over."""
        return self.period or Rolling(self.window_ns)

    @property
    def target(self) -> str:
        """The target as text, exactly: "99.9%"."""
        return format_target(self.target_ratio)

    @property
    def window(self) -> str:
        """The window as text, exactly: "30d", "month (Europe/Paris)"."""
        return self.over.text

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back, here or in another process."""
        return {
            "name": self.name,
            "indicator": self.indicator,
            "target": self.target,
            "target_num": self.target_ratio.numerator,
            "target_den": self.target_ratio.denominator,
            "window": self.window,
            "window_ns": self.window_ns,
            "threshold_ns": self.threshold_ns,
            "match": dict(self.match) if self.match is not None else None,
            "group_by": list(self.group_by),
            "meaning": self.meaning,
            "reason_cells": list(self.reason_cells),
            "max_groups": self.max_groups,
            "description": self.description,
            "calendar": {"unit": self.period.unit, "timezone": self.period.timezone}
            if isinstance(self.period, Calendar)
            else None,
            "slices": None if self.slices is None else self.slices.to_json(),
            "sla": None if self.sla_ratio is None else [self.sla_ratio.numerator, self.sla_ratio.denominator],
            "about": self.about.to_json(),
            "alerts": self.alerts.to_json(),
            "notify": None if self.notify is None else list(self.notify),
            "policy": self.policy.to_json(),
            "loss_classes": dict(self.loss_classes),
            "audit": None if self.audit is None else self.audit.to_json(),
            "day_bar": None if self.day_bar is None else [self.day_bar.numerator, self.day_bar.denominator],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Definition:
        """The definition that `to_json` wrote; unknown keys are left alone. DefinitionError if it is damaged."""
        try:
            return cls(
                name=str(data["name"]),
                indicator=str(data["indicator"]),
                target_ratio=Fraction(int(data["target_num"]), int(data["target_den"])),
                window_ns=int(data["window_ns"]),
                meaning=str(data["meaning"]),
                reason_cells=_sixteen(data["reason_cells"]),
                threshold_ns=data.get("threshold_ns"),
                match=data.get("match"),
                group_by=tuple(data.get("group_by") or ()),
                max_groups=int(data.get("max_groups", 50)),
                description=str(data.get("description", "")),
                **_surroundings(data),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as damage:
            problem = f"it cannot be read ({type(damage).__name__}: {shown(str(damage))})"
            raise DefinitionError("saved definition", problem, "Let a running worker write it anew") from damage


def _surroundings(data: Mapping[str, Any]) -> dict[str, Any]:
    """What earlier versions did not write has its default."""
    calendar, slices, sla = data.get("calendar"), data.get("slices"), data.get("sla")
    notify, alerts, audit, bar = data.get("notify"), data.get("alerts"), data.get("audit"), data.get("day_bar")
    return {
        "period": Rolling(int(data["window_ns"]))
        if calendar is None
        else Calendar(str(calendar["unit"]), str(calendar["timezone"])),
        "slices": None if slices is None else Slices.from_json(slices),
        "sla_ratio": None if sla is None else Fraction(int(sla[0]), int(sla[1])),
        "about": About.from_json(data.get("about") or {}),
        "alerts": AlertPlan() if alerts is None else AlertPlan.from_json(alerts),
        "notify": None if notify is None else tuple(str(name) for name in notify),
        "policy": Policy.from_json(data.get("policy")),
        "loss_classes": {str(reason): str(one) for reason, one in (data.get("loss_classes") or {}).items()},
        "audit": None if audit is None else Audit(**audit),
        "day_bar": None if bar is None else Fraction(int(bar[0]), int(bar[1])),
    }


def _sixteen(cells: Sequence[str]) -> tuple[str, ...]:
    if len(cells) != CELLS:
        raise ValueError(f"{len(cells)} cells instead of {CELLS}")
    return tuple(str(reason) for reason in cells)
