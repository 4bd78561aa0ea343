"""Browse: filters, search, histograms, saved views, a page of rows with selection, the open row, verdicts on many rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from curation.errors import CurationError
from curation.measured import least
from curation.model import SEVERITIES
from curation.spec import CheckSettings
from curation.store import Entry, Store

from .. import bulk, card, editing, saved, spread, state, strip, table
from ..spread import Range

#: What the address of the page holds of a filter: parts that are widgets, each with its empty value, and the rest.
WIDGETS: dict[str, Any] = {"check": [], "severity": [], "family": [], "verdict": [], "split": [], "tag": [], "text": "",
                           "regex": False, "order": state.ORDERS[0]}
RANGE, AMONG, SIGNAL = "range", "among", "signal"
FILTERS = (*WIDGETS, RANGE, AMONG)
ALIKE = 50          # rows that "Similar" finds


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
    key = state.held_key()
    index = state.index_of(key)
    try:
        wanted = _filters(key, index)
        order = state.order_of(key, wanted)
    except CurationError as e:
        st.warning(f"{state.plain(e.what)}. {state.plain(e.hint)}.")
        return
    _strip(key, index, order, wanted)
    if len(wanted.check) == 1 and (known := least(wanted.check[0])):
        st.caption(state.plain(f"{wanted.check[0]}, measured on labelled data: {known}."))
    if not len(order):
        st.info("No row passes this filter. Take one of the conditions away." if wanted.narrows else "There are no rows.")
        bulk.undo_button(key)
        return
    verdicts = state.verdicts_of(key)
    rows = state.page_of(order, _page_number(order))
    bar = st.container()
    left, right = st.columns([11, 9], gap="medium")
    with left:
        picked = table.rows_table(key, index, verdicts, rows, nonce=state.desk().table, tags=state.tags_of(key),
                                  scores=_scores(key, wanted))
        if state.pages_in(order) > 1:
            st.pagination(state.pages_in(order), key="page", bind="query-params")
    with bar:
        bulk.bar(key, index, bulk.Scope(picked.rows, order, wanted.narrows))
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
        a, b, c, d, e = st.columns([5, 4, 3, 2, 2])
        text = a.text_input("Search all turns", key="text", bind="query-params", max_chars=state.QUERY, on_change=_first_page,
                            placeholder="words, or a regular expression", type="search") or ""
        check = many(b, "Check", sorted(index.flag_check.names), "check", "any check")
        family = many(c, "Family", list(index.family.counts()), "family", "any family")
        split = many(d, "Split", list(index.split.counts()), "split", "any")
        tag = many(e, "Tag", list(state.tags_of(key)), "tag", "any")
        a, b, c, d, e = st.columns([4, 5, 2, 4, 2], vertical_alignment="bottom")
        severity = a.pills("Severity", SEVERITIES, selection_mode="multi", key="severity", bind="query-params",
                           on_change=_first_page)
        verdict = b.pills("Verdict", state.STATES, selection_mode="multi", key="verdict", bind="query-params",
                          on_change=_first_page)
        regex = c.toggle("Regex", key="regex", bind="query-params", on_change=_first_page,
                         help="RE2 syntax, any case. Off: the characters as they are.")
        order = d.selectbox("Order", state.ORDERS, key="order", bind="query-params", on_change=_first_page)
        with e.popover("Views", icon=":material/bookmark:", width="stretch"):
            _views(key, index)
    ranges = tuple(r for text in st.query_params.get_all(RANGE) if (r := Range.read(text)) is not None)
    return state.Filter(check, tuple(severity), family, tuple(verdict), split, tag, ranges, text.strip(), regex,
                        order or state.ORDERS[0], _among(key))


def _among(key: state.Key) -> str:
    """Return the name of the kept set of rows in the URL, "" for none; say what it is, with a button that leaves it."""
    name = st.query_params.get(AMONG, "")
    if not name:
        return ""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="among_bar"):
        st.button("Show all rows", key="among-leave", icon=":material/close:", on_click=_leave)
        picked = state.kept(key, name)
        gone = f", {picked.gone:,} of it no longer in the set" if picked.gone else ""
        st.markdown(f"Among **{len(picked.rows):,} rows**: {state.plain(picked.words)}{gone}")
    return name


def _leave() -> None:
    st.query_params.pop(AMONG, None)
    _first_page()


def _scores(key: state.Key, wanted: state.Filter) -> dict[int, float]:
    """Return {row: score} of the kept set on screen, {} where it has none."""
    picked = state.kept(key, wanted.among) if wanted.among else None
    if picked is None or picked.scores is None:
        return {}
    return dict(zip(picked.rows.tolist(), picked.scores.tolist(), strict=True))


def _page_number(order: np.ndarray) -> int:
    """Return the page on screen; a page that the filter no longer has becomes the last one."""
    pages = state.pages_in(order)
    if st.session_state.get("page", 1) > pages:
        st.session_state["page"] = pages
    given = st.query_params.get("page", "1")
    number = st.session_state.get("page") or (int(given) if given.isdigit() else 1)
    return max(1, min(pages, number))


# ---- histograms


def _strip(key: state.Key, index: state.Index, order: np.ndarray, wanted: state.Filter) -> None:
    """Draw how lengths, scores and one signal are spread over all rows and over the filter's."""
    signals = state.signals_of(key)
    asked = st.query_params.get(SIGNAL, "")
    signal = asked if asked in signals else "harm" if "harm" in signals else signals[0] if signals else ""
    panels = [_panel(key, index, order, wanted, column, signals) for column in ("prompt", "response", "score", signal) if column]
    strip.show(panels, key="strip", on_range=_ranged, on_option=_another_signal)


