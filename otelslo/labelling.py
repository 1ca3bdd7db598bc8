"""What becomes of predictions and labels: which objectives a prediction counts for, and what a label makes of it.

The rules, in the order in which they are asked:

- A prediction counts for the objectives that are in force when it is taken in, each with the group and the sample that
  it belongs to then. Those are kept with it; an objective that comes later counts later predictions. It lies in the
  slot of its own time, and one from the future in that of now.
- In planned maintenance it is excluded at once, and no label changes that.
- The first label decides. A second one that says the same is a duplicate; one that says otherwise is a correction,
  which takes the old outcome back and adds the new one.
- Whether a label is late is a matter of its own time and that of its prediction, not of when it was read, and of
  labels that say the same the earliest counts. One that was told later than `label_within` never counts for that
  objective. One that was told in time does, even where its prediction has been settled as lapsed meanwhile.
- A prediction without a label in time is settled as lapsed, a while after the time is up (GRACE_NS): labels lie in
  files of other processes. It is kept for as long again, and a day at least, so that one told in time may be read late.
- A label without a prediction waits for it (WAIT_NS) and is unknown then.
- N a day are those of the smallest keyed hashes of their day; they are counted when the day is over, and GRACE_NS.
- Daily indicators: the sums of a day make one event in the last slot of that day (UTC), once it is over.
- Nothing falls due for an objective that is not in force: it waits for it until its prediction is not kept any more.

Nothing here reads a clock, a file or a database: that is what the `Book` is for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Protocol

from otelslo.definition import OVERFLOW
from otelslo.event import Event, Outcome
from otelslo.kept import CANDIDATE, LABELLED, LAPSED, MAINTAINED, NOT_OURS, SETTLED, Kept, Row, State
from otelslo.label_record import Label, Prediction, Record
from otelslo.labelled import Class, Labelled, class_key
from otelslo.quality.sample import Sampling
from otelslo.rowkey import RowKey
from otelslo.slo import SLO
from otelslo.verdicts import MAINTENANCE
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS

KIND = "prediction"
GRACE_NS = 5 * MINUTE_NS
WAIT_NS = HOUR_NS
KEEP_NS = 30 * DAY_NS  # how long a prediction is waited for where no objective says so
LONGEST_CLASS = 200  # characters; a longer output is a text, kept only for objectives that need it

_FIXED = (MAINTAINED, SETTLED, CANDIDATE)  # what no label changes, or not yet


class Book(Protocol):
    """What is kept between one batch and the next, all of it in one transaction."""

    def secret(self) -> str: ...
    def rows(self) -> Iterable[Row]: ...
    def add_row(self, row: Row) -> Row: ...
    def kept(self, model: str, identity: str) -> Kept | None: ...
    def insert(self, kept: Kept) -> None: ...
    def update(self, kept: Kept) -> None: ...
    def wait(self, label: Label, until_wall_ns: int) -> None: ...
    def waiting(self, model: str, identity: str) -> list[Label]: ...
    def lapse_at(self, due_wall_ns: int, row: int, kept: Kept) -> None: ...
    def draw(self, slo: str, day_ns: int, position: int, row: int, kept: Kept, most: int) -> tuple[str, str] | None: ...
    def drawn_until(self, slo: str) -> int: ...
    def add(self, row: Row, at_wall_ns: int, cell: int, count: int, correction: bool) -> None: ...
    def add_sums(self, row: Row, day_ns: int, sums: Mapping[str, int]) -> None: ...
    def set_day(self, row: Row, day_ns: int, cell: int | None, value: float | None) -> None: ...
    def tell(self, row: Row, at_wall_ns: int, **changes: int) -> None: ...
    def count(self, model: str, what: str, times: int = 1) -> None: ...


@dataclass(slots=True)
class Labelling:
    """The rules over one set of objectives. One for each configuration; it keeps nothing between batches.

    Args:
        fault: counts what user code raised; never raises.
        key: of samples; by default the book's own secret.
        retention_ns: how long the history keeps slots.
    """

    slos: Sequence[SLO]
    fault: Callable[[str, str], None]
    retention_ns: int
    key: str | None = None
    _of_model: dict[str, tuple[SLO, ...]] = field(default_factory=dict)
    _by_name: dict[tuple[str, str], SLO] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slos = [slo for slo in self.slos if slo.dated and slo.kind == KIND]
        self._by_name = {(slo.name, slo.meaning): slo for slo in self.slos}

    @property
    def keep_ns(self) -> int:
        """How long predictions are kept: as long as a label may be read, and no longer than the history's slots."""
        longest_ns = max((_kept_for(within_of(slo)) for slo in self.slos), default=KEEP_NS)
        return min(longest_ns, max(self.retention_ns, 2 * GRACE_NS))

    def keeps_texts(self, model: str) -> bool:
        """Whether an objective needs outputs that are longer than a class."""
        return any(slo.needs_texts for slo in self.about(model))

    def in_force(self, rows: Iterable[Row]) -> list[int]:
        """The numbers of the rows that are of these objectives."""
        return [row.number for row in rows if (row.slo, row.meaning) in self._by_name]

    def about(self, model: str) -> tuple[SLO, ...]:
        """The objectives that predictions of a model can belong to."""
        found = self._of_model.get(model)
        if found is None:
            found = tuple(slo for slo in self.slos if slo.matches(KIND, model, "", ""))
            if len(self._of_model) < 1000:
                self._of_model[model] = found
        return found


