"""What a set teaches: rows by family with the accuracy of the head, and rows in clusters with names, flags and odd rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .asking import verb_noun
from .checks.families import family as family_signal
from .clustering import Clusters, cluster, rand_index
from .errors import CurationError
from .families import accuracy, given_of, judges_answers
from .manner import edge_text, edge_words, space
from .spec import Spec
from .store import Store
from .text import shorten
from .vectors import Vectors

if TYPE_CHECKING:
    import pandas

Progress = Callable[[str, int, int], None]

NAMED_BY = 200      # rows nearest to the centre of a cluster that name it
AGAINST = 20_000    # rows against which a word is distinctive
SHOWN = 3           # typical and odd rows of a cluster
_SAID = 0.2         # share of its rows that must order with one verb before it names the cluster
_MARKS = frozenset(("0", "…", "<input>", "_"))
_STOP = frozenset(re.findall(r"\S+", """
a an the of to in for on with and or is are was were be by from as at this that these those it its your you me my i please
can could would will should do does did what which how why who whom where when there then than so if not no has have had
more most like some any one two s t about into using use given following below above each all
"""))


# ---------------------------------------------------------------- clusters


@dataclass(frozen=True)
class Found:
    """Clusters of a folder's rows; positions in the arrays are row numbers."""

    clusters: Clusters
    table: pa.Table     # a line a cluster: see CLUSTER_COLUMNS
    why: str            # how the rows were compared and the numbers chosen
    stability: dict[str, float] | None = None

    def frame(self) -> pandas.DataFrame:
        """Return the table as a DataFrame, the largest cluster first."""
        return self.table.to_pandas()

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": len(self.clusters.label), "clusters": self.clusters.k,
            "groups": int(self.clusters.group.max(initial=-1)) + 1, "why": self.why, "stability": self.stability,
            "table": self.table.to_pylist(),
        }


CLUSTER_COLUMNS = {
    "cluster": pa.int32(), "group": pa.int32(), "name": pa.string(), "group_name": pa.string(), "rows": pa.int64(),
    "share": pa.float64(), "flagged": pa.int64(), "flag_rate": pa.float64(), "cosine": pa.float64(),
    "words": pa.list_(pa.string()), "verb_nouns": pa.list_(pa.string()), "typical": pa.list_(pa.int64()),
    "odd": pa.list_(pa.int64()), "prompt": pa.string(),
}


def clusters_of(
    store: Store,
    *,
    k: int | None = None,
    groups: int | None = None,
    meaning: bool = False,
    model: str = "",
    seed: int = 0,
    stable: bool = False,
    progress: Progress | None = None,
) -> Found:
    """Return the newest rows of a folder in clusters at two levels and keep the signal `cluster` in the folder.

    Rows are compared by how they ask and the form of their answers; with `meaning` also by the embedding of the prompt
    (`model` as in Vectors.of). `k`, `groups`: numbers wanted, None for the best. `stable` measures how much of the
    clusters remains under another seed and under one row in a hundred less (adjusted Rand index); it takes three times
    as long. Raises CurationError for a folder without rows.
    """
    rows = store.rows(columns=["row", "uid", "instruction", "input", "response"])
    texts = _texts(rows)
    keys = keys_of(rows["uid"].to_pylist())
    meanings, how = _meanings(store, rows["uid"].to_pylist(), texts[0], model, progress) if meaning else (None, "")
    x = space(*texts, meanings, keys=keys, progress=progress)
    found = cluster(x, k=k, groups=groups, seed=seed, keys=keys, progress=progress)
    why = f"rows are compared by how they ask and how they are answered{how}; {found.why}"
    kept = None
    if stable and len(x) >= 100:
        kept = _stability(x, texts, meanings, keys, found, (k, groups, seed))
    store.add_signals("clusters", {"cluster": pa.array(found.label, pa.int32())})
    return Found(found, describe(found, texts[0], texts[1], _flagged(store)), why, kept)


def keys_of(uids: Sequence[str]) -> np.ndarray:
    """Return a hash for each uid, copies alike, that decides which rows are drawn where not all can be looked at."""
    return np.fromiter((xxhash.xxh3_64_intdigest(u.partition("#")[0].encode()) for u in uids), np.uint64, len(uids))


def _texts(rows: pa.Table) -> tuple[list[str], list[str], list[str]]:
    ask, given, response = (pc.fill_null(rows[c], "").to_pylist() for c in ("instruction", "input", "response"))
    return ask, given, response


def _meanings(
    store: Store, uids: list[str], asks: list[str], model: str, progress: Progress | None
) -> tuple[np.ndarray, str]:
    say = progress or (lambda what, done, total: None)
    vectors = Vectors(store.path, lambda done, total: say("embed", done, total))
    found = vectors.of(uids, [edge_text(a) for a in asks], model)
    return found, f" and by what they mean ({vectors.why})"


