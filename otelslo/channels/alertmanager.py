"""Posts alerts to a Prometheus Alertmanager (API v2), which groups, silences and routes them.

    am: {alertmanager: {url: "http://localhost:9093"}}

Prometheus repeats a firing alert every minute; here each transition is posted once. So a firing alert is given an end
in the far future (`hold`, 365d), which rules over Alertmanager's own resolve_timeout, and `resolved` moves that end to
the moment of the decision. Posting the same again is harmless, and needed only where an Alertmanager was restarted,
since it forgets its alerts: its receivers are not reminded until then, and still told of the end. All Alertmanagers of
a cluster must be told, each as a channel of its own.

Alertmanager knows an alert by its labels, so those of `firing` and `resolved` must be the same.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from otelslo.channels import place_of
from otelslo.channels.http_post import OPTIONS, HttpPost
from otelslo.notice import Notice
from otelslo.window import parse_positive_duration

_SECOND_NS = 1_000_000_000
_HOLD = "365d"
_MOMENT_NS = 900 * _SECOND_NS  # for what has no end of its own: long enough for any group_wait
_LASTING = ("firing", "exhausted")
_PATH = "/api/v2/alerts"
_NO_LETTER = re.compile(r"[^a-zA-Z0-9_]")


def create(name: str, options: Mapping[str, object]) -> Alertmanager:
    """The Alertmanager called `name`.

    Args:
        options: those of `HttpPost`, `url` without /api/v2/alerts; `hold`, how long an alert fires there if nobody ever
            says that it has ended.

    Raises:
        DefinitionError: an option cannot be meant, or a secret is not there.
    """
    place = place_of(name, "alertmanager")
    place.only(options, (*OPTIONS, "hold"))
    spot = place.at("hold")
    hold_ns = spot.parse(parse_positive_duration, spot.expect(options.get("hold", _HOLD), str, f'such as "{_HOLD}"'))
    return Alertmanager(HttpPost(options, place, path=_PATH, allow_http=True, allow_private=True), hold_ns)


class Alertmanager:
    """One Alertmanager, usually of the same network, so http and private addresses are as good as any.

    Args:
        hold_ns: the length of an alert of which nobody says that it has ended.
        wall_ns: the clock by which it is told so, Unix ns.
    """

    def __init__(self, post: HttpPost, hold_ns: int, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._post = post
        self._hold_ns = hold_ns
        self._wall_ns = wall_ns

    def send(self, notice: Notice, deadline_ns: int) -> None:
        """Post it. Raises SendFailed unless Alertmanager took it."""
        body = json.dumps([alert(notice, self._wall_ns(), self._hold_ns)]).encode()
        self._post.post(body, {"idempotency-key": notice.key}, deadline_ns)

    def close(self, deadline_ns: int) -> None:
        """Nothing is open between two notices."""


def alert(notice: Notice, now_wall_ns: int, hold_ns: int) -> dict[str, Any]:
    """The notice as Alertmanager has it. What is told of one moment (an override, a test) ends by itself, and is an
    alert of its own each time."""
    labels = {"alertname": notice.alert, "slo": notice.slo, "severity": notice.severity}
    if notice.group is not None:
        labels["group"] = notice.group
    if notice.event == "resolved":
        ends_wall_ns = max(notice.at_wall_ns, notice.since_wall_ns)
    elif notice.event in _LASTING:
        ends_wall_ns = now_wall_ns + hold_ns
    else:
        labels["notice"] = notice.key
        ends_wall_ns = now_wall_ns + _MOMENT_NS
    told = {"summary": notice.title, "description": notice.text, "otelslo_key": notice.key}
    return {
        "labels": _named({**notice.labels, **labels}),
        "annotations": _named({**notice.annotations, **told}),
        "startsAt": _rfc3339(notice.since_wall_ns),
        "endsAt": _rfc3339(ends_wall_ns),
    }


def _named(texts: Mapping[str, str]) -> dict[str, str]:
    """With the names that every Alertmanager takes; without empty texts, which it takes for missing ones."""
    found: dict[str, str] = {}
    for name, text in texts.items():
        word = _NO_LETTER.sub("_", name)
        if text:
            found[f"_{word}" if not word or word[0].isdigit() else word] = str(text)
    return found


def _rfc3339(wall_ns: int) -> str:
    seconds, rest_ns = divmod(wall_ns, _SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"
