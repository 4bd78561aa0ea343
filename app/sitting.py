"""One queue being worked through: what the browser decides is stored in order, its place is kept, its questions answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.clusters import word_diff
from curation.engine import run_table
from curation.gate import apply_edits
from curation.model import SEVERITIES
from curation.review import field_of
from curation.similar import similar_to
from curation.spec import Family, ResponseStandard, Spec
from curation.store import ASKING, READING, Entry, Store, atomic

from . import state

SECOND = "second"       # the queue whose verdicts are blind second readings
KEPT = 50               # decisions that z can still take back after a reload
SIMILAR = 12            # rows shown beside a row as like it
OPENING = 600           # characters of such a row's texts
COMPARED = 6_000        # characters of a text that are compared word by word
AROUND = 80             # characters of an unchanged stretch that are shown on either side of a change


@dataclass
class Sitting:
    """A queue and how far it is; changed in place, so that nothing falls between two steps."""

    name: str
    id: str                                     # differs for each filling of a queue
    rows: list[tuple[int, str, str]]            # (row, uid, why), in order; skipped ones stand once more at the end
    check: str = ""
    acked: dict[str, int] = field(default_factory=dict)     # newest message that is stored, by the card that sent it
    pos: int = 0
    actions: list[tuple[str, int | None]] = field(default_factory=list)     # (uid, action or None for a skip)
    decided: int = 0
    path: Path | None = None                    # where the place is kept; None: nowhere
    cards: dict[int, tuple[Any, dict[str, Any]]] = field(default_factory=dict)      # of rows drawn before, with their state

    # ---- verdicts

    def take(self, client: str, log: Sequence[Mapping[str, Any]], store: Store, desk: state.Desk) -> None:
        """Store what a card has decided and not yet been told of, in its order. A message may come any number of times."""
        for entry in sorted(log, key=lambda e: e["seq"]):
            if entry["seq"] > self.acked.get(client, 0):
                self._one(client, entry, store, desk)
                self.acked[client] = entry["seq"]

    def _one(self, client: str, entry: Mapping[str, Any], store: Store, desk: state.Desk) -> None:
        uid, verdict = entry["id"], entry["verdict"]
        place = next((k for k, r in enumerate(self.rows) if r[1] == uid), None)
        assert place is not None, f"the browser named a row that is not in the queue: {uid}"
        row, sent = self.rows[place][0], (client, int(entry["seq"]))
        if verdict is None:
            self._undo(uid, store, desk)
        elif verdict == "skip":
            self.rows.append(self.rows[place])
            self.actions.append((uid, None))
        elif verdict == "ask":
            action = desk.decide(store, [Entry(uid, "ask")], f"flag row {row:,} for a second reader", kind=ASKING, client=sent)
            self.actions.append((uid, action))
        elif verdict == "edit":
            entries = edits_of(store, row, uid, entry["fields"], entry.get("reason", ""))
            if entries:
                self._stored(uid, desk.decide(store, entries, f"edit row {row:,}", client=sent))
        else:
            assert verdict in ("accept", "reject"), verdict
            kind, words = self._kind(uid, store, desk.actor), f"{verdict} row {row:,}"
            words = f"second reading: {words}" if kind == READING else words
            self._stored(uid, desk.decide(store, [Entry(uid, verdict, entry.get("reason", ""))], words, kind=kind, client=sent))

    def _kind(self, uid: str, store: Store, actor: str) -> str:
        """Return the kind of a verdict: a second reading decides nothing where another person's verdict stands."""
        held = store.verdicts.decision(uid) if self.name == SECOND else None
        return READING if held is not None and held.kind == "person" and held.actor != actor else "person"

    def _stored(self, uid: str, action: int) -> None:
        self.actions.append((uid, action))
        self.decided += 1

    def _undo(self, uid: str, store: Store, desk: state.Desk) -> None:
        at = next((k for k in reversed(range(len(self.actions))) if self.actions[k][0] == uid), None)
        if at is None:
            return
        _, action = self.actions.pop(at)
        if action is None:
            self.rows.pop()
            return
        self.decided = max(0, self.decided - 1)
        if store.verdicts.holds(action):
            store.verdicts.undo(action, actor=desk.actor)
        desk.done = [d for d in desk.done if d[0] != action]
        desk.said = "undone on the card"

    def told(self) -> list[dict[str, Any]]:
        """Return the decisions that z takes back, oldest first, as a card that has just been opened needs them."""
        first = {uid: k for k, (_, uid, _) in reversed(list(enumerate(self.rows)))}
        return [{"id": uid, "pos": first[uid], "verdict": "skip" if action is None else "said"}
                for uid, action in self.actions[-KEPT:] if uid in first]

    # ---- the place in the queue, kept in the folder

    def save(self) -> None:
        """Keep the place: a browser that comes back, on this machine or another, goes on where this one is."""
        if self.path is None:
            return
        place = {"pos": self.pos, "acked": self.acked, "actions": self.actions[-KEPT:], "decided": self.decided,
                 "skipped": [uid for _, uid, _ in self.rows[self._own():]], "id": self.id}
        with atomic(_place(self.path), "w") as f:
            json.dump(place, f)

    def _own(self) -> int:
        """Return how many rows the queue had when it was filled: those that were skipped stand behind."""
        return len({uid for _, uid, _ in self.rows})

    def begin(self, folder: Path, actor: str, stamp: str) -> None:
        """Keep a queue that was just filled, in place of the one this actor had. `stamp`: rows and flags it is made from."""
        self.path = path_of(folder, actor, self.name, self.check)
        with atomic(self.path, "w") as f:
            json.dump({"id": self.id, "stamp": stamp, "actor": actor, "queue": self.name, "check": self.check,
                       "rows": self.rows}, f)
        self.save()


