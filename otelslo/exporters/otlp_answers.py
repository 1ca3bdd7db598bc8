"""What a collector's answer means: whether the points of one request are there, and if not, whether to come again."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from otelslo.errors import shown
from otelslo.exporters import ExportFailed
from otelslo.http_call import Answer, retry_after_s

_RETRYABLE = (429, 502, 503, 504)  # of the specification of OTLP/HTTP; no other status is
_ABOUT_THE_POINTS = (400, 413, 422)


def judge(answer: Answer, points: int, where: str) -> str:
    """What the collector says besides that it has taken all points, mostly nothing.

    Raises:
        ExportFailed: it has not.
    """
    status = answer.status
    if 200 <= status < 300:
        return _judge_success(answer, points, where)
    if status in _RETRYABLE:
        raise ExportFailed(f"{where} answered {status}{_quoted(answer)}", retry_after_s(answer.retry_after))
    if 300 <= status < 400:
        text = f"{where} answered {status} to {shown(answer.location)}, which is not followed: write that endpoint"
        raise ExportFailed(text, retryable=False)
    rejected = points if status in _ABOUT_THE_POINTS else 0
    raise ExportFailed(f"{where} answered {status}{_quoted(answer)}", retryable=False, rejected_points=rejected)


def _judge_success(answer: Answer, points: int, where: str) -> str:
    try:
        rejected, message = _partial_success(answer)
    except Exception:
        text = f"{where} answered {answer.status}, but not as a collector does{_quoted(answer)}: is it the endpoint?"
        raise ExportFailed(text, retryable=False) from None
    if rejected > 0:
        text = f"{where} rejected {rejected} of {points} points: {shown(message)}"
        raise ExportFailed(text, retryable=False, rejected_points=min(rejected, points))
    return message


def _partial_success(answer: Answer) -> tuple[int, str]:
    """How many points were rejected, and the message. Raises an exception of any kind for what is no answer to OTLP."""
    if not answer.body:
        return 0, ""
    if "json" in answer.content_type.lower():
        found: Any = json.loads(answer.body).get("partialSuccess") or {}
        return int(found.get("rejectedDataPoints") or 0), str(found.get("errorMessage") or "")
    partial = ExportMetricsServiceResponse.FromString(answer.body).partial_success
    return partial.rejected_data_points, partial.error_message


def _quoted(answer: Answer) -> str:
    text = answer.body.decode("utf-8", "replace").strip()
    return f": {shown(text)}" if text else ""
