"""OTLP over HTTP to real servers, the good and the bad ones: what arrives is exact, what does not is said, in time."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest

from exporters.receiver import PATIENCE_S, drip, ends, hang, partial, raw, receiving, status
from exporters.reports import RING_ID, attributes, points, report, row, values
from otelslo import SLO
from otelslo.exporters import ExportFailed, otlp

PLAIN = SLO("checkout")
GROUPED = SLO("search", group_by=["route"])
SMALL = report([PLAIN], [row(PLAIN, range(1, 17))])
LARGE = report([GROUPED], [row(GROUPED, range(16), f"route=/{n}") for n in range(120)])  # several requests
SHORT_NS = 500_000_000


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")


def soon(within_ns: int = int(PATIENCE_S * 10**9)) -> int:
    return time.monotonic_ns() + within_ns


def export(url: str, given=SMALL, within_ns: int = int(PATIENCE_S * 10**9), **options) -> None:
    otlp.create({"endpoint": url, **options}).export(given, soon(within_ns))


def failure(url: str, given=SMALL, within_ns: int = int(PATIENCE_S * 10**9)) -> ExportFailed:
    """What an export that must fail raises, and it ends."""
    error = ends(lambda: export(url, given, within_ns))
    assert isinstance(error, ExportFailed), repr(error)
    return error


# ── what arrives ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_totals_arrive_exactly() -> None:
    with receiving() as receiver:
        export(receiver.url)
        (request,) = receiver.requests
        totals = values([request], "slo.events")
        assert totals[frozenset({("slo.name", "checkout"), ("slo.outcome", "good")})] == 1
        named = [cell for cell, reason in enumerate(PLAIN.reason_cells) if reason]
        assert sorted(totals.values()) == [cell + 1 for cell in named]
        resource = attributes(request.resource_metrics[0].resource.attributes)
        assert {("service.name", "shop"), ("service.instance.id", RING_ID)} <= resource
        assert receiver.paths == ["/v1/metrics"]
        assert receiver.headers[0]["content-type"] == "application/x-protobuf"


def test_resource_attributes_of_the_environment_but_never_another_identity(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=pay%20ments,service.instance.id=pod-1,service.name=other")
    with receiving() as receiver:
        export(receiver.url)
        found = dict(attributes(receiver.requests[0].resource_metrics[0].resource.attributes))
    assert found["team"] == "pay ments"
    assert found["service.name"] == "shop"
    assert found["service.instance.id"] == RING_ID


def test_a_large_report_goes_in_several_requests_over_one_connection() -> None:
    with receiving() as receiver:
        export(receiver.url, LARGE)
        assert [len(points([request])) for request in receiver.requests[:-1]] == [500] * (len(receiver.requests) - 1)
        assert len(receiver.requests) > 1
        assert receiver.connections == 1
        assert sum(values(receiver.requests, "slo.events").values()) == 120 * sum(
            cell for cell, reason in enumerate(GROUPED.reason_cells) if reason
        )


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compression(monkeypatch, coding) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", coding)
    with receiving() as receiver:
        export(receiver.url)
        assert receiver.headers[0]["content-encoding"] == coding
        assert len(points(receiver.requests)) > 1


def test_headers_and_a_password_reach_the_collector_and_no_error(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret%21,x-team=a b")
    with receiving() as receiver:
        url = receiver.url.replace("http://", "http://me:pa%40ss@")
        export(url, headers={"X-Team": "c"})
        assert receiver.headers[0]["api-key"] == "s3cret!"
        assert receiver.headers[0]["x-team"] == "c"
        assert receiver.headers[0]["authorization"] == "Basic bWU6cGFAc3M="  # me:pa@ss
        receiver.answer = status(401, b"who are you?")
        text = str(failure(url))
    assert "401" in text
    assert not any(secret in text for secret in ("s3cret", "pa@ss", "pa%40ss"))


def test_a_connection_that_the_server_closes_is_opened_again() -> None:
    with receiving(status(200, connection="close")) as receiver:
        export(receiver.url, LARGE)
        assert receiver.connections == len(receiver.requests) > 1


def test_a_connection_that_was_closed_without_a_word_is_tried_again_once() -> None:
    with receiving() as receiver:
        receiver.answers = [status(200), raw(b"")]
        export(receiver.url, LARGE)
        assert len(values(receiver.requests[:1] + receiver.requests[2:], "slo.events")) == 120 * 16 - 120 * sum(
            not reason for reason in GROUPED.reason_cells
        )


# ── what does not ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_overload_is_to_be_tried_again_when_the_server_says(code) -> None:
    with receiving(status(code, retry_after="7")) as receiver:
        error = failure(receiver.url, LARGE)
        assert (error.retryable, error.retry_after_s, error.rejected_points) == (True, 7.0, 0)
        assert str(code) in str(error)
        assert len(receiver.requests) == 1


@pytest.mark.parametrize("code", [401, 403, 404, 500, 501])
def test_a_refusal_is_not_to_be_tried_again_and_spares_the_other_requests(code) -> None:
    with receiving(status(code, b"no such tenant\x1b[31m")) as receiver:
        error = failure(receiver.url, LARGE)
        assert (error.retryable, error.retry_after_s) == (False, None)
        assert "no such tenant" in str(error)
        assert str(error).isprintable()
        assert len(receiver.requests) == 1


def test_a_request_that_is_refused_does_not_keep_the_others_out() -> None:
    with receiving() as receiver:
        receiver.answers = [status(200), status(400, b"bad point")]
        error = failure(receiver.url, LARGE)
        assert (error.retryable, error.rejected_points) == (False, 500)
        assert "400" in str(error)
        assert len(receiver.requests) > 2


def test_points_that_were_rejected_are_a_loss_that_is_said() -> None:
    with receiving() as receiver:
        receiver.answers = [partial(3), status(200), partial(4, "\x1b[31mcardinality")]
        error = failure(receiver.url, LARGE)
        assert (error.retryable, error.rejected_points) == (False, 7)
        assert "rejected 3 of 500 points: 'too old' (and 1 requests more)" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b'{"partialSuccess": {"rejectedDataPoints": "5", "errorMessage": "late"}}',
        b'{"partialSuccess":{"rejectedDataPoints":5}}',
    ],
)
def test_points_that_were_rejected_in_json(body) -> None:
    with receiving(status(200, body, content_type="application/json")) as receiver:
        assert failure(receiver.url).rejected_points == 5


def test_a_warning_with_nothing_rejected_is_a_success() -> None:
    with receiving(partial(0, "be careful")) as receiver:
        export(receiver.url)


@pytest.mark.parametrize("answer", [status(204), status(202), status(200, b"{}", content_type="application/json")])
def test_other_forms_of_success(answer) -> None:
    with receiving(answer) as receiver:
        export(receiver.url)


def test_a_web_page_is_no_success() -> None:
    with receiving(status(200, b"<html>Welcome</html>", content_type="text/html")) as receiver:
        error = failure(receiver.url)
        assert not error.retryable
        assert "Welcome" in str(error)


def test_a_redirect_is_not_followed() -> None:
    with receiving() as other, receiving(status(307, location=other.url)) as receiver:
        error = failure(receiver.url)
        assert other.url in str(error)
        assert not error.retryable
        assert other.requests == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",  # the first frame of HTTP/2
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n",
    ],
)
def test_garbage_is_a_failure_to_be_tried_again(text) -> None:
    with receiving(raw(text)) as receiver:
        assert failure(receiver.url).retryable


@pytest.mark.parametrize(
    "answer",
    [
        hang,
        drip(),
        drip(b"HTTP/1.1 200 OK\r\nx: "),
        drip(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
    ids=["hang", "status", "header", "length", "chunk", "until closed"],
)
def test_a_peer_that_keeps_us_waiting_does_so_until_the_deadline_only(answer) -> None:
    with receiving(answer) as receiver:
        error = failure(receiver.url, within_ns=SHORT_NS)
        assert error.retryable
        assert "in time" in str(error)


def test_a_peer_that_drips_notices_that_we_left() -> None:
    with receiving(drip(b"HTTP/1.1 200 OK\r\nx: ")) as receiver:
        failure(receiver.url, within_ns=SHORT_NS)
        assert receiver.hung_up.wait(PATIENCE_S)


def test_a_peer_that_does_not_even_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        huge = report([GROUPED], [row(GROUPED, range(16), f"route=/{n}{'x' * 190}") for n in range(400)])
        error = failure(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1/metrics", huge, within_ns=SHORT_NS)
        assert error.retryable


def test_the_timeout_of_the_environment_in_seconds(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0.2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
    with receiving(hang) as receiver:
        assert "in time" in str(failure(receiver.url))


def test_a_deadline_that_is_over_sends_nothing() -> None:
    with receiving() as receiver:
        assert failure(receiver.url, within_ns=0).retryable
        assert receiver.connections == 0


def test_a_peer_that_hangs_up_is_said_as_that() -> None:
    with receiving(raw(b"")) as receiver:
        assert "closed connection" in str(failure(receiver.url))
        receiver.answer = raw(b"SSH-2.0-OpenSSH\r\n")
        assert "no HTTP" in str(failure(receiver.url))


def test_nobody_at_the_port() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{closed.getsockname()[1]}/v1/metrics")
    assert error.retryable
    assert "refused" in str(error)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300 + ".invalid", "a..b"])
def test_a_name_that_nobody_has(host) -> None:
    assert failure(f"http://{host}:4318/v1/metrics").retryable


def test_a_look_up_that_hangs_is_left_behind_and_not_begun_twice(monkeypatch) -> None:
    asked, go_on = [], threading.Event()
    real = socket.getaddrinfo

    def slow(host, port, *args, **options):
        if host == "collector.example":
            if options.get("flags") == socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "a name")
            asked.append(host)
            go_on.wait(PATIENCE_S)
            host = "127.0.0.1"
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with receiving() as receiver:
        exporter = otlp.create({"endpoint": receiver.url.replace("127.0.0.1", "collector.example")})
        for _ in range(3):
            error = ends(lambda: exporter.export(SMALL, soon(SHORT_NS)))
            assert isinstance(error, ExportFailed)
        assert asked == ["collector.example"]
        go_on.set()
        exporter.export(SMALL, soon())
        assert receiver.headers[0]["host"].startswith("collector.example:")


def test_a_grpc_port_is_recognised(monkeypatch) -> None:
    exporter = otlp.create({"endpoint": "http://127.0.0.1:4317/v1/metrics"})
    assert "4318" in exporter._told(ConnectionResetError("hung up"))


# ── loading ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_asking_whether_it_is_wanted_loads_no_opentelemetry() -> None:
    code = (
        "import sys; from otelslo.exporters import otlp;"
        "assert otlp.wanted({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://x'});"
        "print([m for m in ('opentelemetry', 'requests', 'ssl', 'numpy', 'numba') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_without_opentelemetry_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from otelslo.errors import DefinitionError\nfrom otelslo.exporters import load\n"
        "try: load('otlp')({})\nexcept DefinitionError as e: print(e)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install opentelemetry-sdk opentelemetry-proto" in answer.stdout
