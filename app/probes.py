"""Probes on the screen: a table of them, one with its answers, and the rows behind a failed one with what to do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from curation.train import slices
from curation.train.eval_cli import open_flags

from curation.errors import CurationError
from curation.store import Entry, Store
from curation.text import fold
from curation.writing import write_pair

from . import answers, card, editing, state
from .views import browse

PAGE = 100
SHOWN = 12              # rows behind a probe that are listed
Result = Mapping[str, Any]
#: A run as the page names it, with its results.
Answered = Sequence[tuple[str, Path, Mapping[str, Result]]]


# ---- the table


def table(results: Sequence[Result], *, key: str, others: Mapping[str, Result] | None = None) -> str:
    """Draw probes as a table and return the id of the one whose cell was clicked, "" for none.

    `others`: the same probes as a second run answered them, shown beside.
    """
    pages = max(1, -(-len(results) // PAGE))
    number = int(st.session_state.get(f"{key}-page", 1))
    shown = results[(min(number, pages) - 1) * PAGE: min(number, pages) * PAGE]
    columns = {"behaviour": [r["behaviour"] for r in shown], "prompt": [_line(r["prompt"]) for r in shown]}
    if others is None:
        columns = {"": ["✓" if r["passed"] else "✗" for r in shown], **columns, "answer": [_line(r["output"]) for r in shown],
                   "failed": [", ".join(slices.failed_checks(r)) for r in shown]}
    else:
        columns |= {"answer of A": [_line(r["output"]) for r in shown],
                    "answer of B": [_line(others[r["id"]]["output"]) for r in shown]}
    frame = pd.DataFrame(columns)
    event = st.dataframe(
        frame, key=f"{key}-{state.short_hash([r['id'] for r in shown])}", hide_index=True, height=min(430, 38 + 33 * len(shown)),
        on_select="rerun", selection_mode="single-cell", lazy=False, alt="Probes",
        column_config={"": st.column_config.TextColumn(width=30), "behaviour": st.column_config.TextColumn(width=90),
                       "prompt": st.column_config.TextColumn(width=230), "answer": st.column_config.TextColumn(width=190),
                       "answer of A": st.column_config.TextColumn(width=120),
                       "answer of B": st.column_config.TextColumn(width=120)})
    if pages > 1:
        st.pagination(pages, key=f"{key}-page")
    cells = event["selection"].get("cells", [])
    return str(shown[cells[0][0]]["id"]) if cells and cells[0][0] < len(shown) else ""


def _line(text: str) -> str:
    return " ".join(text[: state.CUT].split())


def opened(clicked: str, known: Mapping[str, Result]) -> str:
    """Return the probe to show: the one just clicked, else the one in the address; the address then names it."""
    if clicked:
        st.query_params["probe"] = clicked
        return clicked
    given = st.query_params.get("probe", "")
    return given if given in known else ""


# ---- one probe


def show(key: state.Key, probe: str, answered: Answered) -> None:
    """Draw a probe with the answers of runs, and the rows behind it for the first of them that failed it."""
    first = answered[0][2][probe]
    st.markdown(f"**{state.plain(probe)}** · {state.plain(first['behaviour'])}"
                + (f" · {state.plain(first['family'])}" if first.get("family") else ""))
    answers.show(first, [(f"{'passed' if r[probe]['passed'] else 'FAILED'} · {name}", r[probe]) for name, _, r in answered],
                 key=f"probe-{state.short_hash(probe, [n for n, _, _ in answered])}")
    failed = next(((r, results) for _, r, results in answered if not results[probe]["passed"]), None)
    if failed is None:
        st.caption("Every run shown passed this probe.")
        return
    _behind(key, failed[0], failed[1][probe], [r["prompt"] for r in failed[1].values()])


def _behind(key: state.Key, run: Path, result: Result, asked: Sequence[str]) -> None:
    """Draw the rows that most likely taught what a failed probe shows, the open one with its actions."""
    st.markdown(f"**Rows behind it** · {state.plain(run.name)}")
    entries = behind(key, run, result)
    if isinstance(entries, str):
        st.caption(entries)
    elif not entries:
        st.caption("No row of the set is near to this probe: nothing taught it. Write the pair that would.")
    else:
        _rows(key, result, entries[:SHOWN])
    _write(key, result, asked)


def behind(key: state.Key, run: Path, result: Result) -> list[dict[str, Any]] | str:
    """Return the rows behind a failed probe as {row, uid, score, reason}, or the words that say why there are none.

    They come from the queue that `curation eval` wrote, else are looked for now by the words they share.
    """
    found = slices.culprits(Path(key.folder), run, result["id"])
    if found is None:
        try:
            found = _looked(key.checked, key.spec, str(run), result["id"], result)
        except CurationError as e:
            return f"No queue holds this probe and the rows cannot be looked for here: {e.what}. {e.hint}"
    return in_set(state.index_of(key), found)


@st.cache_data(max_entries=64, show_spinner="Looking for the rows …")
def _looked(checked: tuple[str, str, int], spec: int, run: str, probe: str, _result: Result) -> list[dict[str, Any]]:
    """Return what `look_for_rows` finds; the leading underscore keeps the result itself out of the cache's key."""
    return slices.look_for_rows(Path(run), _result, open_flags(Path(checked[0])))


