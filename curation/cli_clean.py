"""The verb `clean`: what a folder holds that can be made again, listed, and with --yes removed."""

from __future__ import annotations

from pathlib import Path

import click

from .cli import _say, as_json, folder

WORDS = {"result": "results of earlier checks", "index": "indices of earlier rows", "unfinished": "unfinished files",
         "rows": "earlier row versions"}


@click.command()
@folder
@click.option("--versions", is_flag=True, help="Row versions too, but the newest, the one last checked and what they rest on.")
@click.option("--yes", is_flag=True, help="Remove it; without it the verb only lists.")
@as_json
def clean(folder: Path, versions: bool, yes: bool, json_: bool) -> None:
    """List what can be made again or is no longer needed, and remove it with --yes.

    Results of checks on earlier rows or under earlier options, word indices of earlier rows, and files of writes that
    were stopped. Verdicts, edits, vetted sets, runs and embeddings stay. An earlier row version is asked for by `diff`
    alone.
    """
    from .clean import clean as remove
    from .clean import leftovers, sums
    from .store import Store

    store = Store(folder)
    found = remove(store, versions=versions) if yes else leftovers(store, versions=versions)
    _say(json_, {"removed": yes, **sums(found)}, lambda: _text(sums(found), yes, folder, versions))


def _text(found: dict[str, dict[str, int]], removed: bool, folder: Path, versions: bool) -> str:
    if not found:
        return "nothing is left over"
    lines = [f"{WORDS[kind]}: {of['files']:,} files, {of['bytes'] / 1e6:,.1f} MB" for kind, of in found.items()]
    total = sum(of["bytes"] for of in found.values()) / 1e6
    more = " --versions" if versions else ""
    lines.append(f"removed, {total:,.1f} MB" if removed else f"curation clean {folder}{more} --yes removes {total:,.1f} MB")
    return "\n".join(lines)
