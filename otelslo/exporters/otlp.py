"""Sends reports to an OpenTelemetry collector, over OTLP/HTTP in protobuf, and says honestly whether they arrived.

We do not send by the SDK's own exporter: of release 1.45 it calls a redirect, a page of HTML and a partly rejected
request a success, and a peer that drips its answer holds it past any timeout. OpenTelemetry is loaded by `create`,
never before.
"""

from __future__ import annotations

import gzip
import logging
import os
import time
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from otelslo._version import VERSION
from otelslo.errors import DefinitionError, Place, shown
from otelslo.exporters import ExportFailed
from otelslo.report import Report

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otelslo.exporters.otlp_settings import Settings

log = logging.getLogger("otelslo")

_PLACE = Place("exporters").at("otlp")
_OPTIONS = ("endpoint", "headers", "http_duration")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_GRPC_PORT = 4317
_GRPC = (
    "otelslo exports OTLP over http/protobuf only, and the environment asks for grpc: nothing is exported. Write the"
    " collector's HTTP endpoint, usually of port 4318, into slo.yaml as exporters: {otlp: {endpoint:"
    " http://collector:4318/v1/metrics}}, or set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf and"
    " OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
)
_said: set[str] = set()


def wanted(env: Mapping[str, str]) -> bool:
    """Whether the environment alone turns this exporter on; one that asks for gRPC is told once, in the log, why not.

    An endpoint of OTLP must be set, OTEL_METRICS_EXPORTER, if it is set, must name otlp, and OTEL_SDK_DISABLED not be
    true.
    """
    if not any(env.get(name, "").strip() for name in _ENDPOINTS):
        return False
    named = [name.strip().lower() for name in env.get("OTEL_METRICS_EXPORTER", "").split(",") if name.strip()]
    if named and not any(name.startswith("otlp") for name in named):
        return False
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if _asks_for_grpc(env):
        _say_once(_GRPC)
        return False
    return True


def create(options: Mapping[str, object]) -> OtlpExporter:
    """The exporter to one collector.

    Args:
        options: `endpoint` (a whole URL, otherwise that of the environment), `headers` (besides those of the
            environment), `http_duration` (true: durations of HTTP requests are called http.server.request.duration).

    Raises:
        DefinitionError: an option or a variable cannot be meant, only gRPC is asked for, or OpenTelemetry is missing.
    """
    _PLACE.only(options, _OPTIONS)
    wants_http_name = _PLACE.at("http_duration").expect(options.get("http_duration", False), bool, "true or false")
    if options.get("endpoint") is None and _asks_for_grpc(os.environ):
        raise DefinitionError(str(_PLACE), _GRPC)
    try:
        from otelslo.exporters import otlp_answers, otlp_points, otlp_settings  # noqa: F401
    except ImportError as e:
        remedy = "Run: pip install opentelemetry-sdk opentelemetry-proto"
        raise _PLACE.error(f"OpenTelemetry cannot be loaded ({e})", remedy) from e
    return OtlpExporter(otlp_settings.settings(options, os.environ, _PLACE), wants_http_name)


def _asks_for_grpc(env: Mapping[str, str]) -> bool:
    protocol = next((env[name].strip().lower() for name in _PROTOCOLS if env.get(name, "").strip()), "")
    return protocol == "grpc"


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        log.warning("%s", text)


class OtlpExporter:
    """One collector. Each export opens a connection of its own, so nothing is kept that could go stale or be forked."""

    def __init__(self, settings: Settings, http_duration: bool = False) -> None:
        from otelslo.http_call import Lookup

        self._settings = settings
        self._http_duration = http_duration
        self._lookup = Lookup()
        self._resource: Resource | None = None
        coding = {} if settings.compression == "none" else {"content-encoding": settings.compression}
        agent = {"user-agent": f"otelslo/{VERSION}"}
        self._headers = {"content-type": "application/x-protobuf", **coding, **agent}

    def export(self, report: Report, deadline_ns: int) -> None:
        """Send all requests of a report. One that the collector refuses does not keep it from getting the others.

        Raises:
            ExportFailed: not everything arrived.
        """
        from otelslo.exporters.otlp_answers import judge
        from otelslo.exporters.otlp_points import requests
        from otelslo.http_call import Connection, Deadline

        where, timeout_ns = self._settings.shown, round(min(self._settings.timeout_s, 3600.0) * 1e9)
        deadline = Deadline(min(deadline_ns, time.monotonic_ns() + timeout_ns))
        refused: list[ExportFailed] = []
        with Connection(self._settings, deadline, self._lookup) as connection:
            for points, body in requests(report, self._known_resource(), self._http_duration):
                try:
                    answer = connection.post(self._compressed(body), self._headers)
                except (OSError, RuntimeError) as e:
                    raise ExportFailed(f"{where}: {self._told(e)}") from e
                try:
                    warning = judge(answer, points, where)
                except ExportFailed as e:
                    if not e.rejected_points:  # it is not about these points, so the others would fare no better
                        raise
                    refused.append(e)
                else:
                    if warning:
                        _say_once(f"{where} took the points and says: {shown(warning)}")
        if refused:
            more = f" (and {len(refused) - 1} requests more)" if len(refused) > 1 else ""
            rejected = sum(e.rejected_points for e in refused)
            raise ExportFailed(f"{refused[0]}{more}", retryable=False, rejected_points=rejected)

    def close(self, deadline_ns: int) -> None:
        """Nothing is open between two exports."""

    def _known_resource(self) -> Resource:
        from opentelemetry.sdk.resources import Resource

        if self._resource is None:
            self._resource = Resource.create()
        return self._resource

    def _compressed(self, body: bytes) -> bytes:
        if self._settings.compression == "gzip":
            return gzip.compress(body, compresslevel=6, mtime=0)
        return zlib.compress(body) if self._settings.compression == "deflate" else body

    def _told(self, error: Exception) -> str:
        text = str(getattr(error, "strerror", None) or error or type(error).__name__)
        if isinstance(error, ConnectionError) and self._settings.port == _GRPC_PORT:
            text += f"; port {_GRPC_PORT} is usually of gRPC, otelslo speaks HTTP, usually at 4318"
        return text
