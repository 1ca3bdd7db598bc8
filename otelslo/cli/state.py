"""A state directory as somebody sees who only looks: the live ring if it can be read, else the history alone.

Nothing here compiles, writes or takes a lock, so it may be used beside running workers at any time.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import yaml

from otelslo.cli.days import Days, days
from otelslo.cli.history import SavedRows
from otelslo.cli.notebook import has_notes
from otelslo.clock import SystemClock, same_boot
from otelslo.config import DEFAULT_FILE, ENV_CONFIG, LARGEST_FILE_BYTES
from otelslo.dated import apart_ns
from otelslo.definition import FIRST_EXCLUDED, Definition
from otelslo.errors import DefinitionError, StateError
from otelslo.evaluate import Rows, Traffic, excluded_spans, statuses, traffic
from otelslo.exporters.sqlite_reader import Reader as History
from otelslo.joined import JoinedRows
from otelslo.known import Known, coverages
from otelslo.limit import Limit
from otelslo.limits import LimitStatus, assess
from otelslo.notes import SNAP_NS, Marked
from otelslo.oncall import restored, shown
from otelslo.ring import state as files
from otelslo.ring.geometry import Geometry
from otelslo.ring.reader import Reader, open_reader
from otelslo.rowkey import SELF, RowKey
from otelslo.snapshot import JournalEntry, Loss, Saved, SavedLoss
from otelslo.status import Status
from otelslo.tally import Span
from otelslo.window import HOUR_NS, MINUTE_NS, SECOND_NS

MOST_LOSSES = 5_000
_QUIET_NS = 5 * SECOND_NS
_WALL_MARGIN_NS = HOUR_NS  # the wall clock may have been stepped since a loss was saved
TRAFFIC_WINDOW_NS = 5 * MINUTE_NS


def directory(given: str | None) -> Path:
    """The state directory: as given, else $OTELSLO_STATE_DIR, else the configuration's `state_dir`, else .otelslo."""
    return Path(given or os.environ.get("OTELSLO_STATE_DIR") or _configured() or files.DIRECTORY)


def _configured() -> str | None:
    """`state_dir:` of the YAML configuration, read without resolving it: that could import the whole app."""
    path = Path(os.environ.get(ENV_CONFIG) or DEFAULT_FILE)
    try:
        if path.suffix not in (".yaml", ".yml") or path.stat().st_size > LARGEST_FILE_BYTES:
            return None
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    named = found.get("state_dir") if isinstance(found, dict) else None
    return named if isinstance(named, str) else None


_Promised = tuple[list[Definition], list[Limit]]
_Same = tuple[str, str | None, str, str, int, str, str]


def _identity(one: SavedLoss) -> tuple[str | None, Loss]:
    """What the log and the history know a loss by."""
    return one.row_key, replace(one.loss, row=0, count=0, trace_id="")


@dataclass(frozen=True, slots=True)
class Cause:
    """Equal losses taken together: what was lost, where, and when last (Unix ns)."""

    slo: str
    group: str | None
    reason: str
    route: str
    status: int
    exception: str
    version: str
    count: int
    last_wall_ns: int
    trace_id: str


