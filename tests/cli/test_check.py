"""`otelslo check`: good files are explained exactly, bad ones refused with file, line and remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

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
    keys = {"name": "a", "target": '"99.9%"'} | ({} if "calendar" in lines else {"window": "30d"}) | lines
    return "slos:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in keys.items()) + "\n"


def test_budgets_are_told_in_time_of_the_window_and_of_a_mean_month(written) -> None:
    result = run(written(GOOD))
    assert result.exit_code == 0
    assert "43 min 12 s of 30 d; 43 min 49 s of a mean month" in result.output
    assert "99.9% = 999/1000" in result.output
    assert "at or under 200ms" in result.output
    assert "route /checkout/*" in result.output


def test_options_are_shown_as_they_are_written(written) -> None:
    """What is a mapping or a list in the file is one here, in text and in JSON."""
    path = written(
        slo(
            indicator="drift",
            target='"90%"',
            window="364d",
            match="{route: fraud}",
            baseline="live:5000",
            features="{age: numeric, country: categorical}",
            measure="{name: kl, direction: live_from_baseline, unit: nats}",
            limit="0.1",
            tells="[weekly-kl]",
        )
    )
    measure, features = "{name: kl, direction: live_from_baseline, unit: nats}", "{age: numeric, country: categorical}"
    shown = " ".join(invoke("check", path, columns=300).stdout.split())
    assert f"drift: measure {measure}, limit 0.1, baseline live:5000, features {features}, tells [weekly-kl]" in shown
    (found,) = json.loads(run(path, "--json").stdout)
    assert (found["options"]["measure"], found["options"]["tells"]) == (measure, "[weekly-kl]")


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


def test_a_calendars_budget_is_of_the_period_that_holds_now(written) -> None:
    (day,) = json.loads(run(written(slo(calendar="day")), "--json").output)
    assert day["budget"]["window_s"] == 86.4
    assert day["budget"]["text"].startswith("1 min 26 s of 1 d (this day); ")
    (month,) = json.loads(run(written(slo(calendar="month")), "--json").output)
    assert 28 * 86.4 <= month["budget"]["window_s"] <= 31 * 86.4


def test_slices_an_sla_alerts_and_who_is_told_are_part_of_the_promise(written) -> None:
    tiers = "{fast: {severity: page, long: 10m, short: 2m, factor: 20}, ticket-slow: off}"
    path = written(
        slo(budgeting="timeslices", slice="1m", slice_target='"95%"', target='"99%"', sla='"98.5%"', notify="[ops]")
        + f"    alerts: {{no_data: 1h, tiers: {tiers}}}\n"
        + "channels: {ops: {log: {}}, other: {log: {}}}\n"
    )
    output = " ".join(run(path).output.split())
    assert "99% = 99/100 of 1m slices with 95% good over 30d" in output
    assert "empty slices are left out" in output
    assert "SLA 98.5%" in output
    assert "fast (burn > 20 in 10m and 2m)" in output
    assert "ticket-slow" not in output
    assert "no-data (for 1h), budget-exhausted, exclusion-share told ops" in output
    assert "alerts off" in " ".join(run(written(slo(alerts='"off"'))).output.split())


CHANNELS = {
    "an option that cannot be meant": ('{url: "http://hooks.example.com/slo"}', "error: ", 2, "allow_http: true"),
    "an unknown option": ('{url: "https://hooks.example.com/slo", secrt: 1}', "error: ", 2, "Did you mean 'secret'?"),
    "a secret of the workers": ('{url: "env:NO_SUCH_HOOK"}', "note: ", 0, "is not set here; the workers need it"),
}


@pytest.mark.parametrize(("options", "severity", "code", "said"), CHANNELS.values(), ids=CHANNELS.keys())
def test_a_channel_that_cannot_be_made_is_said_before_somebody_is_to_be_woken(
    written, options: str, severity: str, code: int, said: str
) -> None:
    path = written(slo() + f"channels:\n  ops: {{webhook: {options}}}\n")
    result = run(path)
    assert result.exit_code == code
    assert result.stderr.startswith(f"{severity}{path}:6:")
    assert said in result.stderr
    assert result.stdout.startswith("✗" if code else "✓")


def test_code_is_imported_from_this_directory_as_a_server_does(written, monkeypatch) -> None:
    written("def age(): ...\n", "models_of_mine.py")
    path = written(slo() + "limits:\n  - {name: model-age, limit: 90d, value: models_of_mine:age}\n")
    before = list(sys.path)
    assert run(path).exit_code == 0
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "models_of_mine")


def test_rules_show_what_counts_as_what(written) -> None:
    result = run(written(GOOD), "--rules")
    for words in ("client_error", "unauthorised", "crashed", "health_check", "after 200ms"):
        assert words in result.output
    listed = json.loads(run(written(GOOD), "--rules", "--json").output)[0]["rules"]
    assert {"happened": "5xx: answered with a server error", "outcome": "bad", "reason": "5xx"} in listed


def test_an_objective_about_predictions_speaks_of_them(written) -> None:
    """Of models and labels; nothing about requests, health checks or workers."""
    path = written(slo(indicator="precision", positive="1", label_within="7d", match="{route: fraud}"))
    text = " ".join(run(path, "--rules").stdout.split())
    assert "good is precision: positive 1, label_within 7d" in text
    assert "applies to predictions with route fraud" in text
    assert "not_positive: predicted as another class excluded not_positive" in text
    assert "page" not in text
    assert "worker" not in text
    assert "health" not in text


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
    "calendar window": (slo(calendar="moon"), 4, "Did you mean 'month'?"),
    "two windows": (slo(calendar="month", window="30d"), 5, "Leave one out"),
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


@pytest.mark.parametrize(
    ("sla", "said"),
    [("99.5%", "looser,"), ("99.9%", "as tight as the target,"), ("99.95%", "tighter than the target,")],
)
def test_an_sla_is_called_what_it_is(written, sla, said) -> None:
    assert f"SLA {sla}, {said} shown beside" in " ".join(run(written(slo(sla=f'"{sla}"'))).output.split())


def test_how_long_an_alert_waits_is_shown(written) -> None:
    tier = "{tiers: {page-fast: {for: 2m}, page-slow: off, ticket-fast: off, ticket-slow: off}}"
    shown = " ".join(run(written(slo(alerts=tier))).output.split())
    assert "page-fast (burn > 14.4 in 1h and 5m, for 2m)" in shown


# ── what the linter finds ──────────────────────────────────────────────────────────────────────────────────────────
def findings(*arguments: str) -> list[dict]:
    """Of the first objective, without its notes."""
    return [one for one in json.loads(run(*arguments, "--json").output)[0]["findings"] if one["severity"] != "note"]


def test_findings_have_their_line_and_column_in_the_list(written) -> None:
    path = written(slo(sla='"99.95%"', group_by="[route, tenant]"))
    found = findings(path)
    assert [(one["severity"], one["rule"], one["place"], one["path"]) for one in found] == [
        ("error", "sla-not-looser", f"{path}:5:10", ["sla"]),
        ("warning", "unbounded-group", f"{path}:6:15", ["group_by"]),
    ]
    assert all(one["problem"] and one["remedy"] for one in found)


def test_what_is_not_written_is_placed_at_its_objective(written) -> None:
    path = written(slo())
    notes = json.loads(run(path, "--json").output)[0]["findings"]
    assert {(one["rule"], one["place"]) for one in notes} == {
        ("no-runbook", f"{path}:2:5"), ("unheard", f"{path}:2:5"),
    }  # fmt: skip


def test_what_stands_for_all_objectives_is_placed_there(written) -> None:
    always = '{start: "2026-01-01 00:00", duration: 24h, rrule: "FREQ=DAILY", timezone: UTC}'
    policy = '  - {name: a, when: {remaining: "< 50%"}}\n  - {name: b, when: {remaining: "< 5%"}}\n  - {name: c}\n'
    path = written(slo() + f"policy:\n{policy}maintenance: [{always}]\n")
    assert {one["rule"]: one["place"] for one in findings(path)} == {
        "always-maintained": f"{path}:9:14", "shadowed-step": f"{path}:7:5",
    }  # fmt: skip


def test_exit_codes_with_and_without_strict(written) -> None:
    warned, wrong = written(slo(group_by="tenant")), written(slo(sla='"99.95%"'), "wrong.yaml")
    fine = written(GOOD, "fine.yaml")
    assert [run(path).exit_code for path in (fine, warned, wrong)] == [0, 0, 2]
    assert [run(path, "--strict").exit_code for path in (fine, warned, wrong)] == [0, 1, 2]
    assert [run(path, "--strict", "--json").exit_code for path in (fine, warned, wrong)] == [0, 1, 2]


def test_findings_are_shown_after_the_objectives_and_the_same_only_once(written) -> None:
    text = slo(group_by="tenant") + "".join(f"  - {{name: b{days}, window: {days}d}}\n" for days in range(2, 8))
    output = run(written(text)).output
    shown = " ".join(output[output.index("warning: ") :].split())
    assert "warning: nothing says which values tenant has" in shown
    assert shown.count("does not say what they are to do") == 1
    assert shown.endswith("1 warning, 20 notes")
    assert "and 4 more" in shown


def test_a_python_files_findings_name_the_objective(written) -> None:
    path = written('from otelslo import SLO\nslos = [SLO("a", sla="99.95%", notify=["ops"])]\n', "mine.py")
    assert [(one["rule"], one["place"]) for one in findings(path)] == [
        ("sla-not-looser", "SLO 'a'.sla"), ("unheard", "SLO 'a'.notify"),
    ]  # fmt: skip
    assert run(path).exit_code == 2


def test_openslo_documents_have_places_too(written) -> None:
    """Those that we write; beside them, what is found goes to the other stream."""
    first = run(written(slo(sla='"99.95%"', match='{route: "/healthz"}')), "--openslo")
    assert first.exit_code == 2
    assert "error: " in first.stderr
    assert "never have an event" in first.stderr
    path = written(first.stdout, "openslo.yaml")
    lines = first.stdout.splitlines()
    places = {one["rule"]: one["place"] for one in findings(path)}
    assert "/healthz" in "".join(lines[int(places["no-events"].split(":")[1]) - 1 :][:2])
    assert "99" in lines[int(places["sla-not-looser"].split(":")[1]) - 1]


# ── an app's routes ────────────────────────────────────────────────────────────────────────────────────────────────
APPS = {
    "starlette": """\
        from starlette.applications import Starlette
        from starlette.routing import Mount, Route, WebSocketRoute
        from otelslo.asgi import SLOMiddleware
        shop = [Route("/checkout/{id}", print, methods=["POST"]), WebSocketRoute("/talk", print)]
        app = SLOMiddleware(Starlette(routes=[Mount("/v1", routes=shop)]))
        """,
    "fastapi": """\
        from fastapi import APIRouter, FastAPI
        from otelslo.asgi import SLOMiddleware
        print("imported")
        router = APIRouter(prefix="/v1")
        @router.post("/checkout/{id}")
        async def checkout(id): ...
        @router.websocket("/talk")
        async def talk(): ...
        def make():
            app = FastAPI()
            app.include_router(router)
            app.add_middleware(SLOMiddleware)
            return app
        """,
    "flask": """\
        from flask import Flask
        from otelslo.wsgi import SLOMiddleware
        app = Flask(__name__)
        app.add_url_rule("/v1/checkout/<int:id>", view_func=print, methods=["POST"])
        app.wsgi_app = SLOMiddleware(app.wsgi_app)
        """,
    "django": """\
        from django.conf import settings
        settings.configured or settings.configure(ROOT_URLCONF=__name__, USE_I18N=True, LANGUAGE_CODE="en")
        from django.core.wsgi import get_wsgi_application
        from django.urls import path
        from otelslo.wsgi import SLOMiddleware
        urlpatterns = [path("v1/checkout/<int:id>", print)]
        application = SLOMiddleware(get_wsgi_application())
        """,
    "declared": """\
        from otelslo.asgi import SLOMiddleware
        async def mine(scope, receive, send): ...
        app = SLOMiddleware(mine, routes=["/v1/checkout/{id}"])
        """,
}
NAMES = {"fastapi": "make()", "django": "application"}


@pytest.mark.parametrize("framework", APPS)
def test_objectives_are_compared_with_an_apps_routes(written, framework: str) -> None:
    """In a process of its own, as an app is imported once."""
    if framework != "declared":
        pytest.importorskip(framework, reason=f"{framework} is not installed")
    written(dedent(APPS[framework]), "shop.py")
    written(slo(match='{route: "/v1/checkout/*"}') + '  - {name: b, match: {route: "/v2/*"}}\n')
    command = [sys.executable, "-m", "otelslo", "check", "--json", "--app", f"shop:{NAMES.get(framework, 'app')}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = json.loads(answer.stdout)
    assert "no-route" not in [one["rule"] for one in first["findings"]]
    (found,) = [one for one in second["findings"] if one["rule"] == "no-route"]
    assert found["problem"] == "no route of the app matches /v2/*"
    assert found["place"] == "slo.yaml:6:30"
    assert not Path(".otelslo").exists()


BAD_APPS = {
    "no import path": ("shop", "", "Write package.module:name"),
    "not there": ("shop:app", "", "cannot be imported"),
    "one that raises": ("shop:app", "1 / 0", "ZeroDivisionError"),
    "a factory that raises": ("shop:make()", "def make(a): ...", "Does it need arguments?"),
    "no app": ("shop:app", "app = 1", "no routes can be read"),
    "an app without a router": ("shop:app", "async def app(scope, receive, send): ...", "SLOMiddleware with routes"),
}


@pytest.mark.parametrize(("path", "text", "said"), BAD_APPS.values(), ids=BAD_APPS.keys())
def test_an_app_whose_routes_cannot_be_read_is_an_error(written, monkeypatch, path: str, text: str, said: str) -> None:
    written(text, "shop.py")
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    result = run(written(slo()), "--app", path)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --app: ")
    assert said in result.stderr
    assert "OTELSLO_DISABLED" not in os.environ


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


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_limits_are_linted_at_their_lines(written) -> None:
    path = written("limits:\n  - name: drift\n    limit: 0\n    severity: page\n")
    (limit,) = json.loads(run(path, "--json").output)
    assert {one["rule"]: one["place"] for one in limit["findings"]} == {
        "zero-limit": f"{path}:3:12",
        **dict.fromkeys(("never-stale", "no-runbook", "unheard"), f"{path}:2:5"),
    }
    assert "every value above 0 breaches it" in " ".join(run(path).output.split())
