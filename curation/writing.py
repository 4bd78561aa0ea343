"""Pairs that a person writes: looked at by the checks while they are written, then added behind the rows as a new version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from .engine import run_table
from .errors import CurationError
from .formats import PLAIN_ROWS
from .matrices import edge_matrix, refusal_matrix
from .model import ROWS
from .spec import Spec
from .store import Entry, Store
from .text import nearest, shorten, uid_of

_NEXT = {"": ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user", "tool"),
         "tool": ("assistant", "tool")}
LONGEST = 4 << 20       # characters of a pair, as for a line of an import


@dataclass(frozen=True)
class Pair:
    """A pair to write. `messages`: every turn as (role, content), ending with the assistant; the rest are views on it."""

    messages: tuple[tuple[str, str], ...]
    instruction: str
    input: str
    response: str
    family: str = ""        # as the writer says, "" = the signal decides
    meta: Mapping[str, str] = field(default_factory=dict)   # kept with the row: who drafted it, for instance

    @property
    def uid(self) -> str:
        return uid_of(self.messages)

    @property
    def system(self) -> str:
        return self.messages[0][1] if self.messages[0][0] == "system" else ""


def pair(
    messages: Sequence[Mapping[str, str]] | None = None, *, instruction: str = "", input: str = "", response: str = "",
    system: str = "", family: str = "", meta: Mapping[str, str] | None = None,
) -> Pair:
    """Return a pair from its turns, or from instruction, input and response.

    Raises CurationError, and says what to mend, when a prompt or a response is empty or the turns are out of order.
    """
    if messages is not None:
        if instruction or input or response or system:
            raise CurationError("both turns and fields are given", "give messages, or instruction, input and response")
        turns = tuple((str(m.get("role", "")), str(m.get("content", ""))) for m in messages)
        _in_order([role for role, _ in turns])
        instruction, response = next(text for role, text in reversed(turns) if role == "user"), turns[-1][1]
    else:
        prompt = f"{instruction}\n{input}" if input else instruction
        turns = (*((("system", system),) if system else ()), ("user", prompt), ("assistant", response))
    if not instruction.strip():
        raise CurationError("the prompt is empty", "write what a user would ask")
    if not response.strip():
        raise CurationError("the response is empty", "write what the model shall answer")
    text = "".join(content for _, content in turns)
    if len(text) > LONGEST:
        raise CurationError(f"the pair has {len(text):,} characters", f"at most {LONGEST:,} are taken")
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise CurationError(f"character {e.start} of the pair cannot be stored (a lone surrogate)", "take it out") from None
    return Pair(turns, instruction, input, response, family, dict(meta or {}))


def _in_order(roles: Sequence[str]) -> None:
    before = ""
    for k, role in enumerate(roles):
        if role not in _NEXT[before]:
            raise CurationError(f"turn {k} is {role!r}, expected {' or '.join(_NEXT[before])}",
                                "turns are system (once, first), then user and assistant in turn")
        before = role
    if before != "assistant":
        raise CurationError("the last turn is not the assistant's", "end with the answer that shall be learned")


# ---- looking at a pair before it is written


@dataclass(frozen=True)
class Look:
    """What the row checks say of a pair that is not written yet, and where it would count."""

    flags: tuple[dict[str, object], ...]    # columns of FLAGS
    refusals: tuple[str, str, str]          # (category, side, answer) of the refusal matrix
    edges: tuple[str, str, str] | None      # (kind, wanted, deed) of the edge matrix, None = no edge case
    family: str


def look(pairs: Sequence[Pair], spec: Spec) -> list[Look]:
    """Return what the row checks and the two matrices make of each pair. Nothing is written.

    Checks that hold a row against the others (duplicates, clusters) speak only after the next check run.
    """
    if not pairs:
        return []
    rows = _table(pairs, "look", 0).cast(ROWS)
    flags, signals = run_table(rows, spec, scopes=("row",))
    by_row: dict[int, list[dict[str, object]]] = {}
    for flag in flags.to_pylist():
        by_row.setdefault(flag["row"], []).append(flag)
    family = pc.fill_null(signals["family"], "").to_pylist()
    cells = [{row: (c["category"], c["side"], c["answer"]) for c in found.cells.to_pylist() for row in c["rows"]}
             for found in (refusal_matrix(rows, signals, spec), edge_matrix(rows, signals, spec))]
    return [Look(tuple(by_row.get(i, ())), cells[0][i], cells[1].get(i), family[i]) for i in range(len(pairs))]


# ---- writing


def write_pair(
    store: Store, messages: Sequence[Mapping[str, str]] | None = None, *, instruction: str = "", input: str = "",
    response: str = "", system: str = "", family: str = "", source: str = "written", actor: str,
    meta: Mapping[str, str] | None = None,
) -> str:
    """Add one pair behind the rows as a new version and return its uid; the log says who wrote it.

    All or nothing. Raises CurationError when the prompt or the response is empty, or when a row holds this pair already.
    The new row has no flags and signals until the next check, which looks only at what is new.
    """
    made = pair(messages, instruction=instruction, input=input, response=response, system=system, family=family, meta=meta)
    return write_pairs(store, [made], source=source, actor=actor)[0]


def write_pairs(store: Store, pairs: Sequence[Pair], *, source: str = "written", actor: str) -> list[str]:
    """Add pairs behind the rows as one new version and return their uids. See `write_pair`."""
    if not pairs:
        raise CurationError("there is no pair to write", "give a prompt and a response")
    uids = [p.uid for p in pairs]
    for k, uid in enumerate(uids):
        if uid in uids[:k]:
            raise CurationError(f"two of the pairs are the same: {shorten(pairs[k].instruction, 60)}", "write each once")
    with store.changing():
        n = 0
        if store.versions():
            rows = store.rows(columns=["uid"])
            n = rows.num_rows
            known = pc.index_in(pa.array(uids, pa.string()), value_set=rows["uid"]).to_pylist()
            _refuse_known(store, pairs, uids, known)
        store.import_rows(_table(pairs, source, n).to_batches(), source=source, detected="pairs written by hand", append=n > 0)
    what = f"wrote row {n}" if len(pairs) == 1 else f"wrote rows {n} to {n + len(pairs) - 1}"
    store.verdicts.append([Entry(uid, "clear", "written") for uid in uids], actor=actor, note=what)
    return uids


def _refuse_known(store: Store, pairs: Sequence[Pair], uids: Sequence[str], known: Sequence[int | None]) -> None:
    """Raise when a row holds one of the pairs, and say what has become of that row."""
    for made, uid, row in zip(pairs, uids, known, strict=True):
        if row is None:
            continue
        holds = store.verdicts.decisions().get(uid)
        edited = " and was edited since" if uid in store.verdicts.edits() else ""
        state = f" and is {'rejected' if holds.verdict == 'reject' else 'accepted'}" if holds and not edited else edited
        raise CurationError(f"row {row} holds exactly this pair{state}: {shorten(made.instruction, 60)}",
                            "accept or edit that row, or word this pair in another way")


def known_family(family: str, spec: Spec) -> None:
    """Raise CurationError for a family that the spec does not name; a spec without families takes any."""
    ids = [f.id for f in spec.families]
    if family and ids and family not in ids:
        close = nearest(family, ids)
        raise CurationError(f"{family!r} is not a family of the spec" + (f"; did you mean {close!r}?" if close else ""),
                            f"families: {', '.join(ids)}")


def _table(pairs: Sequence[Pair], source: str, first: int) -> pa.Table:
    """Return the pairs as an import hands rows over; the first is row `first`."""
    columns = {
        "row": range(first, first + len(pairs)), "uid": [p.uid for p in pairs],
        "id": [str(first + k) for k in range(len(pairs))],
        "messages": [[{"role": role, "content": text} for role, text in p.messages] for p in pairs],
        "system": [p.system for p in pairs], "instruction": [p.instruction for p in pairs],
        "input": [p.input for p in pairs], "response": [p.response for p in pairs],
        "family": [p.family or None for p in pairs], "source": [source] * len(pairs), "split": [None] * len(pairs),
        "meta": [json.dumps(dict(p.meta), ensure_ascii=False) for p in pairs],
    }
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in PLAIN_ROWS}, schema=PLAIN_ROWS)
