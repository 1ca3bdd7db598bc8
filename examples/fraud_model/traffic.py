"""Sends payments to be scored: python traffic.py [number] [address]."""

from __future__ import annotations

import sys

import httpx


def payment(number: int) -> dict[str, object]:
    return {"id": f"t{number}", "amount": 10.0 + number * 7 % 400, "foreign": number % 5 == 0, "hour": number % 24}


def was_fraud(number: int) -> bool:
    """What the bank knows some days later."""
    found = payment(number)
    return found["foreign"] is True and (float(str(found["amount"])) > 150 or number % 24 < 6)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    address = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
    frauds = 0
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        for n in range(number):
            frauds += client.post("/score", json=payment(n)).raise_for_status().json()["is_fraud"]
    print(f"{number} payments, {frauds} taken for frauds")
