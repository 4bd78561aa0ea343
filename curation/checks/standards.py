"""What a response owes: limits stated in the prompt (length, format, items, case) and the family's response standard."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..refusal import classify
from ..spec import ResponseStandard, Spec
from ..text import shorten, words
from ..verifiers import parse_json, standard_violations, verify
from .base import Findings, check, texts

# --- length limits in the prompt -------------------------------------------------------------------------------------

_SPELLED = {w: n for n, w in enumerate(
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
     "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"], 1)}
_SPELLED |= {"single": 1, "twenty-five": 25, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
             "eighty": 80, "ninety": 90, "hundred": 100, "one hundred": 100, "a hundred": 100, "two hundred": 200,
             "three hundred": 300, "five hundred": 500}
_N = rf"(?:\d{{1,3}},\d{{3}}|\d{{1,5}}|{'|'.join(sorted(_SPELLED, key=len, reverse=True))})"
_UNIT = r"(?P<unit>words?|sentences?|paragraphs?|characters?)"
_AT_MOST = (r"(?:under|below|less than|fewer than|no more than|not more than|not (?:to )?exceed(?:ing)?|at (?:the )?most|"
            r"up to|(?:a )?max(?:imum)?(?: of)?|within|no longer than|not longer than|shorter than|no greater than|only)")
_AT_LEAST = r"(?:at least|(?:a )?min(?:imum)?(?: of)?|more than|over|no less than|not less than|no fewer than)"
_ABOUT = r"(?:about|around|approximately|approx\.?|roughly|circa|~|nearly|close to)"
_EXACT = r"(?:exactly|precisely|just)"
_BOUND = rf"(?:(?P<most>{_AT_MOST})|(?P<least>{_AT_LEAST})|(?P<about>{_ABOUT})|(?P<exact>{_EXACT}))"
_RANGE = rf"(?P<lo>{_N})(?:\s*(?:-|–|—|to|or|and)\s*(?P<hi>{_N}))?"
_SUFFIX = (r"(?:\s*,?\s*(?P<orless>or (?:less|fewer|under|shorter)|at (?:the )?most|max(?:imum)?|tops)"
           r"|\s*,?\s*(?P<ormore>or more|at least|min(?:imum)?))?")
#: what a text made by the response may be called
_TEXT = (r"(?:summary|summari[sz]ation|essay|story|stories|paragraph|article|description|poem|letter|report|text|response|"
         r"answer|review|piece|e-?mail|speech|post|blog|explanation|statement|passage|note|caption|content|dialogue|"
         r"biography|bio|synopsis|abstract|slogan|tagline|headline|title|quote|tweet|message|paraphrase|narrative|"
         r"introduction|conclusion|overview|definition|product description|outline|monologue|pitch|script|proposal|"
         r"advertisement|ad|review|analysis|argument|critique|memo|announcement|recap|account|reply|phrase|sentence|"
         r"version|obituary|editorial|column|opinion|plan|guide|page|motto|name|joke|scene|reflection|length|limit)")
_MAKE = (r"(?:write|generate|create|compose|make|construct|produce|give(?: me)?|provide(?: me)?(?: with)?|suggest|draft|"
         r"craft|develop|come up with|prepare|design|form|formulate|build|need|want|tell(?: me)?|devise|author|"
         r"pen|output|offer|propose|invent|answer with|respond with|reply with|in|as|into|is|be|with)")

_FRAMES = tuple(re.compile(p, re.IGNORECASE) for p in (
    # "in (no more than) 100 words", "into two paragraphs", "to 20 words", "using only five words"
    rf"(?<![\w-])(?P<frame>in|into|to|within|using|with|of length|length of|length:|of)\s+(?:a |an )?"
    rf"(?:(?:total|length) of )?(?:{_BOUND}\s+)?{_RANGE}[\s-]+{_UNIT}(?![\w-]){_SUFFIX}",
    # "a 300-word article", "a 3 sentence summary", "five-word slogan"
    rf"(?<![\w-])(?P<frame>{_MAKE})\s+(?:me\s+)?(?:an?\s+)?"
    rf"(?:(?!(?:the|this|these|next|first|last|following|given|each|every|of)\s)[a-z]+\s+){{0,3}}?(?:{_BOUND}\s+)?"
    rf"{_RANGE}[\s-]+(?P<unit>word|sentence|paragraph|words|character)[\s-]+(?:long\s+)?"
    rf"(?:(?!(?:for|in|of|the|to|that|about|on|with|from|and|or|by|using)\s)[a-z-]+\s+){{0,3}}?{_TEXT}\b(?P<suffix>)",
    # "write three sentences that ...", "give 500 words on"
    rf"(?<![\w-])(?P<frame>write|compose|provide|give me|generate|create|make)\s+(?:{_BOUND}\s+)?{_RANGE}\s+"
    rf"(?:[a-z]+\s+)?(?P<unit>sentences?|paragraphs?)(?![\w-]){_SUFFIX}",
    # "under 20 words", "no more than 50 words", "maximum 100 words" anywhere
    rf"(?<![\w-])(?P<frame>)(?:(?P<most>{_AT_MOST})|(?P<least>{_AT_LEAST}))\s+{_RANGE}[\s-]+{_UNIT}(?![\w-]){_SUFFIX}",
    # "should be 100 words", "(100 words)", "100 words or less"
    rf"(?P<frame>should be|must be|be|\()\s*(?:{_BOUND}\s+)?{_RANGE}[\s-]+{_UNIT}(?:\s+(?:long|in length))?(?=\W|$)"
    rf"{_SUFFIX}",
    rf"(?<![\w-])(?P<frame>){_RANGE}\s+{_UNIT}\s*,?\s*(?:(?P<orless>or (?:less|fewer)|max(?:imum)?\b)|(?P<ormore>or more))",
))
_QUICK = r"(?i)(word|sentence|paragraph|character)"

# The number describes the input, a part of the answer, or the words to use, not the length of the answer.
_NOT_BEFORE = re.compile(
    r"(?:\b(?:the|this|that|these|those|given|following|provided|above|below|first|last|next|each|every|per|any|both|"
    r"another|following|such|other|top|all|and|every|it has|has|have|having|contain(?:s|ing)?|consist(?:s|ing)? of|"
    r"that are|which are|that is|words?|sentences|lines?|verses?|stanzas?|titles?|items?|names?|phrases|questions?|"
    r"letters?|list|meanings?|pairs?|sets?|groups?|number|replac\w+|chang\w+|add(?:ing)?|remov\w+|delet\w+|insert\w*|"
    r"underline|highlight|identify|find|count|choose|select|compare|contrast|combine|join|merge|connect|between|"
    r"difference|differences|structure|from|sentence|syllables?|each one|"
    r"length)\s+(?:in\s+)?|\ba\s+)$", re.IGNORECASE)
_NOT_AFTER = re.compile(
    r"\s*,?\s*(?:of (?:your|the|their|it|this|these|those|which)|from (?:the|this|your|each|it)|in (?:the (?:text|passage|"
    r"article|sentence|paragraph|story|given|input|document|poem)|it|them|each|length and)|per\b|apiece|"
    r"(?:that|which|with) (?:rhyme|start|begin|end|mean|sound|contain|have|share)|and (?:their|its|explain|use)|"
    r"provided|given|below|above|together|:\s*\S|apart|starting with|beginning with|ending (?:in|with)|letters?\b|"
    r"to (?:replace|complete|fill|make|form|create|describe|be)\b|(?:into|so|as|or) (?:one|a) )", re.IGNORECASE)
_PLANS = re.compile(r"\b(?:plans?|how|steps?|tips?|ways?|guide|strateg\w+|advice|prompts?|topics?|ideas?|process|time)\s+"
                    r"(?:to|for|on|of|in)\s*$", re.IGNORECASE)
_MAIL = re.compile(r"\b(?:e-?mail|letter|dialogue|script|memo)\b", re.IGNORECASE)
_PART = re.compile(
    r"\b(?:each|every|per)\s+(?:\w+\s+){0,3}$|\b(?:titles?|headings?|subject line|slides?|bullets?(?: points?)?|steps?|"
    r"questions|sentences|lines|items|paragraphs?|sections?|names?|tags?|labels?|words|abstract|caption|summar(?:y|ies) "
    r"and|keywords|stanzas?|examples|reasons|tips|facts|ideas|answers|stories|poems|messages|tweets|slogans|captions)\s+"
    r"(?:of|with|in|that are|which are|containing|using|having|should be|must be|be|to)?\s*$|"
    r"\b(?:article|passage|text|essay|story|paragraph|document|input|sentence|book|report|speech|poem|letter|email|"
    r"transcript)s?\s+(?:of|with|that (?:is|has)|which (?:is|has)|containing|consisting of|down|is|was|has)\s+$",
    re.IGNORECASE)
_SOURCE_VERB = re.compile(
    r"\b(?:this|the|given|following|provided|these)\s+(?:\w+\s+){0,2}(?:article|passage|text|essay|story|paragraph|"
    r"document|input|sentence|book|report|speech|poem|letter|email|transcript|list|string)s?\s+(?:of|with|containing|"
    r"consisting of)\s+$", re.IGNORECASE)
_SEARCH = re.compile(r"\W*(?:please\s+)?(?:identify|find|count|list|highlight|underline|select|choose|determine|locate|"
                     r"extract|how many|which|what|delete|remove|replace|add|insert|parse|edit|fill|complete|classify|"
                     r"name|does|is|are)\b", re.IGNORECASE)
_MANY = re.compile(r"\b(?:summaries|sentences|essays|stories|poems|descriptions|articles|slogans|quotes|taglines|headlines|"
                   r"titles|captions|tweets|examples|reviews|names|ideas|options|list of|questions|paragraphs|phrases|"
                   r"statements|messages|jokes|each|variations|versions)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Limit:
    """A length that the prompt asks of the response: unit, inclusive bounds, and where the prompt says so."""

    unit: str               # word | sentence | paragraph | character
    least: int | None
    most: int | None
    loose: bool             # "about 100", a bare "100 words": the tolerance applies
    start: int
    end: int

    @property
    def wanted(self) -> str:
        """The limit in words."""
        plural = "" if (self.most or self.least) == 1 else "s"
        if self.least is None:
            return f"at most {self.most} {self.unit}{plural}"
        if self.most is None:
            return f"at least {self.least} {self.unit}{plural}"
        if self.least == self.most:
            return f"{'about ' if self.loose and self.unit == 'word' else ''}{self.most} {self.unit}{plural}"
        return f"{self.least} to {self.most} {self.unit}s"


def _number(text: str) -> int:
    text = text.lower().replace(",", "")
    return int(text) if text.isdigit() else _SPELLED[text]


def limits(prompt: str, has_input: bool = False) -> list[Limit]:
    """Return the length limits that `prompt` puts on the response, in order of the text, without overlaps."""
    found: list[Limit] = []
    for k, frame in enumerate(_FRAMES):
        for m in frame.finditer(prompt):
            if any(m.start() < f.end and f.start < m.end() for f in found):
                continue
            limit = _limit(prompt, m, k, has_input)
            if limit:
                found.append(limit)
    return sorted(found, key=lambda f: f.start)


def _limit(prompt: str, m: re.Match[str], frame: int, has_input: bool) -> Limit | None:
    groups = m.groupdict()
    unit = m.group("unit").lower().rstrip("s")
    lo, hi = _number(m.group("lo")), _number(m.group("hi")) if groups.get("hi") else None
    bounded = any(groups.get(g) for g in ("most", "least", "orless", "ormore"))
    if _elsewhere(prompt, m, frame, unit, bounded, has_input):
        return None
    if hi is not None and hi < lo:
        return None
    start, end = m.start("lo"), m.end("unit")
    if groups.get("orless") or (groups.get("most") and not groups.get("ormore")):
        strict = (groups.get("most") or "").lower() in ("under", "below", "less than", "fewer than", "shorter than")
        only = (groups.get("most") or "").lower() == "only"
        most = (hi or lo) - (1 if strict and unit != "character" else 0)
        return Limit(unit, lo if only else None, most, only and unit == "word", start, end)
    if groups.get("ormore") or groups.get("least"):
        strict = (groups.get("least") or "").lower() in ("more than", "over")
        return Limit(unit, lo + (1 if strict else 0), None, False, start, end)
    if unit == "character":
        return None
    return Limit(unit, lo, hi or lo, not groups.get("exact") and unit == "word", start, end)


def _elsewhere(prompt: str, m: re.Match[str], frame: int, unit: str, bounded: bool, has_input: bool) -> bool:
    """Return whether the number is about something else than the whole response."""
    head, tail = prompt[: m.start()], prompt[m.end():]
    name = (m.group("frame") or "").lower()
    near = head[-70:]
    if _NOT_AFTER.match(tail) or _PLANS.search(near) or (unit == "paragraph" and _MAIL.search(prompt)):
        return True
    if _SEARCH.match(prompt) and not (bounded or name in ("in", "into", "to", "within")):
        return True
    if frame == 0:
        return _frame_elsewhere(prompt, m, name, near, unit, bounded, has_input)
    if frame == 1:
        plural = re.search(r"(?:summaries|stories|essays|articles|slogans|poems|[a-z]s)$", m.group().lower())
        return bool(plural and not m.group().lower().endswith(("words", "ss", "analysis", "synopsis"))) or bool(
            _MANY.search(m.group()[: m.start("lo") - m.start()])) or (name in ("in", "as", "with", "is", "be") and bool(
                re.search(r"\b(?:the|this|given|following)\s", m.group(), re.IGNORECASE)))
    if frame == 2:
        return bool(re.search(r"\b(?:with|using|from|for|about)\s+$", near))
    if _NOT_BEFORE.search(near) or _PART.search(near):
        return not (bounded and re.search(r"\b(?:response|answer|summary|essay|output|it)\s+(?:\w+\s+){0,2}$", near))
    return bool(_MANY.search(head[-40:])) and not re.search(r"[.!?]\s*\w*\s*$", near)


def _frame_elsewhere(
    prompt: str, m: re.Match[str], name: str, near: str, unit: str, bounded: bool, has_input: bool
) -> bool:
    """The first frame ("in 100 words", "of 100 words", "using three words")."""
    if name in ("using", "with"):
        rest = prompt[m.end():].strip()
        return has_input or not (bounded or m.group("exact")) or bool(rest and rest[0] not in ".!?,;") or bool(
            _MANY.search(near))
    if name == "of":
        made = re.search(rf"\b{_TEXT}\s+$|\b(?:maximum|minimum|total|max|min|length|limit)\s+$", near, re.IGNORECASE)
        return made is None or _SOURCE_VERB.search(near + "of ") is not None or bool(_MANY.search(near[-12:])) or bool(
            re.search(r"\b(?:the|this|given|following|these)\s+\w+\s+$", near, re.IGNORECASE)
            and not re.search(r"maximum|minimum|total|length", near[-20:], re.IGNORECASE))
    if name == "to":
        return not re.search(r"\b(?:limit\w*|keep|reduc\w+|shorten\w*|condens\w+|summari[sz]\w+|confin\w+|restrict\w*|cut|"
                             r"trim\w*|down|compress\w*|response|answer|it)\b[^.!?]{0,60}$", near, re.IGNORECASE)
    if name == "within" and unit == "word":
        return bool(_PART.search(near))
    differs = re.search(r"\b(?:difference|mistakes?|errors?|used|appear|occur|letters?|theme|tone|common|words?)s?\s+$", near,
                        re.IGNORECASE)
    return bool(differs) or bool(re.search(r"\b(?:each|every)\b[^.!?]{0,40}$", near, re.IGNORECASE))


# --- counting --------------------------------------------------------------------------------------------------------

_MARKER = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,3}[.):]|(?:sentence|paragraph)\s*\d+\s*[:.])\s*", re.IGNORECASE | re.MULTILINE)
_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|U\.S|U\.K|U\.N|a\.m|p\.m|No|Inc|Ltd|Co|Corp|Gen|Col|Sgt|Lt|Capt|"
    r"Rev|Hon|approx|est|fig|vol|pp|(?-i:[A-Z]))\.", re.IGNORECASE)
_STOPS = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s+[\"'“‘(\[]?[A-Z0-9]|\s*$)")


def count_range(text: str, unit: str) -> tuple[int, int]:
    """Return (fewest, most) units that a fair reader may count in `text`."""
    body = text.strip()
    if unit == "character":
        return len(body), len(body)
    if unit == "word":
        n, m = len(body.split()), len(words(body))
        return min(n, m), max(n, m)
    if unit == "paragraph":
        blocks = len([b for b in re.split(r"\n\s*\n", body) if b.strip()])
        return blocks, max(blocks, len([line for line in body.splitlines() if line.strip()]))
    plain = _ABBREVIATION.sub(lambda m: m.group().replace(".", "·"), _MARKER.sub("", body))
    low = high = 0
    for line in plain.splitlines():
        if not line.strip():
            continue
        stops = len(_STOPS.findall(line))
        intro = line.rstrip().endswith(":")
        low += stops
        high += max(1, len(re.findall(r"[.!?…;:]+[\"'”’)\]]*(?:\s|$)", line))) + (0 if intro else int(
            not re.search(r"[.!?…][\"'”’)\]]*\s*$", line)))
    return max(1, low), max(1, high)


def _broken(limit: Limit, response: str, tolerance: float) -> tuple[int, float] | None:
    """Return (count, score) when `response` breaks the limit beyond doubt."""
    fewest, most = count_range(response, limit.unit)
    slack = tolerance if limit.loose else 0.0
    if limit.most is not None and fewest > limit.most + int(slack * limit.most):
        return fewest, _score(fewest, limit.most)
    if limit.least is not None and most < limit.least - int(slack * limit.least):
        return most, _score(most, limit.least)
    return None


def _exclusive(stated: list[Limit]) -> bool:
    """Return whether no response can keep all limits: fewer words than sentences, or ranges that do not meet."""
    most = {x.unit: x.most for x in stated if x.most is not None}
    for x in stated:
        if x.least is not None and (x.least > most.get(x.unit, x.least) or x.least > most.get("word", x.least)):
            return True
    return False


def _answers_otherwise(response: str) -> bool:
    """Return whether the response refuses, asks back or names a conflict: then no format or length is owed."""
    return classify([response])[0] != "comply" or verify("answer:name_conflict", response) or verify("answer:ask", response)


def _score(count: int, wanted: int) -> float:
    """Return how far off a count is, from 0.6 (just outside) to 1.0 (half as much again)."""
    return round(min(1.0, 0.6 + 0.8 * abs(count - wanted) / max(wanted, 1)), 3)


@check("constraint.length", reads=("instruction", "input", "response"), severity="warning", action="review")
def length(
    rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, *, tolerance: float = 0.15, min_family: float = 0.4,
) -> pa.Table:
    """The response breaks a length that the prompt or the family's standard states.

    Why: the model learns that "in 50 words" means nothing.
    Misses: limits on parts of the answer, lines, pages, items; limits in the input field.
    False positives: limits that describe the input; counts that fair readers dispute are let through.
    Source: CHECKS 12: plain counting is right in 36 % of its flags. `tolerance`: share by which a bare or approximate
    number of words may be missed; labelled rows 11 and 13 % off were called borderline, 25 % a violation. `min_family`:
    family score from which the family's standard counts.
    """
    found = Findings(rows)
    mask = pc.fill_null(pc.match_substring_regex(rows["instruction"], _QUICK), False)
    at = np.flatnonzero(np.asarray(mask))
    sub = rows.take(pa.array(at))
    for i, instruction, given, response in zip(at.tolist(), texts(sub, "instruction"), texts(sub, "input"),
                                               texts(sub, "response")):
        if not response.strip():
            continue
        stated = limits(instruction[:2000], bool(given.strip()))
        for limit in () if _exclusive(stated) else stated:
            broken = _broken(limit, response, tolerance)
            if broken and not _answers_otherwise(response):
                unit = limit.unit + ("" if broken[0] == 1 else "s")
                found.add(i, f"The prompt asks for {limit.wanted}; the response has {broken[0]} {unit}.",
                          span=(0, len(response)), score=broken[1])
                break
    _standards(found, rows, spec, _sure(family, family_score, min_family), lengths=True)
    return found.table()


# --- the family's standard -------------------------------------------------------------------------------------------

_LENGTHS = ("min_words", "max_words")


def _standard_of(spec: Spec, name: str) -> ResponseStandard:
    """Return the standard of a family: its own words over those of every response."""
    family = spec.family(name) if name else None
    if family is None:
        return spec.standards
    own, common = family.response, spec.standards
    given = {k: getattr(own, k) for k in own.model_fields_set}
    return common.model_copy(update={
        **given, "banned": (*common.banned, *own.banned), "required": (*common.required, *own.required)})


def _sure(family: pa.Array, score: pa.Array, least: float) -> list[str]:
    """Return the family of each row where its score is at least `least`, else ""."""
    return [f if f and (s or 0.0) >= least else "" for f, s in zip(family.to_pylist(), score.to_pylist())]


def _standards(found: Findings, rows: pa.Table, spec: Spec, names: list[str], *, lengths: bool) -> None:
    """Add a flag for each violation of the family's standard: lengths alone, or all the others."""
    by_name = {name: _standard_of(spec, name) for name in set(names)}
    plain = ResponseStandard()
    wanted = {}
    for name, s in by_name.items():
        keep = s.model_copy(update={"answers": "any"})     # refusal.* and prompt.* judge what kind of answer it is
        keep = (plain.model_copy(update={"min_words": s.min_words, "max_words": s.max_words}) if lengths
                else keep.model_copy(update={"min_words": None, "max_words": None}))
        if keep != plain:
            wanted[name] = keep
    if not wanted:
        return
    at = [i for i, name in enumerate(names) if name in wanted]
    sub = rows.take(pa.array(at, pa.int64()))
    for i, instruction, response in zip(at, texts(sub, "instruction"), texts(sub, "response")):
        for _, message, start, end in standard_violations(response, wanted[names[i]], instruction):
            where = f"family {names[i]!r}: " if names[i] else ""
            found.add(i, f"The response breaks the standard: {where}{message}.",
                      span=(start, end) if start is not None and end is not None else None, severity="error")


