"""Code that does not parse: Python by its own parser, JSON, XML and CSV by theirs, other languages by their brackets."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import textwrap
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..text import shorten
from .base import Findings, check, texts

_FENCE = re.compile(r"^[ \t]*```[ \t]*(?P<lang>[\w+#.-]*)[^\n]*\n(?P<body>.*?)^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"\bpython\b", re.IGNORECASE)
_OTHER_LANGUAGE = re.compile(
    r"\b(?:java|javascript|c\+\+|c#|php|ruby|perl|sql|html|css|bash|shell|rust|golang|kotlin|swift|"
    r"typescript|pseudo-?code|"
    r"r (?:code|script)|matlab|output|error|bug|debug|fix|broken|wrong|mistake|incomplete|"
    r"python ?2)\b|\bc\b",
    re.IGNORECASE,
)
_CODE_LINE = re.compile(
    r"^\s*(?:def|class|import|from|for|while|if|elif|else|try|except|finally|with|return|print|@|#|async|"
    r"await|raise|assert|"
    r"lambda|pass|break|continue|global|yield|del|\w[\w.\[\]'\", ]*\s*[-+*/|&]?=[^=]|[\w.]+\(|[)\]}'\"]|"
    r"\w+\s*[:,]\s*$)"
)
_PROMPT_LINE = re.compile(r"\s*(?:>>>|\$ |%|!|In \[)")
_DOC = re.compile(r"(\"\"\"|\'\'\').*?\1", re.DOTALL)
_RESULT_LINE = re.compile(
    r"^(?:Output|Result|Example|Explanation|Sample|Expected|Usage|Input)\b[^\n=(]*:?[^\n=(]*$", re.MULTILINE
)
_PYTHON_2 = re.compile(r"^\s*print\s+[\"'\w(]|\bexcept\s+\w+\s*,\s*\w+\s*:|\braw_input\b|\bxrange\b|<>", re.MULTILINE)
_SNIPPET = re.compile(
    r"\.\.\.(?!\])|…|<[a-z_ ]+>|\[(?:your|insert|code|rest)[^\]]*\]|^\s*(?:elif|else|except|finally)\b",
    re.IGNORECASE | re.MULTILINE,
)
_LONGEST = 50_000  # characters of one block that are parsed

#: languages whose brackets pair outside strings and comments
_BRACKETED = frozenset(
    (
        "js",
        "javascript",
        "ts",
        "typescript",
        "java",
        "c",
        "cpp",
        "c++",
        "cs",
        "c#",
        "csharp",
        "go",
        "golang",
        "rust",
        "php",
        "kotlin",
        "swift",
        "css",
        "scss",
        "scala",
        "dart",
    )
)
_SKIPPED = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`", re.DOTALL)
_PAIRS = {")": "(", "]": "[", "}": "{"}


def python_fault(code: str) -> tuple[int, str] | None:
    """Return (line, what is wrong) when `code` is no Python, None when it parses or cannot fairly be judged.

    Sessions with >>> or %, Python 2 and snippets with "..." or a branch without its head are not judged.
    """
    if len(code) > _LONGEST or _PROMPT_LINE.match(code) or _PYTHON_2.search(code):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(textwrap.dedent(code))
    except SyntaxError as e:
        if _SNIPPET.search(_DOC.sub("", code)) and not isinstance(e, IndentationError) and "was never closed" not in e.msg:
            return None
        return e.lineno or 1, e.msg
    except (ValueError, RecursionError, MemoryError):  # a null byte; nesting that the parser gives up on
        return None
    return None


def bracket_fault(code: str) -> tuple[int, str] | None:
    """Return (line, what is wrong) when the brackets of `code` do not pair outside strings and comments."""
    if len(code) > _LONGEST or "..." in code or "…" in code:
        return None
    bare = _SKIPPED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), code)
    stack: list[tuple[str, int]] = []
    for k, c in enumerate(bare):
        if c in "([{":
            stack.append((c, k))
        elif c in _PAIRS:
            if not stack or stack[-1][0] != _PAIRS[c]:
                return bare.count("\n", 0, k) + 1, f"{c!r} closes nothing"
            stack.pop()
    return (bare.count("\n", 0, stack[-1][1]) + 1, f"{stack[-1][0]!r} is never closed") if stack else None


def _json_fault(code: str) -> tuple[int, str] | None:
    if "..." in code or "//" in code:
        return None
    try:
        json.loads(code)
    except json.JSONDecodeError as e:
        return e.lineno, e.msg
    except RecursionError:
        return 1, "nested too deep"
    return None


def _xml_fault(code: str) -> tuple[int, str] | None:
    if "<!" in code.replace("<!--", "") or "..." in code:  # a document type may hold entities that grow without bound
        return None
    try:
        ElementTree.fromstring(code.strip())
    except ElementTree.ParseError as e:
        return e.position[0], str(e).partition(":")[0]
    return None


def _csv_fault(code: str) -> tuple[int, str] | None:
    try:
        widths = [len(r) for r in csv.reader(io.StringIO(code.strip()), strict=True) if r]
    except csv.Error as e:
        return 1, str(e)
    bad = next((k for k, w in enumerate(widths) if w != widths[0]), None)
    return None if bad is None else (bad + 1, f"{widths[bad]} fields where the first line has {widths[0]}")


_PARSERS = {
    "json": ("JSON", _json_fault),
    "xml": ("XML", _xml_fault),
    "csv": ("CSV", _csv_fault),
    "python": ("Python", python_fault),
    "py": ("Python", python_fault),
    "python3": ("Python", python_fault),
}


def _fault(lang: str, body: str, python: bool) -> tuple[str, int, str] | None:
    """Return (language, line, what is wrong) of one block."""
    lang = lang.lower()
    if lang in _PARSERS or (not lang and python):
        name, parse = _PARSERS.get(lang, ("Python", python_fault))
        found = parse(body)
        return (name, *found) if found else None
    if lang in _BRACKETED:
        found = bracket_fault(body)
        return (lang, *found) if found else None
    return None


def _bare_python(response: str) -> str | None:
    """Return the code of a response that is Python without a fence, prose at its ends cut off; None when it is no code."""
    end = _RESULT_LINE.search(response)
    lines = (response[: end.start()] if end else response).strip().split("\n")
    while lines and not _CODE_LINE.match(lines[0]):
        lines.pop(0)
    while lines and not lines[-1].startswith((" ", "\t")) and not _CODE_LINE.match(lines[-1]):
        lines.pop()
    code = "\n".join(lines)
    if not re.search(r"^(?:def|class|import|from \w+ import|for|while|async def)\b[^\n]*", code, re.MULTILINE) or len(lines) < 2:
        return None
    like = sum(bool(not x.strip() or x.startswith((" ", "\t")) or _CODE_LINE.match(x)) for x in lines)
    return code if like == len(lines) else None


@check("response.code", reads=("instruction", "input", "response"), severity="warning", action="review")
def code(rows: pa.Table) -> pa.Table:
    """Code in the response does not parse.

    Why: code that cannot run teaches broken syntax with a confident face.
    Misses: code that parses and is wrong; languages without a parser here, beyond their brackets; code without a fence
    in other languages than Python.
    False positives: snippets that are meant to be filled in; sessions, Python 2 and code with "..." are let through.
    Source: CHECKS 28. Nothing is run: Python is read by ast, JSON, XML and CSV by the standard library's parsers.
    """
    found = Findings(rows)
    fenced = pc.match_substring(rows["response"], "```")
    python = pc.and_(
        pc.match_substring(rows["instruction"], "python", ignore_case=True),
        pc.match_substring_regex(rows["response"], r"(?m)^(?:def|class|import|from|for|while|async)\s"),
    )
    at = np.flatnonzero(np.asarray(pc.fill_null(pc.or_kleene(fenced, python), False)))
    sub = rows.take(pa.array(at))
    for i, instruction, response in zip(at.tolist(), texts(sub, "instruction"), texts(sub, "response")):
        wants_python = bool(_PYTHON.search(instruction)) and not _OTHER_LANGUAGE.search(instruction)
        if "```" in response:
            _blocks(found, i, response, wants_python)
        elif wants_python:
            body = _bare_python(response)
            fault = python_fault(body) if body else None
            if body and fault:
                start = response.index(body)
                _add(found, i, response, start, body, ("Python", *fault))
    return found.table()


def _blocks(found: Findings, i: int, response: str, python: bool) -> None:
    for m in _FENCE.finditer(response):
        fault = _fault(m.group("lang"), m.group("body"), python)
        if fault:
            _add(found, i, response, m.start("body"), m.group("body"), fault)
            return


def _add(found: Findings, i: int, response: str, start: int, body: str, fault: tuple[str, int, str]) -> None:
    language, line, message = fault
    lines = body.split("\n")
    line = min(max(line, 1), len(lines))
    at = start + sum(len(x) + 1 for x in lines[: line - 1])
    end = max(at + len(lines[line - 1]), at + 1)
    found.add(
        i,
        f"The {language} code does not parse: {message}, line {line}: {shorten(lines[line - 1].strip(), 40)!r}.",
        span=(at, min(end, len(response))),
        score=0.9,
    )
