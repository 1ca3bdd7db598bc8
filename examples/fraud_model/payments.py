"""Payments that are made up, each the same whenever it is asked for: what is sent, and what became of it."""

from __future__ import annotations

import math
import random


def payment(number: int) -> dict[str, object]:
    """One payment, as a client sends it."""
    chance = random.Random(f"payment {number}")
    amount = round(chance.lognormvariate(3.5, 1.0), 2)
    return {"id": f"t{number}", "amount": amount, "foreign": chance.random() < 0.3, "hour": chance.randrange(24)}


def was_fraud(number: int) -> bool:
    """What the bank knows some days later: large foreign payments at night mostly were."""
    found = payment(number)
    risk = 0.04 * float(str(found["amount"])) + 6.0 * bool(found["foreign"]) + 4.0 * (int(str(found["hour"])) < 6) - 9.0
    return random.Random(f"fraud {number}").random() < 1 / (1 + math.exp(-risk))
