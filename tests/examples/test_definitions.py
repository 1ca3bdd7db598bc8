"""Every example's `slo.yaml` is right, and every example is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .playing import EXAMPLES

FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/slo.yaml"))


def test_there_are_examples_and_each_is_named() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert len(FOLDERS) >= 4
    assert [path.name for path in FOLDERS if f"[{path.name}](" not in text] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_otelslo_check_has_nothing_to_say(folder: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "otelslo", "check", "slo.yaml"], cwd=folder, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "warning" not in (ran.stdout + ran.stderr).lower()
