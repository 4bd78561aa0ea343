"""Back to the rows: the training rows that most likely taught what a failed probe shows, best first."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from curation.errors import CurationError
from curation.refusal import classify
from curation.store import atomic
from curation.text import shorten
from curation.verifiers import verify

#: Rows that TF-IDF proposes for a probe, once among all rows and once in the probe's own family.
CANDIDATES = 50
#: Texts embedded at most for one trace: about 5 s of one core with all-MiniLM-L6-v2 on short prompts.
MAX_EMBEDDED = 1_000
#: The flags of a row count when it is of the probe's family or at least this similar.
NEAR = 0.5
_CHUNK = 50_000
#: Arguments of a verifier that belong to one prompt's content, not to the kind of answer.
_CONTENT = ("gold", "items", "n", "contains", "mentions")


class Encoder(Protocol):
    """Anything that turns texts into unit vectors, (n, d) float32."""

    def encode(self, texts: list[str]) -> np.ndarray: ...


def trace(
    probes_failed: Sequence[Mapping[str, Any]],
    rows: pa.Table,
    flags: pa.Table,
    *,
    top: int = 5,
    encoder: Encoder | None = None,
) -> list[dict[str, Any]]:
    """Return the rows nearest to the failed probes, one entry a row, best first.

    `probes_failed`: results of the battery with `prompt`, `family`, `behaviour`, `id`, and `verifiers` where known.
    `rows`: the rows trained on (row, uid, family, messages). `flags`: open flags (uid, check). Per probe the `top` best
    rows are kept. Rows with an open flag, or whose answer is of another kind than the probe wants, come first; within
    each part similarity decides. score is in [0, 1]: above 0.5 exactly for such suspect rows. `probes` holds every probe
    that leads to the row with [score, reason], `probe` is the one with the highest score.
    """
    if not probes_failed or rows.num_rows == 0:
        return []
    asked, answers = _texts(rows)
    families = ["" if f is None else f for f in rows["family"].to_pylist()]
    near = _candidates(
        [p["prompt"] for p in probes_failed], [p.get("family") or "" for p in probes_failed], asked, families
    )
    similarity = _similarities([p["prompt"] for p in probes_failed], asked, near, encoder)
    open_flags: dict[str, set[str]] = defaultdict(set)
    for uid, check in zip(flags["uid"].to_pylist(), flags["check"].cast(pa.string()).to_pylist(), strict=True):
        open_flags[uid].add(check)
    uids, numbers = rows["uid"].to_pylist(), rows["row"].to_pylist()
    best: dict[int, dict[str, Any]] = {}
    count: dict[int, int] = defaultdict(int)
    named: dict[int, dict[str, Any]] = defaultdict(dict)  # the probes that lead to a row, with score and reason
    for probe, close in zip(probes_failed, similarity, strict=True):
        entries = []
        for i, value in close.items():
            related = families[i] == (probe.get("family") or None) or value >= NEAR
            akin = related and families[i] in ("", probe.get("family") or "")  # another family owes other things
            fault = _fault(probe, asked[i], answers[i]) if akin else ""
            checks = sorted(open_flags.get(uids[i], ())) if related else []
            score = (0.5 if checks or fault else 0.0) + 0.5 * float(np.clip(value, 0.0, 1.0))
            entries.append((round(score, 4), -i, _reason(probe, value, checks, fault)))
        for score, minus, reason in sorted(entries, reverse=True)[:top]:
            i = -minus
            count[i] += 1
            named[i][probe["id"]] = [score, reason]
            if i not in best or score > best[i]["score"]:
                best[i] = {"row": numbers[i], "uid": uids[i], "score": score, "reason": reason, "probe": probe["id"]}
    for i, entry in best.items():
        entry["probes"] = named[i]
        if count[i] > 1:
            entry["reason"] += f"; near {count[i] - 1} other failed probes"
    return sorted(best.values(), key=lambda e: (-e["score"], e["row"]))


def write_queue(folder: Path, name: str, entries: Sequence[Mapping[str, Any]]) -> Path:
    """Write FOLDER/queues/failed-<name>.jsonl, one entry a line, best first, atomically; return its path."""
    path = folder / "queues" / f"failed-{name}.jsonl"
    with atomic(path, "w") as f:
        f.writelines(json.dumps(e, ensure_ascii=False) + "\n" for e in entries)
    return path


def _texts(rows: pa.Table) -> tuple[list[str], list[str]]:
    """Return the last user turn and the last assistant turn of every row, "" where there is none."""
    asked, answers = [], []
    for messages in rows["messages"].to_pylist():
        turns = {m["role"]: m["content"] or "" for m in messages or ()}  # the last turn of a role wins
        asked.append(turns.get("user", ""))
        answers.append(turns.get("assistant", ""))
    return asked, answers


def _candidates(prompts: list[str], wanted: list[str], asked: list[str], families: list[str]) -> list[dict[int, float]]:
    """Return per probe {row position: TF-IDF cosine} of the nearest rows, among all and within its family."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashing = HashingVectorizer(
        ngram_range=(1, 2), n_features=1 << 18, alternate_sign=False, norm=None, token_pattern=r"(?u)\b\w+\b"
    )
    weigh = TfidfTransformer(sublinear_tf=True)
    counts = hashing.transform(asked)
    matrix = weigh.fit_transform(counts)
    queries = weigh.transform(hashing.transform(prompts))
    code = {f: k for k, f in enumerate(dict.fromkeys([*families, *wanted]))}
    family_of = np.array([code[f] for f in families])
    found: list[dict[int, float]] = [{} for _ in prompts]
    for at in range(0, len(asked), _CHUNK):
        block = np.asarray((queries @ matrix[at : at + _CHUNK].T).todense())
        same = family_of[at : at + _CHUNK]
        for k, line in enumerate(block):
            mine = np.flatnonzero(same == code[wanted[k]]) if wanted[k] else np.empty(0, int)
            for part in (np.arange(len(line)), mine):
                found[k].update({int(at + i): float(line[i]) for i in _best(part, line[part])})
    return [_cut(near, families, family) for near, family in zip(found, wanted, strict=True)]


