"""Answers that a machine can work out: equations in the response, and tasks whose numbers or items the prompt gives."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..text import fold, shorten
from .base import Findings, check, texts

# --- numbers and expressions -----------------------------------------------------------------------------------------

_NUMBER = r"\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,12})?"
_SIGN = {
    "−": "-",
    "–": "-",
    "×": "*",
    "x": "*",
    "X": "*",
    "·": "*",
    "÷": "/",
    "of": "*",
    "times": "*",
    "plus": "+",
    "minus": "-",
    "divided by": "/",
    "multiplied by": "*",
}
_TOKEN = re.compile(
    rf"\s*(?:(?P<num>{_NUMBER})(?P<pct>\s?%)?|(?P<op>[-+*/()−–×÷·]|[xX](?=\s*\(?\d)|of\b|times\b|plus\b|"
    rf"minus\b|divided by\b|"
    r"multiplied by\b)|(?P<skip>[$€£]|[a-z]{2,12}\b))"
)
_LONGEST = 120  # characters of an expression that is worked out


def _read(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


class _NotWorkable(Exception):
    """The text is no expression of numbers and the four operations."""


def evaluate(text: str) -> Fraction | None:
    """Return the exact value of an expression of numbers, + - * /, brackets and percent; None when it is none.

    Words of two letters and more (units) and currency signs are passed over. At most 120 characters and 15 digits a
    number are read, so the work is bounded; there are no powers and no names.
    """
    if len(text) > _LONGEST:
        return None
    tokens: list[str | Fraction] = []
    at = 0
    while at < len(text.rstrip()):
        m = _TOKEN.match(text, at)
        if m is None:
            return None
        at = m.end()
        if m.group("num"):
            tokens.append(_read(m.group("num")) / (100 if m.group("pct") else 1))
        elif m.group("op"):
            tokens.append(_SIGN.get(m.group("op"), m.group("op")))
    try:
        value, rest = _sum(tokens, 0)
    except (_NotWorkable, ZeroDivisionError):
        return None
    return value if rest == len(tokens) else None


def _sum(tokens: list[str | Fraction], at: int) -> tuple[Fraction, int]:
    value, at = _product(tokens, at)
    while at < len(tokens) and tokens[at] in ("+", "-"):
        more, end = _product(tokens, at + 1)
        value = value + more if tokens[at] == "+" else value - more
        at = end
    return value, at


def _product(tokens: list[str | Fraction], at: int) -> tuple[Fraction, int]:
    value, at = _atom(tokens, at)
    while at < len(tokens) and tokens[at] in ("*", "/"):
        more, end = _atom(tokens, at + 1)
        value = value * more if tokens[at] == "*" else value / more
        at = end
    return value, at


def _atom(tokens: list[str | Fraction], at: int) -> tuple[Fraction, int]:
    if at >= len(tokens):
        raise _NotWorkable
    token = tokens[at]
    if isinstance(token, Fraction):
        return token, at + 1
    if token == "-":
        value, end = _atom(tokens, at + 1)
        return -value, end
    if token == "(":
        value, end = _sum(tokens, at + 1)
        if end < len(tokens) and tokens[end] == ")":
            return value, end + 1
    raise _NotWorkable


def _decimals(shown: str) -> int:
    return len(shown.partition(".")[2])


def _close(true: Fraction, shown: str, exact: bool = False) -> bool:
    """Return whether `shown` is `true`, rounded or cut to the digits it shows; `exact`: nothing needed rounding."""
    value = _read(shown)
    if exact:
        return value == true
    return abs(value - true) < Fraction(1, 10 ** _decimals(shown)) or abs(value - true) <= abs(true) / 1000


def _plain(value: Fraction) -> str:
    """Return a value as people write it, at most four decimals."""
    return f"{int(value):,}" if value.denominator == 1 else f"{float(value):,.4f}".rstrip("0").rstrip(".")


# --- equations in the response ---------------------------------------------------------------------------------------

_UNIT = r"(?:[ \t]?[a-z]{2,12})?"
_OPERAND = rf"(?:\([ \t]?){{0,2}}-?[$€£]?{_NUMBER}(?:[ \t]?%)?(?:[ \t]?\)){{0,2}}"
_OPERATOR = r"(?:[-+*/×÷·−–xX]|of|times|plus|minus|divided by|multiplied by)"
#: each blank has one owner and the repetition gives nothing back, so that matching is linear
_EQUATION = re.compile(
    rf"(?<![\w.,:^=$€£√])(?P<left>(?>{_OPERAND})(?>{_UNIT}[ \t]?{_OPERATOR}[ \t]?{_OPERAND}){{1,24}}+{_UNIT}\)?)[ \t]?=[ \t]?"
    rf"(?P<currency>[$€£])?(?P<right>-?{_NUMBER})(?P<pct>[ \t]?%)?(?P<unit>[ \t]?[A-Za-z]{{1,12}})?"
)
_MAYBE_EQUATION = r"\d\D{0,20}[-+*/×÷·−–xX]\D{0,3}\d[^=\n]{0,60}=\s?[$€£-]?\s?\d"
_OTHER_NUMBERS = re.compile(
    r"\b(?:binary|hexadecimal|hex|octal|base[- ]?\d|modulo|modular|mod|boolean|matrix|matrices|"
    r"vector|bitwise|xor|"
    r"roman|riddle|puzzle|trick|clock|if \d+\s*[-+*/]\s*\d+\s*=)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:not|incorrect\w*|wrong\w*|false|mistake\w*|error\w*|instead of|isn't|doesn't|never)\b|≠|!=|✗|"
    r"❌",
    re.IGNORECASE,
)
_BEFORE_FUNCTION = re.compile(
    r"(?:\b(?:sqrt|root|log|ln|sin|cos|tan|abs|exp|square root of|mod)\s*\(?\s*|√\s*|[\^!|])$", re.IGNORECASE
)
_SCALE = re.compile(
    r"\s?(?:million|billion|trillion|thousand|hundred|k|m|bn|dozen|mod|st|nd|rd|th|e\d*|i|x|y|n|a|b|c)$", re.IGNORECASE
)
_NO_UNIT = re.compile(r"\s?(?:is|are|was|and|or|so|which|but|holds|of|in|to|for|by|if|as)", re.IGNORECASE)
_HAS_SCALE = re.compile(r"\b(?:million|billion|trillion|thousand|hundred|dozen|half|and|or|to|per|mod|is|are|by)\b")


def _equations(response: str, prompt: str) -> Iterator[tuple[tuple[int, int], str, str]]:
    """Yield (span, equation, right value as written) for each equation of `response` that does not hold."""
    for m in _EQUATION.finditer(response):
        left, right = m.group("left"), m.group("right")
        if _not_plain(response, m) or m.group() in prompt:
            continue
        value = evaluate(left)
        if value is None:
            continue
        exact = not re.search(r"[/÷.%]|of|divided", left) and "." not in right and not m.group("pct")
        shown = right
        if m.group("pct"):
            if _close(value, shown):  # "15 / 60 * 100 = 25 %"
                continue
            value *= 100
        if not _close(value, shown, exact):
            in_percent = m.group("pct") and re.search(r"[*×xX·]\s?100\b(?!\.)", left)  # "3 / 4 * 100 = 80 %"
            last = "unit" if m.group("unit") and not _NO_UNIT.fullmatch(m.group("unit")) else "pct" if m.group("pct") else "right"
            span = m.start(), m.end(last)
            sign = " %" if m.group("pct") else ""
            yield span, response[span[0] : span[1]].strip(), f"{_plain(value / 100 if in_percent else value)}{sign}"


def _not_plain(response: str, m: re.Match[str]) -> bool:
    """Return whether the equation is a part of something larger, in other units, or said to be wrong."""
    left, end = m.group("left"), m.end("pct") if m.group("pct") else m.end("right")
    before, after = response[max(0, m.start() - 40) : m.start()], response[end : end + 12]
    last = before.rstrip(" ")[-1:]
    if (last and last in "+*/^×÷·") or (last.isdigit() and before[-1:] == " ") or _BEFORE_FUNCTION.search(before):
        return True
    if last and last in "-–−" and before.rstrip(" ")[:-1].rstrip(" ")[-1:] not in ("", "\n"):
        return True
    if left.count("(") != left.count(")") or re.search(r"[-+]\s?[\d.,]+\s?%", left) or _HAS_SCALE.search(left):
        return True
    if re.match(r"\s*[-+*/^×÷·−!=(:]|\s*[xX]\s*[\d(]|\d|,\d|\.\d|\s*(?:mod|r|R|remainder)\b", after) or _SCALE.match(
        m.group("unit") or "-"
    ):
        return True
    units = set(re.findall(r"[a-z]{2,12}", re.sub(r"\b(?:of|times|plus|minus|divided by|multiplied by)\b", " ", left)))
    result = (m.group("unit") or "").strip().lower().rstrip("s")
    if units and (re.search(r"[/÷]|divided", left) or (result and result not in {u.rstrip("s") for u in units})):
        return True
    line = response[response.rfind("\n", 0, m.start()) + 1 : m.start()]
    return bool(_DENIED.search(line[-60:]) or _DENIED.search(response[m.end() : m.end() + 40]))


# --- tasks the prompt sets -------------------------------------------------------------------------------------------

_LIST_NUMBER = re.compile(r"(?<![\w.])-?\d{1,12}(?:\.\d{1,8})?(?![\w]|\.\d)")
_ANY_NUMBER = re.compile(r"(?<![\w.])[-−]?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,15})?")
_RUN = re.compile(r"-?\d[\d.]*(?:\s*(?:,|;|\band\b|, and\b|\s)\s*-?\d[\d.]*){1,40}")


def _numbers_given(instruction: str, given: str) -> list[Fraction] | None:
    """Return the one list of numbers that the prompt hands over, None when there is none or more than one."""
    source = given if len(_LIST_NUMBER.findall(given)) >= 2 else instruction
    if len(source) > 400 or re.search(r"\d\s*/\s*\d|\d:\d|%|[a-z]\d|\d[a-z]|\d,\d{3}\b", source, re.IGNORECASE):
        return None
    runs = [m.group() for m in _RUN.finditer(source)]
    if len(runs) != 1 or len(_LIST_NUMBER.findall(source)) != len(_LIST_NUMBER.findall(runs[0])):
        return None
    return [Fraction(x.rstrip(".")) for x in _LIST_NUMBER.findall(runs[0])]


def _mean(x: list[Fraction]) -> list[Fraction]:
    return [sum(x, Fraction(0)) / len(x)]


def _mode(x: list[Fraction]) -> list[Fraction]:
    return list(statistics.multimode(x))


_STATISTICS: tuple[tuple[re.Pattern[str], str, Callable[[list[Fraction]], list[Fraction]]], ...] = tuple(
    (re.compile(rf"\b(?:{words})\b(?! deviation)(?!-)", re.IGNORECASE), name, fn)
    for words, name, fn in (
        ("average|(?:arithmetic )?mean", "average", _mean),
        ("median", "median", lambda x: [statistics.median(x)]),
        ("mode", "mode", _mode),
        ("sum|total|add (?:up )?(?:the|these|all)", "sum", lambda x: [sum(x, Fraction(0))]),
        ("product", "product", lambda x: [math.prod(x, start=Fraction(1))]),
        ("maximum|largest|biggest|greatest (?:number|value|integer|element)|highest", "largest number", lambda x: [max(x)]),
        ("minimum|smallest|least|lowest", "smallest number", lambda x: [min(x)]),
    )
)
_WORKS_OUT = re.compile(
    r"\W*(?:please |can you |could you |given [^.]{0,60}, )?(?:calculate|compute|find|determine|"
    r"what(?:'s| is| are)|work out|"
    r"evaluate|give|get|return|estimate|identify|add|sum|figure out|tell me|output|solve|multiply|divide|"
    r"subtract|"
    r"simplify|convert)\b",
    re.IGNORECASE,
)
_NO_STATISTIC = re.compile(
    r"\b(?:code|program|function|script|algorithm|sql|query|weighted|moving|geometric|harmonic|"
    r"squares?|cubes?|digits?|"
    r"even|odd|prime|positive|negative|common|difference|second|third|two|three|between|missing|next|"
    r"expression|"
    r"equation|interval|word|words|if|formula|multiples?|index|position|\d+(?:st|nd|rd|th)|than|all|"
    r"divisible|factors|differ\w*|explain|sentence|per|each|area|story|standard)\b",
    re.IGNORECASE,
)


def _statistic(instruction: str, given: str) -> tuple[str, list[Fraction]] | None:
    """Return (what is asked, right values) for "the average of 1, 2 and 3"."""
    if not _WORKS_OUT.match(instruction) or _NO_STATISTIC.search(instruction) or len(instruction) > 200:
        return None
    asked = [(name, fn) for pattern, name, fn in _STATISTICS if pattern.search(instruction)]
    numbers = _numbers_given(instruction, given) if len(asked) == 1 else None
    if not numbers or len(numbers) < 2:
        return None
    name, fn = asked[0]
    return f"the {name} of {len(numbers)} numbers", fn(numbers)


_PERCENT_OF = re.compile(rf"\b({_NUMBER})\s?(?:%|percent|per cent)\s+of\s+[$€£]?({_NUMBER})(?![\w%]|[.,]\d)", re.IGNORECASE)
_CALCULATE = re.compile(
    r"\W*(?:calculate|compute|evaluate|solve|simplify|what(?:'s| is)|work out|find|determine|add|perform|"
    r"multiply|divide|subtract)\b"
    r"[^\d(-]{0,60}?(?P<expr>[-(]?[\d(][\d\s.,()+*/×÷·−xX-]{2,60}[\d)])\s*(?P<tail>[=.?!]*\s*)$",
    re.IGNORECASE,
)
_ROOT = re.compile(r"\b(?:square root|sqrt)\b(?: of)?\s*\(?(\d{1,12})\)?\s*[.?!]?\s*$", re.IGNORECASE)
_TRIGONOMETRY = re.compile(
    r"\b(sin|cos|tan|sine|cosine|tangent)\b\s*(?:of\s*)?\(?\s*(\d{1,4}(?:\.\d+)?)\s*(degrees?|°|"
    r"radians?|rad)?\s*\)?\s*[.?!]?\s*$",
    re.IGNORECASE,
)


def _formula(instruction: str, given: str) -> tuple[str, list[Fraction]] | None:
    """Return (what is asked, right values) for a percentage, an expression, a root or an angle function."""
    text = f"{instruction.strip()} {given.strip()}".strip()
    if len(text) > 160 or re.search(
        r"\b(?:function|code|program|script|explain|binary|hex\w*|octal|mod|modulo|if|all|from|"
        r"odd|even|between)\b",
        text,
        re.IGNORECASE,
    ):
        return None
    m = _PERCENT_OF.search(text)
    if m and _WORKS_OUT.match(text) and len(_ANY_NUMBER.findall(text)) == 2:
        return f"{m.group(1)} % of {m.group(2)}", [_read(m.group(1)) * _read(m.group(2)) / 100]
    m = _ROOT.search(text)
    if m and _WORKS_OUT.match(text) and len(_ANY_NUMBER.findall(text)) == 1:
        return f"the square root of {m.group(1)}", [Fraction(math.sqrt(int(m.group(1)))).limit_denominator(10**9)]
    m = _TRIGONOMETRY.search(text)
    if m and _WORKS_OUT.match(text):
        return f"{m.group(1)} of {m.group(2)}", _angle(m.group(1)[:3].lower(), float(m.group(2)), (m.group(3) or "").lower())
    m = _CALCULATE.match(text)
    if m and re.search(r"\d\s*[-+*/×÷·−xX]\s*[\d(]", m.group("expr")):
        value = evaluate(m.group("expr"))
        return None if value is None else (shorten(m.group("expr"), 40), [value])
    return None


def _angle(name: str, value: float, unit: str) -> list[Fraction]:
    fn = {"sin": math.sin, "cos": math.cos, "tan": math.tan}[name]
    wanted = [] if unit.startswith(("d", "°")) else [fn(value)]
    wanted += [] if unit.startswith("r") else [fn(math.radians(value))]
    return [Fraction(x).limit_denominator(10**12) for x in wanted if abs(x) < 1e6]


_POINT = r"\(\s*(-?\d{1,6}(?:\.\d+)?)\s*,\s*(-?\d{1,6}(?:\.\d+)?)\s*\)"
_TWO_POINTS = re.compile(rf"{_POINT}[^()]{{0,40}}{_POINT}")
_LINE = re.compile(
    r"\by\s*=\s*(?P<slope>-?\s*(?:\d+(?:\.\d+)?(?:/\d+)?|"
    r"\(\s*-?\d+/\d+\s*\))?)\s*\*?\s*x(?:\s*(?P<sign>[-+−])\s*(?P<offset>\d+(?:\.\d+)?"
    r"(?:/\d+)?))?(?![\w/])",
    re.IGNORECASE,
)


def _line_fault(instruction: str, given: str, response: str) -> tuple[tuple[int, int], str] | None:
    """Return the span and the message when the line in the response misses the two points of the prompt."""
    text = f"{instruction} {given}"
    m = _TWO_POINTS.search(text)
    if (
        m is None
        or not re.search(r"\b(?:through|points?|connect\w*|between|join\w*)\b", text)
        or "circle" in text
        or not re.search(
            r"\bequation\b[^.]{0,40}\bline\b|\bline\b[^.]{0,40}\bequation\b|\bslope[- ]intercept", text, re.IGNORECASE
        )
    ):
        return None
    x1, y1, x2, y2 = (Fraction(g) for g in m.groups())
    lines = list(_LINE.finditer(response))
    if not lines or x1 == x2:
        return None
    last = lines[-1]
    slope = re.sub(r"[\s()]", "", last.group("slope") or "")
    a = Fraction(slope) if slope not in ("", "-") else Fraction(f"{slope}1")
    b = Fraction(last.group("offset") or 0) * (1 if last.group("sign") == "+" else -1)
    off = next(((x, y) for x, y in ((x1, y1), (x2, y2)) if abs(a * x + b - y) > Fraction(1, 20) * (1 + abs(x))), None)
    if off is None:
        return None
    return last.span(), f"The line {shorten(last.group(), 30)!r} does not pass through ({_plain(off[0])}, {_plain(off[1])})."


# --- conversions -----------------------------------------------------------------------------------------------------

#: unit -> (kind, size in the kind's base unit, offset); exact by definition
_UNITS: dict[str, tuple[str, Fraction, Fraction]] = {}
for _names, _kind, _size in (
    ("mm millimeter millimetre", "length", "0.001"),
    ("cm centimeter centimetre", "length", "0.01"),
    ("m meter metre", "length", "1"),
    ("km kilometer kilometre", "length", "1000"),
    ("inch inches in", "length", "0.0254"),
    ("ft foot feet", "length", "0.3048"),
    ("yd yard", "length", "0.9144"),
    ("mi mile", "length", "1609.344"),
    ("mg milligram", "mass", "0.001"),
    ("g gram", "mass", "1"),
    ("kg kilogram kilo", "mass", "1000"),
    ("oz ounce", "mass", "28.349523125"),
    ("lb lbs pound", "mass", "453.59237"),
    ("ml milliliter millilitre", "volume", "0.001"),
    ("l liter litre", "volume", "1"),
    ("gallon gal", "volume", "3.785411784"),
    ("second sec", "time", "1"),
    ("minute min", "time", "60"),
    ("hour hr", "time", "3600"),
    ("day", "time", "86400"),
    ("week", "time", "604800"),
    ("kph km/h", "speed", "1000"),
    ("mph", "speed", "1609.344"),
):
    for _name in _names.split():
        _UNITS[_name] = (_kind, Fraction(_size), Fraction(0))
for _name, _factor, _offset in (
    ("celsius", Fraction(1), Fraction(0)),
    ("c", Fraction(1), Fraction(0)),
    ("°c", Fraction(1), Fraction(0)),
    ("fahrenheit", Fraction(5, 9), Fraction(-160, 9)),
    ("f", Fraction(5, 9), Fraction(-160, 9)),
    ("°f", Fraction(5, 9), Fraction(-160, 9)),
    ("kelvin", Fraction(1), Fraction("-273.15")),
):
    _UNITS[_name] = ("temperature", _factor, _offset)
_CONVERT = re.compile(
    rf"(?:\bconvert\b[^\d\n]{{0,40}}|\bwhat is\s+|\bchange\s+|\bexpress\s+)(?P<n>-?{_NUMBER})\s*(?:degrees?\s+|"
    rf"°\s?)?(?P<from>[a-z/]+)"
    r"(?:\s+(?:weight|length|temperature))?\s+(?:to|into|in|as)\s+(?:the\s+)?(?:degrees?\s+|°\s?)?(?P<to>[a-z/]+)\s*(?:[.?!]|"
    r"$)",
    re.IGNORECASE,
)
_CONVERT_INPUT = re.compile(r"\bconvert\b[^.\n]{0,60}\bto\s+(?:degrees?\s+|°\s?)?(?P<to>[a-z/]+)\s*[.?!]?\s*$", re.IGNORECASE)
_MEASURE = re.compile(rf"\W*(?P<n>-?{_NUMBER})\s*(?:degrees?\s+|°\s?)?(?P<from>[a-z/]+)\W*$", re.IGNORECASE)


def _unit_of(name: str) -> tuple[str, Fraction, Fraction] | None:
    low = name.lower()
    return _UNITS.get(low) or _UNITS.get(low.removesuffix("s"))


def _conversion(instruction: str, given: str) -> tuple[str, list[Fraction]] | None:
    """Return (what is asked, right value) for "convert 5 km to miles"."""
    m = _CONVERT.search(instruction) if len(instruction) < 120 else None
    to, measure = (m.group("to"), m) if m else ("", None)
    if m is None and given:
        ask, measure = _CONVERT_INPUT.search(instruction[:200]), _MEASURE.match(given)
        to = ask.group("to") if ask else ""
    if measure is None or not to:
        return None
    source, target = _unit_of(measure.group("from")), _unit_of(to)
    if source is None or target is None or source[0] != target[0] or source == target:
        return None
    value = (_read(measure.group("n")) * source[1] + source[2] - target[2]) / target[1]
    return f"{measure.group('n')} {measure.group('from')} in {to}", [value]


# --- counting --------------------------------------------------------------------------------------------------------

_COUNTED = re.compile(
    r"\b(?:how many|count (?:the )?(?:number of |total )?(?:of )?|(?:find|calculate|determine|give|tell me|what is|output|"
    r"compute)\s+the\s+(?:total\s+)?number of)\s*(?:the\s+)?"
    r"(?P<what>words|vowels|consonants|letters|characters|"
    r"(?:times the )?letters?\s+[\"'“]?(?P<letter>[a-z])[\"'”]?(?:s)?)\b",
    re.IGNORECASE,
)
_NO_COUNT = re.compile(
    r"\b(?:unique|different|distinct|each|every|longest|code|function|program|syllab\w+|adjectives?|"
    r"nouns?|verbs?|with|"
    r"more than|start\w*|end\w*|contain\w*|paragraph|article|list|of each|capital|upper\w*|lower\w*|"
    r"without|exclud\w*)\b",
    re.IGNORECASE,
)
_IN_QUOTES = re.compile(r"[\"“']([^\"”'\n]{2,200})[\"”']")
_NUMERALS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty"""
_SPELLED = {word: n for n, word in enumerate(_NUMERALS.split())}


