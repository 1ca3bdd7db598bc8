"""A process of its own that writes to a store, to be killed, starved or forked by the fault tests.

python writer_process.py MODE PATH [NUMBER]
"""

from __future__ import annotations

import os
import resource
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from snapshots import RING_A, RING_B, WALL_START_NS, loss_of, snapshot

from otelslo.exporters.sqlite import Outdated, Store, StoreUnavailable


def endless(store: Store) -> None:
    """Commit for ever from where the file stands; print each number once its commit has returned."""
    saved = store.load()
    fencing = store.acquire_leadership("endless", WALL_START_NS)
    seq = saved.seq if saved else 0
    while True:
        seq += 1
        store.commit(snapshot(seq, rows=40), fencing)
        print(seq, flush=True)


def stress(store: Store, number: int) -> None:
    """For ever: commits of a ring of its own, notes in the journal, and reads, as fast as they go."""
    saved = store.load()
    seq = saved.seq if saved else 0
    ring_id = f"{number:032x}"
    while True:
        seq += 1
        try:
            persist(lambda: store.commit(snapshot(seq, ring_id=ring_id, rows=40), 1))  # noqa: B023
        except Outdated:  # the newest commit that was loaded is another writer's
            seq += 1000
            continue
        persist(lambda: store.append_journal("stress", str(seq), WALL_START_NS + seq))  # noqa: B023
        if seq % 7 == 0:
            persist(store.load)
        print(seq, flush=True)


def commits(store: Store, number: int) -> None:
    """200 commits of a ring of its own, without taking the lead."""
    for seq in range(1, 201):
        persist(lambda: store.commit(snapshot(seq, ring_id=(RING_A, RING_B)[number]), 1))  # noqa: B023


def hot(store: Store) -> None:
    """Die in the middle of a transaction that has reached the file, leaving a journal to be played back."""
    store.commit(snapshot(1), 1)
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=TRUNCATE")
    connection.execute("PRAGMA cache_size=2")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE latest SET cells = zeroblob(900000)")
    connection.executemany("INSERT INTO journal (text) VALUES (?)", [("x" * 1000,)] * 2000)
    os.kill(os.getpid(), 9)


def forks(store: Store) -> None:
    """Fork again and again while a thread commits; every child writes and ends the normal way."""
    store.commit(snapshot(1), 1)
    more = threading.Semaphore(0)
    numbers = iter(range(2, 102))

    def commit() -> None:
        for seq in numbers:
            more.acquire()
            persist(lambda: store.commit(snapshot(seq, rows=40), 1))  # noqa: B023

    thread = threading.Thread(target=commit)
    thread.start()
    children = []
    for number in range(20):
        more.release(5)
        child = os.fork()
        if child == 0:
            persist(lambda: store.append_journal("child", str(number), WALL_START_NS))  # noqa: B023
            saved = store.load()
            sys.exit(0 if saved is not None and saved.seq >= 1 else 1)
        children.append(child)
    thread.join()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 20
    saved = store.load()
    assert saved is not None
    assert saved.seq == 101


def starved(store: Store) -> None:
    """Meet a file size limit (an I/O error to SQLite), then have it lifted."""
    store.commit(snapshot(1), 1, full=True)
    assert not store.needs_full
    size = os.stat(store.path).st_size
    many = tuple(loss_of(2, route=f"/{number}" * 50) for number in range(3000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
    refused(store, snapshot(2, losses=many))
    assert store.needs_full
    refused(store, snapshot(2, losses=many))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.commit(snapshot(2, losses=many), 1, full=True)
    assert not store.needs_full
    assert len(store.losses(limit=5000)) == 3001


def stubborn(store: Store) -> None:
    """Commit ten snapshots, each until it is taken; the tracer makes one system call fail."""
    failures = 0
    for seq in range(1, 11):
        for _ in range(3):
            try:
                store.commit(snapshot(seq), 1, full=store.needs_full)
                break
            except StoreUnavailable:
                failures += 1
    print(failures, flush=True)


def persist(write: Callable[[], None]) -> None:
    """Try again while others hold the file, as the runner does at its next tick."""
    for _ in range(20):
        try:
            return write()
        except StoreUnavailable as unavailable:
            if "SQLITE_BUSY" not in str(unavailable):
                raise
    raise AssertionError("never got hold of the file")


def refused(store: Store, offered: object) -> None:
    try:
        store.commit(offered, 1)  # type: ignore[arg-type]
    except StoreUnavailable:
        return
    raise AssertionError("the commit was taken")


def main() -> None:
    mode, path, *rest = sys.argv[1:]
    store = Store(Path(path))
    for _ in range(2):
        try:
            store.open(WALL_START_NS)
            break
        except StoreUnavailable:
            if mode != "stubborn":
                raise
    globals()[mode](store, *map(int, rest))
    store.close()


main()
