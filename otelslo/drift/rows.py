"""Rows of features in whatever form a model is fed by, as one column for each feature. Loads numpy.

A row alone, or many: a mapping of feature to value or to a column, a list of such rows, a structured array, an array of
two dimensions with the names of its columns, a data frame (whatever has `columns` and gives one by its name).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_SCALARS = (str, bytes, bool, int, float, type(None))


class Table(NamedTuple):
    """`columns` by feature, each a sequence of `rows` values; a feature that no row has is not among them."""

    rows: int
    columns: Mapping[str, Any]


def row_of(rows: Any) -> Mapping[str, Any] | None:
    """The mapping, if it is a single row: its values are no columns."""
    if isinstance(rows, Mapping) and all(map(_is_scalar, rows.values())):
        return rows
    return None


def table_of(rows: Any, features: Iterable[str], names: Sequence[str] | None = None) -> Table:
    """The columns of `features` in `rows`.

    Args:
        names: the features of the columns of an array of two dimensions, in order.

    Raises:
        ValueError, TypeError: no rows, or columns of different lengths.
    """
    features = list(features)
    if isinstance(rows, Mapping):
        if row_of(rows) is not None:
            rows = {name: [value] for name, value in rows.items()}
        return _table({name: rows[name] for name in rows})
    if hasattr(rows, "columns") and hasattr(rows, "__getitem__"):
        known = {str(name) for name in rows.columns}
        return Table(len(rows), {name: np.asarray(rows[name]) for name in features if name in known})
    if isinstance(rows, np.ndarray):
        return _of_array(rows, names)
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise TypeError(f"{type(rows).__name__} are no rows")
    listed = list(rows)
    if all(isinstance(row, Mapping) for row in listed):
        seen = [name for name in features if any(name in row for row in listed)]
        return Table(len(listed), {name: [row.get(name) for row in listed] for name in seen})
    if names is None:
        raise TypeError("rows that are no mappings need names=")
    return _of_array(np.array(listed, dtype=object), names)


def _of_array(rows: npt.NDArray[Any], names: Sequence[str] | None) -> Table:
    own = rows.dtype.names
    if own is not None:
        flat = np.atleast_1d(rows)
        return Table(len(flat), {name: flat[name] for name in own})
    if names is None:
        raise TypeError("an array without names of its own needs names=")
    table = rows.reshape(1, -1) if rows.ndim == 1 else rows
    if table.ndim != 2 or table.shape[1] != len(names):
        raise ValueError(f"an array {rows.shape} has not the {len(names)} columns that are named")
    return Table(len(table), {name: table[:, number] for number, name in enumerate(names)})


def _table(columns: Mapping[str, Any]) -> Table:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of different lengths: {lengths}")
    return Table(next(iter(lengths.values()), 0), columns)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, _SCALARS) or not hasattr(value, "__len__") or getattr(value, "shape", None) == ()
