"""Calls that answer a batch: bars per call and per item, against a naive list of events; classes of sizes as groups."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from fractions import Fraction

import drive_wsgi
import numpy as np
import pytest
from drive import advance, cells, groups, http_scope, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import otelslo
from otelslo import SLO, DefinitionError, current
from otelslo.asgi import SLOMiddleware
from otelslo.event import Ending, Event
from otelslo.indicators import load
from otelslo.items import plan_for
from otelslo.rowkey import SHED
from otelslo.slo import rules_table
from otelslo.wsgi import SLOMiddleware as WSGIMiddleware

MS = 1_000_000


def inference(name, per="call", threshold="100ms", **more):
    return SLO(name, indicator="inference", threshold=threshold, options={"per": per}, **more)


def call(engine, items=None, s=0.0, error=None, payload=None):
    """One call that answers `items`, lasts `s` and raises `error`."""

    @otelslo.track("model", engine=engine)
    def called():
        if items is not None:
            current().batch(items)
        if payload is not None:
            current().payload(payload)
        advance(engine, ns=round(s * 1e9))
        if error is not None:
            raise error

    with suppress(Exception):
        called()


# ── per call, per item ─────────────────────────────────────────────────────────────────────────────────────────────
def test_a_batch_by_call_and_by_item(make_engine):
    """The bar is for the whole call, or for each item's share of it."""
    engine = make_engine(inference("calls"), inference("items", "item"), SLO("done", match={"kind": "call"}))
    call(engine, 32, s=3.2)
    call(engine, 2, s=0.201)
    call(engine, s=0.1)
    call(engine, 5, error=MemoryError())
    assert cells(engine, "calls") == {"good": 1, "bad slow": 2, "bad oom": 1}
    assert cells(engine, "items") == {"good": 33, "bad slow": 2, "bad oom": 5}
    assert cells(engine, "done") == {"good": 3, "bad exception": 1}
    assert engine.in_flight() == 0
    assert engine.faults() == {}


def naive(events, per, threshold_ns):
    """Each item is an event: its share of the call's time is compared as a fraction."""
    counted = Counter()
    for items, latency_ns, failed in events:
        number = items if per == "item" else 1
        share = Fraction(latency_ns, number)
        counted["bad exception" if failed else "good" if share <= threshold_ns else "bad slow"] += number
    return dict(counted)


CALLS = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 10**12), st.booleans(), st.integers(-2, 2)), min_size=1, max_size=20
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS, threshold_ns=st.sampled_from([1, 999_999_937, 10**9]))
def test_batches_are_those_of_a_naive_twin(engine, calls, threshold_ns):
    """Also a nanosecond or two from the bar, of any size."""
    threshold = f"{threshold_ns}ns"
    engine.reload([inference("calls", threshold=threshold), inference("items", "item", threshold)], [])
    before = [Counter(cells(engine, name)) for name in ("calls", "items")]
    events = []
    for items, latency_ns, failed, near in calls:
        if near:
            latency_ns = max(0, threshold_ns * items + near)
        events.append((items, latency_ns, failed))
        site = engine.track("model").open()
        site.batch(items)
        advance(engine, ns=latency_ns)
        site.close(ValueError() if failed else None)
    for name, per, earlier in zip(("calls", "items"), ("call", "item"), before, strict=True):
        assert Counter(cells(engine, name)) - earlier == naive(events, per, threshold_ns)
    assert engine.in_flight() == 0


def test_the_log_holds_every_item(make_engine):
    engine = make_engine(inference("items", "item"))
    call(engine, 7, error=TimeoutError())
    losses, _ = engine.ring.reader.losses(0)
    assert [(loss.count, loss.exception) for loss in losses] == [(6, "TimeoutError"), (1, "TimeoutError")]


def test_traffic_and_latencies_are_of_calls(make_engine):
    """A batch is one call to whoever asks how many there were, and how long they took."""
    engine = make_engine(inference("items", "item"))
    call(engine, 32, s=1)
    assert [(one.name, one.events) for one in engine.traffic()] == [("model", 1)]


def test_an_empty_batch_is_seen_and_no_item(make_engine):
    engine = make_engine(inference("items", "item"), inference("calls"))
    call(engine, 0)
    call(engine, 0, error=ValueError())
    assert cells(engine, "items") == {"excluded empty_batch": 1, "bad exception": 1}
    assert cells(engine, "calls") == {"good": 1, "bad exception": 1}


