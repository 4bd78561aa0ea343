"""The trainer: on a CPU the built-in base, packing and the sensor; on a GPU tokens a second and MFU beside TRL in one run.

    python benchmarks/train.py [--part cpu]                          # needs nothing but the sample data; about 6 minutes
    python benchmarks/train.py --part gpu --lengths FILE             # needs CUDA and trl; FILE: JSONL rows of real pairs
    python benchmarks/train.py --part gpu --toy                      # the same code on toy shapes and a CPU: proves that it runs

GPU models are built from their configurations with random weights: shapes real, nothing downloaded. Lengths of short pairs are
those of FILE's rows (words times 1.35), of "packed 4k" full rows of 4,096 tokens. Tokens counted are tokens of rows, never
padding. FLOP a token: 6 a trained parameter, 4 a frozen one, and attention's products (12 a layer and hidden unit for each
token seen, halved for the mask); `mfu_without_attention` leaves these out. Every arm is written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHAPES = {  # hidden, intermediate, layers, heads, key-value heads, vocabulary, tied
    "0.5B": (896, 4864, 24, 14, 2, 151936, True),
    "1.5B": (1536, 8960, 28, 12, 2, 151936, True),
    "8B": (4096, 14336, 32, 32, 8, 128256, False),
    "toy": (64, 128, 2, 4, 2, 1200, True),
    "toy LoRA": (64, 128, 2, 4, 2, 1200, False),
}
ADAPTED = {"8B", "toy LoRA"}  # trained with LoRA
PEAK = 989e12  # dense bf16 of H100 and H200, by the maker's data sheet


# ---- CPU


def run_cpu(runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp) / "set"
        verb("import", str(ROOT / "sample_data" / "pairs.jsonl"), "--to", str(folder))
        for name in ("spec.yaml", "battery.jsonl"):
            (folder / name).write_bytes((ROOT / "sample_data" / name).read_bytes())
        verb("check", str(folder))
        verb("export", str(folder), "--raw", "--out", str(folder / "raw-set"))
        quiet, busy = [], []
        for k in range(runs):  # in turns, so that a slow minute of the machine falls on both
            quiet.append(speed(folder, f"quiet{k}"))
            busy.append(with_neighbour(lambda k=k: speed(folder, f"busy{k}")))
        return {
            "tiny_tokens_per_s": quiet,
            "tiny_tokens_per_s_other_core_busy": busy,
            "busy_over_quiet": round(statistics.median(busy) / statistics.median(quiet), 3),
            "packing": packing(folder / "raw-set"),
            "trainer_over_plain_loop": against_plain(folder / "raw-set", runs),
            "sensor": sensor(folder),
        }


def verb(*args: str) -> str:
    done = subprocess.run([sys.executable, "-m", "curation.cli", *args], capture_output=True, text=True, check=True)
    return done.stdout


def speed(folder: Path, name: str, steps: int = 160) -> int:
    """Return tokens of rows a second of `tiny`, one thread, over the second half of a short run, where nothing is practised."""
    run_dir = folder / "runs" / name
    asked = ["--steps", str(steps), "--row-losses", "off", "--samples", "0", "--threads", "1"]
    verb("train", str(folder / "raw-set"), "--out", str(run_dir), *asked)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    half, last = lines[len(lines) // 2 - 1], lines[-1]
    return round((last["tokens"] - half["tokens"]) / (last["seconds"] - half["seconds"]))


def with_neighbour(work: Any) -> int:
    """Return what `work` gives while another process keeps one core busy."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        return work()
    finally:
        neighbour.kill()
        neighbour.wait()


def packing(set_dir: Path) -> dict[str, Any]:
    """Return fill and time of best-fit packing, on the set's lengths and on 1 M drawn from a long-tailed spread."""
    import numpy as np
    from curation.train import base, compile
    from curation.train.runs import Recipe

    lengths = base.prepare(Recipe(set=str(set_dir))).train.lengths
    many = np.clip(np.random.default_rng(0).lognormal(4.9, 0.8, 1_000_000), 8, 4096).astype(np.int64)
    out = {}
    for name, x, asked in (("sample set, 2,048", lengths, 2048), ("1 M log-normal, 4,096", many, 4096)):
        began = time.perf_counter()
        capacity = compile.even(x, asked)
        packs = compile.best_fit(x, capacity)
        seconds = time.perf_counter() - began
        filled = sorted(float(x[pack].sum()) / capacity for pack in packs)
        out[name] = {
            "rows": len(x),
            "packs": len(packs),
            "capacity": capacity,
            "fill": round(float(x.sum()) / (len(packs) * capacity), 5),
            "fill_but_the_emptiest": round(statistics.fmean(filled[1:]), 5),
            "fill_at_capacity_asked": round(compile.fill(x, asked), 5),
            "seconds": round(seconds, 2),
        }
    return out


