"""`otelslo agent`: the background work of all workers of a host as a process of its own.

While it lives no worker leads. It may run in another container, and so in another pid namespace, on the same volume.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType

import click

from otelslo.engine import Engine
from otelslo.errors import DefinitionError, OtelsloError

USAGE, FAILED = 2, 1
_HELP = """Keep the history and export for all workers, so that none of them has to.

    Uses the same configuration and state directory as the workers. SIGHUP reads the configuration again; SIGTERM ends
    it, and a worker goes on within a second. Exit code 2 if the configuration is wrong, 1 if the state directory cannot
    be used.

    \b
    Examples:
      otelslo agent --state-dir /var/lib/shop/otelslo
      OTELSLO_CONFIG=slo.yaml OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 otelslo agent
"""


@click.command("agent", help=_HELP)
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
@click.option("--config", metavar="FILE", help="The objectives. [$OTELSLO_CONFIG, ./slo.yaml]")
def command(state_dir: str | None, config: str | None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if config is not None:
        os.environ["OTELSLO_CONFIG"] = config
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    engine = _started(state_dir)

    def reload(number: int, frame: FrameType | None) -> None:
        try:
            engine.reload()
        except OtelsloError as e:
            logging.getLogger("otelslo").error("the configuration is refused, the old one stays in force: %s", e)

    signal.signal(signal.SIGHUP, reload)
    click.echo(f"otelslo agent: leading in {engine.state_dir} (pid {os.getpid()})", err=True)
    ended.wait()
    engine.close()


def _started(state_dir: str | None) -> Engine:
    try:
        engine = Engine(state_dir=state_dir, agent=True)
    except DefinitionError as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(USAGE)
    try:
        engine.start()
    except OtelsloError as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(FAILED)
    if engine.ring.path is None:
        engine.close()
        click.echo(f"error: {engine.notices[-1]}", err=True)
        sys.exit(FAILED)
    return engine
