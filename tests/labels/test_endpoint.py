"""The endpoint for labels: mounted in a Starlette app, asked by a real client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import otelslo
from otelslo import SLO, DefinitionError, Engine

WITH = {"authorization": "Bearer s3cret"}


@pytest.fixture
def engine(make_engine: Any) -> Engine:
    return make_engine(SLO("right", indicator="accuracy"))


@pytest.fixture
def client(engine: Engine, monkeypatch: Any) -> Any:
    monkeypatch.setenv("LABELS_TOKEN", "s3cret")
    app = otelslo.labels_app(token="env:LABELS_TOKEN", engine=engine, most_bytes=1000)
    with TestClient(Starlette(routes=[Mount("/labels", app)])) as made:
        yield made


def counted(engine: Engine) -> dict[str, dict[str, int]]:
    engine.runner.tick()
    return engine.runner.store.labels.counters()


def test_labels_are_taken_and_counted(client: TestClient, engine: Engine) -> None:
    engine.log_prediction("fraud", id="7", output=1)
    answer = client.post("/labels/fraud", json={"id": 7, "truth": 1}, headers=WITH)
    assert (answer.status_code, answer.json()) == (202, {"taken": 1, "bad": 0, "errors": []})
    lines = '{"model": "fraud", "id": 7, "truth": 1}\n{"model": "fraud", "id": 7}\n'
    answer = client.post("/labels/", content=lines, headers=WITH)
    assert answer.status_code == 202
    assert answer.json()["errors"] == [{"line": 2, "error": 'it has no truth. Write {"truth": ...}'}]
    assert counted(engine)["fraud"] == {"predictions": 1, "labels": 1, "duplicates": 1}


@pytest.mark.parametrize(
    ("headers", "content", "status", "word"),
    [
        ({}, "{}", 401, "bearer token"),
        ({"authorization": "Bearer wrong"}, "{}", 401, "bearer token"),
        ({"authorization": "Basic s3cret"}, "{}", 401, "bearer token"),
        (WITH, "", 400, "empty"),
        (WITH, b"\xff", 400, "UTF-8"),
        (WITH, "{", 422, "no JSON"),
        (WITH, '{"id": 1}', 422, "no truth"),
        (WITH, "x" * 1001, 413, "at most 1,000 bytes"),
    ],
)
def test_what_is_refused(client: TestClient, headers: Any, content: Any, status: int, word: str) -> None:
    answer = client.post("/labels/fraud", content=content, headers=headers)
    assert answer.status_code == status
    assert word in json.dumps(answer.json())


def test_a_body_without_a_length_is_bounded_too(client: TestClient) -> None:
    answer = client.post("/labels/fraud", content=iter([b"x" * 600, b"x" * 600]), headers=WITH)
    assert answer.status_code == 413


def test_only_posts(client: TestClient) -> None:
    answer = client.get("/labels/fraud", headers=WITH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_token_that_is_not_there_lets_nobody_in(client: TestClient, monkeypatch: Any) -> None:
    monkeypatch.delenv("LABELS_TOKEN")
    assert client.post("/labels/fraud", json={"id": 7, "truth": 1}, headers=WITH).status_code == 503


def test_a_token_is_not_written_into_the_code() -> None:
    with pytest.raises(DefinitionError, match="a secret is not written here"):
        otelslo.labels_app(token="s3cret")


def test_what_cannot_be_written_is_to_be_posted_again(client: TestClient, engine: Engine, monkeypatch: Any) -> None:
    monkeypatch.setattr(engine.labels._inbox, "_most_bytes", 0)
    answer = client.post("/labels/fraud", json={"id": 7, "truth": 1}, headers=WITH)
    assert answer.status_code == 503
    assert "Post all of it again later" in answer.json()["error"]