# --- format ----------------------------------------------------------------------------------------------------------

_JSON_WANTED = re.compile(
    r"\b(?:output|respond|response|reply|answer|return|give|provide|write|format(?:ted)?|present|produce|print|generate|"
    r"convert|represent|express|transform|turn|encode|serialize)\b[^.!?\n]{0,80}?\b(?:in|as|into|to|with|using|only|valid|"
    r"a|the)\s+(?:an?\s+|the\s+)?(?:valid\s+|proper\s+|well-formed\s+|single\s+|raw\s+)?json\b(?!\s+(?:schema|file|parser|"
    r"web|path|string to|data to|object to|to\b|into\b|code to|and|or|format\s+(?:to|into)))|"
    r"\b(?:valid json only|json only|only (?:valid )?json|output (?:valid )?json|return json)\b", re.IGNORECASE)
_OTHER_FORMAT = re.compile(r"\b(?:bullets?|yaml|xml|csv|table|prose|markdown)\b", re.IGNORECASE)
_JSON_TALK = re.compile(r"\b(?:difference|compare|explain|what is|describe|parse|write (?:a |an )?(?:\w+ )?(?:function|code|"
                        r"script|program|query|class|method|api|html|regex)|schema|function|script|python|javascript|"
                        r"java|program|code|html|xml|yaml|csv to|endpoint|from (?:a |the |this )?json)\b", re.IGNORECASE)


