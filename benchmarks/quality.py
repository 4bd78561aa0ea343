"""Measures what the row checks find and what they wrongly flag on labelled data.

    python benchmarks/quality.py DATA_FOLDER [--out benchmarks/results/quality.json]

DATA_FOLDER holds the labelled JSONL files (see docs); a file that is not there is left out. No text of the data is
written to the result. Shares carry a 95 % bootstrap interval over rows (1,000 draws, seed 0).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import quality_refusals  # noqa: E402
import quality_responses  # noqa: E402
import quality_style  # noqa: E402
from rows import make_rows  # noqa: E402

from curation.checks import CHECKS, SIGNAL_UNITS, privacy  # noqa: E402
from curation.engine import run_table  # noqa: E402
from curation.spec import Family, Spec  # noqa: E402

MINE = [id for id in CHECKS if id.split(".")[0] in ("response", "prompt", "constraint", "privacy", "refusal")]
#: planted flaw -> checks that should see it
FOR = {
    "empty_output": ["response.empty"], "placeholder_output": ["response.placeholder"],
    "truncated_output": ["response.truncated"], "unclosed_code_fence": ["response.truncated"],
    "mojibake": ["response.mojibake"], "control_chars": ["response.mojibake"], "instruction_echo": ["response.echo"],
    "repetition_loop": ["response.loop"], "pii": ["privacy.pii"], "over_refusal": ["refusal.over"],
    "word_limit_violation": ["constraint.length"], "bullet_count_violation": ["constraint.items"],
    "invalid_json": ["constraint.format"], "case_punct_violation": ["constraint.case"],
}


def read(folder: Path, name: str) -> list[dict[str, Any]] | None:
    path = folder / name
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def table(data: list[dict[str, Any]]) -> pa.Table:
    return make_rows([{"instruction": r.get("instruction") or r.get("prompt", ""), "input": r.get("input", ""),
                       "response": r.get("output") or r.get("completion") or ""} for r in data])


def share(hits: list[bool]) -> dict[str, Any]:
    """Return a share with its 95 % bootstrap interval."""
    if not hits:
        return {"n": 0, "share": None, "low": None, "high": None}
    x = np.asarray(hits, dtype=float)
    draws = np.random.default_rng(0).choice(x, (1000, len(x))).mean(axis=1)
    return {"n": len(x), "share": round(float(x.mean()), 4), "low": round(float(np.quantile(draws, 0.025)), 4),
            "high": round(float(np.quantile(draws, 0.975)), 4)}


def flagged(data: list[dict[str, Any]], checks: list[str] = MINE) -> dict[str, set[int]]:
    """Return {check: rows with a warning or an error}."""
    flags, _ = run_table(table(data), Spec(), checks=checks)
    out: dict[str, set[int]] = defaultdict(set)
    for check, row, severity in zip(*(flags[c].to_pylist() for c in ("check", "row", "severity"))):
        if severity != "info":
            out[check].add(row)
    return out


def planted(data: list[dict[str, Any]]) -> dict[str, Any]:
    hit = flagged(data)
    clean = [i for i, r in enumerate(data) if not r["flaws"]]
    any_flag = set().union(*hit.values()) if hit else set()
    return {
        "recall": {flaw: share([any(i in hit[c] for c in checks) for i, r in enumerate(data) if flaw in r["flaws"]])
                   for flaw, checks in FOR.items()},
        "false_positives_on_clean": {c: share([i in hit[c] for i in clean]) for c in MINE},
        "clean_rows_with_any_flag": share([i in any_flag for i in clean]),
    }


def plain(data: list[dict[str, Any]]) -> dict[str, Any]:
    hit = flagged(data)
    n = len(data)
    return {"rows": n, "flagged": {c: len(hit[c]) for c in MINE},
            "any": share([any(i in rows for rows in hit.values()) for i in range(n)])}


def cleaned(data: list[dict[str, Any]]) -> dict[str, Any]:
    hit = flagged(data, ["response.placeholder", "response.empty"])
    both = hit["response.placeholder"] | hit["response.empty"]
    wanted = ("placeholder_input", "placeholder_output", "empty_output")
    return {
        "recall": {c: share([i in both for i, r in enumerate(data) if r.get("category") == c]) for c in wanted},
        "precision": share([bool(data[i]["changed"]) or data[i].get("adjudicated") == "flaw" for i in sorted(both)]),
    }


def limits(data: list[dict[str, Any]]) -> dict[str, Any]:
    checks = ["constraint.length", "constraint.items", "constraint.format"]
    hit = set().union(*flagged(data, checks).values())
    return {"precision": share([data[i]["verdict"] == "violated" for i in sorted(hit)]),
            "recall": share([i in hit for i, r in enumerate(data) if r["verdict"] == "violated"]),
            "flagged_by_verdict": dict(Counter(data[i]["verdict"] for i in hit))}


def personal(data: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card", "IBAN_CODE": "iban", "US_SSN": "ssn",
             "IP_ADDRESS": "ip"}
    right: dict[str, list[bool]] = defaultdict(list)
    seen: dict[str, list[bool]] = defaultdict(list)
    row_right, row_seen = [], []
    for row in data:
        hits = [h for h in privacy.find(row["text"]) if h.kind in kinds.values()]
        gold = [(kinds[s["type"]], s["start"], s["end"]) for s in row["spans"] if s["type"] in kinds]
        for h in hits:
            right[h.kind].append(any(k == h.kind and a < h.end and h.start < b for k, a, b in gold))
        for k, a, b in gold:
            seen[k].append(any(h.kind == k and a < h.end and h.start < b for h in hits))
        if hits:
            row_right.append(bool(gold))
        if gold:
            row_seen.append(bool(hits))
    return {"precision": {k: share(right[k]) for k in kinds.values()}, "recall": {k: share(seen[k]) for k in kinds.values()},
            "rows": {"precision": share(row_right), "recall": share(row_seen)}}


def refused(data: list[dict[str, Any]]) -> dict[str, Any]:
    hit = flagged(data, ["refusal.over"])["refusal.over"]
    right = [data[i]["prompt_label"] == "safe" and data[i]["final_label"] != "1_full_compliance" for i in sorted(hit)]
    return {"no_policy": {"precision": share(right), "flagged": len(hit)}}


def families(data: list[dict[str, Any]]) -> dict[str, Any]:
    """Assign templates with three prompts each as a spec's examples; no row gives its family."""
    out = {}
    for key in ("template", "dataset"):
        by: dict[str, list[str]] = defaultdict(list)
        for r in data:
            by[str(r[key])].append(r["instruction"])
        rng = np.random.default_rng(0)
        spec = Spec(families=tuple(
            Family(id=k, examples=tuple(str(x) for x in rng.choice(v, min(3, len(v)), replace=False))) for k, v in by.items()))
        unit = SIGNAL_UNITS["family"]
        got = unit.run(table(data), spec)["family"].to_pylist()
        out[key] = {"families": len(by), "assigned": share([bool(g) for g in got]),
                    "right_of_assigned": share([g == str(r[key]) for g, r in zip(got, data) if g])}
    return out


