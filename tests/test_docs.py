"""The documents say what is true: every snippet of the README runs, every command and indicator is named."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from otelslo import Counts, config, default, indicators
from otelslo.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def snippets(language: str) -> list[str]:
    return [text for kind, text in SNIPPETS if kind == language]


def python_with(part: str) -> str:
    (found,) = [text for text in snippets("python") if part in text]
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("otelslo.default._engine", [])


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


def test_every_snippet_is_known_to_a_test() -> None:
    assert [kind for kind, _ in SNIPPETS] == [
        *("sh", "sh", "python", "python", "sh", "yaml", "sh", "python", "python", "python", "python"),
        *("yaml", "sh", "python"),
        *("yaml", "python", "sh"),
    ]


def test_wrapping_an_app_and_asking_for_its_status() -> None:
    app = Starlette(routes=[Route("/hello", hello)])
    exec(python_with("app.add_middleware"), {"app": app})
    with TestClient(app) as client:
        assert client.get("/hello").status_code == 200
    (line,) = [line for text in snippets("sh") for line in text.splitlines() if line.startswith("otelslo status")]
    shown = subprocess.run([sys.executable, "-m", *shlex.split(line)], capture_output=True, text=True, check=True)
    assert "availability" in shown.stdout


def test_wrapping_a_wsgi_app() -> None:
    flask = pytest.importorskip("flask", reason="needs flask")
    app = flask.Flask("shop")
    app.add_url_rule("/items/<int:number>", "item", lambda number: str(number))
    exec(python_with("app.wsgi_app"), {"app": app})
    with closing(app.wsgi_app.engine):
        assert app.test_client().get("/items/7").data == b"7"
        (status,) = app.wsgi_app.engine.status()
        assert status.counts.good == 1
        assert "/items/<int:number>" in {one.name for one in app.wsgi_app.engine.traffic()}


def test_the_configuration_is_good_and_explained() -> None:
    text, _, _ = snippets("yaml")
    Path("slo.yaml").write_text(text)
    assert [slo.name for slo in config.load().slos] == ["checkout-availability", "search-latency"]
    line = next(line for text in snippets("sh") for line in text.splitlines() if line.startswith("otelslo check"))
    command = shlex.split(line, comments=True)
    shown = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True)
    assert "unauthorised" in shown.stdout


def test_deciding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command of the second part, one after the other, on what an engine has counted."""
    monkeypatch.setenv("OPS_HOOK_SECRET", "a secret that is long enough to be one")
    _, text, _ = snippets("yaml")
    Path("slo.yaml").write_text(text)
    with default.engine() as engine:
        for _ in range(10):
            engine.record(engine.call_site("http", "/checkout/{cart}", "GET"), "good", 0)
        engine.runner.tick()
        exec(python_with("budget_allows"), {})
        assert capsys.readouterr().out == "try the new ranking\n"
        (commands,) = [text for text in snippets("sh") if "otelslo gate" in text]
        codes = {}
        for line in commands.splitlines():
            command = shlex.split(line, comments=True)
            ran = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
            codes[command[1]] = (ran.returncode, ran.stdout + ran.stderr)
    assert {name: code for name, (code, _) in codes.items()} == {
        "gate": 3,  # nothing was ever asked of search-minutes
        "explain": 0,
        "exclude": 0,
        "annotate": 0,
        "check": 0,
    }, codes


def test_what_a_model_server_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prediction and its label, as the README logs them, are counted by the leader; so is who served them."""
    monkeypatch.setattr("otelslo.probing.Probing.tend", lambda *_: None)  # nobody answers there
    _, _, text = snippets("yaml")
    Path("slo.yaml").write_text(text)
    with default.engine() as engine:
        exec(python_with("otelslo.log_prediction"), {})
        engine.runner.tick()
        engine.runner.tick()
        found = {status.slo: status.counts for status in engine.status()}
    assert found["fraud-precision"] == Counts(good=1)
    assert found["fraud-is-fresh"] == Counts(good=1)


@pytest.mark.parametrize(
    "start", ["otelslo label fraud", "otelslo model list", "otelslo drift baseline", "otelslo capacity chat-load"]
)
def test_the_commands_for_models_know_their_options(start: str) -> None:
    """They are refused for what is not there (a file, a state), and for nothing else."""
    (line,) = [line for text in snippets("sh") for line in text.splitlines() if line.startswith(start)]
    ran = subprocess.run(
        [sys.executable, "-m", *shlex.split(line, comments=True)], capture_output=True, text=True, check=False
    )
    assert "No such option" not in ran.stderr
    assert "unexpected extra argument" not in ran.stderr
    assert "Traceback" not in ran.stderr


def test_objectives_in_python() -> None:
    names: dict[str, object] = {"app": Starlette(routes=[Route("/search", hello)])}
    exec(python_with("checkout = SLO("), names)
    edge = names["app"]
    with TestClient(edge) as client:
        client.get("/search")
        assert [status.counts.good for status in edge.engine.status()] == [0, 1]


def test_what_the_app_says() -> None:
    async def model(request: Request) -> list[str]:
        return []

    names: dict[str, object] = {"model": model, "JSONResponse": JSONResponse}
    exec(python_with("async def recommend"), names)
    app = Starlette(routes=[Route("/recommend", names["recommend"])])
    exec(python_with("app.add_middleware"), {"app": app})
    with TestClient(app) as client:
        assert client.get("/recommend").status_code == 200
        (status,) = app.middleware_stack.app.engine.status()
        assert (status.counts.good, status.counts.bad) == (0, 1)


def test_tracked_functions_and_blocks() -> None:
    Path("slo.yaml").write_text("slos:\n  - {name: calls, match: {kind: call}, group_by: route}\n")
    names: dict[str, object] = {}
    exec(python_with("def recommend(user)"), names)
    with default.engine() as engine:
        assert [names["recommend"](user) for user in ("ann", None)] == [["book"], ["book"]]
        found = {status.group: (status.counts.good, status.counts.bad) for status in engine.status()}
    assert found == {"route=recommender": (2, 0), "route=rerank": (1, 1)}


def test_call_sites(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(python_with('engine.track("rerank"'), names)
    names["engine"].close()
    assert float(capsys.readouterr().out) == 1.0


def test_the_two_commands_stand_as_lines_of_their_own() -> None:
    lines = [line for text in snippets("sh") for line in text.splitlines()]
    assert "pip install . && otelslo demo" in lines
    assert "pip install -e '.[dev]' && pytest" in lines


@pytest.mark.parametrize("page", ["uptime", "saturation"])
def test_the_objectives_of_a_page_about_an_indicator_can_be_had(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And every option of the indicator is in it."""
    monkeypatch.setattr("otelslo.readings._readings", {})
    if page == "saturation":
        pytest.importorskip("psutil", reason="memory is measured by psutil")
    text = (ROOT / "docs" / "indicators" / f"{page}.md").read_text()
    Path("slo.yaml").write_text("".join(re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)))
    assert {slo.indicator for slo in config.load().slos} == {page}
    assert all(f"`{option}`" in text for option in indicators.load(page).OPTIONS)
    for python in re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        exec(python, {"queue": []})


def test_every_command_is_named_and_explains_itself() -> None:
    for command in COMMANDS:
        assert f"otelslo {command}" in README
        shown = subprocess.run(
            [sys.executable, "-m", "otelslo", command, "--help"], capture_output=True, text=True, check=True
        )
        assert "Example" in shown.stdout


def test_pictures_are_there() -> None:
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture


def test_the_changelog_has_the_form_that_it_claims() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security",
    }  # fmt: skip
