"""The command in this process, stdout and stderr apart in every click that we claim to support."""

from __future__ import annotations

import inspect
from typing import Any

from click.testing import CliRunner, Result

from otelslo.cli import main


def invoke(*arguments: object, columns: int = 80) -> Result:
    """Run `otelslo ARGUMENTS` as if in a terminal of so many columns."""
    apart: dict[str, Any] = {}
    if "mix_stderr" in inspect.signature(CliRunner).parameters:  # before click 8.2
        apart["mix_stderr"] = False
    return CliRunner(env={"COLUMNS": str(columns)}, **apart).invoke(main, list(map(str, arguments)))
