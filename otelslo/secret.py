"""Secrets, which a configuration only points at: "env:NAME" or "file:/path".

They are read where they stand each time that they are needed, so that a rotated file needs no restart, and nothing that
prints a configuration can print one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from otelslo.errors import BadValue, NotHere, Place, shown

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:(//)?/.+")
_REMEDY = 'Write "env:NAME", an environment variable, or "file:/path", a file that holds it'
_LARGEST_BYTES = 1 << 16


class Secret:
    """A text that is read where `reference` points; made by `secret` and `text_or_secret`."""

    __slots__ = ("reference", "written")

    def __init__(self, reference: str, written: str | None = None) -> None:
        self.reference = reference
        self.written = written  # of `text_or_secret`: the text itself, which is no secret

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def read(self) -> str:
        """The text, without the line's end of a file. Raises NotHere: it is not there now, or it is empty."""
        if self.written is not None:
            return self.written
        kind, _, where = self.reference.partition(":")
        text = os.environ.get(where, "") if kind == "env" else _file(where.removeprefix("//"))
        if not text:
            problem = f"{self.reference} is not set" if kind == "env" else f"{self.reference} is empty"
            raise NotHere(problem, "Set it for this process" if kind == "env" else "Write the secret into it")
        return text


def secret(value: object, place: Place) -> Secret:
    """What `value` points at, not read yet. Raises DefinitionError for anything else, which is not quoted."""
    if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
        raise place.error("a secret is not written here", _REMEDY)
    return Secret(value)


def text_or_secret(value: object, place: Place, wanted: str) -> Secret:
    """As `secret`, and a text that is no reference stands for itself. Raises DefinitionError, asking for `wanted`."""
    text = place.expect(value, str, wanted).strip()
    if text.startswith(("env:", "file:")):
        return secret(text, place)
    if not text:
        raise place.error("it is empty", f"Write {wanted}")
    return Secret("the configuration", text)


def _file(where: str) -> str:
    path = Path(where)
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            raise NotHere(f"there is no file {shown(where)}", "Mount it, or name another")
        with path.open("rb") as file:
            return file.read(_LARGEST_BYTES).decode().rstrip("\r\n")
    except BadValue:
        raise
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or type(e).__name__
        raise NotHere(
            f"the file {shown(where)} cannot be read: {why}", "Make it a text that this process may read"
        ) from e
