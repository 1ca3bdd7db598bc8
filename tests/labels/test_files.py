"""Labels from files: every line is a label, or named with what is wrong with it; counted by whoever there is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli.invoke import invoke

from otelslo import SLO, Engine
from otelslo.clock import SystemClock
from otelslo.errors import BadValue
from otelslo.inbox import Inbox, spools
from otelslo.label_lines import BadLine, from_csv, from_json, from_json_text, guessed_form
from otelslo.label_record import Label, Prediction, encoded
from otelslo.window import DAY_NS

NOW_NS = 1_700_000_000 * 10**9
CONFIG = "slos:\n  - {name: right, indicator: accuracy, target: 90%}\n"


def csv(*lines: str) -> list[Any]:
    return list(from_csv([f"{line}\n" for line in lines], "m", NOW_NS))


def test_a_csv_file_has_ids_truths_and_times() -> None:
    found = csv("id,truth,at", "7,1,", 'a,"spam, eggs",1700000000.5', "b,0,2023-11-14T22:13:20Z", "", "c,1,-1")
    assert found == [
        Label("m", "7", NOW_NS, "1"),
        Label("m", "a", NOW_NS + 500_000_000, "spam, eggs"),
        Label("m", "b", NOW_NS, "0"),
        Label("m", "c", 0, "1"),
    ]
    assert csv("\ufefftruth,id", "1,7") == [Label("m", "7", NOW_NS, "1")]


@pytest.mark.parametrize(
    ("line", "problem", "remedy"),
    [
        ("7", "it has 1 fields, the header 3", "Quote"),
        ("7,1,2,3", "it has 4 fields, the header 3", "Quote"),
        (",1,", "an id of 0 characters", "1 to 200"),
        ("7,,", "the truth is empty", "Leave out"),
        ("7,1,soon", "'soon' is no time", "Unix time"),
        ("7,1,2023-11-14", "'2023-11-14' is no time", "offset"),
        ("7,1,nan", "'nan' is no time", "Unix time"),
    ],
)
def test_a_bad_line_of_csv_is_named_and_the_others_are_taken(line: str, problem: str, remedy: str) -> None:
    first, bad, last = csv("id,truth,at", "1,1,", line, "2,1,")
    assert (first.id, last.id) == ("1", "2")
    assert (bad.line, bad.problem) == (3, problem)
    assert remedy in bad.remedy


@pytest.mark.parametrize("header", ["7,1", "id", "truth", "", "id,truth,when"])
def test_a_header_that_is_none_refuses_the_file(header: str) -> None:
    with pytest.raises(BadValue):
        csv(header, "7,1")


def test_json_lines_and_lists() -> None:
    lines = ['{"id": 7, "truth": true}', "", '[{"id": "a", "truth": 1, "at": 1700000000}]']
    wanted = [Label("m", "7", NOW_NS, True), Label("m", "a", NOW_NS, 1)]
    assert list(from_json(lines, "m", NOW_NS)) == wanted
    assert list(from_json_text("\n".join(lines), "m", NOW_NS)) == wanted
    text = json.dumps([{"id": 7, "truth": True}, {"id": "a", "truth": 1}], indent=2)
    assert list(from_json_text(text, "m", NOW_NS)) == wanted


def test_a_line_ends_where_json_lines_end() -> None:
    odd = "a\u2028b\x85c\u2029d"
    text = f'{{"id": "{odd}", "truth": 1}}\r\n{{"id": 2, "truth": "{odd}"}}\n'
    assert list(from_json_text(text, "m", NOW_NS)) == [Label("m", odd, NOW_NS, 1), Label("m", "2", NOW_NS, odd)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("7", "7 is no object"),
        ('{"truth": 1}', "it has no id"),
        ('{"id": 1, "truth": null}', "it has no truth"),
        ('{"id": 1, "truth": [1]}', "[1] is no class"),
        ('{"id": 1, "truth": NaN}', "nan is no class"),
        ('{"id": true, "truth": 1}', "True is no id"),
        ('{"id": 1, "thruth": 1}', "unknown key 'thruth'"),
        ('{"id": 1, "truth": 1, "model": "m"}', "unknown key 'model'"),
        ('{"id": 1, "truth": 1, "at": []}', "[] is no time"),
        ('{"id": 1, "truth": 1, "at": 1e400}', "inf is no time"),
    ],
)
def test_bad_json_is_named(text: str, problem: str) -> None:
    (bad,) = from_json([text], "m", NOW_NS)
    assert isinstance(bad, BadLine)
    assert bad.problem.startswith(problem)


def test_the_form_is_that_of_the_name_or_of_the_beginning() -> None:
    found = [guessed_form(*one) for one in (("x.csv", "{"), ("x.jsonl", "id"), ("-", ' {"id"'), ("-", "id,truth"))]
    assert found == ["csv", "json", "json", "csv"]


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def logged(make_engine: Any, tmp_path: Any, monkeypatch: Any) -> Engine:
    """An engine that led once, with three predictions that are not counted yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slo.yaml").write_text(CONFIG)
    engine = make_engine(SLO("right", indicator="accuracy", target="90%"), clock=SystemClock())
    engine.runner.tick()
    for n in range(3):
        engine.log_prediction("fraud", id=n, output=1)
    return engine


