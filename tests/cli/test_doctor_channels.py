"""`otelslo doctor`: channels that can be made or not, a test that arrives or not, notices that wait, time zones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from channels.hook import hooked
from exporters.receiver import status

from otelslo import SLO, Engine, ManualClock
from otelslo.cli import doctor_channels
from otelslo.cli.doctor_zones import zones
from otelslo.notice import EVENTS, SEVERITIES, Notice

from .invoke import invoke

SECOND_NS = 1_000_000_000
OBJECTIVES = "slos: [{name: answers, target: 90%, match: {kind: call}}]\n"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("OTEL_", "OTELSLO_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    clock = ManualClock()
    slo = SLO("answers", target="90%", match={"kind": "call"})
    with Engine([slo], state_dir=tmp_path / "state", clock=clock, runner=False) as made:
        made.runner.tick()
        yield made


def configure(tmp_path: Path, **channels: Any) -> None:
    (tmp_path / "slo.yaml").write_text(f"channels: {json.dumps(channels)}\n{OBJECTIVES}")


def found(area: str, *arguments: str) -> list[dict[str, Any]]:
    result = invoke("doctor", "--state-dir", "state", "--json", *arguments)
    return [one for one in json.loads(result.stdout)["findings"] if one["area"] == area]


def states(findings: list[dict[str, Any]]) -> dict[str, str]:
    return {one["facts"]["channel"]: one["state"] for one in findings if "channel" in one["facts"]}


# ── channels ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_without_channels_it_is_the_log(engine: Engine) -> None:
    (one,) = found("channels")
    assert (one["state"], "the log of the app" in one["text"]) == ("ok", True)


def test_each_channel_is_made_and_nothing_is_sent(engine: Engine, tmp_path: Path, monkeypatch) -> None:
    with hooked() as hook:
        webhook = {"url": hook.url, "allow_http": True, "allow_private": True}
        configure(
            tmp_path,
            good={"webhook": webhook},
            secret={"webhook": webhook | {"secret": "env:OPS_SECRET"}},
            wrong={"webhook": {"url": "ftp://nowhere"}},
        )
        findings = found("channels")
        assert states(findings) == {"good": "ok", "secret": "problem", "wrong": "problem"}
        assert "OPS_SECRET is not set" in next(one["text"] for one in findings if "secret" in one["text"])
        assert any("the workers run others: log" in one["text"] for one in findings)
        monkeypatch.setenv("OPS_SECRET", "do-not-tell")
        findings = found("channels")
        assert states(findings)["secret"] == "ok"
        assert "do-not-tell" not in json.dumps(findings)
        assert invoke("doctor", "--state-dir", "state").exit_code == 1
        assert hook.bodies == []


def test_a_test_arrives_or_not(engine: Engine, tmp_path: Path) -> None:
    with hooked() as hook, hooked(status(503)) as busy:
        options = {"allow_http": True, "allow_private": True}
        configure(
            tmp_path,
            good={"webhook": {"url": hook.url} | options},
            busy={"webhook": {"url": busy.url} | options},
            gone={"webhook": {"url": "http://127.0.0.1:9/"} | options},
            log={"log": {}},
        )
        findings = found("channels", "--test-channels")
        assert states(findings) == {"good": "ok", "busy": "problem", "gone": "problem", "log": "ok"}
        (told,) = hook.told
        assert (told["event"], told["severity"]) == ("test", "info")
        assert told["key"] == next(one["facts"]["key"] for one in findings if one["facts"].get("channel") == "good")
        found("channels", "--test-channels")
        assert len({told["key"] for told in hook.told}) == 2
    refused = next(one for one in findings if one["facts"].get("channel") == "busy")
    assert "503" in refused["text"]
    assert "try again" in refused["remedy"]


def test_a_test_that_cannot_be_sent_is_no_success(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text("slos: [{name: answers, good: 'never_to_be_imported:good'}]\n")
    (one,) = found("channels")
    assert one["state"] == "note"
    (one,) = found("channels", "--test-channels")
    assert (one["state"], "nothing was sent" in one["text"]) == ("problem", True)


def test_a_channel_from_elsewhere_that_fails_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        def send(self, notice: Notice, deadline_ns: int) -> None:
            raise KeyError("odd")

        def close(self, deadline_ns: int) -> None:
            raise RuntimeError

    def create(name: str, options: object) -> Odd:
        if options:
            raise TypeError("odd options")
        return Odd()

    monkeypatch.setattr("otelslo.channels.load", lambda kind: create)
    chosen = {"a": ("odd", {}), "b": ("odd", {"x": 1})}
    told = list(doctor_channels.configured(chosen, ["a", "b"], test=True))
    assert [one.state for one in told] == ["problem", "problem"]
    assert "KeyError" in told[0].text
    assert "TypeError" in told[1].text


def test_the_test_is_a_notice() -> None:
    notice = doctor_channels.test_notice(7)
    assert Notice.from_json(notice.to_json()) == notice
    assert notice.event in EVENTS
    assert notice.severity in SEVERITIES
    assert len(notice.key) == 32


# ── notices ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_notices_that_wait(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = found("notices")
    assert (one["state"], one["facts"]) == ("ok", {"waiting": 0})
    wall_ns, notes = engine.clock.wall_ns(), engine.runner.store.notes
    monkeypatch.setattr("time.time_ns", lambda: wall_ns + 20 * SECOND_NS)
    notes.post([("1", "ops", "{}"), ("2", "ops", "{}"), ("3", "am", "{}")], wall_ns)
    (one,) = found("notices")
    assert one["state"] == "note"
    assert "2 for ops, the oldest made 20 s ago" in one["text"]
    assert one["facts"]["waiting"] == 3
    assert one["facts"]["channels"]["am"] == {"waiting": 1, "since_wall_ns": wall_ns}
    (first, *_) = notes.parcels()
    notes.not_delivered(first.id, wall_ns, "answered 503", wall_ns)
    (one,) = found("notices")
    assert (one["state"], "Last error: answered 503" in one["text"]) == ("note", True)
    monkeypatch.setattr("time.time_ns", lambda: wall_ns + 3600 * SECOND_NS)
    (one,) = found("notices")
    assert (one["state"], "tried 1 time" in one["text"]) == ("problem", True)


# ── time zones ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_source_of_time_zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    host = tmp_path / "zoneinfo"
    (host / "Europe").mkdir(parents=True)
    (host / "Europe" / "Paris").write_bytes(b"TZif")
    (one,) = zones([str(tmp_path / "empty"), str(host)])
    assert (one.state, one.facts["source"], one.facts["version"]) == ("ok", str(host), None)
    (host / "tzdata.zi").write_text("# version 2025b\n# This zic input file is in the public domain.\n")
    (one,) = zones([str(host)])
    assert one.facts["version"] == "2025b"
    (one,) = zones([])
    assert (one.state, one.facts["source"]) == ("ok", "tzdata")
    monkeypatch.setattr("otelslo.cli.doctor_zones._package", lambda: None)
    (one,) = zones([str(tmp_path / "empty")])
    assert (one.state, "tzdata" in one.remedy) == ("problem", True)
