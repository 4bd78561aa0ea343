"""Deciding on many rows at once: the bar above the table, tags, proposed texts with a preview, one undo for each action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from curation.store import TAGGING, Entry, Store

from . import changes, fixes, state

TAG = 40            # characters a tag may have
SHOWN = 5           # repairs that the preview shows


@dataclass(frozen=True)
class Scope:
    """What a bulk action is about: rows that are ticked, or every row of the filter."""

    picked: tuple[int, ...]
    order: np.ndarray       # (k,) int64: rows of the filter
    narrows: bool           # the filter leaves rows out

    @property
    def words(self) -> str:
        whole = f"{len(self.order):,} in this filter" if self.narrows else f"{len(self.order):,} rows"
        return f"**{len(self.picked):,} selected** · {whole}"


def bar(key: state.Key, index: state.Index, scope: Scope) -> None:
    """Draw how many rows are selected and what can be done with them."""
    n = len(scope.picked)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="selection_bar"):
        st.markdown(scope.words, width="stretch")
        for verdict, icon in (("accept", "check"), ("reject", "close")):
            st.button(verdict.capitalize(), key=f"{verdict}_selected", disabled=not n, icon=f":material/{icon}:",
                      on_click=_decide, args=(key, index, scope.picked, verdict, _words(verdict, n)))
        with st.popover("All", icon=":material/select_all:", help="Decide on every row of this filter at once"):
            _whole_filter(key, index, scope)
        with st.popover("Tag", icon=":material/label:", help="Put a word on rows, or take it off"):
            _tagging(key, index, scope)
        if st.button("Fixes", key="fixes", icon=":material/build:", help="Take texts that checks propose, after a look at them"):
            _fixes(key, scope)
        undo_button(key)
    desk = state.desk()
    st.caption(f"{desk.said[:1].upper()}{desk.said[1:]}." if desk.said
               else "Tick rows to decide on them together; click a cell to read its row.")


def _words(verdict: str, n: int) -> str:
    return f"{verdict} {n:,} {'row' if n == 1 else 'rows'}"


def _whole_filter(key: state.Key, index: state.Index, scope: Scope) -> None:
    n = len(scope.order)
    st.markdown(f"**All {n:,} rows of this filter**, on every page"
                if scope.narrows else f"**All {n:,} rows of the set**: no filter is set")
    st.caption("One action; one undo takes it back.")
    with st.container(horizontal=True):
        for verdict in ("accept", "reject"):
            st.button(f"{verdict.capitalize()} all {n:,}", key=f"{verdict}_filter", on_click=_decide,
                      args=(key, index, scope.order, verdict, f"{_words(verdict, n)}, a whole filter"))


def _decide(key: state.Key, index: state.Index, rows: Sequence[int] | np.ndarray, verdict: str, words: str) -> None:
    """Store one verdict on many rows as one action. Rows are turned into uids here and only uids are stored."""
    desk = state.desk()
    desk.decide(Store(key.folder), [Entry(uid, verdict, "bulk" if len(rows) > 1 else "")
                                    for uid in state.uids_at(index, np.asarray(rows).tolist())], words)
    desk.table += 1


def undo(key: state.Key) -> None:
    desk = state.desk()
    desk.undo(Store(key.folder))
    desk.table += 1


def undo_button(key: state.Key) -> None:
    desk = state.desk()
    last = desk.done[-1][1] if desk.done else ""
    st.button("Undo", key="undo", disabled=not last, icon=":material/undo:", on_click=undo, args=(key,),
              help=f"Takes back: {state.plain(last)}" if last else "Nothing was decided in this browser session")


# ---- tags


def _tagging(key: state.Key, index: state.Index, scope: Scope) -> None:
    known = state.tags_of(key)
    tag = st.selectbox("Tag", list(known), key="tag_word", index=None, accept_new_options=True, placeholder="a word of yours",
                       help=f"Up to {TAG} characters. Tags decide nothing; the filter above finds them again.")
    tag = " ".join(str(tag or "").split())[:TAG]
    st.caption("One action; one undo takes it back.")
    for name, rows in (("selected", np.array(scope.picked, np.int64)), ("of this filter", scope.order)):
        with st.container(horizontal=True):
            place = name.split()[0]
            st.button(f"Tag the {len(rows):,} {name}", key=f"tag_{place}", disabled=not tag or not len(rows),
                      on_click=_tag, args=(key, index, rows, tag, "tag"))
            held = rows[known[tag][rows]] if tag in known and len(rows) else np.zeros(0, np.int64)
            st.button(f"Take it off {len(held):,}", key=f"untag_{place}", disabled=not len(held),
                      on_click=_tag, args=(key, index, held, tag, "untag"))


def _tag(key: state.Key, index: state.Index, rows: np.ndarray, tag: str, verdict: str) -> None:
    desk = state.desk()
    what = "row" if len(rows) == 1 else "rows"
    words = f"tag {len(rows):,} {what} “{tag}”" if verdict == "tag" else f"take the tag “{tag}” off {len(rows):,} {what}"
    desk.decide(Store(key.folder), [Entry(uid, verdict, after=tag) for uid in state.uids_at(index, rows.tolist())],
                words, kind=TAGGING)
    desk.table += 1


# ---- proposed texts


@st.dialog("Take proposed texts", width="large")
def _fixes(key: state.Key, scope: Scope) -> None:
    index, verdicts = state.index_of(key), state.verdicts_of(key)
    where = {f"{len(scope.picked):,} selected": np.array(scope.picked, np.int64),
             f"{len(scope.order):,} in this filter": scope.order}
    chosen = st.radio("Rows", list(where), index=0 if scope.picked else 1, horizontal=True, key="fixes_rows")
    found = fixes.proposed(index, verdicts, where[chosen])
    if not len(found):
        st.text("No check proposes a text for these rows, or they are decided already.")
        return
    counts = fixes.by_check(index, found)
    checks = st.multiselect("Of these checks", list(counts), default=list(counts), key="fixes_checks",
                            format_func=lambda c: f"{c} ({counts[c]:,})")
    found = fixes.proposed(index, verdicts, where[chosen], tuple(checks)) if checks else found[:0]
    n = len(found)
    st.caption(f"The first {min(SHOWN, n)} of {n:,}. What goes is struck out, what comes is underlined. Rows that are rejected, "
               "accepted or edited are left alone; of several proposals for one text the surest is taken.")
    changes.show(fixes.preview(index, found, SHOWN), key="fixes_preview")
    if st.button(f"Take {n:,} texts" if n != 1 else "Take this text", key="fixes_take", type="primary", disabled=not n):
        desk = state.desk()
        words = f"take {n:,} proposed {'text' if n == 1 else 'texts'}"
        desk.decide(Store(key.folder), fixes.entries(index, found), words, kind="fix")
        desk.table += 1
        st.rerun()