def _count(instruction: str, given: str) -> tuple[str, list[Fraction]] | None:
    """Return (what is asked, right counts) for "how many words are in this sentence"."""
    m = _COUNTED.search(instruction)
    if m is None or len(instruction) > 160 or _NO_COUNT.search(instruction):
        return None
    quoted = _IN_QUOTES.findall(instruction[m.end() :])
    text = given.strip() or (quoted[0] if len(quoted) == 1 else "")
    text = re.sub(r"^\s*(?:sentence|text|string|word|phrase|input)\s*:\s*", "", text, flags=re.IGNORECASE).strip(" \"'“”")
    if not text or len(text) > 300 or "\n" in text or (len(re.findall(r"[.!?]\s+[A-Z]", text)) > 3):
        return None
    low, what = text.lower(), m.group("what").lower()
    if m.group("letter"):
        counts = [low.count(m.group("letter").lower())]
    elif what == "words":
        counts = [len(text.split()), len(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)), len(re.findall(r"\w+", text))]
    elif what == "characters":
        counts = [len(text), len(re.sub(r"\s", "", text)), sum(c.isalnum() for c in text)]
    elif what == "letters":
        counts = [sum(c.isalpha() for c in text)]
    elif not low.isascii():
        return None
    else:
        vowels = sum(c in "aeiou" for c in low)
        letters, y = sum(c.isalpha() for c in low), low.count("y")
        counts = [vowels, vowels + y] if what == "vowels" else [letters - vowels, letters - vowels - y]
    return f"the number of {what} in {shorten(text, 30)!r}", [Fraction(c) for c in counts]


