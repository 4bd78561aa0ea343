"""Pairs of a better and a worse answer for preference tuning, from what people decided: edits and settled contradictions."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from .gate import Effective, effective
from .spec import Spec
from .store import Store, atomic
from .text import fold

Turns = list[dict[str, str]]
#: Words from which on one that differs a little is a misspelling; in shorter answers each word is the answer.
SENTENCE = 4


@dataclass(frozen=True)
class Preference:
    """One pair, by the columns that TRL's DPOTrainer reads (prompt, chosen, rejected), and where it comes from."""

    prompt: Turns
    chosen: Turns
    rejected: Turns
    pair_id: str
    source: str  # human_edit | reviewer_choice
    decided_by: str
    decided_at: str  # UTC, ISO 8601
    policy: str  # who wrote the rejected side; "dataset": no model that is trained now
    rule: str
    changed: float  # share of words that differ between both sides, in [0, 1]
    len_chosen: int  # characters
    len_rejected: int


def preferences(store: Store, spec: Spec) -> tuple[list[Preference], dict[str, int]]:
    """Return the pairs in the order of the rows, and how many were left out by reason.

    An edit counts when it changed the last answer, and nothing that was asked, in more than case, spaces or one word
    misspelt. A contradiction (dup.conflict) counts when a person rejected one side and the other is kept. What nobody
    decided is no preference; the answers of runs to the battery are none either, because its prompts must stay apart.
    """
    state, left_out = effective(store, spec), Counter[str]()
    found = [*_edits(store, state, left_out), *_choices(store, state, left_out)]
    unique = {json.dumps([p.prompt, p.chosen, p.rejected]): p for p in reversed(found)}
    return list(reversed(unique.values())), dict(left_out)


def _edits(store: Store, state: Effective, left_out: Counter[str]) -> Iterator[Preference]:
    at = np.flatnonzero(state.edited)
    before, after = (t.select(["uid", "messages"]).take(at).to_pylist() for t in (store.rows(), state.rows))
    for i, old, new in zip(at.tolist(), before, after, strict=True):
        decision = state.decisions.get(old["uid"])
        if state.rejected[i] or decision is None:
            left_out["edited, then rejected"] += 1
        elif _plain(old["messages"][:-1]) != _plain(new["messages"][:-1]) or new["messages"][-1]["role"] != "assistant":
            left_out["the prompt was edited"] += 1
        elif slight(old["messages"][-1]["content"], new["messages"][-1]["content"]):
            left_out["only case, spaces or a misspelt word"] += 1
        else:
            yield _pair(new["messages"], old["messages"], f"{old['uid']}-edit", "human_edit", decision, "edited answer, original")


def _choices(store: Store, state: Effective, left_out: Counter[str]) -> Iterator[Preference]:
    flags = store.flags()
    mine = flags.filter(pc.equal(flags["check"].cast("string"), "dup.conflict")).select(["row", "related"]).to_pylist()
    sides = sorted({(min(f["row"], j), max(f["row"], j)) for f in mine for j in f["related"] or [] if j != f["row"]})
    rows = state.rows.select(["uid", "messages"])
    for a, b in sides:
        if state.rejected[a] == state.rejected[b]:
            left_out["contradiction not settled" if not state.rejected[a] else "both sides rejected"] += 1
            continue
        worse, better = (a, b) if state.rejected[a] else (b, a)
        kept, lost = (rows.slice(i, 1).to_pylist()[0] for i in (better, worse))
        decision = state.decisions[lost["uid"]]
        if decision.kind != "person":
            left_out["settled by the policy, not by a person"] += 1
        elif kept["messages"][-1]["role"] != "assistant" or slight(*(r["messages"][-1]["content"] for r in (lost, kept))):
            left_out["the answers hardly differ"] += 1
        else:
            same = _plain(kept["messages"][:-1]) == _plain(lost["messages"][:-1])
            rule = "kept answer, rejected one" + ("" if same else "; the prompts differ, this is the kept row's")
            yield _pair(kept["messages"], lost["messages"], f"{kept['uid']}-{lost['uid']}", "reviewer_choice", decision, rule)


def _plain(turns: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    return [(t["role"], fold(t["content"])) for t in turns]


def slight(one: str, other: str) -> bool:
    """Return whether two texts are the same but for case, spaces, or in a sentence one word that was misspelt."""
    a, b = fold(one).split(), fold(other).split()
    differ = [(x, y) for x, y in zip(a, b) if x != y]
    if len(a) != len(b) or len(differ) > (len(a) >= SENTENCE):
        return False
    return all(_misspelt(x, y) for x, y in differ)


def _misspelt(x: str, y: str) -> bool:
    """Return whether two words differ as a misspelling does; numbers never do."""
    return x.isalpha() and y.isalpha() and abs(len(x) - len(y)) <= 2 and SequenceMatcher(None, x, y).ratio() >= 0.75


def _pair(better: Turns, worse: Turns, pair_id: str, source: str, decision: Any, rule: str) -> Preference:
    chosen, rejected = better[-1]["content"], worse[-1]["content"]
    alike = SequenceMatcher(None, chosen.split(), rejected.split(), autojunk=False).ratio()
    return Preference(
        _bare(better[:-1]), _bare(better[-1:]), _bare(worse[-1:]), pair_id, source, decision.actor, decision.at, "dataset", rule,
        round(1 - alike, 4), len(chosen), len(rejected),
    )  # fmt: skip


def _bare(turns: Sequence[Mapping[str, str]]) -> Turns:
    return [{"role": t["role"], "content": t["content"]} for t in turns]


def write(path: Path, pairs: Sequence[Preference]) -> None:
    """Write one pair a line, atomically."""
    with atomic(path, "w") as file:
        file.writelines(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in pairs)


def summary(pairs: Sequence[Preference], left_out: Mapping[str, int]) -> dict[str, Any]:
    """Return counts, and the lengths of both sides: a set whose better answers are the longer ones teaches length."""
    lengths = [(p.len_chosen, p.len_rejected) for p in pairs]
    means = [round(statistics.fmean(x)) for x in zip(*lengths, strict=True)] if lengths else [0, 0]
    return {
        "pairs": len(pairs),
        "sources": dict(Counter(p.source for p in pairs)),
        "left_out": dict(left_out),
        "mean_characters": {"chosen": means[0], "rejected": means[1]},
        "chosen_is_longer": round(sum(a > b for a, b in lengths) / len(lengths), 3) if lengths else 0.0,
    }
