"""contamination.*: copied and reworded texts are found, templates and neighbours are not; the reference is read right."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import engine, words
from curation.checks import contamination
from curation.errors import CurationError
from curation.past import NoPast
from curation.references import REFERENCES, references_of
from curation.spec import Spec, parse
from curation.store import Store
from curation.words import find_runs, numbers, words_of

from .rows import make_rows

DATA = Path(__file__).parents[1].parent / "shared" / "data"
DUCKS = ("Janet keeps ducks that lay 16 eggs each day, eats three of them for breakfast, bakes muffins with four, and sells "
         "what is left at the market for two dollars an egg. How much does she earn there every day?")
REWORDED = ("Each day the ducks of Janet lay 16 eggs. Three are eaten at breakfast, four go into muffins she bakes, and the "
            "eggs left over are sold at the market at two dollars per egg. What are her daily earnings at the market?")
BRIDGE = ("A bridge of 40 metres is crossed by a lorry that drives at five metres a second, stops for nine seconds in the "
          "middle, and goes on as before. How many seconds after it set out does it reach the other side?")


def references(*texts, source="bench"):
    return pa.table({"source": [source] * len(texts), "text": list(texts)}, schema=REFERENCES)


def rows_of(*given):
    return make_rows([g if isinstance(g, dict) else {"instruction": g, "response": "Fine."} for g in given])


def ngram(rows, refs, past=None, **options):
    return contamination.ngram(rows, refs, past or NoPast(rows.num_rows), **options)


def semantic(rows, refs, past=None, vectors=None, **options):
    return contamination.semantic(rows, refs, vectors, past or NoPast(rows.num_rows), **options)


def found(flags):
    return [(f["row"], f["field"], f["message"]) for f in flags.to_pylist()]


def marked(rows, flag):
    text = rows[flag["field"]][flag["row"]].as_py()
    return text[flag["start"]:flag["end"]]


# ------------------------------------------------------------------ contamination.ngram
def test_ngram_names_the_reference_and_marks_the_stretch():
    half = " ".join(DUCKS.split()[:24])
    rows = rows_of("Name a colour.", f"Solve this: {DUCKS.upper()}!", f"Go on: {half} ...",
                   {"instruction": "Answer.", "input": f"Question: {DUCKS}", "response": "18"},
                   {"instruction": "Write a question.", "response": f"Here: {DUCKS}"})
    flags = ngram(rows, references(BRIDGE, DUCKS)).to_pylist()
    assert [(f["row"], f["field"], round(f["score"], 2)) for f in flags] == [
        (1, "instruction", 1.0), (2, "instruction", 0.6), (3, "input", 1.0), (4, "response", 1.0)]
    assert flags[0]["message"] == f"repeats 100% of the words of reference 1 of bench: '{DUCKS[:59]}…'"
    assert flags[1]["message"].startswith("repeats 60% of the words of reference 1 of bench: ")
    assert marked(rows, flags[0]) == DUCKS.upper()[:-1] and marked(rows, flags[1]) == half.removesuffix(",")
    assert marked(rows, flags[2]) == marked(rows, flags[3]) == DUCKS[:-1]


def test_ngram_leaves_less_than_half_and_rewording_alone():
    rows = rows_of(" ".join(DUCKS.split()[:16]), REWORDED, BRIDGE.replace("bridge", "ferry"))
    assert found(ngram(rows, references(DUCKS))) == []
    assert [r for r, _, _ in found(ngram(rows, references(DUCKS), threshold=0.3))] == [0]


def test_ngram_takes_both_sides_of_one_row_but_not_of_two():
    words = DUCKS.split()
    one, two = " ".join(words[:12]), " ".join(words[12:24])
    rows = rows_of({"instruction": one, "response": two}, {"instruction": one, "response": "x"},
                   {"instruction": two, "response": "x"})
    assert [r for r, _, _ in found(ngram(rows, references(DUCKS)))] == [0]


def test_ngram_finds_earlier_turns():
    turns = [{"role": r, "content": c} for r, c in (("user", f"Well: {DUCKS}"), ("assistant", "18"), ("user", "Why?"),
                                                    ("assistant", "It is so."))]
    (flag,) = ngram(make_rows([{"messages": turns}]), references(DUCKS)).to_pylist()
    assert (flag["field"], flag["turn"], flag["start"], flag["end"]) == ("row", 0, 6, 5 + len(DUCKS))


def test_ngram_short_references_are_found_whole():
    short, tiny = "Why is the sky so blue?", "Who am I?"
    rows = rows_of("Tell me, why is the sky so blue, my friend?", "Why is the sky so grey?", "who am i", "Tell me: who am I?",
                   {"instruction": "Ask.", "response": "Why is the sky so blue?"})
    assert [(r, m) for r, _, m in found(ngram(rows, references(short, tiny)))] == [
        (0, "repeats 100% of the words of reference 0 of bench: 'Why is the sky so blue?'"),
        (2, "repeats 100% of the words of reference 1 of bench: 'Who am I?'")]


def test_ngram_a_template_is_no_leak():
    form = "Is this review of a place where people eat positive, negative or neutral? The {} was {}."
    refs = references(*(form.format(x, "dull") for x in ("soup", "cake", "rice", "tea")))
    rows = rows_of(form.format("bread", "fine"), form.format("cake", "dull"))
    assert [(r, m.split(" (")[0]) for r, _, m in found(ngram(rows, refs))] == [
        (1, "repeats 100% of the words of reference 1 of bench")]
    long = DUCKS + " Give the sum of the {} alone, without a word, in a line of its own, and {}."
    test = long.format("month", "stop humming tunes aloud")
    many = rows_of(*(long.format(f"week{k}", f"sing{k}") for k in range(30)), test)
    assert [r for r, _, _ in found(ngram(many, references(test)))] == [30]
    question = "Is this review positive, negative or neutral? The game in Riga was {}, so much so that we {}."
    one = rows_of(question.format("dull", "left"))
    assert len(found(ngram(one, references(question.format("good", "stayed"))))) == 1
    own = references(question.format("good", "stayed"), source="battery")
    assert found(ngram(one, own)) == [], "probes share the templates of the rows by design"
    few = many.slice(8, 10)     # rarely seen: not a template, as far as one can know
    assert len(found(ngram(few, references(test)))) == 10


def test_ngram_part_of_a_short_reference_may_be_a_phrase():
    question = "Which of the following is the binary representation of the decimal number 231?"
    rows = rows_of("What is the binary representation of the decimal number 74?", f"Say: {question}")
    part, whole = ngram(rows, references(question)).to_pylist()
    assert (part["severity"], whole["severity"]) == ("info", None) and part["score"] < 0.8
    assert part["message"].endswith("; a phrase in common may be all") and marked(rows, part).startswith("is the binary")


def test_ngram_equal_references_count_once_and_others_are_told():
    rows = rows_of(DUCKS)
    ((_, _, message),) = found(ngram(rows, references(DUCKS, DUCKS.lower(), DUCKS + " Say it.")))
    assert message.startswith("repeats 100% of the words of reference 0 of bench (and of 1 more): ")


def test_ngram_unicode_spans():
    text = "Ｆｉｖｅ cafe\u0301s in Zürich sell “brown” bread — at 4½ francs the loaf, don’t they, and why is that so?"
    rows = rows_of(f"🙂🙂 {text}")
    (flag,) = ngram(rows, references("five cafés in zürich sell brown bread at 4½ francs the loaf don't they "
                                                   "and why is that so")).to_pylist()
    assert marked(rows, flag) == text[:-1] and flag["score"] == 1.0
    solid = "山田さんは毎日十六個の卵を集めて市場で売りますいくら稼ぎますか"
    (flag,) = ngram(rows_of(f"問題{solid}"), references(solid)).to_pylist()
    assert (flag["start"], flag["end"]) == (2, 2 + len(solid))


def _plainly(texts: list[str], refs: list[str], n: int) -> dict[tuple[int, int], float]:
    """The coverage of every reference by every text, word by word."""
    out = {}
    for j, ref in enumerate(refs):
        words = ref.split()
        for i, text in enumerate(texts):
            had = text.split()
            runs = {tuple(had[k:k + n]) for k in range(len(had) - n + 1)}
            covered = {p for k in range(len(words) - n + 1) if tuple(words[k:k + n]) in runs for p in range(k, k + n)}
            if covered:
                out[i, j] = len(covered) / len(words)
    return out


some_words = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=3, max_size=14).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(st.lists(some_words, min_size=1, max_size=5), st.lists(some_words, min_size=1, max_size=5, unique=True),
       st.integers(1, 20), st.integers(1, 3))
def test_coverage_is_what_plain_python_counts(texts, refs, triples, common):
    index = contamination._Index(pa.array(refs), 3, 1)
    n_runs = max(1, len(index.long.key))
    row, run = find_runs(words_of(pa.array(texts)), 3, index.long.table)
    both = np.unique(row * n_runs + run)
    before = contamination.TRIPLES, contamination.COMMON
    contamination.TRIPLES = triples
    try:
        got = defaultdict(float)
        for row, ref, share, _ in contamination._covered(both, np.ones(n_runs, np.int64), index, 0.0):
            got.update({(int(a), int(b)): float(s) for a, b, s in zip(row, ref, share)})
        want = _plainly(texts, refs, 3)
        assert got == pytest.approx(want)
        contamination.COMMON = common
        for row, ref, share, _ in contamination._covered(both, np.ones(n_runs, np.int64), index, 0.0):
            for a, b, s in zip(row.tolist(), ref.tolist(), share.tolist()):
                assert s == pytest.approx(want[a, b]), "a run that many references have still counts"
    finally:
        contamination.TRIPLES, contamination.COMMON = before


# ------------------------------------------------------------------ contamination.semantic
def test_semantic_finds_rewording_and_not_the_neighbour():
    ordinary = [f"Describe the {a} of a {b} in {n} words." for n, (a, b) in enumerate(
        (a, b) for a in ("colour", "price", "shape", "use") for b in ("lamp", "river", "poem", "horse", "law"))]
    rows = rows_of(*ordinary, REWORDED, BRIDGE, "Janet keeps three ducks. Describe them.")
    flags = semantic(rows, references("Who wrote this?", DUCKS)).to_pylist()
    score = flags[0]["score"]
    assert [(f["row"], f["field"], f["message"]) for f in flags] == [
        (20, "instruction", f"resembles ({score:.2f} by words and numbers) reference 1 of bench: '{DUCKS[:59]}…'")]
    assert 0.3 <= score < 0.9
    other = rows_of(*ordinary, REWORDED.replace("16", "25").replace("Three", "Nine").replace("four", "eight"))
    (less,) = semantic(other, references("Who wrote this?", DUCKS), threshold=0.1).to_pylist()
    assert less["score"] < 0.85 * score, "other numbers make another question"


def test_semantic_a_template_is_no_rewording():
    form = "Tell me as if I were a child how a {} is made in the town of {} and why the people there are proud of it."
    rows = rows_of(*(form.format(f"thing{k}", f"place{k}") for k in range(40)))
    assert found(semantic(rows, references(form.format("cheese", "Gouda")))) == []
    close = rows_of(*(form.format(f"thing{k}", f"place{k}") for k in range(40)), form.format("cheese", "Gouda") + " Please.")
    assert [r for r, _, _ in found(semantic(close, references(form.format("cheese", "Gouda"))))] == [40]


def test_numbers():
    assert numbers("two of 1,500 and 3.5, twenty") == {2.0, 1500.0, 3.5, 20.0}
    assert numbers("One v2 x") == frozenset()


def test_nothing_to_compare():
    for check in (ngram, semantic):
        assert found(check(rows_of(DUCKS), references())) == []
        assert found(check(rows_of(DUCKS).slice(0, 0), references(DUCKS))) == []
        assert found(check(rows_of("", "\x00", "\u2028"), references("", "?", "!!"))) == []


def test_reworded_questions_are_told_from_others_of_their_kind():
    path = DATA / "contamination_pairs.jsonl"
    if not path.exists():
        pytest.skip(f"{path.name} is not on this machine")
    pairs = [p for p in map(json.loads, path.open(encoding="utf-8")) if p["benchmark"] == "GSM8K"]
    refs = list(dict.fromkeys(p["reference"] for p in pairs if p["contaminated"]))
    flags = semantic(rows_of(*(p["candidate"] for p in pairs)), references(*refs))
    hit, truth = set(flags["row"].to_pylist()), {i for i, p in enumerate(pairs) if p["contaminated"]}
    assert len(hit & truth) / len(hit) >= 0.97
    assert 2 * len(hit & truth) / (len(hit) + len(truth)) >= 0.95


def test_semantic_says_when_a_subject_in_common_may_be_all():
    rows = rows_of("What were the names of the three ships of Columbus?", "Name the three ships Columbus had.", REWORDED,
                   "Describe the ships of Columbus.")
    refs = references("What are the names of the three ships of Columbus?", "Which of the three ships of Columbus sank?", DUCKS)
    flags = semantic(rows, refs).to_pylist()
    assert [(f["row"], f["severity"]) for f in flags] == [(0, None), (1, "info"), (2, None)]
    assert flags[1]["message"].endswith("; a subject in common may be all") and "subject" not in flags[0]["message"]


class Meaning:
    """Vectors that tell how much of a text is about animals, and next to nothing else."""

    ANIMALS = frozenset(["dog", "puppy", "hound", "barked", "growled", "postman", "mailman"])

    def __init__(self):
        self.asked = []

    def of(self, uids, texts, model=""):
        assert len(uids) == len(texts)
        self.asked += texts
        share = np.array([[np.mean([w.strip(".?") in self.ANIMALS for w in t.lower().split()] or [0])] for t in texts])
        other = np.eye(997)[[zlib.crc32(t.encode()) % 997 for t in texts]] * (1 - share) / 4
        out = np.concatenate([share, other], axis=1)
        return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


def test_embeddings_propose_what_words_do_not():
    refs = references("A puppy growled; the mailman ran.", BRIDGE, DUCKS)
    rows = rows_of("One dog barked: some postman fled.", "Name a colour of the sea in one word.", REWORDED)
    vectors = Meaning()
    low = {"threshold": 0.2, "vectors": vectors}
    assert [r for r, _, _ in found(semantic(rows, refs, **low))] == [2] and not vectors.asked, "not unless asked for"
    flags = semantic(rows, refs, embed=True, **low).to_pylist()
    assert [f["row"] for f in flags] == [0, 2] and "by words and meaning) reference 0 of bench" in flags[0]["message"]
    assert flags[0]["score"] <= contamination.MEANING + 1e-6, "a cosine alone does not reach the default"
    (plain,) = semantic(rows, refs, threshold=0.2).to_pylist()
    assert flags[1]["score"] >= plain["score"] - 1e-4


# ------------------------------------------------------------------ rows looked up before
class Kept:
    """A past in memory: rows that were there, by their content."""

    def __init__(self, arrays=None, before=(), now=()):
        self.arrays, self.saved = arrays, None
        place = {}
        for i, row in enumerate(before):
            place.setdefault(row, []).append(i)
        self.earlier = np.array([place[r].pop(0) if place.get(r) else -1 for r in now], np.int64)

    def load(self):
        return self.arrays

    def save(self, arrays):
        self.saved = {k: np.array(v) for k, v in arrays.items()}


FORM = "Is this review of a place where people eat positive, negative or neutral? The {} was {}."
REFS = [DUCKS, BRIDGE, FORM.format("soup", "dull"), "Why is the sky so blue?", "Who am I?", DUCKS.lower()]
pieces = st.sampled_from([DUCKS, REWORDED, BRIDGE, FORM.format("soup", "dull"), FORM.format("cake", "dull"), "who am i",
                          "Tell me why is the sky so blue?", " ".join(DUCKS.split()[:24]), "Name a colour.", "", "\u00dcn 12"])


@settings(max_examples=40, deadline=None)
@given(st.lists(pieces, max_size=40), st.lists(pieces, max_size=8), st.randoms(use_true_random=False))
def test_flags_with_a_past_are_those_without(before, new, random):
    now = [t for t in before if random.random() < 0.8] + new
    random.shuffle(now)
    old, rows, refs = (rows_of(*x) for x in (before, now)), rows_of(*now), references(*REFS)
    old = next(iter(old))
    for check in (ngram, semantic):
        first = Kept(now=before)
        first.earlier = np.full(len(before), -1, np.int64)
        check(old, refs, first)
        again = Kept(first.saved, before, now) if first.saved else NoPast(len(now))
        assert check(rows, refs, again).to_pylist() == check(rows, refs).to_pylist()


def test_only_new_rows_are_looked_up(monkeypatch):
    before, refs = [DUCKS, BRIDGE, "Name a colour."] * 4, references(*REFS)
    now = [*before[3:], REWORDED]
    seen = []
    plain = words.words_of
    monkeypatch.setattr(words, "words_of", lambda texts, **o: seen.append(len(texts)) or plain(texts, **o))
    first = Kept(now=before)
    first.earlier[:] = -1
    ngram(rows_of(*before), refs, first)
    assert seen[-1] == 2 * len(before)
    seen.clear()
    ngram(rows_of(*now), refs, Kept(first.saved, before, now))
    assert seen == [len(REFS), 2], "the references, and the two turns of the new row"


# ------------------------------------------------------------------ the reference
@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "set")
    store.import_rows(rows_of("Name a colour.", DUCKS, BRIDGE).to_batches(), source="x")
    return store


def test_a_changed_reference_runs_the_check_again(store: Store, tmp_path: Path):
    file = tmp_path / "refs.jsonl"
    file.write_text(json.dumps({"benchmark": "GSM", "text": DUCKS}) + "\n")
    given = engine.overrides_of([f"contamination.reference={file}"])
    first = engine.check(store, Spec(), checks=["contamination.ngram"], overrides=given)
    assert first.flags == {"contamination.ngram": 1} and "contamination.ngram" in first.ran
    assert store.flags().to_pylist()[0]["message"].startswith("repeats 100% of the words of reference 0 of GSM: ")
    assert store.flags()["severity"].to_pylist() == ["error"]
    assert engine.check(store, Spec(), checks=["contamination.ngram"], overrides=given).ran == ()
    file.write_text(file.read_text() + json.dumps({"text": BRIDGE}) + "\n")
    again = engine.check(store, Spec(), checks=["contamination.ngram"], overrides=given)
    assert again.ran == ("contamination.ngram",) and again.flags == {"contamination.ngram": 2}


def test_the_battery_is_the_default_reference(store: Store):
    spec = parse("battery: {file: battery.jsonl}")
    checks = ["contamination.ngram", "contamination.semantic"]
    assert engine.check(store, spec, checks=checks).flags == {"contamination.ngram": 0, "contamination.semantic": 0}
    probe = {"id": "p", "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": DUCKS}]}
    (store.path / "battery.jsonl").write_text(json.dumps(probe) + "\n")
    done = engine.check(store, spec, checks=checks)
    assert done.flags == {"contamination.ngram": 1, "contamination.semantic": 1}
    assert [f["message"].partition(" reference 0 of ")[2].split(":")[0] for f in store.flags().to_pylist()] == ["battery"] * 2


def test_references_of_other_formats(tmp_path: Path):
    def read(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return references_of(str(path), Spec()).to_pylist()

    alpaca = json.dumps([{"instruction": "Add.", "input": "1 and 2", "output": "3"}], indent=1).encode()
    assert read("a.json", alpaca) == [{"source": "a.json", "text": "Add.\n1 and 2"}]
    assert read("b.csv", b"instruction,output\nAdd 1 and 2.,3\n") == [{"source": "b.csv", "text": "Add 1 and 2."}]
    lines = b'{"text": "one"}\r\n\n{"text": "two", "source": "here"}\n'
    want = [{"source": "c.jsonl", "text": "one"}, {"source": "here", "text": "two"}]
    assert read("c.jsonl", lines) == want
    array = b'\xef\xbb\xbf [{"text": "one"},\n {"messages": [{"role": "user", "content": "two"}], "benchmark": "B"}]'
    assert read("e.json", array) == [{"source": "e.json", "text": "one"}, {"source": "B", "text": "two"}]
    assert [r["text"] for r in read("d.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + lines))] == ["one", "two"]


@pytest.mark.parametrize(("data", "says"), [
    (b"", "the file is empty"), (b'{"text": "  "}\n', "no line holds text"),
    (b'{"text": "a"}\n{"texts": "b"}\n', r"refs\.jsonl:2: no field `text`"),
    (b'{"text": "a"}\n{"text": 3}\n', r"refs\.jsonl:2: no field"),
    (b'{"text": "a"}\n{"text"\n', r"refs\.jsonl:2: not JSON"), (b'{"words": "a"}\n', r"refs\.jsonl"),
    (gzip.compress(b"x", mtime=0)[:-4], "broken gzip"),
    (b'[{"text": "a"}, {"text": 3}]', r"refs\.jsonl: entry 2: no field `text`"),
    (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8"), (b'[{"text": "a"', r"refs\.jsonl"), (b"[1, 2]", r"refs\.jsonl"),
])
def test_a_bad_reference_says_where_and_what_to_do(data: bytes, says: str, tmp_path: Path):
    path = tmp_path / "refs.jsonl"
    path.write_bytes(data)
    with pytest.raises(CurationError, match=says) as e:
        references_of(str(path), Spec())
    assert e.value.hint


def test_an_absent_reference_exits_2_with_the_way_out(tmp_path: Path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"instruction": "Name a prime.", "output": "Seven."}) + "\n")
    done = subprocess.run([sys.executable, "-m", "curation.cli", "check", str(file), "--checks", "contamination.ngram",
                           "--set", "contamination.reference=nowhere.jsonl"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "contamination.reference: nowhere.jsonl: no such file" in done.stderr
    assert "give JSON lines with a field `text`" in done.stderr