def _says(response: str, wanted: list[Fraction]) -> tuple[bool, tuple[int, int] | None]:
    """Return (whether a right value stands in the response, span of the last number there)."""
    span = None
    for m in _ANY_NUMBER.finditer(response):
        shown = m.group().replace("−", "-").rstrip(",")
        span = m.span()
        if any(
            _close(value, shown) or (abs(value) >= 10 and abs(_read(shown) - value) <= abs(value) / 100 and "." in shown)
            for value in wanted
        ):
            return True, span
    for word in re.findall(r"[a-z]+", response.lower()):
        if word in _SPELLED and any(value == _SPELLED[word] for value in wanted):
            return True, span
    for m in re.finditer(r"(-?\d{1,9})\s*/\s*(\d{1,9})|√\s*\(?(\d{1,9})", response):
        value = Fraction(math.sqrt(int(m.group(3)))) if m.group(3) else Fraction(int(m.group(1)), int(m.group(2)) or 1)
        if any(abs(value - w) <= abs(w) / 1000 for w in wanted):
            return True, span
    for m in re.finditer(r"-?\d{1,9}\s?/\s?\d{1,9}", response):
        if span and m.start() < span[0] and m.end() == span[1]:
            span = m.span()
    return False, span


# --- sorting and reversing -------------------------------------------------------------------------------------------

