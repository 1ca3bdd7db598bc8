"""The kernels as compiled entry points; compiling takes seconds, so it is done once, at start.

Each is called with the address of the private page, which says where the block and the mapping lie; the page is zero in
a process that is not attached (the system wipes it on fork), and then a kernel does nothing. Time is read inside, once
per call, unless the page holds a manual clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from otelslo.kernels.events import add, begin, end, record, record_many, settle
from otelslo.kernels.slots import count, open_all
from otelslo.kernels.words import compile_kernel, store, versions


def publish(address: int, word: int) -> int:
    """Store a word with release ordering, for what Python makes off the request path."""
    store(address, word)
    return 0


class Kernels(NamedTuple):
    """Entry points, each taking int64 arguments and answering one; see the functions of the same names."""

    begin: Callable[..., int]
    end: Callable[..., int]
    record: Callable[..., int]
    record_many: Callable[..., int]
    add: Callable[..., int]
    settle: Callable[..., int]
    open_all: Callable[..., int]
    count: Callable[..., int]
    publish: Callable[..., int]


_compiled: list[Kernels] = []
_ARGUMENTS: dict[Callable[..., int], int] = {
    begin: 2,
    end: 4,
    record: 3,
    record_many: 2,
    add: 2,
    settle: 1,
    open_all: 1,
    count: 3,
    publish: 2,
}


def compile_kernels(cache: Path | None = None) -> Kernels:
    """Compile once per process; before a fork where the server preloads, so that children inherit it.

    Compiling takes about 3 s, loading what another process compiled 0.1 s.

    Args:
        cache: a folder that only this user can write; the caller holds a lock on it. None: compile.
    """
    if not _compiled:
        folder = None if cache is None else cache / f"kernels-{_digest()}"
        try:
            _compiled.append(_compile(folder))
        except Exception:
            if folder is None:
                raise
            _compiled.append(_compile(None))  # a cache that cannot be used is not worth an app
    return _compiled[0]


def _compile(cache: Path | None) -> Kernels:
    if cache is not None:
        cache.mkdir(mode=0o700, exist_ok=True)
    return Kernels(**{f.__name__: compile_kernel(f, arguments, cache) for f, arguments in _ARGUMENTS.items()})


def _digest() -> str:
    """numba looks at the file of a kernel alone; here every file that kernels are made of is looked at."""
    digest = hashlib.sha256(versions().encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
