"""Duplicates: groups of copies and conflicts, two rows side by side, decided by keys; a threshold that recounts at once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from curation.store import Entry, Store

from .. import pairs, progress, state

LABELS = {"copies": "Copies", "conflicts": "Conflicts", "meaning": "Same meaning"}
WHAT = {
    "copies": "Rows that say the same. Keep one, keep both when they are no copies, or merge them into one.",
    "conflicts": "The same prompt, answered in ways of which only one can be right: it is accepted, the others are rejected.",
    "meaning": "Rows that ask for the same in other words.",
}
SHOW = ("open", "all")
LOWER = 0.15        # how far below the threshold the offered check keeps pairs


def as_page() -> Any:
    return st.Page(page, title="Duplicates", icon=":material/content_copy:", url_path="duplicates")


def page() -> None:
    key = state.key_of(state.folder())
    if key is None or not state.index_of(key).checked:
        st.header("Nothing to compare yet", anchor=False)
        st.text("Copies and conflicts are found by the checks. Run them first; the Overview page has the button.")
        return
    _desk()


@st.cache_resource(max_entries=6, show_spinner="Reading the pairs …")
def _links(checked: tuple[str, str, int], kind: str, _index: state.Index) -> pairs.Links:
    options = (Store(checked[0]).current() or {}).get("options", {})
    return pairs.links_of(_index, kind, options)


@st.cache_resource(max_entries=32, show_spinner=False)
def _groups(checked: tuple[str, str, int], kind: str, threshold: float, _links: pairs.Links) -> pairs.Groups:
    return pairs.groups_at(_links, threshold)


@st.cache_resource(max_entries=2, show_spinner=False)
def _weights(checked: tuple[str, str, int], spec_at: int, _index: state.Index) -> np.ndarray:
    return pairs.weights(_index, state.spec_at(checked[0], spec_at))


def _taken() -> state.Key:
    """Store what the browser has decided since, and return the key of the folder after it."""
    key = state.held_key()
    said = (st.session_state.get("pairs") or {}).get("desk")
    if not said:
        return key
    _way().take(said, Store(key.folder), state.index_of(key), state.desk())
    return state.key_of(state.folder()) or key


def _way() -> pairs.Way:
    """Return this browser session's way through the groups."""
    way: pairs.Way = st.session_state.setdefault("dup_way", pairs.Way())
    return way


@st.fragment
def _desk() -> None:
    key = _taken()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        kind = _kind(key)
        show, order, again = _queue_choice()
    links = _links(key.checked, kind, state.index_of(key))
    if not len(links.one):
        _none(key, kind)
        return
    left, right = st.columns([7, 12], gap="large", vertical_alignment="center")
    with left:
        threshold = _threshold(kind, links)
    groups = _groups(key.checked, kind, threshold, links)
    open_ = pairs.open_groups(groups, state.verdicts_of(key))
    with right:
        _count(kind, groups, int(open_.sum()), threshold)
        with st.container(horizontal=True, gap="xsmall"):
            _whole(key, kind, groups, open_, threshold)
            if kind != "conflicts":
                _about_threshold(kind, threshold, links)
    sitting = _sitting(key, kind, groups, threshold, show, order, again)
    if sitting.queue:
        _pairs(key, sitting)
    else:
        st.info("No group is open. Choose *all groups* to look at those that are decided." if len(groups) else
                "No rows are joined at this threshold. Move the slider to the left.")


def _kind(key: state.Key) -> str:
    """Draw the choice between kinds of group and return what is chosen; kinds without any pair are left out."""
    found = state.index_of(key).flag_check.names
    kinds = [k for k, checks in pairs.KINDS.items() if k in ("copies", "conflicts") or set(checks) & set(found)]
    kind = st.segmented_control("Kind", kinds, default=kinds[0], required=True, format_func=LABELS.__getitem__, key="dup_kind",
                                bind="query-params", label_visibility="collapsed") or kinds[0]
    return kind


