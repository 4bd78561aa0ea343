"""Blind choice between two runs' answers: which pairs are shown on which side, the votes kept, and what they prove. No torch.

FOLDER/votes/<id>.jsonl: a first line that says what is compared, then one line a vote, a vote taken back, or a look at
the sides. Lines are only added, in one write each, and are on disk when the call returns.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from curation.errors import CurationError
from curation.store import sync_folder
from curation.text import normalise

from .compare import mcnemar, paired_bootstrap, read_result, same_battery, wilson

VOTES = ("left", "right", "tie")
ALPHA = 0.05


@dataclass(frozen=True)
class Pair:
    """One probe with the answers of both runs."""

    id: str
    group: str
    behaviour: str
    turns: tuple[tuple[str, str], ...]  # (role, text), the question last
    a: str
    b: str


@dataclass(frozen=True)
class Pairing:
    """Two runs to choose between. `pairs` holds the probes that they answered differently; `same`: all others."""

    id: str
    a: str
    b: str
    pairs: tuple[Pair, ...]
    same: int

    def left_is_a(self, actor: str, probe: str) -> bool:
        """Return which run stands on the left: random, and the same for this reader whenever the page is opened."""
        return bool(xxhash.xxh3_64_intdigest(f"side\x1f{self.id}\x1f{actor}\x1f{probe}".encode()) & 1)

    def order(self, actor: str) -> list[Pair]:
        """Return the pairs in a random order that is the same for this reader whenever the page is opened."""
        return sorted(self.pairs, key=lambda p: xxhash.xxh3_64_intdigest(f"order\x1f{self.id}\x1f{actor}\x1f{p.id}".encode()))


def pairing(one: Path, other: Path) -> Pairing:
    """Return the pairing of two runs; which is named first makes no difference.

    Its id hangs on both runs' very answers, so that votes on a run that was trained again are not mixed with the old.
    Raises CurationError when the runs did not answer the same battery.
    """
    a, b = sorted((one, other), key=lambda p: p.name)
    if a == b:
        raise CurationError(f"{a.name} was named twice", "choose two runs")
    left, right = read_result(a)["probes"], read_result(b)["probes"]
    same_battery(a.name, left, b.name, right)
    said = json.dumps([[a.name, b.name], [[p["id"], p["output"], q["output"]] for p, q in zip(left, right, strict=True)]])
    pairs = tuple(
        Pair(p["id"], p["group"], p["behaviour"], _turns(p), p["output"], q["output"])
        for p, q in zip(left, right, strict=True)
        if normalise(p["output"]) != normalise(q["output"])
    )
    name = xxhash.xxh3_64_hexdigest(said.encode("utf-8", "surrogatepass"))
    return Pairing(name, a.name, b.name, pairs, len(left) - len(pairs))


def _turns(result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    messages = result.get("messages") or [{"role": "user", "content": result["prompt"]}]
    return tuple((m["role"], m["content"]) for m in messages)


# ---- the log


def path_of(folder: Path, pairing: Pairing) -> Path:
    return folder / "votes" / f"{pairing.id}.jsonl"


def read(folder: Path, pairing: Pairing) -> list[dict[str, Any]]:
    """Return the lines of a pairing's log without its head, oldest first; a line that was cut off does not count."""
    path = path_of(folder, pairing)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        events = [json.loads(line) for line in lines]
    except ValueError as e:
        raise CurationError(f"{path}: not a log of votes ({e})", "mend the line, or move the file away") from None
    return events[1:]


def append(folder: Path, pairing: Pairing, actor: str, session: str, entries: Sequence[Mapping[str, Any]]) -> int:
    """Store votes of one reader and return how many were new: {"seq", "probe", "vote"}; vote None takes one back.

    A (session, seq) that is stored already is left out, so a browser may repeat what it is not sure of. Raises
    CurationError once this reader has seen the sides: a later vote would not be blind.
    """
    known = {p.id for p in pairing.pairs}
    for e in entries:
        assert e["probe"] in known and e["vote"] in (*VOTES, None), f"no vote on this pairing: {e}"
    lines = [
        {"probe": e["probe"], "vote": e["vote"], "left": "a" if pairing.left_is_a(actor, e["probe"]) else "b", "seq": e["seq"]}
        for e in entries
    ]
    return _add(folder, pairing, actor, session, lines)


def reveal(folder: Path, pairing: Pairing, actor: str) -> None:
    """Note that a reader has seen which side is which; this reader's votes end there."""
    if not revealed(read(folder, pairing), actor):
        _add(folder, pairing, actor, "", [{"revealed": True}])


