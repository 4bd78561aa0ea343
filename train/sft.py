"""Supervised fine-tuning of one vetted set, read from top to bottom: base, tokens, settings, order, loss, trainer, run.

We own the tokens and rent the steps: compile.py says what is trained, `transformers.Trainer` steps. Rows are laid end
to end without padding and attention stays inside each row. The loss is taken at labelled positions only. What a batch
holds depends on (seed, step) alone, so a run that was killed goes on to the same weights.
"""

from __future__ import annotations

import gc
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from . import runs

if __name__ == "__main__":  # what torch reads at import must be set before
    _recipe = runs.read_recipe(Path(sys.argv[1]))
    runs.prepare_environment(threads=_recipe.threads, base=_recipe.base)

import numpy as np
import pyarrow.parquet as pq
import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from curation.errors import CurationError, needs
from curation.store import sync_folder
from curation.text import shorten

from . import compile as compiler
from . import plots, samples, sensor, tiny, world
from .base import Prepared, families_of, load_model, merged, prepare, size_of
from .compile import IGNORE
from .isolate import isolate, unisolate
from .loss import fuse, held_out, losses_of, token_losses
from .meter import Meter
from .plan import Plan
from .runs import TINY, Recipe
from .say import speaker
from .settings import Settings, rate, resolve

Say = Callable[[dict[str, Any]], None]
#: A pack that does not fit is divided into at most this many parts before the run gives up.
MOST_PARTS = 16


# ---- trainer --------------------------------------------------------------------------------------------------------


class Steps(Trainer):
    """`transformers.Trainer` with our batches, our loss, our schedule, and checkpoints that are whole or absent."""

    loss_is_scaled_for_ga = True  # compute_loss divides by the labels of the whole step

    def __init__(self, *, run_dir: Path, plan: Plan, meter: Meter, settings: Settings, **rest: Any) -> None:
        self.run_dir, self.plan, self.meter, self.settings = run_dir, plan, meter, settings
        super().__init__(**rest)

    def create_accelerator_and_postprocess(self) -> None:
        """Let accelerate shard on CPUs too, where it would copy: its FSDP2 does not ask what the devices are."""
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if self.args.fsdp and state.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            state.distributed_type = DistributedType.FSDP
            self.is_fsdp_enabled = True

    def get_train_dataloader(self) -> Any:
        """Return the plan, one micro batch an item, in order."""
        pinned = self.settings["device"][0] == "cuda"
        return torch.utils.data.DataLoader(self.plan, batch_size=1, shuffle=False, collate_fn=_only, pin_memory=pinned)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        if self.plan.world > 1:  # what the other processes see counts too, and the plan knows it
            return self.plan.labels_of(self.state.global_step)
        return sum(int((batch["labels"] != IGNORE).sum()) for batch in batch_samples)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the sum of the token losses over the labels of the step, so that accumulation changes nothing."""
        losses, owner, hit = token_losses(model, inputs)
        self.meter.note(self.state.global_step, inputs, losses, owner, hit)
        if not losses.is_cuda:
            self.meter.read(self.plan)
        return losses.sum() / num_items_in_batch * self.plan.world  # the processes' gradients are averaged

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip, and keep the norm; where waiting costs nothing, a gradient that is no number never reaches the weights."""
        norm = super()._clip_grad_norm(model)
        self.meter.note_norm(self.state.global_step, norm)
        if self.settings["device"][0] == "cpu":
            self.meter.read(self.plan)
        return norm

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Send a batch to the device without waiting for it; its memory is pinned there."""
        where = self.args.device
        return {k: v.to(where, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the Trainer would count parameters at each step to report a number that we do not use."""
        return 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return AdamW over what is trainable. Betas (0.9, 0.95), no weight decay: few steps, no long average."""
        if self.optimizer is None:
            assert self.model is not None, "the Trainer has no model"
            weights = [p for p in self.model.parameters() if p.requires_grad]
            self.optimizer = torch.optim.AdamW(
                weights, lr=self.settings["lr"][0], betas=(0.9, 0.95), weight_decay=0.0, fused=True
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the schedule of the settings; it depends on the step alone."""
        if self.lr_scheduler is None:
            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                chosen, lambda step: rate(step, num_training_steps, self.settings)
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def full_state(self) -> dict[str, torch.Tensor]:
        """Return the weights whole on the first process, {} elsewhere; sharded ones are gathered one by one."""
        state: dict[str, torch.Tensor] = {}
        assert self.model is not None, "the Trainer has no model"
        for name, weight in self.model.state_dict().items():
            whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
            if world.first():
                state[name] = whole.detach().to("cpu", copy=True)
        return state

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; a sharded one whole, as any other."""
        if self.is_fsdp_enabled:
            self._save(output_dir, state_dict=self.full_state())
        else:
            super().save_model(output_dir, _internal_call)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.run_dir / "checkpoints" / "unfinished")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint under another name, and rename it when it is whole and on disk."""
        self.meter.read(self.plan)
        self.meter.gather()
        step = self.state.global_step
        staging = self.run_dir / "checkpoints" / "unfinished"
        with disk_errors(self.run_dir, f"the checkpoint of step {step}", staging):
            if world.first():
                shutil.rmtree(staging, ignore_errors=True)
                staging.mkdir(parents=True)
            world.wait()
            super()._save_checkpoint(model, trial)
            world.wait()
            if world.first():
                np.savez(staging / f"checkpoint-{step}" / "meter.npz", **self.meter.state())
                best = min(runs.looks(self.run_dir), default=(0.0, None))[1]
                runs.publish_checkpoint(self.run_dir, staging / f"checkpoint-{step}", step, best=best)
                shutil.rmtree(staging, ignore_errors=True)
        world.wait()


