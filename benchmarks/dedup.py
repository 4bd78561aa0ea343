"""Near-duplicates: ours against rensa and datasketch, one run, same rows, against the exact join.

    python benchmarks/dedup.py [--rows 100000] [--source ROWS.jsonl] [--rounds 3] [--tools ours,exact,...] [--grow 100000]
                               [--out NAME]

Every measurement is a process of its own; rounds are interleaved, so that a noisy neighbour hits all tools. Timed is
texts in memory (Arrow for ours, Python strings for the others; `ours_jsonl`: from the file) to clusters or flags; imports,
compilation and reading the rows are not. CPU seconds are user + system of the process, medians over rounds. Text of a
row: instruction, input and output joined by a line break. The set: word 5-grams (`c_`: character 5-grams), Jaccard
>= 0.8. Truth: `exact_pairs`, which the tests hold against plain Python.

recall       of pairs: share of true pairs in one cluster. Tools that give no clusters: of members: share of the rows in
             a true pair that are flagged; of drops: share of the rows to be dropped (all but the first of each true
             cluster) that are dropped
precision    share of the dropped (flagged) rows that have a true partner

Memory: the most that was resident above what was resident when the timing began (the texts included), after memory that the
reader of the rows had freed was given back. `--stages` adds time and memory of the stages of ours.

Writes results/NAME.json and results/NAME.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

HERE = Path(__file__).parent
THRESHOLD = 0.8
FIELDS = ("instruction", "input", "output")
OURS = ("ours", "ours_128", "ours_jsonl", "exact", "c_ours")
PEERS = ("rensa_inline", "rensa_matrix", "rensa_rho", "datasketch", "c_rensa_inline")
Answer = tuple[np.ndarray, str]     # (cluster of each row, "pairs") or (mask of rows, "members" or "drops")


def joined(table: pa.Table) -> pa.Array:
    """Return the text of every row as one Arrow array."""
    text = pc.binary_join_element_wise(*(table[f].cast(pa.large_string()) for f in FIELDS),
                                       pa.scalar("\n", pa.large_string()))
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def grams(text: str, unit: str) -> list[str]:
    """Return the 5-grams the peers are fed with: the same definition as ours, for plain text."""
    words = text.lower().split()
    if unit == "word":
        return [" ".join(words[i:i + 5]) for i in range(max(1, len(words) - 4))]
    chars = " ".join(words)
    return [chars[i:i + 5] for i in range(max(1, len(chars) - 4))]


def ours(text: pa.Array, *, num_perm: int = 64, unit: str = "word") -> Answer:
    from curation import sketch

    return sketch.rethreshold(sketch.near_pairs([text], threshold=THRESHOLD, num_perm=num_perm, unit=unit), THRESHOLD), "pairs"


def exact(text: pa.Array, *, unit: str = "word") -> Answer:
    from curation import sketch

    return sketch.rethreshold(sketch.exact_pairs([text], threshold=THRESHOLD, unit=unit), THRESHOLD), "pairs"


def rensa_inline(texts: list[str], unit: str = "word") -> Answer:
    import rensa

    seen = rensa.RMinHashDeduplicator(threshold=THRESHOLD, num_perm=128, use_lsh=True)
    kept = seen.add_pairs((str(i), grams(t, unit)) for i, t in enumerate(texts))
    return ~np.array(kept, bool), "drops"


def rensa_matrix(texts: list[str], *, rho: bool = False) -> Answer:
    import rensa

    digest = rensa.RMinHash.digest_matrix_from_token_sets_rho if rho else rensa.RMinHash.digest_matrix_from_token_sets
    index = rensa.RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=16)
    matrix = digest([grams(t, "word") for t in texts], num_perm=128, seed=42)
    return np.array(index.query_duplicate_flags_matrix_one_shot(matrix), bool), "members"


def datasketch(texts: list[str]) -> Answer:
    """As commonly used: default hash and bands for 0.8 and 128 permutations, every query result joined."""
    from datasketch import MinHash, MinHashLSH

    from curation.sketch import components

    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    left, right = [], []
    for i, text in enumerate(texts):
        m = MinHash(128)
        m.update_batch([g.encode() for g in grams(text, "word")])
        for j in index.query(m):
            left.append(j)
            right.append(i)
        index.insert(i, m)
    return components(np.array(left, np.int64), np.array(right, np.int64), len(texts)), "pairs"


def work(tool: str, data: Path) -> tuple[Callable[[], Answer], int]:
    """Return (what to time, rows), with everything that is not timed already done."""
    if tool in OURS:
        from curation import sketch

        sketch.warm()
        if tool == "ours_jsonl":
            path = data.with_suffix(".jsonl")
            return lambda: ours(joined(pa.json.read_json(path))), pq.ParquetFile(data).metadata.num_rows
        text = joined(pq.read_table(data, columns=list(FIELDS)))
        calls: dict[str, Callable[[], Answer]] = {
            "ours": lambda: ours(text), "ours_128": lambda: ours(text, num_perm=128), "exact": lambda: exact(text),
            "c_ours": lambda: ours(text, unit="char")}
        return calls[tool], len(text)
    texts = joined(pq.read_table(data, columns=list(FIELDS))).to_pylist()
    peers: dict[str, Callable[[], Answer]] = {
        "rensa_inline": lambda: rensa_inline(texts), "c_rensa_inline": lambda: rensa_inline(texts, "char"),
        "rensa_matrix": lambda: rensa_matrix(texts), "rensa_rho": lambda: rensa_matrix(texts, rho=True),
        "datasketch": lambda: datasketch(texts)}
    return peers[tool], len(texts)


def resident() -> int:
    """Return the resident memory of this process now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def given_back() -> None:
    """Give memory that was freed back to the system, so that what is used from now on is seen."""
    import ctypes

    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)


