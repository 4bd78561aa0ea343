"""Blind votes: sides, order, the log under kills and repeats, and what the counts prove."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from curation.train import votes
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import CurationError

from .behaviour_folder import write_result


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of 12 probes: the answers differ in all but the first two."""
    runs = []
    for name, mark in (("old", "x"), ("new", "y")):
        run = tmp_path / "runs" / name
        said = [f"same {k}" if k < 2 else f"{mark} {k}" for k in range(12)]
        write_result(run, [("label", "colour", f"Prompt {k}?", said[k], k % 2 == 0) for k in range(12)])
        runs.append(run)
    return runs[0], runs[1]


def vote(
    folder: Path, p: votes.Pairing, wanted: dict[str, str | None], *, actor: str = "ann", session: str = "s", first: int = 1
) -> int:
    """Vote for runs by name ("a", "b", "tie", None), whichever side they stand on."""
    entries = []
    for seq, (probe, run) in enumerate(wanted.items(), start=first):
        side = run if run in ("tie", None) else "left" if (run == "a") == p.left_is_a(actor, probe) else "right"
        entries.append({"seq": seq, "probe": probe, "vote": side})
    return votes.append(folder, p, actor, session, entries)


def test_only_answers_that_differ_are_shown_and_the_order_of_the_runs_makes_no_difference(two: tuple[Path, Path]) -> None:
    p = votes.pairing(*two)
    assert p == votes.pairing(two[1], two[0])
    assert (p.a, p.b, len(p.pairs), p.same) == ("new", "old", 10, 2)
    assert p.pairs[0].a == "y 2" and p.pairs[0].b == "x 2" and p.pairs[0].turns == (("user", "Prompt 2?"),)


def test_sides_and_order_are_random_and_stay(two: tuple[Path, Path]) -> None:
    p = votes.pairing(*two)
    ann = [x.id for x in p.order("ann")]
    assert ann == [x.id for x in votes.pairing(*two).order("ann")] and ann != [x.id for x in p.pairs]
    assert ann != [x.id for x in p.order("bo")] and sorted(ann) == sorted(x.id for x in p.pairs)
    many = [p.left_is_a("ann", f"probe {k}") for k in range(2_000)]
    assert 850 < sum(many) < 1150


def test_votes_are_kept_taken_back_and_not_stored_twice(two: tuple[Path, Path], tmp_path: Path) -> None:
    p = votes.pairing(*two)
    ids = [x.id for x in p.order("ann")]
    assert vote(tmp_path, p, {ids[0]: "a", ids[1]: "b", ids[2]: "tie"}) == 3
    assert vote(tmp_path, p, {ids[0]: "a", ids[1]: "b", ids[2]: "tie"}) == 0     # a browser that was not sure
    assert votes.standing(votes.read(tmp_path, p), "ann") == {ids[0]: "a", ids[1]: "b", ids[2]: "tie"}
    vote(tmp_path, p, {ids[1]: None}, first=4)
    vote(tmp_path, p, {ids[0]: "b"}, session="after a reload")
    assert votes.standing(votes.read(tmp_path, p), "ann") == {ids[0]: "b", ids[2]: "tie"}
    assert votes.standing(votes.read(tmp_path, p), "bo") == {}
    before = votes.path_of(tmp_path, p).read_bytes()
    vote(tmp_path, p, {ids[3]: "a"}, session="more")
    assert votes.path_of(tmp_path, p).read_bytes().startswith(before)           # lines are only added
    head = json.loads(before.split(b"\n")[0])
    assert (head["a"], head["b"], head["pairs"], head["same"]) == ("new", "old", 10, 2)
    with pytest.raises(AssertionError):
        votes.append(tmp_path, p, "ann", "s", [{"seq": 9, "probe": "no such", "vote": "left"}])


def test_a_torn_last_line_is_dropped_and_others_stay(two: tuple[Path, Path], tmp_path: Path) -> None:
    p = votes.pairing(*two)
    ids = [x.id for x in p.pairs]
    vote(tmp_path, p, {ids[0]: "a"})
    with votes.path_of(tmp_path, p).open("a") as f:
        f.write('{"probe": "x", "vo')
    assert votes.standing(votes.read(tmp_path, p), "ann") == {ids[0]: "a"}
    vote(tmp_path, p, {ids[1]: "b"}, first=2)
    assert votes.standing(votes.read(tmp_path, p), "ann") == {ids[0]: "a", ids[1]: "b"}
    with votes.path_of(tmp_path, p).open("a") as f:
        f.write("nonsense\n")
    with pytest.raises(CurationError, match="not a log of votes"):
        votes.read(tmp_path, p)


