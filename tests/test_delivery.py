"""Deliveries with a destination played by the test: what is sent when, what is counted, and how it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from exporters.receiver import PATIENCE_S
from exporters.reports import report, row

from otelslo import SLO
from otelslo.delivery import Delivery, chosen_interval_ns
from otelslo.exporters import ExportFailed
from otelslo.report import Report

S = 10**9
PLAIN = SLO("checkout")


def numbered(number: int) -> Report:
    return report([PLAIN], [row(PLAIN, [number])], at_ns=1_700_000_000 * S + number)


def number_of(given: Report) -> int:
    return given.snapshot.at_ns - 1_700_000_000 * S


class Destination:
    """An exporter whose attempts the test ends: `attempts` counts those begun, `finish` says how the next one ends."""

    def __init__(self, by_hand: bool = False) -> None:
        self.sent: list[int] = []
        self.deadlines: list[int] = []
        self.endings: list[BaseException | None] = []
        self.closed: list[int] = []
        self.by_hand = by_hand
        self._changed = threading.Condition()
        self._ended = threading.Event()

    def export(self, given: Report, deadline_ns: int) -> None:
        with self._changed:
            self.sent.append(number_of(given))
            self.deadlines.append(deadline_ns)
            self._changed.notify_all()
            if self.by_hand:
                assert self._changed.wait_for(lambda: len(self.endings) >= len(self.sent), PATIENCE_S)
            ending = self.endings[len(self.sent) - 1] if len(self.endings) >= len(self.sent) else None
        if ending is not None:
            raise ending

    def finish(self, ending: BaseException | None = None) -> None:
        with self._changed:
            self.endings.append(ending)
            self._changed.notify_all()

    def wait_for(self, attempts: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.sent) >= attempts, PATIENCE_S)

    def close(self, deadline_ns: int) -> None:
        self.closed.append(deadline_ns)
        self._ended.set()

    def wait_until_closed(self) -> None:
        assert self._ended.wait(PATIENCE_S)


class Scene:
    """A delivery, its destination, and a clock that the test turns."""

    def __init__(self, destination: Destination, may_send: Callable[[], bool] = lambda: True, **options: Any) -> None:
        self.destination = destination
        self.now_ns = 5 * S
        self.faults: list[tuple[str, str]] = []
        options = {"interval_ns": 10 * S, "jitter": lambda: 0.5} | options
        self.delivery = Delivery(
            "otlp", destination, self._fault, may_send, monotonic_ns=lambda: self.now_ns, **options
        )

    def _fault(self, reason: str, detail: str) -> None:
        self.faults.append((reason, detail))

    def pass_time(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)

    def due(self) -> bool:
        return self.delivery.due(self.now_ns)

    def offer(self, number: int) -> None:
        self.delivery.offer(numbered(number))

    def settle(self, delivered: int = 0, failed: int = 0) -> None:
        """Until so many attempts have been counted."""

        def settled() -> bool:
            state = self.delivery.state()
            return (state.delivered, state.failed) == (delivered, failed) and not self.delivery.sending

        with self.delivery._changed:
            assert self.delivery._changed.wait_for(settled, PATIENCE_S), self.delivery.state()


# ── what is sent when ──────────────────────────────────────────────────────────────────────────────────────────────
def test_the_first_report_is_due_at_once_and_then_one_each_interval() -> None:
    scene = Scene(Destination())
    assert scene.due()
    scene.offer(1)
    scene.settle(delivered=1)
    assert not scene.due()
    scene.pass_time(9.999)
    assert not scene.due()
    scene.pass_time(0.001)
    assert scene.due()
    scene.offer(2)
    scene.settle(delivered=2)
    assert scene.destination.sent == [1, 2]
    assert scene.delivery.state().last_success_wall_ns == numbered(2).snapshot.wall_ns


def test_a_report_that_is_not_due_waits_for_the_next_one() -> None:
    scene = Scene(Destination())
    scene.offer(1)
    scene.settle(delivered=1)
    scene.offer(2)
    scene.pass_time(10)
    scene.offer(3)
    scene.settle(delivered=2)
    assert scene.destination.sent == [1, 3]


def test_while_one_is_on_its_way_nothing_is_due_and_only_the_newest_is_kept() -> None:
    scene = Scene(Destination(by_hand=True))
    scene.offer(1)
    scene.destination.wait_for(1)
    scene.pass_time(100)
    for number in (2, 3, 4):
        assert not scene.due()
        scene.offer(number)
    scene.destination.finish()
    scene.settle(delivered=1)
    assert scene.due()
    scene.offer(5)
    scene.destination.wait_for(2)
    scene.destination.finish()
    scene.settle(delivered=2)
    assert scene.destination.sent == [1, 5]


def test_the_leaders_thread_waits_for_nothing() -> None:
    scene = Scene(Destination(by_hand=True))
    for number in range(100):  # would never return if it waited for the destination
        scene.offer(number)
        scene.due()
        scene.delivery.state()
    scene.destination.wait_for(1)
    scene.destination.finish()
    scene.settle(delivered=1)


def test_nobody_sends_who_no_longer_leads() -> None:
    leading = [False]
    asked = threading.Event()

    def may_send() -> bool:
        asked.set()
        return leading[0]

    scene = Scene(Destination(), may_send)
    scene.offer(1)
    assert asked.wait(PATIENCE_S)
    scene.settle()
    assert scene.destination.sent == []
    leading[0] = True
    scene.pass_time(10)
    scene.offer(2)
    scene.settle(delivered=1)
    assert scene.destination.sent == [2]
    assert scene.faults == []


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────────
def waits(scene: Scene, endings: list[BaseException | None]) -> list[float]:
    """Seconds from each attempt's end until the next report is due."""
    found = []
    scene.destination.endings = list(endings)
    for number, ending in enumerate(endings):
        before = scene.delivery.state()
        assert scene.due()
        scene.offer(number)
        failed = ending is not None
        scene.settle(delivered=before.delivered + (not failed), failed=before.failed + failed)
        waited = 0
        while not scene.due():
            scene.pass_time(0.5)
            waited += 1
        found.append(waited / 2)
    return found


