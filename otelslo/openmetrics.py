"""`/metrics`: the host's totals for Prometheus, from whichever worker is asked, as text that is made once a second.

    app.router.routes.append(Route("/metrics", metrics_asgi()))        # Starlette, FastAPI
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": metrics_wsgi()})   # Flask

Counters are those of the last commit (`otelslo_commit_age_seconds` says how old it is), so that every worker tells the
same and none goes back. Latencies are kept in buckets whose bounds grow by 9 %: a bucket here counts those that lie
wholly at or under its bound, so it may miss up to 9 % of the bound's width below it. What an objective counts at its
threshold is exact, in `slo_events_total`. What has a time of its own (labels, drift) may be revised, so it is no
counter but a gauge of the objective's window, `slo_window_events`.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from http import HTTPStatus
from itertools import accumulate, groupby
from typing import Any

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from otelslo import default
from otelslo.attributes import CHANNEL, DELIVERY, KIND, NAME, OUTCOME, REASON, attributes_of, traffic_attributes_of
from otelslo.definition import CELLS, FIRST_EXCLUDED, Definition
from otelslo.engine import Engine
from otelslo.errors import StateError
from otelslo.exposition import OPENMETRICS, PROMETHEUS, Page, label_text, seconds, wants_openmetrics
from otelslo.gauges import LIMIT_GAUGES, gauges
from otelslo.genai.instruments import SECONDS
from otelslo.genai.series import series_of
from otelslo.kernels.bounds import SUM, SUM_SHIFT, UPPER_NS, USED_WORDS, ZERO
from otelslo.rowkey import NOTICES, SELF, RowKey
from otelslo.status import Status
from otelslo.totals import HostTotals, Totals, host_totals
from otelslo.window import MILLISECOND_NS, SECOND_NS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The explicit bounds that OpenTelemetry recommends for durations of HTTP requests.
BOUNDS_NS = tuple(n * MILLISECOND_NS for n in (5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000))
_METHODS = "GET, HEAD"
_ABSENT = b"the totals cannot be read just now\n"
_MOST_LABELS = 4096
_NO_CELLS = (0,) * CELLS


def render(engine: Engine, accept: str = "") -> tuple[str, bytes]:
    """The content type that fits an Accept header, and the page. Reads at most once a second; may wait for the disk.

    Raises:
        StateError: there is a commit that cannot be read just now.
        OtelsloError: the engine cannot be started.
    """
    openmetrics = wants_openmetrics(accept)
    return OPENMETRICS if openmetrics else PROMETHEUS, _rendering(engine).page(openmetrics)


class _Rendering:
    """The last pages of one engine."""

    def __init__(self, totals: HostTotals) -> None:
        self._totals = totals
        self._pages: dict[bool, tuple[Totals, bytes]] = {}
        self._labels: dict[str, tuple[str, ...]] = {}

    def ready(self, openmetrics: bool) -> bytes | None:
        """The page if it need not be made."""
        found = self._pages.get(openmetrics)
        return found[1] if found is not None and found[0] is self._totals.fresh() else None

    def page(self, openmetrics: bool) -> bytes:
        totals = self._totals.read()
        found = self._pages.get(openmetrics)
        if found is None or found[0] is not totals:
            found = self._pages[openmetrics] = (totals, self._made(totals, openmetrics))
        return found[1]

    def _made(self, totals: Totals, openmetrics: bool) -> bytes:
        page = Page(openmetrics)
        self._events(page, totals)
        _gauges(page, totals)
        _limits(page, totals)
        _durations(page, totals)
        _gen_ai(page, totals)
        _ourselves(page, totals)
        return page.encoded()

    def _events(self, page: Page, totals: Totals) -> None:
        page.family("slo_events", "counter", "Events of an objective since its row was made, each in one outcome.")
        meant = {(definition.name, definition.meaning): definition for definition in totals.definitions}
        exemplars = _exemplars(totals) if page.openmetrics else {}
        for key, born_ns, cells in _rows(totals):
            definition = meant.get((key.slo, key.meaning))
            if definition is None:
                continue
            text = key.text()
            for reason, labels, count in zip(key.reasons, self._labels_of(key, text, definition), cells, strict=True):
                if labels:
                    page.counter(labels, count, born_ns, exemplars.get((text, reason)) if count else None)

    def _labels_of(self, key: RowKey, text: str, definition: Definition) -> tuple[str, ...]:
        """The labels of each cell of a row, "" for unused ones."""
        found = self._labels.get(text)
        if found is None:
            if len(self._labels) >= _MOST_LABELS:  # of objectives that are no more
                self._labels.clear()
            group = attributes_of(key, definition)
            found = self._labels[text] = tuple(
                label_text({NAME: key.slo} | _outcome(cell, reason), group) if reason else ""
                for cell, reason in enumerate(key.reasons)
            )
        return found


_renderings: weakref.WeakKeyDictionary[Engine, _Rendering] = weakref.WeakKeyDictionary()


def _rendering(engine: Engine) -> _Rendering:
    return _renderings.setdefault(engine, _Rendering(host_totals(engine)))


# ── families ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _rows(totals: Totals) -> Iterable[tuple[RowKey, int, Sequence[int]]]:
    """Key, birth and cells of every row; those that no commit holds yet are at 0."""
    rows = totals.rows
    for row in range(rows.rows):
        yield rows.row_name(row), rows.row_birth_ns(row), rows.cells(row)
    for key, born_ns in totals.new_rows:
        yield key, born_ns, _NO_CELLS


def _outcome(cell: int, reason: str) -> dict[str, str]:
    if cell == 0:
        return {OUTCOME: "good"}
    return {OUTCOME: "bad" if cell < FIRST_EXCLUDED else "excluded", REASON: reason}


def _exemplars(totals: Totals) -> dict[tuple[str, str], tuple[str, int, int]]:
    """The newest loss with a trace of each row and reason: trace id, count, Unix ns."""
    found: dict[tuple[str, str], tuple[str, int, int]] = {}
    for one in totals.losses:  # newest first
        if one.row_key is not None and one.loss.trace_id:
            found.setdefault((one.row_key, one.loss.reason), (one.loss.trace_id, one.loss.count, one.wall_ns))
    return found


def _gauges(page: Page, totals: Totals) -> None:
    """What was decided; nothing where nothing happened, since no data is not good data."""
    named = {definition.name: definition for definition in totals.definitions}
    told = [(status, named[status.slo], _group_of(status, named[status.slo])) for status in totals.statuses]
    for gauge in gauges(totals.alerts_decided):
        name = gauge.name.replace(".", "_")
        page.family(name, "gauge", gauge.description, "ratio" if name.endswith("_ratio") else "")
        for status, definition, group in told:
            for value, more in gauge.points(status, definition):
                page.gauge(label_text({NAME: status.slo} | more, group), value)


def _limits(page: Page, totals: Totals) -> None:
    for gauge in LIMIT_GAUGES if totals.limits else ():
        page.family(gauge.name.replace(".", "_"), "gauge", gauge.description)
        for status in totals.limits:
            value = gauge.value_of(status)
            if value is not None:
                page.gauge(label_text({NAME: status.name}), float(value))


def _group_of(status: Status, definition: Definition) -> dict[str, str]:
    return attributes_of(RowKey(status.slo, definition.meaning, status.group, ()), definition)


def _durations(page: Page, totals: Totals) -> None:
    page.family("slo_request_duration_seconds", "histogram", "Durations by route or call site.", "seconds")
    born_ns = next((born for key, born, _ in _rows(totals) if key.slo == SELF), 0)  # the ring's first row
    by_kind: dict[str, list[tuple[str, int]]] = {}
    for key, words in totals.histograms:
        attributes = traffic_attributes_of(key)
        bounds = by_kind.setdefault(attributes[KIND], _bounds(attributes[KIND], totals.definitions))
        upto = list(accumulate(words[ZERO:USED_WORDS]))
        buckets = [(bound, upto[word] if word >= 0 else 0) for bound, word in bounds]
        page.histogram(label_text(attributes), buckets, upto[-1], seconds(words[SUM] << SUM_SHIFT), born_ns)


def _bounds(kind: str, definitions: Iterable[Definition]) -> list[tuple[str, int]]:
    """Every `le` of a kind, and the last bucket that lies wholly at or under it, -1 for none."""
    thresholds = (
        d.threshold_ns for d in definitions if d.threshold_ns is not None and (d.match or {}).get("kind") == kind
    )
    return [(seconds(ns), bisect_right(UPPER_NS, ns) - 1) for ns in sorted({*BOUNDS_NS, *thresholds})]


def _gen_ai(page: Page, totals: Totals) -> None:
    """Named as OpenTelemetry's names are in Prometheus; here buckets are exact."""
    for name, group in groupby(series_of(_rows(totals)), lambda one: one.instrument.name):
        for number, one in enumerate(group):
            instrument = one.instrument
            timed = instrument.unit == SECONDS
            if number == 0:
                unit = "seconds" if timed else ""
                page.family("_".join([*name.split("."), *unit.split()]), "histogram", instrument.description, unit)
            upto = list(accumulate(one.buckets))
            buckets = zip(map(repr, instrument.explicit_bounds), upto, strict=False)
            total = seconds(one.total) if timed else str(one.total)
            page.histogram(label_text(one.attributes), buckets, upto[-1], total, one.born_ns)


