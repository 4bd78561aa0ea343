"""Battery results as `curation eval` leaves them, without a model: for tests of what is read out of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.train import battery
from curation.train.generate import Answer

#: behaviour -> the verifier that its probes have here: the answer must hold the word "right"
VERIFIER = {"id": "keywords:existence", "kwargs": {"keywords": ["right"]}}


def write_result(run: Path, told: Sequence[tuple[str, str, str, str, bool]], *, real: bool = False) -> dict[str, Any]:
    """Write RUN/battery.json of probes (behaviour, family, prompt, answer, passed) and a run folder around it.

    `real`: the verifiers decide; else `passed` is written over what they say.
    """
    probes = [
        battery.read_probe({
            "id": f"{behaviour}-{k}", "family": family, "behaviour": behaviour, "group": prompt, "answer": "right",
            "messages": [{"role": "user", "content": prompt}], "verifiers": [VERIFIER]})
        for k, (behaviour, family, prompt, _, _) in enumerate(told)]  # fmt: skip
    results = battery.score(probes, [Answer(output, True, 5) for _, _, _, output, _ in told])
    if not real:
        for r, (*_, passed) in zip(results, told, strict=True):
            r["passed"] = r["checks"][0]["passed"] = passed
    result = {"run": str(run), "battery": "battery.jsonl", "battery_hash": battery.hash_of(probes), "set_hash": "ab" * 16,
              "seed": 0, "base": "tiny", "max_new_tokens": 48, "seconds": 1.0, **battery.summarise(results), "probes": results}
    run.mkdir(parents=True, exist_ok=True)
    (run / battery.RESULT).write_text(json.dumps(result), encoding="utf-8")
    return result
