"""The run folder: what was asked, where it stands, what came out. No torch in here.

recipe.json       what was asked (Recipe)
compiled/         train.arrow, validation.arrow, compile.json; tokenizer/
left_out.jsonl    every row that was left out or cut, with the reason
metrics.jsonl     one line a logged step
samples.jsonl     greedy answers to a few fixed prompts on the way
checkpoints/      step-000100/ ... complete ones only; the newest two
model/            the trained model, loadable with AutoModelForCausalLM
row_losses.parquet  what each row showed at each visit; loss.png
log               what a run in the background said
run.json          the run card
state.json        running | done | stopped | failed
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from curation.errors import CurationError
from curation.store import sync_folder

TINY = "tiny"
CHECKPOINT = re.compile(r"step-(\d{6,})")
RowLosses = Literal["visits", "final", "ifd", "off"]


@dataclass(frozen=True)
class Recipe:
    """What a run was asked to do. None means: decided from the data, the model and the memory."""

    set: str  # folder with train.parquet, validation.parquet, manifest.json
    base: str = TINY  # "tiny", a folder, or a hub id
    seed: int = 0
    steps: int | None = None  # optimiser steps
    epochs: float | None = None  # passes over the set; used when steps is None
    lora: bool = False
    qlora: bool = False  # LoRA over weights kept in four bits
    max_length: int | None = None  # tokens a row may have
    truncate: bool = False  # cut rows that are longer, instead of leaving them out
    lr: float | None = None
    batch: int | None = None  # rows an optimiser step
    threads: int = 1
    log_every: int = 10  # steps
    save_every: int | None = None  # steps between checkpoints
    row_losses: RowLosses = "visits"
    eval_every: int | None = None  # steps between looks at the held-out loss
    patience: int | None = None  # looks without a better one before the run stops; 0 = never
    devices: int = 1  # processes that share each step
    shard: bool = False  # spread weights and optimizer over the devices (FSDP2)
    compile: bool | None = None  # torch.compile each block; None: on CUDA when the run is long enough
    tensorboard: bool = False
    samples: int | None = None  # prompts answered at each look; 0 = none

    def compile_key(self) -> tuple[Any, ...]:
        """Return what the compiled tokens depend on: runs with equal keys share them."""
        return (self.set, self.base, self.max_length, self.truncate)


#: Fields of a recipe that are options of `curation train`, by the same names.
OPTIONS = tuple(f.name for f in fields(Recipe) if f.name not in ("set", "compile_key"))


def prepare_environment(*, threads: int, base: str = TINY) -> None:
    """Set what torch and the hub client read when they are imported; call it before importing either.

    One thread by default: two spinning OpenMP threads on a busy two-core machine ran 15 times slower than one.
    Without a reachable hub the client is told so, because it would otherwise retry for minutes.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on a CPU it warns of a kernel that a hub would have
    local = base == TINY or Path(base).exists()
    if "HF_HUB_OFFLINE" not in os.environ and (local or not _hub_answers()):
        os.environ["HF_HUB_OFFLINE"] = "1"


