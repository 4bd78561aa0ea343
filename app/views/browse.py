"""Browse: filters, search, a page of rows with selection, the open row, verdicts on rows or on a whole filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from curation.errors import CurationError
from curation.model import SEVERITIES
from curation.store import Entry, Store

from .. import card, state, table

FILTERS = ("check", "severity", "family", "verdict", "split", "text", "regex", "order", "among")


def as_page() -> Any:
    return st.Page(page, title="Browse", icon=":material/table_rows:", url_path="browse")


def page() -> None:
    key = state.key_of(state.folder())
    if key is None:
        st.header("No rows yet", anchor=False)
        st.text("The Overview page says how to import some.")
        return
    _desk()


@st.fragment
def _desk() -> None:
    """Everything below the page title, in one fragment: a click here runs this function alone."""
    key = state.key_of(state.folder())
    assert key is not None, "rows versions are never removed"
    index = state.index_of(key)
    try:
        wanted = _filters(key, index)
        order = state.order_of(key, wanted)
    except CurationError as e:
        st.warning(f"{state.plain(e.what)}. {e.hint}.")
        return
    verdicts = state.verdicts_of(key)
    if not len(order):
        st.info("No row passes this filter. Take one of the conditions away." if wanted.narrows else "There are no rows.")
        _undo_button(key)
        return
    rows = state.page_of(order, _page_number(order))
    left, right = st.columns([11, 9], gap="medium")
    with left:
        bar = st.container()
        picked = table.rows_table(key, index, verdicts, rows, nonce=state.desk().table)
        if state.pages_in(order) > 1:
            st.pagination(state.pages_in(order), key="page", bind="query-params")
        with bar:
            _selection_bar(key, index, picked.rows, order, wanted)
    with right:
        _open_row(key, index, verdicts, order, picked.opened)


# ---- filters


def _first_page() -> None:
    if "page" in st.session_state:
        st.session_state["page"] = 1


def _filters(key: state.Key, index: state.Index) -> state.Filter:
    """Draw the filters, each bound to the URL, and return what they say."""
    def many(column: Any, label: str, options: Sequence[str], name: str, hint: str) -> tuple[str, ...]:
        return tuple(column.multiselect(label, list(options), key=name, bind="query-params", on_change=_first_page,
                                        placeholder=hint))

    with st.container(key="filters"):
        a, b, c, d = st.columns([5, 4, 3, 3])
        text = a.text_input("Search all turns", key="text", bind="query-params", max_chars=state.QUERY, on_change=_first_page,
                            placeholder="words, or a regular expression", type="search") or ""
        check = many(b, "Check", sorted(index.flag_check.names), "check", "any check")
        family = many(c, "Family", list(index.family.counts()), "family", "any family")
        split = many(d, "Split", list(index.split.counts()), "split", "any split")
        a, b, c, d = st.columns([4, 5, 2, 4], vertical_alignment="bottom")
        severity = a.pills("Severity", SEVERITIES, selection_mode="multi", key="severity", bind="query-params",
                           on_change=_first_page)
        verdict = b.pills("Verdict", state.STATES, selection_mode="multi", key="verdict", bind="query-params",
                          on_change=_first_page)
        regex = c.toggle("Regex", key="regex", bind="query-params", on_change=_first_page,
                         help="RE2 syntax, any case. Off: the characters as they are.")
        order = d.selectbox("Order", state.ORDERS, key="order", bind="query-params", on_change=_first_page)
    return state.Filter(check, tuple(severity), family, tuple(verdict), split, text.strip(), regex, order or state.ORDERS[0],
                        _among(key))


def _among(key: state.Key) -> str:
    """Return the name of the kept set of rows in the URL, "" for none; say what it is, with a button that leaves it."""
    name = st.query_params.get("among", "")
    if not name:
        return ""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="among_bar"):
        st.button("Show all rows", key="among-leave", icon=":material/close:", on_click=_leave)
        picked = state.kept(key, name)
        gone = f", {picked.gone:,} of it no longer in the set" if picked.gone else ""
        st.markdown(f"Among **{len(picked.rows):,} rows**: {state.plain(picked.words)}{gone}")
    return name


def _leave() -> None:
    st.query_params.pop("among", None)
    _first_page()


def _page_number(order: np.ndarray) -> int:
    """Return the page on screen; a page that the filter no longer has becomes the last one."""
    pages = state.pages_in(order)
    if st.session_state.get("page", 1) > pages:
        st.session_state["page"] = pages
    given = st.query_params.get("page", "1")
    number = st.session_state.get("page") or (int(given) if given.isdigit() else 1)
    return max(1, min(pages, number))


# ---- verdicts on many rows


def _selection_bar(key: state.Key, index: state.Index, rows: Sequence[int], order: np.ndarray, wanted: state.Filter) -> None:
    words = f"**{len(rows):,} selected** · {len(order):,} in this filter" if wanted.narrows else \
        f"**{len(rows):,} selected** · {len(order):,} rows"
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="selection_bar"):
        st.markdown(words, width="stretch")
        none = not rows
        st.button("Accept", key="accept_selected", disabled=none, icon=":material/check:",
                  on_click=_decide, args=(key, index, tuple(rows), "accept", _words("accept", len(rows))))
        st.button("Reject", key="reject_selected", disabled=none, icon=":material/close:",
                  on_click=_decide, args=(key, index, tuple(rows), "reject", _words("reject", len(rows))))
        with st.popover("All", icon=":material/select_all:", help="Decide on every row of this filter at once"):
            _whole_filter(key, index, order, wanted)
        _undo_button(key)
    desk = state.desk()
    st.caption(f"{desk.said[:1].upper()}{desk.said[1:]}." if desk.said
               else "Tick rows to decide on them together; click a cell to read its row.")


def _words(verdict: str, n: int) -> str:
    return f"{verdict} {n:,} {'row' if n == 1 else 'rows'}"


def _whole_filter(key: state.Key, index: state.Index, order: np.ndarray, wanted: state.Filter) -> None:
    n = len(order)
    st.markdown(f"**All {n:,} rows of this filter**, on every page"
                if wanted.narrows else f"**All {n:,} rows of the set**: no filter is set")
    st.caption("One action; one undo takes it back.")
    with st.container(horizontal=True):
        for verdict in ("accept", "reject"):
            st.button(f"{verdict.capitalize()} all {n:,}", key=f"{verdict}_filter", on_click=_decide,
                      args=(key, index, order, verdict, f"{_words(verdict, n)}, a whole filter"))


def _decide(key: state.Key, index: state.Index, rows: Sequence[int] | np.ndarray, verdict: str, words: str) -> None:
    """Store one verdict on many rows as one action. Rows are turned into uids here and only uids are stored."""
    desk = state.desk()
    desk.decide(Store(key.folder), [Entry(uid, verdict, "bulk" if len(rows) > 1 else "")
                                    for uid in state.uids_at(index, np.asarray(rows).tolist())], words)
    desk.table += 1


def _undo(key: state.Key) -> None:
    desk = state.desk()
    desk.undo(Store(key.folder))
    desk.table += 1


def _undo_button(key: state.Key) -> None:
    desk = state.desk()
    last = desk.done[-1][1] if desk.done else ""
    st.button("Undo", key="undo", disabled=not last, icon=":material/undo:", on_click=_undo, args=(key,),
              help=f"Takes back: {last}" if last else "Nothing was decided in this browser session")


# ---- the open row


def _opened(order: np.ndarray, clicked: int | None) -> int | None:
    """Return the row to show: the one just clicked, else the one in the URL; the URL then names it."""
    if clicked is not None:
        st.query_params["row"] = str(clicked)
        return clicked
    given = st.query_params.get("row", "")
    return int(given) if given.isdigit() else None


def _step(to: int) -> None:
    st.query_params["row"] = str(to)
    state.desk().table += 1


def _open_row(key: state.Key, index: state.Index, verdicts: state.Verdicts, order: np.ndarray, clicked: int | None) -> None:
    row = _opened(order, clicked)
    if row is None or row >= index.n:
        with st.container(border=True):
            st.markdown("**Click a cell to read its row here.**")
            st.caption("All turns, what the checks found and where, and the verdict. The address of the page then names "
                       "the row and the filter, so it can be shared.")
        return
    at = np.flatnonzero(order == row)
    place = int(at[0]) if len(at) else None
    uid = index.rows.slice(row, 1)["uid"][0].as_py()
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="row_bar"):
        previous = int(order[place - 1]) if place else None
        following = int(order[place + 1]) if place is not None and place + 1 < len(order) else None
        st.button("Back", key="previous", icon=":material/chevron_left:", disabled=previous is None, on_click=_step,
                  args=(previous,), help="The row before, in this filter and order")
        st.button("Next", key="next", icon=":material/chevron_right:", disabled=following is None, on_click=_step,
                  args=(following,), help="The row after, in this filter and order")
        st.button("Accept", key=f"accept-{uid}", icon=":material/check:", on_click=_one, args=(key, uid, row, "accept"))
        st.button("Reject", key=f"reject-{uid}", icon=":material/close:", on_click=_one, args=(key, uid, row, "reject"))
        if uid in verdicts.decisions:
            st.button("Undo", key=f"clear-{uid}", icon=":material/undo:", on_click=_take_back, args=(key, uid, row),
                      help="Takes the newest action on this row back; of a bulk action, this row alone")
    st.caption(f"{place + 1:,} of {len(order):,} in this filter" if place is not None else "This row is not in this filter.")
    long = bool(st.session_state.get(f"whole-{uid}"))
    seen = card.view(index, verdicts, row, state.spec_at(key.folder, key.spec), whole=10**9 if long else state.WHOLE,
                     editable=True)
    if seen["verdict"] and (decision := verdicts.decisions.get(uid)) and decision.reason not in ("", "bulk"):
        seen["why"] = f"{decision.actor}: {decision.reason}"
    card.show(seen, key=f"row-{uid}")
    if any("gap" in part for turn in seen["turns"] for part in turn["parts"]):
        st.toggle("Show the whole text", key=f"whole-{uid}")
    _edit_form(key, uid, row, seen["edit"])


def _one(key: state.Key, uid: str, row: int, verdict: str) -> None:
    state.desk().decide(Store(key.folder), [Entry(uid, verdict)], f"{verdict} row {row:,}")


def _take_back(key: state.Key, uid: str, row: int) -> None:
    """Undo the newest action that holds for a row when it is about this row alone, else clear this row's verdict."""
    desk = state.desk()
    log = Store(key.folder).verdicts
    holding = [a for a in log.history(uid) if not a["undone"] and a["undoes"] is None]
    if not holding:
        return
    whole = next(a for a in log.history() if a["id"] == holding[0]["id"])
    if whole["rows"] == 1:
        log.undo(holding[0]["id"], actor=desk.actor)
        desk.done = [d for d in desk.done if d[0] != holding[0]["id"]]
        desk.said = f"undone: {whole['note'] or whole['kind']}"
    else:
        log.append([Entry(uid, "clear", f"taken out of action {whole['id']}")], actor=desk.actor, kind=whole["kind"],
                   note=f"row {row} taken out of action {whole['id']}")
        desk.said = f"row {row:,} taken out of: {whole['note'] or whole['kind']}"


def _edit_form(key: state.Key, uid: str, row: int, fields: dict[str, str]) -> None:
    with st.expander("Edit this row"):
        if any(len(text) > 200_000 for text in fields.values()):
            st.text("This row is too long to edit in the browser (over 200,000 characters).")
            return
        with st.form(f"edit-{uid}-{key.log}", border=False):
            for name, text in fields.items():
                st.text_area(name, text, key=f"edit-{uid}-{key.log}-{name}", height=160 if name == "response" else 80)
            st.form_submit_button("Save", icon=":material/save:", on_click=_save, args=(key, uid, row, fields),
                                  help="The row counts as accepted with this text; the checks look at it again.")


def _save(key: state.Key, uid: str, row: int, fields: dict[str, str]) -> None:
    now = {name: st.session_state[f"edit-{uid}-{key.log}-{name}"] for name in fields}
    changed = [Entry(uid, "edit", "", name, fields[name], text) for name, text in now.items() if text != fields[name]]
    desk = state.desk()
    if changed:
        desk.decide(Store(key.folder), changed, f"edit row {row:,}")
    else:
        desk.said = "nothing was changed"
