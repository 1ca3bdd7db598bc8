"""Configuration: where it is looked for, and what a bad file says."""

from __future__ import annotations

import sys
from contextlib import suppress
from fractions import Fraction
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelslo.config import LARGEST_FILE_BYTES, load
from otelslo.errors import DefinitionError
from otelslo.window import DAY_NS

EXAMPLE = """
slos:
  - name: checkout-availability
    indicator: availability       # the file's name in otelslo/indicators/
    target: "99.9%"
    window: 30d                   # rolling
    match: {route: "/checkout/*"} # a glob on the route template
  - name: search-latency
    indicator: latency
    threshold: 200ms
    target: "95%"
    window: 28d
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def refused(tmp_path, text):
    """What loading a file of this text says."""
    file = tmp_path / "slo.yaml"
    file.write_bytes(text if isinstance(text, bytes) else dedent(text).lstrip("\n").encode())
    with pytest.raises(DefinitionError) as caught:
        load("slo.yaml", {})
    return str(caught.value)


def accepted(tmp_path, text):
    """The objectives of a file of this text."""
    (tmp_path / "slo.yaml").write_text(dedent(text).lstrip("\n"))
    return load("slo.yaml", {}).slos


def test_without_any_configuration_there_is_one_objective():
    """Availability at three nines over 30 days."""
    config = load(env={})
    assert [(slo.name, slo.indicator, slo.target_ratio, slo.window_ns) for slo in config.slos] == [
        ("availability", "availability", Fraction(999, 1000), 30 * DAY_NS)
    ]
    assert config.path is None


def test_the_order_of_places(tmp_path):
    """An argument, the environment, slo.yaml in the working directory."""
    for name in ("slo", "env", "argument"):
        (tmp_path / f"{name}.yaml").write_text(f"slos: [{{name: {name}}}]")
    env = {"OTELSLO_CONFIG": "env.yaml"}
    assert load("argument.yaml", env).slos[0].name == "argument"
    assert load(tmp_path / "argument.yaml", env).path == str(tmp_path / "argument.yaml")
    assert load(env=env).slos[0].name == "env"
    assert load(env={}).slos[0].name == "slo"
    assert load(env={"OTELSLO_CONFIG": ""}).path == "slo.yaml"


def test_the_documented_example(tmp_path):
    """As the README shows it."""
    first, second = accepted(tmp_path, EXAMPLE)
    assert first.matches("http", "/checkout/{id}", "GET", "")
    assert (second.threshold_ns, second.window_ns, second.target_ratio) == (200_000_000, 28 * DAY_NS, Fraction(19, 20))


def test_values_mean_what_they_say(tmp_path):
    """`on`, `no` and 010 are texts, numbers are exact, a merge key works, a byte order mark does no harm."""
    text = """
    slos:
      - &base {name: on, target: 0.9995, rules: {404: bad}, description: 1:30, max_groups: 7, good: ~}
      - {<<: *base, name: no, target: 0.9, description: "2026-11-24"}
    state_dir: /var/lib/otelslo
    retention: 40d
    """
    first, second = accepted(tmp_path, text)
    assert (first.name, first.target_ratio, first.description) == ("on", Fraction(9995, 10_000), "1:30")
    assert (second.name, second.target_ratio, second.max_groups) == ("no", Fraction(9, 10), 7)
    config = load("slo.yaml", {})
    assert (config.state_dir, config.retention_ns) == ("/var/lib/otelslo", 40 * DAY_NS)
    (tmp_path / "slo.yaml").write_bytes(b"\xef\xbb\xbfslos: [{name: a}]")
    assert load("slo.yaml", {}).slos[0].name == "a"


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ('slos:\n  - name: a\n    target: "100%"\n', "3:13", "no error budget"),
        ("slos:\n  - name: a\n    target: 0\n", "3:13", "promises nothing"),
        ('slos:\n  - name: a\n    target: "99,9"\n', "3:13", "Use a point: 99.9%"),
        ("slos:\n  - name: a\n    target: 1.5\n", "3:13", "more than everything"),
        ("slos:\n  - name: a\n    target: 99.9\n", "3:13", 'Did you mean "99.9%"?'),
        ("slos:\n  - name: a\n    target: true\n", "3:13", "no target"),
        ("slos:\n  - name: a\n    target: .nan\n", "3:13", "no target"),
        ("slos:\n  - name: a\n    window: 1M\n", "3:13", "calendar"),
        ("slos:\n  - name: a\n    window: 10s\n", "3:13", "too short"),
        ("slos:\n  - name: a\n    window: 500d\n", "3:13", "too long"),
        ("slos:\n  - name: a\n    window: 30\n", "3:13", "a number and a unit"),
        ("slos:\n  - name: a\n    window: 1:30\n", "3:13", "a number and a unit"),
        ("slos:\n  - name: a\n    calendar: months\n", "3:15", "Did you mean 'month'?"),
        ("slos:\n  - name: a\n    targt: 1\n", "3:5", "Did you mean 'target'?"),
        ("slos:\n  - name: a\n    match: {rout: x}\n", "3:13", "Did you mean 'route'?"),
        ("slos:\n  - name: a\n    match:\n      route: 5\n", "4:14", "is a number"),
        ("slos:\n  - name: a\n    match: {route: [/x, 5]}\n", "3:25", "is a number"),
        ("slos:\n  - name: a\n    indicator: availabilty\n", "3:16", "Did you mean 'availability'?"),
        ("slos:\n  - name: a\n    indicator: latency\n", "2:5", "Add threshold: 200ms"),
        ("slos:\n  - name: a\n    threshold: 200ms\n", "3:5", "has no option 'threshold'"),
        ("slos:\n  - name: a\n    good: nowhere.rules:f\n", "3:11", "PYTHONPATH"),
        ("slos:\n  - name: a\n    exclude:\n      - {name: x, header: 'x y'}\n", "4:27", "no header name"),
        ("slos:\n  - name: a\n  - name: A\n", "3:11", "two SLOs are named 'A' and 'a'"),
        ("slos:\n  - name: a\n    name: b\n", "3:5", "stands here twice"),
        ("slos:\n  - target: 99%\n", "2:5", "Add name"),
        ("slos:\n  - name: 5\n", "2:11", "is a number"),
        ("slos:\n  - 5\n", "2:5", "is no definition"),
        ("slos: []\n", "1:7", "no list of SLOs"),
        ("slos: {name: a}\n", "1:7", "no list of SLOs"),
        ("slo: []\n", "1:1", "Did you mean 'slos'?"),
        ("- name: a\n", "1:1", "its top is no mapping"),
        ("", "1:1", "it is empty"),
        ("slos: [{name: a}]\nretention: long\n", "2:12", "no duration"),
        ("slos: [{name: a, window: 90d}]\nretention: 89d\n", "2:12", "less than the longest window, 90d"),
        ("slos: [{name: a}]\nstate_dir: 5\n", "2:12", "is a number"),
        ("apiVersion: openslo/v1\nkind: SLO\n", "1:1", "it has no metadata"),
        ("slos: [{name: a}]\n---\napiVersion: openslo/v1\n", "1:1", "do not mix"),
        ("slos: [{name: a}\n", "2:1", "unreadable YAML"),
        ("slos:\n\t- name: a\n", "2:1", "Indent with spaces"),
        ("slos: [{name: a, match: {route: *}}]\n", "1:34", "must be quoted"),
        ("slos: [{name: a, match: {route: *x}}]\n", "1:33", "must be quoted"),
        ("slos: [{name: a, target: %99}]\n", "1:26", "in quotes"),
        ("slos: [{name: a}]\n---\nslos: []\n", "2:1", "several documents"),
        ("slos: [{name: !!python/object/apply:os.system [ls]}]\n", "1:15", "not allowed"),
        ("slos: !!python/object:os.x {}\n", "1:7", "not allowed"),
        ("slos: [{name: !!int x}]\n", "1:15", "not allowed"),
        ("slos: &a [*a]\n", "1:7", "contains itself"),
        ("slos: [{? [1, 2] : 3}]\n", "1:11", "a key must be a text"),
        ("slos: [{<<: 5}]\n", "1:13", "takes a mapping"),
        (b"slos: [{name: a}]\nx: \xff\n", "2:4", "UTF-8"),
        ("slos:\n  - name: 'a\x07'\n", "2:1", "not allowed"),
    ],
)
def test_a_bad_file_names_line_column_and_remedy(tmp_path, text, at, says):
    """Each with what would be right."""
    message = refused(tmp_path, text)
    assert says in message
    assert message.startswith(f"slo.yaml:{at}: ")


def test_a_small_file_cannot_grow_into_a_large_one(tmp_path):
    """Aliases of aliases, deep nesting, and size itself."""
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "too many aliases" in refused(tmp_path, laughs)
    assert "too deep" in refused(tmp_path, "slos: " + "[" * 100 + "]" * 100)
    assert "nested too deeply" in refused(tmp_path, "slos: " + "[" * 50_000)
    assert "larger than" in refused(tmp_path, b"#" * (LARGEST_FILE_BYTES + 1))


def test_a_file_that_cannot_be_read(tmp_path):
    """Missing, or a directory: the system's reason and a remedy."""
    for source in ("missing.yaml", "missing.py", str(tmp_path)):
        with pytest.raises(DefinitionError, match=r"cannot be read .*Check the path"):
            load(source, {})


