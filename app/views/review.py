"""Review: one row after the other from a queue, decided by keys in the browser, stored in order."""

from __future__ import annotations

import getpass
import os
from typing import Any

import numpy as np
import streamlit as st

from curation import agreement
from curation import review as queues
from curation.similar import similar_to
from curation.store import Store

from .. import card, sitting, state
from . import browse

BEFORE, AFTER = 15, 60      # rows of the queue that the browser holds around the place
WHOLE = 4_000               # characters of a turn on the card; spans beyond are shown with their surroundings
LIMIT = 5_000               # rows taken into a queue at a time
HANDED = 100                # rows like a row that Browse gets
LAST = 8                    # verdicts listed to be taken back
NAME = 60                   # characters of a reader's name
ANY = "any check"
#: Why a queue is empty, where the reason is another than that its flags are decided.
EMPTY = {
    "conflicts": "No two open rows answer one prompt differently.", "fixes": "No open flag carries a repair.",
    "dropped": "The policy has rejected no row.", "random": "Every row is decided.",
    "failed": "No run has failed probes with rows near them: a run asked the battery on the Train page fills this queue.",
    "hard": "No run has left losses of its rows: training on the Train page fills this queue.",
    "second": "Nothing waits for a second reading by this reader: rows come here once somebody else has decided some, "
              "drawn by chance.",
    "disagreement": "No two readers disagree on a row.",
}
ELSEWHERE = ("What the checks miss is found under “Random rows, for what is missed”, what the policy judged wrongly under "
             "“Dropped by the policy”.")


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
    key = state.held_key()
    way = st.session_state.setdefault("way", sitting.Way())
    _take(key, way)
    left, right = st.columns([11, 4], gap="large")
    with right:
        name, check, again = _choice(key)
    held = way.sittings.get(way.now)
    stamp = state.short_hash(key.rows_hash, key.flags)
    who = state.desk().actor
    if held is None or (held.name, held.check) != (name, check) or again or st.session_state.get("reads") != (who, stamp):
        st.session_state["reads"] = (who, stamp)
        held = way.open(_opened(key, name, check, stamp, again))
    with left:
        if held.rows:
            _card(key, way, held)
        else:
            st.info(EMPTY.get(name, "No undecided row has such a flag.") + " " + ELSEWHERE)
    with right:
        _beside(key, held)


def _choice(key: state.Key) -> tuple[str, str, bool]:
    """Draw who reads and which queue, and return (queue, check, whether it shall be filled anew)."""
    desk = state.desk()
    usual = os.environ.get("CURATION_ACTOR") or getpass.getuser()
    if "reader" not in st.session_state:        # the name holds on every page, and in the address
        st.session_state["reader"] = st.query_params.get("reader", "" if desk.actor == usual else desk.actor)[:NAME]
    said = (st.text_input("Reader", key="reader", max_chars=NAME, placeholder=usual,
                          help="Verdicts are stored under this name. Empty: the login name.") or "").strip()
    desk.actor = said or usual
    if said != st.query_params.get("reader", ""):
        if said:
            st.query_params["reader"] = said
        else:
            del st.query_params["reader"]
    if "queue" not in st.session_state:
        st.session_state["queue"] = _named(st.query_params.get("queue", ""))
    name = st.selectbox("Queue", list(queues.QUEUES), key="queue", format_func=queues.TITLES.__getitem__)
    if name != st.query_params.get("queue", next(iter(queues.QUEUES))):     # the address has names, the box has titles
        st.query_params["queue"] = name
    st.session_state["last_queue"] = name
    check = ANY
    if name in queues.BY_CHECK:
        found = sorted(state.index_of(key).flag_check.names)
        check = st.selectbox("Check", [ANY, *found], key="of_check", bind="query-params") or ANY
    st.caption(queues.QUEUES[name].capitalize() + ".")
    again = st.button("Fill again", key="refill", icon=":material/refresh:",
                      help="Takes the queue from the folder anew; decided rows leave it only then")
    return name, "" if check == ANY else check, again


def _named(given: str) -> str:
    """Return the queue that the address names, else the one that was open last, else the first."""
    wanted = (given, st.session_state.get("last_queue", ""))
    return next((w for w in wanted if w in queues.QUEUES), next(iter(queues.QUEUES)))


def _opened(key: state.Key, name: str, check: str, stamp: str, again: bool) -> sitting.Sitting:
    """Return the reader's queue as it was left, in this browser or another, or a new one from the folder."""
    desk = state.desk()
    if not again and (found := sitting.restored(state.folder(), desk.actor, name, check, stamp)) is not None:
        return found
    with st.spinner("Filling the queue …"):
        lines = queues.queue(Store(key.folder), state.spec_at(key.folder, key.spec), name, LIMIT, check=check, reader=desk.actor)
    index = state.index_of(key)
    rows = [(e["row"], e["uid"], e["reason"]) for e in lines
            if e["row"] < index.n and index.rows.slice(e["row"], 1)["uid"][0].as_py() == e["uid"]]
    made = sitting.Sitting(name, state.short_hash(key, name, check, desk.session, desk.seq, os.urandom(8)), rows, check)
    if rows:
        made.begin(state.folder(), desk.actor, stamp)
    return made


