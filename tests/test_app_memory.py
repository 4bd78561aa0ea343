"""Pages of mapped files go back to the system, and what they hold is still there afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("streamlit")

from curation.app.memory import let_go, mapped

from curation.store import read_arrow, write_arrow


def resident(path: Path) -> int:
    """Return the bytes of a file's mappings that lie in memory."""
    found, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if not first.endswith(":"):
            ours = line.endswith(str(path.resolve()))
        elif ours and first == "Rss:":
            found += int(line.split()[1]) * 1024
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_pages_are_given_back_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows" / "x.arrow"
    values = np.arange(1_000_000)
    write_arrow(path, pa.table({"x": values}))
    table = read_arrow(path)
    assert table["x"].to_numpy().sum() == values.sum()
    assert resident(path) > 7_000_000 and sum(size for _, size in mapped(tmp_path)) >= 8_000_000
    let_go(tmp_path / "elsewhere")
    assert resident(path) > 7_000_000
    let_go(tmp_path)
    assert resident(path) < 1_000_000
    assert table["x"].to_numpy().sum() == values.sum()
