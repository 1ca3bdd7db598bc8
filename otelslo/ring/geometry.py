"""How many of everything a ring holds and how long its slots are; written once into the file's header.

The rest of the file is found from these numbers: fixed areas first, then extents (worker blocks, blocks of 16 rows,
histograms) in the order in which they were needed, so that the file is as large as its use.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import gcd

from otelslo.errors import StateError
from otelslo.kernels import layout as at
from otelslo.kernels.bounds import WORDS as HISTOGRAM_WORDS

_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a ring; the defaults hold 30-day windows at 5 minutes and 6 hours at 10 seconds.

    A worker's block is 476 KiB: 256 for histograms, 128 for cells, 64 for the loss log, 16 for tracks, and the redo
    record. A track is one set of objectives and takes 2,112 bytes of the fixed area. A file of 200 objectives is 100 MB
    at most: 61 of rows, 3 of fixed areas, 4 of the blocks of 8 workers, and histograms of 240 KiB each on first use.
    """

    max_rows: int = 1024
    max_tracks: int = 1024
    max_histograms: int = 128
    max_blocks: int = 256
    fine_ns: int = 10 * _SECOND
    fine_slots: int = 2164  # a window of 6 hours needs one more at each end
    fine_per_coarse: int = 30
    coarse_slots: int = 10_080
    snapshot_ns: int = 60 * _SECOND
    snapshots: int = 120
    log_records: int = 512
    strings_bytes: int = 1 << 20

    def reaching(self, window_ns: int) -> Geometry:
        """This geometry with coarse slots for `window_ns` plus a margin of 5 days."""
        needed = -(-(window_ns + 5 * _DAY) // self.coarse_ns)
        return replace(self, coarse_slots=max(self.coarse_slots, needed))

    def for_objectives(self, windows_ns: Iterable[int], slices_ns: Iterable[int]) -> Geometry:
        """This geometry with slots that reach over all these windows, and of which slices of these lengths consist."""
        coarse_ns = gcd(self.coarse_ns, *slices_ns)
        if coarse_ns < self.coarse_ns and coarse_ns % self.fine_ns == 0:
            kept_ns, per_coarse = self.coarse_slots * self.coarse_ns, coarse_ns // self.fine_ns
            self = replace(self, fine_per_coarse=per_coarse, coarse_slots=kept_ns // coarse_ns)
        longest_ns = max(windows_ns, default=0)
        return self.reaching(longest_ns) if longest_ns > self.reach_ns else self

    def serves(self, wanted: Geometry) -> bool:
        """Whether a ring of this geometry answers all that one of `wanted` does."""
        return self.reach_ns >= wanted.reach_ns and wanted.coarse_ns % self.coarse_ns == 0

    # ── derived ────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def coarse_ns(self) -> int:
        return self.fine_ns * self.fine_per_coarse

    @property
    def reach_ns(self) -> int:
        """The longest window that is always answered whole."""
        return (self.coarse_slots - 2) * self.coarse_ns

    @property
    def row_extents(self) -> int:
        return -(-self.max_rows // at.ROWS_PER_EXTENT)

    @property
    def row_extent_bytes(self) -> int:
        return at.BOUNDARY_STRIDE * (self.fine_slots + self.coarse_slots)

    @property
    def row_bytes(self) -> int:
        """Boundaries and hot words of one row, without its cells in each worker's block."""
        return self.row_extent_bytes // at.ROWS_PER_EXTENT + at.ROW_ENTRY + at.HOT_ENTRY

    @property
    def histogram_bytes(self) -> int:
        return self.snapshots * HISTOGRAM_WORDS * 8

    @property
    def block_table(self) -> int:
        return at.TABLES

    @property
    def row_table(self) -> int:
        return self.block_table + 8 * self.max_blocks

    @property
    def histogram_table(self) -> int:
        return self.row_table + 8 * self.row_extents

    @property
    def rows(self) -> int:
        return _page(self.histogram_table + 8 * self.max_histograms)

    @property
    def row_hot(self) -> int:
        return self.rows + at.ROW_ENTRY * self.max_rows

    @property
    def histograms(self) -> int:
        return self.row_hot + at.HOT_ENTRY * self.max_rows

    @property
    def histogram_hot(self) -> int:
        return self.histograms + at.ROW_ENTRY * self.max_histograms

    @property
    def tracks(self) -> int:
        return self.histogram_hot + at.HOT_ENTRY * self.max_histograms

    @property
    def strings(self) -> int:
        return _page(self.tracks + at.TRACK_ENTRY * self.max_tracks)

    @property
    def fixed_bytes(self) -> int:
        return _page(self.strings + self.strings_bytes)

    # Within a worker's block.
    @property
    def block_cells(self) -> int:
        return at.B_TRACKS + 16 * self.max_tracks

    @property
    def block_histograms(self) -> int:
        return self.block_cells + at.ROW_CELLS_BYTES * self.max_rows

    @property
    def block_log(self) -> int:
        return self.block_histograms + HISTOGRAM_WORDS * 8 * self.max_histograms

    @property
    def block_bytes(self) -> int:
        return _page(self.block_log + at.LOG_RECORD * self.log_records)

    @property
    def most_bytes(self) -> int:
        """Size of a file in which everything is used: the address space to reserve."""
        return (
            self.fixed_bytes
            + self.max_blocks * self.block_bytes
            + self.row_extents * _page(self.row_extent_bytes)
            + self.max_histograms * _page(self.histogram_bytes)
        )


def _page(n: int) -> int:
    return -(-n // at.PAGE) * at.PAGE


_NAMES = [field.name for field in fields(Geometry)]


@dataclass(frozen=True, slots=True)
class Header:
    """The immutable first page of a ring."""

    geometry: Geometry
    boot_id: bytes
    ring_id: bytes
    epoch_ns: int
    created_ns: int
    fine_from_ns: int

    def encode(self) -> bytes:
        """The 4,096 bytes, their checksum in the last word."""
        page = bytearray(at.PAGE)
        sizes = [getattr(self.geometry, name) for name in _NAMES]
        struct.pack_into(f"<QQ{len(sizes)}q", page, 0, at.MAGIC, at.VERSION, *sizes)
        page[at.H_BOOT_ID : at.H_BOOT_ID + 16] = self.boot_id
        page[at.H_RING_ID : at.H_RING_ID + 16] = self.ring_id
        struct.pack_into("<qqq", page, at.H_EPOCH_NS, self.epoch_ns, self.created_ns, self.fine_from_ns)
        struct.pack_into("<q", page, at.H_CHECKSUM, zlib.crc32(page[: at.H_CHECKSUM]))
        return bytes(page)

    @classmethod
    def decode(cls, page: bytes) -> Header:
        """Read a header.

        Raises:
            StateError: it is not a ring of this layout, or it is damaged.
        """
        if len(page) < at.PAGE:
            raise StateError(f"the file is cut short at {len(page)} bytes")
        magic, version = struct.unpack_from("<QQ", page)
        if magic != at.MAGIC:
            raise StateError("the file does not begin as a ring does")
        if version != at.VERSION:
            raise StateError(f"the file has layout {version}, this version of otelslo reads layout {at.VERSION}")
        (checksum,) = struct.unpack_from("<q", page, at.H_CHECKSUM)
        if checksum != zlib.crc32(page[: at.H_CHECKSUM]):
            raise StateError("the header's checksum does not match")
        sizes = struct.unpack_from(f"<{len(_NAMES)}q", page, 16)
        epoch, created, fine_from = struct.unpack_from("<qqq", page, at.H_EPOCH_NS)
        boot = bytes(page[at.H_BOOT_ID : at.H_BOOT_ID + 16])
        ring = bytes(page[at.H_RING_ID : at.H_RING_ID + 16])
        return cls(Geometry(*sizes), boot, ring, epoch, created, fine_from)


assert 16 + 8 * len(_NAMES) == at.H_BOOT_ID, "the header's sizes are the fields of Geometry, in order"
