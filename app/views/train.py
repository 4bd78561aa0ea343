"""Train: one click from a vetted set to a model, what would be trained before it is, and every run as it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from curation.train import runs as run_folders
from curation.train import samples

from curation.errors import CurationError

from .. import card, jobs, progress, state
from . import behaviour

STATES = {"running": "▶ running", "done": "✓ done", "stopped": "⏸ stopped", "failed": "✖ failed", "killed": "✖ killed"}
MASKED = 3              # rows on which the loss mask is painted
LOOKS = 8               # steps at which samples are shown side by side


def as_page() -> Any:
    return st.Page(page, title="Train", icon=":material/model_training:", url_path="train")


def page() -> None:
    folder = state.folder()
    sets = vetted(folder)
    if not sets:
        st.header("Nothing to train on yet", anchor=False)
        st.text("A run starts from a vetted set. Open the Gate & export page and write one.")
        return
    left, right = st.columns([5, 6], gap="large")
    with left:
        argv = _ask(sets)
        progress.offer(folder, argv, "Train", key="train")
    with right:
        _before(argv)
    st.subheader("Runs", anchor=False)
    _runs(folder)


def vetted(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return (path, manifest) of the vetted sets of a folder, newest first."""
    numbered = [p for p in (folder / "vetted").glob("*") if p.name.isdigit() and (p / "manifest.json").exists()]
    numbered.sort(key=lambda p: -int(p.name))
    return [(p, json.loads((p / "manifest.json").read_text(encoding="utf-8"))) for p in numbered]


def local_models() -> list[str]:
    """Return the names of models in the hub's local cache."""
    home = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub")
    found = [p for p in home.glob("models--*") if any(p.glob("snapshots/*/config.json"))]
    return sorted(p.name.removeprefix("models--").replace("--", "/") for p in found)


def doubt(base: str) -> str:
    """Return what is wrong with a base that names a folder, "" when nothing is or when it is a hub id."""
    path = Path(base).expanduser()
    if path.is_dir():
        there = any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
        return "" if there else f"{base} holds no config.json: it is not a saved model."
    return f"There is no folder {base}." if base.startswith((".", "/", "~")) else ""


# ---- what is asked