@check("constraint.format", reads=("instruction", "input", "response"), severity="warning", action="review")
def format(
    rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, *, min_family: float = 0.4
) -> pa.Table:
    """The response breaks a format that the prompt or the family's standard states.

    Why: a program that reads the answer fails on the first odd one.
    Misses: formats stated in the prompt other than JSON. False positives: JSON that is asked for as a part of a text.
    Source: CHECKS 14 and the spec's response standards (format, labels, json_keys, banned, required): those are errors.
    `min_family`: family score from which the family's standard counts.
    """
    found = Findings(rows)
    mask = pc.fill_null(pc.match_substring(rows["instruction"], "json", ignore_case=True), False)
    at = np.flatnonzero(np.asarray(mask))
    sub = rows.take(pa.array(at))
    for i, instruction, response in zip(at.tolist(), texts(sub, "instruction"), texts(sub, "response")):
        if not response.strip() or not _JSON_WANTED.search(instruction) or _JSON_TALK.search(instruction):
            continue
        if _OTHER_FORMAT.search(instruction):
            continue
        if not parse_json(response.strip())[0] and not _answers_otherwise(response):
            found.add(i, "The prompt asks for JSON; the response does not parse as JSON.", span=(0, len(response)), score=0.9)
    _standards(found, rows, spec, _sure(family, family_score, min_family), lengths=False)
    return found.table()


