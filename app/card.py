"""The card component: rows as inert text with flagged spans, and the keys of a review, handled in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.spec import Spec

from .component import component
from .sitting import boxes_of, pieces
from .state import Index, Verdicts, one_row, turns_of, verdict_text

EDITABLE = 200_000      # characters of a row that can be edited in the browser
FLAGS_SHOWN = 60        # chips a card draws; the table says how many flags there are
REASONS = ("wrong answer", "unclear prompt", "duplicate", "wrong format", "should refuse", "should not refuse",
           "private data", "off policy", "other")


def view(
    index: Index, verdicts: Verdicts, row: int, spec: Spec, *, why: str = "", whole: int, editable: bool = False,
    boxes: bool = False, blind: bool = False,
) -> dict[str, Any]:
    """Return what the card draws of a row: plain values only, every text cut into pieces for text nodes.

    `whole`: characters of a turn shown at once. `editable` adds the full texts of the three views; `boxes` those of every
    turn and the repairs that flags carry, for editing in place; `blind` leaves out what was decided.
    """
    one, flags = one_row(index, verdicts, row, spec)
    flags = flags[:FLAGS_SHOWN]
    fields = {name: one[name][0].as_py() for name in ("instruction", "input", "response")}
    uid = one["uid"][0].as_py()
    if any(f["message"] in why for f in flags):
        why = ""        # the chips say it
    values = one.to_pylist()[0]
    parts = boxes_of(values) if boxes else []
    if sum(len(b["text"]) for b in parts) > EDITABLE:
        parts = []
    return {
        "id": uid, "row": row, "family": index.family.names[index.family.code[row]],
        "verdict": "" if blind else verdict_text(uid, verdicts), "why": why, "turns": turns_of(one, flags, whole),
        "flags": [{"check": f["check"], "severity": f["severity"], "score": f"{f['score']:.2f}", "message": f["message"],
                   "span": f["start"] is not None, **(_repair(f, fields) if parts else {})} for f in flags],
        "edit": {k: v for k, v in fields.items() if v or k == "response"} if editable else {}, "boxes": parts,
    }


def _repair(flag: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the repair that a flag proposes, with its word diff; nothing when it has none."""
    if flag["fix"] is None or flag["field"] not in fields:
        return {}
    return {"field": flag["field"], "fix": flag["fix"], "pieces": pieces(fields[flag["field"]] or "", flag["fix"])}


def show(row: dict[str, Any], *, key: str) -> None:
    """Draw one row to read."""
    component("card", "cw-card")(key=key, data={"mode": "read", "batch": [row]}, height="content")


def review(
    batch: Sequence[dict[str, Any]], *, queue: str, start: int, pos: int, total: int, acked: Mapping[str, int],
    told: Sequence[dict[str, Any]], answer: dict[str, Any] | None, guide: Sequence[dict[str, Any]], blind: bool, decided: int,
) -> None:
    """Draw the review card on a window of a queue; what the browser says is in the session state as card.desk.

    `start`: place in the queue of the first row of `batch`; `pos`: place shown at first; `acked`: newest message of each
    card that is stored; `told`: decisions that z takes back at first; `answer`: to the newest question; `guide`: the
    guidelines; `blind`: a second reading, without edits. The card says {"parts": [{"client", "log": [{"seq", "queue",
    "id", "verdict", ...}]}], "pos", "queue", "ask"}.
    """
    component("card", "cw-card")(
        key="card", height="content", on_desk_change=lambda: None, default={"desk": None},
        data={"mode": "review", "batch": list(batch), "queue": queue, "start": start, "pos": pos, "total": total,
              "acked": dict(acked), "told": list(told), "answer": answer, "guide": list(guide), "blind": blind,
              "decided": decided, "reasons": list(REASONS)})
