"""Notices that a configuration file has been changed, so that a running service can take it over."""

from __future__ import annotations

import os

_Signature = tuple[int, int, int] | None


class FileWatch:
    """One file; `changed` says once of each change that there was one. A file that is gone is not a change."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen = self._signature()

    def changed(self) -> bool:
        """Whether the file is another than at the last call."""
        there = self._signature()
        if there is None or there == self._seen:
            return False
        self._seen = there
        return True

    def _signature(self) -> _Signature:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
