"""The pages of indicators say what loads: every definition in them is one, with no finding that it is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otelslo import config

PAGES = sorted((Path(__file__).parent.parent / "docs" / "indicators").glob("*.md"))


def definitions(page: Path) -> list[str]:
    found = re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [text for text in found if re.search(r"^(slos|limits):", text, flags=re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_definitions_load(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(definitions(page)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        loaded = config.load(path)
        assert loaded.slos or loaded.limits
