"""Pictures of a run: loss, held-out loss and learning rate over the steps, as PNG in the run folder."""

from __future__ import annotations

from pathlib import Path

from . import runs


def draw(run_dir: Path) -> Path | None:
    """Write loss.png from metrics.jsonl; return its path, None when there is nothing to draw yet."""
    lines = runs.read_metrics(run_dir)
    if not lines:
        return None
    from matplotlib.figure import Figure

    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    losses = figure.add_subplot()
    losses.plot(steps, [line["loss"] for line in lines], color="#0072b2", label="training loss")
    looks = runs.looks(run_dir)
    if looks:
        losses.plot([step for _, step in looks], [loss for loss, _ in looks], "o-", color="#d55e00", label="held-out loss")
    losses.set_xlabel("step")
    losses.set_ylabel("mean loss a token")
    losses.set_ylim(bottom=0)
    losses.grid(alpha=0.3)
    rates = losses.twinx()
    rates.plot(steps, [line["lr"] for line in lines], color="#999999", linewidth=0.8, label="learning rate")
    rates.set_ylabel("learning rate")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    part = run_dir / "loss.png.part"
    figure.savefig(part, format="png", dpi=120)
    part.replace(run_dir / "loss.png")
    return run_dir / "loss.png"
