"""An outbox and channels played by the test, a clock that it turns, and a courier between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from exporters.receiver import PATIENCE_S

from channels.hook import DAY, NOW, S, notice
from otelslo.channels import SendFailed
from otelslo.courier import LONGEST_WAIT_NS, Courier, Parcel
from otelslo.errors import StateError
from otelslo.notice import Notice

__all__ = ["DAY", "LOST", "NOW", "REFUSED", "Box", "Play", "S", "Scene", "alert"]

LOST = SendFailed("nobody there")
REFUSED = SendFailed("answered 400", retryable=False)


def alert(number: int, name: str = "page-fast", **changes: Any) -> Notice:
    """Notices that differ by their key."""
    return notice(key=f"{number:032x}", alert=name, **changes)


class Box:
    """The naive twin of the stored outbox. `broken` names the methods that raise StateError now.

    With `leaves_out` it gives no parcel that has to wait, nor any later one of its line.
    """

    def __init__(self, leaves_out: bool = False) -> None:
        self.parcels: list[Parcel] = []
        self.recorded: list[int] = []  # what needs no further try
        self.errors: list[str] = []
        self.broken: set[str] = set()
        self._leaves_out = leaves_out
        self._next_id = 1
        self.changed = threading.Condition()

    def post(self, channel: str, told: Notice) -> Parcel:
        with self.changed:
            parcel = Parcel(self._next_id, told.key, channel, 0, told)
            self._next_id += 1
            self.parcels.append(parcel)
            return parcel

    def due(self, now_wall_ns: int, limit: int) -> list[Parcel]:
        self._check("due")
        found, held = [], set()
        for parcel in self.parcels:
            waits = 0 < parcel.next_wall_ns - now_wall_ns <= 2 * LONGEST_WAIT_NS
            if self._leaves_out and (waits or parcel.line in held):
                held.add(parcel.line)
            else:
                found.append(parcel)
        return found[:limit]

    def sent(self, parcel_id: int) -> None:
        self._check("sent")
        with self.changed:
            self.recorded.append(parcel_id)
            self.parcels = [parcel for parcel in self.parcels if parcel.id != parcel_id]
            self.changed.notify_all()

    def failed(self, parcel_id: int, next_wall_ns: int, error: str) -> None:
        self._check("failed")
        with self.changed:
            self.errors.append(error)
            self.parcels = [
                replace(parcel, tries=parcel.tries + 1, next_wall_ns=next_wall_ns) if parcel.id == parcel_id else parcel
                for parcel in self.parcels
            ]
            self.changed.notify_all()

    def _check(self, name: str) -> None:
        if name in self.broken:
            raise StateError("the disk is full")

    def wait_until(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE_S), self.parcels


class Play:
    """A channel whose attempts end as `endings` say, then as `ending` says (None: it arrives)."""

    def __init__(self, ending: BaseException | None = None) -> None:
        self.ending = ending
        self.endings: list[BaseException | None] = []
        self.tried: list[str] = []
        self.arrived: list[str] = []
        self.deadlines: list[int] = []
        self.closed: list[int] = []
        self.during: Callable[[], object] = lambda: None
        self.began = threading.Event()

    def send(self, told: Notice, deadline_ns: int) -> None:
        self.tried.append(told.key)
        self.deadlines.append(deadline_ns)
        self.began.set()
        self.during()
        ending = self.endings.pop(0) if self.endings else self.ending
        if ending is not None:
            raise ending
        self.arrived.append(told.key)

    def close(self, deadline_ns: int) -> None:
        self.closed.append(deadline_ns)


@dataclass
class Clock:
    """Unix time and the monotonic clock, which the wall may leave."""

    wall_ns: int = NOW
    monotonic_ns: int = 1000 * S


class Scene:
    """A courier whose turns the test takes, its box, and channels by name."""

    def __init__(self, *channels: str, box: Box | None = None, clock: Clock | None = None, **options: Any) -> None:
        self.box = Box() if box is None else box
        self.clock = Clock() if clock is None else clock
        self.plays = {name: Play() for name in channels or ("ops",)}
        self.faults: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.leads = True
        options = {"jitter": lambda: 0.5, "note": self.notes.append} | options
        self.courier = Courier(
            self.plays,
            self.box,
            lambda *fault: self.faults.append(fault),
            lambda: self.leads,
            wall_ns=lambda: self.clock.wall_ns,
            monotonic_ns=lambda: self.clock.monotonic_ns,
            **options,
        )

    @property
    def ops(self) -> Play:
        return next(iter(self.plays.values()))

    def post(self, *numbers: int, channel: str = "ops", **changes: Any) -> None:
        for number in numbers:
            self.box.post(channel, alert(number, **changes))

    def pass_time(self, seconds: float) -> None:
        self.clock.wall_ns += round(seconds * S)
        self.clock.monotonic_ns += round(seconds * S)

    def turn(self) -> float:
        """One turn; the seconds until the courier looks again."""
        return self.courier.turn() / S

    def turns(self, seconds: float) -> None:
        """Turns for so long, each when the courier asks for it."""
        ends_ns = self.clock.monotonic_ns + round(seconds * S)
        while self.clock.monotonic_ns <= ends_ns:
            self.pass_time(max(self.turn(), 0.001))


def keys(*numbers: int) -> list[str]:
    return [f"{number:032x}" for number in numbers]
