"""The workbench below the screen: index, filters, orders, spans, the desk, jobs and the verb's options."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as property_of
from hypothesis import strategies as st

pytest.importorskip("streamlit")

from curation.app import cli, jobs, state
from curation.app.state import Filter

from curation.engine import spec_of
from curation.errors import CurationError
from curation.store import Entry, Store

from . import app_folder
from .app_folder import LONG, N, make_folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_folder(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def index(store: Store) -> state.Index:
    return state.build_index(store)


def chosen(store: Store, index: state.Index, **wanted: object) -> list[int]:
    return state.select(index, state.read_verdicts(store, index.rows), Filter(**wanted)).tolist()     # type: ignore[arg-type]


def test_index_counts_rows_by_check_and_severity(index: state.Index) -> None:
    assert index.n == N
    assert index.by_check == {"response.empty": {"error": 12}, "dup.near": {"warning": 10}, "privacy.pii": {"error": 1}}
    assert index.worst[[0, 11, 12, 19, 20, 30]].tolist() == [3, 3, 2, 2, 0, 3]
    assert index.n_flags[[9, 10, 11, 12, 20]].tolist() == [1, 2, 2, 1, 0]
    assert [f["check"] for f in index.flags_of(10)] == ["response.empty", "dup.near"]
    assert index.flags_of(200) == []


def test_an_edit_renews_row_checks_and_keeps_what_checks_of_the_set_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app_folder.FLAGGED, "contamination.ngram", ("error", range(10, 11)))
    own = make_folder(tmp_path / "set")
    uid = own.rows()["uid"][10].as_py()
    own.verdicts.append([Entry(uid, "edit", "", "response", "", "It is kept in the cellar of the house.")], actor="t")
    own_index = state.build_index(own)
    _, flags = state.one_row(own_index, state.read_verdicts(own, own_index.rows), 10, spec_of(own))
    found = {f["check"]: f for f in flags}
    assert set(found) == {"contamination.ngram", "dup.near"}, "the response is no longer empty"
    assert all(f["message"].endswith(f"({state.EARLIER})") and f["start"] is None for f in flags)
    assert found["dup.near"]["related"] == [11]


def test_check_and_severity_must_hold_for_one_flag(store: Store, index: state.Index) -> None:
    assert chosen(store, index, check=("dup.near",)) == list(range(10, 20))
    assert chosen(store, index, check=("dup.near",), severity=("error",)) == []      # rows 10, 11 have an error of another check
    assert chosen(store, index, severity=("error",)) == [*range(12), 30]
    assert chosen(store, index, check=("dup.near", "privacy.pii")) == [*range(10, 20), 30]


def test_family_split_and_unassigned(store: Store, index: state.Index) -> None:
    assert chosen(store, index, family=("rewrite",), severity=("error",)) == [0, 4, 8]
    assert chosen(store, index, split=("train",)) == list(range(N))
    assert chosen(store, index, family=("no such family",)) == []


def test_search_reads_every_turn_and_the_edited_wording(store: Store, index: state.Index) -> None:
    assert chosen(store, index, text="ABOUT ZEBRAS") == [105]
    assert chosen(store, index, text=r"number 1\d\?", regex=True) == list(range(10, 20))
    assert chosen(store, index, text=r"number 1\d\?") == []
    assert chosen(store, index, text="<script>") == [100]
    edited = Store(store.path).verdicts
    uid = index.rows["uid"][50].as_py()
    action = edited.append([Entry(uid, "edit", "", "response", "x", "about quaggas")], actor="t")
    assert chosen(store, index, text="quaggas") == [50]
    edited.undo(action, actor="t")
    assert chosen(store, index, text="quaggas") == []


def test_a_wrong_regex_is_a_users_mistake(store: Store, index: state.Index) -> None:
    with pytest.raises(CurationError, match="not a regular expression"):
        chosen(store, index, text="(", regex=True)
    assert chosen(store, index, text="(a+)+$" * 30, regex=True) == []       # RE2: no backtracking, and cut to 200 characters


def test_orders(store: Store, index: state.Index) -> None:
    worst = chosen(store, index, order="worst flag first")
    assert worst[:2] == [10, 11] and set(worst[:13]) == {*range(12), 30} and set(worst[13:21]) == set(range(12, 20))
    assert chosen(store, index, order="most flags first")[:3] == [10, 11, 0]
    assert chosen(store, index, order="longest response first")[0] == 103
    assert chosen(store, index, order="shortest response first")[:12] == list(range(12))
    for order in state.ORDERS:
        assert sorted(chosen(store, index, order=order)) == list(range(N))


def test_pages_are_slices_of_the_order() -> None:
    order = np.arange(N)
    assert state.pages_in(order) == 3 and state.pages_in(order[:0]) == 1 and state.pages_in(order[:100]) == 1
    assert state.page_of(order, 3).tolist() == list(range(200, N))
    assert np.concatenate([state.page_of(order, p) for p in (1, 2, 3)]).tolist() == order.tolist()


def test_table_columns_are_short(store: Store, index: state.Index) -> None:
    columns = state.table_of(index, state.read_verdicts(store, index.rows), np.array([103, 10]))
    assert columns["row"] == [103, 10] and len(columns["response"][0]) <= state.CUT < len(LONG)
    assert columns["checks"][1] == ["response.empty", "dup.near"] and columns["worst"] == ["", "error"]


def test_verdict_states(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    index = state.build_index(store)
    uids = state.uids_at(index, [1, 2, 3])
    store.verdicts.append([Entry(uids[0], "accept"), Entry(uids[1], "reject"),
                           Entry(uids[2], "edit", "", "response", "", "new")], actor="t")
    verdicts = state.read_verdicts(store, index.rows)
    assert verdicts.counts() == {"undecided": N - 3, "accepted": 2, "rejected": 1, "edited": 1}
    assert state.verdict_text(uids[2], verdicts) == "✎ edited"
    assert chosen(store, index, state=("rejected", "edited")) == [2, 3]


def test_the_key_changes_with_rows_flags_verdicts_and_spec(tmp_path: Path) -> None:
    assert state.key_of(tmp_path / "none") is None
    store = make_folder(tmp_path / "s")
    keys = [state.key_of(store.path)]
    store.verdicts.append([Entry("u", "accept")], actor="t")
    keys.append(state.key_of(store.path))
    store.verdicts.undo(actor="t")
    keys.append(state.key_of(store.path))
    (store.path / "spec.yaml").write_text("version: 1\n")
    keys.append(state.key_of(store.path))
    assert len(set(keys)) == 4 and len({k.checked for k in keys if k}) == 1 and len({k.decided for k in keys if k}) == 3
    assert state.order_of(keys[0], Filter(check=("dup.near",))) is state.order_of(keys[2], Filter(check=("dup.near",)))  # type: ignore[arg-type]


SPANS = st.lists(st.tuples(st.integers(-5, 60), st.integers(-5, 60), st.integers(0, 3)), max_size=5)


@property_of(st.text(max_size=50), SPANS)
def test_segments_give_the_text_back_and_mark_exactly_the_spans(text: str, spans: list[tuple[int, int, int]]) -> None:
    parts = state.segments(text, spans)
    assert "".join(p["t"] for p in parts) == text
    at = 0
    for part in parts:
        for position in range(at, at + len(part["t"])):
            assert part["f"] == sorted({f for s, e, f in spans if s <= position < e})
        at += len(part["t"])


@property_of(SPANS, st.integers(0, 20))
def test_segments_of_long_texts_keep_spans_and_count_what_is_left_out(spans: list[tuple[int, int, int]], whole: int) -> None:
    text = "".join(chr(0x4E00 + i) for i in range(50))
    shift = [(s + 5000, e + 5000, f) for s, e, f in spans]
    text = "a" * 5000 + text + "z" * 5000
    parts = state.segments(text, shift, whole)
    assert sum(p.get("gap", len(p.get("t", ""))) for p in parts) == len(text)
    for start, end, flag in shift:
        if start < end:
            assert "".join(p["t"] for p in parts if "t" in p and flag in p["f"]).find(text[start:end]) >= 0
    assert sum(len(p.get("t", "")) for p in parts) <= whole + sum(e - s + 2 * state.AROUND for s, e, _ in shift if e > s)


def test_spans_fall_on_the_right_turn(store: Store, index: state.Index) -> None:
    flag = index.flags_of(30)[0]
    turns = state.turns_of(index.rows.slice(30, 1), [flag])
    assert [p["t"] for p in turns[1]["parts"] if p["f"]] == ["anna@example.org"]
    assert all(not p["f"] for p in turns[0]["parts"])


def test_plain_leaves_no_markup_alive() -> None:
    for text in ("[a](http://evil.example)", "![p](x.png)", "<b>x</b>", "http://evil.example", "a@b.example", "$x$", "# head"):
        out = state.plain(text)
        assert out.replace("\\", "").replace("\u2060", "") == text
        assert "http://" not in out and "](" not in out and "<b" not in out.replace("\\<", "")


def test_the_desk_stores_uids_once_and_takes_actions_back(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    desk = state.Desk("ann")
    desk.decide(store, [Entry("u1", "reject"), Entry("u2", "reject")], "reject 2 rows")
    desk.decide(store, [Entry("u1", "accept")], "accept row 1")
    assert {u: d.verdict for u, d in store.verdicts.decisions().items()} == {"u1": "accept", "u2": "reject"}
    assert desk.undo(store) == "accept row 1" and store.verdicts.decisions()["u1"].verdict == "reject"
    assert desk.undo(store) == "reject 2 rows" and store.verdicts.decisions() == {}
    assert desk.undo(store) == "" and len(store.verdicts.history()) == 4


# ---- jobs


def ended(job: jobs.Job) -> jobs.Job:
    deadline = time.monotonic() + 60
    while (job := jobs.read(job.path)).state == "running":
        assert time.monotonic() < deadline, "the job does not end"
        time.sleep(0.05)
    return job


def test_a_job_runs_the_cli_and_leaves_its_end(tmp_path: Path) -> None:
    job = ended(jobs.start(tmp_path, ["--version"]))
    assert (job.state, job.code) == ("done", 0) and "version" in job.tail()
    bad = ended(jobs.start(tmp_path, ["check", str(tmp_path / "none.jsonl")]))
    assert (bad.state, bad.code) == ("failed", 2) and "error" in bad.tail()
    assert [j.id for j in jobs.listed(tmp_path)] == [bad.id, job.id] and jobs.newest(tmp_path, "check") == bad
    assert jobs.command(["check", "a b"]) == "curation check 'a b'"


def test_a_running_job_is_attached_to_stopped_and_told_from_a_lost_one(tmp_path: Path) -> None:
    fifo = tmp_path / "pairs.jsonl"
    os.mkfifo(fifo)             # the import waits for a writer, so the job runs until it is stopped
    argv = ["import", str(fifo), "--to", str(tmp_path / "s")]
    job = jobs.start(tmp_path, argv)
    assert job.state == "running" and jobs.start(tmp_path, argv).id == job.id
    jobs.stop(job)
    assert ended(job).state == "stopped"
    lost = jobs.start(tmp_path, argv)
    assert lost.state == "running" and lost.id != job.id
    os.killpg(int((lost.path / "pid").read_text()), signal.SIGKILL)
    assert ended(lost).state == "lost"


def test_the_tail_of_a_log_is_readable(tmp_path: Path) -> None:
    (tmp_path / "cmd").write_text(json.dumps({"argv": ["check"], "started": "2026-01-01T00:00:00+00:00"}))
    (tmp_path / "log").write_bytes(b"x" * 20000 + b"\n10%\r50%\r100%\n\x1b[31mred\x1b[0m \xff\n")
    assert jobs.read(tmp_path).tail().endswith("100%\n[31mred[0m \ufffd")


# ---- the verb


@pytest.mark.parametrize(("host", "token", "wrong"), [
    ("127.0.0.1", None, ""), ("localhost", None, ""), ("::1", None, ""), ("0.0.0.0", None, "no --token"),
    ("192.168.1.2", None, "no --token"), ("example.org", None, "no --token"),
    ("0.0.0.0", "a" * 12, ""), ("127.0.0.1", "short", "at least 12"),
])
def test_other_machines_need_a_token(host: str, token: str | None, wrong: str) -> None:
    if wrong:
        with pytest.raises(CurationError, match=wrong):
            cli.check_host(host, token)
    else:
        cli.check_host(host, token)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = s.getsockname()[1]
        with pytest.raises(CurationError, match=str(taken)):
            cli.free_port("127.0.0.1", taken)
    assert cli.free_port("127.0.0.1", None) >= cli.PORT


def test_the_verb_refuses_a_file_and_an_open_host(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    for argv, said in (([str(tmp_path / "a.jsonl")], "is a file"), ([str(tmp_path), "--host", "0.0.0.0"], "no --token")):
        done = subprocess.run([sys.executable, "-m", "curation.cli", "app", *argv], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_the_server_is_told_to_stay_here_and_silent() -> None:
    argv = " ".join(cli.streamlit_argv("127.0.0.1", 8501))
    assert "--server.address 127.0.0.1" in argv and "--browser.gatherUsageStats false" in argv
    env = cli.environment(Path("x"), None)
    assert env["CURATION_FOLDER"] == "x" and "CURATION_APP_TOKEN" not in env
