"""A Celery app for test_celery.py, for a worker as a process: broker and results are folders below CELERY_FOLDER."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from otelslo.integrations.celery import instrument

import otelslo

FOLDER = Path(os.environ["CELERY_FOLDER"])
for name in ("queue", "control", "results"):
    (FOLDER / name).mkdir(exist_ok=True)

app = Celery("celery_app", broker="filesystem://", backend=f"file://{FOLDER / 'results'}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": os.fspath(FOLDER / "queue"),
        "data_folder_out": os.fspath(FOLDER / "queue"),
        "control_folder": os.fspath(FOLDER / "control"),
        "polling_interval": 0.05,
    },
    task_default_queue="celery",
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
instrument()


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def fail() -> None:
    raise LookupError("the task's own fault")


@app.task(bind=True, max_retries=2)
def again(self: Any) -> int:
    """Asks twice for another attempt."""
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def ignored() -> None:
    raise Ignore


@app.task
def rejected() -> None:
    raise Reject("not now", requeue=False)


@app.task
def nonsense() -> None:
    otelslo.current().bad("nonsense")


@app.task
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(soft_time_limit=1)
def hang() -> None:
    """Says that it runs, and is interrupted."""
    (FOLDER / "hangs").touch()
    while True:
        signal.pause()


@app.task
def endless() -> None:
    (FOLDER / "endless").touch()
    while True:
        signal.pause()
