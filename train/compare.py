"""Two runs or two arms of runs on the same battery: which probes flipped, and is the difference more than chance?

One run an arm: exact McNemar test on the flips and a paired bootstrap over prompt groups. They tell whether two
checkpoints differ, not whether the data made the difference. Several runs an arm: exact permutation test over the
means of the seeds, which tells that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import CurationError

ALPHA = 0.05
DRAWS = 10_000
#: Relabelings tried one by one; beyond this many (10 runs against 10) seeded draws take their place.
MAX_RELABELINGS = 200_000
#: Added to the spread of rates within an arm, so that two runs that agree by chance prove nothing.
LEAST_SPREAD = 0.01
OVERALL = "overall"


def wilson(passed: int, n: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate; (0, 1) when nothing was measured."""
    assert 0 <= passed <= n, f"{passed} of {n}"
    if n == 0:
        return 0.0, 1.0
    p, z2 = passed / n, z * z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * ((p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return (0.0 if passed == 0 else low), (1.0 if passed == n else high)


def mcnemar(gains: int, losses: int) -> float:
    """Return the exact two-sided p-value of the flips: a fair coin would split them as unevenly or more so."""
    n = gains + losses
    if n == 0:
        return 1.0
    tail = sum(comb(n, k) for k in range(min(gains, losses) + 1))
    return min(1.0, 2 * tail / 2**n)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's corrected p-values: they keep their order and never exceed 1."""
    corrected: dict[str, float] = {}
    running = 0.0
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda kv: kv[1])):
        running = max(running, min(1.0, (len(p) - rank) * value))
        corrected[name] = running
    return {name: corrected[name] for name in p}


