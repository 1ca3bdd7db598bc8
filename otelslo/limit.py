"""What must never be exceeded: a value with a limit, such as the age of a model or a weekly divergence.

A ratio needs room for failure; such a value has none. It is met or breached, and there is no budget of it to burn.
"""

from __future__ import annotations

import inspect
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from otelslo.about import About, parse_about
from otelslo.alerts import SEVERITIES, TICKET
from otelslo.errors import BadValue, DefinitionError, Place, shown
from otelslo.keys import checked_name
from otelslo.match import import_name, import_object, texts
from otelslo.window import MINUTE_NS, SECOND_NS, format_duration, parse_duration, parse_positive_duration

Ask = Callable[[], Any]
SECONDS, NUMBER = "s", "1"
STALE_AFTER_ASKED = 10
KEYS = (
    *("name", "limit", "severity", "stale_after", "value", "every", "owner", "because", "runbook_url", "labels"),
    *("notify", "description", "model"),
)

_DEFAULT_EVERY = "1m"
_DEFAULT_EVERY_NS = MINUTE_NS
_MOST_BITS = 1100  # holds whatever a float can be, and keeps what is stored short
_MOST_DIGITS = 330
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?( ?%?)")
_REMEDY = "Write a number such as 0.1, or a duration such as 90d"


