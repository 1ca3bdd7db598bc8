"""`python -m otelslo` is the command `otelslo`, for where scripts are not on the PATH."""

from __future__ import annotations

from otelslo.cli import main

if __name__ == "__main__":
    main(prog_name="otelslo")
