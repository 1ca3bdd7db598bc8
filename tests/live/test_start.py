"""Workers that start at the same moment share one ring, whoever of them comes how far."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otelslo import SLO, Engine
from otelslo.ring import state
from otelslo.ring.check import check
from otelslo.ring.locks import FileLock

from .servers import Service, until, warm_state
from .test_restart import send, watch_of

FULL = os.environ.get("OTELSLO_TORTURE") == "full"
TIMES = 10 if FULL else 1
WORKERS = 6


def test_a_worker_that_holds_its_block_but_has_not_reserved_it_harms_nobody(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    warm_state(state_dir)
    state.prepare(state_dir)
    slow = FileLock(state_dir / state.LOCKS / "block-000")
    assert slow.acquire(wait=False)
    with Engine([SLO("calls", match={"kind": "call"})], state_dir=state_dir, runner=False) as first:
        first.record(first.track("job"), "good", 1)
        check(state_dir / "live.ring")
        with Engine([SLO("calls", match={"kind": "call"})], state_dir=state_dir, runner=False) as second:
            second.record(second.track("job"), "bad", 1)
            assert second.notices == []
            assert second.ring.header.ring_id == first.ring.header.ring_id
            counts = first.ring.reader.counts(first.objectives[0].rows[None])
            assert (counts.good, counts.bad, counts.excluded) == (1, 1, 0)
    slow.release()


@pytest.mark.torture
def test_workers_that_start_at_once_share_one_ring(tmp_path: Path) -> None:
    for time in range(TIMES):
        (tmp_path / str(time)).mkdir()
        with Service(tmp_path / str(time), WORKERS) as service:
            counts = send(service, 600)
            watch = watch_of(service)
            until(lambda watch=watch: watch.fresh().in_flight() == 0, "the last requests end")  # type: ignore[misc]
            assert watch.counts("all") == watch.counts("twin") == counts
            assert {owner.pid for owner in watch.owners()} == {worker.pid for worker in service.workers}
            assert "set aside" not in service.said()
            service.stop()
