"""One worker of a model server, as a process: scikit-learn behind Starlette and uvicorn, each answer a prediction.

Every worker trains the same model from the same seed. A request says which row it asks for, and when it was made, so
that a test has predictions of the past days without waiting for them.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

if __package__:
    from .app import Announcing, Settings
else:
    from app import Announcing, Settings  # run as a script

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware

ROWS, TRAINED = 3_000, 500
MODEL = {"route": "fraud"}


def objectives() -> list[SLO]:
    labelled = {"window": "30d", "match": MODEL, "options": {"label_within": "20d"}}
    of_class = labelled | {"options": {"label_within": "20d", "positive": 1}}
    return [
        SLO("accuracy", indicator="accuracy", target="97%", alerts={"guard": "off"}, **labelled),
        SLO("precision", indicator="precision", target="90%", **of_class),
        SLO("recall", indicator="recall", target="90%", **of_class),
        SLO("answered", target="99%"),
    ]


def data() -> tuple[Any, Any]:
    """Rows and their truths, of which the first TRAINED are for the model."""
    return make_classification(ROWS + TRAINED, n_features=8, n_informative=4, flip_y=0.1, weights=[0.8], random_state=4)


def trained() -> LogisticRegression:
    rows, truths = data()
    return LogisticRegression(max_iter=500).fit(rows[:TRAINED], truths[:TRAINED])


def application(engine: Engine) -> Starlette:
    rows, model = data()[0][TRAINED:], trained()

    async def predict(request: Request) -> JSONResponse:
        asked = await request.json()
        row = rows[asked["row"]].reshape(1, -1)
        output = int(model.predict(row)[0])
        engine.log_prediction(
            "fraud",
            id=asked["row"],
            output=output,
            score=float(model.predict_proba(row)[0, 1]),
            at=asked["at"],
            version="1",
        )
        return JSONResponse({"output": output})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        engine.close()

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])], lifespan=lifespan)
    app.add_middleware(SLOMiddleware, engine=engine)
    return app


def main(arguments: Sequence[str]) -> None:
    settings = Settings(**json.loads(arguments[0]))
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(name)s %(message)s")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", settings.port))
    app = application(Engine(objectives(), state_dir=Path(settings.state_dir)))
    server = Announcing(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    server.ready_fd = settings.ready_fd
    server.run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1:])
