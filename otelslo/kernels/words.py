"""Shared 8-byte words: acquire loads, release stores, compare-and-swap, and the two system clocks.

This is the only file that names numba. Everything the kernels share with other processes goes through `load`, `store`
and `cas`, by absolute address; numba itself offers no CPU atomics, so these emit the LLVM instructions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import __version__ as llvmlite_version
from llvmlite import ir
from numba import __version__ as numba_version
from numba import config, njit, types
from numba.extending import intrinsic

# A torture build stops or kills the process at the n-th shared store: `FAULT_WORDS` is then the address of two words,
# (stores left, signal). It is 0 in every other build, and the branch is compiled away.
FAULT_WORDS = 0

_WORD = ir.IntType(64)
_BOOT_CLOCK = 7 if sys.platform.startswith("linux") else 6  # macOS: CLOCK_MONOTONIC runs on through sleep
_MONOTONIC_CLOCK = 1 if sys.platform.startswith("linux") else 8  # macOS: CLOCK_UPTIME_RAW stands still in sleep

_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))
_raise = types.ExternalFunction("raise", types.int32(types.int32))


# A function that only other kernels call: no entry from Python is compiled for it.
inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _WORD.as_pointer())


@intrinsic
def load(typingctx: Any, address: Any) -> Any:
    """The word at `address`, with acquire ordering."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(builder, args[0]), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _store(typingctx: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _pointer(builder, args[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _cas(typingctx: Any, address: Any, old: Any, new: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pair = builder.cmpxchg(_pointer(builder, args[0]), args[1], args[2], "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic
def leading_zeros(typingctx: Any, value: Any) -> Any:
    """Number of leading zero bits of a positive int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@inner
def _fault_point() -> None:
    if FAULT_WORDS != 0:
        left = load(FAULT_WORDS)
        if left > 0:
            _store(FAULT_WORDS, left - 1)
            if left == 1:
                _raise(types.int32(load(FAULT_WORDS + 8)))


@inner
def store(address: int, value: int) -> None:
    """Put `value` at `address`, with release ordering."""
    _fault_point()
    _store(address, value)


@inner
def cas(address: int, old: int, new: int) -> bool:
    """Put `new` at `address` if `old` is there; whether it was."""
    _fault_point()
    return _cas(address, old, new)  # type: ignore[no-any-return]


@inner
def boot_ns(scratch: int) -> int:
    """Nanoseconds of the boot-time clock, which runs on while the machine is suspended; two words of scratch."""
    _clock_gettime(types.int32(_BOOT_CLOCK), scratch)
    return load(scratch) * 1_000_000_000 + load(scratch + 8)  # type: ignore[no-any-return]


@inner
def monotonic_ns(scratch: int) -> int:
    """Nanoseconds of the monotonic clock, for durations; two words of scratch."""
    _clock_gettime(types.int32(_MONOTONIC_CLOCK), scratch)
    return load(scratch) * 1_000_000_000 + load(scratch + 8)  # type: ignore[no-any-return]


def compile_kernel(function: Callable[..., Any], arguments: int, cache: Path | None = None) -> Callable[..., int]:
    """Compile a kernel of `arguments` int64 arguments for int64 and return its bare entry point.

    The entry point takes 137 ns a call where numba's dispatcher takes 297. It converts its arguments instead of
    checking them. It holds the GIL: one writer per block rests on that, so `nogil` is never set.

    Args:
        cache: a folder that nobody else can write, for compiled code (which is loaded as trustingly as this file is),
            written and read by one process at a time.
    """
    signature = types.int64(*[types.int64] * arguments)
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = "" if cache is None else str(cache)
        cached = cache is not None and FAULT_WORDS == 0
        dispatcher = njit(signature, error_model="numpy", no_cfunc_wrapper=True, cache=cached)(function)
    finally:
        config.CACHE_DIR = before
    (compiled,) = dispatcher.overloads.values()
    entry: Callable[..., int] = compiled.entry_point
    _keep.append(dispatcher)
    return entry


def versions() -> str:
    """What compiled code depends on beside its source."""
    return f"{sys.version} {numba_version} {llvmlite_version}"


_keep: list[Any] = []