# --- items -----------------------------------------------------------------------------------------------------------

_BULLETS = re.compile(rf"(?<![\w-])(?P<n>{_N})\s+bullet(?:ed)?(?:[\s-]+(?:points?|items?))?s?"
                      r"(?![\w-]|\s+(?:a|an|per|each|for each)\b)", re.IGNORECASE)
_LISTED = re.compile(
    rf"(?:^|[.!?]\s+|\bplease\s+|\b(?:a|the)\s+)(?:list(?:\s+of)?|name|give(?:\s+me)?|provide|suggest|generate(?:\s+a\s+list\s+of)?|"
    rf"create\s+a\s+list\s+of|come\s+up\s+with(?:\s+a\s+list\s+of)?|brainstorm|identify|outline)\s+(?P<n>{_N})\s+"
    r"(?!(?:words?|sentences?|paragraphs?|lines?|characters?|percent|minute|hour|day|week|month|year|step|page|times)\b)"
    r"[a-z]", re.IGNORECASE)
_BULLET_LINE = re.compile(r"^[ \t]*[-*•–][ \t]+\S", re.MULTILINE)
_NUMBER_LINE = re.compile(r"^[ \t]{0,3}(\d{1,3})[.):][ \t]*\S", re.MULTILINE)
_MORE_THAN_ONE = re.compile(r"\band\s+(?:\d|two|three|four|five|one|a|an|for each|each|explain|list|give)\b|\beach\b|\bevery\b|"
                            r"\bat least\b|\bup to\b|\bor more\b|\bper\b|-|–|\bto\b\s+\d", re.IGNORECASE)


