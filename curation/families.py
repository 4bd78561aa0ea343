"""Task families: the nearest family of the spec by how a row asks, and families proposed from the data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .clustering import cluster
from .manner import EDGE_WORDS, Space, space
from .spec import ResponseStandard, Spec
from .text import shorten

if TYPE_CHECKING:       # scikit-learn takes a second to import; only a call of these functions pays for it
    from scipy import sparse

_HASHED = 2**15
_HEAD_ROWS = 20         # rows of known family from which a family stands on its own
_FEW = 5                # rows that a family with fewer borrows at least
_LENT = 0.1             # cosine from which a row is near enough to be lent
_C = 2.0
_HEAD_LIMIT = 20_000    # rows a head is fitted on
_CHUNK = 20_000
_RAREST = 3.0           # ceiling of the inverse document frequency
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?|[?]")


def ask_of(instruction: str, given: str = "") -> str:
    """Return how a prompt asks: its first and last words, lower case, digits as 0."""
    words = _WORD.findall(re.sub(r"\d+", "0", instruction[:400].lower()))
    tail = _WORD.findall(re.sub(r"\d+", "0", instruction[-400:].lower())) if len(instruction) > 400 else words
    if len(words) > 2 * EDGE_WORDS or tail is not words:
        words = [*words[:EDGE_WORDS], "…", *tail[-EDGE_WORDS:]]
    return " ".join(words) + (" xhasinput" if given.strip() else "")


_LIST = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s", re.MULTILINE)


def form_of(response: str) -> str:
    """Return the form of an answer as feature words: json, code, list, label, short, paragraph or long."""
    body = response.strip()
    if not body:
        return "xempty"
    words = body.count(" ") + 1
    kind = []
    if body[0] in "{[" and body[-1] in "}]":
        kind.append("xjson")
    if "```" in body or re.search(r"^\s*(?:def |class |import |function |SELECT |<\w+)", body, re.MULTILINE):
        kind.append("xcode")
    if len(_LIST.findall(body)) >= 2:
        kind.append("xlist")
    kind.append("xlabel" if words <= 4 and "\n" not in body else "xshort" if words <= 20 else "xparagraph"
                if words <= 120 else "xlong")
    return " ".join(kind)


def _features(asks: list[str], forms: list[str] | None = None) -> sparse.csr_matrix:
    """Return hashed counts of words and word pairs, shape (n, 32768); forms weigh little beside the words."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hasher = HashingVectorizer(n_features=_HASHED, ngram_range=(1, 2), alternate_sign=False, norm=None,
                               token_pattern=r"\S+", lowercase=False)
    x = hasher.transform(asks)
    return x if forms is None else x + 0.5 * hasher.transform(forms)


def _texts(rows: pa.Table, column: str) -> list[str]:
    return ["" if v is None else v for v in rows[column].to_pylist()]


def given_of(rows: pa.Table) -> list[str | None]:
    """Return the family that the data gives each row."""
    column = rows["family"]
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, pa.string())
    return column.to_pylist()


def judges_answers(spec: Spec) -> bool:
    """Return whether the spec says of any family how it is answered; then the answers must not choose the family."""
    return bool(spec.edge_cases) or any(f.response != ResponseStandard() for f in spec.families)


