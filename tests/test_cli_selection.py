"""The verbs coverage, select and map: output for people and machines, exit codes, files, and no traceback for a mistake."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from .rows import make_rows
from .test_cli import curation
from .test_selection import SPEC, given


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("selection")
    rows = make_rows(given()).select(["instruction", "response", "family"]).to_pylist()
    (place / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = curation("import", place / "pairs.jsonl", "--to", place / "set")
    assert done.returncode == 0, done.stderr
    (place / "set" / "spec.yaml").write_text(SPEC)
    assert curation("check", place / "set").returncode == 0
    return place / "set"


def test_coverage_as_text_json_and_csv(folder: Path, tmp_path: Path) -> None:
    done = curation("coverage", folder, "--csv", tmp_path / "counts.csv")
    assert done.returncode == 0, done.stderr
    assert "family ghost: 0 rows, 3 short of 3" in done.stdout and "write line" in done.stdout
    assert "--vectors adds" in done.stdout and not (folder / "vectors").exists(), "nothing is embedded unless asked for"
    assert (tmp_path / "counts.csv").read_text().startswith("mix,name,rows,share\nfamily,label,32,")
    value = json.loads(curation("coverage", folder, "--json").stdout)
    assert value["rows"] == 56 and value["families"] == {"label": 32, "write": 24} and value["gaps"][0]["id"] == "ghost"


def test_coverage_against_a_folder_a_version_and_nothing(folder: Path, tmp_path: Path) -> None:
    rows = make_rows(given()[:32]).select(["instruction", "response", "family"]).to_pylist()
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert curation("import", tmp_path / "old.jsonl", "--to", tmp_path / "old").returncode == 0
    value = json.loads(curation("coverage", folder, "--against", tmp_path / "old", "--json").stdout)
    assert (value["came"], value["gone"], value["stayed"]) == (24, 0, 32) and value["new_pairs"] == {"write line": 24}
    text = curation("coverage", folder, "--against", "1").stdout
    assert text.startswith("against 1: 0 rows came, 0 went, 56 stayed")
    wrong = curation("coverage", folder, "--against", "7")
    assert wrong.returncode == 2 and "neither a folder nor a version" in wrong.stderr and "versions: 0001" in wrong.stderr


def test_select_writes_nothing_a_table_or_verdicts(folder: Path, tmp_path: Path) -> None:
    done = curation("select", folder, "--size", 20, "--out", tmp_path / "chosen.parquet")
    assert done.returncode == 0, done.stderr
    assert "20 rows chosen of 56 that can be" in done.stdout and "nothing is changed" in done.stdout
    assert pq.read_table(tmp_path / "chosen.parquet").num_rows == 20
    before = json.loads(curation("gate", folder, "--json").stdout)["kept"]
    value = json.loads(curation("select", folder, "--size", 20, "--write-verdicts", "--json").stdout)
    assert before == 56 and len(value["chosen"]) == 20 and value["action"] == 1
    assert value["objective"] > max(value["random_objective"])
    assert json.loads(curation("gate", folder, "--json").stdout)["kept"] == 20
    dropped = json.loads(curation("show", folder, "--dropped", "--json").stdout)
    assert len(dropped) == 36 and dropped[0]["kind"] == "selection"
    assert curation("review", folder, "--undo").returncode == 0
    assert json.loads(curation("gate", folder, "--json").stdout)["kept"] == 56


def test_map_writes_pictures(folder: Path, tmp_path: Path) -> None:
    done = curation("map", folder, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "laid out anew on 56 rows" in done.stdout and (tmp_path / "map.png").exists() and (tmp_path / "map.html").exists()
    again = json.loads(curation("map", folder, "--out", tmp_path, "--json").stdout)
    assert not again["fitted"] and again["rows"] == 56


@pytest.mark.parametrize("args, words", [
    (("select", "--size", "0"), "at least one row"),
    (("select", "--size", "1000"), "only 56 of 56 rows can be chosen"),
    (("select", "--size", "5", "--out", "x.txt"), "must end in .csv"),
    (("map", "--colour", "cluster"), "has no clusters yet"),
])
def test_mistakes_have_no_traceback(folder: Path, args: tuple[str, ...], words: str) -> None:
    done = curation(args[0], folder, *args[1:])
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_a_folder_without_rows(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for verb in (("coverage",), ("select", "--size", "3"), ("map",)):
        done = curation(verb[0], tmp_path, *verb[1:])
        assert done.returncode == 2 and "has no rows yet" in done.stderr
