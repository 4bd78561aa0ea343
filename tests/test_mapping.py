"""The map: kept places, new rows, a turned refit, signals, pictures that show text as text, and small sets."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation import mapping
from curation.errors import CurationError
from curation.mapping import lay_out
from curation.spec import parse
from curation.store import Store

from .rows import make_rows
from .test_selection import SPEC, Words, given, ready

MORE = [{"instruction": f"Translate the word number {k} into Latin for me.", "response": "Arbor."} for k in range(9)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return ready(tmp_path / "set", parse(SPEC))


def test_alike_rows_lie_together_and_the_places_are_signals(store: Store) -> None:
    laid = lay_out(store, vectors=Words())
    assert laid.fitted and laid.anchors == 56 and laid.xy.dtype == np.float32 and np.isfinite(laid.xy).all()
    assert np.abs(laid.xy).max() <= 1 + 1e-5 and laid.kept is not None and laid.kept > 0.7
    labels, texts = laid.xy[:32], laid.xy[32:]
    inside = np.linalg.norm(labels - labels.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(labels.mean(axis=0) - texts.mean(axis=0)) > 2 * inside
    signals = store.signals()
    assert signals is not None and np.array_equal(signals["map_x"].to_numpy(), laid.xy[:, 0])
    assert "laid out anew on 56 rows" in laid.sentence
    assert laid.frame().columns.tolist() == ["row", "map_x", "map_y"] and len(laid.frame()) == 56


def test_rows_keep_their_place_when_others_come(store: Store) -> None:
    before = lay_out(store, vectors=Words())
    again = lay_out(store, vectors=Words())
    assert np.array_equal(before.xy, again.xy) and not again.fitted and again.kept is None
    store.import_rows(make_rows([*MORE, *given()]).to_batches(), source="y")
    after = lay_out(store, vectors=Words())
    assert len(after.row) == 65 and np.array_equal(after.xy[9:], before.xy)
    assert store.signals() is None, "signals are those of checked rows"


def test_a_refit_lies_over_the_old_places(store: Store) -> None:
    lay_out(store, vectors=Words())
    store.import_rows(make_rows([*MORE, *given()]).to_batches(), source="y")
    old = lay_out(store, vectors=Words())
    after = lay_out(store, refit=True, vectors=Words())
    assert not old.fitted and after.fitted and after.anchors == 65
    centre = after.xy.mean(axis=0)
    off = ((after.xy - old.xy) ** 2).sum()
    for angle in np.radians(np.arange(30, 360, 30)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        assert ((centre + (after.xy - centre) @ turn - old.xy) ** 2).sum() > off


def test_rows_with_the_same_vector_have_one_place_whichever_is_found_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    anchors = rng.normal(size=(40, 64)).astype(np.float32)
    anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
    anchors[33] = anchors[5]
    places = rng.normal(size=(40, 2)).astype(np.float32)
    cosine = np.tile(np.float32([1, 1, 0.5]), (2, 1))       # to the last bit the order of the first two is the processor's
    monkeypatch.setattr(mapping, "nearest", lambda *_, **__: (np.int32([[33, 5, 0], [5, 33, 0]]), cosine))
    xy, _ = mapping.place(anchors[[33, 5]], anchors, places)
    assert np.array_equal(xy, places[[5, 5]])


def test_procrustes_undoes_a_turn() -> None:
    rng = np.random.default_rng(0)
    old = rng.normal(size=(30, 2)).astype(np.float32)
    turn = np.array([[0.6, -0.8], [-0.8, -0.6]])        # a turn with a mirror
    new = (3 * old @ turn + [5, -2]).astype(np.float32)
    assert np.allclose(mapping._turned(new, old), old, atol=1e-4)


def test_rows_unlike_the_anchors_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(store, vectors=Words())
    other = [{"instruction": "zyx " * (k + 2), "response": "qqq"} for k in range(30)]
    store.import_rows(make_rows(other).to_batches(), source="y")
    monkeypatch.setattr(mapping, "FAR", 0.9)
    laid = lay_out(store, vectors=Words())
    assert laid.far == 1 and "--refit makes room" in laid.sentence


def test_anchors_are_drawn_and_others_placed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "ANCHORS", 30)
    laid = lay_out(store, vectors=Words())
    assert laid.anchors == 30 and np.isfinite(laid.xy).all() and len(laid.row) == 56
    kinds = np.arange(56) < 32
    centre = [laid.xy[kinds == k].mean(axis=0) for k in (False, True)]
    right = [np.linalg.norm(xy - centre[int(k)]) < np.linalg.norm(xy - centre[1 - int(k)]) for xy, k in zip(laid.xy, kinds)]
    assert np.mean(right) > 0.9


def test_over_cells_a_row_keeps_its_place_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "FEW", 20)
    monkeypatch.setattr(mapping, "CELL", 8)
    before = lay_out(store, vectors=Words())
    store.import_rows(make_rows([*MORE, *given()]).to_batches(), source="y")
    after = lay_out(store, vectors=Words())
    assert np.allclose(after.xy[9:], before.xy, atol=1e-5)


@pytest.mark.parametrize("rows", [
    [{"instruction": "Name a river.", "response": "Elbe"}],
    [{"instruction": "Name a river.", "response": "Elbe"}] * 25,
    [{"instruction": "", "response": ""}, {"instruction": "Name a sea.", "response": "x"}],
])
def test_one_row_copies_and_empty_texts(tmp_path: Path, rows: list[dict]) -> None:
    laid = lay_out(ready(tmp_path, parse("name: t"), rows), vectors=Words())
    assert laid.xy.shape == (len(rows), 2) and np.isfinite(laid.xy).all()


def test_no_rows_and_a_damaged_map(tmp_path: Path, store: Store) -> None:
    with pytest.raises(CurationError, match="no rows yet"):
        lay_out(Store.create(tmp_path / "none"), vectors=Words())
    lay_out(store, vectors=Words())
    path = store.path / "map" / "anchors.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CurationError, match="not a readable map"):
        lay_out(store, vectors=Words())


def test_another_model_asks_for_a_refit(store: Store) -> None:
    class Wider(Words):
        def of(self, *args: object) -> np.ndarray:
            return np.repeat(super().of(*args), 2, axis=1) / np.float32(np.sqrt(2))     # type: ignore[arg-type]

    lay_out(store, vectors=Words())
    with pytest.raises(CurationError, match="laid out with other vectors"):
        lay_out(store, vectors=Wider())
    assert lay_out(store, vectors=Wider(), refit=True).fitted


def test_pictures(store: Store, tmp_path: Path) -> None:
    spec = parse(SPEC)
    rows = [{"instruction": "</script><script>alert(1)</script><b>x</b>", "response": "no", "family": "label"}, *given()]
    store.import_rows(make_rows(rows).to_batches(), source="y")
    from curation import engine

    engine.check(store, spec)
    laid = lay_out(store, vectors=Words())
    paths = mapping.draw(store, spec, laid, tmp_path / "out")
    image = np.asarray(Image.open(io.BytesIO(Path(paths["png"]).read_bytes())))
    assert image.shape == (mapping.SIDE, mapping.SIDE, 3) and (image < 250).any()
    text = Path(paths["html"]).read_text()
    assert text.count("</script>") == 2 and "<b>x" not in text and "http" not in text.replace("http-equiv", "")
    points = json.loads(re.search(r"id=points>(.*?)</script>", text, re.DOTALL)[1])    # type: ignore[index]
    assert len(points["points"]) == 57 and points["points"][0][4].startswith("</script>")
    assert "label" in text and "write" in text
    with pytest.raises(CurationError, match="no clusters yet"):
        mapping.draw(store, spec, laid, tmp_path / "out", colour="cluster")
    assert "undecided" in Path(mapping.draw(store, spec, laid, tmp_path / "v", colour="verdict")["html"]).read_text()
