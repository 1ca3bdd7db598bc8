"""The house plan as tests: imports point inwards, inner rooms stay free of heavy libraries, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "otelslo"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each room and the rooms that it may import. A room is a module, or a folder with all that lies in it.
VALUES = {
    "errors",
    "counts",
    "window",
    "period",
    "alerts",
    "tiers",
    "event",
    "stream",
    "labelled",
    "models",
    "definition",
    "snapshot",
    "rowkey",
    "clock",
    "_version",
}
PROMISE = {"about", "alerts", "period", "shorthand", "slices", "throughput", "tiers"}
DEFINITIONS = (
    VALUES
    | PROMISE
    | {"match", "group", "rules", "validity", "verdicts", "indicators", "maintenance", "recurrence", "slo"}
    | {"sizes"}
)
DECIDERS = VALUES | PROMISE | {"budget", "burn", "notes", "status"}
RING = VALUES | {"kernels", "ring"}
ENGINE = (
    DEFINITIONS
    | DECIDERS
    | RING
    | {"latencies", "evaluate", "tally", "names", "objective", "plans", "config"}
    | {"attendance", "calls", "faults", "features", "genai", "judging", "labels", "limit", "limits", "marks"}
    | {"observing", "policy", "registry", "serving"}
    | {"sizes"}
)
MAY_IMPORT: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "counts": set(),
    "clock": set(),
    "window": {"errors"},
    "period": {"errors", "window"},
    "tiers": {"binomial", "window"},
    "alerts": {"errors", "tiers", "window"},
    "stream": set(),
    "chunks": set(),
    "event": {"labelled", "models", "stream"},
    "labelled": {"errors"},
    "models": set(),
    "snapshot": set(),
    "rowkey": set(),
    "notes": {"dated"},
    "dated": {"counts", "rowkey", "snapshot"},
    "joined": {"counts", "dated", "ring", "rowkey", "tally"},
    "revisions": set(),
    "about": {"errors"},
    "throughput": {"counts", "errors", "window"},
    "slices": {"counts", "errors", "throughput", "window"},
    "recurrence": {"errors", "window"},
    "maintenance": {"errors", "period", "recurrence", "window"},
    "shorthand": {"errors", "window"},
    "definition": VALUES | PROMISE | {"policy", "quality"},
    "match": {"errors", "event"},
    "group": VALUES | {"match", "sizes"},
    "validity": VALUES | {"match"},
    "indicators": VALUES | {"drift", "endpoint", "indicators", "match", "quality", "throughput"},
    "rules": VALUES | {"indicators", "validity"},
    "keys": DEFINITIONS,
    "attempt": {"_version", "endpoint", "http_call", "indicators"},
    "measured": DEFINITIONS | {"engine"},
    "probing": {"attempt", "clock", "engine", "event", "indicators", "measured", "slo"},
    "readings": {"errors"},
    "looplag": set(),
    "cgroup": set(),
    "process": {"cgroup"},
    "oomwatch": {"cgroup"},
    "sampling": DEFINITIONS | {"engine", "limit", "looplag", "measured", "process", "readings"},
    "verdicts": VALUES | {"indicators", "match", "rules", "validity"},
    "slo": DEFINITIONS | {"keys", "loss_class", "policy", "predicting"},
    "predicting": (DEFINITIONS - {"slo"}),
    "budget": {"burn", "counts", "window"},
    "burn": {"counts", "window"},
    "status": DECIDERS | {"coverage"},
    "capacity": {"counts", "throughput", "window"},
    "binomial": set(),
    "explanation": DECIDERS - {"clock"},
    "explain": (DECIDERS - {"clock"}) | {"explanation", "loss_class"},
    "policy": DECIDERS - {"clock", "notes"},
    "serving": VALUES | {"budget", "evaluate", "explain", "policy", "status"},
    "marks": {"errors", "exporters", "notes", "oncall"},
    "alerting": (DECIDERS - {"clock"}) | {"binomial"},
    "alert_states": {"alerting", "alerts", "errors", "window"},
    "drift": {"drift", "errors"},
    "quality": {"errors", "labelled", "quality"},
    "kernels": {"kernels"},
    "latencies": {"kernels"},
    "ring": RING,
    "tally": {"counts", "ring", "rowkey", "slices", "throughput"},
    "evaluate": DECIDERS | RING | {"joined", "latencies", "tally"},
    "names": RING,
    "plans": VALUES | {"kernels"},
    "objective": DEFINITIONS | RING | {"plans"},
    "limit": VALUES | {"about", "keys", "match"},
    "limits": (DECIDERS - {"clock"}) | {"alerting", "limit"},
    "borrowed": {"exporters", "ring"},
    "observing": VALUES | {"borrowed", "exporters", "limit", "limits", "ring"},
    "registry": VALUES | {"borrowed", "exporters", "limits", "ring"},
    "asking": {"limit"},
    "config": DEFINITIONS
    | {"channels", "document", "exporters", "genai", "limit", "openslo", "policy", "toml_document"},
    "attendance": VALUES | {"kernels", "plans", "ring"},
    "document": {"errors"},
    "lint": DEFINITIONS | {"alerting", "binomial", "limit", "policy", "routes"},
    "openslo": DEFINITIONS | {"document", "openslo"},
    "judging": DEFINITIONS | RING | {"attendance", "genai", "names", "objective", "plans"},
    "notice": {"errors"},
    "endpoint": {"errors"},
    "http_call": {"endpoint", "errors"},
    "secret": {"errors"},
    "channels": VALUES | {"channels", "endpoint", "http_call", "notice", "secret"},
    "courier": {"channels", "errors", "notice"},
    "outbox": {"courier", "errors", "notice"},
    "announcement": DECIDERS | {"alert_states", "evaluate", "explain", "explanation", "limit", "limits", "notice"},
    "oncall": DECIDERS | {"alert_states", "alerting", "announcement", "evaluate", "exporters", "limits", "notice"},
    "duty": DECIDERS
    | {"alert_states", "announcement", "channels", "courier", "dated", "evaluate", "exporters", "limit", "limits"}
    | {"notice", "oncall", "outbox"},
    "exporters": VALUES
    | {"attributes", "dated", "endpoint", "exporters", "gauges", "genai", "http_call", "kept", "kernels"}
    | {"label_record", "limit", "limits", "notes", "report", "revisions", "status"},
    "attributes": VALUES,
    "gauges": DECIDERS | {"attributes", "limits"},
    "binbook": {"kernels", "ring", "rowkey"},
    "live_baseline": {"drift", "errors", "exporters"},
    "features": {"binbook", "clock", "drift", "errors", "exporters", "kernels", "live_baseline", "ring", "slo"},
    "drifting": VALUES | {"binbook", "dated", "drift", "exporters", "features", "observing", "slo", "status"},
    "postbook": VALUES | {"kernels", "plans", "ring"},
    "counters": {"errors", "kernels", "ring", "rowkey"},
    "genai": VALUES | {"counters", "genai", "match", "ring"},
    "report": VALUES | {"limits", "status"},
    "committed": VALUES | {"ring"},
    "watch": set(),
    "delivery": {"exporters", "report"},
    "dispatch": {"delivery", "exporters", "report"},
    "words": {"clock", "stream"},
    "failure": {"errors", "event"},
    "coldstart": {"words"},
    "calls": {"chunks", "clock", "coldstart", "engine", "errors", "event", "exchange", "failure", "genai"}
    | {"items", "sizes", "stream", "words"},
    "faults": RING | {"plans"},
    "standing": ENGINE,
    "batch": {"calls", "engine", "kernels"},
    "leader": ENGINE
    | {"applying", "asking", "committed", "known", "dispatch", "drifting", "duty", "engine", "exporters", "oncall"}
    | {"oomwatch", "postbook", "probing", "report"},
    "runner": ENGINE | {"engine", "exporters", "leader", "sampling", "watch"},
    "engine": ENGINE | {"batch", "exporters", "runner", "standing"},
    "switch": set(),
    "default": {"engine", "observing", "registry", "serving", "switch"},
    "exposition": set(),
    "totals": ENGINE | {"committed", "engine", "exporters", "known"},
    "openmetrics": ENGINE | {"attributes", "default", "engine", "exposition", "gauges", "totals"},
    "meter": ENGINE | {"attributes", "default", "engine", "gauges", "totals"},
    "tracked_stream": {"calls", "chunks", "decorators", "engine", "event", "stream", "words"},
    "decorators": {"calls", "chunks", "default", "engine", "errors", "event", "words"},
    "routes": set(),
    "exchange": {"event", "genai", "stream", "words"},
    "body_pace": {"chunks", "exchange", "stream"},
    "sites": {"engine", "errors", "event", "exchange", "routes"},
    "frameworks": {"routes"},
    "edge": DEFINITIONS | {"default", "engine", "exchange", "failure", "items", "routes", "sites", "switch"},
    "asgi": DEFINITIONS | {"body_pace", "edge", "engine", "exchange", "frameworks", "looplag", "routes", "sites"},
    "body": {"event", "exchange", "wsgi"},
    "wsgi": DEFINITIONS | {"body", "edge", "engine", "exchange", "frameworks", "routes"},
    "__init__": ENGINE
    | {"decorators", "default", "engine", "failure", "judge", "label_endpoint", "readings", "tracked_stream", "words"},
    "judge": {"__init__", "default", "errors", "labelled", "quality", "switch", "window"},
    "__main__": {"cli"},
    "cli": ENGINE
    | {"__init__", "applying", "asgi", "capacity", "channels", "cli", "coverage", "dated", "default", "drift"}
    | {"edge", "engine", "explain", "explanation", "exporters", "frameworks", "inbox", "joined", "kept", "known"}
    | {"label_lines", "label_record", "lint", "notice", "oncall", "openslo", "quality", "routes", "runner"},
    "label_record": {"errors", "labelled"},
    "kept": {"labelled"},
    "coverage": {"counts", "dated", "kept"},
    "known": {"coverage", "dated", "definition", "errors", "evaluate", "kept", "notes", "status"},
    "inbox": {"errors", "label_record", "ring"},
    "labelling": DEFINITIONS | {"dated", "kept", "label_record", "quality"},
    "applying": {"errors", "exporters", "inbox", "label_record", "labelling", "slo", "window"},
    "label_lines": {"errors", "label_record", "labelled", "limits"},
    "label_endpoint": {"default", "engine", "errors", "label_lines", "secret"},
    "labels": VALUES | {"inbox", "label_record", "labelling", "limits", "slo"},
    "sizes": {"errors", "event"},
    "items": {"engine", "event"},
    "loss_class": {"failure"},
    "toml_document": {"document", "errors"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported_rooms(path: Path, *, at_top: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if at_top else list(ast.walk(tree))
    rooms: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            names = [f"{module}.{alias.name}" if module == "otelslo" else module for alias in node.names]
        else:
            continue
        for name in names:
            if name == "otelslo" or name.startswith("otelslo."):
                room = name.split(".")[1] if "." in name else "__init__"
                rooms.add(room if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists() else "__init__")
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_inwards(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"{room} is a new room: say in tests/test_layers.py what it may import"
    assert imported_rooms(path) - {room} <= MAY_IMPORT[room]


def test_no_relative_imports() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"


def test_rooms_have_no_cycles() -> None:
    """By what is imported when a module is loaded; the engine and its runner know each other only by name."""
    edges: dict[str, set[str]] = {}
    for path in FILES:
        edges.setdefault(room_of(path), set()).update(imported_rooms(path, at_top=True) - {room_of(path)})
    left = set(edges)
    while left:
        free = {room for room in left if not edges[room] & left}
        assert free, f"a cycle among {sorted(left)}"
        left -= free


def test_numba_is_named_in_one_file() -> None:
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] in ("numba", "llvmlite") for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("numba", "llvmlite"))
    }
    assert naming == {"kernels/words.py"}


@pytest.mark.parametrize(
    "module", ["otelslo", "otelslo.status", "otelslo.budget", "otelslo.cli", "otelslo.asgi", "otelslo.wsgi"]
)
def test_import_loads_nothing_heavy(module: str) -> None:
    heavy = ("numba", "numpy", "opentelemetry", "sqlite_utils")
    code = f"import {module}, sys; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_deciders_know_no_clock_and_no_io() -> None:
    for name in (
        "budget",
        "burn",
        "status",
        "binomial",
        "alerting",
        "alert_states",
        "policy",
        "explain",
        "limits",
        "throughput",
        "capacity",
    ):
        imported = {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not imported & {"time", "os", "io", "socket", "sqlite3", "threading"}


def test_files_have_one_reason_to_exist() -> None:
    forbidden = {"utils", "helpers", "common", "base", "misc"}
    for path in FILES:
        assert path.stem not in forbidden, path
        assert len(path.read_text().splitlines()) <= 500, f"{path.name}: which second noun is hiding in it?"
        first = ast.get_docstring(ast.parse(path.read_text()))
        assert first or path.name == "_version.py", f"{path.relative_to(PACKAGE)} does not say why it exists"
