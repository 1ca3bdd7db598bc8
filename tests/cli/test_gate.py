"""`otelslo gate`: what goes, what does not, and that not knowing is a no."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from otelslo import SLO, Engine
from otelslo.cli import gate as command
from otelslo.cli import gate_answer, override, state
from otelslo.cli.gate_answer import answer
from otelslo.errors import StateError
from otelslo.exporters.sqlite_reader import Reader
from otelslo.kernels import layout as at
from otelslo.notice import Notice
from otelslo.ring.check import check

from .invoke import invoke
from .turned import SECOND_NS, advance, turned

DAY_S = 86_400
CALLS = {"kind": "call"}
SLOS = [
    SLO("pay", target="90%", match={"kind": "call", "route": "pay"}, owner="shop", notify=["ops"]),
    SLO("find", target="50%", match={"kind": "call", "route": "find"}),
]


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    """Starts an engine, and the gate goes by its clock; `days` later, by default when a window has been seen whole."""
    with ExitStack() as stack:

        def begin(*slos: SLO, days: int = 30) -> Engine:
            engine = stack.enter_context(turned(monkeypatch, tmp_path / "state", *slos))
            monkeypatch.setattr(command, "SystemClock", lambda: engine.clock)
            advance(engine, s=days * DAY_S)
            return engine

        yield begin


@pytest.fixture
def engine(begun: Callable[..., Engine]) -> Engine:
    """Two objectives with a good event each."""
    made = begun(*SLOS)
    record(made, "pay", good=1)
    record(made, "find", good=1)
    return made


def record(engine: Engine, name: str, good: int = 0, bad: int = 0) -> None:
    track = engine.track(name)
    for outcome, count in (("good", good), ("bad", bad)):
        for _ in range(count):
            engine.record(track, outcome, 1_000)
    engine.housekeeping()
    engine.runner.tick()


def gate(engine: Engine, *arguments: object, columns: int = 100) -> Result:
    return invoke("gate", "--state-dir", engine.state_dir, *arguments, columns=columns)


def told(engine: Engine, *arguments: object) -> dict:
    """The JSON, whose exit code is the process's."""
    result = gate(engine, "--json", *arguments)
    found = json.loads(result.stdout)
    assert found["exit_code"] == result.exit_code
    return found


def steps(found: dict) -> dict[tuple[str, str | None], str]:
    return {(one["slo"], one["group"]): one["step"] for one in found["objectives"]}


def history(engine: Engine) -> Reader:
    return Reader(engine.state_dir / "otelslo.db")


def notices(engine: Engine) -> list[tuple[str, Notice]]:
    parcels = history(engine).notes.parcels()
    assert all(parcel.key == json.loads(parcel.payload)["key"] for parcel in parcels)
    found = [(parcel.channel, Notice.from_json(json.loads(parcel.payload))) for parcel in parcels]
    return [(channel, notice) for channel, notice in found if notice.event == "override"]


def entries(engine: Engine) -> list[str]:
    return [entry.text for entry in history(engine).journal(kind="override")]


def test_go_while_there_is_budget(engine: Engine) -> None:
    result = gate(engine)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "GO  nothing speaks against it"
    found = told(engine)
    assert found["go"] is True
    assert steps(found) == {("pay", None): "free", ("find", None): "free"}
    assert {one["remaining_ratio"] for one in found["objectives"]} == {1.0}


def test_no_go_when_a_budget_is_used_up_and_only_for_that_objective(engine: Engine) -> None:
    record(engine, "pay", bad=1)
    result = gate(engine)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "NO GO  1 of 2 say no: pay (frozen)"
    because = "1 of 0.2 allowed bad events spent, -400.00% of the budget left (asked: <= 0%)"
    assert because in " ".join(result.stdout.split())
    assert gate(engine, "find").exit_code == 0
    assert gate(engine, "find", "pay").exit_code == 1
    assert told(engine, "pay")["objectives"][0]["releases"] == "deny"


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits(engine: Engine, columns: int) -> None:
    record(engine, "pay", bad=1)
    drawn = gate(engine, columns=columns).stdout
    assert max(map(len, drawn.splitlines())) <= columns
    assert "The error budget is used up" in drawn


