"""The two words that stop or kill a process at its n-th shared store; private to a process, copied by a fork."""

from __future__ import annotations

import ctypes
import mmap

_memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
_words = memoryview(_memory).cast("q")
ADDRESS = ctypes.addressof(ctypes.c_char.from_buffer(_memory))


def arm(store: int, signal: int) -> None:
    """Get `signal` just before the `store`-th shared store from now on."""
    _words[1] = signal
    _words[0] = store


def disarm() -> bool:
    """No signal from now on; whether one had come."""
    came = _words[0] == 0
    _words[0] = 0
    return came
