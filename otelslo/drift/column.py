"""One column of a CSV file, as a baseline takes it: a file knows texts only."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from otelslo.drift.baseline import Baseline, Kind
from otelslo.errors import Place, nearest, shown


def baseline_of_csv(
    path: str | Path, column: str, kind: Kind, *, bins: int | None = None, nan_is_missing: bool = False
) -> Baseline:
    """A baseline of one column of a CSV file with a header, in UTF-8; an empty cell is a missing value.

    Raises:
        DefinitionError: no such file or column, a broken row, or what `Baseline.of` refuses.
    """
    texts = list(_cells(Path(path), column))
    if kind != "numeric":
        return Baseline.of(column, texts, kind, bins=bins, nan_is_missing=nan_is_missing)
    place = Place(str(path)).at(column)
    numbers = [_number(text, line, place) for line, text in enumerate(texts, 2)]
    return Baseline.of(column, numbers, kind, bins=bins, nan_is_missing=nan_is_missing)


def _cells(path: Path, column: str) -> Iterator[str]:
    place = Place(str(path))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            refuse_all_but_one(column, header, place)
            where = header.index(column)
            for row in rows:
                if row and len(row) != len(header):
                    raise place.error(f"line {rows.line_num} has {len(row)} cells, the header {len(header)}")
                if row:
                    yield row[where]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise place.error(f"cannot be read ({e})") from e


def refuse_all_but_one(column: str, header: list[str], place: Place) -> None:
    """DefinitionError if none of the columns is called so, or several are."""
    found = header.count(column)
    if not found:
        remedy = nearest(column, header) if header else "The file is empty"
        raise place.error(f"no column is called {shown(column)}", remedy)
    if found > 1:
        raise place.error(f"{found} columns are called {shown(column)}", "Rename all but one")


def _number(text: str, row: int, place: Place) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        remedy = "Mend the cell, or say kind: categorical"
        raise place.error(f"row {row} holds {shown(text)}, which is no number", remedy) from None