def _best(positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the CANDIDATES positions of the highest values; the lower position wins a tie."""
    return positions[np.argsort(-values, kind="stable")[:CANDIDATES]]


def _cut(near: dict[int, float], families: list[str], family: str) -> dict[int, float]:
    """Keep the CANDIDATES best among all and in the family: several chunks have each proposed as many."""
    order = sorted(near, key=lambda i: (-near[i], i))
    mine = [i for i in order if family and families[i] == family][:CANDIDATES]
    both = [i for pair in zip_longest(order[:CANDIDATES], mine) for i in pair if i is not None]
    return {i: near[i] for i in dict.fromkeys(both)}


def _similarities(
    prompts: list[str], asked: list[str], near: list[dict[int, float]], encoder: Encoder | None
) -> list[dict[int, float]]:
    """Return per probe {row position: similarity}: cosine of embeddings where an encoder is given, else TF-IDF's.

    With many failed probes each keeps fewer candidates, so that no more than MAX_EMBEDDED texts are embedded.
    """
    if encoder is None:
        return near
    keep, texts = CANDIDATES * 2, [*prompts]
    while keep:
        texts = list(dict.fromkeys([*prompts, *(asked[i] for close in near for i in list(close)[:keep])]))
        if len(texts) <= MAX_EMBEDDED:
            break
        keep //= 2
    if not keep:
        return near
    vectors = np.asarray(encoder.encode(texts), dtype=np.float32)
    assert vectors.shape[0] == len(texts), f"{vectors.shape[0]} vectors for {len(texts)} texts"
    place = {t: k for k, t in enumerate(texts)}
    return [
        {i: float(vectors[place[p]] @ vectors[place[asked[i]]]) for i in list(close)[:keep]}
        for p, close in zip(prompts, near, strict=True)
    ]


def _fault(probe: Mapping[str, Any], asked: str, answer: str) -> str:
    """Return how the answer of a row differs in kind from what the probe wants, "" when it does not."""
    for verifier in probe.get("verifiers", ()):
        id = verifier["id"]
        if not id.startswith("answer:") or id == "answer:exact":
            continue
        kwargs = {k: v for k, v in (verifier.get("kwargs") or {}).items() if k not in _CONTENT}
        if id == "answer:comply":
            label = classify([answer])[0]
            if label in ("refuse", "partial") or not answer.strip():
                return f"its answer is {label}, the probe wants help"
        elif not verify(id, answer, kwargs, prompt=asked):
            return f"its answer fails {id}: {shorten(answer, 40)!r}"
    return ""


def _reason(probe: Mapping[str, Any], similarity: float, checks: Sequence[str], fault: str) -> str:
    parts = [f"probe {probe['id']} ({probe['behaviour']}) failed, similarity {similarity:.2f}"]
    if checks:
        parts.append(f"open flags: {', '.join(checks[:4])}")
    if fault:
        parts.append(fault)
    return "; ".join(parts)


def encoder_if_any() -> Encoder | None:
    """Return the sentence encoder, or None when this installation has none (TF-IDF then ranks alone)."""
    from curation import vectors

    try:
        found: Encoder = vectors.encoder()
    except CurationError:
        return None
    return found
