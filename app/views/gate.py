"""Gate & export: each policy line met or not, what left the set and why, the export, vetted sets to download, what changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from curation import changes
from curation.export import FORMATS
from curation.gate import GateResult
from curation.store import Store

from .. import packing, progress, state

LISTED = 200    # changes of a kind that are listed; the counts are of all
MARKS = {"added": "+ added", "removed": "− removed", "edited": "~ edited"}


def as_page() -> Any:
    return st.Page(page, title="Gate & export", icon=":material/door_open:", url_path="gate")


def page() -> None:
    folder = state.folder()
    key = state.key_of(folder)
    if key is None or not state.index_of(key).checked:
        st.header("The gate has nothing to judge yet", anchor=False)
        st.text("It reads flags, verdicts and coverage. Run the checks first; the Overview page has the button.")
        if key is not None:
            _sets(Store(folder))
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
    _export(folder, result)
    _changes(key)
    _sets(Store(folder))


def _export(folder: Path, result: GateResult) -> None:
    st.subheader("Export", anchor=False)
    argv = ["export", str(folder)]
    format = st.segmented_control("Format of the JSONL files", FORMATS, default=FORMATS[0], key="export-format", required=True)
    if format and format != FORMATS[0]:
        argv += ["--format", format]
    if result.passed:
        st.text(f"{result.kept:,} rows go out as splits with manifest, ledger, dataset card and recipes.")
        progress.offer(folder, argv, "Write the vetted set", key="export")
        return
    st.text("The gate is closed. An override needs a reason, which the manifest then records.")
    reason = st.text_input("Reason for the override", key="override", max_chars=300)
    if reason.strip():
        progress.offer(folder, [*argv, "--override", reason.strip()], "Export all the same", key="export")


# ---- what changed


@st.cache_data(max_entries=8, show_spinner="Comparing …")
def _compared(key: state.Key, old: int, new: int, manifests: tuple[str, ...]) -> tuple[dict[str, int], pa.Table]:
    """Return the changes from vetted set `old` to set `new`, 0 = the folder as it stands. `manifests`: hashes, for the cache."""
    store = Store(key.folder)
    after = changes.vetted(store, new) if new else changes.present(state.gate_of(key)[0])
    return changes.changes(changes.vetted(store, old), after, limit=LISTED)


def _changes(key: state.Key) -> None:
    """What changed since a vetted set, or from one to another, each row with its reason."""
    st.subheader("What changed", anchor=False)
    sets = changes.vetted_sets(Store(key.folder))
    if not sets:
        st.text("Nothing has been exported yet. After the first export this lists what has changed since, row by row, with "
                "reasons.")
        return
    numbers = [m["number"] for m in sets]
    one, two, _ = st.columns([2, 2, 4])
    old = one.selectbox("From", numbers, key="changes-from", format_func=lambda k: f"vetted/{k}")
    new = two.selectbox("To", [0, *numbers], key="changes-to",
                        format_func=lambda k: f"vetted/{k}" if k else "the set as it is now")
    if old is None or new is None or old == new:
        st.text("The same set twice.")
        return
    counts, found = _compared(key, old, new, tuple(m["hash"] for m in sets))
    st.markdown(" · ".join(f"**{counts[kind]:,}** {kind}" for kind in changes.KINDS))
    if found.num_rows:
        frame = found.to_pandas()
        st.dataframe(
            pd.DataFrame({"": [MARKS[c] for c in frame["change"]], "row": frame["row"], "prompt": frame["prompt"],
                          "why": frame["why"], "by": frame["actor"]}),
            hide_index=True, key=f"changes-{state.short_hash(key, old, new)}", alt="Rows that changed, with reasons",
            column_config={"": st.column_config.TextColumn("", width=90),
                           "row": st.column_config.NumberColumn("row", width=70, format="%d"),
                           "prompt": st.column_config.TextColumn("prompt", width=360),
                           "why": st.column_config.TextColumn("why", width=480),
                           "by": st.column_config.TextColumn("by", width=110)})
    if found.num_rows < sum(counts.values()):
        st.caption(f"The first {LISTED} of a kind. All of them, as JSON:")
    st.code(f"curation diff {key.folder} vetted/{old}{f' vetted/{new}' if new else ''}"
            f"{' --json' if found.num_rows < sum(counts.values()) else ''}", language=None, wrap_lines=True)
    here = frame["row"].dropna().astype(int).tolist() if found.num_rows else []
    if here and st.button(f"Show the {len(here):,} rows", key="changes-rows", icon=":material/table_rows:"):
        from . import browse

        words = f"changed from vetted/{old} to {f'vetted/{new}' if new else 'now'}"
        st.switch_page(browse.as_page(), query_params={"among": state.keep(key, pd.Series(here).to_numpy(), words)})


# ---- vetted sets


def _sets(store: Store) -> None:
    """Every vetted set, newest first, and the download of one."""
    sets = changes.vetted_sets(store)
    if not sets:
        return
    st.subheader("Vetted sets", anchor=False)
    st.dataframe(
        pd.DataFrame({
            "set": [f"vetted/{m['number']}" for m in sets],
            "written": [datetime.fromtimestamp(Path(m["path"], "manifest.json").stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M")
                        for m in sets],
            **{name: [m["counts"][name] for m in sets] for name in ("train", "validation", "dropped", "edited")},
            "gate": [m["gate"] + (f": {m['override']}" if m["override"] else "") for m in sets],
            "rows": [m["rows_version"] for m in sets], "format": [m["format"] for m in sets],
            "hash": [m["hash"][:12] for m in sets]}),
        hide_index=True, key="vetted-sets", alt="Vetted sets, newest first",
        column_config={"written": st.column_config.TextColumn("written (UTC)"),
                       "rows": st.column_config.TextColumn("row version")})
    _download(sets)


def _download(sets: list[dict[str, Any]]) -> None:
    by = {m["number"]: m for m in sets}
    one, two, three = st.columns([2, 3, 3], vertical_alignment="bottom")
    number = one.selectbox("Download", list(by), key="download-set", format_func=lambda k: f"vetted/{k}")
    if number is None:
        return
    path = Path(by[number]["path"])
    files = packing.files_of(path)
    whole = sum(files.values())
    file = two.selectbox("File", ["", *files], key="download-file",
                         format_func=lambda f: f"{f} ({packing.size(files[f])})" if f else "everything, as one zip")
    stem = f"{state.short_hash(by[number]['name'])}" if not by[number]["name"].isascii() else \
        "".join(c if c.isalnum() or c in "-_" else "-" for c in by[number]["name"])[:60]
    if (files[file] if file else whole) > packing.LIMIT:
        three.text(f"{packing.size(files[file] if file else whole)}: too big for the browser. It lies in")
        three.code(str(path / (file or "")), language=None, wrap_lines=True)
    elif file:
        three.download_button("Download the file", (path / file).read_bytes, file_name=f"{stem}-{number}-{Path(file).name}",
                              key="download-one", icon=":material/download:", on_click="ignore")
    else:
        three.download_button(f"Download the zip of {packing.size(whole)}", lambda: packing.zipped(path, f"{stem}-{number}"),
                              file_name=f"{stem}-{number}.zip", mime="application/zip", key="download-zip",
                              icon=":material/download:", on_click="ignore")


def _counts(counts: dict[str, int], what: str, none: str) -> None:
    if not counts:
        st.text(none.capitalize() + ".")
        return
    ordered = sorted(counts.items(), key=lambda x: -x[1])
    st.dataframe(pd.DataFrame({what: [k for k, _ in ordered], "rows": [v for _, v in ordered]}), hide_index=True,
                 key=f"counts-{what}")
