"""The pages on quality say what is true: their configurations load and are sound, their code runs."""

from __future__ import annotations

import queue
import re
from pathlib import Path

import pytest

import otelslo
from otelslo import config, openslo
from otelslo.lint import NOTE, lint

PAGES = {name: (Path("docs/indicators") / f"{name}.md").resolve() for name in ("quality", "hallucination")}


def snippets(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[name].read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", [text for name in PAGES for text in snippets(name, "yaml")])
def test_configurations_load_and_are_sound(text, tmp_path):
    (tmp_path / "slo.yaml").write_text(text)
    slos = config.load(str(tmp_path / "slo.yaml")).slos
    assert {slo.kind for slo in slos} == {"prediction"}
    assert [one for one in lint(slos, channels={"log": "log"}) if one.severity != NOTE] == []


def test_the_page_names_every_quality_indicator():
    named = {slo for text in snippets("quality", "yaml") for slo in re.findall(r"indicator: (\w+)", text)}
    assert named == {"accuracy", "precision", "recall", "score", "conversion", "f1", "bleu", "rouge"}


def test_the_judge_and_the_evaluator_of_the_page(monkeypatch, capsys):
    told = queue.Queue()
    monkeypatch.setattr(otelslo, "log_label", lambda name, *, id, truth: told.put((name, id, truth)), raising=False)
    monkeypatch.setattr(otelslo, "log_prediction", lambda name, *, id: told.put((name, id)), raising=False)
    names = {"otelslo": otelslo}
    for text in snippets("hallucination", "python"):
        exec(text.replace('sample="5%"', 'sample="100%"'), names)
    with names["judge"]:
        names["answered"]("a-1", "why?", "because. source: nobody")
        assert {told.get(timeout=60), told.get(timeout=60)} == {("chat", "a-1"), ("chat", "a-1", "supported")}
    event = {"gen_ai.evaluation.name": "Faithfulness", "gen_ai.response.id": "r-1"}
    names["on_event"](event | {"gen_ai.evaluation.score.label": "fail"})
    assert told.get(timeout=60) == ("chat", "r-1", "hallucinated")
    printed = capsys.readouterr().out.strip()
    assert f"`{printed}`" in PAGES["hallucination"].read_text()


@pytest.mark.parametrize("text", [text for name in PAGES for text in snippets(name, "yaml")])
def test_configurations_survive_openslo(text, tmp_path):
    (tmp_path / "slo.yaml").write_text(text)
    slos = config.load(str(tmp_path / "slo.yaml")).slos
    (tmp_path / "written.yaml").write_text(openslo.write(slos))
    back = config.load(str(tmp_path / "written.yaml")).slos
    assert [(slo.name, slo.meaning, slo.options) for slo in back] == [
        (slo.name, slo.meaning, slo.options) for slo in slos
    ]
