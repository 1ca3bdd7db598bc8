"""An app told in steps (messages to send, exceptions to raise, "receive"), and how the one request of it ended."""

from __future__ import annotations

from drive import LAST, START, advance, cells

from otelslo.asgi import SLOMiddleware

MS = 1_000_000
THRESHOLD_NS = 200 * MS  # of the latency objective
FAILS = RuntimeError("boom")


def start(status):
    return START | {"status": status}


def answer(*statuses):
    return (*map(start, statuses), LAST)


def doing(engine, steps, ns):
    """An app that takes `ns` before its first step, and does the rest in no time."""

    async def app(scope, receive, send):
        advance(engine, ns=ns)
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            await (receive() if step == "receive" else send(step))

    return app


def outcome(engine, slo):
    (found,) = cells(engine, slo).items()
    assert found[1] == 1
    return found[0]


def saying(engine, status, *says, ns=0):
    async def app(scope, receive, send):
        for name, arguments in says:
            getattr(scope["otelslo"], name)(*arguments)
        advance(engine, ns=ns)
        await send(start(status))
        await send(LAST)

    return SLOMiddleware(app, engine=engine)


def broken(*_arguments, **_more):
    raise ZeroDivisionError("a fault of ours")