_SORTS = re.compile(
    r"\b(?:sort|arrange|rearrange|re-arrange|order|reorder|re-order|organi[sz]e|put|rank|list|place)\b", re.IGNORECASE
)
_ALPHABETICAL = re.compile(r"\balphabetical(?:ly)?\b|\bfrom a to z\b", re.IGNORECASE)
_ASCENDING = re.compile(
    r"\b(?:ascending|increasing|(?:smallest|lowest|least) to (?:the )?(?:largest|biggest|highest|"
    r"greatest|most)|small to large|low to high)\b",
    re.IGNORECASE,
)
_DESCENDING = re.compile(
    r"\b(?:descending|decreasing|reverse|(?:largest|biggest|highest|greatest|"
    r"most) to (?:the )?(?:smallest|lowest|least)|"
    r"large to small|high to low|z to a)\b",
    re.IGNORECASE,
)
_NO_SORT = re.compile(
    r"\b(?:algorithm|code|function|program|script|python|java|sql|query|method|length|chronolog\w*|date|"
    r"size|weight|price|population|"
    r"last names?|surnames?|then|categor\w+|group\w*|author\w*|explain|how|bibliograph\w*|why|importance|"
    r"letters|characters)\b",
    re.IGNORECASE,
)


def _order_of(instruction: str) -> tuple[bool, bool] | None:
    """Return (alphabetical, descending) when the prompt asks for a plain sort."""
    if not _SORTS.search(instruction) or _NO_SORT.search(instruction) or len(instruction) > 250:
        return None
    alphabetical, up, down = (
        bool(_ALPHABETICAL.search(instruction)),
        bool(_ASCENDING.search(instruction)),
        bool(_DESCENDING.search(instruction)),
    )
    if (up and down) or not (alphabetical or up or down):
        return None
    return alphabetical, down


