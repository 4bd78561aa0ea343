"""Review: what to look at next, verdicts from files, bulk verdicts and what was dropped."""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .agreement import Precision, Reading, chance_order, disagreements, precision, to_read_again
from .errors import CurationError
from .gate import NONE, Effective, acting, coded, effective, min_score, open_flags, turn_of
from .model import VERDICTS
from .spec import Spec
from .store import Entry, Store, spelled_out
from .text import shorten

#: Queues that runs leave as files queues/<name>-<run>.jsonl, and the verb that makes them.
FROM_RUNS = {"failed": "curation eval", "hard": "curation train"}
#: Name of a queue and what it holds.
QUEUES = {
    "errors": "undecided rows with an error flag, most certain first",
    "warnings": "undecided rows with a warning flag, most certain first",
    "borderline": "flags nearest to the threshold of their check, or least certain: where a threshold is decided",
    "sample": "a random draw of flagged rows, to measure how often a check is right: reject or edit says it is",
    "random": "a random draw of undecided rows, to measure what the checks miss",
    "conflicts": "same prompt, different answer",
    "fixes": "flags that carry a repair to accept",
    "failed": "rows nearest to the probes that a run failed",
    "hard": "rows whose answers training found hardest to believe: wrong answers gather here",
    "second": "a blind second reading: rows that others flagged for it, then a random draw of what they decided",
    "disagreement": "rows on which two readers disagree and nobody has decided since",
    "dropped": "rows that the policy rejected, to check its judgement",
}
#: What a queue is called on a page.
TITLES = {
    "errors": "Errors first", "warnings": "Warnings", "borderline": "Near the threshold",
    "sample": "Random flags, for precision", "random": "Random rows, for what is missed", "conflicts": "Conflicting answers",
    "fixes": "Proposals", "failed": "Failed behaviours", "hard": "Hard to learn", "second": "Second reading, blind",
    "disagreement": "Disagreement", "dropped": "Dropped by the policy",
}
#: Queues made from flags: these can be narrowed to one check.
BY_CHECK = ("errors", "warnings", "borderline", "sample", "fixes")
CERTAIN = 0.999     # a score from here on is as certain as 1


def queue(
    store: Store, spec: Spec, name: str, limit: int = 100, *, seed: int = 0, check: str = "", reader: str = ""
) -> list[dict[str, Any]]:
    """Return up to `limit` rows of a queue, each {"row", "uid", "score", "reason", "check"}, best first.

    A row is listed once; its reason joins the messages of its flags. `check` narrows the queues of BY_CHECK to the flags
    of one check; `reader` is who reads the queue "second". Raises CurationError for an unknown queue.
    """
    if name not in QUEUES:
        raise CurationError(f"{name!r} is not a queue", f"queues: {', '.join(QUEUES)}")
    if name in FROM_RUNS:
        return from_runs(store, name)[:limit]
    if name == "second":
        return to_read_again(store, reader, seed=seed)[:limit]
    if name == "disagreement":
        return disagreements(store)[:limit]
    if check and name not in BY_CHECK:
        raise CurationError(f"the queue {name} is not made from the flags of a check", f"these are: {', '.join(BY_CHECK)}")
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
    flags = open_flags(state, spec)
    if check:
        flags = flags.filter(pc.equal(flags["check"].cast("string"), check))
    if name == "sample":
        flags = flags.filter(_first_by_chance(flags, limit, seed))
    return _flagged(flags, _thresholds(store), name, seed)[:limit]


def _flagged(flags: pa.Table, thresholds: Mapping[str, Any], name: str, seed: int) -> list[dict[str, Any]]:
    severity, check = flags["severity"].cast("string"), flags["check"].cast("string")
    wanted = {
        "errors": pc.equal(severity, "error"),
        "warnings": pc.equal(severity, "warning"),
        "borderline": pc.less(flags["score"], CERTAIN),
        "sample": pc.is_valid(flags["row"]),
        "conflicts": pc.equal(check, "dup.conflict"),
        "fixes": pc.is_valid(flags["fix"]),
    }[name]
    rows: dict[int, dict[str, Any]] = {}
    near: dict[int, float] = {}
    for flag in spelled_out(flags.filter(wanted).select(["row", "uid", "check", "score", "message"])).to_pylist():
        i = flag["row"]
        if i in rows:
            rows[i]["reason"] += "; " + flag["message"]
            rows[i]["score"] = max(rows[i]["score"], flag["score"])
        else:
            rows[i] = {"row": i, "uid": flag["uid"], "score": flag["score"], "reason": flag["message"], "check": flag["check"]}
        near[i] = min(near.get(i, 1.0), _beyond(flag, thresholds))
    found = list(rows.values())
    if name == "sample":
        order = chance_order(pa.array([r["uid"] for r in found], pa.string()), seed)
        return [found[k] for k in order.tolist()]
    if name == "borderline":
        return sorted(found, key=lambda r: (near[r["row"]], r["score"], r["row"]))
    return sorted(found, key=lambda r: (-r["score"], r["row"]))


def _beyond(flag: Mapping[str, Any], thresholds: Mapping[str, Any]) -> float:
    """Return how far a flag's score lies beyond the threshold of its check, or beyond a toss-up where it has none."""
    line = thresholds.get(flag["check"])
    if isinstance(line, int | float) and 0 < line <= flag["score"] + 1e-6:
        return float(flag["score"] - line)
    return abs(float(flag["score"]) - 0.5)