def _ourselves(page: Page, totals: Totals) -> None:
    page.family("otelslo_faults", "counter", "Failures of otelslo itself, felt by no request.")
    for key, born_ns, cells in _rows(totals):
        if key.slo == SELF:
            for reason, count in list(zip(key.reasons, cells, strict=True))[1:]:
                if reason:
                    page.counter(label_text({"reason": reason}), count, born_ns)
    told = "Attempts to tell a channel that arrived or failed, and notices given up."
    page.family("otelslo_notices", "counter", told)
    for key, born_ns, cells in _rows(totals):
        if key.slo == NOTICES:
            for outcome, count in zip(key.reasons, cells, strict=True):
                if outcome:
                    page.counter(label_text({CHANNEL: str(key.group), DELIVERY: outcome}), count, born_ns)
    page.family("otelslo_requests_in_flight", "gauge", "Requests begun and not ended, in all workers of the host.")
    page.gauge("", totals.in_flight)
    if totals.committed:
        told = "How old the commit is that the totals are from; absent while they come from the ring itself."
        page.family("otelslo_commit_age_seconds", "gauge", told, "seconds")
        page.gauge("", max(0, totals.read_ns - totals.at_ns) / SECOND_NS)


# ── apps ───────────────────────────────────────────────────────────────────────────────────────────────────────────
class MetricsASGI:
    """An ASGI app that answers every path with the page. Made by `metrics_asgi`."""

    def __init__(self, engine: Engine | None) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            status, headers, body = await self._answer(scope)
            fields = [(name.lower().encode(), value.encode()) for name, value in headers]
            await send({"type": "http.response.start", "status": status, "headers": fields})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope) -> _Answer:
        if scope["method"] not in ("GET", "HEAD"):
            return _not_allowed()
        accept = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"accept")
        if self._engine is not None:  # often there is nothing to wait for
            openmetrics = wants_openmetrics(accept)
            ready = _rendering(self._engine).ready(openmetrics)
            if ready is not None:
                return _ok(OPENMETRICS if openmetrics else PROMETHEUS, ready)
        return await to_thread.run_sync(self._read, accept, limiter=_one_at_a_time())

    def _read(self, accept: str) -> _Answer:
        self._engine = engine = default.running(self._engine) or self._engine
        return _answer(engine, accept)


