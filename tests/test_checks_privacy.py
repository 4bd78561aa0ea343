"""Personal data: what is found, what is masked, and what only looks like it."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.checks import CHECKS
from curation.checks.privacy import KINDS, find, mask, pii

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.mark.parametrize(("text", "kind", "value"), [
    ("Write to ann.lee@yahoo.com today.", "email", "ann.lee@yahoo.com"),
    ("Call me at (661) 365-3477.", "phone", "(661) 365-3477"),
    ("Her mobile: 0490 75 40 81", "phone", "0490 75 40 81"),
    ("Fax +46 (0)8 928 571 38 please", "phone", "+46 (0)8 928 571 38"),
    ("My card 4454 7945 1139 0934 is lost", "card", None),
    ("My card 4556737586899855 is lost", "card", "4556737586899855"),
    ("Send it to GB33BUKB20201555555555 now", "iban", "GB33BUKB20201555555555"),
    ("Tom Lee, SSN 393-40-1232, agreed.", "ssn", "393-40-1232"),
    ("Logged in from 86.121.97.248 again", "ip", "86.121.97.248"),
    ("Ship it to 219 Pine Street, Springfield, IL 62742, attn. Ann", "address", "219 Pine Street, Springfield, IL 62742"),
])
def test_found(text, kind, value):
    hits = find(text)
    assert [(h.kind, text[h.start:h.end]) for h in hits] == ([(kind, value)] if value else [])


@pytest.mark.parametrize("text", [
    "Order number 661-365-3477 has shipped.", "Released as version 10.2.3.4 in May.", "Set the mask to 255.255.255.0.",
    "The gateway is 192.168.0.1.", "Between 1939-1945 and 2010-2015", "About 1 000 000 people", "ISBN 978-3-16-148410-0",
    "It costs $1,234,567 in total.", "On 2021-05-04 at 10:30", "user@localhost", "pi is 3.14159265358979",
    "tracking 1234567890123456", "The code is 0011100000.", "@ann said hi", "12:30:45", "a::b", "2 + 2 = 4 - 0",
])
def test_near_misses(text):
    assert [h for h in find(text) if not h.fictional] == []


def test_flags_mask_without_repeating_the_value():
    text = "Ask ann.lee@yahoo.com or (661) 365-3477."
    rows = make_rows([{"instruction": "Who?", "response": text}, {"instruction": "Who?", "response": "Nobody."}])
    flags = pii(rows).to_pylist()
    assert [(f["row"], f["field"], text[f["start"]:f["end"]]) for f in flags] == [
        (0, "response", "ann.lee@yahoo.com"), (0, "response", "(661) 365-3477")]
    assert {f["fix"] for f in flags} == {"Ask [EMAIL] or [PHONE]."}
    assert not any("yahoo" in f["message"] or "3477" in f["message"] for f in flags)


def test_made_up_values_are_info_without_a_fix():
    rows = make_rows([{"instruction": "Mail jane@example.com or call 555-123-4567", "response": "ok"}])
    flags = pii(rows).to_pylist()
    assert [(f["severity"], f["fix"], f["field"]) for f in flags] == [("info", None, "instruction")] * len(flags)
    assert flags


def test_earlier_turns_are_read():
    turns = [("system", "Be kind."), ("user", "I am ann.lee@yahoo.com"), ("assistant", "Hello."),
             ("user", "Bye"), ("assistant", "Bye.")]
    flags = pii(make_rows([{"messages": [{"role": r, "content": c} for r, c in turns]}])).to_pylist()
    assert [(f["field"], f["turn"], turns[f["turn"]][1][f["start"]:f["end"]], f["fix"]) for f in flags] == [
        ("row", 1, "ann.lee@yahoo.com", None)]
    assert flags[0]["message"] == "The user turn 1 holds an e-mail address; mask it as [EMAIL]."


def test_kinds_are_chosen_and_checked():
    rows = make_rows([{"instruction": "x", "response": "ann.lee@yahoo.com, SSN 393-40-1232"}])
    assert len(pii(rows, kinds=("ssn",)).to_pylist()) == 1
    with pytest.raises(ValidationError, match="emial"):
        CHECKS["privacy.pii"].options(kinds=("emial",))


@given(st.text(max_size=200))
def test_hits_are_ordered_apart_and_masked(text):
    hits = find(text)
    assert all(a.end <= b.start for a, b in pairwise(hits))
    assert all(0 <= h.start < h.end <= len(text) and h.kind in KINDS for h in hits)
    masked = mask(text, hits)
    assert masked == text or any(f"[{k.upper()}]" in masked for k in KINDS)


@pytest.mark.skipif(not (SHARED / "presidio_pii.jsonl").exists(), reason="labelled data is not beside the checkout")
def test_presidio_bar():
    kinds = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card", "IBAN_CODE": "iban", "US_SSN": "ssn",
             "IP_ADDRESS": "ip"}
    right = wrong = wanted = 0
    for line in (SHARED / "presidio_pii.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        gold = any(s["type"] in kinds for s in row["spans"])
        hit = any(h.kind != "address" for h in find(row["text"]))
        wanted += gold
        right += gold and hit
        wrong += hit and not gold
    assert right / (right + wrong) >= 0.95
    assert right / wanted >= 0.90
