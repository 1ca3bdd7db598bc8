"""Snapshots whose whole content follows from their number, so that a reader can tell whether it sees exactly one."""

from __future__ import annotations

import json
import struct

from otelslo.exporters.sqlite import Reader
from otelslo.snapshot import BUCKET_WORDS, CELL_WORDS, Loss, Saved, SlotClose, Snapshot

SLOT_NS = 300 * 10**9
RING_START_NS = 1_000_000 * SLOT_NS
WALL_OFFSET_NS = 1_500_000_000 * 10**9
WALL_START_NS = RING_START_NS + WALL_OFFSET_NS
RING_A, RING_B = "a" * 32, "b" * 32


def cells_of(seq: int, rows: int) -> bytes:
    return struct.pack(f"<{rows * CELL_WORDS}q", *(seq * 1000 + word for word in range(rows * CELL_WORDS)))


def buckets_of(seq: int, histograms: int) -> bytes:
    words = [0] * (histograms * BUCKET_WORDS)
    for number in range(histograms):
        words[number * BUCKET_WORDS + 40 + number] = seq
    return struct.pack(f"<{len(words)}q", *words)


def close_of(row: int, seq: int) -> SlotClose:
    return SlotClose(row, RING_START_NS + seq * SLOT_NS, seq * 10 + row, seq, 1)


def loss_of(seq: int, row: int = 0, count: int = 1, route: str = "/checkout/{id}") -> Loss:
    at_ns = RING_START_NS + seq * SLOT_NS + 1
    return Loss(at_ns, row, "5xx", count, route, 503, "TimeoutError", "v1", 12_000_000, "t" * 32, "worker-0")


def snapshot(seq: int, ring_id: str = RING_A, rows: int = 3, **changes: object) -> Snapshot:
    values: dict[str, object] = {
        "ring_id": ring_id,
        "at_ns": RING_START_NS + seq * SLOT_NS + 5,
        "wall_offset_ns": WALL_OFFSET_NS,
        "row_keys": tuple(f'{{"slo": "slo-{row}"}}' for row in range(rows)),
        "births_ns": tuple(RING_START_NS + row for row in range(rows)),
        "cells": cells_of(seq, rows),
        "histogram_keys": ("one", "two"),
        "buckets": buckets_of(seq, 2),
        "closes": tuple(close_of(row, seq) for row in range(rows)),
        "losses": (loss_of(seq),),
        "config": '{"slos": []}',
        "seq": seq,
    }
    return Snapshot(**(values | changes))  # type: ignore[arg-type]


def statuses(seq: int, slo: str = "slo-0", group: str | None = None) -> str:
    status = {"slo": slo, "group": group, "target": 0.999, "window": "30d", "good": seq * 10, "bad": seq, "excluded": 1}
    return json.dumps([status])


def same_totals(saved: Saved | None, wanted: Snapshot) -> bool:
    """Whether what was loaded is exactly this snapshot's identity, names and totals."""
    parts = ("ring_id", "at_ns", "wall_offset_ns", "row_keys", "births_ns", "cells", "histogram_keys", "buckets")
    return saved is not None and all(
        getattr(saved, part) == getattr(wanted, part) for part in (*parts, "config", "seq")
    )


def all_slots(reader: Reader) -> dict[tuple[int, int], SlotClose]:
    """Every slot of the last ring, by row and start."""
    saved = reader.load()
    assert saved is not None
    closes = [close for row in range(len(saved.row_keys)) for close in saved.slots(row, 0, 2**62)]
    return {(close.row, close.slot_start_ns): close for close in closes}
