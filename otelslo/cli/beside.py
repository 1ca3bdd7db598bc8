"""What is shown beside counts: how much is known, what stands behind a judge's verdicts, what days were worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otelslo.cli.corrected import Rates
from otelslo.cli.days import Days
from otelslo.coverage import Coverage


@dataclass(frozen=True, slots=True)
class Beside:
    """Each by objective and group, of those that have it."""

    known: Mapping[tuple[str, str | None], Coverage] = field(default_factory=dict)
    rates: Rates = field(default_factory=dict)
    days: Days = field(default_factory=dict)
