"""`/metrics`: the host's committed totals, the same from every worker, in text that parsers of both formats take."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import pytest
from drive import advance, http_scope, serve
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as prometheus_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from otelslo import SLO, Engine, ManualClock, StateError
from otelslo.asgi import SLOMiddleware
from otelslo.exposition import OPENMETRICS, PROMETHEUS, seconds
from otelslo.openmetrics import BOUNDS_NS, metrics_asgi, metrics_wsgi, render
from otelslo.totals import FRESH_NS, HostTotals, host_totals

MS = 1_000_000
OPEN = "application/openmetrics-text; version=1.0.0"
ANSWERS = SLO("answers", target="90%", match={"kind": "call"}, group_by="route", max_groups=3)
FAST = SLO("fast", indicator="latency", threshold="220ms", target="50%", window="1d", match={"kind": "call"})
TRACEPARENT = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}


@pytest.fixture
def engine(make_engine) -> Engine:
    return make_engine(ANSWERS, FAST)


def record(engine: Engine, name: str, good: int = 0, bad: int = 0, latency_ns: int = MS) -> None:
    track = engine.track(name)
    for outcome, count in (("good", good), ("bad", bad)):
        for _ in range(count):
            engine.record(track, outcome, latency_ns)


def commit(engine: Engine) -> None:
    """A second passes, and the leader commits; then one more, so that nothing older is shown."""
    advance(engine, s=1)
    engine.runner.tick()
    advance(engine, s=1)


def samples(engine: Engine, accept: str = OPEN) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    content_type, page = render(engine, accept)
    families = openmetrics_families if content_type == OPENMETRICS else prometheus_families
    found = [sample for family in families(page.decode()) for sample in family.samples]
    keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in found]
    assert len(set(keys)) == len(keys)
    return {key: sample.value for key, sample in zip(keys, found, strict=True)}


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


def events(found: dict, slo: str, outcome: str) -> float:
    """All events of an objective and outcome, over reasons and groups."""
    wanted = {("slo_name", slo), ("slo_outcome", outcome)}
    return sum(value for (name, labels), value in found.items() if name == "slo_events_total" and wanted <= {*labels})


# ── what it says ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("accept", [OPEN, ""])
def test_the_page_says_what_the_ring_counted(engine: Engine, accept: str) -> None:
    record(engine, "rank", good=95, bad=5)
    record(engine, "rank", good=10, latency_ns=221 * MS)
    commit(engine)
    found = samples(engine, accept)
    rank = {"slo_name": "answers", "http_route": "rank"}
    assert found[key("slo_events_total", slo_outcome="good", **rank)] == 105
    assert found[key("slo_events_total", slo_outcome="bad", slo_reason="other", **rank)] == 5
    assert found[key("slo_events_total", slo_name="fast", slo_outcome="bad", slo_reason="slow")] == 10
    assert found[key("slo_sli_ratio", **rank)] == float(Fraction(105, 110))
    assert found[key("slo_target_ratio", **rank)] == 0.9
    (status,) = [one for one in host_totals(engine).read().statuses if one.group == "route=rank"]
    allowed = Fraction(11) * status.window_ns / status.observed_ns  # of a whole window at this traffic
    assert found[key("slo_error_budget_remaining_ratio", **rank)] == float(1 - 5 / allowed)
    assert found[key("slo_burn_rate", slo_window="1h", **rank)] == float(Fraction(5, 11))
    assert found[key("otelslo_requests_in_flight")] == 0
    assert found[key("otelslo_commit_age_seconds")] == 1
    assert found[key("otelslo_faults_total", reason="bad_latency")] == 0
    assert all(value == value for value in found.values())  # no NaN


def test_every_series_is_there_at_0_before_its_first_event(engine: Engine) -> None:
    engine.track("rank")
    before = samples(engine)
    assert all(value == 0 for (name, _), value in before.items() if name.endswith(("_total", "_bucket", "_count")))
    assert not any(name in ("slo_sli_ratio", "slo_burn_rate") for name, _ in before)  # no data is not good data
    record(engine, "rank", good=1, bad=1)
    engine.fault("internal", "a test")
    commit(engine)
    after = samples(engine)
    for name in ("slo_events_total", "otelslo_faults_total", "slo_events_created"):
        assert {labels for n, labels in after if n == name} == {labels for n, labels in before if n == name}
    assert after[key("otelslo_faults_total", reason="internal")] == 1


def test_a_row_that_no_commit_has_yet_is_at_0(engine: Engine) -> None:
    commit(engine)
    record(engine, "late", good=7)
    found = samples(engine)
    assert found[key("slo_events_total", slo_name="answers", slo_outcome="good", http_route="late")] == 0
    commit(engine)
    assert events(samples(engine), "answers", "good") == 7


def test_times_of_creation_are_births(engine: Engine) -> None:
    advance(engine, s=90)
    record(engine, "late", good=1)
    commit(engine)
    found = samples(engine)
    late = found[key("slo_events_created", slo_name="answers", slo_outcome="good", http_route="late")]
    assert late - found[key("slo_events_created", slo_name="fast", slo_outcome="good")] == 90
    assert not any(name.endswith("_created") for name, _ in samples(engine, ""))


def test_buckets_have_every_threshold_and_count_only_what_is_surely_under_it(engine: Engine) -> None:
    latencies = [MS, 5 * MS, 219 * MS, 220 * MS, 221 * MS, 999 * MS, 10**10, 2 * 10**12]
    for latency_ns in latencies:
        record(engine, "rank", good=1, latency_ns=latency_ns)
    commit(engine)
    found = samples(engine)
    labels = {"slo_kind": "call", "http_route": "rank"}
    bounds = sorted({*BOUNDS_NS, 220 * MS})
    buckets = [found[key("slo_request_duration_seconds_bucket", le=seconds(bound), **labels)] for bound in bounds]
    assert all(a <= b for a, b in pairwise(buckets))
    for bound, count in zip(bounds, buckets, strict=True):
        surely = sum(1 for latency in latencies if latency * 11 <= bound * 10)
        assert surely <= count <= sum(1 for latency in latencies if latency <= bound)
    assert found[key("slo_request_duration_seconds_bucket", le="+Inf", **labels)] == len(latencies)
    assert found[key("slo_request_duration_seconds_count", **labels)] == len(latencies)
    total = found[key("slo_request_duration_seconds_sum", **labels)]
    assert total == pytest.approx(sum(latencies) / 10**9, abs=len(latencies) * 1e-6)
    http = {dict(labels)["le"] for name, labels in found if name.endswith("_bucket") and ("slo_kind", "http") in labels}
    assert "0.22" not in http  # no objective on requests has that threshold
    assert events(found, "fast", "good") == 4


def test_bad_events_carry_the_trace_of_the_newest_loss(make_engine) -> None:
    engine = make_engine(SLO("availability"))

    async def app(scope, receive, send):
        raise RuntimeError

    wrapped = SLOMiddleware(app, engine=engine)
    for headers in (TRACEPARENT, {}):
        with pytest.raises(RuntimeError):
            asyncio.run(serve(wrapped, http_scope(headers=headers)))
        advance(engine, s=1)
    commit(engine)
    page = render(engine, OPEN)[1].decode()
    found = {
        sample.labels["slo_reason"]: sample.exemplar
        for family in openmetrics_families(page)
        for sample in family.samples
        if sample.name == "slo_events_total" and "slo_reason" in sample.labels and sample.exemplar
    }
    assert list(found) == ["exception"]
    assert found["exception"].labels == {"trace_id": "ab" * 16}
    assert found["exception"].value == 1
    assert "trace_id" not in render(engine, "")[1].decode()


def test_objectives_that_are_no_more_are_not_shown(engine: Engine) -> None:
    record(engine, "rank", good=3)
    commit(engine)
    engine.reload([FAST])
    commit(engine)
    found = samples(engine)
    assert {dict(labels)["slo_name"] for name, labels in found if name == "slo_events_total"} == {"fast"}


# ── from where it says it ──────────────────────────────────────────────────────────────────────────────────────────
def test_it_tells_commits_and_never_goes_back(engine: Engine) -> None:
    record(engine, "rank", good=3)
    told = HostTotals(engine).read()  # there is no commit yet: the ring itself
    assert not told.committed
    assert "otelslo_commit_age_seconds" not in {name for name, _ in samples(engine)}
    commit(engine)
    record(engine, "rank", good=4)
    assert events(samples(engine), "answers", "good") == 3
    commit(engine)
    assert events(samples(engine), "answers", "good") == 7


def test_it_reads_at_most_once_a_second(engine: Engine) -> None:
    commit(engine)
    first = render(engine, "")[1]
    record(engine, "rank", good=1)
    engine.runner.tick()
    advance(engine, ns=FRESH_NS - 1)
    assert render(engine, "")[1] is first
    advance(engine, ns=1)
    assert render(engine, "")[1] is not first


def test_a_database_that_cannot_be_read(engine: Engine) -> None:
    record(engine, "rank", good=3)
    commit(engine)
    knows, new = HostTotals(engine), HostTotals(engine)
    assert knows.read().committed
    path = engine.state_dir / "otelslo.db"
    path.rename(path.with_suffix(".away"))
    record(engine, "rank", good=4)
    advance(engine, s=2)
    assert knows.read().committed  # the last one that it knows
    with pytest.raises(StateError, match="cannot be read"):
        new.read()
    advance(engine, s=60)  # whoever knew it and whoever did not now tell the same again
    assert [one.read().committed for one in (knows, new)] == [False, False]
    path.with_suffix(".away").rename(path)
    advance(engine, s=2)
    assert not knows.read().committed  # that commit is older than what was told meanwhile
    commit(engine)
    assert knows.read().committed


def test_a_locked_database_is_503_or_the_last_known(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelslo.exporters.sqlite_schema.BUSY_TIMEOUT_S", 0.0)
    record(engine, "rank", good=3)
    commit(engine)
    other = sqlite3.connect(engine.state_dir / "otelslo.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert get_wsgi(metrics_wsgi(engine))[0] == "503 Service Unavailable"
    other.execute("ROLLBACK")
    assert get_wsgi(metrics_wsgi(engine))[0] == "200 OK"
    other.execute("BEGIN EXCLUSIVE")
    advance(engine, s=2)
    assert events(samples(engine), "answers", "good") == 3
    assert samples(engine)[key("otelslo_commit_age_seconds")] == 3
    other.close()
    assert not any(engine.faults().values())


def test_a_ring_in_private_memory_tells_itself(make_engine, tmp_path) -> None:
    (tmp_path / "file").touch()
    engine = make_engine(ANSWERS, state_dir=tmp_path / "file" / "state")
    record(engine, "rank", good=3)
    assert events(samples(engine), "answers", "good") == 3


def test_a_worker_whose_ring_file_was_replaced_tells_the_host_s_totals(make_engine, tmp_path) -> None:
    first = make_engine(ANSWERS, state_dir=tmp_path / "shared")
    record(first, "rank", good=3)
    commit(first)
    (tmp_path / "shared" / "live.ring").unlink()
    second = make_engine(ANSWERS, state_dir=tmp_path / "shared")
    assert second.ring.header.ring_id != first.ring.header.ring_id
    advance(second, s=5)
    record(second, "rank", good=4)
    advance(first, s=5)
    first.runner.tick()  # it notices, and leads no more
    commit(second)
    commit(second)
    advance(first, s=5)
    assert [events(samples(engine), "answers", "good") for engine in (first, second)] == [7, 7]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_while_another_thread_reads_can_read(engine: Engine) -> None:
    commit(engine)
    totals = HostTotals(engine)
    assert totals._lock.acquire(blocking=False)
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)
            os._exit(0 if totals.read().committed else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


WORKER = """
import sys
from otelslo import SLO, Engine, ManualClock
slo = SLO("answers", target="90%", match={"kind": "call"}, group_by="route", max_groups=3)
clock = ManualClock()
with Engine([slo], state_dir=sys.argv[1], clock=clock, runner=False) as engine:
    track = engine.track("rank")
    for line in sys.stdin:
        for _ in range(int(line)):
            engine.record(track, "good", 1_000_000)
        clock.advance(s=1)
        engine.ring.blocks.advance_manual_clock()
        engine.runner.tick()
        print(engine.runner.leading, flush=True)
