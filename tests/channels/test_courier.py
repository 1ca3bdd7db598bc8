"""The courier with an outbox and channels played by the test: what is sent when, what is dropped, and how it ends."""

from __future__ import annotations

import os
import threading

import pytest
from exporters.receiver import PATIENCE_S

from channels.boxes import DAY, LOST, REFUSED, Box, Play, S, Scene, alert, keys
from otelslo.channels import SendFailed

BACKOFF_S = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


# ── what is sent when ──────────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_posted_is_sent_in_order_and_recorded_after() -> None:
    scene = Scene()
    scene.post(1, 2, 3)
    scene.ops.during = lambda: seen.append(list(scene.box.recorded))
    seen: list[list[int]] = []
    assert scene.turn() == 10
    assert scene.ops.arrived == keys(1, 2, 3)
    assert seen == [[], [1], [1, 2]]
    assert scene.box.parcels == []
    assert scene.faults == []
    scene.turns(3600)
    assert scene.ops.tried == keys(1, 2, 3)


def test_waits_double_up_to_five_minutes() -> None:
    scene = Scene()
    scene.ops.ending = LOST
    scene.post(1)
    for tries, wait_s in enumerate(BACKOFF_S, start=1):
        assert scene.turn() <= 10
        assert len(scene.ops.tried) == tries
        assert scene.box.parcels[0].next_wall_ns == scene.clock.wall_ns + wait_s * S
        scene.pass_time(wait_s - 0.001)
        scene.turn()
        assert len(scene.ops.tried) == tries
        scene.pass_time(0.001)
    assert scene.box.parcels[0].tries == len(BACKOFF_S)
    scene.ops.ending = None
    scene.turn()
    assert scene.box.parcels == []


@pytest.mark.parametrize(("jitter", "wanted_s"), [(0.0, 0.8), (1.0, 1.2)])
def test_waits_differ_by_a_fifth(jitter, wanted_s) -> None:
    scene = Scene(jitter=lambda: jitter)
    scene.ops.ending = LOST
    scene.post(1)
    assert scene.turn() == wanted_s


@pytest.mark.parametrize(("asked_s", "wanted_s"), [(90.0, 90), (0.5, 1), (10.0**9, 600)])
def test_retry_after_is_honoured_within_reason(asked_s, wanted_s) -> None:
    scene = Scene()
    scene.ops.endings = [SendFailed("busy", retry_after_s=asked_s)]
    scene.post(1, 2)
    scene.post(3, name="other")
    scene.turns(wanted_s - 0.1)
    assert scene.ops.tried == keys(1)
    scene.turns(1)
    assert scene.ops.arrived in (keys(1, 2, 3), keys(3, 1, 2))


def test_a_wall_clock_that_is_stepped_back_holds_nothing_up() -> None:
    scene = Scene()
    scene.ops.endings = [LOST]
    scene.post(1)
    scene.turn()
    scene.clock.wall_ns -= 30 * DAY
    scene.pass_time(1)
    scene.turn()
    assert scene.ops.arrived == keys(1)


def test_waits_begin_anew_after_a_success() -> None:
    scene = Scene()
    scene.ops.endings = [LOST] * 4
    scene.post(1)
    scene.turns(20)
    assert scene.ops.arrived == keys(1)
    scene.ops.endings = [LOST]
    scene.post(2)
    scene.turn()
    scene.turns(1)
    assert scene.ops.arrived == keys(1, 2)


def test_after_a_restart_it_goes_on_where_the_other_stopped() -> None:
    first = Scene()
    first.ops.ending = LOST
    first.post(1, 2)
    first.turn()
    second = Scene(box=first.box, clock=first.clock)
    assert second.turn() == 1
    assert second.ops.tried == []
    second.turns(1)
    assert second.ops.arrived == keys(1, 2)


# ── order ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("leaves_out", [False, True])
def test_a_resolve_waits_for_its_firing_and_nobody_else_does(leaves_out) -> None:
    scene = Scene(box=Box(leaves_out))
    scene.ops.endings = [LOST]
    scene.post(1)
    scene.post(2, event="resolved")
    scene.post(3, group="route=/other")
    scene.post(4, slo="other")
    scene.post(5, name="page-slow")
    scene.turns(0.9)
    assert scene.ops.tried == keys(1)  # the channel is left alone
    scene.turns(0.2)
    assert sorted(scene.ops.arrived) == keys(1, 2, 3, 4, 5)
    assert scene.ops.arrived.index(keys(1)[0]) < scene.ops.arrived.index(keys(2)[0])


