"""What `otelslo doctor` finds: a line that says how something stands, and what would be right where it is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `area` is its heading; a note needs nothing done, a problem has a remedy; `facts` are for --json."""

    area: str
    state: str
    text: str
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "area": self.area,
            "state": self.state,
            "text": self.text,
            "remedy": self.remedy or None,
            "facts": self.facts,
        }


def ok(area: str, text: str, **facts: Any) -> Finding:
    return Finding(area, OK, text, "", facts)


def note(area: str, text: str, remedy: str = "", **facts: Any) -> Finding:
    return Finding(area, NOTE, text, remedy, facts)


def problem(area: str, text: str, remedy: str, **facts: Any) -> Finding:
    return Finding(area, PROBLEM, text, remedy, facts)


def size(count: int) -> str:
    """Bytes for people: "476 KiB"."""
    number, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.0f} {unit}" if number >= 10 or unit == "bytes" else f"{number:.1f} {unit}"
