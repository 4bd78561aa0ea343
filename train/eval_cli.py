"""The verbs `eval` and `compare`, and the same as plain functions: what a run learned, and whether two arms differ."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from curation import engine, gate
from curation import spec as specs
from curation.errors import CurationError
from curation.store import Store

from . import battery
from .battery import Probe
from .compare import compare_arms, render
from .trace import encoder_if_any, trace, write_queue

__all__ = ["compare", "compare_arms", "eval_", "evaluate_runs", "render"]

#: Failed probes followed back to rows at most; those failed by most runs first.
TRACED = 200


def evaluate_runs(
    run_dirs: Sequence[Path],
    battery_path: Path | None = None,
    *,
    threads: int = 1,
    max_new_tokens: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Ask each run's model the battery, write RUN/battery.json and return the results, in the order of the runs.

    Default battery: that of the set the run was trained on.

    One process pays the imports once. `progress` gets (probes answered, all probes of all runs).
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a run folder is complete; nothing may wait for a network
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    asked = [(Path(d), *probes_for(Path(d), battery_path)) for d in run_dirs]
    total = sum(len(probes) for _, probes, _, _ in asked)
    results, done = [], 0
    for run_dir, probes, source, room in asked:
        step = None if progress is None else (lambda k, _, base=done: progress(base + k, total))
        results.append(
            battery.run(
                run_dir, probes, source=source, threads=threads, max_new_tokens=max_new_tokens or room, progress=step
            )
        )
        done += len(probes)
    return results


def probes_for(run_dir: Path, battery_path: Path | None) -> tuple[list[Probe], str, int]:
    """Return (probes, where they are from, tokens an answer may have) for a run.

    In this order: the given file, battery.jsonl of the run's set, probes derived from the set's validation rows.
    """
    set_dir = set_of(run_dir)
    if battery_path is not None:
        return battery.load(battery_path), str(battery_path), _room(_spec_of(set_dir))
    found = probes_of_set(set_dir) if set_dir is not None else None
    if found is None:
        raise CurationError(f"{run_dir}: no battery was given and its set has none", "curation eval RUN --battery FILE")
    return found


def probes_of_set(set_dir: Path) -> tuple[list[Probe], str, int] | None:
    """Return what `probes_for` gives for the runs of a set, None when it has no battery and none can be derived."""
    spec = _spec_of(set_dir)
    if (set_dir / "battery.jsonl").is_file():
        return battery.load(set_dir / "battery.jsonl"), str(set_dir / "battery.jsonl"), _room(spec)
    if spec is not None and (set_dir / "validation.parquet").is_file():
        rows = pq.read_table(set_dir / "validation.parquet")
        probes = [battery.read_probe(p) for p in battery.derive(rows, spec, spec.battery.per_family, spec.split.seed)]
        if probes:
            return probes, f"derived from {set_dir / 'validation.parquet'}", _room(spec)
    return None


def _spec_of(set_dir: Path | None) -> specs.Spec | None:
    return specs.load(set_dir / "spec.yaml") if set_dir and (set_dir / "spec.yaml").is_file() else None


def _room(spec: specs.Spec | None) -> int:
    return spec.battery.max_new_tokens if spec else battery.MAX_NEW_TOKENS


def set_of(run_dir: Path) -> Path | None:
    """Return the set folder a run was trained on, None for a bare model folder or a set that is gone.

    recipe.json names it, or the key "set" of run.json; a relative name is looked for beside and above the run.
    """
    for name in ("recipe.json", "run.json"):
        path = run_dir / name
        named = json.loads(path.read_text(encoding="utf-8")).get("set") if path.is_file() else None
        if isinstance(named, str) and named:
            for place in (Path(named), run_dir / named, run_dir.parent.parent / named):
                if place.is_dir():
                    return place
    return None


def dataset_of(run_dir: Path) -> Path | None:
    """Return the dataset folder a run lies in (the nearest parent with rows/), or None."""
    return next((p for p in run_dir.resolve().parents if (p / "rows").is_dir()), None)


def trace_runs(
    run_dirs: Sequence[Path], results: Sequence[dict[str, Any]], battery_path: Path | None = None
) -> list[dict[str, Any]]:
    """Write a queue of rows behind the failed probes for each set among the runs; return [{queue, entries, probes}].

    Runs of one set are taken together: a probe counts as failed when at least half of them failed it. Runs outside a
    dataset folder, and those of a set exported without the gate (an arm to compare with), are left out.
    """
    by_set: dict[tuple[Path, Path], list[int]] = {}
    for k, run_dir in enumerate(run_dirs):
        folder, set_dir = dataset_of(run_dir), set_of(run_dir)
        if folder and set_dir and (set_dir / "train.parquet").is_file() and _gated(set_dir):
            by_set.setdefault((folder, set_dir), []).append(k)
    written = []
    for (folder, set_dir), members in by_set.items():
        probes = {p.id: p for p in probes_for(run_dirs[members[0]], battery_path)[0]}
        failed = _failed([results[k]["probes"] for k in members], probes)
        rows = pq.read_table(set_dir / "train.parquet", columns=["row", "uid", "family", "messages"])
        entries = trace(failed, rows, open_flags(folder), encoder=encoder_if_any()) if failed else []
        name = _common_name([run_dirs[k].name for k in members])
        written.append(
            {"queue": str(write_queue(folder, name, entries)), "entries": len(entries), "probes": len(failed)}
        )
    return written


def _gated(set_dir: Path) -> bool:
    path = set_dir / "manifest.json"
    return not path.is_file() or json.loads(path.read_text(encoding="utf-8")).get("gate") != "not applied"


def _failed(runs: Sequence[Sequence[dict[str, Any]]], probes: dict[str, Probe]) -> list[dict[str, Any]]:
    """Return what at least half of the runs failed, at most TRACED: most failed first, behaviours in turn."""
    misses = [sum(not run[k]["passed"] for run in runs) for k in range(len(runs[0]))]
    turn: Counter[str] = Counter()
    order = []
    for k in sorted((k for k, m in enumerate(misses) if m and 2 * m >= len(runs)), key=lambda k: -misses[k]):
        behaviour = runs[0][k]["behaviour"]
        order.append((turn[behaviour], k))
        turn[behaviour] += 1
    failed = [runs[0][k] for _, k in sorted(order)[:TRACED]]
    return [{**p, "verifiers": [{"id": i, "kwargs": dict(a)} for i, a in probes[p["id"]].verifiers]} for p in failed]


def _common_name(names: Sequence[str]) -> str:
    """Return the shared beginning of the run names without a seed's mark: vetted-s0, vetted-s1 give vetted."""
    if len(names) == 1:
        return names[0]
    columns = enumerate(zip(*names, strict=False))
    same = next((k for k, letters in columns if len(set(letters)) > 1), min(map(len, names)))
    return re.sub(r"[-_.]?s?$", "", names[0][:same]) or names[0]


