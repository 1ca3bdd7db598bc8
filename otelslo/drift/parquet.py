"""One column of a Parquet file, as a baseline takes it. Needs pyarrow (the extra `parquet`), imported when asked."""

from __future__ import annotations

from pathlib import Path

from otelslo.drift.baseline import Baseline, Kind
from otelslo.drift.column import refuse_all_but_one
from otelslo.errors import Place


def baseline_of_parquet(
    path: str | Path, column: str, kind: Kind, *, bins: int | None = None, nan_is_missing: bool = False
) -> Baseline:
    """A baseline of one column of a Parquet file; null is a missing value.

    Raises:
        DefinitionError: pyarrow is not there, no such file or column, or what `Baseline.of` refuses.
    """
    place = Place(str(path))
    try:
        import pyarrow.parquet
    except ImportError as e:
        raise place.error("reading Parquet needs pyarrow", "pip install 'otelslo[parquet]'") from e
    try:
        known = pyarrow.parquet.read_schema(path).names
        refuse_all_but_one(column, known, place)
        values = pyarrow.parquet.read_table(path, columns=[column]).column(0).to_pylist()
    except (OSError, pyarrow.ArrowException) as e:
        raise place.error(f"cannot be read ({e})") from e
    return Baseline.of(column, values, kind, bins=bins, nan_is_missing=nan_is_missing)