@check("constraint.items", reads=("instruction", "response"), severity="warning", action="review")
def items(rows: pa.Table) -> pa.Table:
    """The response has more or fewer list items than the prompt asks for.

    Why: the model learns that "five" is a figure of speech.
    Misses: items written as prose, which cannot be counted fairly.
    False positives: lists with an extra level; only numbered lists from 1 upwards and plain bullets are counted.
    Source: CHECKS 13: of the flags on prose lists, 7 of 19 were right.
    """
    found = Findings(rows)
    mask = pc.fill_null(pc.match_substring_regex(
        rows["instruction"], r"(?i)bullet|list|name|give|provide|suggest|generate|come up|brainstorm|identify|outline"), False)
    at = np.flatnonzero(np.asarray(mask))
    sub = rows.take(pa.array(at))
    for i, instruction, response in zip(at.tolist(), texts(sub, "instruction"), texts(sub, "response")):
        hit = _items(instruction, response)
        if hit and not _answers_otherwise(response):
            wanted, count, kind = hit
            found.add(i, f"The prompt asks for {wanted} {kind}; the response has {count}.", span=(0, len(response)),
                      score=0.9)
    return found.table()


def _items(instruction: str, response: str) -> tuple[int, int, str] | None:
    """Return (wanted, found, kind) when the list items of `response` do not number what `instruction` asks for."""
    m = _BULLETS.search(instruction)
    if m:
        before = instruction[max(0, m.start() - 30): m.start()]
        if re.search(r"\b(?:at least|up to|each|per|least|most|than|over|under|first|these|the)\s+$|[-–]\s*$|\bto\s+$", before,
                     re.IGNORECASE):
            return None
        count = len(_BULLET_LINE.findall(response)) or len(_NUMBER_LINE.findall(response))
        wanted = _number(m.group("n"))
        return (wanted, count, "bullets" if wanted != 1 else "bullet") if response.strip() and count != wanted else None
    m = _LISTED.search(instruction)
    if m is None or _MORE_THAN_ONE.search(instruction[m.start("n"):]) or instruction.count("\n") > 1:
        return None
    wanted, numbers = _number(m.group("n")), [int(x) for x in _NUMBER_LINE.findall(response)]
    if len(numbers) < 2 or numbers != list(range(1, len(numbers) + 1)) or len(numbers) == wanted:
        return None
    return wanted, len(numbers), "items"


