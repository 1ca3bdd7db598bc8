"""Command line: picks what to measure, runs it, shows it. Exit code 1 when something failed to run."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType

from . import (
    alerting_table,
    core,
    drift,
    export,
    gen_ai,
    inference,
    labels,
    leader,
    middleware,
    record,
    report,
    scaling,
    server,
    serving,
    startup,
    streaming,
    tail,
    track,
    wsgi,
)
from .harness import FULL, QUICK, Plan, Unavailable
from .results import Results

GROUPS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        *(record, middleware, wsgi, track, inference, streaming, gen_ai, serving, drift, scaling, core, startup),
        *(leader, labels, export, server, tail),
    )
}

GROUPS["alerts"] = alerting_table
ON_REQUEST = {"alerts"}  # minutes of simulation that measure nothing of this machine


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; leaves by SystemExit(2) on a name that nobody measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names_help = f"groups ({', '.join(GROUPS)}) or single ratios and figures; {', '.join(ON_REQUEST)} only if named"
    parser.add_argument("names", nargs="*", help=names_help)
    parser.add_argument("--json", action="store_true", help="print an object instead of tables")
    parser.add_argument("--quick", action="store_true", help="under a minute in all: a smoke test, too short to quote")
    options = parser.parse_args(arguments)
    known = {*GROUPS, *(name for module in GROUPS.values() for name in module.NAMES)}
    for name in options.names:
        if name not in known:
            parser.error(f"'{name}' is neither a group nor a measurement. Known: {', '.join(sorted(known))}")
    return options


def measure(names: list[str], plan: Plan) -> Results:
    """Run the groups that the names ask for (all without names); keeps only what was asked for."""
    results = Results()
    for group, module in GROUPS.items():
        wanted = [
            name for name in module.NAMES if group in names or name in names or not (names or group in ON_REQUEST)
        ]
        if not wanted:
            continue
        print(f"measuring {group} ...", file=sys.stderr, flush=True)
        found = Results()
        try:
            module.run(plan, found)
        except Unavailable as reason:
            _missing(found.skip, found, module, str(reason))
        except Exception as error:  # one group that fails must not take the others' figures along
            traceback.print_exc()
            _missing(found.fail, found, module, f"{type(error).__name__}: {error}")
        for part in ("findings", "tables", "skipped", "failed"):
            getattr(results, part).update({k: v for k, v in getattr(found, part).items() if k in wanted})
    return results


def _missing(tell: Callable[[str, str], None], found: Results, module: ModuleType, reason: str) -> None:
    for name in module.NAMES:
        if name not in found.findings:
            tell(name, reason)


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(arguments)
    load_before = os.getloadavg()
    results = measure(options.names, QUICK if options.quick else FULL)
    machine = report.environment(load_before)
    if options.json:
        print(json.dumps(report.as_object(results, machine), indent=2))
    else:
        report.show(results, machine)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
