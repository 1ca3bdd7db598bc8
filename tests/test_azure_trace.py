"""A real trace of an LLM service through a queueing model server, against the same queue computed plainly.

The arrivals and token counts are Azure's (2023, code); how long a token takes is the model's. Counts are equal exactly.
"""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from drive import cells
from model_server import Asked, Model, Server

from otelslo import SLO, Engine, ManualClock
from otelslo.capacity import Step, Verdict, highest
from otelslo.counts import Counts
from otelslo.ring.geometry import Geometry
from otelslo.rowkey import SHED
from otelslo.window import MILLISECOND_NS, MINUTE_NS, SECOND_NS

TRACE = Path(__file__).parents[2] / "shared" / "data" / "azure_llm_inference_code_2023.csv"
FULL = os.environ.get("OTELSLO_TORTURE") == "full"
REQUESTS = 8_819 if FULL else 1_200
GEOMETRY = Geometry(max_blocks=4, snapshots=4, log_records=64)
CALLS = {"kind": "call"}
TTFT_NS, TPOT_NS, E2E_NS = 1500 * MILLISECOND_NS, 45 * MILLISECOND_NS, 4 * SECOND_NS
RATE, SHARE = Fraction(200, 60), Fraction(95, 100)
MODEL = Model(base_ns=9_000_000, context_ns=30_000, each_ns=1_300_000, batch=12, waiting=40)  # overloaded by bursts
LARGE = Model(base_ns=6_000_000, context_ns=8_000, each_ns=300_000, batch=32, waiting=10**9)
SLOS = (
    SLO("ttft", indicator="ttft", threshold="1500ms", target="95%", match=CALLS),
    SLO("tpot", indicator="tpot", threshold="45ms", target="95%", match=CALLS),
    SLO("goodput", indicator="goodput", options={"ttft": "1500ms", "tpot": "45ms", "e2e": "4s"}, match=CALLS),
    SLO(
        "load",
        indicator="throughput",
        threshold="4s",
        options={"rate": "200/min", "share": "95%"},
        target="95%",
        window="1d",
        match=CALLS,
    ),
)


@pytest.fixture(scope="module")
def trace() -> list[Asked]:
    if not TRACE.exists():
        pytest.skip(f"needs {TRACE.name} in ../shared/data")
    with TRACE.open(newline="") as file:
        rows = list(csv.DictReader(file))[:REQUESTS]
    return [Asked(_ns(row["TIMESTAMP"]), int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in rows]


def _ns(text: str) -> int:
    moment, _, fraction = text.partition(".")
    seconds = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())
    return seconds * SECOND_NS + int(fraction.ljust(9, "0"))