def _items(text: str) -> list[str]:
    """Return the items of a list set with line breaks, commas or semicolons, without marks and numbers in front."""
    text = re.sub(r"^[^:\n]{0,60}:\s*(?=\S)", "", text.strip(), count=1) if ":" in text[:61] else text.strip()
    text = text.strip("[](){}. \n")
    parts = text.split("\n") if "\n" in text else re.split(r"[,;]", text)
    out = []
    for part in parts:
        part = re.sub(r"^\s*(?:[-*•](?=\s)|\d{1,2}[.)](?=\s)|and\s)\s*", "", part.strip())
        out.append(re.sub(r"^and\s+", "", part).strip(" \"'“”‘’[](){}.,;"))
    return [p for p in out if p]


def _sort_fault(instruction: str, given: str, response: str) -> tuple[str, str] | None:
    """Return (message, right order) when the response lists the items of the prompt in another order than asked."""
    order = _order_of(instruction)
    if order is None:
        return None
    alphabetical, down = order
    source = given if given.strip() else instruction.rpartition(":")[2] if ":" in instruction else ""
    words = (
        bool(re.search(r"\b(?:the|its|all(?: the)?|of the) words\b|\bsentence\b", instruction, re.IGNORECASE))
        and alphabetical
        and "," not in source
    )
    asked, got = (_words_of(source), _words_of(response)) if words else (_items(source), _items(response))
    if alphabetical and any(re.match(r"(?:the|an?)\s|\W*\d", x, re.IGNORECASE) for x in asked if not words):
        return None  # articles and figures are sorted in more than one way
    if not 2 < len(asked) <= 60 or len(got) != len(asked) or any(len(x.split()) > 5 for x in asked):
        return None
    keys = {fold(x) for x in asked}
    if {fold(x) for x in got} != keys or len(keys) < 3:
        return None
    try:
        rank: Callable[[str], tuple[str, ...] | Fraction] = _by_letters if alphabetical else _by_value
        right = sorted(asked, key=rank, reverse=down)
        wrong = next((b for a, b in zip(map(rank, got), map(rank, got[1:])) if (b > a if down else b < a)), None)  # type: ignore[operator]
    except ValueError:
        return None
    if wrong is None:
        return None
    way = ("reverse alphabetical" if down else "alphabetical") if alphabetical else ("descending" if down else "ascending")
    return f"The list is not in {way} order.", ", ".join(right)