def _panel(
    key: state.Key, index: state.Index, order: np.ndarray, wanted: state.Filter, column: str, signals: Sequence[str]
) -> dict[str, Any]:
    found = state.spread_of(key, column)
    some = state.counts_of(key, wanted, column, order)
    held = np.logical_or.reduce([np.zeros(found.bins, bool), *(found.held(r) for r in wanted.range if r.column == column)])
    title, unit = spread.OWN.get(column, (column, ""))
    marks = _marks(key, index, wanted, found) if column == "score" else ()
    ends = (spread.short(found.edges[0]), f"{spread.short(found.edges[-1])} {unit}".strip()) if found.edges else ("", "")
    return strip.panel(column, f"{title}, {unit}" if unit else title, found.labels(), found.all.tolist(), some.tolist(),
                       held=held.tolist(), ends=ends, marks=marks, single=bool(found.names),
                       options=[] if column in spread.OWN else signals)


def _marks(
    key: state.Key, index: state.Index, wanted: state.Filter, found: spread.Spread
) -> Sequence[tuple[float, str]]:
    """Return the threshold of the one check that is filtered by, to be drawn on its scores."""
    if len(wanted.check) != 1:
        return ()
    check = wanted.check[0]
    options = (Store(key.folder).current() or {}).get("options", {}).get(check, {})
    settings = state.spec_at(key.folder, key.spec).checks.get(check)
    counted = index.flag_check.mask([check]) & ~index.flag_severity.mask(["info"])
    return spread.marks_of(found, index.flags["score"].to_numpy()[counted], options.get("threshold"),
                           settings.min_score if isinstance(settings, CheckSettings) else 0.0)


def _ranged() -> None:
    """Take over the range of bars that was clicked or dragged over."""
    said = (st.session_state.get("strip") or {}).get("range")
    key = state.key_of(state.folder())
    if not said or key is None:
        return
    column = str(said["name"])
    others = [t for t in st.query_params.get_all(RANGE) if (r := Range.read(t)) is not None and r.column != column]
    found = state.spread_of(key, column)
    if said["first"] >= 0 and found.bins:
        others.append(found.range_of(int(said["first"]), int(said["last"])).text())
    st.query_params[RANGE] = others
    _first_page()


def _another_signal() -> None:
    said = (st.session_state.get("strip") or {}).get("option")
    if said:
        st.query_params[SIGNAL] = str(said)


# ---- saved views


def _place() -> dict[str, Any]:
    """Return the filter and order on screen, as a view keeps them."""
    place = {name: value for name, empty in WIDGETS.items() if (value := st.session_state.get(name, empty)) != empty}
    place |= {name: value for name in (AMONG, SIGNAL) if (value := st.query_params.get(name, ""))}
    ranges = st.query_params.get_all(RANGE)
    return {**place, RANGE: ranges} if ranges else place