@pytest.mark.parametrize("items", [-1, "32", None, 1.5, 2**31 + 1, object()])
def test_what_is_no_number_of_items_is_a_fault_and_one_event(make_engine, items):
    engine = make_engine(inference("items", "item"))
    with otelslo.track("model", engine=engine) as event:
        event.batch(items)
    assert cells(engine, "items") == {"good": 1}
    assert engine.faults() == ({} if items is None else {"user_code": 1})


def test_numbers_of_numpy_are_numbers(make_engine):
    engine = make_engine(inference("items", "item"))
    call(engine, np.int32(3))
    assert cells(engine, "items") == {"good": 3}


def test_what_the_app_says_is_said_of_every_item(make_engine):
    engine = make_engine(inference("items", "item", reasons=["nonsense"]))
    for verdict in (lambda event: event.bad("nonsense"), lambda event: event.good(), lambda event: event.exclude("x")):
        with otelslo.track("model", engine=engine) as event:
            event.batch(4)
            verdict(event)
            advance(engine, s=0.4)
    with otelslo.track("model", engine=engine) as event:
        event.batch(4)
        event.good()
        advance(engine, s=0.401)
    assert cells(engine, "items") == {"bad nonsense": 4, "good": 4, "excluded other": 4, "bad slow": 4}


def test_user_code_is_asked_once_a_batch(make_engine):
    asked = []
    engine = make_engine(
        inference("items", "item", good=lambda event: asked.append(event.batch) or len(asked) % 2 == 1)
    )
    call(engine, 3)
    call(engine, 4)
    assert cells(engine, "items") == {"good": 3, "bad not_good": 4}
    assert asked == [3, 4]


def test_a_caller_that_left_a_batch(make_engine):
    """It had waited too long past the threshold of all items, or past `cancel_after` of the call."""
    timed, any_time = inference("timed", "item"), inference("any", "item", None)
    for s, expected in ((0.4, "excluded client_cancel"), (0.41, "bad slow")):
        engine = make_engine(timed, any_time)
        site = engine.track("model").open()
        site.batch(4)
        advance(engine, s=s)
        site.close(ending=Ending.CLIENT_CANCEL)
        assert cells(engine, "timed") == {expected: 4}
        assert cells(engine, "any") == {"excluded client_cancel": 4}
    engine = make_engine(any_time)
    site = engine.track("model").open()
    site.batch(4)
    advance(engine, s=11)
    site.close(ending=Ending.CLIENT_CANCEL)
    assert cells(engine, "any") == {"bad other": 4}


def test_a_worker_that_dies_between_leaves_the_right_number(make_engine):
    """The other items are counted, and the call is still in flight: settled, it is one crash."""
    engine = make_engine(inference("items", "item"))
    track = engine.track("model")
    call = track.open()
    event = Event("call", route="model", latency_ns=1, batch=5)
    assert plan_for(engine, event, call.token)
    engine.close()  # as a killed worker leaves it
    engine.start()
    assert cells(engine, "items") == {"good": 4, "bad crashed": 1}


def test_a_fork_counts_its_parents_call_not_again(make_engine):
    """A token older than this process's block is refused, for the items as for the call."""
    engine = make_engine(inference("items", "item"))
    site = engine.track("model").open()
    site.batch(5)
    engine.close()
    advance(engine, s=1)
    engine.start()
    site.close()
    assert cells(engine, "items") == {"bad crashed": 1}
    assert engine.faults() == {"not_attached": 1}


def test_by_the_web_edge_too(make_engine):
    engine = make_engine(inference("items", "item", match={"kind": "http"}))

    async def app(scope, receive, send):
        scope["otelslo"].batch(3)
        advance(engine, s=0.3)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    run(SLOMiddleware(app, engine=engine))
    assert cells(engine, "items") == {"good": 3}


