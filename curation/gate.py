"""The gate: policy verdicts over flags, and whether the set that is left may leave, with reasons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from . import coverage
from .checks import CHECKS
from .engine import run_table
from .errors import CurationError
from .model import FLAGS
from .spec import CheckSettings, Spec
from .store import Decision, Entry, Store

#: Checks whose flags join rows into clusters of which one row is kept.
CLUSTER_CHECKS = ("dup.exact", "dup.near")
_SEVERITY = {"error": 2, "warning": 1, "info": 0}


def action_of(check: str, spec: Spec) -> str:
    """Return what the policy does with a flag of `check`: drop, fix, review or none."""
    settings = spec.checks.get(check)
    if isinstance(settings, CheckSettings) and settings.action is not None:
        return settings.action
    return CHECKS[check].action


def acts_on(flag: Mapping[str, Any], spec: Spec) -> str:
    """Return what the policy does with one flag.

    A check may give a flag a milder severity than its own to say "look at it": such a flag is never dropped but
    repaired if it carries a repair, else left to a person. An info flag triggers nothing.
    """
    action = action_of(flag["check"], spec)
    if action == "none" or flag["severity"] == "info":
        return "none"
    settings = spec.checks.get(flag["check"])
    own = (settings.severity if isinstance(settings, CheckSettings) else None) or CHECKS[flag["check"]].severity
    if action == "drop" and _SEVERITY[flag["severity"]] < _SEVERITY[own]:
        return "fix" if flag["fix"] is not None else "review"
    return action


def min_score(check: str, spec: Spec) -> float:
    """Return the score below which a flag of `check` is kept but does not count."""
    settings = spec.checks.get(check)
    return settings.min_score if isinstance(settings, CheckSettings) else 0.0


@dataclass(frozen=True)
class Effective:
    """A folder's rows as they would be exported: edits applied, their flags renewed, verdicts joined."""

    rows: pa.Table  # all rows of the version, edits applied
    flags: pa.Table  # flags of these rows; those of edited rows are computed on the edited text
    signals: pa.Table
    decisions: Mapping[str, Decision]
    rejected: np.ndarray  # (n,) bool
    accepted: np.ndarray  # (n,) bool: by a person or an accepted fix
    edited: np.ndarray  # (n,) bool

    @property
    def kept(self) -> np.ndarray:
        """Row numbers that no verdict has rejected, ascending."""
        return np.flatnonzero(~self.rejected)


def effective(store: Store, spec: Spec) -> Effective:
    """Return the state of a folder. Raises CurationError before the first check of these rows."""
    signals = store.signals()
    if signals is None:
        raise CurationError(f"{store.path}: rows {store.version} have not been checked", f"curation check {store.path}")
    rows, flags = store.rows(), store.flags()
    log = store.verdicts
    decisions, edits = log.decisions(), log.edits()
    uids = rows["uid"].to_pylist() if decisions or edits else []
    rejected = np.zeros(rows.num_rows, bool)
    accepted = np.zeros(rows.num_rows, bool)
    edited = np.zeros(rows.num_rows, bool)
    for i, uid in enumerate(uids):
        decision = decisions.get(uid)
        if decision is not None:
            rejected[i] = decision.verdict == "reject"
            accepted[i] = decision.verdict == "accept" and decision.kind == "person"
        edited[i] = uid in edits
    if edited.any():
        rows = apply_edits(rows, {i: edits[uids[i]] for i in np.flatnonzero(edited).tolist()})
        flags, signals = _renew(rows, flags, signals, edited, spec)
    return Effective(rows, flags, signals, decisions, rejected, accepted, edited)


def apply_edits(rows: pa.Table, edits: Mapping[int, Mapping[str, str]]) -> pa.Table:
    """Return the rows with the given {row: {field: text}} edits in both the views and the messages."""
    columns = {name: rows[name].to_pylist() for name in ("instruction", "input", "response", "messages")}
    for i, fields in edits.items():
        for name, text in fields.items():
            columns[name][i] = text
        columns["messages"][i] = with_views(
            columns["messages"][i], columns["instruction"][i], columns["input"][i], columns["response"][i]
        )
    for name, values in columns.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), pa.array(values, rows.schema.field(index).type))
    return rows


