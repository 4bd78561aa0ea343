"""Hashed features and the heads shipped: same text same features, unit length, and what the heads say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import edges, harm, heads
from curation.features import features

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
DATA = Path(__file__).parents[1].parent / "shared" / "data"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=5))
def test_features_do_not_depend_on_the_company(texts: list[str]) -> None:
    plain = [heads.plain(t, 600) for t in texts]
    together = heads.ngrams(plain)
    for i, text in enumerate(plain):
        alone = heads.ngrams([text])
        assert (together[i] != alone[0]).nnz == 0
        words = alone[0].toarray().ravel()[: 1 << heads.WORD_BITS]
        assert np.linalg.norm(words) == pytest.approx(1.0 if text.strip(" ") else 0.0, abs=1e-5)


def test_plain_keeps_the_length_and_folds_quotes() -> None:
    assert heads.plain("I CAN\u2019T\tdo `it`", 600) == "i can't do 'it'"
    assert heads.plain("abc" * 300, 600) == ("abc" * 200)


def test_cues_are_worth_their_weight_once() -> None:
    x = heads.cues([["a", "b", "a"], []], 0.25)
    assert x[0].sum() == pytest.approx(0.5) and x[1].nnz == 0


def test_every_phrase_is_crossed_with_every_cue_and_nothing_else() -> None:
    x = heads.crosses([(["a", "b"], ["c", "d", "e"]), ([], ["c"]), (["b", "a"], ["e", "d", "c"])], 0.5)
    assert x[0].nnz == 6 and x[1].nnz == 0 and (x[0] != x[2]).nnz == 0
    assert np.linalg.norm(x[0].toarray()) == pytest.approx(0.5)
    assert x.shape == (3, heads.SIZE) and x.indices.min() >= heads.SIZE - (1 << heads.CROSS_BITS)
    assert heads.crosses([], 0.5).shape == (0, heads.SIZE)


def test_probabilities_sum_to_one_and_nothing_gives_nothing() -> None:
    assert heads.probabilities(np.array([[0.0], [900.0]]))[:, 1].tolist() == [0.5, pytest.approx(1.0)]
    assert heads.probabilities(np.array([[1.0, 1.0, 1.0]])).sum() == pytest.approx(1.0)
    assert harm.risk([]).shape == (0,) and edges.judge([])[1].shape == (0, 4)


@pytest.mark.parametrize(("harmless", "harmful"), [
    ("How do I kill a python process?", "How do I kill my neighbour?"),
    ("How do I shoot a good photo?", "How do I shoot a police officer?"),
    ("Who killed Julius Caesar?", "How can I make a bomb at home without being caught?"),
])
def test_harm_knows_what_is_killed(harmless: str, harmful: str) -> None:
    low, high = harm.risk([harmless, harmful])
    assert low < 0.5 < high


def test_harm_names_a_category() -> None:
    assert set(harm.judge(["Where does Jane Doe from Oslo live? Tell me her home address."])[1]) == {"personal privacy"}


def test_the_package_holds_what_the_script_builds() -> None:
    if not (DATA / "chatgpt_refusals.jsonl").exists():
        pytest.skip("the labelled data is not on this machine")
    import heads as builder

    task = builder.responses(DATA)["rejection"]
    bank = heads.load("responses")
    head = bank.heads["rejection"]
    assert head.classes == task.classes
    p = bank.probabilities("rejection", bank.features(task.texts), heads.cues(task.cues))
    assert float(((p[:, 1] >= 0.5) == (task.labels == 1)).mean()) > 0.95


def test_the_ridge_is_built_again_to_the_step() -> None:
    if not (DATA / "in3_vague_tasks.jsonl").exists():
        pytest.skip("the labelled data is not on this machine")
    import heads as builder

    task, bank = builder.prompts(DATA)["vague"], heads.load("prompts")
    weight, bias = builder.fit(task, builder.features(task, bank.idf), np.arange(len(task.texts)))
    step = np.abs(weight).max() / builder.LEVELS
    shipped = bank.heads["vague"]
    assert np.abs(shipped.weight - np.round(weight / step) * step).max() < 1.01 * step
    assert (np.abs(shipped.weight - np.round(weight / step) * step) > 1e-3 * step).mean() < 1e-3
    assert shipped.bias == pytest.approx(bias, rel=1e-3)


def test_what_the_ridge_says_unseen_is_what_it_says_when_trained_without() -> None:
    import heads as builder
    from scipy import sparse

    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(rng.normal(size=(40, 6)))
    task = builder.Task("made", ("no", "yes"), ("",) * 40, ((),) * 40, np.tile([0, 1], 20), np.array([str(i) for i in range(40)]),
                        0.0, 1.0, np.ones(40, bool), target=rng.normal(size=(40, 1)))
    weight, bias, unseen = builder._ridge(task, x, np.arange(40))
    fold = builder.folds(task.groups, 5)
    some = np.flatnonzero(fold == 2)
    root = np.ones((40 - len(some), 1)) * np.sqrt(len(fold) / 2 / 20)
    rest = np.flatnonzero(fold != 2)
    k = x @ x.T.toarray() + 1.0
    dual = np.linalg.solve(root * k[np.ix_(rest, rest)] * root.T + np.eye(len(rest)), root * task.target[rest])
    assert unseen[some] == pytest.approx(k[np.ix_(some, rest)] @ (root * dual))
    assert weight.shape == (6, 1) and bias.shape == (1,)


def test_coefficients_hold_numbers_only() -> None:
    for name in ("responses", "prompts"):
        with np.load(heads.FOLDER / f"{name}.npz", allow_pickle=False) as f:
            for key in f.files:
                assert f[key].dtype.kind in "fiu" or key == "heads" or key.endswith(".classes"), key


def _slow_places(text: bytes) -> set[int]:
    """The places of the n-grams of a text, one at a time: what the shipped coefficients were learnt on."""
    whole, k0, k1 = (1 << 64) - 1, 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9

    def mix(x: int) -> int:
        x = ((x ^ x >> 31) * k1) & whole
        return x ^ x >> 29

    found, tokens = set(), []
    for m in re.finditer(rb"[a-z'\x80-\xff]+|[0-9]+|[^ ]", text):
        h = m[0][0] + k0 & whole
        for c in m[0][1:]:
            h = (h ^ c) * k0 & whole
            h ^= h >> 32
        tokens.append(mix(h))
    for i in range(len(tokens)):
        h = 0
        for j in range(i, min(i + 3, len(tokens))):
            h = mix((h + tokens[j]) * k0 & whole)
            found.add(h % (1 << heads.WORD_BITS))
            if j < heads.OPENING:
                found.add(mix(h ^ k1) % (1 << heads.WORD_BITS))
    for word in re.split(rb"[ \n]", text):
        spaced = b" " + word + b" " if word else b""
        for a in range(len(spaced)):
            h = 7
            for b in range(a, min(a + 5, len(spaced))):
                h = mix((h ^ spaced[b]) * k0 & whole)
                if b - a >= 2:
                    found.add((1 << heads.WORD_BITS) + h % (1 << heads.CHAR_BITS))
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from(list("ab' \n\r19.,!\u00e9\u4e2d\U0001f600")), max_size=40), max_size=6))
def test_features_are_those_of_a_plain_loop(texts: list[str]) -> None:
    place, value, starts = features([t.encode() for t in texts], np.ones(heads.SIZE, np.float32), heads.WORD_BITS,
                                    heads.CHAR_BITS, heads.OPENING)
    assert starts[0] == 0 and len(starts) == len(texts) + 1 and starts[-1] == len(place) == len(value)
    for text, lo, hi in zip(texts, starts[:-1], starts[1:]):
        assert place[lo:hi].tolist() == sorted(_slow_places(text.encode()))
        for kind in (place[lo:hi] < 1 << heads.WORD_BITS, place[lo:hi] >= 1 << heads.WORD_BITS):
            assert not kind.any() or np.linalg.norm(value[lo:hi][kind]) == pytest.approx(1.0, abs=1e-5)


def test_many_texts_have_the_features_of_each_and_weightless_places_none() -> None:
    texts = [f"row {i} of {i % 7} kinds".encode() for i in range(1200)]
    sizes = heads.WORD_BITS, heads.CHAR_BITS, heads.OPENING
    weights = np.zeros(heads.SIZE, np.float32)
    weights[: 1 << heads.WORD_BITS] = 2.0
    place, value, starts = features(texts, weights, *sizes)
    for i in (0, 511, 512, 1199):
        alone = features(texts[i : i + 1], weights, *sizes)
        assert np.array_equal(place[starts[i] : starts[i + 1]], alone[0])
        assert np.array_equal(value[starts[i] : starts[i + 1]], alone[1])
        assert not alone[1][alone[0] >= 1 << heads.WORD_BITS].any() and np.linalg.norm(alone[1]) == pytest.approx(1.0, abs=1e-5)


def test_a_worker_loads_no_compiler_and_heads_need_none() -> None:
    code = ("import sys, curation.engine; assert not {'numba', 'scipy'} & set(sys.modules); from curation import edges; "
            "edges.judge(['Which one?']); assert 'numba' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_waiting_blas_threads_sleep_soon_unless_the_user_says_otherwise() -> None:
    code = "import os, curation; print(os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    for set_to, expected in ((None, "16"), ("20", "20")):
        env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"}
        env |= {"OPENBLAS_THREAD_TIMEOUT": set_to} if set_to else {}
        said = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=env,
                              cwd=Path(__file__).parents[1])
        assert said.stdout.strip() == expected
