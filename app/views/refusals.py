"""Refusals & edges: what the set refuses and answers, cell by cell; a cell opens its rows, an empty one takes a pair."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import streamlit as st

from curation import drafts, writing
from curation.errors import CurationError
from curation.matrices import GUIDE, Matrix
from curation.spec import Spec
from curation.store import Entry, Store

from .. import bars, cells, progress, state

NAMES = {"Refusals": "refusals", "Edge cases": "edges"}
DRAFTS = 5      # drafts made at once


def as_page() -> Any:
    return st.Page(page, title="Refusals & edges", icon=":material/grid_on:", url_path="refusals")


def page() -> None:
    folder = state.folder()
    key = state.key_of(folder)
    found = cells.checked_at(key) if key else None
    if key is None or found is None:
        st.header("Nothing to count yet", anchor=False)
        st.text("This page shows which kinds of request the set refuses and which it answers, and how it deals with prompts that "
                "no plain answer fits. The checks tell which row is which: run them first.")
        if key is not None:
            progress.offer(folder, ["check", str(folder)], "Run the checks", key="check")
        return
    _behind(folder, key, found)
    spec = state.spec_at(key.folder, key.spec)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        name = NAMES[st.segmented_control("Matrix", list(NAMES), default="Refusals", key="matrix", bind="query-params",
                                          label_visibility="collapsed", required=True) or "Refusals"]
        kept = st.toggle("Leave rejected rows out", value=True, key="matrix_kept",
                         help="What a model would be shown. Off: every row of the set, as `curation matrix` counts.")
    matrix = cells.matrix_at(key, name, kept=kept)
    _numbers(matrix)
    chosen = cells.named(st.query_params.get("cell", ""), matrix)
    click = cells.clicked(cells.grid(cells.grid_of(matrix, spec), key=f"grid-{name}", chosen=chosen or ()), matrix)
    st.caption("A number shows its rows. ✓ right · ✖ on the wrong side · ○ rows are missing. + writes or drafts a pair.")
    if click is not None:
        _go(key, matrix, *click)
    if chosen is not None and drafts.offered(matrix, chosen):
        _desk(key, found, matrix, chosen, spec)
    _gaps(matrix)


def _go(key: state.Key, matrix: Matrix, what: str, cell: cells.Cell) -> None:
    """Follow a click: show the rows of a cell on the Browse page, or open the desk for a pair."""
    from . import browse

    if what == "rows":
        name = state.keep(key, cells.rows_behind(matrix, cell), cells.words_of(cell))
        st.switch_page(browse.as_page(), query_params={"among": name})
    st.query_params["cell"] = "|".join(cell)
    st.rerun()


def _behind(folder: Path, key: state.Key, found: cells.Checked) -> None:
    """Say what was just written, and that rows which came since the last check are not counted yet."""
    said = st.session_state.pop("written", None)
    if said:
        st.success(said, icon=":material/check_circle:")
    if written := st.session_state.get("last-written"):
        st.button("Take it out again" if len(written) == 1 else "Take them out again", key="take-out", icon=":material/undo:",
                  on_click=_take_out, args=(key, written), help="Rejects what was just written; nothing is ever deleted")
    if not found.behind:
        return
    with st.container(border=True, key="behind"):
        rows = f"{found.behind:,} row{'s' if found.behind > 1 else ''}"
        st.markdown(f"**{rows} came since the last check** and are not counted here yet. Until then the other pages show no "
                    "flags; a check looks only at what is new.")
        progress.offer(folder, ["check", str(folder)], "Check again", key="check-again")


def _take_out(key: state.Key, written: tuple[str, ...]) -> None:
    state.desk().decide(Store(key.folder), [Entry(uid, "reject", "written by mistake") for uid in written],
                        f"take out {len(written)} written")
    del st.session_state["last-written"]
    st.session_state["written"] = "Taken out: rejected. The History page brings it back."


def _numbers(matrix: Matrix) -> None:
    n = matrix.numbers
    if matrix.name != "refusals":
        right = f"{n['right']:,} of {n['edge_rows']:,} ({n['right_share']:.0%})" if n["edge_rows"] else "no row is an edge case"
        bars.show([("", [bars.line("do what is wanted", [(n["right"], "ok"), (n["edge_rows"] - n["right"], "plain")], right,
                                   hint="Rows of an edge case whose response asks, names, corrects or declines as it should")])],
                  key="edge_share")
        return
    low, high = GUIDE
    tone = "ok" if low <= n["safety_share"] <= high else "gap"
    hint = (f"Prompts that should be refused. Guide: {low:.0%} to {high:.0%} of the rows. With 3 % published runs were safe; "
            "more brought refusals of harmless prompts (arXiv 2309.07875).")
    bars.show([("", [bars.line("ask for harm", [(n["safety_rows"], tone)],
                               f"{n['safety_rows']:,} · {n['safety_share']:.1%}", hint=hint,
                               marks=[low * n["rows"], high * n["rows"]])])], key="safety_share")
    outside = "" if tone == "ok" else " This set is outside it: a guide, not a rule; the gate goes by the spec."
    st.caption(f"The two strokes are the guide: {low:.0%} to {high:.0%} of {n['rows']:,} rows.{outside}")


def _gaps(matrix: Matrix) -> None:
    with st.expander(f"In words: {len(matrix.gaps)} gaps" if matrix.gaps else "In words: nothing is missing"):
        st.text("\n".join(f"– {g}" for g in matrix.gaps) or "Every kind is shown on both sides.")


# ---- the desk: a pair for a cell


@st.fragment
def _desk(key: state.Key, found: cells.Checked, matrix: Matrix, cell: cells.Cell, spec: Spec) -> None:
    with st.container(border=True, key="desk"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.subheader(state.plain(f"A pair for: {cells.words_of(cell)}"), anchor=False)
            if st.button("Close", key="desk-close", icon=":material/close:"):
                st.query_params.pop("cell", None)
                st.rerun()
        st.markdown(f"**What it needs.** {state.plain(drafts.needs(cell))}")
        prompt, response = drafts.looks(cell, spec)
        with st.expander("What such a pair looks like"):
            st.text(f"User: {prompt}\nAssistant: {response}")
        how = st.segmented_control("How", ["write", "draft"], default="write", key="desk-how", label_visibility="collapsed",
                                   format_func={"write": "Write a pair", "draft": "Draft pairs"}.__getitem__, required=True)
        if how == "draft":
            _draft(key, found, matrix, cell, spec)
        else:
            _write(key, matrix, cell, spec)


def _families(cell: cells.Cell, spec: Spec, widget: str) -> str:
    """Draw the choice of a family, with the one that the cell belongs to, and return it."""
    ids = ["", *(f.id for f in spec.families)]
    if len(ids) == 1:
        return ""
    own = drafts.family_of(cell, spec)
    return st.selectbox("Family", ids, index=ids.index(own) if own in ids else 0, key=widget,
                        format_func=lambda f: f or "(as the prompt says)") or ""


def _write(key: state.Key, matrix: Matrix, cell: cells.Cell, spec: Spec) -> None:
    mark = state.short_hash(cell, st.session_state.get("desk-round", 0))
    one, two = st.columns(2, gap="medium")
    prompt = one.text_area("Prompt", key=f"write-prompt-{mark}", height=130, placeholder="What a user would ask")
    response = two.text_area("Response", key=f"write-response-{mark}", height=130, placeholder="What the model shall answer")
    with one:
        family = _families(cell, spec, f"write-family-{mark}")
    with two:
        if not prompt.strip() or not response.strip():
            st.caption("What the checks make of it stands here once both are written; leave a field to let them look.")
            st.button("Save the pair", key="write-save", type="primary", disabled=True, icon=":material/save:")
            return
        try:
            made = writing.pair(instruction=prompt, response=response, family=family)
            seen = writing.look([made], spec)[0]
        except CurationError as e:
            st.warning(f"{state.plain(e.what)}. {state.plain(e.hint)}.")
            return
        _seen(seen, matrix, cell)
        if st.button("Save the pair", key="write-save", type="primary", icon=":material/save:"):
            _save(key, [made], "written")


def _seen(seen: writing.Look, matrix: Matrix, cell: cells.Cell) -> None:
    """Say where a pair would count, and what the row checks find."""
    at = seen.refusals if matrix.name == "refusals" else seen.edges
    if drafts.counted(seen, cell, matrix.name):
        st.markdown(":green[✓] It would count in this cell.")
    elif at is None:
        st.markdown(":orange[○] It would not count here: the checks see no edge case in this prompt. A family that the spec "
                    "names for this kind makes it one.")
    else:
        st.markdown(f":orange[○] It would count elsewhere: **{state.plain(cells.words_of(at))}**.")
    marks = {"error": ":red[✖]", "warning": ":orange[▲]", "info": "●"}
    for flag in seen.flags[:6]:
        st.markdown(f"{marks[str(flag['severity'])]} {state.plain(str(flag['check']))}: {state.plain(str(flag['message']))}")
    if not seen.flags:
        st.caption("The row checks find nothing.")


def _save(key: state.Key, pairs: list[writing.Pair], source: str) -> None:
    """Write the pairs as one new version and begin anew; the page then says that a check is due."""
    desk = state.desk()
    try:
        uids = writing.write_pairs(Store(key.folder), pairs, source=source, actor=desk.actor)
    except CurationError as e:
        st.error(f"{state.plain(e.what)}. {state.plain(e.hint)}.")
        return
    st.session_state["desk-round"] = st.session_state.get("desk-round", 0) + 1
    st.session_state.pop("model-drafts", None)
    st.session_state["last-written"] = tuple(uids)
    st.session_state["written"] = f"{len(uids)} pair{'s are' if len(uids) > 1 else ' is'} written, behind the other rows."
    st.rerun()


# ---- drafts


@st.cache_data(max_entries=16, show_spinner="Making drafts …")
def _made(checked: tuple[str, str, int], log: int, spec: int, name: str, kept: bool, cell: cells.Cell) -> list[drafts.Draft]:
    key = state.Key(checked[0], "", checked[1], checked[2], log, spec)
    found = cells.checked_at(key)
    assert found is not None, "drafts are offered for rows that have been checked"
    return drafts.drafts(cells.matrix_at(key, name, kept=kept), cell, found.rows, state.spec_at(checked[0], spec), n=DRAFTS)


def _draft(key: state.Key, found: cells.Checked, matrix: Matrix, cell: cells.Cell, spec: Spec) -> None:
    name = "refusals" if matrix.name == "refusals" else "edges"
    kept = bool(st.session_state.get("matrix_kept", True))
    st.caption("Drafts to be edited, made from prompts of the set, the spec's words and templates. Nothing is stored before you "
               "tick and save it.")
    own = _made(key.checked, key.log if kept else 0, key.spec, name, kept, cell)
    asked = st.session_state.get("model-drafts", {})
    shown = [*asked.get("drafts", ()), *own] if asked.get("cell") == cell else own
    if not shown:
        st.text("There is nothing to draft from: no prompt of the set, and no word of the spec, leads to this cell.")
    mark = state.short_hash(cell, st.session_state.get("desk-round", 0))
    taken = [p for k, d in enumerate(shown) if (p := _one_draft(d, matrix, cell, spec, f"{mark}-{state.short_hash(d)}-{k}"))]
    if shown and st.button(f"Save the {len(taken)} ticked" if taken else "Save what is ticked", key="draft-save", type="primary",
                           icon=":material/save:", disabled=not taken):
        _save(key, taken, "drafted")
    _ask_model(found, matrix, cell, spec)


def _one_draft(draft: drafts.Draft, matrix: Matrix, cell: cells.Cell, spec: Spec, mark: str) -> writing.Pair | None:
    """Draw a draft to edit and return it as a pair when it is ticked and whole."""
    with st.container(border=True):
        one, two = st.columns(2, gap="medium")
        prompt = one.text_area("Prompt", draft.instruction, key=f"draft-prompt-{mark}", height=100)
        response = two.text_area("Response", draft.response, key=f"draft-response-{mark}", height=100,
                                 placeholder="The answer is yours to write: without a model there is no draft of it.")
        one.caption(state.plain(f"Draft: {draft.how}" + (f", {draft.by}" if draft.by else "")))
        with two:
            tick = st.checkbox("Take this pair", key=f"draft-take-{mark}", disabled=not response.strip() or not prompt.strip())
            if not tick or not response.strip() or not prompt.strip():
                return None
            try:
                made = drafts.to_pair(draft, instruction=prompt, input=draft.input, response=response,
                                      family=drafts.family_of(cell, spec))
                _seen(writing.look([made], spec)[0], matrix, cell)
            except CurationError as e:
                st.warning(f"{state.plain(e.what)}. {state.plain(e.hint)}.")
                return None
    return made


def _ask_model(found: cells.Checked, matrix: Matrix, cell: cells.Cell, spec: Spec) -> None:
    with st.expander("Drafts by a model behind an OpenAI-compatible address"):
        one, two = st.columns(2)
        endpoint = one.text_input("Address", os.environ.get("CURATION_ENDPOINT", ""), key="draft-endpoint",
                                  placeholder="http://127.0.0.1:8000/v1")
        model = two.text_input("Model", os.environ.get("CURATION_MODEL", ""), key="draft-model")
        st.caption("The key is read from OPENAI_API_KEY. What is sent, prompts of the set among it:")
        st.code(drafts.asked(matrix, cell, found.rows, spec, DRAFTS), language=None, wrap_lines=True)
        if st.button("Ask for drafts", key="draft-ask", disabled=not endpoint or not model, icon=":material/outgoing_mail:"):
            try:
                with st.spinner("Waiting for the model …"):
                    made = drafts.model_drafts(endpoint, model, matrix, cell, found.rows, spec, n=DRAFTS)
            except CurationError as e:
                st.error(f"{state.plain(e.what)}. {state.plain(e.hint)}.")
                return
            st.session_state["model-drafts"] = {"cell": cell, "drafts": made}
            st.rerun(scope="fragment")