def paired_bootstrap(
    difference: np.ndarray, groups: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of `difference` (n,), resampling whole prompt groups."""
    _, code = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    total = np.bincount(code, weights=difference)
    size = np.bincount(code).astype(float)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, 2_000_000 // len(total))
    for at in range(0, draws, step):
        pick = rng.integers(0, len(total), size=(min(step, draws - at), len(total)))
        means[at : at + step] = total[pick].sum(1) / size[pick].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def permutation_test(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> float:
    """Return the two-sided p-value of the difference of means under every relabeling of the runs.

    With n runs an arm it cannot fall below 2 / C(2n, n): 0.1 for 3 against 3, 0.029 for 4 against 4.
    """
    values = np.array([*a, *b], dtype=float)
    k, n = len(a), len(a) + len(b)
    assert k and len(b), f"{k} runs against {len(b)}"
    picks, drawn = _relabelings(n, k, seed)
    first = values[picks].sum(1)
    gap = np.abs(first / k - (values.sum() - first) / (n - k))
    hits = int((gap >= abs(np.mean(a) - np.mean(b)) - 1e-12).sum())
    return (hits + drawn) / (len(picks) + drawn)


def _relabelings(n: int, k: int, seed: int) -> tuple[np.ndarray, int]:
    """Return ((relabelings, k) runs put into arm A, 1 if they are drawn and the true one must be added, else 0)."""
    if comb(n, k) <= MAX_RELABELINGS:
        return np.array(list(combinations(range(n), k))), 0
    return np.argsort(np.random.default_rng(seed).random((MAX_RELABELINGS, n)), axis=1)[:, :k], 1


def max_t(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return corrected p-values (behaviours,) of two arms (runs, behaviours): Westfall and Young's max-t.

    The runs are relabelled for all behaviours together and each gap, in units of the spread within the arms, is held
    against the largest gap of any behaviour. Unlike Holm's it keeps the smallest p-value that so few runs allow: with
    4 against 4 and ten behaviours, Holm's could not fall below 0.29.
    """
    values, k, n = np.concatenate([a, b]), len(a), len(a) + len(b)
    picks, drawn = _relabelings(n, k, seed)
    total, squares = values.sum(0), (values**2).sum(0)

    def gaps(first: np.ndarray) -> np.ndarray:
        second = (total - first) / (n - k)
        first = first / k
        within = np.maximum(squares - k * first**2 - (n - k) * second**2, 0.0)
        return np.abs(first - second) / (np.sqrt(within / max(n - 2, 1)) + LEAST_SPREAD)

    largest = gaps(values[picks].sum(1)).max(1)
    hits = (largest[:, None] >= gaps(a.sum(0)) - 1e-9).sum(0)
    return (hits + drawn) / (len(picks) + drawn)


def read_result(run: Path) -> dict[str, Any]:
    """Return the battery result of a run folder. Raises CurationError when it has none or it is damaged."""
    path = run / "battery.json" if run.is_dir() else run
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        probes = result["probes"]
        assert isinstance(probes, list)
        _ = [(p["id"], p["prompt"], p["behaviour"], p["group"], bool(p["passed"])) for p in probes]
    except FileNotFoundError:
        raise CurationError(f"{path}: no such file", f"curation eval {run}") from None
    except (ValueError, KeyError, TypeError, AssertionError) as e:
        raise CurationError(f"{path}: not a battery result ({type(e).__name__}: {e})", f"curation eval {run}") from None
    if not probes:
        raise CurationError(f"{path}: it holds no probe", "curation eval RUN --battery FILE")
    return dict(result)


def compare_arms(
    a_dirs: Sequence[Path], b_dirs: Sequence[Path], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Return how arm B differs from arm A, per behaviour and overall; `worse` is the verdict that fails a build.

    One run an arm takes the paired tests, more the permutation test. Raises CurationError when the runs did not
    answer the same probes.
    """
    if not a_dirs or not b_dirs:
        raise CurationError("an arm has no run", "curation compare RUN_A RUN_B, or --a RUN ... --b RUN ...")
    a, b = [read_result(Path(d)) for d in a_dirs], [read_result(Path(d)) for d in b_dirs]
    names = [str(d) for d in (*a_dirs, *b_dirs)]
    for name, other in zip(names[1:], [*a[1:], *b], strict=True):
        same_battery(names[0], a[0]["probes"], name, other["probes"])
    probes = a[0]["probes"]
    passed = [np.array([[bool(p["passed"]) for p in run["probes"]] for run in arm]) for arm in (a, b)]
    behaviour = np.array([p["behaviour"] for p in probes], dtype=object)
    groups = [p["group"] for p in probes]
    lines = {
        name: _line(passed, np.flatnonzero(behaviour == name), groups, probes, draws, seed)
        for name in dict.fromkeys(behaviour)
    }
    overall = _line(passed, np.arange(len(probes)), groups, probes, draws, seed)
    mirrored = 2 if len(a) == len(b) else 1  # with equal arms the swapped labels are just as far apart
    floor = mirrored / comb(len(a) + len(b), len(a)) if len(a) + len(b) > 2 else None
    corrected = holm({k: v["p"] for k, v in lines.items()})
    for name, line in lines.items():
        line["p_holm"] = line["p_corrected"] = corrected[name]
    if floor is not None:
        rates = [np.array([lines[n][arm]["seeds"] for n in lines]).T for arm in ("a", "b")]
        for line, p in zip(lines.values(), max_t(rates[0], rates[1], seed=seed), strict=True):
            line["p_corrected"] = float(p)
    overall["p_holm"] = overall["p_corrected"] = overall["p"]
    for line in (*lines.values(), overall):
        line["verdict"] = verdict(line, floor)
    return {
        "test": "mcnemar" if floor is None else "permutation",
        "correction": "holm" if floor is None else "max-t",
        "p_floor": floor,
        "draws": draws,
        "seed": seed,
        "runs": {"a": [str(d) for d in a_dirs], "b": [str(d) for d in b_dirs]},
        "probes": len(probes),
        "behaviours": lines,
        OVERALL: overall,
        "worse": any(line["verdict"] == "worse" for line in (*lines.values(), overall)),
        "metrics": {"a": _metrics(a), "b": _metrics(b)},
    }


def same_battery(name_a: str, a: list[dict[str, Any]], name_b: str, b: list[dict[str, Any]]) -> None:
    """Raise a CurationError that names the first probe in which two batteries differ."""
    for k in range(max(len(a), len(b))):
        p, q = (x[k] if k < len(x) else None for x in (a, b))
        if (
            p is None
            or q is None
            or any(p[f] != q[f] for f in ("id", "prompt", "behaviour", "group"))
            or [c["id"] for c in p.get("checks", [])] != [c["id"] for c in q.get("checks", [])]
        ):
            raise CurationError(
                f"{name_a} and {name_b} did not answer the same battery; first difference at probe {k + 1}: "
                f"{p['id'] if p else 'none'!r} against {q['id'] if q else 'none'!r}",
                "evaluate both with one file: curation eval RUN_A RUN_B --battery FILE",
            )


def _line(
    passed: list[np.ndarray], at: np.ndarray, groups: Sequence[str], probes: list[dict[str, Any]], draws: int, seed: int
) -> dict[str, Any]:
    """Return one behaviour's numbers. `passed`: per arm (runs, probes) bool; `at`: its probes."""
    a, b = passed[0][:, at], passed[1][:, at]
    mean_a, mean_b = a.mean(0), b.mean(0)
    line: dict[str, Any] = {"n": len(at)}
    for name, arm in (("a", a), ("b", b)):
        seeds = arm.mean(1)
        low, high = wilson(int(arm[0].sum()), len(at)) if len(arm) == 1 else (float(seeds.min()), float(seeds.max()))
        line[name] = {
            "rate": float(seeds.mean()),
            "seeds": [float(s) for s in seeds],
            "wilson" if len(arm) == 1 else "spread": [low, high],
        }
    line["difference"] = float(mean_b.mean() - mean_a.mean())
    line["interval"] = list(paired_bootstrap(mean_b - mean_a, [groups[i] for i in at], draws=draws, seed=seed))
    ids = [probes[i]["id"] for i in at]
    gained = (mean_a < 0.5) & (mean_b >= 0.5) if len(a) + len(b) > 2 else ~a[0] & b[0]
    lost = (mean_a >= 0.5) & (mean_b < 0.5) if len(a) + len(b) > 2 else a[0] & ~b[0]
    line["gains"] = [i for i, g in zip(ids, gained, strict=True) if g]
    line["losses"] = [i for i, x in zip(ids, lost, strict=True) if x]
    if len(a) + len(b) == 2:
        line["p"] = mcnemar(len(line["gains"]), len(line["losses"]))
    else:
        line["p"] = permutation_test(list(a.mean(1)), list(b.mean(1)), seed=seed)
        line["seed_gap"] = _seed_gap(a.mean(1), b.mean(1))
    return line


def _seed_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference between two runs of one arm: what chance alone does (A/A)."""
    return float(max(np.ptp(a), np.ptp(b)))


def verdict(line: Mapping[str, Any], floor: float | None) -> str:
    """Return improved, worse, unchanged or cannot tell, from the corrected p-value and the interval of B - A.

    unchanged: no probe flipped, or the interval lies within 5 points of zero. cannot tell: anything else without a
    p-value below 0.05, as when there are too few runs for any p-value to get there.
    """
    if line["p_corrected"] < ALPHA and line["difference"] != 0:
        return "improved" if line["difference"] > 0 else "worse"
    low, high = line["interval"]
    same = line["difference"] == 0 and not line["gains"] and not line["losses"]
    if same or (low > -0.05 and high < 0.05 and (floor is None or floor < ALPHA)):
        return "unchanged"
    return "cannot tell"


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence a verdict, each naming its behaviours with both rates, the plainest first."""
    lines = {**result["behaviours"], OVERALL: result[OVERALL]}
    words = {
        "improved": "Improved beyond chance",
        "worse": "WORSE beyond chance",
        "apart": f"Apart when looked at alone (p < 0.05), not when {len(lines) - 1} behaviours are looked at together",
        "cannot tell": "Cannot tell from chance",
        "unchanged": "Unchanged",
    }
    named: dict[str, list[str]] = {key: [] for key in words}
    for name, x in lines.items():
        key = "apart" if x["verdict"] == "cannot tell" and x["p"] < ALPHA else x["verdict"]
        named[key].append(f"{name} {x['a']['rate']:.2f} to {x['b']['rate']:.2f}")
    out = [f"{words[key]}: {', '.join(found)}." for key, found in named.items() if found]
    if not any(x["verdict"] == "worse" for x in lines.values()):
        out.append("Nothing is worse beyond chance.")
    floor = result["p_floor"]
    if floor is not None and floor >= ALPHA:
        out.append(f"With so few runs p cannot go below {floor:.2g}; four an arm reach 0.029.")
    return out


def _metrics(arm: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean over the runs of each named metric; None where no run has it."""
    names = dict.fromkeys(n for run in arm for n in run.get("metrics", {}))
    found = {n: [run["metrics"][n] for run in arm if run.get("metrics", {}).get(n) is not None] for n in names}
    return {n: float(np.mean(v)) if v else None for n, v in found.items()}


def render(result: Mapping[str, Any]) -> str:
    """Return the comparison as an aligned table, a line a behaviour, with a sentence for each verdict below."""
    many = result["test"] == "permutation"
    head = [
        "behaviour",
        "n",
        "A",
        "A min-max" if many else "A 95 %",
        "B",
        "B min-max" if many else "B 95 %",
        "B - A",
        "95 % of B - A",
        "gain",
        "loss",
        "p",
        "p max-t" if many else "p Holm",
        *(["A/A gap"] if many else []),
        "verdict",
    ]
    cells = [head]
    for name, line in [*result["behaviours"].items(), (OVERALL, result[OVERALL])]:
        spans = ["{:.3f}-{:.3f}".format(*line[arm].get("spread", line[arm].get("wilson"))) for arm in ("a", "b")]
        cells.append(
            [
                name,
                str(line["n"]),
                f"{line['a']['rate']:.3f}",
                spans[0],
                f"{line['b']['rate']:.3f}",
                spans[1],
                f"{line['difference']:+.3f}",
                "{:+.3f} {:+.3f}".format(*line["interval"]),
                str(len(line["gains"])),
                str(len(line["losses"])),
                f"{line['p']:.3g}",
                f"{line['p_corrected']:.3g}",
                *([f"{line['seed_gap']:.3f}"] if many else []),
                line["verdict"],
            ]
        )
    width = [max(len(r[k]) for r in cells) for k in range(len(head))]
    left = {0, len(head) - 1}
    rows = [
        "  ".join(c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(r, width))).rstrip()
        for r in cells
    ]
    test = (
        "exact permutation test over seed means"
        if many
        else "exact McNemar test on flips: are these two checkpoints different? (not: did the data do it)"
    )
    lines = [f"{arm.upper()}: {_names(result['runs'][arm])}" for arm in ("a", "b")]
    lines += [f"{result['probes']} probes; {test}", "", *rows, "", *sentences(result), "", *_flips(result[OVERALL])]
    return "\n".join([*lines, *_metric_lines(result["metrics"])])


def _flips(line: Mapping[str, Any], shown: int = 12) -> list[str]:
    """Return the probes that flipped, losses first; with several runs an arm a flip is one of most runs."""
    out = []
    for key, text in (("losses", "pass to fail"), ("gains", "fail to pass")):
        ids = line[key]
        more = f" ... and {len(ids) - shown} more (--json lists all)" if len(ids) > shown else ""
        out.append(f"{text} ({len(ids)}): {', '.join(ids[:shown]) or 'none'}{more}")
    return out


def _names(runs: Sequence[str]) -> str:
    """Return the run names of an arm, the middle ones left out."""
    names = [Path(r).name for r in runs]
    return names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)} runs)"


def _metric_lines(metrics: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    names = [n for n in metrics["a"] if metrics["a"][n] is not None and metrics["b"].get(n) is not None]
    if not names:
        return []
    width = max(map(len, names))
    return ["", *(f"{n.ljust(width)}  {metrics['a'][n]:.3f}  {metrics['b'][n]:.3f}" for n in names)]
