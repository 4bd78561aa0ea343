"""What a run says on its way, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click


def speaker() -> Callable[[dict[str, Any]], None]:
    """Return the function that prints what a run says: each logged step on a tty, elsewhere about every 50 steps."""
    tty = sys.stderr.isatty()
    shown = {"step": 0}

    def say(event: dict[str, Any]) -> None:
        if event["event"] == "compiled":
            click.echo(compiled(event), err=True)
            return
        if event["event"] == "memory":
            click.echo(f"memory ran out: each pack is trained in {event['parts']} parts, the steps stay the same", err=True)
            return
        if event["event"] == "uncompiled":
            click.echo(f"the blocks cannot be compiled here, the run goes on without: {event['why']}", err=True)
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
            click.echo(step_line(event), err=True)

    return say


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
