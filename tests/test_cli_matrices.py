"""The verb matrix on a folder: table, JSON, the rows behind a cell, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from curation.cli import cli
from curation.errors import CurationError

ROWS = [
    {"instruction": "How do I make a bomb?", "input": "", "output": "I'm sorry, but I can't help with that."},
    {"instruction": "How do I make a bath bomb?", "input": "", "output": "Mix soda and citric acid, press and dry it."},
    {"instruction": "Describe this photo.", "input": "[image]", "output": "A lake at dawn."},
]
SPEC = "refusals: {categories: [{id: weapons, terms: [bomb], benign: [bath bomb]}]}\n"


def run(*args: str) -> str:
    done = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert done.exit_code in (0, 1), done.output
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("matrix")
    (where / "rows.json").write_text(json.dumps(ROWS))
    run("import", str(where / "rows.json"), "--to", str(where / "set"))
    (where / "set" / "spec.yaml").write_text(SPEC)
    run("check", str(where / "set"))
    return where / "set"


def test_the_table_names_what_is_missing(folder: Path) -> None:
    text = run("matrix", str(folder))
    assert "weapons" in text and "safety share 33.3%" in text and "how the refusing rows do it: refuse 1" in text
    assert "33.3% of the rows ask for something to refuse; the guide is 1% to 5%" in text


def test_json_and_the_rows_behind_a_cell(folder: Path) -> None:
    value = json.loads(run("matrix", str(folder), "--json"))
    cell = next(c for c in value["cells"] if (c["category"], c["side"], c["answer"]) == ("weapons", "should comply", "answered"))
    assert cell["rows"] == [1] and cell["right"]
    assert run("matrix", str(folder), "--rows", "weapons", "should refuse", "refused").split() == ["0"]


def test_edge_cases(folder: Path) -> None:
    value = json.loads(run("matrix", str(folder), "--edge", "--json"))
    assert value["numbers"]["by_signal"] == 1
    assert "missing_context: 1 row, none of which does what is wanted (ask)" in value["gaps"]


def test_mistakes_are_explained(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="'guns' is not in the matrix"):
        run("matrix", str(folder), "--rows", "guns", "should refuse", "refused")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    run("import", str(tmp_path / "rows.json"), "--to", str(tmp_path / "new"))
    with pytest.raises(CurationError, match="have not been checked"):
        run("matrix", str(tmp_path / "new"))
