"""Overview: the gate's verdict in one sentence, the scorecard, coverage, progress of review, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from curation import review as queues
from curation.checks import CHECKS
from curation.checks.base import first_line
from curation.gate import Effective, GateResult, action_of
from curation.measured import least
from curation.model import SEVERITIES
from curation.spec import Spec
from curation.store import Store

from .. import bars, jobs, progress, start, state

GROUPS = {"dup": "Duplicates", "response": "Responses", "prompt": "Prompts", "constraint": "Constraints",
          "consistency": "Consistency", "refusal": "Refusals", "bias": "Bias", "privacy": "Privacy",
          "toxicity": "Toxicity", "contamination": "Contamination", "diversity": "Diversity"}


def as_page() -> Any:
    return st.Page(page, title="Overview", icon=":material/space_dashboard:", default=True)


def page() -> None:
    folder = state.folder()
    key = state.key_of(folder)
    if key is None:
        _no_rows(folder)
        return
    spec = state.spec_at(key.folder, key.spec)
    index = state.index_of(key)
    if not index.checked:
        _not_checked(folder, index.n, Store(folder).about(), key.spec > 0)
        return
    effective, result = state.gate_of(key)
    st.header(state.plain(spec.name if key.spec else folder.resolve().name), anchor=False)
    _verdict(result)
    _next(folder, result, effective, spec)
    left, right = st.columns([6, 5], gap="large")
    with left:
        _scorecard(index, spec)
    with right:
        _coverage(result)
        _progress(effective, Store(folder))


# ---- before there is something to show


def _steps(now: int) -> None:
    """Say which of the three steps from no data to checked one is at."""
    words = ("Rows", "Spec", "Checks")
    st.markdown(" → ".join(f"**{k} {w}**" if k == now else f"{k} {w} ✓" if k < now else f":gray[{k} {w}]"
                                   for k, w in enumerate(words, 1)))


def _no_rows(folder: Path) -> None:
    st.header("No rows yet", anchor=False)
    _steps(1)
    st.text(f"{folder} is an empty dataset folder. Start from a file of instruction–response pairs: Alpaca, ShareGPT, "
            "OpenAI messages, TRL prompt/completion or CSV, as JSON, JSONL, CSV or Parquet. The format is detected.")
    file = _file(folder)
    if file is None:
        st.caption("The same on the command line:")
        st.code(jobs.command(["import", "FILE", "--to", str(folder)]), language=None, wrap_lines=True)
        job = jobs.newest(folder, "import")
        if job is not None and job.state != "done":     # a reload finds it again
            progress.offer(folder, job.argv, "Import", key="import")
        return
    mapping, ready = _preview(folder, file)
    skip = st.toggle("Leave bad lines out and list them with their reasons", key="import_skip", bind="query-params")
    if ready:
        argv = ["import", str(file), "--to", str(folder), *start.map_arguments(mapping), *(["--skip-bad"] if skip else [])]
        progress.offer(folder, argv, "Import", key="import")


def _file(folder: Path) -> Path | None:
    """Let the user name a file of this machine or upload one, and return it; the address of the page names it too."""
    left, right = st.columns(2, gap="large")
    given = left.text_input("Path of the file on this machine", key="import_path", placeholder="pairs.jsonl", bind="query-params")
    left.caption("Any size. Nothing is copied before you start the import.")
    sent = right.file_uploader("Or upload one, up to 200 MB", key="import_upload",
                               type=sorted({e.rpartition(".")[2] for e in start.ENDINGS}))
    if sent is not None and st.session_state.get("import_sent") != sent.file_id:
        st.session_state["import_sent"] = sent.file_id
        st.query_params["upload"] = start.keep_upload(folder, sent.name, sent.getbuffer())
    if given:
        file = Path(given).expanduser()
        if file.exists():
            return file.resolve()
        st.warning("There is no such file.")
        return None
    held = start.upload_at(folder, st.query_params.get("upload", ""))
    if held is not None:
        st.text(f"Uploaded: {start.given_name(folder, held.name)}, {held.stat().st_size:,} bytes")
    return held.resolve() if held else None


def _preview(folder: Path, file: Path) -> tuple[dict[str, str], bool]:
    """Show how the file would be read, with a choice of fields; return the mapping and whether it can be imported."""
    mark = state.short_hash(str(file), file.stat().st_mtime_ns)
    chosen = {part: name for part in start.PARTS if (name := st.session_state.get(f"map-{mark}-{part}"))}
    found = start.preview(file, chosen)
    with st.container(border=True):
        if found.problem is None:
            st.markdown("**Read as**")
            st.text(found.detected)
        else:
            st.warning(state.plain(found.problem[0]), icon=":material/help:")
            st.text(found.problem[1] if not found.fields else "Say which field is which: a prompt and a response, or the whole "
                    "conversation. What you do not name is kept beside the row.")
        if found.fields:
            with st.expander("Which field is which", expanded=found.problem is not None or bool(chosen)):
                for places in (list(start.PARTS.items())[k: k + 4] for k in (0, 4)):
                    for column, (part, words) in zip(st.columns(4), places, strict=True):
                        column.selectbox(words, found.fields, key=f"map-{mark}-{part}", index=None, placeholder="as detected")
        if found.bad:
            st.warning(f"{state.plain(found.bad)}. The import would stop there, unless bad lines are left out.")
        if found.rows:
            st.caption(f"The first {len(found.rows)} rows as they would be read; long texts are cut.")
            st.dataframe(found.rows, key=f"preview-{mark}-{state.short_hash(chosen)}", hide_index=True,
                         alt="First rows of the file")
    return chosen, found.problem is None


def _not_checked(folder: Path, n: int, about: dict[str, Any], has_spec: bool) -> None:
    st.header(f"{n:,} rows, not checked yet", anchor=False)
    _steps(3 if has_spec else 2)
    st.text(f"{about.get('detected') or 'imported'}. Source: {start.given_name(folder, about.get('source', '?'))}.")
    _refused(folder)
    if not has_spec:
        st.markdown("**First, say what the set shall teach.** A spec names the task families and how much of each, what a "
                    "response owes, what must be refused, and when the gate opens. This writes one fitted to your data, to "
                    "read and change; without one the checks run with their defaults.")
        progress.offer(folder, ["init", str(folder)], "Write spec.yaml", key="init")
    st.markdown("**Run the checks.** They flag rows and delete nothing. You can leave this page; the work goes on.")
    writing = (job := jobs.newest(folder, "init")) is not None and job.state == "running"
    progress.offer(folder, ["check", str(folder)], "Run the checks", key="check", main=has_spec, wait=writing)
    st.caption("Meanwhile the rows can be read on the Browse page.")


def _refused(folder: Path) -> None:
    """Say how many lines the import put aside, and why."""
    n, some = start.refused(folder)
    if n:
        with st.expander(f"{n:,} lines were left out by the import", icon=":material/warning:"):
            st.dataframe([{"line": r["line"], "reason": r["reason"], "text": r["text"][:start.CUT]} for r in some],
                         hide_index=True, key="refused", alt="Lines left out")
            st.caption(f"All of them are in {folder / 'rejected.jsonl'}." if n > len(some) else "")


# ---- the page


def _verdict(result: GateResult) -> None:
    (st.success if result.passed else st.error)(
        result.sentence, icon=":material/check_circle:" if result.passed else ":material/block:")
    if result.reasons:
        st.text("\n".join(f"– {reason}" for reason in result.reasons[:8]))
        if len(result.reasons) > 8:
            with st.expander(f"{len(result.reasons) - 8} more reasons"):
                st.text("\n".join(f"– {reason}" for reason in result.reasons[8:]))


def next_step(folder: Path, result: GateResult, effective: Effective, spec: Spec) -> tuple[str, list[str]]:
    """Return (why, arguments of the `curation` command that helps most now)."""
    undecided = sum(n for check, n in result.open_flags.items() if action_of(check, spec) in ("drop", "fix"))
    by_policy = any(d.kind == "policy" for d in effective.decisions.values())
    if result.passed:
        newest = max((int(p.parent.name) for p in folder.glob("vetted/*/manifest.json") if p.parent.name.isdigit()), default=0)
        return ("The gate is open: write the vetted set." if not newest else
                f"The gate is open. vetted/{newest} waits on the Train page; after a change here, write the set anew.",
                ["export", str(folder)])
    if undecided and not by_policy:
        return (f"{undecided:,} flags can be decided by the spec's policy (drop or fix). It is one action and can be undone.",
                ["review", str(folder), "--apply-policy"])
    if result.open_flags:
        worst = max(result.open_flags, key=lambda check: result.open_flags[check])
        return (f"{result.open_flags[worst]:,} rows wait for a person because of {worst}. Read them on the Review page, "
                "or list them:", ["review", str(folder), "--queue", "errors"])
    return ("No flag is open; what is missing are rows. The gaps are under Coverage.",
            ["import", "MORE.jsonl", "--to", str(folder), "--append"])


def _next(folder: Path, result: GateResult, effective: Effective, spec: Spec) -> None:
    why, argv = next_step(folder, result, effective, spec)
    with st.container(border=True):
        st.subheader("What to do next", anchor=False)
        st.text(why)
        if argv[0] in ("export", "review") and "--queue" not in argv:
            progress.offer(folder, argv, "Do it", key="next")
        else:
            st.code(jobs.command(argv), language=None, wrap_lines=True)


def _scorecard(index: state.Index, spec: Spec) -> None:
    from . import browse

    st.subheader("Scorecard", anchor=False)
    found = index.by_check
    flagged = int((index.worst > 0).sum())
    st.caption(f"{flagged:,} of {index.n:,} rows have a flag. Rows by check; a click shows them. "
               "✖ error · ▲ warning · ● info")
    if not found:
        st.text("No check found anything.")
    groups: dict[str, list[dict[str, Any]]] = {}
    for check in sorted(found, key=lambda c: -sum(found[c].values())):
        parts = [(n, s) for s in SEVERITIES if (n := found[check].get(s, 0))]
        marks = {"error": "✖", "warning": "▲", "info": "●"}
        text = "  ".join(f"{marks[s]} {n:,}" for n, s in parts)
        hint = first_line(CHECKS[check]) + f" Policy: {action_of(check, spec)}." if check in CHECKS else ""
        hint += f" Measured: {known}." if (known := least(check)) else ""
        groups.setdefault(GROUPS.get(check.split(".")[0], check.split(".")[0]), []).append(
            bars.line(check, parts, text, hint=hint, open=check))
    opened = bars.show(list(groups.items()), key="scorecard")
    quiet = [c for c in sorted(Store(state.folder()).current()["flags"]) if c not in found]  # type: ignore[index]
    if quiet:
        st.caption("Nothing found by: " + ", ".join(quiet))
    if opened:
        st.switch_page(browse.as_page(), query_params={"check": opened, "order": "worst flag first"})


def _coverage(result: GateResult) -> None:
    st.subheader("Coverage", anchor=False)
    groups = bars.of_coverage([c for c in result.coverage if c.kind != "family" or c.have or c.least is not None],
                              opens=("family",))
    if not groups:
        st.text("The spec names no families, so there is nothing to cover. The key families in spec.yaml says what the set "
                "shall teach.")
        return
    from . import browse

    opened = bars.show(groups, key="coverage")
    if opened:
        st.switch_page(browse.as_page(), query_params={"family": opened.partition("|")[2]})


def _progress(effective: Effective, store: Store) -> None:
    st.subheader("Review", anchor=False)
    p = queues.progress(store, effective)
    decided = p["flagged"] - p["open"]
    lines = [
        bars.line("flagged rows decided", [(decided, "ok"), (p["open"], "plain")], f"{decided:,} of {p['flagged']:,}",
                  hint="Flagged rows that a person, a fix or the policy has decided"),
        bars.line("rejected", [(p["rejected"], "error")], f"{p['rejected']:,}"),
        bars.line("accepted by a person", [(p["accepted"], "info")], f"{p['accepted']:,}"),
        bars.line("edited", [(p["edited"], "info")], f"{p['edited']:,}"),
    ]
    bars.show([("", lines)], key="progress")
    st.caption(f"Decided by persons: {p['by_person']:,} · by the policy: {p['by_policy']:,} · by accepted fixes: {p['by_fix']:,}")

