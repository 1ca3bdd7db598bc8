"""`otelslo capacity`: which rate a running service holds, under the load of any tool; for CI."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import click

from otelslo.capacity import NOT_KNOWN, Step, Verdict, answer, highest, in_words
from otelslo.cli import state
from otelslo.counts import Counts
from otelslo.errors import BadValue, StateError, nearest, shown
from otelslo.ring.reader import Reader
from otelslo.rowkey import SHED
from otelslo.throughput import FLEET, FLEET_NOTE, Throughput, parse_rate
from otelslo.window import SECOND_NS, format_duration, parse_positive_duration, parse_target

_HELP = """Which rate a running service holds, by its own counts of a throughput objective.

    Runs COMMAND, any load tool, once for each of --rates, lowest first, and judges by what the service counted
    meanwhile: a rate holds if the latency objective did and nothing was shed, or if as much was answered well all the
    same. In COMMAND, {rate} is the step's requests a second, {rate/8} an eighth of it (for a tool that is told the rate
    of each of 8 clients), {seconds} its length.

    Where less load came than asked for and was answered well, the tool was too weak or waited for answers, and the step
    says nothing. Exit code 0 if --at-least held (without it, any rate), 1 if not, 2 usage, 3 not known.

    \b
    Examples:
      otelslo capacity checkout-load --rates 100,200,400 --for 30s --at-least 200 \\
          -- hey -z {seconds}s -c 8 -q {rate/8} http://127.0.0.1:8000/checkout
      otelslo capacity checkout-load --rates 500,1000 --all --json -- k6 run -e RATE={rate} load.js
"""
_STDERR = 2
_LOOK_S = 0.02
_SETTLE_NS = 10 * SECOND_NS  # for what is still in flight when the tool has ended
_GRACE_NS = 60 * SECOND_NS  # a tool that takes so much longer than it was told is ended
_WORD = re.compile(r"\{(seconds|rate(?:/([1-9][0-9]{0,5}))?)\}")
_STYLES = {Verdict.HELD: "green", Verdict.FAILED: "bold red", Verdict.WEAK: "yellow", Verdict.NOTHING: "yellow"}


def _rate(text: str) -> Fraction:
    try:
        return parse_rate(text)
    except BadValue as refused:
        raise click.BadParameter(str(refused)) from None


def _rates(ctx: click.Context, param: click.Parameter, value: str) -> list[Fraction]:
    return sorted({_rate(text) for text in value.split(",")})


def _at_least(ctx: click.Context, param: click.Parameter, value: str | None) -> Fraction | None:
    return None if value is None else _rate(value)


def _duration_ns(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        return parse_positive_duration(value)
    except BadValue as refused:
        raise click.BadParameter(str(refused)) from None


def _tolerance(ctx: click.Context, param: click.Parameter, value: str) -> Fraction:
    try:
        return Fraction(0) if value in ("0", "0%") else parse_target(value)
    except BadValue:
        raise click.BadParameter(f"{shown(value)} is no share. Write 5%, or 0.") from None


@click.command("capacity", help=_HELP)
@click.argument("slo")
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...", type=click.UNPROCESSED)
@click.option("--rates", required=True, callback=_rates, metavar="R,R,...", help="The steps, requests a second.")
@click.option(
    "--for", "length_ns", default="30s", show_default=True, callback=_duration_ns, metavar="DURATION", help="Of a step."
)
@click.option("--at-least", callback=_at_least, metavar="R", help="The rate that must hold.")
@click.option(
    "--tolerance",
    default="5%",
    show_default=True,
    callback=_tolerance,
    help="How much of a step's load may be missing.",
)
@click.option("--all", "go_on", is_flag=True, help="Go on after a rate that does not hold.")
@click.option("--state-dir", metavar="DIR", help="Where the workers keep their state. [$OTELSLO_STATE_DIR, .otelslo]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    slo: str,
    command: Sequence[str],
    rates: list[Fraction],
    length_ns: int,
    at_least: Fraction | None,
    tolerance: Fraction,
    go_on: bool,
    state_dir: str | None,
    as_json: bool,
) -> None:
    if not any(found[1] != "seconds" for part in command for found in _WORD.finditer(part)):
        raise click.UsageError("The command says no {rate}, so that all steps would be the same.")
    if at_least is not None and at_least > rates[-1]:
        raise click.UsageError("No step reaches --at-least. Add that rate to --rates.")
    try:
        gauge = _find(slo, state_dir)
    except StateError as e:
        click.echo(f"no data: {e}", err=True)
        sys.exit(NOT_KNOWN)
    profile = Profile(gauge, command, length_ns, tolerance)
    steps: list[Step] = []
    for rate in rates:
        click.echo(f"{float(rate):g}/s for {format_duration(length_ns)} ...", err=True)
        steps.append(profile.run(rate))
        if steps[-1].verdict is Verdict.FAILED and not go_on:
            break
    if as_json:
        click.echo(json.dumps(_as_json(gauge, steps, at_least), indent=2))
    else:
        _draw(gauge.promise.scope, steps, at_least)
    sys.exit(answer(steps, at_least))


# ── what is counted ────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Gauge:
    """The live counts of one objective: its row, and that of what was shed."""

    slo: str
    promise: Throughput
    reader: Reader
    row: int
    shed_row: int

    def read(self) -> tuple[Counts, int]:
        """All events so far, and how many of them were shed."""
        shed = self.reader.counts(self.shed_row).good
        return self.reader.counts(self.row), shed


def _find(slo: str, state_dir: str | None) -> Gauge:
    directory = state.directory(state_dir)
    view = state.look(directory)
    known = {
        one.name: (one.meaning, one.slices.rate)
        for one in view.definitions
        if one.slices is not None and one.slices.rate is not None
    }
    if slo not in known:
        is_other = any(one.name == slo for one in view.definitions)
        problem = f"{shown(slo)} promises no rate" if is_other else f"There is no SLO {shown(slo)} in {directory}"
        remedy = nearest(slo, known) if known else "Write one with indicator: throughput"
        raise click.UsageError(f"{problem}. {remedy}")
    reader = view.reader
    if reader is None:
        raise StateError(f"no worker is counting in {directory}: there is its history alone")
    meaning, promise = known[slo]
    keys = {row: reader.row_name(row) for row in range(reader.rows)}
    rows = {(key.slo, key.group): row for row, key in keys.items() if key.meaning == meaning}
    try:
        return Gauge(slo, promise, reader, rows[slo, None], rows[SHED, slo])
    except KeyError:
        raise StateError(f"no worker counts {slo} as it is defined now. Restart them") from None


@dataclass(frozen=True, slots=True)
class Profile:
    """Runs one step after the other; `clock_ns` and `pause` are the system's, but in tests."""

    gauge: Gauge
    command: Sequence[str]
    length_ns: int
    tolerance: Fraction
    clock_ns: Callable[[], int] = time.monotonic_ns
    pause: Callable[[float], None] = time.sleep

    def run(self, rate: Fraction) -> Step:
        """One step. Raises UsageError: the command cannot be run."""
        gauge, seen = self.gauge, Seen(self.clock_ns)
        before, shed_before = gauge.read()
        waiting = gauge.reader.in_flight()
        code = self._run_tool(rate, lambda: seen.look(gauge.read()[0].valid))
        ended_ns = self.clock_ns()
        while gauge.reader.in_flight() > waiting and self.clock_ns() - ended_ns < _SETTLE_NS:
            self.pause(_LOOK_S)
            seen.look(gauge.read()[0].valid)
        after, shed_after = gauge.read()
        events, shed = after - before, shed_after - shed_before
        return Step(rate, self.length_ns, seen.span_ns, events, shed, gauge.promise, self.tolerance, code)

    def _run_tool(self, rate: Fraction, look: Callable[[], None]) -> int | None:
        """The tool's exit code, None if it had to be ended; looks again and again while it runs."""
        began_ns = self.clock_ns()
        try:
            # What the tool prints is for people, and must not be in the way of --json.
            tool = subprocess.Popen(self.arguments(rate), stdout=_STDERR, stdin=subprocess.DEVNULL)
        except OSError as e:
            raise click.UsageError(f"{shown(self.command[0])} cannot be run: {e.strerror}") from None
        try:
            while tool.poll() is None and self.clock_ns() - began_ns < self.length_ns + _GRACE_NS:
                look()
                self.pause(_LOOK_S)
            return tool.poll()
        finally:
            if tool.poll() is None:
                tool.kill()
                tool.wait()
            look()

    def arguments(self, rate: Fraction) -> list[str]:
        """The command with its placeholders filled in."""

        def word(found: re.Match[str]) -> str:
            if found[1] == "seconds":
                return _number(Fraction(self.length_ns, SECOND_NS))
            return _number(rate / int(found[2] or 1))

        return [_WORD.sub(word, part) for part in self.command]


