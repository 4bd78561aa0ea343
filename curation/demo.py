"""The whole loop once on the sample data, through the same verbs a user types."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click

from .errors import CurationError
from .store import atomic

MARK = ".made-by-curation-demo"
ARMS = ("raw", "vetted")
POLL = 10.0  # seconds between progress lines


class Steps:
    """Runs verbs as a user would, with a heading, the exact command and the seconds since the start for each."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.number = 0

    def say(self, text: str) -> None:
        self.number += 1
        click.echo(f"\n[{self.clock()}] {self.number}. {text}")

    def clock(self) -> str:
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def verb(self, *args: str, ok: tuple[int, ...] = (0,), quiet: bool = False) -> str:
        """Run one verb, show it and what it prints, and return its stdout. Raises CurationError on another exit code."""
        click.echo(f"$ curation {shlex.join(args)}")
        done = subprocess.run(command(*args), capture_output=True, text=True, check=False)
        if not quiet:
            click.echo(done.stdout.rstrip())
        if done.returncode not in ok:
            raise CurationError(
                f"curation {args[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}",
                "run the command above by itself to see more",
            )
        return done.stdout

    def side_by_side(self, lines: dict[str, tuple[str, ...]], progress: Any) -> None:
        """Run several verbs at once, one process each, and say every few seconds how far they are."""
        for args in lines.values():
            click.echo(f"$ curation {shlex.join(args)}" + (" &" if len(lines) > 1 else ""))
        running = {
            name: subprocess.Popen(
                command(*args),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for name, args in lines.items()
        }
        try:
            said = time.monotonic()
            while any(p.poll() is None for p in running.values()):
                time.sleep(0.2)
                if time.monotonic() - said >= POLL:
                    said = time.monotonic()
                    click.echo(f"[{self.clock()}] {progress()}")
            for name, process in running.items():
                if process.returncode:
                    error = process.stderr.read().strip() if process.stderr else ""
                    raise CurationError(
                        f"{name}: curation {lines[name][0]} ended with {process.returncode}: {error[-2000:]}",
                        "run the command above by itself to see more",
                    )
        finally:
            for process in running.values():
                if process.poll() is None:
                    process.terminate()
                    process.wait()


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "curation.cli", *args]


def run(folder: Path, *, seeds: int, steps: int | None, train: bool) -> int:
    """Go round the loop in `folder`, which is made anew. Returns 0; what a verb finds wrong raises CurationError."""
    _fresh(folder)
    step = Steps()
    with as_file(files("curation.sample_data")) as data:
        _gather(step, folder, data)
    _vet(step, folder)
    if not train:
        _where(step, folder, None)
        return 0
    runs = _train(step, folder, seeds, steps)
    result = _evaluate(step, folder, runs)
    _where(step, folder, result)
    return 0


