"""What `otelslo doctor` says of the channels: whether each can be made here, and, if asked, whether a test arrives.

A channel that cannot be made is found out when somebody is to be woken; better here.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otelslo import channels
from otelslo.channels import Channel, SendFailed
from otelslo.cli.findings import Finding, note, ok, problem
from otelslo.errors import OtelsloError
from otelslo.notice import Notice
from otelslo.window import SECOND_NS

AREA = "channels"
TIMEOUT_NS = 10 * SECOND_NS
_NONE = "none is configured, so alerts go to the log of the app"
Chosen = Mapping[str, tuple[str, Mapping[str, Any]]]


def configured(chosen: Chosen | None, running: list[str] | None, *, test: bool = False) -> Iterator[Finding]:
    """Each channel of the configuration that can be read here.

    Args:
        chosen: kind and options by the channel's name; None where the configuration cannot be read here.
        running: the channels that the workers wrote down, if they did.
        test: whether to send something.
    """
    if chosen is None:
        named = f": {', '.join(running)}" if running else ""
        text = f"those of the workers{named}; the configuration is not read here, so none is tried"
        yield (
            problem(AREA, f"{text}: nothing was sent", "Name a YAML file: OTELSLO_CONFIG") if test else note(AREA, text)
        )
        return
    here = list(chosen) or ["log"]
    if running is not None and sorted(running) != sorted(here):
        text = f"the workers run others: {', '.join(running)}"
        yield note(AREA, text, "If this is their file, the log of the app says why it was not taken over")
    if not chosen:
        yield ok(AREA, _NONE)
        if test:
            yield note(AREA, "there is nothing to test: a log needs no way", "Configure channels: in slo.yaml")
    for name, (kind, options) in chosen.items():
        yield _examined(name, kind, options, test)


def _examined(name: str, kind: str, options: Mapping[str, Any], test: bool) -> Finding:
    try:
        channel = channels.load(kind)(name, options)
    except OtelsloError as e:
        remedy = "Correct it; if only the workers have its secret, ask in their environment"
        return problem(AREA, f"{name} ({kind}) cannot be made here: {e}", remedy, channel=name, kind=kind)
    except Exception as e:  # a channel from elsewhere
        text = f"{name} ({kind}) cannot be made here: {type(e).__name__}: {e}"
        return problem(AREA, text, "See the package that offers it", channel=name, kind=kind)
    try:
        if test:
            return _tested(name, kind, channel)
        return ok(AREA, f"{name} ({kind}) can be made; --test-channels tries it", channel=name, kind=kind)
    finally:
        _close(channel)


def _tested(name: str, kind: str, channel: Channel) -> Finding:
    notice = test_notice(time.time_ns())
    facts = {"channel": name, "kind": kind, "key": notice.key}
    try:
        channel.send(notice, time.monotonic_ns() + TIMEOUT_NS)
    except SendFailed as e:
        again = " It may arrive later: the workers would try again." if e.retryable else ""
        return problem(AREA, f"{name} ({kind}): the test did not arrive: {e}", f"See the receiver.{again}", **facts)
    except Exception as e:
        text = f"{name} ({kind}): the test failed: {type(e).__name__}: {e}"
        return problem(AREA, text, "See the package that offers the channel", **facts)
    return ok(AREA, f"{name} ({kind}): the test was taken, key {notice.key}", **facts)


def _close(channel: Channel) -> None:
    try:
        channel.close(time.monotonic_ns() + TIMEOUT_NS)
    except Exception:
        return  # what was to be found out is known


def test_notice(now_wall_ns: int) -> Notice:
    """What `--test-channels` sends; nobody is to be woken by it."""
    title = "otelslo: a test, nothing is wrong"
    text = "Sent by `otelslo doctor --test-channels`. Notices of alerts arrive here like this one."
    return Notice(
        key=uuid.uuid4().hex,
        event="test",
        slo="",
        group=None,
        alert="otelslo-test",
        severity="info",
        at_wall_ns=now_wall_ns,
        since_wall_ns=now_wall_ns,
        title=title,
        text=text,
        labels={"alert": "otelslo-test", "severity": "info"},
        annotations={"title": title, "text": text},
    )


def written(path: Path) -> list[str] | None:
    """The channels that the last worker to start wrote down beside its objectives."""
    try:
        found = json.loads(path.read_text())["channels"]
        return [str(name) for name in found]
    except (OSError, ValueError, TypeError, KeyError):
        return None
