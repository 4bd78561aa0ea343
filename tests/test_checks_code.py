"""Code: what does not parse is flagged with its line, what cannot fairly be judged is not."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.checks.code import bracket_fault, code, python_fault


def run(*given):
    return code(make_rows([{"instruction": a, "response": b} for a, b in given])).to_pylist()


def test_broken_blocks():
    broken = "Here:\n```python\ndef f(x)\n    return x\n```"
    js = "```js\nfunction f() { return [1; }\n```"
    flags = run(
        ("Write Python.", broken),
        ("Write it.", js),
        ("Write it.", '```json\n{"a": 1,}\n```'),
        ("Write it.", "```xml\n<a><b></a>\n```"),
        ("Write it.", "```csv\na,b\n1,2,3\n```"),
        ("Write a Python function.", "def f(x:\n    return x"),
    )
    assert [f["row"] for f in flags] == [0, 1, 2, 3, 4, 5]
    assert broken[flags[0]["start"] : flags[0]["end"]] == "def f(x)"
    assert flags[0]["message"].startswith("The Python code does not parse: expected ':'")


def test_sound_code_and_what_is_not_judged():
    assert (
        run(
            ("Write Python.", '```python\ndef f(x):\n    """Doc.\n    >>> f(1)\n    1\n    """\n    return x\n```'),
            ("Write Python.", "```python\n>>> f(1)\n1\n```"),
            ("Write Python.", "```python\nprint 'old'\n```"),
            ("Write Python.", "```python\ndef f(x):\n    ...\n```"),
            ("Explain the error in this Python code.", "```\ndef f(x)\n```"),
            ("Write it.", "```js\nconst s = '(';  // (\n```"),
            ("Write a Python function.", "def f(x):\n    return x\n\nThis returns x."),
            ("Write a Python function.", "def f(x):\n    return x\n\nOutput:\n3 3"),
            ("Write it.", '```json\n{"a": 1}\n```'),
            ("Write it.", "```xml\n<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>\n```"),
            ("Tell me.", "for example, a (b"),
        )
        == []
    )


def test_faults_name_their_line():
    assert python_fault("x = 1\ny = (") == (2, "'(' was never closed")
    assert bracket_fault("a(\n  b[1]\n") == (1, "'(' is never closed")
    assert python_fault("(" * 5000) is not None or python_fault("(" * 5000) is None


@given(st.text(max_size=200))
def test_any_text_is_survived(text):
    run(
        ("Write Python.", f"```python\n{text}\n```"),
        ("Write Python.", text),
        ("x", f"```xml\n{text}\n```"),
        ("x", f"```csv\n{text}\n```"),
    )
