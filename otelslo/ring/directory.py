"""Names in the ring: rows, histograms, tracks and strings, and the extents behind them.

Everything here is off the request path and under the ring's lock. An entry is written whole, its space reserved, and
only then is the number that covers it raised; readers look at that number first. Nothing is ever renamed or moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from otelslo.errors import CapacityError
from otelslo.kernels import layout as at
from otelslo.ring.geometry import Geometry
from otelslo.ring.locks import MakingLock
from otelslo.ring.memory import Memory

Publish = Callable[[int, int], int]  # the kernel that stores a word with release ordering


def read_string(memory: memoryview, geometry: Geometry, offset: int) -> str:
    """The string at `offset` of the string area; 0, and what lies outside, is the empty one."""
    if not 8 <= offset <= geometry.strings_bytes - 8:
        return ""
    start = geometry.strings + offset
    size = int.from_bytes(memory[start : start + 8], "little")
    if size > geometry.strings_bytes - offset - 8:
        return ""
    return bytes(memory[start + 8 : start + 8 + size]).decode("utf-8", "replace")


class Directory:
    """Finds or makes names; one per process and ring.

    Args:
        lock: held while something is made, by one process at a time.
        publish: release store at an absolute address.
    """

    def __init__(self, memory: Memory, geometry: Geometry, lock: MakingLock, publish: Publish) -> None:
        self._memory = memory
        self._geometry = geometry
        self._lock = lock
        self._publish = publish
        self._known: dict[str, dict[str, int]] = {"row": {}, "histogram": {}, "track": {}}
        self._strings: dict[str, int] = {"": 0}
        self._strings_seen = 8

    # ── look-ups ───────────────────────────────────────────────────────────────────────────────────────────────────
    def row(self, key: str, birth_ns: int) -> int:
        """The row named `key`, made with this birth (ring time) if there is none.

        Raises:
            CapacityError: the directory or the string area is full.
            StateError: the disk is full.
        """
        return self._find_or_make("row", key, lambda index: self._make_row(index, key, birth_ns))

    def histogram(self, key: str, birth_ns: int) -> int:
        """The latency histogram named `key`; errors as for `row`."""
        return self._find_or_make("histogram", key, lambda index: self._make_histogram(index, key, birth_ns))

    def track(self, key: str, plan: Sequence[int]) -> int:
        """The track named `key`, whose requests in flight at a kill are booked as `plan` says; errors as for `row`."""
        return self._find_or_make("track", key, lambda index: self._make_track(index, key, plan))

    def intern(self, text: str) -> int:
        """The offset of `text` in the string area; 0 once that is so full that the rest is kept for rows."""
        found = self._strings.get(text)
        if found is not None:
            return found
        with self._lock:
            self._scan_strings()
            if text not in self._strings:
                if self._memory.words[at.M_STRINGS_END // 8] > self._geometry.strings_bytes * 3 // 4:
                    return 0
                self._strings[text] = self._append(text)
        return self._strings[text]

    # ── making ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def extent(self, table: int, index: int, size: int) -> int:
        """File offset of an extent, reserved and named in its table on first use; the caller holds the lock."""
        word = table // 8 + index
        offset = self._memory.words[word]
        if offset == 0:
            offset = self._memory.words[at.M_FILE_END // 8]
            size = -(-size // at.PAGE) * at.PAGE
            self._memory.reserve(offset, size)
            self._put(at.M_FILE_END, offset + size)
            self._put(table + 8 * index, offset)
        return offset

    def _find_or_make(self, kind: str, key: str, make: Callable[[int], None]) -> int:
        known = self._known[kind]
        if key in known:
            return known[key]
        used_word, entries, size, key_offset, limit = self._areas(kind)
        with self._lock:
            used = self._memory.words[used_word // 8]
            for index in range(len(known), used):
                offset = self._memory.words[(entries + index * size + key_offset) // 8]
                known[read_string(self._memory.bytes, self._geometry, offset)] = index
            if key in known:
                return known[key]
            if used >= limit:
                raise CapacityError(f"the ring has room for {limit} {kind}s and they are all in use")
            make(used)
            self._put(used_word, used + 1)
            known[key] = used
            return used

    def _areas(self, kind: str) -> tuple[int, int, int, int, int]:
        g = self._geometry
        if kind == "row":
            return at.M_ROWS_USED, g.rows, at.ROW_ENTRY, at.R_KEY, g.max_rows
        if kind == "histogram":
            return at.M_HISTOGRAMS_USED, g.histograms, at.ROW_ENTRY, at.R_KEY, g.max_histograms
        return at.M_TRACKS_USED, g.tracks, at.TRACK_ENTRY, at.T_KEY, g.max_tracks

    def _make_row(self, index: int, key: str, birth_ns: int) -> None:
        g = self._geometry
        text = self._append(key)
        self.extent(g.row_table, index // at.ROWS_PER_EXTENT, g.row_extent_bytes)
        self._enter(g.rows + at.ROW_ENTRY * index, text, birth_ns)
        self._open(g.row_hot + at.HOT_ENTRY * index, birth_ns // g.fine_ns)

    def _make_histogram(self, index: int, key: str, birth_ns: int) -> None:
        g = self._geometry
        text = self._append(key)
        self.extent(g.histogram_table, index, g.histogram_bytes)
        self._enter(g.histograms + at.ROW_ENTRY * index, text, birth_ns)
        self._open(g.histogram_hot + at.HOT_ENTRY * index, birth_ns // g.snapshot_ns)

    def _make_track(self, index: int, key: str, plan: Sequence[int]) -> None:
        entry = self._geometry.tracks + at.TRACK_ENTRY * index
        text = self._append(key)
        for i, word in enumerate(plan):
            self._put(entry + 8 * i, word)
        self._put(entry + at.T_KEY, text)

    def _enter(self, entry: int, text: int, birth_ns: int) -> None:
        self._put(entry + at.R_KEY, text)
        self._put(entry + at.R_BIRTH_NS, birth_ns)

    def _open(self, hot: int, slot: int) -> None:
        self._put(hot + at.HOT_BIRTH_SLOT, slot)
        self._put(hot + at.HOT_OPEN, slot)

    def _append(self, text: str) -> int:
        """Add a string; the caller holds the lock."""
        data = text.encode(errors="replace")  # half a surrogate pair is no reason to stop
        end = max(8, self._memory.words[at.M_STRINGS_END // 8])
        size = 8 + -(-len(data) // 8) * 8
        if end + size > self._geometry.strings_bytes:
            raise CapacityError("the ring's string area is full")
        start = self._geometry.strings + end
        self._memory.bytes[start + 8 : start + 8 + len(data)] = data
        self._put(start, len(data))
        self._put(at.M_STRINGS_END, end + size)
        return end

    def _scan_strings(self) -> None:
        end = self._memory.words[at.M_STRINGS_END // 8]
        while self._strings_seen < end:
            offset = self._strings_seen
            text = read_string(self._memory.bytes, self._geometry, offset)
            self._strings.setdefault(text, offset)
            self._strings_seen += 8 + -(-len(text.encode(errors="replace")) // 8) * 8

    def _put(self, offset: int, word: int) -> None:
        self._publish(self._memory.base + offset, word)
