"""Groups at any threshold, what a decision stores, the queue of a browser session, and the page Duplicates without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

pytest.importorskip("streamlit")

from curation.app import pairs, state

from curation.clusters import clusters
from curation.gate import effective, policy_entries
from curation.spec import load
from curation.store import Entry, Store

from .app_groups import make_groups
from .test_app_pages import open_app, words

__all__ = ["open_app"]      # a fixture


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_groups(tmp_path / "s")


def linked(store: Store, kind: str = "copies") -> tuple[state.Index, pairs.Links]:
    index = state.build_index(store)
    return index, pairs.links_of(index, kind, (store.current() or {})["options"])


def groups(found: pairs.Groups) -> list[list[int]]:
    return sorted(found.of(g).tolist() for g in range(len(found)))


def test_groups_at_the_runs_threshold_are_the_policys(store: Store) -> None:
    _, links = linked(store)
    assert (links.low, links.cut) == (0.6, 0.8)
    assert groups(pairs.groups_at(links, 0.8)) == [[0, 1], [2, 3, 4], [5, 6]]
    assert groups(pairs.groups_at(links, 0.8)) == sorted(sorted([k, *m]) for k, m, _ in clusters(store.flags()))


def test_the_threshold_recounts_from_stored_similarities(store: Store) -> None:
    _, links = linked(store)
    at = {t: pairs.groups_at(links, t) for t in (0.6, 0.7, 0.8, 0.9, 0.93, 1.0)}
    assert groups(at[0.7]) == [[0, 1], [2, 3, 4], [5, 6], [10, 11], [12, 13]]
    assert groups(at[0.9]) == [[0, 1], [2, 4], [5, 6]]
    assert groups(at[1.0]) == [[5, 6]]
    assert [g.left_out for g in at.values()] == [6, 6, 4, 3, 2, 1]
    assert pairs.groups_at(links, 0.8).weakest.tolist() == pytest.approx([0.9, 0.8, 1.0])


@given(some.lists(some.tuples(some.integers(0, 30), some.integers(0, 30), some.floats(0.5, 1, width=32)), max_size=40),
       some.floats(0.5, 1), some.floats(0.5, 1))
def test_a_higher_threshold_never_takes_more_rows(found: list[tuple[int, int, float]], a: float, b: float) -> None:
    one, two, score = (np.array(c) for c in zip(*found, strict=True)) if found else (np.zeros(0, int),) * 3
    links = pairs.Links(one.astype(np.int64), two.astype(np.int64), score.astype(np.float32), 31, 0.5, 0.8)
    low, high = pairs.groups_at(links, min(a, b)), pairs.groups_at(links, max(a, b))
    assert high.left_out <= low.left_out
    whole = {r: g for g in range(len(low)) for r in low.of(g).tolist()}
    for g in range(len(high)):
        assert len({whole[r] for r in high.of(g).tolist()}) == 1


def test_conflicts_are_groups_of_all_the_rows_they_name(store: Store) -> None:
    _, links = linked(store, "conflicts")
    assert groups(pairs.groups_at(links, 0.0)) == [[7, 8, 9]]


def test_open_groups_are_those_that_still_ask(store: Store) -> None:
    index, links = linked(store)
    found = pairs.groups_at(links, 0.8)
    uid = store.rows()["uid"].to_pylist()
    store.verdicts.append([Entry(uid[1], "reject"), *(Entry(uid[k], "accept") for k in (5, 6, 2))], actor="t")
    verdicts = state.read_verdicts(store, index.rows)
    assert [found.of(g).tolist() for g in np.flatnonzero(pairs.open_groups(found, verdicts))] == [[2, 3, 4]]


def test_the_best_row_is_the_policys(store: Store) -> None:
    """Row 0 carries an error of another check, so row 1 is kept, as the policy has it."""
    index, links = linked(store)
    spec = load(store.path / "spec.yaml")
    verdicts = state.read_verdicts(store, index.rows)
    rank = pairs.ranking(index, verdicts, store, spec, pairs.weights(index, spec))
    found = pairs.groups_at(links, 0.8)
    kept = [pairs.best(rank, found.of(g)) for g in range(len(found))]
    gone = {e.uid for e in policy_entries(effective(store, spec), spec)}
    uid = store.rows()["uid"].to_pylist()
    assert kept == [1, 2, 5]
    assert gone == {uid[r] for g in range(len(found)) for r in found.of(g).tolist() if r not in kept}


@pytest.mark.parametrize(("did", "kind", "stored"), [
    ("left", "copies", {"b": "reject"}), ("right", "copies", {"a": "reject"}), ("both", "copies", {"a": "accept", "b": "accept"}),
    ("only", "copies", {"b": "reject", "c": "reject"}), ("all", "copies", {"a": "accept", "b": "accept", "c": "accept"}),
    ("left", "conflicts", {"a": "accept", "b": "reject"}), ("right", "conflicts", {"b": "accept", "a": "reject"}),
    ("only", "conflicts", {"a": "accept", "b": "reject", "c": "reject"}),
    ("neither", "conflicts", {"a": "reject", "b": "reject"}),
])
def test_what_a_decision_stores(did: str, kind: str, stored: dict[str, str]) -> None:
    entries, said = pairs.entries_for(did, kind, (0, "a"), (1, "b"), [(0, "a"), (1, "b"), (2, "c")])
    assert {e.uid: e.verdict for e in entries} == stored
    assert len(entries) == len(stored) and said


def test_a_row_that_was_rejected_is_kept_by_accepting_it(store: Store) -> None:
    way, _, index, desk = sitting_of(store)
    uid = store.rows()["uid"].to_pylist()
    store.verdicts.append([Entry(uid[0], "reject", "near-duplicate")], actor="policy", kind="policy")
    way.take({"client": "tab", "queue": "q", "pos": 0, "log": [
        {"seq": 1, "queue": "q", "group": 0, "did": "right", "left": uid[1], "right": uid[0]}]}, store, index, desk)
    assert {u: d.verdict for u, d in store.verdicts.decisions().items()} == {uid[0]: "accept", uid[1]: "reject"}


def test_a_merge_is_an_edit_and_a_reject() -> None:
    entries, said = pairs.merge_entries((0, "a"), (1, "b"), {"instruction": "x", "input": "", "response": "y"},
                                        {"instruction": "x", "response": "z"})
    assert [(e.uid, e.verdict, e.field, e.before, e.after) for e in entries] == [
        ("a", "edit", "response", "y", "z"), ("b", "reject", None, None, None)]
    assert said == "merge row 1 into row 0"
    with pytest.raises(AssertionError):
        pairs.merge_entries((0, "a"), (1, "b"), {"response": "y"}, {"messages": "z"})


def sitting_of(store: Store) -> tuple[pairs.Way, pairs.Sitting, state.Index, state.Desk]:
    index, links = linked(store)
    found = pairs.groups_at(links, 0.8)
    spec = load(store.path / "spec.yaml")
    rank = pairs.ranking(index, state.read_verdicts(store, index.rows), store, spec, pairs.weights(index, spec))
    sitting = pairs.Sitting("q", "copies", found, [0, 1, 2], rank)
    way = pairs.Way()
    way.add(sitting)
    return way, sitting, index, state.Desk("ann")


def test_the_browsers_log_is_stored_once_and_in_order(store: Store) -> None:
    way, sitting, index, desk = sitting_of(store)
    uid = store.rows()["uid"].to_pylist()
    log: list[dict[str, Any]] = [
        {"seq": 1, "queue": "q", "group": 0, "did": "left", "left": uid[1], "right": uid[0]},
        {"seq": 2, "queue": "q", "group": 1, "did": "skip", "left": uid[2], "right": uid[3]},
        {"seq": 3, "queue": "q", "did": None},
        {"seq": 4, "queue": "q", "group": 2, "did": "both", "left": uid[5], "right": uid[6]},
        {"seq": 5, "queue": "q", "did": None},
        {"seq": 6, "queue": "q", "group": 1, "did": "merge", "left": uid[2], "right": uid[3], "keep": uid[3],
         "fields": {"instruction": "Say hello to Tom.", "response": "Hello!"}},
    ]
    said = {"client": "tab", "log": log[:4], "pos": 2, "queue": "q"}
    way.take(said, store, index, desk)
    way.take(said, store, index, desk)
    way.take({**said, "log": log[2:], "pos": 99}, store, index, desk)
    assert way.acked == {"tab": 6} and sitting.pos == 3 and sitting.queue == [0, 1, 2] and sitting.decided == 2
    decided = {u: d.verdict for u, d in store.verdicts.decisions().items()}
    assert decided == {uid[0]: "reject", uid[2]: "reject", uid[3]: "accept"}
    assert store.verdicts.edits() == {uid[3]: {"instruction": "Say hello to Tom.", "response": "Hello!"}}
    # a tab that is opened anew counts from 1 again
    way.take({"client": "other", "log": [{"seq": 1, "queue": "q", "did": None}], "pos": 1, "queue": "q"}, store, index, desk)
    assert store.verdicts.edits() == {}


def test_only_and_all_leave_rejected_rows_alone(store: Store) -> None:
    way, _, index, desk = sitting_of(store)
    uid = store.rows()["uid"].to_pylist()
    store.verdicts.append([Entry(uid[4], "reject", "before")], actor="t")
    way.take({"client": "tab", "queue": "q", "pos": 0, "log": [
        {"seq": 1, "queue": "q", "group": 1, "did": "all", "left": uid[2], "right": uid[3]}]}, store, index, desk)
    assert {u: d.verdict for u, d in store.verdicts.decisions().items()} == {uid[2]: "accept", uid[3]: "accept", uid[4]: "reject"}


def test_views_hold_the_diff_both_ways(store: Store) -> None:
    _, sitting, index, _ = sitting_of(store)
    verdicts = state.read_verdicts(store, index.rows)
    view = pairs.views(index, verdicts, sitting, [0])[0]
    assert [r["row"] for r in view["rows"]] == [1, 0] and view["n"] == 2
    assert [f["check"] for f in view["rows"][1]["flags"]] == ["response.empty"]
    diff = view["pairs"][view["rows"][1]["id"]]["diff"]["response"]
    assert "".join(t for op, t in diff if op != 2) == "The apple is red and very sweet."
    assert "".join(t for op, t in diff if op != 1) == "The apple is red and sweet."


# ---- the page


def test_the_page_counts_and_filters(open_app: Any, store: Store) -> None:
    at = open_app(store.path, "duplicates")
    assert "**3 groups** of 7 rows, **3 open**" in words(at) and "**4 rows go** and 116 of 120 stay" in words(at)
    at.slider(key="dup_at_copies").set_value(0.6).run()
    assert "**5 groups** of 11 rows" in words(at) and not at.exception
    at = open_app(store.path, "duplicates", dup_kind="Conflicts")
    assert "**1 prompt** whose answers clash, 3 rows" in words(at)


def test_one_of_each_group_is_kept_with_one_undo(open_app: Any, store: Store) -> None:
    at = open_app(store.path, "duplicates")
    at.button(key="dup_all").click().run()
    uid = store.rows()["uid"].to_pylist()
    assert {u: d.verdict for u, d in store.verdicts.decisions().items()} == dict.fromkeys(
        [uid[0], uid[3], uid[4], uid[6]], "reject")
    assert "**0 open**" in words(at) and len(store.verdicts.history()) == 1
    at.button(key="dup_undo").click().run()
    assert store.verdicts.decisions() == {} and "**3 open**" in words(at)


def test_the_page_teaches_when_there_is_nothing(open_app: Any, tmp_path: Path) -> None:
    from .app_folder import make_folder

    make_folder(tmp_path / "bare", checked=False)
    assert "Nothing to compare yet" in words(open_app(tmp_path / "bare", "duplicates"))
    make_folder(tmp_path / "s")
    assert "These checks have not run" in words(open_app(tmp_path / "s", "duplicates", dup_kind="Conflicts"))
