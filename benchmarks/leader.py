"""What the leader's background thread takes of a core at 200 SLOs, each of which sees one event a second."""

from __future__ import annotations

from . import ours
from .child import report_of
from .harness import Plan
from .results import Results

NAMES = ("leader_cpu_percent",)
SLO_COUNT = 200


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    with ours.state_dir() as path:
        report = report_of("leader", path, str(SLO_COUNT), str(plan.leader_s))
    note = f"CPU time of the whole process over {plan.leader_s} s, {SLO_COUNT} SLOs"
    results.figure("leader_cpu_percent", [report["cpu_percent"]], note)