def open_flags(folder: Path) -> pa.Table:
    """Return the flags of a dataset folder that still ask for a decision; none before the first check."""
    store = Store(folder)
    if store.signals() is None:
        return store.flags()
    spec = engine.spec_of(store)
    return gate.open_flags(gate.effective(store, spec), spec)


def describe(result: dict[str, Any]) -> str:
    """Return one run's result as an aligned table: a line a behaviour, then the metrics."""
    lines = [f"{result['run']}: {result['overall']['n']} probes in {result['seconds']:.1f} s"]
    rows = [("behaviour", "n", "passed", "95 %", "exact")]
    for name, r in [*result["behaviours"].items(), ("overall", result["overall"])]:
        exact = "" if r["exact"] is None else f"{r['exact']:.3f}"
        rows.append((name, str(r["n"]), f"{r['rate']:.3f}", "{:.3f}-{:.3f}".format(*r["wilson"]), exact))
    width = [max(len(r[k]) for r in rows) for k in range(5)]
    lines += ["  ".join([r[0].ljust(width[0]), *(c.rjust(w) for c, w in zip(r[1:], width[1:]))]).rstrip() for r in rows]
    known = {k: v for k, v in result["metrics"].items() if v is not None}
    widest = max(map(len, known))
    return "\n".join([*lines, *(f"{k.ljust(widest)}  {v:.3f}" for k, v in known.items())])


@click.command("eval")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--battery",
    "battery_path",
    type=click.Path(path_type=Path),
    help="Probes to ask (default: those of the run's set).",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("--max-new-tokens", type=click.IntRange(1), help="Tokens an answer may have (default: the spec's).")
@click.option(
    "--trace/--no-trace",
    "traced",
    default=True,
    show_default=True,
    help="Queue the training rows nearest to failed probes for review.",
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON document for machines.")
def eval_(
    runs: tuple[Path, ...],
    battery_path: Path | None,
    threads: int,
    max_new_tokens: int | None,
    traced: bool,
    json_: bool,
) -> int:
    """Ask trained models the held-out battery and score their behaviour without a judge."""
    results = evaluate_runs(runs, battery_path, threads=threads, max_new_tokens=max_new_tokens)
    queues = trace_runs(runs, results, battery_path) if traced else []
    if json_:
        short = [{k: v for k, v in r.items() if k != "probes"} for r in results]
        click.echo(json.dumps({"runs": short, "queues": queues}, indent=1, ensure_ascii=False))
        return 0
    click.echo("\n\n".join(describe(r) for r in results))
    for q in queues:
        click.echo(f"{q['probes']} failed probes lead to {q['entries']} rows: {q['queue']}")
    return 0


@click.command("compare")
@click.argument("pair", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--a",
    "a",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A run of arm A; repeat for each seed.",
)
@click.option(
    "--b",
    "b",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A run of arm B; repeat for each seed.",
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON document for machines.")
def compare(pair: tuple[Path, ...], a: tuple[Path, ...], b: tuple[Path, ...], json_: bool) -> int:
    """Say per behaviour whether run B differs from run A by more than chance; exit 1 when it is worse."""
    if pair and (a or b or len(pair) != 2):
        raise CurationError(
            f"{len(pair)} runs named beside the options" if a or b else f"{len(pair)} runs named, two are compared",
            "curation compare RUN_A RUN_B, or --a RUN --a RUN --b RUN --b RUN",
        )
    result = compare_arms(*(([pair[0]], [pair[1]]) if pair else (a, b)))
    click.echo(json.dumps(result, indent=1, ensure_ascii=False) if json_ else render(result))
    return 1 if result["worse"] else 0
