"""What `otelslo doctor` says of the live ring: its use, who works and who leads, how old the last commit is, what was
dropped."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otelslo.cli.findings import Finding, note, ok, problem
from otelslo.cli.tables import ago
from otelslo.clock import SystemClock, same_boot
from otelslo.definition import OVERFLOW, UNKNOWN, Definition
from otelslo.errors import StateError
from otelslo.kernels import layout as at
from otelslo.ring import state as files
from otelslo.ring.check import check
from otelslo.ring.liveness import is_held
from otelslo.ring.reader import Reader
from otelslo.rowkey import SELF
from otelslo.window import SECOND_NS

_STILL_NS = 5 * SECOND_NS  # a heartbeat older than that is nobody's
_LATE_NS = 10 * SECOND_NS
_MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Worker:
    """A block of the ring. `alive` is None where it cannot be told; `pid` is of its worker's own pid namespace."""

    block: int
    pid: int
    attached_ns: int
    alive: bool | None
    in_flight: int
    out_of_use: bool


class Inspected(Reader):
    """A ring file with what only a doctor asks of it. Errors as for `ring.check.check`."""

    def __init__(self, path: Path) -> None:
        header = check(path)
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        super().__init__(memoryview(mapped)[: len(mapped) // 8 * 8].cast("q"), header)
        self._locks = path.parent / files.LOCKS
        self.this_boot = same_boot(header.boot_id)

    @property
    def now_ns(self) -> int:
        """Ring time; that of a ring of an earlier boot has stopped."""
        if self.this_boot:
            return SystemClock(self.header.epoch_ns).ring_ns()
        return max(self.header.created_ns, self.committed_ns, self.leader_heartbeat_ns)

    @property
    def tracks(self) -> int:
        return self._words[at.M_TRACKS_USED // 8]

    @property
    def lost_ns(self) -> int:
        return self._words[at.M_LOST_NS // 8]

    @property
    def strings_bytes(self) -> int:
        return self._words[at.M_STRINGS_END // 8]

    def workers(self) -> list[Worker]:
        found = []
        for number, (offset, (begun, ended)) in enumerate(
            zip(self._block_offsets(), list(self._begun_ended()), strict=False)
        ):
            pid, attached_ns, out = (
                self._words[(offset + word) // 8] for word in (at.B_PID, at.B_ATTACHED_NS, at.B_OUT_OF_USE)
            )
            alive = is_held(self._locks / f"block-{number:03d}") if self.this_boot else False
            found.append(Worker(number, pid, attached_ns, alive, max(0, begun - ended), bool(out)))
        return found

    def held(self, lock: str) -> bool | None:
        """Whether somebody holds the leader's or the agent's lock."""
        return is_held(self._locks / lock) if self.this_boot else False


def inspected(path: Path) -> tuple[Inspected | None, Finding | None]:
    """The ring, or what speaks against it; neither where there is none."""
    try:
        return Inspected(path), None
    except FileNotFoundError:
        return None, None
    except (StateError, ValueError, OSError) as e:
        told = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        remedy = "Restart the workers: they set a damaged file aside and rebuild it from the history"
        return None, problem("ring", f"{path.name} cannot be used: {told}", remedy)


def ring(reader: Inspected) -> Iterator[Finding]:
    """Identity and use."""
    g, header = reader.header.geometry, reader.header
    boot = "this boot" if reader.this_boot else "an earlier boot"
    text = f"layout {at.VERSION}, {header.ring_id.hex()}, made {ago(reader.now_ns - header.created_ns)}, of {boot}"
    facts: dict[str, Any] = {"id": header.ring_id.hex(), "layout": at.VERSION, "this_boot": reader.this_boot}
    if reader.this_boot:
        yield ok("ring", text, **facts)
    else:
        yield note("ring", text, "Nothing to do: the next worker that starts carries it over", **facts)
    uses = (
        ("rows", reader.rows, g.max_rows),
        ("histograms", reader.histograms, g.max_histograms),
        ("tracks", reader.tracks, g.max_tracks),
        ("worker blocks", reader.blocks, g.max_blocks),
        ("bytes of names", reader.strings_bytes, g.strings_bytes * 3 // 4),
    )
    text = ", ".join(f"{used:,} of {most:,} {name}" for name, used, most in uses)
    facts = {name.replace(" ", "_"): [used, most] for name, used, most in uses}
    full = [name for name, used, most in uses if used >= most]
    if full:
        remedy = "Group by less, or stop all workers once: rows that no objective wants are then given back"
        yield problem("ring", f"{text}; no room for more {' and '.join(full)}", remedy, **facts)
    elif any(10 * used >= 9 * most for _, used, most in uses):
        yield note("ring", f"{text}: nearly full", "Group by less, or stop all workers once", **facts)
    else:
        yield ok("ring", text, **facts)
    if reader.lost_ns:
        yield note(
            "ring", f"a rebuild could not account for {reader.lost_ns / SECOND_NS:.1f} s", lost_ns=reader.lost_ns
        )


# ── who is there ───────────────────────────────────────────────────────────────────────────────────────────────────
def people(reader: Inspected) -> Iterator[Finding]:
    """Workers, the leader, and how old its last commit is."""
    workers = reader.workers()
    alive = [worker for worker in workers if worker.alive]
    unsure = [worker for worker in workers if worker.alive is None]
    for worker in (alive + unsure)[:_MOST_SHOWN]:
        yield _worker(worker, reader.now_ns)
    if len(alive) + len(unsure) > _MOST_SHOWN:
        yield ok("workers", f"and {len(alive) + len(unsure) - _MOST_SHOWN} more")
    gone = [worker for worker in workers if worker.alive is False]
    facts = {"alive": len(alive), "unknown": len(unsure), "free": len(gone), "blocks": [_json(one) for one in workers]}
    yield ok("workers", f"{len(alive)} alive, {len(gone)} blocks free for others", **facts)
    left = sum(worker.in_flight for worker in gone)
    if left:
        yield note("workers", f"{left} requests of dead workers wait to be counted as crashed", "The leader does it")
    broken = [worker.block for worker in workers if worker.out_of_use]
    if broken:
        yield note("workers", f"blocks {broken} are damaged and out of use; what they had counted stays")
    quiet_ns = reader.now_ns - reader.leader_heartbeat_ns
    works = bool(alive) or reader.held(files.AGENT_LOCK) is True or (bool(unsure) and quiet_ns < _STILL_NS)
    yield _leader(reader, works, quiet_ns)
    yield _lag(reader, works)


def _worker(worker: Worker, now_ns: int) -> Finding:
    sure = "" if worker.alive else ", perhaps alive: it cannot be told here"
    text = f"block {worker.block}, pid {worker.pid}, attached {ago(now_ns - worker.attached_ns)}"
    return ok("workers", f"{text}, {worker.in_flight} in flight{sure}")


def _json(worker: Worker) -> dict[str, object]:
    return {name: getattr(worker, name) for name in Worker.__slots__}


def _leader(reader: Inspected, works: bool, quiet_ns: int) -> Finding:
    block, beat = reader.leader_block, ago(quiet_ns)
    age_s, agent = round(quiet_ns / SECOND_NS, 3), reader.held(files.AGENT_LOCK)
    facts: dict[str, Any] = {"block": block, "heartbeat_age_s": age_s, "agent": agent}
    if not works:
        return note("leader", "no worker runs, so nobody leads; what was counted stays", **facts)
    if reader.leader_heartbeat_ns == 0 or quiet_ns > _STILL_NS:
        when = "nobody has led yet" if reader.leader_heartbeat_ns == 0 else f"the last heartbeat was {beat}"
        remedy = "See the log of the workers: nothing is committed or exported until one leads"
        return problem("leader", when, remedy, **facts)
    who = "an agent" if agent else f"the worker of block {block}" if block is not None else "nobody just now"
    return ok("leader", f"{who}, heartbeat {beat}", **facts)


def _lag(reader: Inspected, works: bool) -> Finding:
    lag_ns = reader.now_ns - reader.committed_ns
    if reader.committed_ns == 0:
        if works and reader.now_ns - reader.header.created_ns > _LATE_NS:
            return problem("leader", "nothing was ever committed", "See the history below, and the log of the leader")
        return note("leader", "nothing was committed yet")
    facts = {"commit_age_s": round(lag_ns / SECOND_NS, 3), "sequence": reader.committed_seq}
    text = f"last commit {ago(lag_ns)}, number {reader.committed_seq}"
    if works and lag_ns > _LATE_NS:
        return problem("leader", text, "See the history below, and the log of the leader; counting goes on", **facts)
    return ok("leader", text, **facts)


# ── what was dropped ───────────────────────────────────────────────────────────────────────────────────────────────
def dropped(reader: Inspected, definitions: Sequence[Definition], logged: int | None) -> Iterator[Finding]:
    """Faults, overflow, groups without a row of their own, and losses that the log could not keep.

    Args:
        logged: losses of this ring, since it was made, that the history holds; None where it cannot be read.
    """
    faults = _faults(reader)
    if faults:
        text = ", ".join(f"{reason} {count:,}" for reason, count in faults.items())
        yield note("dropped", f"otelslo's own faults: {text}", "The log of the app names the first of each", **faults)
    else:
        yield ok("dropped", "no fault of otelslo's own")
    yield from _overflow(reader, definitions)
    written = sum(reader.loss_heads())
    kept = reader.header.geometry.log_records
    if logged is not None and written > logged and reader.committed_ns:
        text = f"{written:,} losses were logged, the history has {logged:,}"
        remedy = f"None, if they are new or past the history's limits; a worker keeps {kept:,} until the next commit"
        yield note("dropped", f"{text}; counts are exact all the same", remedy, written=written, kept=logged)
    else:
        yield ok("dropped", f"{written:,} losses logged", written=written, kept=logged)


def _faults(reader: Inspected) -> dict[str, int]:
    for row in range(reader.rows):
        key = reader.row_name(row)
        if key.slo == SELF:
            cells = list(zip(key.reasons, reader.cells(row), strict=True))[1:]
            return {reason: count for reason, count in cells if reason and count}
    return {}


def _overflow(reader: Inspected, definitions: Sequence[Definition]) -> Iterator[Finding]:
    meant = {(definition.name, definition.meaning): definition for definition in definitions}
    groups: Counter[str] = Counter()
    spilled: Counter[str] = Counter()
    for row in range(reader.rows):
        key = reader.row_name(row)
        if (key.slo, key.meaning) not in meant or key.group is None:
            continue
        if key.group == OVERFLOW:
            spilled[key.slo] += reader.counts(row).total
        elif key.group != UNKNOWN:
            groups[key.slo] += 1
    for name, count in sorted(spilled.items()):
        if count:
            most = next(d.max_groups for d in definitions if d.name == name)
            full = f", all {most} groups are taken" if groups[name] >= most else ""
            remedy = "Raise max_groups, or declare group_values" if full else "Declare their values in group_values"
            yield note(
                "dropped", f"{name}: {count:,} events in the overflow group{full}", remedy, slo=name, events=count
            )
