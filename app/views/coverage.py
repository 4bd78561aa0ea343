"""Coverage & spec: families, refusals and edge cases against what the spec wants, and the spec itself, edited and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from curation import coverage as covering
from curation import spec as specs
from curation import spec_edit
from curation.checks import CHECKS
from curation.errors import CurationError
from curation.gate import Effective
from curation.spec import Spec

from .. import bars, fields, progress, state

VIEWS = ("Coverage", "Spec")


def as_page() -> Any:
    return st.Page(page, title="Coverage & spec", icon=":material/checklist:", url_path="coverage")


def page() -> None:
    folder = state.folder()
    key = state.key_of(folder)
    if key is None:
        st.header("Nothing to cover yet", anchor=False)
        st.text("The spec says what the set shall teach and how much of it; this page holds the rows against it. The Overview "
                "page says how to import some.")
        return
    view = st.segmented_control("View", VIEWS, default="Coverage", key="view", bind="query-params", label_visibility="collapsed",
                                required=True) or "Coverage"
    if view == "Spec":
        _spec(folder, key)
        return
    if not state.index_of(key).checked:
        st.header("Not counted yet", anchor=False)
        st.text("Which family a row belongs to, and whether it refuses, is told by the checks. Run them; the spec can be edited "
                "meanwhile.")
        progress.offer(folder, ["check", str(folder)], "Run the checks", key="check")
        return
    _coverage(key)


# ---- coverage


def _coverage(key: state.Key) -> None:
    effective, result = state.gate_of(key)
    spec = state.spec_at(key.folder, key.spec)
    gaps = sorted((c for c in result.coverage if not c.met), key=lambda c: (-c.gap, c.kind, c.id))
    n = len(gaps)
    (st.warning if gaps else st.success)(
        f"{n} of {len(result.coverage)} numbers {'is' if n == 1 else 'are'} not met by the {result.kept:,} rows that would be "
        "exported." if gaps else f"The {result.kept:,} rows that would be exported meet every number of the spec.",
        icon=":material/rule:" if gaps else ":material/check_circle:")
    if not result.coverage:
        st.text("The spec names no families, so there is nothing to cover. Add one under Spec.")
        return
    left, right = st.columns([7, 4], gap="large")
    with left:
        st.caption("Rows that would be exported; a stroke is the least or the most that the spec wants. A click shows the rows.")
        opened = bars.show(bars.of_coverage(result.coverage), key="coverage-bars")
    with right:
        st.subheader("What is missing", anchor=False)
        st.text("\n".join(f"– {c.message}" for c in gaps) or "Nothing.")
        if any(c.kind in ("refused", "answered", "edge_case") for c in gaps):
            from . import refusals

            st.page_link(refusals.as_page(), label="Write or draft pairs for them", icon=":material/grid_on:")
        if spec.families:
            st.caption(f"Effective number of families: {_effective(result.coverage):.1f} of {len(spec.families)} (equal shares "
                       "would give all).")
    if opened:
        _open(key, effective, spec, opened)


def _effective(found: Any) -> float:
    return covering.effective_number([c.have for c in found if c.kind == "family" and c.id != "(unassigned)"])


def _open(key: state.Key, effective: Effective, spec: Spec, word: str) -> None:
    """Show the rows that a line counts on the Browse page."""
    from . import browse

    kind, _, id = word.partition("|")
    mask = covering.members(effective.signals, spec).get((kind, id))
    if mask is None:
        return
    rows = np.flatnonzero(mask & ~effective.rejected)
    name = state.keep(key, rows, f"{bars.KINDS[kind].lower()}: {id}, of the rows that would be exported")
    st.switch_page(browse.as_page(), query_params={"among": name})


# ---- the spec


def _spec(folder: Path, key: state.Key) -> None:
    path = folder / "spec.yaml"
    now = path.read_text(encoding="utf-8") if path.exists() else ""
    desk = st.session_state.setdefault("spec-desk", {"base": now, "work": now, "round": 0, "folder": str(folder)})
    if desk["folder"] != str(folder) or (desk["base"] != now and desk["work"] == desk["base"]):
        desk.update(base=now, work=now, round=desk["round"] + 1, folder=str(folder))     # nothing of ours is lost
    if not path.exists():
        st.text("There is no spec.yaml yet. This writes one fitted to the rows, to read and change; or begin with an empty "
                "one here.")
        progress.offer(folder, ["init", str(folder)], "Write spec.yaml", key="init")
    if desk.get("said"):
        st.success(desk["said"], icon=":material/check_circle:")
        st.text("Flags and numbers were found with the spec before. A check looks only at what the change touches.")
        progress.offer(folder, ["check", str(folder)], "Check again", key="check-again")
    if desk["base"] != now:
        _meanwhile(desk, now)
    spec, found = specs.problems(desk["work"], CHECKS)
    left, right = st.columns([7, 5], gap="large")
    with left:
        _edit(desk, found)
    with right:
        _review(path, desk, spec, found, now)


def _edit(desk: dict[str, Any], found: list[tuple[int, str]]) -> None:
    try:
        data = spec_edit.value_of(desk["work"]) or {}
    except CurationError:
        data = None
    if not isinstance(data, dict):
        st.session_state["spec-how"] = "Text"       # and it stays so while one mends it
    whole = st.segmented_control("Edit as", ("Fields", "Text"), default="Fields", key="spec-how", label_visibility="collapsed",
                                 required=True) == "Text"
    if whole:
        name = f"spec-text-{desk['round']}"
        st.text_area("spec.yaml", desk["work"], key=name, height=560, on_change=_typed, args=(desk, name))
        return
    parts = fields.parts_of(data)
    names = list(parts)
    chosen = st.selectbox("Part", names, key="spec-part", index=names.index(desk["part"]) if desk.get("part") in names else 0) \
        or names[0]
    desk["part"] = chosen
    for field in fields.fields_of(data, parts[chosen]):
        _field(desk, field, fields.beside(field, found))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("A further one", key="spec-new", placeholder="its name")
        st.button("Add a family", key="spec-add-family", icon=":material/add:", on_click=_add, args=(desk, "Family"))
        st.button("Add a kind of harm", key="spec-add-harm", icon=":material/add:", on_click=_add, args=(desk, "Harm"))
    st.caption("To take a family, a category or an edge case out, or to set options of checks, edit the text.")


def _field(desk: dict[str, Any], field: fields.Field, wrong: list[str]) -> None:
    """Draw one field with its message beside it; a change goes into the text at once."""
    key = f"spec-{desk['round']}-{field.name}"
    wrong = [*wrong, *([desk["raw"][field.name]] if field.name in desk.get("raw", {}) else [])]
    box, said = st.columns([5, 4], vertical_alignment="bottom")
    with box:
        if field.options and field.text in ("", *field.options):
            options = ["", *field.options]
            st.selectbox(field.label, options, index=options.index(field.text), key=key, on_change=_set, args=(desk, field, key),
                         help=field.help or None, format_func=lambda x: x or f"({field.default or 'none'})")
        elif field.long:
            st.text_area(field.label, field.text, key=key, height=120, on_change=_set, args=(desk, field, key),
                         help=field.help or None)
        else:
            st.text_input(field.label, field.text, key=key, on_change=_set, args=(desk, field, key), help=field.help or None,
                          placeholder=field.default or "needed")
    for message in wrong:
        said.markdown(f":red[✖ {state.plain(message)}]")


def _set(desk: dict[str, Any], field: fields.Field, key: str) -> None:
    raw = desk.setdefault("raw", {})
    raw.pop(field.name, None)
    desk.pop("said", None)
    try:
        desk["work"] = fields.changed(desk["work"], field, st.session_state[key])
    except CurationError as e:
        raw[field.name] = e.what


def _typed(desk: dict[str, Any], name: str) -> None:
    desk["work"] = st.session_state[name]
    desk.pop("said", None)


def _add(desk: dict[str, Any], what: str) -> None:
    try:
        desk["work"], desk["part"] = fields.added(desk["work"], what, st.session_state["spec-new"])
    except CurationError as e:
        desk["told"] = f"{e.what}: {e.hint}"
        return
    st.session_state["spec-part"], st.session_state["spec-new"] = desk["part"], ""


def _review(path: Path, desk: dict[str, Any], spec: Spec | None, found: list[tuple[int, str]], now: str) -> None:
    """What is wrong, what would change, and the buttons that save it or drop it."""
    if told := desk.pop("told", ""):
        st.warning(state.plain(told))
    if found:
        st.error(f"{len(found)} to mend before it can be saved.", icon=":material/error:")
        st.text("\n".join(f"line {line}: {message}" for line, message in found[:20]))
    change = spec_edit.diff(desk["base"], desk["work"])
    if not change:
        st.text("Nothing is changed yet. What you change is shown here, line by line, before it is saved.")
        return
    st.subheader("What will change", anchor=False)
    st.code(change, language="diff", wrap_lines=True)
    with st.container(horizontal=True):
        waits = bool(desk.get("raw")) or spec is None or desk["base"] != now
        st.button("Save spec.yaml", key="spec-save", type="primary", icon=":material/save:", disabled=waits, on_click=_save,
                  args=(path, desk))
        st.button("Drop my changes", key="spec-drop", icon=":material/undo:", on_click=_begin, args=(desk, desk["base"]))


def _begin(desk: dict[str, Any], text: str) -> None:
    desk.update(base=text, work=text, round=desk["round"] + 1, raw={})
    desk.pop("said", None)


def _save(path: Path, desk: dict[str, Any]) -> None:
    try:
        spec_edit.save(path, desk["work"], desk["base"], CHECKS)
    except CurationError as e:
        desk["told"] = f"{e.what}. {e.hint}."
        return
    _begin(desk, desk["work"])
    desk["said"] = "spec.yaml is saved."


def _meanwhile(desk: dict[str, Any], now: str) -> None:
    """The file was changed by someone else while it was edited here: show both, and let the person choose."""
    with st.container(border=True, key="spec-meanwhile"):
        st.markdown("**spec.yaml was changed meanwhile**, in an editor or by a verb. Nothing is overwritten before you choose.")
        theirs, mine = st.columns(2)
        theirs.caption("What changed in the file")
        theirs.code(spec_edit.diff(desk["base"], now, ("before", "the file now")), language="diff", wrap_lines=True)
        mine.caption("What you changed")
        mine.code(spec_edit.diff(desk["base"], desk["work"], ("before", "yours")), language="diff", wrap_lines=True)
        theirs.button("Take the file, drop mine", key="spec-theirs", on_click=_begin, args=(desk, now))
        mine.button("Keep mine, drop what changed in the file", key="spec-mine", on_click=lambda: desk.update(base=now))