def _only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    return batch[0]


#: What the writers of torch and safetensors say on a full disk, and the bytes below which a disk is full whatever they say.
FULL = ("no space left", "disk quota", "file write failed", "os error 28", "enforce fail at inline_container")
NOTHING = 1 << 20


@contextmanager
def disk_errors(run_dir: Path, what: str, *partial: Path) -> Iterator[None]:
    """Turn a full disk into a CurationError and remove what was half written; other faults pass through."""
    try:
        yield
    except Exception as error:
        left = shutil.disk_usage(run_dir).free
        for path in partial:
            shutil.rmtree(path, ignore_errors=True)
        # torch and safetensors wrap the system's error in types of their own; some keep its words, some have their own
        said = str(error).lower()
        told = any(words in said for words in FULL) or getattr(error, "errno", None) in (28, 122)
        if not told and not (left < NOTHING and isinstance(error, (OSError, RuntimeError))):
            raise
        free = shutil.disk_usage(run_dir).free
        raise CurationError(
            f"{what} could not be written: the disk of {run_dir} is full ({free / 1e6:.0f} MB free without it)",
            "make room, then go on with --resume: earlier checkpoints are intact",
        ) from error


class Watch(TrainerCallback):
    """Logs, looks at the held-out rows, asks for checkpoints, and stops when a signal came or nothing gets better."""

    def __init__(
        self, run_dir: Path, plan: Plan, meter: Meter, recipe: Recipe, settings: Settings, prepared: Prepared, say: Say | None
    ) -> None:
        self.run_dir, self.plan, self.meter, self.recipe = run_dir, plan, meter, recipe
        self.settings, self.prepared, self.say = settings, prepared, say
        self.signal = 0
        self.stopped_early = False
        self.before: dict[str, Any] = {}  # the last metrics line before a resume
        self.started = self.window = time.perf_counter()
        self.tokens = 0.0  # of all processes, at the last metrics line
        self.board: Any = None
        self.asked = samples.pick(Path(recipe.set), settings["samples"][0]) if settings["samples"][0] else []

    def resume(self, last: dict[str, Any]) -> None:
        """Go on counting seconds from the last metrics line that was kept."""
        self.before = last
        self.tokens = world.total(self.meter.tokens)[0]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Let the base speak before its first step, and start the clock."""
        if self.recipe.tensorboard and world.first():
            self.board = _board(self.run_dir, state.global_step)
        if state.global_step == 0:
            self._speak(rest["model"], 0)
        self.tokens = world.total(self.meter.tokens)[0]
        self.started = self.window = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Write a metrics line when it is due; ask for a checkpoint on schedule or on a signal."""
        step = state.global_step
        last = step >= state.max_steps
        if step % self.recipe.log_every == 0 or last:
            self._log(step, state.max_steps, rest["lr_scheduler"].get_last_lr()[0], rest["model"])
            self.stopped_early = not last and self._no_better(step)
        self.signal = round(world.total(self.signal)[0]) if world.size() > 1 else self.signal
        if self.signal or self.stopped_early:
            control.should_training_stop = True
        best = (min(runs.looks(self.run_dir), default=(0.0, -1))[1] == step) if self._looks(step) else False
        due = bool(self.signal) or step % self.settings["save_every"][0] == 0 or best
        control.should_save = due and not (last and not best)

    def _looks(self, step: int) -> bool:
        every = self.settings["eval_every"][0]
        return bool(every) and step % every == 0

    def _no_better(self, step: int) -> bool:
        """Return whether the last `patience` looks at the held-out rows found nothing better than before them."""
        patience = self.settings["patience"][0]
        losses = [loss for loss, _ in runs.looks(self.run_dir)] if patience and self._looks(step) else []
        return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])

    def _log(self, step: int, steps: int, lr: float, model: Any) -> None:
        """Write one metrics line; every process takes part, the first one writes."""
        self.meter.read(self.plan)
        now = time.perf_counter()
        (loss, norm), tokens = self.meter.drain(), world.total(self.meter.tokens)[0]
        per_s = (tokens - self.tokens) / max(1e-9, now - self.window)
        line = {
            "step": step,
            "loss": round(loss, 6),
            "lr": lr,
            "grad_norm": round(norm, 4),
            "tokens": round(tokens),
            "tokens_per_s": round(per_s),
            "seconds": round(self.before.get("seconds", 0.0) + now - self.started, 2),
        }
        if self.settings["peak_flops"][0]:
            reached = per_s * self.settings["flops_per_token"][0] / (self.settings["peak_flops"][0] * world.size())
            line["mfu"] = round(reached, 4)
        if self._looks(step):
            line["held_out_loss"] = held_out(model, self.prepared)["loss"]
        if self.asked and (step % self.settings["sample_every"][0] == 0 or step >= steps):
            self._speak(model, step)
        self.window, self.tokens = time.perf_counter(), tokens
        if world.first():
            with disk_errors(self.run_dir, "metrics.jsonl"), (self.run_dir / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            runs.write_state(self.run_dir, "running", step=step, steps=steps)
            if self.board is not None:
                for name in ("loss", "lr", "grad_norm", "tokens_per_s", "held_out_loss", "mfu"):
                    if name in line:
                        self.board.add_scalar(name, line[name], step)
                self.board.flush()
            if self.say:
                self.say({"event": "step", "run": self.run_dir.name, "steps": steps, **line})
        since = (step - 1) // self.recipe.log_every * self.recipe.log_every
        self.meter.judge(range(since, step), self.plan, len(self.prepared.tokenizer))
        world.wait()

    def _speak(self, model: Any, step: int) -> None:
        """Write what the model answers to the fixed prompts at this step; one process speaks."""
        if self.asked and world.first():
            lines = samples.speak(model, self.prepared.tokenizer, self.asked, step)
            with disk_errors(self.run_dir, samples.FILE):
                samples.append(self.run_dir, lines)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the run after the step at hand, with a checkpoint."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number

        try:
            old = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not the main thread: nobody can send us a signal
            old = {}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _board(run_dir: Path, step: int) -> Any:
    """Return a TensorBoard writer into the run folder; what was written of later steps is taken back."""
    needs("tensorboard", "board")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1 if step else None)


