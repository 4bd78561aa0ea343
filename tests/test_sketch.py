"""Sketches: signatures against datasketch, pairs against plain Python and the exact join, hot buckets, bad input."""

import random
import re
import subprocess
import sys

import datasketch
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import kernels, shingles, sketch
from curation.errors import CurationError
from curation.text import fold

ODD = ["", "   \t\n", "\u00a0\u2028\x85", "one", "One Two three four FIVE", "a b c d e f", "éÉ e\u0301 ﬁn ß ſ İ Σας",
       "漢字 仮名\u3000交じり 文 です よ", "🙂 👍🏽 ok", "x" * 40 + " " + "y" * 17 + " z" * 9, "\x00\x01 \x1c \x1f\x7f",
       "tab\tvt\x0bff\x0c"]
LETTER = st.one_of(st.sampled_from("abAB 0 \t\n.-"), st.characters(exclude_categories=("Cs",)))
TEXT = st.text(alphabet=LETTER, max_size=150)


def reference(text: str, num_perm: int, seed: int, ngram: int, unit: str) -> np.ndarray:
    m = datasketch.MinHash(num_perm, seed, hashfunc=lambda b: sketch.hash32(b, unit))
    m.update_batch(sketch.shingles(text, ngram=ngram, unit=unit))
    return m.hashvalues


def jaccard(a: str, b: str, ngram: int, unit: str) -> float:
    x, y = (set(sketch.shingles(t, ngram=ngram, unit=unit)) for t in (a, b))
    return len(x & y) / len(x | y) if x | y else 1.0


