"""What the battery says of the runs of a folder: results found, cut into slices, and the rows behind a failed probe. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import CurationError

from . import runs
from .battery import RESULT
from .compare import read_result, wilson
from .eval_cli import set_of
from .trace import trace

ALL = "all"
#: Rows of a set that the way back to the rows is looked for at once; TF-IDF over more takes longer than one waits.
MOST_ROWS = 100_000

Result = Mapping[str, Any]


def _words(result: Result) -> str:
    n = len(result["prompt"].split())
    return "to 15 words" if n <= 15 else "16 to 50 words" if n <= 50 else "over 50 words"


def _turns(result: Result) -> str:
    asked = sum(m["role"] == "user" for m in result.get("messages") or [{"role": "user"}])
    return "one question" if asked == 1 else "several turns"


#: Name of a slicing -> the slice a probe's result lies in.
SLICINGS: dict[str, Callable[[Result], str]] = {
    "family": lambda r: r.get("family") or "(no family)",
    "prompt length": _words,
    "turns": _turns,
}


@dataclass(frozen=True)
class Cell:
    """The probes of one slice and behaviour: their ids, how many passed, and Wilson's 95 % interval of the rate."""

    ids: tuple[str, ...]
    passed: int
    low: float
    high: float

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def rate(self) -> float:
        return self.passed / self.n


@dataclass(frozen=True)
class Sliced:
    """Slices by behaviours; the first row and the first column are `all`. A cell without a probe is missing."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]


def evaluated(folder: Path) -> list[Path]:
    """Return the run folders of a dataset folder that have battery results, the newest results first."""
    return [p.parent for p in sorted((folder / "runs").glob(f"*/{RESULT}"), key=lambda p: (-p.stat().st_mtime, p.parent.name))]


def trained(folder: Path) -> list[Path]:
    """Return the run folders that have a model to ask, newest first."""
    done = [p for p in (folder / "runs").glob("*") if (p / "model" / "config.json").is_file()]
    return sorted(done, key=lambda p: (-(p / "model").stat().st_mtime, p.name))


def stale(run: Path) -> bool:
    """Return whether the model of a run was written after its battery results."""
    model, result = run / "model" / "config.json", run / RESULT
    return model.is_file() and result.is_file() and model.stat().st_mtime > result.stat().st_mtime


def card(run: Path) -> dict[str, Any]:
    """Return the run card, {} for a folder that has none."""
    return runs.read_json(run / "run.json") if (run / "run.json").is_file() else {}


def sliced(results: Sequence[Result], by: str) -> Sliced:
    """Return the results of one run cut by a slicing and by behaviour; the largest slices come first."""
    cut = SLICINGS[by]
    ids: dict[tuple[str, str], list[str]] = {}
    passed: dict[tuple[str, str], int] = {}
    for r in results:
        for key in {(s, b) for s in (ALL, cut(r)) for b in (ALL, r["behaviour"])}:
            ids.setdefault(key, []).append(r["id"])
            passed[key] = passed.get(key, 0) + bool(r["passed"])
    names = {cut(r) for r in results}
    rows = sorted(names, key=lambda s: (-len(ids[s, ALL]), s))
    columns = dict.fromkeys(r["behaviour"] for r in results)
    cells = {k: Cell(tuple(v), passed[k], *wilson(passed[k], len(v))) for k, v in ids.items()}
    return Sliced((ALL, *rows), (ALL, *columns), cells)


def failed_checks(result: Result) -> list[str]:
    """Return the ids of the verifiers that an answer failed."""
    return [c["id"] for c in result.get("checks", ()) if not c["passed"]]


# ---- the rows behind a probe


def culprits(folder: Path, run: Path, probe_id: str) -> list[dict[str, Any]] | None:
    """Return what the queues of failed probes say of one probe of a run, best first; None when none was written for it.

    A queue belongs to a run when it has the run's name, or the shared beginning of the names of several runs.
    """
    found: list[dict[str, Any]] | None = None
    for path in sorted((folder / "queues").glob("failed-*.jsonl")):
        name = path.stem.removeprefix("failed-")
        if run.name != name and not run.name.startswith(f"{name}-"):
            continue
        entries = _entries(path)
        if any("probes" not in e for e in entries):
            continue  # written before queues named all probes of a row
        mine = [
            {"row": e["row"], "uid": e["uid"], "score": e["probes"][probe_id][0], "reason": e["probes"][probe_id][1]}
            for e in entries
            if probe_id in e["probes"]
        ]
        if mine or run.name == name:
            found = (found or []) + mine
    return None if found is None else sorted(found, key=lambda e: (-e["score"], e["row"]))


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as e:
        raise CurationError(f"{path}: not a queue ({e})", "curation eval RUN writes it again") from None


def look_for_rows(run: Path, result: Result, flags: pa.Table, *, top: int = 5) -> list[dict[str, Any]]:
    """Return the rows of the run's set that are nearest to one probe, as a queue would name them: TF-IDF alone, no encoder.

    Raises CurationError when the set is gone, or larger than MOST_ROWS.
    """
    set_dir = set_of(run)
    path = set_dir / "train.parquet" if set_dir else None
    if path is None or not path.is_file():
        raise CurationError(f"the set that {run.name} was trained on is not there", f"curation eval {run}")
    if pq.read_metadata(path).num_rows > MOST_ROWS:
        raise CurationError(f"the set has more than {MOST_ROWS:,} rows", f"curation eval {run}")
    rows = pq.read_table(path, columns=["row", "uid", "family", "messages"])
    verifiers = [{"id": c["id"], "kwargs": c.get("kwargs", {})} for c in result.get("checks", ())]
    return trace([{**result, "verifiers": verifiers}], rows, flags, top=top)


def results_of(run: Path) -> dict[str, Any]:
    """Return the battery results of a run, with {id: result} under `by_id`."""
    result = read_result(run)
    result["by_id"] = {p["id"]: p for p in result["probes"]}
    return result
