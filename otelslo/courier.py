"""Brings notices from the outbox to the channels, from a thread of its own, at least once and in order.

What was decided is committed with the outbox's parcels, so nothing is lost whenever this process dies: whoever leads
next finds them. A parcel is sent first and marked after, so it may come twice, always with the same key. Parcels of
one line (channel, objective, group, alert) go one after the other: a `resolved` never overtakes its `firing`. A channel
that fails is left alone for a while, and costs the others at most the time of one attempt.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from otelslo.channels import Channel, SendFailed
from otelslo.errors import StateError, shown
from otelslo.notice import Notice

log = logging.getLogger("otelslo")

_SECOND_NS = 1_000_000_000
TIMEOUT_NS = 30 * _SECOND_NS
LOOK_NS = 10 * _SECOND_NS  # other processes post, too: a command that overrides a gate
GIVEN_UP_NS = 3 * 86_400 * _SECOND_NS
LONGEST_WAIT_NS = 600 * _SECOND_NS
_LONGEST_BACKOFF_NS = 300 * _SECOND_NS
_DEAD_AFTER = 10  # attempts that failed in a row, of whatever notice
_LIMIT = 10_000  # of each channel
Line = tuple[str, str, str | None, str]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A notice for one channel. `tries` are those that failed; it waits until `next_wall_ns` (Unix ns)."""

    id: int
    key: str
    channel: str
    tries: int
    notice: Notice
    next_wall_ns: int = 0

    @property
    def line(self) -> Line:
        return (self.channel, self.notice.slo, self.notice.group, self.notice.alert)


