"""The way from no data to checked, below the screen: uploads, previews, mappings with hostile names, refused lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from click.testing import CliRunner
from curation.app import start

from curation.cli import cli
from curation.store import Store


def lines(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["../../etc/passwd", "<img src=x>.JSONL", "a\0b.csv", "x" * 500, ".jsonl", "con.json.gz"])
def test_the_name_of_an_upload_is_never_a_path(tmp_path: Path, name: str) -> None:
    kept = start.keep_upload(tmp_path, name, b"{}\n")
    assert start.NAME.fullmatch(kept) and Path(kept).suffix in ("", ".jsonl", ".csv", ".gz")
    assert {p.name for p in tmp_path.iterdir()} == {"uploads"}
    assert {p.name for p in (tmp_path / "uploads").iterdir()} == {kept, f"{kept[:16]}.about"}
    assert start.upload_at(tmp_path, kept) == tmp_path / "uploads" / kept
    assert start.given_name(tmp_path, kept) == name[:200] and start.given_name(tmp_path, "other.jsonl") == "other.jsonl"
    for asked in ("", "..", f"../uploads/{kept}", f"{kept[:16]}.about/..", "0" * 16):
        assert start.upload_at(tmp_path, asked) is None


def test_a_preview_says_format_fields_and_first_rows(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", [{"instruction": f"Say {i}.", "output": "x" * 300, "note": "n"} for i in range(9)])
    found = start.preview(file, {})
    assert found.fields == ["instruction", "output", "note"] and found.problem is None and not found.bad
    assert found.detected.startswith("JSONL, Alpaca rows (instruction, output)")
    assert len(found.rows) == start.SHOWN and found.rows[1]["instruction"] == "Say 1."
    assert found.rows[0]["response"] == "x" * start.CUT + " …" and "system" not in found.rows[0]


def test_unknown_fields_can_be_mapped_whatever_their_names(tmp_path: Path) -> None:
    names = ["frage, deutsch=ja", "{<script>}"]
    file = lines(tmp_path / "a.jsonl", [{names[0]: "Wie viel ist 2 und 2?", names[1]: "4", "z": "1"}] * 3)
    found = start.preview(file, {})
    assert found.problem is not None and "unknown format" in found.problem[0] and found.fields == [*names, "z"]
    mapping = {"instruction": names[0], "response": names[1]}
    assert start.preview(file, mapping).rows[0] == {"instruction": "Wie viel ist 2 und 2?", "response": "4"}
    done = CliRunner().invoke(cli, ["import", str(file), "--to", str(tmp_path / "s"), *start.map_arguments(mapping)])
    assert done.exit_code == 0, done.output
    assert Store(tmp_path / "s").rows()["response"].to_pylist() == ["4"] * 3
    assert start.map_arguments({"instruction": "q", "response": "the answer"}) == [
        "--map", "instruction=q", "--map", "response=the answer"]


def test_a_csv_with_an_unknown_header_shows_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q one,a one\nhello,hi\n", encoding="utf-8")
    assert start.preview(tmp_path / "a.csv", {}).fields == ["q one", "a one"]
    found = start.preview(tmp_path / "a.csv", {"instruction": "q one", "response": "a one"})
    assert found.rows == [{"instruction": "hello", "response": "hi"}]


def test_a_bad_line_is_told_and_the_good_ones_are_shown(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", [{"instruction": "Say a.", "output": "a"}] * 3)
    file.write_text(file.read_text() + "not json\n", encoding="utf-8")
    found = start.preview(file, {})
    assert "a.jsonl:4" in found.bad and found.problem is None and len(found.rows) == 3
    (tmp_path / "empty.jsonl").write_text("")
    assert (start.preview(tmp_path / "empty.jsonl", {}).problem or ("",))[0].endswith("the file is empty")


def test_refused_lines_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    assert start.refused(tmp_path) == (0, [])
    lines(tmp_path / "rejected.jsonl", [{"line": str(k), "reason": "r", "text": "t"} for k in range(30)])
    n, some = start.refused(tmp_path, most=4)
    assert n == 30 and [r["line"] for r in some] == ["0", "1", "2", "3"]
