"""Alertmanager: what is posted, and what a real one then tells a receiver behind it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from exporters.receiver import PATIENCE_S, status
from live.servers import until

from channels.hook import DAY, NOTICE, NOW, Hook, S, hooked, notice, soon
from otelslo.channels import SendFailed, alertmanager
from otelslo.channels.alertmanager import alert
from otelslo.errors import DefinitionError
from otelslo.notice import Notice

BINARY = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
real = pytest.mark.skipif(BINARY is None, reason="no Alertmanager: apt-get install prometheus-alertmanager")


# ── what is posted ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_firing_alert_ends_in_the_far_future() -> None:
    given = alert(NOTICE, NOW + 5 * S, 365 * DAY)
    assert given["labels"] == {
        "alertname": "page-fast",
        "slo": "checkout",
        "group": "route=/pay",
        "severity": "page",
        "owner": "pay",
    }
    assert given["annotations"] == {
        "because": "money",
        "runbook_url": "https://example.com/runbook",
        "summary": NOTICE.title,
        "description": NOTICE.text,
        "otelslo_key": NOTICE.key,
    }
    assert given["startsAt"] == "2027-01-15T07:59:00.000000000Z"
    assert given["endsAt"] == "2028-01-15T08:00:05.000000000Z"


def test_a_resolved_alert_ends_when_it_was_decided_under_the_same_labels() -> None:
    given = alert(notice(event="resolved", at_wall_ns=NOW + 1), NOW + DAY, 365 * DAY)
    assert given["labels"] == alert(NOTICE, NOW, DAY)["labels"]
    assert given["endsAt"] == "2027-01-15T08:00:00.000000001Z"
    stepped = alert(notice(event="resolved", at_wall_ns=NOW - DAY), NOW, DAY)
    assert stepped["endsAt"] == stepped["startsAt"]  # Alertmanager refuses an end before the start


@pytest.mark.parametrize("event", ["override", "policy", "test"])
def test_what_is_of_one_moment_ends_by_itself_and_is_told_each_time(event) -> None:
    first, second = (alert(notice(event=event, key=key * 32), NOW, 365 * DAY) for key in "ab")
    assert first["labels"] != second["labels"]
    assert first["endsAt"] == "2027-01-15T08:15:00.000000000Z"


def test_labels_have_names_that_every_alertmanager_takes() -> None:
    odd = notice(labels={"k8s.io/app": "x", "1st": "y", "": "z", "empty": ""}, group=None, annotations={"a b": "c"})
    labels = alert(odd, NOW, DAY)["labels"]
    assert labels == {
        "alertname": "page-fast",
        "slo": "checkout",
        "severity": "page",
        "k8s_io_app": "x",
        "_1st": "y",
        "_": "z",
    }
    assert alert(odd, NOW, DAY)["annotations"]["a_b"] == "c"


def test_it_is_posted_to_the_api() -> None:
    with hooked() as hook:
        base = f"http://127.0.0.1:{hook.server_port}"
        for url in (base, f"{base}/", f"{base}/prefix", f"{base}/prefix/"):
            alertmanager.create("am", {"url": url}).send(NOTICE, soon())
        assert hook.paths == ["/api/v2/alerts"] * 2 + ["/prefix/api/v2/alerts"] * 2
        assert [told["labels"]["alertname"] for told in hook.told[0]] == ["page-fast"]
        hook.answer = status(400, b"bad label")
        with pytest.raises(SendFailed, match="bad label") as refused:
            alertmanager.create("am", {"url": base}).send(NOTICE, soon())
        assert not refused.value.retryable


def test_bad_options_are_refused_with_a_remedy() -> None:
    for options, wanted in (
        ({}, "it has no url"),
        ({"url": "http://localhost:9093", "hold": "0s"}, "zero"),
        ({"url": "http://localhost:9093", "password": "hunter2", "username": "me"}, "a secret is not written here"),
        ({"url": "http://localhost:9093", "allow_http": True}, "unknown key 'allow_http'"),
    ):
        with pytest.raises(DefinitionError) as refused:
            alertmanager.create("am", options)
        assert wanted in str(refused.value)


# ── a real one ─────────────────────────────────────────────────────────────────────────────────────────────────────
CONFIG = """
global: {resolve_timeout: 1s}
route: {receiver: hook, group_by: [alertname, slo, group], group_wait: 0s, group_interval: 50ms, repeat_interval: 1h}
receivers:
  - name: hook
    webhook_configs: [{url: "http://127.0.0.1:%d/", send_resolved: true}]
