"""A judge beside the requests: what is judged, what is dropped, whose failure is whose; never by the clock."""

from __future__ import annotations

import asyncio
import gc
import queue
import subprocess
import sys
import threading
import types
import weakref
from fractions import Fraction

import pytest

import otelslo
from otelslo.errors import BadValue
from otelslo.judge import COUNTERS
from otelslo.quality.sample import Sampling

PATIENCE_S = 60  # of a test that would otherwise hang


class Labels:
    """What was handed on, in order."""

    def __init__(self):
        self._told = queue.Queue()

    def __call__(self, identity, truth):
        self._told.put((identity, truth))

    def take(self, n=1):
        return [self._told.get(timeout=PATIENCE_S) for _ in range(n)]

    @property
    def empty(self):
        return self._told.empty()


@pytest.fixture
def labels():
    return Labels()


def counts_of(judge, **expected):
    assert judge.counts() == dict.fromkeys(COUNTERS, 0) | expected
    return True


def test_verdicts_are_handed_on_as_labels(labels):
    """With what was offered, and nothing else."""
    with otelslo.judged("chat", lambda text, *, truth: truth, sample=1.0, label=labels) as judge:
        for n, verdict in enumerate(("supported", "hallucinated", "unknown")):
            assert judge.offer(n, "text", truth=verdict)
        assert labels.take(3) == [(0, "supported"), (1, "hallucinated"), (2, "unknown")]
    assert counts_of(judge, offered=3, sampled=3, judged=3)


def test_by_default_they_are_logged(monkeypatch):
    """By `otelslo.log_label`, under the model's name."""
    told = queue.Queue()
    monkeypatch.setattr(otelslo, "log_label", lambda name, *, id, truth: told.put((name, id, truth)), raising=False)
    with otelslo.judged("chat", lambda: "supported", sample=1.0) as judge:
        judge.offer("a")
        assert told.get(timeout=PATIENCE_S) == ("chat", "a", "supported")


class Exploding(str):
    def __eq__(self, other):
        raise ZeroDivisionError

    __hash__ = str.__hash__


def raising(error):
    def judge(text):
        raise error

    return judge


async def async_raising(text):
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "judge",
    [
        raising(RuntimeError("out of tokens")),
        raising(SystemExit(1)),
        raising(KeyboardInterrupt()),
        async_raising,
        lambda text: 0.93,
        lambda text: True,
        lambda text: None,
        lambda text: "Supported",
        lambda text: "judge_error",
        lambda text: ["supported"],
        lambda text: Exploding("supported"),
        lambda: "supported",
    ],
)
def test_what_is_no_verdict_is_the_judges_own_failure(judge, labels):
    """And the next answer is judged all the same."""
    with otelslo.judged("chat", judge, sample=1.0, label=labels) as judged:
        judged.offer("a", "text")
        judged.offer("b", "text")
        assert labels.take(2) == [("a", "judge_error"), ("b", "judge_error")]
    assert counts_of(judged, offered=2, sampled=2, judged=2, errors=2)


def test_async_judges_share_a_loop(labels):
    """One for each worker, so that a client is made once."""
    loops = set()

    async def judge(text):
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return "supported"

    with otelslo.judged("chat", judge, sample=1.0, label=labels, timeout="60s") as judged:
        judged.offer(1, "a")
        judged.offer(2, "b")
        assert labels.take(2) == [(1, "supported"), (2, "supported")]
    assert len(loops) == 1
    assert all(loop.is_closed() for loop in loops)


def test_an_async_judge_that_hangs_has_failed(labels):
    async def judge(text):
        await asyncio.Event().wait()

    with otelslo.judged("chat", judge, sample=1.0, label=labels, timeout="1ns") as judged:
        judged.offer(1, "a")
        assert labels.take() == [(1, "judge_error")]


def test_a_sample_is_that_of_its_hash(labels):
    """The same in every process that knows the key; a larger one holds it."""
    made = {}
    for rate in ("5%", "30%"):
        with otelslo.judged("chat", lambda: "supported", sample=rate, key="secret", label=labels) as judge:
            made[rate] = {n for n in range(400) if judge.offer(n)}
            assert sorted(labels.take(len(made[rate]))) == sorted((n, "supported") for n in made[rate])
            assert counts_of(judge, offered=400, sampled=len(made[rate]), judged=len(made[rate]))
    assert made["5%"] == {n for n in range(400) if Sampling("secret").holds(n, Fraction(5, 100))}
    assert made["5%"] < made["30%"]


