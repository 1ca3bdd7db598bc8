"""TOML texts as the same values that YAML ones are, with the lines of their keys, so that errors name them too."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from otelslo.document import Document
from otelslo.errors import DefinitionError, Key

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_NAME = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE = re.compile(rf"\s*\[\s*({_NAME})\s*\]\s*(?:#.*)?")
_ITEM = re.compile(rf"\s*\[\[\s*({_NAME})\s*\]\]\s*(?:#.*)?")
_KEY = re.compile(rf"(\s*)({_NAME})\s*=\s*(?=\S)")
_AT = re.compile(r"\s*\(at line ([0-9]+), column ([0-9]+)\)$")
_REMEDY = "Check the quotes, brackets and equal signs there"


def read_toml(source: str, text: str) -> Document:
    """The document of a TOML text, which `source` names in errors. Raises DefinitionError."""
    try:
        value = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as failure:
        found = _AT.search(str(failure))
        line, column = found.groups() if found else (str(text.count("\n") + 1), "1")
        problem = f"unreadable TOML: {_AT.sub('', str(failure))}"
        raise DefinitionError(f"{source}:{line}:{column}", problem, _REMEDY) from failure
    except RecursionError as failure:
        raise DefinitionError(f"{source}:1:1", "it is nested too deeply", "Write it flat") from failure
    document = Document(source, _plain(value))
    _mark(document, text)
    return document


def _plain(value: Any) -> Any:
    """Moments as the texts that definitions have them as."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, date | time) else value


def _mark(document: Document, text: str) -> None:
    """The places of tables and keys, as far as they begin a line; what stands inside a value is placed at its key."""
    table: tuple[Key, ...] = ()
    items: Counter[tuple[Key, ...]] = Counter()
    for number, line in enumerate(text.split("\n"), start=1):
        if found := _ITEM.fullmatch(line.rstrip("\r")):
            name = _path(found[1], items)
            table = (*name, items[name])
            items[name] += 1
        elif found := _TABLE.fullmatch(line.rstrip("\r")):
            table = _path(found[1], items)
        elif found := _KEY.match(line):
            path = (*table, *_split(found[2]))
            document.keys.setdefault(path, (number, len(found[1]) + 1))
            document.values.setdefault(path, (number, found.end() + 1))
            continue
        else:
            continue
        for length in range(1, len(table) + 1):
            document.values.setdefault(table[:length], (number, line.index("[") + 1))


def _path(name: str, items: Counter[tuple[Key, ...]]) -> tuple[Key, ...]:
    """Of a header, within the last items of the lists that it goes through."""
    path: tuple[Key, ...] = ()
    for part in _split(name):
        if path in items:
            path = (*path, items[path] - 1)
        path = (*path, part)
    return path


def _split(name: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_PART, name)]