def test_a_batch_beside_objectives_with_more_rows_and_with_ages(make_engine):
    """A shed batch is as many items, and one call to a promised rate, on both of its rows; and to a version's age."""
    calls = {"match": {"kind": "call"}}
    rate = SLO("rate", indicator="throughput", options={"rate": "1/min", "threshold": "1s"}, **calls)
    fresh = SLO("fresh", indicator="freshness", options={"max_age": "1d", "version": "v"}, **calls)
    engine = make_engine(inference("items", "item"), rate, fresh)
    engine.model("model", "v", trained_at=engine.clock.wall_ns() // 10**9)
    engine.housekeeping()
    for hours, shed in ((0, False), (0, True), (30, False)):
        advance(engine, s=3600 * hours)
        engine.housekeeping()
        with otelslo.track("model", engine=engine) as event:
            event.batch(8)
            if shed:
                event.shed()
    reader = engine.ring.reader
    (row,) = [row for row in range(reader.rows) if reader.row_name(row).slo == SHED]
    assert cells(engine, "items") == {"good": 16, "bad other": 8}
    assert cells(engine, "rate") == {"good": 2, "bad shed": 1}
    assert reader.cells(row)[0] == 1
    assert cells(engine, "fresh") == {"good": 1, "excluded unanswered": 1, "bad stale": 1}
    assert engine.faults() == {}


def test_the_table_says_of_what_the_bar_is():
    told = {happened for happened, _, _ in rules_table(inference("items", "item"))}
    assert "complete: the call returned, within 100ms an item" in told
    assert "complete: the call returned, within 100ms" in {row[0] for row in rules_table(inference("calls"))}


def test_keys_by_leaves_calls_alone():
    member = load("inference")
    event = Event("call", batch=0, cold=True)
    options = {"per": "call", "cold_start": "count"}
    assert member.keys_by(event, options) == ("complete",)
    assert member.keys_by(event, {"per": "item", "cold_start": "exclude"}) == ("empty_batch", "cold_start", "complete")


# ── classes ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_classes_are_groups_from_the_first_call_on(make_engine):
    engine = make_engine(
        inference("model", group_by="batch_class"), inference("own", group_by="batch_class", batch_classes=[4])
    )
    for items in (None, 1, 2, 8, 9, 64, 65, 10**6, 0):
        call(engine, items)
    expected = {"1": 2, "2-8": 2, "9-64": 2, ">64": 2}
    found = groups(engine, "model")
    assert found == {f"batch_class={name}": {"good": n} for name, n in expected.items()} | {"(unknown)": {"good": 1}}
    own = groups(engine, "own")
    assert own == {"batch_class=1-4": {"good": 3}, "batch_class=>4": {"good": 5}, "(unknown)": {"good": 1}}


def test_classes_beside_other_keys_and_by_item(make_engine):
    engine = make_engine(
        inference("model", "item", group_by=["version", "batch_class", "payload_class"], batch_classes=[1, 4])
    )

    @otelslo.track("model", engine=engine, version="7")
    def called():
        current().batch(3)
        current().payload(1025)

    called()
    assert groups(engine, "model") == {"version=7,batch_class=2-4,payload_class=1KiB-64KiB": {"good": 3}}


def test_sizes_in_one_class_share_a_plan(make_engine):
    """So that the memo stays small, whatever sizes come."""
    engine = make_engine(inference("model", group_by="payload_class"), inference("own", group_by="batch_class"))
    for size in range(2000):
        call(engine, 2 + size % 7, payload=size)
    assert len(engine.judge._judged) < 40
    assert sum(counts["good"] for counts in groups(engine, "model").values()) == 2000


PAYLOADS = [
    (None, "(unknown)"),
    ("0", "payload_class=0-1KiB"),
    ("1024", "payload_class=0-1KiB"),
    ("1025", "payload_class=1KiB-2MB"),
    ("2000000", "payload_class=1KiB-2MB"),
    ("2000001", "payload_class=>2MB"),
    ("9" * 400, "payload_class=>2MB"),
    ("-1", "(unknown)"),
    ("ten", "(unknown)"),
    ("²", "(unknown)"),
]


@pytest.mark.parametrize(("length", "group"), PAYLOADS)
@pytest.mark.parametrize("protocol", ["asgi", "wsgi"])
def test_the_payload_of_a_request(make_engine, length, group, protocol):
    """By its Content-Length, where it says one; what is none is no size."""
    engine = make_engine(SLO("web", group_by="payload_class", payload_classes=["1KiB", "2MB"]))
    headers = {} if length is None else {"content-length": length.encode().decode("latin-1")}

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def wsgi_app(environ, start_response):
        start_response("200 OK", [])
        return [b""]

    for _ in range(2):  # the first has no row of its own yet
        if protocol == "asgi":
            run(SLOMiddleware(app, engine=engine), http_scope(headers=headers))
        else:
            environ = {} if length is None else {"CONTENT_LENGTH": headers["content-length"]}
            drive_wsgi.run(WSGIMiddleware(wsgi_app, engine=engine), drive_wsgi.environ_of(**environ))
        engine.housekeeping()
    found = groups(engine, "web")
    assert found.get(group) == ({"good": 2} if group == "(unknown)" else {"good": 1})
    assert set(found) <= {group, "(overflow)"}


def test_the_app_knows_its_payload_better(make_engine):
    engine = make_engine(SLO("web", group_by="payload_class"))

    async def app(scope, receive, send):
        scope["otelslo"].payload(5000)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    for _ in range(2):
        run(SLOMiddleware(app, engine=engine), http_scope(headers={"content-length": "5"}))
        engine.housekeeping()
    assert groups(engine, "web")["payload_class=1KiB-64KiB"] == {"good": 1}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_classes": [1, 8]}, r"batch_classes: nothing is grouped by batch_class. Add group_by: batch_class"),
        ({"group_by": "batch_class", "batch_classes": [8, 1]}, r"batch_classes: \[8, 1\] does not rise"),
        ({"group_by": "batch_class", "batch_classes": []}, r"batch_classes: \[\] is no list of bounds"),
        ({"group_by": "batch_class", "batch_classes": [0]}, r"batch_classes\[0\]: 0 is no number of items"),
        ({"group_by": "batch_class", "batch_classes": [True]}, r"batch_classes\[0\]: True is no number"),
        ({"group_by": "batch_class", "batch_classes": list(range(1, 40))}, r"39 bounds make too many groups"),
        (
            {"group_by": "payload_class", "payload_classes": ["1 parsec"]},
            r"payload_classes\[0\]: '1 parsec' is no size",
        ),
        ({"group_by": "payload_class", "payload_classes": ["1MiB", "1kB"]}, r"does not rise"),
        ({"indicator": "inference", "options": {"per": "batch"}}, r"per: 'batch' says not what is counted"),
    ],
)
def test_bad_definitions_are_refused(keys, message):
    with pytest.raises(DefinitionError, match=message):
        SLO("a", **keys)


