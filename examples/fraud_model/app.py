"""A fraud model behind an API: promises on the answers, on the model call within them, on what the model is fed, and
on whether it was right, which only labels can tell.

    pip install otelslo fastapi scikit-learn httpx; cd examples/fraud_model
    uvicorn app:app --workers 2 &
    python traffic.py; python labels.py; otelslo status

State and history lie in .otelslo/ here.
"""

from __future__ import annotations

from fastapi import FastAPI
from model import VERSION, train
from pydantic import BaseModel

import otelslo
from otelslo.asgi import SLOMiddleware

MODEL = train()

app = FastAPI()
app.add_middleware(SLOMiddleware)  # added last: the outermost, which sees what a client sees


class Payment(BaseModel):
    id: str
    amount: float
    foreign: bool
    hour: int


class Answer(BaseModel):
    id: str
    score: float
    is_fraud: bool


@otelslo.track("fraud", version=VERSION)
def predict(payment: Payment) -> float:
    """The model call, timed apart from the request around it."""
    score = float(MODEL.predict_proba([[payment.amount, payment.foreign, payment.hour < 6]])[0, 1])
    if not 0 <= score <= 1:
        otelslo.current().bad("not_a_probability")
    return score


@app.post("/score")
def score(payment: Payment) -> Answer:
    """How likely the payment is a fraud. What is no payment is its client's error, and no budget of ours."""
    otelslo.observe_features("fraud", payment.model_dump(include={"amount", "hour", "foreign"}))
    found = predict(payment)
    is_fraud = found >= 0.5
    otelslo.log_prediction("fraud", id=payment.id, output=int(is_fraud), score=found, version=VERSION)
    return Answer(id=payment.id, score=found, is_fraud=is_fraud)
