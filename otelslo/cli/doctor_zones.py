"""What `otelslo doctor` says of time zones: calendar windows and maintenance end when the zones' data says so."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from otelslo.cli.findings import Finding, ok, problem

AREA = "time zones"
_PROBE = "Europe/Paris"
_LONGEST_LINE = 200


def zones(path: Sequence[str] | None = None) -> Iterator[Finding]:
    """Whose data decides: a directory of the host, or else the package tzdata.

    Args:
        path: the directories that are searched, by default those of this Python (PYTHONTZPATH).
    """
    package = _package()
    searched = [Path(one) for one in (zoneinfo.TZPATH if path is None else path)]
    found = next((one for one in searched if (one / _PROBE).is_file()), None)
    if found is not None:
        host = _version_in(found)
        text = f"of the host, {found}{f', version {host}' if host else ''}"
        beside = f"; the package tzdata {package} is not used" if package else ""
        yield ok(AREA, f"{text}{beside}", source=str(found), version=host, package=package)
    elif package is not None:
        yield ok(AREA, f"of the package tzdata {package}; the host has none", source="tzdata", version=package)
    else:
        remedy = "pip install tzdata, or your system's package of that name"
        yield problem(AREA, "there is no data of time zones; only UTC is known", remedy, source=None)


def _package() -> str | None:
    try:
        return version("tzdata")
    except PackageNotFoundError:
        return None


def _version_in(directory: Path) -> str | None:
    """As the database itself says it: "2025b". Not every system keeps that."""
    for name, before in (("tzdata.zi", "# version "), ("+VERSION", "")):
        try:
            with open(directory / name, encoding="ascii") as file:
                line = file.readline(_LONGEST_LINE).strip()
        except (OSError, ValueError):
            continue
        if line.startswith(before) and len(line) < 40:
            return line.removeprefix(before)
    return None
