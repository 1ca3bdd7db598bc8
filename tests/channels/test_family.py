"""The family of channels: what a configuration may say, what every member keeps, and where secrets come from."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from exporters.receiver import ends

from channels.hook import NOTICE, hooked, notice, soon
from otelslo import channels
from otelslo.channels import SendFailed, create_all, parse_channels
from otelslo.errors import BadValue, DefinitionError, Place, StateError
from otelslo.notice import Notice
from otelslo.secret import secret, text_or_secret

PLACE = Place("file").at("channels")

# Apprise loads a hundred modules at first, some with deprecations of their own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def closed_port():
    """A port where nobody answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def options_of(kind: str, port: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What each kind needs to speak to a server at that port of this host; log needs nothing."""
    monkeypatch.setenv("OTELSLO_TEST_URL", f"json://127.0.0.1:{port}/")
    return {
        "alertmanager": {"url": f"http://127.0.0.1:{port}"},
        "apprise": {"url": "env:OTELSLO_TEST_URL"},
        "webhook": {"url": f"http://127.0.0.1:{port}", "allow_http": True, "allow_private": True},
    }.get(kind, {})


@pytest.fixture(params=channels.members())
def make(request, monkeypatch):
    """`make(port)`: a channel of each kind."""
    if request.param == "apprise":
        pytest.importorskip("apprise", reason="apprise is not installed")

    def create(port: int, **more: object) -> Any:
        return channels.load(request.param)("mine", {**options_of(request.param, port, monkeypatch), **more})

    create.kind = request.param  # type: ignore[attr-defined]
    return create


# ── what every member keeps ────────────────────────────────────────────────────────────────────────────────────────
def test_unknown_options_are_refused(make, closed_port) -> None:
    with pytest.raises(DefinitionError, match="nonsense") as refused:
        make(closed_port, nonsense=1)
    assert refused.value.path == ("channels", "mine", make.kind, "nonsense")


def test_what_is_told_arrives_and_may_come_again(make, caplog) -> None:
    with hooked() as hook, caplog.at_level("INFO"):
        channel = make(hook.server_port)
        for given in (NOTICE, NOTICE, notice(event="resolved"), notice(group=None, text="", severity="info")):
            channel.send(given, soon())
        told = caplog.text if make.kind == "log" else b"".join(hook.bodies).decode()
        assert told.count(NOTICE.title) >= 4


def test_what_does_not_arrive_is_said_in_time(make, closed_port) -> None:
    if make.kind == "log":
        pytest.skip("a log always takes what it is told")
    channel = make(closed_port)
    for _ in range(2):
        error = ends(lambda: channel.send(NOTICE, soon()))
        assert isinstance(error, SendFailed)
        assert error.retryable
        assert str(error)
        assert str(error).isprintable()


def test_a_deadline_that_is_over(make) -> None:
    if make.kind == "log":
        pytest.skip("a log waits for nothing")
    with hooked() as hook:
        channel = make(hook.server_port)
        assert isinstance(ends(lambda: channel.send(NOTICE, soon(0))), SendFailed)


def test_closing_twice_and_never_used(make, closed_port) -> None:
    channel = make(closed_port)
    assert ends(lambda: (channel.close(soon()), channel.close(soon(0)))) is None


# ── the configuration ──────────────────────────────────────────────────────────────────────────────────────────────
def test_channels_are_parsed_and_made() -> None:
    found = parse_channels(
        {"ops": {"webhook": {"url": "https://example.com/x"}}, "log": {"log": {}}, "short": {"log": None}, "s": "log"},
        PLACE,
    )
    assert found == {
        "ops": ("webhook", {"url": "https://example.com/x"}),
        "log": ("log", {}),
        "short": ("log", {}),
        "s": ("log", {}),
    }
    assert set(create_all(found)) == {"ops", "log", "short", "s"}
    assert parse_channels(None, PLACE) == {}


@pytest.mark.parametrize(
    ("value", "path", "wanted"),
    [
        ([], (), "no mapping of channels"),
        ("log", (), "no mapping of channels"),
        ({"ops": {"webhok": {}}}, ("ops", "webhok"), "Did you mean 'webhook'?"),
        ({"ops": {"webhook": {}, "log": {}}}, ("ops",), "is not one kind of channel"),
        ({"ops": {}}, ("ops",), "is not one kind of channel"),
        ({"ops": None}, ("ops",), "is not one kind of channel"),
        ({"ops": {"webhook": "https://x"}}, ("ops", "webhook"), "is no mapping of options"),
        ({"ops": {1: {}}}, ("ops", "1"), "unknown kind of channel 1"),
        ({"": {"log": {}}}, ("",), "no name of a channel"),
        ({"a b": {"log": {}}}, ("a b",), "no name of a channel"),
        ({7: {"log": {}}}, ("7",), "no name of a channel"),
    ],
)
def test_what_is_no_channel_is_refused(value, path, wanted) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_channels(value, PLACE)
    assert wanted in str(refused.value)
    assert refused.value.path == ("channels", *path)
    assert refused.value.remedy


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DefinitionError, match="Did you mean 'alertmanager'"):
        channels.load("alertmanger")
    assert not any("_" in name for name in channels.members())
    assert {"alertmanager", "apprise", "log", "webhook"} <= set(channels.members())


# ── secrets ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_secret_is_read_where_it_stands(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MY_SECRET", "one")
    (tmp_path / "two").write_text("two\r\n")
    assert secret("env:MY_SECRET", PLACE).read() == "one"
    assert secret(f"file:{tmp_path}/two", PLACE).read() == "two"
    assert secret(f"file://{tmp_path}/two", PLACE).read() == "two"
    assert repr(secret("env:MY_SECRET", PLACE)) == "Secret('env:MY_SECRET')"
    assert text_or_secret("env:MY_SECRET", PLACE, "a text").read() == "one"
    assert text_or_secret(" plain ", PLACE, "a text").read() == "plain"
    assert "plain" not in repr(text_or_secret("plain", PLACE, "a text"))


@pytest.mark.parametrize("value", ["hunter2", "", "env:", "env:1A", "env:A B", "file:", "file:a", "ENV:A", None, 5])
def test_a_literal_secret_is_refused_and_not_shown(value) -> None:
    with pytest.raises(DefinitionError, match="env:NAME") as refused:
        secret(value, PLACE)
    assert "hunter2" not in str(refused.value)


def test_a_secret_that_is_not_there(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    for reference, wanted in (
        ("env:EMPTY", "env:EMPTY is not set"),
        (f"file:{tmp_path}/empty", "is empty"),
        (f"file:{tmp_path}/binary", "cannot be read"),
        (f"file:{tmp_path}/pipe", "there is no file"),
        (f"file:{tmp_path}", "there is no file"),
    ):
        error = ends(secret(reference, PLACE).read)
        assert isinstance(error, BadValue)
        assert wanted in str(error)
        assert error.remedy


# ── notices ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_notice_survives_json_and_what_newer_versions_add() -> None:
    assert Notice.from_json(NOTICE.to_json()) == NOTICE
    assert Notice.from_json({**NOTICE.to_json(), "newer": 1}) == NOTICE
    assert Notice.from_json(notice(group=None).to_json()).group is None


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"key": None}, "key is None"),
        ({"group": 7}, "group is 7"),
        ({"at_wall_ns": "x"}, "at_wall_ns is 'x'"),
        ({"since_wall_ns": True}, "since_wall_ns is True"),
        ({"labels": []}, "labels is \\[\\]"),
    ],
)
def test_what_is_no_notice_is_refused(change, wanted) -> None:
    with pytest.raises(StateError, match=wanted):
        Notice.from_json({**NOTICE.to_json(), **change})


def test_no_mapping_is_no_notice() -> None:
    with pytest.raises(StateError, match="is no notice"):
        Notice.from_json([])  # type: ignore[arg-type]


# ── the log ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_log_has_one_record_with_the_fields(caplog) -> None:
    with caplog.at_level("INFO"):
        channel = channels.load("log")("mine", {"logger": "app.slo"})
        for severity, event in (("page", "firing"), ("ticket", "firing"), ("info", "test"), ("page", "resolved")):
            channel.send(notice(severity=severity, event=event), soon())
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "INFO", "INFO"]
    first = caplog.records[0]
    assert first.name == "app.slo"
    assert first.notice == NOTICE.to_json()  # type: ignore[attr-defined]
    assert first.getMessage().split("\n") == [
        f"firing (page): {NOTICE.title}",
        "    2.1 % of the 30-day budget in the last hour.",
        "    312 bad of 18,040 valid.",
        "    Why it matters: money",
        "    Runbook: https://example.com/runbook",
    ]


def test_nobody_writes_lines_of_their_own_into_a_log(caplog) -> None:
    with caplog.at_level("INFO"):
        odd = notice(
            title="x\nCRITICAL root: all is lost\x1b[2J", text="a\rb\x00 100% %s", annotations={"because": "a\rb"}
        )
        channels.load("log")("mine", {}).send(odd, soon())
    lines = caplog.records[0].getMessage().split("\n")
    assert lines == [
        "firing (page): x\\nCRITICAL root: all is lost\\x1b[2J",
        "    a\\rb\\x00 100% %s",
        "    Why it matters: a\\rb",
    ]
