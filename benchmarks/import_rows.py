"""Rows a second, CPU seconds and peak memory of importing N rows of JSONL, beside `datasets` and a plain JSON loop.

    python benchmarks/import_rows.py                    # 200,000 rows
    python benchmarks/import_rows.py --rows 1000000     # about 0.5 GB

Every way runs in a process of its own on the same file, one after the other, and ends with the rows in one
Arrow file on disk. Memory is the largest sum of resident pages over the process and its children, sampled 20 times a
second. `load` is the machine's load average when a way starts: where it is not near zero, other work had a share of the
cores and rows per CPU second is the number to compare. The numbers go to benchmarks/results/import-<rows>.json.

    | way | rows/s | rows per CPU second | seconds | CPU seconds | peak MB |
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

FORMATS = """
import sys, pyarrow as pa
from curation.formats import read, PLAIN_ROWS
with pa.OSFile(sys.argv[2], 'wb') as sink, pa.ipc.new_file(sink, PLAIN_ROWS) as out:
    for batch in read(sys.argv[1]):
        out.write_batch(batch)
"""
LOOP = """
import json, sys, pyarrow as pa
columns = {name: [] for name in ('instruction', 'input', 'output')}
with open(sys.argv[1], encoding='utf-8') as lines:
    for line in lines:
        row = json.loads(line)
        for name, column in columns.items():
            column.append(row[name])
table = pa.table(columns)
with pa.OSFile(sys.argv[2], 'wb') as sink, pa.ipc.new_file(sink, table.schema) as out:
    out.write_table(table)
"""
DATASETS = """
import sys, datasets
datasets.load_dataset('json', data_files=sys.argv[1], split='train', cache_dir=sys.argv[2] + '.cache')
"""


def make(path: Path, rows: int) -> None:
    """Write `rows` Alpaca lines of about 500 bytes, seeded: words by a power law, one line in ten with an umlaut."""
    rng = random.Random(0)
    letters = "etaoinshrdlucmfwyp"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20_000)]
    weights = list(accumulate(1 / (k + 5) for k in range(len(words))))
    with path.open("w", encoding="utf-8") as out:
        for k in range(rows):
            text = rng.choices(words, cum_weights=weights, k=76)
            if k % 10 == 0:
                text[30] = "für"
            row = {
                "instruction": " ".join(text[:14]) + f" {k}?", "input": " ".join(text[14:26]) if k % 3 == 0 else "",
                "output": " ".join(text[26:]) + ".", "category": words[k % 8], "id": f"row-{k}",
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def memory(process: psutil.Process) -> int:
    """Return resident bytes of a process and all its children."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def measure(command: list[str]) -> dict[str, float]:
    """Run a command to its end; return wall and CPU seconds, peak memory of its tree in MB, load at the start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    load, start = round(os.getloadavg()[0], 1), time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
    process, peak = psutil.Process(child.pid), 0
    while child.poll() is None:
        try:
            peak = max(peak, memory(process))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    code = child.wait()
    wall = time.perf_counter() - start
    assert code == 0, f"{command[:3]} ended with {code}, expected 0"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "peak_mb": round(peak / 1e6), "load": load}


def ways(data: Path, folder: Path) -> dict[str, list[str]]:
    """Return the command of every way of importing; the CLI only where it is installed."""
    run = [sys.executable, "-c"]
    out = {
        "curation.formats.read": [*run, FORMATS, str(data), str(folder / "a.arrow")],
        "json loop + pa.table (3 columns)": [*run, LOOP, str(data), str(folder / "b.arrow")],
        "datasets.load_dataset('json')": [*run, DATASETS, str(data), str(folder / "c")],
    }
    if (ROOT / "curation" / "cli.py").exists():
        command = [sys.executable, "-m", "curation.cli", "import", str(data), "--to", str(folder / "set")]
        out["curation import"] = command
    return out


def main() -> None:
    """Measure, print one table row a way, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "rows.jsonl"
        make(data, rows)
        size = data.stat().st_size
        for way, command in ways(data, folder).items():
            result = measure(command)
            result["rows_per_second"] = round(rows / result["seconds"])
            result["rows_per_cpu_second"] = round(rows / result["cpu_seconds"])
            results[way] = result
            print(f"| {way} | {result['rows_per_second']:,} | {result['rows_per_cpu_second']:,} | {result['seconds']} | "
                  f"{result['cpu_seconds']} | {result['peak_mb']:,} |", flush=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    report = {"rows": rows, "bytes": size, "machine": machine, "results": results}
    target = HERE / "results" / f"import-{rows}.json"
    target.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
