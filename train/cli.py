"""The verb `train`: from a vetted set to a model, with every row that was not trained listed."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from curation.errors import CurationError, needs
from curation.store import atomic

from . import launch, runs
from .runs import Recipe
from .say import compiled, shown, speaker

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
@click.option("--qlora", is_flag=True, help="The same over weights kept in four bits (bitsandbytes).")
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
@click.option("--eval-every", type=click.IntRange(1), help="Steps between looks at the held-out loss.")
@click.option(
    "--patience", type=click.IntRange(0), help="Looks without a better one before the run stops and takes its best (0: never)."
)
@click.option("--devices", type=click.IntRange(1), default=1, show_default=True, help="Processes that share each step.")
@click.option("--shard", is_flag=True, help="Spread weights and optimizer over the devices (FSDP2).")
@click.option(
    "--compile/--no-compile", default=None, help="torch.compile each block (CUDA); by itself when the run takes some minutes."
)
@click.option("--tensorboard", is_flag=True, help="Also write the metrics for TensorBoard.")
@click.option(
    "--samples", type=click.IntRange(0), help="Fixed prompts answered at each look, into samples.jsonl (default 3; 0: none)."
)
@click.option("--eval", "then_eval", is_flag=True, help="Then ask the set's battery, as curation eval does.")
@click.option("--detach", is_flag=True, help="Train in the background; curation runs attach RUN watches.")
@click.option("--emit", type=click.Choice(list(launch.KINDS)), help="Write the text of another launcher, train nothing.")
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
    detach: bool,
    then_eval: bool,
    emit: str | None,
    **asked: Any,
) -> int:
    """Fine-tune a model on a vetted set: the tiny built-in base on a CPU, or any base by folder or hub id."""
    asked["lora"] = asked["lora"] or asked["qlora"]
    _refuse(base, asked)
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
        return _look(recipes[0], dry_run=dry_run, rows=show_mask, as_json=as_json)
    if emit:
        return _emit(emit, run_dirs, recipes)
    if then_eval:
        _refuse_eval(set_dir, detach=detach)
    for run_dir, recipe in zip(run_dirs, recipes):
        if resume and (run_dir / "recipe.json").exists():
            runs.check_resumable(run_dir)
        else:
            runs.create(run_dir, recipe, overwrite=overwrite)
    if detach:
        return _detach(run_dirs, recipes[0].devices)
    cards = _train(run_dirs, recipes[0].devices, resume=resume)
    if as_json:
        click.echo(json.dumps(cards if seeds else cards[0], indent=1, ensure_ascii=False))
    else:
        for run_dir, card in zip(run_dirs, cards):
            click.echo(_result(run_dir, card))
    if any(card["state"] == "stopped" for card in cards):
        raise SystemExit(STOPPED)
    if then_eval:
        _evaluate(run_dirs, recipes[0].threads)
    return 0


def _refuse_eval(set_dir: Path, *, detach: bool) -> None:
    """Raise a CurationError before the training when no battery could be asked behind it."""
    from .eval_cli import probes_of_set

    if detach:
        raise CurationError("--eval waits for the training, --detach does not", "run curation eval when it is done")
    if probes_of_set(set_dir) is None:
        raise CurationError(f"{set_dir} has no battery and none follows from its validation rows", "train without --eval")


def _evaluate(run_dirs: list[Path], threads: int) -> None:
    """Ask the runs the battery of their set and queue the rows behind what they fail; said on stderr."""
    from . import eval_cli

    results = eval_cli.evaluate_runs(run_dirs, threads=threads)
    click.echo("\n\n".join(eval_cli.describe(r) for r in results), err=True)
    for q in eval_cli.trace_runs(run_dirs, results):
        click.echo(f"{q['probes']} failed probes lead to {q['entries']} rows: {q['queue']}", err=True)


def _train(run_dirs: list[Path], devices: int, *, resume: bool) -> list[dict[str, Any]]:
    if devices > 1:
        return launch.run(run_dirs, devices)
    from . import sft

    with speaker() as say:
        return sft.train_runs(run_dirs, resume=resume, say=say)


def _detach(run_dirs: list[Path], devices: int) -> int:
    pid = launch.detach(run_dirs, devices)
    click.echo(f"process {pid} trains {', '.join(map(str, run_dirs))}")
    click.echo(f"next: curation runs attach {run_dirs[0]}   or: curation runs stop {run_dirs[0]}")
    return 0


def _refuse(base: str, asked: dict[str, Any]) -> None:
    """Raise a CurationError for options that do not go together, or need what is not there."""
    if asked["steps"] and asked["epochs"]:
        raise CurationError("--steps and --epochs were both given", "keep one of them")
    for package in ("torch", "transformers", *(("peft",) if asked["lora"] else ())):
        needs(package, "train")
    if asked["qlora"]:
        needs("bitsandbytes", "qlora")
    if asked["tensorboard"]:
        needs("tensorboard", "board")
    if base == runs.TINY:
        _not_for_tiny(asked)
    if asked["shard"] and asked["devices"] == 1:
        raise CurationError("--shard spreads a model over several devices", "add --devices N")


def _not_for_tiny(asked: dict[str, Any]) -> None:
    """Raise a CurationError for what needs a pretrained base: tiny is a million parameters, trained from scratch."""
    for name, why in (
        ("lora", "tiny is trained from scratch"),
        ("shard", "tiny fits on every device"),
        ("compile", "tiny trains on the CPU"),
    ):
        if asked[name]:
            raise CurationError(f"--{name} needs a pretrained base; {why}", f"drop --{name} or name a --base")
    if asked["devices"] > 1:
        raise CurationError("tiny trains on one process: its batches are a few hundred tokens", "drop --devices")


def _emit(kind: str, run_dirs: list[Path], recipes: list[Recipe]) -> int:
    """Write the launcher texts into the run folders and say where."""
    for run_dir, recipe in zip(run_dirs, recipes):
        texts = launch.emit(kind, run_dir.resolve(), recipe)
        if not (run_dir / "recipe.json").exists():
            runs.create(run_dir, recipe)
        for name, text in texts.items():
            with atomic(run_dir / name, "w") as file:
                file.write(text)
            click.echo(str(run_dir / name))
    return 0


def _result(run_dir: Path, card: dict[str, Any]) -> str:
    if card["state"] == "stopped":
        return f"{run_dir}: stopped at step {card['steps']}; go on with --resume"
    held = card["held_out"]["loss"]
    told = f"held-out loss {held:.4f}" if held is not None else "no held-out rows"
    label = f" ({card['label']})" if card["label"] else ""
    return f"{run_dir}: {card['steps']} steps in {card['seconds']:.0f} s, loss {card['final_loss']:.4f}, {told}{label}"


# ---- looking without training ---------------------------------------------------------------------------------------


def _look(recipe: Recipe, *, dry_run: bool, rows: int | None, as_json: bool) -> int:
    """Print the plan, rows with the loss mask painted, or both; as JSON the plan has the rows under `mask`."""
    from . import base, settings
    from . import compile as compiler

    prepared = base.prepare(recipe)
    painted = compiler.paint(prepared.train, prepared.tokenizer, rows or 0)
    if not as_json:
        _show_mask(painted)
        if dry_run:
            _show_plan(prepared, settings.forecast(recipe, prepared))
        return 0
    mask = [{"row": row, "parts": [{"text": text, "trained": on} for text, on in parts]} for row, parts in painted]
    plan = {**settings.forecast(recipe, prepared), **({"mask": mask} if rows else {})} if dry_run else mask
    click.echo(json.dumps(plan, indent=1, ensure_ascii=False))
    return 0


def _show_mask(painted: list[tuple[int, list[tuple[str, bool]]]]) -> None:
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for row, parts in painted:
        click.echo(f"row {row}")
        shown = [(click.style(text, fg="green", bold=True) if colour else f"⟦{text}⟧") if on else text for text, on in parts]
        click.echo("".join(shown))


def _show_plan(prepared: Any, plan: dict[str, Any]) -> None:
    click.echo(compiled(prepared.report))
    for split in ("train", "validation"):
        for reason, _ in Counter(entry.reason for entry in prepared.left_out if entry.split == split).most_common():
            first = next(entry for entry in prepared.left_out if entry.split == split and entry.reason == reason)
            click.echo(f"  {split}, {reason}: for instance row {first.row}: {first.detail}")
    for name, entry in plan["settings"].items():
        click.echo(f"  {name:<22} {shown(entry['value']):<8} {entry['reason']}")
    click.echo(
        f"{plan['steps']} steps, about {plan['epochs']:.1f} epochs, {plan['tokens']:,} tokens; "
        f"about {plan['seconds']:.0f} s and {plan['memory_gb']:.1f} GB here (estimates)"
    )
