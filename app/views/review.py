"""Review: one row after the other from a queue, decided by keys in the browser, stored in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from curation import review as queues
from curation.store import Entry, Store

from .. import card, state

BEFORE, AFTER = 15, 60      # rows of the queue that the browser holds around the place
WHOLE = 4_000               # characters of a turn on the card; spans beyond are shown with their surroundings
LIMIT = 5_000               # rows taken into a queue at a time


@dataclass
class Sitting:
    """One queue being worked through by one browser session; changed in place, so nothing falls between two steps."""

    name: str
    id: str                                     # differs for each filling of a queue
    rows: list[tuple[int, str, str]]            # (row, uid, why), in order
    acked: int = 0                              # newest log number of the browser that is stored
    pos: int = 0
    actions: list[tuple[str, int | None]] = field(default_factory=list)     # (uid, action or None for a skip)
    decided: int = 0

    def take(self, log: Sequence[dict[str, Any]], store: Store, desk: state.Desk) -> None:
        """Store what the browser has decided and not yet been told of, in its order."""
        for entry in sorted(log, key=lambda e: e["seq"]):
            if entry["seq"] > self.acked:
                self._one(entry, store, desk)
                self.acked = entry["seq"]

    def _one(self, entry: dict[str, Any], store: Store, desk: state.Desk) -> None:
        uid, verdict = entry["id"], entry["verdict"]
        place = next((k for k, r in enumerate(self.rows) if r[1] == uid), None)
        assert place is not None, f"the browser named a row that is not in the queue: {uid}"
        row = self.rows[place][0]
        if verdict is None:
            self._undo(uid, store, desk)
        elif verdict == "skip":
            self.rows.append(self.rows[place])
            self.actions.append((uid, None))
        elif verdict == "edit":
            fields = {k: v for k, v in entry["fields"].items() if k in ("instruction", "input", "response")}
            before = store.rows().slice(row, 1)
            self._stored(uid, store, desk, f"edit row {row:,}", [
                Entry(uid, "edit", "", name, before[name][0].as_py(), text) for name, text in fields.items()])
        else:
            assert verdict in ("accept", "reject"), verdict
            self._stored(uid, store, desk, f"{verdict} row {row:,}", [Entry(uid, verdict, entry.get("reason", ""))])

    def _stored(self, uid: str, store: Store, desk: state.Desk, words: str, entries: list[Entry]) -> None:
        self.actions.append((uid, desk.decide(store, entries, words)))
        self.decided += 1

    def _undo(self, uid: str, store: Store, desk: state.Desk) -> None:
        at = next((k for k in reversed(range(len(self.actions))) if self.actions[k][0] == uid), None)
        if at is None:
            return
        _, action = self.actions.pop(at)
        if action is None:
            self.rows.pop()
            return
        self.decided -= 1
        if any(d[0] == action for d in desk.done):
            store.verdicts.undo(action, actor=desk.actor)
            desk.done = [d for d in desk.done if d[0] != action]
            desk.said = "undone on the card"


def as_page() -> Any:
    return st.Page(page, title="Review", icon=":material/rate_review:", url_path="review")


def page() -> None:
    key = state.key_of(state.folder())
    if key is None or not state.index_of(key).checked:
        st.header("Nothing to review yet", anchor=False)
        st.text("A queue is made from flags. Run the checks first; the Overview page has the button.")
        return
    _desk()


@st.fragment
def _desk() -> None:
    key = state.key_of(state.folder())
    assert key is not None, "rows versions are never removed"
    left, right = st.columns([11, 4], gap="large")
    with right:
        name = st.selectbox("Queue", list(queues.QUEUES), key="queue", bind="query-params") or next(iter(queues.QUEUES))
        st.caption(queues.QUEUES[name].capitalize() + ".")
        again = st.button("Fill again", key="refill", icon=":material/refresh:",
                          help="Takes the queue from the folder anew; decided rows leave it only then")
    sitting = st.session_state.get("sitting")
    if sitting is None or sitting.name != name or again:
        sitting = st.session_state["sitting"] = _fill(key, name)
    with left:
        if sitting.rows:
            _card(key, sitting)
        else:
            st.info("This queue is empty. Choose another one.")
    with right:
        _last(sitting)


def _fill(key: state.Key, name: str) -> Sitting:
    with st.spinner("Filling the queue …"):
        found = queues.queue(Store(key.folder), state.spec_at(key.folder, key.spec), name, LIMIT)
    index = state.index_of(key)
    rows = [(e["row"], e["uid"], e["reason"]) for e in found
            if e["row"] < index.n and index.rows.slice(e["row"], 1)["uid"][0].as_py() == e["uid"]]
    return Sitting(name, state.short_hash(key, name, state.desk().seq), rows)


def _card(key: state.Key, sitting: Sitting) -> None:
    """Take what the browser has decided, then send it the window around its place."""
    desk = state.desk()
    said = (st.session_state.get("card") or {}).get("desk") or {}
    if said.get("queue") == sitting.id:
        sitting.take(said["log"], Store(key.folder), desk)
        sitting.pos = max(0, min(len(sitting.rows), int(said["pos"])))
    now = state.key_of(state.folder())
    assert now is not None, "rows versions are never removed"
    index, verdicts = state.index_of(now), state.verdicts_of(now)
    spec = state.spec_at(now.folder, now.spec)
    start = max(0, sitting.pos - BEFORE)
    batch = [card.view(index, verdicts, row, spec, why=why, whole=WHOLE, editable=True)
             for row, _, why in sitting.rows[start: sitting.pos + AFTER]]
    card.review(batch, queue=sitting.id, start=start, pos=sitting.pos, total=len(sitting.rows), acked=sitting.acked)


def _last(sitting: Sitting) -> None:
    desk = state.desk()
    st.caption(f"{sitting.decided:,} decided in this sitting.")
    if desk.done:
        st.markdown("**Last verdicts**")
        st.text("\n".join(words for _, words, _ in reversed(desk.done[-10:])))