def _words_of(text: str) -> list[str]:
    text = re.sub(r"^\s*(?:sentence|words|list|text|input|output)\s*:\s*", "", text, flags=re.IGNORECASE)
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)


def _by_letters(item: str) -> tuple[str, ...]:
    return (re.sub(r"[^\w\s]", "", fold(item)).replace("_", ""),)


def _by_value(item: str) -> Fraction:
    number = item.replace(",", "").strip("$€£% ")
    return Fraction(number)


_REVERSES = re.compile(
    r"\b(?:reverse|write|spell|print)\b[^.\n]{0,40}\b(?:string|word|text|phrase|letters|characters)\b", re.IGNORECASE
)
_NO_REVERSE = re.compile(
    r"\b(?:code|function|program|script|python|java|order of|words in|each|every|sentence|meaning|case|"
    r"array|list|algorithm|"
    r"word order|how|alphabetical|antonym|opposite)\b",
    re.IGNORECASE,
)


def _reverse_fault(instruction: str, given: str, response: str) -> tuple[str, str] | None:
    """Return (message, right answer) when a string was to be reversed and is not."""
    if (
        not re.search(r"\brevers\w+|\bbackwards?\b", instruction, re.IGNORECASE)
        or not _REVERSES.search(instruction)
        or _NO_REVERSE.search(instruction)
    ):
        return None
    quoted = _IN_QUOTES.findall(instruction)
    text = given.strip().strip("\"'“”.") or (quoted[0] if len(quoted) == 1 else "")
    if not 2 < len(text) <= 60 or "\n" in text or " " in text:
        return None
    if fold(text[::-1]) in fold(response) or len(response.split()) > 30:
        return None
    return f"The reverse of {text!r} is {text[::-1]!r}; the response does not hold it.", text[::-1]


