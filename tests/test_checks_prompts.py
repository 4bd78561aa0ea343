"""Edge-case families: a response that invents what it was not given, or passes over a conflict."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import pyarrow as pa
from rows import make_rows

from curation.checks import prompts as p
from curation.spec import Spec, parse

SPEC = parse("""
families: [{id: clarify}, {id: conflict}, {id: plain}]
edge_cases:
  - {id: missing_context, family: clarify, expect: ask}
  - {id: conflicting, family: conflict, expect: name_conflict}
""")


def run(fn, *given, spec=SPEC, **options):
    rows = make_rows([{"instruction": a, "response": b} for a, b, _ in given])
    names = pa.array([f for *_, f in given], pa.string())
    return fn(rows, spec, names, pa.array([1.0] * len(given), pa.float32()), **options).to_pylist()


def test_missing_context_wants_a_question():
    prompt = "Summarise the report I sent you."
    invented = "The report says that sales rose by ten percent in the last year."
    flags = run(p.missing_context, (prompt, invented, "clarify"),
                (prompt, "Could you please share the report you mean?", "clarify"),
                (prompt, invented, "plain"))
    assert [(f["row"], f["start"], f["end"]) for f in flags] == [(0, 0, len(invented))]
    assert flags[0]["message"] == (
        "The family 'clarify' is the edge case missing_context: the response should ask for what is missing and does not.")


def test_conflicting_wants_it_named():
    prompt = "Write one word in exactly three sentences."
    flags = run(p.conflicting, (prompt, "Here is a story about a sunny day at the beach.", "conflict"),
                (prompt, "These two instructions conflict: one word cannot be three sentences. Which one?", "conflict"))
    assert [f["row"] for f in flags] == [0]
    assert "name the conflict" in flags[0]["message"]


@pytest.mark.parametrize(("prompt", "flagged"), [
    ("Summarize the following article", True), ("Edit the attached document for clarity", True),
    ("Summarize the following article: Cats sleep a lot.", False), ("Explain the concept of preferential attachment.", False),
    ("Is the following sentence true? Humans can breathe under water.", False), ("Write the following essay", False),
])
def test_absent_text_anywhere(prompt, flagged):
    response = "The article deals with the effects of climate change on farming."
    flags = run(p.missing_context, (prompt, response, ""), spec=Spec())
    assert [(f["severity"], f["field"]) for f in flags] == ([("warning", "instruction")] if flagged else [])
    assert run(p.missing_context, (prompt, "Please provide the article you want me to read.", ""), spec=Spec()) == []
    assert run(p.missing_context, (prompt, response, ""), spec=Spec(), anywhere=False) == []