def with_views(messages: list[dict[str, str]], instruction: str, input: str, response: str) -> list[dict[str, str]]:
    """Return the turns with the last user turn and the last assistant turn replaced by these texts."""
    turns = [dict(m) for m in messages]
    prompt = f"{instruction}\n{input}" if input else instruction
    for role, text in (("user", prompt), ("assistant", response)):
        at = next((k for k in reversed(range(len(turns))) if turns[k]["role"] == role), None)
        if at is not None:
            turns[at]["content"] = text
    return turns


def _renew(rows: pa.Table, flags: pa.Table, signals: pa.Table, edited: np.ndarray, spec: Spec) -> tuple[pa.Table, pa.Table]:
    """Return flags and signals with the row-scope part of the edited rows computed anew.

    Flags of dataset-scope checks stay: whether an edit mended a duplicate is seen at the next check run.
    """
    some = rows.take(np.flatnonzero(edited))
    new, fresh = run_table(some, spec, scopes=("row",))
    row_checks = [id for id, u in CHECKS.items() if u.scope == "row"]
    old = np.isin(flags["check"].cast(pa.string()).to_numpy(zero_copy_only=False).astype(str), row_checks)
    stays = ~(edited[flags["row"].to_numpy()] & old)
    flags = pa.concat_tables([flags.filter(pa.array(stays)), new]).unify_dictionaries().sort_by([("row", "ascending")])
    columns = {}
    for name in signals.column_names:
        values = signals[name].to_pylist()
        if name in fresh.column_names and name not in ("row", "uid"):
            for i, v in zip(np.flatnonzero(edited), fresh[name].to_pylist(), strict=True):
                values[i] = v
        columns[name] = pa.array(values, signals[name].type)
    return flags.cast(FLAGS), pa.table(columns)


# ---- policy verdicts


def policy_entries(state: Effective, spec: Spec) -> list[Entry]:
    """Return the verdicts that the spec's policy gives on rows no person has decided.

    `drop` rejects, `fix` takes the flag's text, `review` and `none` decide nothing. Of a duplicate cluster the
    best row by `spec.keep` stays: a person's accept, then fewer flags that drop, then first.
    """
    uids = state.rows["uid"].to_pylist()
    bound = {i for i, uid in enumerate(uids) if (d := state.decisions.get(uid)) is not None and d.kind == "person"}
    drops: dict[int, Entry] = {}
    fixes: dict[tuple[int, str], Entry] = {}
    links: list[tuple[int, int, float, str]] = []
    weight: dict[int, float] = defaultdict(float)
    for flag in flag_rows(state.flags, spec):
        i, check = flag["row"], flag["check"]
        action = acts_on(flag, spec)
        if check in CLUSTER_CHECKS:
            if action == "drop":
                links += [(i, j, flag["score"], check) for j in flag["related"]]
            continue
        weight[i] += 100.0 if action == "drop" else _SEVERITY[flag["severity"]]
        entry = Entry(uids[i], "reject", flag["message"], check_id=check, score=flag["score"])
        if action == "drop" and (i not in drops or check < (drops[i].check_id or "")):
            drops[i] = entry
        elif action == "fix" and flag["fix"] is not None and (i, flag["field"]) not in fixes:
            fixes[i, flag["field"]] = Entry(
                uids[i],
                "edit",
                flag["message"],
                flag["field"],
                state.rows[flag["field"]][i].as_py(),
                flag["fix"],
                check,
                flag["score"],
            )
    _drop_copies(state, spec, links, weight, uids, drops)
    out = [e for i, e in sorted(drops.items()) if i not in bound]
    out += [e for (i, _), e in sorted(fixes.items()) if i not in bound and i not in drops]
    return out


