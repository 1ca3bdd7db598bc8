"""Stops and kills at every store, rivals, forks, thefts and wrong clocks: once settled, begun = ended + crashed."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from conftest import MakeEngine

from otelslo import SLO
from otelslo.asgi import SLOMiddleware

from .scenario_server import ScenarioServer
from .small_rings import FULL

KILL, STOP = int(signal.SIGKILL), int(signal.SIGSTOP)

# (turn, skip, sleep): slots before the operation, slots without anybody, slots until the victim wakes or is settled.
SAME_SLOT, NEXT_SLOT, NEXT_COARSE, LAPPED, SHARED = (0, 0, 0), (1, 2, 3), (5, 3, 3), (5, 0, 300), (5, 0, 3)
ORDINARY = [
    *[("begin", fault, 3, SAME_SLOT) for fault in (KILL, STOP)],
    *[("end_good", KILL, 1, slots) for slots in (SAME_SLOT, NEXT_SLOT)],
    *[("end_good", fault, 3, SAME_SLOT) for fault in (KILL, STOP)],
    ("end_bad", KILL, 3, NEXT_COARSE),
    ("end_bad", STOP, 3, LAPPED),
    *[("request", fault, 1, NEXT_SLOT) for fault in (KILL, STOP)],
    ("open_all", KILL, 3, NEXT_COARSE),
    ("open_all", STOP, 1, SHARED),
    ("batch", KILL, 2, NEXT_SLOT),
    ("batch_of_one_call", KILL, 2, NEXT_SLOT),
    *[("add", fault, 3, NEXT_SLOT) for fault in (KILL, STOP)],
    ("settle", KILL, 3, SAME_SLOT),
    ("settle", STOP, 1, NEXT_SLOT),
    ("attach", KILL, 3, NEXT_SLOT),
    ("attach", STOP, 1, NEXT_SLOT),
    ("attach_new", KILL, 1, NEXT_SLOT),
    ("new_row", KILL, 1, NEXT_SLOT),
    ("new_names", KILL, 1, SAME_SLOT),
    ("new_names", STOP, 1, NEXT_SLOT),
]
WHOLE = [
    (operation, fault, rows, slots)
    for operation in (
        *("begin", "end_good", "end_bad", "request", "batch", "batch_of_one_call", "add", "open_all"),
        *("settle", "attach", "attach_new", "new_row", "new_names"),
    )
    for fault in (KILL, STOP)
    for rows, slots in ((1, NEXT_SLOT), (3, SAME_SLOT), (3, NEXT_SLOT), (3, NEXT_COARSE), (1, SHARED), (3, LAPPED))
]


@pytest.mark.torture
@pytest.mark.parametrize(("operation", "fault", "rows", "slots"), WHOLE if FULL else ORDINARY)
def test_every_store(
    faulty: ScenarioServer, operation: str, fault: int, rows: int, slots: tuple[int, int, int]
) -> None:
    turn, skip, sleep_slots = slots
    found = faulty.run(
        "attacks:every_store",
        **{"operation": operation, "fault": fault, "rows": rows},
        **{"turn": turn, "skip": skip, "sleep_slots": sleep_slots},
    )
    print(operation, signal.Signals(fault).name, rows, slots, found)
    assert found["stores"] > 0 or (operation == "open_all" and turn == 0)


@pytest.mark.torture
def test_random_kills_of_a_recording_process(plain: ScenarioServer) -> None:
    print(plain.run("lives:random_kills", cycles=2000 if FULL else 200, seed=1))


@pytest.mark.torture
def test_racing_settlers_that_are_killed(faulty: ScenarioServer) -> None:
    found = faulty.run("lives:racing_settlers", rounds=200 if FULL else 10, settlers=3, seed=2)
    print(found)
    assert found["settlers killed"] > 0


@pytest.mark.torture
def test_settler_killed_again_and_again(faulty: ScenarioServer) -> None:
    found = faulty.run("lives:settled_again_and_again", step=1 if FULL else 5)
    print(found)
    assert found["settlers killed"] > 100


def test_fork_inside_a_request(plain: ScenarioServer) -> None:
    assert plain.run("lives:fork_inside_a_request") == {"begun": 3, "counted": 3}


def test_a_forked_child_may_count_before_it_records(plain: ScenarioServer) -> None:
    assert plain.run("lives:count_in_a_fork") == {"exit": 0}


def test_stolen_block(plain: ScenarioServer) -> None:
    assert plain.run("lives:stolen_block") == {"begun": 3, "counted": 3}


@pytest.mark.parametrize("ahead_slots", [[0, 1], [0, 3, 1], [0, 70], [0, 0, 300]])
def test_clocks_that_differ_and_stall(plain: ScenarioServer, ahead_slots: list[int]) -> None:
    plain.run("lives:different_clocks", ahead_slots=ahead_slots, steps=2000 if FULL else 300, seed=3)


@pytest.mark.torture
@pytest.mark.parametrize("hours", [1, 40])
def test_stopped_for_hours_and_woken(faulty: ScenarioServer, hours: int) -> None:
    faulty.run("lives:hours_asleep", hours=hours, step=1 if FULL else 4)


def test_a_request_ended_twice_at_the_edge_counts_once(make_engine: MakeEngine) -> None:
    """A kernel cannot tell a second end from another request's end, so the edge must not call it."""
    engine = make_engine(SLO("availability"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        raise RuntimeError("after the last body")

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    edge = SLOMiddleware(app, engine=engine)
    other = engine.kernels.begin(engine.page, 0)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(RuntimeError, match="after the last body"):
        asyncio.run(edge(scope, nothing, nothing))
    assert other > 0
    assert engine.in_flight() == 1
    assert engine.count("availability", 10**12).total == 1