@dataclass
class View:
    """One look at a state directory.

    `now_ns` is ring time; `reader` is None if only the history could be read, and then `now_ns` is its last commit.
    `notes` says what a person should know about where the numbers come from.
    """

    path: Path
    rows: Rows
    now_ns: int
    definitions: Sequence[Definition]
    reader: Reader | None = None
    notes: list[str] = field(default_factory=list)
    limits: Sequence[Limit] = ()

    @property
    def now_wall_ns(self) -> int:
        return self.now_ns + self.rows.wall_offset_ns()

    @property
    def marked(self) -> Marked:
        """Exclusions in force, annotations and alerts, as the database has them; none where there is no database, or an
        older one without them. Where it cannot be read, `unread` says so."""
        return self._noted[0]

    @property
    def unread(self) -> str:
        """Why statuses are without the exclusions and annotations that there may be; "" where they are not."""
        return self._noted[1]

    def limit_statuses(self) -> list[LimitStatus]:
        """Of all limits, now: an age grows while nobody runs, too. Without data where the database cannot be read."""
        now_wall_ns, alerts = SystemClock().wall_ns(), self.marked.alerts
        try:
            seen = History(self._database).limits.observations() if self.limits else {}
        except StateError:
            seen = {}
        found = [assess(limit, seen.get(limit.source), now_wall_ns) for limit in self.limits]
        return [replace(one, alerts=tuple(alerts.get((one.name, None), ()))) for one in found]

    @cached_property
    def _noted(self) -> tuple[Marked, str]:
        since_ns = self.now_wall_ns - max((d.window_ns for d in self.definitions), default=0)
        try:
            history = History(self._database)
            notes, dated = history.notes, history.dated().read()
            alerts = shown(restored(notes.alerts()))
            return Marked(tuple(notes.exclusions()), tuple(notes.annotations(since_ns - SNAP_NS)), alerts, dated), ""
        except StateError as e:
            lost = has_notes(self._database) is not False
            return (
                Marked(),
                f"exclusions, annotations and alerts are left out, they cannot be read: {e}" if lost else "",
            )

    def statuses(self, definitions: Sequence[Definition] | None = None, marked: Marked | None = None) -> list[Status]:
        """Of all objectives, or of these; with the exclusions and annotations of the database, or with these."""
        marked = self.marked if marked is None else marked
        return statuses(self.definitions if definitions is None else definitions, self.rows, self.now_ns, marked=marked)

    def coverages(self, found: Sequence[Status]) -> Known:
        """How much is known of the predictions of each quality objective and group, in its window."""
        try:
            return coverages(self.definitions, found, History(self._database).labels, self.rows, self.marked)
        except StateError:
            return {}

    def days(self, found: Sequence[Status]) -> Days:
        """What the newest days of each daily objective and group were worth."""
        try:
            return days(self.definitions, found, History(self._database).labels, self.marked.dated, self._is_out)
        except StateError:
            return {}

    def traffic(self) -> list[Traffic]:
        """Of the last five minutes; the history alone has none."""
        return [] if self.reader is None else list(traffic(self.reader, self.now_ns, TRAFFIC_WINDOW_NS))

    def traffic_span_ns(self) -> int:
        """How much of the five minutes the ring has seen."""
        born = 0 if self.reader is None else self.reader.header.created_ns
        return max(1, min(TRAFFIC_WINDOW_NS, self.now_ns - born))

    def in_flight(self) -> int | None:
        return None if self.reader is None else self.reader.in_flight()

    def quiet_ns(self) -> int | None:
        """For how long no worker has led; None while one does, and for the history alone."""
        if self.reader is None or self.reader.leader_heartbeat_ns == 0:
            return None
        quiet_ns = self.now_ns - self.reader.leader_heartbeat_ns
        return quiet_ns if quiet_ns > _QUIET_NS else None

    def faults(self) -> dict[str, int]:
        """Faults of otelslo itself, by reason, since the ring's birth."""
        for row in range(self.rows.rows):
            name = self.rows.row_name(row)
            if name.slo == SELF:
                pairs = list(zip(name.reasons, self.rows.cells(row), strict=True))[1:]
                return {reason: count for reason, count in pairs if reason and count}
        return {}

    def bad_reasons(self) -> dict[tuple[str, str | None], dict[str, int]]:
        """Bad events by reason since the row's birth, exactly, most first; by objective and group."""
        meanings = {(d.name, d.meaning) for d in self.definitions}
        found = {}
        every = JoinedRows(self.rows, self.marked.dated)
        for row in range(every.rows):
            name = every.row_name(row)
            if (name.slo, name.meaning) in meanings:
                pairs = zip(name.reasons, every.cells(row), strict=True)
                bad = [(reason, count) for reason, count in list(pairs)[1:FIRST_EXCLUDED] if reason and count]
                found[name.slo, name.group] = dict(sorted(bad, key=lambda pair: -pair[1]))
        return found

    def causes(self) -> list[Cause]:
        """The newest losses that the history (or, without one, the ring's log) holds, equal ones together, most first.

        Only of the objectives as they are defined now, and not older than the longest window.
        """
        meanings = {(d.name, d.meaning): d.window_ns for d in self.definitions}
        sums: dict[_Same, int] = defaultdict(int)
        last: dict[_Same, tuple[int, str]] = {}
        for one in self.losses(self.now_ns - max(meanings.values(), default=0)):
            key, loss = RowKey.parse(one.row_key or ""), one.loss
            window_ns = meanings.get((key.slo, key.meaning))
            if window_ns is None or loss.at_ns < self.now_ns - window_ns:
                continue
            same = (key.slo, key.group, loss.reason, loss.route, loss.status, loss.exception, loss.version)
            sums[same] += loss.count
            last[same] = max(last.get(same, (0, "")), (one.wall_ns, loss.trace_id))
        causes = [Cause(*same, count, *last[same]) for same, count in sums.items()]
        return sorted(causes, key=lambda cause: (-cause.count, -cause.last_wall_ns, cause.slo, cause.route))

    def losses(self, start_ns: int, most: int = MOST_LOSSES) -> list[SavedLoss]:
        """The newest losses since `start_ns` (ring time) of rows that are known, without those excluded since.

        The history has them up to its last commit, the ring's log the newest few hundred of each worker.
        """
        found = {_identity(one): one for one in self._saved_losses(start_ns, most)}
        for one in self._logged_losses(start_ns):
            known = found.get(_identity(one))
            if known is None or known.loss.count < one.loss.count:
                found[_identity(one)] = one
        spans: dict[str, tuple[Span, ...]] = {}
        every = [*found.values(), *self._dated_losses(start_ns)]
        kept = [one for one in every if one.row_key is not None and not self._is_excluded(one, spans)]
        return sorted(kept, key=lambda one: -one.wall_ns)

    def _dated_losses(self, start_ns: int) -> Iterator[SavedLoss]:
        for row in self.marked.dated.rows:
            yield from row.losses(start_ns, self.rows.wall_offset_ns())

    def slot_start(self, at_ns: int) -> int:
        """The start of the slot that counts since `at_ns` (ring time) begin with."""
        if self.reader is None:
            return at_ns // SNAP_NS * SNAP_NS
        g = self.reader.header.geometry
        fine = self.now_ns // g.fine_ns - at_ns // g.fine_ns < g.fine_slots - 2
        slot_ns = g.fine_ns if fine and at_ns >= self.reader.header.fine_from_ns else g.coarse_ns
        return at_ns // slot_ns * slot_ns

    def kept_since_ns(self) -> int:
        """Ring time since when every slot is kept."""
        reach_ns = Geometry().reach_ns if self.reader is None else self.reader.header.geometry.reach_ns
        return self.now_ns - reach_ns

    def excluded_spans(self, slo: str) -> tuple[Span, ...]:
        """Ring time of what is excluded after the fact of an objective."""
        return excluded_spans(slo, self.rows, self.marked)

    def _is_out(self, slo: str, slot_wall_ns: int) -> bool:
        """Whether a dated slot is excluded after the fact of an objective."""
        at_ns = slot_wall_ns - apart_ns(self.rows.wall_offset_ns())
        return any(begin_ns <= at_ns < end_ns for begin_ns, end_ns in self.excluded_spans(slo))

    def _is_excluded(self, one: SavedLoss, spans: dict[str, tuple[Span, ...]]) -> bool:
        slo = RowKey.parse(one.row_key or "").slo if self.marked.exclusions else ""
        if slo not in spans:
            spans[slo] = self.excluded_spans(slo)
        return any(begin_ns <= one.loss.at_ns < end_ns for begin_ns, end_ns in spans[slo])

    def _saved_losses(self, start_ns: int, most: int) -> list[SavedLoss]:
        since_wall_ns = max(0, start_ns + self.rows.wall_offset_ns() - _WALL_MARGIN_NS)
        try:
            found = History(self._database).losses(most, since_wall_ns)
        except StateError:
            return []
        return [one for one in found if one.loss.at_ns >= start_ns]

    def _logged_losses(self, start_ns: int) -> Iterator[SavedLoss]:
        """Equal ones as one, as the history has them."""
        reader, offset = self.reader, self.rows.wall_offset_ns()
        if reader is None:
            return
        sums: dict[Loss, int] = defaultdict(int)
        traces: dict[Loss, str] = {}
        for loss in (loss for block in range(reader.blocks) for loss in reader.losses(block)[0]):
            if loss.at_ns >= start_ns:
                same = replace(loss, count=0, trace_id="")
                sums[same] += loss.count
                traces[same] = traces.get(same) or loss.trace_id
        for same, count in sums.items():
            loss = replace(same, count=count, trace_id=traces[same])
            yield SavedLoss(loss.at_ns + offset, reader.row_key(loss.row), loss)

    def journal(self) -> list[JournalEntry]:
        """Entries of the last hour, newest first."""
        try:
            return History(self._database).journal(20, self.now_wall_ns - HOUR_NS)
        except StateError:
            return []

    def crashes(self, since_wall_ns: int) -> list[str]:
        """What the journal says of workers that died with requests in flight, newest first."""
        try:
            return [entry.text for entry in History(self._database).journal(20, since_wall_ns, "crash")]
        except StateError:
            return []

    def committed_ago_ns(self) -> int | None:
        """How old the last commit to SQLite is; None if there was none."""
        if self.reader is None or self.reader.committed_ns == 0:
            return None
        return max(0, self.now_ns - self.reader.committed_ns)

    @property
    def _database(self) -> Path:
        return self.path / files.DATABASE_FILE


