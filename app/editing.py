"""The form in which one row's fields are edited, and what is stored of it."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from curation.store import Entry, Store

from . import card, state


def form(key: state.Key, uid: str, row: int, fields: Mapping[str, str], *, note: str = "") -> None:
    """Draw the fields of a row to edit, folded; `note` goes into the log beside what was changed."""
    with st.expander("Edit this row"):
        if sum(map(len, fields.values())) > card.EDITABLE:
            st.text(f"This row is too long to edit in the browser (over {card.EDITABLE:,} characters).")
            return
        with st.form(f"edit-{uid}-{key.log}", border=False):
            for name, text in fields.items():
                st.text_area(name, text, key=f"edit-{uid}-{key.log}-{name}", height=160 if name == "response" else 80)
            st.form_submit_button("Save", icon=":material/save:", on_click=_save, args=(key, uid, row, fields, note),
                                  help="The row counts as accepted with this text; the checks look at it again, and the next "
                                       "vetted set has it.")


def _save(key: state.Key, uid: str, row: int, fields: Mapping[str, str], note: str) -> None:
    now = {name: st.session_state[f"edit-{uid}-{key.log}-{name}"] for name in fields}
    changed = [Entry(uid, "edit", note, name, fields[name], text) for name, text in now.items() if text != fields[name]]
    desk = state.desk()
    if changed:
        desk.decide(Store(key.folder), changed, f"edit row {row:,}")
    else:
        desk.said = "nothing was changed"