def _ask(sets: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    """Draw the choices and return the verb that they make."""
    names = {f"vetted/{p.name}: {m['counts'].get('train', 0):,} rows, gate {m['gate']}": p for p, m in sets}
    chosen = names[st.selectbox("Set", list(names), key="train_set")]
    base = _ask_base()
    argv = ["train", str(chosen), "--base", base]
    one, two, three = st.columns(3, vertical_alignment="bottom")
    seeds = one.number_input("Seeds", 1, 16, 1, key="train_seeds", help="Four a side are the fewest that can show a difference.")
    epochs = two.number_input("Epochs (0: decided)", 0.0, 100.0, 0.0, 1.0, format="%g", key="train_epochs")
    spoken = three.number_input("Samples", 0, 12, samples.USUAL, key="train_samples",
                                help="Fixed prompts that the model answers at each look while it trains. Training is the same "
                                     "to the bit with and without.")
    argv += ["--seeds", f"0-{seeds - 1}"] if seeds > 1 else []
    argv += ["--epochs", f"{epochs:g}"] if epochs else []
    argv += ["--samples", str(spoken)] if spoken != samples.USUAL else []
    return argv + _ask_switches(chosen, base)


def _ask_base() -> str:
    known = ["tiny (built in, from scratch)", *local_models(), "another folder or hub id"]
    base = st.selectbox("Base", known, key="train_base", help="tiny needs no download and runs on a CPU in about a minute.")
    if base == known[0]:
        return "tiny"
    if base != known[-1]:
        return str(base)
    name = st.text_input("Folder or hub id", key="train_base_name", placeholder="/models/my-base or org/name").strip() or "tiny"
    if said := doubt(name):
        st.warning(state.plain(said))
    return name


def _ask_switches(chosen: Path, base: str) -> list[str]:
    argv = []
    has = (chosen / "battery.jsonl").is_file()
    if st.toggle("Then ask the battery", has, key="train_eval", disabled=not has,
                 help="The held-out prompts that came with the set; the results open on the page Behaviour."
                 if has else "This set has no battery.") and has:
        argv += ["--eval"]
    if base != "tiny" and st.toggle("LoRA", key="train_lora", help="A small adapter instead of all weights."):
        argv += ["--lora"]
    again = st.segmented_control("If the run is there already", ["stop", "replace it", "go on with it"], default="stop",
                                 key="train_again")
    return argv + {"replace it": ["--overwrite"], "go on with it": ["--resume"]}.get(again or "", [])


# ---- before it starts


def _before(argv: list[str]) -> None:
    """Offer what would be trained: settings with reasons, estimates, and rows with the loss mask painted."""
    st.caption("Look before you train: every setting with its reason, time and memory, and what of a row is trained.")
    looked = [a for a in argv if a not in ("--eval", "--overwrite", "--resume")]
    if st.button("What would be trained", key="train_look", icon=":material/visibility:"):
        st.session_state["train_looked"] = looked
    if st.session_state.get("train_looked") != looked:
        return
    try:
        with st.spinner("compiling the set"):
            plan = forecast(looked)
    except CurationError as e:
        st.error("This cannot be trained as it is.")
        st.code(e.what, language=None, wrap_lines=True)
        return
    _plan(plan)
    st.markdown("**What of a row is trained**: the marked part counts in the loss")
    for row in plan["mask"]:
        card.show(painted(row), key=f"mask-{row['row']}-{state.short_hash(looked)}")


@st.cache_data(max_entries=8, show_spinner=False)
def forecast(argv: list[str]) -> dict[str, Any]:
    """Return the plan of a `curation train` with the mask of a few rows; it looks and trains nothing.

    A process of its own, so that torch stays out of this one. Raises CurationError with what the verb says is wrong.
    """
    done = subprocess.run(
        [sys.executable, "-m", "curation.cli", *argv, "--dry-run", "--show-mask", str(MASKED), "--json"],
        capture_output=True, text=True, timeout=900, check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    if done.returncode:
        raise CurationError(done.stderr.strip() or f"exit status {done.returncode}", jobs.command(argv))
    return dict(json.loads(done.stdout))


def _plan(plan: Mapping[str, Any]) -> None:
    used = plan["splits"]["train"]
    figures = {"Rows": f"{used['used']:,} of {used['rows']:,}", "Steps": f"{plan['steps']:,}", "Epochs": f"{plan['epochs']:g}",
               "Time": span(plan["seconds"]), "Memory": f"{plan['memory_gb']:g} GB"}
    for column, (name, value) in zip(st.columns([2, 1, 1, 1, 1.2]), figures.items(), strict=True):
        column.caption(name)
        column.markdown(f"**{value}**")
    for (split, reason), n in Counter((e["split"], e["reason"]) for e in plan["left_out"]).most_common():
        first = next(e for e in plan["left_out"] if (e["split"], e["reason"]) == (split, reason))
        st.text(f"{n:,} {split} rows: {reason}; for instance row {first['row']}: {first['detail']}")
    settings = plan["settings"]
    st.dataframe(pd.DataFrame({"setting": list(settings), "value": [str(s["value"]) for s in settings.values()],
                               "why": [s["reason"] for s in settings.values()]}),
                 hide_index=True, height=250, alt="Settings and their reasons",
                 column_config={"setting": st.column_config.TextColumn(width=120), "value": st.column_config.TextColumn(width=70),
                                "why": st.column_config.TextColumn(width=330)})  # fmt: skip
    st.caption("Time and memory are estimates for this machine.")


def span(seconds: float) -> str:
    """Return a time in words: 40 s, 3 min, 2.5 h."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def painted(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a compiled row as a card: its text with template and all, what is trained as marked spans of one chip."""
    parts = [{"t": p["text"], "f": [0] if p["trained"] else []} for p in row["parts"]]
    share = sum(len(p["text"]) for p in row["parts"] if p["trained"]) / max(1, sum(len(p["text"]) for p in row["parts"]))
    return {"id": str(row["row"]), "row": row["row"], "family": f"{100 * share:.0f} % of it trained", "verdict": "", "why": "",
            "turns": [{"role": "as the model reads it", "parts": parts}], "edit": {},
            "flags": [{"check": "trained", "severity": "info", "score": "", "message": "counts in the loss", "span": True}]}


# ---- runs


def runs_of(folder: Path) -> pd.DataFrame:
    """Return one line a run of a folder: run, state, step, steps, loss, held-out, tokens/s, base, why; newest first."""
    lines = []
    for path in sorted((folder / "runs").glob("*/recipe.json"), key=lambda p: -p.stat().st_mtime):
        run = path.parent
        now = run_folders.read_state(run)
        seen = run_folders.read_metrics(run)
        last = seen[-1] if seen else {}
        held = next((m["held_out_loss"] for m in reversed(seen) if m.get("held_out_loss") is not None), None)
        lines.append({
            "run": run.name, "state": now["state"], "step": now["step"], "steps": now["steps"], "loss": last.get("loss"),
            "held-out": held, "tokens/s": last.get("tokens_per_s"), "base": run_folders.read_recipe(run).base,
            "battery": "✓" if (run / "battery.json").exists() else "", "why": now.get("why", ""),
        })  # fmt: skip
    return pd.DataFrame(lines)


def _runs(folder: Path) -> None:
    first = runs_of(folder)
    if first.empty:
        st.text("No run yet. Each run is a folder of its own and needs neither this page nor this browser.")
        return
    running = bool((first["state"] == "running").any())
    # A fragment's timer may ask for this page just when another one is opened, and then neither is drawn to its end.
    job = jobs.newest(folder, "train")
    asks = running or (job is not None and job.state == "running")

    @st.fragment(run_every="2s" if running else None)
    def panel() -> None:
        table = runs_of(folder)
        shown = table.assign(state=[STATES.get(s, s) for s in table["state"]]).dropna(axis="columns", how="all")
        st.dataframe(shown, hide_index=True, key="runs", alt="Runs of this folder",
                     column_config={"loss": st.column_config.NumberColumn(format="%.4f"),
                                    "held-out": st.column_config.NumberColumn(format="%.4f")})
        name = st.selectbox("Look at", table["run"].tolist(), key="run_shown")
        run = folder / "runs" / str(name)
        now = str(table.set_index("run").loc[name]["state"])
        _progress(run, now)
        _curve(run)
        _act(folder, run, now, leave=not asks)
        _samples(run)
        if running and not (table["state"] == "running").any():
            st.rerun()

    panel()


def _progress(run: Path, now: str) -> None:
    """Draw how far a run is, with what the newest metrics line says and the time that is left."""
    seen, stand = run_folders.read_metrics(run), run_folders.read_state(run)
    if not seen or not stand["steps"]:
        st.caption("No metrics yet.")
        return
    last = seen[-1]
    words = f"step {last['step']:,} of {stand['steps']:,} · loss {last['loss']:.4f} · {last['tokens_per_s']:,} tokens/s"
    if now == "running":
        words += f" · about {span(last['seconds'] / last['step'] * (stand['steps'] - last['step']))} left"
    st.progress(min(1.0, last["step"] / stand["steps"]), text=words)


def _curve(run: Path) -> None:
    lines = pd.DataFrame(run_folders.read_metrics(run))
    if lines.empty:
        return
    left, right = st.columns([3, 2])
    names = [c for c in ("loss", "held_out_loss") if c in lines]
    left.line_chart(lines.set_index("step")[names], x_label="step", y_label="mean loss a token", height=230)
    right.line_chart(lines.set_index("step")[["tokens_per_s"]], x_label="step", y_label="tokens a second", height=230)


def _act(folder: Path, run: Path, now: str, *, leave: bool) -> None:
    """Offer what can be done with a run in its state; `leave`: no timer runs on this page, so another one may be opened."""
    if now == "running":
        st.caption("It goes on without this page. In a terminal:")
        st.code(jobs.command(["runs", "attach", str(run)]), language=None)
    with st.container(horizontal=True):
        if now == "running" and st.button("Stop after a checkpoint", key="run_stop", icon=":material/stop:"):
            jobs.start(folder, ["runs", "stop", str(run)])
        if now in ("stopped", "killed", "failed") and st.button("Go on", key="run_resume", icon=":material/play_arrow:"):
            jobs.start(folder, ["runs", "resume", str(run)])
            st.rerun()
        if leave and (run / "battery.json").exists() and st.button(
                "Its behaviour", key="run_behaviour", icon=":material/psychology:"):
            st.switch_page(behaviour.as_page(), query_params={"b_run": run.name})
    if now == "done" and not (run / "battery.json").exists():
        progress.offer(folder, ["eval", str(run)], "Ask the battery", key="eval")


def _samples(run: Path) -> None:
    """Draw what the model answered on its way: a line a prompt, a column a step."""
    lines = samples.read(run)
    if not lines:
        return
    st.markdown("**Samples on the way**: what it answers to the same prompts, step by step")
    frame = side_by_side(lines)
    st.dataframe(frame, hide_index=True, row_height=110, key=f"samples-{run.name}", alt="Samples by step",
                 column_config={"prompt": st.column_config.TextColumn(width=200, pinned=True),
                                **{c: st.column_config.TextColumn(width=180) for c in frame.columns[1:]}})


def side_by_side(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the samples of a run, a line a prompt, a column a look; of many looks the first, the last and some between."""
    steps = sorted({line["step"] for line in lines})
    if len(steps) > LOOKS:
        steps = [steps[round(k * (len(steps) - 1) / (LOOKS - 1))] for k in range(LOOKS)]
    marks = {True: "✓ ", False: "✗ ", None: ""}
    said = {(line["id"], line["step"]): marks[line["passed"]] + line["output"] for line in lines}
    first = {line["id"]: line for line in lines}
    frame = pd.DataFrame({"prompt": [x["prompt"] for x in first.values()]})
    for step in steps:
        frame[f"step {step:,}"] = [said.get((id, step), "") for id in first]
    frame["wanted"] = [x["wanted"] for x in first.values()]
    return frame
