"""What one record of the inbox says: a prediction was made, or a label is known. As plain values, and as bytes.

A record is one line: an RS byte (0x1e), the checksum and the length of what follows as 8 hexadecimal digits each, then
a JSON array in ASCII and a line feed. The RS byte can stand nowhere else, so a record that was cut short, by a full
disk or a kill inside the write, hides none that comes after it and is never taken for another.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from otelslo.errors import BadValue, shown
from otelslo.labelled import Class, plain_class

LONGEST_ID = 200  # characters, of an id and of a model's name
LONGEST_RECORD = 64 * 1024
MOST_ATTRIBUTES = 16
LONGEST_ATTRIBUTE = 200

_RS, _LF = b"\x1e", b"\n"
_HEAD = 17
_LATEST_NS = 2**62
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


class Prediction(NamedTuple):
    """`at_wall_ns` (Unix ns) is when it was made; `output` and `score` are None where not given."""

    model: str
    id: str
    at_wall_ns: int
    output: Class | None
    score: float | None
    attributes: Mapping[str, str]


class Label(NamedTuple):
    """`at_wall_ns` (Unix ns) is when the truth was told."""

    model: str
    id: str
    at_wall_ns: int
    truth: Class


Record = Prediction | Label


class Cut(NamedTuple):
    """Bytes that are no record: one that was cut short, or damage."""

    length: int


def encoded(record: Record) -> bytes:
    """One record as bytes. BadValue if it is too long, or holds what no file can."""
    payload = _encode([len(record), *record]).encode()  # the number of fields tells which it is
    if len(payload) > LONGEST_RECORD:
        problem = f"a record of {len(payload):,} bytes is longer than {LONGEST_RECORD:,}"
        raise BadValue(problem, "Log a class, or a shorter text")
    return b"\x1e%08x%08x%b\n" % (zlib.crc32(payload), len(payload), payload)


def decoded(data: bytes, *, ended: bool) -> Iterator[tuple[Record | Cut, int]]:
    """The records of a piece of a file, each with where it ends in `data`.

    What comes last and is not whole is left alone, since it may still be being written; unless the file has `ended`, or
    no record is so long.
    """
    start = 0
    while start < len(data):
        following = data.find(_RS, start + 1)
        end = len(data) if following < 0 else following
        found = _read(data[start:end])
        if isinstance(found, Cut) and following < 0 and not ended and found.length <= _HEAD + LONGEST_RECORD:
            return
        yield found, end
        start = end


def _read(raw: bytes) -> Record | Cut:
    payload = raw[_HEAD:-1]
    if raw[:1] != _RS or raw[-1:] != _LF or raw[1:_HEAD] != b"%08x%08x" % (zlib.crc32(payload), len(payload)):
        return Cut(len(raw))
    try:
        return _record(json.loads(payload))
    except (ValueError, TypeError, RecursionError):  # of another version, or written by somebody else
        return Cut(len(raw))


def _record(fields: Any) -> Record:
    length, *rest = fields
    if length == len(Prediction._fields):
        model, identity, at_ns, output, score, attributes = rest
        told = {str(key): str(value) for key, value in attributes.items()}
        output = None if output is None else plain_class(output)
        return Prediction(name_of(model), id_of(identity), _ns(at_ns), output, score_of(score), told)
    model, identity, at_ns, truth = rest
    return Label(name_of(model), id_of(identity), _ns(at_ns), plain_class(truth))


def id_of(identity: object) -> str:
    """An id as text: 7 and "7" are one, since a file of labels knows texts only. BadValue for what is none."""
    if not isinstance(identity, str | int | UUID) and callable(getattr(identity, "item", None)):
        identity = plain_class(identity)  # a number of numpy's
    if isinstance(identity, bool) or not isinstance(identity, str | int | UUID):
        raise BadValue(f"{shown(identity)} is no id", "Give a text, a whole number or a UUID")
    text = str(identity)
    if not text or len(text) > LONGEST_ID:
        raise BadValue(f"an id of {len(text)} characters", f"Use 1 to {LONGEST_ID}")
    return _storable(text)


def name_of(model: object) -> str:
    """A model's name. BadValue for what is none."""
    if not isinstance(model, str) or not model or len(model) > LONGEST_ID:
        raise BadValue(f"{shown(model)} is no model's name", f"Give a text of 1 to {LONGEST_ID} characters")
    return _storable(model)


def score_of(score: object) -> float | None:
    """A score as a number; None stays. BadValue for what is no finite number."""
    if score is None:
        return None
    plain = plain_class(score)
    if isinstance(plain, str | bool):
        raise BadValue(f"{shown(score)} is no score", "Give a number")
    number = float(plain)
    if not math.isfinite(number):
        raise BadValue(f"{shown(score)} is no score", "Give a finite number")
    return number


def attributes_of(attributes: Mapping[str, object]) -> dict[str, str]:
    """The first sixteen, as texts, each cut to the length that a group's value may have and one more."""
    return {key: str(value)[: LONGEST_ATTRIBUTE + 1] for key, value in list(attributes.items())[:MOST_ATTRIBUTES]}


def _storable(text: str) -> str:
    """Without what UTF-8 has no bytes for: half a character, as a client may send it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _ns(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LATEST_NS:
        raise BadValue(f"{shown(value)} is no time")
    return value
