"""formats: every source is read, every bad line is named or put aside, and what is written reads back the same."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation import formats
from curation.errors import CurationError
from curation.formats import PLAIN_ROWS, read, write, write_hf, write_parquet
from curation.model import ROWS
from curation.text import uid_of

ALPACA = {"instruction": "Name a prime.", "input": "", "output": "Seven."}
ROOT = Path(__file__).parents[1]


def table(source, **options) -> pa.Table:
    return pa.Table.from_batches(list(read(source, **options)), PLAIN_ROWS)


def lines(path: Path, *rows: object) -> Path:
    texts = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def turns(t: pa.Table, row: int = 0) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in t["messages"][row].as_py()]


def refused(path: Path, **options) -> tuple[pa.Table, list[dict]]:
    """Read with skip_bad; return the rows and the lines of rejected.jsonl."""
    aside = path.with_name("rejected.jsonl")
    reading = read(path, skip_bad=True, rejected=aside, **options)
    rows = pa.Table.from_batches(list(reading), PLAIN_ROWS)
    bad = [orjson.loads(line) for line in aside.read_bytes().splitlines()] if aside.exists() else []
    assert reading.refused == len(bad) and reading.accepted == rows.num_rows
    return rows, bad


# ---- shapes

def test_alpaca_with_input_system_and_history(tmp_path):
    row = {"id": 7, "instruction": "Add.", "input": "2 3", "output": "5", "system": "Be brief.",
           "history": [["Hi", "Hello"]], "category": "maths", "score": 1.5}
    path = lines(tmp_path / "a.jsonl", row, ALPACA)
    reading = read(path)
    assert reading.detected == (
        "JSONL, Alpaca rows (instruction, input, output, system, history), UTF-8; family from 'category'"
    )
    t = pa.Table.from_batches(list(reading))
    assert t.schema == PLAIN_ROWS and t.schema.names == ROWS.names
    assert turns(t) == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Add.\n2 3"),
                        ("assistant", "5")]
    first, second = t.to_pylist()
    assert (first["instruction"], first["input"], first["response"]) == ("Add.", "2 3", "5")
    assert (first["id"], first["family"], first["source"], first["split"]) == ("7", "maths", "a.jsonl", None)
    assert first["meta"] == '{"score":1.5}'
    assert first["uid"] == uid_of(turns(t))
    assert (second["row"], second["id"], second["family"], second["meta"]) == (1, "1", None, "{}")
    assert turns(t, 1) == [("user", "Name a prime."), ("assistant", "Seven.")]


def test_sharegpt_names_of_roles_and_tools_kept(tmp_path):
    row = {"conversations": [
        {"from": "human", "value": "Weather?"}, {"from": "function_call", "value": "{}"},
        {"from": "observation", "value": "sun"}, {"from": "gpt", "value": "Sunny."}],
        "system": "Be kind.", "tools": "[]"}
    t = table(lines(tmp_path / "s.jsonl", row))
    assert turns(t) == [("system", "Be kind."), ("user", "Weather?"), ("assistant", "{}"), ("tool", "sun"),
                        ("assistant", "Sunny.")]
    assert json.loads(t["meta"][0].as_py()) == {
        "tools": "[]", "turns": [{}, {}, {"from": "function_call"}, {}, {}]}
    assert t["system"][0].as_py() == "Be kind."


def test_openai_messages_multi_turn_parts_and_tool_calls(tmp_path):
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    row = {"messages": [
        {"role": "developer", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "r", "tool_call_id": "c1"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}], "tools": [{"name": "f"}]}
    t = table(lines(tmp_path / "m.jsonl", row))
    assert turns(t) == [("system", "S"), ("user", "a"), ("assistant", orjson.dumps(calls).decode()), ("tool", "r"),
                        ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert (t["instruction"][0].as_py(), t["response"][0].as_py()) == ("c", "d")
    meta = json.loads(t["meta"][0].as_py())
    assert meta["tools"] == [{"name": "f"}] and meta["turns"][3] == {"tool_call_id": "c1"}


@pytest.mark.parametrize("row", [
    {"prompt": "p", "completion": "c"},
    {"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "c"}]},
    {"query": "p", "response": "c"},
    {"question": "p", "answer": "c"},
    {"conversation": [{"human": "p", "assistant": "c"}]},
    {"input": "p", "output": "c"},
    {"instruction": "p", "context": "", "response": "c", "category": "qa"},
])
def test_names_of_common_sets(tmp_path, row):
    t = table(lines(tmp_path / "x.jsonl", row))
    assert turns(t) == [("user", "p"), ("assistant", "c")]
    assert t["family"][0].as_py() == row.get("category")


def test_dolly_context_is_the_input(tmp_path):
    reading = read(lines(tmp_path / "d.jsonl", {"instruction": "Sum up.", "context": "Long.", "response": "Short."}))
    assert reading.detected == "JSONL, Dolly rows (instruction, context, response), UTF-8"
    assert next(iter(reading))["input"][0].as_py() == "Long."


def test_a_part_that_only_later_rows_have_is_not_lost(tmp_path):
    late = {"id": "z", "instruction": "i", "input": "g", "output": "o", "system": "s", "history": [["p", "q"]],
            "family": "f", "split": "test"}
    rows: list[object] = [{"instruction": "a", "output": "b"}] * 500
    reading = read(lines(tmp_path / "x.jsonl", *rows, late))
    assert reading.detected == "JSONL, Alpaca rows (instruction, output), UTF-8"
    last = pa.Table.from_batches(list(reading)).slice(500)
    assert turns(last) == [("system", "s"), ("user", "p"), ("assistant", "q"), ("user", "i\ng"), ("assistant", "o")]
    assert [last[name][0].as_py() for name in ("id", "family", "split", "meta")] == ["z", "f", "test", "{}"]


def test_a_mapped_field_serves_one_part_only(tmp_path):
    row = {"instruction": "a", "input": "b", "output": "c", "system": "d"}
    t = table(lines(tmp_path / "x.jsonl", row), mapping={"family": "input", "id": "system"})
    assert turns(t) == [("user", "a"), ("assistant", "c")]
    assert (t["family"][0].as_py(), t["id"][0].as_py(), t["meta"][0].as_py()) == ("b", "d", "{}")


def test_type_and_task_are_no_family(tmp_path):
    t = table(lines(tmp_path / "x.jsonl", {**ALPACA, "type": "a", "task": "b"}))
    assert t["family"][0].as_py() is None and json.loads(t["meta"][0].as_py()) == {"type": "a", "task": "b"}


def test_mapping_names_every_part_and_errs_with_the_nearest(tmp_path):
    path = lines(tmp_path / "x.jsonl", {"q": "Q", "a": "A", "topic": "t", "key": 3, "extra": None})
    t = table(path, mapping={"instruction": "q", "response": "a", "family": "topic", "id": "key"})
    assert turns(t) == [("user", "Q"), ("assistant", "A")]
    assert (t["family"][0].as_py(), t["id"][0].as_py(), t["meta"][0].as_py()) == ("t", "3", '{"extra":null}')
    with pytest.raises(CurationError, match="there is no field 'topik'") as error:
        read(path, mapping={"family": "topik"})
    assert "did you mean 'topic'" in error.value.hint
    with pytest.raises(CurationError, match="'respons' is not a part of a row") as error:
        read(path, mapping={"respons": "a"})
    assert "did you mean 'response'" in error.value.hint
    with pytest.raises(CurationError, match=r"unknown format.*'q', 'a'") as error:
        read(path)
    assert "--map instruction=" in error.value.hint


# ---- containers

@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".jsonl"])
def test_json_array_of_any_layout(tmp_path, indent, suffix):
    rows = [{**ALPACA, "output": f"say \"{{[{k}]}}\" \\", "list": [[1], {"a": []}]} for k in range(300)]
    data = json.dumps(rows, indent=indent).encode()
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    t = table(path)
    assert t["response"].to_pylist() == [row["output"] for row in rows]
    assert read(path).detected.startswith("JSON array, Alpaca rows (instruction, input, output), UTF-8")


def test_json_array_across_block_ends_gives_the_same(tmp_path, monkeypatch):
    rows = [{**ALPACA, "output": "x" * (k % 90) + "\"}]"} for k in range(200)]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(rows, indent=2))
    monkeypatch.setattr(formats, "BLOCK", 257)
    assert table(path)["response"].to_pylist() == [row["output"] for row in rows]


def test_json_array_refuses_by_line(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[\n{"instruction": "a", "output": "b"},\n 5,\n{"instruction": "a"},\n{"instruction": "c", "output": "d"}')
    rows, bad = refused(path)
    assert rows["response"].to_pylist() == ["b", "d"]
    assert [(b["line"], b["reason"]) for b in bad] == [
        (3, "the line is a number (5), expected an object"), (4, "missing field 'output'"),
        (5, "the array is not closed: an element has no end, and nothing after it could be read")]


def test_csv_quotes_newlines_and_map(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffid,ask,reply\r\n1,"two\nlines, ""quoted""",yes\r\n\r\n2,ä,\r\n'.encode())
    reading = read(path, mapping={"instruction": "ask", "response": "reply"})
    assert reading.detected == "CSV, mapped rows (ask, reply), UTF-8 with BOM"
    t = pa.Table.from_batches(list(reading))
    assert t["instruction"].to_pylist() == ['two\nlines, "quoted"', "ä"]
    assert t["response"].to_pylist() == ["yes", ""] and t["id"].to_pylist() == ["1", "2"]


