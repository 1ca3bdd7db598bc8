"""Every error that otelslo raises on purpose, and the place that an error is about.

A bad definition must fail at start, name the key and say what would be right. `Place` carries "where" through the
parsers, so that the last reader (a Python traceback, `slo.yaml:11:16`) can say it in its own terms.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")
V = TypeVar("V")
Key = str | int


class OtelsloError(Exception):
    """The root of everything raised here."""


class StateError(OtelsloError):
    """The ring or the database cannot be used as it is."""


class CapacityError(OtelsloError):
    """A fixed capacity (rows, blocks, reasons) is used up."""


class BadValue(OtelsloError, ValueError):
    """A value that a parser refuses; it knows what is wrong and what would be right, but not where it stood."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return _sentences(self.problem, self.remedy)


class NotHere(BadValue):
    """A value that may well be right, but what it points at is not on this host or in this process."""


class DefinitionError(OtelsloError, ValueError):
    """A definition that cannot be meant: `place: problem. remedy`.

    `path` is the key's way inside its definition, for readers that know lines and columns; `at_key` says that the
    key itself is wrong, rather than its value; `not_here` that it may be right where what it points at is.
    """

    not_here = False

    def __init__(
        self, place: str, problem: str, remedy: str = "", *, path: tuple[Key, ...] = (), at_key: bool = False
    ) -> None:
        super().__init__(place, problem, remedy)
        self.place = place
        self.problem = problem
        self.remedy = remedy
        self.path = path
        self.at_key = at_key

    def __str__(self) -> str:
        return f"{self.place}: {_sentences(self.problem, self.remedy)}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: `Place("SLO 'checkout'").at("exclude", 1, "when")` is "SLO 'checkout'.exclude[1].when"."""

    root: str
    path: tuple[Key, ...] = ()

    def __str__(self) -> str:
        return self.root + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path)

    def at(self, *keys: Key) -> Place:
        return Place(self.root, self.path + keys)

    def error(self, problem: str, remedy: str = "", *, at_key: bool = False) -> DefinitionError:
        return DefinitionError(str(self), problem, remedy, path=self.path, at_key=at_key)

    def parse(self, parser: Callable[[V], T], value: V) -> T:
        """`parser(value)`, its `BadValue` raised as a DefinitionError that names this place."""
        try:
            return parser(value)
        except BadValue as refused:
            error = self.error(refused.problem, refused.remedy)
            error.not_here = isinstance(refused, NotHere)
            raise error from None

    def expect(self, value: object, kind: type[T], wanted: str) -> T:
        """`value`, if it is a `kind` (a bool is no int); DefinitionError "is ..., wanted" otherwise."""
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"{shown(value)} is {_kind_of(value)}", f"Write {wanted}")
        return value

    def only(self, mapping: Mapping[str, object], allowed: Iterable[str]) -> None:
        """Refuse any key of `mapping` that is not `allowed`, with the nearest allowed one as remedy."""
        known = sorted(allowed)
        for key in mapping:
            if not isinstance(key, str) or key not in known:
                raise self.at(str(key)).error(f"unknown key {shown(key)}", nearest(str(key), known), at_key=True)


def nearest(word: str, known: Iterable[str]) -> str:
    """A remedy for an unknown word: "Did you mean 'x'?" or the list of what exists."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}"


def shown(value: object) -> str:
    """A value as an error may quote it: printable, on one line and short."""
    text = str(value) if isinstance(value, Decimal | Fraction) else ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _kind_of(value: object) -> str:
    names = {"NoneType": "empty", "bool": "a yes/no value", "int": "a number", "float": "a number", "str": "a text"}
    names |= {"Decimal": "a number", "dict": "a mapping", "list": "a list", "tuple": "a list"}
    return names.get(type(value).__name__, f"of type {type(value).__name__}")


def _sentences(problem: str, remedy: str) -> str:
    if not remedy:
        return problem
    return f"{problem}. {remedy}"
