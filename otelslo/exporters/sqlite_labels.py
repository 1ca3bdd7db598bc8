"""Predictions, labels and how far the inbox was read, in the history: one `LabelBook` is one transaction of it.

What is counted, what is kept of predictions and the offset in the file that it came from are committed together; so
each record is counted once, whoever is killed, and also if two count at once.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from otelslo.dated import DatedAdd, slot_of
from otelslo.exporters.sqlite_dated import add_dated, set_dated
from otelslo.kept import CANDIDATE, Kept, Row, SlotCounts
from otelslo.label_record import Label
from otelslo.rowkey import RowKey
from otelslo.window import DAY_NS

_SECRET, _HOW_MANY, _DRAWN = "label_secret", "predictions_kept", "drawn_until "
_SLOT = ("predicted", "labelled", "lapsed", "gone", "corrected")
_KEPT = "model, id, at_wall_ns, output, score, attributes, states, truth, truth_key, told_wall_ns"
_AMONG = "(SELECT value FROM json_each(?))"
_ROWS = "SELECT row, key, within_ns, otherwise FROM label_rows"
_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
Fetch = Callable[[str, tuple[object, ...]], list[Any]]


class LabelBook:
    """What is kept, inside the caller's transaction; `wall_ns` is now (Unix ns). `close` writes what was added up."""

    def __init__(self, connection: sqlite3.Connection, wall_ns: int) -> None:
        self._db = connection
        self._wall_ns = wall_ns
        self._adds: dict[tuple[str, int, int, bool], int] = defaultdict(int)
        self._slots: dict[tuple[int, int, str], int] = defaultdict(int)
        self._sums: dict[tuple[int, int, str], int] = defaultdict(int)
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._drawn: dict[tuple[str, int], int] = {}
        self._more = 0

    # ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def offset(self, name: str) -> int:
        """Up to where a file of the inbox has been counted."""
        found = self._db.execute("SELECT offset FROM label_files WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def advance(self, name: str, offset: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO label_files VALUES (?, ?)", (name, offset))

    def forget_files(self, gone: Callable[[str], bool]) -> None:
        """Forget the files that are not there any more; no name comes twice."""
        names = [name for (name,) in self._db.execute("SELECT name FROM label_files").fetchall() if gone(name)]
        self._db.executemany("DELETE FROM label_files WHERE name = ?", [(name,) for name in names])

    # ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def secret(self) -> str:
        """The key of samples, made once."""
        self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (_SECRET, secrets.token_hex(16)))
        return str(self._db.execute("SELECT value FROM meta WHERE key = ?", (_SECRET,)).fetchone()[0])

    def rows(self) -> list[Row]:
        return [_row(*row) for row in self._db.execute(_ROWS)]

    def add_row(self, row: Row) -> Row:
        sql = "INSERT INTO label_rows (key, within_ns, otherwise) VALUES (?, ?, ?)"
        number = self._db.execute(sql, (row.key, row.within_ns, row.otherwise)).lastrowid
        return replace(row, number=number or 0)

    # ── predictions ────────────────────────────────────────────────────────────────────────────────────────────────
    def kept(self, model: str, identity: str) -> Kept | None:
        sql = f"SELECT {_KEPT} FROM predictions WHERE model = ? AND id = ?"
        found = self._db.execute(sql, (model, identity)).fetchone()
        return None if found is None else _kept(found)

    def insert(self, kept: Kept) -> None:
        self._db.execute(f"INSERT INTO predictions ({_KEPT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _values(kept))
        self._more += 1

    def update(self, kept: Kept) -> None:
        self._db.execute(
            "UPDATE predictions SET states = ?, truth = ?, truth_key = ?, told_wall_ns = ? WHERE model = ? AND id = ?",
            (*_changing(kept), kept.model, kept.id),
        )

    def older_than(self, wall_ns: int, most: int, limit: int) -> list[tuple[Kept, bool]]:
        """Predictions that are not to be kept, and whether that is by their age: those from before `wall_ns`, else the
        oldest of those beyond `most`."""
        found = self._oldest("WHERE at_wall_ns < ?", (wall_ns,), limit)
        if found:
            return [(kept, True) for kept in found]
        over = self._how_many() + self._more - most
        return [(kept, False) for kept in self._oldest("", (), min(over, limit))] if over > 0 else []

    def all_of(self, model: str, limit: int) -> list[Kept]:
        """Some of the predictions of a model."""
        return self._oldest("WHERE model = ?", (model,), limit)

    def remove(self, kept: Iterable[Kept]) -> None:
        keys = [(one.model, one.id) for one in kept]
        for table in ("predictions", "label_due", "label_draws"):
            self._db.executemany(f"DELETE FROM {table} WHERE model = ? AND id = ?", keys)
        self._more -= len(keys)

    def _oldest(self, where: str, parameters: tuple[object, ...], limit: int) -> list[Kept]:
        sql = f"SELECT {_KEPT} FROM predictions {where} ORDER BY at_wall_ns LIMIT ?"
        return [_kept(row) for row in self._db.execute(sql, (*parameters, limit))]

    def _how_many(self) -> int:
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (_HOW_MANY,)).fetchone()
        return int(found[0]) if found else 0

    # ── labels that came first ─────────────────────────────────────────────────────────────────────────────────────
    def wait(self, label: Label, until_wall_ns: int) -> None:
        values = (label.model, label.id, label.at_wall_ns, json.dumps(label.truth), until_wall_ns)
        self._db.execute(
            "INSERT INTO label_waiting (model, id, at_wall_ns, truth, until_wall_ns) VALUES (?, ?, ?, ?, ?)", values
        )

    def waiting(self, model: str, identity: str) -> list[Label]:
        """Those of a prediction, which wait no longer, in the order in which they came."""
        found = self._db.execute(
            "SELECT at_wall_ns, truth FROM label_waiting WHERE model = ? AND id = ? ORDER BY number", (model, identity)
        ).fetchall()
        if found:
            self._db.execute("DELETE FROM label_waiting WHERE model = ? AND id = ?", (model, identity))
        return [Label(model, identity, at_ns, json.loads(truth)) for at_ns, truth in found]

    def unknown(self, most: int, limit: int) -> list[str]:
        """The models of labels that have waited long enough, or are the oldest of too many; they wait no longer."""
        found = self._db.execute(
            "SELECT number, model FROM label_waiting WHERE until_wall_ns <= ? OR number <="
            " (SELECT max(number) FROM label_waiting) - ? ORDER BY number LIMIT ?",
            (self._wall_ns, most, limit),
        ).fetchall()
        self._db.executemany("DELETE FROM label_waiting WHERE number = ?", [(number,) for number, _ in found])
        return [model for _, model in found]

    # ── what falls due ─────────────────────────────────────────────────────────────────────────────────────────────
    def lapse_at(self, due_wall_ns: int, row: int, kept: Kept) -> None:
        entry = (kept.model, kept.id, row, due_wall_ns)
        self._db.execute("INSERT OR REPLACE INTO label_due VALUES (?, ?, ?, ?)", entry)

    def lapsed(self, rows: Sequence[int], limit: int) -> list[tuple[int, str, str]]:
        """(row, model, id) of these rows whose time is up, the earliest first; they are not named again."""
        found = self._db.execute(
            f"SELECT row, model, id FROM label_due WHERE row IN {_AMONG} AND due_wall_ns <= ?"
            " ORDER BY due_wall_ns LIMIT ?",
            (_json(rows), self._wall_ns, limit),
        ).fetchall()
        self._db.executemany("DELETE FROM label_due WHERE (row, model, id) = (?, ?, ?)", found)
        return found

    def draw(self, slo: str, day_ns: int, position: int, row: int, kept: Kept, most: int) -> tuple[str, str] | None:
        """Enter a candidate; who is pushed out of the `most` smallest positions of that day, maybe it itself."""
        day = (slo, day_ns)
        if day not in self._drawn:
            sql = "SELECT count(*) FROM label_draws WHERE slo = ? AND day_wall_ns = ?"
            self._drawn[day] = int(self._db.execute(sql, day).fetchone()[0])
        entry = (*day, f"{position:016x}", kept.model, kept.id, row)
        found = self._db.execute("INSERT OR IGNORE INTO label_draws VALUES (?, ?, ?, ?, ?, ?)", entry)
        self._drawn[day] += found.rowcount
        if self._drawn[day] <= most:
            return None
        self._drawn[day] -= 1
        farthest = self._db.execute(
            "SELECT slo, day_wall_ns, position, model, id FROM label_draws WHERE slo = ? AND day_wall_ns = ?"
            " ORDER BY position DESC, model DESC, id DESC LIMIT 1",
            day,
        ).fetchone()
        self._drop_draws([farthest])
        return farthest[3], farthest[4]

    def drawn_until(self, slo: str) -> int:
        """Before which time no candidate is entered any more, since the samples of those days have been drawn."""
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (_DRAWN + slo,)).fetchone()
        return int(found[0]) if found else 0

    def drawn(self, rows: Sequence[int], before_ns: int, limit: int) -> list[tuple[int, str, str]]:
        """(row, model, id) of these rows and the samples of days that begin before `before_ns`; they are not named
        again."""
        found = self._db.execute(
            "SELECT slo, day_wall_ns, position, model, id, row FROM label_draws"
            f" WHERE row IN {_AMONG} AND day_wall_ns < ? LIMIT ?",
            (_json(rows), before_ns, limit),
        ).fetchall()
        self._drop_draws(entry[:5] for entry in found)
        for slo, day_ns in {entry[:2] for entry in found}:
            until = (_DRAWN + slo, max(day_ns + DAY_NS, self.drawn_until(slo)))
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", until)
        return [(row, model, identity) for _, _, _, model, identity, row in found]

    def _drop_draws(self, entries: Iterable[tuple[Any, ...]]) -> None:
        where = "(slo, day_wall_ns, position, model, id) = (?, ?, ?, ?, ?)"
        self._db.executemany(f"DELETE FROM label_draws WHERE {where}", entries)

    def days(self, rows: Sequence[int], before_ns: int, limit: int) -> list[tuple[int, int, dict[str, int]]]:
        """(row, day, sums) of these rows and the days that begin before `before_ns` and have changed since they were
        set."""
        found = self._db.execute(
            f"SELECT row, day_wall_ns FROM label_days WHERE due = 1 AND row IN {_AMONG} AND day_wall_ns < ? LIMIT ?",
            (_json(rows), before_ns, limit),
        ).fetchall()
        sums = "SELECT name, count FROM label_sums WHERE row = ? AND day_wall_ns = ?"
        return [(row, day_ns, dict(self._db.execute(sums, (row, day_ns)).fetchall())) for row, day_ns in found]

    # ── what is counted ────────────────────────────────────────────────────────────────────────────────────────────
    def add(self, row: Row, at_wall_ns: int, cell: int, count: int, correction: bool) -> None:
        self._adds[row.key, slot_of(at_wall_ns), cell, correction] += count

    def add_sums(self, row: Row, day_ns: int, sums: Mapping[str, int]) -> None:
        for name, count in sums.items():
            self._sums[row.number, day_ns, name] += count

    def set_day(self, row: Row, day_ns: int, cell: int | None, value: float | None) -> None:
        """Count a day as one event in its last slot; as none, if `cell` is None."""
        cells = {} if cell is None else {cell: 1}
        set_dated(self._db, row.key, day_ns + DAY_NS - 1, cells, self._wall_ns)
        self._db.execute("INSERT OR REPLACE INTO label_days VALUES (?, ?, 0, ?)", (row.number, day_ns, value))

    def tell(self, row: Row, at_wall_ns: int, **changes: int) -> None:
        for name, change in changes.items():
            if change:
                self._slots[row.number, slot_of(at_wall_ns), name] += change

    def count(self, model: str, what: str, times: int = 1) -> None:
        self._counts[model, what] += times

    def close(self) -> None:
        """Write what was added up, at the end of the transaction."""
        adds = [DatedAdd(key, at_ns, cell, n, how) for (key, at_ns, cell, how), n in self._adds.items()]
        add_dated(self._db, adds, self._wall_ns)
        for name in _SLOT:
            entries = [(row, at_ns, n) for (row, at_ns, which), n in self._slots.items() if which == name and n]
            self._db.executemany(
                f"INSERT INTO label_slots (row, slot_wall_ns, {name}) VALUES (?, ?, ?)"
                f" ON CONFLICT (row, slot_wall_ns) DO UPDATE SET {name} = {name} + excluded.{name}",
                entries,
            )
        self._db.executemany(
            "INSERT INTO label_sums VALUES (?, ?, ?, ?)"
            " ON CONFLICT (row, day_wall_ns, name) DO UPDATE SET count = count + excluded.count",
            [(*key, n) for key, n in self._sums.items()],
        )
        self._db.executemany(
            "INSERT INTO label_days VALUES (?, ?, 1, NULL) ON CONFLICT (row, day_wall_ns) DO UPDATE SET due = 1",
            {(row, day_ns) for row, day_ns, _ in self._sums},
        )
        self._db.executemany(
            "INSERT INTO label_counters VALUES (?, ?, ?)"
            " ON CONFLICT (model, what) DO UPDATE SET count = count + excluded.count",
            [(*key, n) for key, n in self._counts.items()],
        )
        if self._more:
            entry = (_HOW_MANY, self._how_many() + self._more)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", entry)

    def expire(self, before_wall_ns: int) -> None:
        """Forget the counts of slots and days that begin before that."""
        self._db.execute("DELETE FROM label_slots WHERE slot_wall_ns < ?", (before_wall_ns,))
        for table in ("label_sums", "label_days"):
            self._db.execute(f"DELETE FROM {table} WHERE day_wall_ns < ?", (before_wall_ns,))


