"""Celery: counts task runs, each as a call named after its task, by the worker's own signals.

    from otelslo.integrations.celery import instrument
    instrument()                                    # where the app is made; it counts in workers, and eager tasks

A run lasts from `task_prerun` to `task_postrun`: what a message waits in its queue is no part of it. What a task raises
is bad `exception`, a time limit too. A run that asks for a retry is excluded as "retry", so of all attempts the last
one counts; one that ends with `Ignore` or `Reject` is excluded as "ignored" or "rejected". One that is terminated
while it runs (`revoke(terminate=True)`, a cold shutdown) is bad `server_cancel`, and bad `crashed` when its process is
killed; one that was revoked, or expired, before it ran was never begun. Tasks find their call as `otelslo.current()`.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from celery import signals, states

from otelslo import default
from otelslo.calls import Call
from otelslo.decorators import Tracked, track
from otelslo.engine import Engine
from otelslo.event import Ending

_UID = "otelslo"
_MOST_TASKS = 10_000
_EXCLUDED = {states.RETRY: "retry", states.IGNORED: "ignored", states.REJECTED: "rejected"}
_FOR_THE_MAIN_THREAD = {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
_counters: list[_Counter] = []


def instrument(engine: Engine | None = None) -> None:
    """Count the tasks of this process, and of the pool that it forks; again is harmless.

    Args:
        engine: by default the process's own, started in each process of the pool before its first task.
    """
    if not _counters:
        _counters.append(_Counter(engine))
        for sender, receiver in _counters[0].receivers():
            sender.connect(receiver, weak=False, dispatch_uid=_UID)


def uninstrument() -> None:
    """Count no further tasks."""
    while _counters:
        for sender, receiver in _counters.pop().receivers():
            sender.disconnect(receiver, dispatch_uid=_UID)


class _Counter:
    """What a receiver raises, Celery logs, and goes on."""

    def __init__(self, engine: Engine | None) -> None:
        self._engine = engine
        self._started: Engine | None = None
        self._sites: dict[str, Tracked] = {}
        self._open: dict[int, Call] = {}  # by the request of the task's run, which outlives it

    def receivers(self) -> list[tuple[Any, Any]]:
        """Every signal, and who hears it."""
        return [
            (signals.worker_process_init, self.process_begins),
            (signals.worker_process_shutdown, self.process_ends),
            (signals.worker_ready, self.worker_begins),
            (signals.worker_shutdown, self.process_ends),
            (signals.task_prerun, self.begins),
            (signals.task_postrun, self.ends),
        ]

    # ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────
    def process_begins(self, **more: Any) -> None:
        """A process of a prefork pool, before its first task.

        Threads that begin here (ours, and those of numpy's BLAS) inherit what is blocked, so signals go to the main
        thread alone: billiard guards its locks by blocking them there, and a worker with one more thread that takes a
        SIGTERM can leave a lock behind, at which the whole worker waits for good when it is to end.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_MAIN_THREAD)
        try:
            self._started = default.running(self._engine)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def worker_begins(self, sender: Any = None, **more: Any) -> None:
        """The worker itself, where no pool of processes runs its tasks (threads, solo, gevent)."""
        pool = type(getattr(sender, "pool", None)).__module__
        if not pool.endswith(".prefork"):
            self._started = default.running(self._engine)

    def process_ends(self, **more: Any) -> None:
        """Commit what is not yet committed."""
        started, self._started = self._started, None
        if started is not None:
            started.close()

    # ── tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def begins(self, task: Any = None, **more: Any) -> None:
        site = self._sites.get(task.name)
        if site is None and len(self._sites) < _MOST_TASKS:
            site = self._sites[task.name] = track(task.name, engine=self._engine)
        if site is not None:
            self._open[id(task.request)] = site.begin(Call()).enter()

    def ends(self, task: Any = None, retval: Any = None, state: str | None = None, **more: Any) -> None:
        call = self._open.pop(id(task.request), None)
        if call is None:
            return
        if state == states.SUCCESS:
            call.close()
        elif state in _EXCLUDED:
            if not call.spoken:
                call.exclude(_EXCLUDED[state])
            call.close()
        else:  # a failure, or what went past Celery: an exit, an eager task's exception
            error = retval if isinstance(retval, BaseException) else sys.exception()
            call.close(error, ending=Ending.EXCEPTION if error is None else None)