def test_tsv_and_csv_refusals_name_the_line(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes(b"prompt\tresponse\na\tb\nc\nd\te\xff\nf\tg\0\nh\ti\n\"open\tj\n")
    rows, bad = refused(path)
    assert rows["response"].to_pylist() == ["b", "i"]
    assert [(b["line"], b["reason"].split(":")[0]) for b in bad] == [
        (3, "1 cells, but the header names 2 columns"), (4, "byte 0xff is not UTF-8"), (5, "NUL byte"),
        (7, "malformed CSV")]
    with pytest.raises(CurationError, match=r"x\.tsv:3: 1 cells"):
        table(path)


def test_csv_bad_headers(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,a\n1,2\n")
    with pytest.raises(CurationError, match="the header names 'a' twice"):
        read(path)
    path.write_text("prompt,response\n")
    with pytest.raises(CurationError, match="no row after the header"):
        read(path)


def test_parquet_arrow_and_hf_folder(tmp_path):
    import datasets

    data = pa.table({"instruction": ["a", "b"], "output": ["c", None], "n": [1, 2]})
    pq.write_table(data, tmp_path / "x.parquet")
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, data.schema) as out:
        out.write_table(data)
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": datasets.Dataset(data.slice(0, 1)), "test": datasets.Dataset(data.slice(0, 1))}
                         ).save_to_disk(str(tmp_path / "hf"))
    for name in ("x.parquet", "x.arrow"):
        rows, bad = refused(tmp_path / name)
        assert rows["response"].to_pylist() == ["c"] and rows["meta"].to_pylist() == ['{"n":1}']
        assert [(b["line"], b["reason"]) for b in bad] == [(1, "field 'output' is null, expected text")]
        with pytest.raises(CurationError, match=f"{name} row 1: field 'output' is null"):
            table(tmp_path / name)
    t = table(tmp_path / "hf")
    assert t["split"].to_pylist() == ["train", "test"] and t["source"].to_pylist() == ["hf", "hf"]
    assert table(tmp_path / "hf", split="test")["split"].to_pylist() == ["test"]
    with pytest.raises(CurationError, match="no split 'dev'") as error:
        read(tmp_path / "hf", split="dev")
    assert error.value.hint == "splits: train, test"


