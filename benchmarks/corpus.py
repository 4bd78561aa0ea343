"""The benchmark corpus: instruction rows with planted near-duplicates, any size, from a seed.

    python benchmarks/corpus.py OUT --rows 1000000 [--source ROWS.jsonl] [--seed 7]

OUT ends in .jsonl or .parquet. Rows come from the source (JSONL with instruction, input, output); without one, from
invented words with a natural (Zipf) frequency. Columns: instruction, input, output and what the row is:

    kind   base      a row of the source, as it is
           recomb    unrelated to any other: sentences of several rows, a tenth of the words replaced
           exact     a copy in which only case or white space differs
           edit      a copy with words replaced, deleted or inserted at `rate`
           shuffle   a copy with the sentences of its output in another order
           template  (--shape template) one text in which one slot of the output differs from row to row
           slot      (--shape slot) one text in which one slot of the instruction differs from row to row
           same      (--shape same) the very same text in every row
    src    position of the row it was made from, -1 when it was not made from one

A quarter of the rows are planted copies. 1,000,000 rows hold about 430 MB of text.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

RATES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
SENTENCE = re.compile(r"(?<=[.!?\n])\s+")
FIELDS = ("instruction", "input", "output")
Row = dict[str, Any]


def invented(rng: random.Random, n: int = 20_000) -> list[Row]:
    """Return `n` rows of invented words: 12 words of instruction, 40 % with an input, 60 words of output."""
    letters = "etaoinshrdlucmfwypvbgk"
    words = list(dict.fromkeys("".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(30_000)))
    weights = [1.0 / (i + 3) for i in range(len(words))]

    def text(mean: int) -> str:
        n_words = max(3, int(rng.gauss(mean, mean / 3)))
        drawn = rng.choices(words, weights, k=n_words)
        return " ".join(w + "." if (i + 1) % 11 == 0 else w for i, w in enumerate(drawn)) + "."

    return [{"instruction": text(12), "input": text(20) if rng.random() < 0.4 else "", "output": text(60)}
            for _ in range(n)]


def read(path: Path) -> list[Row]:
    """Return the rows of a JSONL file; a missing field is empty."""
    with path.open(encoding="utf-8") as lines:
        return [{f: r.get(f) or "" for f in FIELDS} for r in map(json.loads, lines)]


def _edited(text: str, rate: float, rng: random.Random, vocabulary: list[str]) -> str:
    out = []
    for w in text.split(" "):
        if rng.random() >= rate:
            out.append(w)
            continue
        kind = rng.random()
        if kind < 0.5:
            out.append(rng.choice(vocabulary))
        elif kind >= 0.75:
            out += [w, rng.choice(vocabulary)]
    return " ".join(out)


def _replaced(text: str, rate: float, rng: random.Random, vocabulary: list[str]) -> str:
    words = text.split(" ")
    for _ in range(int(len(words) * rate + rng.random())):
        words[int(rng.random() * len(words))] = rng.choice(vocabulary)
    return " ".join(words)


def _copy(row: Row, src: int, rng: random.Random, vocabulary: list[str]) -> Row:
    """Return a planted copy of `row`, which lies at position `src`."""
    kind = rng.random()
    if kind < 0.15:
        change = rng.choice((str.lower, str.upper, lambda s: s.replace(" ", "  "), str))
        return {**{f: change(row[f]) for f in FIELDS}, "kind": "exact", "src": src}
    if kind < 0.25:
        parts = [s for s in SENTENCE.split(row["output"]) if s]
        rng.shuffle(parts)
        return {**{f: row[f] for f in FIELDS}, "output": " ".join(parts), "kind": "shuffle", "src": src}
    rate = rng.choice(RATES)
    return {**{f: _edited(row[f], rate, rng, vocabulary) if row[f] else "" for f in FIELDS},
            "kind": "edit", "src": src}


def _recombined(source: list[Row], n: int, rng: random.Random, vocabulary: list[str]) -> Iterator[Row]:
    inputs = [r["input"] for r in source if r["input"]]
    pieces = [[s for s in SENTENCE.split(r["output"]) if s] for r in source]
    sentences = [s for p in pieces for s in p]
    for _ in range(n):
        k = max(1, len(rng.choice(pieces))) + 1
        with_input = inputs and rng.random() < len(inputs) / len(source)
        yield {
            "instruction": _replaced(rng.choice(source)["instruction"], 0.1, rng, vocabulary),
            "input": _replaced(rng.choice(inputs), 0.1, rng, vocabulary) if with_input else "",
            "output": _replaced(" ".join(rng.choice(sentences) for _ in range(k)), 0.1, rng, vocabulary),
            "kind": "recomb", "src": -1,
        }


def corpus(n: int, *, source: list[Row] | None = None, seed: int = 7) -> list[Row]:
    """Return `n` rows in random order, a quarter of them planted copies."""
    rng = random.Random(seed)
    source = source or invented(rng)
    vocabulary = [w for r in source for w in r["output"].split()]
    planted = n // 4
    rows = [{**{f: r[f] for f in FIELDS}, "kind": "base", "src": -1} for r in source[: n - planted]]
    rows += _recombined(source, n - planted - len(rows), rng, vocabulary)
    originals = len(rows)
    for _ in range(planted):
        i = int(rng.random() * originals)
        rows.append(_copy(rows[i], i, rng, vocabulary))
    order = list(range(n))
    rng.shuffle(order)
    place = [0] * n
    for new, old in enumerate(order):
        place[old] = new
    return [{**rows[i], "src": place[rows[i]["src"]] if rows[i]["src"] >= 0 else -1} for i in order]


def shaped(n: int, shape: str, *, seed: int = 7) -> list[Row]:
    """Return `n` rows that are all alike: "same" = one text, "template" and "slot" = one slot changed."""
    rng = random.Random(seed)
    base = invented(rng, 1)[0]
    if shape == "same":
        return [{**base, "kind": "same", "src": -1} for _ in range(n)]
    field = "output" if shape == "template" else "instruction"
    words = base[field].split()
    middle = len(words) // 2
    return [{**base, field: " ".join([*words[:middle], f"slot{i}", *words[middle:]]), "kind": shape, "src": -1}
            for i in range(n)]


def write(rows: list[Row], path: Path) -> None:
    """Write the rows as JSONL or Parquet, by the ending of the path."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
        return
    with path.open("w", encoding="utf-8") as out:
        for r in rows:
            out.write(json.dumps(r, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--shape", choices=("natural", "same", "template", "slot"), default="natural")
    a = parser.parse_args()
    if a.shape == "natural":
        rows = corpus(a.rows, source=read(a.source) if a.source else None, seed=a.seed)
    else:
        rows = shaped(a.rows, a.shape, seed=a.seed)
    write(rows, a.out)
    print(f"{len(rows)} rows, {sum(len(r[f]) for r in rows for f in FIELDS) / 1e6:.1f} M characters")


if __name__ == "__main__":
    main()
