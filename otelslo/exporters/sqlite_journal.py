"""The journal: what a reviewer must be able to find later, one line each."""

from __future__ import annotations

import sqlite3


def put_journal(connection: sqlite3.Connection, kind: str, text: str, wall_ns: int) -> None:
    """Inside a transaction."""
    entry = (wall_ns, clean(kind), clean(text))
    connection.execute("INSERT INTO journal (wall_ns, kind, text) VALUES (?, ?, ?)", entry)


def clean(text: str) -> str:
    """Text from requests may hold lone surrogates, which no database takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
