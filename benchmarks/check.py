"""How long `curation check` takes on a real file: each check alone, all together, one process and two, cached.

    python benchmarks/check.py FILE [--out benchmarks/results/check.json]
    python benchmarks/check.py FILE --rows 1000000 [--out benchmarks/results/check-1000000.json]

FILE is any file that `curation import` reads. Times are wall seconds of one run each unless --runs is given (then medians);
CPU seconds are of all processes. With --rows the verb runs once on that many rows made of FILE (JSON lines;
see corpus.py), and the memory of all its processes is read twice a second: "peak_own_mb" is what they hold, "peak_pss_mb"
adds the pages of mapped files, which the system takes back when it needs them, a page that several processes share once,
"peak_rss_mb" once for each.
"""

import argparse
import contextlib
import json
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from processes import cpu_seconds

from curation import engine, formats
from curation.store import Store


def timed(run) -> tuple[float, float]:
    wall, used = time.perf_counter(), cpu_seconds()
    run()
    return time.perf_counter() - wall, cpu_seconds() - used


def each(store: Store, spec) -> list[dict]:
    """Return seconds and flags of every signal and check alone, in this process, in the order of the plan."""
    rows, resources, out = store.rows(), {"spec": spec}, []
    for unit in engine.plan(engine.choose(spec)):
        options = engine.resolve(unit, spec, {})
        needs = [n for n in unit.needs if n in engine.RESOURCES]
        resources.update({n: engine._resource(n, options, spec, store.path, rows.num_rows) for n in needs})
        began = time.perf_counter()
        result = engine.run_unit(unit, options, rows, resources, None)
        seconds = time.perf_counter() - began
        if unit.gives:
            resources.update(result)
        out.append(
            {
                "unit": unit.id,
                "seconds": round(seconds, 3),
                "rows_per_s": round(rows.num_rows / max(seconds, 1e-9)),
                "flags": None if unit.gives else result.num_rows,
            }
        )
    return out


def cli(file: Path, *extra: str) -> dict:
    """Time the verb as a user runs it, interpreter start included."""
    out = Path(tempfile.mkdtemp())
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "curation.cli", "check", str(file), "--out", str(out), "--json", *extra],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - began
    shutil.rmtree(out)
    return {
        "seconds": seconds,
        "flagged_rows": json.loads(done.stdout)["flagged_rows"],
        "flags": json.loads(done.stdout)["flags"],
    }


def memory(process: psutil.Process) -> tuple[int, int, int]:
    """Return (own, PSS, RSS) in bytes of a process and all its children; own: PSS without the pages of mapped files."""
    own = pss = rss = 0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines()[1:]
            now = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
            own, pss, rss = own + now["Pss_Anon"] + now["Pss_Shmem"], pss + now["Pss"], rss + now["Rss"]
    return own, pss, rss


def large(source: Path, rows: int, workers: int) -> dict:
    """Time the verb on `rows` rows made of `source` and watch its memory."""
    with tempfile.TemporaryDirectory() as temp:
        data, out = Path(temp) / "rows.jsonl", Path(temp) / "out"
        script = Path(__file__).parent / "corpus.py"
        make = [sys.executable, str(script), str(data), "--rows", str(rows), "--source", str(source)]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        verb = [sys.executable, "-m", "curation.cli", "check", str(data), "--out", str(out), "--json"]
        began, used = time.perf_counter(), 0.0
        peak = [0, 0, 0]
        with (Path(temp) / "said").open("w+") as said:
            child = subprocess.Popen([*verb, "--workers", str(workers)], stdout=said, stderr=subprocess.DEVNULL)
            process = psutil.Process(child.pid)
            while child.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    peak = [max(pair) for pair in zip(peak, memory(process))]
                    used = max(used, cpu_seconds(process))
                time.sleep(0.5)
            seconds = time.perf_counter() - began
            said.seek(0)
            done = json.loads(said.read())
        assert child.returncode in (0, 1), f"the verb ended with {child.returncode}, expected 0 or 1"
        return {
            "source": source.name, "rows": rows, "bytes": data.stat().st_size, "workers": workers, "cores": engine.os.cpu_count(),
            "python": platform.python_version(), "seconds": round(seconds, 1), "cpu_seconds": round(used, 1),
            "rows_per_s": round(rows / seconds), "peak_own_mb": round(peak[0] / 1e6), "peak_pss_mb": round(peak[1] / 1e6),
            "peak_rss_mb": round(peak[2] / 1e6),
            "flagged_rows": done["flagged_rows"], "flags": done["flags"],
        }


def main() -> None:
    ap = argparse.ArgumentParser()
    ap.add_argument("file", type=Path)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--rows", type=int)
    ap.add_argument("--workers", type=int, default=2)
    ap.add_argument("--out", type=Path)
    a = ap.parse_args()
    folder = Path(__file__).parent / "results"
    if a.rows:
        result = large(a.file, a.rows, a.workers)
        out = a.out or folder / f"check-{a.rows}.json"
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{a.rows:,} rows: {result['seconds']} s, {result['rows_per_s']:,} rows/s, peak {result['peak_own_mb']:,} MB, "
              f"with mapped files {result['peak_pss_mb']:,} MB")
        return
    a.out = a.out or folder / "check.json"
    with tempfile.TemporaryDirectory() as temp:
        store = Store.create(temp)
        imported, _ = timed(lambda: store.import_rows(formats.read(a.file), source=a.file.name))
        spec = engine.spec_of(store)
        n = store.rows().num_rows
        units = each(store, spec)
        again = None
        engine.check(store, spec)
        again, _ = timed(lambda: engine.check(store, spec))
    runs = [cli(a.file) for _ in range(a.runs)]
    alone = cli(a.file, "--workers", "1")
    result = {
        "file": a.file.name,
        "rows": n,
        "python": platform.python_version(),
        "cores": engine.os.cpu_count(),
        "import_seconds": round(imported, 2),
        "units": units,
        "cached_seconds": round(again, 2),
        "verb_seconds_2_workers": [round(r["seconds"], 2) for r in runs],
        "verb_median": round(statistics.median(r["seconds"] for r in runs), 2),
        "verb_seconds_1_worker": round(alone["seconds"], 2),
        "flagged_rows": runs[0]["flagged_rows"],
        "flags": runs[0]["flags"],
        "peak_rss_mb_of_a_child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{n:,} rows of {a.file.name}: curation check {result['verb_median']} s (median of {a.runs}), one worker "
        f"{result['verb_seconds_1_worker']} s, cached {result['cached_seconds']} s"
    )
    for u in sorted(units, key=lambda u: -u["seconds"]):
        found = "signal" if u["flags"] is None else u["flags"]
        print(f"{u['unit']:28} {u['seconds']:8.3f} s {u['rows_per_s']:>12,} rows/s  {found}")


if __name__ == "__main__":
    main()
