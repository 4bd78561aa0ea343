"""History: who decided what and when, each action with its rows; any action can be taken back, and brought back."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from curation.store import Store

from .. import state

SHOWN = 500  # actions a page of the table


def as_page() -> Any:
    return st.Page(page, title="History", icon=":material/history:", url_path="history")


def page() -> None:
    folder = state.folder()
    if state.key_of(folder) is None:
        st.header("No history yet", anchor=False)
        st.text("Each verdict, accepted fix and policy run is kept here. Import rows first; the Overview page leads there.")
        return
    store = Store(folder)
    actions = pd.DataFrame(store.verdicts.history())
    if actions.empty:
        st.header("Nothing has been decided yet", anchor=False)
        st.text("Verdicts from the Review and Browse pages, the command line and the policy will be listed here.")
        return
    shown = _filtered(actions)
    st.caption(f"{len(shown):,} of {len(actions):,} actions. The log is only added to: an undo is an action of its own and can "
               "be undone as well.")
    picked = st.dataframe(
        shown.head(SHOWN), hide_index=True, key=f"history-{len(actions)}", on_select="rerun", selection_mode="single-row",
        column_order=["id", "at", "actor", "kind", "verdict", "rows", "note", "undone"], alt="Actions, newest first",
        column_config={"id": st.column_config.NumberColumn("action", width=70), "rows": st.column_config.NumberColumn(width=70),
                       "note": st.column_config.TextColumn(width=320)},
    )  # fmt: skip
    lines = picked["selection"]["rows"]
    if lines and lines[0] < len(shown):
        _one(store, shown.iloc[lines[0]])
    else:
        st.caption("Tick an action to see its rows and to take it back.")


def _filtered(actions: pd.DataFrame) -> pd.DataFrame:
    """Draw the filters and return the actions that pass them, newest first."""
    one, two, three = st.columns([2, 2, 3])
    who = one.selectbox("By", ["everybody", *sorted(actions["actor"].unique())], key="history_actor")
    kind = two.selectbox("Kind", ["every kind", *sorted(actions["kind"].unique())], key="history_kind")
    uid = three.text_input("Row number or uid", key="history_row", help="The timeline of one row").strip()
    if uid:
        store = Store(state.folder())
        known = store.rows(columns=["uid"])["uid"]
        if uid.isdigit() and int(uid) < len(known):
            uid = known[int(uid)].as_py()
        mine = {a["id"] for a in store.verdicts.history(uid)}
        actions = actions[actions["id"].isin(mine)]
    held = pd.Series(True, index=actions.index)
    if who != "everybody":
        held &= actions["actor"] == who
    if kind != "every kind":
        held &= actions["kind"] == kind
    return actions[held]


def _one(store: Store, action: pd.Series) -> None:
    """Show one action's rows with what was written, and the button that takes it back."""
    number = int(action["id"])
    entries = store.verdicts.entries(number, limit=100)
    st.subheader(f"Action {number}", anchor=False)
    if entries:
        frame = pd.DataFrame(entries)[["uid", "verdict", "field", "before", "after", "reason", "check_id"]]
        st.dataframe(frame.dropna(axis=1, how="all"), hide_index=True, key=f"entries-{number}", alt="Rows of the action")
    if int(action["rows"]) > len(entries):
        st.caption(f"the first {len(entries)} of {int(action['rows']):,} rows")
    if action["undone"]:
        st.text("This action is undone. Undo the action that undid it to bring it back.")
        return
    if st.button(f"Take action {number} back", key="history_undo", icon=":material/undo:"):
        store.verdicts.undo(number, actor=state.desk().actor)
        st.rerun()
