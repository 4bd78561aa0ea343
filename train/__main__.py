"""`python -m train` from a checkout that is not installed: the verbs of this folder, with the CLI's exit codes."""

from __future__ import annotations

import sys

import click

from curation.errors import CurationError

from .cli import train
from .eval_cli import compare, eval_


@click.group()
def verbs() -> None:
    """Train on a vetted set, measure behaviour, compare two runs."""


for _verb in (train, eval_, compare):
    verbs.add_command(_verb)


def main() -> int:
    """Run a verb; 2 = bad usage or data, said without a traceback."""
    try:
        return int(verbs.main(standalone_mode=False) or 0)
    except CurationError as error:
        click.echo(f"error: {error}", err=True)
    except click.ClickException as error:
        error.show()
    return 2


if __name__ == "__main__":
    sys.exit(main())