# ---- run ------------------------------------------------------------------------------------------------------------


def train_runs(run_dirs: list[Path], *, resume: bool = False, say: Say | None = None) -> list[dict[str, Any]]:
    """Train the runs one after another in this process and return their cards; equal sets are compiled once."""
    cards, shared = [], {}
    for run_dir in run_dirs:
        recipe = runs.read_recipe(run_dir)
        if resume and (run_dir / "run.json").exists() and runs.read_state(run_dir)["state"] == "done":
            cards.append(runs.read_json(run_dir / "run.json"))
            continue
        key = recipe.compile_key()
        if key not in shared:
            torch.set_num_threads(recipe.threads)
            _write_state(run_dir, "running", step=0, steps=0)
            with noted(run_dir):
                started = time.perf_counter()
                shared[key] = prepare(recipe)
                if say:
                    say({"event": "compiled", "seconds": round(time.perf_counter() - started, 2), **shared[key].report})
        card = train_run(run_dir, recipe, shared[key], resume=resume, say=say)
        cards.append(card)
        if card["state"] == "stopped":
            break
    return cards


def _write_state(run_dir: Path, state: str, *, step: int, steps: int, why: str = "") -> None:
    if world.first():
        runs.write_state(run_dir, state, step=step, steps=steps, why=why)


