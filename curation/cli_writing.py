"""The verb `write`: one pair by hand, looked at by the checks and added behind the rows; `diff` of vetted sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .cli import _actor, _say, as_json, folder, table


@click.command()
@folder
@click.option("--prompt", help="What a user asks.")
@click.option("--input", "given", default="", help="What the prompt is about, where it stands apart (Alpaca's input).")
@click.option("--response", help="What the model shall answer.")
@click.option("--system", default="", help="A system prompt.")
@click.option("--family", default="", help="The family of the spec that the pair belongs to.")
@click.option("--source", default="written", show_default=True, help="What stands in the column source.")
@click.option("--actor", help="Who writes (default: the login name).")
@click.option("--dry-run", is_flag=True, help="Only say what the checks make of it.")
@as_json
def write(
    folder: Path, prompt: str | None, given: str, response: str | None, system: str, family: str, source: str,
    actor: str | None, dry_run: bool, json_: bool,
) -> None:
    """Write one pair and add it behind the rows; asks for prompt and response where they are not given."""
    from . import writing
    from .engine import spec_of
    from .store import Store

    store = Store(folder)
    spec = spec_of(store)
    writing.known_family(family, spec)
    if prompt is None:
        prompt = click.prompt("What does the user ask", err=True)
    if response is None:
        response = click.prompt("What shall the model answer", err=True)
    made = writing.pair(instruction=prompt, input=given, response=response, system=system, family=family)
    seen = writing.look([made], spec)[0]
    value: dict[str, Any] = {"uid": made.uid, "row": None, "family": seen.family, "refusals": seen.refusals,
                             "edges": seen.edges, "flags": [dict(f) for f in seen.flags]}
    if not dry_run:
        writing.write_pairs(store, [made], source=source, actor=_actor(actor))
        value["row"] = store.rows().num_rows - 1
    _say(json_, value, lambda: _text(value, store, folder))


def _text(value: dict[str, Any], store: Any, folder: Path) -> str:
    cells = [" · ".join(value[k]) for k in ("refusals", "edges") if value[k]]
    lines = [f"counts as: {'; '.join(cells)}; family {value['family'] or '(unassigned)'}"]
    lines += [f"{f['check']} ({f['severity']}): {f['message']}" for f in value["flags"]] or ["the row checks find nothing"]
    if value["row"] is None:
        lines.append("nothing was written")
    else:
        lines.append(f"row {value['row']}, version {store.version}, uid {value['uid']}\n"
                     f"next: curation check {folder}   (looks only at what is new)")
    return "\n".join(lines)


LISTED = 20     # changes of a kind that are listed for people


def diff_of_sets(store: Any, old: str, new: str | None, json_: bool) -> None:
    """Print what changed from a vetted set to another, or to the folder as it stands."""
    from . import changes, engine
    from .gate import effective

    before = changes.vetted(store, changes.named(store, old))
    after = changes.vetted(store, changes.named(store, new)) if new else changes.present(
        effective(store, engine.spec_of(store)))
    counts, found = changes.changes(before, after, limit=None if json_ else LISTED)
    lines = [(c["change"], "" if c["row"] is None else c["row"], c["prompt"][:50], c["why"], c["actor"])
             for c in found.to_pylist()]
    _say(json_, {"old": before.name, "new": after.name, "counts": counts, "changes": found.to_pylist()},
         lambda: f"{before.name} -> {after.name}: " + ", ".join(f"{n:,} {kind}" for kind, n in counts.items())
         + (f"\n{table(lines, ('change', 'row', 'prompt', 'why', 'by'))}" if lines else ""))
