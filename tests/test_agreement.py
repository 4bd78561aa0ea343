"""Second readings: who is drawn, kappa and its interval, what disagrees, and how often a check is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import agreement, review
from curation.agreement import Reading
from curation.cli import cli
from curation.spec import parse
from curation.store import ASKING, READING, Entry, Store

from .app_folder import make_folder
from .rows import make_rows

SPEC = parse("name: t")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "s")
    store.import_rows(make_rows([{"instruction": f"Q{i}", "response": f"A{i}"} for i in range(60)]).to_batches(), source="x")
    return store


def uid(store: Store, row: int) -> str:
    return store.rows()["uid"][row].as_py()


def say(store: Store, actor: str, verdicts: dict[int, str], kind: str = "person") -> None:
    for row, verdict in verdicts.items():
        store.verdicts.append([Entry(uid(store, row), verdict, "why" if verdict == "reject" else "")], actor=actor, kind=kind)


def test_drawn_rows_are_those_of_others_in_an_order_by_chance_that_stays(store: Store) -> None:
    say(store, "ann", {i: "accept" for i in range(40)})
    say(store, "bo", {i: "reject" for i in range(40, 50)})
    store.verdicts.append([Entry(uid(store, i), "accept") for i in (50, 51)], actor="ann")      # on many rows: no reading
    drawn = [r["row"] for r in agreement.to_read_again(store, "bo")]
    assert sorted(drawn) == list(range(40)) and drawn != sorted(drawn)
    assert drawn != [r["row"] for r in agreement.to_read_again(store, "bo", seed=1)]
    say(store, "ann", {52: "accept"})
    again = [r["row"] for r in agreement.to_read_again(store, "bo")]
    assert [r for r in again if r != 52] == drawn       # a row more does not move the others
    assert sorted(r["row"] for r in agreement.to_read_again(store, "ann")) == list(range(40, 50))
    assert len(review.queue(store, SPEC, "second", 5, reader="cy")) == 5


def test_a_row_put_before_a_second_reader_comes_first_and_not_to_the_one_who_asked(store: Store) -> None:
    say(store, "ann", {0: "accept", 1: "accept"})
    say(store, "ann", {7: "ask"}, ASKING)
    first = agreement.to_read_again(store, "bo")[0]
    assert (first["row"], first["reason"]) == (7, "put before a second reader by ann")
    assert agreement.to_read_again(store, "ann") == []
    say(store, "bo", {7: "accept"})
    assert 7 not in [r["row"] for r in agreement.to_read_again(store, "cy") if r["reason"].startswith("put")]


def test_agreement_counts_drawn_blind_readings_alone(store: Store) -> None:
    assert agreement.agreement(store).n == 0 and "No row" in agreement.agreement(store).sentence
    say(store, "ann", {i: "accept" if i < 12 else "reject" for i in range(20)})
    say(store, "bo", {i: "accept" if i < 10 or i >= 18 else "reject" for i in range(20)}, READING)
    say(store, "ann", {30: "accept", 31: "accept"})
    say(store, "ann", {30: "ask"}, ASKING)
    say(store, "bo", {30: "reject"}, READING)       # asked for: it is read twice, but it was not drawn
    say(store, "bo", {31: "reject"})                # seen: a disagreement, but not a blind reading
    found = agreement.agreement(store)
    assert found.table == {"accept/accept": 10, "accept/reject": 2, "reject/accept": 2, "reject/reject": 6}
    assert (found.n, found.same, found.asked, found.open, found.readers) == (20, 16, 1, 6, {"ann/bo": 20})
    assert found.raw == pytest.approx((0.8, 0.5840, 0.9193), abs=1e-4)      # Wilson, as R's prop.test gives it uncorrected
    assert found.kappa is not None and found.kappa[0] == pytest.approx(7 / 12)     # (.8 - .52) / (1 - .52)
    assert 0.1 < found.kappa[1] < found.kappa[0] < found.kappa[2] <= 1.0
    assert agreement.agreement(store) == found
    assert found.sentence.startswith("16 of 20 rows read twice got the same verdict (.80 [.58, .92]); Cohen's kappa .58 [")


def test_kappa_is_that_of_sklearn_and_none_where_it_is_not_defined(store: Store) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(50):
        table = rng.integers(0, 9, (2, 2))
        a, b = np.repeat([0, 0, 1, 1], table.ravel()), np.repeat([0, 1, 0, 1], table.ravel())
        ours = float(agreement.kappa(table))
        if np.isnan(ours):
            assert len(set(a.tolist()) | set(b.tolist())) <= 1
        else:
            assert ours == pytest.approx(metrics.cohen_kappa_score(a, b), abs=1e-12)
    say(store, "ann", {i: "accept" for i in range(5)})
    say(store, "bo", {i: "accept" for i in range(5)}, READING)
    found = agreement.agreement(store)
    assert found.kappa is None and found.raw[0] == 1.0 and "not defined" in found.sentence


def test_a_disagreement_waits_until_somebody_decides(store: Store) -> None:
    say(store, "ann", {0: "accept", 1: "accept", 2: "reject", 3: "accept"})
    say(store, "bo", {0: "reject", 1: "accept", 2: "accept"}, READING)
    say(store, "bo", {3: "reject"})
    listed = review.queue(store, SPEC, "disagreement")
    assert [r["row"] for r in listed] == [0, 2, 3]
    assert listed[0]["reason"] == "ann: accept · bo: reject (why)" and listed[2]["reason"].endswith("(seen)")
    assert store.verdicts.decisions()[uid(store, 0)].verdict == "accept"        # a second reading decides nothing
    say(store, "cy", {0: "reject"})
    assert [r["row"] for r in review.queue(store, SPEC, "disagreement")] == [2, 3]
    found = agreement.agreement(store)
    assert (found.n, found.open, found.settled) == (3, 2, 1)
    store.verdicts.undo(actor="cy")
    assert [r["row"] for r in review.queue(store, SPEC, "disagreement")] == [0, 2, 3]


def test_an_edit_counts_as_accept_and_a_change_of_mind_is_no_disagreement(store: Store) -> None:
    store.verdicts.append([Entry(uid(store, 0), "edit", field="response", after="x")], actor="ann")
    say(store, "ann", {1: "accept"})
    say(store, "ann", {1: "reject"})
    say(store, "bo", {0: "accept", 1: "reject"}, READING)
    assert agreement.agreement(store).same == 2 and agreement.disagreements(store) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("uv"), st.sampled_from("abc"), st.sampled_from(["accept", "reject", "clear", "ask"]),
                          st.sampled_from(["person", READING])), max_size=14))
def test_pairs_are_of_two_persons_and_open_ones_disagree(log: list[tuple[str, str, str, str]]) -> None:
    entries = [{"uid": u, "actor": a, "verdict": v, "reason": "", "action": i, "at": "", "alone": True,
                "kind": ASKING if v == "ask" else k} for i, (u, a, v, k) in enumerate(log) if not (v == "clear" and k == READING)]
    found = agreement.readings(entries)
    for pair in found.pairs:
        assert pair.first.actor != pair.second.actor and pair.first.action < pair.second.action
        assert pair.settled is None or pair.settled.action > pair.second.action
    assert all(not p.same and p.settled is None for p in found.open())
    for u, by in found.asked.items():
        assert not any(e["uid"] == u and e["action"] > by.action and e["actor"] != by.actor for e in entries)


@pytest.mark.parametrize(("hits", "n", "low", "high"), [(14, 20, 0.4810, 0.8545), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)])
def test_wilson_as_published(hits: int, n: int, low: float, high: float) -> None:
    assert agreement.wilson(hits, n) == pytest.approx((hits / n, low, high), abs=1e-4)
    assert agreement.shown(agreement.wilson(14, 20)) == ".70 [.48, .85]"


def test_precision_counts_the_drawn_rows_as_far_as_they_are_decided() -> None:
    uids = pa.chunked_array([[f"u{i}" for i in range(400)]])
    flagged = np.arange(0, 400, 2)
    order = [f"u{flagged[k]}" for k in agreement.chance_order(uids.take(pa.array(flagged))).tolist()]

    def said(uid: str, verdict: str) -> dict[str, Reading]:
        return {uid: Reading("ann", verdict, "", 1, "")}

    told: dict[str, Reading] = {}
    for k, u in enumerate(order[:20]):
        told |= said(u, "accept" if k < 6 else "reject" if k < 15 else "edit")
    found = agreement.precision(uids, flagged, told, "c")
    assert (found.right, found.n, found.sentence) == (14, 20, "14 of 20 right, .70 [.48, .85]")
    for u in order[150:200]:
        told |= said(u, "accept")       # far from the beginning: worked through in another order
    assert agreement.precision(uids, flagged, told, "c").n == 20
    del told[order[3]], told[order[4]], told[order[5]]
    assert agreement.precision(uids, flagged, told, "c").n == 3         # too many were left out
    assert agreement.precision(uids, flagged, {}, "c").n == 0


def test_the_sample_queue_feeds_the_precision_of_its_check(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    spec = parse("name: t")
    rows = [r["row"] for r in review.queue(store, spec, "sample", check="response.empty")]
    assert sorted(rows) == list(range(12)) and rows != sorted(rows)
    assert review.queue(store, spec, "sample", 5, check="response.empty") == review.queue(
        store, spec, "sample", 12, check="response.empty")[:5]
    say(store, "ann", {rows[0]: "reject", rows[1]: "accept"})
    assert next(r["row"] for r in review.queue(store, spec, "sample", check="response.empty")) == rows[2]
    (found,) = review.precisions(store, spec, ["response.empty"])
    assert (found.right, found.n) == (1, 2)
    assert {p.check for p in review.precisions(store, spec)} >= {"response.empty"}


def test_the_command_line_says_agreement_and_precision(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")

    def said(*argv: str) -> Any:
        done = CliRunner().invoke(cli, ["review", str(store.path), *argv])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in argv else done.stdout

    assert "no drawn row is decided yet" in said("--precision") and "No row has been read twice" in said("--agreement")
    say(store, "ann", {0: "reject", 1: "accept"})
    say(store, "bo", {0: "accept", 1: "accept"}, READING)
    found = said("--agreement", "--precision", "--json")
    assert (found["agreement"]["n"], found["agreement"]["same"], found["agreement"]["open"]) == (2, 1, 1)
    assert isinstance(found["precision"], list)
    assert [r["row"] for r in said("--queue", "disagreement", "--json")] == [0]
    say(store, "ann", {5: "accept"})
    assert [r["row"] for r in said("--queue", "second", "--actor", "bo", "--json")] == [5]
    assert said("--queue", "second", "--actor", "ann", "--json") == []
    assert {r["check"] for r in said("--queue", "sample", "--check", "response.empty", "--json")} == {"response.empty"}