def _hub_answers(*, seconds: float = 3.0) -> bool:
    """Return whether the hub takes a connection within `seconds`; with a proxy the question is left to the client."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    url = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    answers: list[bool] = []

    def knock() -> None:
        try:
            socket.create_connection((url.hostname or "", url.port or 443), timeout=seconds).close()
            answers.append(True)
        except OSError:
            answers.append(False)

    # The name lookup has no time limit of its own, so it waits in a thread that may be left behind.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers == [True]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` so that a reader sees the old file or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False, sort_keys=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in `path`, or a CurationError that names the file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CurationError(f"{path} does not exist", "is this a run or a set folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CurationError(f"{path} is not JSON: {error}", "remove the folder and make it again") from None
    if not isinstance(value, dict):
        raise CurationError(f"{path} holds a {type(value).__name__}, expected an object", "make the folder again")
    return value


def create(run_dir: Path, recipe: Recipe, *, overwrite: bool = False) -> None:
    """Make an empty run folder for `recipe`; an existing run is an error unless `overwrite`."""
    if (run_dir / "recipe.json").exists():
        _not_running(run_dir)
        if not overwrite:
            state = read_state(run_dir)["state"]
            raise CurationError(
                f"{run_dir} already holds a run ({state})",
                "continue it with --resume, replace it with --overwrite, or name another folder with --out",
            )
        shutil.rmtree(run_dir)  # battery results of the old model must not stay beside the new one
    elif run_dir.exists() and any(run_dir.iterdir()):
        raise CurationError(f"{run_dir} exists and is not a run folder", "name an empty or new folder with --out")
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "recipe.json", asdict(recipe))
    write_state(run_dir, "new", step=0, steps=0)


def read_recipe(run_dir: Path) -> Recipe:
    """Return the recipe of a run folder."""
    value = read_json(run_dir / "recipe.json")
    known = {field.name for field in fields(Recipe)}
    return Recipe(**{name: entry for name, entry in value.items() if name in known})


def write_state(run_dir: Path, state: str, *, step: int, steps: int, why: str = "") -> None:
    """Note where the run stands; `why` is the reason of a stop or a failure."""
    write_json(
        run_dir / "state.json",
        {"state": state, "pid": os.getpid(), "step": step, "steps": steps, "why": why, "time": round(time.time(), 3)},
    )


def read_state(run_dir: Path) -> dict[str, Any]:
    """Return the state of a run; "killed" when it says running but its process is gone."""
    path = run_dir / "state.json"
    if not path.exists():
        return {"state": "new", "pid": 0, "step": 0, "steps": 0, "why": ""}
    state = read_json(path)
    if state["state"] == "running" and not _alive(int(state["pid"])):
        state["state"] = "killed"
    return state


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed child that nobody has waited for still answers; Linux says Z for it.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _not_running(run_dir: Path) -> None:
    state = read_state(run_dir)
    if state["state"] == "running" and state["pid"] != os.getpid():
        raise CurationError(
            f"{run_dir} is being trained by process {state['pid']} (step {state['step']} of {state['steps']})",
            f"wait, or stop it with: kill {state['pid']}",
        )


def stop(run_dir: Path, *, seconds: float = 120.0) -> dict[str, Any]:
    """Ask a running run to write a checkpoint and end; wait for it; return its state.

    Raises CurationError when nothing runs here, or when it has not ended in `seconds`.
    """
    state = read_state(run_dir)
    if state["state"] != "running":
        raise CurationError(f"{run_dir} is not running ({state['state']})", "curation runs FOLDER lists the runs")
    os.kill(int(state["pid"]), signal.SIGTERM)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        state = read_state(run_dir)
        if state["state"] != "running":
            return state
        time.sleep(0.2)
    raise CurationError(f"{run_dir} has not ended within {seconds:.0f} s", f"kill {state['pid']} ends it without a checkpoint")


def check_resumable(run_dir: Path) -> None:
    """Raise a CurationError when there is no run here, or when another process is at it."""
    if not (run_dir / "recipe.json").exists():
        raise CurationError(f"{run_dir} holds no run to resume", "leave --resume out to start one")
    _not_running(run_dir)


def checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """Return the complete checkpoints as (step, folder), oldest first. One that was cut off has another name."""
    folder = run_dir / "checkpoints"
    found = [(m, path) for path in folder.glob("step-*") if (m := CHECKPOINT.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def publish_checkpoint(run_dir: Path, staged: Path, step: int, *, keep: int = 2, best: int | None = None) -> None:
    """Give a fully written checkpoint its name, and drop all but the newest `keep` and the one of step `best`."""
    for path in sorted(staged.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    target = run_dir / "checkpoints" / f"step-{step:06d}"
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    sync_folder(target.parent)
    for number, old in checkpoints(run_dir)[:-keep]:
        if number != best:
            shutil.rmtree(old)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the metric lines of a run, oldest first; a last line that a kill cut off is left out."""
    path = run_dir / "metrics.jsonl"
    kept: list[dict[str, Any]] = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            kept.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return kept


def cut_metrics(run_dir: Path, step: int) -> dict[str, Any]:
    """Drop the metric lines behind `step`, as they will be written again; return the last line kept, or {}."""
    path = run_dir / "metrics.jsonl"
    if not path.exists():
        return {}
    kept = [entry for entry in read_metrics(run_dir) if entry["step"] <= step]
    part = path.with_name("metrics.jsonl.part")
    part.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")
    part.replace(path)
    return kept[-1] if kept else {}


def looks(run_dir: Path) -> list[tuple[float, int]]:
    """Return (held-out loss, step) of every look at the held-out rows, oldest first."""
    return [(e["held_out_loss"], e["step"]) for e in read_metrics(run_dir) if e.get("held_out_loss") is not None]


def folder_of(run_dir: Path) -> Path | None:
    """Return the dataset folder whose runs/ holds this run, None for a run that lies elsewhere."""
    home = run_dir.resolve().parent
    return home.parent if home.name == "runs" and (home.parent / "rows").is_dir() else None


def newest_vetted(folder: Path) -> Path:
    """Return FOLDER/vetted/<highest number>; a CurationError when nothing was exported yet."""
    numbered = [path for path in (folder / "vetted").glob("*") if path.name.isdigit() and path.is_dir()]
    if not numbered:
        raise CurationError(f"{folder} has no vetted set yet", f"run: curation gate {folder}; curation export {folder}")
    return max(numbered, key=lambda path: int(path.name))


def locate(argument: Path, *, base: str, seeds: list[int], out: Path | None) -> tuple[Path, list[Path]]:
    """Return (set folder, one run folder a seed) for what the user named: a dataset folder or a set."""
    if (argument / "train.parquet").exists():
        set_dir = argument
    elif (argument / "rows").is_dir() or (argument / "vetted").is_dir():
        set_dir = newest_vetted(argument)
    else:
        raise CurationError(
            f"{argument} is neither a set (train.parquet) nor a dataset folder (rows/, vetted/)",
            "curation export writes a set",
        )
    if out is not None:
        many = len(seeds) > 1
        return set_dir, [out.with_name(f"{out.name}-s{seed}") if many else out for seed in seeds]
    home = set_dir.resolve().parent
    if home.name != "vetted":
        raise CurationError(f"{set_dir} lies outside a dataset folder", "say where the run shall go with --out FOLDER")
    name = f"vetted-{set_dir.resolve().name}-{re.sub(r'[^A-Za-z0-9.]+', '-', Path(base).name)}"
    return set_dir, [home.parent / "runs" / f"{name}-s{seed}" for seed in seeds]
