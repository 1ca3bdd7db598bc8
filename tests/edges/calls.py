"""The matrix's cases of functions: how `otelslo.track` is used, and what each call is worth by the outcome table.

To a function its caller is the client: cancelled or closed early, it was left by its client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from otelslo import current

from .verdicts import MS

Tick = Callable[[int], None]


class Call(NamedTuple):
    """`does(track, tick)` makes one call, or says how many."""

    name: str
    does: Callable[[Any, Tick], None]
    outcome: str
    latency: str = ""
    calls: int = 1

    @property
    def worth(self) -> tuple[str, str]:
        return self.outcome, self.latency or self.outcome


def plain(act: Callable[[Tick], Any]) -> Callable[[Any, Tick], None]:
    """A function."""
    return lambda track, tick: track(lambda: act(tick))()


def coroutine(act: Callable[[Tick], Any]) -> Callable[[Any, Tick], None]:
    """A coroutine, stepped by hand, that waits once before and after."""

    def does(track: Any, tick: Tick) -> None:
        @track
        async def called() -> None:
            act(tick)

        with contextlib.suppress(StopIteration):
            called().send(None)

    return does


def cancelled(after_ns: int) -> Callable[[Any, Tick], None]:
    """A coroutine whose caller gives up."""

    def does(track: Any, tick: Tick) -> None:
        @track
        async def called() -> None:
            await _forever()

        running = called()
        running.send(None)
        tick(after_ns)
        running.throw(asyncio.CancelledError())

    return does


class _forever:
    def __await__(self) -> Any:
        yield


def generator(*acts: Any, takes: int | None = None) -> Callable[[Any, Tick], None]:
    """A generator of one item for each act, of which the consumer takes some."""

    def does(track: Any, tick: Tick) -> None:
        @track
        def called() -> Any:
            for act in acts:
                act(tick)
                yield act

        running = called()
        for number, _ in enumerate(running, 1):
            if number == takes:
                running.close()

    return does


def async_generator(*acts: Any, takes: int | None = None) -> Callable[[Any, Tick], None]:
    def does(track: Any, tick: Tick) -> None:
        @track
        async def called() -> Any:
            for act in acts:
                act(tick)
                yield act

        async def consume() -> None:
            running, number = called(), 0
            async for _ in running:
                number += 1
                if number == takes:
                    await running.aclose()

        asyncio.run(consume())

    return does


def block(act: Callable[[Any, Tick], Any]) -> Callable[[Any, Tick], None]:
    """A `with` block."""

    def does(track: Any, tick: Tick) -> None:
        with track as event:
            act(event, tick)

    return does


def recursive(track: Any, tick: Tick) -> None:
    @track
    def called(depth: int) -> None:
        if depth:
            called(depth - 1)

    called(4)


def fails(tick: Tick) -> None:
    raise KeyError("k")


def exits(tick: Tick) -> None:
    raise SystemExit(1)


def nothing(tick: Tick) -> None:
    return None


def slow(tick: Tick) -> None:
    tick(300 * MS)


def said_bad(tick: Tick) -> None:
    current().bad("nonsense")


def good_then_fails(event: Any, tick: Tick) -> None:
    event.good()
    raise KeyError("k")


CALLS = [
    Call("returns", plain(nothing), "good"),
    Call("returns late", plain(slow), "good", "bad slow"),
    Call("raises", plain(fails), "bad exception"),
    Call("exits the process", plain(exits), "bad server_cancel"),
    Call("says bad", plain(said_bad), "bad other"),
    Call("coroutine returns late", coroutine(slow), "good", "bad slow"),
    Call("coroutine raises", coroutine(fails), "bad exception"),
    Call("coroutine cancelled at once", cancelled(0), "excluded client_cancel"),
    Call("coroutine cancelled after 0.3 s", cancelled(300 * MS), "excluded client_cancel", "bad abandoned"),
    Call("coroutine cancelled after 11 s", cancelled(11_000 * MS), "bad abandoned"),
    Call("generator exhausted", generator(nothing, nothing), "good"),
    Call("generator exhausted late", generator(nothing, slow), "good", "bad slow"),
    Call("generator raises", generator(nothing, fails), "bad exception"),
    Call("generator closed early", generator(nothing, nothing, takes=1), "excluded client_cancel"),
    Call("generator closed after 0.3 s", generator(slow, nothing, takes=1), "excluded client_cancel", "bad abandoned"),
    Call("async generator exhausted", async_generator(nothing, slow), "good", "bad slow"),
    Call("async generator raises", async_generator(nothing, fails), "bad exception"),
    Call("async generator closed early", async_generator(nothing, nothing, takes=1), "excluded client_cancel"),
    Call("block", block(lambda event, tick: None), "good"),
    Call("block raises", block(lambda event, tick: fails(tick)), "bad exception"),
    Call("block says excluded", block(lambda event, tick: event.exclude("drill")), "excluded other"),
    Call("block is shed", block(lambda event, tick: event.shed()), "bad shed", "excluded shed"),
    Call("block says good, raises", block(good_then_fails), "good"),
    Call("recursion of five", recursive, "good", calls=5),
]
