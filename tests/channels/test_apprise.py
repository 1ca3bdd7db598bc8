"""Apprise itself, telling a local server by its own `json://`."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from exporters.receiver import ends, hang, status

from channels.hook import NOTICE, Hook, hooked, notice, soon
from otelslo.channels import SendFailed, apprise
from otelslo.errors import DefinitionError

pytest.importorskip("apprise", reason="apprise, the extra otelslo[notify], is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the modules that it loads at first


def channel(hook: Hook, monkeypatch: pytest.MonkeyPatch, path: str = "") -> Any:
    monkeypatch.setenv("CHAT_URL", f"json://127.0.0.1:{hook.server_port}/{path}")
    return apprise.create("chat", {"url": "env:CHAT_URL"})


def test_what_is_told_arrives(monkeypatch) -> None:
    with hooked() as hook:
        mine = channel(hook, monkeypatch)
        for event, severity in (("firing", "page"), ("firing", "ticket"), ("resolved", "page"), ("test", "info")):
            mine.send(notice(event=event, severity=severity), soon())
        assert [told["type"] for told in hook.told] == ["failure", "warning", "success", "info"]
        assert hook.told[0]["title"] == NOTICE.title
        assert "312 bad of 18,040 valid." in hook.told[0]["message"]
        assert "Runbook: https://example.com/runbook" in hook.told[0]["message"]


def test_a_refusal_is_a_failure_that_may_pass(monkeypatch) -> None:
    with hooked(status(500)) as hook:
        mine = channel(hook, monkeypatch)
        with pytest.raises(SendFailed, match="could not deliver") as refused:
            mine.send(NOTICE, soon())
        assert refused.value.retryable


def test_the_deadline_leaves_a_peer_that_hangs_behind(monkeypatch) -> None:
    with hooked(hang) as hook:
        mine = channel(hook, monkeypatch, "?rto=30")
        error = ends(lambda: mine.send(NOTICE, soon(0.3)))
        assert isinstance(error, SendFailed)
        assert "nothing in time" in str(error)
        assert "still on its way" in str(ends(lambda: mine.send(NOTICE, soon())))
        hook.wait_for(1)
        left = mine._running
        hook.released.set()
        left.join(30)
        hook.answer = status(200)
        mine.send(NOTICE, soon())
        assert len(hook.bodies) == 2


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "it has no url"),
        ({"url": "mailto://me:pass@example.com"}, "a secret is not written here"),
        ({"url": "env:NOT_SET_ANYWHERE"}, "is not set"),
        ({"url": "env:NO_SERVICE"}, "not one URL that Apprise knows"),
        ({"url": "env:TWO_SERVICES"}, "not one URL that Apprise knows"),
    ],
)
def test_bad_options_are_refused_with_a_remedy(monkeypatch, options, wanted) -> None:
    monkeypatch.setenv("NO_SERVICE", "nonsense://secret-token")
    monkeypatch.setenv("TWO_SERVICES", "json://a.example, json://b.example")
    with pytest.raises(DefinitionError, match=wanted) as refused:
        apprise.create("chat", options)
    assert "pass@" not in str(refused.value)
    assert "secret-token" not in str(refused.value)


def test_without_apprise_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(DefinitionError, match=r"pip install 'otelslo\[notify\]'"):
        apprise.create("chat", {"url": "env:CHAT_URL"})