def _go(place: dict[str, Any], options: dict[str, Sequence[str]]) -> None:
    """Show another filter and order. `options`: what the widgets with several values can hold now."""
    for name, empty in WIDGETS.items():
        value = place.get(name, empty)
        if isinstance(empty, list):
            value = [v for v in value if v in options.get(name, value)]
        elif name == "order":
            value = value if value in state.ORDERS else empty
        st.session_state[name] = type(empty)(value)
    for name in (AMONG, SIGNAL, RANGE):
        if place.get(name):
            st.query_params[name] = place[name]
        else:
            st.query_params.pop(name, None)
    _first_page()
    state.desk().table += 1


def _keep_view(folder: Path) -> None:
    try:
        saved.save(folder, st.session_state["view_name"], _place(), by=state.desk().actor)
    except CurationError as e:
        st.session_state["view_wrong"] = f"{state.plain(e.what)}. {state.plain(e.hint)}."


def _views(key: state.Key, index: state.Index) -> None:
    """List the saved views of the folder, each to open or to delete, and offer to save the one on screen."""
    folder = Path(key.folder)
    options = {"check": index.flag_check.names, "family": index.family.names, "split": index.split.names,
               "tag": list(state.tags_of(key)), "severity": SEVERITIES, "verdict": state.STATES}
    views = saved.listed(folder)
    if not views:
        st.caption("Filter and order under a name, kept in the folder for everybody who reviews it. The address of the page "
                   "is a link to what you see.")
    for view in views:
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            st.button(state.plain(view.name), key=f"view-{view.name}", on_click=_go, args=(view.place or {}, options),
                      type="tertiary", disabled=view.place is None, width="stretch",
                      help="This file cannot be read" if view.place is None else f"Saved by {state.plain(view.by)}, {view.at}")
            st.button("", key=f"unview-{view.name}", icon=":material/delete:", on_click=saved.delete, args=(folder, view.name),
                      type="tertiary", help="Delete this view; the rows stay")
    name = st.text_input("Save this filter as", key="view_name", max_chars=60, placeholder="a name")
    st.button("Save view", key="view_save", icon=":material/save:", disabled=not (name or "").strip(), on_click=_keep_view,
              args=(folder,))
    if wrong := st.session_state.pop("view_wrong", ""):
        st.warning(wrong)


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
        st.button("Similar", key=f"similar-{uid}", icon=":material/search:", on_click=_similar, args=(key, row),
                  help="Rows like this one, most alike first")
        if uid in verdicts.decisions:
            st.button("Undo", key=f"clear-{uid}", icon=":material/undo:", on_click=_take_back, args=(key, uid, row),
                      help="Takes the newest action on this row back; of a bulk action, this row alone")
    tags = [tag for tag, held in state.tags_of(key).items() if held[row]]
    st.caption((f"{place + 1:,} of {len(order):,} in this filter" if place is not None else "This row is not in this filter.")
               + (f" · tagged {state.plain(', '.join(tags))}" if tags else ""))
    long = bool(st.session_state.get(f"whole-{uid}"))
    seen = card.view(index, verdicts, row, state.spec_at(key.folder, key.spec), whole=10**9 if long else state.WHOLE,
                     editable=True)
    if seen["verdict"] and (decision := verdicts.decisions.get(uid)) and decision.reason not in ("", "bulk"):
        seen["why"] = f"{decision.actor}: {decision.reason}"
    card.show(seen, key=f"row-{uid}")
    if any("gap" in part for turn in seen["turns"] for part in turn["parts"]):
        st.toggle("Show the whole text", key=f"whole-{uid}")
    editing.form(key, uid, row, seen["edit"])


def _similar(key: state.Key, row: int) -> None:
    """Show the rows most like this one, this one first."""
    from curation.similar import similar_to  # compiles kernels: not before it is asked for

    found = similar_to(Store(key.folder), row, ALIKE)
    name = state.keep(key, np.array([row, *(r for r, _ in found)], np.int64), f"row {row:,} and what is most like it",
                      np.array([1.0, *(s for _, s in found)], np.float32))
    _go({AMONG: name, SIGNAL: st.query_params.get(SIGNAL, "")}, {})
    st.query_params["row"] = str(row)


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