@dataclass(frozen=True, eq=False, kw_only=True)
class Limit:
    """`value <= limit`, always. Every argument is checked at once; DefinitionError if wrong.

    The app tells the value by `otelslo.observe(name, value)`, or `value` is asked for it.

    - `limit`: "90d" or a timedelta for a duration; 0.1, "0.1", a Fraction for a number. Reaching it is no breach.
    - `severity`: page or ticket, of the alert "limit" that fires while it is breached.
    - `stale_after`: a value older than that is no data, which opens a ticket "no-data" a minute later. By default a
      value that was told stays, one that is asked for is stale after ten times `every`.
    - `value`: a function without arguments, or its import path; the leading worker asks it `every` so often, in a
      thread. It returns a value, for a duration also the moment (a datetime) since when it grows, or None: not known.
    - `model`: the value is the time since any version of that model was trained or evaluated last, as `otelslo.model()`
      tells it; it grows by itself.
    - `owner`, `because`, `runbook_url`, `labels`, `description` go with alerts; `notify`: the channels that are told.
    """

    name: str = field(kw_only=False)
    limit: str | float | Decimal | Fraction | timedelta
    severity: str = TICKET
    stale_after: str | timedelta | None = None
    value: Ask | str | None = None
    every: str | timedelta = _DEFAULT_EVERY
    model: str | None = None
    owner: str = ""
    because: str = ""
    runbook_url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    notify: Sequence[str] | None = None
    description: str = ""

    unit: str = field(init=False, repr=False)
    bound: Fraction = field(init=False, repr=False)
    stale_after_ns: int | None = field(init=False, repr=False)
    every_ns: int = field(init=False, repr=False)
    ask: Ask | None = field(init=False, repr=False)
    about: About = field(init=False, repr=False)

    def __post_init__(self) -> None:
        place = checked_name(self.name, "limit")
        place.at("description").expect(self.description, str, "a text")
        if self.severity not in SEVERITIES:
            raise place.at("severity").error(f"{shown(self.severity)} is no severity", "Write page or ticket")
        unit, bound = place.at("limit").parse(parse_limit, self.limit)
        every_ns = self._parse_every(place.at("every"))
        if self.model is not None:
            self._check_model(unit, place)
        self._set(
            unit=unit,
            bound=bound,
            every_ns=every_ns,
            ask=None if self.value is None else _callable(self.value, place.at("value")),
            stale_after_ns=self._parse_stale_after(every_ns, place.at("stale_after")),
            notify=None if self.notify is None else tuple(texts(self.notify, place.at("notify"))),
            about=parse_about(self.owner, self.because, self.runbook_url, self.labels, place),
        )

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_model(self, unit: str, place: Place) -> None:
        if not place.at("model").expect(self.model, str, "the name of a model"):
            raise place.at("model").error("it is empty", "Write the name that otelslo.model() is told")
        if unit != SECONDS:
            raise place.at("limit").error("the age of a model is a duration", "Write one, such as 90d")
        if self.value is not None:
            raise place.at("value").error(
                "the age of a model is not asked for", "Leave value or model out", at_key=True
            )

    def _parse_every(self, place: Place) -> int:
        every_ns = place.parse(parse_positive_duration, self.every)
        if every_ns < SECOND_NS:
            raise place.error(f"{format_duration(every_ns)} is too often", "Write 1s or more")
        if self.value is None and every_ns != _DEFAULT_EVERY_NS:
            problem = "there is nobody to ask"
            raise place.error(problem, 'Add value: "package.module:function", or leave it out', at_key=True)
        return every_ns

    def _parse_stale_after(self, every_ns: int, place: Place) -> int | None:
        if self.stale_after is None:
            return None if self.value is None else STALE_AFTER_ASKED * every_ns
        stale_after_ns = place.parse(parse_positive_duration, self.stale_after)
        if self.value is not None and stale_after_ns <= every_ns:
            problem = f"{format_duration(stale_after_ns)} is over before the value is asked for again"
            raise place.error(problem, f"Write more than {format_duration(every_ns)}, or a smaller every")
        return stale_after_ns

    @property
    def source(self) -> str:
        """The name that its observations are kept under."""
        return self.name if self.model is None else model_source(self.model)

    @property
    def text(self) -> str:
        """The limit as text, exactly: "90d", "0.1", "1/3"."""
        return format_duration(int(self.bound)) if self.unit == SECONDS else number_text(self.bound)

    def definition(self) -> dict[str, Any]:
        """The limit as plain data, that `from_json` reads back, here or in another process."""
        return {
            "name": self.name,
            "kind": "limit",
            "limit": self.text,
            "limit_num": self.bound.numerator,
            "limit_den": self.bound.denominator,
            "unit": self.unit,
            "severity": self.severity,
            "stale_after_ns": self.stale_after_ns,
            "value": None if self.ask is None else import_name(self.ask),
            "every_ns": None if self.ask is None else self.every_ns,
            "model": self.model,
            "about": self.about.to_json(),
            "notify": None if self.notify is None else list(self.notify),
            "description": self.description,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Limit:
        """The limit that `definition` wrote, without the code that it asks. DefinitionError if it is damaged."""
        try:
            bound = Fraction(int(data["limit_num"]), int(data["limit_den"]))
            stale_after_ns, about = data.get("stale_after_ns"), About.from_json(data.get("about") or {})
            return cls(
                str(data["name"]),
                limit=format_duration(int(bound)) if data["unit"] == SECONDS else bound,
                severity=str(data["severity"]),
                stale_after=None if stale_after_ns is None else format_duration(int(stale_after_ns)),
                owner=about.owner,
                because=about.because,
                runbook_url=about.runbook_url,
                labels=about.labels,
                notify=data.get("notify"),
                model=data.get("model"),
                description=str(data.get("description", "")),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as damage:
            problem = f"it cannot be read ({type(damage).__name__}: {shown(str(damage))})"
            raise DefinitionError("saved limit", problem, "Let a running worker write it anew") from damage

    @classmethod
    def from_mapping(cls, data: object) -> Limit:
        """The limit that a mapping (one item of `limits:`) describes. Unknown keys are refused. DefinitionError."""
        if not isinstance(data, Mapping):
            raise Place("limit").error(f"{shown(data)} is no limit", "Write a mapping: {name: model-age, limit: 90d}")
        if data.get("name") is None:
            raise Place("limit").error("it has no name", "Add name: model-age")
        place = checked_name(data["name"], "limit")
        place.only(data, KEYS)
        if data.get("limit") is None:
            raise place.error("it has no limit", "Add limit: 90d, or a number such as limit: 0.1")
        return cls(**{key: value for key, value in data.items() if value is not None})


def model_source(model: str) -> str:
    """The name that the age of a model is kept under; no limit can be called so."""
    return f"model:{model}"


def _callable(value: object, place: Place) -> Ask:
    found = value
    if not callable(found):
        path = place.expect(value, str, 'a function or an import path such as "mypackage.models:age"')
        found = import_object(path, place)
    if not callable(found):
        raise place.error(f"{shown(value)} is not callable", "Name a function without arguments")
    if inspect.iscoroutinefunction(found):
        raise place.error(f"{import_name(found)} is async", "Use a plain function: it is asked in a thread of its own")
    return found


def parse_limit(value: object) -> tuple[str, Fraction]:
    """Unit and exact bound: ("s", nanoseconds) of "90d" or a timedelta, ("1", number) of 0.1 or "0.1".

    Raises BadValue.
    """
    if isinstance(value, timedelta):
        return SECONDS, Fraction(parse_positive_duration(value))
    if not isinstance(value, str):
        return NUMBER, exact_number(value)
    text = value.strip()
    found = _NUMBER.fullmatch(text)
    if found is not None:
        number = exact_number(Decimal(text.removesuffix("%").rstrip()))
        return NUMBER, number / 100 if found[1].strip() else number
    if re.match(r"[-+]?\.?[0-9]", text):
        return SECONDS, Fraction(parse_positive_duration(value))
    raise BadValue(f"{shown(value)} is no limit", _REMEDY)


def exact_number(value: object) -> Fraction:
    """A number of any numeric type, exactly; a float as it is printed. BadValue for what is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, numbers.Number):
        raise BadValue(f"{shown(value)} is no number", _REMEDY)
    if isinstance(value, numbers.Rational):
        return _bounded(Fraction(int(value.numerator), int(value.denominator)))
    try:  # numpy's floats print themselves, too
        number = Decimal(float.__repr__(value) if isinstance(value, float) else str(value))
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite():
        raise BadValue(f"{shown(value)} is no finite number", _REMEDY)
    if max(abs(number.adjusted()), len(number.as_tuple().digits)) > _MOST_DIGITS:
        raise _out_of_range()
    return _bounded(Fraction(number))


def _bounded(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > _MOST_BITS:
        raise _out_of_range()
    return number


def _out_of_range() -> BadValue:
    return BadValue("a number of so many digits is out of range", "Write one that a float can be")


def exact_duration(value: object) -> Fraction:
    """Nanoseconds of "12d" or a timedelta. BadValue for anything else, a plain number above all."""
    if not isinstance(value, str | timedelta):
        raise BadValue(f"{shown(value)} is no duration", 'Give a timedelta or a text such as "12d"')
    return Fraction(parse_duration(value))


def number_text(number: Fraction) -> str:
    """Exactly, where twelve decimals are enough; else as a fraction."""
    scaled = number * 10**12
    if scaled.denominator != 1:
        return str(number)
    digits = f"{abs(scaled.numerator):013d}"
    return ("-" if number < 0 else "") + f"{digits[:-12]}.{digits[-12:]}".rstrip("0").rstrip(".")
