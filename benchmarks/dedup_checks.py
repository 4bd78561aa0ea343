"""The four duplicate checks on a large folder of rows: CPU seconds, flags and the most memory resident.

    python benchmarks/dedup_checks.py FOLDER [--rows N] [--out NAME]

FOLDER is a dataset folder (rows/*.arrow and signals/refusal@*.arrow). Timed is each check from memory-mapped rows to
flags; compilation is not. CPU seconds are user + system. Writes results/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

HERE = Path(__file__).parent


def mapped(files: list[Path]) -> pa.Table:
    """Return the rows of Arrow files, one behind the other, without reading them into memory."""
    return pa.concat_tables([pa.ipc.open_file(pa.memory_map(str(f))).read_all() for f in sorted(files)])


def measure(rows: pa.Table, refusal: pa.Array) -> list[dict[str, Any]]:
    """Run the checks one after the other in this process."""
    from curation import sketch
    from curation.checks import duplicates

    sketch.warm()
    results = []
    for name in ("exact", "near", "conflict", "boilerplate"):
        needs = {"refusal": refusal} if name in ("conflict", "boilerplate") else {}
        before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        flags = getattr(duplicates, name)(rows, **needs)
        wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        results.append({"check": f"dup.{name}", "cpu_s": round(cpu, 2), "wall_s": round(wall, 2),
                        "flags": flags.num_rows, "peak_gb": round(after.ru_maxrss / 2**20, 2)})
        print(results[-1], flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--out", default="dedup-checks")
    a = parser.parse_args()
    rows = mapped(list((a.folder / "rows").glob("*.arrow")))
    refusal = mapped(list((a.folder / "signals").glob("refusal@*.arrow")))["refusal"].cast(pa.string())
    rows, refusal = rows.slice(0, a.rows), refusal.slice(0, a.rows).combine_chunks()
    load = os.getloadavg()[0]
    results = measure(rows, refusal)
    about = {"rows": rows.num_rows, "cores": len(os.sched_getaffinity(0)), "load": round(load, 1),
             "cpu_s": round(sum(r["cpu_s"] for r in results), 1)}
    (HERE / "results" / f"{a.out}.json").write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