def _add(folder: Path, pairing: Pairing, actor: str, session: str, lines: Sequence[Mapping[str, Any]]) -> int:
    """Add lines under a lock, in one write, and bring them to the disk."""
    path = path_of(folder, pairing)
    path.parent.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _drop_torn(file)
        size = file.seek(0, os.SEEK_END)
        events = read(folder, pairing)
        if any("vote" in line for line in lines) and revealed(events, actor):
            raise CurationError("the sides have been seen; a vote now would not be blind", "another reader can still vote")
        stored = {(e["session"], e.get("seq")) for e in events if e["actor"] == actor}
        new = [line for line in lines if "seq" not in line or (session, line["seq"]) not in stored]
        text = "" if size else json.dumps(_head(pairing, at), ensure_ascii=False) + "\n"
        text += "".join(
            json.dumps({**line, "actor": actor, "session": session, "at": at}, ensure_ascii=False) + "\n" for line in new
        )
        file.write(text.encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return len(new)


def _head(pairing: Pairing, at: str) -> dict[str, Any]:
    return {"a": pairing.a, "b": pairing.b, "pairs": len(pairing.pairs), "same": pairing.same, "at": at}


def _drop_torn(file: Any) -> None:
    """Cut off a last line without an end: a write that the machine did not live to finish, and nobody was told of."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(0)
    whole = file.read().rfind(b"\n") + 1
    if whole < size:
        file.truncate(whole)


# ---- what holds


def standing(events: Sequence[Mapping[str, Any]], actor: str) -> dict[str, str]:
    """Return {probe: "a", "b" or "tie"}: the last vote of one reader on each probe, unless it was taken back."""
    held: dict[str, str] = {}
    for e in events:
        if "vote" not in e or e["actor"] != actor:
            continue
        if e["vote"] is None:
            held.pop(e["probe"], None)
        else:
            right = "b" if e["left"] == "a" else "a"
            held[e["probe"]] = "tie" if e["vote"] == "tie" else e["left"] if e["vote"] == "left" else right
    return held


def readers(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return who has voted, in the order of their first votes."""
    return list(dict.fromkeys(e["actor"] for e in events if "vote" in e))


def revealed(events: Sequence[Mapping[str, Any]], actor: str) -> bool:
    return any(e.get("revealed") and e["actor"] == actor for e in events)


def left_chosen(events: Sequence[Mapping[str, Any]], actor: str) -> tuple[int, int]:
    """Return how often a reader's standing votes chose the left and the right side: a habit shows here."""
    last = {e["probe"]: e["vote"] for e in events if "vote" in e and e["actor"] == actor}
    return sum(v == "left" for v in last.values()), sum(v == "right" for v in last.values())


def together(votes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return {probe: "a", "b" or "tie"} of several readers: what most of those who chose on a probe chose."""
    balance: dict[str, int] = {}
    for held in votes:
        for probe, choice in held.items():
            balance[probe] = balance.get(probe, 0) + {"a": -1, "b": 1, "tie": 0}[choice]
    return {probe: "tie" if not sum_ else "b" if sum_ > 0 else "a" for probe, sum_ in balance.items()}


def outcome(pairing: Pairing, held: Mapping[str, str]) -> dict[str, Any]:
    """Return what votes prove: counts, the share of B among the decided ones, the sign test, and B minus A.

    p: exact two-sided sign test, ties left out. share: Wilson's 95 % interval. difference: the mean of +1 for B, -1 for
    A and 0 for a tie, with a 95 % interval from 10,000 draws of whole prompt groups.
    """
    voted = [p for p in pairing.pairs if p.id in held]
    a, b = (sum(held[p.id] == run for p in voted) for run in ("a", "b"))
    gain = np.array([{"a": -1.0, "b": 1.0, "tie": 0.0}[held[p.id]] for p in voted])
    p = mcnemar(b, a)
    verdict = "cannot tell" if p >= ALPHA or a == b else "b" if b > a else "a"
    return {
        "a": a,
        "b": b,
        "ties": len(voted) - a - b,
        "voted": len(voted),
        "pairs": len(pairing.pairs),
        "same": pairing.same,
        "p": p,
        "share": b / (a + b) if a + b else None,
        "wilson": list(wilson(b, a + b)),
        "difference": float(gain.mean()) if len(gain) else None,
        "interval": list(paired_bootstrap(gain, [x.group for x in voted])) if len(gain) else None,
        "verdict": verdict,
        "behaviours": {
            name: {run: sum(held[x.id] == run for x in voted if x.behaviour == name) for run in ("a", "b", "tie")}
            for name in dict.fromkeys(x.behaviour for x in voted)
        },
    }


def sentence(pairing: Pairing, found: Mapping[str, Any]) -> str:
    """Return the outcome in one sentence."""
    if not found["a"] + found["b"]:
        return f"No answer was preferred in {found['voted']} votes."
    low, high = found["wilson"]
    share = f"{pairing.b} was chosen in {found['b']} of {found['a'] + found['b']} decided votes"
    share += f" (95 %: {100 * low:.0f} to {100 * high:.0f} %)"
    chance = f"sign test p = {found['p']:.2g}"
    if found["verdict"] == "cannot tell":
        return f"Cannot tell from chance: {share}; {chance}."
    return f"{pairing.b if found['verdict'] == 'b' else pairing.a} is preferred beyond chance: {share}; {chance}."