def test_a_full_queue_drops_and_counts(labels, caplog):
    """While the judge is busy as many wait as there is room; the request is never held up."""
    busy, go_on = threading.Event(), threading.Event()

    def judge(text):
        busy.set()
        go_on.wait(PATIENCE_S)
        return "supported"

    with otelslo.judged("chat", judge, sample=1.0, queue=3, label=labels) as judged:
        assert judged.offer(0, "a")
        assert busy.wait(PATIENCE_S)
        assert [judged.offer(n, "a") for n in range(1, 6)] == [True, True, True, False, False]
        assert counts_of(judged, offered=6, sampled=6, dropped=2, judged=1)
        go_on.set()
        assert [identity for identity, _ in labels.take(4)] == [0, 1, 2, 3]
    assert counts_of(judged, offered=6, sampled=6, dropped=2, judged=4)
    assert "the queue of 3 was full, 2 answers are not judged" in caplog.text


def test_a_judge_that_hangs_drops_and_it_is_seen(monkeypatch, labels):
    """At the first answer that has no room, by who offers it; there is no verdict to tell it after."""
    told, busy, go_on = [], threading.Event(), threading.Event()
    monkeypatch.setattr("otelslo.default._engine", [types.SimpleNamespace(fault=lambda *fault: told.append(fault))])

    def judge():
        busy.set()
        go_on.wait(PATIENCE_S)
        return "supported"

    with otelslo.judged("chat", judge, sample=1.0, queue=1, label=labels) as judged:
        judged.offer(0)
        assert busy.wait(PATIENCE_S)
        assert [judged.offer(n) for n in range(1, 5)] == [True, False, False, False]
        first = "no judge is free, so answers are dropped from now on (1 of 1 places in the queue are taken)"
        assert told == [("judge", f"chat: {first}")]
        go_on.set()
        labels.take(2)
    assert told[1:] == [("judge", "chat: the queue of 1 was full, 3 answers are not judged")]


