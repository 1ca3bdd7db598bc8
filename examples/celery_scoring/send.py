"""Sends some transactions to be scored, and prints the scores; see tasks.py."""

from __future__ import annotations

from tasks import score

PAYMENTS = [
    {"amount": 20.0, "foreign": 0, "night": 0},
    {"amount": 900.0, "foreign": 1, "night": 1},
    {"amount": float("nan"), "foreign": 0, "night": 0},  # no amount: no probability either
    {"amount": 60.0, "foreign": 0},  # a feature is missing
]

if __name__ == "__main__":
    for payment, result in [(payment, score.delay(payment)) for payment in PAYMENTS]:
        found = result.get(timeout=60, propagate=False)
        print(payment, "->", repr(found) if isinstance(found, Exception) else f"{found:.3f}")
