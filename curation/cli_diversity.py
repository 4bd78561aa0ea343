"""The verbs `families` and `clusters`: what the rows of a set ask for, by the spec and by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .cli import _inert, _say, as_json, folder, progress, table
from .text import shorten


@click.command()
@folder
@click.option("--threshold", default=0.15, show_default=True, type=click.FloatRange(0, 1), help="Below: unassigned.")
@as_json
def families(folder: Path, threshold: float, json_: bool) -> None:
    """Say which family of the spec each row belongs to, how surely, and how often that is right."""
    from . import engine
    from .diversity import families_of
    from .store import Store

    store = Store(folder)
    found = families_of(store, engine.spec_of(store), threshold=threshold)
    _say(json_, found.as_dict(), lambda: _families_text(found))


def _families_text(found: Any) -> str:
    lines = [
        (shorten(x["family"] or "(unassigned)", 40), x["rows"], f"{x['share']:.1%}", _target(x["target"]), x["given"],
         x["reviewed"], _number(x["confidence"]), _number(x["accuracy"]), _inert(shorten(x["prompt"], 50)))
        for x in found.table.to_pylist()
    ]
    head = ("family", "rows", "share", "wanted", "given", "reviewed", "confidence", "accuracy", "surest row")
    a = found.accuracy
    judged = (
        "too few rows of known family to say how often it is right: 5 each of two families are needed" if a is None else
        f"right for {a['accuracy']:.1%} [{a['low']:.1%}, {a['high']:.1%}] of {a['rows']:,} known rows it had not seen "
        f"({a['folds']}-fold; always the commonest family: {a['commonest']:.1%})"
    )
    empty = [x["family"] for x in found.table.to_pylist() if x["family"] and not x["rows"]]
    none = f"\nno row belongs to {', '.join(shorten(f, 40) for f in empty)}: give it examples, or rows" if empty else ""
    return f"{table(lines, head)}\n{found.why}\n{judged}{none}"


def _target(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.0%}-{bounds[1]:.0%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


@click.command()
@folder
@click.option("-k", "k", type=click.IntRange(1), help="Number of clusters (default: chosen, and said why).")
@click.option("--groups", type=click.IntRange(1), help="Number of wide groups (default: chosen, and said why).")
@click.option("--vectors", is_flag=True, help="Compare the meaning of prompts too: embeds them (takes time).")
@click.option("--model", default="", help="full, static or the folder of a model; default: by an estimate of the time.")
@click.option("--stable", is_flag=True, help="Measure how much remains under another seed and under 1 % fewer rows.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1), help="Clusters listed (--json: all).")
@as_json
def clusters(folder: Path, vectors: bool, model: str, stable: bool, limit: int, json_: bool, **asked: Any) -> None:
    """Put rows that ask for like things together, at two levels, and name the clusters."""
    from .diversity import clusters_of
    from .store import Store

    with progress() as step:
        found = clusters_of(Store(folder), meaning=vectors or bool(model), model=model, stable=stable, progress=step, **asked)
    _say(json_, found.as_dict(), lambda: _clusters_text(found, limit))


def _clusters_text(found: Any, limit: int) -> str:
    lines = found.table.to_pylist()
    wide: dict[int, int] = {}
    for x in lines:
        wide[x["group"]] = wide.get(x["group"], 0) + x["rows"]
    shown = sorted(lines, key=lambda x: (x["group"], x["cluster"]))[:limit]
    out = [
        table(
            [(f"{x['group']} {_inert(shorten(x['group_name'], 24))}", x["cluster"], _inert(shorten(x["name"], 28)), x["rows"],
              "" if x["flag_rate"] is None else f"{x['flag_rate']:.0%}", f"{x['cosine']:.2f}",
              _inert(shorten(" ".join(x["words"]), 36)), " ".join(map(str, x["odd"])), _inert(shorten(x["prompt"], 50)))
             for x in shown],
            ("group", "cluster", "name", "rows", "flagged", "cosine", "words", "odd rows", "typical prompt"),
        )
    ]
    if len(lines) > limit:
        out.append(f"... and {len(lines) - limit:,} more clusters (--limit)")
    out.append(f"{len(lines):,} clusters in {len(wide):,} groups over {len(found.clusters.label):,} rows: {found.why}")
    if found.stability is not None:
        s = found.stability
        out.append(f"adjusted Rand index: {s['reseeded']:.3f} under another seed, {s['one_percent_less']:.3f} under 1 % fewer "
                   f"rows (groups {s['groups_reseeded']:.3f}, {s['groups_one_percent_less']:.3f})")
    return "\n".join(out)