def _stability(
    x: np.ndarray, texts: tuple[list[str], list[str], list[str]], meanings: np.ndarray | None, keys: np.ndarray,
    found: Clusters, asked: tuple[int | None, int | None, int],
) -> dict[str, float]:
    """Return adjusted Rand indexes against a run with another seed and one on 99 rows of 100."""
    k, groups, seed = asked
    again = cluster(x, k=k, groups=groups, seed=seed + 1, keys=keys)
    kept = np.sort(np.argsort(keys * np.uint64(0x9E3779B97F4A7C15), kind="stable")[len(x) // 100 :])
    fewer = [[column[i] for i in kept] for column in texts]
    less = space(fewer[0], fewer[1], fewer[2], None if meanings is None else meanings[kept], keys=keys[kept])
    part = cluster(less, k=k, groups=groups, seed=seed, keys=keys[kept])
    wide = found.group[found.label]
    return {
        "reseeded": rand_index(found.label, again.label),
        "one_percent_less": rand_index(found.label[kept], part.label),
        "groups_reseeded": rand_index(wide, again.group[again.label]),
        "groups_one_percent_less": rand_index(wide[kept], part.group[part.label]),
    }


def _flagged(store: Store) -> np.ndarray | None:
    """Return which rows carry a warning or an error, (n,) bool; None before the first check of these rows."""
    if store.signals() is None:
        return None
    flags = store.flags()
    out = np.zeros(store.rows(columns=["row"]).num_rows, bool)
    out[flags.filter(pc.not_equal(flags["severity"].cast(pa.string()), "info"))["row"].to_numpy()] = True
    return out


def describe(found: Clusters, asks: Sequence[str], inputs: Sequence[str], flagged: np.ndarray | None) -> pa.Table:
    """Return CLUSTER_COLUMNS for each cluster: named by its verb-noun pair and the words that set it apart."""
    n = len(asks)
    around = Counter(w for i in range(0, n, max(1, n // AGAINST)) for w in set(edge_words(asks[i], inputs[i])))
    drawn = len(range(0, n, max(1, n // AGAINST)))
    order = np.lexsort((-found.own, found.label))
    ends = np.cumsum(found.sizes)
    members = [order[end - size : end] for end, size in zip(ends.tolist(), found.sizes.tolist())]
    wide = [np.concatenate([members[c][:NAMED_BY] for c in np.flatnonzero(found.group == g)])
            for g in range(int(found.group.max(initial=-1)) + 1)]
    taken: set[str] = set()
    group_names = [_name(_asked([asks[i] for i in w], [inputs[i] for i in w], around, drawn), taken) for w in wide]
    taken = set()
    lines: list[dict[str, Any]] = []
    for c, rows in enumerate(members):
        near = rows[:NAMED_BY]
        said = _asked([asks[i] for i in near], [inputs[i] for i in near], around, drawn)
        lines.append({
            "cluster": c, "group": int(found.group[c]), "name": _name(said, taken),
            "group_name": group_names[found.group[c]], "rows": len(rows), "share": len(rows) / n,
            "flagged": None if flagged is None else int(flagged[rows].sum()),
            "flag_rate": None if flagged is None else float(flagged[rows].mean()),
            "cosine": float(found.own[rows].mean()), "words": said[1], "verb_nouns": said[0],
            "typical": rows[:SHOWN].tolist(), "odd": rows[::-1][: min(SHOWN, len(rows) - 1)].tolist(),
            "prompt": shorten(asks[rows[0]], 200),
        })
    return pa.Table.from_pylist(lines, pa.schema(list(CLUSTER_COLUMNS.items())))


def _asked(asks: list[str], inputs: list[str], around: Counter[str], drawn: int) -> tuple[list[str], list[str], list[str]]:
    """Return (commonest verb-noun pairs, most distinctive words, commonest verbs) of some prompts.

    The verbs are one that orders a fifth of the prompts, or else the two commonest.
    """
    found = [verb_noun(a) for a in asks]
    pairs, verbs = Counter(found), Counter(v for v, _ in found if v)
    inside = Counter(w for a, g in zip(asks, inputs) for w in set(edge_words(a, g)))
    n = len(asks)
    often = {w: c for w, c in inside.items() if c >= max(min(n, 2), _SAID * n) and any(x.isalpha() for x in w)}
    lift = {w: c / n * np.log((c / n) / (max(around[w], 1) / drawn)) for w, c in often.items() if w not in _STOP | _MARKS}
    words = [w for w, v in sorted(lift.items(), key=lambda x: (-x[1], x[0])) if v > 0][:6]
    common = [f"{v} {x}".strip() for (v, x), c in pairs.most_common(3) if v and c >= 0.1 * n]
    most = sorted(verbs, key=lambda v: (-verbs[v], v))[:2]
    return common, words, most[:1] if most and verbs[most[0]] >= _SAID * n else most


def _name(said: tuple[list[str], list[str], list[str]], taken: set[str]) -> str:
    """Return a name that no cluster before has: the verb-noun pair, or the verb and what sets the cluster apart."""
    pairs, words, verbs = said
    verb = verbs[0] if len(verbs) == 1 else ""
    fresh = [w for w in words if w not in verb.split()]
    stems = [pairs[:1], [verb, *fresh[:1]], [verb, *fresh[:2]], [*pairs[:1], *fresh[:1]], [*pairs[:1], *fresh[:3]],
             [" or ".join(verbs), *words[:1]], [" or ".join(verbs), *words[:2]], ["other"]]
    names = [" ".join(x for x in stem if x) for stem in stems]
    stem = next(n for n in names if n)
    name = next((n for n in names if n and n not in taken), None)
    name = name or next(f"{stem} {i}" for i in range(2, 10**6) if f"{stem} {i}" not in taken)
    taken.add(name)
    return name


# ---------------------------------------------------------------- families


@dataclass(frozen=True)
class Families:
    """Rows by family of the spec, and how far the assignment can be trusted."""

    table: pa.Table     # a line a family, the unassigned rest last: see FAMILY_COLUMNS
    family: pa.Array    # of each row, "" = unassigned
    score: pa.Array
    accuracy: dict[str, Any] | None     # of the head, cross-validated; None when too few rows are known
    why: str            # what the head learnt from

    def frame(self) -> pandas.DataFrame:
        return self.table.to_pandas()

    def as_dict(self) -> dict[str, Any]:
        return {"rows": len(self.family), "why": self.why, "accuracy": self.accuracy, "families": self.table.to_pylist()}


FAMILY_COLUMNS = {
    "family": pa.string(), "rows": pa.int64(), "share": pa.float64(), "target": pa.list_(pa.float64()), "given": pa.int64(),
    "reviewed": pa.int64(), "confidence": pa.float64(), "accuracy": pa.float64(), "prompt": pa.string(),
}


def families_of(store: Store, spec: Spec, *, threshold: float = 0.15) -> Families:
    """Return the newest rows of a folder by family of the spec.

    Rows whose family the data gives keep it. The head learns from the given rows that a person has accepted or edited
    as soon as there are 20 of each of two families, until then from all given rows; it is judged by five-fold
    cross-validation on the rows that it learns from. Raises CurationError when the spec names no family.
    """
    if not spec.families:
        raise CurationError(f"the spec of {store.path} names no families", "curation init FOLDER --force suggests some")
    rows = store.rows()
    known = {f.id for f in spec.families}
    given = np.array([v if v in known else "" for v in given_of(rows)], dtype=object)
    reviewed = _reviewed(store, rows["uid"].to_pylist())
    counts = Counter(given[reviewed & (given != "")].tolist())
    from_reviewed = sum(c >= ENOUGH for c in counts.values()) >= 2
    taught = (given != "") & (reviewed if from_reviewed else True)
    said = pa.array([g if t else None for g, t in zip(given, taught)], pa.string())
    seen = rows.set_column(rows.column_names.index("family"), "family", said)
    found = family_signal(seen, spec, threshold=threshold)
    family = np.array(found["family"].to_pylist(), dtype=object)
    score = np.asarray(found["family_score"]).copy()
    family[given != ""], score[given != ""] = given[given != ""], 1.0
    judged = accuracy(rows, np.where(taught, given, "").tolist(), blind=judges_answers(spec))
    lines = [_family_line(f.id, f.bounds, family == f.id, given, reviewed, score, judged, rows) for f in spec.families]
    rest = _family_line("", None, family == "", given, reviewed, score, None, rows)
    n_taught = int(taught.sum())
    source = f"{n_taught:,} reviewed rows" if from_reviewed else f"{n_taught:,} rows whose family the data gives"
    why = f"learnt from {source} and from the spec's names, descriptions and examples"
    return Families(
        pa.Table.from_pylist([*lines, rest], pa.schema(list(FAMILY_COLUMNS.items()))), pa.array(family.tolist(), pa.string()),
        pa.array(score, pa.float32()), judged, why,
    )


ENOUGH = 20         # reviewed rows of a family from which the head learns from reviewed rows alone


def _reviewed(store: Store, uids: list[str]) -> np.ndarray:
    """Return which rows a person has accepted or edited, (n,) bool."""
    good = {uid for uid, d in store.verdicts.decisions().items() if d.kind == "person" and d.verdict == "accept"}
    return np.fromiter((uid in good for uid in uids), bool, len(uids))


def _family_line(
    id: str, bounds: tuple[float, float] | None, here: np.ndarray, given: np.ndarray, reviewed: np.ndarray, score: np.ndarray,
    judged: dict[str, Any] | None, rows: pa.Table,
) -> dict[str, Any]:
    at = np.flatnonzero(here)
    guessed = at[given[at] == ""]
    best = int(at[np.argmax(score[at])]) if len(at) else None
    return {
        "family": id, "rows": len(at), "share": len(at) / max(1, len(here)), "target": None if bounds is None else list(bounds),
        "given": len(at) - len(guessed), "reviewed": int(reviewed[at].sum()),
        "confidence": float(score[guessed].mean()) if len(guessed) else None,
        "accuracy": judged["families"].get(id) if judged else None,
        "prompt": "" if best is None else shorten(rows["instruction"][best].as_py() or "", 120),
    }
