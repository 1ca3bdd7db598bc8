"""The rules of labels once more, naively: every prediction as a dict, every count made anew from all of them.

Written from the words at the top of `otelslo/labelling.py`. It shares the sample's hash, the names of rows and the
tables' words with what it checks, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from otelslo import SLO
from otelslo.event import Event, Outcome
from otelslo.label_record import Label, Prediction
from otelslo.labelled import same_class
from otelslo.quality.sample import Sampling
from otelslo.rowkey import RowKey
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS

NOON_NS = 1_700_006_400 * 10**9 // DAY_NS * DAY_NS + DAY_NS // 2
KEY = "a secret of the test's"
GRACE_NS, WAIT_NS, SLOT_NS = 5 * MINUTE_NS, HOUR_NS, 5 * MINUTE_NS
RETENTION_NS = 3 * DAY_NS
MAINTENANCE = [{"start": "2023-11-15T13:00:00Z", "end": "2023-11-15T14:00:00Z"}]


def objectives() -> list[SLO]:
    """One of each sort: grouped and maintained, sampled by rate, N a day, with a time limit, by day."""
    ours = {"match": {"route": "m"}, "target": "50%", "window": "1d"}
    return [
        SLO("plain", indicator="accuracy", group_by="version", max_groups=2, maintenance=MAINTENANCE, **ours),
        SLO("converted", indicator="conversion", options={"label_within": "30m", "sample": "60%"}, **ours),
        SLO("precise", indicator="precision", options={"positive": 1, "sample": "2/d", "label_within": "1h"}, **ours),
        SLO("timed", indicator="accuracy", options={"label_within": "1h", "otherwise": "bad"}, **ours),
        SLO("daily", indicator="f1", options={"positive": 1, "bar": "50%"}, maintenance=MAINTENANCE, **ours),
    ]


class Twin:
    """What must be known after the same records and turns."""

    def __init__(self, slos: list[SLO]) -> None:
        self.slos = slos
        self.kept: dict[str, dict] = {}
        self.gone: list[dict] = []
        self.waiting: list[tuple[Label, int]] = []
        self.counters: Counter[str] = Counter()
        self.corrected: Counter[tuple[str, int]] = Counter()
        self.drawn_until_ns = 0
        self.groups: dict[str, set] = {slo.name: set() for slo in slos}

    def turn(self, records: list[Prediction | Label], now_ns: int) -> None:
        for record in records:
            if record.model != "m":
                self.counters["ignored"] += 1
            elif isinstance(record, Prediction):
                self._prediction(record, now_ns)
            else:
                self._label(record, now_ns)
        self._settle(now_ns)
        self.now_ns = now_ns

    # ── records ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _prediction(self, made: Prediction, now_ns: int) -> None:
        at_ns = min(made.at_wall_ns, now_ns)
        if at_ns < now_ns - RETENTION_NS:
            self.counters["too_old"] += 1
        elif made.id in self.kept:
            self.counters["repeated"] += 1
        else:
            one = {"id": made.id, "at": at_ns, "output": made.output, "truth": None, "told": 0, "rows": {}}
            one["attributes"] = dict(made.attributes)
            for slo in self.slos:
                self._enter(one, slo, now_ns)
            self.kept[made.id] = one
            self.counters["predictions"] += 1
            mine = [label for label, _ in self.waiting if label.id == made.id]
            self.waiting = [entry for entry in self.waiting if entry[0].id != made.id]
            for label in mine:
                self._meet(one, label)

    def _enter(self, one: dict, slo: SLO, now_ns: int) -> None:
        sampling = Sampling(f"{KEY}\0{slo.name}")
        if slo.name == "converted" and not sampling.holds(one["id"], Fraction(6, 10)):
            return
        group = slo.group_of(Event(kind="prediction", attributes=one["attributes"]))
        if group not in self.groups[slo.name] and group != "(overflow)":
            if len(self.groups[slo.name]) >= slo.max_groups:
                group = "(overflow)"
            else:
                self.groups[slo.name].add(group)
        state = {"slo": slo, "group": group, "is": "waits", "due": None}
        if slo.planned.active(one["at"]):
            state["is"] = "maintained"
        elif slo.name == "precise":
            day_ns = one["at"] // DAY_NS * DAY_NS
            if day_ns < self.drawn_until_ns:
                self.counters["undrawn"] += 1
                return
            state |= {"is": "candidate", "day": day_ns}
        else:
            self._wait(one, state, now_ns)
        one["rows"][slo.name] = state

    def _wait(self, one: dict, state: dict, now_ns: int) -> None:
        state["is"] = "waits"
        if state["slo"].name == "precise" and (one["output"] is None or not same_class(one["output"], 1)):
            state["is"] = "settled"
        if state["slo"].name in ("plain", "timed") and one["output"] is None:
            state["is"] = "settled"
        within_ns = state["slo"].option("label_within")
        if within_ns is not None:
            state["due"] = max(one["at"] + within_ns, now_ns) + GRACE_NS

    def _label(self, label: Label, now_ns: int) -> None:
        if label.id in self.kept:
            self._meet(self.kept[label.id], label)
        else:
            self.waiting.append((label, now_ns + WAIT_NS))

    def _meet(self, one: dict, label: Label) -> None:
        if one["truth"] is not None and same_class(one["truth"], label.truth):
            self.counters["duplicates"] += 1
            if label.at_wall_ns < one["told"]:
                one["told"] = label.at_wall_ns
                for state in one["rows"].values():
                    if state["is"] in ("waits", "lapsed"):
                        self._tell(one, state)
            return
        self.counters["labels" if one["truth"] is None else "corrections"] += 1
        one["truth"], one["told"] = label.truth, label.at_wall_ns
        late = [self._tell(one, state) for state in one["rows"].values()]
        if any(late):
            self.counters["late"] += 1

    def _tell(self, one: dict, state: dict) -> bool:
        if state["is"] in ("maintained", "settled", "candidate"):
            return False
        within_ns = state["slo"].option("label_within")
        if within_ns is not None and one["told"] > one["at"] + within_ns:
            return True
        before = self._cell(one, state) if state["is"] == "labelled" else None
        state |= {"is": "labelled", "truth": one["truth"]}
        if before is not None and before != self._cell(one, state):
            self.corrected[self._row(state), one["at"] // SLOT_NS * SLOT_NS] += 1
        return False

    # ── what falls due ─────────────────────────────────────────────────────────────────────────────────────────────
    def _settle(self, now_ns: int) -> None:
        for one in self.kept.values():
            for state in one["rows"].values():
                if state["is"] == "waits" and state["due"] is not None and state["due"] <= now_ns:
                    state["is"] = "lapsed"
        self._draw(now_ns)
        known, self.waiting = self.waiting, [entry for entry in self.waiting if entry[1] > now_ns]
        self.counters["unknown"] += len(known) - len(self.waiting)
        for identity in [i for i, one in self.kept.items() if one["at"] < now_ns - RETENTION_NS]:
            one = self.kept.pop(identity)
            self.gone.append(one)
            waited = [state for state in one["rows"].values() if state["is"] == "waits"]
            self.counters["expired"] += bool(waited)
            for state in waited:
                state["is"] = "gone"

    def _draw(self, now_ns: int) -> None:
        sampling = Sampling(f"{KEY}\0precise")
        pools: dict[int, list] = {}
        for one in self.kept.values():
            state = one["rows"].get("precise")
            if state is not None and state["is"] == "candidate" and state["day"] + DAY_NS + GRACE_NS <= now_ns:
                day = f"2023-11-{15 + (state['day'] - NOON_NS // DAY_NS * DAY_NS) // DAY_NS:02}"
                pools.setdefault(state["day"], []).append((sampling.position(one["id"], day), one["id"], one))
        self.drawn_until_ns = max([self.drawn_until_ns, *(day_ns + DAY_NS for day_ns in pools)])
        for pool in pools.values():
            for place, (_, _, one) in enumerate(sorted(pool, key=lambda entry: entry[:2])):
                if place >= 2:
                    del one["rows"]["precise"]
                    continue
                self._wait(one, one["rows"]["precise"], now_ns)
                if one["truth"] is not None:
                    self._tell(one, one["rows"]["precise"])

    # ── what is counted ────────────────────────────────────────────────────────────────────────────────────────────
    def _row(self, state: dict) -> str:
        slo = state["slo"]
        return RowKey(slo.name, slo.meaning, state["group"], slo.reason_cells).text()

    def _cell(self, one: dict, state: dict) -> object:
        """The cell that it is counted in, or what it adds to its day; None while it is in none."""
        slo, output, truth = state["slo"], one["output"], state.get("truth")
        if slo.name == "daily":
            part = state["is"] == "labelled" and output is not None
            return (int(same_class(truth, 1)), int(same_class(output, 1))) if part else ()
        word = {"maintained": ("excluded", "maintenance"), "waits": None, "gone": None, "candidate": None}
        word["lapsed"] = ("bad" if slo.option("otherwise") == "bad" else "excluded", "lapsed")
        word["settled"] = ("excluded", "no_output" if output is None else "not_positive")
        if state["is"] != "labelled":
            return None if word[state["is"]] is None else slo.cell(Outcome(*word[state["is"]]))
        if slo.name == "converted":
            return slo.cell(Outcome("good", "good") if same_class(truth, 1) else Outcome("bad", "not_converted"))
        bad = "false_positive" if slo.name == "precise" else "wrong"
        return slo.cell(Outcome("good", "good") if same_class(truth, output) else Outcome("bad", bad))

    def everything(self) -> list[tuple[dict, dict]]:
        return [(one, state) for one in [*self.kept.values(), *self.gone] for state in one["rows"].values()]

    def cells(self) -> dict[tuple[str, int, int], int]:
        """Events by row, slot and cell."""
        found: Counter[tuple[str, int, int]] = Counter()
        days: dict[tuple[str, int], Counter] = {}
        for one, state in self.everything():
            cell = self._cell(one, state)
            if isinstance(cell, tuple):
                days.setdefault((self._row(state), one["at"] // DAY_NS * DAY_NS), Counter())[cell] += 1
            elif cell is not None:
                found[self._row(state), one["at"] // SLOT_NS * SLOT_NS, cell] += 1
        daily = next(slo for slo in self.slos if slo.name == "daily")
        for (row, day_ns), parts in days.items():
            del parts[()]
            if day_ns + DAY_NS <= self.now_ns and parts:
                hit, missed = 2 * parts[1, 1], parts[0, 1] + parts[1, 0]
                outcome = ("excluded", "undefined") if not hit + missed else None
                if outcome is None:
                    outcome = ("good", "good") if 2 * hit >= hit + missed else ("bad", "below_bar")
                found[row, day_ns + DAY_NS - SLOT_NS, daily.cell(Outcome(*outcome))] += 1
        return {key: count for key, count in found.items() if count}

    def slots(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """(predicted, labelled, lapsed, gone, corrected) by row and slot."""
        found: dict[tuple[str, int], list[int]] = {}
        for one, state in self.everything():
            if state["is"] in ("maintained", "settled", "candidate"):
                continue
            key = (self._row(state), one["at"] // SLOT_NS * SLOT_NS)
            tally = found.setdefault(key, [0, 0, 0, 0, self.corrected[key]])
            tally[0] += 1
            for place, word in enumerate(("labelled", "lapsed", "gone"), 1):
                tally[place] += state["is"] == word
        return {key: tuple(tally) for key, tally in found.items()}