def _queue_choice() -> tuple[str, str, bool]:
    """Draw what decides the queue and return which groups, in which order, and whether to fill it anew."""
    show = st.segmented_control("Groups", SHOW, default=SHOW[0], required=True, key="dup_show", bind="query-params",
                                label_visibility="collapsed", format_func=lambda x: f"{x} groups",
                                help="Open: two rows or more still stand, and not all of them are accepted")
    order = st.selectbox("Order", pairs.ORDERS, key="dup_order", bind="query-params", width=190, label_visibility="collapsed")
    again = st.button("Fill again", key="dup_refill", icon=":material/refresh:",
                      help="Takes the groups anew; those that were decided leave the queue only then")
    return show or SHOW[0], order or pairs.ORDERS[0], again


def _none(key: state.Key, kind: str) -> None:
    current: Mapping[str, Any] = Store(key.folder).current() or {}
    missing = [c for c in pairs.KINDS[kind] if c not in current.get("flags", {})]
    with st.container(border=True):
        if missing:
            st.markdown("**These checks have not run on the rows as they are.**")
            progress.offer(Path(key.folder), ["check", key.folder], "Run the checks", key="dup-check")
            return
        st.markdown("**No conflict was found.**" if kind == "conflicts" else "**No copies were found.**")
        st.caption("Checks that looked: " + ", ".join(pairs.KINDS[kind]) + ".")
        if kind != "copies":
            return
        st.caption("Rows that ask for the same in other words are found on request, because every prompt must be embedded:")
        st.code(f"curation check {key.folder} --set dup.semantic.on=true", language=None, wrap_lines=True)


def _threshold(kind: str, links: pairs.Links) -> float:
    """Draw the slider and return the similarity from which on rows are joined."""
    if kind == "conflicts":
        st.caption(WHAT[kind])
        return 0.0
    st.caption(WHAT[kind])
    low = float(np.floor(links.low * 100) / 100)
    return st.slider("Rows are joined from this similarity on", low, 1.0, max(low, round(links.cut, 2)), 0.01,
                     key=f"dup_at_{kind}", bind="query-params", format="%.2f",
                     help="The smallest Jaccard similarity of character 5-grams among instruction, input and response. "
                     "Counted from the pairs that the last check kept: each flagged row with the row it resembles most.")


