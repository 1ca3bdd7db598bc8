"""Overriding the gate: whoever does it, and why, stands in the journal, and the channels are told."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from otelslo.cli.gate_answer import GO, Answer, Line
from otelslo.cli.notebook import writing
from otelslo.definition import Definition
from otelslo.limit import Limit
from otelslo.notice import Notice
from otelslo.ring import state as files

KIND, ALERT = "override", "gate"
LONGEST_REASON = 500
DEFAULT_CHANNELS = ("log",)


def who() -> str:
    """The user as the system knows them; a container may know a number only."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        pass
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def record(directory: Path, answer: Answer, user: str, reason: str, wall_ns: int) -> None:
    """Write the override down at `wall_ns` (Unix ns); the leader tells the channels of each objective that said no.

    Raises:
        StateError: it cannot be recorded.
    """
    would_be = "GO" if answer.exit_code == GO else "NO GO"
    text = f"{user}: {reason} (the gate would have said {would_be}: {answer.because})"
    known = channels(directory)
    parcels = [
        (notice.key, channel, json.dumps(notice.to_json()))
        for definition, lines in _stopped(answer)
        for notice in [_notice(definition, lines, answer, user, reason, wall_ns)]
        for channel in (known if definition.notify is None else definition.notify)
    ]
    with writing(directory, wall_ns) as notes:
        notes.post(parcels, wall_ns, (KIND, text))


def channels(directory: Path) -> tuple[str, ...]:
    """The names of all channels, as the workers write them beside the definitions."""
    try:
        found = json.loads((directory / files.DEFINITIONS_FILE).read_text())["channels"]
        return tuple(str(name) for name in found)
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_CHANNELS


def _stopped(answer: Answer) -> Iterable[tuple[Definition | Limit, Sequence[Line]]]:
    """The objectives that would have stopped it, each with its lines that would."""
    found: dict[str, tuple[Definition | Limit, list[Line]]] = {}
    for line in answer.stopping:
        found.setdefault(line.definition.name, (line.definition, []))[1].append(line)
    return found.values()


def _notice(
    definition: Definition | Limit, lines: Sequence[Line], answer: Answer, user: str, reason: str, wall_ns: int
) -> Notice:
    group = lines[0].group if len(lines) == 1 else None
    title = f"{definition.name}: {user} overrode the release gate"
    said = [f"{line.group or definition.name}: {line.verdict.step}, {line.verdict.because}" for line in lines]
    text = "\n".join([f"Reason: {reason}", *([answer.problem] if answer.problem else []), *said])
    about = definition.about
    labels = dict(about.labels) | {"slo": definition.name, "alert": ALERT, "severity": "info"}
    labels |= ({} if group is None else {"group": group}) | ({"owner": about.owner} if about.owner else {})
    optional = {"because": about.because, "runbook_url": about.runbook_url, "description": definition.description}
    return Notice(
        key=secrets.token_hex(16),
        event="override",
        slo=definition.name,
        group=group,
        alert=ALERT,
        severity="info",
        at_wall_ns=wall_ns,
        since_wall_ns=wall_ns,
        title=title,
        text=text,
        labels=labels,
        annotations={"title": title, "text": text} | {key: value for key, value in optional.items() if value},
        data={"who": user, "reason": reason, "gate": [line.to_json() for line in lines], "problem": answer.problem},
    )
