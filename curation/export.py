"""Export: the vetted set as files that trainers read, with a manifest and a ledger that account for every row."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter, defaultdict
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
import yaml

from . import formats
from .checks import CHECKS
from .errors import CurationError
from .gate import Effective, GateResult, effective, evaluate
from .sketch import components
from .spec import Spec, dump
from .store import Digest, Store, atomic, sync_folder, write_json
from .text import fold

FORMATS = ("messages", "alpaca", "sharegpt", "prompt-completion")
#: Columns of train.parquet and validation.parquet, what `curation train` reads.
SET_COLUMNS = ("row", "uid", "id", "family", "messages")


def export(
    store: Store,
    spec: Spec,
    *,
    format: str = "messages",
    out: Path | None = None,
    gated: bool = True,
    override: str = "",
    hf: bool = True,
) -> dict[str, Any]:
    """Write the vetted set to vetted/<n> (or `out`) and return its manifest with the folder under "path".

    `gated=False` writes every row as imported, no verdict or edit applied: the arm that curation is compared
    with. A failed gate raises CurationError unless `override` gives a reason, which the manifest records. When
    the newest vetted set already holds exactly this, it is returned and nothing is written.
    """
    if format not in FORMATS:
        raise CurationError(f"{format!r} is not a format", f"formats: {', '.join(FORMATS)}")
    state = effective(store, spec) if gated else _raw(store)
    result = evaluate(store, spec, state) if gated else None
    if result is not None and not result.passed and not override:
        raise CurationError(
            "the gate failed, so nothing is exported:\n" + "\n".join(f"- {r}" for r in result.reasons),
            "curation review works the queues; --override REASON exports all the same and records why",
        )
    split = split_rows(state, spec)
    manifest = _manifest(store, spec, state, split, result, format, override)
    folder = out or _next(store, manifest["hash"])
    if folder.exists():
        if (folder / "manifest.json").exists() and _read(folder)["hash"] == manifest["hash"]:
            return {**_read(folder), "path": str(folder), "written": False}
        raise CurationError(f"{folder} already exists", "name another folder with --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(work, store, spec, state, split, manifest, format, hf)
        work.chmod(0o755)
        work.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {**manifest, "path": str(folder), "written": True}


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def newest(store: Store) -> Path | None:
    """Return the folder of the newest vetted set, or None."""
    numbers = [int(p.name) for p in (store.path / "vetted").glob("*") if p.name.isdigit()]
    return store.path / "vetted" / str(max(numbers)) if numbers else None


def _next(store: Store, hash: str) -> Path:
    last = newest(store)
    if last is None:
        return store.path / "vetted" / "1"
    same = (last / "manifest.json").exists() and _read(last)["hash"] == hash    # a folder without one is no set of ours
    return last if same else last.with_name(str(int(last.name) + 1))


def _raw(store: Store) -> Effective:
    """Return every row as imported, nothing rejected or edited."""
    rows, signals = store.rows(), store.signals()
    if signals is None:
        raise CurationError(f"{store.path}: rows {store.version} have not been checked", f"curation check {store.path}")
    no = np.zeros(rows.num_rows, bool)
    return Effective(rows, store.flags(), signals, {}, no, no, no, no)


# ---- train and validation


def split_rows(state: Effective, spec: Spec) -> np.ndarray:
    """Return (n,) int8: 0 = dropped, 1 = train, 2 = validation.

    Rows that share a prompt or any dup.* flag form one cluster and fall on one side. The side is drawn from a
    hash of the seed and the cluster's smallest uid, so it does not move when other rows come or go. Splits that
    the data names (validation, test) are kept unless a duplicate pulls the row into train.
    """
    side = np.zeros(state.rows.num_rows, np.int8)
    kept = state.kept
    root = _clusters(state, kept)
    uids = state.rows["uid"].to_pylist()
    least: dict[int, str] = {}
    for i in kept:
        r = int(root[i])
        least[r] = min(least.get(r, uids[i]), uids[i])
    limit = spec.split.validation * 2**64
    held = {r: xxhash.xxh3_64_intdigest(f"{spec.split.seed}\x1f{uid}".encode()) < limit for r, uid in least.items()}
    given = state.rows["split"].to_pylist()
    if any(g in ("validation", "test") for g in given):
        held = {r: True for r in least}
        for i in kept:
            if given[i] not in ("validation", "test"):
                held[root[i]] = False
    for i in kept:
        side[i] = 2 if held[root[i]] else 1
    if len(kept) and not (side == 1).any():
        side[kept] = 1
    return side


def _clusters(state: Effective, kept: np.ndarray) -> np.ndarray:
    """Return for each row the first row of its cluster; rows that are not kept are alone."""
    first: dict[int, int] = {}
    left: list[int] = []
    view = state.rows.select(["system", "instruction", "input"]).take(kept)
    for i, s, p, q in zip(kept.tolist(), *(view[c].to_pylist() for c in view.column_names), strict=True):
        key = xxhash.xxh3_64_intdigest(f"{fold(s)}\x1f{fold(p)}\x1f{fold(q)}".encode("utf-8", "surrogatepass"))
        left.append(first.setdefault(key, i))
    dup = state.flags.filter(pc.starts_with(state.flags["check"].cast("string"), "dup."))
    one = np.repeat(dup["row"].to_numpy(), np.asarray(pc.list_value_length(dup["related"])))
    two = np.asarray(pc.list_flatten(dup["related"]))
    here = np.zeros(state.rows.num_rows, bool)
    here[kept] = True
    both = here[one] & here[two]
    return components(np.concatenate([left, one[both]]), np.concatenate([kept, two[both]]), state.rows.num_rows)


# ---- files


def _manifest(
    store: Store, spec: Spec, state: Effective, split: np.ndarray, result: GateResult | None, format: str, override: str
) -> dict[str, Any]:
    current = store.current() or {"flags": {}, "options": {}}
    family = np.array(state.signals["family"].to_pylist(), dtype=object)
    digest = Digest()
    for part in (1, 2):
        for batch in _set_table(state, split, part).to_batches():
            for name in ("uid", "messages"):
                digest.feed(f"{part}{name}", batch.column(name))
    text = f"{digest.hexdigest()}{spec.hash}{format}{override}{result.passed if result else None}"
    return {
        "name": spec.name,
        "hash": xxhash.xxh3_128_hexdigest(text.encode()),
        "spec_hash": spec.hash,
        "rows_hash": store.rows_hash(),
        "rows_version": store.version,
        "format": format,
        "tool": f"curation-workbench {package_version('curation-workbench')}",
        "gate": "not applied" if result is None else "passed" if result.passed else "failed",
        "override": override,
        "counts": {
            "rows": len(split),
            "train": int((split == 1).sum()),
            "validation": int((split == 2).sum()),
            "dropped": int((split == 0).sum()),
            "edited": int(state.edited[split > 0].sum()),
            "families": dict(sorted(Counter(family[split > 0]).items())),
        },
        "checks": {c: {"version": CHECKS[c].version, "options": current["options"].get(c, {})} for c in sorted(current["flags"])},
    }


def _set_table(state: Effective, split: np.ndarray, part: int) -> pa.Table:
    rows = np.flatnonzero(split == part)
    table = state.rows.take(rows)
    columns = {name: table[name] for name in SET_COLUMNS}
    columns["family"] = state.signals["family"].take(rows)
    return pa.table(columns).combine_chunks()


def _write(
    folder: Path,
    store: Store,
    spec: Spec,
    state: Effective,
    split: np.ndarray,
    manifest: dict[str, Any],
    format: str,
    hf: bool,
) -> None:
    for part, name in ((1, "train"), (2, "validation")):
        rows = np.flatnonzero(split == part)
        with atomic(folder / f"{name}.parquet") as f:
            pq.write_table(_set_table(state, split, part), f, compression="zstd")
        formats.write(state.rows.take(rows), folder / f"{name}.jsonl", format)
    if hf:
        formats.write_hf(
            {name: state.rows.take(np.flatnonzero(split == part)) for part, name in ((1, "train"), (2, "validation"))},
            folder / "hf",
        )
    with atomic(folder / "ledger.parquet") as f:
        pq.write_table(ledger(store, spec, state, split), f, compression="zstd")
    with atomic(folder / "spec.yaml", "w") as f:
        f.write(dump(spec))
    _battery(folder, store, spec)
    for name, text in recipes(spec, format).items():
        with atomic(folder / name, "w") as f:
            f.write(text)
    with atomic(folder / "README.md", "w") as f:
        f.write(card(spec, manifest, state, split))
    files = {
        str(p.relative_to(folder)): xxhash.xxh3_128_hexdigest(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()
    }
    write_json(folder / "manifest.json", {**manifest, "files": files})


def _battery(folder: Path, store: Store, spec: Spec) -> None:
    """Copy the spec's probes beside the set, so that the folder is complete without the dataset folder."""
    if spec.battery.file is None:
        return
    source = store.path / spec.battery.file
    if not source.is_file():
        raise CurationError(
            f"spec.yaml: battery.file {spec.battery.file!r} is not in {store.path}", "put the probes there or remove the key"
        )
    with atomic(folder / "battery.jsonl") as f:
        f.write(source.read_bytes())