def test_readers_at_once_lose_nothing(two: tuple[Path, Path], tmp_path: Path) -> None:
    p = votes.pairing(*two)
    ids = [x.id for x in p.pairs]

    def one(actor: str) -> None:
        for k, probe in enumerate(ids, start=1):
            votes.append(tmp_path, p, actor, "s", [{"seq": k, "probe": probe, "vote": "tie"}])

    threads = [threading.Thread(target=one, args=(name,)) for name in ("ann", "bo", "cy")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    events = votes.read(tmp_path, p)
    assert len(events) == 30 and all(len(votes.standing(events, r)) == 10 for r in votes.readers(events))


def test_who_has_seen_the_sides_votes_no_more_but_others_may(two: tuple[Path, Path], tmp_path: Path) -> None:
    p = votes.pairing(*two)
    vote(tmp_path, p, {p.pairs[0].id: "a"})
    votes.reveal(tmp_path, p, "ann")
    votes.reveal(tmp_path, p, "ann")
    events = votes.read(tmp_path, p)
    assert votes.revealed(events, "ann") and not votes.revealed(events, "bo") and len(events) == 2
    with pytest.raises(CurationError, match="would not be blind"):
        vote(tmp_path, p, {p.pairs[1].id: "a"}, first=2)
    assert vote(tmp_path, p, {p.pairs[1].id: "a"}, actor="bo") == 1


def test_a_run_trained_again_begins_a_new_log(two: tuple[Path, Path]) -> None:
    p = votes.pairing(*two)
    path = two[0] / "battery.json"
    result = json.loads(path.read_text())
    result["probes"][5]["output"] += " more"
    path.write_text(json.dumps(result))
    assert votes.pairing(*two).id != p.id


def test_other_batteries_and_one_run_twice_are_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="named twice"):
        votes.pairing(two[0], two[0])
    write_result(tmp_path / "runs" / "third", [("label", "colour", "Another?", "z", True)])
    with pytest.raises(CurationError, match="did not answer the same battery"):
        votes.pairing(two[0], tmp_path / "runs" / "third")


def test_what_the_counts_prove(two: tuple[Path, Path], tmp_path: Path) -> None:
    p = votes.pairing(*two)
    ids = [x.id for x in p.pairs]
    found = votes.outcome(p, dict.fromkeys(ids[:8], "b") | {ids[8]: "tie"})
    assert (found["a"], found["b"], found["ties"], found["voted"], found["share"]) == (0, 8, 1, 9, 1.0)
    assert found["p"] == pytest.approx(2 / 2**8) and found["verdict"] == "b"
    assert found["difference"] == pytest.approx(8 / 9) and found["interval"][0] > 0.5
    assert "old is preferred beyond chance: old was chosen in 8 of 8" in votes.sentence(p, found)
    even = votes.outcome(p, dict.fromkeys(ids[:3], "b") | dict.fromkeys(ids[3:5], "a"))
    assert even["verdict"] == "cannot tell" and even["p"] == 1.0 and votes.sentence(p, even).startswith("Cannot tell")
    none = votes.outcome(p, {})
    assert none["share"] is None and none["interval"] is None and "No answer was preferred" in votes.sentence(p, none)


@given(st.lists(st.dictionaries(st.sampled_from("pqrs"), st.sampled_from(["a", "b", "tie"])), max_size=4))
def test_readers_together_are_mirrored_when_all_change_sides(held: list[dict[str, str]]) -> None:
    swap = {"a": "b", "b": "a", "tie": "tie"}
    other = votes.together([{k: swap[v] for k, v in h.items()} for h in held])
    assert other == {k: swap[v] for k, v in votes.together(held).items()}
    assert set(other) == {k for h in held for k in h}


def test_a_habit_of_one_side_shows(two: tuple[Path, Path], tmp_path: Path) -> None:
    p = votes.pairing(*two)
    entries: list[dict[str, Any]] = [{"seq": k, "probe": x.id, "vote": "left"} for k, x in enumerate(p.pairs, 1)]
    votes.append(tmp_path, p, "ann", "s", entries)
    votes.append(tmp_path, p, "ann", "s", [{"seq": 99, "probe": p.pairs[0].id, "vote": "right"}])
    assert votes.left_chosen(votes.read(tmp_path, p), "ann") == (9, 1)
