"""The command `boathouse`, also in an environment that has the wheel without its extra `local`."""

from __future__ import annotations

import sys

from boathouse.workspace.cli.refusals import missing_extra, print_refusal, wants_json


def main() -> None:
    "Run the command line; where its own libraries are missing, print how to install them and end with 2."
    try:
        from boathouse.workspace.cli.main import main as command
    except ModuleNotFoundError as error:
        if (refusal := missing_extra(error)) is None:
            raise
        sys.exit(print_refusal(refusal, wants_json(sys.argv[1:])))
    command(prog_name="boathouse")


if __name__ == "__main__":
    main()
