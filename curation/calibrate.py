"""Sets a check's threshold from labels a person gives: what to ask, how the labels are read, what they say.

Findings are asked for over the whole range of scores, so most labels lie where a set has few findings. Every label
therefore counts for as many findings as its part of the range holds.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from . import engine
from .checks import CHECKS
from .errors import CurationError
from .spec import Spec
from .spec_edit import with_option
from .store import Store, atomic, spelled_out, write_json

PARTS = 10          # equal parts of the range of scores that findings are drawn from in turn
REACH = 0.15        # how far below the threshold in force findings are asked for
CUT = 2000          # characters of a text in the CSV
LEAST = 10          # labels below which no threshold is fitted
Z = 1.959963984540054   # 95 %, two-sided
DRAWS = 400         # bootstrap draws for the interval of the recall
YES = frozenset(["yes", "y", "1", "true", "right"])
NO = frozenset(["no", "n", "0", "false", "wrong"])
COLUMNS = ("label", "score", "message", "instruction", "input", "response", "other_instruction", "other_input",
           "other_response", "row", "other_row", "check", "from", "key")


@dataclass(frozen=True)
class Findings:
    """What a check finds from a low score on: one line a flag, best first."""

    check: str
    option: str     # threshold, or min_score for a check without one
    low: float      # scores begin here
    flags: pa.Table
    keys: list[str]     # tells a finding in any order of rows

    @property
    def score(self) -> np.ndarray:
        return self.flags["score"].to_numpy().astype(np.float64)


def findings(store: Store, spec: Spec, check: str, low: float | None = None, progress: Any = None) -> Findings:
    """Return what a check finds from the score `low` on (default: REACH below the threshold in force).

    A check with an option `threshold` is run with it set to `low`; one without is calibrated by `min_score`, the
    score from which its flags count. Raises CurationError when its scores are all alike: there is nothing to set.
    """
    unit = engine.choose(spec, [check])[0]
    has_option = "threshold" in unit.options.model_fields
    if has_option:
        now = float(engine.resolve(unit, spec, {}).model_dump()["threshold"])
        low = round(max(0.05, now - REACH), 4) if low is None else low
        under = {"threshold": low} | ({"floor": 0.0} if "floor" in unit.options.model_fields else {})  # none below `low`
        flags = engine.found(store, spec, check, overrides=under, progress=progress)
    else:
        low = 0.0 if low is None else low
        flags = engine.found(store, spec, check, progress=progress)
    score = flags["score"].to_numpy()
    if not flags.num_rows:
        hint = "--from asks for lower scores" if has_option else "there is nothing to label"
        raise CurationError(f"{check} finds nothing from a score of {low:g} on", hint)
    if has_option and flags.num_rows < LEAST:
        raise CurationError(f"{check} finds only {flags.num_rows} from a score of {low:g} on", "--from asks for lower scores")
    if len(np.unique(score)) < 3 or (has_option and score.min() < low - 1e-3):
        able = ", ".join(id for id, u in sorted(CHECKS.items()) if "threshold" in u.options.model_fields)
        raise CurationError(
            f"{check} does not hold a graded score against a threshold, so there is nothing to calibrate",
            f"checks with a threshold: {able}; or switch {check} off, or set its severity in the spec",
        )
    order = np.lexsort((flags["row"].to_numpy(), -score))
    order = order[score[order] >= low - 1e-6]
    flags = flags.take(pa.array(order))
    return Findings(check, "threshold" if has_option else "min_score", low, flags, _keys(store, flags))


def _keys(store: Store, flags: pa.Table) -> list[str]:
    """Return 12 hex digits a flag: uid, first related uid, field and span."""
    uids = store.rows(columns=["uid"])["uid"]
    places = spelled_out(flags.select(["field", "turn", "start", "end"]))
    parts = zip(flags["uid"].to_pylist(), _others(flags), *(c.to_pylist() for c in places.columns), strict=True)
    return [
        xxhash.xxh3_64_hexdigest(json.dumps([uid, uids[other].as_py() if other >= 0 else "", *rest]).encode())[:12]
        for uid, other, *rest in parts
    ]


def _others(flags: pa.Table) -> list[int]:
    """Return the first related row of each flag, -1 for none."""
    return [x[0] if x else -1 for x in flags["related"].to_pylist()]


def parts_of(score: np.ndarray, low: float) -> np.ndarray:
    """Return (n,) int64: the part of the range [low, highest score] that each score lies in, 0 to PARTS - 1."""
    high = max(float(score.max(initial=low)), low + 1e-9)
    return np.minimum((score - low) / (high - low) * PARTS, PARTS - 1).astype(np.int64)


def drawn(score: np.ndarray, low: float, n: int) -> np.ndarray:
    """Return positions of `n` findings over the whole range of scores: from each part in turn, evenly drawn inside it."""
    part = parts_of(score, low)
    rng = np.random.default_rng(0)
    piles = [rng.permutation(np.flatnonzero(part == k)).tolist() for k in range(PARTS)]
    out: list[int] = []
    while len(out) < min(n, len(score)):
        for pile in piles:
            if pile and len(out) < n:
                out.append(pile.pop())
    return np.array(out, np.int64)


# ---- labels out and in


def ask(store: Store, found: Findings, path: Path, n: int) -> int:
    """Write a CSV of `n` findings with an empty column `label`, in mixed order; return how many there are."""
    at = np.random.default_rng(1).permutation(drawn(found.score, found.low, n))
    some = found.flags.take(pa.array(at))
    rows = store.rows(columns=["instruction", "input", "response"])
    others = _others(some)
    own = rows.take(some["row"])
    related = rows.take(pa.array([max(0, x) for x in others], pa.int64()))
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    texts = {name: own[name].to_pylist() for name in own.column_names}
    texts |= {f"other_{name}": related[name].to_pylist() for name in related.column_names}
    for k, flag in enumerate(some.to_pylist()):
        line = {
            "label": "", "score": f"{flag['score']:.4f}", "message": flag["message"], "row": flag["row"],
            "other_row": others[k] if others[k] >= 0 else "", "check": found.check, "from": found.low,
            "key": found.keys[int(at[k])],
            **{name: "" if name.startswith("other_") and others[k] < 0 else column[k] for name, column in texts.items()},
        }
        writer.writerow([inert(line[c]) for c in COLUMNS])
    with atomic(path, "w") as f:
        f.write("\ufeff" + sink.getvalue())  # the mark tells spreadsheets that it is UTF-8
    return len(at)


def inert(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula, without characters that break a CSV, cut to CUT characters."""
    if not isinstance(value, str):
        return "" if value is None else value
    lines = value[:CUT].replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in lines)
    return "'" + text if text.lstrip(" \t\n")[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\n") else text


def asked_from(path: Path, check: str) -> float:
    """Return the lowest score that the findings of a label file were drawn from."""
    lows = [_number(path, number, "from", line.get("from")) for number, line in _read(path) if line.get("check") == check]
    if not lows:
        raise CurationError(f"{path}: no finding of {check} in it", f"curation calibrate {check} FOLDER --ask 50 writes a file")
    return min(lows)


def labels(path: Path, found: Findings) -> tuple[np.ndarray, np.ndarray, int]:
    """Return (positions of the labelled findings, whether each is right, labels whose finding is no longer there).

    `label`: yes or no (y, n, 1, 0, true, false, right, wrong); empty lines of the column are left out. Every mistake is
    reported at once, with its line.
    """
    at = {key: k for k, key in enumerate(found.keys)}
    given: dict[int, bool] = {}
    problems, gone = [], 0
    for number, line in _read(path):
        word = (line.get("label") or "").strip().lower()
        if not word:
            continue
        if word not in YES | NO:
            problems.append(f"{path.name}:{number}: label {word[:40]!r} is neither yes nor no")
        elif line.get("check") != found.check:
            problems.append(f"{path.name}:{number}: a finding of {line.get('check')!r}, not of {found.check}")
        elif line.get("key") not in at:
            gone += 1
        elif given.setdefault(at[str(line["key"])], word in YES) != (word in YES):
            problems.append(f"{path.name}:{number}: the same finding is labelled yes and no")
    if problems:
        raise CurationError("\n".join(problems[:20]), "label every line yes or no, or leave it empty; nothing was changed")
    if len(given) < LEAST:
        why = f"; {gone} more are of findings that are no longer there" if gone else ""
        raise CurationError(f"{path}: {len(given)} labels{why}", f"a threshold needs {LEAST}, better 50: fill the column label")
    where = np.array(sorted(given), np.int64)
    return where, np.array([given[k] for k in where.tolist()], bool), gone


def _read(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return [(line number, cells)] of a label file."""
    hint = "curation calibrate CHECK FOLDER --ask 50 writes such a file"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise CurationError(f"{path}: no such file", hint) from None
    except UnicodeDecodeError as e:
        raise CurationError(f"{path}: byte {e.start} is not UTF-8", "save the file as UTF-8") from None
    head = text.split("\n", 1)[0]
    marks = [m for m in (",", ";", "\t") if {"label", "key", "check"} <= {c.strip(' "\r') for c in head.split(m)}]
    if not marks:
        raise CurationError(f"{path}:1: not a label file: the first line must name label, check and key", hint)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=marks[0], restkey="more")
    try:
        return [(reader.line_num, {str(k): v for k, v in line.items() if isinstance(v, str)}) for line in reader]
    except csv.Error as e:
        raise CurationError(f"{path}:{reader.line_num}: {e}", "save the file as CSV again") from None


def _number(path: Path, line: int, name: str, value: str | None) -> float:
    try:
        number = float((value or "").replace(",", "."))
    except ValueError:
        number = math.nan
    if not 0.0 <= number <= 1.0:
        raise CurationError(f"{path.name}:{line}: {name} {(value or '')[:40]!r} is not a score", "leave that column as it was")
    return number


# ---- what they say


@dataclass(frozen=True)
class Fit:
    """A threshold and what the labels say of it. Shares are of all findings from `low` on, not of the labelled ones."""

    threshold: float
    method: str     # "sure": the lower bound reaches what was wanted; "likely": the estimate does
    precision: tuple[float, float, float]   # estimate, and its 95 % interval (Wilson, on the effective number of labels)
    recall: tuple[float, float, float]      # of the right findings from `low` on; interval by bootstrap
    above: int      # labels at or above the threshold


def fit(score: np.ndarray, low: float, at: np.ndarray, right: np.ndarray, wanted: float) -> Fit:
    """Return the least threshold with a precision of `wanted`.

    `score`: of all findings; `at`, `right`: the labelled ones. First the least whose Wilson lower bound (95 %) reaches
    `wanted`; where no bound does, as with few labels, the least at and above which the estimate does, both from
    the labels there and from a monotone (isotonic) fit of all. Raises CurationError when neither is to be had.
    """
    part = parts_of(score, low)
    size = np.bincount(part, minlength=PARTS)
    labelled = np.bincount(part[at], minlength=PARTS)
    weight = size[part[at]] / labelled[part[at]]
    cuts = np.unique(score[at])
    sure = [t for t in cuts.tolist() if _precision(score, at, right, weight, t)[1] >= wanted]
    chance = _chances(score, score[at], right, weight)
    likely = [t for t in cuts.tolist() if chance[score >= t].mean() >= wanted and right[score[at] >= t].any()
              and _precision(score, at, right, weight, t)[0] >= wanted]
    if not sure and not likely:
        best = max((_precision(score, at, right, weight, t)[0] for t in cuts.tolist()), default=0.0)
        raise CurationError(
            f"no threshold reaches a precision of {wanted:g} on these {len(at)} labels (the best is {best:.2f})",
            "label more findings, ask for less (--precision), or leave the check to review",
        )
    t = min(sure or likely)
    value, least, most = _precision(score, at, right, weight, t)
    rng = np.random.default_rng(0)
    recalls = [_recall(score, score[at], right, weight, t, rng.choice(len(at), len(at))) for _ in range(DRAWS)]
    got = _recall(score, score[at], right, weight, t, np.arange(len(at)))
    spread = np.nanquantile(recalls, [0.025, 0.975])
    return Fit(_between(score, t), "sure" if sure else "likely", (value, least, most),
               (got, float(spread[0]), float(spread[1])), int((score[at] >= t).sum()))


def _between(score: np.ndarray, t: float) -> float:
    """Return a short number between `t` and the next lower score, so that `t` reaches it by >= and by >."""
    below = float(score[score < t].max(initial=max(0.0, t - 0.01)))
    middle = (t + below) / 2
    short = (round(middle, digits) for digits in (2, 3, 4, 6))
    return next((x for x in short if below < x < t), middle)


def _precision(
    score: np.ndarray, at: np.ndarray, right: np.ndarray, weight: np.ndarray, t: float
) -> tuple[float, float, float]:
    """Return the weighted share of right labels at or above `t` with its Wilson interval."""
    held = score[at] >= t
    w, yes = weight[held], right[held]
    if not len(w):
        return 0.0, 0.0, 1.0
    return wilson(float((w * yes).sum() / w.sum()), float(w.sum() ** 2 / (w**2).sum()))


def wilson(share: float, n: float) -> tuple[float, float, float]:
    """Return (share, low, high): the 95 % Wilson score interval of a share seen on `n` labels."""
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _chances(score: np.ndarray, known: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the chance of each finding to be right: rising with the score, fitted to the labels."""
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression(out_of_bounds="clip").fit(known, right.astype(float), weight).predict(score)


def _recall(
    score: np.ndarray, known: np.ndarray, right: np.ndarray, weight: np.ndarray, t: float, some: np.ndarray
) -> float:
    """Return the share of the right findings that reach `t`, from the labels `some`."""
    w = weight[some] * right[some]
    return min(1.0, float(w[known[some] >= t].sum() / w.sum())) if w.sum() else math.nan


# ---- and where it is kept


def keep(store: Store, found: Findings, fitted: Fit, wanted: float, right: Sequence[bool] | np.ndarray) -> dict[str, Any]:
    """Write the threshold to spec.yaml and the calibration to calibration/<check>.json; return the latter.

    Keys: check, option, threshold, wanted, method, precision and recall (each {value, low, high}), labels {yes, no,
    above}, from (lowest score asked), findings (how many there were from there on). No date: the same labels write the
    same file.
    """
    path = store.path / "spec.yaml"
    text = path.read_text(encoding="utf-8") if path.exists() else f"name: {json.dumps(store.path.resolve().name)}\n"
    new = with_option(text, found.check, found.option, fitted.threshold, CHECKS)
    about = {
        "check": found.check,
        "option": found.option,
        "threshold": fitted.threshold,
        "wanted": wanted,
        "method": fitted.method,
        "precision": _interval(fitted.precision),
        "recall": _interval(fitted.recall),
        "labels": {"yes": int(np.sum(right)), "no": int(len(right) - np.sum(right)), "above": fitted.above},
        "from": found.low,
        "findings": len(found.keys),
    }
    write_json(store.path / "calibration" / f"{found.check}.json", about)
    with atomic(path, "w") as f:
        f.write(new)
    return about


def _interval(value: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), (round(x, 4) for x in value), strict=True))


def read(store: Store) -> list[dict[str, Any]]:
    """Return the calibrations of a folder, by check."""
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted((store.path / "calibration").glob("*.json"))]