# --- case ------------------------------------------------------------------------------------------------------------

_CASES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("capital letters", re.compile(
        r"\b(?:entirely|only|all|completely|everything|use|answer|respond|response|reply|write|output)\b[^.!?\n]{0,40}\b"
        r"(?:in (?:all )?(?:capital letters|capitals|uppercase|upper case|all caps)|(?:only|all) (?:capital|uppercase) "
        r"letters)\b", re.IGNORECASE)),
    ("lower case", re.compile(
        r"\b(?:entirely|only|all|completely|everything|use|answer|respond|response|reply|write|output)\b[^.!?\n]{0,40}\b"
        r"(?:in (?:all )?(?:lowercase|lower case)|(?:only|all) (?:lowercase|lower case|small) letters|lowercase letters "
        r"only)\b", re.IGNORECASE)),
    ("no commas", re.compile(r"\b(?:do not|don't|without|avoid|refrain from|no)\b[^.!?\n]{0,25}\bcommas\b(?!\s+(?:in|from|"
                             r"between|after|before))", re.IGNORECASE)),
)
_CASE_OF_INPUT = re.compile(r"\b(?:convert|change|transform|turn|remove|rewrite the|capitali[sz]e|function|code|program|string|"
                            r"words? (?:that|in)|letters? in)\b", re.IGNORECASE)