def watched(run: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """Return (result, CPU seconds, wall seconds, MB resident at most above the start) of a call."""
    peak, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak.append(max(peak[-1], resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    result = run()
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_SELF)
    done.set()
    watcher.join()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result, cpu, wall, (max(peak[-1], resident()) - peak[0]) / 2**20


def staged(data: Path) -> dict[str, Any]:
    """Return CPU seconds and MB above the text of the stages of `ours`, one after the other; what a stage gives is held."""
    from curation import sketch

    sketch.warm()
    text = joined(pq.read_table(data, columns=list(FIELDS)))
    given_back()
    base, s = resident(), sketch.search(threshold=THRESHOLD)
    kept: dict[str, Any] = {}

    def bands() -> None:
        kept["use"] = sketch.copies(kept["sketches"].identity)[0]
        kept["packed"], _ = sketch.candidates(kept["sketches"].keys, kept["sketches"].glimpse, kept["use"], s)

    stages: dict[str, Callable[[], Any]] = {
        "sketch": lambda: kept.update(sketches=sketch.sketch_rows([text], s)), "copies, candidates": bands,
        "verify": lambda: sketch.verify(sketch.texts_of([text]), kept["packed"], s, room=kept["sketches"].count),
        "everything": lambda: sketch.rethreshold(sketch.pairs_of([text], sketch.find([text], s), s), THRESHOLD)}
    out: dict[str, Any] = {"text_mb": text.nbytes / 2**20, "stages": []}
    for name, run in stages.items():
        if name == "everything":
            kept.clear()
            given_back()
        start = resident() - base
        _, cpu, _, above = watched(run)
        out["stages"].append({"stage": name, "cpu": cpu, "above_text_mb": start / 2**20 + above})
    return out


def measure(tool: str, data: Path, truth: Path) -> dict[str, Any]:
    """Run one tool once in this process; return time, memory and quality."""
    from curation.sketch import components

    run, n = work(tool, data)
    given_back()
    (answer, kind), cpu, wall, above = watched(run)
    pairs = np.load(truth)
    left, right = pairs["left"], pairs["right"]
    partner = np.zeros(n, bool)
    partner[left] = partner[right] = True
    dropped = answer != np.arange(n) if kind == "pairs" else answer
    recall = {"pairs": lambda: answer[left] == answer[right], "members": lambda: answer[partner],
              "drops": lambda: answer[components(left, right, n) != np.arange(n)]}[kind]()
    return {"tool": tool, "rows": n, "cpu": cpu, "wall": wall, "above_start_mb": above,
            "kind": kind, "recall": float(recall.mean()), "dropped": int(dropped.sum()),
            "precision": float(partner[dropped].mean()) if dropped.any() else 1.0}


def prepare(folder: Path, rows: int, source: Path | None, small: int) -> None:
    """Write the corpus (Parquet and JSONL), its first `small` rows, and the truth of both, words and characters."""
    sys.path.insert(0, str(HERE))
    import corpus

    from curation import sketch

    made = corpus.corpus(rows, source=corpus.read(source) if source else None)
    for name, part in (("all", made), ("small", made[:small])):
        corpus.write(part, folder / f"{name}.parquet")
        corpus.write(part, folder / f"{name}.jsonl")
        text = joined(pq.read_table(folder / f"{name}.parquet", columns=list(FIELDS)))
        for unit in ("word", "char") if name == "small" else ("word",):
            found = sketch.exact_pairs([text], threshold=THRESHOLD, unit=unit)
            np.savez(folder / f"{name}-{unit}.npz", left=found.left, right=found.right)


TURNS = 4       # of small and large sets, where growth is measured
FIRST = ("import time; from curation import sketch; import pyarrow as pa; "
         "sketch.near_pairs([pa.array(['one two three four five six', 'one two three four five seven'])]); "
         "print(time.process_time())")


def started() -> dict[str, float]:
    """Return CPU seconds of a process that imports the engine and finds pairs: nothing compiled yet, and later."""
    with tempfile.TemporaryDirectory() as cache:
        run = [float(subprocess.run([sys.executable, "-c", FIRST], stdout=subprocess.PIPE, text=True, check=True,
                                    env={**os.environ, "NUMBA_CACHE_DIR": cache}).stdout) for _ in range(4)]
    return {"first": run[0], "later": statistics.median(run[1:])}


def grown(rows: int, rounds: int) -> list[dict[str, Any]]:
    """Return CPU seconds of `ours` on `rows` and 4 x `rows` in turns: natural rows, one text, one text with one slot changed."""
    sys.path.insert(0, str(HERE))
    import corpus

    from curation import sketch

    sketch.warm()
    out = []
    for shape in ("natural", "same", "template", "slot"):
        texts = []
        for n in (rows, 4 * rows):
            made = corpus.corpus(n) if shape == "natural" else corpus.shaped(n, shape)
            texts.append(joined(pa.Table.from_pylist(made)))
        del made
        times: list[list[float]] = [[], []]
        for k in range(TURNS * 2):      # a noisy neighbour hits both sizes; calls of one size follow each other
            for _ in range(rounds):
                before = time.process_time()
                ours(texts[k % 2])
                times[k % 2].append(time.process_time() - before)
        cpu, cpu_4 = (statistics.median(mine) for mine in times)
        out.append({"shape": shape, "rows": rows, "rounds": TURNS * rounds, "cpu": cpu, "cpu_4": cpu_4, "growth": cpu_4 / cpu})
    return out


def report(results: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """Return the results as a markdown table: medians a tool."""
    lines = [f"{about['rows']:,} rows ({about['chars'] / 1e6:.0f} M characters), {about['cores']} cores, "
             f"{about['rounds']} rounds; load of the machine before: {about['load']:.1f}. Peers marked * ran on the "
             f"first {about['small']:,} rows; their time for all rows is extrapolated in proportion. `c_`: character "
             "5-grams, both on the small part.", "",
             "| tool | rows | CPU s | wall s | rows per CPU s | above the start, MB | recall | precision | CPU against ours |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    rate = {}
    for tool in dict.fromkeys(r["tool"] for r in results):
        mine = [r for r in results if r["tool"] == tool]
        cpu, wall, above = (statistics.median(r[k] for r in mine) for k in ("cpu", "wall", "above_start_mb"))
        rate[tool] = mine[0]["rows"] / cpu
        base = rate.get("c_ours" if tool.startswith("c_") else "ours")
        star = " *" if mine[0]["rows"] < about["rows"] else ""
        all_rows = f" (all: {cpu * about['rows'] / mine[0]['rows']:.0f})" if star else ""
        lines.append(f"| {tool}{star} | {mine[0]['rows']:,} | {cpu:.2f}{all_rows} | {wall:.2f} | {rate[tool]:,.0f} | "
                     f"{above:.0f} | {mine[0]['recall']:.4f} of {mine[0]['kind']} | {mine[0]['precision']:.4f} | "
                     + (f"{base / rate[tool]:.1f} x |" if base else "- |"))
    if "started" in about:
        lines += ["", f"Start-up, CPU s of the whole process: {about['started']['first']:.1f} with nothing compiled yet, "
                  f"{about['started']['later']:.2f} later."]
    if about.get("stages"):
        lines += ["", f"Stages of ours, {about['stages']['text_mb']:.0f} MB of text:", "",
                  "| stage | CPU s | at most above the text, MB |", "| --- | ---: | ---: |"]
        lines += [f"| {x['stage']} | {x['cpu']:.2f} | {x['above_text_mb']:.0f} |" for x in about["stages"]["stages"]]
    if about.get("grown"):
        lines += ["", f"Medians of {about['grown'][0]['rounds']} rounds, small and large in turns.", "",
                  "| shape | rows | CPU s | CPU s of 4 x | growth |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [f"| {g['shape']} | {g['rows']:,} | {g['cpu']:.2f} | {g['cpu_4']:.2f} | {g['growth']:.2f} x |"
                  for g in about["grown"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=10_000, help="rows for the slow peers and the character runs")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--grow", type=int, default=0, help="also measure this many rows and 4 x as many, of several shapes")
    parser.add_argument("--stages", action="store_true", help="also measure the stages of ours one by one")
    parser.add_argument("--out", default="dedup")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    slow = ("datasketch", "c_ours", "c_rensa_inline")
    if a.one:
        part = "small" if a.one in slow else "all"
        if a.one == "stages":
            print(json.dumps(staged(a.folder / "all.parquet")))
            return
        unit = "char" if a.one.startswith("c_") else "word"
        print(json.dumps(measure(a.one, a.folder / f"{part}.parquet", a.folder / f"{part}-{unit}.npz")))
        return
    about: dict[str, Any] = {"rows": a.rows, "small": min(a.small, a.rows), "rounds": a.rounds, "cores": os.cpu_count(),
                             "machine": platform.machine(), "python": platform.python_version(),
                             "load": os.getloadavg()[0], "source": a.source.name if a.source else "invented words"}
    about["started"] = started()
    about["grown"] = grown(a.grow, a.rounds) if a.grow else []
    results = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), a.rows, a.source, about["small"])
        text = joined(pq.read_table(Path(folder) / "all.parquet", columns=list(FIELDS)))
        about["chars"] = pc.sum(pc.utf8_length(text)).as_py()
        if a.stages:
            command = [sys.executable, __file__, "--one", "stages", "--folder", folder]
            about["stages"] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        for _ in range(a.rounds):
            for tool in a.tools.split(","):
                command = [sys.executable, __file__, "--one", tool, "--folder", folder]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"{tool}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                results.append(json.loads(done.stdout))
                print(tool, f"{results[-1]['cpu']:.2f} CPU s", file=sys.stderr)
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    (out / f"{a.out}.json").write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    (out / f"{a.out}.md").write_text(report(results, about))
    print(report(results, about))


if __name__ == "__main__":
    main()
