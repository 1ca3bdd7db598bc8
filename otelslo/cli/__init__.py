"""The command `otelslo`: what people type. Each subcommand is a module here, imported only when it is asked for.

Exit codes of all of them: 0 yes or healthy, 1 no or breached, 2 usage or a bad definition, 3 no data.
"""

from __future__ import annotations

from importlib import import_module

import click

from otelslo._version import VERSION

# The module's name is the command's name. The texts stand here so that `--help` need not import the modules.
COMMANDS = {
    "demo": "See it work: a real app, real load, an incident, and an exact ledger, in 30 s.",
    "check": "Check a configuration and show what it promises.",
    "status": "How much of each error budget is left, and what burned it.",
    "explain": "What burned one objective's budget: how much, how fast, and who had which share.",
    "exclude": "Take a span of time out of the budgets after the fact, or put it back.",
    "annotate": "Note a release, an incident, an experiment or maintenance beside the counts.",
    "model": "Tell when a model's version was trained or evaluated, or list what is known.",
    "drift": "Baselines of what models are fed, and what was found of the last windows.",
    "label": "Label predictions from a file: what was true of them.",
    "gate": "Whether a release may go out: exit code 0 go, 1 no-go, 3 not known.",
    "capacity": "Which rate a running service holds, under the load of any tool; for CI.",
    "agent": "Keep the history and export for all workers of a host, as a process of its own.",
    "doctor": "What is installed, who works and leads, how old the last commit is, what was dropped.",
}


class Commands(click.Group):
    """The group of all subcommands, imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="otelslo")
def main() -> None:
    """SLOs in process: know exactly how much error budget is left.

    \b
    First steps:
      otelslo demo                 see it work, nothing to set up
      otelslo check slo.yaml       what your objectives promise
      otelslo status               how they stand, from any shell on the host
    """
