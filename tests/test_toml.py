"""Configurations in TOML: the same objectives as in YAML, and errors at their lines."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from otelslo import config
from otelslo.errors import DefinitionError
from otelslo.toml_document import read_toml

TOML = """
state_dir = "state"

[channels.hook.webhook]
url = "https://hooks.example.com/otelslo"

[[slos]]
name = "checkout"
target = 99.9e-2
calendar = "month"
timezone = "America/New_York"
match = {route = "/checkout/*", method = ["GET", "POST"]}
rules.401 = "bad"

[[slos.maintenance]]   # of checkout
start = 2027-02-01 00:00:00
duration = "2h"
timezone = "UTC"

[[slos]]
name = "search"
indicator = "latency"
"threshold" = "200ms"
target = "95%"
alerts.tiers.fast = {severity = "page", long = "1h", short = "5m", factor = 14.4}

[[limits]]
name = "model-age"
limit = "90d"
"""
YAML = """
state_dir: state
channels: {hook: {webhook: {url: "https://hooks.example.com/otelslo"}}}
slos:
  - name: checkout
    target: 99.9%
    calendar: month
    timezone: America/New_York
    match: {route: "/checkout/*", method: [GET, POST]}
    rules: {"401": bad}
    maintenance: [{start: "2027-02-01 00:00", duration: 2h, timezone: UTC}]
  - name: search
    indicator: latency
    threshold: 200ms
    target: 95%
    alerts: {tiers: {fast: {severity: page, long: 1h, short: 5m, factor: 14.4}}}
limits:
  - {name: model-age, limit: 90d}
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="slo.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_it_says_what_the_yaml_says(written):
    one, other = config.load(written(TOML)), config.load(written(YAML, "slo.yaml"))
    assert [slo.definition() for slo in one.slos] == [slo.definition() for slo in other.slos]
    assert [limit.definition() for limit in one.limits] == [limit.definition() for limit in other.limits]
    assert (one.state_dir, one.channels) == (other.state_dir, other.channels)


@pytest.mark.parametrize(
    ("wrong", "right", "place", "problem"),
    [
        ('"200ms"', '"fast"', ":23:15", "'fast' is no duration"),
        ('name = "search"', 'name = "checkout"', ":21:8", "checkout"),
        ('"95%"', '"195%"', ":24:10", "195%"),
        ("factor = 14.4", "factor = -1", ":25:21", "-1"),
        ('"America/New_York"', '"Mars"', ":11:12", "Mars"),
        ('"2h"', '"long"', ":17:12", "'long' is no duration"),
        ('indicator = "latency"', 'indcator = "latency"', ":22:1", "unknown key 'indcator'"),
        ('limit = "90d"', 'limit = "0d"', ":29:9", "0d"),
        ('state_dir = "state"', "state_dir = 3", ":2:13", "state_dir"),
        ("[[limits]]", "[[limits]", ":27", "unreadable TOML"),
        ('name = "checkout"', 'name = "checkout', ":8", "unreadable TOML"),
    ],
)
def test_errors_are_at_their_lines(written, wrong, right, place, problem):
    path = written(TOML.replace(wrong, right, 1))
    with pytest.raises(DefinitionError) as refused:
        config.load(path)
    assert str(refused.value).startswith(f"{path}{place}")
    assert problem in str(refused.value)


def test_an_empty_file(written):
    with pytest.raises(DefinitionError, match=r"slo\.toml:1:1.*no list of SLOs"):
        config.load(written(""))


def test_nesting_without_end(written):
    with pytest.raises(DefinitionError, match=r"nested too deeply|unreadable TOML"):
        config.load(written("a = " + "[" * 100_000))


NAMES = st.text("abc-_1", min_size=1, max_size=4)


@given(st.lists(st.dictionaries(NAMES, st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=5))
def test_every_key_is_at_its_line(tables):
    lines, expected = [], {}
    for index, table in enumerate(tables):
        lines += ["", "[[slos]]"]
        for key, value in table.items():
            lines.append(f"{key} = {value}")
            expected[("slos", index, key)] = len(lines)
    document = read_toml("x", "\n".join(lines))
    assert document.value == {"slos": tables}
    assert {path: document.keys[path][0] for path in expected} == expected
    for path, line in expected.items():
        assert re.fullmatch(rf"x:{line}:[0-9]+", document.place(path))


def test_yaml_and_toml_are_told_apart_by_name(written):
    assert yaml.safe_load(YAML)
    with pytest.raises(DefinitionError):
        config.load(written(YAML))
