"""The two text formats that Prometheus reads: OpenMetrics 1.0, and its own 0.0.4 for whoever asks for nothing newer.

Names and values come from requests as well: whatever is written here parses, and no label takes the place of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

_LONGEST_ACCEPT = 1000  # a client's words: enough for what Prometheus sends, and no work for what an attacker does
_NOT_IN_NAMES = re.compile("[^a-zA-Z0-9_]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_OF_GROUP = "slo_group_"


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header prefers OpenMetrics to plain text; without a header it does not."""
    best = {"open": 0.0, "text": 0.0}
    for part in accept[:_LONGEST_ACCEPT].lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        if media == "application/openmetrics-text" and given.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
            best["open"] = max(best["open"], _quality(given.get("q", "1")))
        elif media in ("text/plain", "text/*") and given.get("version", "0.0.4") == "0.0.4":
            best["text"] = max(best["text"], _quality(given.get("q", "1")))
    return best["open"] > 0 and best["open"] >= best["text"]


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.[0-9]{0,3})?", text) else 0.0


def label_text(ours: Mapping[str, str], group: Mapping[str, str] | None = None) -> str:
    """'slo_name="a",http_route="/x"': attributes as labels, those of a group after ours and never in their place."""
    labels = {_label_name(name): value for name, value in ours.items()}
    for name, value in (group or {}).items():
        label = _label_name(name)
        if label in labels:
            label = _OF_GROUP + label
        labels[label] = f"{labels[label]};{value}" if label in labels else value
    return ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels.items())


def _label_name(name: str) -> str:
    label = _NOT_IN_NAMES.sub("_", name)
    return _OF_GROUP + label.lstrip("_") if label.startswith("__") or not label or label[0].isdigit() else label


def seconds(duration_ns: int) -> str:
    """Nanoseconds as seconds, exactly: "0.25", "1.0"."""
    whole, rest = divmod(duration_ns, 1_000_000_000)
    return f"{whole}.{f'{rest:09d}'.rstrip('0') or '0'}"


class Page:
    """One page of families, written line by line.

    Args:
        openmetrics: the format; the other one has no times of creation, no units and no exemplars.
    """

    def __init__(self, openmetrics: bool) -> None:
        self.openmetrics = openmetrics
        self._lines: list[str] = []
        self._name = ""

    def family(self, name: str, kind: str, help_text: str, unit: str = "") -> None:
        """Begin a family; a counter is named without "_total", whatever has a unit ends with it."""
        shown = f"{name}_total" if kind == "counter" and not self.openmetrics else name
        self._name = name
        self._lines += (f"# HELP {shown} {help_text}", f"# TYPE {shown} {kind}")
        if unit and self.openmetrics:
            self._lines.append(f"# UNIT {shown} {unit}")

    def gauge(self, labels: str, value: float | int) -> None:
        self._lines.append(f"{self._name}{_braced(labels)} {value!r}")

    def counter(self, labels: str, value: int, created_ns: int, exemplar: tuple[str, int, int] | None = None) -> None:
        """One counter; `created_ns` and the exemplar's (trace id, count, time) in Unix ns."""
        line = f"{self._name}_total{_braced(labels)} {value}"
        if self.openmetrics:
            if exemplar is not None:
                trace_id, count, wall_ns = exemplar
                line += f' # {{trace_id="{trace_id}"}} {count} {seconds(wall_ns)}'
            self._lines += (line, f"{self._name}_created{_braced(labels)} {seconds(created_ns)}")
        else:
            self._lines.append(line)

    def histogram(
        self, labels: str, buckets: Iterable[tuple[str, int]], count: int, total: str, created_ns: int
    ) -> None:
        """One histogram: cumulative counts by `le`, without the last one, "+Inf"; `total` in the family's unit."""
        name = self._name
        self._lines += (f'{name}_bucket{{{labels},le="{bound}"}} {number}' for bound, number in buckets)
        self._lines.append(f'{name}_bucket{{{labels},le="+Inf"}} {count}')
        self._lines += (f"{name}_count{_braced(labels)} {count}", f"{name}_sum{_braced(labels)} {total}")
        if self.openmetrics:
            self._lines.append(f"{name}_created{_braced(labels)} {seconds(created_ns)}")

    def encoded(self) -> bytes:
        """The page so far, with its end mark."""
        end = ["# EOF\n"] if self.openmetrics else [""]
        return "\n".join(self._lines + end).encode(errors="replace")


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""
