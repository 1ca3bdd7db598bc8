"""The page on freshness says what is true: its configuration, its snippets and its commands, one after the other."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from otelslo import config, default
from otelslo.indicators.freshness import OPTIONS, RULES

PAGE = (Path(__file__).parent.parent / "docs" / "indicators" / "freshness.md").read_text()
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_page_s_example_from_the_jobs_to_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("otelslo.default._engine", [])
    (yaml, jobs, service, commands) = [text for _, text in SNIPPETS]
    Path("slo.yaml").write_text(yaml)
    assert [slo.name for slo in config.load().slos] == ["recommender-fresh"]
    names: dict[str, object] = {}
    exec(jobs, names)
    assert not default.engine().running
    exec(service, names)
    with default.engine() as engine:
        assert names["recommend"]("ann") == ["book"]  # type: ignore[operator]
        (status,) = engine.status()
        assert (status.counts.good, status.counts.bad) == (1, 0)
        assert [(one.name, one.state) for one in engine.observing.statuses()] == [
            ("recommender-age", "met"),
            ("features-age", "met"),
        ]
        ran = [
            subprocess.run([sys.executable, "-m", *shlex.split(line)], capture_output=True, text=True, check=True)
            for line in commands.splitlines()
        ]
    (version,) = json.loads(ran[-1].stdout)
    assert (version["model"], version["version"], len(version["evaluations"])) == ("recommender", "2026-11-01", 2)


def test_every_option_and_every_reason_is_named() -> None:
    for key in OPTIONS:
        assert f"`{key}`" in PAGE or f"{key}:" in PAGE, key
    for line in RULES:
        assert line.within.kind == "good" or f"`{line.within.reason}`" in PAGE, line.key
