"""Behaviour: what the battery says of a run, of two against each other, which rows are behind a failure, and a blind choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from curation.train import compare, slices, votes

from .. import blind, jobs, probes, progress, rates, state

VIEWS = ("Results", "Run against run", "Blind choice")
MARKS = {"improved": "▲ better beyond chance", "worse": "▼ worse beyond chance", "unchanged": "= unchanged",
         "cannot tell": "? cannot tell from chance"}
#: What the exit status of `curation compare` means.
ENDED = {0: "ended with 0: nothing is worse beyond chance.", 1: "ended with 1: B is worse beyond chance; a build would fail."}
DESK = "blind"


def as_page() -> Any:
    return st.Page(page, title="Behaviour", icon=":material/psychology:", url_path="behaviour")


def page() -> None:
    folder = state.folder()
    if state.key_of(folder) is None:
        st.header("No behaviour to look at yet", anchor=False)
        st.text("Behaviour is measured on a trained run. Import rows first; the Overview page leads there.")
        return
    found = slices.evaluated(folder)
    if not found:
        _nothing(folder)
        return
    _stored(folder)
    view = st.segmented_control("View", VIEWS, key="b_view", bind="query-params", default=VIEWS[0], label_visibility="collapsed")
    {VIEWS[1]: _against, VIEWS[2]: _blind}.get(view or VIEWS[0], _results)(folder)
    if view in (None, VIEWS[0]):
        with st.expander("Ask a run the battery"):
            _ask(folder)


def _nothing(folder: Path) -> None:
    st.header("No battery results yet", anchor=False)
    if slices.trained(folder):
        st.text("The battery is a set of held-out prompts with verifiers. Ask a run to see what it learned.")
        _ask(folder)
    else:
        st.text("Train a model first (page Train); its run then answers the battery: held-out prompts with verifiers, no judge.")


def _ask(folder: Path) -> None:
    """Offer to ask a run the battery; those without results come first."""
    runs = sorted(slices.trained(folder), key=lambda r: (r / "battery.json").exists())
    if not runs:
        st.text("No run has a model yet.")
        return
    names = {r.name: r for r in runs}
    name = st.selectbox("Run", list(names), key="ask_run",
                        format_func=lambda n: n if not (names[n] / "battery.json").exists() else f"{n} (again)")
    progress.offer(folder, ["eval", str(names[name])], "Ask the battery", key="eval")


# ---- one run


@st.cache_resource(max_entries=32, show_spinner=False)
def _read(run: str, written: int) -> dict[str, Any]:
    return slices.results_of(Path(run))


def _result(run: Path) -> dict[str, Any]:
    """Return the results of a run with {id: result} under `by_id`. Not to be changed: all sessions share it."""
    return _read(str(run), (run / "battery.json").stat().st_mtime_ns)


@st.fragment
def _results(folder: Path) -> None:
    found = {r.name: r for r in slices.evaluated(folder)}
    one, two, three = st.columns([3, 2, 7], gap="medium")
    run = found[one.selectbox("Run", list(found), key="b_run", bind="query-params") or next(iter(found))]
    by = two.selectbox("Slices", list(slices.SLICINGS), key="b_by", bind="query-params") or next(iter(slices.SLICINGS))
    result = _result(run)
    with three:
        _summary(run, result)
    cut = slices.sliced(result["probes"], by)
    chosen = (st.query_params.get("slice", slices.ALL), st.query_params.get("behaviour", slices.ALL))
    if chosen not in cut.cells:
        chosen = (slices.ALL, slices.ALL)
    clicked = rates.show(cut.rows, cut.columns, {k: rates.cell(c.passed, c.n, c.low, c.high) for k, c in cut.cells.items()},
                        chosen=chosen, key=f"slices-{state.short_hash(run.name, by)}")
    if clicked and clicked != chosen:
        st.query_params["slice"], st.query_params["behaviour"] = clicked
        st.query_params.pop("probe", None)
        st.rerun(scope="fragment")
    st.caption("Share of probes passed, Wilson's 95 % interval, number of probes; hatched: fewer than "
               f"{rates.FEW}. Click a cell for its probes.")
    _probes_of(folder, run, result, cut.cells[chosen], chosen)


def _summary(run: Path, result: Mapping[str, Any]) -> None:
    overall = result["overall"]
    low, high = overall["wilson"]
    label = slices.card(run).get("label") or ""
    st.markdown(f"**{overall['passed']:,} of {overall['n']:,} probes passed** ({100 * low:.0f}–{100 * high:.0f} %)"
                + (f" · {state.plain(label)}" if label else ""))
    known = {k: v for k, v in result["metrics"].items() if v is not None}
    with st.container(horizontal=True, vertical_alignment="center"):
        first = [k for k in ("refusal_rate_harmful", "over_refusal_rate", "format_valid_rate", "stop_rate") if k in known]
        st.caption(" · ".join(f"{k.replace('_', ' ')} {known[k]:.2f}" for k in first), width="stretch")
        with st.popover("All metrics"):
            st.dataframe(pd.DataFrame({"metric": list(known), "value": [round(v, 3) for v in known.values()]}),
                         hide_index=True, alt="Metrics of the run")
    if slices.stale(run):
        st.warning("The model was trained again after these results. Ask the battery again.", icon=":material/update:")


def _probes_of(folder: Path, run: Path, result: Mapping[str, Any], cell: slices.Cell, chosen: tuple[str, str]) -> None:
    key = state.held_key()
    by_id = result["by_id"]
    mine = [by_id[i] for i in cell.ids]
    left, right = st.columns([11, 10], gap="medium")
    with left:
        with st.container(horizontal=True, vertical_alignment="center"):
            words = " · ".join(c for c in chosen if c != slices.ALL) or "all probes"
            st.markdown(f"**{state.plain(words)}**: {cell.n - cell.passed:,} failed of {cell.n:,}", width="stretch")
            failed = st.toggle("Failed only", True, key="failed_only")
        shown = [r for r in mine if not (failed and r["passed"])]
        if shown:
            clicked = probes.table(shown, key=f"probes-{state.short_hash(run.name, chosen, failed)}")
        else:
            clicked = ""
            st.info("Every probe of this cell was passed.")
    with right:
        probe = probes.opened(clicked, by_id)
        if probe:
            probes.show(key, probe, [(run.name, run, by_id)])
        else:
            with st.container(border=True):
                st.markdown("**Click a probe to read it here.**")
                st.caption("Its prompt, the answer, what each verifier said, and the rows that most likely taught it, to edit, "
                           "reject, or complete with a pair of your own.")


# ---- run against run


@st.cache_resource(max_entries=16, show_spinner="Comparing …")
def _compared(a: tuple[tuple[str, int], ...], b: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    return compare.compare_arms([Path(p) for p, _ in a], [Path(p) for p, _ in b])


def _stamped(runs: Sequence[Path]) -> tuple[tuple[str, int], ...]:
    return tuple((str(r), (r / "battery.json").stat().st_mtime_ns) for r in runs)


def _pick_two(found: Mapping[str, Path]) -> tuple[list[Path], list[Path]]:
    """Draw the choice of both arms, several runs each, and return them."""
    names = list(found)
    left, right = st.columns(2)
    a = left.multiselect("A, before", names, key="b_a", bind="query-params", default=names[1:2],
                         help="Several runs an arm (seeds): the difference is then held against what seeds alone do.")
    b = right.multiselect("B, after", names, key="b_b", bind="query-params", default=names[:1])
    return [found[n] for n in a], [found[n] for n in b]


def _several(folder: Path) -> dict[str, Path]:
    """Return the runs with battery results by name; say so and return none where there are not two to hold side by side."""
    found = {r.name: r for r in slices.evaluated(folder)}
    if len(found) > 1:
        return found
    st.info("Two runs with battery results are needed. Train another one, on another set or with another seed, and ask it.")
    return {}


@st.fragment
def _against(folder: Path) -> None:
    found = _several(folder)
    if not found:
        return
    a, b = _pick_two(found)
    if not a or not b or set(a) & set(b):
        st.info("Choose at least one run on each side, none on both.")
        return
    result = _compared(_stamped(a), _stamped(b))
    said = [state.plain(s) for s in compare.sentences(result)]
    st.markdown("  \n".join(f"**{s}**" if "beyond chance" in s else s for s in said))
    lines = lines_of(result)
    st.dataframe(lines, hide_index=True, key="lines", alt="Behaviours, A against B", height=min(600, 38 + 33 * len(lines)),
                 column_config={"verdict": st.column_config.TextColumn(width=190)})
    st.caption(("Exact permutation test over the runs of both arms, " if len(a) + len(b) > 2 else
                "Exact McNemar test on the flips: are these two checkpoints different, not: did the data do it; ")
               + f"p corrected for {len(result['behaviours'])} behaviours ({result['correction']}).")
    _flips(folder, a, b, result)
    with st.expander("The same on the command line"):
        _compare_job(folder, a, b)


def points(share: float) -> str:
    """Return a difference of shares in points of 100, with its sign; 0 has none."""
    whole = round(100 * share)
    return f"{whole:+d}" if whole else "0"


def lines_of(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return the comparison as a table, a line a behaviour and `overall` last."""
    lines = [*result["behaviours"].items(), (compare.OVERALL, result[compare.OVERALL])]
    return pd.DataFrame([{
        "behaviour": name, "n": x["n"], "A": f"{100 * x['a']['rate']:.0f} %", "B": f"{100 * x['b']['rate']:.0f} %",
        "B - A": points(x["difference"]), "95 %": " to ".join(map(points, x["interval"])),
        "won": len(x["gains"]), "lost": len(x["losses"]), "p": f"{x['p_corrected']:.2g}", "verdict": MARKS[x["verdict"]],
    } for name, x in lines])  # fmt: skip


