"""A column of a Parquet file is a baseline as the same column in memory is."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from otelslo.drift.baseline import Baseline
from otelslo.drift.parquet import baseline_of_parquet
from otelslo.errors import DefinitionError

pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow", exc_type=ImportError)

AGES = [None if n % 50 == 0 else float(age) for n, age in enumerate(np.random.default_rng(1).normal(40, 10, 2_000))]
COUNTRIES = [None if n % 9 == 0 else ("de", "fr")[n % 2] for n in range(2_000)]


@pytest.fixture
def file(tmp_path):
    import pyarrow.parquet

    path = tmp_path / "training.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"age": AGES, "country": COUNTRIES, "n": list(range(2_000))}), path)
    return path


def test_numbers_and_categories(file) -> None:
    assert baseline_of_parquet(file, "age", "numeric") == Baseline.of("age", AGES, "numeric")
    assert baseline_of_parquet(file, "country", "categorical") == Baseline.of("country", COUNTRIES, "categorical")
    assert baseline_of_parquet(file, "n", "numeric", bins=4) == Baseline.of("n", range(2_000), "numeric", bins=4)


def test_what_cannot_be_read(file, tmp_path) -> None:
    with pytest.raises(DefinitionError, match=r"no column is called 'agee'\. Did you mean 'age'"):
        baseline_of_parquet(file, "agee", "numeric")
    with pytest.raises(DefinitionError, match="cannot be read"):
        baseline_of_parquet(tmp_path / "none.parquet", "age", "numeric")
    (tmp_path / "bad.parquet").write_text("age\n1\n")
    with pytest.raises(DefinitionError, match="cannot be read"):
        baseline_of_parquet(tmp_path / "bad.parquet", "age", "numeric")
    with pytest.raises(DefinitionError, match="'fr' is no number"):
        baseline_of_parquet(file, "country", "numeric")


def test_without_pyarrow_it_says_what_to_install(file, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DefinitionError, match=r"needs pyarrow. pip install 'otelslo\[parquet\]'"):
        baseline_of_parquet(file, "age", "numeric")
