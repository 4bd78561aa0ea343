"""Arithmetic: equations and tasks that the check works out itself."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.checks.arithmetic import arithmetic, evaluate


def run(*given):
    return arithmetic(make_rows([{"instruction": a, "input": b, "response": c} for a, b, c in given])).to_pylist()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) x 4", 20),
        ("7 ÷ 2", Fraction(7, 2)),
        ("15 % of 80", 12),
        ("1,200 - 200", 1000),
        ("-3 + 5", 2),
        ("3 apples + 4 apples", 7),
        ("2 ** 9", None),
        ("1 / 0", None),
        ("2 + x", None),
        ("__import__('os')", None),
        ("(" * 50 + "1", None),
    ],
)
def test_evaluate(text, value):
    assert evaluate(text) == value


WRONG = [
    ("Ann earns.", "", "She earns 20 * 18 = 350 dollars.", "20 * 18 = 350 dollars", "the left side is 360"),
    ("Ann earns.", "", "It takes 45 + 60 + 30 + 15 = 151 minutes.", "45 + 60 + 30 + 15 = 151 minutes", "the left side is 150"),
    ("The share?", "", "It is (800/15) × 100 = 53.3% of all.", "(800/15) × 100 = 53.3%", "the left side is 5,333.3333 %"),
    ("The share?", "", "That is 12 / 48 = 30 %.", "12 / 48 = 30 %", "the left side is 25 %"),
    ("True or false?", "3 + 8 = 12", "True. 3 + 8 = 10 is true.", "3 + 8 = 10", "'3 + 8 = 10' does not hold"),
    ("Find the sum of two fractions: 3/4 + 7/8", "", "The sum of 3/4 and 7/8 is 11/8.", "11/8", "which is 1.625"),
    ("Calculate the average of 4, 6 and 8.", "", "The average is 7.", "7", "which is 6"),
    ("What is 15 % of 80?", "", "15 % of 80 is 13.", "13", "which is 12"),
    ("Convert 5 km to miles.", "", "5 km is 4.2 miles.", "4.2", "which is 3.1069"),
    ('How many words are in the sentence "The sea is calm"?', "", "There are 5 words.", "5", "which is 4"),
    ("Calculate sin(30 degrees).", "", "", "", ""),
    ("Sort these numbers in ascending order.", "5, -2, 9", "-2, 9, 5", "-2, 9, 5", "not in ascending order"),
    (
        "Arrange the words in alphabetical order.",
        "plum, fig, date",
        "fig, date, plum",
        "fig, date, plum",
        "not in alphabetical order",
    ),
    ('Reverse the string "plum".', "", "mlup", "mlup", "'mulp'"),
    (
        "Find the equation of the line through the points (0,1) and (2,5).",
        "",
        "It is y = 3x + 1.",
        "y = 3x + 1",
        "does not pass through (2, 5)",
    ),
]


@pytest.mark.parametrize(("instruction", "given_", "response", "span", "message"), [w for w in WRONG if w[2]])
def test_wrong_answers(instruction, given_, response, span, message):
    flags = run((instruction, given_, response))
    assert len(flags) == 1 and flags[0]["row"] == 0
    assert response[flags[0]["start"] : flags[0]["end"]] == span and message in flags[0]["message"]


def test_right_answers_and_near_misses():
    assert (
        run(
            ("Ann earns.", "", "She earns 20 * 18 = 360 dollars, 360 / 7 = 51.43 a day, 1/3 = 33.3% and 10 / 3 = 3."),
            ("Ann earns.", "", "2x + 3 = 9, so x = 3 and 2 + 3 + y = 9. 5 x 9 =\n2. next"),
            ("Is 2 + 2 = 5 right?", "", "No: 2 + 2 = 5 is wrong."),
            ("Add in binary.", "", "101 + 11 = 1000"),
            ("Calculate the average of 4, 6 and 8.", "", "The average of the three numbers is 6."),
            ("Calculate the weighted average of 4, 6 and 8.", "", "It is 7."),
            ("Sort these numbers in ascending order.", "5, -2, 9", "-2, 5, 9"),
            ("Sort these numbers in ascending order.", "5, -2, 9", "Here is how to sort: compare the numbers."),
            ("Write code to sort a list in ascending order.", "[3, 1, 2]", "[3, 1, 2]"),
            ("Convert 5 km to miles.", "", "5 km is about 3.11 miles."),
            ('How many words are in the sentence "The sea is calm"?', "", "Four."),
            ("Find the equation of the line through the points (0,1) and (2,5).", "", "It is y = 2x + 1."),
            ("The factorial of 24?", "", " × ".join(map(str, range(1, 25))) + " = 620448401733239439360000"),
            ("Ann has 3 million.", "", "3 million + 2 = 5 million, 100 + 20% = 120, 60 minutes * 2 = 2 hours"),
        )
        == []
    )


def test_a_sort_carries_its_order_as_fix():
    flags = run(("Arrange in alphabetical order.", "plum, fig, date", "fig, date, plum"))
    assert flags[0]["fix"] == "date, fig, plum"
    assert run(("Arrange in alphabetical order.", "plum, fig, date", "Sorted:\nfig\ndate\nplum"))[0]["fix"] is None


def test_a_long_sum_takes_no_time():
    text = " × ".join(str(n) for n in range(1, 2000)) + " = 7"
    assert run(("Multiply.", "", text + " " + "1 + 2 - " * 500)) == []


@settings(deadline=None)    # a busy machine is no fault of the check
@given(st.text(alphabet="0123456789+-*/()=%$., x", max_size=120))
def test_any_text_is_survived(text):
    evaluate(text)
    run(("Calculate it.", text, text))