def left(engine: Engine, *records: Any) -> None:
    """Records that a process has left in the inbox, which has ended."""
    inbox = Inbox(engine.state_dir, lambda *told: pytest.fail(str(told)))
    assert all(map(inbox.put, records))
    inbox.finish()


def kept(engine: Engine) -> list[Any]:
    """All that the database has of labels."""
    store = engine.runner.store
    found = [store._fetch(f"SELECT * FROM {table}", ()) for table in ("label_due", "label_counters", "predictions")]
    store.close()
    return found


def test_where_nobody_leads_the_command_counts(logged: Engine, tmp_path: Any) -> None:
    logged.close()
    (tmp_path / "labels.csv").write_text("id,truth\n0,1\n1,0\n1\n9,1\n")
    done = invoke("label", "fraud", tmp_path / "labels.csv", "--state-dir", logged.state_dir)
    assert done.exit_code == 1
    assert done.stderr == "line 4: it has 1 fields, the header 2. Quote texts that have commas in them\n"
    assert done.stdout.splitlines() == [
        "3 labels of fraud taken, 1 bad lines",
        "  2 labels that were the first of their prediction",
    ]
    again = invoke("label", "fraud", tmp_path / "labels.csv", "--state-dir", logged.state_dir, "--json")
    assert json.loads(again.stdout)["counted"] == {"duplicates": 2}
    found = json.loads(invoke("status", "--state-dir", logged.state_dir, "--json").stdout)
    assert [(one["good"], one["bad"]) for one in found] == [(1, 1)]
    labels = found[0]["labels"]
    assert (labels["predictions"], labels["labelled"], labels["pending"]) == (3, 2, 1)
    assert (labels["coverage"], labels["maturity"]) == (2 / 3, None)
    assert (labels["sli_if_unknown_bad"], labels["sli_if_unknown_good"]) == (1 / 3, 2 / 3)
    told = invoke("status", "--state-dir", logged.state_dir).stdout
    assert "2 of 3 labelled" in told
    assert "SLI 33.3 % to 66.7 %" in told


def test_where_somebody_leads_labels_are_his(logged: Engine, tmp_path: Any) -> None:
    logged.runner.tick()
    (tmp_path / "labels.jsonl").write_text('{"id": 0, "truth": 1}\n')
    done = invoke("label", "fraud", tmp_path / "labels.jsonl", "--state-dir", logged.state_dir, "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["taken"], told["counted"]) == (1, {})
    assert "leading worker" in told["waits"]
    logged.runner.tick()
    assert logged.runner.store.labels.counters()["fraud"]["labels"] == 1


def test_a_file_without_a_header_is_refused_whole(logged: Engine, tmp_path: Any) -> None:
    logged.close()
    (tmp_path / "labels.csv").write_text("0,1\n1,0\n")
    done = invoke("label", "fraud", tmp_path / "labels.csv", "--state-dir", logged.state_dir)
    assert done.exit_code == 2
    assert "no column 'id'" in done.stderr
    assert "id,truth,at" in done.stderr


def test_without_the_objectives_labels_wait(logged: Engine, tmp_path: Any) -> None:
    logged.close()
    (tmp_path / "labels.csv").write_text("id,truth\n0,1\n")
    (tmp_path / "slo.yaml").write_text("slos: 7")
    done = invoke("label", "fraud", tmp_path / "labels.csv", "--state-dir", logged.state_dir)
    assert done.exit_code == 0
    assert "not counted yet: no worker runs, and the objectives are not known here" in done.stderr
    assert len(spools(logged.state_dir)) == 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, ["there is no configuration here with an objective about the model 'fraud'", "--config"]),
        ("slos:\n  - {name: up}\n", ["slo.yaml has no objective about the model 'fraud'", "start the service"]),
        (
            "slos:\n  - {name: right, indicator: accuracy, match: {route: frauds}}\n",
            ["slo.yaml has no objective about the model 'fraud'. Did you mean 'frauds'?", "OTELSLO_CONFIG"],
        ),
    ],
)
def test_by_a_configuration_without_the_objective_nothing_is_counted(
    logged: Engine, tmp_path: Any, config: str | None, said: list[str]
) -> None:
    logged.close()
    left(logged, Prediction("fraud", "0", SystemClock().wall_ns(), 1, None, {}))
    before = kept(logged)
    (tmp_path / "slo.yaml").unlink()
    if config is not None:
        (tmp_path / "slo.yaml").write_text(config)
    (tmp_path / "labels.csv").write_text("id,truth\n0,1\n")
    done = invoke("label", "fraud", tmp_path / "labels.csv", "--state-dir", logged.state_dir)
    assert done.exit_code == 0
    assert all(text in done.stderr for text in ["not counted yet: no worker runs", *said])
    assert (len(spools(logged.state_dir)), kept(logged)) == (3, before)
    (tmp_path / "service.yaml").write_text(CONFIG)
    arguments = ("--state-dir", logged.state_dir, "--config", tmp_path / "service.yaml", "--json")
    done = invoke("label", "fraud", tmp_path / "labels.csv", *arguments)
    counted = json.loads(done.stdout)["counted"]
    assert counted == {"repeated": 1, "labels": 1, "duplicates": 1}


