"""Labels from elsewhere, as CSV or JSON: each line is a label, or says what is wrong with it and what is right."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from otelslo.errors import BadValue, nearest, shown
from otelslo.label_record import Label, id_of, name_of
from otelslo.labelled import plain_class
from otelslo.limits import moment_ns

CSV, JSON = "csv", "json"
_COLUMNS = ("id", "truth", "at")
_MOMENT = "Write Unix time in seconds, or ISO 8601 with an offset, such as 2026-11-28T13:00:00+01:00"
_LONGEST_LINE = 1 << 20


class BadLine(NamedTuple):
    """A line that is no label. `line` counts from 1."""

    line: int
    problem: str
    remedy: str

    @property
    def text(self) -> str:
        return f"{self.problem}. {self.remedy}" if self.remedy else self.problem


def guessed_form(name: str, beginning: str) -> str:
    """CSV or JSON: by a file's name, or else by how it begins."""
    if name.endswith((".csv", ".tsv")):
        return CSV
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return JSON
    return JSON if beginning.lstrip().startswith(("{", "[")) else CSV


def from_csv(lines: Iterable[str], model: str, now_wall_ns: int) -> Iterator[Label | BadLine]:
    """Labels of a CSV file with a header: id, truth, and if need be at (by default `now_wall_ns`, Unix ns).

    Raises:
        BadValue: the header is missing or another one; then no line is read.
    """
    reader = csv.reader(lines)
    header = [name.strip().lstrip("\ufeff") for name in next(reader, [])]
    for name in ("id", "truth"):
        if name not in header:
            problem = f"the first line has no column {name!r}: {shown(','.join(header))}"
            raise BadValue(problem, "Begin with the header id,truth or id,truth,at")
    for name in header:
        if name not in _COLUMNS:
            raise BadValue(f"unknown column {shown(name)}", nearest(name, _COLUMNS))
    line = 1
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as e:
            yield BadLine(line, f"it is no CSV: {e}", "See its quotes")
            continue
        if row is None:
            return
        if row:
            yield _of_row(dict(zip(header, row, strict=False)), len(row), len(header), line, model, now_wall_ns)


def _of_row(
    row: Mapping[str, str], found: int, wanted: int, line: int, model: str, now_wall_ns: int
) -> Label | BadLine:
    if found != wanted:
        return BadLine(line, f"it has {found} fields, the header {wanted}", "Quote texts that have commas in them")
    at = (row.get("at") or "").strip()
    return _label({"id": row["id"].strip(), "truth": row["truth"], "at": at or None}, line, model, now_wall_ns)


def from_json(lines: Iterable[str], model: str | None, now_wall_ns: int) -> Iterator[Label | BadLine]:
    """Labels of JSON lines: {"id": ..., "truth": ..., "at": ...}, with "model" where no `model` is given; a line may
    also be a list of such."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if len(text) > _LONGEST_LINE:
            yield BadLine(number, f"it is longer than {_LONGEST_LINE:,} characters", "Write a label a line")
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as e:
            yield BadLine(number, f"it is no JSON: {e}", 'Write {"id": "...", "truth": ...}, one a line')
            continue
        for one in found if isinstance(found, list) else [found]:
            yield _of_object(one, number, model, now_wall_ns)


def from_json_text(text: str, model: str | None, now_wall_ns: int) -> Iterator[Label | BadLine]:
    """Labels of one JSON object, of a list of them (then `line` is the place in it), or of JSON lines."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        yield from from_json(text.split("\n"), model, now_wall_ns)  # texts in JSON may hold other ends of lines
        return
    for number, one in enumerate(found if isinstance(found, list) else [found], 1):
        yield _of_object(one, number, model, now_wall_ns)


def _of_object(one: Any, line: int, model: str | None, now_wall_ns: int) -> Label | BadLine:
    known = _COLUMNS if model is not None else (*_COLUMNS, "model")
    if not isinstance(one, dict):
        return BadLine(line, f"{shown(one)} is no object", 'Write {"id": "...", "truth": ...}')
    unknown = [key for key in one if key not in known]
    if unknown:
        return BadLine(line, f"unknown key {shown(unknown[0])}", nearest(unknown[0], known))
    missing = [key for key in known if key != "at" and one.get(key) is None]
    if missing:
        return BadLine(line, f"it has no {missing[0]}", f'Write {{"{missing[0]}": ...}}')
    return _label(one, line, model if model is not None else one["model"], now_wall_ns)


def _label(one: Mapping[str, Any], line: int, model: object, now_wall_ns: int) -> Label | BadLine:
    try:
        truth = plain_class(one["truth"])
        if truth == "":
            return BadLine(line, "the truth is empty", "Leave out lines whose truth is not known yet")
        return Label(name_of(model), id_of(one["id"]), _at_ns(one.get("at"), now_wall_ns), truth)
    except BadValue as e:
        return BadLine(line, e.problem, e.remedy)


def _at_ns(at: object, now_wall_ns: int) -> int:
    if at is None:
        return now_wall_ns
    moment = at
    try:
        if isinstance(at, str):
            text = at.removesuffix("Z") + "+00:00" if at.endswith("Z") else at
            moment = datetime.fromisoformat(text) if "-" in text.lstrip("-") or ":" in text else float(text)
        return max(0, moment_ns(moment))
    except (ValueError, OverflowError) as e:
        raise BadValue(f"{shown(at)} is no time", _MOMENT) from e