def _take(key: state.Key, way: sitting.Way) -> None:
    """Store what the browser has decided, on the queue it was decided on."""
    said = (st.session_state.get("card") or {}).get("desk") or {}
    if said.get("parts"):
        way.take(said, Store(key.folder), state.desk())


def _card(key: state.Key, way: sitting.Way, held: sitting.Sitting) -> None:
    """Answer the card's question, then send it the window around its place."""
    now = state.held_key()
    index, spec = state.index_of(now), state.spec_at(now.folder, now.spec)
    said = (st.session_state.get("card") or {}).get("desk") or {}
    _answer(now, way, held, said.get("ask"))
    start = max(0, held.pos - BEFORE)
    window = held.rows[start: held.pos + AFTER]
    verdicts = state.verdicts_of(now)
    batch = []
    for row, uid, why in window:
        mark = (now.checked, now.spec, why, verdicts.decisions.get(uid), verdicts.edits.get(uid))
        known = held.cards.get(row)
        if known is None or known[0] != mark:
            seen = card.view(index, verdicts, row, spec, why=why, whole=WHOLE, boxes=True, blind=held.name == sitting.SECOND)
            known = held.cards[row] = (mark, seen)
        batch.append(known[1])
    for row in list(held.cards)[: -4 * (BEFORE + AFTER)]:
        del held.cards[row]
    card.review(batch, queue=held.id, start=start, pos=held.pos, total=len(held.rows), acked=way.acked(), told=held.told(),
                answer=way.answer, guide=sitting.guidelines(spec), blind=held.name == sitting.SECOND, decided=held.decided)


def _answer(key: state.Key, way: sitting.Way, held: sitting.Sitting, ask: dict[str, Any] | None) -> None:
    """Answer a question once; a question for the rows like a row leads to Browse."""
    if not ask or ask["n"] == way.asked or (ask["row"], ask["id"]) not in {(row, uid) for row, uid, _ in held.rows}:
        return
    way.asked = ask["n"]
    store, row = Store(key.folder), int(ask["row"])
    if ask["what"] != "browse":
        way.answer = sitting.answer(ask, store, state.spec_at(key.folder, key.spec), state.index_of(key))
        return
    found = [(row, 1.0), *similar_to(store, row, HANDED)]
    name = state.keep(key, np.array([i for i, _ in found]), f"rows like row {row:,}", np.array([s for _, s in found], np.float32))
    st.switch_page(browse.as_page(), query_params={"among": name})


# ---- beside the card


def _beside(key: state.Key, held: sitting.Sitting) -> None:
    store, desk = Store(key.folder), state.desk()
    if held.name == "sample":
        (found,) = _precision(held.check)
        st.caption(f"{held.check or 'All checks'}: {found.sentence}. Accept says that the flag is wrong.")
    if held.name in (sitting.SECOND, "disagreement"):
        st.caption(_agreed(key.folder, key.log))
    done = store.verdicts.recent(desk.actor, LAST)
    if done:
        st.markdown("**Last verdicts**")
    for action in done:
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"last-{action['id']}"):
            st.text(action["note"] or action["kind"], width="stretch")
            st.button("Undo", key=f"undo-{action['id']}", on_click=_take_back, args=(key.folder, action["id"]), type="tertiary",
                      help="Takes this one back, whatever came after it")


def _take_back(folder: str, action: int) -> None:
    desk, log = state.desk(), Store(folder).verdicts
    if log.holds(action):
        log.undo(action, actor=desk.actor)
    desk.done = [d for d in desk.done if d[0] != action]


def _precision(check: str) -> list[agreement.Precision]:
    key = state.held_key()
    return _precisions(key.folder, key.rows_hash, key.flags, key.spec, key.log, check)


@st.cache_data(max_entries=16, show_spinner=False)
def _precisions(folder: str, rows_hash: str, flags: int, spec: int, log: int, check: str) -> list[agreement.Precision]:
    """Return how often a check was found right, as of one state of rows, flags, spec and log."""
    return queues.precisions(Store(folder), state.spec_at(folder, spec), [check])


@st.cache_data(max_entries=16, show_spinner=False)
def _agreed(folder: str, log: int) -> str:
    """Return how far readers agree, as of one state of the log."""
    found = agreement.agreement(Store(folder))
    waiting = f" {found.open:,} disagreements wait for a decision." if found.open else ""
    return found.sentence + waiting
