"""Screening for bias: who is named, in what company and tone, and whether our own signals treat groups alike."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contents import carried, hashes, joined, places, taken, worn
from ..identity import GROUPS, mentions, quick, swapped
from ..model import SIGNALS
from ..options import Count, Share
from ..spec import Spec
from ..text import SENTENCE_END
from .base import SIGNAL_UNITS, Findings, Past, check, signal, texts

LEAST = 30              # mentions below which a share or a tone is not reported
DRAWS = 1000            # bootstrap draws, seed 0
READ = 20_000           # rows read for tone and roles; evenly spaced when there are more

# Words of judgement that no group's name is made of. Small on purpose: a screen, not a sentiment model.
_GOOD = frozenset(re.findall(r"\S+", """
good great excellent wonderful amazing brilliant kind friendly generous honest loyal brave clever intelligent smart talented
successful beautiful happy joyful love loved loving loves admired admire respected respect gifted skilled capable strong confident
caring gentle warm helpful polite graceful inspiring inspired famous celebrated proud hardworking hard-working dedicated devoted
creative wise peaceful safe healthy hope hopeful win won winner award awarded achieve achieved achievement success best better
perfect delightful charming pleasant outstanding remarkable hero heroic trusted reliable grateful enjoy enjoyed
"""))
_BAD = frozenset(re.findall(r"\S+", """
bad terrible awful horrible evil cruel rude lazy stupid dishonest disloyal coward foolish dumb incompetent failed failure ugly sad
unhappy angry hate hated hates despised weak nervous violent aggressive dangerous criminal guilty greedy selfish arrogant hostile
abusive abuse abused murder murdered kill killed killer attack attacked steal stole theft thief crime fraud lie lied liar cheat
poverty sick ill disease suffer suffered suffering victim fear afraid scared worst worse poor-quality threat threatened jealous
bitter lonely helpless hysterical bossy nagging dirty corrupt terrorist addicted drunk war death died lost lose loser problem
"""))
_FLIPS = frozenset(re.findall(
    r"\S+", "not no never n't without hardly neither nor cannot can't don't isn't wasn't aren't didn't doesn't"))
_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
#: what a person is shown as: role -> words
ROLES = {name: frozenset(words.split()) for name, words in {
    "leads or builds": "boss ceo manager president director engineer doctor surgeon scientist professor lawyer pilot programmer "
                       "developer architect chief leader founder entrepreneur inventor judge senator minister captain genius",
    "cares or serves": "nurse secretary maid housewife homemaker receptionist cleaner babysitter caregiver nanny waitress "
                       "assistant hairdresser cook cooking cleaning laundry babysitting",
    "harms": "criminal thief terrorist killer murderer suspect gangster robber prisoner rapist thug dealer burglar kidnapper "
             "smuggler attacker stalker",
}.items()}


def tone(sentence: str) -> float | None:
    """Return the tone of a sentence in [-1, 1], None when no word of judgement occurs; a negation just before flips."""
    words = [w.lower() for w in _TOKEN.findall(sentence)]
    marks = []
    for k, w in enumerate(words):
        value = (w in _GOOD) - (w in _BAD)
        if value:
            marks.append(-value if any(v in _FLIPS for v in words[max(0, k - 3): k]) else value)
    return sum(marks) / len(marks) if marks else None


@signal("identity", reads=("instruction", "input", "response"))
def identity(rows: pa.Table) -> dict[str, pa.Array]:
    """The groups of people that a row names, as "axis:group"; words in another sense (black coffee) do not count.

    Why: who occurs, and how often, is the first question of a screen for bias.
    Misses: names of persons, and groups outside the lists of `curation.identity`. False positives: titles of works.
    Source: CHECKS 39; the lists are our own.
    """
    named: list[list[str]] = [[] for _ in range(rows.num_rows)]
    for field in ("instruction", "input", "response"):
        mask = np.asarray(pc.fill_null(pc.match_substring_regex(rows[field], quick()), False))
        at = np.flatnonzero(mask)
        for i, text in zip(at.tolist(), rows[field].take(pa.array(at)).to_pylist()):
            named[i] += [f"{m.axis}:{m.group}" for m in mentions(text[:20_000])]
    return {"identity": pa.array([list(dict.fromkeys(n)) for n in named], SIGNALS["identity"])}


# --- counterfactual swap ---------------------------------------------------------------------------------------------

UNNAMED = np.uint64(2**64 - 1)  # mark of a row that names no group


def marks(rows: pa.Table, named: pa.Array, past: Past | None = None) -> np.ndarray:
    """Return (n,) uint64: a hash of the texts of each row that names a group, UNNAMED for others; known ones as they were."""
    old = past.load() if past is not None else None
    earlier = np.full(rows.num_rows, -1) if past is None else past.earlier
    out = carried(old["mark"] if old else None, earlier, UNNAMED)
    names = np.asarray(pc.fill_null(pc.greater(pc.list_value_length(named), 0), False))
    at = np.flatnonzero(names & (earlier < 0))
    out[at] = np.minimum(joined([hashes(taken(rows[c], at)) for c in ("instruction", "input", "response")], len(at)), UNNAMED - 1)
    return out


def drawn(mark: np.ndarray, most: int) -> np.ndarray:
    """Return the positions, ascending, of up to `most` rows that name a group: those with the lowest `marks`.

    So the draw is even, and of the rows drawn few change when few rows come or go.
    """
    at = np.flatnonzero(mark != UNNAMED)
    if most < len(at):
        at = at[mark[at] <= np.partition(mark[at], most - 1)[most - 1]]     # a few more where marks are equal
    return np.sort(at[np.argsort(mark[at], kind="stable")[:most]])


def swaps(rows: pa.Table, named: pa.Array, spec: Spec, at: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield what our signals say of the rows at `at` before and after a group is exchanged for its counterpart.

    Keys: at (position in `rows`), axis, before and after, each {refusal, harm, tone}. Prompt and response are exchanged
    together.
    """
    tried: list[tuple[int, str, tuple[str, str, str]]] = []
    sub = taken(rows, at)
    parts = [texts(sub, c) for c in ("instruction", "input", "response")]
    for k, groups in enumerate(named.take(pa.array(at)).to_pylist()):
        old = (parts[0][k], parts[1][k], parts[2][k])
        for axis in dict.fromkeys(g.split(":")[0] for g in groups):
            new = tuple(swapped(t, axis) or t for t in old)
            if new != old:
                tried.append((k, axis, (new[0], new[1], new[2])))
    if not tried:
        return
    before = _judged(sub, spec)
    other = sub.take(pa.array([k for k, _, _ in tried]))
    for c, name in enumerate(("instruction", "input", "response")):
        other = other.set_column(other.column_names.index(name), name, pa.array([new[c] for _, _, new in tried], pa.string()))
    after = _judged(other, spec)
    for j, (k, axis, new) in enumerate(tried):
        yield {"at": int(at[k]), "axis": axis, "before": before[k] | {"tone": tone(parts[2][k])},
               "after": after[j] | {"tone": tone(new[2])}}


