"""Where each word of the live file, of a worker's block, of a plan and of the private page lies.

One page of constants that the kernels, the ring and the readers without a compiler share. Offsets are in bytes and
multiples of 8; every word is an int64.
"""

from __future__ import annotations

MAGIC = int.from_bytes(b"otelslo\x01", "little")
VERSION = 1

# ── cells ──────────────────────────────────────────────────────────────────────────────────────────────────────────
CELLS = 16  # of a row: 0 good, 1-9 bad, 10-15 excluded, one per reason
FIRST_BAD, FIRST_EXCLUDED = 1, 10
ROW_CELLS_BYTES = CELLS * 8
CLASSES = 3  # words of a boundary: good, bad, excluded
ROWS_PER_EXTENT = 16
BOUNDARY_STRIDE = ROWS_PER_EXTENT * CLASSES * 8  # slot-major: the 16 rows of an extent lie side by side

LAP_SHIFT = 48
LAP_MASK = 0xFFFF
LAPS = 65_535  # lap = 1 + (slot div N) mod LAPS; 0 = never written
COUNT_MASK = (1 << LAP_SHIFT) - 1

# ── header: immutable, checksummed ─────────────────────────────────────────────────────────────────────────────────
PAGE = 4096
H_MAGIC, H_VERSION = 0, 8
H_MAX_ROWS, H_MAX_TRACKS, H_MAX_HISTOGRAMS, H_MAX_BLOCKS = 16, 24, 32, 40
H_FINE_NS, H_FINE_SLOTS, H_FINE_PER_COARSE, H_COARSE_SLOTS = 48, 56, 64, 72
H_SNAPSHOT_NS, H_SNAPSHOTS = 80, 88  # of a histogram
H_LOG_RECORDS, H_STRINGS_BYTES = 96, 104
H_BOOT_ID, H_RING_ID = 112, 128  # 16 bytes each
H_EPOCH_NS = 144  # ring time = boot-time clock + this
H_CREATED_NS = 152  # ring time
H_FINE_FROM_NS = 160  # fine boundaries exist from here on (a rebuild has only coarse ones before)
H_CHECKSUM = PAGE - 8

# ── mutable words ──────────────────────────────────────────────────────────────────────────────────────────────────
M_BLOCKS_USED = PAGE
M_ROWS_USED = PAGE + 8
M_TRACKS_USED = PAGE + 16
M_HISTOGRAMS_USED = PAGE + 24
M_STRINGS_END = PAGE + 32
M_FILE_END = PAGE + 40
M_HEARTBEAT_NS = PAGE + 56  # of the leader, ring time
M_LEADER = PAGE + 64  # its block + 1
M_COMMITTED_SEQ = PAGE + 72
M_CLOCK_ENTRIES = PAGE + 80
M_COMMITTED_NS = PAGE + 88
M_LOST_NS = PAGE + 96  # ring time that a rebuild could not account for
M_AGENT_NS = PAGE + 104  # heartbeat of an agent process, which then leads, ring time
M_CLOCK_TABLE = PAGE + 256  # (ring ns, wall minus ring ns) x CLOCK_ENTRIES
CLOCK_ENTRIES = 128
TABLES = 2 * PAGE  # file offsets of worker blocks, then row extents, then histogram extents

ROW_ENTRY, HOT_ENTRY = 64, 64
R_KEY, R_BIRTH_NS = 0, 8  # directory entry of a row or a histogram
HOT_OPEN, HOT_BIRTH_SLOT = 0, 8

# ── plan: what one request touches ─────────────────────────────────────────────────────────────────────────────────
PLAN_ROWS, PLAN_HISTOGRAM, PLAN_ROUTE, PLAN_STATUS, PLAN_EXCEPTION, PLAN_VERSION = 0, 8, 16, 24, 32, 40
PLAN_HEAD = 48
PLAN_ROW = 32  # row, threshold_ns, cell at or under it, cell above it
MAX_PLAN_ROWS = 64
NO_THRESHOLD = (1 << 63) - 1
ADD = 24  # one of what `add` is given: row, cell, count
TRACK_ENTRY = PLAN_HEAD + MAX_PLAN_ROWS * PLAN_ROW + 16
T_KEY = PLAN_HEAD + MAX_PLAN_ROWS * PLAN_ROW  # after the plan that a crash is booked by

# ── a worker's block ───────────────────────────────────────────────────────────────────────────────────────────────
B_NONCE, B_REDO, B_LOG_HEAD, B_PID, B_ATTACHED_NS, B_OUT_OF_USE = 0, 8, 16, 24, 32, 40
B_REDO_PAIRS = 64
REDO_PAIRS = 512
B_TRACKS = B_REDO_PAIRS + REDO_PAIRS * 16  # (begun, ended) per track
LOG_RECORD = 128
(L_SEQ, L_AT, L_ROW, L_CELL, L_COUNT, L_ROUTE, L_STATUS, L_EXCEPTION, L_VERSION, L_LATENCY, L_TRACE_HI, L_TRACE_LO) = (
    range(0, 96, 8)
)

# ── private page of a process ──────────────────────────────────────────────────────────────────────────────────────
P_BLOCK, P_NONCE, P_ATTACHED, P_BASE, P_OFFSET = 0, 8, 16, 24, 32
P_MANUAL, P_NOW = 40, 48  # a manual clock: 1, and the time that both clocks then show
P_SCRATCH = 56  # two words
(
    P_ROW_HOT, P_HISTOGRAM_HOT, P_TRACKS, P_BLOCK_TABLE, P_ROW_TABLE, P_HISTOGRAM_TABLE,
    P_CELLS, P_HISTOGRAMS, P_LOG, P_LOG_RECORDS, P_BLOCK_BYTES,
    P_FINE_NS, P_FINE_SLOTS, P_FINE_PER_COARSE, P_COARSE_SLOTS, P_SNAPSHOT_NS, P_SNAPSHOTS, P_FINE_FROM_NS,
) = range(72, 72 + 18 * 8, 8)  # fmt: skip
P_COUNTS = 256  # where the count kernel leaves good, bad, excluded
P_BATCH = 320  # arguments of record_many
P_BATCH_CELLS = 512  # its accumulators: cells of each row, then histogram words
PRIVATE_BYTES = 512 + (MAX_PLAN_ROWS * CELLS + 256) * 8 + 8

# Answers of kernels below 0; 0 and above is what was done.
NOT_ATTACHED, BAD_LATENCY, TOO_LARGE, BAD_REDO, ASK_AGAIN = -1, -2, -3, -4, -5
