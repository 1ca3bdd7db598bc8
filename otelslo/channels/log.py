"""Writes each notice to Python's logging: one record, the title and then the text.

    log: {log: {}}

Handlers that write fields find the whole notice as the record's attribute `notice`. Names and groups may come from
clients, so control characters are written as escapes, and nobody writes lines of their own into the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from otelslo.channels import place_of
from otelslo.notice import Notice

LOGGER = "otelslo.notices"
_LEVELS = {"page": logging.ERROR, "ticket": logging.WARNING}


def create(name: str, options: Mapping[str, object]) -> Log:
    """The log called `name`.

    Args:
        options: `logger`, the name of a logger, otherwise "otelslo.notices".

    Raises:
        DefinitionError: an option cannot be meant.
    """
    place = place_of(name, "log")
    place.only(options, ("logger",))
    return Log(logging.getLogger(place.at("logger").expect(options.get("logger", LOGGER), str, "a logger's name")))


class Log:
    """One logger: a page is an error, a ticket a warning, all else and every end of an alert an information."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def send(self, notice: Notice, deadline_ns: int) -> None:
        """Log it; what becomes of it then is up to the handlers."""
        level = logging.INFO if notice.event == "resolved" else _LEVELS.get(notice.severity, logging.INFO)
        head = f"{notice.event} ({notice.severity}): {notice.title}"
        lines = [_printable(line) for line in (head, *notice.whole_text.split("\n"))]
        self._logger.log(level, "%s", "\n    ".join(line for line in lines if line), extra={"notice": notice.to_json()})

    def close(self, deadline_ns: int) -> None:
        """The logger is not ours to close."""


def _printable(line: str) -> str:
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line.rstrip())
