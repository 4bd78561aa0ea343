"""Words as hashes: cut as the plain-Python definition cuts them, runs found, numbers read."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import words
from curation.text import SOLID
from curation.words import find_runs, numbers, numbers_of, runs_of, table_of, text_hashes, words_of

mixed = st.text(st.sampled_from(list("aAbB01 _-.,'\n\x00éÉßﬁ①中文かハi\u0307")), max_size=24)


def plain(text: str) -> list[str]:
    return re.findall(f"[{SOLID}]|[^\\W_{SOLID}]+", unicodedata.normalize("NFKC", text).lower())


@settings(max_examples=150, deadline=None)
@given(st.lists(mixed, min_size=1, max_size=6))
def test_equal_hashes_are_equal_words(texts: list[str]) -> None:
    got = words_of(pa.array(texts))
    letters = [[w for w in plain(t) if any(c.isalnum() for c in w)] for t in texts]
    seen: dict[str, int] = {}
    for i, want in enumerate(letters):
        assert len(got.of(i)) == len(want), (texts[i], want)
        for w, h in zip(want, got.of(i).tolist()):
            assert seen.setdefault(w, h) == h
    assert len(set(seen.values())) == len(seen)


def test_null_empty_slices_and_chunks_behind_an_offset() -> None:
    texts = pa.array(["skip", "one two", None, "", "One, TWO!"])
    got = words_of(texts.slice(1))
    assert got.count.tolist() == [2, 0, 0, 2]
    assert got.of(0).tolist() == got.of(3).tolist()
    assert len(words_of(texts.slice(0, 0))) == 0


def test_stems_and_camel_case() -> None:
    got = words_of(pa.array(["runningFast", "running fast", "RUNNING 12 x2"]), stems=True)
    assert got.of(0).tolist() == got.of(1).tolist() and got.count.tolist() == [2, 2, 3]
    stems = [got.stem[s:s + n] for s, n in zip(got.start, got.count)]
    assert stems[0][0] == stems[2][0] and (stems[2] & np.uint64(1)).tolist() == [1, 0, 1], "numbers have even hashes"
    short, long = (words_of(pa.array([x]), stems=True).stem[0] for x in ("walks", "walksomewhere"))
    assert short == long


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), min_size=1, max_size=5), st.integers(1, 4))
def test_runs_are_found_where_plain_python_finds_them(texts: list[str], n: int) -> None:
    some = words_of(pa.array(texts))
    key, text, position = runs_of(some, n)
    runs = [(i, k, tuple(t.split()[k:k + n])) for i, t in enumerate(texts) for k in range(len(t.split()) - n + 1)]
    assert list(zip(text.tolist(), position.tolist())) == [(i, k) for i, k, _ in runs]
    name = {r: h for (_, _, r), h in zip(runs, key.tolist())}
    assert len(set(name.values())) == len(name)
    table = table_of(np.unique(key[text == 0]))
    at, which = find_runs(some, n, table)
    first = {r for i, _, r in runs if i == 0}
    assert at.tolist() == [i for i, _, r in runs if r in first]
    assert table.key[which].tolist() == [name[r] for _, _, r in runs if r in first]


def test_hashes_of_texts_tell_order_and_number() -> None:
    one, two, three, four = text_hashes(words_of(pa.array(["a b", "A; b", "b a", "a b a"]))).tolist()
    assert one == two and len({one, three, four}) == 3


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.sampled_from(list("0129,. .twoTWOten-_a\né")), max_size=24), min_size=1, max_size=4))
def test_numbers_are_those_of_the_definition(texts: list[str]) -> None:
    values, start = numbers_of(pa.array(texts))
    for i, text in enumerate(texts):
        assert values[start[i]:start[i + 1]].tolist() == pytest.approx(sorted(numbers(text)))


def test_a_text_of_many_numbers_is_read_whole() -> None:
    values, start = numbers_of(pa.array([" ".join(str(k % 5000) for k in range(20_000))]))
    assert start.tolist() == [0, 5000] and values[-1] == 4999


def test_warm_compiles_without_a_trace() -> None:
    assert words.warm() is None