def _judged(rows: pa.Table, spec: Spec) -> list[dict[str, Any]]:
    """Return the refusal class and the harm of each row by the signals in force; None where one asks for other signals."""
    out: list[dict[str, Any]] = [{"refusal": None, "harm": None} for _ in range(rows.num_rows)]
    for name in ("refusal", "harm"):
        unit = SIGNAL_UNITS[name]
        if set(unit.needs) - {"spec"}:
            continue
        columns = unit.run(rows, **({"spec": spec} if "spec" in unit.needs else {}))
        for value, line in zip(columns[name].to_pylist(), out):
            line[name] = value
    return out


@check("bias.swap", reads=("instruction", "input", "response"), severity="info", action="none", scope="dataset", version=2)
def swap(rows: pa.Table, spec: Spec, identity: pa.Array, past: Past, *, most: Count = 1000, harm: Share = 0.25) -> pa.Table:
    """Our own signals judge the row otherwise when the group it names is exchanged for its counterpart.

    Women for men, Muslims for Christians, and so on, in prompt and response together; then the refusal class, the harm
    of the prompt (by more than `harm`) and the tone of the response are taken again.
    Why: a filter that reads "gay" as harm drops the rows that name gay people, and nobody sees the set tilt.
    Misses: groups without a counterpart of the same form; rows beyond `most`, which are drawn by a hash of their texts.
    False positives: differences that are right (medicine, history, law), and grammar that the exchange breaks.
    Source: CHECKS 40. Reported only: a flag says something about our signals as much as about the row.
    """
    found = Findings(rows)
    mark = marks(rows, identity, past)
    at = drawn(mark, most)
    earlier, old = past.earlier, past.load()
    known = np.zeros(rows.num_rows, np.bool_)
    told: dict[int, list[str]] = {}
    if old is not None:
        known = carried(old["looked at"], earlier, False)
        back = places(earlier, len(old["looked at"]))
        for k, said in zip(back[old["at"]].tolist(), _texts(old["bytes"], old["length"])):
            told.setdefault(k, []).append(said)
    for case in swaps(rows, identity, spec, at[~known[at]]):
        changes = _changes(case["before"], case["after"], harm)
        if changes:
            said = f"With the groups of {case['axis']} exchanged, {' and '.join(changes)}."
            told.setdefault(case["at"], []).append(said)
    flagged = [(k, said) for k in at.tolist() for said in told.get(k, ())]
    for k, said in flagged:
        found.add(k, said, field="row", score=0.5)
    if worn(past):
        _keep(past, mark, at, flagged)
    return found.table()


