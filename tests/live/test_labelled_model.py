"""A scikit-learn model served by two workers under load, labels that come minutes to days late, a worker killed in
between: what is counted is what scikit-learn computes from the predictions and labels joined."""

from __future__ import annotations

import csv
import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from otelslo import Counts, Engine
from otelslo.cli import main, state
from otelslo.dated import SLOT_NS, slot_of
from otelslo.window import DAY_NS, HOUR_NS, SECOND_NS

pytest.importorskip("sklearn", reason="needs scikit-learn")

from sklearn.metrics import confusion_matrix

from . import model_app
from .servers import Service, until

SEED = 2026
SPREAD_NS = 6 * DAY_NS  # over how many days the predictions are spread


@pytest.fixture
def service(tmp_path):
    with Service(tmp_path, 2, script="model_app.py") as service:
        yield service


def ask(service: Service, rows: Iterable[int], at_ns: dict[int, int], killing) -> dict[int, int]:
    """Have every row predicted, again where its worker was killed; the outputs."""
    url = f"http://127.0.0.1:{service.port}/predict"
    answered: dict[int, int] = {}

    def one(row: int) -> None:
        while row not in answered:
            try:
                answer = client.post(url, json={"row": row, "at": at_ns[row] / SECOND_NS})
                answered[row] = answer.json()["output"]
            except httpx.TransportError:
                continue
            if len(answered) == model_app.ROWS // 2:
                killing()

    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(8) as crowd:
        list(crowd.map(one, rows))
    return answered


def statuses(service: Service, **changed) -> dict[str, Counts]:
    view = state.look(service.state_dir)
    definitions = [replace(one, **changed) for one in view.definitions]
    return {one.slo: one.counts for one in view.statuses(definitions)}


def expected(outputs: dict[int, int], truths: dict[int, int]) -> dict[str, Counts]:
    """By scikit-learn, of the predictions that have a label."""
    rows = sorted(truths)
    found = confusion_matrix([truths[row] for row in rows], [outputs[row] for row in rows], labels=[0, 1])
    (tn, fp), (fn, tp) = found.tolist()
    return {
        "accuracy": Counts(tp + tn, fp + fn, 0),
        "precision": Counts(tp, fp, tn + fn),
        "recall": Counts(tp, fn, tn + fp),
    }


def valid(counts: dict[str, Counts]) -> dict[str, tuple[int, int]]:
    return {name: (one.good, one.bad) for name, one in counts.items() if name != "answered"}


def test_late_labels_are_counted_as_scikit_learn_does(service: Service, tmp_path: Path) -> None:
    chosen = random.Random(SEED)
    now_ns = time.time_ns()
    at_ns = {row: now_ns - SPREAD_NS + row * (SPREAD_NS - HOUR_NS) // model_app.ROWS for row in range(model_app.ROWS)}
    truths = dict(enumerate(model_app.data()[1][model_app.TRAINED :].tolist()))

    def kill() -> None:
        service.workers[0].kill()
        service.replace(service.workers[0])

    outputs = ask(service, chosen.sample(range(model_app.ROWS), model_app.ROWS), at_ns, kill)
    service.wait_ready()
    assert len(set(outputs.values())) == 2

    # Within minutes: a third of them, from another process's engine that is never started.
    soon = set(chosen.sample(range(model_app.ROWS), model_app.ROWS // 3))
    teller = Engine(model_app.objectives(), state_dir=service.state_dir)
    for row in soon:
        teller.log_label("fraud", id=row, truth=truths[row], at=at_ns[row] / SECOND_NS + 300)
    known = {row: truths[row] for row in soon}
    wanted = valid(expected(outputs, known))
    until(lambda: valid(statuses(service)) == wanted, f"labels of minutes: {wanted}")

    # Days later the rest, out of order, from a file; one in fifty twice.
    late = [row for row in range(model_app.ROWS) if row not in soon]
    late += chosen.sample(late, len(late) // 50)
    chosen.shuffle(late)
    file = tmp_path / "labels.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "truth", "at"])
        writer.writerows([row, truths[row], at_ns[row] / SECOND_NS + 5 * 86_400] for row in late)
    told = CliRunner().invoke(main, ["label", "fraud", str(file), "--state-dir", str(service.state_dir), "--json"])
    assert told.exit_code == 0, told.output
    wanted = valid(expected(outputs, truths))
    until(lambda: valid(statuses(service)) == wanted, f"labels of days: {wanted}")

    # Closed windows say what a plain list says: each label lies in the slot of its prediction.
    view = state.look(service.state_dir)
    for window_ns in (DAY_NS, 3 * DAY_NS, 5 * DAY_NS + 7 * HOUR_NS):
        first = slot_of(view.now_wall_ns - window_ns)
        right = Counter(outputs[row] == truths[row] for row in truths if slot_of(at_ns[row]) >= first)
        found = {
            one.slo: one
            for one in view.statuses([replace(d, window_ns=window_ns, period=None) for d in view.definitions])
        }
        assert abs(found["accuracy"].counts.good - right[True]) <= _edge(at_ns, first)
        assert abs(found["accuracy"].counts.bad - right[False]) <= _edge(at_ns, first)
    (status,) = [one for one in state.look(service.state_dir).statuses() if one.slo == "accuracy"]
    bad = sum(outputs[row] != truths[row] for row in truths)
    assert status.budget.spent == bad
    assert status.burn["3d"] is not None

    # And alerts go by them: 238 wrong of 3,000 burn a budget of 3 % more than twice too fast.
    until(
        lambda: "ticket-slow" in {one["name"] for one in _status(service, "accuracy").alerts},
        f"an alert of {bad} wrong of {len(truths)}",
    )
    answered = _status(service, "answered")
    assert answered.counts.good + answered.reasons_total.get("crashed", 0) >= model_app.ROWS


def _edge(at_ns: dict[int, int], first: int) -> int:
    """Predictions of the one slot in which the window may begin a moment earlier or later."""
    return sum(first - SLOT_NS <= slot_of(at) <= first for at in at_ns.values())


def _status(service: Service, name: str):
    return next(one for one in state.look(service.state_dir).statuses() if one.slo == name)


def test_the_command_line_shows_coverage(service: Service) -> None:
    at_ns = dict.fromkeys(range(20), time.time_ns())
    outputs = ask(service, range(20), at_ns, lambda: None)
    teller = Engine(model_app.objectives(), state_dir=service.state_dir)
    for row in range(5):
        teller.log_label("fraud", id=row, truth=outputs[row])

    def shown():
        told = CliRunner().invoke(main, ["status", "--json", "--state-dir", str(service.state_dir)])
        found = {one["slo"]: one for one in json.loads(told.stdout)}
        return found.get("accuracy", {}).get("labels") or {}

    until(lambda: (shown().get("predictions"), shown().get("labelled")) == (20, 5), "coverage of 5 in 20")