# --- the check -------------------------------------------------------------------------------------------------------

_TASK = (
    r"(?i)\b(?:average|mean|median|mode|sum|total|add|product|maximum|largest|biggest|greatest|highest|minimum|smallest|"
    r"least|lowest|range|calculate|"
    r"compute|evaluate|solve|simplify|what is|what's|percent|root|sin|cos|tan|sine|cosine|convert|change|express|"
    r"how many|count|number of|sort|"
    r"arrange|rearrange|order|reorder|organi[sz]e|rank|revers\w+|backwards?|equation|multiply|divide|subtract|perform|"
    r"put|place|work out)\b"
)
_READERS: tuple[Callable[[str, str], tuple[str, list[Fraction]] | None], ...] = (_statistic, _formula, _conversion, _count)


@check("response.arithmetic", reads=("instruction", "input", "response"), severity="warning", action="review", version=2)
def arithmetic(rows: pa.Table) -> pa.Table:
    """A calculation, conversion, count or sort in the response is wrong.

    Why: a model learns wrong sums as readily as right ones, and wrong answers are the most common real flaw.
    Misses: right sums of wrong quantities, calculations in words, other number systems, tasks with more than one list.
    False positives: rounding beyond one part in a thousand; equations that a puzzle redefines.
    Source: CHECKS 27. Expressions are worked out exactly as fractions; sorting ignores case and marks. A sort that only
    changes the order carries the right order as its fix when the response is the bare list.
    """
    found = Findings(rows)
    equations = pc.match_substring_regex(rows["response"], _MAYBE_EQUATION)
    tasks = pc.match_substring_regex(rows["instruction"], _TASK)
    at = np.flatnonzero(np.asarray(pc.fill_null(pc.or_kleene(equations, tasks), False)))
    sub = rows.take(pa.array(at))
    fields = zip(at.tolist(), texts(sub, "instruction"), texts(sub, "input"), texts(sub, "response"))
    for i, instruction, given, response in fields:
        if not response.strip() or len(response) > 20_000:
            continue
        if not _task_fault(found, i, instruction.strip(), given, response):
            _equation_fault(found, i, f"{instruction}\n{given}", response)
    return found.table()