@contextmanager
def noted(run_dir: Path) -> Iterator[None]:
    """Write down a failure in the state of the run before it goes up."""
    try:
        yield
    except BaseException as error:
        state = runs.read_state(run_dir)
        with suppress(OSError):  # a full disk is what the error says; the state then reads as killed
            runs.write_state(run_dir, "failed", step=state["step"], steps=state["steps"], why=f"{type(error).__name__}: {error}")
        raise


def train_run(
    run_dir: Path, recipe: Recipe, prepared: Prepared, *, resume: bool = False, say: Say | None = None
) -> dict[str, Any]:
    """Train one run folder from its recipe, or go on from its newest complete checkpoint; return the run card.

    When memory runs out every pack is divided and the run goes on from its newest checkpoint: a step holds the same
    rows and gives the same gradient, in smaller pieces. When the blocks cannot be compiled it goes on without.
    """
    torch.set_num_threads(recipe.threads)
    disable_progress_bar()  # ours says more, and a log file keeps every redraw of theirs
    parts, blocks = 1, True
    with noted(run_dir):
        while True:
            try:
                return _train_run(run_dir, recipe, prepared, parts=parts, blocks=blocks, resume=resume, say=say)
            except torch.OutOfMemoryError as error:
                parts *= 2
                if world.size() > 1 or parts > MOST_PARTS or recipe.base == TINY:
                    raise CurationError(
                        f"the memory of the device does not hold a pack: {str(error).splitlines()[0]}",
                        "use --lora, a smaller --base, a smaller --batch or a shorter --max-length",
                    ) from error
                told = {"event": "memory", "run": str(run_dir), "parts": parts}
            except RuntimeError as error:
                if not blocks or world.size() > 1 or not of_the_compiler(error):
                    raise
                blocks = False
                why = shorten(str(error).split("\n\n")[0])
                told = {"event": "uncompiled", "run": str(run_dir), "why": f"{type(error).__name__}: {why}"}
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            resume = True
            if say:
                say(told)


def _train_run(
    run_dir: Path, recipe: Recipe, prepared: Prepared, *, parts: int, blocks: bool, resume: bool, say: Say | None
) -> dict[str, Any]:
    model = load_model(recipe, prepared.tokenizer, seed=recipe.seed)
    settings = resolve(recipe, prepared, **size_of(model))
    if say and parts == 1 and blocks:
        say({"event": "settings", "run": str(run_dir), "settings": settings})
    if world.first():
        _keep_tokens(run_dir, prepared, resume=resume)
    plan = Plan(
        prepared.train, prepared.tokenizer, settings, seed=recipe.seed, parts=parts, rank=world.rank(), world=world.size()
    )
    meter = Meter()
    watch = Watch(run_dir, plan, meter, recipe, settings, prepared, say)
    trainer = _trainer(run_dir, recipe, model, plan, meter, settings, watch)
    found = runs.checkpoints(run_dir) if resume else []
    step, checkpoint = found[-1] if found else (0, None)
    world.wait()
    last = runs.cut_metrics(run_dir, step) if world.first() else {}
    if world.first():
        samples.cut(run_dir, step if checkpoint else -1)
    if checkpoint:
        if world.first():
            meter.restore(checkpoint / "meter.npz")
        watch.resume(last)
    _write_state(run_dir, "running", step=step, steps=plan.steps)
    isolate(model)
    fuse(settings["compile"][0] and blocks)
    if settings["compile"][0] and blocks:
        compile_blocks(model)
    with watch.listening():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    meter.read(plan)
    meter.gather()
    if recipe.shard and world.size() > 1:
        model = _whole(trainer, recipe, prepared)
    if not world.first():
        world.wait()
        return {"run": run_dir.name, "state": "stopped" if watch.signal else "done"}
    step = trainer.state.global_step
    card = _card(run_dir, recipe, prepared, settings, meter, step)
    card["parts"], card["stopped_early"], card["compiled"] = plan.parts, watch.stopped_early, settings["compile"][0] and blocks
    if step < plan.steps and not watch.stopped_early:
        runs.write_state(run_dir, "stopped", step=step, steps=plan.steps, why=f"signal {watch.signal}")
        card["state"] = "stopped"
        runs.write_json(run_dir / "run.json", card)
    else:
        card["best_step"] = _take_best(run_dir, model, settings, step)
        card = _finish(run_dir, recipe, prepared, model, meter, card)
    world.wait()
    return card