"""


@pytest.fixture
def leader(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """Another worker, which leads: it counts as many events as it is told, and commits."""
    argv = [sys.executable, "-c", WORKER, str(tmp_path / "shared")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


def test_any_worker_tells_the_host_s_committed_totals(leader, make_engine, tmp_path) -> None:
    def count_and_commit(number: int) -> None:
        leader.stdin.write(f"{number}\n")
        leader.stdin.flush()
        assert leader.stdout.readline() == "True\n"

    count_and_commit(5)
    engine = make_engine(ANSWERS, state_dir=tmp_path / "shared")
    record(engine, "rank", good=2)
    advance(engine, s=1)
    assert not engine.runner.leading
    assert events(samples(engine), "answers", "good") == 5
    count_and_commit(10)
    advance(engine, s=1)
    assert events(samples(engine), "answers", "good") == 17
    assert samples(engine)[key("slo_sli_ratio", slo_name="answers", http_route="rank")] == 1


# ── as what it is read ─────────────────────────────────────────────────────────────────────────────────────────────
def test_what_came_with_requests_parses_and_comes_back(make_engine) -> None:
    evil = ['a"b', "back\\slash\\", "new\nline", "}", "# EOF", "\x00\r\u2028\x85", "a,b=c%20%", "größe \ud800", " "]
    engine = make_engine(SLO("answers", match={"kind": "call"}, group_by="route"))
    for name in evil:
        record(engine, name, good=1)
    commit(engine)
    wanted = {name.replace("\ud800", "?") for name in evil}
    for accept in (OPEN, ""):
        found = samples(engine, accept)
        assert {dict(labels).get("http_route") for name, labels in found if name == "slo_events_total"} >= wanted


def test_promtool_finds_nothing_to_complain_of(engine: Engine) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    record(engine, "rank", good=9, bad=1)
    commit(engine)
    ended = subprocess.run([promtool, "check", "metrics"], input=render(engine, "")[1], capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")


# ── the apps ───────────────────────────────────────────────────────────────────────────────────────────────────────
def get_wsgi(app, method: str = "GET", **environ: str) -> tuple[str, dict[str, str], bytes]:
    answered = []
    body = b"".join(
        app({"REQUEST_METHOD": method, **environ}, lambda status, headers: answered.append((status, headers)))
    )
    return answered[0][0], dict(answered[0][1]), body


def get_asgi(app, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    started, body = asyncio.run(serve(app, http_scope("/metrics", method, headers)))
    fields = {name.decode(): value.decode() for name, value in started["headers"]}
    return started["status"], fields, body["body"]


def test_the_apps_answer(engine: Engine) -> None:
    commit(engine)
    page = render(engine, OPEN)[1]
    asgi, wsgi = metrics_asgi(engine), metrics_wsgi(engine)
    status, headers, body = get_asgi(asgi, accept=OPEN)
    assert (status, headers["content-type"], headers["vary"], body) == (200, OPENMETRICS, "Accept", page)
    status, headers, body = get_wsgi(wsgi, HTTP_ACCEPT=OPEN)
    assert (status, headers["Content-Type"], headers["Content-Length"], body) == (
        "200 OK",
        OPENMETRICS,
        str(len(page)),
        page,
    )
    for status, headers, body in (get_asgi(asgi, "HEAD"), get_wsgi(wsgi, "HEAD")):
        headers = {name.lower(): value for name, value in headers.items()}
        assert (str(status)[:3], body, headers["content-type"]) == ("200", b"", PROMETHEUS)
        assert int(headers["content-length"]) == len(render(engine, "")[1])
    for status, headers, _ in (get_asgi(asgi, "POST"), get_wsgi(wsgi, "DELETE")):
        headers = {name.lower(): value for name, value in headers.items()}
        assert (str(status)[:3], headers["allow"]) == ("405", "GET, HEAD")


def test_the_event_loop_is_not_held(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(engine)
    threads = []
    read = HostTotals.read

    def noted(self):
        threads.append(threading.current_thread())
        return read(self)

    monkeypatch.setattr(HostTotals, "read", noted)
    app = metrics_asgi(engine)

    async def flood() -> None:
        await asyncio.gather(*(serve(app, http_scope("/metrics")) for _ in range(50)))
        threads.clear()
        await asyncio.gather(*(serve(app, http_scope("/metrics")) for _ in range(50)))

    asyncio.run(flood())
    assert threads == []  # the page was ready
    get_asgi(metrics_asgi(engine), accept=OPEN)
    assert threads
    assert threading.main_thread() not in threads


def test_a_failure_of_ours_is_503_and_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelslo.openmetrics._gauges", lambda page, totals: 1 / 0)
    for status, _, body in (get_asgi(metrics_asgi(engine)), get_wsgi(metrics_wsgi(engine))):
        assert str(status)[:3] == "503"
        assert b"ZeroDivisionError" not in body
    assert sum(engine.faults().values()) == 2


def test_lifespan_and_websocket(engine: Engine) -> None:
    app = metrics_asgi(engine)
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = asyncio.run(serve(app, {"type": "lifespan"}, incoming))
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert asyncio.run(serve(app, {"type": "websocket"})) == [{"type": "websocket.close", "code": 1000}]


def test_as_a_route_it_is_no_request_of_the_objectives(make_engine) -> None:
    engine = make_engine(SLO("availability"))

    async def hello(request):
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", hello), Route("/metrics", metrics_asgi(engine))])
    wrapped = SLOMiddleware(app, engine=engine)
    get = asyncio.run(serve(wrapped, http_scope("/metrics")))
    assert get[0]["status"] == 200
    asyncio.run(serve(wrapped, http_scope("/")))
    commit(engine)
    found = samples(engine)
    assert (events(found, "availability", "good"), events(found, "availability", "bad")) == (1, 0)
    assert found[
        key("slo_events_total", slo_name="availability", slo_outcome="excluded", slo_reason="health_check")
    ] == 1  # fmt: skip


def test_without_an_engine_it_is_the_process_s_own(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Engine([SLO("own")], state_dir=tmp_path / "own", clock=ManualClock(), runner=False)
    monkeypatch.setattr("otelslo.default._engine", [own])
    with own:
        for _, _, body in (get_asgi(metrics_asgi()), get_wsgi(metrics_wsgi())):
            assert b'slo_name="own"' in body
