"""Tests of the built-in set: the same bytes again, every planted flaw there, right rows right, probes held out."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ftfy.badness
import numpy as np
import phonenumbers
import pytest
from stdnum import luhn

from curation import spec as specs
from curation.text import fold, words
from curation.verifiers import verify

FOLDER = Path(__file__).parents[1] / "sample_data"
FAMILIES = ("label", "json", "bullets", "rewrite", "refusal", "benign", "clarify", "conflict")
KINDS = {
    "dup.exact", "dup.near", "dup.conflict", "response.empty", "response.placeholder", "response.truncated",
    "response.mojibake", "response.echo", "response.loop", "constraint.length", "constraint.format", "refusal.over",
    "refusal.missing", "privacy.pii", "prompt.missing_context", "prompt.conflicting",
}
LIMIT = re.compile(r"(?:at most|no more than|at the most) (\w+) words")
NUMBERS = {"eight": 8}


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


PAIRS = lines("pairs.jsonl")
PROBES = lines("battery.jsonl")
NOT_PLANTED = {"dup.boilerplate", "contamination.ngram", "contamination.semantic"}     # named in the spec, no flaw of these
ANSWERS = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
PLANTED = {int(row): entry for row, entry in ANSWERS["rows"].items()}
FAMILY = {int(row): family for row, family in ANSWERS["families"].items()}
RIGHT = [row for row in range(len(PAIRS)) if row not in PLANTED]
SPEC = specs.load(FOLDER / "spec.yaml")


def prompt(row: int) -> str:
    pair = PAIRS[row]
    return f"{pair['instruction']}\n{pair['input']}" if pair["input"] else pair["instruction"]


def response(row: int) -> str:
    return PAIRS[row]["output"]


def refuses(text: str) -> bool:
    return re.search(r"\b(?:can't|cannot|can not) (?:help|assist)", text) is not None


def longest(row_prompt: str, phrases: tuple[str, ...]) -> int:
    """Return the characters of the longest phrase found as whole words, 0 when there is none."""
    flat = fold(row_prompt)
    return max((len(p) for p in phrases if re.search(rf"(?<!\w){re.escape(fold(p))}(?!\w)", flat)), default=0)


def forbidden(text: str) -> bool:
    """Return whether the policy of the spec forbids the prompt: the longest phrase found decides."""
    terms = tuple(t for c in SPEC.refusals.categories for t in c.terms)
    benign = tuple(t for c in SPEC.refusals.categories for t in c.benign)
    return longest(text, terms) > longest(text, benign)


def same_prompt(a: int, b: int) -> bool:
    return fold(prompt(a)) == fold(prompt(b))


def limit(row: int) -> int:
    found = LIMIT.search(prompt(row))
    assert found, f"row {row} states no limit: {prompt(row)!r}"
    return NUMBERS.get(found[1]) or int(found[1])


def private(text: str) -> bool:
    """Return whether the text holds an e-mail address, a valid phone number or a number that passes Luhn."""
    if re.search(r"[\w.]+@[\w-]+\.\w+", text):
        return True
    if any(phonenumbers.is_valid_number(m.number) for m in phonenumbers.PhoneNumberMatcher(text, None)):
        return True
    return any(luhn.is_valid(n.replace(" ", "")) for n in re.findall(r"\d{4}(?: \d{4}){3}", text))


def broken_format(row: int) -> bool:
    text = response(row)
    if FAMILY[row] == "json":
        try:
            json.loads(text)
        except ValueError:
            return True
        return False
    if FAMILY[row] == "bullets":
        return not text.startswith("- ")
    return text not in ("positive", "negative", "neutral")


def too_long(row: int) -> bool:
    if "one sentence" in prompt(row):
        return len(re.findall(r"[.!?](?:\s|$)", response(row))) > 1
    return len(response(row).split()) > limit(row)


def repeats(text: str) -> bool:
    said = Counter(re.findall(r"[^.?!]+[.?!]", text))
    return max((n for part, n in Counter(p.strip() for p in said.elements()).items() if part), default=0) >= 3


def jaccard(a: str, b: str, n: int = 1) -> float:
    """Return the Jaccard similarity of the word n-grams of two texts."""
    x, y = ({tuple(w[i:i + n]) for i in range(max(1, len(w) - n + 1))} for w in (words(fold(a)), words(fold(b))))
    return len(x & y) / len(x | y) if x | y else 1.0


def near(row: int, other: int) -> bool:
    fields = ("instruction", "input", "output")
    return not same_prompt(row, other) and all(
        jaccard(PAIRS[row][f], PAIRS[other][f], n) >= 0.8 for f in fields for n in (1, 5))


def other(row: int) -> int:
    return int(PLANTED[row]["related"][0])


CARRIES = {
    "dup.exact": lambda r: same_prompt(r, other(r)) and response(r) == response(other(r)) and other(r) < r,
    "dup.near": lambda r: near(r, other(r)) and other(r) < r,
    "dup.conflict": lambda r: same_prompt(r, other(r)) and response(r) != response(other(r)),
    "response.empty": lambda r: not response(r).strip(),
    "response.placeholder": lambda r: re.fullmatch(
        r"TODO|TBD|N/A|No output|<nooutput>|\[insert answer here\]|Lorem ipsum.*", response(r)) is not None,
    "response.truncated": lambda r: response(r)[-1].isalpha() and response(r).split()[-1] in (
        "a", "an", "and", "in", "the", "on", "with", "for", "of", "to", "it"),
    "response.mojibake": lambda r: ftfy.badness.is_bad(response(r)),
    "response.echo": lambda r: fold(response(r)) == fold(prompt(r)),
    "response.loop": lambda r: repeats(response(r)),
    "constraint.length": lambda r: too_long(r),
    "constraint.format": lambda r: broken_format(r),
    "refusal.over": lambda r: refuses(response(r)) and not forbidden(prompt(r)),
    "refusal.missing": lambda r: forbidden(prompt(r)) and not refuses(response(r)),
    "privacy.pii": lambda r: private(response(r)),
    "prompt.missing_context": lambda r: FAMILY[r] == "clarify" and "?" not in response(r),
    "prompt.conflicting": lambda r: FAMILY[r] == "conflict" and "conflict" not in response(r),
}


@pytest.fixture(scope="module")
def make() -> Any:
    found = importlib.util.spec_from_file_location("sample_data_make", FOLDER / "make.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    sys.modules["sample_data_make"] = module
    found.loader.exec_module(module)
    yield module
    del sys.modules["sample_data_make"]


def test_made_again_the_files_are_the_same_bytes(make: Any, tmp_path: Path) -> None:
    make.main(tmp_path)
    for name in ("pairs.jsonl", "answers.json", "battery.jsonl", "verdicts.csv"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), f"{name}: run sample_data/make.py"


def test_shares() -> None:
    assert len(PAIRS) == 4000
    assert 0.29 <= len(PLANTED) / len(PAIRS) <= 0.31
    given = sum("family" in pair for pair in PAIRS)
    assert 0.90 <= given / len(PAIRS) <= 0.94
    counts = Counter(FAMILY.values())
    assert set(counts) == set(FAMILIES) and min(counts.values()) >= 420
    assert len({pair["id"] for pair in PAIRS}) == len(PAIRS)
    assert all(pair.get("family", FAMILY[row]) == FAMILY[row] for row, pair in enumerate(PAIRS))


def test_enough_is_written_by_hand() -> None:
    hand = lines("handwritten.jsonl")
    assert len(hand) >= 120
    assert {row["family"] for row in hand} == set(FAMILIES)
    used = {pair["id"] for pair in PAIRS if pair["id"].startswith("hand-")}
    assert used == {f"hand-{n:03d}" for n in range(len(hand))}


def test_every_kind_is_planted_and_counted() -> None:
    counts = Counter(flaw for entry in PLANTED.values() for flaw in entry["flaws"])
    assert set(counts) == KINDS == set(CARRIES)
    assert counts == ANSWERS["kinds"]
    assert min(counts.values()) >= 20


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_planted_rows_carry_their_flaw(kind: str) -> None:
    rows = [row for row, entry in PLANTED.items() if kind in entry["flaws"]]
    wrong = [(row, PAIRS[row]) for row in rows if not CARRIES[kind](row)]
    assert not wrong, f"{len(wrong)} of {len(rows)} rows lack {kind}: {wrong[:3]}"


@pytest.mark.parametrize("kind", ["response.empty", "response.placeholder", "response.mojibake", "response.loop",
                                  "privacy.pii", "refusal.missing", "prompt.missing_context", "prompt.conflicting"])
def test_right_rows_do_not_carry_it(kind: str) -> None:
    near_misses = set(map(int, ANSWERS["near_misses"]))
    wrong = [(row, PAIRS[row]) for row in RIGHT if row not in near_misses and CARRIES[kind](row)]
    assert not wrong, f"{len(wrong)} right rows carry {kind}: {wrong[:3]}"


def test_right_rows_keep_their_family_s_form() -> None:
    for row in RIGHT:
        text = response(row)
        assert text.strip() == text and text, (row, text)
        if FAMILY[row] in ("json", "bullets", "label"):
            assert not broken_format(row), (row, text)
        assert refuses(text) == (FAMILY[row] == "refusal"), (row, text)
        assert forbidden(prompt(row)) == (FAMILY[row] == "refusal"), (row, prompt(row))
        if LIMIT.search(prompt(row)) and FAMILY[row] != "conflict":
            assert not too_long(row), (row, text)


def test_right_rows_stay_short() -> None:
    assert max(len(prompt(row).split()) for row in RIGHT) <= 40
    assert max(len(response(row).split()) for row in RIGHT) <= 40


def word_sets(texts: list[str]) -> np.ndarray:
    """Return (n_texts, n_words) float32, 1 where the text holds the word."""
    sets = [set(words(fold(t))) for t in texts]
    columns = {w: i for i, w in enumerate(sorted(set().union(*sets)))}
    out = np.zeros((len(texts), max(1, len(columns))), np.float32)
    for i, found in enumerate(sets):
        out[i, [columns[w] for w in found]] = 1
    return out


def similar(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (n_a, n_b) Jaccard similarities; 1.0 for two empty texts."""
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1)[None] - both
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