def test_a_notice_that_never_passes_holds_only_its_line() -> None:
    scene = Scene()

    def refuse_the_first() -> None:
        if scene.ops.tried[-1] == keys(1)[0]:
            raise LOST

    scene.ops.during = refuse_the_first
    scene.post(1, 2)
    scene.post(*range(10, 20), name="other")
    scene.turns(60)
    assert scene.ops.arrived == keys(*range(10, 20))
    assert scene.ops.tried.count(keys(1)[0]) == 6  # at 0, 1, 3, 7, 15 and 31 s


def test_a_line_waits_until_the_one_before_is_recorded() -> None:
    """Whoever leads next would send the first one again, after the second."""
    scene = Scene()
    scene.post(1, 2)
    scene.post(3, name="other")
    scene.box.broken = {"sent"}
    scene.turns(30)
    assert scene.ops.tried == keys(1, 3)
    scene.box.broken = set()
    scene.turns(10)
    assert scene.ops.tried == keys(1, 3, 2)
    assert scene.box.parcels == []


def test_many_notices_for_one_channel_do_not_keep_the_others_waiting() -> None:
    scene = Scene("ops", "am")
    scene.post(*range(50))
    scene.post(100, 101, channel="am")
    order: list[str] = []
    for play in scene.plays.values():
        play.during = lambda play=play: order.append(play.tried[-1])
    scene.turn()
    assert order[:4] == keys(0, 100, 1, 101)


def test_a_channel_that_fails_costs_the_others_one_attempt() -> None:
    scene = Scene("ops", "am")
    scene.ops.ending = LOST
    scene.ops.during = lambda: scene.pass_time(30)
    for number in range(50):
        scene.post(number, name=f"alert{number}")
        scene.post(number, name=f"alert{number}", channel="am")
    scene.turn()
    assert len(scene.plays["am"].arrived) == 50
    assert len(scene.ops.tried) <= 2


def test_what_comes_while_much_is_sent_has_its_turn() -> None:
    scene = Scene("ops", "am")
    scene.post(*range(10))

    def slowly() -> None:
        scene.pass_time(20)
        if len(scene.ops.tried) == 1:
            scene.post(100, channel="am")
        if len(scene.ops.tried) == 4:
            assert scene.plays["am"].arrived == keys(100)

    scene.ops.during = slowly
    scene.turn()
    assert scene.ops.arrived == keys(*range(10))


# ── what is dropped ────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_refused_is_dropped_with_a_fault() -> None:
    scene = Scene()
    scene.ops.endings = [REFUSED]
    scene.post(1, 2)
    scene.turn()
    assert scene.ops.arrived == keys(2)
    assert scene.box.parcels == []
    assert scene.faults == [("export", "channel ops: answered 400")]
    assert len(scene.notes) == 1
    assert "it was refused: answered 400" in scene.notes[0]
    state = scene.courier.states()[0]
    assert (state.delivered, state.failed, state.dropped, state.last_error) == (1, 1, 1, None)


def test_what_cannot_be_delivered_is_given_up_after_three_days() -> None:
    scene = Scene()
    scene.ops.ending = LOST
    scene.post(1)
    scene.turns(3 * DAY / S - 1)
    assert scene.notes == []
    assert 3 * 288 <= len(scene.ops.tried) <= 3 * 288 + 12
    scene.turns(600)
    assert scene.box.parcels == []
    assert len(scene.notes) == 1
    assert "could not be delivered for 3 days" in scene.notes[0]


def test_a_channel_that_is_dead_for_days_keeps_no_backlog() -> None:
    """Its attempts are minutes apart: one for each of what is old would take longer than more comes."""
    scene = Scene()
    scene.ops.ending = LOST
    for number in range(400):
        scene.post(number)
    scene.turns(3 * DAY / S + 600)
    assert scene.box.parcels == []
    assert len(scene.notes) == 400
    assert len(scene.ops.tried) < 3 * 288 + 30


def test_an_old_notice_is_tried_before_it_is_given_up() -> None:
    scene = Scene()
    scene.post(1)
    scene.pass_time(30 * DAY / S)
    scene.turn()
    assert scene.ops.arrived == keys(1)


