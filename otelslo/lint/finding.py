"""What the linter says of one place of one objective or limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otelslo.errors import Key, Place
from otelslo.limit import Limit
from otelslo.slo import SLO

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Finding:
    """`slo` is the objective's name, or the limit's; `path` the way inside of its definition, () for the whole of it;
    `rule` names what was broken.

    An error can never do what it is written for; a warning hardly can, or contradicts what stands beside it; a note
    says what follows from the definition.
    """

    slo: str
    path: tuple[Key, ...]
    severity: str
    rule: str
    problem: str
    remedy: str
    kind: str = "SLO"

    @property
    def place(self) -> str:
        """ "SLO 'checkout'.alerts.tiers.page-fast", for whoever knows no lines."""
        return str(Place(f"{self.kind} {self.slo!r}", self.path))

    def to_json(self, place: str | None = None) -> dict[str, object]:
        """Plain data; `place` is where the definition was read, such as "slo.yaml:3:5"."""
        return {
            "severity": self.severity,
            "rule": self.rule,
            "place": place or self.place,
            "path": list(self.path),
            "problem": self.problem,
            "remedy": self.remedy,
        }


Found = Callable[[str, str, str, str], Finding]


def at(slo: SLO | Limit, *path: Key) -> Found:
    """Makes findings at one place of an SLO or a limit, of (severity, rule, problem, remedy)."""
    kind = "limit" if isinstance(slo, Limit) else "SLO"
    return lambda severity, rule, problem, remedy: Finding(slo.name, path, severity, rule, problem, remedy, kind)