def _keep(past: Past, mark: np.ndarray, at: np.ndarray, flagged: list[tuple[int, str]]) -> None:
    """Keep the marks of the rows, which of them were looked at and what was said of them."""
    looked = np.zeros(len(mark), np.bool_)
    looked[at] = True
    encoded = [said.encode() for _, said in flagged]
    past.save({"mark": mark, "looked at": looked, "at": np.array([k for k, _ in flagged], np.int64),
               "bytes": np.frombuffer(b"".join(encoded), np.uint8), "length": np.array([len(x) for x in encoded], np.int64)})


def _changes(before: dict[str, Any], after: dict[str, Any], harm: float) -> list[str]:
    """Return what our signals say otherwise of a row once a group is exchanged."""
    out = []
    if before["refusal"] != after["refusal"]:
        out.append(f"the response counts as {after['refusal']} instead of {before['refusal']}")
    if abs((before["harm"] or 0.0) - (after["harm"] or 0.0)) > harm:
        out.append(f"the harm of the prompt is {after['harm'] or 0.0:.2f} instead of {before['harm'] or 0.0:.2f}")
    if (before["tone"] is None) != (after["tone"] is None) or abs((before["tone"] or 0.0) - (after["tone"] or 0.0)) > 0.5:
        out.append("the tone of the response changes")
    return out


def _texts(data: np.ndarray, length: np.ndarray) -> list[str]:
    """Return the texts whose bytes follow each other in `data`."""
    end = np.cumsum(length)
    return [data[hi - n:hi].tobytes().decode() for hi, n in zip(end.tolist(), length.tolist())]


# --- tables for the report -------------------------------------------------------------------------------------------


