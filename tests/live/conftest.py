"""Compiles the kernels once for all services of these tests."""

from __future__ import annotations

import pytest

from .servers import warm_up


@pytest.fixture(scope="package", autouse=True)
def _warm_kernels(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("warm"))
