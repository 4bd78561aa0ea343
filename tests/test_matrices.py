"""The two matrices: every row in one cell, gaps by name, numbers that add up."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation import matrices as m
from curation.harm import CATEGORIES
from curation.spec import Spec, parse

SPEC = parse("""
families: [{id: clarify}, {id: no, response: {answers: refuse}}]
refusals:
  categories:
    - {id: weapons, terms: [bomb], benign: [bath bomb]}
    - {id: theft, terms: [steal]}
edge_cases: [{id: missing_context, family: clarify, expect: ask, min_rows: 2}]
""")


def signals(rows: pa.Table, lines: list[tuple[str, float, str, str, str]]) -> pa.Table:
    """Return signals from lines of (refusal, harm, category, family, edge)."""
    names = ("refusal", "harm", "harm_category", "family", "edge")
    columns = dict(zip(names, (list(c) for c in zip(*lines))))
    return pa.table({"row": rows["row"], "uid": rows["uid"], "family_score": [1.0] * rows.num_rows, **columns})


def test_each_row_is_in_one_cell_and_gaps_are_named() -> None:
    rows = make_rows([{"instruction": f"prompt {i}", "response": "x"} for i in range(6)])
    got = m.refusal_matrix(rows, signals(rows, [
        ("refuse", 1.0, "weapons", "", ""), ("comply", 1.0, "weapons", "", ""), ("refuse", 0.2, "weapons", "", ""),
        ("comply", 0.0, "", "", ""), ("refuse", 0.0, "", "", ""), ("refuse", 0.0, "", "no", "")]), SPEC)
    assert sum(got.cells["count"].to_pylist()) == 6
    assert got.cells.num_rows == 3 * 2 * 3 and got.categories == ("weapons", "theft", m.NO_CATEGORY)
    assert got.rows("weapons", "should refuse", "answered") == [1]
    assert got.rows(m.NO_CATEGORY, "should comply", "refused") == [4]
    assert got.rows(m.NO_CATEGORY, "should refuse", "refused") == [5]      # the family's standard outranks the harm
    assert "theft: no row shows the refusal" in got.gaps
    assert "theft: no benign contrast is answered, so the model may learn to refuse by the words alone" in got.gaps
    assert "weapons: 1 of 2 prompts that should be refused are answered" in got.gaps
    assert "weapons: no benign contrast is answered, so the model may learn to refuse by the words alone" in got.gaps
    assert "weapons: 1 of 1 benign look-alikes are refused or redirected" in got.gaps
    assert got.numbers["safety_rows"] == 3 and got.numbers["taxonomy"] == "spec" and got.gaps[0].startswith("50.0% of the rows")
    assert got.to_pandas().loc[("weapons", "should refuse")].tolist() == [1, 0, 1]


def test_without_a_policy_the_twelve_types_hold() -> None:
    rows = make_rows([{"instruction": "a", "response": "b"}])
    got = m.refusal_matrix(rows, signals(rows, [("partial", 0.9, "assisting crime", "", "")]), Spec())
    assert got.categories == (*CATEGORIES, m.NO_CATEGORY) and got.numbers["taxonomy"] == "do-not-answer"
    assert got.rows("assisting crime", "should refuse", "redirected") == [0]
    assert got.as_dict(rows=0)["cells"][0]["rows"] == []


def test_edge_cases_by_spec_and_by_signal() -> None:
    prompt = "Summarise the report I sent you."
    rows = make_rows([{"instruction": prompt, "response": "Could you please share the report you mean?"},
                      {"instruction": prompt, "response": "The report says that sales rose."},
                      {"instruction": "Why did Bach invent the piano?", "response": "Actually, Bach did not invent it."},
                      {"instruction": "What is 2 + 2?", "response": "4"}])
    got = m.edge_matrix(rows, signals(rows, [
        ("comply", 0.0, "", "clarify", ""), ("comply", 0.0, "", "clarify", ""), ("comply", 0.0, "", "", "false_premise"),
        ("comply", 0.0, "", "", "")]), SPEC)
    assert got.rows("missing_context", "ask", "asked") == [0] and got.rows("missing_context", "ask", "answered") == [1]
    assert got.rows("false_premise", "correct", "corrected") == [2]
    assert got.numbers == {"rows": 4, "edge_rows": 3, "by_spec": 2, "by_signal": 1, "right": 2, "right_share": 2 / 3}
    assert "missing_context: 1 row of 2 with what is wanted (ask), 1 short of 2" in got.gaps
    assert "conflicting: no row; nothing teaches to name the conflict" in got.gaps


def test_no_rows() -> None:
    rows = make_rows([])
    empty = pa.table({"row": rows["row"], "refusal": pa.array([], pa.string()), "harm": pa.array([], pa.float32()),
                      "harm_category": pa.array([], pa.string()), "family": pa.array([], pa.string()),
                      "family_score": pa.array([], pa.float32()), "edge": pa.array([], pa.string())})
    assert sum(m.refusal_matrix(rows, empty, SPEC).cells["count"].to_pylist()) == 0
    assert m.edge_matrix(rows, empty, SPEC).numbers["edge_rows"] == 0


def test_asking_back_on_a_plain_prompt_is_not_on_the_wrong_side() -> None:
    rows = make_rows([{"instruction": "Summarise this text.", "response": "Which text do you mean? Please send it."}])
    signals = pa.table({"refusal": ["other_safe"], "harm": [0.0], "harm_category": [""], "family": [""], "family_score": [0.0]})
    cells = m.refusal_matrix(rows, signals, Spec()).cells.to_pylist()
    held = [(c["category"], c["side"], c["answer"], c["right"]) for c in cells if c["count"]]
    assert held == [("(no category)", "should comply", "redirected", True)]
    assert not any(c["right"] for c in cells if c["answer"] == "redirected" and c["side"] == "should comply"
                   and c["category"] != "(no category)")
