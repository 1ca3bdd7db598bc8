"""The two scenario servers, each compiled once for a whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .scenario_server import ScenarioServer


@pytest.fixture(scope="session")
def faulty() -> Iterator[ScenarioServer]:
    """Kernels that can be stopped or killed at any store."""
    server = ScenarioServer("faults")
    yield server
    server.close()


@pytest.fixture(scope="session")
def plain() -> Iterator[ScenarioServer]:
    """Kernels as shipped, and compiled loops over them."""
    server = ScenarioServer("plain")
    yield server
    server.close()