def variants(n: int, seed: int) -> list[str]:
    """Texts of 12 to 40 words, a third of them edited copies of earlier ones."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(300)] + ["Été", "naïve", "ß"]
    out: list[str] = []
    for _ in range(n):
        if out and rng.random() < 0.35:
            w = rng.choice(out).split(" ")
            for _ in range(rng.randrange(3)):
                w[rng.randrange(len(w))] = rng.choice(words)
        else:
            w = rng.choices(words, k=rng.randrange(12, 40))
        out.append(" ".join(w))
    return out


@pytest.mark.parametrize(("unit", "ngram", "num_perm"), [("word", 5, 128), ("word", 1, 16), ("word", 3, 100),
                                                         ("char", 5, 64), ("char", 2, 130)])
def test_signatures_are_datasketch_s(unit, ngram, num_perm):
    texts = ODD + variants(60, 1)
    got = sketch.minhash_signatures(pa.array(texts), num_perm, 7, ngram=ngram, unit=unit)
    assert got.dtype == np.uint32 and got.shape == (len(texts), num_perm)
    for text, signature in zip(texts, got, strict=True):
        assert np.array_equal(signature, reference(text, num_perm, 7, ngram, unit)), repr(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.sampled_from(["word", "char"]), st.integers(1, 7))
def test_signatures_of_any_text(texts, unit, ngram):
    got = sketch.minhash_signatures(pa.array(texts, pa.large_string()), 64, ngram=ngram, unit=unit, threads=1)
    for text, signature in zip(texts, got, strict=True):
        assert np.array_equal(signature, reference(text, 64, 1, ngram, unit))


def test_default_agrees_with_datasketch_defaults():
    text = "The quick brown fox jumps over the lazy dog and runs"
    m = datasketch.MinHash(hashfunc=sketch.hash32)
    for shingle in sketch.shingles(text):
        m.update(shingle)
    assert np.array_equal(m.hashvalues, sketch.minhash_signatures(pa.array([text]))[0])


def test_plain_characters_need_no_folding():
    plain = [chr(c) for c in range(128, 0x20000) if not 0xD800 <= c < 0xE000 and not re.search(sketch.UNPLAIN, chr(c))]
    assert len(plain) > 30_000 and "é" in plain and not {"É", "ß", "\u00a0", "…", "\u0301", "Σ", "ς"} & set(plain)
    for c in plain:
        assert fold(c) == c
        for neighbour in ("a", "\u05d0", "\u0627", "\u0438", "\u304b", "\uac00", c):
            assert fold(neighbour + c) == neighbour + c and fold(c + neighbour) == c + neighbour, (neighbour, c)


def test_layout_of_the_column_does_not_matter():
    texts = ODD + variants(40, 2)
    plain = sketch.minhash_signatures(pa.array(texts), 64)
    chunked = pa.chunked_array([pa.array(texts[:7]), pa.array([], pa.string()), pa.array(texts[7:], pa.string())])
    sliced = pa.array(["padding é", *texts, "more"])[1:-1]
    for column in (chunked, sliced, pa.array(texts, pa.large_string()), pa.array(texts).dictionary_encode()):
        assert np.array_equal(plain, sketch.minhash_signatures(column, 64))
    nulls = sketch.minhash_signatures(pa.array(["one two", None, "three"]), 64)
    assert (nulls[1] == 2**32 - 1).all() and not (nulls[2] == 2**32 - 1).any()


@pytest.mark.parametrize(("unit", "ngram"), [("word", 5), ("word", 2), ("char", 5)])
def test_pairs_are_the_exact_ones(unit, ngram):
    texts = variants(400, 3)
    truth = {(i, j) for j in range(len(texts)) for i in range(j)
             if jaccard(texts[i], texts[j], ngram, unit) >= 0.6}
    exact = sketch.exact_pairs([pa.array(texts)], threshold=0.6, ngram=ngram, unit=unit)
    near = sketch.near_pairs([pa.array(texts)], threshold=0.6, ngram=ngram, unit=unit, num_perm=128)
    assert len(truth) > 50 and near.recall >= 0.999
    for pairs in (exact, near):
        listed = list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
        assert len(set(listed)) == len(listed) and set(listed) <= truth
        for (i, j), score in zip(listed, pairs.score, strict=True):
            assert score == pytest.approx(jaccard(texts[i], texts[j], ngram, unit))
        root = sketch.rethreshold(pairs, 0.6)
        assert all(root[i] == root[j] for i, j in truth)


def test_every_column_has_its_say():
    same, other = "alpha beta gamma delta epsilon zeta eta theta", "one two three four five six seven eight"
    a = pa.array([same, same, same, same])
    b = pa.array([other, other + " nine", same, ""])
    for pairs in (sketch.near_pairs([a, b], threshold=0.7), sketch.exact_pairs([a, b], threshold=0.7)):
        assert list(zip(pairs.left, pairs.right, strict=True)) == [(0, 1)]
        assert pairs.fields[0] == pytest.approx([1.0, 0.8]) and pairs.score[0] == pytest.approx(0.8)
    both_empty = sketch.near_pairs([a, pa.array(["", "", "x", "x"])], threshold=0.7)
    assert list(zip(both_empty.left, both_empty.right, strict=True)) == [(0, 1), (2, 3)]


def test_threads_do_not_change_the_result():
    texts = pa.array(variants(3000, 4))
    one, two = (sketch.near_pairs([texts], threshold=0.5, num_perm=128, threads=n) for n in (1, 3))
    for name in ("left", "right", "score", "fields"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert one.candidates == two.candidates


def test_rethreshold_is_a_new_run():
    texts = pa.array(variants(500, 5))
    low = sketch.near_pairs([texts], threshold=0.5, num_perm=256)
    for t in (0.5, 0.7, 0.9, 1.0):
        again = sketch.exact_pairs([texts], threshold=t)
        assert np.array_equal(sketch.rethreshold(low, t), sketch.rethreshold(again, t))
    with pytest.raises(CurationError, match=r"0\.4 is below the floor 0\.5"):
        sketch.rethreshold(low, 0.4)


def test_copies_are_a_star_and_a_template_one_cluster():
    rng = random.Random(6)
    words = rng.choices([f"w{i}" for i in range(500)], k=60)
    copies = sketch.near_pairs([pa.array([" ".join(words)] * 20_000)])
    assert len(copies) == 19_999 and copies.candidates == 0 and set(copies.left) == {0}
    slots = [" ".join([*words[:30], f"slot{i}", *words[31:]]) for i in range(20_000)]
    pairs = sketch.near_pairs([pa.array(slots)])
    assert (sketch.rethreshold(pairs, 0.8) == 0).all() and len(pairs) < 40 * len(slots)


def test_pairs_inside_a_template_below_the_threshold_are_found():
    rng = random.Random(7)
    words = [f"w{i}" for i in range(5000)]
    base = rng.choices(words, k=60)
    rows = [[*base[:20], *rng.choices(words, k=4), *base[24:]] for _ in range(4000)]   # 0.75 alike, all of them
    planted = []
    for i in range(0, 4000, 20):
        row = list(rows[i])
        row[rng.randrange(40, 59)] = f"new{i}"
        planted.append(row)
    texts = pa.array([" ".join(r) for r in rows + planted])
    near, exact = sketch.near_pairs([texts]), sketch.exact_pairs([texts])
    assert len(exact) >= len(planted)
    assert np.array_equal(sketch.rethreshold(near, 0.8), sketch.rethreshold(exact, 0.8))


def test_one_huge_row_is_a_row():
    huge = "a b c d e " * 300_000     # five shingles, a sixth in its twin
    texts = pa.array([huge, "x" * 3_000_000, huge + "f", "", "short row of words here"])
    for unit in ("word", "char"):
        pairs = sketch.near_pairs([texts], threshold=0.8, unit=unit)
        assert list(zip(pairs.left, pairs.right, strict=True)) == [(0, 2)]


def test_no_rows_and_no_words():
    for texts in ([], [""], ["", " ", "\u2028"]):
        column = pa.array(texts, pa.string())
        assert len(sketch.near_pairs([column])) == 0 and len(sketch.exact_pairs([column])) == 0
        assert sketch.rethreshold(sketch.near_pairs([column]), 0.9).tolist() == list(range(len(texts)))


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 1.0), st.integers(1, 256))
def test_plan_keeps_its_promise(threshold, num_perm):
    bands, width, found = sketch.plan(threshold, num_perm)
    assert 1 <= bands * width <= num_perm
    assert found == pytest.approx(1 - (1 - threshold**width) ** bands)
    assert found >= 0.999 or width == 1


@pytest.mark.parametrize(("options", "text"), [
    ({"threshold": 0.0}, "threshold 0.0 is not a similarity"), ({"threshold": 1.01}, "threshold 1.01"),
    ({"threshold": float("nan")}, "threshold nan"), ({"ngram": 0}, "ngram 0 is out of range"),
    ({"unit": "line"}, "unit 'line'"), ({"num_perm": 0}, "num_perm 0"), ({"floor": 0.9}, "floor 0.9 is above"),
    ({"floor": -1.0}, "floor -1.0"), ({"ngram": 2.5}, "ngram 2.5"), ({"recall": 0.0}, "recall 0.0"),
    ({"recall": float("nan")}, "recall nan"), ({"seed": -1}, "seed -1"), ({"seed": 2**32}, "seed 4294967296"),
])
def test_bad_options_are_named(options, text):
    with pytest.raises(CurationError) as error:
        sketch.near_pairs([pa.array(["a", "b"])], **options)
    assert text in error.value.what and error.value.hint


@pytest.mark.parametrize(("columns", "text"), [
    ([], "not none"), ([["a", "b"]], "not list"), ([pa.array([1, 2])], "int64 is not text"),
    ([pa.array([b"a", b"b"])], "binary is not text")])
@pytest.mark.parametrize("find", [sketch.near_pairs, sketch.exact_pairs])
def test_columns_that_are_no_text_are_named(find, columns, text):
    with pytest.raises(CurationError) as error:
        find(columns)
    assert text in error.value.what and error.value.hint


def test_every_arrow_kind_of_text_is_read():
    text = pa.array(["a b c d e f", None, "a b c d e f", ""])
    kinds = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
    assert [sketch.near_pairs([text.cast(k)]).right.tolist() for k in kinds] == [[2]] * 4
    assert sketch.near_pairs([pa.nulls(3)]).left.tolist() == []


def test_same_shingles():
    a = pa.array(["One  two", "one two", "", "three", "ONE TWO", ""])
    copy, of = sketch.same_shingles([a])
    assert copy.tolist() == [1, 4] and of.tolist() == [0, 0]


def test_a_settled_template_looks_at_few_pairs():
    rng = random.Random(8)
    words = rng.choices([f"w{i}" for i in range(500)], k=60)
    slots = pa.array([" ".join([*words[:30], f"slot{i}", *words[31:]]) for i in range(3000)])
    pairs = sketch.near_pairs([slots], unit="char", num_perm=128)
    assert (sketch.rethreshold(pairs, 0.8) == 0).all() and pairs.candidates <= 30 * len(slots)


def test_chance_collisions_are_no_candidates():
    rng = random.Random(9)
    words = ["".join(rng.choices("etaoinsr", k=5)) for _ in range(300)]
    rows = [rng.choices(words, k=40) for _ in range(1500)]      # about 0.5 alike in pairs of characters
    rows += [[*r[:20], "changed", *r[21:]] for r in rows[::15]]
    texts = pa.array([" ".join(r) for r in rows])
    pairs = sketch.near_pairs([texts], threshold=0.9, unit="char", ngram=3, num_perm=128)
    exact = sketch.exact_pairs([texts], threshold=0.9, unit="char", ngram=3)
    assert len(exact) >= 50 and np.array_equal(sketch.rethreshold(pairs, 0.9), sketch.rethreshold(exact, 0.9))
    assert pairs.candidates < 2 * 100


@pytest.mark.parametrize(("words", "length", "unit", "ngram", "threshold"), [
    (60, 60, "char", 2, 0.8), (30, 40, "word", 1, 0.8), (60, 60, "char", 2, 0.9), (300, 60, "char", 3, 0.7)])
def test_recall_holds_where_buckets_are_dense(words, length, unit, ngram, threshold):
    rng = random.Random(10)
    known = ["".join(rng.choices("etaoinsr", k=rng.randint(2, 6))) for _ in range(words)]
    rows = [rng.choices(known, k=rng.randint(length - 10, length + 10)) for _ in range(1200)]
    for row in rows[::20]:
        near = list(row)
        near[rng.randrange(len(near))] = rng.choice(known)
        rows.append(near)
    texts = [pa.array([" ".join(r) for r in rows])]
    near = sketch.near_pairs(texts, threshold=threshold, unit=unit, ngram=ngram, num_perm=128)
    exact = sketch.exact_pairs(texts, threshold=threshold, unit=unit, ngram=ngram)
    root = sketch.rethreshold(near, threshold)
    assert len(exact) >= 50 and near.left_out == 0
    assert (root[exact.left] == root[exact.right]).mean() >= 0.999
    assert set(zip(near.left, near.right, strict=True)) <= set(zip(exact.left, exact.right, strict=True))


@pytest.mark.parametrize("threshold", [0.9, 0.93, 0.95])
def test_pairs_of_one_slot_with_the_first_rows_of_a_bucket_are_found(threshold):
    rng = random.Random(14)
    words = ["".join(rng.choices("etaoinshrdl", k=rng.randint(3, 9))) for _ in range(17)]
    texts = [pa.array([" ".join([*words[:8], f"slot{i}", *words[8:]]) for i in range(1500)])]
    exact = sketch.exact_pairs(texts, threshold=threshold, unit="char")
    assert len(exact) >= 28
    for seed in range(1, 5):
        near = sketch.near_pairs(texts, threshold=threshold, unit="char", num_perm=128, seed=seed)
        assert near.left_out == 0 and near.candidates < 100 * 1500
        assert np.array_equal(sketch.rethreshold(near, threshold), sketch.rethreshold(exact, threshold))


def test_a_full_bucket_is_known_from_its_first_row_on():
    keys, glimpse = np.zeros((1, 20), np.uint32), np.zeros((20, kernels.GLIMPSE), np.uint8)
    packed, marks = sketch.candidates(keys, glimpse, np.ones(20, np.uint8), sketch.search(), threads=1)
    assert marks.tolist() == [kernels.MET] * 9 + [kernels.FULL] * 11
    left, right = sketch.unpacked(packed)
    assert {(i, j) for j in range(9) for i in range(j)} | {(j - d, j) for j in range(9, 20) for d in (1,)} == set(
        zip(left.tolist(), right.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from(["", "a", "ab", "abcdefgh", "abcdefgi", "abcdefghi", "é" * 9])] * 2), max_size=30))
def test_equal_texts_are_found_and_share_a_set(rows):
    columns = [pa.array([r[c] for r in rows], pa.string()) for c in range(2)]
    t = shingles.texts_of(columns)
    text = shingles.same_texts(t.address, t.size)
    for c in range(2):
        values = [r[c] for r in rows]
        assert text[c].tolist() == [values.index(x) for x in values]
    sets = shingles.shingle_sets(t, np.arange(len(rows)), ngram=2, unit="char")
    left, right = (x.ravel() for x in np.meshgrid(np.arange(len(rows)), np.arange(len(rows))))
    _, fields = shingles.jaccard(sets, left, right)
    for p, (i, j) in enumerate(zip(left, right, strict=True)):
        assert fields[p] == pytest.approx([jaccard(rows[i][c], rows[j][c], 2, "char") for c in range(2)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40), st.integers(1, 60), st.data())
def test_blocks_of_pairs_hold_what_they_may(pairs, limit, data):
    text = np.array([[data.draw(st.integers(0, 9)) for _ in range(10)] for _ in range(2)], np.int32)
    size = np.array([[7 + x for x in range(10)]] * 2, np.int64)
    size = np.take_along_axis(size, text.astype(np.int64), axis=1)
    left, right = (np.array([p[k] for p in pairs], np.int64) for k in range(2))
    seen = []
    for part, rows in shingles.blocks(left, right, text, size, limit):
        seen += range(part.start, part.stop)
        assert rows.tolist() == sorted({*left[part].tolist(), *right[part].tolist()})
        held = sum(7 + x for c in range(2) for x in set(text[c, rows].tolist()))
        assert held <= limit or part.stop - part.start == 1
    assert seen == list(range(len(pairs)))


def test_what_the_bound_leaves_out_is_counted(monkeypatch):
    monkeypatch.setattr(sketch, "DENSE_WORK", 100)
    monkeypatch.setattr(sketch, "DENSE_ROW", 100)
    rng = random.Random(11)
    known = [f"w{i}" for i in range(30)]
    texts = [pa.array([" ".join(rng.choices(known, k=40)) for _ in range(1500)])]
    assert sketch.near_pairs(texts, ngram=1, num_perm=128).left_out > 0


def test_stages_in_parts_give_the_whole():
    texts = [pa.array(variants(900, 12)), pa.array(variants(900, 13))]
    s = sketch.search(threshold=0.5, num_perm=128, unit="char", ngram=4)
    whole = sketch.sketch_rows(texts, s)
    parts = [sketch.sketch_rows([c.slice(lo, 250) for c in texts], s) for lo in range(0, 900, 250)]
    assert np.array_equal(np.concatenate([p.keys for p in parts], axis=1), whole.keys)
    assert np.array_equal(np.concatenate([p.identity for p in parts]), whole.identity)
    use, copy, of = sketch.copies(whole.identity)
    assert not use[copy].any() and use[of].all()
    packed, hot = sketch.candidates(whole.keys, whole.glimpse, use, s)
    by_band = [sketch.candidates(whole.keys[b:b + 3], whole.glimpse, use, s) for b in range(0, s.bands, 3)]
    assert np.array_equal(sketch.distinct(np.concatenate([p for p, _ in by_band])), sketch.distinct(packed))
    assert np.array_equal(np.max([h for _, h in by_band], axis=0), hot)
    t = sketch.texts_of(texts)
    score, fields = sketch.verify(t, packed, s)
    halves = [sketch.verify(t, part, s) for part in np.array_split(packed, 5)]
    assert np.array_equal(np.concatenate([x for x, _ in halves]), score)
    assert np.array_equal(np.concatenate([x for _, x in halves]), fields)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 300), min_size=1, max_size=3), st.integers(0, 2))
def test_going_on_is_a_whole_run(seed, cuts, kind):
    rng = random.Random(seed)
    few = [f"w{i}" for i in range((300, 12, 40)[kind])]
    base = rng.choices(few, k=20)
    rows = [" ".join(rng.choices(few, k=20) if kind < 2 else [*base, *rng.choices(few, k=3)]) for _ in range(150)]
    rows += [" ".join([*r.split()[:-1], rng.choice(few)]) for r in rng.choices(rows, k=150)]
    texts = [pa.array(rows), pa.array(rng.choices(["", "a b", "a b c"], k=300))]
    s = sketch.search(threshold=0.7, num_perm=64, ngram=2)
    found = None
    for end in [*sorted(cuts), 300]:
        found = sketch.find([c.slice(0, end) for c in texts], s, found)
        again = sketch.Found.of(found.arrays("x."), "x.")
        one, two = (sketch.pairs_of([c.slice(0, end) for c in texts], f, s) for f in (
            again, sketch.find([c.slice(0, end) for c in texts], s)))
        for name in ("left", "right", "score", "fields"):
            assert np.array_equal(getattr(one, name), getattr(two, name)), name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40), st.integers(0, 40))
def test_copies_of_rows_behind_are_those_of_all_rows(rows, known):
    identity = np.array(rows, np.uint64).reshape(-1, 2)     # (0, 0): a row without a shingle
    known = min(known, len(identity))
    use, copy, of = sketch.copies(identity)
    _, before, first = sketch.copies(identity[:known])
    found = sketch.copies_behind(identity[:known], before, first, identity[known:])
    for one, two in zip(found, (use[known:], copy, of), strict=True):
        assert one.dtype == two.dtype and one.tolist() == two.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6), st.sampled_from([0.5, 0.8, 1.0])), max_size=40),
       st.lists(st.booleans(), min_size=20, max_size=20))
def test_a_row_is_led_by_the_row_most_like_it_that_leads_itself(pairs, gone):
    left = np.array([a for a, _, _ in pairs], np.int64)
    right, score = left + [d for _, d, _ in pairs], np.array([s for _, _, s in pairs])
    best = [-1] * 20
    for row in range(20):
        may = [p for p in range(len(pairs)) if right[p] == row and best[left[p]] < 0 and not gone[left[p]] and not gone[row]]
        if may:
            best[row] = max(may, key=lambda p: (score[p], -p))
    assert sketch.lead(left, right.astype(np.int64), score, np.array(gone)).tolist() == best


def sets_of(rng, n, of, size):
    """Return (flat, start, count) of n sets of numbers below `of`, alike in part."""
    base = rng.sample(range(of), size)
    rows = [sorted({*rng.sample(base, rng.randint(size // 2, size)), *rng.sample(range(of), 3)}) for _ in range(n)]
    count = np.array([[len(r) for r in rows]], np.int32)
    start = (np.cumsum(count) - count).reshape(1, -1).astype(np.int64)
    return np.array([x for r in rows for x in r], np.uint64), start, count, rows


@pytest.mark.parametrize("seed", range(6))
def test_pairs_by_shared_shingles_are_those_of_the_plain_loop(seed):
    rng = random.Random(seed)
    n = 150
    flat, start, count, rows = sets_of(rng, n, 60, 25)
    floor, most, least = 0.6, 2, 20
    glimpse = np.array([[rng.randint(0, 1) for _ in range(kernels.GLIMPSE)] for _ in range(n)], np.uint8)
    lists = sorted(((x, [i for i in range(n) if x in rows[i]]) for x in range(60)), key=lambda x: len(x[1]))
    shingle, owner = (np.array(x, np.int32) for x in zip(*((x, i) for x, held in lists for i in held), strict=True))
    assert 2 * n * n < kernels._meetings(shingle), "pairs are listed first"
    root, tried, want, met = list(range(n)), [0] * n, [], set()

    def top(a):
        return a if root[a] == a else top(root[a])

    for _, held in lists:
        for x, i in enumerate(held):
            for j in reversed(held[:x]):
                if (i, j) in met or (glimpse[i] == glimpse[j]).sum() < least:
                    continue
                met.add((i, j))
                a, b = top(i), top(j)
                if a == b and tried[i] >= most:
                    continue
                tried[i] += a == b
                both = len({*rows[i]} & {*rows[j]})
                if both >= floor * (len(rows[i]) + len(rows[j]) - both):
                    want.append(i << 32 | j)
                    root[max(a, b)] = min(a, b)
    roots, tries = np.arange(n), np.zeros(n, np.int64)
    found = kernels.share_rare(shingle, owner, glimpse, least, flat, start, count, floor, roots, tries, most)
    assert len(want) > 100 and found.tolist() == want and tries.tolist() == tried


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_sets_that_reach_a_floor(one, two, floor):
    flat = np.array([*sorted(one), *sorted(two)], np.uint64)
    reached = bool(one or two) and len(one & two) >= floor * len(one | two)
    if one or two:
        assert kernels._reaches(flat, 0, len(one), len(one), len(two), floor) == reached


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 2047, 2048, 1 << 32, (1 << 32) + 5, 1 << 63, (1 << 64) - 1]), max_size=40))
def test_keys_are_ordered_and_equal_ones_stay_as_they_came(keys):
    assert kernels.ordered(np.array(keys, np.uint64)).tolist() == sorted(range(len(keys)), key=keys.__getitem__)


#: What a first call compiles; run on its own, because other tests compile too.
AFTER_WARMING = """
import random
import pyarrow as pa
from curation import kernels, sketch, wording

