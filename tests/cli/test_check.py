"""`otelslo check`: good files are explained exactly, bad ones refused with file, line and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from .invoke import invoke

GOOD = """\
slos:
  - name: checkout-availability
    target: "99.9%"
    window: 30d
    match: {route: "/checkout/*"}
  - name: search-latency
    indicator: latency
    threshold: 200ms
    target: "95%"
    window: 28d
    group_by: [route]
"""


def run(*arguments: str) -> Result:
    return invoke("check", *arguments)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a configuration and gives its path; nothing of the surroundings counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTELSLO_CONFIG", raising=False)

    def write(text: str | bytes, name: str = "slo.yaml") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def slo(**lines: str) -> str:
    """One SLO, a key a line from line 2 on: name first."""
    keys = {"name": "a", "target": '"99.9%"', "window": "30d"} | lines
    return "slos:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in keys.items()) + "\n"


def test_budgets_are_told_in_time_of_the_window_and_of_a_mean_month(written) -> None:
    result = run(written(GOOD))
    assert result.exit_code == 0
    assert "43 min 12 s of 30 d; 43 min 49 s of a mean month" in result.output
    assert "99.9% = 999/1000" in result.output
    assert "at or under 200ms" in result.output
    assert "route /checkout/*" in result.output


def test_json_is_a_list_with_exact_targets(written) -> None:
    first, second = json.loads(run(written(GOOD), "--json").output)
    assert (first["name"], first["target"], first["target_num"], first["target_den"]) == (
        "checkout-availability", "99.9%", 999, 1000,
    )  # fmt: skip
    assert first["budget"] == {
        "window_s": 2592.0,
        "mean_month_s": 2629.746,
        "text": "43 min 12 s of 30 d; 43 min 49 s of a mean month",
    }
    assert second["threshold_ns"] == 200_000_000
    assert "rules" not in first


def test_rules_show_what_counts_as_what(written) -> None:
    result = run(written(GOOD), "--rules")
    for words in ("client_error", "unauthorised", "crashed", "health_check", "after 200ms"):
        assert words in result.output
    listed = json.loads(run(written(GOOD), "--rules", "--json").output)[0]["rules"]
    assert {"happened": "5xx: answered with a server error", "outcome": "bad", "reason": "5xx"} in listed


def test_the_file_is_found_by_environment_then_name_then_there_is_a_default(written, monkeypatch) -> None:
    assert "no configuration found" in run().output
    written(GOOD)
    assert "search-latency" in run().output
    monkeypatch.setenv("OTELSLO_CONFIG", written(slo(name="from-env"), "other.yaml"))
    assert "from-env" in run().output


BAD = {
    "target 0": (slo(target="0"), 3, "promises nothing"),
    "target 0 %": (slo(target='"0%"'), 3, "promises nothing"),
    "target 100 %": (slo(target='"100%"'), 3, "no error budget"),
    "target 1": (slo(target="1"), 3, "no error budget"),
    "target with a comma": (slo(target='"99,9"'), 3, "Use a point"),
    "target 1.5": (slo(target="1.5"), 3, "between 0% and 100%"),
    "target 99.9 without %": (slo(target="99.9"), 3, 'Did you mean "99.9%"?'),
    "unknown key": (slo(tagret='"99%"'), 5, "Did you mean 'target'?"),
    "unknown key at the top": ("slo:\n  - name: a\n", 1, "Did you mean 'slos'?"),
    "unknown indicator": (slo(indicator="latncy"), 5, "Did you mean 'latency'?"),
    "latency without threshold": (slo(indicator="latency"), 2, "Add threshold: 200ms"),
    "two of a name": (slo() + "  - name: A\n", 5, "Give each a name of its own"),
    "no name": ("slos:\n  - indicator: availability\n", 2, "Add name"),
    "a name with spaces": (slo(name='"a b"'), 2, "Use letters, digits"),
    "window without unit": (slo(window="30"), 4, "30d"),
    "window too short": (slo(window="5s"), 4, "Use 1m at least"),
    "window too long": (slo(window="900d"), 4, "Use 400d at most"),
    "window negative": (slo(window='"-30d"'), 4, "above zero"),
    "window of a month": (slo(window="1month"), 4, "30d"),
    "calendar window": (slo(calendar="moon"), 5, "Did you mean 'month'?"),
    "not a list": ("slos: {name: a}\n", 1, "slos:"),
    "empty": ("", 1, "slos:"),
    "a key twice": (slo() + "    window: 7d\n", 5, "Keep one"),
    "a tab": ("slos:\n\t- name: a\n", 2, "Indent with spaces"),
    "broken quotes": ('slos:\n  - name: "a\n', None, "quotes"),
    "a bare percent": ("slos:\n  - name: a\n    target: %99\n", 3, "quotes"),
    "not UTF-8": (b"slos:\n  - name: \xff\n", 2, "UTF-8"),
}


@pytest.mark.parametrize(("text", "line", "remedy"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_refused_with_place_and_remedy(written, text, line, remedy) -> None:
    path = written(text)
    result = run(path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {path}:{'' if line is None else f'{line}:'}")
    assert remedy in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there(written, tmp_path: Path) -> None:
    result = run(str(tmp_path / "missing.yaml"))
    assert result.exit_code == 2
    assert "missing.yaml" in result.stderr
    assert "Check the path" in result.stderr


@pytest.mark.parametrize("name", ["demo", "check", "status"])
def test_every_command_helps_with_an_example(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert f"otelslo {name}" in result.output.split("Example")[1]


def test_the_group_shows_all_commands_and_the_version() -> None:
    assert {"demo", "check", "status"} <= set(invoke("--help").output.split())
    assert "otelslo" in invoke("--version").output
    assert invoke("stauts").exit_code == 2
