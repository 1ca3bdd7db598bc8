"""What one commit writes, table by table, inside the store's transaction; all of it absolute, all of it upserts."""

from __future__ import annotations

import json
import operator
import sqlite3
import struct
from collections import Counter
from dataclasses import replace
from typing import Any

from otelslo.errors import StateError
from otelslo.exporters.sqlite_journal import clean
from otelslo.exporters.sqlite_reader import checksum_of, digest_of, pack_buckets
from otelslo.snapshot import Loss, SlotClose, Snapshot

CLOCK_STEP_NS = 1_000_000


class Outdated(StateError):
    """The snapshot is older than, or contradicts, what is committed for its ring: history never goes back."""


Point = tuple[tuple[str, ...], tuple[int, int, int]]


def points_of(statuses_json: str) -> list[Point]:
    """What the budget history keeps of each status: its series (slo, group, target, window) and its counts."""
    try:
        return [
            (
                (status["slo"], json.dumps(status["group"]), json.dumps(status["target"]), status["window"]),
                (int(status["good"]), int(status["bad"]), int(status["excluded"])),
            )
            for status in json.loads(statuses_json)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"statuses_json: not a list of statuses ({error!r}). Give slo, group, target, window, good, bad, excluded"
        ) from error


def meta(connection: sqlite3.Connection, key: str) -> Any:
    found = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return found[0] if found else None


def ring_number(connection: sqlite3.Connection, ring_id: str) -> int:
    connection.execute("INSERT OR IGNORE INTO rings (ring_id) VALUES (?)", (ring_id,))
    return int(connection.execute("SELECT ring FROM rings WHERE ring_id = ?", (ring_id,)).fetchone()[0])


def check_forward(connection: sqlite3.Connection, ring: int, snapshot: Snapshot) -> int | None:
    """The newest slot start committed so far (ring ns). Raises Outdated if the snapshot would lower anything."""
    found = connection.execute("SELECT seq, closed_ns, cells FROM latest WHERE ring = ?", (ring,)).fetchone()
    if found is None:
        return None
    seq, closed_ns, cells = found
    if snapshot.seq < seq:
        raise Outdated(f"snapshot {snapshot.seq} of ring {snapshot.ring_id}: {seq} is committed. Read the ring again")
    if len(cells) > len(snapshot.cells) or any(map(operator.gt, _words(cells), _words(snapshot.cells))):
        raise Outdated(f"snapshot {snapshot.seq} of ring {snapshot.ring_id} counts less than is committed as {seq}")
    return int(closed_ns) if closed_ns is not None else None


def _words(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(raw) // 8}q", raw)


def put_latest(
    connection: sqlite3.Connection, ring: int, snapshot: Snapshot, closed_ns: int | None, names: bytes
) -> None:
    for close in snapshot.closes:
        closed_ns = close.slot_start_ns if closed_ns is None else max(closed_ns, close.slot_start_ns)
    words = (snapshot.seq, snapshot.at_ns, snapshot.wall_offset_ns, closed_ns)
    packed = pack_buckets(snapshot.buckets)
    connection.execute(
        "INSERT OR REPLACE INTO latest SELECT ?, coalesce(max(committed), 0) + 1, ?, ?, ?, ?, ?, ?, ? FROM latest",
        (ring, *words, snapshot.cells, packed, checksum_of(words, names, snapshot.cells, packed)),
    )


def put_slots(connection: sqlite3.Connection, ring: int, closes: tuple[SlotClose, ...]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?, ?, ?)",
        ((ring, close.row, close.slot_start_ns, close.good, close.bad, close.excluded) for close in closes),
    )


def put_losses(connection: sqlite3.Connection, ring: int, snapshot: Snapshot) -> None:
    # A trace id is entered a moment after its loss: it is no part of what a loss is recognised by.
    totals: Counter[Loss] = Counter()
    traces: dict[Loss, str] = {}
    for loss in snapshot.losses:
        same = replace(loss, count=0, trace_id="")
        totals[same] += loss.count
        traces[same] = traces.get(same) or clean(loss.trace_id)
    entries = []
    for loss, count in totals.items():
        texts = [clean(text) for text in (loss.reason, loss.route, loss.exception, loss.version, loss.worker)]
        reason, route, exception, version, worker = texts
        trace_id = traces[loss]
        digest = digest_of(loss.row, loss.status, loss.latency_ns, *texts)[:8]
        when = (loss.at_ns, digest, loss.at_ns + snapshot.wall_offset_ns)
        what = (loss.row, reason, count, route, loss.status, exception, version, loss.latency_ns, trace_id, worker)
        entries.append((ring, *when, *what))
    connection.executemany(
        "INSERT INTO losses (ring, at_ns, digest, wall_ns, row, reason, count, route, status, exception, version,"
        " latency_ns, trace_id, worker) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (ring, at_ns, digest) DO UPDATE SET count = max(losses.count, excluded.count),"
        " trace_id = CASE WHEN losses.trace_id = '' THEN excluded.trace_id ELSE losses.trace_id END",
        entries,
    )


def put_clock(connection: sqlite3.Connection, ring: int, snapshot: Snapshot) -> None:
    last = connection.execute(
        "SELECT wall_offset_ns FROM clock WHERE ring = ? ORDER BY at_ns DESC LIMIT 1", (ring,)
    ).fetchone()
    if last is None or abs(last[0] - snapshot.wall_offset_ns) > CLOCK_STEP_NS:
        entry = (ring, snapshot.at_ns, snapshot.wall_offset_ns)
        connection.execute("INSERT OR REPLACE INTO clock VALUES (?, ?, ?)", entry)