def test_hub_id_without_network_is_a_clear_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CurationError, match="no such file, and as a hub id") as error:
        read("nobody/no-such-set-1b2c")
    assert "hf download nobody/no-such-set-1b2c" in error.value.hint


def test_a_file_has_no_splits_to_choose_from(tmp_path):
    with pytest.raises(CurationError, match="a file has no splits"):
        read(lines(tmp_path / "x.jsonl", ALPACA), split="train")


def test_a_hub_that_does_not_answer_costs_no_wait(monkeypatch):
    import socket
    import threading

    asked = threading.Event()

    def never(*_: object, **__: object) -> None:
        asked.wait(30)
        raise OSError("no route")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket, "create_connection", never)
    assert formats.hub_reachable(0.05) is False
    assert not asked.is_set()   # it came back although the connection was still being tried
    asked.set()


@pytest.mark.parametrize("text", [
    b'{"instruction": "a", "output": "b"}\n', b'[{"instruction": "a", "output": "b"}]', b"instruction,output\na,b\n",
])
def test_standard_input_is_detected_by_its_first_bytes(text):
    code = "from curation.formats import read; r = read('-'); print([b['response'].to_pylist() for b in r], r.source)"
    for data in (text, gzip.compress(text)):
        done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True, cwd=ROOT,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.stdout.decode().strip() == "[['b']] stdin"