class LabelsReader:
    """The questions. Each method may raise StoreUnavailable; nothing is known of a database without these tables."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    @property
    def is_there(self) -> bool:
        return bool(self._fetch("SELECT 1 FROM sqlite_master WHERE name = 'label_files'", ()))

    def offsets(self) -> dict[str, int]:
        """Up to where each file of the inbox has been counted."""
        return dict(self._fetch("SELECT name, offset FROM label_files", ())) if self.is_there else {}

    def rows(self) -> list[Row]:
        """All rows that predictions ever counted in."""
        return [_row(*row) for row in self._fetch(_ROWS, ())] if self.is_there else []

    def between(self, row: int, start_wall_ns: int, end_wall_ns: int) -> SlotCounts:
        """The slots of a row that begin from one to before the other (Unix ns), as if they were one."""
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in _SLOT)
        found = self._fetch(
            f"SELECT {sums} FROM label_slots WHERE row = ? AND slot_wall_ns >= ? AND slot_wall_ns < ?",
            (row, start_wall_ns, end_wall_ns),
        )
        return SlotCounts(start_wall_ns, *found[0])

    def values(self, row: int, since_wall_ns: int) -> list[tuple[int, float | None]]:
        """(start, value) of the days of a daily indicator that have been counted, the oldest first."""
        return self._fetch(
            "SELECT day_wall_ns, value FROM label_days WHERE row = ? AND day_wall_ns >= ? AND due = 0"
            " ORDER BY day_wall_ns",
            (row, since_wall_ns // DAY_NS * DAY_NS),
        )

    def counters(self) -> dict[str, dict[str, int]]:
        """How many predictions and labels were what, by model; see `otelslo.kept.COUNTERS`."""
        found: dict[str, dict[str, int]] = {}
        for model, what, count in self._fetch("SELECT * FROM label_counters", ()) if self.is_there else []:
            found.setdefault(model, {})[what] = count
        return found

    def how_many(self) -> tuple[int, int]:
        """Predictions kept, and labels that wait for theirs."""
        if not self.is_there:
            return 0, 0
        found = self._fetch(
            "SELECT coalesce((SELECT value FROM meta WHERE key = ?), 0), (SELECT count(*) FROM label_waiting)",
            (_HOW_MANY,),
        )
        return int(found[0][0]), int(found[0][1])

    def is_due(
        self,
        rows: Sequence[int],
        now_wall_ns: int,
        day_before_ns: int,
        draw_before_ns: int,
        keep_from_ns: int,
        most: int,
    ) -> bool:
        """Whether there is anything to settle in these rows, or to forget."""
        among, moments = _json(rows), (now_wall_ns, draw_before_ns, day_before_ns)
        found = self._fetch(
            f"SELECT EXISTS (SELECT 1 FROM label_due WHERE row IN {_AMONG} AND due_wall_ns <= ?)"
            f" OR EXISTS (SELECT 1 FROM label_draws WHERE row IN {_AMONG} AND day_wall_ns < ?)"
            f" OR EXISTS (SELECT 1 FROM label_days WHERE due = 1 AND row IN {_AMONG} AND day_wall_ns < ?)"
            " OR EXISTS (SELECT 1 FROM label_waiting WHERE until_wall_ns <= ?)"
            " OR EXISTS (SELECT 1 FROM predictions WHERE at_wall_ns < ?)"
            " OR coalesce((SELECT value FROM meta WHERE key = ?), 0) > ?",
            (*(x for at_ns in moments for x in (among, at_ns)), now_wall_ns, keep_from_ns, _HOW_MANY, most),
        )
        return bool(found[0][0])


def _row(number: int, key: str, within_ns: int | None, otherwise: str) -> Row:
    name = RowKey.parse(key)
    return Row(number, key, name.slo, name.meaning, name.group, within_ns, otherwise)


def _values(kept: Kept) -> tuple[object, ...]:
    output = None if kept.output is None else _json(kept.output)
    attributes = _json(dict(kept.attributes)) if kept.attributes else "{}"
    return (kept.model, kept.id, kept.at_wall_ns, output, kept.score, attributes, *_changing(kept))


def _changing(kept: Kept) -> tuple[object, ...]:
    """What a label changes."""
    open_draw = any(state is not None and state[0] == CANDIDATE for state in kept.states.values())
    truth = _json(kept.truth) if open_draw and kept.truth is not None else None
    return (_json(kept.states), truth, kept.truth_key, kept.told_wall_ns)


def _kept(row: Any) -> Kept:
    model, identity, at_ns, output, score, attributes, states, truth, truth_key, told_ns = row
    found = {int(number): None if state is None else (state[0], state[1]) for number, state in _load(states).items()}
    return Kept(
        *(model, identity, at_ns, _load(output), score, _load(attributes), found, _load(truth), truth_key, told_ns)
    )


def _load(text: str | None) -> Any:
    return None if text is None else {} if text == "{}" else json.loads(text)
