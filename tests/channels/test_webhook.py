"""Webhooks against real servers: what arrives, what each answer means, and what is never connected to."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import time
from typing import Any

import pytest
from exporters.receiver import PATIENCE_S, drip, ends, hang, raw, status

from channels.hook import NOTICE, Names, hooked, make_certificate, notice, soon
from otelslo.channels import SendFailed, webhook
from otelslo.errors import DefinitionError
from otelslo.notice import Notice

LOCAL = {"allow_http": True, "allow_private": True}
ONE_DAY_S = 86_400


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificates"))


def send(url: str, given: Notice = NOTICE, within_s: float = PATIENCE_S, **options: Any) -> None:
    webhook.create("ops", {"url": url, **LOCAL, **options}).send(given, soon(within_s))


def refusal(url: str, within_s: float = PATIENCE_S, **options: Any) -> SendFailed:
    error = ends(lambda: send(url, within_s=within_s, **options))
    assert isinstance(error, SendFailed), error
    assert str(error).isprintable()
    return error


# ── what arrives ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_notice_arrives_whole() -> None:
    with hooked() as hook:
        send(hook.url)
        assert [Notice.from_json(told) for told in hook.told] == [NOTICE]
        assert hook.paths == ["/hook?team=pay"]
        headers = hook.headers[0]
        assert headers["idempotency-key"] == NOTICE.key
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"].startswith("otelslo/")
        assert "x-otelslo-signature" not in headers
        assert "authorization" not in headers


def test_the_key_is_the_same_for_every_try() -> None:
    with hooked() as hook:
        hook.answers = [status(500), status(503), raw(b"")]
        channel = webhook.create("ops", {"url": hook.url, **LOCAL})
        for _ in range(3):
            with pytest.raises(SendFailed) as refused:
                channel.send(NOTICE, soon())
            assert refused.value.retryable
        channel.send(NOTICE, soon())
        assert {headers["idempotency-key"] for headers in hook.headers} == {NOTICE.key}
        assert len(set(hook.bodies)) == 1
        assert len(hook.bodies) == 4


def test_whoever_knows_the_secret_can_check_the_signature(monkeypatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "café")
    with hooked() as hook:
        before_s = int(time.time())
        send(hook.url, secret="env:HOOK_SECRET")
        signed = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", hook.headers[0]["x-otelslo-signature"])
        assert signed is not None
        assert before_s <= int(signed[1]) <= time.time()
        wanted = hmac.new("café".encode(), signed[1].encode() + b"." + hook.bodies[0], hashlib.sha256).hexdigest()
        assert signed[2] == wanted


def test_a_rotated_secret_needs_no_restart(tmp_path) -> None:
    file = tmp_path / "hook"
    file.write_text("first\n")
    with hooked() as hook:
        channel = webhook.create("ops", {"url": hook.url, "secret": f"file:{file}", **LOCAL})
        file.write_text("second\n")
        channel.send(NOTICE, soon())
        signature = hook.headers[0]["x-otelslo-signature"]
        assert signature == webhook.signature("second", int(signature[2:].partition(",")[0]), hook.bodies[0])
        file.unlink()
        with pytest.raises(SendFailed, match="there is no file") as refused:
            channel.send(NOTICE, soon())
        assert refused.value.retryable
        assert len(hook.bodies) == 1


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"token": "env:HOOK_TOKEN"}, "Bearer s3cret"),
        ({"username": "me", "password": "env:HOOK_TOKEN"}, "Basic bWU6czNjcmV0"),
    ],
)
def test_credentials(monkeypatch, options, wanted) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "s3cret")
    with hooked() as hook:
        send(hook.url, **options)
        assert hook.headers[0]["authorization"] == wanted


def test_a_url_from_the_environment_may_hold_a_password(monkeypatch) -> None:
    with hooked() as hook:
        monkeypatch.setenv("OPS_HOOK", hook.url.replace("//", "//me:pass@"))
        send("env:OPS_HOOK")
        assert hook.headers[0]["authorization"] == "Basic bWU6cGFzcw=="
        assert "@" not in hook.headers[0]["host"]


def test_groups_may_be_anything_that_a_client_can_say() -> None:
    odd = notice(group="route=/\ud800\x00\r\nX: y", title="tïtle", data={"deep": {"a": [None, True, 1.5]}})
    with hooked() as hook:
        send(hook.url, odd)
        assert Notice.from_json(hook.told[0]) == odd


def test_what_is_no_json_is_dropped_and_said() -> None:
    with hooked() as hook, pytest.raises(SendFailed, match="cannot be written as JSON") as refused:
        send(hook.url, notice(data={"burn": float("nan")}))
    assert not refused.value.retryable
    assert hook.bodies == []


# ── what an answer means ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_only_a_2xx_is_success(code) -> None:
    with hooked(status(code)) as hook:
        send(hook.url)


@pytest.mark.parametrize("code", [500, 502, 503, 504, 408, 425, 429])
def test_what_may_pass(code) -> None:
    with hooked(status(code, b"busy now")) as hook:
        error = refusal(hook.url)
        assert error.retryable
        assert f"answered {code}: 'busy now'" in str(error)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 413, 422])
def test_what_will_never_pass(code) -> None:
    with hooked(status(code)) as hook:
        assert not refusal(hook.url).retryable


@pytest.mark.parametrize(("code", "text", "wanted"), [(429, "120", 120.0), (503, "7", 7.0), (429, "soon", None)])
def test_retry_after_is_passed_on(code, text, wanted) -> None:
    with hooked(status(code, retry_after=text)) as hook:
        assert refusal(hook.url).retry_after_s == wanted


def test_retry_after_may_be_a_date() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + ONE_DAY_S))
    with hooked(status(429, retry_after=date)) as hook:
        after_s = refusal(hook.url).retry_after_s
    assert after_s is not None
    assert abs(after_s - ONE_DAY_S) < PATIENCE_S


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(code) -> None:
    with hooked() as inner, hooked(status(code, location=inner.url)) as hook:
        error = refusal(hook.url)
        assert not error.retryable
        assert "redirect, which is not followed" in str(error)
        assert inner.connections == 0


def test_the_path_of_a_hook_is_never_shown() -> None:
    with hooked(status(500)) as hook:
        error = refusal(hook.url.replace("/hook", "/T000/secret-path"))
    assert "secret-path" not in str(error)
    assert f"http://127.0.0.1:{hook.server_port} answered 500" == str(error)


# ── peers that misbehave ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "answer",
    [hang, drip(), drip(b"HTTP/1.1 200 OK\r\nx: "), drip(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")],
    ids=["hang", "drip", "drip-head", "drip-body"],
)
def test_the_deadline_ends_everything(answer) -> None:
    with hooked(answer) as hook:
        error = refusal(hook.url, within_s=0.3)
        assert error.retryable
        assert "in time" in str(error)


def test_the_timeout_is_a_deadline_too() -> None:
    with hooked(hang) as hook:
        assert "in time" in str(refusal(hook.url, timeout="300ms"))


@pytest.mark.parametrize("answer", [raw(b""), raw(b"no http at all\r\n\r\n"), raw(b"HTTP/1.1 2")])
def test_a_peer_that_closes_or_speaks_no_http(answer) -> None:
    with hooked(answer) as hook:
        assert refusal(hook.url).retryable


def test_nobody_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        error = refusal(f"http://127.0.0.1:{held.getsockname()[1]}/")
    assert error.retryable
    assert "refused" in str(error)


def test_a_name_that_is_none(monkeypatch) -> None:
    assert refusal("http://hook.invalid/").retryable


# ── TLS ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_over_tls(certificates) -> None:
    with hooked() as hook:
        url = hook.encrypt(certificates)
        send(url, ca_file=str(certificates / "server.crt"), allow_http=False)
        assert len(hook.bodies) == 1
        error = refusal(url, allow_http=False)  # an authority that nobody knows
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert len(hook.bodies) == 1


def test_the_certificate_must_be_of_the_name(monkeypatch, certificates) -> None:
    Names(monkeypatch, hook_example_com=[["127.0.0.1"]], other_example_com=[["127.0.0.1"]])
    with hooked() as hook:
        url = hook.encrypt(certificates)
        authority = str(certificates / "server.crt")
        send(url.replace("127.0.0.1", "hook.example.com"), ca_file=authority)
        error = refusal(url.replace("127.0.0.1", "other.example.com"), ca_file=authority)
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert len(hook.bodies) == 1


# ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_name_that_leads_to_this_host_is_not_connected_to(monkeypatch) -> None:
    Names(monkeypatch, hook_example_com=[["127.0.0.1"]])
    with hooked() as hook:
        url = hook.url.replace("127.0.0.1", "hook.example.com")
        error = refusal(url, allow_private=False)
        assert "hook.example.com is at 127.0.0.1, which is no public address" in str(error)
        assert hook.connections == 0
        send(url)
        assert hook.connections == 1


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.0.0.1"])
def test_other_ways_to_write_a_private_address(host) -> None:
    with hooked() as hook:
        error = refusal(hook.url.replace("127.0.0.1", host), allow_private=False)
        assert "no public address" in str(error)
        assert hook.connections == 0


def test_the_very_address_that_was_checked_is_connected_to(monkeypatch) -> None:
    """A name whose second answer is another one gets no second question."""
    monkeypatch.setattr("otelslo.http_call.is_public", lambda address: address == "127.0.0.1")
    names = Names(monkeypatch, hook_example_com=[["127.0.0.1"], ["127.0.0.2"]])
    with hooked() as hook:
        url = hook.url.replace("127.0.0.1", "hook.example.com")
        send(url, allow_private=False)
        assert names.asked == 1
        assert len(hook.bodies) == 1
        assert "127.0.0.2, which is no public address" in str(refusal(url, allow_private=False))


def test_of_several_addresses_only_the_public_ones_are_tried(monkeypatch) -> None:
    monkeypatch.setattr("otelslo.http_call.is_public", lambda address: address == "127.0.0.1")
    Names(monkeypatch, hook_example_com=[["127.0.0.2", "127.0.0.1"]])
    with hooked() as hook, socket.create_server(("127.0.0.2", hook.server_port)) as private:
        send(hook.url.replace("127.0.0.1", "hook.example.com"), allow_private=False)
        assert len(hook.bodies) == 1
        private.setblocking(False)
        with pytest.raises(BlockingIOError):
            private.accept()


def test_the_proxies_of_the_environment_are_not_used(monkeypatch) -> None:
    with hooked() as proxy, hooked() as hook:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
        send(hook.url)
        assert (proxy.connections, hook.connections) == (0, 1)


def test_a_proxy_that_is_configured(monkeypatch) -> None:
    with hooked() as proxy:
        monkeypatch.setenv("PROXY", f"http://me:pass@127.0.0.1:{proxy.server_port}")
        send("http://hook.invalid/x", proxy="env:PROXY", allow_private=False)
        assert proxy.paths == ["http://hook.invalid/x"]
        assert proxy.headers[0]["proxy-authorization"] == "Basic bWU6cGFzcw=="


# ── options ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "it has no url"),
        ({"url": "http://example.com/x"}, "http:// is not encrypted. Use https://, or write allow_http: true"),
        ({"url": "https://127.0.0.1/x"}, "Write allow_private: true"),
        ({"url": "https://[::1]/x"}, "Write allow_private: true"),
        ({"url": "https://169.254.169.254/latest"}, "Write allow_private: true"),
        ({"url": "https://localhost/x"}, "Write allow_private: true"),
        ({"url": "ftp://example.com"}, "no http or https URL"),
        ({"url": "https://"}, "no http or https URL"),
        ({"url": 7}, "7 is a number"),
        ({"url": ""}, "it is empty"),
        ({"url": "env:NOT_SET_ANYWHERE"}, "env:NOT_SET_ANYWHERE is not set"),
        ({"url": "file:relative"}, "a secret is not written here"),
        ({"url": "https://me:pass@example.com/"}, "a password is not written here"),
        ({"url": "https://example.com", "secret": "s3cret"}, "a secret is not written here"),
        ({"url": "https://example.com", "secret": "file:/not/there"}, "there is no file '/not/there'"),
        ({"url": "https://example.com", "secret": 1234}, "a secret is not written here"),
        ({"url": "https://example.com", "token": "s3cret"}, "a secret is not written here"),
        ({"url": "https://example.com", "username": "me"}, "it has no password"),
        ({"url": "https://example.com", "password": "env:HOME"}, "it has no username"),
        ({"url": "https://example.com", "token": "env:TWO_LINES"}, "cannot be sent as a header"),
        ({"url": "https://example.com", "timeout": "0s"}, "zero"),
        ({"url": "https://example.com", "timeout": "1h"}, "Write 30s at most"),
        ({"url": "https://example.com", "ca_file": "/not/there.pem"}, "Name a file in PEM form"),
        ({"url": "https://example.com", "allow_private": "yes"}, "Write true or false"),
        ({"url": "https://example.com", "proxy": "socks5://x"}, "Give an http:// URL"),
        ({"url": "https://example.com", "secrets": "env:X"}, "Did you mean 'secret'?"),
    ],
)
def test_bad_options_are_refused_with_a_remedy(monkeypatch, options, wanted) -> None:
    monkeypatch.setenv("TWO_LINES", "a\nb")
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    with pytest.raises(DefinitionError) as refused:
        webhook.create("ops", options)
    assert wanted in str(refused.value)
    assert refused.value.path[:3] == ("channels", "ops", "webhook")
    for secret in ("s3cret", "pass@", "1234"):
        assert secret not in str(refused.value)