# ---- bad input

GOOD = orjson.dumps(ALPACA)
BAD_LINES = {
    b'{"instruction": "a", "output"': "malformed JSON: Expecting ':' delimiter at column 30",
    b'{"instruction": "a"}': "missing field 'output'",
    b'{"output": "a", "n": 1}': "missing field 'instruction' (other fields: output, n)",
    b'{"instruction": "a", "output": 42}': "field 'output' is a number (42), expected text",
    b'{"instruction": ["a"], "output": "b"}': "field 'instruction' is a list, expected text",
    b'{"instruction": "a", "output": null}': "field 'output' is null, expected text",
    b'{"instruction": "a", "output": "caf\xe9"}': "byte 0xe9 at byte 36 of the line is not UTF-8",
    b'{"instruction": "a", "output": "b", "output": "c"}': "duplicate key 'output'",
    b'{"instruction": "a", "output" : "b", "output" : "x\\":"}': "duplicate key 'output'",
    b'{"instruction": "a", "output": "b", "out\\u0070ut": "c"}': "duplicate key 'output'",
    b'{"instruction": "a", "output": "b", "m": {"k": 1, "k": 2}}': "duplicate key 'k'",
    b'{"instruction": "a", "output": "\\ud800"}': "a lone surrogate (half of a \\ud83d\\ude00 pair) is not text",
    b'{"instruction": "a", "output": "\0"}': "malformed JSON: NUL byte at column 33",
    b'{"instruction": "a", "output": "b", "x": NaN}': "malformed JSON: NaN and Infinity are not JSON",
    b'["a", "b"]': "the line is a list, expected an object",
    b"null": "the line is null, expected an object",
    b'{"instruction": "a", "output": "b", "x": ' + b"[" * 400 + b"]" * 400 + b"}":
        "a field cannot be kept as JSON: Recursion limit reached",
    b'{"instruction": "a", "output": "b", "x" : ' + b"[" * 1000 + b"]" * 1000 + b"}": "malformed JSON: nested too deep",
    b"[" * 100_000: "malformed JSON: nested too deep",
    b"\xef\xbb\xbf" + GOOD: "malformed JSON: Unexpected UTF-8 BOM (decode using utf-8-sig) at column 1",
}


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_is_named_or_put_aside(tmp_path, bad):
    path = lines(tmp_path / "x.jsonl", GOOD, b"", bad, GOOD)
    reason = BAD_LINES[bad]
    with pytest.raises(CurationError) as error:
        table(path)
    assert error.value.what == f"x.jsonl:3: {reason}" and "--skip-bad" in error.value.hint
    rows, aside = refused(path)
    assert rows["row"].to_pylist() == [0, 1] and rows["id"].to_pylist() == ["0", "1"]
    assert aside == [{"line": 3, "reason": reason, "text": bad.decode("utf-8", "backslashreplace")[:2000]}]


