"""diversity: rows by family and in clusters on a folder, the verbs that print them, and what odd folders answer."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from curation import diversity, engine
from curation.cli import cli
from curation.diversity import clusters_of, families_of, keys_of
from curation.errors import CurationError
from curation.formats import read
from curation.spec import Spec, parse
from curation.store import Entry, Store

TOPICS = ["cat", "river", "train", "garden", "piano", "winter", "bread", "moon", "letter", "bridge", "camel", "violin", "harbour"]
SPEC = """
families:
  - id: translate
    description: Translate a text into another language
    target: [0.2, 0.5]
    examples: ["Translate the phrase about the cat into Italian."]
  - id: summarise
    examples: ["Summarize the passage on the river.", "Give a short summary of this passage."]
  - id: juggle
    description: Zxqw vbnm
"""


def rows(n=120, given=()):
    made = []
    for i in range(n):
        topic = f"{TOPICS[i % 13]} of {TOPICS[i * 7 % 13]}"
        kind, row = [
            ("translate", {"instruction": f"Translate the phrase about the {topic} into Italian.",
                           "output": f"Il {topic} bello."}),
            ("summarise", {"instruction": f"Summarize the passage on the {topic}.",
                           "input": f"The {topic} is big. It is old. " * 4,
                           "output": f"It tells how old the {topic} is and why it matters to people who live there."}),
            ("quiz", {"instruction": f"Is the claim about the {topic} true or false?", "output": "True" if i % 2 else "False"}),
            ("list", {"instruction": f"List three facts about a {topic}.", "output": f"- {topic}\n- old\n- {i}"}),
        ][i % 4]
        made.append({**row, "family": kind} if kind in given else row)
    return made


def folder(tmp_path, made, spec=SPEC):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in made))
    store = Store.create(tmp_path / "set")
    store.import_rows(read(str(file)), source="rows.jsonl")
    if spec is not None:
        (store.path / "spec.yaml").write_text(spec)
    return store


def test_clusters_follow_the_task_and_are_named(tmp_path):
    store = folder(tmp_path, rows())
    found = clusters_of(store, k=4, stable=True)
    table = found.frame()
    assert table["rows"].tolist() == [30] * 4 and table["share"].sum() == pytest.approx(1)
    label = found.clusters.label
    assert all(len(set(label[i::4].tolist())) == 1 for i in range(4))
    names = dict(zip(label[:4].tolist(), ("translate phrase", "summarize passage", "ask is claim", "list fact")))
    assert {c: n for c, n in zip(table["cluster"], table["name"])} == names
    assert set(table.loc[table["name"] == "translate phrase", "words"].item()) >= {"translate", "phrase", "italian"}
    assert table["flag_rate"].isna().all() and table["typical"].map(len).eq(3).all() and table["odd"].map(len).eq(3).all()
    assert found.stability is not None and min(found.stability.values()) > 0.95
    assert found.why.startswith("rows are compared by how they ask and how they are answered; 4 clusters as asked")


def test_the_signal_is_kept_and_flags_are_counted(tmp_path):
    made = rows(80)
    made[2]["output"] = ""
    store = folder(tmp_path, made)
    engine.check(store, engine.spec_of(store), checks=["response.empty"])
    found = clusters_of(store, k=4)
    signals = store.signals()
    np.testing.assert_array_equal(signals["cluster"].to_numpy(), found.clusters.label)
    lines = {x["cluster"]: x for x in found.table.to_pylist()}
    assert lines[int(found.clusters.label[2])]["flagged"] == 1 and sum(x["flagged"] for x in lines.values()) == 1
    clusters_of(store, k=2)
    assert set(store.signals()["cluster"].to_pylist()) == {0, 1}


def test_meaning_is_asked_for_with_the_edges_of_the_prompt(tmp_path, monkeypatch):
    asked = []

    class Vectors:
        why = "a model made for the test"

        def __init__(self, folder, progress):
            self.progress = progress

        def of(self, uids, texts, model=""):
            asked.append((list(texts), model))
            self.progress(len(texts), len(texts))
            return np.random.default_rng(0).normal(size=(len(texts), 20)).astype(np.float32)

    monkeypatch.setattr(diversity, "Vectors", Vectors)
    made = rows(40)
    made[0]["instruction"] = "Read. " + "word " * 500 + "Who won?"
    seen = []
    found = clusters_of(folder(tmp_path, made), k=4, meaning=True, model="static", progress=lambda *step: seen.append(step))
    assert asked[0][1] == "static" and asked[0][0][0].endswith("word Who won?") and len(asked[0][0][0]) < 500
    assert ("embed", 40, 40) in seen and "by what they mean (a model made for the test)" in found.why


@pytest.mark.parametrize("made,why", [
    ([{"instruction": "Do it.", "output": "ok"}], "one row"),
    ([{"instruction": "Do it.", "output": "ok"}] * 9, "all rows are the same"),
])
def test_nothing_to_tell_apart(tmp_path, made, why):
    found = clusters_of(folder(tmp_path, made))
    assert found.why.endswith(why) and found.table.num_rows == 1 and found.clusters.label.tolist() == [0] * len(made)
    assert found.table["odd"][0].as_py() == list(range(len(made)))[::-1][: min(3, len(made) - 1)]


def test_empty_texts_are_rows_like_others(tmp_path):
    made = [{"instruction": "" if i % 3 else f"Say {TOPICS[i % 13]}", "output": ""} for i in range(30)]
    found = clusters_of(folder(tmp_path, made, None))
    assert len(found.clusters.label) == 30 and len(found.table["name"][0].as_py()) > 0


def test_a_folder_without_rows(tmp_path):
    Store.create(tmp_path / "set")
    for verb in ("clusters", "families"):
        result = CliRunner().invoke(cli, [verb, str(tmp_path / "set")])
        assert isinstance(result.exception, CurationError)
        assert "no rows yet" in str(result.exception) or "names no families" in str(result.exception)


def test_copies_share_a_key():
    one, two, other = keys_of(["abc", "abc#1", "abd"]).tolist()
    assert one == two != other


def test_families_from_names_descriptions_and_examples(tmp_path):
    store = folder(tmp_path, rows())
    found = families_of(store, parse(SPEC))
    by = {x["family"]: x for x in found.table.to_pylist()}
    assert list(by) == ["translate", "summarise", "juggle", ""] and sum(x["rows"] for x in by.values()) == 120
    assert all(f == "translate" for f in found.family.to_pylist()[::4])
    assert by["translate"]["target"] == [0.2, 0.5] and 0.15 <= by["translate"]["confidence"] < 1
    assert by["juggle"]["rows"] == 0 and by["juggle"]["confidence"] is None and found.accuracy is None
    assert "0 rows whose family the data gives" in found.why


def test_given_families_teach_and_the_accuracy_is_shown(tmp_path):
    made = rows(160, given=("translate", "summarise"))
    for row in made[100:]:
        row.pop("family", None)
    found = families_of(folder(tmp_path, made), parse(SPEC))
    assert found.accuracy is not None and found.accuracy["rows"] == 50 and found.accuracy["accuracy"] > 0.9
    assert found.accuracy["low"] <= found.accuracy["accuracy"] <= found.accuracy["high"]
    by = {x["family"]: x for x in found.table.to_pylist()}
    assert by["translate"]["given"] == 25 and by["translate"]["rows"] >= 40 and by["translate"]["accuracy"] > 0.9


def test_reviewed_rows_teach_alone_once_there_are_enough(tmp_path):
    made = rows(200, given=("translate", "summarise"))
    for i in range(120, 200):       # what nobody has looked at is given the other name
        if "family" in made[i]:
            made[i]["family"] = {"translate": "summarise", "summarise": "translate"}[made[i]["family"]]
    store = folder(tmp_path, made)
    before = families_of(store, parse(SPEC))
    uids = store.rows()["uid"].to_pylist()
    good = [i for i in range(100) if i % 4 < 2]
    store.verdicts.append([Entry(uids[i], "accept") for i in good], actor="p", kind="person", note="")
    after = families_of(store, parse(SPEC))
    assert "learnt from 50 reviewed rows" in after.why and "learnt from 100 rows whose family the data gives" in before.why
    assert before.accuracy is not None and after.accuracy is not None
    assert after.accuracy["rows"] == 50 and after.accuracy["accuracy"] > 0.95 > before.accuracy["accuracy"]
    by = {x["family"]: x for x in after.table.to_pylist()}
    assert by["translate"]["reviewed"] == 25 and by["translate"]["given"] == 50


def test_a_spec_without_families_says_what_to_do(tmp_path):
    with pytest.raises(CurationError, match="names no families"):
        families_of(folder(tmp_path, rows(8), None), Spec())


def test_the_verbs(tmp_path):
    store = folder(tmp_path, rows())
    run = CliRunner()
    text = run.invoke(cli, ["families", str(store.path)], catch_exceptions=False).output
    assert "translate" in text and "20%-50%" in text and "no row belongs to juggle" in text
    assert "too few rows of known family" in text
    as_json = json.loads(run.invoke(cli, ["families", str(store.path), "--json"], catch_exceptions=False).output)
    assert [x["family"] for x in as_json["families"]] == ["translate", "summarise", "juggle", ""] and as_json["rows"] == 120
    few = ["clusters", str(store.path), "-k", "4", "--groups", "2", "--limit", "3"]
    text = run.invoke(cli, few, catch_exceptions=False).output
    assert "4 clusters in 2 groups over 120 rows" in text and "... and 1 more clusters (--limit)" in text
    as_json = json.loads(
        run.invoke(cli, ["clusters", str(store.path), "-k", "4", "--stable", "--json"], catch_exceptions=False).output)
    assert as_json["clusters"] == 4 and set(as_json["stability"]) >= {"reseeded", "one_percent_less"}
    assert {"name", "words", "typical", "odd", "flag_rate"} <= set(as_json["table"][0])


def test_a_terminal_is_safe_from_what_rows_say(tmp_path):
    store = folder(tmp_path, [{"instruction": f"\x1b[31mWrite about the {t}\x07", "output": "x"} for t in TOPICS])
    out = CliRunner().invoke(cli, ["clusters", str(store.path)], catch_exceptions=False).output
    assert "\x1b" not in out and "\x07" not in out


def test_columns_are_as_declared(tmp_path):
    store = folder(tmp_path, rows(16))
    assert clusters_of(store).table.schema == pa.schema(list(diversity.CLUSTER_COLUMNS.items()))
    assert families_of(store, parse(SPEC)).table.schema == pa.schema(list(diversity.FAMILY_COLUMNS.items()))


def test_a_model_path_that_is_none(tmp_path):
    store = folder(tmp_path, rows(8))
    result = CliRunner().invoke(cli, ["clusters", str(store.path), "--model", str(tmp_path)])
    assert isinstance(result.exception, CurationError)
    assert "not a folder with a sentence-transformers model (no config.json)" in str(result.exception)