def look(path: Path) -> View:
    """What can be seen in a state directory.

    Raises:
        StateError: neither the ring nor the history can be read, or nothing names the objectives; says what to do.
    """
    reader, why = _ring(path / files.RING_FILE)
    if reader is not None and same_boot(reader.header.boot_id):
        clock = SystemClock(epoch_ns=reader.header.epoch_ns)
        definitions, limits = _definitions(path, None)
        return View(path, reader, clock.ring_ns(), definitions, reader, limits=limits)
    saved = _saved(path, why)
    if saved is not None:
        note = f"{why}; from the history" if why else "from the history"
        definitions, limits = _definitions(path, saved)
        return View(path, SavedRows(saved), saved.at_ns, definitions, notes=[note], limits=limits)
    if reader is None:
        raise StateError(f"{path} holds no counts yet ({why}). Start the app once, or name its directory: --state-dir")
    now_ns = SystemClock().wall_ns() - reader.wall_offset_ns()
    definitions, limits = _definitions(path, None)
    return View(path, reader, now_ns, definitions, reader, [f"{why}, and there is no history"], limits)


def _ring(path: Path) -> tuple[Reader | None, str]:
    """The ring, and what speaks against using it."""
    try:
        reader = open_reader(path)
    except FileNotFoundError:
        return None, f"there is no {path.name}"
    except OSError as e:
        return None, f"{path.name} cannot be read: {e.strerror}"
    except (StateError, ValueError) as e:
        return None, f"{path.name} cannot be used: {e}"
    return reader, "" if same_boot(reader.header.boot_id) else f"{path.name} is of an earlier boot"