class Seen:
    """When a count was seen to have changed: the span from the first time to the last."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._count: int | None = None
        self._first_ns: int | None = None
        self.span_ns = 0

    def look(self, count: int) -> None:
        if self._count is not None and count != self._count:
            now_ns = self._clock_ns()
            self._first_ns = now_ns if self._first_ns is None else self._first_ns
            self.span_ns = now_ns - self._first_ns
        self._count = count


def _number(value: Fraction) -> str:
    """Whole where it is, else rounded up to three decimals: a tool must not be told too little."""
    return str(value) if value.denominator == 1 else f"{-(-value * 1000 // 1) / 1000:.3f}"


# ── what is told ───────────────────────────────────────────────────────────────────────────────────────────────────
def _as_json(gauge: Gauge, steps: Sequence[Step], at_least: Fraction | None) -> dict[str, Any]:
    found, promise = highest(steps), gauge.promise
    return {
        "slo": gauge.slo,
        "scope": promise.scope,
        "note": FLEET_NOTE if promise.scope == FLEET else None,
        "promise_per_s": float(promise.rate),
        "capacity_per_s": None if found is None else float(found),
        "at_least_per_s": None if at_least is None else float(at_least),
        "exit_code": answer(steps, at_least),
        "because": in_words(steps, at_least),
        "steps": [step.to_json() for step in steps],
    }


def _draw(scope: str, steps: Sequence[Step], at_least: Fraction | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from otelslo.cli import tables
    from otelslo.throughput import rate_text

    out = tables.console()
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("rate", "offered", "good", "bad", "shed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("", overflow="fold")
    for step in steps:
        numbers = (step.events.valid, step.events.good, step.events.bad - step.shed, step.shed)
        code = "" if step.code == 0 else f"the tool's exit code is {step.code}" if step.code else "the tool was ended"
        verdict = Text(step.verdict.value, style=_STYLES[step.verdict])
        told = "; ".join(part for part in (step.text, code) if part)
        table.add_row(rate_text(step.rate), *(f"{number:,}" for number in numbers), verdict, Text(told, style="dim"))
    out.print(table)
    style = "bold green" if answer(steps, at_least) == 0 else "bold red"
    out.print(Text(f"{in_words(steps, at_least)} (of the {scope})", style=style))
    if scope == FLEET:
        out.print(Text(FLEET_NOTE, style="dim"))