def _flips(folder: Path, a: Sequence[Path], b: Sequence[Path], result: Mapping[str, Any]) -> None:
    key = state.held_key()
    overall = result[compare.OVERALL]
    kinds = {f"Lost ({len(overall['losses'])})": overall["losses"], f"Won ({len(overall['gains'])})": overall["gains"]}
    left, right = st.columns([11, 10], gap="medium")
    first, second = _result(a[0])["by_id"], _result(b[0])["by_id"]
    with left:
        kind = st.segmented_control("Flips", list(kinds), default=next(iter(kinds)), key="flips",
                                    help="Lost: A passed and B failed. With several runs an arm: most of them.")
        ids = kinds.get(kind or "", overall["losses"])
        clicked = probes.table([first[i] for i in ids], key=f"flips-{state.short_hash(_stamped(a), _stamped(b), kind)}",
                               others=second) if ids else ""
        if not ids:
            st.info("No probe flipped this way.")
    with right:
        probe = probes.opened(clicked, first)
        if probe:
            probes.show(key, probe, [(f"A {a[0].name}", a[0], first), (f"B {b[0].name}", b[0], second)])
        else:
            with st.container(border=True):
                st.markdown("**Click a probe to read both answers here.**")


def _compare_job(folder: Path, a: Sequence[Path], b: Sequence[Path]) -> None:
    """Offer `curation compare` as a job, and show what the newest one said."""
    argv = ["compare", str(a[0]), str(b[0])]
    if len(a) + len(b) > 2:
        argv = ["compare", *(x for flag, arm in (("--a", a), ("--b", b)) for r in arm for x in (flag, str(r)))]
    st.code(jobs.command(argv), language=None, wrap_lines=True)
    if st.button("Run it", key="compare", icon=":material/play_arrow:"):
        jobs.start(folder, argv)
    job = jobs.newest(folder, "compare")
    if job is None:
        return

    @st.fragment(run_every="1s" if job.state == "running" else None)
    def panel() -> None:
        now = jobs.read(job.path)
        ended = ENDED.get(-1 if now.code is None else now.code, f"{now.state}.")
        st.caption(f"{jobs.command(now.argv)} {'is running.' if now.state == 'running' else ended}")
        if tail := now.tail():
            st.code(tail, language=None, height=300)
        if job.state == "running" and now.state != "running":
            st.rerun()

    panel()


