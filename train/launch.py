"""Starting a run elsewhere: on several devices of this machine, and as text for the launchers of others."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from curation.errors import CurationError

from . import runs
from .runs import Recipe


def command(run_dirs: list[Path], devices: int) -> list[str]:
    """Return the command that trains prepared run folders on `devices` processes of this machine."""
    trainer = f"{__package__}.sft"
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"] if devices > 1 else []
    return [sys.executable, *several, "-m", trainer, *map(str, run_dirs)]


def detach(run_dirs: list[Path], devices: int) -> int:
    """Start training in the background, its words in `log` of the first run folder; return the process number."""
    with (run_dirs[0] / "log").open("ab") as log:
        process = subprocess.Popen(
            command(run_dirs, devices), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return process.pid


def run(run_dirs: list[Path], devices: int) -> list[dict[str, Any]]:
    """Train prepared run folders on several processes and return their cards; an interrupt reaches them all."""
    process = subprocess.Popen(command(run_dirs, devices))
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:  # the terminal sent it to the processes as well: they write a checkpoint and end
            continue
    states = [runs.read_state(run_dir) for run_dir in run_dirs]
    failed = next((s for s in states if s["state"] in ("failed", "killed")), None)
    if failed is not None or (code and not any(s["state"] == "stopped" for s in states)):
        raise CurationError(
            f"a process of the run ended with code {code}: {(failed or states[0])['why'] or 'see above'}",
            "its checkpoints are kept: --resume goes on",
        )
    return [runs.read_json(run_dir / "run.json") for run_dir in run_dirs if (run_dir / "run.json").exists()]


# ---- texts for other launchers --------------------------------------------------------------------------------------


def emit(kind: str, run_dir: Path, recipe: Recipe) -> dict[str, str]:
    """Return {file name: text} that starts this recipe with another launcher; the set is named by its path.

    `kind`: slurm and skypilot start this trainer from its run folder; trl, axolotl and llamafactory train the same set
    with those trainers, as near to the recipe as their settings allow.
    """
    if kind not in KINDS:
        raise CurationError(f"--emit {kind}: unknown", f"one of {', '.join(KINDS)}")
    return KINDS[kind](run_dir, recipe)


def _slurm(run_dir: Path, recipe: Recipe) -> dict[str, str]:
    name = shlex.quote(f"curation-{run_dir.name}")
    text = f"""#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes=1