def _number(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _count(kind: str, groups: pairs.Groups, open_: int, threshold: float) -> None:
    rows = _number(len(groups.rows), "row")
    if kind == "conflicts":
        st.markdown(f"**{_number(len(groups), 'prompt')}** whose answers clash, {rows}; **{open_:,} open**.")
        return
    go = f"{_number(groups.left_out, 'row')} {'goes' if groups.left_out == 1 else 'go'}"
    st.markdown(f"At **{threshold:.2f}**: **{_number(len(groups), 'group')}** of {rows}, **{open_:,} open**. "
                f"One of each kept, **{go}** and {groups.n - groups.left_out:,} of {groups.n:,} stay.")


def _about_threshold(kind: str, threshold: float, links: pairs.Links) -> None:
    check = pairs.KINDS[kind][-1]
    with st.popover("Policy", icon=":material/rule:", help="What the slider has to do with the gate and the export"):
        st.markdown(f"The check joined rows from **{links.cut:.2f}** on. The slider only counts. To let the policy act from "
                    f"{threshold:.2f} on, write this into spec.yaml:")
        st.code(f"checks:\n  {check}: {{min_score: {threshold:.2f}}}", language="yaml")
    with st.popover("Weaker pairs", icon=":material/tune:", help="Let the check keep pairs below its threshold too"):
        _weaker(check, links)


def _weaker(check: str, links: pairs.Links) -> None:
    if links.low < links.cut:
        st.markdown(f"Pairs from **{links.low:.2f}** on were kept, so the slider goes down to there.")
    else:
        st.markdown(f"Pairs below **{links.low:.2f}** were not kept. A check that keeps them lets the slider go further down; "
                    "they stay notes of severity info, which the policy leaves alone.")
    if check != "dup.near":
        return
    folder = str(state.folder())
    progress.offer(Path(folder), ["check", folder, "--set", f"dup.near.floor={max(0.1, links.low - LOWER):.2f}"],
                   "Check again, keep weaker pairs", key="dup-floor")


# ---- many groups at once


def _whole(key: state.Key, kind: str, groups: pairs.Groups, open_: np.ndarray, threshold: float) -> None:
    """Offer what one can do with every group at this threshold."""
    from . import browse

    words = f"in {_number(len(groups), 'group')} of {LABELS[kind].lower()}"
    if kind != "conflicts":
        words += f" from {threshold:.2f} on"
    if st.button("Open in Browse", key="dup_browse", icon=":material/table_rows:", disabled=not len(groups),
                 help=f"The {len(groups.rows):,} rows {words}"):
        st.switch_page(browse.as_page(), query_params={"among": state.keep(key, groups.rows, words)})
    with st.popover("All", icon=":material/select_all:", disabled=kind == "conflicts" or not open_.any(),
                    help="Decide on every open group at once"):
        some = np.flatnonzero(open_)
        st.markdown(f"**Keep the best row of each of the {len(some):,} open groups** at {threshold:.2f} and reject the others. "
                    "Which is best says `keep` in spec.yaml; accepted rows stay.")
        st.caption("One action; one undo takes it back.")
        st.button("Keep one of each", key="dup_all", on_click=_keep_best, args=(key, groups, some, threshold))
    desk = state.desk()
    last = desk.done[-1][1] if desk.done else ""
    st.button("Undo", key="dup_undo", disabled=not last, icon=":material/undo:", on_click=_undo, args=(key,),
              help=f"Takes back: {last}" if last else "Nothing was decided in this browser session")


def _keep_best(key: state.Key, groups: pairs.Groups, some: np.ndarray, threshold: float) -> None:
    """Reject all but the best row of each of these groups, rows that a person accepted excepted, as one action."""
    index, verdicts = state.index_of(key), state.verdicts_of(key)
    rank = _rank(key)
    gone: list[int] = []
    reason: list[int] = []
    for number in some.tolist():
        rows = groups.of(number)
        kept = pairs.best(rank, rows)
        others = [r for r in rows.tolist() if r != kept and not verdicts.rejected[r] and not verdicts.accepted[r]]
        gone += others
        reason += [kept] * len(others)
    entries = [Entry(uid, "reject", f"copy of row {k}") for uid, k in zip(state.uids_at(index, gone), reason, strict=True)]
    desk = state.desk()
    if entries:
        desk.decide(Store(key.folder), entries,
                    f"keep the best of {len(some):,} groups at {threshold:.2f}, reject {len(gone):,} rows")
    st.session_state.pop("dup_sitting", None)


def _undo(key: state.Key) -> None:
    state.desk().undo(Store(key.folder))
    st.session_state.pop("dup_sitting", None)


# ---- one group after the other


def _rank(key: state.Key) -> Any:
    index, spec = state.index_of(key), state.spec_at(key.folder, key.spec)
    return pairs.ranking(index, state.verdicts_of(key), Store(key.folder), spec, _weights(key.checked, key.spec, index))


def _sitting(key: state.Key, kind: str, groups: pairs.Groups, threshold: float, show: str, order: str, again: bool
             ) -> pairs.Sitting:
    """Return this session's queue: the one of before as long as nothing that decides its groups was changed."""
    name = (key.checked, kind, threshold, show, order)
    held = st.session_state.get("dup_sitting")
    if held is not None and held[0] == name and not again:
        sitting: pairs.Sitting = held[1]
        return sitting
    verdicts = state.verdicts_of(key)
    some = np.flatnonzero(pairs.open_groups(groups, verdicts)) if show == "open" else np.arange(len(groups))
    queue = pairs.ordered(groups, some, order).tolist()
    sitting = pairs.Sitting(uuid.uuid4().hex[:12], kind, groups, queue, _rank(key))
    given = st.query_params.get("row", "")
    asked = given.isdigit() and st.session_state.get("dup_asked") != given
    if asked and (group := groups.holding(int(given))) is not None:     # another page asks for this row's group
        st.session_state["dup_asked"] = given
        if group not in sitting.queue:
            sitting.queue.insert(0, group)
        sitting.pos = sitting.queue.index(group)
    st.session_state["dup_sitting"] = (name, sitting)
    _way().add(sitting)
    return sitting


def _pairs(key: state.Key, sitting: pairs.Sitting) -> None:
    """Send the browser the window of groups around its place."""
    start = max(0, sitting.pos - pairs.BEFORE)
    batch = pairs.views(state.index_of(key), state.verdicts_of(key), sitting, sitting.queue[start: sitting.pos + pairs.AFTER])
    pairs.show(batch, sitting, _way(), start=start)
    if done := state.desk().done:
        st.caption("Last: " + " · ".join(state.plain(words) for _, words, _ in reversed(done[-4:])))