def test_waits_double_up_to_a_minute_and_begin_anew_after_a_success() -> None:
    lost = ExportFailed("no")
    assert waits(Scene(Destination()), [lost] * 6 + [None] + [lost] * 2) == [10, 20, 40, 60, 60, 60, 10, 10, 20]


def test_a_long_interval_is_the_longest_wait() -> None:
    assert waits(Scene(Destination(), interval_ns=300 * S), [ExportFailed("no")] * 3) == [300, 300, 300]


@pytest.mark.parametrize(("jitter", "wanted"), [(0.0, [8, 16]), (1.0, [12, 24])])
def test_waits_differ_by_a_fifth(jitter, wanted) -> None:
    assert waits(Scene(Destination(), jitter=lambda: jitter), [ExportFailed("no")] * 2) == wanted


def test_retry_after_is_honoured_within_reason() -> None:
    endings = [ExportFailed("busy", retry_after_s=seconds) for seconds in (35.0, 1.0, 10.0**9)]
    assert waits(Scene(Destination()), endings) == [35, 20, 600]


def test_what_is_refused_for_good_is_no_reason_to_wait_longer() -> None:
    refused = ExportFailed("400", retryable=False, rejected_points=7)
    scene = Scene(Destination())
    assert waits(scene, [refused] * 3) == [10, 10, 10]
    assert scene.delivery.state().rejected_points == 21


def test_each_failed_attempt_is_one_fault_and_the_error_stays_until_a_success() -> None:
    scene = Scene(Destination())
    waits(scene, [ExportFailed("closed"), ValueError("a bug")])
    assert scene.faults == [("export", "otlp: closed"), ("export", "otlp: ValueError: a bug")]
    assert scene.delivery.state().last_error == "ValueError: a bug"
    waits(scene, [ExportFailed("again"), None][1:])
    state = scene.delivery.state()
    assert (state.delivered, state.failed, state.last_error) == (1, 2, None)


def test_a_failing_fault_counter_does_not_end_the_thread(caplog) -> None:
    scene = Scene(Destination())

    def broken(reason: str, detail: str) -> None:
        raise RuntimeError("no ring")

    scene.delivery._fault = broken
    assert waits(scene, [ExportFailed("no"), None]) == [10, 10]


