"""Real kills: the process that labels and two that count at once are killed again and again, and every label counts
exactly once. Ten kills of each by default, a hundred with OTELSLO_TORTURE=full.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from otelslo import SLO
from otelslo.applying import Applying
from otelslo.exporters.sqlite import Store
from otelslo.inbox import Inbox, spools
from otelslo.label_record import Prediction

KILLS = 100 if os.environ.get("OTELSLO_TORTURE") == "full" else 10
PREDICTIONS = 3000
NOW_NS = 1_700_000_000 * 10**9
SLOS = [SLO("right", indicator="accuracy"), SLO("daily", indicator="f1", options={"positive": 1, "bar": "50%"})]

LABELLING = """
import os, sys
from pathlib import Path
from otelslo.inbox import Inbox
from otelslo.label_record import Label
inbox = Inbox(Path(sys.argv[1]), lambda *told: sys.exit(str(told)), rotate_bytes=20_000)
for n in range(int(sys.argv[2])):
    inbox.put(Label("m", str(n), int(sys.argv[3]), n % 3 % 2))
    if n % 100 == 0:
        os.write(1, b".")
"""
COUNTING = """
import os, sys
from pathlib import Path
from otelslo import SLO
from otelslo.applying import Applying
from otelslo.errors import StateError
from otelslo.exporters.sqlite import Store
slos = [SLO("right", indicator="accuracy"), SLO("daily", indicator="f1", options={"positive": 1, "bar": "50%"})]
store = Store(Path(sys.argv[1]) / "otelslo.db")
applying = Applying(Path(sys.argv[1]), store, lambda *told: sys.exit(str(told)), lambda: 35 * 86400 * 10**9, chunk=40)
store.open(int(sys.argv[2]))
while True:
    try:
        if applying.turn(slos, int(sys.argv[2]), lambda: os.write(1, b".")):
            os.write(1, b".")
    except StateError:
        pass  # the other one holds it
"""


class Victim:
    """A process that is killed and begun again."""

    def __init__(self, code: str, *arguments: Any) -> None:
        self._command = [sys.executable, "-c", code, *map(str, arguments)]
        self.kills = 0
        self.begin()

    def begin(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)

    def kill(self, after: int) -> None:
        """After so many signs of life, or when it has ended, or has nothing to do."""
        assert self._process.stdout is not None
        for _ in range(after):
            ready, _, _ = select.select([self._process.stdout], [], [], 3)
            if not ready or not os.read(self._process.stdout.fileno(), 1):
                break
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self.kills += 1


def test_every_label_counts_exactly_once_whoever_is_killed(tmp_path: Path) -> None:
    chance = random.Random(7)
    faults: list[Any] = []
    inbox = Inbox(tmp_path, lambda *told: faults.append(told))
    for n in range(PREDICTIONS):
        assert inbox.put(Prediction("m", str(n), NOW_NS, n % 2, None, {}))
    inbox.finish()
    store = Store(tmp_path / "otelslo.db")
    store.open(NOW_NS)
    applying = Applying(tmp_path, store, lambda *told: faults.append(told), lambda: 35 * 86400 * 10**9)
    labelling = Victim(LABELLING, tmp_path, PREDICTIONS, NOW_NS)
    counting = [Victim(COUNTING, tmp_path, NOW_NS) for _ in range(2)]
    for _ in range(KILLS):
        labelling.kill(chance.randrange(1, PREDICTIONS // 100))
        labelling.begin()
        for victim in counting:
            if chance.random() < 0.5:
                victim.kill(chance.randrange(1, 8))
                victim.begin()
    for victim in counting:
        victim.kill(0)
    labelling.kill(PREDICTIONS)
    while applying.turn(SLOS, NOW_NS) or spools(tmp_path):
        pass
    right = sum(n % 2 == n % 3 % 2 for n in range(PREDICTIONS))
    counts = {row.key.slo: row.counts for row in store.dated().read().rows}
    assert (counts["right"].good, counts["right"].bad) == (right, PREDICTIONS - right)
    counters = store.labels.counters()["m"]
    assert (counters["predictions"], counters["labels"]) == (PREDICTIONS, PREDICTIONS)
    assert counters.keys() <= {"predictions", "labels", "duplicates"}
    (daily,) = [row for row in store.labels.rows() if row.slo == "daily"]
    sums = dict(store._fetch("SELECT name, count FROM label_sums WHERE row = ?", (daily.number,)))
    assert sum(sums.values()) == PREDICTIONS
    assert sums["[1,1]"] == sum(n % 2 == 1 and n % 3 % 2 == 1 for n in range(PREDICTIONS))
    assert faults == []
    store.close()