def ledger(store: Store, spec: Spec, state: Effective, split: np.ndarray) -> pa.Table:
    """Return one line a row: where it went and why, with check, score, threshold, reason, actor and action."""
    uids = state.rows["uid"].to_pylist()
    where = np.array(["dropped", "train", "validation"], dtype=object)[split]
    options = (store.current() or {"options": {}})["options"]
    columns: dict[str, list[Any]] = defaultdict(list)
    flags: dict[int, list[str]] = defaultdict(list)
    for row, check in zip(state.flags["row"].to_pylist(), state.flags["check"].cast("string").to_pylist(), strict=True):
        flags[row].append(check)
    for i, uid in enumerate(uids):
        d = state.decisions.get(uid)
        check = d.check_id if d else None
        columns["check"].append(check)
        columns["score"].append(d.score if d else None)
        columns["threshold"].append((options.get(check or "") or {}).get("threshold"))
        columns["reason"].append(d.reason if d else "no verdict against it")
        columns["actor"].append(d.actor if d else None)
        columns["kind"].append(d.kind if d else None)
        columns["action"].append(d.action if d else None)
        columns["flags"].append(sorted(set(flags.get(i, []))))
    return pa.table(
        {
            "row": state.rows["row"],
            "uid": state.rows["uid"],
            "id": state.rows["id"],
            "outcome": pa.array(where, pa.string()),
            "edited": pa.array(state.edited),
            "family": state.signals["family"],
            "check": pa.array(columns["check"], pa.string()),
            "score": pa.array(columns["score"], pa.float32()),
            "threshold": pa.array(columns["threshold"], pa.float32()),
            "reason": pa.array(columns["reason"], pa.string()),
            "actor": pa.array(columns["actor"], pa.string()),
            "kind": pa.array(columns["kind"], pa.string()),
            "action": pa.array(columns["action"], pa.int64()),
            "flags": pa.array(columns["flags"], pa.list_(pa.string())),
        }
    )


