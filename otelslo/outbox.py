"""The courier's outbox in the history's database: rows become parcels, and a row that is none is dropped and said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Protocol

from otelslo.courier import Parcel
from otelslo.errors import StateError
from otelslo.notice import Notice


class Row(Protocol):
    """A parcel as it is stored; `payload` is the notice as JSON."""

    @property
    def id(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def tries(self) -> int: ...
    @property
    def next_wall_ns(self) -> int: ...
    @property
    def payload(self) -> str: ...


class Rows(Protocol):
    """What is asked of the database. Each method may raise StateError; `wall_ns` is now, in Unix ns."""

    def parcels(self, limit: int) -> Sequence[Row]: ...
    def delivered(self, number: int, wall_ns: int) -> None: ...
    def not_delivered(self, number: int, next_wall_ns: int, error: str, wall_ns: int) -> None: ...


class StoredOutbox:
    """All parcels of a database, in the order in which they were posted.

    Args:
        fault: counts a fault of ours (reason, detail): a row that is no notice.
        wall_ns: Unix time.
    """

    def __init__(self, rows: Rows, fault: Callable[[str, str], None], wall_ns: Callable[[], int]) -> None:
        self._rows = rows
        self._fault = fault
        self._wall_ns = wall_ns

    def due(self, now_wall_ns: int, limit: int) -> list[Parcel]:
        """The oldest `limit` of each channel, those whose time has not come among them: they hold their line."""
        found = []
        for row in self._rows.parcels(limit):
            try:
                notice = Notice.from_json(json.loads(row.payload))
            except (StateError, ValueError, RecursionError) as e:
                self._fault("internal", f"a notice for channel {row.channel} cannot be read and is dropped: {e}")
                self.sent(row.id)
            else:
                found.append(Parcel(row.id, row.key, row.channel, row.tries, notice, row.next_wall_ns))
        return found

    def sent(self, parcel_id: int) -> None:
        self._rows.delivered(parcel_id, self._wall_ns())

    def failed(self, parcel_id: int, next_wall_ns: int, error: str) -> None:
        self._rows.not_delivered(parcel_id, next_wall_ns, error, self._wall_ns())