def _fresh(folder: Path) -> None:
    """Make the folder; one that an earlier demo made is replaced, any other is left alone."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise CurationError(f"{folder} exists and was not made by the demo", "curation demo OTHER-FOLDER")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / MARK, "w") as f:
        f.write("curation demo makes this folder anew each time it runs.\n")


def _gather(step: Steps, folder: Path, data: Path) -> None:
    click.echo(
        "The dataset is the spec; its flaws will be learned faithfully. This goes once round the loop on sample pairs\n"
        "written for this project, about 30 % of them damaged on purpose. Every number below is measured now."
    )
    step.say("Read the pairs and the spec")
    for name in ("spec.yaml", "battery.jsonl"):
        with atomic(folder / name) as f:
            f.write((data / name).read_bytes())
    step.verb("import", str(data / "pairs.jsonl"), "--to", str(folder))
    step.verb("spec", "check", str(folder))


def _vet(step: Steps, folder: Path) -> None:
    step.say("Check the rows")
    step.verb("check", str(folder))
    step.say("May this set leave?")
    step.verb("gate", str(folder), ok=(0, 1))
    step.say("Let the spec's policy decide what it can (in real use a person then reads the queues)")
    step.verb("review", str(folder), "--apply-policy")
    verdicts = files("curation.sample_data") / "verdicts.csv"
    if verdicts.is_file():
        step.say("A reader's verdicts on what the policy leaves open")
        with as_file(verdicts) as path:
            step.verb("review", str(folder), "--verdicts", str(path), "--actor", "reader")
    step.say("And now?")
    step.verb("gate", str(folder), ok=(0, 1))
    step.say("Export the vetted set, and the raw rows to compare with")
    step.verb("export", str(folder))
    step.verb("export", str(folder), "--raw", "--out", str(folder / "raw-set"))
    step.verb("report", str(folder))


def _train(step: Steps, folder: Path, seeds: int, steps: int | None) -> dict[str, list[Path]]:
    step.say(f"Train a tiny model from scratch on each arm, {seeds} seeds an arm, two processes side by side")
    sets = {"raw": folder / "raw-set", "vetted": folder / "vetted" / "1"}
    runs = {arm: [folder / "runs" / (f"{arm}-s{s}" if seeds > 1 else arm) for s in range(seeds)] for arm in ARMS}
    extra = ("--steps", str(steps)) if steps else ()
    numbers = ",".join(map(str, range(seeds)))
    step.side_by_side(
        {arm: ("train", str(sets[arm]), "--seeds", numbers, "--out", str(folder / "runs" / arm), *extra) for arm in ARMS},
        lambda: "; ".join(f"{arm}: {_progress(runs[arm])}" for arm in ARMS),
    )
    return runs


def _progress(runs: list[Path]) -> str:
    """Return where the runs of one arm are: the newest line of the newest metrics file."""
    for k in reversed(range(len(runs))):
        path = runs[k] / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and lines[-1].endswith("}"):
            m = json.loads(lines[-1])
            return f"seed {k + 1} of {len(runs)}, step {m['step']}, loss {m['loss']:.3f}, {m['tokens_per_s']:,.0f} tokens/s"
    return "starting"


def _evaluate(step: Steps, folder: Path, runs: dict[str, list[Path]]) -> dict[str, Any]:
    step.say("Ask every model the held-out battery")
    step.side_by_side({arm: ("eval", *map(str, runs[arm])) for arm in ARMS}, lambda: "asking and scoring")
    step.say("What did curation change? (four runs an arm: exact permutation test over seeds)")
    args = [x for arm, flag in zip(ARMS, ("--a", "--b"), strict=True) for r in runs[arm] for x in (flag, str(r))]
    step.verb("compare", *args, ok=(0, 1))
    path = folder / "compare.json"
    done = subprocess.run(command("compare", *args, "--json"), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise CurationError(f"curation compare --json ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    with atomic(path, "w") as f:
        f.write(done.stdout)
    step.say("Back to the rows: those nearest to what the vetted arm still gets wrong")
    step.verb("review", str(folder), "--queue", "failed", "--limit", "8")
    return json.loads(done.stdout)


def _where(step: Steps, folder: Path, result: dict[str, Any] | None) -> None:
    click.echo(f"\n[{step.clock()}] Done. Where to look:")
    places = [
        (f"curation app {folder}", "the workbench on this folder"),
        (f"{folder}/report/report.html", "what every check found, in context"),
        (f"curation show {folder} --dropped", "every row that was left out, and why"),
        (f"{folder}/vetted/1/", "the vetted set: splits, manifest, ledger, dataset card"),
    ]
    if result is not None:
        places += [
            (f"{folder}/runs/", "models, metrics, battery results"),
            (f"{folder}/compare.json", "the comparison as data"),
            (f"curation review {folder} --queue failed", "rows behind the failed probes"),
        ]
        click.echo("The models are tiny and trained from scratch on these pairs only: they show what the data teaches.")
    width = max(len(a) for a, _ in places)
    for a, b in places:
        click.echo(f"  {a.ljust(width)}  {b}")