def test_a_model_that_no_objective_of_the_leader_is_about_is_a_slip(make_engine: Any, tmp_path: Any) -> None:
    about = SLO("right", indicator="accuracy", match={"route": "fraud"})
    engine = make_engine(about, clock=SystemClock())
    engine.runner.tick()
    (tmp_path / "labels.csv").write_text("id,truth\n0,1\n")
    done = invoke("label", "fruad", tmp_path / "labels.csv", "--state-dir", engine.state_dir)
    assert done.exit_code == 2
    assert "no objective in force is about the model 'fruad'. Did you mean 'fraud'?" in done.stderr
    assert spools(engine.state_dir) == []


def test_where_nobody_leads_history_stays_as_long_as_the_configuration_says(logged: Engine, tmp_path: Any) -> None:
    logged.close()
    old_ns = SystemClock().wall_ns() - 60 * DAY_NS
    left(logged, Prediction("fraud", "old", old_ns, 1, None, {}), Label("fraud", "old", old_ns, 1))
    (tmp_path / "slo.yaml").write_text(
        "retention: 90d\nslos:\n  - {name: right, indicator: accuracy, label_within: 80d, target: 90%}\n"
    )
    (tmp_path / "labels.csv").write_text("id,truth\nold,0\n")
    for counted in ({"predictions": 1, "labels": 1, "corrections": 1}, {"duplicates": 1}):
        done = invoke("label", "fraud", tmp_path / "labels.csv", "--state-dir", logged.state_dir, "--json")
        assert json.loads(done.stdout)["counted"] == counted
    assert len(logged.runner.store._fetch("SELECT * FROM label_slots WHERE slot_wall_ns <= ?", (old_ns,))) == 1


@pytest.mark.parametrize("arguments", [["fraud"], ["fraud", "-", "--purge"], ["", "-"]])
def test_usage(arguments: list[str], logged: Engine) -> None:
    assert invoke("label", *arguments, "--state-dir", logged.state_dir).exit_code == 2


def test_nothing_there_is_said(tmp_path: Any) -> None:
    done = invoke("label", "fraud", "-", "--state-dir", tmp_path / "none")
    assert done.exit_code == 2
    assert "there is no such state directory" in done.stderr


def test_purge(logged: Engine) -> None:
    logged.runner.tick()
    logged.close()
    done = invoke("label", "fraud", "--purge", "--state-dir", logged.state_dir)
    assert done.stdout == "3 predictions of fraud are deleted; what was counted of them stays\n"


def test_the_doctor_knows_what_waits_and_what_became_of_labels(logged: Engine) -> None:
    logged.runner.tick()
    logged.log_label("fraud", id=0, truth=1)
    told = invoke("doctor", "--state-dir", logged.state_dir, "--json").stdout
    found = [one for one in json.loads(told)["findings"] if one["area"] == "labels"]
    assert [one["text"] for one in found] == [
        "3 predictions are kept, 0 labels wait for theirs",
        "fraud: 3 predictions taken in",
        f"{len(encoded(Label('fraud', '0', NOW_NS, 1)))} bytes of the inbox are not counted yet",
    ]
    logged.close()