def test_the_policy_of_the_objective_decides(begun: Callable[..., Engine]) -> None:
    steps_of_own = [
        {"name": "half", "when": {"remaining": "< 50%"}, "releases": "deny", "message": "half is spent"},
        {"name": "unused", "when": {"no_data": True}},
        {"name": "fine"},
    ]
    slo = SLO("pay", target="90%", match=CALLS, policy=steps_of_own)
    engine = begun(slo)
    engine.runner.tick()
    assert (told(engine)["go"], steps(told(engine))) == (True, {("pay", None): "unused"})
    record(engine, "pay", good=19, bad=1)
    assert steps(told(engine)) == {("pay", None): "fine"}
    record(engine, "pay", bad=1)
    found = told(engine)
    assert (found["exit_code"], found["objectives"][0]["message"]) == (1, "half is spent")


def test_a_page_that_fires_stops_it(tmp_path: Path) -> None:
    """As the leader has decided and stored it."""
    policy = [{"name": "on-fire", "when": {"alert": "page"}, "releases": "deny"}, {"name": "fine"}]
    with Engine(
        [SLO("pay", target="99%", match=CALLS, policy=policy)], state_dir=tmp_path / "s", runner=False
    ) as engine:
        record(engine, "pay", good=100, bad=100)
        found = told(engine)
        assert (found["exit_code"], steps(found)) == (1, {("pay", None): "on-fire"})
        assert "firing: page-fast, page-slow" in found["objectives"][0]["because"]


# ── a window that is not full ──────────────────────────────────────────────────────────────────────────────────────
NOT_FULL = "A window that is not full yet is judged as a whole one, at the traffic so far."
TO_DECEMBER_S = 15 * DAY_S + 14 * 3_600  # of the clock's 15 November, ten o'clock
MONTH = SLO("month", target="99.9%", calendar="month", match=CALLS)


def test_one_failure_in_the_first_minute_of_a_month_stops_nothing(begun: Callable[..., Engine]) -> None:
    """Of 100 calls a minute 4,464 may fail in a December; and 0.1 of those that came."""
    engine = begun(MONTH, days=0)
    advance(engine, s=TO_DECEMBER_S)
    record(engine, "a", good=99, bad=1)
    advance(engine, s=60)
    engine.runner.tick()
    drawn = gate(engine).stdout
    assert NOT_FULL in " ".join(drawn.split())
    assert "99.97% left" in drawn
    found = told(engine)
    (line,) = found["objectives"]
    assert (found["go"], line["step"]) == (True, "free")
    assert line["because"] == (
        "1 of 4464 allowed bad events of the month at this traffic spent, 99.97% of the budget left"
    )
    assert line["remaining_ratio"] == line["budget_projected"]["remaining_ratio"] == pytest.approx(4463 / 4464)
    assert (line["budget"]["allowed"], line["budget"]["remaining_ratio"]) == (0.1, -9)
    (status,) = json.loads(invoke("status", "--state-dir", engine.state_dir, "--json").stdout)
    assert all(line[key] == status[key] for key in ("budget", "budget_projected"))


def test_the_same_over_a_whole_window_does(begun: Callable[..., Engine]) -> None:
    engine = begun(SLO("month", target="99.9%", match=CALLS))
    record(engine, "a", good=99, bad=1)
    assert NOT_FULL not in " ".join(gate(engine).stdout.split())
    found = told(engine)
    (line,) = found["objectives"]
    assert (found["exit_code"], line["step"]) == (1, "frozen")
    assert (line["remaining_ratio"], line["budget"]["remaining_ratio"], line["budget_projected"]) == (-9, -9, None)


@pytest.mark.parametrize("columns", [80, 120])
def test_a_budget_that_will_be_used_up_stops_it_before_its_window_is_full(
    begun: Callable[..., Engine], columns: int
) -> None:
    engine = begun(SLO("pay", target="90%", match=CALLS, alerts="off"), days=0)
    record(engine, "pay", good=10, bad=10)
    advance(engine, s=5 * DAY_S)
    engine.runner.tick()
    assert steps(told(engine)) == {("pay", None): "careful"}  # of 120 that would come 12 may fail
    advance(engine, s=DAY_S)
    engine.runner.tick()
    drawn = gate(engine, columns=columns).stdout
    assert max(map(len, drawn.splitlines())) <= columns
    because = "10 of 10 allowed bad events of 30d at this traffic spent, 0.00% of the budget left (asked: <= 0%)"
    assert because in " ".join(drawn.split())
    assert gate(engine).exit_code == 1


