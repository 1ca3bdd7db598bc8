"""One engine for all apps of a module, and a collector that has little to look at."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest
from conftest import SMALL

from otelslo import SLO, Engine
from otelslo.clock import ManualClock


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With the objectives of `counting.SLOS`."""
    slos = [
        SLO("availability"),
        SLO("latency", indicator="latency", threshold="200ms", target="95%"),
        SLO("websocket", indicator="websocket"),
    ]
    directory = tmp_path_factory.mktemp("edges")
    with Engine(slos, state_dir=directory, clock=ManualClock(), runner=False, geometry=SMALL) as engine:
        yield engine


@pytest.fixture
def quiet_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Collecting all is cheap, and what an app raises then is for nobody, as it is in a server."""
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
