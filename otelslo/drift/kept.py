"""Baselines of several features in one JSON file, as `otelslo drift baseline` writes it. Loads numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from otelslo.drift.baseline import Baseline
from otelslo.drift.bins import Bins
from otelslo.errors import DefinitionError, Place

_FORMAT = 1


def write_baselines(path: str | Path, baselines: Iterable[Baseline]) -> None:
    """Write them. DefinitionError if the file cannot be written."""
    try:
        Path(path).write_text(baselines_text(baselines), encoding="utf-8")
    except OSError as e:
        raise Place(str(path)).error(f"cannot be written ({e})") from e


def baselines_text(baselines: Iterable[Baseline]) -> str:
    """What the file holds."""
    kept = {"format": _FORMAT, "baselines": [one.plain() for one in baselines]}
    return json.dumps(kept, allow_nan=False, indent=1) + "\n"


def read_baselines(path: str | Path) -> dict[str, Baseline]:
    """The baselines of a file, by feature. DefinitionError if it is none, or holds a feature twice."""
    place = Place(str(path))
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise place.error(f"cannot be read ({e})", "Make it by `otelslo drift baseline`") from e
    listed = kept.get("baselines") if isinstance(kept, dict) and kept.get("format") == _FORMAT else None
    if not isinstance(listed, list) or not listed:
        raise place.error("it holds no baselines", "Make it by `otelslo drift baseline`")
    found: dict[str, Baseline] = {}
    for number, plain in enumerate(listed):
        try:
            one = Baseline.parse(plain)
        except DefinitionError as e:
            raise place.at(number).error(f"{e.place}: {e.problem}", e.remedy) from e
        if one.feature in found:
            raise place.error(f"the feature {one.feature!r} is there twice", "Leave one out")
        found[one.feature] = one
    return found


def digest_of(bins: Bins) -> str:
    """16 hexadecimal digits that differ for bins that differ: counts of other bins are never added to these."""
    kind = type(bins).__name__
    cut = [float(edge).hex() for edge in bins.edges] if hasattr(bins, "edges") else list(bins.values)
    return hashlib.blake2b(json.dumps([kind, cut]).encode(), digest_size=8).hexdigest()
