"""The verb `train`: from a vetted set to a model, with every row that was not trained listed."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from curation.errors import CurationError, needs

from . import runs
from .runs import Recipe

STOPPED = 130  # exit code of a run that a signal ended; its checkpoint is kept


def _seeds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[int]:
    """Read 0,1,2,3 or 0-3."""
    if value is None:
        return []
    try:
        seeds: list[int] = []
        for part in value.split(","):
            first, dash, last = part.partition("-")
            seeds.extend(range(int(first), int(last) + 1) if dash else [int(first)])
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0,1,2,3 or 0-3") from None
    if not seeds or len(set(seeds)) != len(seeds):
        raise click.BadParameter(f"{value!r} names no seed, or one twice")
    return seeds


@click.command("train")
@click.argument("set_or_folder", type=click.Path(path_type=Path))
@click.option(
    "--base", default=runs.TINY, show_default=True, help="tiny (built in, from scratch), a folder, or a hub id."
)
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes over the set, instead of --steps.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--seeds", callback=_seeds, help="Several runs one after another in one process, such as 0,1,2,3 or 0-3.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run folder (with --seeds: its beginning, -s0 ... is added)."
)
@click.option("--lora", is_flag=True, help="Train a small adapter instead of all weights.")
@click.option(
    "--max-length", type=click.IntRange(8), help="Tokens a row may have; longer ones are listed and left out."
)
@click.option("--truncate", is_flag=True, help="Cut longer rows instead, with the end of turn put back.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Highest learning rate.")
@click.option("--batch", type=click.IntRange(1), help="Rows a step.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("--log-every", type=click.IntRange(1), default=10, show_default=True, help="Steps between metric lines.")
@click.option("--save-every", type=click.IntRange(1), help="Steps between checkpoints.")
@click.option(
    "--row-losses",
    type=click.Choice(["visits", "final", "ifd", "off"]),
    default="visits",
    show_default=True,
    help="Loss of each row at each visit (free); final: also under the finished model; ifd: also of the answer alone.",
)
@click.option("--no-row-losses", is_flag=True, help="The same as --row-losses off.")
@click.option(
    "--resume", is_flag=True, help="Go on from the newest complete checkpoint, or start if there is no run yet."
)
@click.option("--overwrite", is_flag=True, help="Replace a run that is already there.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and train nothing.")
@click.option(
    "--show-mask", type=click.IntRange(1), metavar="N", help="Show N rows with what is trained, and train nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print the run card (a list with --seeds) as JSON.")
def train(
    set_or_folder: Path,
    base: str,
    seed: int,
    seeds: list[int],
    out: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    show_mask: int | None,
    as_json: bool,
    no_row_losses: bool,
    **asked: Any,
) -> int:
    """Fine-tune a model on a vetted set: the tiny built-in base on a CPU, or any base by folder or hub id."""
    if asked["steps"] and asked["epochs"]:
        raise CurationError("--steps and --epochs were both given", "keep one of them")
    for package in ("torch", "transformers", *(("peft",) if asked["lora"] else ())):
        needs(package, "train")
    if asked["lora"] and base == runs.TINY:
        raise CurationError(
            "--lora needs a pretrained base; tiny is trained from scratch", "drop --lora or name a --base"
        )
    wanted = seeds or [seed]
    looking = dry_run or show_mask is not None
    where = out or (Path("-") if looking else None)  # looking needs no run folder
    set_dir, run_dirs = runs.locate(set_or_folder, base=base, seeds=wanted, out=where)
    if no_row_losses:
        asked["row_losses"] = "off"
    local = Path(base).expanduser()
    base = str(local.resolve()) if base != runs.TINY and local.is_dir() else base
    recipes = [Recipe(set=str(set_dir.resolve()), base=base, seed=s, **asked) for s in wanted]
    runs.prepare_environment(threads=recipes[0].threads, base=base)
    if looking:
        return _show_mask(recipes[0], show_mask) if show_mask is not None else _dry_run(recipes[0], as_json=as_json)
    for run_dir, recipe in zip(run_dirs, recipes):
        if resume and (run_dir / "recipe.json").exists():
            runs.check_resumable(run_dir)
        else:
            runs.create(run_dir, recipe, overwrite=overwrite)
    from . import sft

    cards = sft.train_runs(run_dirs, resume=resume, say=_speaker())
    if as_json:
        click.echo(json.dumps(cards if seeds else cards[0], indent=1, ensure_ascii=False))
    else:
        for run_dir, card in zip(run_dirs, cards):
            click.echo(_result(run_dir, card))
    if any(card["state"] == "stopped" for card in cards):
        raise SystemExit(STOPPED)
    return 0


# ---- what is said on the way, on stderr -----------------------------------------------------------------------------


def _speaker() -> Callable[[dict[str, Any]], None]:
    """Return the function that prints what a run says: each logged step on a tty, elsewhere about every 50 steps."""
    tty = sys.stderr.isatty()
    shown = {"step": 0}

    def say(event: dict[str, Any]) -> None:
        if event["event"] == "compiled":
            click.echo(_compiled(event), err=True)
            return
        if event["event"] == "settings":
            shown["step"] = 0
            click.echo(f"run {event['run']}", err=True)
            for name, (value, reason) in event["settings"].items():
                click.echo(f"  {name:<22} {value!s:<8} {reason}", err=True)
            return
        last = event["step"] == event["steps"]
        if tty or last or event["step"] - shown["step"] >= 50:
            shown["step"] = event["step"]
            click.echo(_step_line(event), err=True)

    return say


def _step_line(event: dict[str, Any]) -> str:
    left = event["seconds"] / event["step"] * (event["steps"] - event["step"])
    return (
        f"step {event['step']:>6}/{event['steps']}  loss {event['loss']:7.4f}  lr {event['lr']:.1e}  "
        f"{event['tokens_per_s']:>7,} tok/s  {event['seconds']:6.1f} s  left {left:5.0f} s"
    )


def _compiled(report: dict[str, Any]) -> str:
    lines = []
    for split, n in report["splits"].items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in n["reasons"].items())
        lines.append(
            f"{split}: {n['used']:,} of {n['rows']:,} rows, {n['tokens']:,} tokens, {n['supervised_share']:.1%} trained"
            + (f"; not whole or left out: {reasons}" if reasons else "")
        )
    return "\n".join(lines)


def _result(run_dir: Path, card: dict[str, Any]) -> str:
    if card["state"] == "stopped":
        return f"{run_dir}: stopped at step {card['steps']}; go on with --resume"
    held = card["held_out"]["loss"]
    told = f"held-out loss {held:.4f}" if held is not None else "no held-out rows"
    label = f" ({card['label']})" if card["label"] else ""
    return f"{run_dir}: {card['steps']} steps in {card['seconds']:.0f} s, loss {card['final_loss']:.4f}, {told}{label}"


# ---- looking without training ---------------------------------------------------------------------------------------


def _show_mask(recipe: Recipe, n: int) -> int:
    from . import base
    from . import compile as compiler

    prepared = base.prepare(recipe)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for row, parts in compiler.paint(prepared.train, prepared.tokenizer, n):
        click.echo(f"row {row}")
        painted = [
            (click.style(text, fg="green", bold=True) if colour else f"⟦{text}⟧") if on else text for text, on in parts
        ]
        click.echo("".join(painted))
    return 0


def _dry_run(recipe: Recipe, *, as_json: bool) -> int:
    from . import base, settings

    prepared = base.prepare(recipe)
    plan = settings.forecast(recipe, prepared)
    if as_json:
        click.echo(json.dumps(plan, indent=1, ensure_ascii=False))
        return 0
    click.echo(_compiled(prepared.report))
    for split in ("train", "validation"):
        for reason, _ in Counter(entry.reason for entry in prepared.left_out if entry.split == split).most_common():
            first = next(entry for entry in prepared.left_out if entry.split == split and entry.reason == reason)
            click.echo(f"  {split}, {reason}: for instance row {first.row}: {first.detail}")
    for name, entry in plan["settings"].items():
        click.echo(f"  {name:<22} {entry['value']!s:<8} {entry['reason']}")
    click.echo(
        f"{plan['steps']} steps, about {plan['epochs']:.1f} epochs, {plan['tokens']:,} tokens; "
        f"about {plan['seconds']:.0f} s and {plan['memory_gb']:.1f} GB here (estimates)"
    )
    return 0
