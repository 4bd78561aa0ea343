"""Duplicate checks: what must be flagged, the near misses that must not be, and the messages."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import wording
from curation.checks import duplicates
from curation.clusters import clusters
from curation.model import ROWS
from curation.past import NoPast
from curation.refusal import classify

DATA = Path(__file__).parents[1].parent / "shared" / "data"
LONG = "Boil the water, add the pasta, stir once, wait nine minutes, then drain it and serve it hot with the sauce."


def table(*rows, system="", numbers=None):
    """Rows from (instruction, input, response) or a list of (role, content) turns."""
    out = []
    for i, r in enumerate(rows):
        if isinstance(r, list):
            turns, (instruction, given, response) = r, (r[-2][1], "", r[-1][1])
        else:
            instruction, given, response = r
            turns = [("user", f"{instruction}\n{given}" if given else instruction), ("assistant", response)]
        n = i if numbers is None else numbers[i]
        out.append({"row": n, "uid": f"u{n}", "id": str(n), "system": system, "instruction": instruction, "input": given,
                    "response": response, "family": None, "source": "test", "split": None, "meta": "{}",
                    "messages": [{"role": a, "content": b} for a, b in turns]})
    return pa.Table.from_pylist(out, schema=ROWS)


def exact(rows, past=None):
    return duplicates.exact(rows, past=past or NoPast(rows.num_rows))


def near(rows, past=None, **options):
    return duplicates.near(rows, past=past or NoPast(rows.num_rows), **options)


def conflict(rows, refusal, past=None, **options):
    return duplicates.conflict(rows, refusal=refusal, past=past or NoPast(rows.num_rows), **options)


def boilerplate(rows, refusal, past=None, **options):
    return duplicates.boilerplate(rows, refusal=refusal, past=past or NoPast(rows.num_rows), **options)


def found(flags):
    return [(f["row"], f["related"], f["message"]) for f in flags.to_pylist()]


def refusals(rows):
    return pa.array(classify(rows["response"].to_pylist()))


def test_exact_ignores_case_space_and_unicode_form():
    rows = table(("Say  hello", "", "Héllo"), ("other", "", "thing"), ("say HELLO", "", "he\u0301llo "),
                 ("Say hello", "to Bo", "Héllo"), ("say hello", "", "hello"), ("Say hello", "", "HÉLLO"))
    assert found(exact(rows)) == [
        (2, [0, 5], "says the same as row 0, which is kept (3 copies in all)"),
        (5, [0, 2], "says the same as row 0, which is kept (3 copies in all)"),
    ]
    assert exact(rows)["score"].to_pylist() == [1.0, 1.0]


def test_exact_uses_row_numbers_and_earlier_turns():
    rows = table(("a b", "", "c"), ("a b", "", "c"), numbers=[70, 90])
    assert found(exact(rows)) == [(90, [70], "says the same as row 70, which is kept")]
    first, second = ([("user", start), ("assistant", "ok"), ("user", "go on"), ("assistant", "fine")]
                     for start in ("tell of cats", "tell of dogs"))
    assert found(exact(table(first, second))) == []
    assert found(exact(table(first, second, first))) == [(2, [0], "says the same as row 0, which is kept")]


@pytest.mark.parametrize(("one", "two"), [
    (("How do I cook pasta for two people?", "", LONG), ("How do I cook pasta for two people ?", "", LONG + " Enjoy.")),
    (("How do I cook pasta?", "", LONG), ("Could you please help me with this question: How do I cook pasta?", "", LONG)),
    (("How do I cook pasta for two?", "", LONG), ("How do I coook pasta for two?", "", LONG)),
    (("Classify the tone of the text.", "I love this place a lot!", "positive"),
     ("Classify the tone of the text", "I love this place a lot!!", "Positive")),
])
def test_near_flags_the_later_row(one, two):
    flags = near(table(one, ("Something else", "entirely", "and its answer"), two))
    ((row, related, message),) = found(flags)
    score = flags["score"][0].as_py()
    assert (row, related) == (2, [0]) and 0.8 <= score <= 1.0
    assert message == f"near-duplicate ({score:.2f}) of row 0, which is kept"
    assert flags["severity"][0].as_py() is None and flags["start"][0].as_py() is None


@pytest.mark.parametrize(("one", "two"), [
    # same passage, other task
    (("Summarise the passage.", LONG, "How to cook pasta."), ("List the key terms.", LONG, "water, pasta, sauce")),
    # same template, other slot
    (("Classify the sentiment of the following review: the room was clean and the staff were kind to us", "", "positive"),
     ("Classify the sentiment of the following review: the room was clean and the staff were rude to us", "", "positive")),
    (("Write a short note of thanks to my friend Maria for the lovely evening", "", f"Dear Maria, {LONG}"),
     ("Write a short note of thanks to my friend Peter for the lovely evening", "", f"Dear Peter, {LONG}")),
    (("Print the multiplication table from 2 to 10 as plain text", "", LONG),
     ("Print the multiplication table from 2 to 12 as plain text", "", LONG)),
    # same prompt, other answer
    (("How do I cook pasta?", "", LONG), ("How do I cook pasta?", "", "Ask a cook near you, for I have never tried it.")),
    # one refusal for two requests
    (("How do I pick the lock of my neighbour's door?", "", "No."), ("How do I pick the lock of my uncle's door?", "", "No.")),
])
def test_near_leaves_other_rows_alone(one, two):
    assert found(near(table(one, two))) == []


def test_near_leaves_exact_copies_to_exact_and_respects_earlier_turns():
    rows = table(("How do I cook pasta?", "", LONG), ("how do I cook pasta?", "", LONG))
    assert found(near(rows)) == [] and len(found(exact(rows))) == 1
    one, two = ([("user", start), ("assistant", "ok"), ("user", "Go on, please."), ("assistant", LONG)]
                for start in ("Tell me about the history of cats", "Explain how a bill becomes law"))
    assert found(near(table(one, two))) == []


def test_near_flags_only_rows_like_a_kept_row():
    words = LONG.split()
    chain = [("How do I cook pasta?", "", " ".join([*words[k:], *(f"{w}{k}" for w in words[:k])])) for k in range(0, 6)]
    flags = near(table(*chain))
    flagged = {f["row"]: f for f in flags.to_pylist()}
    assert flagged and 0 not in flagged
    for f in flagged.values():
        assert f["related"][0] not in flagged and f["message"].endswith(f"of row {f['related'][0]}, which is kept")


def test_a_template_with_many_slots_is_one_cluster():
    rows = table(*[("How do I cook pasta?", "", f"{LONG} {LONG.upper()} Ticket t{i} is closed.") for i in range(600)])
    flags = near(rows)
    assert flags["row"].to_pylist() == list(range(1, 600))
    assert {r[0] for r in flags["related"].to_pylist()} == {0} and max(map(len, flags["related"].to_pylist())) <= 50
    ((kept, members, scores),) = clusters(flags)
    assert kept == 0 and members == list(range(1, 600)) and min(scores) >= 0.8


def test_a_floor_changes_no_near_duplicate():
    long = "The committee met on Monday and agreed to build the new bridge across the northern river before the winter comes."
    ask = "What did the committee decide on Monday evening?"
    rows = table(*((ask, "", text) for text in (
        long, long.replace("before the winter comes", "and all were glad of it"), long.replace("northern", "old northern"),
        long.replace("before the winter comes", "and all were very glad of it"))))
    without = near(rows).to_pylist()
    strong = [f for f in near(rows, floor=0.4).to_pylist() if f["severity"] != "info"]
    assert strong == without and [(f["row"], f["related"]) for f in without] == [(2, [0]), (3, [1])]
    weak = [f for f in near(rows, floor=0.4).to_pylist() if f["severity"] == "info"]
    assert [(f["row"], f["related"][0]) for f in weak] == [(1, 0)]


def test_floor_keeps_weaker_pairs_as_info():
    rows = table(("How do I cook pasta?", "", LONG), ("How do I cook pasta?", "", LONG.replace("nine", "eleven or so")))
    (strong,) = near(rows, threshold=0.7).to_pylist()
    assert near(rows, threshold=0.95).num_rows == 0
    (weak,) = near(rows, threshold=0.95, floor=0.7).to_pylist()
    assert weak["severity"] == "info" and weak["score"] == strong["score"]
    assert weak["message"] == f"resembles row 0 ({weak['score']:.2f}, below the threshold 0.95)"


def test_fields_that_are_left_out_may_differ():
    other = "Take the bus to the old harbour, walk along the pier and ask for the white boat with the two red sails."
    rows = table(("How do I cook pasta?", "", LONG), ("How do I cook pasta?", "", other),
                 ("Which way is it to the sea?", "", LONG.replace("nine", "ten")), ("How do I cook  PASTA?", "", LONG))
    assert [f["row"] for f in near(rows).to_pylist()] == []         # row 3 is a copy of row 0, which dup.exact says
    assert [(f["row"], f["related"]) for f in near(rows, fields=("instruction", "input")).to_pylist()] == [(1, [0, 3])]
    assert [(f["row"], f["related"]) for f in near(rows, fields=("response",)).to_pylist()] == [(2, [0, 3])]


def test_no_rows():
    rows = table(("a", "", "b")).slice(0, 0)
    none = pa.array([], pa.string())
    for flags in (exact(rows), near(rows), conflict(rows, refusal=none),
                  boilerplate(rows, refusal=none)):
        assert flags.num_rows == 0
    assert clusters(near(rows)) == []


@pytest.mark.parametrize(("prompt", "one", "two", "here", "there"), [
    ("Is the sky blue, yes or no?", "Yes", "No.", "'yes' here, 'no' there", "'no' here, 'yes' there"),
    ("A train goes 60 km in 2 hours. How fast is it?", "60/2 = 30\n#### 30", "It goes at 20.\nAnswer: 20",
     "30 here, 20 there", "20 here, 30 there"),
    ("How do I cook pasta?", LONG, "I'm sorry, but I can't help with that.", "an answer here, a refusal there",
     "a refusal here, an answer there"),
    ("What is the best way of cooking fresh pasta?", LONG, "Daniel Minahan directed both episodes of season three.",
     "the answers have nothing in common, and that one is off the question",
     "the answers have nothing in common, and this one is off the question"),
])
def test_conflict(prompt, one, two, here, there):
    rows = table((prompt, "", one), ("Something else", "", "and its answer"), (prompt.upper(), "", two))
    flags = conflict(rows, refusal=refusals(rows))
    assert found(flags) == [(0, [2], f"answers the prompt of row 2 differently: {here}"),
                            (2, [0], f"answers the prompt of row 0 differently: {there}")]
    assert flags["field"].to_pylist() == ["response", "response"]


@pytest.mark.parametrize(("prompt", "one", "two"), [
    ("Write a poem about a rose", "Roses are red and rather tall in June.", "Petals fall while winter whispers low."),
    ("Name a fruit", "Apple", "Pear"),
    ("What is the best way of cooking fresh pasta?", LONG, LONG.replace("nine", "eight")),
    ("Who wrote Hamlet?", "Shakespeare", "William Shakespeare"),
    ("How fast is it?", "30", "30.0"),
])
def test_no_conflict(prompt, one, two):
    rows = table((prompt, "", one), (prompt, "", two))
    assert found(conflict(rows, refusal=refusals(rows))) == []


def test_boilerplate():
    answer = "It depends on many factors, so please consult the manual first."
    rows = table(*[(f"What about {x}?", "", answer) for x in ("tea", "cars", "law")], ("What about tea?", "", answer),
                 *[(f"How to break {x}?", "", "I'm sorry, but I can't help you with that request.") for x in "abc"],
                 ("Short one?", "", "Yes"), ("Short two?", "", "Yes"), ("Short three?", "", "Yes"))
    flags = boilerplate(rows, refusal=refusals(rows))
    assert [(f["row"], f["related"], f["message"]) for f in flags.to_pylist()][:2] == [
        (0, [1, 2, 3], "gives the answer that 3 different prompts get"),
        (1, [0, 2, 3], "gives the answer that 3 different prompts get"),
    ]
    assert flags["row"].to_pylist() == [0, 1, 2, 3]


def load(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not on this machine")
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def test_planted_duplicates():
    planted = load("injected_flaws.jsonl")
    rows = table(*[(r["instruction"], r.get("input") or "", r["output"]) for r in planted])
    groups: dict[str, set[int]] = {}
    for i, r in enumerate(planted):
        if "group" in r:
            groups.setdefault(r["group"], set()).add(i)
    drops = set(exact(rows)["row"].to_pylist()) | set(near(rows)["row"].to_pylist())
    clash = set(conflict(rows, refusal=refusals(rows))["row"].to_pylist())
    kinds = {k: [m for g, m in groups.items() if g.startswith(k)] for k in (
        "exact_duplicate", "near_duplicate", "paraphrase_duplicate", "contradictory_duplicate",
        "same_input_different_task")}
    for kind in ("exact_duplicate", "near_duplicate", "paraphrase_duplicate"):
        assert sum(len(m & drops) == 1 for m in kinds[kind]) >= 0.95 * len(kinds[kind]), kind
    assert sum(m <= clash for m in kinds["contradictory_duplicate"]) >= 0.85 * len(kinds["contradictory_duplicate"])
    assert not any(m & (drops | clash) for m in kinds["same_input_different_task"])
    assert len(drops) <= sum(len(kinds[k]) for k in kinds if k.endswith("_duplicate") and not k.startswith("contra")) + 2


class Kept:
    """A past in memory: rows were added behind those that `before` speaks of."""

    def __init__(self, n, before=None):
        self.arrays, self.old = {}, before.arrays if before else None
        known = int(self.old["rows"][0]) if self.old else 0
        self.earlier = np.where(np.arange(n) < known, np.arange(n), -1)

    def load(self):
        return self.old

    def save(self, arrays):
        self.arrays = {k: np.array(v) for k, v in arrays.items()}
        assert all(v.dtype.kind in "biuf" for v in self.arrays.values())


def asked_and_answered(n, seed):
    """Rows in which every kind of duplicate, template, conflict and boilerplate is common."""
    rng = random.Random(seed)
    tasks = ["How do I cook pasta for two people?", "Is the sky blue, yes or no?", "Write a note of thanks to {} for the evening",
             "Please explain how a bill becomes a law in {}", "A train goes 60 km in {} hours. How fast is it?"]
    answers = [LONG, LONG.replace("nine", "eight"), "Yes", "No.", "I'm sorry, but I can't help with that.", "It is 30",
               "Answer: 20", "Daniel Minahan directed both episodes of season three.", LONG.upper(), "Dear {}, " + LONG,
               "Ünï " + LONG]
    out = []
    for _ in range(n):
        slot = rng.choice(["Maria", "Peter", "Ghana", "2", "3"])
        task, answer = rng.choice(tasks).format(slot), rng.choice(answers).format(slot)
        task = rng.choice(["", "Please: "]) + task + rng.choice(["", "", " Thanks!"])
        out.append((task, rng.choice(["", "", "some input"]), answer))
    return table(*out)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 119))
def test_a_run_on_new_rows_gives_the_flags_of_a_whole_run(seed, known):
    rows = asked_and_answered(120, seed)
    said = refusals(rows)
    for run in (exact, near, lambda r, past: conflict(r, said.slice(0, r.num_rows), past),
                lambda r, past: boilerplate(r, said.slice(0, r.num_rows), past)):
        before = Kept(known)
        run(rows.slice(0, known), before)
        after = Kept(120, before)
        whole = run(rows, NoPast(120))
        assert run(rows, after).equals(whole)
        moved = Kept(120, before)
        moved.earlier = moved.earlier[::-1]     # rows that lie elsewhere now: nothing of the past is used
        assert run(rows, moved).equals(whole)


def test_answers_become_labels_by_rows_added_behind():
    """One answer is given by few of the known rows; with the new ones it is a label, and the old pair is in conflict."""
    told = [f"{w} it is" for w in ("Good", "Fine", "Well")]
    pair = [("What does the reviewer of the film say about it?", "", x) for x in ("sour.", "Sweet")]
    rest = [(f"{t} said of the film number {k} in the list?", "", x)
            for k, (t, x) in enumerate([(t, x) for t in told for x in ("Sour", "sweet")])]
    filler = [(f"Tell me about number {k} of the {k * 7} things", "", f"Things such as {k} and {k + 1}") for k in range(300)]
    known = [*pair, *rest, *filler]
    more = [("Who was it again?", "", "sour"), ("And now who was it?", "", "SWEET!"), ("Who?", "", " sour")]
    rows = table(*known, *more, ("Who, then?", "", "sweet"), ("Well, who?", "", "Sour"), ("Yes, who?", "", "Sweet"))
    said, n = refusals(rows), len(known)
    before = Kept(n)
    assert conflict(rows.slice(0, n), said.slice(0, n), before).num_rows == 0
    after = Kept(rows.num_rows, before)
    found = conflict(rows, said, after)
    assert found.equals(conflict(rows, said)) and found["row"].to_pylist() == [0, 1]
    assert found["message"][0].as_py() == "answers the prompt of row 1 differently: 'sour' here, 'sweet' there"
    assert "label" in before.arrays and not after.arrays, "what is known is enough; nothing is kept anew"


def test_scores_are_told_as_python_rounds_them():
    scores = np.array([0.0, 0.005, 0.015, 0.125, 0.375, 0.805, 0.995, 0.9949999999999999, 1.0, *(k / 200 for k in range(201)),
                       *np.random.default_rng(0).random(500)])
    assert duplicates._hundredths(scores).to_pylist() == [f"{x:.2f}" for x in scores.tolist()]


def test_words_are_cut_again_as_from_the_texts():
    texts = pa.array(["Boiling the water, 12 times", "Über die Brücke ٣ mal gehen", "", "water"])
    known, rows = wording.words_of([texts]), np.array([1, 3])
    one, two = wording.again(known, rows, stop=True, stem=True), wording.words_of([texts.take(rows)], stop=True, stem=True)
    for k in range(2):
        assert one.flat[one.start[k]:][:one.count[k]].tolist() == two.flat[two.start[k]:][:two.count[k]].tolist()
    assert one.total.tolist() == two.total.tolist() == [6, 1] and one.digit[:one.count[0]].sum() == 1


def test_digits_of_any_script_and_accents_tell_prompts_apart():
    ask = "Print the multiplication table up to {} as plain text with care"
    one, two, three = (table((ask.format(a), "", LONG), (ask.format(b), "", LONG)) for a, b in (
        ("10", "12"), ("\u0663\u0660", "\u0663\u0661"), ("\u0663\u0660", "30")))
    assert found(near(one)) == [] and found(near(two)) == []
    assert [f[0] for f in found(near(three))] == [1]


def test_a_character_of_a_script_without_blanks_is_a_word():
    ask = ("请仔细阅读下面这条餐厅评论，判断评论者的情感倾向，只能回答正面或者负面，不要输出任何其他的文字，也不要解释你的理由。"
           "我们上周末去了这家新开的餐厅，店里装修得很漂亮，服务员的态度也不错，我觉得这家餐厅的菜很{}吃。")
    good, bad = ask.format("好"), ask.format("难")
    assert found(near(table((good, "", "正面"), (bad, "", "正面")))) == []
    assert [f[0] for f in found(near(table((good, "", "正面"), (good + "！", "", "正面"))))] == [1]
    number = ("请计算下面的算式并且只写出最后的结果，不要写出任何计算的过程，也不要写单位或者任何其他的文字，"
              "算式就是这个：十二加{}等于多少")
    rows = table((number.format("七"), "", "19"), (number.format("八"), "", "20"))
    assert found(conflict(rows, refusals(rows))) == []