def test_a_channel_that_no_longer_exists() -> None:
    scene = Scene("ops")
    scene.post(1, channel="gone")
    scene.post(2)
    scene.turn()
    assert scene.ops.arrived == keys(2)
    assert scene.box.parcels == []
    assert "no such channel any more" in scene.notes[0]
    assert scene.faults == []


def test_a_journal_that_cannot_be_written_holds_nothing_up(caplog) -> None:
    def broken(text: str) -> None:
        raise OSError("no")

    scene = Scene("ops", note=broken)
    scene.post(1, channel="gone")
    scene.turn()
    assert scene.box.parcels == []
    assert scene.faults == [("internal", "a journal line was not written: no")]


# ── failures of ours ───────────────────────────────────────────────────────────────────────────────────────────────
def test_a_fault_of_a_channel_is_a_failure_like_any() -> None:
    scene = Scene()
    scene.ops.endings = [ValueError("a bug")]
    scene.post(1)
    scene.turns(2)
    assert scene.ops.arrived == keys(1)
    assert scene.faults == [("export", "channel ops: ValueError: a bug")]


def test_an_outage_is_said_once_and_its_end_too(caplog) -> None:
    scene = Scene()
    scene.ops.endings = [LOST] * 4
    scene.post(1, 2)
    with caplog.at_level("INFO", logger="otelslo"):
        scene.turns(60)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert len(scene.faults) == 4


@pytest.mark.parametrize("method", ["due", "sent", "failed"])
def test_an_outbox_that_cannot_be_used_is_asked_again(method, caplog) -> None:
    scene = Scene()
    scene.post(1)
    scene.box.broken = {method}
    scene.ops.endings = [LOST] if method == "failed" else []
    waits = []
    for _ in range(6):
        waits.append(scene.turn())
        scene.pass_time(waits[-1])
    if method != "failed":
        assert waits == [1, 2, 4, 8, 10, 10]
    assert len(scene.ops.arrived) <= 1  # it was not sent again, though it could not be recorded
    assert sum(record.levelname == "WARNING" and "outbox" in record.message for record in caplog.records) == 1
    scene.box.broken = set()
    scene.turns(20)
    assert scene.ops.arrived == keys(1)
    assert scene.box.parcels == []


@pytest.mark.parametrize("method", ["sent", "failed"])
def test_a_full_disk_keeps_no_other_channel_waiting(method) -> None:
    scene = Scene("ops", "am")
    scene.box.broken = {method}
    scene.ops.ending = LOST if method == "failed" else None
    scene.post(1)
    scene.post(1, channel="am")
    scene.turn()
    assert scene.plays["am"].arrived == keys(1)


def test_a_bug_of_the_outbox_does_not_end_the_courier(monkeypatch) -> None:
    scene = Scene()
    scene.post(1)
    with monkeypatch.context() as patch:
        patch.setattr(scene.box, "due", lambda *_: 1 // 0)
        assert scene.turn() == 1
    assert scene.faults == [("internal", "the courier failed: ZeroDivisionError: integer division or modulo by zero")]
    scene.turn()
    assert scene.ops.arrived == keys(1)


def test_a_failing_fault_counter_does_not_end_it(caplog) -> None:
    def broken(reason: str, detail: str) -> None:
        raise RuntimeError("no ring")

    scene = Scene()
    scene.courier._count = broken
    scene.ops.endings = [LOST]
    scene.post(1)
    scene.turns(2)
    assert scene.ops.arrived == keys(1)


def test_nobody_sends_who_no_longer_leads() -> None:
    scene = Scene()
    scene.leads = False
    scene.post(1, 2)
    assert scene.turn() == 10
    assert scene.ops.tried == []
    scene.leads = True
    scene.ops.during = lambda: setattr(scene, "leads", False)  # lost while the first is on its way
    scene.turn()
    assert scene.ops.tried == keys(1)
    assert [parcel.key for parcel in scene.box.parcels] == keys(2)


def test_each_attempt_has_a_deadline() -> None:
    scene = Scene(timeout_ns=3 * S)
    scene.post(1)
    scene.turn()
    assert scene.ops.deadlines == [scene.clock.monotonic_ns + 3 * S]


# ── threads, the end, and forks ────────────────────────────────────────────────────────────────────────────────────
def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "otelslo-courier"]


