"""What `otelslo doctor` says of the machine: versions, platform, state directory, configuration, exporters."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sqlite3
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otelslo import config
from otelslo._version import VERSION
from otelslo.cli.findings import Finding, note, ok, problem, size
from otelslo.definition import Definition
from otelslo.errors import DefinitionError
from otelslo.ring import state as files
from otelslo.ring.memory import unsafe_file_system

_NEEDED = ("numba", "llvmlite", "numpy", "starlette", "sqlite-utils", "click")
_OPTIONAL = ("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
_FULL_BYTES, _NEARLY_FULL_BYTES = 32 << 20, 256 << 20
_FILE_SYSTEMS = {
    0xEF53: "ext4", 0x58465342: "XFS", 0x9123683E: "Btrfs", 0x01021994: "tmpfs", 0x794C7630: "overlay",
    0x2FC12FC1: "ZFS", 0xF2F52010: "F2FS", 0xCA451A4E: "bcachefs", 0x858458F6: "ramfs",
}  # fmt: skip
_PASSING = {
    "tmpfs": "it is in memory: history ends with a reboot",
    "overlay": "it is a container's own: history ends with the container",
}
_SWITCHES = ("OTELSLO_DISABLED", "OTEL_SDK_DISABLED")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
_SETTINGS = (
    "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_SERVICE_NAME",
)  # fmt: skip
_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SECRET = r"(?!env:[A-Z_][A-Z0-9_]*\b)"  # a reference to the environment looks like an import path
_USER_CODE = re.compile(rf"(?:^|[\s,\[{{\"'])-?\s*{_SECRET}{_IMPORT_PATH.pattern}")


def versions() -> Iterator[Finding]:
    """Of what is installed, by its metadata: nothing is imported."""
    found = {name: _version(name) for name in (*_NEEDED, *_OPTIONAL)}
    shown = ", ".join(f"{name} {found[name] or 'is missing'}" for name in _NEEDED)
    python = platform.python_version()
    text = f"otelslo {VERSION}, Python {python}, {shown}, SQLite {sqlite3.sqlite_version}"
    facts = {"otelslo": VERSION, "python": python, "sqlite": sqlite3.sqlite_version} | found
    missing = [name for name in _NEEDED if found[name] is None]
    if missing:
        yield problem("versions", text, f"Install what is missing: pip install {' '.join(missing)}", **facts)
    else:
        yield ok("versions", text, **facts)
    installed = ", ".join(f"{name} {found[name]}" for name in _OPTIONAL if found[name])
    yield ok("versions", installed or "no OpenTelemetry packages; they are needed for OTLP export only")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> Iterator[Finding]:
    """Whether counting works here at all."""
    text = f"{platform.system()} {platform.release()} {platform.machine()}"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        yield problem(
            "platform", f"{text}, a free-threaded Python", "Use a Python with the GIL: workers would not start"
        )
    elif sys.byteorder != "little" or sys.maxsize < 2**32:
        yield problem("platform", f"{text} is not 64-bit little-endian", "Run the service on x86-64 or ARM64")
    elif sys.platform == "darwin":
        yield note("platform", f"{text}: for development; production is Linux")
    elif sys.version_info >= (3, 15):
        yield note("platform", f"{text}; otelslo is tested with Python 3.11 to 3.14")
    else:
        yield ok("platform", text)


# ── the state directory ────────────────────────────────────────────────────────────────────────────────────────────
def directory(path: Path) -> Iterator[Finding]:
    """Owner, mode, file system, room, and what lies in it."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    text = f"{path.absolute()}, mode {mode:04o}, of user {found.st_uid}"
    facts: dict[str, Any] = {"path": str(path.absolute()), "mode": f"{mode:04o}", "uid": found.st_uid}
    if found.st_uid != os.geteuid():
        text = f"{text}; this is user {os.geteuid()}"
        yield problem("directory", text, "Run as the user of the workers, or name a directory of their own", **facts)
    elif mode & 0o022:
        yield problem("directory", f"{text}: others can write it", f"chmod go-w {path}", **facts)
    elif not os.access(path, os.W_OK | os.X_OK):
        yield problem(
            "directory", f"{text}: it cannot be written", f"chmod u+rwx {path}, or mount it writable", **facts
        )
    else:
        yield ok("directory", text, **facts)
    yield _file_system(path)
    yield _room(path)
    yield from _contents(path)


def _file_system(path: Path) -> Finding:
    unsafe = unsafe_file_system(path)
    if unsafe is not None:
        return problem(
            "directory",
            f"it lies on {unsafe}, where mappings and locks are not shared",
            "Choose a local disk",
            type=unsafe,
        )
    magic = _magic(path)
    name = "unknown" if magic is None else _FILE_SYSTEMS.get(magic, f"{magic:#x}")
    passing = _PASSING.get(name)
    if passing is not None:
        return note("directory", f"file system {name}: {passing}", "Mount a volume if it is to last", type=name)
    return ok("directory", f"file system {name}", type=name)


