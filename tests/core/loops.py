"""Compiled loops over the kernels: millions of events without Python between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from otelslo.kernels import ring, words

_record = words.inner(ring.record)
_begin = words.inner(ring.begin)
_end = words.inner(ring.end)
_record_many = words.inner(ring.record_many)


def _record_loop(page: int, plan: int, latency_ns: int, events: int) -> int:
    done = 0
    for _ in range(events):
        if _record(page, plan, latency_ns) >= 0:
            done += 1
    return done


def _request_loop(page: int, track: int, plan: int, events: int) -> int:
    done = 0
    for _ in range(events):
        token = _begin(page, track)
        if token != 0 and _end(page, track, token, plan) >= 0:
            done += 1
    return done


def _batch_loop(page: int, batch: int, batches: int) -> int:
    refused = 0
    for _ in range(batches):
        refused += _record_many(page, batch)
    return refused


def _alternate_loop(page: int, plan: int, other: int, events: int) -> int:
    for _ in range(events):
        _record(page, plan, 1)
        _record(page, other, 2)
    return 0


class Loops(NamedTuple):
    """Each answers how many events it counted (`batch`: how many were refused; `alternate`: 0)."""

    record: Callable[..., int]
    request: Callable[..., int]
    batch: Callable[..., int]
    alternate: Callable[..., int]


_compiled: list[Loops] = []


def compile_loops() -> Loops:
    """Compile once per process."""
    if not _compiled:
        _compiled.append(
            Loops(
                words.compile_kernel(_record_loop, 4),
                words.compile_kernel(_request_loop, 4),
                words.compile_kernel(_batch_loop, 3),
                words.compile_kernel(_alternate_loop, 4),
            )
        )
    return _compiled[0]