def test_groups_together_may_spend_what_each_may_in_sum(begun: Callable[..., Engine]) -> None:
    """One seen for a whole window, the other for an hour of it."""
    engine = begun(SLO("models", target="99%", match=CALLS, group_by="route", alerts="off"), days=0)
    for name, seconds in (("old", 30 * DAY_S), ("new", 0)):
        engine.record(engine.track(name), "excluded", 1_000)
        engine.housekeeping()
        advance(engine, s=seconds)
    record(engine, "old", good=99, bad=1)
    record(engine, "new", good=10)
    advance(engine, s=3_600)
    engine.runner.tick()
    found = told(engine)
    assert steps(found) == {
        ("models", None): "free",
        ("models", "route=old"): "frozen",
        ("models", "route=new"): "free",
    }
    (whole,) = [one for one in found["objectives"] if one["group"] is None]
    assert whole["because"].startswith("1 of 73 allowed bad events of 30d at this traffic spent, 98.63%")
    record(engine, "old", bad=73)
    assert steps(told(engine))["models", None] == "frozen"  # 74 spent, and 1.73 + 72 allowed


# ── not knowing is a no ────────────────────────────────────────────────────────────────────────────────────────────
def test_without_a_state_directory_it_is_not_known(tmp_path: Path) -> None:
    for more, code in (((), 3), (("--on-no-data", "deny"), 3), (("--on-no-data", "allow"), 0)):
        result = invoke("gate", "--state-dir", tmp_path / "nothing", *more)
        assert result.exit_code == code
        assert ("NO GO  no data" in result.stdout) is (code == 3)
        assert ("warning: " in result.stderr) is (code == 0)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("days", [0, 30])
def test_an_objective_without_events_is_not_known(begun: Callable[..., Engine], days: int) -> None:
    engine = begun(*SLOS, days=days)
    record(engine, "pay", good=1)
    result = gate(engine)
    assert result.exit_code == 3
    assert result.stdout.splitlines()[-1] == "NO GO  1 of 2 say no: find (no-data)"
    assert gate(engine, "pay").exit_code == 0
    allowed = gate(engine, "--on-no-data", "allow")
    assert (allowed.exit_code, allowed.stderr) == (0, "warning: no data of find; it goes by --on-no-data allow\n")


def test_what_is_known_to_be_spent_is_more_than_not_known(begun: Callable[..., Engine]) -> None:
    engine = begun(*SLOS)
    record(engine, "pay", good=1, bad=1)
    assert gate(engine).exit_code == 1
    assert gate(engine, "--on-no-data", "allow").exit_code == 1


@pytest.mark.parametrize(("word", "what"), [(at.M_COMMITTED_NS, "last commit"), (at.M_HEARTBEAT_NS, "heartbeat")])
def test_a_state_that_nobody_keeps_is_not_known(engine: Engine, word: int, what: str) -> None:
    engine.ring.put(word, engine.clock.ring_ns() - 61 * SECOND_NS)
    result = gate(engine)
    assert result.exit_code == 3
    assert f"NO GO no data: the {what} is 1 min 1 s old" in " ".join(result.stdout.split())
    assert gate(engine, "--max-age", "90s").exit_code == 0
    assert gate(engine, "--on-no-data", "allow").exit_code == 0


def test_an_old_state_still_says_no_where_not_knowing_is_allowed(engine: Engine) -> None:
    record(engine, "pay", bad=1)
    engine.ring.put(at.M_COMMITTED_NS, engine.clock.ring_ns() - 61 * SECOND_NS)
    assert gate(engine).exit_code == 3
    assert gate(engine, "--on-no-data", "allow").exit_code == 1


def test_a_ring_that_nobody_has_led_is_not_known(tmp_path: Path) -> None:
    with Engine(SLOS, state_dir=tmp_path / "state", runner=False) as engine:
        assert told(engine)["problem"].startswith("nothing was committed yet")


def test_the_history_alone_counts_by_its_age(engine: Engine) -> None:
    engine.close()
    ring = engine.state_dir / "live.ring"
    ring.write_bytes(replace(check(ring), boot_id=b"another boot id!").encode() + ring.read_bytes()[4096:])
    assert gate(engine).exit_code == 0
    view, wall_ns = state.look(engine.state_dir), engine.clock.wall_ns()
    late = answer(view, (), None, 60 * SECOND_NS, wall_ns + 3600 * SECOND_NS, False)
    assert (late.exit_code, late.problem.startswith("the last commit is 1 h")) == (3, True)


def test_a_database_that_cannot_be_read_is_not_known(engine: Engine) -> None:
    """What fires stands only there."""
    (engine.state_dir / "otelslo.db").write_bytes(b"x" * 10_000)
    assert gate(engine).exit_code == 3


