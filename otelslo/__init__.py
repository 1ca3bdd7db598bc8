"""SLOs in process: wrap an app or name a call site, and know exactly how much error budget is left.

    from otelslo.asgi import SLOMiddleware
    app.add_middleware(SLOMiddleware)

    @otelslo.track("recommender")
    def recommend(user): ...

Importing this package compiles nothing and loads no numba; starting an `Engine` does.
"""

from __future__ import annotations

import sys

if not sys.platform.startswith(("linux", "darwin")):
    raise ImportError(f"otelslo runs on Linux and, for development, on macOS; this is {sys.platform}")

from otelslo._version import VERSION as __version__
from otelslo.clock import ManualClock
from otelslo.counts import Counts
from otelslo.decorators import track
from otelslo.default import budget_allows, loaded, log_label, log_prediction, observe
from otelslo.engine import Engine
from otelslo.errors import CapacityError, DefinitionError, OtelsloError, StateError
from otelslo.event import Event
from otelslo.failure import classify_failures
from otelslo.judge import judged
from otelslo.label_endpoint import labels_app
from otelslo.limit import Limit
from otelslo.slo import SLO
from otelslo.status import Status
from otelslo.tracked_stream import track_stream
from otelslo.words import current

__all__ = [
    "SLO",
    "CapacityError",
    "Counts",
    "DefinitionError",
    "Engine",
    "Event",
    "Limit",
    "ManualClock",
    "OtelsloError",
    "StateError",
    "Status",
    "__version__",
    "budget_allows",
    "classify_failures",
    "current",
    "judged",
    "labels_app",
    "loaded",
    "log_label",
    "log_prediction",
    "observe",
    "track",
    "track_stream",
]
