"""The errors a user can mend, and the one sentence each of them owes."""

from __future__ import annotations

import importlib.util


class CurationError(Exception):
    """The user's data or usage is at fault: the CLI prints it without a traceback and exits with 2.

    `what` names the value found, what was expected and the place (file:line or row). `hint` is the way out,
    as a command or an instruction.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\nhint: {self.hint}" if self.hint else self.what


def needs(package: str, extra: str) -> None:
    """Raise a CurationError that names the extra to install when `package` cannot be imported."""
    if importlib.util.find_spec(package) is None:
        raise CurationError(
            f"this needs the package {package!r}, which is not installed",
            f"pip install 'curation-workbench[{extra}]'",
        )
