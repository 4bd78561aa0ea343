"""History: who decided what and when, each action with its rows, the timeline of a row; any action can be taken back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from curation.store import Store

from .. import changes, state

PAGE = 100          # actions a page of the table
ENTRIES = 100       # rows of an action that are listed
HANDED = 100_000    # rows of an action that Browse can be asked to show
STEPS = 50          # entries of a row's timeline that are drawn


def as_page() -> Any:
    return st.Page(page, title="History", icon=":material/history:", url_path="history")


def page() -> None:
    key = state.key_of(state.folder())
    if key is None:
        st.header("No history yet", anchor=False)
        st.text("Each verdict, accepted fix and policy run is kept here. Import rows first; the Overview page leads there.")
        return
    if not key.log:
        st.header("Nothing has been decided yet", anchor=False)
        st.text("Verdicts from the Review and Browse pages, the command line and the policy will be listed here.")
        return
    _desk()


@st.cache_resource(max_entries=2, show_spinner="Reading the log …")
def _actions(folder: str, log: int) -> pd.DataFrame:
    """Return every action, newest first, with the state of the log at action `log`."""
    found = pd.DataFrame(Store(folder).verdicts.history())
    found["at"] = pd.to_datetime(found["at"])
    found["day"] = found["at"].dt.strftime("%Y-%m-%d")
    found["what"] = np.where(found["undoes"].notna(), "undo", found["verdict"].fillna(""))
    return found


@st.fragment
def _desk() -> None:
    key = state.held_key()
    actions = _actions(key.folder, key.log)
    uid = ""
    with st.container(key="filters"):
        shown, uid = _filtered(key, actions)
    if uid:
        _timeline(key, uid)
    st.caption(f"{len(shown):,} of {len(actions):,} actions. The log is only added to: an undo is an action of its own and "
               "can be undone as well. Times are UTC.")
    pages = max(1, -(-len(shown) // PAGE))
    if st.session_state.get("history_page", 1) > pages:
        st.session_state["history_page"] = pages
    at = (st.session_state.get("history_page", 1) - 1) * PAGE
    part = shown.iloc[at: at + PAGE]
    picked = st.dataframe(      # the key holds what decides which action stands where
        part, hide_index=True, key=f"history-{state.short_hash(key.log, part['id'].tolist())}", on_select="rerun",
        selection_mode="single-row", alt="Actions, newest first",
        column_order=["id", "at", "actor", "kind", "what", "rows", "note", "undone"],
        column_config={"id": st.column_config.NumberColumn("action", width=70),
                       "at": st.column_config.DatetimeColumn("at", format="YYYY-MM-DD HH:mm:ss", width=150),
                       "actor": st.column_config.TextColumn("by", width=110), "kind": st.column_config.TextColumn(width=80),
                       "what": st.column_config.TextColumn(width=70), "rows": st.column_config.NumberColumn(width=70),
                       "note": st.column_config.TextColumn("in words", width=380),
                       "undone": st.column_config.CheckboxColumn(width=70)})
    if pages > 1:
        st.pagination(pages, key="history_page")
    lines = picked["selection"]["rows"]
    if lines and lines[0] < len(part):
        _one(key, actions, part.iloc[lines[0]])
    else:
        st.caption("Tick an action to see its rows and to take it back.")


def _filtered(key: state.Key, actions: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Draw the filters; return the actions that pass them, newest first, and the uid asked for ("" = none)."""
    def first() -> None:
        st.session_state["history_page"] = 1

    def choice(column: Any, label: str, values: Any, name: str) -> str | None:
        held: str | None = column.selectbox(label, sorted(values), key=name, index=None, placeholder="any", on_change=first,
                                            bind="query-params")
        return held

    a, b, c, d, e, f = st.columns([3, 2, 2, 2, 4, 3])
    who = choice(a, "By", actions["actor"].unique(), "history_actor")
    kind = choice(b, "Kind", actions["kind"].unique(), "history_kind")
    what = choice(c, "What", set(actions["what"]) - {""}, "history_what")
    day = choice(d, "Day", actions["day"].unique(), "history_day")
    words = (e.text_input("In words", key="history_words", on_change=first, bind="query-params") or "").strip()
    asked = (f.text_input("Row number or uid", key="history_row", help="The timeline of one row", on_change=first,
                          bind="query-params") or "").strip()
    held = np.ones(len(actions), bool)
    for column, value in (("actor", who), ("kind", kind), ("what", what), ("day", day)):
        if value is not None:
            held &= (actions[column] == value).to_numpy()
    if words:
        held &= actions["note"].str.contains(words, case=False, regex=False).to_numpy()
    uid = ""
    if asked:
        rows = state.index_of(key).rows["uid"]
        uid = rows[int(asked)].as_py() if asked.isdigit() and int(asked) < len(rows) else asked
        mine = {t["action"] for t in Store(key.folder).verdicts.timeline(uid)}
        held &= (actions["id"].isin(mine) | actions["undoes"].isin(mine)).to_numpy()
    return actions[held], uid


