"""Batches: arrays of outcomes and latencies, counted by one compiled call and one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from otelslo.kernels import layout as at

if TYPE_CHECKING:
    from otelslo.calls import Track
    from otelslo.engine import Engine

_OUTCOMES = ("good", "bad", "excluded")


def record_batch(engine: Engine, track: Track, outcomes: Any, latencies_ns: Any) -> None:
    """See `Engine.record_many`."""
    outcomes, latencies = _checked(outcomes, latencies_ns)
    if len(latencies) == 0:
        return
    # One word of padding: the kernel reads outcomes eight at a time.
    padded = np.zeros(len(outcomes) // 8 + 1, dtype=np.int64)
    padded.view(np.int8)[: len(outcomes)] = outcomes
    plans = [engine.plan_for(track.event(o)) if track.judged_each else track.plans[o] for o in _OUTCOMES]
    arguments = np.array([len(latencies), padded.ctypes.data, latencies.ctypes.data, *plans], dtype=np.int64)
    code = engine.kernels.record_many(engine.page, arguments.ctypes.data)
    if code == at.NOT_ATTACHED and engine.attach():
        code = engine.kernels.record_many(engine.page, arguments.ctypes.data)
    if code == at.TOO_LARGE:
        half = len(latencies) // 2
        record_batch(engine, track, outcomes[:half], latencies[:half])
        record_batch(engine, track, outcomes[half:], latencies[half:])
    elif code == at.NOT_ATTACHED:
        engine.fault("not_attached", f"a batch of {len(latencies)} events was not counted")
    elif code > 0:
        engine.own_faults.count("bad_latency", "a batch held latencies or outcomes out of range", code)


def _checked(outcomes: Any, latencies_ns: Any) -> tuple[np.ndarray, np.ndarray]:
    outcomes, latencies = np.asarray(outcomes), np.asarray(latencies_ns)
    if outcomes.ndim != 1 or outcomes.shape != latencies.shape:
        raise ValueError(f"outcomes {outcomes.shape} and latencies_ns {latencies.shape} must be (n,) both")
    if outcomes.size and (outcomes.dtype.kind not in "iub" or latencies.dtype.kind not in "iuf"):
        raise ValueError(f"outcomes ({outcomes.dtype}) must be int8 and latencies_ns ({latencies.dtype}) int64")
    if latencies.dtype.kind == "f":
        latencies = np.where(np.isfinite(latencies) & (np.abs(latencies) < 2.0**62), latencies, -1.0)
    out = np.where((outcomes >= 0) & (outcomes <= 2), outcomes, 3).astype(np.int8)
    return out, np.ascontiguousarray(latencies, dtype=np.int64)
