"""The verb `preferences`: pairs of a better and a worse answer, from edits and settled contradictions, for TRL's DPOTrainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .cli import _say, as_json, folder

#: Share of pairs with the longer answer chosen from which length itself is what they teach.
LENGTH_BIAS = 0.8


@click.command()
@folder
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSONL file to write.")
@as_json
def preferences(folder: Path, out: Path, json_: bool) -> None:
    """Write what people preferred as pairs: the edited answer over the original, the kept side of a contradiction."""
    from . import preferences as pairs
    from .engine import spec_of
    from .store import Store

    store = Store(folder)
    found, left_out = pairs.preferences(store, spec_of(store))
    pairs.write(out, found)
    value = {"file": str(out), **pairs.summary(found, left_out)}
    _say(json_, value, lambda: _text(value))


def _text(value: dict[str, Any]) -> str:
    told = ", ".join(f"{n:,} {name}" for name, n in value["sources"].items()) or "none; edit answers or settle contradictions"
    lines = [f"{value['pairs']:,} pairs ({told}): {value['file']}"]
    lines += [f"left out: {n:,} {reason}" for reason, n in value["left_out"].items()]
    if value["chosen_is_longer"] >= LENGTH_BIAS:
        lines.append(f"in {value['chosen_is_longer']:.0%} of the pairs the longer answer was chosen: they teach length as well")
    return "\n".join(lines)
