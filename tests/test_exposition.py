"""The text formats: which one is asked for, and that names and values from requests keep their place."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo import SLO
from otelslo.attributes import attribute_names, attributes_of
from otelslo.exposition import label_text, seconds, wants_openmetrics
from otelslo.rowkey import RowKey

OPEN = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        (OPEN, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0", False),
        ("application/openmetrics-text;version=9.0.0", False),
        ("application/openmetrics-text;q=0.3,text/plain;version=0.0.4;q=0.5", False),
        ("application/openmetrics-text;q=x, text/plain", False),
        # Prometheus 2.55 and 3.x
        ("application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
         "text/plain;version=0.0.4;q=0.3,*/*;q=0.2", True),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
         "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.7,text/plain;version=0.0.4;q=0.2", True),
        ("," * 100_000 + OPEN, False),
    ],
)  # fmt: skip
def test_the_format_is_negotiated(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_accept_header_is_answered(one: str, other: str) -> None:
    assert wants_openmetrics(f"{one};q={other},{other}") in (True, False)


@given(st.integers(0, 2**62))
def test_seconds_are_exact(duration_ns: int) -> None:
    assert Fraction(seconds(duration_ns)) == Fraction(duration_ns, 10**9)


def test_no_label_takes_the_place_of_another() -> None:
    ours = {"slo.name": "a", "slo.outcome": "good"}
    assert label_text(ours, {"slo_name": "x"}) == 'slo_name="a",slo_outcome="good",slo_group_slo_name="x"'
    group = {"a.b": "1", "a-b": "2", "a_b": "3", "__name__": "4", "9": "5", "größe": "6"}
    labels = label_text({}, group).split(",")
    assert labels == ['a_b="1"', 'slo_group_a_b="2;3"', 'slo_group_name__="4"', 'slo_group_9="5"', 'gr__e="6"']


def test_groups_have_the_attributes_of_the_conventions() -> None:
    keys = ["route", "method", "version", "tier"]
    slo = SLO("a", group_by=keys).as_definition
    row = RowKey("a", slo.meaning, "route=/a%2Cb,method=GET,version=(unknown),tier=x%3D%25", ())
    assert attributes_of(row, slo) == {
        "http.route": "/a,b", "http.request.method": "GET", "service.version": "(unknown)", "tier": "x=%",
    }  # fmt: skip
    for group in ("(overflow)", "(unknown)", "other=keys"):
        assert attributes_of(RowKey("a", slo.meaning, group, ()), slo) == {"slo.group": group}
    assert attributes_of(RowKey("a", slo.meaning, None, ()), slo) == {}
    assert attribute_names(["route", "http.route", "slo.name"]) == [
        "http.route", "slo.group.http.route", "slo.group.slo.name",
    ]  # fmt: skip
