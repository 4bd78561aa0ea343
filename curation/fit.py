"""A commented spec fitted to the rows of a folder, to be read and corrected by a person."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from . import families
from .checks import CHECKS
from .checks.base import first_line
from .refusal import classify
from .store import Store

READ = 20_000  # rows looked at; families of a larger set are found on an even draw of this many


def fitted_spec(store: Store) -> str:
    """Return the text of a spec.yaml: families found in the rows, measured lengths and refusals, every check listed.

    Without rows, a spec with placeholders in comments. The text always parses.
    """
    if not store.versions():
        return _text(store.path.resolve().name, [], {}, 0)
    rows = store.rows()
    n = rows.num_rows
    step = max(1, math.ceil(n / READ))
    drawn = rows.take(np.arange(0, n, step))
    found = families.suggest(drawn, k=None, seed=0)
    return _text(store.path.resolve().name, found, _measure(drawn), n)


def _measure(rows: pa.Table) -> dict[str, Any]:
    words = sorted(len((t or "").split()) for t in rows["response"].to_pylist())
    refusals = Counter(classify([t or "" for t in rows["response"].to_pylist()]))
    return {
        "median": words[len(words) // 2],
        "p99": words[int(0.99 * (len(words) - 1))],
        "refusals": (refusals["refuse"] + refusals["partial"]) / max(rows.num_rows, 1),
    }


def _quote(text: str) -> str:
    """Return a YAML double-quoted scalar (JSON strings are valid YAML)."""
    return json.dumps(text, ensure_ascii=False)


def _text(name: str, found: list[dict[str, Any]], measured: dict[str, Any], n: int) -> str:
    out = [
        "# What this dataset shall teach. Unknown keys are errors; curation spec check FOLDER lists them with their lines.",
        "# curation spec show FOLDER prints every key with the value that holds.",
        "version: 1",
        f"name: {_quote(name)}",
        'description: ""',
        "licence: unknown        # for the dataset card",
        "language: [en]",
        "",
        "# Task families: what the model shall learn, and how much of it. `target` is a share of the vetted set, one",
        "# number or [least, most]. `response` says what an answer of this family owes: format (json, bullets, numbered,",
        "# label, code, csv), labels, json_keys, min_words, max_words, banned, required, answers (comply, refuse, ask,",
        "# name_conflict).",
    ]
    if found:
        out.append(f"# Suggested from {n:,} rows; rename, merge and correct them: they decide what coverage means.")
        out.append("families:")
        for f in found:
            low, high = max(0.0, round(f["share"] * 0.5, 3)), min(1.0, round(f["share"] * 1.5 + 0.005, 3))
            out += [
                f"  - id: {_quote(f['id'])}",
                f"    description: {_quote(f['description'])}",
                f"    target: [{low}, {high}]      # {f['share']:.1%} of the rows now",
                "    examples:",
            ]
            out += [f"      - {_quote(e)}" for e in f["examples"]] or []
            if not f["examples"]:
                out[-1] = "    examples: []"
    else:
        out.append("families: []")
    out += ["", "# What every response owes."]
    if measured:
        out.append(
            f"# Measured: half of the responses have at most {measured['median']:,} words, 99 % at most {measured['p99']:,}."
        )
    out += [
        "standards:",
        "  banned: []",
        f"  # max_words: {max(2 * measured.get('p99', 250), 50)}",
        "",
        "# Requests the model must refuse, by category: a prompt with one of `terms` belongs to it unless a longer",
        '# `benign` phrase covers the term ("bath bomb" is no bomb). Benign look-alikes must be answered.',
    ]
    if measured:
        out.append(f"# Measured: {measured['refusals']:.1%} of the responses refuse, in full or in part.")
    out += [
        "refusals:",
        "  categories: []",
        "  #  - id: weapons",
        "  #    description: Making weapons or explosives",
        "  #    terms: [bomb, explosive, illegal gun]",
        "  #    benign: [bath bomb, photo bomb]",
        "  #    min_refused: 20",
        "  #    min_answered: 20",
        "  share: [0.0, 1.0]      # 1-5 % is the usual advice",
        "",
        "# Situations in which the plain answer is wrong.",
        "edge_cases: []",
        "  # - {id: missing_context, family: clarify, expect: ask, min_rows: 50}",
        "",
        "# Every check runs unless it is switched off. Per check: its options, severity (error, warning, info),",
        "# action (drop, fix, review, none) and min_score. curation checks ID explains one.",
        "checks: {}",
    ]
    out += [f"  # {id}: off".ljust(34) + f"# {first_line(u)} ({u.severity}, {u.action})" for id, u in sorted(CHECKS.items())]
    out += [
        "",
        "# Which row of a duplicate cluster stays: the first of these that decides (verdict, flags, longest, shortest,",
        "# first, and `most` or `least` with a signal that is a number, such as: most n_words).",
        "keep: [verdict, flags, first]",
        "",
        "# When the vetted set may leave. Rates are shares of the rows that would be exported.",
        "gate:",
        "  max_error_rate: 0.0     # rows with an error flag that nobody decided",
        "  max_warning_rate: 0.05",
        f"  min_rows: {max(1, n // 2)}",
        "  coverage: true          # targets and minimum rows above must be met",
        "  min_reviewed: 0         # rows a person must have decided",
        "",
        "split: {validation: 0.05, seed: 0}",
        "",
        "# Held-out behavioural probes: a JSONL file of your own, and per_family probes from the held-out rows.",
        "battery: {per_family: 40}",
        "",
    ]
    return "\n".join(out)
