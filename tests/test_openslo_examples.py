"""The documents of the OpenSLO specification itself: what is said of each, and what loads once its metrics are ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otelslo import config
from otelslo.errors import DefinitionError

HOME = Path(__file__).parents[2] / "shared" / "data" / "openslo"
# Templates hold the names of types where values belong, fragments are parts of documents.
DOCUMENTS = [path for path in sorted(HOME.rglob("*.yaml")) if not re.search("template|fragment", path.name)]
LOW_TRAFFIC = "treat-low-traffic-as-equally-important"
pytestmark = pytest.mark.skipif(not DOCUMENTS, reason="needs the examples of OpenSLO/OpenSLO in ../shared/data/openslo")


def ours(path: Path, tmp_path: Path, indicator: str) -> Path:
    """The document with `indicator` in the place of metrics that somebody else has."""
    text = re.sub(r"type: Any.*", "type: otelslo", path.read_text())
    made = tmp_path / "openslo.yaml"
    made.write_text(re.sub(r"query: Any.*", f"indicator: {indicator}", text))
    return made


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_cannot_be_measured_here_is_refused_at_its_line(path: Path) -> None:
    with pytest.raises(DefinitionError) as refused:
        config.load(path)
    place, line, column = refused.value.place.rsplit(":", 2)
    assert place == str(path)
    assert 1 <= int(line) <= len(path.read_text().splitlines()) + 1
    assert int(column) >= 1
    assert refused.value.remedy or "not" in refused.value.problem


@pytest.mark.parametrize(
    ("name", "indicator", "expected"),
    [
        ("budgeting-method/ratio-timeslices", "availability", ("main-page", "99%", "ratio_timeslices")),
        ("budgeting-method/occurences-slo", "latency", ("search-slo", "99%", "occurrences")),
        (
            "treat-low-traffic-as-equally-important/timeslices-slo",
            "availability",
            ("service-availability", "99.95%", "timeslices"),
        ),
    ],
)
def test_with_metrics_of_ours_it_loads(name, indicator, expected, tmp_path: Path) -> None:
    loaded = config.load(ours(HOME / "examples" / f"{name}.yaml", tmp_path, indicator))
    (slo,) = loaded.slos
    assert (slo.name, slo.as_definition.target, slo.budgeting) == expected


def test_a_month_is_no_minute(tmp_path: Path) -> None:
    """The specification's own example says `duration: 1m` of a month."""
    made = ours(HOME / "examples" / "budgeting-method" / "timeslices-slo.yaml", tmp_path, "availability")
    with pytest.raises(DefinitionError, match="write 1M for a month"):
        config.load(made)
