"""Map: where all rows lie, coloured by what one asks for; a lasso or a cluster becomes a filter and is decided on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from curation import coverage
from curation.spec import Spec
from curation.store import Entry, Store
from curation.text import shorten

from .. import bars, card, progress, state
from .. import map as maps
from ..pairs import texts_at

WITH = ("flagged", "undecided")
BY = ("family", "cluster", "verdict", "errors and warnings")    # then the checks
LINES = 4           # prompts shown of a selection
FAMILIES = 5        # families shown of a selection


def as_page() -> Any:
    return st.Page(page, title="Map", icon=":material/scatter_plot:", url_path="map")


def page() -> None:
    key = state.key_of(state.folder())
    if key is None or not state.index_of(key).checked:
        st.header("Nothing to map yet", anchor=False)
        st.text("The map is coloured by families and flags. Import rows and run the checks first; the Overview page has the "
                "button.")
        return
    if _places(key.checked, key.signals) is None:
        _lay_out(key)
        return
    _desk()


def _lay_out(key: state.Key) -> None:
    """Say what the map is and offer to make it."""
    st.header("No map of these rows yet", anchor=False)
    st.text("The map puts rows that ask for like things side by side: crowds, thin places and odd rows are seen at once, and a "
            "line drawn around rows selects them. Prompts are embedded for it; a few thousand rows take about a minute, later "
            "maps less, because what was embedded is kept. Rows keep their place when others are added.")
    progress.offer(Path(key.folder), ["map", key.folder], "Lay out the map", key="map-lay-out")


# ---- what is kept between clicks


@st.cache_resource(max_entries=3, show_spinner="Reading the map …")
def _places(checked: tuple[str, str, int], signals_at: int) -> maps.Places | None:
    signals = Store(checked[0]).signals()
    if signals is None or "map_x" not in signals.column_names:
        return None
    places = maps.places_of(signals["map_x"].to_numpy(), signals["map_y"].to_numpy())
    return places if len(places) else None


@st.cache_resource(max_entries=3, show_spinner="Naming the clusters …")
def _islands(checked: tuple[str, str, int], signals_at: int, _places: maps.Places, _index: state.Index) -> maps.Islands:
    return maps.islands(_places, _index.rows, _index.worst)


@st.cache_resource(max_entries=12, show_spinner=False)
def _colour(checked: tuple[str, str, int], signals_at: int, log: int, name: str, _key: state.Key) -> maps.Colour:
    index = state.index_of(_key)
    if name == "family":
        return maps.by_name(index.family)
    if name == "verdict":
        return maps.by_verdict(state.verdicts_of(_key))
    if name == "cluster":
        islands = _islands(checked, signals_at, _found(_key), index)
        label = np.where(islands.label < 0, len(islands), islands.label)
        return maps.by_name(state.Codes(label, (*islands.names, "in no cluster")))
    return maps.by_flag(index, "" if name == BY[-1] else name.removeprefix("check: "))


@st.cache_resource(max_entries=24, show_spinner=False)
def _drawn(name: str, _places: maps.Places, _colour: maps.Colour, view: maps.View, _index: state.Index) -> maps.Drawn:
    return maps.drawn(_places, _colour, view, _index.rows, name)


@st.cache_resource(max_entries=12, show_spinner=False)
def _inside(checked: tuple[str, str, int], signals_at: int, code: str, _places: maps.Places) -> np.ndarray:
    rows = maps.inside(_places, maps.corners_of(code, _places.whole))
    rows.flags.writeable = False
    return rows


def _found(key: state.Key) -> maps.Places:
    places = _places(key.checked, key.signals)
    assert places is not None, "the page shows the map only when there is one"
    return places


# ---- the page


@st.fragment
def _desk() -> None:
    key = state.held_key()
    index, places, at = state.index_of(key), _found(key), key.signals
    islands = _islands(key.checked, at, places, index)
    left, right = st.columns([7, 6], gap="large")
    with left:
        _map(key, index, places, islands, at)
    with right:
        rows, words = _selected(key, places, islands, at)
        _selection(key, index, rows, words)
        _around(key, index, islands)


def _map(key: state.Key, index: state.Index, places: maps.Places, islands: maps.Islands, at: int) -> None:
    options = [*BY, *(f"check: {c}" for c in sorted(index.flag_check.names) if c)]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("Coloured by", width="content")
        name = st.selectbox("Coloured by", options, key="map_colour", bind="query-params", label_visibility="collapsed") or BY[0]
    log = key.log if name == "verdict" else 0
    colour = _colour(key.checked, at, log, name, key)
    view = _view(places)
    drawn = _drawn(state.short_hash(key.checked, at, log, name, view), places, colour, view, index)
    labels = [{"x": float(x), "y": float(y), "name": label, "on": st.query_params.get("cluster") == str(k)}
              for k, ((x, y), label) in enumerate(zip(islands.middle, islands.names, strict=True))]
    maps.show(drawn, colour, view, places.whole, labels, lasso=st.query_params.get("lasso", ""),
              on={"view": lambda: None, "lasso": _on_lasso, "spot": _on_spot})
    st.caption(f"{len(places):,} rows. What lies close asks for like things; far distances mean little. The fuller the colour, "
               "the more rows. Point at a place to read a row of it, click to open the row nearest to it.")


def _view(places: maps.Places) -> maps.View:
    """Return the part of the map on screen: what the browser asked for, else the whole."""
    given = (st.session_state.get("map") or {}).get("view")
    if not given or len(given) != 4 or not all(isinstance(v, int | float) and np.isfinite(v) for v in given):
        return places.whole
    a, b, c, d = (float(v) for v in given)
    low, high = places.whole[:2], places.whole[2:]
    if not (a < c and b < d) or a < low[0] - 1e-4 or b < low[1] - 1e-4 or c > high[0] + 1e-4 or d > high[1] + 1e-4:
        return places.whole
    return (a, b, c, d)


def _on_lasso() -> None:
    code = (st.session_state.get("map") or {}).get("lasso") or ""
    _forget()
    if code != "-":
        st.query_params["lasso"] = str(code)


def _on_spot() -> None:
    st.session_state["map_spot"] = (st.session_state.get("map") or {}).get("spot")


def _forget() -> None:
    for name in ("lasso", "cluster", "row"):
        st.query_params.pop(name, None)


def _selected(key: state.Key, places: maps.Places, islands: maps.Islands, at: int) -> tuple[np.ndarray, str]:
    """Return the rows that are selected, and by what: the lasso or the cluster in the address; no rows and "" for none."""
    given = st.query_params.get("cluster", "")
    if given.isdigit() and int(given) < len(islands):
        return np.flatnonzero(islands.label == int(given)), f"cluster {islands.names[int(given)]} of the map"
    code = st.query_params.get("lasso", "")
    if not code:
        return np.zeros(0, np.int64), ""
    return _inside(key.checked, at, code, places), "lasso on the map"


# ---- what is selected


def _selection(key: state.Key, index: state.Index, rows: np.ndarray, words: str) -> None:
    with st.container(border=True, key="map_selection"):
        if not words:
            st.markdown("**Draw around rows to select them.**")
            st.caption("Or take a cluster from the list below. What is selected can be opened in Browse, or accepted or rejected "
                       "at once, with one undo.")
            _undo_button(key)
        else:
            _decide_on(key, index, rows, words)
    _opened(key, index)


def _decide_on(key: state.Key, index: state.Index, rows: np.ndarray, words: str) -> None:
    from . import browse

    verdicts = state.verdicts_of(key)
    undecided = ~(verdicts.accepted | verdicts.rejected)
    only = st.pills("Only", WITH, selection_mode="multi", key="map_only", bind="query-params", label_visibility="collapsed")
    some = rows
    if "flagged" in only:
        some = some[index.worst[some] >= 2]
    if "undecided" in only:
        some = some[undecided[some]]
    what = words + "".join(f", {x}" for x in only)
    st.markdown(f"**{len(some):,} rows** in {state.plain(words)}" + (f", of {len(rows):,}" if only else ""))
    flagged = int((index.worst[some] >= 2).sum())
    st.caption(f"{flagged:,} with an error or a warning ({flagged / max(1, len(some)):.0%}) · {int(undecided[some].sum()):,} "
               f"undecided · {int(verdicts.rejected[some].sum()):,} rejected")
    with st.container(horizontal=True, gap="xsmall", key="map_bar"):
        none = not len(some)
        if st.button("Browse", key="map_browse", disabled=none, shortcut="B",
                     help="Filter, search and read these rows"):
            st.switch_page(browse.as_page(), query_params={"among": state.keep(key, some, what)})
        st.button("Accept", key="map_accept", disabled=none, shortcut="A", on_click=_decide,
                  args=(key, index, some, "accept", what), help=f"Accept these {len(some):,} rows: one action, one undo")
        st.button("Reject", key="map_reject", disabled=none, shortcut="X", on_click=_decide,
                  args=(key, index, some, "reject", what), help=f"Reject these {len(some):,} rows: one action, one undo")
        _undo_button(key)
        st.button("Clear", key="map_clear", on_click=_forget, help="Take the selection away")
    if len(some):
        _families(index, some)
        near = np.sort(some[np.linspace(0, len(some) - 1, min(LINES, len(some))).astype(int)])
        st.text("\n".join(f"{row:,}: {shorten(' '.join(text[:300].split()), 56)}" for row, text in
                          zip(near.tolist(), texts_at(index.rows["instruction"], near).to_pylist(), strict=True)))
    if said := state.desk().said:
        st.caption(state.plain(f"{said[:1].upper()}{said[1:]}."))


def _families(index: state.Index, rows: np.ndarray) -> None:
    counts = state.Codes(index.family.code[rows], index.family.names).counts()
    most = [(name, n) for name, n in counts.items() if n][:FAMILIES]
    bars.show([("", [bars.line(name, [(n, "plain")], f"{n:,}") for name, n in most])], key="map_families")


def _decide(key: state.Key, index: state.Index, rows: np.ndarray, verdict: str, what: str) -> None:
    """Store one verdict on the selected rows as one action, by uid."""
    state.desk().decide(Store(key.folder), [Entry(uid, verdict, what) for uid in state.uids_at(index, rows.tolist())],
                        f"{verdict} {len(rows):,} rows, {what}")


def _undo_button(key: state.Key) -> None:
    desk = state.desk()
    last = desk.done[-1][1] if desk.done else ""
    st.button("Undo", key="map_undo", disabled=not last, shortcut="Z", on_click=_undo, args=(key,),
              help=f"Takes back: {last}" if last else "Nothing was decided in this browser session")


def _undo(key: state.Key) -> None:
    state.desk().undo(Store(key.folder))


def _close() -> None:
    st.query_params.pop("row", None)


def _opened(key: state.Key, index: state.Index) -> None:
    """Show the row nearest to the place that was clicked."""
    spot = st.session_state.pop("map_spot", None)
    if spot:
        x, y, reach = (float(v) for v in spot)
        row = maps.nearest(_found(key), x, y, reach)
        if row is None:
            st.query_params.pop("row", None)
        else:
            st.query_params["row"] = str(row)
    given = st.query_params.get("row", "")
    if not given.isdigit() or int(given) >= index.n:
        return
    with st.container(border=True, key="map_row"):
        st.button("Close", key="map_close", icon=":material/close:", on_click=_close)
        seen = card.view(index, state.verdicts_of(key), int(given), state.spec_at(key.folder, key.spec), whole=1500)
        card.show(seen, key=f"map-row-{seen['id']}")


# ---- clusters and gaps


def _around(key: state.Key, index: state.Index, islands: maps.Islands) -> None:
    spec = state.spec_at(key.folder, key.spec)
    gaps = gaps_of(index, state.verdicts_of(key), spec)
    thin = np.flatnonzero(islands.thin).tolist()
    part = st.segmented_control("Part", ["Clusters", "Gaps"], default="Clusters", required=True, key="map_part",
                                bind="query-params", label_visibility="collapsed")
    if part == "Clusters":
        st.caption(f"{len(islands):,} crowds of rows, named by words they ask with more than the rest does. ✖ is the share with "
                   "an error or a warning. A click selects the rows.")
        chosen = bars.show([("", [_cluster(islands, k) for k in range(len(islands))])], key="map_clusters")
    else:
        st.caption("Families with fewer rows than the spec wants, and clusters that are thin: less than a quarter of the rows of "
                   "an average one. A click selects a cluster.")
        lines = [bars.line(g.id, [(g.have, "gap")], f"{g.have:,} of {g.least:,}", hint=g.message, marks=[g.least or 0])
                 for g in gaps]
        groups = [("Families below their target", lines), ("Thin clusters", [_cluster(islands, k) for k in thin])]
        chosen = bars.show([g for g in groups if g[1]], key="map_gaps")
        if not gaps:
            st.text("No family is below its target." if spec.families else
                    "The spec names no families, so none can be below its target. Coverage & spec is the place to name them.")
        if not thin:
            st.text("No cluster is thin.")
    if chosen and chosen != st.query_params.get("cluster"):
        _forget()
        st.query_params["cluster"] = chosen
        st.rerun(scope="fragment")


def _cluster(islands: maps.Islands, k: int) -> dict[str, Any]:
    size, flagged = int(islands.size[k]), int(islands.flagged[k])
    parts = [(flagged, "error"), (size - flagged, "plain")]
    return bars.line(islands.names[k], parts, f"{size:,}  ✖ {flagged / max(1, size):.0%}",
                     hint=f"{size:,} rows, {flagged:,} with an error or a warning", open=str(k))


def gaps_of(index: state.Index, verdicts: state.Verdicts, spec: Spec) -> list[coverage.Line]:
    """Return the families of the spec with fewer rows, rejected ones left out, than they shall have; the emptiest first."""
    stays = ~verdicts.rejected
    counts = state.Codes(index.family.code[stays], index.family.names).counts()
    found = []
    for family in spec.families:
        least, most = coverage.bounds(family, int(stays.sum()))
        line = coverage.Line("family", family.id, counts.get(family.id, 0), least or None, most)
        if line.least is not None and line.have < line.least:
            found.append(line)
    return sorted(found, key=lambda line: (-line.gap, line.id))
