"""Strings and histograms that requests mention: looked up at once, made later, off the request path."""

from __future__ import annotations

from collections.abc import Callable

from otelslo.errors import OtelsloError
from otelslo.ring.directory import Directory

UNMATCHED = "(unmatched)"
OTHER = "(other)"
UNNAMED = "(unnamed)"  # stands for a name until it is made, and past what one process may make
_MOST_WANTED = 256
_MOST_STRINGS = 2048
_LONGEST_STRING = 200
# Named in the loss log from their first occurrence; others from the second after.
_USUAL_EXCEPTIONS = (
    "AssertionError", "AttributeError", "CancelledError", "ConnectionError", "Exception", "HTTPException", "IndexError",
    "KeyError", "MemoryError", "OSError", "RuntimeError", "TimeoutError", "TypeError", "ValueError",
)  # fmt: skip


class Names:
    """Interned strings and per-route histograms of one process; unknown ones are noted for `make`.

    Args:
        wanted: told that there is something to make; must be quick.

    `refused` is told once of each name for which the ring has no room.
    """

    def __init__(self, directory: Directory, wanted: Callable[[], None]) -> None:
        self._directory = directory
        self._wanted = wanted
        self.refused: Callable[[str], None] = _say_nothing
        self._strings: dict[str, int] = {"": 0}
        self._histograms: dict[tuple[str, str | None], int] = {}
        self._wanted_strings: dict[str, None] = dict.fromkeys((UNNAMED, *_USUAL_EXCEPTIONS))
        self._wanted_histograms: dict[tuple[str, str | None], None] = {}

    def string(self, text: str) -> int:
        """The string's offset in the ring, or that of `UNNAMED`."""
        found = self._strings.get(text)
        if found is None:
            if len(self._wanted_strings) < _MOST_WANTED and len(self._strings) < _MOST_STRINGS:
                self._wanted_strings[text] = None
                self._wanted()
            return self._strings.get(UNNAMED, 0)
        return found

    def histogram_of(self, kind: str, route: str | None) -> int:
        """The histogram of a route; until it is made, and past the ring's capacity, that of all others of the kind."""
        found = self._histograms.get((kind, route))
        if found is None:
            if len(self._wanted_histograms) < _MOST_WANTED:
                self._wanted_histograms[(kind, route)] = None
                self._wanted()
            return self._histograms.get((kind, OTHER), -1)
        return found

    def histogram(self, kind: str, route: str | None, now_ns: int) -> None:
        """Make the histogram of a route now; a full ring leaves it to `(other)`."""
        name = UNMATCHED if route is None else route
        self._histograms[(kind, route)] = self._directory.histogram(f"{kind} {name}", now_ns)

    def make_now(self, kind: str, route: str, now_ns: int) -> None:
        """Make what a route needs, where waiting is allowed."""
        self.string(route)
        self.histogram_of(kind, route)
        self.make(now_ns)

    def make(self, now_ns: int) -> bool:
        """Make what was noted; whether anything was."""
        changed = False
        for text in list(self._wanted_strings):
            offset = self._strings[text] = self._directory.intern(text[:_LONGEST_STRING])
            self._wanted_strings.pop(text, None)  # another thread may have made it as well
            if offset == 0 and text:
                self.refused(f"no room for the name {text[:_LONGEST_STRING]!r}: the loss log leaves it out")
            changed = True
        for kind, route in list(self._wanted_histograms):
            self._wanted_histograms.pop((kind, route), None)
            try:
                self.histogram(kind, route, now_ns)
            except OtelsloError as e:
                self._histograms[(kind, route)] = self._histograms.get((kind, OTHER), -1)
                self.refused(f"{e}: the latencies of {kind} {route!r} are shown under {OTHER}")
            changed = True
        return changed


def _say_nothing(text: str) -> None:
    """Until somebody listens."""
