"""The sensor: losses visit by visit, regions, forgetting, and that planted wrong labels come to the top of the queue."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from curation.train import compile as compiler
from curation.train import runs, sensor, sft, tiny
from curation.train.runs import Recipe

from curation.errors import CurationError
from curation.model import MESSAGES
from curation.store import Store, read_arrow

from .rows import make_rows

SAMPLE = Path(__file__).parents[1] / "sample_data"


def visits(*seen: tuple[int, float, float]) -> np.ndarray:
    return np.array(list(seen), sensor.VISIT)


def of(seen: np.ndarray, n: int, **more: np.ndarray) -> pa.Table:
    return sensor.table(np.arange(n) + 10, [f"u{i}" for i in range(n)], seen, **more)


def test_each_row_keeps_its_visits_in_order() -> None:
    t = of(visits((1, 3.0, 0.0), (0, 2.0, 0.5), (1, 1.0, 1.0)), 3)
    assert t["row"].to_pylist() == [10, 11, 12]
    assert t["losses"].to_pylist() == [[2.0], [3.0, 1.0], []]
    assert t["train_loss_first"].to_pylist() == [2.0, 3.0, None]
    assert t["train_loss_last"].to_pylist() == [2.0, 1.0, None]
    assert t["loss_drop"].to_pylist() == [0.0, 2.0, None]
    assert t["confidence"][1].as_py() == pytest.approx((np.exp(-3) + np.exp(-1)) / 2)
    assert t["variability"].to_pylist()[0] is None and t["region"].to_pylist()[::2] == ["", ""]


def test_a_row_is_forgotten_when_it_was_right_and_is_wrong_at_the_next_visit() -> None:
    t = of(visits((0, 0.1, 1.0), (1, 0.1, 1.0), (0, 2.0, 0.5), (1, 0.1, 1.0), (0, 0.1, 1.0), (0, 1.0, 0.0)), 2)
    assert t["forgotten"].to_pylist() == [2, 0]


def test_regions_by_thirds() -> None:
    believed = {0: (0.9, 0.9), 1: (0.9, 0.88), 2: (0.05, 0.06), 3: (0.05, 0.05), 4: (0.1, 0.9), 5: (0.9, 0.1)}
    seen = [(at, -np.log(p[k]), 1.0) for k in range(2) for at, p in believed.items()]
    assert of(visits(*seen), 6)["region"].to_pylist() == ["easy", "easy", "hard", "hard", "ambiguous", "ambiguous"]


def test_the_answer_alone_gives_ifd() -> None:
    t = of(visits((0, 1.0, 0.0)), 1, final=np.array([np.log(2.0)]), alone=np.array([np.log(8.0)]))
    assert t["train_loss_final"][0].as_py() == pytest.approx(np.log(2)) and t["ifd"][0].as_py() == pytest.approx(0.25)


def test_a_row_is_held_against_its_own_family() -> None:
    """A story no model can foresee is not wrong; a label that the others of its family make plain is."""
    stories, labels = 20, 20
    seen = [(i, 3.0, 0.0) for i in range(stories)] * 2
    seen += [(stories + i, 2.5 if i == 4 else 0.05, 1.0) for i in range(labels)] * 2
    entries = sensor.queue(of(visits(*seen), 40), ["story"] * stories + ["label"] * labels, "r0")
    assert [e["uid"] for e in entries] == ["u24"]
    assert "gives its answer 8% a token over 2 visits" in entries[0]["reason"]


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 20), st.floats(0, 1)), max_size=40))
def test_numbers_stay_in_range(seen: list[tuple[int, float, float]]) -> None:
    t = of(visits(*seen), 5)
    assert sum(len(x) for x in t["losses"].to_pylist()) == len(seen)
    for value in t["confidence"].to_pylist():
        assert value is None or 0 <= value <= 1
    score = sensor.surprise(t, ["a", "b", "a", "b", ""])
    assert np.isnan(score).tolist() == [x is None for x in t["confidence"].to_pylist()]
    queue = sensor.queue(t, ["a", "b", "a", "b", ""], "r")
    assert [e["score"] for e in queue] == sorted((e["score"] for e in queue), reverse=True)
    assert all(0 < e["score"] <= 1 for e in queue)


def test_a_run_without_losses_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="kept no row losses"):
        sensor.read(tmp_path)


def label_rows() -> tuple[list[dict[str, object]], set[int]]:
    """Return the rows of the sample's label family and the numbers of those with a planted wrong label."""
    answers = json.loads((SAMPLE / "answers.json").read_text(encoding="utf-8"))
    lines = (SAMPLE / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    mine = [i for i, _ in enumerate(lines) if answers["families"].get(str(i)) == "label"]
    planted = {int(i) for i, entry in answers["rows"].items() if "dup.conflict" in entry["flaws"]}
    return [{"row": i, **json.loads(lines[i])} for i in mine], planted & set(mine)


def test_planted_wrong_labels_come_to_the_top_of_the_queue(tmp_path: Path) -> None:
    """At least five times as many in the top decile as anywhere; the run leaves the queue in the dataset folder."""
    rows, planted = label_rows()
    folder = tmp_path / "set"
    given = [{"instruction": r["instruction"], "input": r["input"], "response": r["output"]} for r in rows]
    store = Store.create(folder)
    store.import_rows(make_rows(given).to_batches(), source="label rows")
    uids = store.rows(columns=["uid"])["uid"].to_pylist()
    made = folder / "vetted" / "1"
    made.mkdir(parents=True)
    turns = [
        [
            {"role": "user", "content": "\n".join(x for x in (r["instruction"], r["input"]) if x)},
            {"role": "assistant", "content": r["output"]},
        ]
        for r in rows
    ]
    numbers = [r["row"] for r in rows]
    columns = {
        "row": pa.array(numbers, pa.int64()),
        "uid": pa.array(uids),
        "family": pa.array(["label"] * len(rows)),
        "messages": pa.array(turns, MESSAGES),
    }
    pq.write_table(pa.table(columns), made / "train.parquet")
    pq.write_table(pa.table(columns).slice(0, 0), made / "validation.parquet")
    run_dir = folder / "runs" / "r0"
    recipe = Recipe(set=str(made), epochs=6.0, row_losses="ifd")
    runs.create(run_dir, recipe)
    sft.train_runs([run_dir])
    losses = sensor.read(run_dir)
    assert losses["losses"].to_pylist() and all(len(x) >= 5 for x in losses["losses"].to_pylist())
    assert all(x > 0 for x in losses["ifd"].to_pylist())
    lines = (folder / "queues" / "hard-r0.jsonl").read_text(encoding="utf-8").splitlines()
    queue = [json.loads(line) for line in lines]
    assert len(queue) <= round(0.1 * len(rows))
    (kept,) = (folder / "signals").glob("asked.training-*.arrow")
    signals = read_arrow(kept)
    last = dict(zip(losses["uid"].to_pylist(), losses["train_loss_last"].to_pylist(), strict=True))
    assert signals["train_loss_last"].to_pylist() == [last[uid] for uid in uids], "in the order of the folder's rows"
    assert set(signals["region"].to_pylist()) == {"easy", "hard", "ambiguous"}
    found = len({e["row"] for e in queue} & planted)
    assert found / len(queue) >= 5 * len(planted) / len(rows), (found, len(queue), len(planted), len(rows))


def test_the_answer_alone_is_its_header_and_its_trained_tokens() -> None:
    tokenizer = tiny.make_tokenizer(["What is it? It is red."] * 20)
    renderer = compiler.Renderer(tokenizer)
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "It is red."}]
    ids, mask = renderer([turns * 2])[0]
    labels = [i if on else compiler.IGNORE for i, on in zip(ids, mask, strict=True)]
    tokens = compiler.Tokens(
        np.array(ids, np.int32), np.array(labels, np.int32), np.array([0, len(ids)]), np.array([3]), ["u"]
    )
    alone = compiler.answers_alone(tokens, renderer)
    text = tokenizer.decode(alone.ids.tolist(), skip_special_tokens=False)
    assert "What" not in text and text.count("It is red.") == 1
    trained = alone.ids[alone.labels != compiler.IGNORE]
    assert tokenizer.decode(trained.tolist(), skip_special_tokens=True).strip() == "It is red."
    assert alone.labels[0] == compiler.IGNORE