@pytest.mark.parametrize("families", [("label",), ("json",), ("bullets",), ("rewrite",), ("refusal", "benign"),
                                      ("clarify",), ("conflict",)])
def test_no_near_duplicates_but_the_planted_ones(families: tuple[str, ...]) -> None:
    copies = {row for row, entry in PLANTED.items() if "related" in entry}
    rows = [row for row in range(len(PAIRS)) if FAMILY[row] in families and row not in copies]
    asked, given = (word_sets([PAIRS[r][f] for r in rows]) for f in ("instruction", "input"))
    like = np.minimum(similar(asked, asked), similar(given, given))
    np.fill_diagonal(like, 0)
    i, j = np.unravel_index(like.argmax(), like.shape)
    assert like[i, j] < 0.8, f"{like[i, j]:.2f}: {PAIRS[rows[i]]} and {PAIRS[rows[j]]}"


def test_battery_is_held_out() -> None:
    known = {fold(prompt(row)) for row in range(len(PAIRS))}
    asked = [probe["messages"][-1]["content"] for probe in PROBES]
    assert not known & {fold(text) for text in asked}
    assert len({fold(text) for text in asked}) == len(PROBES)
    rows = word_sets([prompt(row) for row in range(len(PAIRS))] + asked)
    like = similar(rows[len(PAIRS):], rows[: len(PAIRS)])
    assert np.all(like < 1.0), asked[int(np.argwhere(like == 1.0)[0][0])]


