"""Kept sets of rows: equal names for equal sets, order kept, an import survived, a name from the address checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("streamlit")

from curation.app import picks, state

from curation.errors import CurationError

from .app_folder import make_folder

TABLE = pa.table({"uid": pa.chunked_array([[f"u{i}" for i in range(5)], [f"u{i}" for i in range(5, 9)]])})


def test_a_set_comes_back_in_its_order(tmp_path: Path) -> None:
    name = picks.keep(tmp_path, TABLE, np.array([7, 2, 4]), "lasso", rows_hash="h")
    back = picks.load(tmp_path, TABLE, name, rows_hash="h")
    assert (back.rows.tolist(), back.words, back.gone) == ([7, 2, 4], "lasso", 0)
    assert picks.keep(tmp_path, TABLE, np.array([7, 2, 4]), "lasso", rows_hash="h") == name
    assert picks.keep(tmp_path, TABLE, np.array([2, 7, 4]), "lasso", rows_hash="h") != name


def test_a_set_is_found_by_uid_after_an_import(tmp_path: Path) -> None:
    name = picks.keep(tmp_path, TABLE, np.array([7, 2, 4]), "lasso", rows_hash="h")
    later = pa.table({"uid": ["new", "u4", "u7", "u9"]})
    back = picks.load(tmp_path, later, name, rows_hash="other")
    assert (back.rows.tolist(), back.gone) == ([2, 1], 1)


@pytest.mark.parametrize("name", ["../../etc/pas", "0123456789ag", "0123456789abc", "a" * 12])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CurationError, match="kept set"):
        picks.load(tmp_path, TABLE, name, rows_hash="h")


def test_a_filter_takes_a_kept_set(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "set")
    key = state.key_of(store.path)
    assert key is not None
    name = state.keep(key, np.array([40, 10, 13, 4]), "by hand")
    assert state.order_of(key, state.Filter(among=name)).tolist() == [40, 10, 13, 4]
    assert state.order_of(key, state.Filter(among=name, check=("response.empty",))).tolist() == [10, 4]
    assert state.order_of(key, state.Filter(among=name, order="worst flag first")).tolist() == [10, 4, 13, 40]