class Batch:
    """Some records, and what has fallen due, taken in by the rules at one moment, into one book."""

    def __init__(self, rules: Labelling, book: Book, now_wall_ns: int) -> None:
        self._rules, self._book, self._now_ns = rules, book, now_wall_ns
        self._rows = {row.number: row for row in book.rows()}
        self._numbers = {row.key: row for row in self._rows.values()}
        self._samplings: dict[str, Sampling] = {}

    @property
    def in_force(self) -> list[int]:
        """The numbers of the rows for which something may fall due."""
        return self._rules.in_force(self._rows.values())

    @property
    def keep_ns(self) -> int:
        """How long predictions are kept."""
        return self._rules.keep_ns

    # ── what comes in ──────────────────────────────────────────────────────────────────────────────────────────────
    def take(self, record: Record) -> None:
        """A prediction or a label."""
        about = self._rules.about(record.model)
        if not about:
            self._book.count("", "ignored")  # not under a name that anybody may make up
        elif not any(self._may_be_sampled(slo, record.id) for slo in about):
            self._book.count(record.model, "not_sampled")
        elif isinstance(record, Prediction):
            self._take_prediction(record, about)
        else:
            self._take_label(record)

    def _take_prediction(self, made: Prediction, about: Sequence[SLO]) -> None:
        at_ns = min(made.at_wall_ns, self._now_ns)
        if at_ns < self._now_ns - self._rules.keep_ns:
            self._book.count(made.model, "too_old")
        elif self._book.kept(made.model, made.id) is not None:
            self._book.count(made.model, "repeated")
        else:
            output = made.output
            if isinstance(output, str) and len(output) > LONGEST_CLASS and not self._rules.keeps_texts(made.model):
                output = None
            kept = Kept(made.model, made.id, at_ns, output, made.score, made.attributes, {})
            for slo in about:
                if self._may_be_sampled(slo, made.id):
                    self._enter(kept, slo)
            self._book.insert(kept)
            self._book.count(made.model, "predictions")
            for label in self._book.waiting(made.model, made.id):
                self._meet(kept, label)

    def _enter(self, kept: Kept, slo: SLO) -> None:
        event = _event(kept, Labelled(kept.output, kept.score))
        try:
            if slo.in_maintenance(event) is None:
                return  # `where` says that it is not this objective's
        except Exception as e:
            self._rules.fault("user_code", f"{slo.name}: {type(e).__name__}: {e}; judged without it")
        row, sample = self._row(slo, event, kept.at_wall_ns), slo.option("sample")
        if slo.planned.active(kept.at_wall_ns):
            cell = slo.cell(Outcome("excluded", MAINTENANCE))
            kept.states[row.number] = (MAINTAINED, {} if slo.daily else cell)
            if not slo.daily:
                self._book.add(row, kept.at_wall_ns, cell, 1, False)
        elif sample is not None and sample.a_day is not None:
            self._draw(kept, slo, row, sample.a_day)
        else:
            self._expect(kept, slo, row)

    def _expect(self, kept: Kept, slo: SLO, row: Row) -> None:
        """Have a prediction wait for its label, unless none can change what it is."""
        bare = Labelled(kept.output, kept.score)
        if slo.settled(bare):
            how, cell = self._judged(kept, slo, bare, SETTLED)
            kept.states[row.number] = (how, cell)
            if how == SETTLED:
                self._book.add(row, kept.at_wall_ns, cell, 1, False)
            return
        kept.states[row.number] = None
        self._book.tell(row, kept.at_wall_ns, predicted=1)
        if row.within_ns is not None:
            self._book.lapse_at(max(kept.at_wall_ns + row.within_ns, self._now_ns) + GRACE_NS, row.number, kept)

    def _draw(self, kept: Kept, slo: SLO, row: Row, most: int) -> None:
        day_ns = kept.at_wall_ns // DAY_NS * DAY_NS
        if day_ns < self._book.drawn_until(slo_key(slo)):
            self._book.count(kept.model, "undrawn")
            return
        position = self._sampling(slo).position(kept.id, _day_text(day_ns))
        kept.states[row.number] = (CANDIDATE, None)
        out = self._book.draw(slo_key(slo), day_ns, position, row.number, kept, most)
        if out is not None and out == (kept.model, kept.id):
            del kept.states[row.number]
        elif out is not None:
            self._let_go(out, slo)

    def _let_go(self, pushed_out: tuple[str, str], slo: SLO) -> None:
        other = self._book.kept(*pushed_out)
        if other is not None:
            for number in [n for n in other.states if self._slo_of(n) is slo]:
                del other.states[number]
            self._book.update(other)

    def _take_label(self, label: Label) -> None:
        kept = self._book.kept(label.model, label.id)
        if kept is None:
            self._book.wait(label, self._now_ns + WAIT_NS)
        else:
            self._meet(kept, label)

    # ── what a label makes of it ───────────────────────────────────────────────────────────────────────────────────
    def _meet(self, kept: Kept, label: Label) -> None:
        key = truth_key_of(label.truth)
        if kept.truth_key == key:
            self._book.count(kept.model, "duplicates")
            self._tell_earlier(kept, label)
            return
        correction = kept.truth_key is not None
        kept.truth, kept.truth_key, kept.told_wall_ns = label.truth, key, label.at_wall_ns
        self._book.count(kept.model, "corrections" if correction else "labels")
        late = [self._apply_truth(kept, number) for number in kept.states]
        if True in late:
            self._book.count(kept.model, "late")
        self._book.update(kept)

    def _tell_earlier(self, kept: Kept, label: Label) -> None:
        """The same was told before, and then it may have been in time."""
        if label.at_wall_ns >= kept.told_wall_ns:
            return
        kept.truth, kept.told_wall_ns = label.truth, label.at_wall_ns
        for number, state in kept.states.items():
            if state is None or state[0] == LAPSED:
                self._apply_truth(kept, number)
        self._book.update(kept)

    def _apply_truth(self, kept: Kept, number: int) -> bool:
        """Count what is true of a prediction in one row; whether that was told too late."""
        slo, state = self._slo_of(number), kept.states[number]
        if slo is None or (state is not None and state[0] in _FIXED):
            return False
        row = self._rows[number]
        if row.within_ns is not None and kept.told_wall_ns > kept.at_wall_ns + row.within_ns:
            return True
        self._settle(kept, row, slo, Labelled(kept.output, kept.score, kept.truth))
        return False

    def _settle(self, kept: Kept, row: Row, slo: SLO, labelled: Labelled) -> None:
        """Count an outcome in the place of the one before, if there was any."""
        before = kept.states[row.number]
        how = LAPSED if labelled.lapsed else LABELLED
        after = self._judged(kept, slo, labelled, how)
        was_lapsed = before is not None and before[0] == LAPSED
        was_labelled = before is not None and not was_lapsed
        kept.states[row.number] = after
        if slo.daily:
            self._add_sums(kept, row, before, after)
        elif before != after:
            for state, count in ((before, -1), (after, 1)):
                if state is not None and state[0] != NOT_OURS:
                    self._book.add(row, kept.at_wall_ns, state[1], count, was_labelled)
        self._book.tell(
            row,
            kept.at_wall_ns,
            labelled=int(how == LABELLED) - int(was_labelled),
            lapsed=int(how == LAPSED) - int(was_lapsed),
            corrected=int(was_labelled and before != after),
        )

    def _judged(self, kept: Kept, slo: SLO, labelled: Labelled, how: str) -> tuple[str, Any]:
        event = _event(kept, labelled)
        try:
            if slo.daily:
                return how, dict(slo.tally(event))
            judgement = slo.judge(event)
        except Exception as e:
            self._rules.fault("user_code", f"{slo.name}: {type(e).__name__}: {e}; judged without it")
            if slo.daily:
                return how, {}
            judgement = slo.by_indicator(event)
        return (NOT_OURS, None) if judgement is None else (how, slo.cell(judgement.outcome(None)))

    def _add_sums(self, kept: Kept, row: Row, before: State, after: tuple[str, Any]) -> None:
        sums = dict(after[1])
        for name, count in (before[1] if before is not None else {}).items():
            sums[name] = sums.get(name, 0) - count
        changed = {name: count for name, count in sums.items() if count}
        if changed:
            self._book.add_sums(row, kept.at_wall_ns // DAY_NS * DAY_NS, changed)

    # ── what falls due ─────────────────────────────────────────────────────────────────────────────────────────────
    def lapse(self, entries: Sequence[tuple[int, str, str]]) -> int:
        """The time for labels is up: (row, model, id). How many there were."""
        for entry in entries:
            self._lapse(*entry)
        return len(entries)

    def enter_drawn(self, entries: Sequence[tuple[int, str, str]]) -> int:
        """The day of a sample is over, and these (row, model, id) are in it."""
        for entry in entries:
            self._enter_drawn(*entry)
        return len(entries)

    def close_days(self, entries: Sequence[tuple[int, int, Mapping[str, int]]]) -> int:
        """Make of the sums of days what they are worth: (row, day, sums)."""
        for entry in entries:
            self._close_day(*entry)
        return len(entries)

    def _lapse(self, row: int, model: str, identity: str) -> None:
        kept, slo = self._book.kept(model, identity), self._slo_of(row)
        if kept is None or slo is None or kept.states.get(row, ("", None)) is not None:
            return
        self._settle(kept, self._rows[row], slo, Labelled(kept.output, kept.score, lapsed=True))
        self._book.update(kept)

    def _enter_drawn(self, row: int, model: str, identity: str) -> None:
        kept, slo = self._book.kept(model, identity), self._slo_of(row)
        if kept is None or slo is None or kept.states.get(row) != (CANDIDATE, None):
            return
        self._expect(kept, slo, self._rows[row])
        if kept.truth_key is not None:
            self._apply_truth(kept, row)
        self._book.update(kept)

    def _close_day(self, number: int, day_ns: int, sums: Mapping[str, int]) -> None:
        slo, row = self._slo_of(number), self._rows[number]
        if slo is None:
            return
        sums = {name: count for name, count in sums.items() if count}
        if not sums:  # all labels were taken back
            self._book.set_day(row, day_ns, None, None)
            return
        try:
            outcome, value = slo.day(sums)
        except Exception as e:
            self._rules.fault("internal", f"{slo.name}: {_day_text(day_ns)} is not counted: {type(e).__name__}: {e}")
            self._book.set_day(row, day_ns, None, None)
            return
        self._book.set_day(row, day_ns, slo.cell(outcome), None if value is None else float(value))

    def give_up(self, kept: Kept, why: str) -> None:
        """A prediction is not kept any more; those that still waited are never labelled."""
        waited = [number for number, state in kept.states.items() if state is None]
        for number in waited:
            if number in self._rows:
                self._book.tell(self._rows[number], kept.at_wall_ns, gone=1)
        if waited:
            self._book.count(kept.model, why)

    # ── rows and samples ───────────────────────────────────────────────────────────────────────────────────────────
    def _slo_of(self, number: int) -> SLO | None:
        row = self._rows.get(number)
        return None if row is None else self._rules._by_name.get((row.slo, row.meaning))

    def _row(self, slo: SLO, event: Event, at_wall_ns: int) -> Row:
        group = slo.group_of(event)
        found = self._numbers.get(_key_text(slo, group))
        if found is None and group is not None and group != OVERFLOW:
            mine = [r for r in self._rows.values() if (r.slo, r.meaning) == (slo.name, slo.meaning)]
            if len([r for r in mine if r.group != OVERFLOW]) >= slo.max_groups:
                group = OVERFLOW
                found = self._numbers.get(_key_text(slo, group))
        if found is None:
            found = self._book.add_row(_row_of(slo, group))
            self._rows[found.number] = self._numbers[found.key] = found
            self._book.add(found, at_wall_ns, 0, 0, False)  # it is there from its first prediction on
        return found

    def _may_be_sampled(self, slo: SLO, identity: str) -> bool:
        """By the rate of its sample; N a day are drawn later."""
        sample = slo.option("sample")
        rate = None if sample is None else sample.rate
        return rate is None or rate == 1 or self._sampling(slo).holds(identity, rate)

    def _sampling(self, slo: SLO) -> Sampling:
        found = self._samplings.get(slo.name)
        if found is None:
            key = self._rules.key or self._book.secret()
            found = self._samplings[slo.name] = Sampling(f"{key}\0{slo.name}")
        return found


def within_of(slo: SLO) -> int | None:
    """How long a label is waited for, ns; None: as long as predictions are kept."""
    found = slo.option("label_within")
    return None if found is None else int(found)


def _kept_for(within_ns: int | None) -> int:
    return KEEP_NS if within_ns is None else within_ns + max(within_ns, DAY_NS)


def slo_key(slo: SLO) -> str:
    """What a draw of N a day is kept under."""
    return json.dumps([slo.name, slo.meaning])


def truth_key_of(truth: Class) -> str:
    """What tells one truth from another: the class, or of a text that is longer a hash."""
    key = class_key(truth).encode("utf-8", "backslashreplace")  # a label from outside may hold what no file can
    if len(key) <= LONGEST_CLASS:
        return f"={key.decode()}"
    return f"#{blake2b(key, digest_size=16).hexdigest()}"


def _key_text(slo: SLO, group: str | None) -> str:
    return RowKey(slo.name, slo.meaning, group, slo.reason_cells).text()


def _row_of(slo: SLO, group: str | None) -> Row:
    otherwise = "" if slo.daily else slo.option("otherwise") or "excluded"
    return Row(0, _key_text(slo, group), slo.name, slo.meaning, group, within_of(slo), otherwise)


def _event(kept: Kept, labelled: Labelled) -> Event:
    return Event(kind=KIND, route=kept.model, attributes=kept.attributes, labelled=labelled)


def _day_text(day_ns: int) -> str:
    return datetime.fromtimestamp(day_ns // 10**9, UTC).strftime("%Y-%m-%d")