# ---- blind choice


@st.cache_resource(max_entries=8, show_spinner=False)
def _pairing(a: tuple[str, int], b: tuple[str, int]) -> votes.Pairing:
    return votes.pairing(Path(a[0]), Path(b[0]))


@st.fragment
def _blind(folder: Path) -> None:
    found = _several(folder)
    if not found:
        return
    names = list(found)
    left, right = st.columns(2)
    one = left.selectbox("One run", names, 1, key="b_one", bind="query-params")
    other = right.selectbox("The other", names, 0, key="b_other", bind="query-params")
    if one == other:
        st.info("Choose two different runs.")
        return
    pairing = _pairing(*(_stamped([found[n]])[0] for n in sorted((one, other))))
    actor = state.desk().actor
    events = votes.read(folder, pairing)
    if not pairing.pairs:
        st.info(f"Both runs gave the same answer to all {pairing.same:,} probes: there is nothing to choose.")
    elif votes.revealed(events, actor):
        _outcome(pairing, events, actor)
    else:
        _choose(folder, pairing, actor)


def _stored(folder: Path) -> blind.Sitting | None:
    """Store what the browser has chosen in this session's sitting, also when another choice was made since; return it."""
    sitting: blind.Sitting | None = st.session_state.get("sitting_blind")
    if sitting is not None and not votes.revealed(votes.read(folder, sitting.pairing), sitting.actor):
        sitting.take(folder, blind.told(DESK, sitting))
    return sitting