def screen(rows: pa.Table, named: pa.Array | pa.ChunkedArray) -> dict[str, Any]:
    """Return who is named, in what tone and in which roles: {axes, read, least}.

    `named`: the signal `identity` of the rows. axes: {axis: [{group, rows, share, tone, roles}]}, share of the rows
    that name anybody on the axis; tone: {n, value, low, high} over sentences that name the group and judge at all;
    roles: {role: {n, value, low, high}} over sentences that name it. Below 30 sentences no number is given (None).
    Tone and roles are read from up to 20,000 rows (`read`). Intervals: 95 %, bootstrap over sentences.
    """
    lists = named.combine_chunks() if isinstance(named, pa.ChunkedArray) else named
    groups = Counter(pc.list_flatten(lists).to_pylist())
    owners = np.asarray(pc.list_parent_indices(lists))
    axis_of = np.array([g.split(":")[0] for g in pc.list_flatten(lists).to_pylist()], dtype=object)
    on_axis = {a: len(np.unique(owners[axis_of == a])) for a in GROUPS}
    at = np.unique(owners)
    at = at[:: max(1, len(at) // READ)][:READ]
    tones, roles = _sentences(rows.take(pa.array(at)))
    axes = {}
    for axis, names in GROUPS.items():
        lines = []
        for group in names:
            n = groups.get(f"{axis}:{group}", 0)
            lines.append({
                "group": group, "rows": n, "share": n / on_axis[axis] if on_axis[axis] else None,
                "tone": interval(tones[group]), "roles": {r: interval(roles[group, r]) for r in ROLES},
            })
        axes[axis] = lines
    return {"axes": axes, "read": len(at), "least": LEAST}


def exchanged(rows: pa.Table, named: pa.Array | pa.ChunkedArray, spec: Spec, most: int = 500) -> dict[str, dict[str, Any]]:
    """Return {axis: {rows, refusal, harm, tone}}: how our own signals take an exchange of the groups of an axis.

    refusal: share of the rows whose refusal class changes; harm: mean change of the prompt's harm, in [0, 1]; tone: mean
    change of the response's tone, in [0, 2], where both judge at all; changes count without their sign. Each as `interval`
    says it, so None below 30 rows. Up to `most` rows are exchanged, drawn by a hash of their texts.
    """
    lists = named.combine_chunks() if isinstance(named, pa.ChunkedArray) else named
    seen: dict[str, list[tuple[float, float, float | None]]] = defaultdict(list)
    for case in swaps(rows, lists, spec, drawn(marks(rows, lists), most)):
        a, b = case["before"], case["after"]
        moved = None if a["tone"] is None or b["tone"] is None else abs(a["tone"] - b["tone"])
        seen[case["axis"]].append((float(a["refusal"] != b["refusal"]), abs((a["harm"] or 0.0) - (b["harm"] or 0.0)), moved))
    return {axis: {"rows": len(lines), "refusal": interval([x[0] for x in lines]), "harm": interval([x[1] for x in lines]),
                   "tone": interval([x[2] for x in lines if x[2] is not None])} for axis, lines in sorted(seen.items())}


def _sentences(rows: pa.Table) -> tuple[dict[str, list[float]], dict[tuple[str, str], list[float]]]:
    """Return the tone of each judging sentence by group, and whether each sentence shows a role, by group and role."""
    tones: dict[str, list[float]] = defaultdict(list)
    roles: dict[tuple[str, str], list[float]] = defaultdict(list)
    for text in texts(rows, "response"):
        for sentence in SENTENCE_END.split(text[:5000]):
            here = {m.group for m in mentions(sentence)}
            if not here:
                continue
            value = tone(sentence)
            words = {w.lower().rstrip("s") for w in _TOKEN.findall(sentence)} | {w.lower() for w in _TOKEN.findall(sentence)}
            for group in here:
                if value is not None:
                    tones[group].append(value)
                for role, named in ROLES.items():
                    roles[group, role].append(float(bool(words & named)))
    return tones, roles


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Return {n, value, low, high}: the mean with its 95 % bootstrap interval, None below 30 values."""
    if len(values) < LEAST:
        return {"n": len(values), "value": None, "low": None, "high": None}
    distinct, count = np.unique(np.asarray(values, dtype=float), return_counts=True)
    n = int(count.sum())
    means = np.random.default_rng(0).multinomial(n, count / n, DRAWS) @ distinct / n
    low, high = np.quantile(means, [0.025, 0.975])
    return {"n": n, "value": round(float(distinct @ count / n), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
