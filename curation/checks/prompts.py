"""Prompts that no plain answer fits: something is missing, or the instructions conflict."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..spec import Spec
from ..verifiers import verify
from .base import Findings, check, texts

_EXPECT = {"ask": ("answer:ask", "ask for what is missing"),
           "name_conflict": ("answer:name_conflict", "name the conflict")}

#: A thing the prompt says is handed over with it.
_THING = (r"(?:article|passage|paragraph|text|document|table|image|picture|photo(?:graph)?|chart|graph|diagram|figure|"
          r"file|attachment|spreadsheet|screenshot|email|letter|essay|poem|story|list|code|snippet|data ?set|data|"
          r"sentence|excerpt|transcript|recording|video|audio|resume|contract|report|review)")
_HANDED = re.compile(
    rf"\b(?:attached {_THING}|(?:the|this|my) attachment|{_THING} (?:attached|below|provided below|given below|shown below)"
    rf"|the following {_THING})\b", re.IGNORECASE)
_QUOTED = re.compile(r"[.?!]\s+\S+\s+\S+\s+\S+|[:\"“«`]|\n|https?://|\[[^\]]+\]|[{}<>=]")
_RESPONSE_ASKS = re.compile(
    r"\?|\b(?:please (?:provide|share|paste|attach|send|supply|include|give)|could you|can you|would you|need (?:the|more|to "
    r"(?:see|know))|no (?:text|article|passage|image|file|attachment|input)|not (?:provided|attached|given|included)|"
    r"don't see|do not see|can(?:'|no)t see|missing|unable to|cannot (?:see|access|view|open))\b", re.IGNORECASE)


def _in_edge_family(spec: Spec, family: pa.Array, sure: pa.Array, id: str) -> list[tuple[np.ndarray, str, str]]:
    """Return [(positions, family, expectation)] for the edge cases `id` of the spec."""
    out: list[tuple[np.ndarray, str, str]] = []
    for e in spec.edge_cases:
        if e.id == id and e.expect in _EXPECT:
            mask = pc.fill_null(pc.and_(pc.equal(family, e.family), sure), False)
            out.append((np.flatnonzero(np.asarray(mask)), e.family, e.expect))
    return out


def _unmet(found: Findings, rows: pa.Table, spec: Spec, family: pa.Array, sure: pa.Array, id: str) -> set[int]:
    """Add a flag for each row of an edge-case family whose response does not do what is expected; return all rows seen."""
    seen: set[int] = set()
    for at, name, expect in _in_edge_family(spec, family, sure, id):
        verifier, deed = _EXPECT[expect]
        sub = rows.take(pa.array(at))
        for i, instruction, given, response in zip(at.tolist(), texts(sub, "instruction"), texts(sub, "input"),
                                                   texts(sub, "response")):
            if i in seen:
                continue
            seen.add(i)
            prompt = f"{instruction}\n{given}" if given else instruction
            if response.strip() and not verify(verifier, response, {}, prompt=prompt):
                found.add(i, f"The family {name!r} is the edge case {id}: the response should {deed} and does not.",
                          span=(0, min(len(response), 160)))
    return seen


@check("prompt.missing_context", reads=("instruction", "input", "response"), severity="error", action="drop")
def missing_context(
    rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, *, min_family: float = 0.4, anywhere: bool = True,
) -> pa.Table:
    """The prompt lacks what it needs, and the response makes it up instead of asking.

    Why: the model learns to invent the article, the file or the number it was not given.
    Misses: vague tasks in which every slot is open; things that are missing without being named.
    False positives: with `anywhere`, prompts outside the edge-case families that hand over "the following text" and do
    not: a warning with score 0.6, for a person to look at.
    Source: CHECKS 36; spec: edge_cases with id missing_context; the deed is judged by the verifier answer:ask.
    `min_family`: family score from which a row counts as one of the family.
    """
    found = Findings(rows)
    seen = _unmet(found, rows, spec, family, pc.greater_equal(family_score, min_family), "missing_context")
    if not anywhere:
        return found.table()
    empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(rows["input"], ""))), 0)
    named = pc.match_substring_regex(rows["instruction"], "(?i)attach|follow|below")
    at = np.flatnonzero(np.asarray(pc.fill_null(pc.and_(empty, named), False)))
    sub = rows.take(pa.array(at))
    for i, instruction, response in zip(at.tolist(), texts(sub, "instruction"), texts(sub, "response")):
        m = _HANDED.search(instruction)
        if m is None or i in seen or not response.strip() or _QUOTED.search(instruction.strip()):
            continue
        if len(instruction.split()) <= _LONG_PROMPT and not _RESPONSE_ASKS.search(response[:400]) and not _MAKES.match(
                instruction):
            found.add(i, f"The prompt speaks of {m.group()!r} and gives none; the response answers as if it had it.",
                      field="instruction", span=m.span(), severity="warning", score=0.6)
    return found.table()


_LONG_PROMPT = 30       # words; a longer instruction may hold the thing itself
_MAKES = re.compile(r"\W*(?:write|create|generate|compose|make|design|draft|build|develop|come up with)\b", re.IGNORECASE)


@check("prompt.conflicting", reads=("instruction", "input", "response"), severity="error", action="drop")
def conflicting(
    rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, *, min_family: float = 0.4
) -> pa.Table:
    """The instructions exclude each other, and the response does not say so.

    Why: the model learns to drop one of two instructions in silence.
    Misses: conflicts outside the spec's edge-case families.
    False positives: responses that settle the conflict in words that the verifier does not know.
    Source: CHECKS 37; spec: edge_cases with id conflicting; the deed is judged by the verifier answer:name_conflict.
    `min_family`: family score from which a row counts as one of the family.
    """
    found = Findings(rows)
    _unmet(found, rows, spec, family, pc.greater_equal(family_score, min_family), "conflicting")
    return found.table()
