"""The FastAPI model server with scikit-learn, under two workers of uvicorn."""

from __future__ import annotations

from pathlib import Path

import pytest

from .playing import Example

pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("sklearn", reason="needs scikit-learn")

NUMBER = 60


def test_payments_are_scored(tmp_path: Path) -> None:
    with Example("fraud_model", tmp_path) as example:
        port = example.serve("app:app", workers=2)
        said = example.run("traffic.py", str(NUMBER), f"http://127.0.0.1:{port}")
        assert said.startswith(f"{NUMBER} payments, ")
        assert example.ask(port, "/score", {"id": "t1", "amount": "a lot"})[0] == 422
        assert example.counted("answers") == {"good": NUMBER, "excluded client_error": 1}
        calls = example.counted("model")
        assert calls.pop("excluded cold_start", 0) in (1, 2)  # one of each worker that was asked
        assert set(calls) == {"good"}
        assert sum(example.counted("model").values()) == NUMBER
        assert example.statuses()["answers"]["met"] is True
        assert example.faults() == {}