def _first_by_chance(flags: pa.Table, limit: int, seed: int) -> pa.Array:
    """Return which flags are on the first `limit` rows in an order by chance."""
    rows, first = np.unique(flags["row"].to_numpy(), return_index=True)
    uids = flags["uid"].take(pa.array(first))
    return pa.array(np.isin(flags["row"].to_numpy(), rows[chance_order(uids, seed)[:limit]]))


def precisions(store: Store, spec: Spec, checks: Sequence[str] = (), *, seed: int = 0) -> list[Precision]:
    """Return how often persons found each check right on rows drawn by chance (the queue "sample"), most rows first.

    `checks`: those wanted, "" for all together; none: every check with a decided row in its draw, and all together.
    """
    said: dict[str, Reading] = {}
    for e in store.verdicts.readings():
        if e["kind"] == "person" and e["verdict"] == "clear":
            said.pop(e["uid"], None)
        elif e["kind"] == "person" and e["alone"]:
            said[e["uid"]] = Reading(e["actor"], e["verdict"], e["reason"], e["action"], e["at"])
    flags = store.flags()
    if not flags.num_rows or not said:
        return [Precision(c, 0, 0, (0.0, 0.0, 1.0)) for c in checks]
    flags = flags.filter(pa.array(acting(flags, spec) != NONE))
    code, names = coded(flags["check"])
    row, uids = flags["row"].to_numpy(), store.rows(columns=["uid"])["uid"]
    out = []
    for name in checks or ("", *names):
        mine = row if not name else row[code == names.index(name)] if name in names else row[:0]
        out.append(precision(uids, np.unique(mine), said, name, seed))
    return out if checks else sorted((p for p in out if p.n), key=lambda p: (-p.n, p.check))


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
    rows = store.rows(columns=["uid", "instruction", "input", "response", "messages"])
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
    if not isinstance(text, str):
        raise CurationError("an edit needs the new text of the field in `text`")
    field, before = field_of(rows.slice(known[uid], 1).to_pylist()[0], str(field))
    return Entry(uid, "edit", reason, field, before, text)


def field_of(row: Mapping[str, Any], field: str) -> tuple[str, str]:
    """Return the name under which an edit of a field is stored and the field's text.

    messages[k] is stored as instruction or response where this view shows the turn whole, so that one text has one name.
    """
    if field in ("instruction", "input", "response"):
        return field, row[field] or ""
    k = turn_of(field)
    turns = row["messages"]
    if k is None:
        raise CurationError(f"field {field!r} is not instruction, input, response or messages[k]")
    if k >= len(turns):
        raise CurationError(f"field {field!r}: the row has {len(turns)} turns, the first is messages[0]")
    role = turns[k]["role"]
    last = k == max(j for j, m in enumerate(turns) if m["role"] == role)
    view = {"assistant": "response", "user": "" if row["input"] else "instruction"}.get(role, "") if last else ""
    return (view or field), turns[k]["content"]


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

    `verdict` "fix" takes the proposed text of the flags of `check` (see `proposals`).
    """
    if verdict == "fix":
        return [entry for _, entry in proposals(store, spec, check=check or "", rows=rows)]
    if rows is not None:
        uids = store.rows(columns=["uid"])["uid"]
        for i in rows:
            if not 0 <= i < len(uids):
                raise CurationError(f"row {i}: rows go from 0 to {len(uids) - 1}", "curation show FOLDER lists rows")
        return [Entry(uids[i].as_py(), verdict, reason) for i in rows]
    state = effective(store, spec)
    found: dict[int, dict[str, Any]] = {}
    ours = state.flags.filter(pc.equal(state.flags["check"].cast("string"), check))
    for flag in spelled_out(ours).to_pylist():
        settled = state.rejected[flag["row"]] or state.accepted[flag["row"]]
        if flag["score"] >= min_score(flag["check"], spec) and not settled:
            found.setdefault(flag["row"], flag)
    return [
        Entry(state.rows["uid"][i].as_py(), verdict, reason or flag["message"], check_id=check, score=flag["score"])
        for i, flag in sorted(found.items())
    ]


def proposals(
    store: Store, spec: Spec, *, check: str = "", rows: Sequence[int] | None = None
) -> list[tuple[int, Entry]]:
    """Return (row, edit that takes a repair) for every text of an undecided row that a check proposes to repair.

    `check`, `rows`: only those. Of several proposals for one text the surest stands; the others come for the text as it is
    after it. Append the entries to `store.verdicts` with kind "fix".
    """
    state = effective(store, spec)
    n = state.rows.num_rows
    for i in rows or ():
        if not 0 <= i < n:
            raise CurationError(f"row {i}: rows go from 0 to {n - 1}", "curation show FOLDER lists rows")
    flags = state.flags.filter(pc.is_valid(state.flags["fix"]))
    if check:
        flags = flags.filter(pc.equal(flags["check"].cast("string"), check))
    if rows is not None:
        flags = flags.filter(pc.is_in(flags["row"], pa.array(rows, flags["row"].type)))
    best: dict[tuple[int, str], dict[str, Any]] = {}
    for flag in spelled_out(flags).to_pylist():
        i, field = flag["row"], flag["field"]
        if state.rejected[i] or state.accepted[i] or flag["score"] < min_score(flag["check"], spec):
            continue
        if (i, field) not in best or flag["score"] > best[i, field]["score"]:
            best[i, field] = flag
    return [
        (i, Entry(f["uid"], "edit", f["message"], field, state.rows[field][i].as_py(), f["fix"], f["check"], f["score"]))
        for (i, field), f in sorted(best.items())
    ]


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