class Model:
    """Which family a row belongs to: the nearest by how it asks, and a head learnt from rows whose family is known.

    Known are rows with a given family and rows whose prompt is one of the spec's examples. A family with fewer than 20
    of those borrows the tenth of its nearest rows, at a third of the weight. The head is logistic regression on
    `manner.Space`: words at the edges of the prompt and the form of the answer. Where the spec says how a family is to
    be answered, the answers are not looked at: a harmless request that is refused would look like one that must be, and
    no answer could break the standard by which its own row is judged.
    """

    def __init__(self, rows: pa.Table, spec: Spec, assigned: list[str]) -> None:
        from scipy import sparse
        from sklearn.feature_extraction.text import TfidfTransformer

        self.ids = [f.id for f in spec.families]
        self.blind = judges_answers(spec)
        number = {id: k for k, id in enumerate(self.ids)}
        at = _drawn([i for i, v in enumerate(assigned) if v], _HEAD_LIMIT)
        owner = np.array([number[assigned[i]] for i in at], dtype=np.int64)
        known, background = rows.take(pa.array(at, pa.int64())), rows.take(pa.array(_drawn(range(rows.num_rows), _CHUNK)))
        x = self._near(known)
        said, said_owner = _said_of(spec)
        spoken, around = _features(said), self._near(background)
        self.tfidf = TfidfTransformer(sublinear_tf=True).fit(sparse.vstack([around, spoken, x]))
        self.tfidf.idf_ = np.minimum(self.tfidf.idf_, _RAREST)      # a rare word is a topic, not a way to ask
        told = [self.tfidf.transform(spoken), *([self.tfidf.transform(x)] if len(at) else [])]
        self.centroids = _centroids(sparse.vstack(told), np.concatenate([said_owner, owner]), len(self.ids))
        near = (self.tfidf.transform(around) @ self.centroids.T).toarray()
        taught = _taught(known, owner, background, near, spec)
        self.space = Space(*self._seen(background))
        self.head = None if taught is None else _head_of(self.space.of(*self._seen(taught[0])), *taught[1:])

    def _seen(self, rows: pa.Table) -> tuple[list[str], list[str], list[str]]:
        """Return the instructions, the inputs and the responses as far as they may decide."""
        asks, given, responses = _columns(rows)
        return asks, given, [""] * len(responses) if self.blind else responses

    def _near(self, rows: pa.Table) -> sparse.csr_matrix:
        """Return the counts by which nearness to a family is judged, shape (n, 32768)."""
        from scipy import sparse

        asks, given, responses = self._seen(rows)
        if not asks:
            return sparse.csr_matrix((0, _HASHED))
        return _features([ask_of(a, b) for a, b in zip(asks, given)], None if self.blind else [form_of(r) for r in responses])

    def assign(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Return (number of the family, score in [0, 1]) for each row."""
        near = (self.tfidf.transform(self._near(rows)) @ self.centroids.T).toarray()
        line = np.arange(rows.num_rows)
        if self.head is None:
            choice = near.argmax(axis=1)
            return choice, near[line, choice]
        # A head is sure even far from all families, so its word counts only as far as the row is near its choice.
        likely = self.head.predict_proba(self.space.of(*self._seen(rows)))
        nearest, best = near.argmax(axis=1), likely.argmax(axis=1)
        choice = self.head.classes_[best]
        score = np.sqrt(likely[line, best] * np.clip(near[line, choice], 0, 1))
        unheard = ~np.isin(nearest, self.head.classes_)     # nearest to a family of which the head has seen no row
        return np.where(unheard, nearest, choice), np.where(unheard, near[line, nearest], score)


def _drawn(of: Any, most: int) -> list[int]:
    """Return up to `most` of some row numbers, in even steps."""
    return list(of)[:: max(1, len(of) // most)][:most]


def _columns(rows: pa.Table) -> tuple[list[str], list[str], list[str]]:
    return _texts(rows, "instruction"), _texts(rows, "input"), _texts(rows, "response")


def _said_of(spec: Spec) -> tuple[list[str], np.ndarray]:
    """Return how the spec's texts ask (examples, description, name) and the family that each speaks for."""
    said, owner = [], []
    for k, f in enumerate(spec.families):
        for text in (*f.examples, *((f.description,) if f.description else ()), re.sub(r"[_-]", " ", f.id)):
            said.append(ask_of(text))
            owner.append(k)
    return said, np.array(owner, dtype=np.int64)


def _taught(
    known: pa.Table, owner: np.ndarray, background: pa.Table, near: np.ndarray, spec: Spec
) -> tuple[pa.Table, np.ndarray, np.ndarray] | None:
    """Return (rows, family numbers, weights) to fit a head on; None when fewer than two families have any."""
    prompts = {" ".join(text.split()): k for k, f in enumerate(spec.families) for text in f.examples}
    shown = [(i, prompts[p]) for i, text in enumerate(_texts(background, "instruction"))
             if (p := " ".join(text.split())) in prompts]
    count = np.bincount(np.concatenate([owner, np.array([k for _, k in shown], np.int64)]), minlength=len(spec.families))
    best = near.argmax(axis=1)
    lent: list[tuple[int, int]] = []
    for k in np.flatnonzero(count < _HEAD_ROWS).tolist():
        own = np.flatnonzero((best == k) & (near[:, k] > _LENT))
        nearest = own[np.argsort(-near[own, k], kind="stable")]
        lent += [(int(i), k) for i in nearest[: max(_FEW, len(own) // 10)]]
    extra = shown + lent
    families = np.concatenate([owner, np.array([k for _, k in extra], np.int64)])
    if len(set(families.tolist())) < 2:
        return None
    weights = np.concatenate([np.ones(len(owner) + len(shown)), np.full(len(lent), 1 / 3)])
    if not len(owner):      # how many examples a family has is no sign of how common it is
        weights *= (weights.sum() / np.bincount(families, weights, minlength=len(count)).clip(1e-9))[families] / len(count)
    return pa.concat_tables([known, background.take(pa.array([i for i, _ in extra], pa.int64()))]), families, weights


def _head_of(x: np.ndarray, families: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Return a fitted head; C was set by cross-validation on Dolly's categories, flat between 1 and 10."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=_C, max_iter=300).fit(x, families, sample_weight=weights)


def _centroids(x: sparse.csr_matrix, owner: np.ndarray, n: int) -> sparse.csr_matrix:
    """Return unit-length mean rows by owner, shape (n, features)."""
    from scipy import sparse
    from sklearn.preprocessing import normalize

    pick = sparse.csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(n, len(owner)))
    return sparse.csr_matrix(normalize(pick @ x))


def accuracy(rows: pa.Table, known: Sequence[str], folds: int = 5, *, blind: bool = False) -> dict[str, Any] | None:
    """Return how often the head is right on rows it has not seen, or None when no two families have 5 known rows each.

    `known`: family of each row, "" where it is not known; `blind`: by the prompts alone (`judges_answers`). The result:
    {"rows", "folds", "accuracy", "low", "high" (95 % interval over rows), "commonest" (what always naming the commonest
    family would get), "families": {id: share found}}. Families with fewer than `folds` rows are left out.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = Counter(v for v in known if v)
    usable = {v for v, c in counts.items() if c >= folds}
    if len(usable) < 2:
        return None
    at = _drawn([i for i, v in enumerate(known) if v in usable], _HEAD_LIMIT)
    ids = sorted(usable)
    y = np.array([ids.index(known[i]) for i in at])
    asks, given, responses = _columns(rows.take(pa.array(at, pa.int64())))
    texts = asks, given, [""] * len(asks) if blind else responses
    x = Space(*texts).of(*texts)
    right = np.zeros(len(y), bool)
    for learn, judge in StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y):
        right[judge] = _head_of(x[learn], y[learn]).predict(x[judge]) == y[judge]
    share = float(right.mean())
    spread = 1.96 * float(np.sqrt(share * (1 - share) / len(y)))
    return {
        "rows": len(y), "folds": folds, "accuracy": share, "low": max(0.0, share - spread), "high": min(1.0, share + spread),
        "commonest": float(np.bincount(y).max() / len(y)),
        "families": {id: float(right[y == k].mean()) for k, id in enumerate(ids)},
    }


# --- proposing families ----------------------------------------------------------------------------------------------

_CATEGORY_KEYS = ("family", "category", "task", "task_type", "type", "task_kind", "kind")
_MOST_GIVEN = 40        # a field with more distinct values is a topic or an id, not a family
_MOST_PROPOSED = 16
_EXAMPLES = 4
_STOP = frozenset(re.findall(r"\S+", """
a an the of to in for on with and or is are was were be by from as at this that these those it its your you me my i please
can could would will should what which how why who where when do does did given following below using use some any one
two three four five about into sentence 0 … xhasinput ? not has have more than like s t
"""))
_VERBS = frozenset(re.findall(r"\S+", """
write generate create describe explain summarize summarise classify identify list name give rewrite edit convert translate
find suggest compare provide tell design compose construct calculate compute develop determine extract analyze analyse
answer categorize sort correct propose recommend predict come make discuss outline evaluate paraphrase detect choose select
fill complete add remove replace change arrange rank output produce brainstorm solve simplify decide state define formulate
pick organize assign label estimate draft imagine
"""))


def suggest(rows: pa.Table, k: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Return proposed families [{id, description, examples, share}], largest first; shares are of all rows.

    A family or category that the data gives (the family column, or a field of `meta` with 2 to 40 distinct values) is
    taken as it is. Otherwise clusters of rows by how they ask and are answered (manner.space); `k` None takes
    sqrt(n / 50) between 3 and 16: few enough to read, one for every few hundred rows. A family is named after
    its commonest first verb ("answer" for questions, "do" when no verb leads) and the word that sets it apart.
    """
    n = rows.num_rows
    if n == 0:
        return []
    given = _given_categories(rows)
    instructions = _texts(rows, "instruction")
    if given is not None:
        counts = Counter(v for v in given if v)
        return [{
            "id": name, "description": "", "share": count / n,
            "examples": _spread([t for t, v in zip(instructions, given) if v == name]),
        } for name, count in counts.most_common(_MOST_GIVEN)]
    return _clustered(instructions, _texts(rows, "input"), _texts(rows, "response"), k, seed)


def _given_categories(rows: pa.Table) -> list[str | None] | None:
    """Return the family each row is given by the data, or None when no field qualifies."""
    given = given_of(rows)
    if _qualifies(given):
        return given
    metas = [json.loads(m) if m else {} for m in rows["meta"].to_pylist()] if "meta" in rows.column_names else []
    for key in _CATEGORY_KEYS[1:]:
        values = [m[key] if isinstance(m.get(key), str) else None for m in metas if isinstance(m, dict)]
        if len(values) == rows.num_rows and _qualifies(values):
            return values
    return None


def _qualifies(values: list[str | None]) -> bool:
    distinct = {v for v in values if v}
    return 2 <= len(distinct) <= _MOST_GIVEN and sum(bool(v) for v in values) >= 0.5 * len(values)


def _clustered(instructions: list[str], inputs: list[str], responses: list[str], k: int | None, seed: int
               ) -> list[dict[str, Any]]:
    n = len(instructions)
    asks = [f"{_head(ask)} {ask} {form_of(r)}" for ask, r in
            zip((ask_of(a, b) for a, b in zip(instructions, inputs)), responses)]
    wanted = k or int(np.clip(round((n / 50) ** 0.5), 3, _MOST_PROPOSED))
    found = cluster(space(instructions, inputs, responses), k=min(wanted, len(set(asks))), groups=1, seed=seed)
    overall = Counter(w for a in asks for w in set(a.split()))
    out: list[dict[str, Any]] = []
    taken: set[str] = set()
    for c, count in enumerate(found.sizes.tolist()):
        members = np.flatnonzero(found.label == c)
        name = _name([asks[i] for i in members], overall, n, taken)
        taken.add(name)
        order = members[np.argsort(-found.own[members], kind="stable")]
        out.append({"id": name, "description": f"Prompts such as: {shorten(instructions[order[0]], 80)}",
                    "examples": _spread([instructions[i] for i in order[: max(20, len(order) // 10)]]),
                    "share": count / n})
    return out


def _head(ask: str) -> str:
    """Return tokens that give the first two words and the first task verb the weight they have for a reader."""
    words = ask.split()
    plain = words[0] if words and words[0].isalpha() and words[0] not in _STOP else "none"
    verb = next((w for w in words[:8] if w in _VERBS), plain)
    return " ".join([f"^{w}" for w in words[:2]] + [f"^verb={verb}"] * 3)


_QUESTION = tuple(f"^{w} " for w in ("what", "how", "why", "who", "which", "where", "when", "is", "are", "do", "does", "can"))


def _name(asks: list[str], overall: Counter[str], n: int, taken: set[str]) -> str:
    """Return verb-noun: the commonest task verb of a cluster and the word that sets the cluster apart most."""
    inside = Counter(w for a in asks for w in set(a.split()))
    first = Counter(w.partition("=")[2] for a in asks for w in set(a.split()) if w.startswith("^verb="))
    questions = sum(a.startswith(_QUESTION) for a in asks)
    verb, count = max(((w, c) for w, c in first.items() if w != "none"), key=lambda x: (x[1], x[0]), default=("do", 0))
    if count < max(questions, 0.2 * len(asks)):
        verb = "answer" if questions > 0.3 * len(asks) else "do"
    lift = [(c / len(asks) * np.log((c / len(asks)) / (overall[w] / n)), w) for w, c in inside.items()
            if w not in _STOP and w not in _VERBS and w.isalpha() and len(w) > 2 and not w.startswith("x")]
    nouns = [w for _, w in sorted(lift, reverse=True)[:5]] or ["other"]
    for noun in nouns:
        if f"{verb}-{noun}" not in taken:
            return f"{verb}-{noun}"
    return next(f"{verb}-{nouns[0]}-{i}" for i in range(2, 1000) if f"{verb}-{nouns[0]}-{i}" not in taken)


def _spread(prompts: list[str]) -> list[str]:
    """Return up to 4 different prompts from even steps through the list, shortened to one line."""
    seen = list(dict.fromkeys(shorten(p, 200) for p in prompts if p.strip()))
    step = max(1, len(seen) // _EXAMPLES)
    return seen[::step][:_EXAMPLES]
