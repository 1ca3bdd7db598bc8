"""The kill switch: one place where an operator's "off" is read, for every edge."""

from __future__ import annotations

import os

_SWITCHES = ("OTELSLO_DISABLED", "OTEL_SDK_DISABLED")
_ON = frozenset({"true", "1", "yes"})


def disabled() -> bool:
    """Whether `OTELSLO_DISABLED` or `OTEL_SDK_DISABLED` is true, 1 or yes, in any case, in the environment now."""
    return any(os.environ.get(name, "").strip().lower() in _ON for name in _SWITCHES)