def test_battery_covers_the_behaviours() -> None:
    counts = Counter(probe["behaviour"] for probe in PROBES)
    assert counts == {**{family: 50 for family in FAMILIES}, "refusal_new": 26, "benign_new": 26}
    assert len({probe["id"] for probe in PROBES}) == len(PROBES)
    groups = Counter(probe["group"] for probe in PROBES)
    assert set(groups.values()) == {2}


def test_right_answers_pass_their_verifiers_and_empty_ones_do_not() -> None:
    for probe in PROBES:
        text = probe["messages"][-1]["content"]
        for verifier in probe["verifiers"]:
            if probe["answer"]:
                assert verify(verifier["id"], probe["answer"], verifier["kwargs"], prompt=text), (probe["id"], probe)
            assert not verify(verifier["id"], "", verifier["kwargs"], prompt=text), probe["id"]
            assert not verify(verifier["id"], "qx zzv bnm tsr", verifier["kwargs"], prompt=text), probe["id"]


def test_new_topics_occur_in_no_row(make: Any) -> None:
    text = "\n".join(fold(prompt(row)) for row in range(len(PAIRS)))
    for topic in [*make.HARMFUL_NEW, *make.HARMLESS_NEW]:
        assert fold(topic) not in text, topic
    for probe in PROBES:
        if probe["family"] in ("refusal", "benign"):
            asked = probe["messages"][-1]["content"]
            assert forbidden(asked) == (probe["family"] == "refusal"), asked


def test_spec_names_the_families_and_can_be_met() -> None:
    assert tuple(family.id for family in SPEC.families) == FAMILIES
    right = Counter(FAMILY[row] for row in RIGHT)
    for family in SPEC.families:
        least, most = family.bounds or (0.0, 1.0)
        assert family.min_rows <= right[family.id] and least <= right[family.id] / len(RIGHT) <= most, family.id
    assert SPEC.gate.min_rows <= len(RIGHT)
    for category in SPEC.refusals.categories:
        refused = sum(longest(prompt(r), category.terms) > 0 for r in RIGHT if FAMILY[r] == "refusal")
        answered = sum(longest(prompt(r), category.benign) > 0 for r in RIGHT if FAMILY[r] == "benign")
        assert refused >= category.min_refused and answered >= category.min_answered, (category.id, refused, answered)
    assert SPEC.battery.file == "battery.jsonl" and set(SPEC.checks) == KINDS | NOT_PLANTED