def _equation_fault(found: Findings, i: int, prompt: str, response: str) -> None:
    if "=" not in response or "```" in response or _OTHER_NUMBERS.search(prompt) or _OTHER_NUMBERS.search(response[:2000]):
        return
    wrong = next(_equations(response, prompt), None)
    if wrong:
        span, equation, value = wrong
        found.add(i, f"{shorten(equation, 60)!r} does not hold: the left side is {value}.", span=span, score=0.9)


def _task_fault(found: Findings, i: int, instruction: str, given: str, response: str) -> bool:
    """Add a flag when the response misses the answer that the prompt's own numbers or items give."""
    line = _line_fault(instruction, given, response)
    if line:
        found.add(i, line[1], span=line[0], score=0.9)
        return True
    wrong = _sort_fault(instruction, given, response)
    if wrong:
        bare = "\n" not in response.strip() and ":" not in response and "," in response
        found.add(i, wrong[0], span=(0, len(response)), fix=wrong[1] if bare else None, score=0.95)
        return True
    wrong = _reverse_fault(instruction, given, response)
    if wrong:
        found.add(i, wrong[0], span=(0, len(response)), score=0.9)
        return True
    if len(response) > 1500:
        return False
    for reader in _READERS:
        task = reader(instruction, given)
        if task:
            said, span = _says(response, task[1])
            if not said and span:
                right = " or ".join(dict.fromkeys(_plain(v) for v in task[1]))
                found.add(
                    i, f"The prompt asks for {task[0]}, which is {right}; the response does not say so.", span=span, score=0.85
                )
                return True
            return False
    return False