def _choose(folder: Path, pairing: votes.Pairing, actor: str) -> None:
    """Store what the browser has chosen, then send it the window around its place."""
    sitting = _stored(folder)
    if sitting is None or (sitting.pairing.id, sitting.actor) != (pairing.id, actor):
        sitting = st.session_state["sitting_blind"] = blind.sit(folder, pairing, actor)
    done = len(votes.standing(votes.read(folder, pairing), actor))
    left, right = st.columns([14, 4], gap="large")
    with left:
        blind.show(sitting, key=DESK)
    with right:
        st.progress(done / len(pairing.pairs), text=f"{done:,} of {len(pairing.pairs):,} voted")
        st.caption("Which run stands on which side is drawn for each pair and shown only at the end."
                   + (f" {pairing.same:,} probes with the same answer are left out." if pairing.same else ""))
        all_done = done == len(pairing.pairs)
        with st.popover("Show the result" if all_done else "Reveal now", icon=":material/visibility:", width="stretch",
                        type="primary" if all_done else "secondary"):
            st.text("You have voted on every pair." if all_done else
                    f"You have voted on {done:,} of {len(pairing.pairs):,} pairs. Once you have seen the sides you cannot go on.")
            st.button("Reveal the sides", key="reveal", on_click=votes.reveal, args=(folder, pairing, actor), disabled=not done)


def _outcome(pairing: votes.Pairing, events: Sequence[Mapping[str, Any]], actor: str) -> None:
    """Draw what the votes prove, each reader's and all together."""
    each = {r: votes.standing(events, r) for r in votes.readers(events)}
    counted = {actor: each.get(actor, {})} if len(each) < 2 else {"all readers": votes.together(list(each.values()))}
    (who, held), = counted.items()
    found = votes.outcome(pairing, held)
    st.markdown(f"**{state.plain(votes.sentence(pairing, found))}**")
    st.caption(f"{who}: {found['voted']:,} of {found['pairs']:,} pairs voted on, {found['ties']:,} ties"
               + (f"; {found['same']:,} probes had the same answer and were not shown." if found["same"] else "."))
    if found["interval"] and found["interval"][0] < found["interval"][1]:  # votes that all agree say nothing by resampling
        st.text(f"{pairing.b} minus {pairing.a}, ties as 0: {100 * found['difference']:+.0f} points of 100, "
                "95 % interval {:+.0f} to {:+.0f}".format(*(100 * v for v in found["interval"])))
    lines = [_line(pairing, name, votes.outcome(pairing, mine), votes.left_chosen(events, name)) for name, mine in each.items()]
    st.dataframe(pd.DataFrame(lines), hide_index=True, key="outcome", alt="Votes of each reader")
    by = [{"behaviour": name, pairing.a: x["a"], "tie": x["tie"], pairing.b: x["b"]} for name, x in found["behaviours"].items()]
    st.dataframe(pd.DataFrame(by), hide_index=True, key="outcome_by", alt="Votes by behaviour")


def _line(pairing: votes.Pairing, reader: str, found: Mapping[str, Any], sides: tuple[int, int]) -> dict[str, Any]:
    return {"reader": reader, pairing.a: found["a"], "tie": found["ties"], pairing.b: found["b"], "p": f"{found['p']:.2g}",
            "left chosen": sides[0], "right chosen": sides[1]}