def _drop_copies(
    state: Effective,
    spec: Spec,
    links: Iterable[tuple[int, int, float, str]],
    weight: Mapping[int, float],
    uids: list[str],
    drops: dict[int, Entry],
) -> None:
    """Reject every member of a duplicate cluster but the best; `drops` is filled in place."""
    parent: dict[int, int] = {}

    def root(x: int) -> int:
        while parent.setdefault(x, x) != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    best: dict[int, tuple[float, str]] = {}
    for a, b, score, check in links:
        if (ra := root(a)) != (rb := root(b)):
            parent[max(ra, rb)] = min(ra, rb)
        for x in (a, b):
            best[x] = max(best.get(x, (0.0, "")), (score, check))
    clusters: dict[int, list[int]] = defaultdict(list)
    for x in parent:
        clusters[root(x)].append(x)
    for members in clusters.values():
        keep = min(members, key=lambda i: _rank(state, spec, i, weight))
        for i in members:
            if i != keep and i not in drops:
                score, check = best[i]
                how = "same content as" if check == "dup.exact" else f"near-duplicate ({score:.2f}) of"
                drops[i] = Entry(uids[i], "reject", f"{how} row {keep}, which is kept", check_id=check, score=score)


def _rank(state: Effective, spec: Spec, i: int, weight: Mapping[int, float]) -> tuple[float, ...]:
    """Return the sort key by which one row of a cluster is kept: smallest first."""
    size = len(state.rows["response"][i].as_py() or "") if {"longest", "shortest"} & set(spec.keep) else 0
    value = {
        "verdict": 0.0 if state.accepted[i] else 1.0,
        "flags": weight.get(i, 0.0),
        "longest": -float(size),
        "shortest": float(size),
        "first": float(i),
    }
    return (*(value[k] for k in spec.keep), float(i))


def flag_rows(flags: pa.Table, spec: Spec) -> Iterator[dict[str, Any]]:
    """Yield the flags that count (at or above the spec's min_score), as dictionaries."""
    floors = {id: min_score(id, spec) for id in CHECKS}
    for flag in flags.to_pylist():
        if flag["score"] >= floors[flag["check"]]:
            yield flag


def apply_policy(store: Store, spec: Spec) -> dict[str, int]:
    """Write the policy's verdicts as one undoable action and return {check: rows decided}.

    A second call on the same state writes nothing.
    """
    state = effective(store, spec)
    entries = [e for e in policy_entries(state, spec) if not _stands(e, state)]
    if entries:
        store.verdicts.append(
            entries, actor=f"policy:{spec.hash[:8]}", kind="policy", note=f"spec policy on rows {store.version}"
        )
    counts: dict[str, int] = defaultdict(int)
    for e in entries:
        counts[e.check_id or ""] += 1
    return dict(sorted(counts.items()))


def _stands(entry: Entry, state: Effective) -> bool:
    """Whether an equal policy verdict already holds."""
    old = state.decisions.get(entry.uid)
    return (
        entry.verdict == "reject"
        and old is not None
        and old.verdict == "reject"
        and old.check_id == entry.check_id
        and old.kind == "policy"
    )


# ---- the verdict of the gate


@dataclass(frozen=True)
class GateLine:
    rule: str
    have: float
    want: str
    met: bool
    message: str


@dataclass(frozen=True)
class GateResult:
    passed: bool
    lines: tuple[GateLine, ...]
    rows: int  # rows in the folder
    kept: int  # rows that would be exported
    rejected: dict[str, int]  # by check, or by actor kind
    open_flags: dict[str, int]  # rows with an undecided flag, by check
    coverage: tuple[coverage.Line, ...]

    @property
    def reasons(self) -> list[str]:
        """Why it failed: the message of every rule not met."""
        return [line.message for line in self.lines if not line.met]

    @property
    def sentence(self) -> str:
        head = f"Gate {'passed' if self.passed else 'failed'}: {self.kept:,} of {self.rows:,} rows would be exported"
        return head + ("." if self.passed else f"; {len(self.reasons)} of {len(self.lines)} rules are not met.")

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "rows": self.rows,
            "kept": self.kept,
            "rejected": self.rejected,
            "open_flags": self.open_flags,
            "reasons": self.reasons,
            "lines": [vars(x) for x in self.lines],
            "coverage": [x.as_dict() for x in self.coverage],
        }