def _timeline(key: state.Key, uid: str) -> None:
    """Draw everything that was ever written of one row, newest first, edits as word diffs."""
    steps = Store(key.folder).verdicts.timeline(uid)
    st.subheader("This row's timeline", anchor=False)
    if not steps:
        st.text("Nothing was ever decided on this row.")
        return
    drawn = []
    for s in steps[:STEPS]:
        about = f"“{s['after']}”" if s["verdict"] in ("tag", "untag") else s["field"] or ""
        what = f"{s['verdict']} {about}".strip()
        undone = f" · undone by {s['undone_by']}, {_when(s['undone_at'])}" if s["undone"] else ""
        say = " · ".join(x for x in (s["check_id"], s["reason"]) if x)
        parts = changes.parts_of(s["before"] or "", s["after"] or "") if s["verdict"] == "edit" else []
        drawn.append({"head": f"{_when(s['at'])} · {s['actor']} ({s['kind']}) · {what} · action {s['action']}{undone}",
                      "say": say, "parts": parts})
    changes.show(drawn, key="timeline")
    if len(steps) > STEPS:
        st.caption(f"The newest {STEPS} of {len(steps):,}.")


def _when(at: str) -> str:
    return f"{at[:10]} {at[11:16]}"


def _one(key: state.Key, actions: pd.DataFrame, action: pd.Series) -> None:
    """Show one action's rows with what was written, and the button that takes it back or brings it back."""
    number = int(action["id"])
    entries = Store(key.folder).verdicts.entries(number, limit=ENTRIES)
    st.subheader(f"Action {number}", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        undos = actions[(actions["undoes"] == number) & ~actions["undone"]]
        if not action["undone"]:
            st.button(f"Take action {number} back", key="history_undo", icon=":material/undo:", on_click=_undo,
                      args=(key, number))
        elif len(undos):
            st.button(f"Bring action {number} back", key="history_undo", icon=":material/redo:", on_click=_undo,
                      args=(key, int(undos["id"].iloc[0])), help="Takes back the action that undid it")
        if entries and st.button("Show its rows in Browse", key="history_rows", icon=":material/table_rows:"):
            _browse(key, number)
    if entries:
        where = rows_at(state.index_of(key).rows, [e["uid"] for e in entries])
        frame = pd.DataFrame(entries)
        frame.insert(0, "row", [where.get(u) for u in frame["uid"]])
        columns = ["row", "verdict", "field", "before", "after", "reason", "check_id", "uid"]
        st.dataframe(frame[columns].dropna(axis=1, how="all"), hide_index=True, key=f"entries-{number}", alt="Rows of the action")
    if int(action["rows"]) > len(entries):
        st.caption(f"The first {len(entries)} of {int(action['rows']):,} entries.")


def rows_at(rows: pa.Table, uids: list[str]) -> dict[str, int]:
    """Return {uid: row number} of the uids that this version of the rows has."""
    at = np.flatnonzero(pc.is_in(rows["uid"], value_set=pa.array(uids, pa.string())).to_numpy())
    return dict(zip(rows["uid"].take(pa.array(at)).to_pylist(), at.tolist(), strict=True))


def _undo(key: state.Key, number: int) -> None:
    desk = state.desk()
    Store(key.folder).verdicts.undo(number, actor=desk.actor)
    desk.done = [d for d in desk.done if d[0] != number]


def _browse(key: state.Key, number: int) -> None:
    """Hand the rows of an action to Browse."""
    from . import browse

    uids = [e["uid"] for e in Store(key.folder).verdicts.entries(number, limit=HANDED)]
    rows = np.array(sorted(rows_at(state.index_of(key).rows, uids).values()), np.int64)
    name = state.keep(key, rows, f"rows of action {number}")
    st.switch_page(browse.as_page(), query_params={"among": name})
