"""A scoring task: each run is counted by what it did, in whichever process of the pool it ran.

    pip install otelslo celery; cd examples/celery_scoring
    celery -A tasks worker &
    python send.py; otelslo status

The broker and the results are folders here, so that nothing else need be running.
"""

from __future__ import annotations

import math
from pathlib import Path

from celery import Celery
from otelslo.integrations.celery import instrument

import otelslo

FOLDER = Path("broker")
for name in ("queue", "control", "results"):
    (FOLDER / name).mkdir(parents=True, exist_ok=True)

app = Celery("tasks", broker="filesystem://", backend=f"file://{(FOLDER / 'results').resolve()}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(FOLDER / "queue"),
        "data_folder_out": str(FOLDER / "queue"),
        "control_folder": str(FOLDER / "control"),
        "polling_interval": 0.05,
    },
    broker_connection_retry_on_startup=True,
)
instrument()  # one line: every task is a call by its name, "tasks.score"

WEIGHTS = {"amount": 0.004, "foreign": 1.5, "night": 0.7}


@app.task
def score(transaction: dict[str, float]) -> float:
    """How likely it is a fraud, 0 to 1. A feature that is missing is the task's own failure: bad by `exception`."""
    found = 1 / (1 + math.exp(3 - sum(weight * transaction[name] for name, weight in WEIGHTS.items())))
    if not 0 <= found <= 1:  # NaN, of an amount that is none
        otelslo.current().bad("not_a_probability")
    return found
