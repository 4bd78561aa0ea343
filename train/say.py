"""What a run says on its way, on stderr: on a terminal a bar that moves, elsewhere lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

Say = Callable[[dict[str, Any]], None]
#: Steps between two lines where nobody watches.
GAP = 50


@contextmanager
def speaker(*, gap: int = GAP) -> Iterator[Say]:
    """Give the function that shows what a run says; a bar is taken down when the run ends, however it ends."""
    if not sys.stderr.isatty():
        yield _lines(gap)
        return
    columns = (TextColumn("{task.fields[run]}"), BarColumn(bar_width=24), TextColumn("{task.fields[told]}"))
    # Drawn when something is said and at no other time: a thread that draws would take its share of the processor.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        yield _bar(progress)


def _lines(gap: int) -> Say:
    shown = {"step": 0}

    def say(event: dict[str, Any]) -> None:
        if event["event"] == "settings":
            shown["step"] = 0
        if event["event"] != "step":
            click.echo(words(event), err=True)
        elif event["step"] >= event["steps"] or event["step"] - shown["step"] >= gap:
            shown["step"] = event["step"]
            click.echo(step_line(event), err=True)

    return say


def _bar(progress: Progress) -> Say:
    running: list[TaskID] = []

    def say(event: dict[str, Any]) -> None:
        if event["event"] != "step":
            progress.console.print(escape(words(event)), highlight=False, soft_wrap=True)
            if event["event"] == "settings":
                running.clear()
            return
        if not running:
            running.append(progress.add_task("", run=escape(event.get("run", "training")), told="", total=event["steps"]))
        progress.update(running[0], completed=event["step"], told=step_line(event), refresh=True)

    return say


def words(event: dict[str, Any]) -> str:
    """Return what an event says that is no step."""
    if event["event"] == "compiled":
        return compiled(event)
    if event["event"] == "memory":
        return f"memory ran out: each pack is trained in {event['parts']} parts, the steps stay the same"
    if event["event"] == "uncompiled":
        return f"the blocks cannot be compiled here, the run goes on without: {event['why']}"
    assert event["event"] == "settings", event["event"]
    lines = [f"  {name:<22} {shown(value):<8} {reason}" for name, (value, reason) in event["settings"].items()]
    return "\n".join([f"run {event['run']}", *lines])


def shown(value: object) -> str:
    """Return the value of a setting in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def step_line(event: dict[str, Any]) -> str:
    left = event["seconds"] / event["step"] * (event["steps"] - event["step"])
    return (
        f"step {event['step']:>6}/{event['steps']}  loss {event['loss']:7.4f}  lr {event['lr']:.1e}  "
        f"{event['tokens_per_s']:>7,} tok/s  {event['seconds']:6.1f} s  left {left:5.0f} s"
        + (f"  MFU {event['mfu']:.2f}" if "mfu" in event else "")
        + (f"  held-out {event['held_out_loss']:.4f}" if event.get("held_out_loss") is not None else "")
    )


def compiled(report: dict[str, Any]) -> str:
    lines = []
    for split, n in report["splits"].items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in n["reasons"].items())
        lines.append(
            f"{split}: {n['used']:,} of {n['rows']:,} rows, {n['tokens']:,} tokens, {n['supervised_share']:.1%} trained"
            + (f"; not whole or left out: {reasons}" if reasons else "")
        )
    return "\n".join(lines)
