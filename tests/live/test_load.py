"""Exact under load: what an independent client received, by class and reason, is what the engine counted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from otelslo.counts import Counts

from .history import saved_counts
from .ledger import Books, Order, send_all
from .servers import Service, until
from .watch import Guard, Watch

FULL = os.environ.get("OTELSLO_TORTURE") == "full"
REQUESTS = 200_000 if FULL else 20_000
SEED = 20261


def expected(books: Books) -> Counts:
    """Classes of the default availability rules, from what the client read."""
    return Counts(good=books.with_status(200), bad=books.with_status(500), excluded=books.with_status(403, 404))


def expected_reasons(books: Books) -> Counter[str]:
    return +Counter(
        {
            "good": books.with_status(200),
            "5xx": books.of_path("/boom "),
            "exception": books.of_path("/raise "),
            "unauthorised": books.of_path("/forbidden "),
            "client_error": books.of_path("/missing "),
        }
    )


@pytest.mark.torture
@pytest.mark.parametrize("workers", [2, 4])
def test_counts_equal_the_clients_ledger(tmp_path: Path, workers: int) -> None:
    with Service(tmp_path, workers) as service:
        watch = Watch(service.state_dir / "live.ring")
        with Guard(service.state_dir / "live.ring"):
            books = send_all(Order(service.port, REQUESTS, 32, SEED))
            until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
        print(f"seed {SEED}, {workers} workers, {REQUESTS} requests: {expected(books)} {dict(books.received)}")
        assert (books.answers, books.cut, books.wrong) == (REQUESTS, [], [])
        assert sorted(service.lines()) == list(range(REQUESTS))
        assert_exact(watch, books)
        assert len([owner for owner in watch.owners() if owner.pid]) == workers
        service.stop()
        totals = saved_counts(service.state_dir)
        assert totals["all"] == totals["twin"] == totals["by-route"] == expected(books)
        assert totals["items"].good == books.of_path("/items/7 ")


def assert_exact(watch: Watch, books: Books) -> None:
    for slo in ("all", "twin", "answered", "by-route"):
        assert watch.counts(slo) == expected(books), slo
        assert watch.reasons(slo) == expected_reasons(books), slo
    assert watch.counts("items") == Counts(good=books.of_path("/items/7 "))
    assert watch.counts("slow") == Counts(bad=books.of_path("/slow"))
    assert watch.reasons("slow") == +Counter({"slow": books.of_path("/slow")})
    assert watch.faults() == {}
    assert watch.fresh().begun() == books.answers


@pytest.mark.torture
def test_counts_equal_what_hey_reports(tmp_path: Path) -> None:
    hey = shutil.which("hey")
    if hey is None:
        pytest.skip("hey is not installed")
    number = REQUESTS // 2
    with Service(tmp_path, 2) as service:
        good = hey_statuses(hey, number, f"http://127.0.0.1:{service.port}/items/3")
        bad = hey_statuses(hey, number // 10, f"http://127.0.0.1:{service.port}/boom")
        watch = Watch(service.state_dir / "live.ring")
        until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
        assert (good, bad) == ({200: number}, {500: number // 10})
        assert watch.counts("all") == Counts(good=good[200], bad=bad[500])
        assert watch.counts("items") == Counts(good=good[200])


def hey_statuses(hey: str, number: int, url: str) -> dict[int, int]:
    said = subprocess.run([hey, "-n", str(number), "-c", "20", url], capture_output=True, text=True, check=True).stdout
    assert "Error distribution" not in said, said
    return {int(status): int(count) for status, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", said)}