@pytest.mark.parametrize("end", ["one", "all"])
def test_the_end_waits_for_all_verdicts_together(end, monkeypatch):
    """However many judges and threads hang."""
    go_on, waited, entered = threading.Event(), [], queue.SimpleQueue()

    def judge():
        entered.put(1)
        go_on.wait(PATIENCE_S)

    judges = [
        otelslo.judged("chat", judge, sample=1.0, workers=3, label=print) for _ in range(1 if end == "one" else 2)
    ]
    for judged in judges:
        for n in range(3):
            judged.offer(n)
    for _ in range(3 * len(judges)):
        entered.get(timeout=PATIENCE_S)
    threads = [thread for judged in judges for thread in judged._threads]
    with monkeypatch.context() as patched:
        patched.setattr("otelslo.judge.monotonic", lambda: sum(waited))
        patched.setattr(threading.Thread, "join", lambda thread, timeout: waited.append(timeout))
        patched.setattr("otelslo.judge._all", weakref.WeakSet(judges))
        judges[0].close(0.5) if end == "one" else otelslo.judge._close_all()
    assert len(waited) == len(threads)
    assert sum(waited) == (0.5 if end == "one" else otelslo.judge.CLOSING_S)
    assert all(judged._closed for judged in judges)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_many_threads_may_offer(labels):
    """Nothing is lost, nothing twice, every count is right, by several workers."""
    with otelslo.judged("chat", lambda: "supported", sample=1.0, workers=3, queue=10_000, label=labels) as judge:
        start = threading.Barrier(8)

        def offer(thread):
            start.wait(PATIENCE_S)
            for n in range(250):
                assert judge.offer(f"{thread}-{n}")

        threads = [threading.Thread(target=offer, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        told = labels.take(2000)
    assert {identity for identity, _ in told} == {f"{thread}-{n}" for thread in range(8) for n in range(250)}
    assert labels.empty
    assert counts_of(judge, offered=2000, sampled=2000, judged=2000)


def test_a_label_that_cannot_be_handed_on_is_counted(caplog):
    told = threading.Event()

    def label(identity, truth):
        if identity == "b":
            told.set()
        raise OSError("disk full")

    with otelslo.judged("chat", lambda: "supported", sample=1.0, label=label) as judge:
        judge.offer("a")
        judge.offer("b")
        assert told.wait(PATIENCE_S)
    assert counts_of(judge, offered=2, sampled=2, judged=2, unreported=2)
    assert caplog.text.count("a verdict is lost") == 1


def test_our_failures_are_faults_of_the_processs_engine(monkeypatch):
    """Which `otelslo doctor` shows; the judge's own are labels and nothing else."""
    told = queue.Queue()
    monkeypatch.setattr("otelslo.default._engine", [types.SimpleNamespace(fault=lambda *fault: told.put(fault))])

    def label(identity, truth):
        raise OSError("disk full")

    with otelslo.judged("chat", lambda: 0.9, sample=1.0, label=label) as judge:
        judge.offer("a")
        assert told.get(timeout=PATIENCE_S) == ("judge", "chat: a verdict is lost: OSError: disk full")
    assert told.empty()


@pytest.mark.parametrize("identity", [None, "", True, 1.5, object()])
def test_what_is_no_id_is_refused_and_raises_nothing(identity, labels):
    with otelslo.judged("chat", lambda: "supported", sample=1.0, label=labels) as judge:
        assert not judge.offer(identity)
    assert counts_of(judge, offered=1, refused=1)


def test_when_it_is_closed_what_waits_is_dropped(labels):
    busy, go_on = threading.Event(), threading.Event()

    def judge():
        busy.set()
        go_on.wait(PATIENCE_S)
        return "supported"

    judged = otelslo.judged("chat", judge, sample=1.0, label=labels)
    for n in range(3):
        judged.offer(n)
    assert busy.wait(PATIENCE_S)
    closing = threading.Thread(target=judged.close, args=(PATIENCE_S,))
    closing.start()
    while not judged._closed:
        pass
    go_on.set()
    closing.join(PATIENCE_S)
    assert labels.take() == [(0, "supported")]
    assert not judged.offer(9)
    assert counts_of(judged, offered=4, sampled=4, dropped=3, judged=1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("otelslo-judge-chat")]


def test_nothing_is_kept_of_an_answer(labels):
    class Answer:
        pass

    with otelslo.judged("chat", lambda answer: "supported", sample=1.0, label=labels) as judge:
        answer = Answer()
        kept = weakref.ref(answer)
        judge.offer(1, answer)
        del answer
        judge.offer(2, None)
        labels.take(2)
        gc.collect()
        assert kept() is None


def test_without_a_thread_it_drops(labels, monkeypatch):
    """Where the system has no more of them."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    judge = otelslo.judged("chat", lambda: "supported", sample=1.0, label=labels)
    assert not judge.offer(1)
    assert counts_of(judge, offered=1, sampled=1, dropped=1)


def test_the_kill_switch_turns_it_off(labels, monkeypatch):
    monkeypatch.setenv("OTELSLO_DISABLED", "true")
    judge = otelslo.judged("chat", lambda: "supported", sample=1.0, label=labels)
    assert not judge.offer(1)
    assert counts_of(judge)


WRONG = [
    ({"sample": "500/d"}, "is no share"),
    ({"sample": 0}, "is no share"),
    ({"sample": Fraction(3, 2)}, "is no share"),
    ({"workers": 0}, "0 workers"),
    ({"workers": 65}, "from 1 to 64"),
    ({"queue": True}, "places in the queue"),
    ({"timeout": "5s"}, "is not async cannot be stopped. Give the client"),
    ({"key": ""}, "is no key"),
]


@pytest.mark.parametrize(("arguments", "problem"), WRONG)
def test_what_cannot_be_meant_is_refused(arguments, problem):
    with pytest.raises(BadValue, match=problem):
        otelslo.judged("chat", lambda: "supported", **arguments)


def test_a_judge_is_a_function():
    with pytest.raises(BadValue, match="is no judge"):
        otelslo.judged("chat", "mypackage:judge")
    timed = types.SimpleNamespace()
    assert otelslo.judged("chat", lambda: timed).name == "chat"


FORKING = """
import os, queue, sys, otelslo
told = queue.Queue()
judge = otelslo.judged("chat", lambda: "supported", sample=1.0, label=lambda *label: told.put(label))
judge.offer("parent")
assert told.get(timeout=60) == ("parent", "supported")
child = os.fork()
if child == 0:
    assert judge.counts()["offered"] == 0
    assert judge.offer("child")
    assert told.get(timeout=60) == ("child", "supported")
    assert judge.counts()["judged"] == 1
    sys.exit(7)  # through atexit, with threads of its own alone
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
judge.offer("again")
assert told.get(timeout=60) == ("again", "supported")
assert judge.counts()["judged"] == 2
print("fine")
"""

STUCK = """
import threading, otelslo
judge = otelslo.judged("chat", threading.Event().wait, sample=1.0, label=print)
judge.offer(1)
judge.offer(2)
otelslo.judge.CLOSING_S = 0
print(judge.counts()["sampled"])
"""


@pytest.mark.parametrize(("script", "printed"), [(FORKING, "fine"), (STUCK, "2")], ids=["fork", "stuck"])
def test_processes_fork_and_end(script, printed):
    """A child has threads and counts of its own; a judge that hangs does not keep a process from its end."""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout.strip()) == (0, printed), ran.stderr
