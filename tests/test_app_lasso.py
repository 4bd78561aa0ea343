"""Rows inside a lasso, the picture of a view, clusters of the map and their names, and the page Map without a browser."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

pytest.importorskip("streamlit")

from curation.app import map as maps
from curation.app import state
from curation.app.views.map import gaps_of

from curation.spec import load
from curation.store import Entry, Store

from .app_groups import CROWD, N, lay_out, make_groups, places
from .test_app_pages import open_app, words

__all__ = ["open_app"]      # a fixture

SQUARE = [(-1.0, -1.0), (0.0, -1.0), (0.0, 0.0), (-1.0, 0.0)]


def by_hand(xy: np.ndarray, corners: list[tuple[float, float]]) -> list[int]:
    """The even-odd rule, row by row and edge by edge."""
    out = []
    for i, (x, y) in enumerate(xy.tolist()):
        odd = False
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if (y0 <= y) != (y1 <= y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                odd = not odd
        if odd:
            out.append(i)
    return out


GRID = some.integers(-8, 8).map(lambda k: k / 8)      # exact in float32, and often at the same height


@settings(max_examples=200)
@given(some.lists(some.tuples(GRID, GRID), max_size=40), some.lists(some.tuples(GRID, GRID), min_size=3, max_size=9))
def test_the_rows_inside_are_those_of_the_even_odd_rule(
    points: list[tuple[float, float]], corners: list[tuple[float, float]]
) -> None:
    xy = np.array(points, np.float32).reshape(-1, 2)
    found = maps.inside(maps.places_of(xy[:, 0], xy[:, 1]), np.array(corners))
    # where an edge of another slope meets a point exactly, rounding decides on either side
    near = {i for i in range(len(xy)) for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
            if a[1] != b[1] and abs(a[0] + (xy[i, 1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0]) - xy[i, 0]) < 1e-6}
    assert set(found.tolist()) - near == set(by_hand(xy, corners)) - near
    assert found.tolist() == sorted(set(found.tolist()))


def test_rows_without_a_place_are_left_out() -> None:
    found = maps.places_of(np.array([0.1, np.nan, -0.2], np.float32), np.array([0.1, 0.0, -0.2], np.float32))
    assert sorted(found.row.tolist()) == [0, 2]
    assert maps.inside(found, np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])).tolist() == [0, 2]
    assert maps.inside(found, np.array([(0, 0), (1, 1)])).tolist() == []


@given(some.lists(some.tuples(some.floats(0, 1), some.floats(0, 1)), max_size=30))
def test_a_lasso_in_the_address_is_the_lasso(corners: list[tuple[float, float]]) -> None:
    whole = (-2.0, -1.0, 1.0, 2.0)
    given_ = [(whole[0] + 3 * x, whole[1] + 3 * y) for x, y in corners]
    back = maps.corners_of(maps.code_of(given_, whole), whole)
    assert back.shape == (len(given_), 2)
    assert np.abs(back - np.array(given_).reshape(-1, 2)).max(initial=0) < 1e-4


@pytest.mark.parametrize("code", ["", "abc", "zzzzzzz", "ABCDEF", "<scrip", "0" * 6 * 401])
def test_what_is_no_lasso_selects_nothing(code: str) -> None:
    assert maps.corners_of(code, (0, 0, 1, 1)).shape == (0, 2)


def test_the_nearest_row_within_reach() -> None:
    found = maps.places_of(np.array([0.0, 0.5, 1.0], np.float32), np.array([0.0, 0.5, 1.0], np.float32))
    assert maps.nearest(found, 0.45, 0.52, 0.2) == 1
    assert maps.nearest(found, 0.25, 0.25, 0.1) is None


def image_of(found: maps.Places, colour: maps.Colour, view: maps.View, side: int = 64) -> np.ndarray:
    """(side, side, 2): code and density of each pixel."""
    planes = np.frombuffer(zlib.decompress(maps.picture(found, colour, view, side)), np.uint8)
    return np.moveaxis(planes.reshape(2, side, side), 0, 2)


def test_the_picture_says_the_commonest_name_and_the_density() -> None:
    xy = np.array([(0.25, 0.75)] * 3 + [(0.75, 0.25)], np.float32)
    found = maps.places_of(xy[:, 0], xy[:, 1])
    colour = maps.Colour(np.array([1, 1, 0, 0], np.uint8), ("a", "b"))
    seen = image_of(found, colour, (0.0, 0.0, 1.0, 1.0))
    assert seen[16, 16, 0] == 1 and seen[48, 48, 0] == 0        # above is up: y 0.75 is the line 16
    assert seen[16, 16, 1] == 255 and 0 < seen[48, 48, 1] < 255 and seen[0, 0, 1] == 0
    whole = (0.0, 0.0, 1.0, 1.0)
    share = image_of(found, maps.Colour(np.array([1, 1, 0, 0], np.uint8), ("no", "yes"), share=True), whole)
    assert share[16, 16, 0] == round(255 * 2 / 3) and share[48, 48, 0] == 0
    faint = image_of(found, maps.Colour(np.array([0, 0, 1, 0], np.uint8), ("undecided", "accepted"), faint=0), whole)
    assert faint[16, 16, 0] == 1
    assert image_of(found, colour, (0.6, 0.1, 0.9, 0.4))[:, :, 1].astype(bool).any() and not image_of(
        found, colour, (0.4, 0.4, 0.6, 0.6))[:, :, 1].any()


def test_rare_names_are_other() -> None:
    codes = state.Codes(np.repeat(np.arange(15), np.arange(15, 0, -1)).astype(np.int32), tuple(f"f{k}" for k in range(15)))
    colour = maps.by_name(codes)
    assert colour.names == (*(f"f{k}" for k in range(12)), "other") and colour.counts[-1] == 3 + 2 + 1


def test_the_crowds_are_clusters_with_names_sizes_and_flags() -> None:
    rng = np.random.default_rng(1)
    middle = np.array([(-0.6, -0.6), (0.6, 0.6), (0.6, -0.6)])
    who = np.repeat([0, 1, 2], [500, 300, 20])
    xy = (middle[who] + rng.normal(0, 0.06, (len(who), 2))).astype(np.float32)
    topic = ("zebras in Africa", "engines of ships", "cheese")
    rows = pa.table({"instruction": [f"Tell me about {topic[k]}, number {i}" for i, k in enumerate(who)]})
    worst = np.where(who == 1, 3, 0).astype(np.uint8)
    found = maps.islands(maps.places_of(xy[:, 0], xy[:, 1]), rows, worst)
    label = found.label
    assert found.size.tolist() == [500, 300, 20] and found.flagged.tolist() == [0, 300, 0]
    assert [set(label[who == k].tolist()) for k in range(3)] == [{0}, {1}, {2}]
    assert [set(n.split(", ")) for n in found.names] == [{"zebras", "africa"}, {"engines", "ships"}, {"cheese"}]
    assert found.thin.tolist() == [False, False, True]
    assert np.abs(found.middle - middle).max() < 0.15


def test_texts_are_taken_from_any_chunk() -> None:
    column = pa.chunked_array([["a", None], [], ["c", "d", "e"]], pa.string())
    assert maps.texts_at(column, np.array([0, 1, 2, 4])).to_pylist() == ["a", "", "c", "e"]
    assert maps.texts_at(column, np.array([], np.int64)).to_pylist() == []


# ---- the page


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_groups(tmp_path / "s")


def square_code(corners: list[tuple[float, float]] = SQUARE) -> str:
    xy = places()
    return maps.code_of(corners, maps.places_of(xy[:, 0], xy[:, 1]).whole)


def test_without_a_map_the_page_teaches_and_offers_to_make_it(open_app: Any, tmp_path: Path) -> None:
    store = make_groups(tmp_path / "s", laid_out=False)
    at = open_app(store.path, "map")
    assert "No map of these rows yet" in words(at) and f"curation map {store.path}" in words(at)
    assert at.button(key="map-lay-out").label == "Lay out the map"
    lay_out(store)
    assert f"{N:,} rows. What lies close" in words(open_app(store.path, "map"))


def test_a_lasso_is_decided_on_at_once_with_one_undo(open_app: Any, store: Store) -> None:
    at = open_app(store.path, "map", lasso=square_code())
    assert f"**{CROWD} rows** in lasso on the map" in words(at)
    at.button(key="map_reject").click().run()
    uid = store.rows()["uid"].to_pylist()
    assert {u: d.verdict for u, d in store.verdicts.decisions().items()} == dict.fromkeys(uid[:CROWD], "reject")
    assert [h["rows"] for h in store.verdicts.history()] == [CROWD]
    at.button(key="map_undo").click().run()
    assert store.verdicts.decisions() == {}


def test_a_selection_is_narrowed_by_what_is_flagged_and_undecided(open_app: Any, store: Store) -> None:
    uid = store.rows()["uid"].to_pylist()
    store.verdicts.append([Entry(uid[1], "reject")], actor="t")
    at = open_app(store.path, "map", lasso=square_code(), map_only=["flagged", "undecided"])
    assert f"**7 rows** in lasso on the map, of {CROWD}" in words(at)       # 0 3 4 6 7 8 9; row 11 carries an info only


def test_a_selection_opens_in_browse(open_app: Any, store: Store) -> None:
    at = open_app(store.path, "map", lasso=square_code())
    at.button(key="map_browse").click().run()
    kept = list((store.path / "views" / "rows").glob("*.arrow"))
    assert len(kept) == 1 and not at.exception
    assert f"Among **{CROWD} rows**" in words(open_app(store.path, "browse", among=kept[0].stem))


def test_families_below_their_target_are_gaps(open_app: Any, store: Store) -> None:
    index = state.build_index(store)
    found = gaps_of(index, state.read_verdicts(store, index.rows), load(store.path / "spec.yaml"))
    assert [(g.id, g.have, g.least) for g in found] == [("rewrite", N - CROWD - 1, 90)]
    at = open_app(store.path, "map", map_part="Gaps")
    assert "Families with fewer rows than the spec wants" in words(at)


def test_a_wrong_address_selects_nothing(open_app: Any, store: Store) -> None:
    at = open_app(store.path, "map", lasso="<script>", cluster="99", row="100000")
    assert "0 rows" in words(at) and not at.exception
