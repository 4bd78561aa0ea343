"""Gate & export: each policy line met or not, what left the set and why, and the command that writes the vetted set."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from .. import progress, state


def as_page() -> Any:
    return st.Page(page, title="Gate & export", icon=":material/door_open:", url_path="gate")


def page() -> None:
    folder = state.folder()
    key = state.key_of(folder)
    if key is None or not state.index_of(key).checked:
        st.header("The gate has nothing to judge yet", anchor=False)
        st.text("It reads flags, verdicts and coverage. Run the checks first; the Overview page has the button.")
        return
    _, result = state.gate_of(key)
    (st.success if result.passed else st.error)(
        result.sentence, icon=":material/check_circle:" if result.passed else ":material/block:")
    st.subheader("Policy", anchor=False)
    st.dataframe(pd.DataFrame({
        "": ["✓ met" if x.met else "✖ not met" for x in result.lines],
        "rule": [x.rule for x in result.lines],
        "have": [f"{x.have:.2%}" if "rate" in x.rule else f"{x.have:,.0f}" for x in result.lines],
        "want": [str(x.want) for x in result.lines],
        "in words": [x.message for x in result.lines]}),
        hide_index=True, key="policy", alt="Rules of the gate",
        column_config={"": st.column_config.TextColumn("", width=80), "rule": st.column_config.TextColumn("rule", width=190),
                       "have": st.column_config.TextColumn("have", width=75),
                       "want": st.column_config.TextColumn("want", width=150),
                       "in words": st.column_config.TextColumn("in words", width=620)})
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Left out", anchor=False)
        st.caption(f"{result.rows - result.kept:,} rows are rejected. Nothing is deleted: each can be accepted again on the "
                   "Browse page.")
        _counts(result.rejected, "rejected by", "no row is rejected")
    with right:
        st.subheader("Still open", anchor=False)
        st.caption("Rows with a flag that nobody has decided, by check.")
        _counts(result.open_flags, "check", "no flag is open")
    st.subheader("Export", anchor=False)
    if result.passed:
        st.text(f"{result.kept:,} rows go out as splits with manifest, ledger, dataset card and recipes.")
        progress.offer(folder, ["export", str(folder)], "Write the vetted set", key="export")
        return
    st.text("The gate is closed. An override needs a reason, which the manifest then records.")
    reason = st.text_input("Reason for the override", key="override", max_chars=300)
    if reason.strip():
        progress.offer(folder, ["export", str(folder), "--override", reason.strip()], "Export all the same", key="export")


def _counts(counts: dict[str, int], what: str, none: str) -> None:
    if not counts:
        st.text(none.capitalize() + ".")
        return
    ordered = sorted(counts.items(), key=lambda x: -x[1])
    st.dataframe(pd.DataFrame({what: [k for k, _ in ordered], "rows": [v for _, v in ordered]}), hide_index=True,
                 key=f"counts-{what}")