def _saved(path: Path, why: str) -> Saved | None:
    database = path / files.DATABASE_FILE
    if not database.exists():
        return None
    try:
        return History(database).load()
    except StateError as e:
        raise StateError(f"{why}, and the history cannot be read either: {e}") from e


def _definitions(path: Path, saved: Saved | None) -> _Promised:
    """Of the file that the workers write, else of the last commit."""
    try:
        return _parsed((path / files.DEFINITIONS_FILE).read_text())
    except (OSError, ValueError, DefinitionError) as e:
        problem = f"{path / files.DEFINITIONS_FILE} cannot be read ({e})"
    saved = saved or _saved(path, problem)
    try:
        if saved is not None and saved.config:
            return _parsed(saved.config)
    except (ValueError, DefinitionError):
        pass
    raise StateError(f"{problem}. Start a worker: it writes the file anew")


def _parsed(text: str) -> _Promised:
    try:
        found = json.loads(text)
        limits = [Limit.from_json(item) for item in found.get("limits") or ()]
        return [Definition.from_json(item) for item in found["slos"]], limits
    except (AttributeError, KeyError, TypeError) as e:
        raise ValueError(f"it has no list of slos: {e}") from e


def newest_demo() -> Path | None:
    """The state directory that the last `otelslo demo` left in the working directory."""
    try:
        found = sorted((Path(files.DIRECTORY) / "demo").iterdir())
    except OSError:
        return None
    return next((one for one in reversed(found) if (one / files.RING_FILE).exists()), None)