def compile_blocks(model: Any, **how: Any) -> None:
    """Compile each block in place, once for all lengths; the weights keep their names."""
    for block in model.get_decoder().layers:
        block.compile(dynamic=True, **how)


def of_the_compiler(error: BaseException) -> bool:
    """Return whether torch.compile failed, and not the run."""
    return any(kind.__module__.startswith(("torch._dynamo", "torch._inductor", "triton")) for kind in type(error).__mro__)


def _whole(trainer: Steps, recipe: Recipe, prepared: Prepared) -> Any:
    """Return a model with the weights that the processes hold in shards; a call that all processes make."""
    assert any(isinstance(p, DTensor) for p in trainer.model_wrapped.parameters()), "the weights were not sharded"
    state = trainer.full_state()
    if not world.first():
        return None
    model = load_model(recipe, prepared.tokenizer, seed=recipe.seed)
    model.load_state_dict(state)
    isolate(model)
    return model


def _take_best(run_dir: Path, model: Any, settings: Settings, step: int) -> int:
    """Load the weights of the best look at the held-out rows when the run may stop early; return their step."""
    best = min(runs.looks(run_dir), default=(0.0, step))[1]
    checkpoint = run_dir / "checkpoints" / f"step-{best:06d}"
    if not settings["patience"][0] or best == step or not checkpoint.is_dir():
        return step
    if (checkpoint / "adapter_model.safetensors").exists():
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))
    else:
        from safetensors.torch import load_model as load_into

        load_into(model, checkpoint / "model.safetensors")
    return best


def _keep_tokens(run_dir: Path, prepared: Prepared, *, resume: bool) -> None:
    """Save the compiled tokens in the run folder; on resume demand that they are the same."""
    saved = run_dir / "compiled" / "compile.json"
    if resume and saved.exists():
        old = runs.read_json(saved)["fingerprint"]
        if old != prepared.report["fingerprint"]:
            raise CurationError(
                f"{run_dir} was started on other tokens ({old[:12]}, now {prepared.report['fingerprint'][:12]})",
                "the set, the tokenizer or --max-length changed: start a new run without --resume",
            )
        return
    with disk_errors(run_dir, "the compiled tokens", run_dir / "compiled"):
        compiler.save(run_dir, prepared.train, prepared.held, prepared.left_out, prepared.report)