@pytest.mark.parametrize("roles, reason", [
    ("", "the conversation is empty"),
    ("a", "roles out of order: the first turn is 'assistant', expected system or user"),
    ("u", "roles out of order: the last turn is 'user', expected assistant"),
    ("uua", "roles out of order: turn 1 is 'user' after 'user', expected assistant"),
    ("uaa", "roles out of order: turn 2 is 'assistant' after 'assistant', expected user or tool"),
    ("uau", "roles out of order: the last turn is 'user', expected assistant"),
    ("usa", "roles out of order: turn 1 is 'system' after 'user', expected assistant"),
    ("s", "roles out of order: the last turn is 'system', expected assistant"),
    ("uat", "roles out of order: the last turn is 'tool', expected assistant"),
    ("ux", "turn 1: role 'critic' is not known"),
])
def test_roles_out_of_order(tmp_path, roles, reason):
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "x": "critic"}
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}
    bad = {"messages": [{"role": names[r], "content": "t"} for r in roles]}
    rows, aside = refused(lines(tmp_path / "x.jsonl", good, bad, good))
    assert rows.num_rows == 2 and [(b["line"], b["reason"]) for b in aside] == [(2, reason)]


@pytest.mark.parametrize("turn, reason", [
    ("text", "turn 1 is text, expected an object with role and content"),
    ({"role": "assistant"}, "turn 1: no content"),
    ({"role": "assistant", "content": 5}, "turn 1: content is a number (5), expected text"),
    ({"role": "assistant", "content": [{"type": "image_url"}]}, "turn 1: content has a part that is not text"),
    ({"content": "x"}, "turn 1: no role"),
])
def test_bad_turns(tmp_path, turn, reason):
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}
    _, aside = refused(lines(tmp_path / "x.jsonl", good, {"messages": [good["messages"][0], turn]}))
    assert [b["reason"] for b in aside] == [reason]


