"""Processes that add at full speed: none is lost, and readers beside them see nothing impossible."""

from __future__ import annotations

import pytest

from .scenario_server import ScenarioServer
from .small_rings import FULL

EVENTS = 10**8 if FULL else 10**7


@pytest.mark.torture
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_no_add_is_lost(plain: ScenarioServer, processes: int) -> None:
    found = plain.run("crowds:adds", processes=processes, events=EVENTS)
    print(processes, "processes:", found)
    assert found["readings"] > 0


@pytest.mark.torture
def test_counted_is_never_above_begun(plain: ScenarioServer) -> None:
    found = plain.run("crowds:never_above_begun", processes=3, requests=EVENTS // 10)
    print(found)
    assert found["readings"] > 0


@pytest.mark.torture
def test_no_loss_record_is_torn(plain: ScenarioServer) -> None:
    found = plain.run("crowds:torn_losses", events=EVENTS // 2)
    print(found)
    assert found["records"] > 0
    assert found["torn"] == 0
