"""Starting, closing and starting again; engines beside each other; platforms that are not supported."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading

import pytest
from drive import LAST, START, run
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from otelslo import SLO, OtelsloError
from otelslo.asgi import SLOMiddleware
from otelslo.counts import Counts
from otelslo.exporters.sqlite import Reader
from otelslo.rowkey import RowKey


def test_an_engine_goes_on_after_it_was_closed(tmp_path, monkeypatch):
    """Two lifespans of one app: one ring, one block, one thread, and nothing left uncommitted."""
    monkeypatch.setenv("OTELSLO_STATE_DIR", str(tmp_path / "state"))
    app = SLOMiddleware(Starlette(routes=[Route("/ok", lambda request: PlainTextResponse("ok"))]), [SLO("a")])
    for round_ in (1, 2, 3):
        with TestClient(app) as client:
            client.get("/ok")
            assert app.engine.status()[0].counts.good == round_
            assert app.engine.ring.blocks.index == 0
            assert sum(thread.name == "otelslo" for thread in threading.enumerate()) == 1
        assert not app.engine.running
        saved = Reader(tmp_path / "state" / "otelslo.db").load()
        row = next(row for row, key in enumerate(saved.row_keys) if RowKey.parse(key).slo == "a")
        assert struct.unpack("<16q", saved.cells[128 * row : 128 * (row + 1)])[0] == round_
    app.engine.close()


def test_two_middlewares_with_engines_of_their_own(make_engine):
    """The inner one counts too, and hears what the app says; of one engine only the outer one counts."""
    outer, inner = make_engine(SLO("outer")), make_engine(SLO("inner"))

    async def app(scope, receive, send):
        scope["otelslo"].bad("nonsense")
        await send(START)
        await send(LAST)

    wrapped = SLOMiddleware(SLOMiddleware(SLOMiddleware(app, engine=inner), engine=outer), engine=outer)
    run(wrapped)
    assert [engine.status()[0].counts for engine in (outer, inner)] == [Counts(bad=1), Counts(bad=1)]


def test_other_platforms_are_told_at_once():
    code = "import sys; sys.platform = 'win32'; import otelslo.asgi"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: otelslo runs on Linux" in ended.stderr


def test_a_free_threaded_python_is_refused(make_engine, monkeypatch):
    """One writer per block rests on the GIL."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(OtelsloError, match="free-threaded"):
        make_engine(SLO("answers"))
