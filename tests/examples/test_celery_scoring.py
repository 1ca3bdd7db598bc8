"""The scoring task in a real Celery worker: a pool of processes, and one process alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from .playing import Example

pytest.importorskip("celery", reason="needs celery")


@pytest.mark.parametrize("pool", [("--pool", "prefork", "--concurrency", "2"), ("--pool", "solo")], ids=lambda p: p[1])
def test_scores(tmp_path: Path, pool: tuple[str, ...]) -> None:
    with Example("celery_scoring", tmp_path) as example:
        example.start("celery", "-A", "tasks", "worker", "--without-gossip", "--without-mingle", *pool)
        lines = example.run("send.py").splitlines()
        assert [line.rpartition(" -> ")[2] for line in lines] == ["0.051", "0.943", "nan", "KeyError('night')"]
        assert example.counted("scores") == {"good": 2, "bad not_a_probability": 1, "bad exception": 1}
        assert example.counted("scores-in-time") == example.counted("scores")
        assert example.statuses()["scores"]["sli"] == 0.5
        assert example.faults() == {}