def report(result: dict[str, Any], depth: int = 0) -> None:
    for key, value in result.items():
        if isinstance(value, dict) and "share" in value:
            bar = "-" if value["share"] is None else f"{value['share']:.3f}  [{value['low']:.3f}, {value['high']:.3f}]"
            print(f"{'  ' * depth}{key:<{36 - 2 * depth}} {bar}  n={value['n']}")
        elif isinstance(value, dict):
            print(f"{'  ' * depth}{key}")
            report(value, depth + 1)
        else:
            print(f"{'  ' * depth}{key:<{36 - 2 * depth}} {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "quality.json")
    args = parser.parse_args()
    parts = {
        "planted flaws": ("injected_flaws.jsonl", planted), "plain rows (dolly)": ("dolly_3k.jsonl", plain),
        "cleaned alpaca": ("alpaca_cleaned_diff.jsonl", cleaned), "limits": ("constraint_labelled.jsonl", limits),
        "personal data": ("presidio_pii.jsonl", personal), "over-refusal (xstest)": ("xstest_completions.jsonl", refused),
        "families (t0)": ("t0_task_families.jsonl", families), "natural rows (alpaca)": ("alpaca_original.jsonl", plain),
    }
    result = {}
    for name, (file, measure) in parts.items():
        data = read(args.folder, file)
        if data is None:
            print(f"{name}: {file} is not there", file=sys.stderr)
            continue
        result[name] = measure(data)
    if not result:
        parser.error(f"{args.folder} holds none of the labelled files")
    report(result)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    quality_refusals.write(args.folder, args.out.parent / "quality_refusals.json")
    quality_responses.write(args.folder, args.out.parent / "quality_responses.json")
    quality_style.write(args.folder, args.out.parent / "quality_style.json")


if __name__ == "__main__":
    main()
