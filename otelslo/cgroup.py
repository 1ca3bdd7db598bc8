"""What the system allows this process's control group, and has done to it; version 2 of cgroups, and version 1.

Linux alone has them. What cannot be read is not known: None, never an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

OWN, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 writes a number of about this size where there is no limit


def memory_limit(own: Path = OWN, mount: Path = MOUNT) -> int | None:
    """The smallest limit of memory in bytes, of the own group and those around it; None if there is none."""
    found = []
    for folder, version in _folders(own, mount):
        limit = _number(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if limit is not None and limit < _UNLIMITED:
            found.append(limit)
    return min(found, default=None)


class OomKills:
    """How many processes of the own group the OOM killer has killed so far; the file that tells is found once."""

    def __init__(self, own: Path = OWN, mount: Path = MOUNT) -> None:
        files = (
            folder / ("memory.events" if version == 2 else "memory.oom_control")
            for folder, version in _folders(own, mount)
        )
        self._file = next((file for file in files if _counter(file, "oom_kill") is not None), None)

    def __call__(self) -> int | None:
        """None: not known."""
        return None if self._file is None else _counter(self._file, "oom_kill")


def _folders(own: Path, mount: Path) -> Iterator[tuple[Path, int]]:
    """The folders of the memory controller, with its version: the own group's, then those around it.

    In a container the path may be the host's, while the mount shows the own group at its top.
    """
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        version = 1 if controllers else 2
        tops = [mount / "memory"] if version == 1 else [mount, mount / "unified"]
        for top in tops:
            parts = [part for part in path.split("/") if part and part != ".."]
            for length in range(len(parts), -1, -1):
                yield top.joinpath(*parts[:length]), version


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # it is "max", or not there
        return None


def _counter(path: Path, key: str) -> int | None:
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
        return next((int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == key), None)
    except (OSError, ValueError):
        return None