def against_plain(set_dir: Path, runs: int, steps: int = 60) -> dict[str, Any]:
    """Time the same batches through our trainer and through a bare torch loop with the same model and optimizer."""
    import torch
    from curation.train import base, loss, plan, settings, sft, tiny
    from curation.train import runs as folders
    from curation.train.isolate import isolate
    from curation.train.runs import Recipe

    torch.set_num_threads(1)
    recipe = Recipe(set=str(set_dir), steps=steps, log_every=steps, row_losses="off", samples=0)
    prepared = base.prepare(recipe)
    resolved = settings.resolve(recipe, prepared, **base.size_of(tiny.make_model(prepared.tokenizer, seed=0)))

    def plain() -> float:
        model = tiny.make_model(prepared.tokenizer, seed=0)
        isolate(model)
        model.train()
        batches = plan.Plan(prepared.train, prepared.tokenizer, resolved, seed=0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        began = time.perf_counter()
        for k in range(steps):
            batch = batches[k]
            losses, _, _ = loss.token_losses(model, batch)
            losses.mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - began

    def ours() -> float:
        with tempfile.TemporaryDirectory() as temp:
            run_dir = Path(temp) / "run"
            folders.create(run_dir, recipe)
            return float(sft.train_run(run_dir, recipe, prepared)["seconds"])

    plain(), ours()
    pairs = [(plain(), ours()) for _ in range(runs)]
    ratios = [b / a for a, b in pairs]
    return {"seconds": [[round(a, 2), round(b, 2)] for a, b in pairs], "ratio": round(statistics.median(ratios), 3)}


def sensor(folder: Path) -> dict[str, Any]:
    """Return how much denser planted wrong labels are in the top decile of the queue of hard rows than in the whole set."""
    import pyarrow.parquet as pq

    answers = json.loads((ROOT / "sample_data" / "answers.json").read_text(encoding="utf-8"))
    planted = {int(i) for i, entry in answers["rows"].items() if "dup.conflict" in entry["flaws"]}
    any_flaw = {int(i) for i in answers["rows"]}
    verb("train", str(folder / "raw-set"), "--out", str(folder / "runs" / "sensor"), "--epochs", "4")
    rows = pq.read_table(folder / "runs" / "sensor" / "row_losses.parquet")["row"].to_pylist()
    queue = (folder / "queues" / "hard-sensor.jsonl").read_text(encoding="utf-8").splitlines()
    top = [json.loads(line)["row"] for line in queue]
    out: dict[str, Any] = {"rows": len(rows), "queue": len(top)}
    for name, bad in (("wrong labels", planted), ("any planted flaw", any_flaw)):
        base, found = len(bad & set(rows)) / len(rows), len(bad & set(top)) / len(top)
        out[name] = {"planted": len(bad & set(rows)), "in_queue": len(bad & set(top)), "enrichment": round(found / base, 2)}
    return out


# ---- GPU


def run_gpu(a: argparse.Namespace, save: Any) -> dict[str, Any]:
    """Measure every arm on every mix and size that was asked for; `save` is called with what there is so far."""
    import torch

    if not torch.cuda.is_available() and not a.toy:
        sys.exit("no CUDA device: nothing is measured by guess; run this part on a machine with an H100 or H200")
    short = short_lengths(a.lengths) if a.lengths else [24 + 7 * (i % 13) for i in range(256)]
    mixes = {"short": short, "packed 4k": [256] * 64 if a.toy else [4096] * 512}
    out: dict[str, Any] = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu, toy shapes"}
    out |= {"torch": torch.__version__, "arms": {}}
    for size in a.sizes.split(","):
        with tempfile.TemporaryDirectory() as temp:
            model = build(size, Path(temp) / "model")
            for mix in a.mixes.split(","):
                set_dir = write_set(Path(temp) / mix.replace(" ", "-"), mixes[mix], model)
                seen = attended(set_dir, model)
                where = out["arms"].setdefault(f"{size.removesuffix(' LoRA')} {'LoRA' if size in ADAPTED else 'full'}, {mix}", {})
                for name in a.arms:
                    where[name] = measure(ARMS[name], model, set_dir, size, seen, a.runs, a.steps)
                    save(out)
    return out


def attended(set_dir: Path, model: Path) -> float:
    """Return how many tokens a token sees on average, itself in the middle of its row."""
    from curation.train import base
    from curation.train.runs import Recipe

    lengths = base.prepare(Recipe(set=str(set_dir), base=str(model))).train.lengths.astype(float)
    return float((lengths**2).sum() / lengths.sum() / 2)


def settle() -> None:
    """Wait for the device, and give back what the last arm held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def short_lengths(path: Path) -> list[int]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:8192]]
    words = [sum(len(str(r.get(k, "")).split()) for k in ("instruction", "input", "output", "response")) for r in rows]
    return [min(2048, max(16, round(1.35 * w) + 12)) for w in words]


def build(size: str, folder: Path) -> Path:
    """Save a model of the shape with random weights, and a tokenizer with a chat template of its own."""
    import torch
    import transformers
    from curation.train import tiny

    hidden, inner, layers, heads, groups, vocabulary, tied = SHAPES[size]
    config = transformers.Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=groups, max_position_embeddings=8192, tie_word_embeddings=tied, use_sliding_window=False,
        pad_token_id=0, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    del model
    settle()
    tiny.make_tokenizer(["one two three four five six seven eight nine ten"] * 50).save_pretrained(folder)
    return folder


def write_set(folder: Path, lengths: list[int], model: Path) -> Path:
    """Write a set whose rows have these lengths in tokens, a fifth of them the prompt's."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import transformers

    from curation.model import MESSAGES

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    overhead = len(tokenizer.apply_chat_template(turns("", " "), tokenize=True)["input_ids"])
    one = len(tokenizer(" one" * 100, add_special_tokens=False)["input_ids"]) / 100
    folder.mkdir(parents=True)
    messages = []
    for n in lengths:
        words = max(2, int((n - overhead - 2) / one))
        messages.append(turns(" ".join(["one"] * max(1, words // 5)), " ".join(["one"] * max(1, words - words // 5))))
    for split, part in (("train", messages), ("validation", [])):
        k = len(part)
        table = {
            "row": pa.array(range(k), pa.int64()),
            "uid": pa.array([str(i) for i in range(k)]),
            "family": pa.array([""] * k, pa.string()),
            "messages": pa.array(part, MESSAGES),
        }
        pq.write_table(pa.table(table), folder / f"{split}.parquet")
    return folder


def turns(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


class Enough(Exception):
    """The run has been measured; what it would do at its end is not part of it."""


def ours(model: Path, set_dir: Path, lora: bool, steps: int, *, blocks: bool) -> tuple[float, float]:
    """Return (tokens, seconds) of the second half of a run."""
    from curation.train import base, sft
    from curation.train import runs as folders
    from curation.train.runs import Recipe

    lengths = base.prepare(Recipe(set=str(set_dir), base=str(model))).train.lengths
    batch = max(1, round(step_tokens(model) / float(lengths.mean())))
    with tempfile.TemporaryDirectory() as temp:
        run_dir = Path(temp) / "run"
        recipe = Recipe(
            set=str(set_dir), base=str(model), lora=lora, steps=steps, batch=batch,
            log_every=steps // 2, save_every=10**6, row_losses="off", compile=blocks, samples=0, lr=1e-5,
        )  # fmt: skip
        folders.create(run_dir, recipe)

        def stop(event: dict[str, Any]) -> None:
            if event["event"] in ("memory", "uncompiled"):
                raise RuntimeError(f"{event['event']}: {event.get('why') or event.get('parts')}")
            if event["event"] == "step" and event["step"] == steps:
                raise Enough

        try:
            sft.train_runs([run_dir], say=stop)
        except Enough:
            first, second = folders.read_metrics(run_dir)[-2:]
            return second["tokens"] - first["tokens"], second["seconds"] - first["seconds"]
        raise AssertionError(f"the run ended before step {steps}")


def step_tokens(model: Path) -> int:
    """Return about how many tokens a step of ours and of TRL well set holds: as many, so that the optimizer costs both alike."""
    return 2048 if json.loads((model / "config.json").read_text())["hidden_size"] < 512 else 32768


def well_set(model: Path) -> dict[str, Any]:
    """Return TRL's settings as well as we know: rows packed, our attention between them, bf16, nothing computed twice."""
    return {
        "packing": True, "max_length": step_tokens(model) // 4, "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4, "gradient_checkpointing": False, "optim": "adamw_torch_fused",
    }  # fmt: skip


def theirs(model: Path, set_dir: Path, lora: bool, steps: int, *, tuned: bool, blocks: bool = False) -> tuple[float, float]:
    """Return (tokens, seconds) of the second half of a run of TRL, with its defaults or as well set as we know."""
    import torch
    import transformers
    import trl
    from curation.train import base
    from curation.train.isolate import isolate
    from curation.train.runs import Recipe
    from datasets import Dataset

    cuda = torch.cuda.is_available()
    prepared = base.prepare(Recipe(set=str(set_dir), base=str(model)))
    t = prepared.train
    spans = [slice(t.offsets[i], t.offsets[i + 1]) for i in range(len(t))]
    data = Dataset.from_dict({"input_ids": [t.ids[s].tolist() for s in spans], "labels": [t.labels[s].tolist() for s in spans]})
    if tuned:
        data = data.shuffle(seed=0)
    with tempfile.TemporaryDirectory() as temp:
        config = trl.SFTConfig(
            output_dir=temp, max_steps=steps, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            use_cpu=not cuda, **({} if cuda else {"bf16": False}),
            **(well_set(model) if tuned else {"max_length": max(1024, int(t.lengths.max()))}),  # 1024 would cut rows
        )  # fmt: skip
        made = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16 if tuned and lora else torch.float32)
        if tuned:
            isolate(made)
        peft = None
        if lora:
            from peft import LoraConfig

            peft = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        clock = Clock(steps // 2)
        trainer = timed(trl.SFTTrainer, clock)(
            model=made, args=config, train_dataset=data, processing_class=prepared.tokenizer, peft_config=peft
        )
        if blocks:
            for block in trainer.model.get_decoder().layers:
                block.compile(dynamic=True)
        trainer.add_callback(clock.callback())
        trainer.train()
        settle()
        return float(clock.tokens), time.perf_counter() - clock.began


def timed(kind: Any, clock: Clock) -> Any:
    """Return the trainer class with every micro batch counted when it is trained."""

    class Timed(kind):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            clock.count(inputs)
            return super().training_step(model, inputs, *rest, **more)

    return Timed


class Clock:
    """Counts tokens and seconds from a step on."""

    def __init__(self, start: int) -> None:
        self.start, self.began, self.on = start, 0.0, False
        self.tokens: Any = 0

    def callback(self) -> Any:
        import torch
        from transformers import TrainerCallback

        clock = self

        class Start(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step == clock.start:
                    if torch.cuda.is_available():
                        torch.cuda.synchronize()
                    clock.began, clock.on = time.perf_counter(), True

        return Start()

    def count(self, inputs: Any) -> None:
        """Add the tokens of a micro batch: those not masked, or all where rows lie end to end."""
        if self.on:
            mask = inputs.get("attention_mask")
            self.tokens = self.tokens + (mask.sum() if mask is not None else inputs["input_ids"].numel())


ARMS = {
    "ours": lambda *a: ours(*a, blocks=False),
    "ours, blocks compiled": lambda *a: ours(*a, blocks=True),
    "TRL, its defaults": lambda *a: theirs(*a, tuned=False),
    "TRL, well set": lambda *a: theirs(*a, tuned=True),
    "TRL, well set, blocks compiled": lambda *a: theirs(*a, tuned=True, blocks=True),
}


def parameters_of(size: str) -> int:
    hidden, inner, layers, heads, groups, vocabulary, tied = SHAPES[size]
    block = 2 * hidden * hidden + 2 * hidden * groups * (hidden // heads) + 3 * hidden * inner
    return layers * block + vocabulary * hidden * (1 if tied else 2)


def measure(arm: Any, model: Path, set_dir: Path, size: str, seen: float, runs: int, steps: int) -> dict[str, Any]:
    """Return median tokens a second, FLOP/s and MFU of an arm, and its peak memory; a fault is kept as its message."""
    import torch

    lora = size in ADAPTED
    settle()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    try:
        rates = [tokens / seconds for tokens, seconds in (arm(model, set_dir, lora, steps) for _ in range(runs))]
    except (RuntimeError, ValueError, TypeError) as error:  # a peer that cannot run is a result as well
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    rate = statistics.median(rates)
    products = (4 if lora else 6) * parameters_of(size) * rate
    attention = 12 * SHAPES[size][2] * SHAPES[size][0] * seen * rate
    return {
        "tokens_per_s": round(rate),
        "of_runs": [round(r) for r in rates],
        "tflops": round((products + attention) / 1e12, 1),
        "mfu": round((products + attention) / PEAK, 3),
        "mfu_without_attention": round(products / PEAK, 3),
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1) if torch.cuda.is_available() else None,
        "seconds_with_start": round((time.perf_counter() - began) / runs, 1),
    }


# ---- tables


def cpu_table(result: dict[str, Any]) -> str:
    """Return what was measured on a CPU beside the bars, as Markdown."""
    quiet, busy = (statistics.median(result[k]) for k in ("tiny_tokens_per_s", "tiny_tokens_per_s_other_core_busy"))
    ratio, sensed = result["trainer_over_plain_loop"]["ratio"], result["sensor"]["wrong labels"]
    lines = [
        "| measure | bar | measured |",
        "| --- | --- | --- |",
        f"| `tiny`, one thread, tokens of rows a second | ≥ 4,500 | {quiet:,.0f} |",
        f"| the same while the other core is busy | within 20 % | {busy:,.0f} ({busy / quiet:.0%}) |",
        f"| `transformers.Trainer` and our meter against a plain torch loop, CPU | (5 % on a GPU) | {ratio:.3f} × its time |",
    ]
    for name, packed in result["packing"].items():
        told = f"{packed['fill']:.2%}; {packed['fill_but_the_emptiest']:.2%} without the emptiest pack; {packed['seconds']} s"
        lines.append(f"| packing fill, {name} | ≥ 99.5 % | {told} |")
    lines.append(f"| wrong labels in the top decile of the queue | ≥ 5 × | {sensed['enrichment']} × |")
    return "\n".join(lines) + "\n"


def gpu_table(result: dict[str, Any]) -> str:
    """Return every arm as a line of Markdown."""
    lines = [result["device"], "", "| model, rows | arm | tokens/s | TFLOP/s | MFU | peak GB |", "| --- " * 6 + "|"]
    for where, arms in result["arms"].items():
        for name, m in arms.items():
            told = [m["failed"], "", "", ""] if "failed" in m else [f"{m['tokens_per_s']:,}", m["tflops"], m["mfu"], m["peak_gb"]]
            lines.append(f"| {where} | {name} | " + " | ".join(map(str, told)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--part", choices=["cpu", "gpu"], default="cpu")
    ap.add_argument("--lengths", type=Path, help="rows whose lengths the short pairs take (GPU)")
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--steps", type=int, default=30, help="of an arm; the second half is timed (GPU)")
    ap.add_argument("--sizes", default="1.5B,8B,0.5B")
    ap.add_argument("--mixes", default="short,packed 4k")
    ap.add_argument("--arms", default="", help=f"some of: {', '.join(ARMS)} (separated by ;)")
    ap.add_argument("--toy", action="store_true", help="toy shapes on a CPU, to see that every arm runs; no numbers to report")
    ap.add_argument("--out", type=Path)
    a = ap.parse_args()
    a.arms = a.arms.split(";") if a.arms else list(ARMS)
    if a.toy:
        a.sizes, a.steps, a.runs, a.out = "toy,toy LoRA", 4, 1, a.out or Path(tempfile.gettempdir()) / "train-toy.json"
    elif a.part == "gpu" and a.lengths is None:
        ap.error("--part gpu needs --lengths FILE, or --toy")
    out = a.out or Path(__file__).parent / "results" / f"train-{a.part}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    table = cpu_table if a.part == "cpu" else gpu_table

    def save(result: dict[str, Any]) -> None:
        whole = {"python": platform.python_version(), "machine": platform.machine(), **result}
        out.write_text(json.dumps(whole, indent=1) + "\n")
        out.with_suffix(".md").write_text(table(result))

    result = run_cpu(a.runs) if a.part == "cpu" else run_gpu(a, save)
    save(result)
    print(table(result))


if __name__ == "__main__":
    main()
