"""What the page of the indicator shows runs: the command, the definition, the calls."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from cli.invoke import invoke

from drift.stream import columns
from otelslo import Engine, config, default
from otelslo.binbook import totals

PAGE = (Path(__file__).parent.parent.parent / "docs" / "indicators" / "drift.md").read_text()


def snippet(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return found


def test_the_page_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    column = columns(np.random.default_rng(1), 4_000)
    lines = (f"{a},{b},{c}" for a, b, c in zip(*(column[name].tolist() for name in column), strict=True))
    Path("training.csv").write_text("\n".join([",".join(column), *lines]) + "\n")
    _, *command = shlex.split(snippet("sh"))
    assert invoke(*command).exit_code == 0
    Path("slo.yaml").write_text(snippet("yaml"))
    assert invoke("check", "slo.yaml", "--strict").exit_code == 0
    loaded = config.load("slo.yaml")
    with Engine(loaded.slos, limits=loaded.limits, state_dir=tmp_path / "state", runner=False) as engine:
        monkeypatch.setattr(default, "_engine", [engine])
        monkeypatch.setattr(default, "_switched_off", [False])
        exec(snippet("python"), {})
        (watch,) = engine.features.watches
        assert {sum(bins) for bins in totals(engine.ring.reader, watch.sizes).values()} == {5}
        assert engine.faults() == {}