class Outbox(Protocol):
    """Where parcels wait, over the death of any process. Only the courier's thread calls it.

    Each method may raise StateError: the courier comes again. No id is ever given to a second parcel.
    """

    def due(self, now_wall_ns: int, limit: int) -> list[Parcel]:
        """At most `limit` parcels of each channel in the order in which they were posted.

        One that has to wait may be left out, but only with all later ones of its line, and none that waits longer than
        anybody asked for, since then the clock was stepped back. Simplest is to leave out none.
        """

    def sent(self, parcel_id: int) -> None:
        """It needs no further try: it has arrived, or was given up. Again is harmless."""

    def failed(self, parcel_id: int, next_wall_ns: int, error: str) -> None:
        """One try more has failed; the next one not before `next_wall_ns`."""


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What has become of the notices of one channel, since this process leads.

    `delivered` and `failed` are attempts, `dropped` notices that were refused or given up. `last_error` stays until the
    next one arrives; `last_success_wall_ns` is Unix time.
    """

    name: str
    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    last_error: str | None = None
    last_success_wall_ns: int | None = None


@dataclass(slots=True)
class _Route:
    """The way to one channel: not before `until_ns` (monotonic) after so many failures in a row."""

    channel: Channel
    state: ChannelState
    failures: int = 0
    until_ns: int = 0


@dataclass(slots=True)
class _Round:
    """One reading of the outbox: the lines that wait, and when to look again (monotonic)."""

    ends_ns: int
    look_ns: int
    waiting: set[Line] = field(default_factory=set)

    def wait(self, parcel: Parcel, until_ns: int) -> None:
        self.waiting.add(parcel.line)
        self.look_ns = min(self.look_ns, until_ns)


class Courier:
    """One outbox, and the channels by name.

    Args:
        fault: counts a fault of ours (reason, detail), once for each failed attempt.
        may_send: asked just before each attempt, whether this process still leads.
        note: told, for the journal, of each notice that is dropped; otherwise it is logged.
        count: told the channel and "delivered" or "failed" of each attempt, and "dropped" of each notice given up.
        wall_ns: Unix time, by which parcels wait.
        monotonic_ns: the clock of deadlines.
        jitter: numbers from 0 to 1, so that a fleet does not come back all at once.
        timeout_ns: how long one attempt may take.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        box: Outbox,
        fault: Callable[[str, str], None],
        may_send: Callable[[], bool],
        *,
        note: Callable[[str], None] | None = None,
        count: Callable[[str, str], None] = lambda channel, outcome: None,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        jitter: Callable[[], float] = random.random,
        timeout_ns: int = TIMEOUT_NS,
    ) -> None:
        self._routes = {name: _Route(channel, ChannelState(name)) for name, channel in channels.items()}
        self._box = box
        self._count = fault
        self._count_outcome = count
        self._may_send = may_send
        self._note = note
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._jitter = jitter
        self._timeout_ns = timeout_ns
        self._closing_at: int | None = None
        self._renew()

    def _renew(self) -> None:
        """What a forked child cannot have from its parent: the lock may be held, and the thread is not there."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._woken = False
        self._finished: set[tuple[int, str]] = set()  # needs no try, but the outbox could not be told
        self._troubles = 0  # of the outbox, in a row

    def _renew_in_child(self) -> None:
        if self._pid != os.getpid():
            self._renew()

    # ── the leader's side: never waits, never raises ───────────────────────────────────────────────────────────────
    def states(self) -> list[ChannelState]:
        return [route.state for route in self._routes.values()]

    def wake(self) -> None:
        """Look into the outbox now: something was posted, or this process has begun to lead. From the first call on the
        courier also looks by itself, every 10 s."""
        self._renew_in_child()
        with self._changed:
            if self._closing_at is not None:
                return
            self._woken = True
            self._changed.notify_all()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="otelslo-courier", daemon=True)
        try:
            thread.start()
        except RuntimeError as e:  # the interpreter is ending, or the system has no more threads
            self._fault(f"no thread to send notices from: {e}")
        else:
            self._thread = thread

    def close(self, deadline_ns: int) -> None:
        """Send what is due if there is time, then stop; returns by `deadline_ns` (monotonic clock). The rest stays in
        the outbox. A thread that a peer holds is left behind: it is a daemon, and ends when its attempt does."""
        self._renew_in_child()
        with self._changed:
            if self._closing_at is not None:
                return
            self._closing_at = deadline_ns
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            self._let_go()
        else:
            thread.join(max(0, deadline_ns - self._monotonic_ns()) / _SECOND_NS)

    # ── the thread's side ──────────────────────────────────────────────────────────────────────────────────────────
    def _run(self) -> None:
        wait_ns = 0
        while self._wait(wait_ns):
            wait_ns = self.turn()
        self.turn()
        self._let_go()

    def _wait(self, wait_ns: int) -> bool:
        """Until it is time to look again; False when it is time to close."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._closing_at is not None, wait_ns / _SECOND_NS)
            self._woken = False
            return self._closing_at is None

    def turn(self) -> int:
        """Send all that is due, and give the ns until there is more to do; what the thread does whenever it wakes."""
        before = self._troubles
        try:
            look_ns = self._monotonic_ns()
            while look_ns <= self._monotonic_ns() < self._ends_ns():
                look_ns = self._round()
        except StateError as e:
            return self._trouble(str(e))
        except Exception as e:
            self._fault(f"the courier failed: {type(e).__name__}: {e}", "internal")
            return self._trouble(f"{type(e).__name__}: {e}")
        if self._troubles == before:
            self._troubles = 0
        return max(0, look_ns - self._monotonic_ns())

    def _trouble(self, text: str) -> int:
        """Counts what the outbox could not do, and gives the wait before it is asked again, in ns."""
        self._troubles += 1
        if self._troubles == 1:
            log.warning("the outbox of notices cannot be used: %s", text)
        return min(_SECOND_NS << min(self._troubles - 1, 10), LOOK_NS)

    def _ends_ns(self) -> int:
        """Until when anything may be begun (monotonic)."""
        closing_at = self._closing_at
        return self._monotonic_ns() + self._timeout_ns if closing_at is None else closing_at

    def _round(self) -> int:
        """One reading of the outbox, and what can be sent of it in the time of one attempt; when to look again."""
        now_ns = self._monotonic_ns()
        if not self._may_send():
            return now_ns + LOOK_NS
        found = _Round(now_ns + self._timeout_ns, now_ns + LOOK_NS)
        for parcel in _in_turns(self._box.due(self._wall_ns(), _LIMIT)):
            now_ns = self._monotonic_ns()
            if now_ns >= min(found.ends_ns, self._ends_ns()) or not self._may_send():
                return now_ns  # what was posted since has its turn, too
            if parcel.line not in found.waiting:
                self._carry(parcel, found)
        return found.look_ns

    def _carry(self, parcel: Parcel, found: _Round) -> None:
        route = self._routes.get(parcel.channel)
        if (parcel.id, parcel.key) in self._finished:
            self._finish(parcel, found)
        elif route is None:
            self._drop(parcel, "there is no such channel any more", found)
        elif route.failures >= _DEAD_AFTER and self._wall_ns() - parcel.notice.at_wall_ns >= GIVEN_UP_NS:
            # Attempts of a dead channel are minutes apart: one for each would keep more than is dropped.
            self._drop(parcel, "it could not be delivered for 3 days", found)
        else:
            until_ns = max(route.until_ns, self._due_ns(parcel))
            if until_ns > self._monotonic_ns():
                found.wait(parcel, until_ns)
            else:
                self._send(parcel, route, found)

    def _due_ns(self, parcel: Parcel) -> int:
        """When it may be tried, by the monotonic clock. A wait longer than any comes of a wall clock that was stepped
        back."""
        wait_ns = parcel.next_wall_ns - self._wall_ns()
        return self._monotonic_ns() + wait_ns if 0 < wait_ns <= 2 * LONGEST_WAIT_NS else 0

    def _send(self, parcel: Parcel, route: _Route, found: _Round) -> None:
        try:
            route.channel.send(parcel.notice, min(self._monotonic_ns() + self._timeout_ns, self._ends_ns()))
        except SendFailed as e:
            self._failed(parcel, route, e, found)
        except Exception as e:  # a fault of the channel must not end its thread
            self._failed(parcel, route, SendFailed(f"{type(e).__name__}: {e}"), found)
        else:
            self._arrived(route)
            self._finish(parcel, found)

    def _arrived(self, route: _Route) -> None:
        if route.failures:
            log.info("channel %s: arrives again, after %d attempts that failed", route.state.name, route.failures)
        route.failures = 0
        route.state = replace(
            route.state,
            delivered=route.state.delivered + 1,
            last_error=None,
            last_success_wall_ns=self._wall_ns(),
        )
        self._count_outcome(route.state.name, "delivered")

    def _failed(self, parcel: Parcel, route: _Route, error: SendFailed, found: _Round) -> None:
        route.state = replace(route.state, failed=route.state.failed + 1, last_error=str(error))
        self._count_outcome(route.state.name, "failed")
        if not route.failures:
            log.warning("channel %s: not delivered: %s", route.state.name, error)
        self._fault(f"channel {route.state.name}: {error}")
        now_ns, wall_ns = self._monotonic_ns(), self._wall_ns()
        if not error.retryable:
            self._drop(parcel, f"it was refused: {error}", found)
            return
        route.failures += 1
        route.until_ns = now_ns + self._backoff_ns(route.failures - 1, error.retry_after_s)
        if wall_ns - parcel.notice.at_wall_ns >= GIVEN_UP_NS:
            self._drop(parcel, f"it could not be delivered for 3 days: {error}", found)
            return
        wait_ns = self._backoff_ns(parcel.tries, error.retry_after_s)
        found.wait(parcel, now_ns + wait_ns)
        try:
            self._box.failed(parcel.id, wall_ns + wait_ns, str(error))
        except StateError as e:
            found.look_ns = min(found.look_ns, now_ns + self._trouble(str(e)))

    def _backoff_ns(self, failures: int, retry_after_s: float | None) -> int:
        """1 s, doubled each time up to 5 minutes, give or take a fifth; or what was asked, up to 10 minutes."""
        wait_ns = min(_SECOND_NS << min(failures, 40), _LONGEST_BACKOFF_NS)
        wait_ns += wait_ns * (round(self._jitter() * 400) - 200) // 1000
        asked_ns = 0 if retry_after_s is None else round(retry_after_s * _SECOND_NS)
        return max(wait_ns, min(asked_ns, LONGEST_WAIT_NS))

    def _finish(self, parcel: Parcel, found: _Round) -> None:
        """Where the outbox cannot be told (a full disk), it is remembered and told next time. Its line waits for that,
        or whoever leads next would send it after the later ones; the others go on."""
        self._finished.add((parcel.id, parcel.key))
        try:
            self._box.sent(parcel.id)
        except StateError as e:
            found.wait(parcel, self._monotonic_ns() + self._trouble(str(e)))
        else:
            self._finished.discard((parcel.id, parcel.key))

    def _drop(self, parcel: Parcel, why: str, found: _Round) -> None:
        route = self._routes.get(parcel.channel)
        if route is not None:
            route.state = replace(route.state, dropped=route.state.dropped + 1)
            self._count_outcome(route.state.name, "dropped")
        text = f"not told by channel {shown(parcel.channel)}: {shown(parcel.notice.title)}: {why}"
        log.warning("%s", text)
        if self._note is not None:
            try:
                self._note(text)
            except Exception as e:
                self._fault(f"a journal line was not written: {e}", "internal")
        self._finish(parcel, found)

    def _fault(self, text: str, reason: str = "export") -> None:
        try:
            self._count(reason, text)
        except Exception:
            log.exception("a fault could not be counted")

    def _let_go(self) -> None:
        for route in self._routes.values():
            try:
                route.channel.close(self._closing_at or 0)
            except Exception as e:
                log.warning("channel %s: not closed in order: %s: %s", route.state.name, type(e).__name__, e)


def _in_turns(parcels: Iterable[Parcel]) -> list[Parcel]:
    """The first of each channel, then the second of each: many notices for one do not keep the others waiting. Of one
    channel those come first whose line has waited for nothing: one that never passes does not keep the others waiting.
    """
    waits: dict[Line, int] = {}
    numbered = []
    for parcel in parcels:
        waits[parcel.line] = wait = max(waits.get(parcel.line, 0), parcel.next_wall_ns)
        numbered.append((wait, parcel))
    places: dict[str, int] = {}
    placed = []
    for _, parcel in sorted(numbered, key=lambda each: each[0]):
        places[parcel.channel] = place = places.get(parcel.channel, 0) + 1
        placed.append((place, parcel))
    return [parcel for _, parcel in sorted(placed, key=lambda each: each[0])]