def _magic(path: Path) -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    buffer = (ctypes.c_long * 32)()
    failed = ctypes.CDLL(None).statfs(os.fsencode(path), buffer)
    return None if failed else buffer[0] & 0xFFFFFFFF


def _room(path: Path) -> Finding:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    text = f"{size(free)} free"
    if free < _FULL_BYTES:
        return problem(
            "directory", text, "Make room: new rows and the history are refused on a full disk", free_bytes=free
        )
    if free < _NEARLY_FULL_BYTES:
        return note("directory", f"{text}, not much", "Make room before it is full", free_bytes=free)
    return ok("directory", text, free_bytes=free)


def _contents(path: Path) -> Iterator[Finding]:
    present = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(path)}
    sizes = {name: present[name].st_size for name in (files.RING_FILE, files.DATABASE_FILE) if name in present}
    yield ok("directory", ", ".join(f"{name} {size(n)}" for name, n in sizes.items()) or "empty so far", **sizes)
    aside = sorted(name for name in present if name.startswith((f"{files.RING_FILE}.", f"{files.DATABASE_FILE}.")))
    if aside:
        total = size(sum(present[name].st_size for name in aside))
        text = f"set aside: {', '.join(aside[:5])}{f' and {len(aside) - 5} more' if len(aside) > 5 else ''} ({total})"
        yield note(
            "directory", text, "The log and the journal say why; delete them when nobody needs them", files=aside
        )


# ── what was asked for ─────────────────────────────────────────────────────────────────────────────────────────────
def configuration(running: Iterable[Definition] | None) -> Iterator[Finding]:
    """The configuration of this directory and environment, and whether the workers run it. Imports none of the app.

    Args:
        running: the objectives that the workers wrote down, if they did.
    """
    source = _source()
    if source is not None and _needs_imports(source):
        yield note("configuration", f"{source} names Python code, which is not run here", f"otelslo check {source}")
        return
    try:
        loaded = config.load()
    except DefinitionError as refused:
        yield problem("configuration", str(refused), "Correct it; `otelslo check` shows what it promises", path=source)
        return
    text = f"{source or 'none found, so the default'}: {len(loaded.slos)} objective{'s' * (len(loaded.slos) != 1)}"
    here = [slo.as_definition for slo in loaded.slos]
    if running is not None and source is not None and list(running) != here:
        text = f"{text}; the workers run others"
        yield note("configuration", text, "Restart them, or have them reload it, if this is their file", path=source)
    else:
        yield ok("configuration", text, path=source)


def _source() -> str | None:
    return os.environ.get(config.ENV_CONFIG) or (config.DEFAULT_FILE if Path(config.DEFAULT_FILE).is_file() else None)


def channels_here() -> Mapping[str, tuple[str, Mapping[str, Any]]] | None:
    """The channels of the same configuration: kind and options by name. None where it is refused, or names code."""
    source = _source()
    if source is not None and _needs_imports(source):
        return None
    try:
        return config.load().channels
    except DefinitionError:
        return None


def _needs_imports(source: str) -> bool:
    if not source.endswith((".yaml", ".yml")):
        return source.endswith(".py") or (bool(_IMPORT_PATH.fullmatch(source)) and not Path(source).exists())
    try:
        with open(source, "rb") as file:
            text = file.read(config.LARGEST_FILE_BYTES).decode()
    except (OSError, ValueError):
        return False  # it is refused before anything is imported
    return any(_USER_CODE.search(line.partition(" #")[0]) for line in text.splitlines())


def environment(env: Mapping[str, str]) -> Iterator[Finding]:
    """What the environment of this shell asks of the exporters; that of the workers may differ."""
    off = [name for name in _SWITCHES if env.get(name, "").lower() in ("1", "true", "yes", "on")]
    if off:
        yield note("exporters", f"{' and '.join(off)} is set here", "Unset it if something is to be counted or sent")
    endpoints = {name: without_secrets(env[name]) for name in _ENDPOINTS if env.get(name)}
    settings = {name: env[name] for name in _SETTINGS if env.get(name)}
    if endpoints:
        listed = ", ".join(f"{name}={value}" for name, value in (endpoints | settings).items())
        yield ok("exporters", f"{listed} (of this shell)", **endpoints, **settings)
    else:
        yield ok("exporters", "no OTLP endpoint in the environment of this shell", **settings)


def without_secrets(url: str) -> str:
    """A URL that may be shown: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "(not a URL)"
    if not host or not parts.scheme:
        return "(not a URL)"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
