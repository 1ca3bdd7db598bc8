"""The customers of the demo's shop: requests at a steady rate from a process of their own, and a ledger of each answer.

Raw HTTP/1.1 over keep-alive connections. Every request ends in exactly one line of the ledger: answered 2xx, 3xx, 4xx
or 5xx with its whole body read, or cut off. Nothing is retried. Started by `python -m otelslo.cli.demo_load` with host,
port, rate, connections and seconds, it prints the ledger as JSON lines, the last one with "done".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

CLASSES = ("2xx", "3xx", "4xx", "5xx")
CUT = "cut"
_PAGES = ("GET /", "GET /items", "GET /search", "POST /checkout")
_WEIGHTS = (25, 25, 30, 20)
_UNKNOWN_ITEMS = 0.12
_REQUESTS_PER_CONNECTION = 60
_PATIENCE_S = 30.0
_REPORT_S = 0.2


@dataclass
class Ledger:
    """What was sent and how it ended; `workers` counts answers by the worker that gave them."""

    sent: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    workers: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        ended = {name: self.ended[name] for name in (*CLASSES, CUT)}
        return {"sent": self.sent, "ended": ended, "workers": dict(self.workers)}


class Broken(Exception):
    """The connection ended before the answer did."""


class Customer:
    """One keep-alive connection and its share of the load."""

    def __init__(self, host: str, port: int, ledger: Ledger) -> None:
        self._host, self._port = host, port
        self._ledger = ledger
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._used = 0

    async def ask(self, request: bytes) -> None:
        """Send one request and enter how it ended. A connection known to be closed is replaced before."""
        if self._reader is None or self._reader.at_eof() or self._used >= _REQUESTS_PER_CONNECTION:
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._writer is not None
        self._ledger.sent += 1
        self._used += 1
        try:
            self._writer.write(request)
            status, worker = await asyncio.wait_for(self._answer(), _PATIENCE_S)
        except (Broken, OSError, TimeoutError):
            self._ledger.ended[CUT] += 1
            self.close()
            return
        self._ledger.ended[f"{status // 100}xx"] += 1
        self._ledger.workers[worker] += 1
        if status >= 500:
            self.close()  # a server closes after an exception, maybe only now

    async def _answer(self) -> tuple[int, str]:
        assert self._reader is not None
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
            await self._reader.readexactly(int(fields.get("content-length", "0")))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as e:
            raise Broken from e
        return int(head[0].split(" ", 2)[1]), fields.get("x-worker", "")

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        self._reader = self._writer = None
        self._used = 0


def request() -> bytes:
    """A random request of a shop's day."""
    (page,) = random.choices(_PAGES, _WEIGHTS)
    if page == "GET /items":
        page += f"/{random.randrange(1000) + (1000 if random.random() < _UNKNOWN_ITEMS else 0)}"
    elif page == "POST /checkout":
        page += f"/cart-{random.randrange(10**6)}"
    trace = f"traceparent: 00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-01"
    return f"{page} HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n{trace}\r\n\r\n".encode()


async def run(host: str, port: int, rate: float, connections: int, seconds: float, ledger: Ledger) -> None:
    """Send `rate` requests a second in all, for `seconds`, and read every answer.

    A connection that is still waiting when its next request is due sends that one late: the rate falls, none is lost.
    """
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def customer(number: int) -> None:
        one = Customer(host, port, ledger)
        turn = number
        while turn / rate < seconds:
            await asyncio.sleep(max(0.0, begin + turn / rate - loop.time()))
            if loop.time() - begin >= seconds:
                break
            await one.ask(request())
            turn += connections
        one.close()

    async def report() -> None:
        while True:
            await asyncio.sleep(_REPORT_S)
            print(json.dumps(ledger.to_json()), flush=True)

    reporting = asyncio.create_task(report())
    await asyncio.gather(*(customer(number) for number in range(connections)))
    reporting.cancel()


def _end_with_parent() -> None:
    for _ in sys.stdin:
        pass
    os._exit(1)


def main(arguments: list[str]) -> None:
    host, port, rate, connections, seconds = arguments
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ledger = Ledger()
    asyncio.run(run(host, int(port), float(rate), int(connections), float(seconds), ledger))
    print(json.dumps(ledger.to_json() | {"done": True}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
