"""The blind choice component: two answers side by side, chosen by keys in the browser; which run is where stays here."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st
from curation.train import votes
from curation.train.votes import Pair, Pairing

from . import answers
from .component import component

BEFORE, AFTER = 15, 40      # pairs that the browser holds around the place

@dataclass
class Sitting:
    """The pairs that one browser session works through; changed in place, so nothing falls between two steps."""

    pairing: Pairing
    actor: str
    pairs: list[Pair]
    voted_before: int
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    acked: int = 0              # newest number of the browser's log that is stored
    pos: int = 0

    @property
    def id(self) -> str:
        return f"{self.pairing.id}-{self.session}"

    def take(self, folder: Path, log: Sequence[dict[str, Any]]) -> int:
        """Store what the browser has chosen and was not told of, in its order; return how many votes were new."""
        new = sorted((e for e in log if e["seq"] > self.acked), key=lambda e: e["seq"])
        for e in new:
            if e["vote"] == "skip":
                self.pairs.append(next(p for p in self.pairs if p.id == e["probe"]))
            elif e["vote"] is None and e.get("was") == "skip":
                self.pairs.pop()
        told = [e for e in new if e["vote"] != "skip" and e.get("was") != "skip"]
        if told:
            votes.append(folder, self.pairing, self.actor, self.session, told)
        self.acked = max([self.acked, *(e["seq"] for e in new)])
        return len(told)


def sit(folder: Path, pairing: Pairing, actor: str) -> Sitting:
    """Return a sitting over what this reader has not voted on yet, in this reader's order."""
    held = votes.standing(votes.read(folder, pairing), actor)
    return Sitting(pairing, actor, [p for p in pairing.order(actor) if p.id not in held], len(held))


def view(sitting: Sitting, pair: Pair) -> dict[str, Any]:
    """Return what the browser gets of a pair: the turns, and the two answers by side alone."""
    left, right = (pair.a, pair.b) if sitting.pairing.left_is_a(sitting.actor, pair.id) else (pair.b, pair.a)
    return {"id": pair.id, "turns": [{"role": r, "text": answers.cut(t)} for r, t in pair.turns],
            "left": answers.cut(left), "right": answers.cut(right)}


def show(sitting: Sitting, *, key: str) -> None:
    """Draw the choice, with a window of pairs around the place."""
    start = max(0, sitting.pos - BEFORE)
    batch = [view(sitting, p) for p in sitting.pairs[start: sitting.pos + AFTER]]
    component("answers", "ca-answers")(
        key=key, height="content", on_desk_change=lambda: None, default={"desk": None},
        data={"mode": "choose", "batch": batch, "queue": sitting.id, "start": start, "pos": sitting.pos,
              "total": len(sitting.pairs), "acked": sitting.acked, "before": sitting.voted_before})


def told(key: str, sitting: Sitting) -> list[dict[str, Any]]:
    """Return the browser's log for this sitting, and follow its place."""
    said = (st.session_state.get(key) or {}).get("desk") or {}
    if said.get("queue") != sitting.id:
        return []
    sitting.pos = max(0, min(len(sitting.pairs), int(said["pos"])))
    return list(said["log"])
