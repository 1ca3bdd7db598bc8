"""Processes that fork, spawn or live in other namespaces while they count; run as a script: SCENARIO STATE_DIR.

Each scenario prints one JSON object of what it has done itself; the test compares it with the ring.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware

CHILDREN = 4
EVENTS = 1_000
Message = MutableMapping[str, Any]


def engine_of(state_dir: str) -> Engine:
    slos = [SLO("calls", match={"kind": "call"}), SLO("twin", match={"kind": "call"}), SLO("requests")]
    return Engine(slos, state_dir=Path(state_dir))


def record(engine: Engine, number: int) -> None:
    track = engine.track("job")
    for i in range(number):
        engine.record(track, "bad" if i % 10 == 0 else "good", 1_000)


def wait_for(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child works and ends without any of the parent's clean-up."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


# ── requests by hand ───────────────────────────────────────────────────────────────────────────────────────────────
async def request(edge: SLOMiddleware, inside: Callable[[], None] = lambda: None) -> None:
    """One request through the middleware; `inside` runs in the app before it answers."""
    edge.app = _answering(inside)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    await edge({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)


def _answering(inside: Callable[[], None]) -> Callable[..., Awaitable[None]]:
    async def app(scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        inside()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


# ── scenarios ──────────────────────────────────────────────────────────────────────────────────────────────────────
def preload(state_dir: str) -> dict[str, Any]:
    """Started in the parent, which counts before, during and after its children do."""
    engine = engine_of(state_dir).start()
    record(engine, EVENTS)
    children = [in_child(lambda: record(engine, EVENTS)) for _ in range(CHILDREN)]
    record(engine, EVENTS)
    codes = wait_for(children)
    record(engine, EVENTS)
    engine.close()
    return {"calls": (CHILDREN + 3) * EVENTS, "codes": codes}


def fork_inside_request(state_dir: str) -> dict[str, Any]:
    """The child ends what its parent began, which must not count, then requests of its own, which must."""
    engine = engine_of(state_dir).start()
    edge = SLOMiddleware(_answering(lambda: None), engine=engine)
    pids: list[int] = []
    asyncio.run(request(edge, lambda: pids.append(os.fork())))
    if pids == [0]:
        for _ in range(3):
            asyncio.run(request(edge))
        os._exit(0)
    codes = wait_for(pids)
    in_flight = engine.in_flight()
    engine.close()
    return {"requests": 1 + 3, "in_flight": in_flight, "codes": codes}


def fork_while_the_background_thread_works(state_dir: str) -> dict[str, Any]:
    """Children forked at any moment of the parent's turns count, ask and close; none hangs."""
    engine = engine_of(state_dir).start()
    assert engine.runner is not None
    ended = threading.Event()

    def turns() -> None:
        while not ended.is_set():
            engine.runner.tick()  # type: ignore[union-attr]
            engine.status()

    thread = threading.Thread(target=turns)
    thread.start()

    def work() -> None:
        record(engine, 10)
        engine.status()
        engine.close()

    codes = []
    for _ in range(25):
        codes += wait_for([in_child(work)])
    ended.set()
    thread.join()
    engine.close()
    return {"calls": 25 * 10, "codes": codes}


def _job(state_dir: str) -> None:
    with engine_of(state_dir) as engine:
        record(engine, EVENTS)


def start_methods(state_dir: str) -> dict[str, Any]:
    """multiprocessing by each of its methods, beside a parent that counts."""
    engine = engine_of(state_dir).start()
    codes = []
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=_job, args=(state_dir,))
        process.start()
        record(engine, EVENTS)
        process.join()
        codes.append(process.exitcode)
    engine.close()
    return {"calls": 6 * EVENTS, "codes": codes}


def recorder(state_dir: str) -> dict[str, Any]:
    """Counts and ends; says which process it believes to be."""
    with engine_of(state_dir) as engine:
        record(engine, EVENTS)
        window = engine.count("calls", 60_000_000_000)
        return {"calls": EVENTS, "pid": os.getpid(), "last_minute": window.total, "block": engine.ring.blocks.index}


def main() -> None:
    scenario, state_dir = sys.argv[1:3]
    print(json.dumps(globals()[scenario](state_dir)))


if __name__ == "__main__":
    main()
