"""A load tool that keeps its pace whatever the answers are: RATE requests a second for SECONDS, each as it is due.

Run as a script: paced.py RATE SECONDS PORT PATH. It ends when all are answered; its exit code is 1 if one was not.
"""

from __future__ import annotations

import asyncio
import sys


async def ask(port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 ")


async def send(rate: float, seconds: float, port: int, path: str) -> bool:
    loop, sent = asyncio.get_running_loop(), []
    began_s = loop.time()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, began_s + number / rate - loop.time()))
        sent.append(asyncio.create_task(ask(port, path)))
    return all(await asyncio.gather(*sent))


if __name__ == "__main__":
    rate, seconds, port, path = sys.argv[1:]
    sys.exit(not asyncio.run(send(float(rate), float(seconds), int(port), path)))
