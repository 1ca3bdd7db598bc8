"""Budgets go on over restarts; a lost ring comes back from SQLite, and what may be missing is said."""

from __future__ import annotations

from pathlib import Path

from otelslo.counts import Counts

from .history import saved_counts
from .ledger import Order, send_all
from .servers import Service, until
from .watch import Watch

ONLY_GOOD = {"/ok": 1}
BAD_TOO = {"/ok": 8, "/boom": 2}


def send(service: Service, number: int, first: int = 0, weights: dict[str, int] | None = None) -> Counts:
    """Send requests, all of which must be answered; what they count as."""
    books = send_all(Order(service.port, number, 8, 20263, first, weights or BAD_TOO))
    assert (books.cut, books.wrong) == ([], [])
    return Counts(good=books.with_status(200), bad=books.with_status(500))


def watch_of(service: Service) -> Watch:
    return Watch(service.state_dir / "live.ring")


def await_commit(watch: Watch) -> None:
    """Until a commit that was begun after now has returned: two more, since one may be under way."""
    for _ in range(2):
        seen = watch.fresh().committed_ns
        until(lambda seen=seen: watch.fresh().committed_ns > seen, "the leader commits")  # type: ignore[misc]


def test_budgets_go_on_after_a_restart(tmp_path: Path) -> None:
    with Service(tmp_path, 2) as service:
        first = send(service, 400)
        ring_id = watch_of(service).ring_id
        service.stop()
        service.start()
        watch = watch_of(service)
        assert (watch.ring_id, watch.counts("all")) == (ring_id, first)
        second = send(service, 400, 400)
        until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
        assert watch.counts("all") == first + second
        for worker in service.workers:
            worker.kill()
        service.start()
        watch = watch_of(service)
        assert (watch.ring_id, watch.counts("all")) == (ring_id, first + second)
        assert "rebuilt" not in service.said()


def test_the_last_worker_to_stop_commits(tmp_path: Path) -> None:
    with Service(tmp_path, 2) as service:
        watch = watch_of(service)
        until(lambda: watch.leader_pid() in [w.pid for w in service.workers], "somebody leads")
        leader = next(w for w in service.workers if w.pid == watch.leader_pid())
        leader.terminate()
        leader.wait_gone()
        service.workers.remove(leader)
        counted = send(service, 50)
        service.stop()
        assert watch.counts("all") == counted
        assert saved_counts(service.state_dir)["all"] == counted


def test_a_deleted_ring_comes_back_from_the_database(tmp_path: Path) -> None:
    with Service(tmp_path, 2) as service:
        first = send(service, 400)
        ring_id = watch_of(service).ring_id
        service.stop()
        (service.state_dir / "live.ring").unlink()
        service.start()
        watch = watch_of(service)
        assert (watch.ring_id, watch.counts("all"), watch.counts("twin")) == (ring_id, first, first)
        assert service.said().count("live.ring was rebuilt") == 1
        assert "at most one flush interval" in service.said()
        second = send(service, 200, 400)
        until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
        assert watch.counts("all") == first + second
        service.stop()
        assert saved_counts(service.state_dir)["all"] == first + second


def test_a_ring_lost_with_its_workers_costs_at_most_what_was_not_committed(tmp_path: Path) -> None:
    with Service(tmp_path, 2) as service:
        committed = send(service, 300)
        watch = watch_of(service)
        await_commit(watch)
        late = send(service, 200, 300)
        for worker in service.workers:
            worker.kill()
        at_death = watch.counts("all")
        saved = saved_counts(service.state_dir)["all"]
        assert at_death == committed + late
        (service.state_dir / "live.ring").unlink()
        service.start()
        rebuilt = watch_of(service).counts("all")
        assert rebuilt == saved
        assert committed.good <= rebuilt.good <= at_death.good
        assert committed.bad <= rebuilt.bad <= at_death.bad
        assert "at most one flush interval (1 s)" in service.said()


def test_a_deleted_database_is_filled_again_from_the_ring(tmp_path: Path) -> None:
    with Service(tmp_path, 1) as service:
        first = send(service, 200)
        service.stop()
        (service.state_dir / "otelslo.db").unlink()
        service.start()
        watch = watch_of(service)
        assert watch.counts("all") == first
        await_commit(watch)
        assert saved_counts(service.state_dir)["all"] == first


def test_with_ring_and_database_gone_another_ring_begins(tmp_path: Path) -> None:
    with Service(tmp_path, 1) as service:
        send(service, 100)
        ring_id = watch_of(service).ring_id
        service.stop()
        for name in ("live.ring", "otelslo.db"):
            (service.state_dir / name).unlink()
        service.start()
        watch = watch_of(service)
        second = send(service, 100, 100)
        until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
        assert watch.ring_id != ring_id
        assert watch.counts("all") == second


def test_a_ring_deleted_under_load_is_said_once_and_counting_goes_on(tmp_path: Path) -> None:
    with Service(tmp_path, 2) as service:
        watch = watch_of(service)
        first = send(service, 100)
        await_commit(watch)
        (service.state_dir / "live.ring").unlink()
        second = send(service, 300, 100)
        until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
        for _ in range(2):
            await_commit(watch)
        assert watch.counts("all") == first + second
        assert service.said().count("live.ring was removed or replaced") == 1
        service.stop()
        assert saved_counts(service.state_dir)["all"] == first + second


def test_a_worker_replaced_after_the_ring_was_deleted_does_not_stop_the_history(tmp_path: Path) -> None:
    with Service(tmp_path, 2) as service:
        watch = watch_of(service)
        send(service, 100)
        await_commit(watch)
        (service.state_dir / "live.ring").unlink()
        victim = next(worker for worker in service.workers if worker.pid != watch.leader_pid())
        victim.kill()
        service.replace(victim)
        service.wait_ready()
        send(service, 400, 100)
        service.stop()
        saved = saved_counts(service.state_dir)["all"]
        service.start()
        watch = watch_of(service)
        assert watch.counts("all").good >= saved.good
        assert watch.counts("all").bad >= saved.bad
        counts = watch.counts("all") + send(service, 50, 500)
        service.stop()
        assert saved_counts(service.state_dir)["all"] == counts
