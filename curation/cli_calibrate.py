"""The verb `calibrate`: about fifty labels set the threshold of a check for a wanted precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .cli import _say, as_json, folder, progress
from .errors import CurationError


@click.command()
@click.argument("check")
@folder
@click.option("--ask", "n", type=click.IntRange(1), metavar="N", help="Write N findings to label, of all scores.")
@click.option("--out", type=click.Path(path_type=Path), help="The CSV to write (default: FOLDER/calibration/CHECK.csv).")
@click.option("--labels", type=click.Path(path_type=Path), help="The CSV with its column label filled: yes or no.")
@click.option(
    "--precision", default=0.9, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Share that must be right."
)
@click.option("--from", "low", type=click.FloatRange(0, 1, max_open=True), help="Lowest score (default: .15 below now).")
@as_json
def calibrate(
    check: str,
    folder: Path,
    n: int | None,
    out: Path | None,
    labels: Path | None,
    precision: float,
    low: float | None,
    json_: bool,
) -> None:
    """Set the threshold of a check from labels: --ask 50 writes a CSV, --labels reads it back and changes spec.yaml."""
    from . import calibrate as desk
    from . import engine
    from .store import Store

    if (n is None) == (labels is None):
        raise CurationError("say --ask N to get findings to label, or --labels FILE to use the labels",
                            f"for example curation calibrate {check} {folder} --ask 50")
    store = Store(folder)
    spec = engine.spec_of(store)
    if labels is not None and low is None:
        low = desk.asked_from(labels, engine.choose(spec, [check])[0].id)
    with progress() as step:
        found = desk.findings(store, spec, check, low, step)
    if n is not None:
        path = out or folder / "calibration" / f"{check}.csv"
        count = desk.ask(store, found, path, n)
        _say(json_, {"file": str(path), "findings": count, "of": len(found.keys), "from": found.low},
             f"wrote {path}: {count:,} of {len(found.keys):,} findings from a score of {found.low:g} on\n"
             f"write yes or no in the column label, then: curation calibrate {check} {folder} --labels {path}")
        return
    assert labels is not None
    at, right, gone = desk.labels(labels, found)
    fitted = desk.fit(found.score, found.low, at, right, precision)
    about = {**desk.keep(store, found, fitted, precision, right), "gone": gone}
    _say(json_, about, lambda: calibration_text(about) + f"\nwritten to {folder / 'spec.yaml'}; next: curation check {folder}")


def calibration_text(about: dict[str, Any]) -> str:
    """Return what a calibration found, for people."""
    p, r, labels = about["precision"], about["recall"], about["labels"]
    sure = {
        "sure": f"the lower bound of its interval reaches the {about['wanted']:g} asked for",
        "likely": f"the estimate reaches the {about['wanted']:g} asked for, its lower bound does not: label more to be sure",
    }[about["method"]]
    gone = f"\n{about['gone']} labels are of findings that are no longer there" if about.get("gone") else ""
    return (
        f"{about['check']}.{about['option']} = {about['threshold']:g}\n"
        f"precision {p['value']:.2f} [{p['low']:.2f}, {p['high']:.2f}] on {labels['above']} labels above it: {sure}\n"
        f"recall {r['value']:.2f} [{r['low']:.2f}, {r['high']:.2f}] of the right findings from a score of {about['from']:g} on; "
        f"{labels['yes']} labels yes, {labels['no']} no{gone}"
    )
