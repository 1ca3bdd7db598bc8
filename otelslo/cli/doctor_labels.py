"""What `otelslo doctor` says of predictions and labels: what waits in the inbox, and what became of the rest."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from otelslo.cli.findings import Finding, note, ok, problem, size
from otelslo.cli.tables import ago
from otelslo.exporters.sqlite_labels import LabelsReader
from otelslo.inbox import MOST_BYTES, ROTATE_BYTES, spools
from otelslo.kept import COUNTERS

_AREA = "labels"
_LATE_NS = 60 * 10**9
_FINE = ("predictions", "labels", "duplicates", "corrections", "not_sampled")


def waiting(state_dir: Path, offsets: dict[str, int], now_wall_ns: int) -> Iterator[Finding]:
    """Bytes that are not counted yet; nothing where nobody logs predictions. `offsets`: what is counted, by file."""
    left, oldest_ns, total, complete = 0, now_wall_ns, 0, 0
    for path in spools(state_dir):
        with contextlib.suppress(OSError):
            found = path.stat()
            behind = found.st_size - offsets.get(path.name, 0)
            total += found.st_size
            complete += found.st_size if found.st_size >= ROTATE_BYTES else 0
            if behind > 0:
                left += behind
                oldest_ns = min(oldest_ns, found.st_mtime_ns)
    if not total:
        return
    facts = {"bytes": left, "most_bytes": MOST_BYTES}
    text = f"{size(left)} of the inbox are not counted yet"
    if complete >= MOST_BYTES:
        yield problem(_AREA, f"{text}: it is full, and more is dropped", "Start the app or otelslo agent", **facts)
    elif now_wall_ns - oldest_ns > _LATE_NS:
        remedy = "Start the app or otelslo agent, which count them; or run: otelslo label"
        yield note(_AREA, f"{text}, the last of it written {ago(now_wall_ns - oldest_ns)}", remedy, **facts)
    else:
        yield ok(_AREA, text if left else "the inbox is counted", **facts)


def counted(connection: sqlite3.Connection) -> Iterator[Finding]:
    """What predictions and labels were, by model."""
    reader = LabelsReader(lambda sql, parameters: connection.execute(sql, parameters).fetchall())
    kept, wait = reader.how_many()
    counters = reader.counters()
    if not counters:
        return
    yield ok(_AREA, f"{kept:,} predictions are kept, {wait:,} labels wait for theirs", kept=kept, waiting=wait)
    for model, counts in sorted(counters.items()):
        parts = [f"{count:,} {COUNTERS.get(what, what)}" for what, count in counts.items() if count]
        facts: dict[str, Any] = {"model": model, "counts": counts}
        text = f"{model or 'inbox'}: {'; '.join(parts)}"
        odd = any(counts.get(what) for what in COUNTERS if what not in _FINE)
        yield note(_AREA, text, "", **facts) if odd else ok(_AREA, text, **facts)
