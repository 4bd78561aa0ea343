"""What adding rows to a checked set costs, beside checking the set from the start.

    python benchmarks/incremental.py [--rows 100000] [--share 0.01] [--source ROWS.jsonl] [--workers 2] [--checks a,b]

Rows are those of corpus.py. A set of `rows` is imported and checked; then `share` as many new rows are appended and
the whole is checked again. The second result is held against a check of the grown set in a fresh folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from curation import engine, formats
from curation.store import Store


def checked(store: Store, checks: list[str] | None, workers: int) -> dict[str, Any]:
    """Check a folder; return seconds in all and of each unit that ran."""
    starts: list[tuple[float, str]] = []

    def progress(name: str, done: int, total: int) -> None:
        if not starts or starts[-1][1] != name:
            starts.append((time.perf_counter(), name))

    began = time.perf_counter()
    done = engine.check(store, engine.spec_of(store), checks=checks, progress=progress, workers=workers)
    ended = time.perf_counter()
    ends = [t for t, _ in starts[1:]] + [ended]
    units = {name: round(e - b, 3) for (b, name), e in zip(starts, ends, strict=True)}
    return {"seconds": ended - began, "units": units, "flags": done.flags}


def same(a: Store, b: Store) -> bool:
    """Whether two folders hold equal flags and signals."""
    one, two = a.signals(), b.signals()
    assert one is not None and two is not None
    return a.flags().to_pylist() == b.flags().to_pylist() and one.to_pylist() == two.to_pylist()


def corpus(path: Path, rows: int, source: Path | None) -> None:
    """Write `rows` rows of the benchmark corpus as JSON lines."""
    script = Path(__file__).parent / "corpus.py"
    given = ["--source", str(source)] if source else []
    subprocess.run([sys.executable, str(script), str(path), "--rows", str(rows), *given], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("--rows", type=int, default=100_000)
    ap.add_argument("--share", type=float, default=0.01)
    ap.add_argument("--source", type=Path)
    ap.add_argument("--workers", type=int, default=2)
    ap.add_argument("--checks", type=lambda x: x.split(","))
    ap.add_argument("--no-fresh", action="store_true", help="do not hold the result against a fresh folder")
    ap.add_argument("--out", type=Path)
    a = ap.parse_args()
    added = max(1, round(a.rows * a.share))
    with tempfile.TemporaryDirectory() as temp:
        every, first, more = (Path(temp) / f"{n}.jsonl" for n in ("every", "first", "more"))
        corpus(every, a.rows + added, a.source)
        with every.open("rb") as lines, first.open("wb") as one, more.open("wb") as two:
            for k, line in enumerate(lines):
                (one if k < a.rows else two).write(line)
        store = Store.create(Path(temp) / "set")
        began = time.perf_counter()
        store.import_rows(formats.read(first), source="first")
        imported = time.perf_counter() - began
        full = checked(store, a.checks, a.workers)
        began = time.perf_counter()
        store.import_rows(formats.read(more), source="more", append=True)
        appended = time.perf_counter() - began
        again = checked(store, a.checks, a.workers)
        equal = None
        if not a.no_fresh:
            fresh = Store.create(Path(temp) / "fresh")
            fresh.import_rows(formats.read(every), source="every")
            checked(fresh, a.checks, a.workers)
            equal = same(store, fresh)
    result = {
        "rows": a.rows, "added": added, "import_seconds": round(imported, 2), "append_seconds": round(appended, 2),
        "check_seconds": round(full["seconds"], 2), "recheck_seconds": round(again["seconds"], 3),
        "ratio_check": round(again["seconds"] / full["seconds"], 4),
        "ratio_import_and_check": round((again["seconds"] + appended) / (full["seconds"] + imported), 4),
        "equal_to_a_fresh_run": equal, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "units": {u: [s, again["units"].get(u, 0.0)] for u, s in full["units"].items()},
    }
    print(f"{a.rows:,} rows: import {imported:.1f} s, check {full['seconds']:.1f} s; {added:,} more: import "
          f"{appended:.1f} s, check {again['seconds']:.2f} s = {again['seconds'] / full['seconds']:.1%}; equal: {equal}")
    for unit, (one, two) in sorted(result["units"].items(), key=lambda u: -u[1][1]):
        print(f"{unit:26} {one:8.2f} s {two:8.3f} s  {two / max(one, 1e-9):7.1%}")
    if a.out:
        a.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