def test_crlf_bom_and_blank_lines_are_no_fault(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n  \r\n" + GOOD)
    rows, aside = refused(path)
    assert rows.num_rows == 2 and aside == [] and ", UTF-8 with BOM" in read(path).detected


def test_text_that_looks_like_a_key_is_no_duplicate(tmp_path):
    row = {**ALPACA, "output": '{"a": 1, "a" : 2} "b":', "deep": [{"a": {"b": 1}}]}
    assert table(lines(tmp_path / "x.jsonl", row))["response"][0].as_py() == row["output"]


def test_fifty_megabyte_line_is_refused_and_passed_over(tmp_path):
    big = b'{"instruction": "a", "output": "' + b"x" * (50 << 20) + b'"}'
    path = lines(tmp_path / "x.jsonl", GOOD, big, GOOD)
    rows, aside = refused(path)
    assert rows.num_rows == 2
    assert (aside[0]["line"], len(aside[0]["text"])) == (2, 2000) and "16,777,216" in aside[0]["reason"]
    with pytest.raises(CurationError, match=r"x\.jsonl:2: the line is [\d,]+ bytes long or longer"):
        table(path)
    rows, aside = refused(lines(tmp_path / "y.jsonl", big, GOOD))
    assert (rows.num_rows, aside[0]["line"]) == (1, 1)


def test_truncated_gzip_keeps_what_came_before(tmp_path):
    rng = os.urandom(30_000).hex()
    rows = [{**ALPACA, "output": rng[k * 100 : k * 100 + 100]} for k in range(600)]
    data = gzip.compress(b"\n".join(map(orjson.dumps, rows)))
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(data[: len(data) * 2 // 3])
    got, aside = refused(path)
    assert 200 < got.num_rows < 600 and got["response"].to_pylist() == [r["output"] for r in rows[: got.num_rows]]
    assert [b["line"] for b in aside] == [got.num_rows + 1] and "gzip data ends early" in aside[0]["reason"]
    with pytest.raises(CurationError, match="gzip data ends early"):
        table(path)


@pytest.mark.parametrize("name, data, what", [
    ("x.jsonl", b"", "the file is empty"), ("x.jsonl", b"\n \n", "the file is empty"), ("x.json", b"[]", "no row in it"),
    ("x.csv", b"", "the file is empty"), ("x.jsonl.gz", gzip.compress(b"", mtime=0), "the file is empty"),
    ("x.parquet", b"PAR1 cut short", "not a readable Parquet file"), ("x.parquet", b"", "not a readable Parquet file"),
    ("x.arrow", b"ARROW1\0\0 cut", "not a readable Arrow file"), ("x.bin", b"hello", "unknown format"),
    ("x.jsonl", b"hello\n", r"x\.jsonl:1: malformed JSON"), ("x.jsonl", b"\xff\xfe{\0", "UTF-16 text"),
    ("x.xlsx", b"PK\x03\x04..", "a zip or Excel file"), ("x.jsonl", b'{"text": "a"}\n', "unknown format"),
    ("x.json", b'{\n"data": [\n{"instruction": "a"}]}', "malformed JSON"),
])
def test_unreadable_files(tmp_path, name, data, what):
    path = tmp_path / name
    path.write_bytes(data)
    for skip in (False, True):
        with pytest.raises(CurationError, match=what) as error:
            list(read(path, skip_bad=skip))
        assert error.value.hint


def test_object_around_the_list_is_told_apart(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"version": 1, "data": [ALPACA]}, indent=1))
    with pytest.raises(CurationError) as error:
        read(path)
    assert "jq -c '.data[]'" in error.value.hint


def test_missing_file_and_foreign_folder(tmp_path):
    with pytest.raises(CurationError, match="no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(CurationError, match="not a folder written by datasets"):
        read(tmp_path)


def test_rejected_of_an_earlier_run_goes(tmp_path):
    (tmp_path / "rejected.jsonl").write_text("{}\n")
    rows, aside = refused(lines(tmp_path / "x.jsonl", GOOD))
    assert rows.num_rows == 1 and aside == [] and not (tmp_path / "rejected.jsonl").exists()


# ---- blocks and workers

def test_workers_give_the_same_as_one_process(tmp_path, monkeypatch):
    rows: list[object] = [{**ALPACA, "output": f"é{k}", "category": f"f{k % 3}"} for k in range(4000)]
    rows[1234] = b"{broken"
    rows[3999] = b'{"instruction": 1}'
    path = lines(tmp_path / "x.jsonl", *rows)
    monkeypatch.setattr(formats, "BLOCK", 20_000)
    seen: list[tuple[int, int]] = []
    alone, bad_alone = refused(path, workers=1)
    both, bad_both = refused(path, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert alone.equals(both) and bad_alone == bad_both
    assert [b["line"] for b in bad_both] == [1235, 4000] and both.num_rows == 3998
    assert both["row"].to_pylist() == list(range(3998))
    size = path.stat().st_size
    assert seen[-1] == (size, size) and seen == sorted(seen)
    with pytest.raises(CurationError, match=r"x\.jsonl:1235: malformed JSON"):
        table(path)


def test_leaving_early_ends_the_workers(tmp_path, monkeypatch):
    import psutil

    monkeypatch.setattr(formats, "BLOCK", 20_000)
    path = lines(tmp_path / "x.jsonl", *[{**ALPACA, "output": f"{k}" * 9} for k in range(4000)])
    before = set(psutil.Process().children())
    stream = iter(read(path))
    next(stream)
    assert len(set(psutil.Process().children()) - before) == 2
    stream.close()
    assert set(psutil.Process().children()) - before == set()


def test_batches_are_bounded(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"prompt":"","response":""}\n' * 70_000)
    assert [b.num_rows for b in read(path)] == [65_536, 4_464]


# ---- properties

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["\u2028a\u2029", "\x00\x1f\x7f", "\r\n x \r", "e\u0301", "\ufeff", " \x1c", "\U0001f600", '"\\', "a\x85"])
ROLE_TEXT = st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), TEXT)


@given(st.lists(ROLE_TEXT, max_size=5))
def test_uid_is_that_of_text(conversation):
    roles, contents = [r for r, _ in conversation], [c for _, c in conversation]
    assert formats.uid(roles, contents) == uid_of(conversation)


@st.composite
def alpaca_rows(draw):
    row = {"instruction": draw(TEXT), "input": draw(TEXT), "output": draw(TEXT), "system": draw(TEXT)}
    row["history"] = draw(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=2))
    if draw(st.booleans()):
        row["family"] = draw(TEXT)
    return row


