"""Whether one pattern of routes can only match what others match, and what a text was likely meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

from otelslo.match import Globs

_ANY = "\0"


def within(pattern: str, others: Iterable[str]) -> bool:
    """Whether every text that `pattern` matches is matched by one of `others`; True only where that is certain."""
    literal = "*" not in pattern and "?" not in pattern
    # A wildcard is tried as a character that no pattern has. Only a star can take it, and what a star takes may as
    # well be any text.
    tried = pattern if literal else pattern.replace("*", _ANY).replace("?", _ANY)
    return any(tried in _compiled(other) for other in others if literal or "?" not in other)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> Globs:
    return Globs([pattern])


def likely(text: str, known: Iterable[str]) -> str:
    """A remedy for a pattern that matches none of `known`."""
    known = sorted(set(known))
    close = difflib.get_close_matches(text, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    few = ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
    return f"The app has {few or 'none at all'}"
