"""The process's own engine, made from the configuration when it is first needed.

For the two-line middleware and for calls that name no engine; everything else takes an explicit `Engine`.
"""

from __future__ import annotations

import threading

from otelslo.engine import Engine

_lock = threading.Lock()
_engine: list[Engine] = []


def engine() -> Engine:
    """The engine of `OTELSLO_CONFIG` or `slo.yaml`, not started yet when new.

    Raises:
        DefinitionError: the configuration is wrong.
    """
    with _lock:
        if not _engine:
            _engine.append(Engine())
        return _engine[0]
