"""Which predictions are looked at more closely, decided by a keyed hash of their ids: the same in every process.

No process draws by chance or keeps a state: an id's position is a fixed number from 0 to 1, and it is in a sample of
5 % if that is below 0.05. Whoever lacks the key cannot choose ids that are looked at, or are not.

A label weighs one event, always. It is never weighed by one over the rate: what is counted is what was looked at, and a
new rate must not count old labels anew. Whether a prediction is in is decided once, when it is made, by the rate in
force then, and is kept with it; and since a larger sample holds every id of a smaller one, a new rate does not draw
anew either. Days of unequal rates thus weigh by what was looked at; the N smallest a day weigh every day the same.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from uuid import UUID

from otelslo.errors import BadValue, shown
from otelslo.labelled import number_of

POSITIONS = 1 << 64
MOST_A_DAY = 100_000
_SAMPLE_REMEDY = 'Write a share such as "5%", or how many a day: "500/d"'

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CODING = ("utf-8", "surrogatepass")  # an id from outside may hold what no file can
Id = str | int | UUID


@dataclass(frozen=True, slots=True)
class Sample:
    """How many predictions are looked at: a share of the ids, or so many a UTC day. One of the two is None."""

    rate: Fraction | None = None
    a_day: int | None = None

    def __str__(self) -> str:
        return f"{self.a_day}/d" if self.rate is None else str(self.rate)


def parse_sample(value: object) -> Sample:
    """ "5%", 0.05 or "500/d". Raises BadValue: a bare 5 could be both."""
    text = value.strip() if isinstance(value, str) else ""
    number = text.removesuffix("/d").rstrip()
    if text.endswith("/d"):
        if not (number.isascii() and number.isdecimal() and 1 <= int(number[:9]) <= MOST_A_DAY and len(number) < 10):
            raise BadValue(f"{shown(value)} is no number a day", f"Write 1/d to {MOST_A_DAY}/d")
        return Sample(a_day=int(number))
    could_be_both = not text.endswith("%") and isinstance(value, str | int)
    share = Fraction(0) if could_be_both else parse_share(value, _SAMPLE_REMEDY)
    if not 0 < share <= 1:
        raise BadValue(f"{shown(value)} is no sample", _SAMPLE_REMEDY)
    return Sample(rate=share)


def parse_share(value: object, remedy: str = 'Write a share such as "80%" or 0.8') -> Fraction:
    """The share that "80%" or 0.8 is, exactly as it is written: above 0, at most 1. Raises BadValue."""
    text = value.strip() if isinstance(value, str) else value
    percent = isinstance(text, str) and text.endswith("%")
    number = number_of(text.removesuffix("%").rstrip() if isinstance(text, str) else text)
    share = None if number is None else number / 100 if percent else number
    if share is None or not 0 < share <= 1:
        raise BadValue(f"{shown(value)} is no share", remedy)
    return share


@dataclass(frozen=True, slots=True)
class Sampling:
    """A sample of its own: its key makes it independent of all others. Text keys of any length; BadValue if empty."""

    key: str | bytes
    _hashed: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = self.key.encode() if isinstance(self.key, str) else self.key
        if not isinstance(key, bytes) or not key:
            raise BadValue(f"{shown(key)} is no key", "Give a secret text, the same in every process")
        object.__setattr__(self, "_hashed", blake2b(key, digest_size=32).digest())

    def position(self, identity: Id, day: str = "") -> int:
        """Where an id lies, from 0 to 2**64 - 1: of all its days, or of one. BadValue for what is no id."""
        return int.from_bytes(blake2b(_text(identity), digest_size=8, key=self._hashed, person=day.encode()).digest())

    def holds(self, identity: Id, rate: Fraction) -> bool:
        """Whether an id is in the sample of this rate: exactly, and in every larger one too. BadValue for no rate."""
        if not 0 <= rate <= 1:
            raise BadValue(f"a rate of {shown(rate)}", "Write a share from 0 to 1, such as 5%")
        return self.position(identity) * rate.denominator < rate.numerator * POSITIONS


class SmallestOfDay:
    """The `n` ids of one day whose positions are smallest, whoever saw them and in whatever order.

    Which they are is known when the day is closed; until then any may be pushed out. An id that comes twice is one.
    """

    def __init__(self, sampling: Sampling, day: str, n: int) -> None:
        """`day`: such as "2026-11-24", a part of every position, so that no id is picked day after day. BadValue."""
        if not isinstance(day, str) or not _DAY.fullmatch(day):
            raise BadValue(f"{shown(day)} is no day", "Write it as 2026-11-24")
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_A_DAY:
            raise BadValue(f"{shown(n)} a day", f"Write a whole number from 1 to {MOST_A_DAY}")
        self.sampling, self.day, self.n = sampling, day, n
        self._kept: set[tuple[int, str]] = set()
        self._farthest: tuple[int, str] | None = None  # nothing beyond it can be in

    def add(self, identity: Id) -> bool:
        """Take an id; False if it is surely not among the smallest. BadValue for what is no id."""
        return self._take((self.sampling.position(identity, self.day), _text(identity).decode(*_CODING)))

    def merge(self, others: Iterable[tuple[int, str]]) -> None:
        """Take what another process kept of the same day, its `kept`."""
        for position, identity in others:
            self._take((position, identity))

    @property
    def kept(self) -> list[tuple[int, str]]:
        """(position, id) of those that are in, the smallest first."""
        return heapq.nsmallest(self.n, self._kept)

    def ids(self) -> set[str]:
        """The ids that are in, as texts."""
        return {identity for _, identity in self.kept}

    def _take(self, one: tuple[int, str]) -> bool:
        if self._farthest is not None and one > self._farthest:
            return False
        self._kept.add(one)
        if len(self._kept) >= 2 * self.n + 64:  # seldom enough to cost little
            kept = self.kept
            self._kept, self._farthest = set(kept), kept[-1]
        return True


def _text(identity: Id) -> bytes:
    """An id as bytes: 7 and "7" are one, since a file of labels knows texts only."""
    if isinstance(identity, bool) or not isinstance(identity, str | int | UUID) or identity == "":
        raise BadValue(f"{shown(identity)} is no id", "Give a text, a whole number or a UUID")
    return str(identity).encode(*_CODING)
