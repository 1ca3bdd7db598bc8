"""Which environment turns OTLP on, and what its variables and the configuration's options mean."""

from __future__ import annotations

import logging
import time

import pytest

from otelslo.errors import DefinitionError, Place
from otelslo.exporters import otlp
from otelslo.exporters.otlp_settings import Settings, settings
from otelslo.http_call import retry_after_s

ALL, METRICS = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
PROTOCOL, METRICS_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
BASE = {ALL: "http://collector:4318"}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(otlp, "_said", set())


def found(env: dict[str, str], **options: object) -> Settings:
    return settings(options, env, Place("exporters").at("otlp"))


# ── on or off ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, False),
        ({ALL: ""}, False),
        (BASE, True),
        ({METRICS: "http://collector/x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector"}, False),
        ({**BASE, "OTEL_METRICS_EXPORTER": "none"}, False),
        ({**BASE, "OTEL_METRICS_EXPORTER": "NONE "}, False),
        ({**BASE, "OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({**BASE, "OTEL_METRICS_EXPORTER": "console, otlp_proto_http"}, True),
        ({**BASE, "OTEL_METRICS_EXPORTER": "prometheus"}, False),
        ({**BASE, "OTEL_SDK_DISABLED": "true"}, False),
        ({**BASE, "OTEL_SDK_DISABLED": "false"}, True),
        ({**BASE, PROTOCOL: "grpc"}, False),
        ({**BASE, PROTOCOL: "http/protobuf"}, True),
        ({**BASE, PROTOCOL: "grpc", METRICS_PROTOCOL: "http/protobuf"}, True),
        ({**BASE, METRICS_PROTOCOL: "grpc"}, False),
    ],
)
def test_which_environment_turns_it_on(env, wanted) -> None:
    assert otlp.wanted(env) is wanted


def test_grpc_is_refused_aloud_but_once(caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="otelslo"):
        for _ in range(3):
            assert not otlp.wanted({**BASE, PROTOCOL: "grpc"})
    assert len(caplog.records) == 1
    assert "http/protobuf" in caplog.text
    assert "4318" in caplog.text


def test_grpc_in_the_environment_and_an_endpoint_in_the_configuration(monkeypatch) -> None:
    monkeypatch.setenv(PROTOCOL, "grpc")
    with pytest.raises(DefinitionError, match="http/protobuf"):
        otlp.create({})
    otlp.create({"endpoint": "http://collector:4318/v1/metrics"})


# ── endpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("env", "host", "port", "target", "tls"),
    [
        ({}, "localhost", 4318, "/v1/metrics", False),
        (BASE, "collector", 4318, "/v1/metrics", False),
        ({ALL: "https://collector/otlp/"}, "collector", 443, "/otlp/v1/metrics", True),
        ({ALL: "http://ignored", METRICS: "http://[::1]:80/push?tenant=7"}, "::1", 80, "/push?tenant=7", False),
        ({METRICS: "http://collector"}, "collector", 80, "/", False),
    ],
)
def test_where_it_goes(env, host, port, target, tls) -> None:
    where = found(env)
    assert (where.host, where.port, where.target, where.tls is not None) == (host, port, target, tls)


def test_an_option_comes_before_the_environment() -> None:
    assert found({METRICS: "http://other"}, endpoint="http://collector:1/x").target == "/x"


@pytest.mark.parametrize(
    "text",
    [
        *("collector:4318", "collector", "grpc://collector:4317", "http://", "http://collector:99999", "http://x:y/"),
        *("http://collector/\nx", "http://a b/", "http://[::1/", "http://kollektör/", "http://collector:0/"),
    ],
)
def test_what_is_no_endpoint(text) -> None:
    with pytest.raises(DefinitionError, match=r"METRICS_ENDPOINT: it is no http or https URL. Write one, such as http"):
        found({METRICS: text})
    with pytest.raises(DefinitionError, match=r"exporters.otlp.endpoint"):
        found({}, endpoint=text)


def test_a_wrong_endpoint_shows_no_password() -> None:
    with pytest.raises(DefinitionError) as refused:
        found({METRICS: "ftp://me:s3cret@collector"})
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in found({METRICS: "http://me:s3cret@collector?key=s3cret"}).shown
    assert "s3cret" not in repr(found({METRICS: "http://me:s3cret@collector"}))


# ── the other variables ────────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_said_for_metrics_comes_first() -> None:
    env = {
        "OTEL_EXPORTER_OTLP_HEADERS": "a=1",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "b=2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "4.5",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "none",
    }
    got = found(env)
    assert got.headers == {"b": "2", "host": "localhost:4318"}
    assert (got.timeout_s, got.compression) == (4.5, "none")


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "0", "-1"])
def test_a_timeout_that_is_none_is_ten_seconds(text) -> None:
    assert found({"OTEL_EXPORTER_OTLP_TIMEOUT": text}).timeout_s == 10.0


def test_an_unknown_compression_is_said_and_left_out(caplog) -> None:
    assert found({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}).compression == "none"
    assert "'zstd'" in caplog.text


@pytest.mark.parametrize("headers", [{"a": "b\r\nc: d"}, {"a\n": "b"}, {"a": "\u2028"}])
def test_what_cannot_be_a_header(headers) -> None:
    with pytest.raises(DefinitionError, match="cannot be sent as a header"):
        found({}, headers=headers)
    with pytest.raises(DefinitionError, match="cannot be sent as a header"):
        found({"OTEL_EXPORTER_OTLP_HEADERS": "a=b%0d%0ac"})


@pytest.mark.parametrize(
    "options", [{"endpont": "x"}, {"http_duration": "yes"}, {"endpoint": 7}, {"headers": "a=b"}, {"headers": {"a": 1}}]
)
def test_options_that_cannot_be_meant(options) -> None:
    with pytest.raises(DefinitionError, match=r"exporters\.otlp"):
        otlp.create(options)


@pytest.mark.parametrize("name", ["CERTIFICATE", "CLIENT_CERTIFICATE"])
def test_a_certificate_that_is_not_there(tmp_path, name) -> None:
    env = {METRICS: "https://collector", f"OTEL_EXPORTER_OTLP_{name}": str(tmp_path / "missing.pem")}
    with pytest.raises(DefinitionError, match=f"OTEL_EXPORTER_OTLP_{name}: .*missing.pem"):
        found(env)


def test_proxies(monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:pass@proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    got = found({METRICS: "http://collector/"}).proxy
    assert got is not None
    assert (got.host, got.port, got.headers) == ("proxy", 3128, {"proxy-authorization": "Basic bWU6cGFzcw=="})
    assert found({METRICS: "http://inside.example/"}).proxy is None
    assert found({METRICS: "https://collector/"}).proxy is None
    monkeypatch.setenv("all_proxy", "socks5://proxy")
    with pytest.raises(DefinitionError, match="https_proxy"):
        found({METRICS: "https://collector/"})


# ── Retry-After ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0.0), (" 17 ", 17.0), ("9" * 400, 999_999_999.0), ("", None), ("soon", None), ("-3", None)),
        *(("1.5", None), ("٣", None), ("Wed, 01 Jan 1997 00:00:00 GMT", 0.0), ("Wed, 99 Jan 1997 00:00:00 GMT", None)),
    ],
)
def test_retry_after(text, seconds) -> None:
    assert retry_after_s(text) == seconds


def test_retry_after_a_date(monkeypatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 852_076_800.0)  # 1997-01-01
    assert retry_after_s("Wed, 01 Jan 1997 00:02:00 GMT") == 120.0