def path_of(folder: Path, actor: str, name: str, check: str) -> Path:
    """Return the file of an actor's queue; the name in it is a hash, because names of persons hold anything."""
    mark = hashlib.sha256(repr((actor, name, check)).encode("utf-8", "replace")).hexdigest()[:16]
    return folder / "review" / f"{name}-{mark}.json"


def _place(path: Path) -> Path:
    return path.with_suffix(".place.json")


def restored(folder: Path, actor: str, name: str, check: str, stamp: str) -> Sitting | None:
    """Return an actor's queue with its place; None when there is none, it is done, or rows or flags have changed since."""
    path = path_of(folder, actor, name, check)
    if not path.exists() or not _place(path).exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    place = json.loads(_place(path).read_text(encoding="utf-8"))
    if kept["stamp"] != stamp or place["id"] != kept["id"]:
        return None
    rows = [(int(i), uid, why) for i, uid, why in kept["rows"]]
    at = {uid: k for k, (_, uid, _) in enumerate(rows)}
    rows += [rows[at[uid]] for uid in place["skipped"] if uid in at]
    if place["pos"] >= len(rows):
        return None
    actions = [(uid, action) for uid, action in place["actions"]]
    return Sitting(name, kept["id"], rows, check, place["acked"], place["pos"], actions, place["decided"], path)


@dataclass
class Way:
    """The queues that one browser session has open: what was decided on one may come while another is on the screen."""

    sittings: dict[str, Sitting] = field(default_factory=dict)
    now: str = ""                               # id of the queue on the screen
    asked: str = ""                             # the question that was answered last
    answer: dict[str, Any] | None = None

    def open(self, sitting: Sitting) -> Sitting:
        """Put a queue on the screen; the last few stay at hand."""
        self.sittings.pop(sitting.id, None)
        self.sittings[sitting.id] = sitting
        self.now, self.answer = sitting.id, None
        for old in list(self.sittings)[:-4]:
            del self.sittings[old]
        return sitting

    def take(self, said: Mapping[str, Any], store: Store, desk: state.Desk) -> None:
        """Store what cards have decided and not yet been told of; `said`: their newest state, of this tab and before."""
        for part in said["parts"]:
            for entry in sorted(part["log"], key=lambda e: e["seq"]):
                if (sitting := self.sittings.get(entry["queue"])) is not None:
                    sitting.take(part["client"], [entry], store, desk)
        sitting = self.sittings.get(said["queue"])
        if sitting is not None:
            sitting.pos = max(0, min(len(sitting.rows), int(said["pos"])))
            sitting.save()

    def acked(self) -> dict[str, int]:
        """Return the newest message of each card that is stored."""
        out: dict[str, int] = {}
        for sitting in self.sittings.values():
            for client, seq in sitting.acked.items():
                out[client] = max(seq, out.get(client, 0))
        return out


# ---- edits


def text_of(store: Store, row: int) -> pa.Table:
    """Return a row as a table of one, with the edits that hold."""
    one = store.rows().slice(row, 1)
    edit = store.verdicts.edit(one["uid"][0].as_py())
    return apply_edits(one, {0: edit}) if edit else one


def edits_of(store: Store, row: int, uid: str, fields: Mapping[str, Any], reason: str = "") -> list[Entry]:
    """Return the entries of an edit: fields that the row has and whose text differs from what holds.

    `row`: where the uid stood when its card was made; an import in between may have moved it or taken it away.
    """
    table = store.rows(columns=["uid"])
    if row >= table.num_rows or table["uid"][row].as_py() != uid:
        moved = pc.index(table["uid"], uid).as_py()
        if moved < 0:
            return []
        row = moved
    one = text_of(store, row).to_pylist()[0]
    out = []
    for name, text in fields.items():
        if name in {b["field"] for b in boxes_of(one)} and isinstance(text, str):
            stored, before = field_of(one, name)
            if text != before:
                out.append(Entry(uid, "edit", reason, stored, before, text))
    return out


