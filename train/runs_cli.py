"""The verb `runs`: which runs there are, and to watch, stop or go on with one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from curation.errors import CurationError

from . import launch, runs
from .say import speaker

run_argument = click.argument("run", type=click.Path(path_type=Path))


@click.group("runs", invoke_without_command=False)
def runs_() -> None:
    """List the runs of a dataset folder; watch, stop or resume one. A run does not need the app or this terminal."""


@runs_.command("list")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document for machines.")
def list_(folder: Path, as_json: bool) -> None:
    """List the runs of a dataset FOLDER with their state, step and last loss."""
    found = [_about(path.parent) for path in sorted((folder / "runs").glob("*/recipe.json"))]
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    if not found:
        click.echo(f"no run yet; start one: curation train {folder}")
    for run in found:
        loss = f"loss {run['loss']:.4f}" if run["loss"] is not None else "no loss yet"
        why = f"  ({run['why']})" if run["why"] else ""
        click.echo(f"{run['run']:<32} {run['state']:<8} step {run['step']:>6}/{run['steps']:<6} {loss}  {run['base']}{why}")


def _about(run_dir: Path) -> dict[str, Any]:
    state, lines = runs.read_state(run_dir), runs.read_metrics(run_dir)
    recipe = runs.read_recipe(run_dir)
    return {
        "run": run_dir.name,
        **{name: state[name] for name in ("state", "step", "steps", "why")},
        "loss": lines[-1]["loss"] if lines else None,
        "held_out_loss": next((e["held_out_loss"] for e in reversed(lines) if e.get("held_out_loss") is not None), None),
        "base": recipe.base,
        "set": recipe.set,
    }


@runs_.command("attach")
@run_argument
@click.option("--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds between looks.")
def attach(run: Path, interval: float) -> int:
    """Follow a RUN folder until it ends. Ctrl-C leaves it running."""
    runs.read_recipe(run)
    shown = 0
    try:
        with speaker(gap=1) as say:
            while True:
                state = runs.read_state(run)
                for line in runs.read_metrics(run)[shown:]:
                    shown += 1
                    say({"event": "step", "run": run.name, "steps": state["steps"], **line})
                if state["state"] not in ("running", "new"):
                    break
                time.sleep(interval)
    except KeyboardInterrupt:
        click.echo(f"{run} goes on without this terminal; stop it with: curation runs stop {run}", err=True)
        return 0
    click.echo(f"{run}: {state['state']} at step {state['step']}" + (f" ({state['why']})" if state["why"] else ""))
    return 0 if state["state"] == "done" else 1


@runs_.command("stop")
@run_argument
def stop(run: Path) -> None:
    """Let a RUN write a checkpoint and end."""
    state = runs.stop(run)
    click.echo(f"{run}: {state['state']} at step {state['step']} of {state['steps']}; go on: curation runs resume {run}")


@runs_.command("resume")
@run_argument
@click.option("--detach", is_flag=True, help="In the background.")
def resume(run: Path, detach: bool) -> None:
    """Go on with a RUN from its newest complete checkpoint, as its recipe says."""
    runs.check_resumable(run)
    recipe = runs.read_recipe(run)
    if runs.read_state(run)["state"] == "done":
        raise CurationError(f"{run} is done", "curation train starts another")
    runs.prepare_environment(threads=recipe.threads, base=recipe.base)
    if detach:
        click.echo(f"process {launch.detach([run], recipe.devices)}; watch: curation runs attach {run}")
        return
    card = launch.run([run], recipe.devices)[0]
    click.echo(f"{run}: {card['state']} at step {card['steps']}")
