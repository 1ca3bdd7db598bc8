"""Whether a ring file is sound: looked at before anything maps it, since compiled code trusts every offset in it."""

from __future__ import annotations

import os
from pathlib import Path

from otelslo.errors import StateError
from otelslo.kernels import layout as at
from otelslo.ring.geometry import Geometry, Header


def check(path: Path) -> Header:
    """The header of a ring file whose outer form is sound.

    Raises:
        StateError: it is cut short, damaged, of another layout, or not a ring.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NOFOLLOW)) as file:
        header = Header.decode(file.read(at.PAGE))
        g = header.geometry
        size = os.fstat(file.fileno()).st_size
        if size < g.fixed_bytes:
            raise StateError(f"the file is cut short: {size} of at least {g.fixed_bytes} bytes")
        mutable = memoryview(file.read(at.PAGE)).cast("q")
        size = os.fstat(file.fileno()).st_size  # again: a live file may have grown, and what it says of itself with it
    end = mutable[(at.M_FILE_END - at.PAGE) // 8]
    if not g.fixed_bytes <= end <= size:
        raise StateError(f"the file is cut short: {size} of {end} bytes")
    for name, word, most in (
        ("blocks", at.M_BLOCKS_USED, g.max_blocks),
        ("rows", at.M_ROWS_USED, g.max_rows),
        ("tracks", at.M_TRACKS_USED, g.max_tracks),
        ("histograms", at.M_HISTOGRAMS_USED, g.max_histograms),
        ("bytes of strings", at.M_STRINGS_END, g.strings_bytes),
    ):
        if not 0 <= mutable[(word - at.PAGE) // 8] <= most:
            raise StateError(f"the file says it has {mutable[(word - at.PAGE) // 8]} {name} of {most}")
    _check_extents(path, g, mutable, end)
    _check_names(path, g, mutable)
    _check_tracks(path, g, mutable)
    _check_openings(path, g, mutable)
    return header


def _check_extents(path: Path, g: Geometry, mutable: memoryview, end: int) -> None:
    with open(path, "rb") as file:
        file.seek(g.block_table)
        tables = memoryview(file.read(g.rows - g.block_table)).cast("q")
    rows = -(-mutable[(at.M_ROWS_USED - at.PAGE) // 8] // at.ROWS_PER_EXTENT)
    for table, used, size in (
        (g.block_table, mutable[(at.M_BLOCKS_USED - at.PAGE) // 8], g.block_bytes),
        (g.row_table, rows, g.row_extent_bytes),
        (g.histogram_table, mutable[(at.M_HISTOGRAMS_USED - at.PAGE) // 8], g.histogram_bytes),
    ):
        for offset in tables[(table - g.block_table) // 8 :][:used]:
            if not g.fixed_bytes <= offset <= end - size or offset % at.PAGE:
                raise StateError(f"the file names an extent at {offset}, outside its {end} bytes")


def _check_names(path: Path, g: Geometry, mutable: memoryview) -> None:
    """Every name lies in the string area: one that does not would be read from beyond the end of the file."""
    with open(path, "rb") as file:
        file.seek(g.rows)
        words = memoryview(file.read(g.fixed_bytes - g.rows)).cast("q")
    starts, start, end = {0}, 8, mutable[(at.M_STRINGS_END - at.PAGE) // 8]
    while start < end:
        starts.add(start)
        size = words[(g.strings - g.rows + start) // 8]
        if not 0 <= size <= end - start - 8:
            raise StateError(f"the file holds a name of {size} bytes")
        start += 8 + -(-size // 8) * 8
    for used, first, entry, key in (
        (at.M_ROWS_USED, g.rows, at.ROW_ENTRY, at.R_KEY),
        (at.M_HISTOGRAMS_USED, g.histograms, at.ROW_ENTRY, at.R_KEY),
        (at.M_TRACKS_USED, g.tracks, at.TRACK_ENTRY, at.T_KEY),
    ):
        for i in range(mutable[(used - at.PAGE) // 8]):
            name = words[(first - g.rows + entry * i + key) // 8]
            if name not in starts:
                raise StateError(f"the file has a name at {name}, where none begins")


def _check_tracks(path: Path, g: Geometry, mutable: memoryview) -> None:
    """What a crash is booked by names rows, cells and histograms that there are: the kernels go by it as it stands."""
    used = mutable[(at.M_TRACKS_USED - at.PAGE) // 8]
    with open(path, "rb") as file:
        file.seek(g.tracks)
        words = memoryview(file.read(at.TRACK_ENTRY * used)).cast("q")
        file.seek(at.PAGE)  # again: a live file's newest track may name a row that came after the first look
        counters = memoryview(file.read(at.PAGE)).cast("q")
    rows, histograms = (counters[(word - at.PAGE) // 8] for word in (at.M_ROWS_USED, at.M_HISTOGRAMS_USED))
    for track in range(used):
        entry = words[track * at.TRACK_ENTRY // 8 :]
        entries, histogram = entry[at.PLAN_ROWS // 8], entry[at.PLAN_HISTOGRAM // 8]
        if not 0 <= entries <= at.MAX_PLAN_ROWS or not -1 <= histogram < histograms:
            raise StateError(f"the file books a crash in {entries} rows and histogram {histogram}")
        for i in range(entries):
            start = (at.PLAN_HEAD + at.PLAN_ROW * i) // 8
            row, _, within, beyond = entry[start : start + at.PLAN_ROW // 8]
            if not 0 <= row < rows or not 0 <= within < at.CELLS or not 0 <= beyond < at.CELLS:
                raise StateError(f"the file books a crash in row {row} of {rows}, cells {within} and {beyond}")


def _check_openings(path: Path, g: Geometry, mutable: memoryview) -> None:
    """Slots that lie beyond all time would never be opened again."""
    with open(path, "rb") as file:
        for used, first, slot_ns in (
            (at.M_ROWS_USED, g.row_hot, g.fine_ns),
            (at.M_HISTOGRAMS_USED, g.histogram_hot, g.snapshot_ns),
        ):
            number = mutable[(used - at.PAGE) // 8]
            file.seek(first)
            words = memoryview(file.read(at.HOT_ENTRY * number)).cast("q")
            for i in range(number):
                start = at.HOT_ENTRY * i // 8
                opened, born = words[start + at.HOT_OPEN // 8], words[start + at.HOT_BIRTH_SLOT // 8]
                if not 0 <= born <= opened <= (2**63 - 1) // slot_ns:
                    raise StateError(f"the file has a row born in slot {born} and open at {opened}")
