"""Policy verdicts, which copy stays, edits with renewed flags, and the rules of the gate."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation import engine, gate
from curation.errors import CurationError
from curation.spec import Spec, parse
from curation.store import Entry, Store

from .rows import make_rows

LONG = "The committee met on Monday and agreed to build the new bridge across the northern river before the winter comes."


def ready(path: Path, given: list[dict], spec: Spec) -> Store:
    store = Store.create(path)
    store.import_rows(make_rows(given).to_batches(), source="x")
    engine.check(store, spec)
    return store


def test_policy_drops_and_says_why(tmp_path: Path) -> None:
    spec = parse("name: t")
    store = ready(tmp_path, [{"instruction": "a", "response": LONG}, {"instruction": "b", "response": ""}], spec)
    assert gate.evaluate(store, spec).open_flags["response.empty"] == 1
    assert gate.apply_policy(store, spec) == {"response.empty": 1}
    state = gate.effective(store, spec)
    assert state.rejected.tolist() == [False, True]
    d = state.decisions[state.rows["uid"][1].as_py()]
    assert (d.verdict, d.kind, d.check_id) == ("reject", "policy", "response.empty") and "empty" in d.reason.lower()
    assert gate.apply_policy(store, spec) == {}, "a second call must write nothing"
    assert len(store.verdicts.history()) == 1


def test_of_copies_the_first_stays_unless_it_is_flawed_or_another_is_accepted(tmp_path: Path) -> None:
    spec = parse("name: t")
    given = [{"instruction": "Who?", "response": LONG}] * 3
    store = ready(tmp_path, given, spec)
    gate.apply_policy(store, spec)
    assert gate.effective(store, spec).rejected.tolist() == [False, True, True]
    other = ready(tmp_path / "b", given, spec)
    other.verdicts.append([Entry(other.rows()["uid"][2].as_py(), "accept")], actor="ann")
    gate.apply_policy(other, spec)
    assert gate.effective(other, spec).rejected.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("keep", "stays", "why"),
    [
        ("[verdict, flags, first]", 0, "because it comes first"),
        ("[verdict, most n_words]", 2, "because it has most n_words (21 against 20)"),
        ("[least n_words]", 1, "because it has least n_words (19 against 20)"),
        ("[longest]", 2, "because its response is longer"),
        ("[shortest, first]", 1, "because its response is shorter"),
    ],
)
def test_which_copy_stays_is_the_specs_and_the_verdict_says_why(tmp_path: Path, keep: str, stays: int, why: str) -> None:
    spec = parse(f"name: t\nkeep: {keep}\nchecks:\n  dup.near: {{threshold: 0.6}}")
    texts = [LONG, LONG.replace(" new", ""), LONG.replace("bridge", "new bridge")]
    given = [{"instruction": "What did the committee decide on Monday?", "response": text} for text in texts]
    store = ready(tmp_path, given, spec)
    gate.apply_policy(store, spec)
    state = gate.effective(store, spec)
    assert np.flatnonzero(~state.rejected).tolist() == [stays]
    reason = state.decisions[state.rows["uid"][0 if stays else 2].as_py()].reason
    assert reason.startswith("near-duplicate (") and f"of row {stays}, which is kept because" in reason
    assert reason.endswith(why)


def test_keep_names_a_known_number(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=r"keep\.0: .*'most n_wrods' does not rank rows; did you mean 'most n_words'"):
        parse("name: t\nkeep: [most n_wrods]")
    with pytest.raises(CurationError, match=r"'most refusal' does not rank rows"):
        parse("keep: [most refusal]")
    spec = parse("keep: [most train_loss_first]")
    store = ready(tmp_path, [{"instruction": "Who?", "response": LONG}] * 2, spec)
    with pytest.raises(CurationError, match="this folder has no signal train_loss_first"):
        gate.apply_policy(store, spec)


def test_a_person_is_not_overruled_by_the_policy(tmp_path: Path) -> None:
    spec = parse("name: t")
    store = ready(tmp_path, [{"instruction": "a", "response": ""}], spec)
    store.verdicts.append([Entry(store.rows()["uid"][0].as_py(), "accept", "silence is the answer")], actor="ann")
    assert gate.apply_policy(store, spec) == {}
    result = gate.evaluate(store, spec)
    assert result.passed and not result.open_flags


def test_a_fix_is_applied_to_views_and_messages_and_clears_the_flag(tmp_path: Path) -> None:
    spec = parse("checks:\n  response.mojibake: {action: fix}\n")
    broken = "The cafÃ© on the corner serves crÃ¨me brÃ»lÃ©e every day."
    store = ready(tmp_path, [{"instruction": "Tell me about the place.", "response": broken}], spec)
    assert gate.evaluate(store, spec).open_flags == {"response.mojibake": 1}
    assert gate.apply_policy(store, spec) == {"response.mojibake": 1}
    state = gate.effective(store, spec)
    assert state.edited.tolist() == [True]
    want = "The café on the corner serves crème brûlée every day."
    assert state.rows["response"][0].as_py() == want
    assert state.rows["messages"][0].as_py()[-1] == {"role": "assistant", "content": want}
    assert store.rows()["response"][0].as_py() == broken, "the imported rows are immutable"
    assert gate.evaluate(store, spec, state).open_flags == {}
    store.verdicts.undo(actor="ann")
    assert gate.effective(store, spec).rows["response"][0].as_py() == broken


def test_an_edit_that_breaks_a_row_is_flagged_at_once(tmp_path: Path) -> None:
    spec = parse("name: t")
    store = ready(tmp_path, [{"instruction": "a", "response": LONG}], spec)
    assert gate.evaluate(store, spec).passed
    uid = store.rows()["uid"][0].as_py()
    store.verdicts.append([Entry(uid, "edit", field="response", before=LONG, after="")], actor="ann")
    assert gate.evaluate(store, spec).open_flags == {"response.empty": 1}


def test_with_views_changes_the_last_turns_only() -> None:
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "4"},
    ]
    out = gate.with_views(turns, "q", "ctx", "a")
    assert [t["content"] for t in out] == ["s", "1", "2", "q\nctx", "a"]
    assert turns[3]["content"] == "3", "the turns given are not changed"


def test_every_rule_of_the_gate_names_its_numbers(tmp_path: Path) -> None:
    spec = parse("""