def boxes_of(one: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the texts of a row that one may edit, each {"field", "role", "text"}, in the order of the turns.

    The last user turn with an input is two texts; every other turn is one.
    """
    turns = one["messages"]
    last = {m["role"]: k for k, m in enumerate(turns)}
    out = []
    for k, m in enumerate(turns):
        if m["role"] == "user" and k == last["user"] and one["input"]:
            out += [{"field": name, "role": name, "text": one[name]} for name in ("instruction", "input")]
            continue
        name = {"user": "instruction", "assistant": "response"}.get(m["role"], "") if k == last[m["role"]] else ""
        out.append({"field": name or f"messages[{k}]", "role": m["role"], "text": m["content"]})
    return out


# ---- questions of the card


def answer(ask: Mapping[str, Any], store: Store, spec: Spec, index: state.Index) -> dict[str, Any]:
    """Return the answer to a question of the card: {"what", "id", "n", ...}; texts are plain, for text nodes."""
    row, uid, what = int(ask["row"]), ask["id"], ask["what"]
    assert index.rows.slice(row, 1)["uid"][0].as_py() == uid, f"row {row} is not {uid}"
    found: dict[str, Any] = {"what": what, "id": uid, "n": ask["n"], "row": row}
    if what == "check":
        return {**found, **recheck(store, spec, row, ask["fields"])}
    if what == "edited":
        return {**found, **after_edit(store, spec, index, row)}
    if what == "diff":
        return {**found, **nearest(store, index, row)}
    assert what == "similar", what
    return {**found, "rows": [{"row": i, "score": f"{s:.2f}", **_opening(store, i)} for i, s in similar_to(store, row, SIMILAR)]}


def recheck(store: Store, spec: Spec, row: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the checks of single rows say of a row with these texts, and each text's diff to what holds now."""
    one = text_of(store, row)
    before = one.to_pylist()[0]
    texts = {b["field"]: b["text"] for b in boxes_of(before)}
    changed = {k: v for k, v in fields.items() if k in texts and isinstance(v, str) and v != texts[k]}
    draft = apply_edits(one, {0: changed}) if changed else one
    now, _ = run_table(draft, spec, scopes=("row",))
    then, _ = run_table(one, spec, scopes=("row",))
    return {"flags": shown(now.to_pylist()), **_told(then.to_pylist(), now.to_pylist()),
            "diffs": {k: pieces(texts[k], v) for k, v in changed.items()}}


def after_edit(store: Store, spec: Spec, index: state.Index, row: int) -> dict[str, Any]:
    """Return the word diff of a row as imported and as edited, and which flags of single rows went, stayed and came."""
    one, was = text_of(store, row), index.rows.slice(row, 1)
    texts = [{b["field"]: b["text"] for b in boxes_of(x.to_pylist()[0])} for x in (was, one)]
    then, now = (run_table(x, spec, scopes=("row",))[0].to_pylist() for x in (was, one))
    names = list(dict.fromkeys([*texts[0], *texts[1]]))
    diffs = {k: pieces(texts[0].get(k, ""), texts[1].get(k, "")) for k in names if texts[0].get(k, "") != texts[1].get(k, "")}
    return {"flags": shown(now), **_told(then, now), "diffs": diffs}


def _told(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many flags stayed, and the checks of those that went and came."""
    had, has = ({(f["check"], f["message"]) for f in flags} for flags in (then, now))
    return {"stayed": len(had & has), "gone": sorted(c for c, _ in had - has), "new": sorted(c for c, _ in has - had)}


def shown(flags: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return flags for the card, worst first."""
    order = sorted(flags, key=lambda f: (SEVERITIES.index(f["severity"]), -f["score"], f["check"]))
    return [{"check": f["check"], "severity": f["severity"], "score": f"{f['score']:.2f}", "message": f["message"], "span": False}
            for f in order]


def nearest(store: Store, index: state.Index, row: int) -> dict[str, Any]:
    """Return the row's nearest duplicate and the word diff of their texts: what only the other has, what only this has.

    The row that a duplicate check named with the highest score, else the row most like it.
    """
    flags = [f for f in index.flags_of(row) if f["check"].startswith("dup.") and f["related"]]
    if flags:
        best = max(flags, key=lambda f: f["score"])
        other, score, how = int(best["related"][0]), float(best["score"]), best["check"]
    else:
        found = similar_to(store, row, 1)
        if not found:
            return {"other": None, "how": "No other row has words in common with this one.", "fields": []}
        (other, score), how = found[0], "the row most like it; no duplicate check named one"
    here, there = (text_of(store, i).to_pylist()[0] for i in (row, other))
    fields = [{"name": name, "pieces": pieces(there[name] or "", here[name] or "")}
              for name in ("system", "instruction", "input", "response") if there[name] or here[name]]
    return {"other": other, "score": f"{score:.2f}", "how": how, "fields": fields}


def pieces(before: str, after: str) -> list[list[str]]:
    """Return the word diff of two texts as [op, text]; long stretches that are equal are cut to their ends."""
    out = []
    for op, text in word_diff(before[:COMPARED], after[:COMPARED]):
        if op == "equal" and len(text) > 3 * AROUND:
            out += [[op, text[:AROUND]], ["gap", f"{len(text) - 2 * AROUND:,}"], [op, text[-AROUND:]]]
        else:
            out.append([op, text])
    left = max(len(before), len(after)) - COMPARED
    return [*out, ["gap", f"{left:,}"]] if left > 0 else out


def _opening(store: Store, row: int) -> dict[str, Any]:
    one = text_of(store, row).to_pylist()[0]
    held = store.verdicts.decision(one["uid"])
    prompt = f"{one['instruction']}\n{one['input']}" if one["input"] else one["instruction"] or ""
    texts = {"prompt": prompt, "response": one["response"] or ""}
    return {**{k: v[:OPENING] + (" …" if len(v) > OPENING else "") for k, v in texts.items()},
            "verdict": "" if held is None else f"{held.verdict}ed"}


# ---- guidelines


def guidelines(spec: Spec) -> list[dict[str, Any]]:
    """Return what the spec asks of a row, as [{"head", "lines"}]: for the reader of a card, in plain words."""
    out = [{"head": spec.name, "lines": [x for x in (spec.description, f"Languages: {', '.join(spec.language)}") if x]}]
    general = _standard(spec.standards)
    if general:
        out.append({"head": "Every response", "lines": general})
    out += [{"head": f"Family {f.id}", "lines": _family(f)} for f in spec.families]
    policy = spec.refusals
    if policy.categories:
        lines = [f"Refuse {c.id}: {c.description or ', '.join(c.terms[:8])}"
                 + (f". Answer the look-alikes: {', '.join(c.benign[:8])}" if c.benign else "") for c in policy.categories]
        lines += [f"A refusal has at most {policy.max_sentences} sentences"] if policy.max_sentences else []
        lines += ["A refusal offers an alternative"] if policy.offers_alternative else []
        lines += [] if policy.lectures else ["A refusal does not lecture"]
        out.append({"head": "Refusals", "lines": lines})
    if spec.edge_cases:
        wanted = {"ask": "ask for what is missing", "name_conflict": "name the conflict", "correct": "correct what is untrue",
                  "decline": "say that it cannot be done"}
        out.append({"head": "Edge cases", "lines": [f"{e.id.replace('_', ' ')}: {wanted[e.expect]}" for e in spec.edge_cases]})
    return out


def _family(family: Family) -> list[str]:
    examples = [f"For example: {e}" for e in family.examples[:3]]
    return [x for x in (family.description, *_standard(family.response), *examples) if x]


def _standard(s: ResponseStandard) -> list[str]:
    lines = [f"Format: {s.format}"] if s.format != "free" else []
    lines += [f"Labels: {', '.join(s.labels)}"] if s.labels else []
    lines += [f"JSON keys: {', '.join(s.json_keys)}"] if s.json_keys else []
    if s.min_words is not None or s.max_words is not None:
        least = s.min_words or 0
        lines.append(f"At least {least:,} words" if s.max_words is None else f"Words: {least:,} to {s.max_words:,}")
    lines += [f"Never: {', '.join(s.banned)}"] if s.banned else []
    lines += [f"Always: {', '.join(s.required)}"] if s.required else []
    how = {"comply": "answer", "refuse": "refuse", "ask": "ask", "name_conflict": "name the conflict"}
    lines += [f"Responses {how[s.answers]}"] if s.answers != "any" else []
    t = s.tone
    lines += [f"Say {good!r}, not {bad!r}" for bad, good in t.prefer.items()]
    lines += ["Formal: no contractions, slang or emoji"] if t.formality == "formal" else []
    lines += ["Polite"] if t.polite else []
    lines += [f"Spelling: {t.spelling.upper()}"] if t.spelling != "any" else []
    lines += [f"Units: {t.units}"] if t.units != "any" else []
    lines += [f"Dates: {t.dates.replace('_', ' ')}"] if t.dates != "any" else []
    return lines
