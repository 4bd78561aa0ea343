"""The verb `matrix`: what a set refuses and answers, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .errors import CurationError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--edge", is_flag=True, help="Edge cases instead: what is asked, named, corrected, declined or answered.")
@click.option("--rows", "cell", nargs=3, metavar="CATEGORY SIDE ANSWER", help="List the row numbers behind one cell.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def matrix(folder: Path, edge: bool, cell: tuple[str, str, str] | None, json_: bool) -> None:
    """Show which kinds of request the set refuses and answers, what is missing, and the rows behind each cell."""
    from .cli import _say, table
    from .engine import spec_of
    from .matrices import edge_matrix, refusal_matrix
    from .store import Store

    store = Store(folder)
    signals = store.signals()
    if signals is None:
        raise CurationError(f"{folder}: the rows have not been checked", f"curation check {folder}")
    if edge and "edge" not in signals.column_names:
        raise CurationError(f"{folder}: checked before edge cases were looked for", f"curation check {folder}")
    found = (edge_matrix if edge else refusal_matrix)(store.rows(), signals, spec_of(store))
    if cell:
        known = (found.categories, found.sides, found.answers)
        for given, names in zip(cell, known):
            if given not in names:
                raise CurationError(f"{given!r} is not in the matrix", "one of: " + ", ".join(names))
        rows = found.rows(*cell)
        _say(json_, {"cell": list(cell), "rows": rows}, lambda: "\n".join(map(str, rows)))
        return
    _say(json_, found.as_dict(), lambda: _page(found, table))


def _page(found: Any, table: Any) -> str:
    """Return the matrix as lines of text: one line a category and side that holds rows, then what is missing."""
    lines = []
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for cell in found.cells.select(["category", "side", "answer", "count"]).to_pylist():
        counts.setdefault((cell["category"], cell["side"]), {})[cell["answer"]] = cell["count"]
    for (category, side), by in counts.items():
        lines.append((category, side, *(f"{by[a]:,}" if by[a] else "·" for a in found.answers)))
    numbers = ", ".join(f"{k.replace('_', ' ')} {v:.1%}" if k.endswith("share") else f"{k.replace('_', ' ')} {v:,}"
                        for k, v in found.numbers.items() if isinstance(v, (int, float)))
    manner = ", ".join(f"{k} {v:,}" for k, v in found.numbers.get("manner", {}).items())
    numbers += f"\nhow the refusing rows do it: {manner}" if manner else ""
    gaps = "\n".join(f"- {g}" for g in found.gaps) or "- nothing is missing"
    return f"{table(lines, ('category', 'side', *found.answers))}\n\n{numbers}\n\nmissing or on the wrong side:\n{gaps}"