def compiled():
    return {(m.__name__, k): len(f.signatures) for m in (kernels, wording) for k, f in vars(m).items()
            if hasattr(f, "signatures")}

sketch.warm(), wording.warm()
before = compiled()
rng = random.Random(0)
texts = [" ".join(rng.choices([f"w{i}" for i in range(30)], k=40)) for _ in range(1500)] + ["", "a b c", "a b c"]
t, cut = pa.array(texts), pa.chunked_array([texts[:700], texts[700:]])
s = sketch.search(ngram=1, num_perm=128)
found = sketch.find([t], s, sketch.find([t.slice(0, 1400)], s))
pairs = sketch.pairs_of([t], found, s)
sketch.near_pairs([cut, t.cast(pa.large_string()), t, t], unit="char", threshold=0.7, num_perm=128)
sketch.exact_pairs([t, cut], threshold=0.9)
sketch.lead(pairs.left, pairs.right, pairs.score, sketch.rethreshold(pairs, 0.8) < 0)
wording.apart([t, cut], t, pairs.left, pairs.right, telling=8)
after = compiled()
assert after == before, {k: (before[k], n) for k, n in after.items() if n != before[k]}
assert max(after.values()) == 1, after
"""


def test_nothing_is_compiled_after_warming_and_every_kernel_once():
    done = subprocess.run([sys.executable, "-c", AFTER_WARMING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