def recipes(spec: Spec, format: str) -> dict[str, str]:
    """Return {file name: text}: dataset_info.json for LLaMA-Factory, a recipe for Axolotl and one for TRL."""
    return {
        "dataset_info.json": json.dumps(_llamafactory(spec, format), indent=2) + "\n",
        "axolotl.yaml": yaml.safe_dump(_axolotl(format), sort_keys=False),
        "trl.yaml": yaml.safe_dump(_trl(), sort_keys=False),
    }


def _llamafactory(spec: Spec, format: str) -> dict[str, Any]:
    if format == "alpaca":
        entry: dict[str, Any] = {
            "formatting": "alpaca",
            "columns": {
                "prompt": "instruction",
                "query": "input",
                "response": "output",
                "system": "system",
                "history": "history",
            },
        }
    elif format == "sharegpt":
        entry = {
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "system": "system"},
            "tags": {
                "role_tag": "from",
                "content_tag": "value",
                "user_tag": "human",
                "assistant_tag": "gpt",
                "system_tag": "system",
            },
        }
    elif format == "messages":
        entry = {
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    else:
        entry = {"formatting": "alpaca", "columns": {"prompt": "prompt", "response": "completion"}}
    name = spec.name.replace(" ", "-")
    return {name: {"file_name": "train.jsonl", **entry}, f"{name}-validation": {"file_name": "validation.jsonl", **entry}}


def _axolotl(format: str) -> dict[str, Any]:
    if format == "sharegpt":
        fields = {
            "type": "chat_template",
            "field_messages": "conversations",
            "message_property_mappings": {"role": "from", "content": "value"},
        }
    elif format == "alpaca":
        fields = {"type": "alpaca"}
    elif format == "messages":
        fields = {"type": "chat_template", "field_messages": "messages"}
    else:
        fields = {"type": {"field_instruction": "prompt", "field_output": "completion", "format": "{instruction}"}}
    return {
        "base_model": "SET-YOUR-BASE-MODEL",
        "datasets": [{"path": "train.jsonl", "ds_type": "json", **fields}],
        "test_datasets": [{"path": "validation.jsonl", "ds_type": "json", "split": "train", **fields}],
        "train_on_inputs": False,
        "sequence_len": 4096,
        "sample_packing": True,
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_linear": True,
        "micro_batch_size": 4,
        "num_epochs": 3,
        "learning_rate": 0.0002,
        "lr_scheduler": "cosine",
        "warmup_ratio": 0.03,
        "bf16": "auto",
        "output_dir": "out",
    }


def _trl() -> dict[str, Any]:
    """A config for `trl sft --config trl.yaml`. It reads hf-free parquet, whose column `messages` TRL knows."""
    return {
        "model_name_or_path": "SET-YOUR-BASE-MODEL",
        "dataset_name": "parquet",
        "data_files": {"train": "train.parquet", "test": "validation.parquet"},
        "assistant_only_loss": True,
        "packing": True,
        "max_length": 4096,
        "use_peft": True,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_modules": "all-linear",
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.03,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "eval_strategy": "epoch",
        "output_dir": "out",
    }


def card(spec: Spec, manifest: dict[str, Any], state: Effective, split: np.ndarray) -> str:
    """Return the dataset card: YAML front matter, then what is in it, what was checked, what was left out."""
    counts = manifest["counts"]
    n = counts["train"] + counts["validation"]
    sizes = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    front = {
        "pretty_name": spec.name,
        "license": spec.licence.lower(),  # the hub knows licences by their lower-case ids
        "language": list(spec.language),
        "task_categories": ["text-generation"],
        "tags": ["instruction-tuning", "sft"],
        "size_categories": [next((s for limit, s in sizes if n < limit), "n>1M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "train.parquet"},
                    {"split": "validation", "path": "validation.parquet"},
                ],
            }
        ],
    }
    reasons: Counter[str] = Counter()
    uids = state.rows["uid"]
    for i in np.flatnonzero(split == 0).tolist():
        d = state.decisions[uids[i].as_py()]
        reasons[d.check_id or f"decided by a {d.kind}"] += 1
    families = counts["families"]
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        "",
        f"# {spec.name}",
        "",
        spec.description.strip() or "Instruction-response pairs.",
        "",
        f"{counts['train']:,} rows to train on and {counts['validation']:,} held out, of {counts['rows']:,} imported. "
        f"Gate: {manifest['gate']}{' (override: ' + manifest['override'] + ')' if manifest['override'] else ''}. "
        f"Set `{manifest['hash']}`, spec `{manifest['spec_hash']}`, made by {manifest['tool']}.",
        "",
        "## Families",
        "",
        "| family | rows | share | what it teaches |",
        "|---|---:|---:|---|",
    ]
    for id, count in families.items():
        family = spec.family(id)
        what = " ".join((family.description if family else "").split()).replace("|", "/")
        lines.append(f"| {id or '(unassigned)'} | {count:,} | {count / max(n, 1):.1%} | {what} |")
    lines += ["", "## Left out", "", "| by | rows |", "|---|---:|"]
    lines += [f"| {k} | {v:,} |" for k, v in sorted(reasons.items())] or ["| nothing | 0 |"]
    lines += [
        "",
        f"{counts['edited']:,} rows were edited. `ledger.parquet` has one line a row: where it went and why.",
        "",
        "## Checks run",
        "",
        ", ".join(f"`{c}` v{v['version']}" for c, v in manifest["checks"].items()),
        "",
        "## Known gaps",
        "",
        "The checks read form, not truth: a wrong but well-formed answer passes. "
        "Rows that share a prompt or are near-duplicates never fall on both sides of the split.",
        "",
        "## Files",
        "",
        "`train.parquet`, `validation.parquet` (row, uid, id, family, messages), the same as "
        f"`.jsonl` in {manifest['format']} format, `hf/` for `datasets.load_from_disk`, `dataset_info.json` "
        "(LLaMA-Factory), `axolotl.yaml`, `trl.yaml`, `spec.yaml`, `manifest.json`.",
        "",
    ]
    return "\n".join(lines)
