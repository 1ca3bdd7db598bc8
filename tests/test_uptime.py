"""The indicator `uptime`: its options, its table, and one event for each due time, by a clock turned by hand."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from cli.invoke import invoke
from conftest import SMALL
from drive import advance
from hypothesis import given, settings
from hypothesis import strategies as st

from otelslo import SLO, Engine, config, openslo
from otelslo.clock import ManualClock
from otelslo.errors import BadValue, DefinitionError
from otelslo.event import Ending, Event
from otelslo.indicators import uptime
from otelslo.slo import rules_table
from otelslo.window import MILLISECOND_NS, SECOND_NS

NOW_NS = 1_800_000_003 * SECOND_NS  # no whole multiple of any interval here
FAILURES = ["refused", "timeout", "status", "wrong_body", "tls", "dns", "no_response", "probe_error"]


def up(name="up", **options):
    slo_keys = {key: options.pop(key) for key in ("threshold", "rules", "maintenance", "group_by") if key in options}
    return SLO(name, indicator="uptime", options={"url": "http://127.0.0.1:8000/"} | options, **slo_keys)


def probed(function, name="up", **options):
    return SLO(name, indicator="uptime", options={"call": function, **options})


def turn(engine, *, s=10):
    advance(engine, s=s)
    engine.runner.tick()


def settled(engine, *, s=10):
    """A turn, and what comes of it."""
    turn(engine, s=s)
    assert engine.runner.leader.probing.join(30)


def counts(engine, name="up"):
    (status,) = [one for one in engine.status() if one.slo == name]
    return status.counts.good, status.counts.bad, status.counts.excluded


def reasons(engine, name="up"):
    found = {}
    for row in range(engine.ring.reader.rows):
        key = engine.ring.reader.row_name(row)
        if key.slo == name:
            found |= {r: n for r, n in zip(key.reasons, engine.ring.reader.cells(row), strict=True) if n}
    return found


class Health:
    """A function that is asked, and what it answers; `hang` has it wait until it may go on."""

    def __init__(self):
        self.asked = 0
        self.answer = True
        self.hang = False
        self.entered, self.go_on = threading.Event(), threading.Event()

    def __call__(self):
        self.asked += 1
        if self.hang:
            self.entered.set()
            assert self.go_on.wait(60)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def leading(make_engine):
    def make(*slos, **arguments):
        engine = make_engine(*slos, **({"clock": ManualClock(NOW_NS)} | arguments))
        settled(engine, s=0)
        return engine

    return make


# ── what may be written ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:8000/health"}, r"SLO 'up'.url: it is no http or https URL. Write one, such as http://127"),
        ({"url": "ftp://127.0.0.1/"}, "it is no http or https URL"),
        ({"url": 8000}, "8000 is no URL"),
        ({"url": "tcp://127.0.0.1"}, "it is no tcp URL. Write host and port, such as tcp://127.0.0.1:6379"),
        ({"url": "tcp://127.0.0.1:99999"}, "it is no tcp URL"),
        ({"url": "tcp://127.0.0.1:6379/0"}, "it is no tcp URL"),
        ({"url": f"http://{'x' * 64}.example.com/"}, "its host cannot be a name"),
        ({"call": "mypackage.nowhere:is_up"}, r"SLO 'up'.call: 'mypackage.nowhere:is_up' cannot be imported"),
        ({"call": "os:sep"}, "'os:sep' is not callable"),
        ({"every": "1s"}, r"SLO 'up'.every: every 1s is out of range. Write 2s to 1h; 10s is usual"),
        ({"every": "2h"}, "every 2h is out of range"),
        (
            {"every": "5s", "timeout": "5s"},
            "a timeout of 5s leaves no time until the next probe. Write a timeout of 4s",
        ),
        ({"timeout": "0s"}, "zero"),
        ({"threshold": "3s"}, "a threshold of 3s is longer than the timeout. Write 2s at most"),
        ({"expect": "ok"}, r"SLO 'up'.expect: 'ok' is no status. Write a status such as 200"),
        ({"expect": 700}, "700 is no status"),
        ({"expect": []}, r"\[\] is no status"),
        ({"url": "tcp://127.0.0.1:6379", "expect": 200}, "expect has a meaning only for an http or https url"),
        ({"url": "tcp://127.0.0.1:6379", "body": "x"}, "body has a meaning only for an http or https url"),
        ({"body": ""}, "'' is no text to look for"),
        ({"retries": 3}, "the indicator 'uptime' has no option 'retries'"),
    ],
)
def test_bad_options_name_place_and_remedy(options, message):
    target = {} if "call" in options else {"url": "http://127.0.0.1:8000/"}
    keys = {key: options[key] for key in ("threshold",) if key in options}
    rest = {key: value for key, value in options.items() if key not in keys}
    with pytest.raises(DefinitionError, match=message):
        SLO("up", indicator="uptime", options=target | rest, **keys)


def test_it_asks_either_a_url_or_a_function():
    for options in ({}, {"url": "http://127.0.0.1/", "call": "gc:isenabled"}):
        with pytest.raises(DefinitionError, match="a probe asks either a url or a function"):
            SLO("up", indicator="uptime", options=options)


def test_an_error_does_not_quote_a_url_with_a_password():
    with pytest.raises(DefinitionError) as refused:
        up(url="http//me:secret@host/")
    assert "secret" not in str(refused.value)
    with pytest.raises(DefinitionError) as refused:
        up(url="tcp://me:secret@host:1")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("key", ["route", "kind", "method", "host"])
def test_there_is_nothing_to_match(key):
    with pytest.raises(DefinitionError, match=rf"SLO 'up'.match.{key}: its events are made for it alone"):
        SLO("up", indicator="uptime", options={"url": "http://127.0.0.1/"}, match={key: "probe"})


def test_in_yaml_its_options_stand_beside_the_others():
    slo = SLO.from_mapping(
        {
            **{"name": "up", "indicator": "uptime", "target": "99%", "url": "https://shop.example.com/healthz"},
            **{"every": "30s", "timeout": "5s", "expect": "200,3xx", "body": "ready", "threshold": "1s"},
        }
    )
    assert slo.option("every") == 30 * SECOND_NS
    assert slo.threshold_ns == SECOND_NS
    assert [status in slo.option("expect") for status in (200, 201, 301, 404)] == [True, False, True, False]


def test_what_it_asks_is_shown_without_a_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("slo.yaml").write_text(
        "slos:\n  - {name: up, indicator: uptime, url: 'https://me:secret@shop.example.com:8443/healthz?key=secret'}\n"
    )
    shown = invoke("check", "--rules", columns=200)
    assert "https://shop.example.com:8443/healthz, every 10s, timeout 2s" in shown.stdout
    assert "secret" not in shown.stdout
    assert "health check" not in shown.stdout
    Path("slo.yaml").write_text("slos:\n  - {name: up, indicator: uptime, url: '127.0.0.1:8000'}\n")
    assert "slo.yaml:2:40: SLO 'up'.url: it is no http or https URL" in invoke("check", columns=200).stderr


def test_openslo_says_the_same(tmp_path):
    path = tmp_path / "slo.yaml"
    slos = [
        up(expect="200,3xx", threshold="1s"),
        SLO("db", indicator="uptime", options={"url": "tcp://127.0.0.1:5432"}),
        SLO("full", indicator="saturation", threshold="80%", options={"gauge": "cpu"}),
        SLO("depth", indicator="saturation", threshold=50, options={"gauge": "depth"}, budgeting="occurrences"),
    ]
    path.write_text(openslo.write(slos))
    assert [slo.definition() for slo in config.load(path).slos] == [slo.definition() for slo in slos]


def test_what_is_probed_belongs_to_its_meaning():
    """A function by its name, the same in each process."""
    assert up().meaning == up().meaning != up(url="http://127.0.0.1:8001/").meaning
    assert (
        SLO("up", indicator="uptime", options={"call": "gc:isenabled"}).definition()["meaning"]
        == (SLO("up", indicator="uptime", options={"call": __import__("gc").isenabled}).definition()["meaning"])
    )


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────
def outcome(slo, latency_ns=1, **facts):
    return tuple(slo.judge(Event("probe", route="up", latency_ns=latency_ns, **facts)).outcome(latency_ns))


@pytest.mark.parametrize("failure", FAILURES)
def test_what_is_wrong_is_bad(failure):
    ending = Ending.COMPLETE if failure in ("status", "wrong_body") else Ending.EXCEPTION
    assert outcome(up(), ending=ending, failure=failure, status=503) == ("bad", failure)


def test_an_answer_is_as_expected_unless_the_probe_says_otherwise():
    assert outcome(up(), status=200) == ("good", "good")
    assert outcome(up(expect=503), status=503) == ("good", "good")


def test_a_threshold_is_exact():
    slow = up(threshold="500ms")
    assert outcome(slow, 500 * MILLISECOND_NS, status=200) == ("good", "good")
    assert outcome(slow, 500 * MILLISECOND_NS + 1, status=200) == ("bad", "slow")
    assert outcome(up(), 10**12, status=200) == ("good", "good")


def test_a_line_can_be_changed():
    slo = up(rules={"503": "excluded:draining", "timeout": "excluded"})
    assert outcome(slo, failure="status", status=503) == ("excluded", "draining")
    assert outcome(slo, failure="status", status=500) == ("bad", "status")
    assert outcome(slo, failure="timeout", ending=Ending.EXCEPTION) == ("excluded", "timeout")
    assert outcome(slo, failure="wrong_body", status=503) == ("bad", "wrong_body")
    assert ("timeout: no answer within the timeout", "excluded", "timeout") in rules_table(slo)


def test_each_usual_reason_has_a_cell():
    assert {"refused", "timeout", "status", "wrong_body", "tls", "dns", "no_response"} <= set(up().reason_cells)
    assert "slow" in up(threshold="1s").reason_cells


def test_options_are_refused_as_bad_values():
    for parse in (uptime.parse_url, uptime.parse_call, uptime.parse_expect, uptime.parse_body, uptime.parse_every):
        with pytest.raises(BadValue):
            parse(None)


# ── one event for each due time ────────────────────────────────────────────────────────────────────────────────────
def test_it_is_asked_at_once_and_then_whenever_it_is_due(leading):
    health = Health()
    engine = leading(probed(health))
    assert (health.asked, counts(engine)) == (1, (1, 0, 0))
    for _ in range(6):
        settled(engine, s=1)
    assert health.asked == 1
    settled(engine, s=1)  # 1_800_000_010: a multiple of 10 s
    assert (health.asked, counts(engine)) == (2, (2, 0, 0))
    health.answer = False
    settled(engine, s=10)
    health.answer = ConnectionRefusedError()
    settled(engine, s=10)
    assert counts(engine) == (2, 2, 0)
    assert reasons(engine) == {"good": 2, "status": 1, "refused": 1}
    assert engine.faults() == {}


@settings(max_examples=30, deadline=None)
@given(
    every_s=st.integers(2, 40),
    steps_ms=st.lists(st.integers(1, 45_000), max_size=40),
    begin_s=st.integers(0, 100),
)
def test_the_naive_count(tmp_path_factory, every_s, steps_ms, begin_s):
    """Of turns at any times: one event for each due time that has a turn before the next."""
    clock = ManualClock(NOW_NS + begin_s * SECOND_NS)
    slo = probed(Health(), every=f"{every_s}s", timeout="1s")
    directory = tmp_path_factory.mktemp("state")
    with Engine([slo], state_dir=directory, clock=clock, runner=False, geometry=SMALL) as engine:
        settled(engine, s=0)
        due = {clock.ring_ns() // (every_s * SECOND_NS)}
        for ms in steps_ms:
            settled(engine, s=ms / 1000)
            due.add(clock.ring_ns() // (every_s * SECOND_NS))
        assert sum(reasons(engine).values()) == reasons(engine)["good"] == len(due)


def test_a_probe_that_hangs_is_bad_once_for_each_due_time(leading):
    """And holds up neither the leader nor another; what it says in the end is not heard."""
    hanging, prompt = Health(), Health()
    hanging.hang = True
    engine = leading()
    engine.reload([probed(hanging, "hangs"), probed(prompt, "prompt")])
    turn(engine, s=0)
    try:
        assert hanging.entered.wait(30)
        turn(engine, s=1)
        assert counts(engine, "hangs") == (0, 0, 0)
        turn(engine, s=1)  # its timeout is over
        assert counts(engine, "hangs") == (0, 1, 0)
        for _ in range(3):
            turn(engine, s=10)
        assert (hanging.asked, counts(engine, "hangs")) == (1, (0, 4, 0))
        assert engine.runner.leading
    finally:
        hanging.go_on.set()
    assert engine.runner.leader.probing.join(30)
    assert counts(engine, "hangs") == (0, 4, 0)
    assert counts(engine, "prompt") == (4, 0, 0)
    hanging.hang = False
    settled(engine)
    assert (hanging.asked, counts(engine, "hangs")) == (2, (1, 4, 0))
    assert reasons(engine, "hangs") == {"good": 1, "timeout": 4}


def test_a_slow_turn_of_the_leader_is_no_slow_probe(leading, monkeypatch):
    """Labels or a locked database take longer than the timeout, and then the probe is sent: its time begins there."""
    health = Health()
    health.hang = True
    engine = leading()
    engine.reload([probed(health)])
    waited_s = [5]
    monkeypatch.setattr(engine.runner.leader.applying, "turn", lambda *_, **__: advance(engine, s=waited_s.pop()))
    turn(engine, s=0)
    assert waited_s == []
    try:
        assert health.entered.wait(30)
        waited_s.append(0)
        turn(engine, s=1)
        assert counts(engine) == (0, 0, 0)
    finally:
        health.go_on.set()
    assert engine.runner.leader.probing.join(30)
    assert reasons(engine) == {"good": 1}


def test_an_answer_after_the_timeout_is_none(leading):
    """At the timeout it still is one."""
    clock = ManualClock(NOW_NS)
    took_ms = [2000, 2001]
    engine = leading(probed(lambda: clock.advance(s=took_ms.pop(0) / 1000)), clock=clock)
    assert counts(engine) == (1, 0, 0)
    settled(engine)
    assert reasons(engine) == {"good": 1, "timeout": 1}


def test_what_a_leader_was_still_asking_is_not_heard(leading):
    health = Health()
    health.hang = True
    engine = leading()
    engine.reload([probed(health)])
    turn(engine, s=0)
    assert health.entered.wait(30)
    probing = engine.runner.leader.probing
    threads = [one.thread for one in probing._probes.values()]
    engine.runner.leader.step_down()
    engine.runner.tick()  # leads again, and asks anew: nothing was counted at this due time
    health.hang = False
    health.go_on.set()
    for thread in threads:
        thread.join(30)
    assert probing.join(30)
    assert (health.asked, counts(engine)) == (2, (1, 0, 0))


def test_the_next_leader_asks_only_what_was_not_counted(make_engine, tmp_path):
    """Two workers of one host; the second takes over in the midst of the interval."""
    clock, healths = ManualClock(NOW_NS), (Health(), Health())
    first, second = (
        make_engine(probed(health, every=every), probed(health, "often", every="4s"), state_dir=tmp_path, clock=clock)
        for health, every in zip(healths, ("20s", "20s"), strict=True)
    )
    for engine in (first, second):
        settled(engine, s=0)
    assert [health.asked for health in healths] == [2, 0]
    first.close()
    settled(second, s=0)
    assert healths[1].asked == 0
    settled(second, s=20)
    assert [counts(second, name) for name in ("up", "often")] == [(2, 0, 0), (2, 0, 0)]


def test_a_new_configuration_takes_probes_over(leading):
    health, other = Health(), Health()
    engine = leading(probed(health))
    engine.reload([probed(health), probed(other, "other")])
    settled(engine, s=0)
    assert (health.asked, other.asked) == (1, 1)
    engine.reload([probed(other, "other")])
    settled(engine)
    assert (health.asked, other.asked) == (1, 2)
    assert [status.slo for status in engine.status()] == ["other"]


def test_objectives_share_nothing(leading):
    health = Health()
    engine = leading(probed(health, "a"), probed(health, "b"), SLO("all", match={"kind": "probe"}), SLO("requests"))
    assert health.asked == 2
    assert [counts(engine, name) for name in ("a", "b", "all", "requests")] == [
        *((1, 0, 0), (1, 0, 0), (2, 0, 0), (0, 0, 0))
    ]


def test_planned_maintenance_excludes_probes(leading):
    health = Health()
    health.answer = False
    start = "2027-01-15 08:00"  # NOW_NS is three seconds after
    slo = SLO(
        "up",
        indicator="uptime",
        options={"call": health},
        maintenance=[{"name": "move", "start": start, "end": "2027-01-15 08:01", "timezone": "UTC"}],
    )
    engine = leading(slo)
    assert counts(engine) == (0, 0, 1)
    settled(engine, s=60)
    assert counts(engine) == (0, 1, 1)


def test_the_first_event_of_a_version_is_in_its_group(leading):
    slo = SLO("up", indicator="uptime", options={"call": Health()}, group_by="version")
    engine = leading(slo, version="v7")
    assert [(status.group, status.counts.good) for status in engine.status() if status.counts.good] == [
        ("version=v7", 1)
    ]


def test_the_first_failure_has_its_exceptions_name(leading):
    health = Health()
    health.answer = ConnectionRefusedError()
    engine = leading(probed(health))
    ((losses, _),) = (engine.ring.reader.losses(block) for block in range(engine.ring.reader.blocks))
    assert [(loss.reason, loss.route, loss.exception) for loss in losses] == [
        ("refused", "up", "ConnectionRefusedError")
    ]


def test_latencies_are_kept_by_its_name(leading):
    clock = ManualClock(NOW_NS)
    engine = leading(probed(lambda: clock.advance(s=0.25)), clock=clock)
    (traffic,) = engine.traffic()
    assert (traffic.kind, traffic.name, traffic.events) == ("probe", "up", 1)


def test_without_a_shared_ring_each_worker_probes_for_itself(leading, tmp_path):
    (tmp_path / "file").write_text("")
    engine = leading(probed(Health()), state_dir=tmp_path / "file")
    assert engine.ring.path is None
    settled(engine)
    assert counts(engine) == (2, 0, 0)


def test_closing_waits_for_no_probe(leading):
    """And a late answer starts nothing."""
    health = Health()
    health.hang = True
    engine = leading()
    engine.reload([probed(health)])
    turn(engine, s=0)
    assert health.entered.wait(30)
    (probe,) = engine.runner.leader.probing._probes.values()
    engine.close()
    assert probe.thread.is_alive()
    health.go_on.set()
    probe.thread.join(30)
    assert not engine.running
    assert sum(reasons(engine).values()) == 0
