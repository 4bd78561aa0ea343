"""Train: one click from a vetted set to a model, what would be trained before it is, and every run as it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from .. import jobs, progress, state

STATES = {"running": "▶ running", "done": "✓ done", "stopped": "⏸ stopped", "failed": "✖ failed", "killed": "✖ killed"}


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
    with right:
        _before(argv)
    st.subheader("Start", anchor=False)
    progress.offer(folder, argv, "Train", key="train")
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


def _ask(sets: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    """Draw the choices and return the verb that they make."""
    names = {f"vetted/{p.name}: {m['counts'].get('train', 0):,} rows, gate {m['gate']}": p for p, m in sets}
    chosen = names[st.selectbox("Set", list(names), key="train_set")]
    known = ["tiny (built in, from scratch)", *local_models(), "another folder or hub id"]
    base = st.selectbox("Base", known, key="train_base", help="tiny needs no download and runs on a CPU in about a minute.")
    name = "tiny" if base == known[0] else base
    if base == known[-1]:
        name = st.text_input("Folder or hub id", key="train_base_name").strip() or "tiny"
    argv = ["train", str(chosen), "--base", name]
    one, two, three = st.columns(3)
    seeds = one.number_input("Seeds", 1, 16, 1, key="train_seeds", help="Four a side are the fewest that can show a difference.")
    epochs = two.number_input("Epochs (0: decided)", 0.0, 100.0, 0.0, 1.0, format="%g", key="train_epochs")
    lora = three.toggle("LoRA", key="train_lora", disabled=name == "tiny", help="A small adapter instead of all weights.")
    if seeds > 1:
        argv += ["--seeds", f"0-{seeds - 1}"]
    if epochs:
        argv += ["--epochs", f"{epochs:g}"]
    if lora and name != "tiny":
        argv += ["--lora"]
    if st.toggle("Replace runs that are there", key="train_overwrite"):
        argv += ["--overwrite"]
    elif st.toggle("Go on where they stopped", key="train_resume"):
        argv += ["--resume"]
    return argv


def _before(argv: list[str]) -> None:
    """Offer what would be trained: settings with reasons, estimates, and rows with the loss mask painted."""
    st.caption("Look before you train: every setting with its reason, time and memory, and what of a row is trained.")
    if st.button("What would be trained", key="train_look", icon=":material/visibility:"):
        st.session_state["train_looked"] = argv
    if st.session_state.get("train_looked") != argv:
        return
    with st.spinner("compiling the set"):
        plan, mask = _words([*argv, "--dry-run"]), _words([*argv, "--show-mask", "2"])
    st.code(plan, language=None, height=300)
    st.caption("⟦ ⟧ marks what is trained.")
    st.code(mask, language=None, wrap_lines=True, height=220)


@st.cache_data(max_entries=8, show_spinner=False)
def _words(argv: list[str]) -> str:
    """Return what a verb prints; these look and change nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "curation.cli", *argv], capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    return (done.stdout if done.returncode == 0 else done.stderr).strip() or f"exit status {done.returncode}"


# ---- runs


def runs_of(folder: Path) -> pd.DataFrame:
    """Return one line a run of a folder: run, state, step, steps, loss, held_out, tokens_per_s, base, newest first."""
    lines = []
    for path in sorted((folder / "runs").glob("*/recipe.json"), key=lambda p: -p.stat().st_mtime):
        run = path.parent
        now = _json(run / "state.json", {"state": "new", "step": 0, "steps": 0, "pid": 0, "why": ""})
        if now["state"] == "running" and not Path(f"/proc/{now['pid']}").exists():
            now["state"] = "killed"
        seen = metrics(run)
        last = seen.iloc[-1].to_dict() if len(seen) else {}
        lines.append({
            "run": run.name, "state": now["state"], "step": now["step"], "steps": now["steps"], "loss": last.get("loss"),
            "tokens/s": last.get("tokens_per_s"), "base": _json(path, {}).get("base", ""), "why": now.get("why", ""),
        })  # fmt: skip
    return pd.DataFrame(lines)


def metrics(run: Path) -> pd.DataFrame:
    """Return the metric lines of a run; a line that is being written is left for the next look."""
    path = run / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return pd.DataFrame([json.loads(line) for line in text.split("\n")[:-1]])


def _json(path: Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else otherwise


def _runs(folder: Path) -> None:
    first = runs_of(folder)
    if first.empty:
        st.text("No run yet. Each run is a folder of its own and needs neither this page nor this browser.")
        return
    running = bool((first["state"] == "running").any())

    @st.fragment(run_every="2s" if running else None)
    def panel() -> None:
        table = runs_of(folder)
        shown = table.assign(state=[STATES.get(s, s) for s in table["state"]])
        st.dataframe(shown, hide_index=True, key="runs", alt="Runs of this folder",
                     column_config={"loss": st.column_config.NumberColumn(format="%.4f")})
        name = st.selectbox("Look at", table["run"].tolist(), key="run_shown")
        at = table.set_index("run").loc[name]
        _curve(folder / "runs" / name)
        _act(folder, folder / "runs" / name, str(at["state"]))
        if running and not (table["state"] == "running").any():
            st.rerun()

    panel()


def _curve(run: Path) -> None:
    lines = metrics(run)
    if lines.empty:
        st.caption("No metrics yet.")
        return
    names = [c for c in ("loss", "held_out_loss") if c in lines]
    st.line_chart(lines.set_index("step")[names], x_label="step", y_label="mean loss a token", height=260)


def _act(folder: Path, run: Path, now: str) -> None:
    """Offer what can be done with a run in its state."""
    if now == "running" and st.button("Stop after a checkpoint", key="run_stop", icon=":material/stop:"):
        jobs.start(folder, ["runs", "stop", str(run)])
    if now in ("stopped", "killed", "failed") and st.button("Go on", key="run_resume", icon=":material/play_arrow:"):
        jobs.start(folder, ["runs", "resume", str(run)])
    if now == "done":
        progress.offer(folder, ["eval", str(run)], "Ask the battery", key="eval")
