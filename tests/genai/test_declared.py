"""What `gen_ai:` of a configuration may say, and what is refused, with its place and the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otelslo import DefinitionError, config
from otelslo.genai.declared import GenAI
from otelslo.genai.instruments import INSTRUMENTS

SLOS = "slos:\n  - {name: done, target: 99%, match: {kind: call}}\n"
GOOD = "gen_ai:\n  - operation: chat\n    provider: openai\n"


def load(tmp_path: Path, text: str) -> tuple[GenAI, ...]:
    path = tmp_path / "slo.yaml"
    path.write_text(SLOS + text)
    return config.load(path).gen_ai


def test_off_by_default(tmp_path: Path) -> None:
    assert load(tmp_path, "") == ()


def test_a_declaration(tmp_path: Path) -> None:
    more = "    match: {kind: http, route: '/v1/*', method: POST}\n    side: client\n    model: m\n    models: [n]\n"
    (found,) = load(tmp_path, GOOD + more)
    assert (found.operation, found.provider, found.model, found.side) == ("chat", "openai", "m", "client")
    assert found.covers.covers("http", "/v1/chat", "post", "")
    assert not found.covers.covers("call", "/v1/chat", "post", "")
    assert found.attributes({}) == ("chat", "openai", "m")
    told = {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "p", "gen_ai.request.model": "n"}
    assert found.attributes(told) == ("embeddings", "p", "n")
    assert found.attributes({"gen_ai.request.model": "of a client"}) == ("chat", "openai", "_OTHER")


@pytest.mark.parametrize(
    ("text", "line", "problem", "remedy"),
    [
        ("gen_ai: yes\n", 3, "no list", "gen_ai:\n  - match"),
        ("gen_ai: [chat]\n", 3, "'chat' is no declaration", "operation: chat"),
        ("gen_ai:\n  - provider: openai\n", 4, "it has no operation", "Add operation: chat"),
        ("gen_ai:\n  - operation: chat\n", 4, "it has no provider", "Add provider: openai"),
        (GOOD + "    side: sever\n", 6, "'sever' is no side", "Did you mean 'server'?"),
        (GOOD + "    modle: x\n", 6, "unknown key 'modle'", "Did you mean"),
        (GOOD + "    model: 4\n", 6, "4 is a number", "Write a text"),
        (GOOD + "    model: ''\n", 6, "a text of 0 characters", "1 to 100"),
        (GOOD + "    models: []\n", 6, "the list is empty", "name at least one"),
        (GOOD + "    match: chat\n", 6, "'chat' is no mapping", "match: {route: chat}"),
        (GOOD + "    match: {kind: websocket}\n", 6, "no model is called by kind websocket", "call or http"),
        (GOOD + "    match: {host: a}\n", 6, "host cannot be told here", "kind, route and method"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str, line: int, problem: str, remedy: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        load(tmp_path, text)
    assert f"slo.yaml:{line}:" in str(refused.value)
    assert problem in str(refused.value)
    assert remedy in str(refused.value)


def test_the_page_of_documentation_is_right(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "gen_ai.md").read_text()
    (snippet,) = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    (found,) = load(tmp_path, snippet)
    assert found.attributes({}) == ("chat", "vllm", "llama-3.1-8b")
    assert [one.name for one in INSTRUMENTS if f"| `{one.name}` |" not in text] == []


def test_in_python(tmp_path: Path) -> None:
    path = tmp_path / "slos.py"
    path.write_text("from otelslo import SLO, GenAI\nslos = [SLO('done')]\ngen_ai = [GenAI('chat', 'openai')]\n")
    assert config.load(path).gen_ai == (GenAI("chat", "openai"),)
    path.write_text("from otelslo import SLO\nslos = [SLO('done')]\ngen_ai = ['chat']\n")
    with pytest.raises(DefinitionError, match="no list of GenAI"):
        config.load(path)