VIEWS = ("uid", "id", "messages", "system", "instruction", "input", "response", "family")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(alpaca_rows(), min_size=1, max_size=4))
def test_round_trip_through_every_format(tmp_path, rows):
    first = table(lines(tmp_path / "in.jsonl", *rows))
    for name in formats.FORMATS:
        path = tmp_path / f"{name}.jsonl"
        assert write(first, path, name) == len(rows)
        again = table(path)
        views = VIEWS if name == "alpaca" else ("uid", "id", "messages", "system", "response", "family")
        assert again.select(views).to_pylist() == first.select(views).to_pylist(), name
        data = path.read_bytes()
        write(iter(first.to_batches(max_chunksize=1)), path, name)
        assert path.read_bytes() == data
        write(again, path, name)
        assert path.read_bytes() == data
    write_parquet(first, tmp_path / "out.parquet")
    back = table(tmp_path / "out.parquet")
    assert back.drop(["source"]).to_pylist() == first.drop(["source"]).to_pylist()


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(alpaca_rows(), min_size=1, max_size=4))
def test_round_trip_through_a_dataset_folder(tmp_path, rows):
    first = table(lines(tmp_path / "in.jsonl", *rows))
    folder = tmp_path / "hf"

    def state() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in folder.iterdir()}

    assert write_hf(first, folder) == len(rows)
    before = state()
    assert table(folder).drop(["source"]).to_pylist() == first.drop(["source"]).to_pylist()
    write_hf(first, folder)
    assert state() == before
    assert write_hf({"train": first, "validation": first}, folder) == 2 * len(rows)
    assert table(folder, split="validation")["uid"].to_pylist() == first["uid"].to_pylist()


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
def test_csv_gives_back_every_text(tmp_path, rows):
    import csv

    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("prompt", "response"), *rows])
    path = tmp_path / "x.csv"
    path.write_bytes(text.getvalue().encode())
    t = table(path)
    assert list(zip(t["instruction"].to_pylist(), t["response"].to_pylist())) == rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(st.binary(max_size=40) | st.sampled_from([GOOD, GOOD[:-3], b'{"instruction"', b"[", b"]", b"{}"]),
                     min_size=1, max_size=6), suffix=st.sampled_from(["jsonl", "json", "csv", "txt"]))
def test_any_bytes_end_in_rows_refusals_or_a_clear_error(tmp_path, data, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(b"\n".join(data))
    try:
        rows, aside = refused(path)
    except CurationError as error:
        assert error.what.startswith(("x.", str(path))) and error.hint
        return
    if suffix in {"jsonl", "txt"} and not path.read_bytes().lstrip().startswith(b"["):
        filled = [line for line in path.read_bytes().split(b"\n") if line and not line.isspace()]
        assert rows.num_rows + len(aside) == len(filled)


# ---- writing

def test_carry_and_tools(tmp_path):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": [1], "n": 2}
    t = table(lines(tmp_path / "x.jsonl", row))
    write(t, tmp_path / "o.jsonl", "messages")
    assert orjson.loads((tmp_path / "o.jsonl").read_bytes()) == {
        "messages": row["messages"], "id": "0", "family": "", "tools": [1]}
    write(t, tmp_path / "o.jsonl.gz", "prompt-completion", carry=True)
    assert orjson.loads(gzip.decompress((tmp_path / "o.jsonl.gz").read_bytes())) == {
        "prompt": row["messages"][:1], "completion": row["messages"][1:], "id": "0", "family": "", "tools": [1], "n": 2}


def test_alpaca_has_no_place_for_tools_and_leaves_no_file(tmp_path):
    row = {"messages": [{"role": r, "content": r} for r in ("user", "assistant", "tool", "assistant")]}
    t = table(lines(tmp_path / "x.jsonl", row))
    with pytest.raises(CurationError, match="row '0' has a tool turn"):
        write(t, tmp_path / "o.jsonl", "alpaca")
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]
    with pytest.raises(CurationError, match="'alpacca' is not a format") as error:
        write(t, tmp_path / "o.jsonl", "alpacca")
    assert "did you mean 'alpaca'" in error.value.hint
