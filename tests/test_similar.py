"""Rows like a row: by words, by stored embeddings, ties, edges, and the index kept and renewed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import similar, vectors
from curation.errors import CurationError
from curation.store import Store

from .rows import make_rows


def folder(path: Path, texts: list[tuple[str, str]]) -> Store:
    store = Store.create(path)
    rows = make_rows([{"instruction": a, "response": b} for a, b in texts])
    store.import_rows(rows.to_batches(), source="given", detected="given")
    return store


TEXTS = [
    ("Name the capital of France.", "The capital of France is Paris."),
    ("Write a poem about autumn leaves.", "Leaves fall, red and gold."),
    ("What is the capital of France?", "Paris is the capital of France."),
    ("Explain how a heat pump works.", "It moves heat with a compressor."),
    ("What is the capital of Peru?", "Lima."),
    ("Name the capital of France.", "The capital of France is Paris."),
    ("zzz", "qqq"),
]


def test_like_rows_come_first_and_the_row_itself_is_not_listed(tmp_path: Path) -> None:
    store = folder(tmp_path / "s", TEXTS)
    found = similar.similar_to(store, 0)
    assert [i for i, _ in found[:3]] == [5, 2, 4]
    assert found[0][1] == pytest.approx(1.0, abs=1e-5)
    assert all(1.0 >= a[1] >= b[1] > 0 for a, b in itertools.pairwise(found))
    assert 0 not in [i for i, _ in found]
    assert similar.similar_to(store, 6) == []       # no word in common with any row
    assert [i for i, _ in similar.similar_to(store, 0, 1)] == [5]
    assert similar.similar_to(store, 0, 0) == []


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    store = folder(tmp_path / "s", TEXTS)
    for row in (-1, 7):
        with pytest.raises(CurationError, match="rows go from 0 to 6"):
            similar.similar_to(store, row)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text("ab é漢\n", max_size=30), st.text("abc ", max_size=20)), min_size=1, max_size=12), st.data())
def test_scores_are_those_of_a_plain_reckoning(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]],
                                               data: st.DataObject) -> None:
    store = folder(tmp_path_factory.mktemp("p") / "s", texts)
    row = data.draw(st.integers(0, len(texts) - 1))
    bits = similar._bits(len(texts))
    words = [set(similar._places(similar._texts(store.rows().slice(i, 1)), bits)[0].tolist()) for i in range(len(texts))]
    n = len(texts)
    idf = {w: np.log((1 + n) / (1 + sum(w in x for x in words))) + 1 for x in words for w in x}
    size = [np.sqrt(sum(idf[w] ** 2 for w in x)) for x in words]
    want = np.array([sum(idf[w] ** 2 for w in words[row] & x) / max(1e-9, size[row] * s)
                     for x, s in zip(words, size, strict=True)])
    assert np.allclose(similar.by_words(store, row), want, atol=1e-4)
    assert np.allclose(similar.by_words(store, row), want, atol=1e-4)      # and read back from the folder


def test_words_in_most_rows_of_a_large_set_do_not_count(tmp_path: Path) -> None:
    store = folder(tmp_path / "s", [(f"please tell number{i // 2}", "") for i in range(2400)])
    assert [i for i, _ in similar.similar_to(store, 10)] == [11]


def test_a_long_text_counts_by_its_opening(tmp_path: Path) -> None:
    store = folder(tmp_path / "s", [("alpha " * 400 + "omega", ""), ("omega", ""), ("alpha", "")])
    assert [i for i, _ in similar.similar_to(store, 0)] == [2]


def test_the_index_is_of_one_version_and_mended_when_damaged(tmp_path: Path) -> None:
    store = folder(tmp_path / "s", TEXTS)
    before = similar.similar_to(store, 0)
    (kept,) = (store.path / "similar").glob("words-*.arrays")
    kept.write_bytes(kept.read_bytes()[:-100])
    assert similar.similar_to(store, 0) == before
    rows = make_rows([{"instruction": "Name the capital of France now.", "response": "Paris."}])
    store.import_rows(rows.to_batches(), source="more", append=True)
    assert 7 in [i for i, _ in similar.similar_to(store, 0)]
    assert len(list((store.path / "similar").glob("words-*.arrays"))) == 1


class Letters:
    """An encoder of three dimensions: a text is the counts of a, b and c."""

    model, why, hash, dim = "letters", "for this test", "00ff", 3

    def encode(self, texts: list[str], progress: object = None) -> np.ndarray:
        out = np.array([[t.count(x) + 1e-3 for x in "abc"] for t in texts], np.float32)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_embeddings_of_the_folder_are_used_when_they_are_of_these_rows(tmp_path: Path) -> None:
    texts = [("aaa", "x"), ("bbb", "x"), ("aab", "y"), ("ccc", "z"), ("aaa", "x"), ("é\ud7ff c", "")]
    store = folder(tmp_path / "s", texts)
    rows = store.rows()
    assert similar.vectors_of(store) is None
    assert similar.similar_to(store, 0)[0][0] == 4
    vectors.cached(store.path, rows["uid"].to_pylist(), ["other"] * 6, Letters())
    assert similar.vectors_of(store) is None                # of other texts
    made = vectors.cached(store.path, rows["uid"].to_pylist(), rows["instruction"].to_pylist(), Letters())
    assert similar.vectors_of(store) is not None
    found = similar.similar_to(store, 0)
    assert [i for i, _ in found[:2]] == [4, 2]
    assert dict(found)[2] == pytest.approx(float(made[0] @ made[2]), abs=1e-6)
    similar.warm()
