"""A prediction that has met its label, or has waited for one in vain: what a quality indicator judges.

A leaf: what is kept of a prediction, what a label says, and when two classes are one, as plain values.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from otelslo.errors import BadValue, shown

Class = str | int | float | bool
# What a judge may say of an answer, and what is said of it where the judge itself failed.
VERDICTS = ("hallucinated", "supported", "unknown")
JUDGE_ERROR = "judge_error"

_WRITTEN = re.compile(r"-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?")
_NUMBER = re.compile(r"[-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,2})?")
_TINY_OR_HUGE = re.compile(r"-?[1-9](?:\.[0-9]{1,16})?e[-+][0-9]{2,3}")
_MOST_DIGITS = 40
_TRUTHS = {"true": "1", "True": "1", "TRUE": "1", "false": "0", "False": "0", "FALSE": "0"}
_CLASS_REMEDY = "Give a text, a number or a yes/no value"


@dataclass(frozen=True, slots=True)
class Labelled:
    """What was predicted, and what is known to be true.

    `output` is the predicted class or text and `score` the model's own number, None where not given. `truth` is what
    the label says; it is None only where `lapsed`: no label came in the time that one was waited for.
    """

    output: Class | None = None
    score: float | None = None
    truth: Class | None = None
    lapsed: bool = False


def class_key(value: object) -> str:
    """The one text that all spellings of a class share, since a CSV file knows texts only and JSON has no numpy.

    1, 1.0, True, "1", "1.0", "1.00", "true", "True" and "TRUE" are one class, 0.5, "0.5" and "0.50" another; so are
    numpy's numbers. Every other text is its own class, to the letter: "007", "1e3", " 1" and "tRUE" are not numbers,
    "Spam" is not "spam".

    Raises:
        BadValue: None, NaN, an infinity, or what is no plain value.
    """
    plain = plain_class(value)
    if isinstance(plain, str):
        if plain in _TRUTHS:
            return _TRUTHS[plain]
        return _written(Decimal(plain)) if _is_written(plain) else plain
    return _written(Decimal(repr(plain)) if isinstance(plain, float) else Decimal(int(plain)))


def same_class(one: object, other: object) -> bool:
    """Whether two classes are one, by their `class_key`. Raises BadValue for what is no class."""
    return class_key(one) == class_key(other)


def plain_class(value: object) -> Class:
    """A class as a plain value that JSON and SQLite know: numpy's and torch's scalars become Python's, and a Decimal
    the text that a file would have of it.

    Raises:
        BadValue: None, NaN, an infinity, or what is no plain value.
    """
    if not isinstance(value, str | int | float) and callable(getattr(value, "item", None)):
        try:
            value = value.item()  # type: ignore[attr-defined]  # asked for just before
        except Exception as e:
            raise BadValue(f"{shown(value)} is no class", _CLASS_REMEDY) from e
    if isinstance(value, str):
        return str.__str__(value)  # of an enum its value, not its name
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS:
        return _written(value)
    raise BadValue(f"{shown(value)} is no class", _CLASS_REMEDY)


def number_of(value: object) -> Fraction | None:
    """The number that a label, a score or a bar is, exactly as it is written: 0.7 and "0.7" are 7/10. None if none.

    Yes/no values are no numbers, nor are NaN and infinities. Texts may have an exponent: "1e-3".
    """
    if isinstance(value, Fraction):
        return value
    try:
        plain = plain_class(value)
    except BadValue:
        return None
    if isinstance(plain, bool):
        return None
    if not isinstance(plain, str):
        return Fraction(repr(plain)) if isinstance(plain, float) else Fraction(plain)
    return Fraction(plain) if _NUMBER.fullmatch(plain) else None


def _is_written(text: str) -> bool:
    """Whether a text is a number as a file has it, with an exponent only where Python writes one: if tiny or huge."""
    return bool(_WRITTEN.fullmatch(text) or (_TINY_OR_HUGE.fullmatch(text) and repr(float(text)) == text))


def _written(number: Decimal) -> str:
    """Without an exponent and without zeros at the end."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