def evaluate(store: Store, spec: Spec, state: Effective | None = None) -> GateResult:
    """Return whether the set may leave, rule by rule."""
    state = state or effective(store, spec)
    kept = ~state.rejected
    n = int(kept.sum())
    found = open_flags(state, spec).select(["row", "check", "severity"]).to_pydict()
    by = {
        key: {row for row, k in zip(found["row"], found[key_column], strict=True) if k == key}
        for key_column in ("check", "severity")
        for key in set(found[key_column])
    }
    errors, warnings = by.get("error", set()), by.get("warning", set())
    policy = spec.gate
    lines = [
        _rate("max_error_rate", len(errors), n, policy.max_error_rate, "an open error flag"),
        _rate("max_warning_rate", len(warnings), n, policy.max_warning_rate, "an open warning flag"),
        GateLine(
            "min_rows",
            n,
            f">= {policy.min_rows:,}",
            n >= policy.min_rows,
            f"{n:,} rows are left, the spec wants at least {policy.min_rows:,}",
        ),
    ]
    persons = sum(1 for d in state.decisions.values() if d.kind == "person")
    if policy.min_reviewed:
        lines.append(
            GateLine(
                "min_reviewed",
                persons,
                f">= {policy.min_reviewed:,}",
                persons >= policy.min_reviewed,
                f"persons have decided {persons:,} rows, the spec wants {policy.min_reviewed:,}",
            )
        )
    cover = coverage.lines(state.signals.filter(pa.array(kept)), spec)
    if policy.coverage:
        lines += [
            GateLine(f"coverage:{c.kind}:{c.id}", c.have, _bounds(c), c.met, c.message)
            for c in cover
            if c.least is not None or c.most is not None
        ]
    rejected: dict[str, int] = defaultdict(int)
    for uid, drop in zip(state.rows["uid"].to_pylist(), state.rejected, strict=True):
        if drop:
            d = state.decisions[uid]
            rejected[d.check_id or d.kind] += 1
    counts = {check: len(by[check]) for check in set(found["check"])}
    return GateResult(
        all(x.met for x in lines),
        tuple(lines),
        state.rows.num_rows,
        n,
        dict(sorted(rejected.items())),
        dict(sorted(counts.items())),
        tuple(cover),
    )


def open_flags(state: Effective, spec: Spec) -> pa.Table:
    """Return the flags that still ask for a decision: on rows neither rejected nor accepted, that the policy acts on.

    A flag of a duplicate whose other rows are all rejected is no longer open.
    """

    def stands(flag: Mapping[str, Any]) -> bool:
        i = flag["row"]
        if state.rejected[i] or state.accepted[i] or acts_on(flag, spec) == "none":
            return False
        pair = flag["related"] and flag["check"].startswith("dup.")
        return not (pair and all(state.rejected[j] for j in flag["related"]))

    floors = {id: min_score(id, spec) for id in CHECKS}
    keep = [
        f["score"] >= floors[f["check"]] and stands(f)
        for f in state.flags.select(["row", "check", "severity", "score", "related", "fix"]).to_pylist()
    ]
    return state.flags.filter(pa.array(keep, pa.bool_()))


def _rate(rule: str, bad: int, n: int, limit: float, what: str) -> GateLine:
    rate = bad / n if n else 0.0
    return GateLine(
        rule,
        rate,
        f"<= {limit:.2%}",
        rate <= limit,
        f"{bad:,} of {n:,} rows ({rate:.2%}) have {what}, the spec allows {limit:.2%}",
    )


def _bounds(line: coverage.Line) -> str:
    low = "" if line.least is None else f">= {line.least:,}"
    high = "" if line.most is None else f"<= {line.most:,}"
    return " and ".join(x for x in (low, high) if x)