# ── groups ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def grouped(begun: Callable[..., Engine]) -> Engine:
    """Of three versions: one is well, one has no budget left; and of a third nothing valid was seen."""
    slo = SLO("models", target="50%", match=CALLS, group_by="route")
    made = begun(slo, SLO("plain", match=CALLS), days=0)
    for name in ("a", "b", "idle"):
        made.record(made.track(name), "excluded", 1_000)
        made.housekeeping()
    advance(made, s=30 * DAY_S)
    record(made, "a", good=8)
    record(made, "b", bad=2)
    return made


def test_each_group_is_asked_and_all_together(grouped: Engine) -> None:
    found = told(grouped, "models")
    assert found["exit_code"] == 1
    assert steps(found) == {
        ("models", None): "free",
        ("models", "route=a"): "free",
        ("models", "route=b"): "frozen",
        ("models", "route=idle"): "no-data",
    }
    assert [one["group"] for one in found["objectives"] if not one["decides"]] == ["route=idle"]


def test_a_group_where_nothing_is_grouped_is_misuse(engine: Engine) -> None:
    result = gate(engine, "--group", "route=a")
    assert result.exit_code == 2
    assert "no SLO in" in result.output
    assert "has such groups" in result.output


def test_one_group(grouped: Engine) -> None:
    assert gate(grouped, "models", "--group", "route=a").exit_code == 0
    assert gate(grouped, "models", "--group", "route=b").exit_code == 1
    assert gate(grouped, "models", "--group", "route=idle").exit_code == 3
    assert gate(grouped, "models", "--group", "route=none").exit_code == 3
    assert gate(grouped, "plain", "--group", "route=a").exit_code == 3


def test_who_has_no_such_group_is_asked_all_the_same(grouped: Engine) -> None:
    result = gate(grouped, "--group", "route=a", "--json")
    found = json.loads(result.output)
    assert {(one["slo"], one["group"]) for one in found["objectives"]} == {("models", "route=a"), ("plain", None)}
    assert result.exit_code == 1  # the other one's budget is used up
    assert gate(grouped, "--group", "version=1").exit_code == 2


def test_crashes_before_a_group_is_known_do_not_stop_it_alone(begun: Callable[..., Engine]) -> None:
    """In the group (unknown) there may be failures only: they count among all."""
    slo = SLO("models", target="50%", match=CALLS, group_by="version")
    engine = begun(slo)
    record(engine, "a", bad=1)
    assert steps(told(engine)) == {("models", None): "frozen"}
    for _ in range(2):
        engine.record(engine.track("a", version="2"), "good", 1_000)
        engine.housekeeping()
    assert steps(told(engine)) == {("models", None): "free", ("models", "version=2"): "free"}


# ── override ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_override_goes_is_recorded_and_told(engine: Engine, monkeypatch) -> None:
    monkeypatch.setattr(override, "who", lambda: "mia")
    record(engine, "pay", bad=1)
    result = gate(engine, "--override", " the fix for\nincident 42 ")
    assert result.exit_code == 0
    assert "GO  by override: the fix for incident 42" in result.stdout
    assert entries(engine) == [
        "mia: the fix for incident 42 (the gate would have said NO GO: 1 of 2 say no: pay (frozen))"
    ]
    ((channel, notice),) = notices(engine)
    assert channel == "ops"
    assert (notice.event, notice.severity, notice.slo, notice.group) == ("override", "info", "pay", None)
    assert (len(notice.key), notice.alert, notice.title) == (32, "gate", "pay: mia overrode the release gate")
    assert notice.text.splitlines()[0] == "Reason: the fix for incident 42"
    assert "frozen, 1 of 0.2 allowed bad events" in notice.text
    assert notice.labels == {"slo": "pay", "alert": "gate", "severity": "info", "owner": "shop"}
    assert (notice.data["who"], notice.data["gate"][0]["step"]) == ("mia", "frozen")


def test_each_objective_s_channels_are_told_by_default_all(engine: Engine) -> None:
    definitions = engine.state_dir / "definitions.json"
    definitions.write_text(json.dumps(json.loads(definitions.read_text()) | {"channels": ["am", "ops"]}))
    record(engine, "pay", bad=1)
    record(engine, "find", bad=5)
    found = told(engine, "--override", "now")
    assert (found["go"], found["would_be"], found["override"]["recorded"]) == (True, 1, True)
    assert sorted((channel, one.slo) for channel, one in notices(engine)) == [
        ("am", "find"),
        ("ops", "find"),
        ("ops", "pay"),
    ]
    assert len({one.key for _, one in notices(engine)}) == 2
    definitions.write_text("{")
    assert override.channels(engine.state_dir) == ("log",)


