"""Where a baseline comes from, as a definition says it: a file, the first rows of live traffic, or given in Python."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelslo.errors import BadValue, shown

if TYPE_CHECKING:
    from otelslo.drift.baseline import Baseline

LEAST_LIVE_ROWS, MOST_LIVE_ROWS = 200, 100_000
_LIVE = re.compile(r"live: ?([0-9]{1,9})")
_REMEDY = "Write the path of a file that `otelslo drift baseline` has made (baseline.json), or live:5000"


@dataclass(frozen=True)
class Source:
    """Exactly one of `path` (a .json file), `live_rows` and `given`."""

    path: str | None = None
    live_rows: int | None = None
    given: tuple[Baseline, ...] = ()

    def __str__(self) -> str:
        """A new file is no new meaning of good: a model that is trained anew keeps its objective's history."""
        return "a file" if self.path is not None else "given" if self.given else f"live:{self.live_rows}"


def parse_source(value: object) -> Source:
    """`baseline.json`, `live:5000`, or Baselines in a list. Raises BadValue."""
    if isinstance(value, str):
        live = _LIVE.fullmatch(value.strip())
        if live is not None:
            return Source(live_rows=_live_rows(int(live[1])))
        if not value.endswith(".json"):
            raise BadValue(f"{shown(value)} is no baseline", _REMEDY)
        return Source(path=value)
    given = tuple(value) if isinstance(value, Iterable) and not isinstance(value, bytes) else ()
    if not given or not all(hasattr(one, "bins") and hasattr(one, "feature") for one in given):
        raise BadValue(f"{shown(value)} is no baseline", f"{_REMEDY}; in Python a list of Baseline objects will do")
    names = [one.feature for one in given]
    if len(set(names)) < len(names):
        raise BadValue("two baselines are of one feature", "Give each feature once")
    return Source(given=given)


def _live_rows(rows: int) -> int:
    if not LEAST_LIVE_ROWS <= rows <= MOST_LIVE_ROWS:
        raise BadValue(
            f"a baseline of {rows} live rows", f"Write live:{LEAST_LIVE_ROWS} to live:{MOST_LIVE_ROWS}, better 10,000"
        )
    return rows
