"""What every kernel asks of the private page first: the time, and whether this process has a block."""

from __future__ import annotations

from otelslo.kernels import layout as at
from otelslo.kernels.words import boot_ns, inner, load, monotonic_ns


@inner
def ring_now(page: int) -> int:
    if load(page + at.P_MANUAL) != 0:
        return load(page + at.P_NOW)  # type: ignore[no-any-return]
    return boot_ns(page + at.P_SCRATCH) + load(page + at.P_OFFSET)  # type: ignore[no-any-return]


@inner
def duration_now(page: int) -> int:
    if load(page + at.P_MANUAL) != 0:
        return load(page + at.P_NOW)  # type: ignore[no-any-return]
    return monotonic_ns(page + at.P_SCRATCH)  # type: ignore[no-any-return]


@inner
def attached_block(page: int) -> int:
    """The block of this process, or 0: never attached, forked, or the block was taken away (its nonce moved on)."""
    block = load(page + at.P_BLOCK)
    if block != 0 and load(block + at.B_NONCE) != load(page + at.P_NONCE):
        return 0
    return block  # type: ignore[no-any-return]