def test_python_files_and_import_paths(tmp_path):
    """A list named slos, or whatever the path names."""
    code = "from otelslo.slo import SLO\n\nslos = [SLO('a', good=lambda event: True), SLO('b')]\n"
    (tmp_path / "objectives.py").write_text(code)
    assert [slo.name for slo in load("objectives.py", {}).slos] == ["a", "b"]
    assert [slo.name for slo in load(env={"OTELSLO_CONFIG": "objectives:slos"}).slos] == ["a", "b"]
    sys.modules.pop("objectives")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("slos = []", "no list of SLO objects"),
        ("slos = ['a']", "no list of SLO objects"),
        ("x = 1", "it has no slos"),
        ("\n\n1 / 0", r"bad\.py:3: it raises ZeroDivisionError"),
        ("\nslos = [", r"bad\.py:2: it raises SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("from otelslo.slo import SLO\nslos = [SLO('a', target='99,9')]", "SLO 'a'.target"),
        ("from otelslo.slo import SLO\nslos = [SLO('a'), SLO('a')]", r"bad\.py\[1\]: two SLOs"),
    ],
)
def test_a_bad_python_file(tmp_path, code, says):
    """Its own errors name the SLO, others the line."""
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(DefinitionError, match=says):
        load("bad.py", {})


def test_a_bad_import_path():
    """Named as it was written."""
    with pytest.raises(DefinitionError, match="nowhere:slos: 'nowhere:slos' cannot be imported"):
        load(env={"OTELSLO_CONFIG": "nowhere:slos"})


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text("slo:na[]{}-*&!|>'\"%@`\t\n ,.?0#~<=\\", max_size=60).map(str.encode)))
def test_no_file_raises_anything_else(tmp_path, data):
    """Any bytes, and texts of YAML's own characters."""
    for text in (data, b"slos: [{name: a}]\n" + data):
        (tmp_path / "slo.yaml").write_bytes(text)
        with suppress(DefinitionError):
            assert load("slo.yaml", {}).slos