"""


class Manager:
    """A running Alertmanager."""

    def __init__(self, where: Path, port: int) -> None:
        assert BINARY is not None
        self.url = f"http://127.0.0.1:{port}"
        command = [BINARY, f"--config.file={where}/am.yml", f"--storage.path={where}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
        with (where / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self._log = where / "log"

    def wait(self) -> None:
        until(self._is_ready, "Alertmanager is ready", PATIENCE_S)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=PATIENCE_S).close()
        except OSError:
            return False
        return True

    def alerts(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=PATIENCE_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


@contextmanager
def managed(where: Path, hook: Hook) -> Iterator[Manager]:
    (where / "am.yml").write_text(CONFIG % hook.server_port)
    manager = Manager(where, free_port())
    try:
        manager.wait()
        yield manager
    finally:
        manager.stop()


def free_port() -> int:
    with hooked() as other:
        return other.server_port


def seen(hook: Hook) -> list[tuple[str, str]]:
    """(status, our key) of what the receiver behind it was told."""
    return [(each["status"], each["annotations"]["otelslo_key"]) for told in hook.told for each in told["alerts"]]


def at(wall_ns: int, event: str, key: str, **changes: Any) -> Notice:
    since = {"since_wall_ns": wall_ns - 60 * S, "at_wall_ns": wall_ns}
    return notice(event=event, key=key * 32, **{**since, **changes})


@real
def test_firing_and_resolved_are_seen_behind_a_real_one(tmp_path) -> None:
    now_ns = time.time_ns() - 10 * S
    with hooked() as hook, managed(tmp_path, hook) as manager:
        channel = alertmanager.create("am", {"url": manager.url})
        for _ in range(3):  # a notice that comes again is no news
            channel.send(at(now_ns, "firing", "a"), soon())
        hook.wait_until(lambda hook: seen(hook) == [("firing", "a" * 32)])
        (active,) = manager.alerts()
        assert active["status"]["state"] == "active"
        assert active["endsAt"] > time.strftime("%Y-%m-%d", time.gmtime(now_ns / S + 300 * 86_400))
        for _ in range(2):
            channel.send(at(now_ns + S, "resolved", "b"), soon())
        hook.wait_until(lambda hook: ("resolved", "b" * 32) in seen(hook))
        channel.send(at(now_ns + 3 * S, "firing", "c", since_wall_ns=now_ns + 2 * S), soon())  # and once more
        hook.wait_until(lambda hook: ("firing", "c" * 32) in seen(hook))
        assert seen(hook) == [("firing", "a" * 32), ("resolved", "b" * 32), ("firing", "c" * 32)]
        labels = hook.told[0]["alerts"][0]["labels"]
        assert labels == alert(NOTICE, NOW, DAY)["labels"]


@real
def test_a_restarted_one_still_tells_the_end(tmp_path) -> None:
    now_ns = time.time_ns() - 10 * S
    with hooked() as hook:
        with managed(tmp_path, hook) as manager:
            alertmanager.create("am", {"url": manager.url}).send(at(now_ns, "firing", "a"), soon())
            hook.wait_until(lambda hook: seen(hook) == [("firing", "a" * 32)])
        with managed(tmp_path, hook) as manager:
            assert manager.alerts() == []
            alertmanager.create("am", {"url": manager.url}).send(at(now_ns + S, "resolved", "b"), soon())
            hook.wait_until(lambda hook: seen(hook) == [("firing", "a" * 32), ("resolved", "b" * 32)])


@real
def test_odd_texts_are_taken(tmp_path) -> None:
    now_ns = time.time_ns() - 10 * S
    odd = {"group": "route=/\ud800\x00é", "labels": {"team.name": "x" * 5000, "1": "a\nb"}, "text": ""}
    with hooked() as hook, managed(tmp_path, hook) as manager:
        channel = alertmanager.create("am", {"url": manager.url})
        channel.send(at(now_ns, "firing", "a", **odd), soon())
        channel.send(at(now_ns, "test", "b", alert="test", slo="", group=None), soon())
        hook.wait_until(lambda hook: sorted(seen(hook)) == [("firing", "a" * 32), ("firing", "b" * 32)])
