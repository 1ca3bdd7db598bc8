"""Rules about limits: whether one can be breached without anybody noticing, or can be nothing but breached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otelslo.alerts import PAGE
from otelslo.errors import nearest
from otelslo.limit import NUMBER, Limit
from otelslo.lint.finding import ERROR, NOTE, Finding, at

_LOG = "log"


def of(limit: Limit, channels: Mapping[str, str] | None) -> Iterator[Finding]:
    if limit.unit == NUMBER and limit.bound == 0:
        problem = "every value above 0 breaches it, however small"
        yield at(limit, "limit")(NOTE, "zero-limit", problem, "Write what is still no breach, such as 0.1")
    if limit.stale_after_ns is None:
        problem = "a value that was told once holds for ever: it stays met where nobody tells it any more"
        yield at(limit, "stale_after")(
            NOTE, "never-stale", problem, "Add stale_after: 2d, after which there is no data"
        )
    if limit.severity == PAGE and not limit.about.runbook_url:
        problem = "it pages people and does not say what they are to do"
        yield at(limit, "runbook_url")(NOTE, "no-runbook", problem, "Add runbook_url: https://...")
    if channels is not None:
        yield from _heard(limit, channels)


def _heard(limit: Limit, channels: Mapping[str, str]) -> Iterator[Finding]:
    told = [name for name in channels if limit.notify is None or name in limit.notify]
    if not told:
        wanted = " or ".join(map(repr, limit.notify or ()))
        problem = f"its alert reaches nobody: there is no channel {wanted}"
        yield at(limit, "notify")(ERROR, "unheard", problem, nearest((limit.notify or [""])[0], channels))
    elif limit.severity == PAGE and all(channels[name] == _LOG for name in told):
        problem = "its pages go to the log only, which wakes nobody"
        yield at(limit, "notify")(
            NOTE, "unheard", problem, "Add a channel under channels: a webhook, alertmanager, ..."
        )
