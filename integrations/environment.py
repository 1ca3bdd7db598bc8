"""The environment variables that `opentelemetry-instrument` offers as options: `--slo_config`, `--slo_state_dir`.

It makes an option of every name here that begins with OTEL_, and sets that variable. Ours begin with OTELSLO_, which it
passes over, so each has a second name here; the second wins, as an option does.
"""

from __future__ import annotations

from collections.abc import MutableMapping

OTEL_SLO_CONFIG = "OTEL_SLO_CONFIG"
"""The file of the objectives; as OTELSLO_CONFIG."""

OTEL_SLO_STATE_DIR = "OTEL_SLO_STATE_DIR"
"""The directory of the counts; as OTELSLO_STATE_DIR."""

_OURS = {OTEL_SLO_CONFIG: "OTELSLO_CONFIG", OTEL_SLO_STATE_DIR: "OTELSLO_STATE_DIR"}


def take_options(environment: MutableMapping[str, str]) -> None:
    """Put what came under a second name under the first, which everything else reads."""
    for option, ours in _OURS.items():
        if environment.get(option):
            environment[ours] = environment[option]