def metrics_asgi(engine: Engine | None = None) -> MetricsASGI:
    """The page as an ASGI app; without an engine that of the process's own one. Never holds the event loop."""
    return MetricsASGI(engine)


def metrics_wsgi(engine: Engine | None = None) -> Callable[[dict[str, Any], Callable[..., Any]], list[bytes]]:
    """The page as a WSGI app; without an engine that of the process's own one."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        method = environ.get("REQUEST_METHOD", "GET")
        if method in ("GET", "HEAD"):
            status, headers, body = _answer(default.running(engine), environ.get("HTTP_ACCEPT", ""))
        else:
            status, headers, body = _not_allowed()
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [] if method == "HEAD" else [body]

    return app


_Headers = list[tuple[str, str]]
_Answer = tuple[int, _Headers, bytes]
_limiters: RunVar[CapacityLimiter] = RunVar("otelslo_metrics")


def _one_at_a_time() -> CapacityLimiter:
    """Who waits for the page waits here, and not in threads that the app needs for its own requests."""
    try:
        return _limiters.get()
    except LookupError:
        limiter = CapacityLimiter(1)
        _limiters.set(limiter)
        return limiter


def _answer(engine: Engine | None, accept: str) -> _Answer:
    """The page; 503 while it cannot be had, and without an engine: otelslo is off or could not start. Never raises."""
    if engine is not None and engine.running:
        try:
            return _ok(*render(engine, accept))
        except StateError:  # a database that is locked now is no fault
            pass
        except Exception as e:
            engine.fault("export", f"/metrics: {type(e).__name__}: {e}")
    return 503, _headers("text/plain; charset=utf-8", _ABSENT, ("Retry-After", "1")), _ABSENT


def _ok(content_type: str, body: bytes) -> _Answer:
    return 200, _headers(content_type, body, ("Vary", "Accept")), body


def _not_allowed() -> _Answer:
    body = b"ask with GET\n"
    return 405, _headers("text/plain; charset=utf-8", body, ("Allow", _METHODS)), body


def _headers(content_type: str, body: bytes, more: tuple[str, str]) -> _Headers:
    return [("Content-Type", content_type), ("Content-Length", str(len(body))), more]


async def _live(receive: Receive, send: Send) -> None:
    """A server that runs nothing but this app asks for its start and its end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