def _trainer(run_dir: Path, recipe: Recipe, model: Any, plan: Plan, meter: Meter, settings: Settings, watch: Watch) -> Steps:
    cuda = settings["device"][0] == "cuda"
    if settings["gradient_checkpointing"][0]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    shard: Any = recipe.shard and plan.world > 1  # annotated as text, documented as a truth value
    args = TrainingArguments(
        output_dir=str(run_dir / "checkpoints" / "unfinished"),
        max_steps=plan.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=plan.accumulation,
        fsdp=shard,
        fsdp_config={"state_dict_type": "SHARDED_STATE_DICT"},  # each process writes and reads its own part
        ddp_find_unused_parameters=False,
        learning_rate=settings["lr"][0],
        max_grad_norm=1.0,
        seed=recipe.seed,
        use_cpu=not cuda,
        bf16=settings["precision"][0] == "bf16",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    trainer = Steps(
        run_dir=run_dir,
        plan=plan,
        meter=meter,
        settings=settings,
        model=model,
        args=args,
        train_dataset=plan,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _card(run_dir: Path, recipe: Recipe, prepared: Prepared, settings: Settings, meter: Meter, step: int) -> dict[str, Any]:
    import accelerate
    import transformers

    manifest = compiler.set_card(Path(recipe.set))
    last = runs.cut_metrics(run_dir, step)
    return {
        "run": run_dir.name,
        "state": "running",
        "label": tiny.LABEL if recipe.base == TINY else "",
        "base": recipe.base,
        "method": "qlora" if recipe.qlora else "lora" if recipe.lora else "full",
        "devices": world.size(),
        "seed": recipe.seed,
        "set": {key: manifest.get(key, "") for key in ("name", "hash", "spec_hash", "gate", "counts")},
        "tokens_fingerprint": prepared.report["fingerprint"],
        "splits": prepared.report["splits"],
        "steps": step,
        "tokens": meter.tokens,
        "supervised_tokens": meter.supervised,
        "epochs": round(meter.tokens / max(1, len(prepared.train.ids)), 3),
        "final_loss": last.get("loss"),
        "seconds": last.get("seconds"),
        "held_out": None,
        "settings": {name: {"value": value, "reason": reason} for name, (value, reason) in settings.items()},
        "recipe": asdict(recipe),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "accelerate": accelerate.__version__,
        },
    }


def _finish(run_dir: Path, recipe: Recipe, prepared: Prepared, model: Any, meter: Meter, card: dict[str, Any]) -> dict[str, Any]:
    """Measure, save the model and the row losses, write the card; then the checkpoints are no longer needed."""
    started = time.perf_counter()
    card["held_out"] = held_out(model, prepared)
    if recipe.row_losses != "off":
        _save_row_losses(run_dir, recipe, prepared, model, meter)
    _save_model(run_dir, recipe, prepared.tokenizer, model)
    card["closing_seconds"] = round(time.perf_counter() - started, 2)
    card["state"] = "done"
    runs.write_json(run_dir / "run.json", card)
    plots.draw(run_dir)
    runs.write_state(run_dir, "done", step=card["steps"], steps=card["steps"])
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
    return card


def _save_row_losses(run_dir: Path, recipe: Recipe, prepared: Prepared, model: Any, meter: Meter) -> None:
    """Write row_losses.parquet: what each row showed at each visit, and what `--row-losses` asks for beside it."""
    train = prepared.train
    final = losses_of(model, train)[0] if recipe.row_losses in ("final", "ifd") else None
    alone = None
    if recipe.row_losses == "ifd":
        alone = losses_of(model, compiler.answers_alone(train, compiler.Renderer(prepared.tokenizer)))[0]
    table = sensor.table(train.row, train.uid, meter.seen(), final=final, alone=alone)
    part = run_dir / "row_losses.parquet.part"
    with disk_errors(run_dir, "row_losses.parquet"):
        pq.write_table(table, part)
        part.replace(run_dir / "row_losses.parquet")
    folder = runs.folder_of(run_dir)
    if folder is not None and len(meter.seen()) >= sensor.VISITS * len(train):
        hard = sensor.queue(table, families_of(Path(recipe.set), "train", train), run_dir.name)
        with disk_errors(run_dir, "the queue of hard rows"):
            sensor.write_queue(folder, run_dir.name, hard)
            sensor.write_signals(folder, table)


def _save_model(run_dir: Path, recipe: Recipe, tokenizer: Any, model: Any) -> None:
    """Write model/ with tokenizer, chat template and generation settings; under LoRA also adapter/."""
    model.eval()
    if recipe.lora:
        with disk_errors(run_dir, "the adapter", run_dir / "adapter"):
            model.save_pretrained(run_dir / "adapter")
            tokenizer.save_pretrained(run_dir / "adapter")
        model = merged(recipe, model, run_dir / "adapter")
    unisolate(model)
    eot = compiler.Renderer(tokenizer).eot
    stops = model.generation_config.eos_token_id
    stops = [stops] if isinstance(stops, int) else list(stops or [])
    stops = stops if eot in stops else [eot, *stops]
    model.generation_config.eos_token_id = stops[0] if len(stops) == 1 else stops
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eot
    part = run_dir / "model.part"
    shutil.rmtree(part, ignore_errors=True)
    with disk_errors(run_dir, "the model", part):
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    shutil.rmtree(run_dir / "model", ignore_errors=True)
    part.rename(run_dir / "model")
    sync_folder(run_dir)


def main(arguments: list[str]) -> int:
    """Train the run folders named on the command line (made by `curation train`), resuming where they stand."""
    try:
        with speaker() as say:
            cards = train_runs([Path(argument) for argument in arguments], resume=True, say=say if world.first() else None)
    except CurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    finally:
        world.leave()
    return 130 if any(card["state"] == "stopped" for card in cards) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
