"""Sets of rows that one page hands to another: a lasso, a cell of a matrix, what is like a row. Kept as small files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import CurationError
from curation.store import read_arrow, write_arrow

NAME = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Picked:
    """A kept set of rows and what it is, in words."""

    rows: np.ndarray        # (k,) int64, in the order in which they were handed over
    words: str
    gone: int               # rows of the set that the newest version no longer holds
    scores: np.ndarray | None = None    # (k,) float32, what each row was found with; None = nothing was measured


def keep(
    folder: Path, table: pa.Table, rows: np.ndarray, words: str, *, rows_hash: str, scores: np.ndarray | None = None
) -> str:
    """Keep rows of `table`, the folder's version of hash `rows_hash`, and return the set's name, 12 hex digits.

    Equal sets get equal names. Rows are kept by uid, so a set outlives an import; `words` say where it comes from
    ("lasso on the map"); `scores` are shown beside the rows.
    """
    rows = np.asarray(rows, np.int64)
    name = hashlib.sha256(repr((rows_hash, words)).encode("utf-8", "replace") + rows.tobytes() +
                          (b"" if scores is None else np.asarray(scores, np.float32).tobytes())).hexdigest()[:12]
    path = _path(folder, name)
    if not path.exists():
        held = pa.table({"row": rows, "uid": table["uid"].take(pa.array(rows)).combine_chunks()})
        if scores is not None:
            held = held.append_column("score", pa.array(np.asarray(scores, np.float32)))
        write_arrow(path, held.replace_schema_metadata({"words": words, "rows_hash": rows_hash}))
    return name


def load(folder: Path, table: pa.Table, name: str, *, rows_hash: str) -> Picked:
    """Return a kept set as rows of `table`, the version of hash `rows_hash`. Raises CurationError when there is none."""
    path = _path(folder, name)
    if not path.exists():
        raise CurationError(f"there is no kept set of rows named {name}", "take the condition away")
    held = read_arrow(path)
    meta = {k.decode(): v.decode() for k, v in (held.schema.metadata or {}).items()}
    scores = held["score"].to_numpy() if "score" in held.column_names else None
    if meta.get("rows_hash") == rows_hash:
        return Picked(held["row"].to_numpy(), meta.get("words", ""), 0, scores)
    found = pc.index_in(held["uid"], value_set=table["uid"])
    there = np.asarray(found.is_valid())
    rows = found.drop_null().to_numpy().astype(np.int64)
    return Picked(rows, meta.get("words", ""), held.num_rows - len(rows), None if scores is None else scores[there])


def _path(folder: Path, name: str) -> Path:
    if not NAME.fullmatch(name):        # it comes from the address of the page
        raise CurationError(f"{name[:40]!r} is not the name of a kept set of rows", "take the condition away")
    return folder / "views" / "rows" / f"{name}.arrow"