def test_new_classes_are_another_meaning():
    """Rows of other classes are not told together; without classes the meaning is what it was."""
    by_default, own = SLO("a", group_by="batch_class"), SLO("a", group_by="batch_class", batch_classes=[2])
    assert by_default.meaning != own.meaning
    assert SLO("a", group_by="batch_class", batch_classes=[1, 8, 64]).meaning == by_default.meaning


def test_classes_as_they_are_written_in_a_file():
    data = {"name": "m", "indicator": "inference", "per": "item", "threshold": "5ms", "group_by": "payload_class"}
    slo = SLO.from_mapping(data | {"payload_classes": ["1KiB", 3000, "1 GB"]})
    assert slo.per_item
    assert slo.size_classes["payload_class"].names == ("0-1KiB", "1KiB-3kB", "3kB-1GB", ">1GB")


def test_a_plan_is_remembered_by_class_and_for_what_is_said_of_the_call_alone_is_not(make_engine):
    """Whatever the order: a size, a failure, a verdict, a wrong size."""
    engine = make_engine(inference("model", group_by="batch_class", batch_classes=[4], reasons=["nonsense"]))
    for _ in range(2):
        call(engine, 3)
        call(engine, 4)
        call(engine, 5, error=MemoryError())
        call(engine, 5)
        call(engine, "5")
        with otelslo.track("model", engine=engine) as event:
            event.batch(3)
            event.bad("nonsense")
        call(engine, 3, s=0.2)
    small = {"good": 6, "bad nonsense": 2, "bad slow": 2}
    assert groups(engine, "model") == {"batch_class=1-4": small, "batch_class=>4": {"good": 2, "bad oom": 2}}
    assert engine.faults() == {"user_code": 2}
    assert len([key for key in engine.track("model").plans if isinstance(key, tuple)]) <= 6