def test_no_thread_until_it_is_woken_and_none_after_the_end() -> None:
    scene = Scene()
    scene.post(1)
    assert threads() == []
    scene.courier.wake()
    scene.box.wait_until(lambda: not scene.box.parcels)
    assert threads() == ["otelslo-courier"]
    scene.courier.close(scene.clock.monotonic_ns + 30 * S)
    assert threads() == []
    assert len(scene.ops.closed) == 1
    scene.courier.wake()
    assert threads() == []


def test_the_leaders_thread_waits_for_nothing() -> None:
    scene, released = Scene(), threading.Event()
    scene.ops.during = lambda: released.wait(PATIENCE_S)
    scene.post(1)
    for _ in range(100):  # would never return if it waited for the channel
        scene.courier.wake()
        scene.courier.states()
    assert scene.ops.began.wait(PATIENCE_S)
    scene.post(2)
    scene.courier.wake()
    released.set()
    scene.box.wait_until(lambda: not scene.box.parcels)
    scene.courier.close(scene.clock.monotonic_ns + 30 * S)
    assert scene.ops.arrived == keys(1, 2)


def test_closing_sends_what_is_due_and_leaves_the_rest() -> None:
    scene = Scene("ops", "am")
    scene.plays["am"].ending = SendFailed("busy", retry_after_s=500.0)
    scene.post(0, channel="am")
    scene.courier.wake()
    scene.box.wait_until(lambda: bool(scene.box.errors))
    scene.post(1, 2)
    deadline_ns = scene.clock.monotonic_ns + 20 * S
    scene.courier.close(deadline_ns)
    assert scene.ops.arrived == keys(1, 2)
    assert scene.ops.deadlines == [deadline_ns] * 2
    assert [parcel.key for parcel in scene.box.parcels] == keys(0)
    assert [len(play.closed) for play in scene.plays.values()] == [1, 1]


def test_closing_leaves_a_channel_that_hangs_behind() -> None:
    scene, released = Scene(), threading.Event()
    scene.ops.during = lambda: released.wait(PATIENCE_S)
    scene.post(1, 2)
    scene.courier.wake()
    assert scene.ops.began.wait(PATIENCE_S)
    scene.courier.close(scene.clock.monotonic_ns + S // 20)  # returns, though the attempt goes on
    assert scene.ops.closed == []
    scene.pass_time(1)
    released.set()
    left = next(thread for thread in threading.enumerate() if thread.name == "otelslo-courier")
    left.join(PATIENCE_S)
    assert scene.ops.tried == keys(1)
    assert len(scene.ops.closed) == 1


def test_closing_unused_twice_and_with_a_channel_that_cannot_be_closed() -> None:
    scene = Scene("ops", "am")

    def broken(deadline_ns: int) -> None:
        raise OSError("no")

    scene.ops.close = broken  # type: ignore[method-assign]
    for _ in range(2):
        scene.courier.close(scene.clock.monotonic_ns + S)
    assert len(scene.plays["am"].closed) == 1


def test_no_thread_to_be_had_is_a_fault(monkeypatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    scene = Scene()
    scene.post(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        scene.courier.wake()
    assert [reason for reason, _ in scene.faults] == ["export"]
    scene.courier.wake()
    scene.box.wait_until(lambda: not scene.box.parcels)
    scene.courier.close(scene.clock.monotonic_ns + 30 * S)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_no_thread_until_it_is_woken_itself() -> None:
    scene, released = Scene(), threading.Event()
    scene.ops.during = lambda: released.wait(PATIENCE_S)
    scene.post(1)
    scene.courier.wake()
    assert scene.ops.began.wait(PATIENCE_S)  # the parent's thread is sending
    child = os.fork()
    if child == 0:
        answer = 1
        try:
            own, box = Play(), Box()
            scene.courier._routes["ops"].channel, scene.courier._box = own, box
            box.post("ops", alert(7))
            quiet = threads() == []
            scene.courier.wake()
            box.wait_until(lambda: not box.parcels)
            scene.courier.close(scene.clock.monotonic_ns + 20 * S)
            answer = 0 if quiet and own.arrived == keys(7) and len(own.closed) == 1 else 1
        finally:
            os._exit(answer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    released.set()
    scene.box.wait_until(lambda: not scene.box.parcels)
    scene.courier.close(scene.clock.monotonic_ns + 30 * S)
    assert scene.ops.arrived == keys(1)
