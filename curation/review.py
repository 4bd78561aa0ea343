"""Review: what to look at next, verdicts from files, bulk verdicts and what was dropped."""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from .errors import CurationError
from .gate import Effective, effective, min_score, open_flags
from .model import VERDICTS
from .spec import Spec
from .store import Entry, Store
from .text import shorten

#: Queues that runs leave as files queues/<name>-<run>.jsonl, and the verb that makes them.
FROM_RUNS = {"failed": "curation eval", "hard": "curation train"}
#: Name of a queue and what it holds.
QUEUES = {
    "errors": "undecided rows with an error flag, most certain first",
    "warnings": "undecided rows with a warning flag, most certain first",
    "borderline": "flags with the least certain scores: where a threshold is decided",
    "conflicts": "same prompt, different answer",
    "fixes": "flags that carry a repair to accept",
    "random": "a random draw of undecided rows, to measure what the checks miss",
    "dropped": "rows that the policy rejected, to check its judgement",
    "failed": "rows nearest to the probes that a run failed",
    "hard": "rows whose answers training found hardest to believe: wrong answers gather here",
}


def queue(store: Store, spec: Spec, name: str, limit: int = 100, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return up to `limit` rows of a queue, each {"row", "uid", "score", "reason", "check"}, best first.

    A row is listed once; its reason joins the messages of its flags. Raises CurationError for an unknown queue.
    """
    if name not in QUEUES:
        raise CurationError(f"{name!r} is not a queue", f"queues: {', '.join(QUEUES)}")
    if name in FROM_RUNS:
        return from_runs(store, name)[:limit]
    state = effective(store, spec)
    undecided = ~(state.rejected | state.accepted)
    uids = state.rows["uid"]
    if name == "random":
        rows = np.flatnonzero(undecided).tolist()
        return [
            {"row": i, "uid": uids[i].as_py(), "score": 0.0, "reason": "random draw", "check": ""}
            for i in random.Random(seed).sample(rows, min(limit, len(rows)))
        ]
    if name == "dropped":
        return dropped(store, spec, state)[:limit]
    return _flagged(state, spec, name)[:limit]


def _flagged(state: Effective, spec: Spec, name: str) -> list[dict[str, Any]]:
    flags = open_flags(state, spec)
    severity, check = flags["severity"].cast("string"), flags["check"].cast("string")
    wanted = {
        "errors": pc.equal(severity, "error"),
        "warnings": pc.equal(severity, "warning"),
        "borderline": pc.less(flags["score"], 0.999),
        "conflicts": pc.equal(check, "dup.conflict"),
        "fixes": pc.is_valid(flags["fix"]),
    }[name]
    rows: dict[int, dict[str, Any]] = {}
    for flag in flags.filter(wanted).select(["row", "uid", "check", "score", "message"]).to_pylist():
        i = flag["row"]
        if i in rows:
            rows[i]["reason"] += "; " + flag["message"]
            rows[i]["score"] = max(rows[i]["score"], flag["score"])
        else:
            rows[i] = {"row": i, "uid": flag["uid"], "score": flag["score"], "reason": flag["message"], "check": flag["check"]}
    ascending = name == "borderline"
    return sorted(rows.values(), key=lambda r: (r["score"] if ascending else -r["score"], r["row"]))


def from_runs(store: Store, name: str) -> list[dict[str, Any]]:
    """Return the rows that runs put into a queue, from every file of that queue, best first, each row once."""
    best: dict[str, dict[str, Any]] = {}
    for path in sorted((store.path / "queues").glob(f"{name}-*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                entry = json.loads(line)
                entry["check"] = ""
                uid = entry["uid"]
            except (json.JSONDecodeError, KeyError, TypeError) as e:
                raise CurationError(f"{path}:{number}: not a queue entry ({e})", f"run {FROM_RUNS[name]} again") from e
            if uid not in best or entry["score"] > best[uid]["score"]:
                best[uid] = entry
    return sorted(best.values(), key=lambda e: (-e["score"], e["row"]))


def dropped(store: Store, spec: Spec, state: Effective | None = None) -> list[dict[str, Any]]:
    """Return every rejected row with the verdict that rejected it: check, score, threshold, reason, actor, action."""
    state = state or effective(store, spec)
    thresholds = _thresholds(store)
    out = []
    for i in np.flatnonzero(state.rejected).tolist():
        uid = state.rows["uid"][i].as_py()
        d = state.decisions[uid]
        out.append(
            {
                "row": i,
                "uid": uid,
                "check": d.check_id or "",
                "score": d.score,
                "threshold": thresholds.get(d.check_id or ""),
                "reason": d.reason,
                "actor": d.actor,
                "kind": d.kind,
                "at": d.at,
                "action": d.action,
                "instruction": shorten(state.rows["instruction"][i].as_py(), 60),
            }
        )
    return out


def _thresholds(store: Store) -> dict[str, Any]:
    """Return the options that each check last ran with, where it has a threshold."""
    current = store.current() or {"options": {}}
    return {id: o["threshold"] for id, o in current["options"].items() if "threshold" in o}


# ---- verdicts in


def read_verdicts(path: Path, store: Store) -> list[Entry]:
    """Return the verdicts of a CSV or JSONL file with columns uid or row, verdict, and for edits field and text.

    `reason` is optional. All mistakes are reported at once, each as file:line.
    """
    rows = store.rows(columns=["uid", "instruction", "input", "response"])
    known = {uid: i for i, uid in enumerate(rows["uid"].to_pylist())}
    entries, problems = [], []
    for number, record in _lines(path):
        try:
            entries.append(_entry(record, rows, known))
        except CurationError as e:
            problems.append(f"{path.name}:{number}: {e.what}")
    if problems:
        more = f"\n... and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CurationError(
            "\n".join(problems[:20]) + more,
            "columns: uid or row, verdict (accept, reject, edit, clear), "
            "reason, and for edits field and text; nothing was stored",
        )
    if not entries:
        raise CurationError(f"{path}: no verdicts in it", "columns: uid or row, verdict, reason")
    return entries


def _lines(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CurationError(f"{path}: no such file", "a CSV or JSONL file of verdicts") from None
    except UnicodeDecodeError as e:
        raise CurationError(f"{path}: byte {e.start} is not UTF-8", "save the file as UTF-8") from None
    if path.suffix == ".csv":
        reader = csv.DictReader(text.splitlines(keepends=True))
        for record in reader:
            yield reader.line_num, {k: v for k, v in record.items() if v not in (None, "")}
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except json.JSONDecodeError as e:
                raise CurationError(f"{path.name}:{number}: not JSON ({e.msg})", "one JSON object a line") from None
            if not isinstance(record, dict):
                raise CurationError(
                    f"{path.name}:{number}: expected an object, found {type(record).__name__}", "one JSON object a line"
                )
            yield number, record


def _entry(record: dict[str, Any], rows: Any, known: dict[str, int]) -> Entry:
    uid = record.get("uid")
    if uid is None and "row" in record:
        row = str(record["row"])
        if not row.isdigit() or int(row) >= rows.num_rows:
            raise CurationError(f"row {row!r}: rows go from 0 to {rows.num_rows - 1}")
        uid = rows["uid"][int(row)].as_py()
    if uid not in known:
        raise CurationError(f"uid {uid!r} is not in the set" if uid else "neither uid nor row is given")
    verdict = record.get("verdict")
    if verdict not in (*VERDICTS, "clear"):
        raise CurationError(f"verdict {verdict!r} is not accept, reject, edit or clear")
    reason = str(record.get("reason", ""))
    if verdict != "edit":
        return Entry(uid, verdict, reason)
    field, text = record.get("field", "response"), record.get("text")
    if field not in ("instruction", "input", "response"):
        raise CurationError(f"field {field!r} is not instruction, input or response")
    if not isinstance(text, str):
        raise CurationError("an edit needs the new text of the field in `text`")
    return Entry(uid, "edit", reason, field, rows[field][known[uid]].as_py(), text)


def entries_for(
    store: Store,
    spec: Spec,
    verdict: str,
    *,
    check: str | None = None,
    rows: Sequence[int] | None = None,
    reason: str = "",
) -> list[Entry]:
    """Return one verdict for every undecided row with a flag of `check`, or for the given row numbers.

    `verdict` "fix" takes the proposed text of the flags of `check`.
    """
    if rows is not None:
        uids = store.rows(columns=["uid"])["uid"]
        for i in rows:
            if not 0 <= i < len(uids):
                raise CurationError(f"row {i}: rows go from 0 to {len(uids) - 1}", "curation show FOLDER lists rows")
        return [Entry(uids[i].as_py(), verdict, reason) for i in rows]
    state = effective(store, spec)
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    ours = state.flags.filter(pc.equal(state.flags["check"].cast("string"), check))
    for flag in ours.to_pylist():
        settled = state.rejected[flag["row"]] or state.accepted[flag["row"]]
        if flag["score"] >= min_score(flag["check"], spec) and not settled:
            found[flag["row"]].setdefault(flag["field"], flag)
    entries = []
    for i, fields in sorted(found.items()):
        uid = state.rows["uid"][i].as_py()
        flag = next(iter(fields.values()))
        if verdict != "fix":
            entries.append(Entry(uid, verdict, reason or flag["message"], check_id=check, score=flag["score"]))
            continue
        entries += [
            Entry(uid, "edit", f["message"], f["field"], state.rows[f["field"]][i].as_py(), f["fix"], check, f["score"])
            for f in fields.values()
            if f["fix"] is not None
        ]
    return entries


def progress(store: Store, state: Effective) -> dict[str, int]:
    """Return how far review is: rows, flagged, decided by kind, undecided flagged rows."""
    flagged = np.zeros(state.rows.num_rows, bool)
    flagged[state.flags["row"].to_numpy()] = True
    kinds: dict[str, int] = defaultdict(int)
    for d in state.decisions.values():
        kinds[d.kind] += 1
    return {
        "rows": state.rows.num_rows,
        "flagged": int(flagged.sum()),
        "rejected": int(state.rejected.sum()),
        "accepted": int(state.accepted.sum()),
        "edited": int(state.edited.sum()),
        "by_person": kinds["person"],
        "by_policy": kinds["policy"],
        "by_fix": kinds["fix"],
        "open": int((flagged & ~state.rejected & ~state.accepted).sum()),
    }