def sped_up(trace: list[Asked], times: int) -> list[Asked]:
    """The same requests, so many times as fast."""
    first_ns = trace[0].at_ns
    return [Asked(first_ns + (one.at_ns - first_ns) // times, one.context, one.tokens) for one in trace]


class Plain:
    """The same queue without a server: whole runs of equal turns at once, in arrays.

    `first_ns`, `end_ns` and `refused` are by request, in the order of the trace; times are those of the trace.
    """

    def __init__(self, trace: list[Asked], model: Model) -> None:
        self.at_ns = np.array([one.at_ns for one in trace], dtype=np.int64)
        self.context = np.array([one.context for one in trace], dtype=np.int64)
        self.tokens = np.array([one.tokens for one in trace], dtype=np.int64)
        self.first_ns = np.zeros(len(trace), dtype=np.int64)
        self.end_ns = self.at_ns.copy()  # who is refused ends at once
        self.refused = np.zeros(len(trace), dtype=bool)
        self._run(model)

    def _run(self, model: Model) -> None:
        now_ns, come = 0, 0
        waiting = batch = left = np.zeros(0, dtype=np.int64)  # numbers of requests; what those in the batch still need
        while come < len(self.at_ns) or len(waiting) or len(batch):
            if not len(waiting) and not len(batch):
                now_ns = max(now_ns, int(self.at_ns[come]))
            until = int(np.searchsorted(self.at_ns, now_ns, side="right"))
            waiting = np.concatenate([waiting, self._let_in(come, until, model.waiting - len(waiting))])
            come = max(come, until)
            room = model.batch - len(batch)
            new, waiting = waiting[:room], waiting[room:]
            batch, left = np.concatenate([batch, new]), np.concatenate([left, self.tokens[new]])
            turn_ns = model.base_ns + model.each_ns * len(batch)
            if len(new):
                now_ns += turn_ns + model.context_ns * int(self.context[new].sum())
                self.first_ns[new] = now_ns
                turns = 1
            else:
                turns = int(left.min())
                if len(batch) < model.batch and come < len(self.at_ns):  # somebody may come in before
                    turns = min(turns, -(-(int(self.at_ns[come]) - now_ns) // turn_ns))
                now_ns += turns * turn_ns
            left = left - turns
            self.end_ns[batch[left == 0]] = now_ns
            batch, left = batch[left > 0], left[left > 0]

    def _let_in(self, come: int, until: int, room: int) -> np.ndarray:
        arrived = np.arange(come, max(come, until))
        self.refused[arrived[max(0, room) :]] = True
        return arrived[: max(0, room)]

    # ── what is promised, of arrays ────────────────────────────────────────────────────────────────────────────────
    @property
    def late(self) -> np.ndarray:
        return ~self.refused & (self.first_ns - self.at_ns > TTFT_NS)

    @property
    def slow(self) -> np.ndarray:
        return ~self.refused & (self.end_ns - self.first_ns > TPOT_NS * (self.tokens - 1))

    @property
    def long(self) -> np.ndarray:
        return ~self.refused & (self.end_ns - self.at_ns > E2E_NS)


def by_minute(plain: Plain, begin_ns: int) -> tuple[Counts, int, int]:
    """Units, peak and held of the closed minutes, each of what ended in it: what came, was in time, was refused."""
    minutes = plain.end_ns // MINUTE_NS - begin_ns // MINUTE_NS
    closed = int(minutes.max())
    offered, good, shed = (
        np.bincount(minutes[each], minlength=closed + 1)[:closed]
        for each in (np.ones(len(minutes), dtype=bool), ~(plain.refused | plain.long), plain.refused)
    )
    held = (shed == 0) & (good * SHARE.denominator >= SHARE.numerator * (offered - shed))
    enough = good * SECOND_NS * RATE.denominator >= RATE.numerator * MINUTE_NS
    valid = (offered * SECOND_NS * RATE.denominator >= RATE.numerator * MINUTE_NS) | ~held
    units = [valid & (held | enough), valid & ~held & ~enough, ~valid]
    return Counts(*(int(each.sum()) for each in units)), int(offered.max()), int(np.where(held, offered, 0).max())


def amounts(**found: np.ndarray) -> dict[str, int]:
    """How many each, without those of which there are none."""
    return {name.replace("_", " ", 1): int(each.sum()) for name, each in found.items() if each.any()}


def engine_at(start_ns: int, directory: Path) -> Engine:
    """Its clock stands at the beginning of the minute that holds the trace's begin."""
    clock = ManualClock(start_ns // MINUTE_NS * MINUTE_NS)
    return Engine(SLOS, state_dir=directory, clock=clock, runner=False, geometry=GEOMETRY).start()


def test_counts_are_those_of_the_plain_computation(trace: list[Asked], tmp_path: Path) -> None:
    """Where queues build up and requests are refused."""
    plain = Plain(trace, MODEL)
    late, slow, long, refused = plain.late, plain.slow, plain.long, plain.refused
    with engine_at(trace[0].at_ns, tmp_path) as engine:
        Server(engine, MODEL, "chat").replay(trace)
        assert engine.in_flight() == 0
        assert engine.faults() == {}
        assert engine.clock.ring_ns() == plain.end_ns.max()
        assert cells(engine, "ttft") == amounts(good=~(refused | late), bad_slow_ttft=late, excluded_shed=refused)
        assert cells(engine, "tpot") == amounts(good=~(refused | slow), bad_slow_tpot=slow, excluded_shed=refused)
        assert cells(engine, "goodput") == amounts(  # its cells are taken by its limits: "shed" is among the others
            good=~(refused | late | slow | long),
            bad_slow_ttft=late,
            bad_slow_tpot=slow & ~late,
            bad_slow=long & ~late & ~slow,
            bad_other=refused,
        )
        assert cells(engine, "load") == amounts(good=~(refused | long), bad_slow=long, bad_shed=refused)
        told = {status.slo: status for status in engine.status()}
    assert min(int(each.sum()) for each in (late, slow, long, refused, ~(late | slow | long | refused))) > 20
    units, peak, held = by_minute(plain, trace[0].at_ns)
    load = told["load"]
    assert load.counts == units
    assert min(load.counts.good, load.counts.bad, load.counts.excluded) > 0
    assert load.load is not None
    assert (load.load.peak, load.load.held) == (peak, held)


def test_capacity_is_that_of_the_plain_computation(trace: list[Asked], tmp_path: Path) -> None:
    """The trace at one to eight times its speed: the highest rate at which 95 % end within 4 s."""
    steps, by_hand = [], []
    for times in (1, 2, 4, 8):
        fast = sped_up(trace, times)
        length_ns = fast[-1].at_ns - fast[0].at_ns
        rate = Fraction(len(fast) * SECOND_NS, length_ns)
        plain = Plain(fast, LARGE)
        with engine_at(fast[0].at_ns, tmp_path / str(times)) as engine:
            Server(engine, LARGE, "chat").replay(fast)
            reader = engine.ring.reader
            rows = {(name.slo, name.group): row for row in range(reader.rows) for name in [reader.row_name(row)]}
            counts, shed = reader.counts(rows["load", None]), reader.counts(rows[SHED, "load"]).good
            promise = SLOS[3].slices.rate
            span_ns = int(plain.end_ns.max() - plain.end_ns.min())
            steps.append(Step(rate, length_ns, span_ns, counts, shed, promise, Fraction(1, 10)))
        in_time = int((~(plain.refused | plain.long)).sum())
        served = len(fast) - int(plain.refused.sum())
        by_hand.append(served == len(fast) and Fraction(in_time, served) >= SHARE)
        assert (counts, shed) == (Counts(in_time, len(fast) - in_time), len(fast) - served)
    assert [step.verdict is Verdict.HELD for step in steps] == by_hand
    assert by_hand[0]
    assert not by_hand[-1]
    assert highest(steps) == steps[by_hand.index(False) - 1].rate