#SBATCH --gpus={recipe.devices}
#SBATCH --cpus-per-task={8 * recipe.devices}
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
# The run goes on from its newest checkpoint when the job is started again.
set -euo pipefail
srun {_ours(run_dir, recipe)}
"""
    return {"train.sbatch": text}


def _skypilot(run_dir: Path, recipe: Recipe) -> dict[str, str]:
    mounts = {"/set": recipe.set}
    if Path(recipe.base).is_dir():  # a base on this machine goes along
        mounts["/base"] = recipe.base
        recipe = replace(recipe, base="/base")
    extra = "train,qlora" if recipe.qlora else "train"
    task = {
        "name": f"curation-{run_dir.name}".lower(),
        "resources": {"accelerators": f"H100:{recipe.devices}", "use_spot": False},
        "file_mounts": mounts,
        "setup": f"pip install 'curation-workbench[{extra}]'",
        "run": f"curation train /set --out ~/run {shlex.join(_flags(recipe))} --resume",
    }
    note = "# Mount a bucket at ~/run before use_spot is set: a lost machine then goes on from its newest checkpoint.\n"
    return {"train.sky.yaml": note + _yaml(task)}


def _ours(run_dir: Path, recipe: Recipe) -> str:
    several = f"-m torch.distributed.run --standalone --nproc-per-node={recipe.devices} " if recipe.devices > 1 else ""
    return f"python {several}-m {__package__}.sft {shlex.quote(str(run_dir))}"


def _flags(recipe: Recipe) -> list[str]:
    """Return the options of `curation train` that differ from what it would choose itself."""
    plain = Recipe(set=recipe.set)
    out: list[str] = []
    for name in runs.OPTIONS:
        value = getattr(recipe, name)
        if value != getattr(plain, name):
            flag = f"--{name.replace('_', '-')}"
            out += [flag] if value is True else [f"--no-{flag[2:]}"] if value is False else [flag, str(value)]
    return out


def _exported(recipe: Recipe, name: str) -> dict[str, Any]:
    """Return the config that the export of the set wrote for another trainer, with its LoRA settings only if asked for."""
    import yaml

    if recipe.base == runs.TINY:
        raise CurationError("tiny is built into this trainer; no other can start from it", "name a --base")
    path = Path(recipe.set) / name
    if not path.exists():
        raise CurationError(f"{recipe.set} has no {name}", "curation export writes it; export the set again")
    config: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    adapter = ("adapter", "lora_r", "lora_alpha", "lora_target_linear", "lora_target_modules", "use_peft")
    return {k: v for k, v in config.items() if recipe.lora or k not in adapter}


def _asked(recipe: Recipe, *, length: str, epochs: str) -> dict[str, Any]:
    """Return what every trainer built on `transformers` calls the same, and the length and epochs under its own names."""
    return {
        "learning_rate": recipe.lr or (2e-4 if recipe.lora else 2e-5),
        "gradient_accumulation_steps": max(1, (recipe.batch or 16) // max(1, recipe.devices)),
        "seed": recipe.seed,
        **({length: recipe.max_length} if recipe.max_length else {}),
        **({"max_steps": recipe.steps} if recipe.steps else {epochs: recipe.epochs or 3.0}),
    }


def _trl(run_dir: Path, recipe: Recipe) -> dict[str, str]:
    config = _exported(recipe, "trl.yaml")
    config |= _asked(recipe, length="max_length", epochs="num_train_epochs")
    config |= {"model_name_or_path": recipe.base, "output_dir": str(run_dir), "per_device_train_batch_size": 1}
    config["data_files"] = {k: str(Path(recipe.set) / v) for k, v in config["data_files"].items()}
    if recipe.qlora:
        config["load_in_4bit"] = True
    return {"trl.yaml": f"# {_several('trl sft --config trl.yaml', recipe)}\n" + _yaml(config)}


def _axolotl(run_dir: Path, recipe: Recipe) -> dict[str, str]:
    config = _exported(recipe, "axolotl.yaml")
    config |= _asked(recipe, length="sequence_len", epochs="num_epochs")
    config |= {"base_model": recipe.base, "output_dir": str(run_dir), "micro_batch_size": 1}
    for entry in (*config["datasets"], *config["test_datasets"]):
        entry["path"] = str(Path(recipe.set) / entry["path"])
    if recipe.qlora:
        config |= {"adapter": "qlora", "load_in_4bit": True}
    return {"axolotl.yaml": "# axolotl train axolotl.yaml\n" + _yaml(config)}


def _llamafactory(run_dir: Path, recipe: Recipe) -> dict[str, str]:
    if recipe.base == runs.TINY:
        raise CurationError("tiny is built into this trainer; no other can start from it", "name a --base")
    names = list(runs.read_json(Path(recipe.set) / "dataset_info.json"))
    config: dict[str, Any] = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": recipe.base,
        "dataset_dir": recipe.set,
        "dataset": names[0],
        "eval_dataset": names[1],
        "template": "SET-THE-TEMPLATE-OF-THE-BASE",
        "finetuning_type": "lora" if recipe.lora else "full",
        "output_dir": str(run_dir),
        "cutoff_len": 4096,
        "packing": True,
        "neat_packing": True,
        "per_device_train_batch_size": 1,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.03,
        "bf16": True,
        **_asked(recipe, length="cutoff_len", epochs="num_train_epochs"),
        **({"lora_rank": 16, "lora_alpha": 32, "lora_target": "all"} if recipe.lora else {}),
        **({"quantization_bit": 4} if recipe.qlora else {}),
    }
    return {"llamafactory.yaml": "# llamafactory-cli train llamafactory.yaml\n" + _yaml(config)}


def _several(command: str, recipe: Recipe) -> str:
    return command if recipe.devices == 1 else f"{command} --num_processes {recipe.devices}"


def _yaml(value: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, allow_unicode=True)


KINDS: dict[str, Callable[[Path, Recipe], dict[str, str]]] = {
    "slurm": _slurm,
    "skypilot": _skypilot,
    "trl": _trl,
    "axolotl": _axolotl,
    "llamafactory": _llamafactory,
}