def in_set(index: state.Index, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return entries with the row number that their uid has now; rows that are no longer in the set are left out."""
    out = []
    for entry in entries:
        row = int(entry["row"])
        if row >= index.n or index.rows.slice(row, 1)["uid"][0].as_py() != entry["uid"]:
            row = pc.index(index.rows["uid"], pa.scalar(entry["uid"], pa.string())).as_py()
        if row >= 0:
            out.append({**entry, "row": row})
    return out


def _rows(key: state.Key, result: Result, entries: Sequence[Mapping[str, Any]]) -> None:
    index, verdicts = state.index_of(key), state.verdicts_of(key)
    columns = state.table_of(index, verdicts, pa.array([e["row"] for e in entries]).to_numpy())
    frame = pd.DataFrame({"row": columns["row"], "verdict": columns["verdict"], "why": [e["reason"] for e in entries],
                          "prompt": columns["prompt"], "response": columns["response"]})
    event = st.dataframe(
        frame, key=f"behind-{state.short_hash(result['id'], [e['uid'] for e in entries])}", hide_index=True,
        height=min(240, 38 + 33 * len(entries)), on_select="rerun", selection_mode="single-cell", lazy=False,
        alt="Rows behind the probe",
        column_config={"row": st.column_config.NumberColumn(width=55, format="%d"),
                       "verdict": st.column_config.TextColumn(width=85),
                       "why": st.column_config.TextColumn(width=220), "prompt": st.column_config.TextColumn(width=190),
                       "response": st.column_config.TextColumn(width=190)})
    cells = event["selection"].get("cells", [])
    _row(key, entries[cells[0][0] if cells and cells[0][0] < len(entries) else 0], entries, result)


def _row(key: state.Key, entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], result: Result) -> None:
    """Draw the open row behind a probe: what to do with it, the row, and its fields to edit."""
    index, verdicts = state.index_of(key), state.verdicts_of(key)
    uid, row = str(entry["uid"]), int(entry["row"])
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.button("Reject", key=f"reject-{uid}", icon=":material/close:", on_click=_decide,
                  args=(key, [Entry(uid, "reject", f"behind the failed probe {result['id']}")], f"reject row {row:,}"))
        if uid in verdicts.decisions:
            st.button("Undo", key="behind-undo", icon=":material/undo:", on_click=_undo, args=(key,),
                      disabled=not state.desk().done, help="Takes the newest verdict of this browser session back")
        if st.button("Open in Browse", key=f"browse-{uid}", icon=":material/open_in_new:"):
            st.switch_page(browse.as_page(), query_params={"row": str(row)})
        if st.button(f"All {len(entries)} in Browse", key="browse-all", icon=":material/table_rows:"):
            name = state.keep(key, pa.array([e["row"] for e in entries]).to_numpy(), f"behind the failed probe {result['id']}")
            st.switch_page(browse.as_page(), query_params={"among": name})
    if state.desk().said:
        st.caption(f"{state.desk().said[:1].upper()}{state.desk().said[1:]}.")
    seen = card.view(index, verdicts, row, state.spec_at(key.folder, key.spec), why=str(entry["reason"]), whole=state.WHOLE,
                     editable=True)
    card.show(seen, key=f"behind-row-{uid}")
    editing.form(key, uid, row, seen["edit"], note=f"behind the failed probe {result['id']}")


def _decide(key: state.Key, entries: Sequence[Entry], words: str) -> None:
    state.desk().decide(Store(key.folder), entries, words)


def _undo(key: state.Key) -> None:
    state.desk().undo(Store(key.folder))


# ---- a new pair


def _write(key: state.Key, result: Result, asked: Sequence[str]) -> None:
    """Offer to write the pair that is missing; the probe's own prompt is refused, or the battery would measure memory."""
    with st.expander("Write a pair that teaches it"):
        st.caption("Another prompt than the probe's, which stays held out. The pair is added behind the rows; check, export and "
                   "train again to see what it changes.")
        names = ["", *(f.id for f in state.spec_at(key.folder, key.spec).families)]
        mine = result.get("family") or ""
        with st.form(f"write-{state.short_hash(result['id'], key.version)}", border=False):
            family = st.selectbox("Family", names, index=names.index(mine) if mine in names else 0, key="write_family")
            prompt = st.text_area("Prompt", key="write_prompt", height=80)
            response = st.text_area("Response", key="write_response", height=110)
            if st.form_submit_button("Write the pair", icon=":material/add:"):
                said = _written(key, str(prompt), str(response), str(family or ""), asked)
                st.session_state["write_said"] = (result["id"], said)
                st.rerun()
        probe, words = st.session_state.get("write_said") or ("", "")
        if probe == result["id"]:
            st.text(words)


def _written(key: state.Key, prompt: str, response: str, family: str, asked: Sequence[str]) -> str:
    """Write a pair and return what to say of it."""
    try:
        hold_apart(prompt, asked)
        uid = write_pair(Store(key.folder), instruction=prompt, response=response, family=family, actor=state.desk().actor)
    except CurationError as e:
        return f"Not written: {e.what}. {e.hint}"
    return f"Written as {uid}. Run the checks, so that the new row is looked at."


def hold_apart(prompt: str, asked: Sequence[str]) -> None:
    """Raise CurationError when a prompt is one of the battery's, folded as the contamination check folds it."""
    if fold(prompt) in {fold(a) for a in asked}:
        raise CurationError("this is a prompt of the battery", "ask for the same in other words or about another thing, or the "
                            "battery measures memory")


