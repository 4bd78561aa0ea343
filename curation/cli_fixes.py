"""The verb `fixes`: the repairs that checks propose, each as a word diff; taken one by one, check by check, or all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .cli import _actor, _inert, _numbers, _say, as_json, folder
from .cli_duplicates import drawn
from .clusters import word_diff


@click.command()
@folder
@click.option("--check", "check", default="", help="Only the proposals of this check.")
@click.option("--rows", "numbers", help="Only these row numbers, comma-separated.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Proposals to print (--json: all).")
@click.option("--accept", is_flag=True, help="Take them, as one action; curation review FOLDER --undo takes that back.")
@click.option("--actor", help="Who decides (default: the login name).")
@as_json
def fixes(
    folder: Path, check: str, numbers: str | None, limit: int, accept: bool, actor: str | None, json_: bool
) -> None:
    """Show the repairs that checks propose as word diffs, and take those of some rows, of a check, or all."""
    from . import engine
    from . import review as desk
    from .store import Store

    store = Store(folder)
    spec = engine.spec_of(store)
    if check:
        engine.choose(spec, [check])
    rows = None if numbers is None else _numbers(numbers)
    found = desk.proposals(store, spec, check=check, rows=rows)
    lines = [{"row": i, "uid": e.uid, "check": e.check_id, "score": e.score, "field": e.field, "why": e.reason,
              "before": e.before, "after": e.after} for i, e in found]
    if not accept:
        _say(json_, lines, lambda: _page(lines, limit, str(folder)))
        return
    if not found:
        _say(json_, {"action": None, "rows": 0}, "no repair is proposed for an undecided row")
        return
    action = store.verdicts.append([e for _, e in found], actor=_actor(actor), kind="fix", note="accept fixes")
    left = len(desk.proposals(store, spec, check=check, rows=rows))
    more = f"\n{left:,} more proposed for the texts as they are now: look again" if left else ""
    taken = "1 repair" if len(found) == 1 else f"{len(found):,} repairs"
    _say(json_, {"action": action, "rows": len(found), "left": left},
         f"action {action}: {taken} taken; curation review {folder} --undo takes them back together{more}")


def _page(lines: list[dict[str, Any]], limit: int, folder: str) -> str:
    """Return the proposals for people: a line that says why and a line with the change."""
    if not lines:
        return "no repair is proposed for an undecided row"
    colour = sys.stdout.isatty()
    out = []
    for line in lines[:limit]:
        out.append(f"row {line['row']:,}  {line['check']} ({line['score']:.2f}), {line['field']}: {_inert(line['why'])}")
        out.append("  " + drawn(word_diff(line["before"] or "", line["after"] or ""), colour))
    if len(lines) > limit:
        out.append(f"and {len(lines) - limit:,} more (--limit, --json)")
    return "\n".join([*out, f"next: curation fixes {folder} --accept, with --check or --rows for some of them"])
