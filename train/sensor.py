"""The trainer as a sensor: what each row's losses, visit by visit, say about the row.

A run notes the loss of every row each time it is trained. Rows the model keeps refusing to believe, or believes and
forgets, are where wrong answers gather (Swayamdipta et al. 2020, dataset cartography; Toneva et al. 2019, forgetting).
No torch in here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import CurationError
from curation.store import Store, atomic

#: One visit of one row: its place among the compiled rows, its mean token loss, the share of its tokens that were likeliest.
VISIT = np.dtype([("at", "<i4"), ("loss", "<f4"), ("hit", "<f4")])
#: A row visited less often has no variability and so no region.
VISITS = 2
#: Shares that divide the map, as in the paper: the most variable third is ambiguous, the least believed third hard.
THIRD = 1 / 3


def table(
    row: np.ndarray, uid: Sequence[str], visits: np.ndarray, *, final: np.ndarray | None = None, alone: np.ndarray | None = None
) -> pa.Table:
    """Return one line a row: every visit, what the visits say, and under the finished model what was measured.

    `visits`: (n,) VISIT in the order of training. `final`, `alone`: mean token loss of each row under the finished
    model, with its prompt and of the answer without it. Columns: row, uid, losses and hits (one number a visit),
    train_loss_first, train_loss_last, loss_drop, confidence, variability, forgotten, region; with `final`
    train_loss_final, with `alone` also ifd = exp(final) / exp(alone), below 1 where the prompt helps (Li et al. 2024).
    """
    n = len(row)
    order = np.argsort(visits["at"], kind="stable")
    at, loss, hit = (visits[name][order] for name in ("at", "loss", "hit"))
    count = np.bincount(at, minlength=n)
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    seen = count > 0
    first, last = np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32)
    first[seen], last[seen] = loss[offsets[:-1][seen]], loss[offsets[1:][seen] - 1]
    believed = np.exp(-loss.astype(np.float64))
    confidence = _mean(believed, at, count)
    variability = np.sqrt(np.maximum(_mean(believed**2, at, count) - confidence**2, 0.0))
    right = hit >= 1.0 - 1e-6
    lost = right[:-1] & ~right[1:] & (at[1:] == at[:-1])
    forgotten = np.bincount(at[1:][lost], minlength=n)
    columns: dict[str, pa.Array] = {
        "row": pa.array(row),
        "uid": pa.array(uid, pa.string()),
        "losses": pa.ListArray.from_arrays(pa.array(offsets), pa.array(loss)),
        "hits": pa.ListArray.from_arrays(pa.array(offsets), pa.array(hit)),
        "train_loss_first": _float(first),
        "train_loss_last": _float(last),
        "loss_drop": _float(first - last),
        "confidence": _float(confidence),
        "variability": _float(np.where(count >= VISITS, variability, np.nan)),
        "forgotten": pa.array(forgotten.astype(np.int16)),
        "region": pa.array(regions(confidence, variability, count), pa.string()),
    }
    if final is not None:
        columns["train_loss_final"] = _float(final)
    if final is not None and alone is not None:
        columns["ifd"] = _float(np.exp(final - alone))
    return pa.table(columns)


def _mean(values: np.ndarray, at: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the mean of the values of each row, NaN where it has none."""
    sums = np.bincount(at, weights=values, minlength=len(count))
    return np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0)


def _float(values: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(values, np.float32), pa.float32(), from_pandas=True)


def regions(confidence: np.ndarray, variability: np.ndarray, count: np.ndarray) -> list[str]:
    """Return ambiguous, hard, easy or "" (seen less than twice) for each row, by thirds of the rows seen."""
    out = np.full(len(count), "", dtype=object)
    seen = np.flatnonzero(count >= VISITS)
    if len(seen):
        steady = np.argsort(variability[seen], kind="stable")
        least = len(seen) - round(THIRD * len(seen))
        out[seen] = "easy"
        out[seen[confidence[seen] <= np.quantile(confidence[seen], THIRD)]] = "hard"
        out[seen[steady[least:]]] = "ambiguous"
    return out.tolist()


def surprise(losses: pa.Table, families: Sequence[str]) -> np.ndarray:
    """Return how far each row's belief stays behind its family's, (n,) in [0, 1]; NaN for a row never visited.

    Families differ in how sure any model can be of their answers, so a row is held against its own: the score is the
    family's median confidence minus the row's, 0 where the row does as well.
    """
    confidence = np.asarray(losses["confidence"].to_numpy(zero_copy_only=False), np.float64)
    names = np.array([f or "" for f in families], dtype=object)
    out = np.full(len(confidence), np.nan)
    for name in set(names.tolist()):
        mine = (names == name) & ~np.isnan(confidence)
        if mine.any():
            out[mine] = np.clip(np.median(confidence[mine]) - confidence[mine], 0.0, 1.0)
    return out


def queue(losses: pa.Table, families: Sequence[str], run: str, *, share: float = 0.1) -> list[dict[str, Any]]:
    """Return the rows that training found hardest to believe, best first: the top `share` of the rows visited."""
    score = np.round(surprise(losses, families), 4)
    keep = min(int((score > 0).sum()), max(1, round(share * int((~np.isnan(score)).sum()))))
    order = np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable")[:keep]
    rows = losses.take(pa.array(order)).to_pylist()
    return [
        {
            "row": entry["row"],
            "uid": entry["uid"],
            "score": float(score[i]),
            "reason": _reason(entry, float(score[i]), run),
            "probe": "",
        }
        for i, entry in zip(order.tolist(), rows, strict=True)
    ]


def _reason(entry: dict[str, Any], score: float, run: str) -> str:
    visits = len(entry["losses"])
    forgotten = f"; forgotten {entry['forgotten']} times" if entry["forgotten"] else ""
    return (
        f"training ({run}) gives its answer {entry['confidence']:.0%} a token over {visits} visits, "
        f"{score:.0%} less than the median of its family{forgotten}"
    )


def write_queue(folder: Path, run: str, entries: Sequence[dict[str, Any]]) -> Path:
    """Write FOLDER/queues/hard-<run>.jsonl, one entry a line, best first, atomically; return its path."""
    path = folder / "queues" / f"hard-{run}.jsonl"
    with atomic(path, "w") as f:
        f.writelines(json.dumps(e, ensure_ascii=False) + "\n" for e in entries)
    return path


#: Columns of row_losses.parquet that become signals of the dataset folder.
AS_SIGNALS = ("train_loss_first", "train_loss_last", "loss_drop", "forgotten", "region")


def write_signals(folder: Path, losses: pa.Table) -> None:
    """Keep what training says as signals of the folder's newest rows, by content; rows that were not trained have none."""
    store = Store(folder)
    known = {uid: i for i, uid in enumerate(losses["uid"].to_pylist())}
    at = pa.array([known.get(uid) for uid in store.rows(columns=["uid"])["uid"].to_pylist()], pa.int64())
    store.add_signals("training", {name: losses[name].combine_chunks().take(at) for name in AS_SIGNALS})


def read(run_dir: Path) -> pa.Table:
    """Return row_losses.parquet of a run."""
    path = run_dir / "row_losses.parquet"
    if not path.exists():
        raise CurationError(f"{run_dir} kept no row losses", "train again without --row-losses off")
    return pq.read_table(path)