def test_an_outage_is_said_once_and_its_end_too(caplog) -> None:
    with caplog.at_level("INFO", logger="otelslo"):
        waits(Scene(Destination()), [ExportFailed("closed")] * 4 + [None] * 2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_after_an_outage_the_newest_goes_and_no_backlog() -> None:
    scene = Scene(Destination())
    waits(scene, [ExportFailed("closed")])
    scene.destination.endings = [ExportFailed("closed")] * 2
    scene.offer(1)
    scene.settle(failed=2)
    for number in range(2, 10):
        assert not scene.due()
        scene.offer(number)
    scene.pass_time(20)
    scene.offer(10)
    scene.settle(delivered=1, failed=2)
    assert scene.destination.sent == [0, 1, 10]


def test_each_attempt_has_a_deadline() -> None:
    scene = Scene(Destination(), timeout_ns=3 * S)
    scene.offer(1)
    scene.settle(delivered=1)
    assert scene.destination.deadlines == [8 * S]


# ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_closing_sends_what_has_not_arrived() -> None:
    scene = Scene(Destination())
    scene.offer(1)
    scene.settle(delivered=1)
    scene.offer(2)  # not due
    scene.delivery.close(scene.now_ns + 2 * S)
    assert scene.destination.sent == [1, 2]
    assert scene.destination.deadlines[-1] == scene.now_ns + 2 * S
    assert scene.destination.closed == [scene.now_ns + 2 * S]


def test_closing_sends_a_failed_report_once_more_but_not_a_refused_one() -> None:
    for ending, wanted in ((ExportFailed("closed"), [1, 1]), (ExportFailed("400", retryable=False), [1])):
        scene = Scene(Destination())
        scene.destination.endings = [ending]
        scene.offer(1)
        scene.settle(failed=1)
        scene.delivery.close(scene.now_ns + 2 * S)
        assert scene.destination.sent == wanted


def test_closing_sends_nothing_twice_and_nothing_past_its_deadline() -> None:
    scene = Scene(Destination())
    scene.offer(1)
    scene.settle(delivered=1)
    scene.delivery.close(scene.now_ns + 2 * S)
    scene.delivery.close(scene.now_ns + 2 * S)
    assert scene.destination.sent == [1]
    late = Scene(Destination())
    late.offer(1)
    late.settle(delivered=1)
    late.offer(2)
    late.delivery.close(late.now_ns)
    late.destination.wait_until_closed()
    assert late.destination.sent == [1]


def test_closing_leaves_a_destination_that_hangs_behind() -> None:
    scene = Scene(Destination(by_hand=True))
    scene.offer(1)
    scene.destination.wait_for(1)
    scene.offer(2)
    scene.delivery.close(scene.now_ns + S // 20)  # returns, though the attempt goes on
    assert scene.destination.closed == []
    scene.pass_time(1)
    scene.destination.finish()
    scene.destination.wait_until_closed()
    assert scene.destination.sent == [1]


def test_closing_without_a_report_and_after_it_nothing_is_taken() -> None:
    scene = Scene(Destination())
    scene.delivery.close(scene.now_ns + 2 * S)
    assert len(scene.destination.closed) == 1
    assert not scene.due()
    scene.offer(1)
    assert scene.destination.sent == []


def test_a_destination_that_cannot_be_closed_hurts_nobody() -> None:
    scene = Scene(Destination())

    def broken(deadline_ns: int) -> None:
        raise OSError("no")

    scene.destination.close = broken  # type: ignore[method-assign]
    scene.delivery.close(scene.now_ns + 2 * S)


# ── threads and forks ──────────────────────────────────────────────────────────────────────────────────────────────
def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("otelslo-")]


def test_no_thread_until_there_is_something_to_send() -> None:
    before = threads()
    scene = Scene(Destination())
    assert threads() == before
    scene.offer(1)
    scene.settle(delivered=1)
    assert threads() == [*before, "otelslo-otlp"]
    scene.delivery.close(scene.now_ns + 30 * S)
    assert threads() == before


def test_no_thread_to_be_had_is_a_failure(monkeypatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    scene = Scene(Destination())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        scene.offer(1)
    assert scene.delivery.state().failed == 1
    scene.pass_time(100)
    scene.offer(2)
    scene.settle(delivered=1, failed=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_no_thread_until_it_sends_itself() -> None:
    scene = Scene(Destination(by_hand=True))
    scene.offer(1)
    scene.destination.wait_for(1)  # the parent's thread is sending
    child = os.fork()
    if child == 0:
        answer = 1
        try:
            scene.delivery._exporter = own = Destination()
            quiet = threads() == []
            scene.pass_time(100)
            due = scene.due()
            scene.offer(7)
            own.wait_for(1)
            scene.delivery.close(scene.now_ns + 20 * S)
            answer = 0 if quiet and due and own.sent == [7] else 1
        finally:
            os._exit(answer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    scene.destination.finish()
    scene.settle(delivered=1)
    assert scene.destination.sent == [1]


# ── the interval ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("text", "seconds"), [("", 10), ("5000", 5), (" 250 ", 0.25), ("60000", 60)])
def test_the_interval_is_the_environments(text, seconds) -> None:
    assert chosen_interval_ns({"OTEL_METRIC_EXPORT_INTERVAL": text}) == round(seconds * S)


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "10s", "99999999999", "٣"])
def test_an_interval_that_is_none_is_said(text, caplog) -> None:
    assert chosen_interval_ns({"OTEL_METRIC_EXPORT_INTERVAL": text}) == 10 * S
    assert "milliseconds" in caplog.text