families:
  - {id: qa, min_rows: 5, response: {answers: comply}}
  - {id: refusal, target: [0.5, 0.6]}
gate: {min_rows: 10, min_reviewed: 1}
checks: {response.mismatch: off}
""")
    store = ready(
        tmp_path, [{"instruction": f"Question {i}?", "response": LONG + str(i), "family": "qa"} for i in range(4)], spec
    )
    result = gate.evaluate(store, spec)
    assert not result.passed
    text = "\n".join(result.reasons)
    assert "4 rows are left, the spec wants at least 10" in text
    assert "persons have decided 0 rows, the spec wants 1" in text
    assert "family qa: 4 rows, 1 short of 5" in text
    assert "family refusal: 0 rows, 2 short of 2" in text
    assert result.sentence.startswith("Gate failed: 4 of 4 rows would be exported; 4 of ")


def test_min_score_keeps_the_flag_but_takes_it_out_of_the_count(tmp_path: Path) -> None:
    given = [{"instruction": "Who?", "response": ""}]
    spec = parse("checks:\n  response.empty: {min_score: 1.0}\n")
    store = ready(tmp_path, given, spec)
    assert gate.evaluate(store, spec).open_flags == {"response.empty": 1}
    ignored = parse("checks:\n  response.empty: {action: none}\n")
    assert gate.evaluate(store, ignored).open_flags == {}


def test_unchecked_rows_are_not_judged(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows(make_rows([{"instruction": "a", "response": "b"}]).to_batches(), source="x")
    with pytest.raises(CurationError, match="have not been checked"):
        gate.evaluate(store, parse("name: t"))


def test_kept_rows_are_ascending(tmp_path: Path) -> None:
    spec = parse("name: t")
    store = ready(tmp_path, [{"instruction": f"q{i}", "response": "" if i % 2 else LONG + str(i)} for i in range(6)], spec)
    gate.apply_policy(store, spec)
    assert np.array_equal(gate.effective(store, spec).kept, [0, 2, 4])


def test_a_milder_flag_of_a_drop_check_is_mended_not_dropped(tmp_path: Path) -> None:
    spec = parse("name: t")
    store = ready(tmp_path, [{"instruction": "Name a prime number.", "input": "<noinput>", "response": LONG}], spec)
    flag = store.flags(["response.placeholder"]).to_pylist()[0]
    assert (flag["severity"], flag["fix"], flag["field"]) == ("warning", "", "input")
    assert gate.apply_policy(store, spec) == {"response.placeholder": 1}
    state = gate.effective(store, spec)
    assert not state.rejected[0] and state.rows["input"][0].as_py() == ""
    assert state.rows["messages"][0].as_py()[0]["content"] == "Name a prime number."


def test_an_info_flag_asks_for_nothing(tmp_path: Path) -> None:
    spec = parse("checks:\n  response.empty: {severity: info}\n")
    store = ready(tmp_path, [{"instruction": "Who?", "response": ""}], spec)
    assert gate.apply_policy(store, spec) == {} and gate.evaluate(store, spec).open_flags == {}


def test_a_copy_that_a_person_rejected_is_not_the_one_that_stays(tmp_path: Path) -> None:
    spec = parse("name: t")
    store = ready(tmp_path, [{"instruction": "Who?", "response": LONG}] * 2, spec)
    store.verdicts.append([Entry(store.rows()["uid"][0].as_py(), "reject", "not this one")], actor="ann")
    assert gate.apply_policy(store, spec) == {}
    assert gate.effective(store, spec).rejected.tolist() == [True, False]


def talk() -> pa.Table:
    return make_rows([{"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"}, {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"}, {"role": "assistant", "content": "2"}]},
        {"instruction": "Sort.", "input": "b a", "response": "a b"}])


def edited(row: int, fields: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    rows = gate.apply_edits(talk(), {row: fields})
    one = rows.slice(row, 1).to_pylist()[0]
    other = rows.slice(1 - row, 1).to_pylist()[0]
    assert other == talk().slice(1 - row, 1).to_pylist()[0], "another row was changed"
    return [m["content"] for m in one["messages"]], {k: one[k] for k in ("system", "instruction", "input", "response")}


def test_any_turn_can_be_edited_and_its_view_follows() -> None:
    turns, views = edited(0, {"messages[0]": "Be long.", "messages[2]": "one"})
    assert turns == ["Be long.", "One?", "one", "Two?", "2"]
    assert views == {"system": "Be long.", "instruction": "Two?", "input": "", "response": "2"}
    turns, views = edited(0, {"messages[3]": "Three?", "messages[4]": "3"})
    assert turns[3:] == ["Three?", "3"] and (views["instruction"], views["response"]) == ("Three?", "3")


def test_the_field_edited_last_holds() -> None:
    assert edited(0, {"response": "a", "messages[4]": "b"})[0][4] == "b"
    assert edited(0, {"messages[4]": "b", "response": "a"})[0][4] == "a"


def test_a_user_turn_with_input_keeps_its_input_where_it_still_ends_with_it() -> None:
    views = edited(1, {"messages[0]": "Order.\nb a"})[1]
    assert (views["instruction"], views["input"], views["response"]) == ("Order.", "b a", "a b")
    turns, views = edited(1, {"messages[0]": "Order c d."})
    assert turns == ["Order c d.", "a b"] and (views["instruction"], views["input"]) == ("Order c d.", "")


def test_a_turn_the_row_does_not_have_is_left_out() -> None:
    assert edited(1, {"messages[7]": "x"})[0] == ["Sort.\nb a", "a b"]
    assert gate.turn_of("messages[12]") == 12 and gate.turn_of("response") is None and gate.turn_of("messages[-1]") is None