_CAPITALS = re.compile(r"\b(?:capital|capitals|upper ?case|caps)\b", re.IGNORECASE)
_SMALL = re.compile(r"\b(?:lower ?case|small letters)\b", re.IGNORECASE)


def _case_fault(rule: str, response: str) -> tuple[int, int] | None:
    """Return the first stretch of `response` that breaks the rule."""
    wrong = {"capital letters": str.islower, "lower case": str.isupper, "no commas": lambda c: c == ","}[rule]
    at = next((k for k, c in enumerate(response) if wrong(c)), None)
    if at is None:
        return None
    m = re.compile(r"\S+").match(response, at)
    return at, at + 1 if rule == "no commas" else (m.end() if m else at + 1)


@check("constraint.case", reads=("instruction", "response"), severity="warning", action="review")
def case(rows: pa.Table) -> pa.Table:
    """The prompt asks for capitals, lower case or no commas, and the response does not keep to it.

    Why: small typographic rules are the ones users test first.
    Misses: rules on single words. False positives: tasks that change the case of the input are let through.
    Source: CHECKS 15; the rules are IFEval's change_case and punctuation groups.
    """
    found = Findings(rows)
    mask = pc.fill_null(pc.match_substring_regex(rows["instruction"], r"(?i)capital|upper ?case|lower ?case|caps|commas"),
                        False)
    at = np.flatnonzero(np.asarray(mask))
    sub = rows.take(pa.array(at))
    for i, instruction, response in zip(at.tolist(), texts(sub, "instruction"), texts(sub, "response")):
        rules = [rule for rule, pattern in _CASES if pattern.search(instruction)]
        if not rules or _CASE_OF_INPUT.search(instruction) or (_CAPITALS.search(instruction) and _SMALL.search(instruction)):
            continue
        for rule in rules:
            fault = _case_fault(rule, response)
            if fault and not _answers_otherwise(response):
                found.add(i, f"The prompt asks for {rule}; the response has {shorten(response[slice(*fault)], 20)!r}.",
                          span=fault, score=0.9)
                break
    return found.table()
