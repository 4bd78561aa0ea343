"""The card component: rows as inert text with flagged spans, and the keys of a review, handled in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from curation.spec import Spec

from .state import Index, Verdicts, one_row, turns_of, verdict_text

FLAGS_SHOWN = 60        # chips a card draws; the table says how many flags there are
REASONS = ("wrong answer", "unclear prompt", "duplicate", "wrong format", "should refuse", "should not refuse",
           "private data", "off policy", "other")

_HERE = Path(__file__).parent
_component: Any = None


def _card() -> Any:
    """Return the component, registered once a process."""
    global _component
    if _component is None:
        _component = st.components.v2.component(
            "curation_card", html="<div class='cw-card'></div>", css=(_HERE / "card.css").read_text(encoding="utf-8"),
            js=(_HERE / "card.js").read_text(encoding="utf-8"), isolate_styles=False)
    return _component


def view(
    index: Index, verdicts: Verdicts, row: int, spec: Spec, *, why: str = "", whole: int, editable: bool = False,
) -> dict[str, Any]:
    """Return what the card draws of a row: plain values only, every text cut into pieces for text nodes.

    `whole`: characters of a turn shown at once. `editable` adds the full texts of the fields one may edit.
    """
    one, flags = one_row(index, verdicts, row, spec)
    flags = flags[:FLAGS_SHOWN]
    fields = {name: one[name][0].as_py() for name in ("instruction", "input", "response")}
    uid = one["uid"][0].as_py()
    if any(f["message"] in why for f in flags):
        why = ""        # the chips say it
    return {
        "id": uid, "row": row, "family": index.family.names[index.family.code[row]],
        "verdict": verdict_text(uid, verdicts), "why": why, "turns": turns_of(one, flags, whole),
        "flags": [{"check": f["check"], "severity": f["severity"], "score": f"{f['score']:.2f}", "message": f["message"],
                   "span": f["start"] is not None} for f in flags],
        "edit": {k: v for k, v in fields.items() if v or k == "response"} if editable else {},
    }


def show(row: dict[str, Any], *, key: str) -> None:
    """Draw one row to read."""
    _card()(key=key, data={"mode": "read", "batch": [row]}, height="content")


def review(batch: Sequence[dict[str, Any]], *, queue: str, start: int, pos: int, total: int, acked: int) -> dict[str, Any]:
    """Draw the review card on a window of a queue and return what the browser has decided.

    `start`: place in the queue of the first row of `batch`; `pos`: place shown at first; `acked`: newest log number
    that is stored. The answer is {"log": [{"seq", "id", "verdict", ...}], "pos", "queue"}.
    """
    result = _card()(
        key="card", height="content", on_desk_change=lambda: None, default={"desk": None},
        data={"mode": "review", "batch": list(batch), "queue": queue, "start": start, "pos": pos, "total": total,
              "acked": acked, "reasons": list(REASONS)})
    return result.desk or {"log": [], "pos": pos, "queue": queue}