def test_an_override_of_nothing_is_recorded_and_nobody_is_told(engine: Engine) -> None:
    assert gate(engine, "--override", "just in case").exit_code == 0
    assert [text.split("(")[1] for text in entries(engine)] == [
        "the gate would have said GO: nothing speaks against it)"
    ]
    assert notices(engine) == []


def test_an_override_of_not_knowing_is_told_of_each_objective(engine: Engine) -> None:
    engine.ring.put(at.M_COMMITTED_NS, engine.clock.ring_ns() - 61 * SECOND_NS)
    assert gate(engine, "--override", "we look at it ourselves").exit_code == 0
    assert {one.slo for _, one in notices(engine)} == {"pay", "find"}
    assert all("the last commit is" in one.text for _, one in notices(engine))


def test_groups_that_stop_it_are_told_together(grouped: Engine) -> None:
    record(grouped, "a", bad=9)
    assert gate(grouped, "models", "--override", "yes").exit_code == 0
    ((_, notice),) = notices(grouped)
    assert notice.group is None
    assert [line.split(":")[0] for line in notice.text.splitlines()[1:]] == ["models", "route=a", "route=b"]


def test_what_cannot_be_recorded_does_not_go(engine: Engine, tmp_path: Path, monkeypatch) -> None:
    result = invoke("gate", "--state-dir", tmp_path / "nothing", "--override", "go")
    assert result.exit_code == 1
    assert "NO GO  the override could not be recorded" in result.stdout
    assert not (tmp_path / "nothing").exists()

    def refuse(*_: object) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(override, "record", refuse)
    found = told(engine, "--override", "go")
    assert (found["exit_code"], found["override"]["recorded"]) == (1, False)
    assert "the disk is full" in found["because"]


def test_who_is_the_user_of_the_system(monkeypatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    argv = [sys.executable, "-c", "import pwd, os; print(pwd.getpwuid(os.getuid()).pw_name)"]
    assert override.who() == subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(override.pwd, "getpwuid", unknown)
    assert override.who() == "somebody-else"


# ── usage ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_unknown_name_is_a_usage_error(engine: Engine) -> None:
    for arguments in (("pya",), ("pya", "--on-no-data", "allow"), ("pya", "--override", "go")):
        result = gate(engine, *arguments)
        assert result.exit_code == 2
        assert "There is no SLO 'pya'" in result.stderr
        assert "Did you mean 'pay'?" in " ".join(result.stderr.split())
    assert entries(engine) == []


@pytest.mark.parametrize(
    "arguments",
    [("--max-age", "soon"), ("--max-age", "0s"), ("--override", " "), ("--override", "x" * 501), ("--on-no-data", "x")],
)
def test_bad_options_are_usage_errors(engine: Engine, arguments: tuple[str, str]) -> None:
    assert gate(engine, *arguments).exit_code == 2


def test_what_people_wrote_cannot_draw(tmp_path: Path) -> None:
    policy = [{"name": "stop", "releases": "deny", "message": "\x1b[31mred\n\u202e"}]
    slo = SLO("pay", match=CALLS, policy=policy)
    with Engine([slo], state_dir=tmp_path / "state", runner=False) as engine:
        record(engine, "pay", good=1)
        drawn = gate(engine, "--override", "a\x1b[2Jb").stdout
        assert "\x1b" not in drawn
        assert "\u202e" not in drawn


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom otelslo.cli import main\ntry:\n    main(['gate', '--state-dir', sys.argv[1]])\n"
        "except SystemExit:\n    heavy = ('numba', 'llvmlite', 'numpy', 'opentelemetry', 'sqlite_utils')\n"
        "    print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    with Engine(SLOS, state_dir=tmp_path / "state", runner=False) as engine:
        record(engine, "pay", good=1)
        argv = [sys.executable, "-c", code, str(engine.state_dir)]
        ended = subprocess.run(argv, capture_output=True, text=True, check=True, encoding="utf-8")
    assert ended.stderr.strip() == "[]"
    assert "GO" in ended.stdout


def test_an_answer_without_objectives_is_not_known() -> None:
    assert gate_answer.Answer().exit_code == 3
    assert gate_answer.Answer(allow_no_data=True).exit_code == 0
