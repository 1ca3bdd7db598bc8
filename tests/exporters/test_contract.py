"""What every exporter must keep, whoever wrote it: the leader knows nothing else of it."""

from __future__ import annotations

import socket
import time

import pytest

from exporters.receiver import ends
from exporters.reports import report, report_of, row
from otelslo import SLO, exporters
from otelslo.errors import DefinitionError
from otelslo.exporters import ExportFailed

REPORT = report([SLO("checkout")], [row(SLO("checkout"), [3, 2, 1])])


@pytest.fixture
def closed_port():
    """A port where nobody answers, for exporters that speak to a network."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(params=exporters.members())
def create(request, monkeypatch, closed_port):
    """The `create` of one exporter whose destination is not there."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    create = exporters.load(request.param)
    try:
        create({})
    except DefinitionError as e:
        if "pip install" in str(e):
            pytest.skip(f"a library that {request.param} needs is not installed: {e}")
        raise
    return create


def soon(s: float = 30) -> int:
    return time.monotonic_ns() + round(s * 1e9)


def test_unknown_options_are_refused(create) -> None:
    with pytest.raises(DefinitionError, match="nonsense"):
        create({"nonsense": 1})


def test_what_does_not_arrive_is_said_in_time(create, make_engine) -> None:
    exporter = create({})
    for given in (REPORT, report_of(make_engine(SLO("a"), SLO("b", group_by=["route"])))):
        error = ends(lambda given=given: exporter.export(given, soon()))
        assert isinstance(error, ExportFailed)
        assert str(error)
        assert str(error).isprintable()


def test_a_deadline_that_is_over(create) -> None:
    exporter = create({})
    assert isinstance(ends(lambda: exporter.export(REPORT, soon(0))), ExportFailed)


def test_closing_twice_and_never_used(create) -> None:
    exporter = create({})
    assert ends(lambda: (exporter.close(soon()), exporter.close(soon(0)))) is None


# ── the family ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_members_are_whole_exporters() -> None:
    assert "otlp" in exporters.members()
    assert not any(name.startswith("sqlite") or "_" in name for name in exporters.members())


def test_an_unknown_exporter_is_refused() -> None:
    with pytest.raises(DefinitionError, match="Did you mean 'otlp'"):
        exporters.load("oltp")


def test_the_environment_chooses_and_the_configuration_comes_first() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert exporters.chosen({}, {}) == {}
    assert exporters.chosen({}, env) == {"otlp": {}}
    own = {"otlp": {"endpoint": "http://other"}}
    assert exporters.chosen(own, env) == own
