"""The FastAPI model server with scikit-learn, under two workers of uvicorn; labels come from another process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from live.servers import until
from live.watch import Watch

from otelslo.rowkey import BINS

from .playing import EXAMPLES, Example

pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("sklearn", reason="needs scikit-learn")
httpx = pytest.importorskip("httpx", reason="needs httpx")

NUMBER = 260  # more than the 200 that are the baseline of drift
ARRIVES_S = 60.0  # only ends a test that hangs


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES / "fraud_model"))
    import traffic

    yield traffic
    for name in ("traffic", "payments"):
        del sys.modules[name]


@pytest.fixture
def payments(traffic: Any) -> Any:
    return sys.modules["payments"]


def test_traffic_waits_for_the_server_and_says_if_there_is_none(traffic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [httpx.ConnectError("refused"), httpx.ConnectError("refused")]

    def answer(request: Any) -> Any:
        if refused:
            raise refused.pop()
        return httpx.Response(404)

    monkeypatch.setattr(traffic.time, "sleep", lambda s: None)
    with httpx.Client(base_url="http://fraud", transport=httpx.MockTransport(answer)) as client:
        traffic.wait_for(client)
        assert not refused
        refused.append(httpx.ConnectError("refused"))
        monkeypatch.setattr(traffic, "PATIENCE_S", -1.0)
        with pytest.raises(SystemExit, match=r"Nobody answers at http://fraud.*uvicorn app:app"):
            traffic.wait_for(client)


def test_payments_are_scored_and_labelled(tmp_path: Path, payments: Any) -> None:
    with Example("fraud_model", tmp_path) as example:
        port = example.serve("app:app", workers=2)
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            taken = [client.post("/score", json=payments.payment(n)).json()["is_fraud"] for n in range(NUMBER)]
        said = example.run("traffic.py", "5", address)  # as a reader would; ids that were scored before
        assert said == f"5 payments, {sum(taken[:5])} taken for frauds\n"
        assert example.ask(port, "/score", {"id": "t1", "amount": "a lot"})[0] == 422
        assert example.counted("answers") == {"good": NUMBER + 5, "excluded client_error": 1}
        calls = example.counted("model")
        assert sum(calls.values()) == NUMBER + 5
        assert 1 <= calls.pop("excluded cold_start") <= 2  # of each worker that was asked

        assert example.run("labels.py", str(NUMBER)) == f"{NUMBER} labels\n"
        truth = [payments.was_fraud(n) for n in range(NUMBER)]
        both = sum(t and p for t, p in zip(truth, taken, strict=True))
        assert 0 < both < min(sum(taken), sum(truth))
        assert both > 0.6 * max(sum(taken), sum(truth))  # what slo.yaml promises of both is met

        def labelled() -> bool:
            status = example.statuses()
            found = {name: (status[name]["good"], status[name]["bad"]) for name in ("precision", "recall")}
            return found == {"precision": (both, sum(taken) - both), "recall": (both, sum(truth) - both)}

        until(labelled, f"{both} of {sum(taken)} and of {sum(truth)}", ARRIVES_S)
        reader = Watch(example.ring).reader
        fed = {key.group for key in map(reader.row_name, range(reader.rows)) if key.slo == BINS}
        assert fed  # the bins of the live baseline are there
        assert example.faults() == {}
