"""Sends payments to be scored: python traffic.py [number] [address]. Waits for the server, half a minute at most."""

from __future__ import annotations

import sys
import time

import httpx
from payments import payment

PATIENCE_S = 30.0


def wait_for(client: httpx.Client) -> None:
    """Until the server takes connections: its workers train the model first."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            client.get("/", timeout=PATIENCE_S)
            return
        except httpx.TransportError as error:
            if time.monotonic() > ends:
                sys.exit(f"Nobody answers at {client.base_url} ({error}). Is this running: uvicorn app:app --workers 2")
            time.sleep(0.2)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    address = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
    frauds = 0
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        wait_for(client)
        for n in range(number):
            frauds += client.post("/score", json=payment(n)).raise_for_status().json()["is_fraud"]
    print(f"{number} payments, {frauds} taken for frauds")
