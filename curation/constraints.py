"""Constraints a prompt puts on its response, read from the prompt: kind, number or words, and where it says so.

One extractor for two readers: `limits` gives lengths (unit, bounds, scope), `extract` gives every constraint under
IFEval's ids and arguments, so that `verifiers.verify` can test it. What the prompt says about its own input, about a
part of the answer or inside a quoted text is no constraint on the response.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

# --- length limits in the prompt -------------------------------------------------------------------------------------

_SPELLED = {
    w: n
    for n, w in enumerate(
        [
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ],
        1,
    )
}
_SPELLED |= {
    "single": 1,
    "twenty-five": 25,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
    "hundred": 100,
    "one hundred": 100,
    "a hundred": 100,
    "two hundred": 200,
    "three hundred": 300,
    "five hundred": 500,
}
SPELLED_OR_DIGITS = rf"(?:\d{{1,3}},\d{{3}}|\d{{1,5}}|{'|'.join(sorted(_SPELLED, key=len, reverse=True))})"
_UNIT = r"(?P<unit>words?|sentences?|paragraphs?|characters?)"
_AT_MOST = (
    r"(?:under|below|less than|fewer than|no more than|not more than|not (?:to )?exceed(?:ing)?|at (?:the )?most|"
    r"up to|(?:a )?max(?:imum)?(?: of)?|within|no longer than|not longer than|shorter than|no greater than|(?:not|"
    r"n't|nothing|never)\s+(?:\w+\s+){0,3}(?:longer|more) than|"
    r"(?:not|n't|never) (?:to )?(?:exceed|go over)|only)"
)
_AT_LEAST = r"(?:at least|(?:a )?min(?:imum)?(?: of)?|more than|over|no less than|not less than|no fewer than)"
_ABOUT = r"(?:about|around|approximately|approx\.?|roughly|circa|~|nearly|close to)"
_EXACT = r"(?:exactly|precisely|just)"
_BOUND = rf"(?:(?P<most>{_AT_MOST})|(?P<least>{_AT_LEAST})|(?P<about>{_ABOUT})|(?P<exact>{_EXACT}))"
_RANGE = (
    rf"(?P<lo>{SPELLED_OR_DIGITS})(?P<plus>\+)?(?:\s*(?:-|–|—|to|or|"
    rf"and)\s*(?P<hi>{SPELLED_OR_DIGITS}))?(?:\s+(?:(?P<more>or more)|(?P<less>or (?:less|fewer))))?"
)
_SUFFIX = (
    r"(?:\s*,?\s*(?P<orless>or (?:less|fewer|under|shorter)|at (?:the )?most|max(?:imum)?|tops)"
    r"|\s*,?\s*(?P<ormore>or more|at least|min(?:imum)?))?"
)
#: what a text made by the response may be called
_TEXT = (
    r"(?:summary|summari[sz]ation|essay|story|stories|paragraph|article|description|poem|letter|report|text|response|"
    r"answer|review|piece|e-?mail|speech|post|blog|explanation|statement|passage|note|caption|content|dialogue|"
    r"biography|bio|synopsis|abstract|slogan|tagline|headline|title|quote|tweet|message|paraphrase|narrative|"
    r"introduction|conclusion|overview|definition|product description|outline|monologue|pitch|script|proposal|"
    r"advertisement|ad|review|analysis|argument|critique|memo|announcement|recap|account|reply|phrase|sentence|"
    r"version|obituary|editorial|column|opinion|plan|guide|page|motto|name|joke|scene|reflection|length|limit)"
)
_MAKE = (
    r"(?:write|generate|create|compose|make|construct|produce|give(?: me)?|provide(?: me)?(?: with)?|suggest|draft|"
    r"craft|develop|come up with|prepare|design|form|formulate|build|need|want|tell(?: me)?|devise|author|"
    r"pen|output|offer|propose|invent|answer with|respond with|reply with|in|as|into|is|be|with)"
)

_FRAMES = tuple(
    re.compile(p, re.IGNORECASE)
    for p in (
        # "in (no more than) 100 words", "into two paragraphs", "to 20 words", "using only five words"
        rf"(?<![\w-])(?P<frame>in|into|to|within|using|with|of length|length of|length:|of)\s+(?:a |an )?"
        rf"(?:(?:total|length) of )?(?:{_BOUND}\s+)?{_RANGE}[\s-]+{_UNIT}(?![\w-]){_SUFFIX}",
        # "a 300-word article", "a 3 sentence summary", "five-word slogan"
        rf"(?<![\w-])(?P<frame>{_MAKE})\s+(?:me\s+)?(?:an?\s+)?"
        rf"(?:(?!(?:the|this|these|next|first|last|following|given|each|every|of)\s)[a-z]+,?\s+){{0,3}}?(?:{_BOUND}\s+)?"
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
        # "the number of sentences in your response should be 40 to 60"
        rf"\b(?P<frame>number) of {_UNIT}\s+(?:in (?:your|the) (?:\w+ )?(?:response|answer|reply|output|text)\s+)?(?:should|"
        rf"must|has to|needs to)\s+"
        rf"(?:be\s+)?(?:in the range of\s+|between\s+)?(?:{_BOUND}\s+)?{_RANGE}{_SUFFIX}",
    )
)
#: a prompt without it states no length
LENGTH_CUE = r"(?i)(word|sentence|paragraph|character)"

# The number describes the input, a part of the answer, or the words to use, not the length of the answer.
_NOT_BEFORE = re.compile(
    r"(?:\b(?:the|this|that|these|those|given|following|provided|above|below|first|last|next|each|every|per|any|both|"
    r"another|following|such|other|top|all|and|every|it has|has|have|having|contain(?:s|ing)?|consist(?:s|ing)? of|"
    r"that are|which are|that is|words?|sentences|lines?|verses?|stanzas?|titles?|items?|names?|phrases|questions?|"
    r"letters?|list|meanings?|pairs?|sets?|groups?|number|replac\w+|chang\w+|add(?:ing)?|remov\w+|delet\w+|insert\w*|"
    r"underline|highlight|identify|find|count|choose|select|compare|contrast|combine|join|merge|connect|between|"
    r"difference|differences|structure|from|sentence|syllables?|each one|"
    r"length)\s+(?:in\s+)?|\ba\s+)$",
    re.IGNORECASE,
)
_NOT_AFTER = re.compile(
    r"\s*,?\s*(?:of (?:your|the|their|it|this|these|those|which)|from (?:the|this|your|each|it)|in (?:the (?:text|passage|"
    r"article|sentence|paragraph|story|given|input|document|poem)|it|them|each|length and)|per\b|apiece|"
    r"(?:that|which|with) (?:rhyme|start|begin|end|mean|sound|contain|have|share)|and (?:their|its|explain|use)|"
    r"provided|given|below|above|together|:\s*\S|apart|starting with|beginning with|ending (?:in|with)|letters?\b|"
    r"to (?:replace|complete|fill|make|form|create|describe|be)\b|"
    r"(?:in (?:the|your) \w+ )?(?:should be |that are |are )?(?:in |with )?(?:all[- ]|capital|upper ?case)|(?:into|so|as|"
    r"or) (?:one|a) )",
    re.IGNORECASE,
)
_PLANS = re.compile(
    r"\b(?:plans?|how|steps?|tips?|ways?|guide|strateg\w+|advice|prompts?|topics?|ideas?|process|time)\s+"
    r"(?:to|for|on|of|in)\s*$",
    re.IGNORECASE,
)
_MAIL = re.compile(r"\b(?:e-?mail|letter|dialogue|script|memo)\b", re.IGNORECASE)
_PART = re.compile(
    r"\b(?:each|every|per)\s+(?:\w+\s+){0,3}$|\b(?:titles?|headings?|subject line|slides?|bullets?(?: points?)?|steps?|"
    r"questions|sentences|lines|items|paragraphs?|sections?|names?|tags?|labels?|words|abstract|caption|summar(?:y|ies) "
    r"and|keywords|stanzas?|examples|reasons|tips|facts|ideas|answers|stories|poems|messages|tweets|slogans|captions)\s+"
    r"(?:of|with|in|that are|which are|containing|using|having|should be|must be|be|to)?\s*$|"
    r"\b(?:article|passage|text|essay|story|paragraph|document|input|sentence|book|report|speech|poem|letter|email|"
    r"transcript)s?\s+(?:of|with|that (?:is|has)|which (?:is|has)|containing|consisting of|down|is|was|has)\s+$",
    re.IGNORECASE,
)
_EACH = re.compile(r"\b(?:each|every|per)\b[^.!?\n]{0,30}$", re.IGNORECASE)
#: what stands before a bound that is about the whole response
_OWN = re.compile(
    rf"(?:\b(?<!the given )(?<!this )(?:{_TEXT[3:-1]}|resume)\b(?:,?\s+(?:that|which|should|must|has to|needs to|will|to|"
    rf"be|and)){{0,4}}|^|[.!?,:]|"
    rf"\b(?:and|but|make sure|please|also|to|should|must|that))\s*(?:use|using|have|has|having|contains?|containing|be|"
    rf"with|in)\s*$",
    re.IGNORECASE,
)
_SOURCE_VERB = re.compile(
    r"\b(?:this|the|given|following|provided|these)\s+(?:\w+\s+){0,2}(?:article|passage|text|essay|story|paragraph|"
    r"document|input|sentence|book|report|speech|poem|letter|email|transcript|list|string)s?\s+(?:of|with|containing|"
    r"consisting of)\s+$",
    re.IGNORECASE,
)
_SEARCH = re.compile(
    r"\W*(?:please\s+)?(?:identify|find|count|list|highlight|underline|select|choose|determine|locate|"
    r"extract|how many|which|what|delete|remove|replace|add|insert|parse|edit|fill|complete|classify|"
    r"name|does|is|are)\b",
    re.IGNORECASE,
)
_MANY = re.compile(
    r"\b(?:summaries|sentences|essays|stories|poems|descriptions|articles|slogans|quotes|taglines|headlines|"
    r"titles|captions|tweets|examples|reviews|names|ideas|options|list of|questions|paragraphs|phrases|"
    r"statements|messages|jokes|each|variations|versions)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Limit:
    """A length that the prompt asks of the response: unit, inclusive bounds, and where the prompt says so."""

    unit: str  # word | sentence | paragraph | character
    least: int | None
    most: int | None
    loose: bool  # "about 100", a bare "100 words": the tolerance applies
    start: int
    end: int

    def constraints(self) -> Iterator[Constraint]:
        """Yield the limit under IFEval's ids; paragraphs and characters have none that means the same."""
        name = {"word": "num_words", "sentence": "num_sentences"}.get(self.unit)
        if name:
            yield from _pair(
                f"length_constraints:number_{self.unit}s", {}, name, "relation", self.least, self.most, (self.start, self.end)
            )

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


def number(text: str) -> int:
    """Return the number that `text`, a match of SPELLED_OR_DIGITS, says."""
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
    lo, hi = number(m.group("lo")), number(m.group("hi")) if groups.get("hi") else None
    bounded = any(groups.get(g) for g in ("most", "least", "orless", "ormore", "plus", "more", "less"))
    if _elsewhere(prompt, m, frame, unit, bounded, has_input):
        return None
    if hi is not None and hi < lo:
        return None
    start, end = min(m.start("lo"), m.start("unit")), max(m.end("lo"), m.end("unit"))
    if groups.get("orless") or groups.get("less") or (groups.get("most") and not groups.get("ormore")):
        strict = (groups.get("most") or "").lower() in ("under", "below", "less than", "fewer than", "shorter than")
        only = (groups.get("most") or "").lower() == "only"
        most = (hi or lo) - (1 if strict and unit != "character" else 0)
        return Limit(unit, lo if only else None, most, only and unit == "word", start, end)
    if groups.get("ormore") or groups.get("least") or groups.get("plus") or groups.get("more"):
        strict = (groups.get("least") or "").lower() in ("more than", "over")
        return Limit(unit, lo + (1 if strict else 0), None, False, start, end)
    if unit == "character":
        return None
    return Limit(unit, lo, hi or lo, not groups.get("exact") and unit == "word", start, end)


def _elsewhere(prompt: str, m: re.Match[str], frame: int, unit: str, bounded: bool, has_input: bool) -> bool:
    """Return whether the number is about something else than the whole response."""
    head, tail = prompt[: m.start()], prompt[m.end() :]
    name = (m.group("frame") or "").lower()
    near = head[-70:]
    if (frame != 1 and _NOT_AFTER.match(tail)) or _PLANS.search(near) or (unit == "paragraph" and _MAIL.search(prompt)):
        return True
    if _SEARCH.match(prompt) and not (bounded or name in ("in", "into", "to", "within")):
        return True
    if frame == 0:
        return _frame_elsewhere(prompt, m, name, near, unit, bounded, has_input)
    if frame == 1:
        plural = re.search(r"(?:summaries|stories|essays|articles|slogans|poems|[a-z]s)$", m.group().lower())
        return (
            bool(plural and not m.group().lower().endswith(("words", "ss", "analysis", "synopsis")))
            or bool(_MANY.search(m.group()[: m.start("lo") - m.start()]))
            or (
                name in ("in", "as", "with", "is", "be")
                and bool(re.search(r"\b(?:the|this|given|following)\s", m.group(), re.IGNORECASE))
            )
        )
    if frame == 2:
        return bool(re.search(r"\b(?:with|using|from|for|about)\s+$", near))
    if frame == len(_FRAMES) - 1:
        return False
    if bounded and not _EACH.search(near) and _OWN.search(near):
        return False
    if _NOT_BEFORE.search(near) or _PART.search(near):
        return not (bounded and re.search(r"\b(?:response|answer|summary|essay|output|it)\s+(?:\w+\s+){0,2}$", near))
    return (
        bool(_MANY.search(head[-25:] if bounded else head[-40:]))
        and not (bounded and "," in head[-25:])
        and not re.search(r"[.!?]\s*\w*\s*$", near)
    )


def _frame_elsewhere(prompt: str, m: re.Match[str], name: str, near: str, unit: str, bounded: bool, has_input: bool) -> bool:
    """The first frame ("in 100 words", "of 100 words", "using three words")."""
    if name in ("using", "with"):
        rest = prompt[m.end() :].strip()
        return has_input or not (bounded or m.group("exact")) or bool(rest and rest[0] not in ".!?,;") or bool(_MANY.search(near))
    if name == "of":
        made = re.search(rf"\b{_TEXT}\s+$|\b(?:maximum|minimum|total|max|min|length|limit)\s+$", near, re.IGNORECASE)
        return (
            made is None
            or _SOURCE_VERB.search(near + "of ") is not None
            or bool(_MANY.search(near[-12:]))
            or bool(
                re.search(r"\b(?:the|this|given|following|these)\s+\w+\s+$", near, re.IGNORECASE)
                and not re.search(r"maximum|minimum|total|length", near[-20:], re.IGNORECASE)
            )
        )
    if name == "to":
        return not re.search(
            r"\b(?:limit\w*|keep|reduc\w+|shorten\w*|condens\w+|summari[sz]\w+|confin\w+|restrict\w*|cut|"
            r"trim\w*|down|compress\w*|response|answer|it)\b[^.!?]{0,60}$",
            near,
            re.IGNORECASE,
        )
    if name == "within" and unit == "word":
        return bool(_PART.search(near))
    differs = re.search(
        r"\b(?:difference|mistakes?|errors?|used|appear|occur|letters?|theme|tone|common|words?)s?\s+$", near, re.IGNORECASE
    )
    return bool(differs) or bool(re.search(r"\b(?:each|every)\b[^.!?]{0,40}$", near, re.IGNORECASE))


# --- every kind, under IFEval's ids ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constraint:
    """A constraint on the response: IFEval's id and arguments, and the characters of the prompt that state it."""

    id: str
    kwargs: dict[str, Any] = field(hash=False)
    start: int
    end: int


#: ISO 639-1 codes of the languages that a prompt may ask for
LANGUAGES = {
    "arabic": "ar",
    "bengali": "bn",
    "bulgarian": "bg",
    "chinese": "zh",
    "mandarin": "zh",
    "czech": "cs",
    "danish": "da",
    "dutch": "nl",
    "farsi": "fa",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "gujarati": "gu",
    "hebrew": "he",
    "hindi": "hi",
    "hungarian": "hu",
    "indonesian": "id",
    "italian": "it",
    "japanese": "ja",
    "kannada": "kn",
    "korean": "ko",
    "malayalam": "ml",
    "marathi": "mr",
    "nepali": "ne",
    "persian": "fa",
    "polish": "pl",
    "portuguese": "pt",
    "punjabi": "pa",
    "romanian": "ro",
    "russian": "ru",
    "spanish": "es",
    "swahili": "sw",
    "swedish": "sv",
    "tamil": "ta",
    "telugu": "te",
    "thai": "th",
    "turkish": "tr",
    "ukrainian": "uk",
    "urdu": "ur",
    "vietnamese": "vi",
}

#: A prompt without any of these states no constraint that `extract` knows.
_ANY_CUE = re.compile(
    r"word|sentence|paragraph|letter|commas?\b|caps\b|case\b|capital|json|bullet|highlight|itali|section|placeholder|"
    r"p\.\s?s|post\s?script|quot|title|angular|<<|asterisk|\*\*\*|repeat|language|phrase|end |finish|conclude|my answer is|"
    r"exclamation|hashtag|include|mention|do not|don't|avoid|without|" + "|".join(LANGUAGES),
    re.IGNORECASE,
)
_LONG_QUOTE = re.compile(r"(?<![\w.,!?])\"(?=\S)[^\"\n]{60,}(?<=\S)\"(?!\w)|“[^”\n]{60,}”|(?<!\w)'[^'\n]{60,}'(?!\w)")
_MASK = "\x01"


def extract(prompt: str, has_input: bool = False) -> list[Constraint]:
    """Return the constraints that `prompt` puts on the response, in order of the text.

    `has_input`: the row has an input of its own, so that a bare "two sentences" more often speaks of it. Quoted texts
    of 60 characters and more are material, not instruction, and are skipped.
    """
    prompt = prompt[:MAX_PROMPT]
    if not _ANY_CUE.search(prompt):
        return []
    text = _LONG_QUOTE.sub(lambda m: m.group()[0] + _MASK * (len(m.group()) - 2) + m.group()[-1], prompt)
    found: list[Constraint] = []
    for reader in _READERS:
        found += reader(text, prompt)
    found += [c for limit in limits(text, has_input) for c in limit.constraints()]
    if any(c.id == "length_constraints:nth_paragraph_first_word" for c in found):
        found = [c for c in found if c.id != "length_constraints:number_paragraphs"]
    return sorted(found, key=lambda c: (c.start, c.id))


#: characters of a prompt that are read; instructions stand at the start or right at the end of shorter texts
MAX_PROMPT = 4000

_QUOTED = (
    r"(?:\"[^\"\n]{1,200}\"|“[^”\n]{1,200}[”\"]|”[^\"”\n]{1,200}[\"”]|‘[^’\n]{1,200}’|(?<!\w)'[^'\n]{1,200}'(?!\w)|"
    r"`[^`\n]{1,200}`)"
)
_COUNT = rf"(?:{SPELLED_OR_DIGITS}|once|twice|thrice|a single)"
_TIMES = re.compile(
    rf"(?:(?P<most>{_AT_MOST}|no more than)|(?P<least>{_AT_LEAST})|(?P<exact>{_EXACT}|only))?\s*(?P<lo>{_COUNT})"
    rf"(?:\s*(?:-|–|to|or|and)\s*(?P<hi>{_COUNT}))?(?:\s*(?P<ormore>or more|\+)|\s*(?P<orless>or (?:less|fewer)))?"
    r"(?:\s*times?\b|(?<=once)|(?<=twice)|(?<=thrice))(?:\s*(?P<aftermore>or more|at (?:the )?least)|"
    r"\s*(?P<afterless>or (?:less|"
    r"fewer)|at (?:the )?most))?",
    re.IGNORECASE,
)
_NUMBERED = (
    rf"(?:(?P<most>{_AT_MOST})|(?P<least>{_AT_LEAST})|"
    rf"(?P<exact>{_EXACT}))?\s*(?P<lo>{SPELLED_OR_DIGITS})(?:\s*(?:-|–|to|or)\s*"
    rf"(?P<hi>{SPELLED_OR_DIGITS})(?=\s))?(?:\s*(?P<ormore>or more|\+)|\s*(?P<orless>or (?:less|fewer)))?\s+"
)
_ONCE = {"once": 1, "twice": 2, "thrice": 3, "a single": 1}


def _count(text: str) -> int:
    low = text.lower()
    return _ONCE[low] if low in _ONCE else number(low)


def bounds(m: re.Match[str]) -> tuple[int | None, int | None]:
    """Return (least, most), inclusive, from the groups lo, hi, most, least, exact, ormore, orless of a match."""
    g = m.groupdict()
    lo = _count(m.group("lo"))
    hi = _count(m.group("hi")) if g.get("hi") else None
    if g.get("orless") or g.get("afterless"):
        return None, hi or lo
    if g.get("ormore") or g.get("aftermore"):
        return lo, None
    if g.get("most"):
        strict = m.group("most").lower().split()[0] in ("under", "below", "less", "fewer", "shorter")
        return None, (hi or lo) - int(strict)
    if g.get("least"):
        return lo + int(m.group("least").lower() in ("more than", "over", "greater than")), None
    return lo, hi or lo


def _pair(
    id: str, kwargs: dict[str, Any], name: str, relation: str, least: int | None, most: int | None, span: tuple[int, int]
) -> Iterator[Constraint]:
    """Yield one constraint for each bound, in IFEval's two relations."""
    if least is not None and least > 0:
        yield Constraint(id, {**kwargs, relation: "at least", name: least}, *span)
    if most is not None:
        yield Constraint(id, {**kwargs, relation: "less than", name: most + 1}, *span)


def _sentence(text: str, at: int) -> tuple[int, int]:
    """Return the span of the sentence of `text` around `at`; "i.e." and "e.g." end none."""
    start = max((m.end() for m in _STOP.finditer(text, max(0, at - 400), at)), default=max(0, at - 400))
    end = _STOP.search(text, at)
    return start, end.start() + 1 if end else len(text)


_STOP = re.compile(r"(?<!\bi\.e)(?<!\be\.g)(?<!\bP\.S)(?<!\bp\.s)[.!?](?=\s|$)|\n")

# words and phrases

_USE = (
    r"(?:includ(?:e|es|ing)|contain(?:s|ing)?|us(?:e|es|ing|age of)|mention(?:s|ing)?|incorporat(?:e|es|ing)|"
    r"add(?:ing)?|ha(?:ve|s|ving)|"
    r"featur(?:e|es|ing)|say(?:ing)?|employ(?:ing)?|insert(?:ing)?|with|writ(?:e|ing)|make sure(?: that)?|"
    r"ensure(?: that)?)"
)
_NOT = (
    r"(?:(?:do|does|should|must|can|could|would|is|are)(?: not|n[’']?t)|can ?not|never|without|avoid(?:ing|s)?|"
    r"refrain(?:ing|s)? from|not allowed to|exclud(?:e|es|ing)|omit(?:ting|s)?|leav(?:e|es|ing) out|not to|not)"
)
_KIND = r"(?:key[\s-]?words?|words?|phrases?|terms?|expressions?|names?|adjectives?|line)"
_NAMED = re.compile(rf"\b(?P<kind>{_KIND})\b(?:\s+(?:of|like|such as))?\s*[:\[(]{{0,3}}\s*(?=[\"“”‘'`\w])", re.IGNORECASE)
_USE_NAMED = re.compile(
    rf"\b{_USE}\s+(?:in\s+)?(?:(?:the|these|those|any|of|following|both|all|exact|specific|"
    rf"word for word|two|three|four|"
    r"five|\d)\s+){0,4}$",
    re.IGNORECASE,
)
_NOT_NAMED = re.compile(
    rf"\b(?:{_NOT}\s+(?:{_USE}\s+)?|no\s+)(?:(?:the|these|those|any|of|following|both|either|to|exact|"
    rf"specific)\s+){{0,4}}$",
    re.IGNORECASE,
)
_USE_QUOTED = re.compile(
    rf"(?:\b(?P<not>{_NOT})\s+(?:to\s+)?)?\b(?P<verb>includ(?:e|es|ing)|contain(?:s|ing)?|us(?:e|"
    rf"ing)|mention(?:s|ing)?|"
    rf"incorporat(?:e|ing)|say(?:ing)?|avoid(?:ing)?)\s+(?:the\s+)?(?={_QUOTED})",
    re.IGNORECASE,
)
_APPEARS = re.compile(
    r"\s*(?:\)|\])?\s*(?:in (?:your|the) \w+ )?(?:should|must|needs? to|has to|have to|shall|to|will|is|"
    r"are)?\s*(?:all |both |each )?"
    r"(?:appears?|appearing|be (?:used|included|mentioned|present)|occurs?|shows? up|used|included)\b",
    re.IGNORECASE,
)
_BARRED = re.compile(
    r"\s*(?:\)|\])?\s*(?:should not|must not|cannot|can not|can't|shouldn't|mustn't|may not|(?:is|"
    r"are) (?:not allowed|"
    r"forbidden|banned|prohibited)|(?:should|must) never)",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"\s*(?:,\s*(?:and|or|nor)?|;|&|/|\band\b|\bor\b|\bnor\b)\s*", re.IGNORECASE)
_BARE_WORD = re.compile(r"[^\W_][\w'’-]*")
_NOT_A_TERM = """
the a an in on at to of for with and or but your you it that this these those should must is are be not any each every
which who from as by can will all per long limit limits count least no more than response answer appear appears use used
using only following below above given provided starting ending beginning make do include order length form forms
letters letter sentence sentences paragraph before after other whatsoever anywhere replaced changed removed associated
related highlighted into
"""
_NO_TERM = frozenset(_NOT_A_TERM.split())
_STARTS_OR_ENDS = re.compile(
    r"\b(?:start|begin|end|finish|conclude|open|close)\w*\b[^.!?\n]{0,60}\bwith\b[^.!?\n]{0,30}$", re.IGNORECASE
)
_OF_INPUT = re.compile(
    r"\b(?:count|how|number of times|identify|find|replace|highlight|classify|correct|usage|define|associated|related|"
    r"rhym\w+|acrostic|in (?:what|which)|would you|(?:words?|phrases?|sentences?) (?:that|which)|ways? (?:of|to)|"
    r"different)\b[^.!?\n]{0,60}$",
    re.IGNORECASE,
)
#: what may follow words without quotation marks
_AFTER_BARE = re.compile(
    r"\s*(?:[.,;!?)\]\n]|$|(?:in|into|to|throughout|within|somewhere|for|at|more|less|exactly|only|but|and|once|twice|"
    r"\d)\b)",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"(?:,|\band\b|\bbut\b|\bor\b)\s*(?:not\s+)?(?:the\s+)?$", re.IGNORECASE)


def _terms(text: str, at: int) -> tuple[list[str], int]:
    """Return (terms, end) of the list of quoted or bare words that starts at `at`."""
    quoted = re.compile(_QUOTED)
    head = re.compile(r"[\s:\[(]*").match(text, at)
    at = head.end() if head else at
    listed = ":" in text[head.start() : at] if head else False
    terms: list[str] = []
    end, in_quotes = at, False
    while len(terms) < 12:
        m = quoted.match(text, at)
        if m:
            in_quotes = True
            terms.append(m.group()[1:-1].strip(" ,.\t"))
        else:
            m = _BARE_WORD.match(text, at)
            if m is None or m.group().lower() in _NO_TERM or in_quotes:
                break
            if listed:
                more = re.compile(r"(?:[ \t]+(?!and\b|or\b)[\w'’-]+){0,4}(?=\s*(?:,|;|\band\b|\bor\b|[.!?\])\n]|$))").match(
                    text, m.end()
                )
                terms.append(text[m.start() : more.end() if more else m.end()])
                m = re.compile(re.escape(terms[-1])).match(text, m.start())
                assert m is not None, "a term is found where it was read"
            else:
                terms.append(m.group())
        end = m.end()
        gap = _SEPARATOR.match(text, end)
        if gap is None:
            break
        at = gap.end()
    return [t for t in terms if t and _MASK not in t], end


def _words_and_phrases(text: str, prompt: str) -> Iterator[Constraint]:
    """Keywords that must, must not or must so often stand in the response."""
    taken: list[tuple[int, int]] = []
    last_barred = False
    for m in _NAMED.finditer(text):
        before, low = text[max(0, m.start() - 90) : m.start()], m.group("kind").lower()
        terms, end = _terms(text, m.end())
        if not terms or any(a <= m.start() < b for a, b in taken):
            continue
        barred = bool(_NOT_NAMED.search(before) or _BARRED.match(text, end))
        wanted = bool(_USE_NAMED.search(before) or _APPEARS.match(text, end))
        if taken and taken[-1][1] > _sentence(text, m.start())[0] and _GOES_ON.search(before):
            barred, wanted = barred or (last_barred and not wanted), True
        if not (barred or wanted) or _says_otherwise(text, m, low, before, end):
            continue
        taken.append((m.start(), end))
        last_barred = barred
        yield from _keyword(text, terms, barred, (m.start(), end))
    for m in _USE_QUOTED.finditer(text):
        terms, end = _terms(text, m.end())
        if terms and not any(a < end and m.start() < b for a, b in taken) and all(_short_phrase(t) for t in terms):
            barred = bool(m.group("not")) or m.group("verb").lower().startswith("avoid")
            if not barred and (
                m.group("verb").lower().startswith("say") or _OF_INPUT.search(text[max(0, m.start() - 70) : m.start()])
            ):
                continue
            taken.append((m.start(), end))
            yield from _keyword(text, terms, barred, (m.start(), end))


def _says_otherwise(text: str, m: re.Match[str], kind: str, before: str, end: int) -> bool:
    """Return whether a named word is a count ("two words"), a first or last word, or a name without more about it."""
    if (
        _STARTS_OR_ENDS.search(before)
        or _OF_INPUT.search(before)
        or text[m.end() : m.end() + 2].strip("\"'“‘").startswith("-")
        or (kind in ("word", "words") and _is_count(before))
    ):
        return True
    if (
        text[end - 1 : end] not in "\"”’'`]"
        and ":" not in text[m.start() : end]
        and not _APPEARS.match(text, end)
        and (not _BARRED.match(text, end) and not _AFTER_BARE.match(text, end))
    ):
        return True
    loose = (
        kind in ("name", "names", "line", "adjective", "adjectives", "term", "terms")
        and text[m.end() : m.end() + 1] not in "\"“”‘'`"
    )
    return loose and not _TIMES.search(text, end, end + 40)


def _short_phrase(term: str) -> bool:
    return bool(re.search(r"\w", term)) and not re.fullmatch(r"[A-Za-z#*!]", term) and len(term.split()) <= 8 and "\\" not in term


def _is_count(before: str) -> bool:
    return re.search(
        rf"\b(?:{SPELLED_OR_DIGITS}|less|more|fewer|many|few|some|several|own|other|first|last|one)\s+$", before, re.IGNORECASE
    ) is not None and (re.search(r"\b(?:two|three|four|following|these|both|\d)\s+$", before) is None)


def _keyword(text: str, terms: list[str], barred: bool, span: tuple[int, int]) -> Iterator[Constraint]:
    after = text[span[1] : _sentence(text, span[1])[1]]
    nearer = _NAMED.search(after)
    times = _TIMES.search(after[: nearer.start() if nearer else 120])
    if times and len(times.group("lo")) and len(terms) <= 4:
        least, most = bounds(times)
        if barred:
            least, most = (None, (least or 1) - 1) if times.group("least") else (None, most)
            if most == 0:
                yield Constraint("keywords:forbidden_words", {"forbidden_words": terms}, *span)
                return
        elif least == most and not times.group("exact"):
            most = None
        for term in terms:
            yield from _pair("keywords:frequency", {"keyword": term}, "frequency", "relation", least, most, span)
    elif barred:
        yield Constraint("keywords:forbidden_words", {"forbidden_words": terms}, *span)
    else:
        yield Constraint("keywords:existence", {"keywords": terms}, *span)


_LETTER = re.compile(r"\bletters?\s+(?P<quote>[\"'“‘”`]?)(?P<letter>[A-Za-z])(?P=quote)?[\"'”’]?(?=\W|$)", re.IGNORECASE)
_MARKS = re.compile(rf"{_NUMBERED}(?P<mark>exclamation (?:marks?|points?)|question marks?|hash ?tags?)", re.IGNORECASE)


def _letters(text: str, prompt: str) -> Iterator[Constraint]:
    for m in _LETTER.finditer(text):
        start, end = _sentence(text, m.start())
        times = _TIMES.search(text, m.end(), min(end, m.end() + 90)) or _TIMES.search(text, max(start, m.start() - 60), m.start())
        if times is None:
            if _NOT_NAMED.search(text[max(0, m.start() - 60) : m.start()]):
                yield from _pair(
                    "keywords:letter_frequency", {"letter": m.group("letter")}, "let_frequency", "let_relation", None, 0, m.span()
                )
            continue
        least, most = bounds(times)
        if times.group("least") and re.search(rf"\b{_NOT}\b[^.!?\n]{{0,20}}$", text[start : m.start()], re.IGNORECASE):
            least, most = None, (least or 1) - 1
        elif least == most and not times.group("exact"):
            most = None
        yield from _pair(
            "keywords:letter_frequency", {"letter": m.group("letter")}, "let_frequency", "let_relation", least, most, m.span()
        )
    for m in _MARKS.finditer(text):
        mark = {"e": "!", "q": "?", "h": "#"}[m.group("mark")[0].lower()]
        least, most = bounds(m)
        most = None if least == most and not m.group("exact") else most
        yield from _pair("keywords:letter_frequency", {"letter": mark}, "let_frequency", "let_relation", least, most, m.span())


# case and marks

_WHOLE = (
    r"(?:entire(?:ly)?|only|all|completely|everything|use|using|answer|respond|response|responses|reply|write|output|"
    r"english|just|letter|words|poem|whole)"
)
_CAPITALS = re.compile(
    rf"\b{_WHOLE}\b[^.!?\n]{{0,45}}?\b(?:in (?:all )?(?:capital letters?|capitals|upper ?case|all[- ]caps|caps\b)|(?:only|"
    rf"all)\s+(?:in\s+)?(?:capital|capitalized|"
    r"upper ?case)(?:\s+letters?)?|all[- ]caps\b(?! words?)|capital letters only|upper ?case letters)|"
    r"\bcapitali[sz]e (?:all (?:of )?|every )(?:your |the )?(?:words?|letters?)|"
    r"\bno lower ?case\b|\bin (?:all|only) (?:capital letters|caps|upper ?case)|\bin all[- ]caps\b|\ball capital letters\b",
    re.IGNORECASE,
)
_SMALL = re.compile(
    rf"\b{_WHOLE}\b[^.!?\n]{{0,45}}?\b(?:in (?:all )?(?:lower ?case)|(?:only|all|"
    rf"and)\s+(?:in\s+)?(?:all\s+)?(?:lower ?case|small letters)|lower ?case letters)|"
    r"\bin (?:all )?(?:lower ?case|small letters)\b|\ball lower ?case\b|\b(?:no|not|without|n't|avoid|"
    r"never)\b[^.!?\n]{0,40}\b(?:capital letters?|upper ?case letters?|capitali[sz]ation|"
    r"capitals)\b|\bnot a single letter[^.!?\n]{0,40}\bcapitali[sz]ed|\blower ?case only\b",
    re.IGNORECASE,
)
_CASE_OF_INPUT = re.compile(
    r"\b(?:convert|change|transform|turn|remove|detect|identify|find|count|capitali[sz]e the|"
    r"function|code|program|string|method|"
    r"words? (?:that|in) (?:the|this)|letters? in (?:the|this|a)|sentence case|title case)\b",
    re.IGNORECASE,
)
_CAPS_WORDS = re.compile(
    r"\bwords?\b[^.!?\n,;]{0,45}?\b(?:all[- ]?(?:capital(?:s|ized)?|caps|uppercase)|(?:in|"
    r"with) (?:all )?(?:capital letters|capitals|caps|upper ?case)|capital letters)\b(?: letters?)?|"
    r"\b(?:all[- ]caps?|all[- ]capital(?:ized|s)?(?: letters?)?|fully capitali[sz]ed|upper ?case|capitali[sz]ed|"
    r"capital(?: letters?)?|stress) words?\b|"
    r"\bcapitali[sz]e\s+(?:a few|some|several|\w+|at least \w+)\s+words?\b|\bwords? (?:that are |which are |"
    r"are )?capitali[sz]ed\b|"
    r"\b(?:words? )?(?:be |are )?in (?:all )?(?:capital letters|all caps)\b(?= at (?:least|most)| (?:less|more|fewer))",
    re.IGNORECASE,
)
_AMOUNT = re.compile(
    rf"(?:(?P<most>{_AT_MOST}|no more than)|(?P<least>{_AT_LEAST}))\s+(?P<lo>{_COUNT})\b(?:\s*(?:-|–|"
    rf"to)\s*(?P<hi>{_COUNT}))?"
    rf"(?!\s+(?:sentence|paragraph|bullet|section|placeholder))|"
    rf"\b(?P<exact>exactly)?\s*(?P<plain>(?P<lo2>{SPELLED_OR_DIGITS}))(?P<ormore>\s*(?:or more|\+))?\s+"
    r"(?:\w+\s+)?words?\b",
    re.IGNORECASE,
)
_COMMA = re.compile(
    r"\b(?:do not|don[’']?t|without|avoid|refrain(?:ing)? from|no|not|free of|never|cannot|can't|"
    r"shouldn't|zero)\b[^.!?\n]{0,50}?\bcommas?\b"
    r"(?!\s+(?:in|from|between|after|before) (?:the (?:sentence|text|list|string|input|number)|this|these))",
    re.IGNORECASE,
)


def _case_and_marks(text: str, prompt: str) -> Iterator[Constraint]:
    words = list(_capital_words(text))
    yield from words
    if not words and not _CASE_OF_INPUT.search(text):
        up, low = _CAPITALS.search(text), _SMALL.search(text)
        if up and not (low and low.start() < up.end() and up.start() < low.end()):
            yield Constraint("change_case:english_capital", {}, *up.span())
        if low:
            yield Constraint("change_case:english_lowercase", {}, *low.span())
    m = _COMMA.search(text)
    if m and not re.search(r"\b(?:separated?|remove|delete|comma[- ]separated)\b", m.group(), re.IGNORECASE):
        yield Constraint("punctuation:no_comma", {}, *m.span())
    m = _WRAPPED.search(text)
    if m:
        yield Constraint("startend:quotation", {}, *m.span())


_WRAPPED = re.compile(
    r"\b(?:wrap\w*|enclos\w*|surround\w*|put|place|insid\w*|within|in|start and end|add|use|"
    r"with)\b[^.!?\n]{0,70}?\bdouble (?:quotation marks?|quotes?|quotations?)|"
    r"\b(?:wrap\w*|enclos\w*|surround\w*|put)\b[^.!?\n]{0,30}\b(?:entire|whole|response|answer|reply|"
    r"output)\b[^.!?\n]{0,30}\b(?:quotation marks?|quotes)\b",
    re.IGNORECASE,
)


def _capital_words(text: str) -> Iterator[Constraint]:
    """A number of words in capitals: "the words in all caps should appear less than 5 times"."""
    for m in _CAPS_WORDS.finditer(text):
        start, end = _sentence(text, m.start())
        further = _sentence(text, min(end + 1, len(text) - 1))[1] if end + 1 < len(text) else end
        spots = list(_AMOUNT.finditer(text, start, end))
        after = text[end:further]
        if re.search(r"\b(?:those|these|such|caps|capital\w*|stress)\b", after, re.IGNORECASE):
            spots += list(_AMOUNT.finditer(text, end, further))
        done = False
        for a in spots:
            least, most = (number(a.group("lo2")), None) if a.group("plain") else bounds(a)
            done = True
            yield from _pair(
                "change_case:capital_word_frequency", {}, "capital_frequency", "capital_relation", least, most, m.span()
            )
        if re.search(r"\b(?:some|few|several)\b[^.!?\n]{0,20}$", text[start : m.end()], re.IGNORECASE) or (
            re.search(r"\b(?:some|few|several) (?:\w+ )?words?\b", m.group(), re.IGNORECASE)
        ):
            yield Constraint(
                "change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 1}, *m.span()
            )
            done = True
        if done:
            return


# format

_TALKS_OF_JSON = re.compile(
    r"\b(?:difference|compare|explain|what is|describe|parse|write (?:a |an )?(?:\w+ )?(?:function|code|script|program|"
    r"query|class|method|"
    r"api|html|regex)|function|script|python|javascript|java|program|yaml|csv to|endpoint|from (?:a |the |this )?json)\b",
    re.IGNORECASE,
)
_JSON = re.compile(
    r"\b(?:output|respond|response|reply|answer|return|give|provide|write|format(?:ted)?|present|produce|print|generate|"
    r"wrap\w*|put|"
    r"convert|represent|express|transform|turn|encode|serialize|contain|using|names?)\b[^.!?\n]{0,80}?\b(?:in|as|into|to|"
    r"with|using|only|valid|"
    r"a|the)\s+(?:an?\s+|the\s+)?(?:valid\s+|proper\s+|well-formed\s+|single\s+|raw\s+)?json\b(?!\s+(?:schema|file|parser|"
    r"web|path|string to|"
    r"data to|object to|to\b|into\b|code to|and\b|or\b|format\s+(?:to|into)))|\b(?:valid json only|json only|"
    r"only (?:valid )?json|output (?:valid )?json|"
    r"return json|json (?:code )?(?:output|format)(?: only)?|"
    r"(?<!this )(?<!that )(?<!above )(?<!given )(?<!following )(?<!my )json (?:code )?(?:block|object)(?: only)?)\b",
    re.IGNORECASE,
)
_JSON_SURE = re.compile(
    r"\b(?:wrap\w*|entire|whole|your (?:output|response|answer|reply))\b[^.!?\n]{0,50}\bjson\b|"
    r"\bjson (?:code )?block",
    re.IGNORECASE,
)
_MARKDOWN = re.compile(r"\*[^*\n]+\*|markdown|itali|asterisk|[\"'“`]\*+[\"'”`]", re.IGNORECASE)
_PIECE = (
    r"(?:sections?|parts?|phrases?|words?|texts?|sentences?|titles?|keywords?|points?|lines?|paragraphs?|passages?|"
    r"headings?|facts?)"
)
_HIGHLIGHT = re.compile(
    rf"\b(?:highlight\w*|italici[sz]\w*|bold\w*|emphasi[sz]\w*)\b[^.!?\n]{{0,25}}?{_NUMBERED}(?:[\w-]+\s+){{0,3}}?{_PIECE}\b|"
    rf"{_NUMBERED.replace('?P<', '?P<b_')}(?:[\w-]+\s+){{0,4}}?(?:highlight\w*|italic\w*|bold\w*|emphasi[sz]ed)\b",
    re.IGNORECASE,
)
_HIGHLIGHT_PLAIN = re.compile(r"\b(?:highlight|italici[sz]e)\b[^.!?\n]{0,60}", re.IGNORECASE)
_SECTION_MARK = re.compile(
    r"\b(?:each|every|beginning|start|mark\w*|noted|indicat\w*|label\w*|nam\w*|denot\w*|begin\w*|separat\w*|"
    r"section)\b[^.!?\n]{0,70}?[\"'“‘(:\s](?P<word>[A-Za-z]+)\s+X\b"
    r"|\b(?P<word2>Section|SECTION|Part|PART|Chapter|CHAPTER|Paragraph|PARAGRAPH|Day|DAY|Round|"
    r"ROUND)\s+1\b[^.!?\n]{0,25}\b(?P=word2)\s+2\b"
)
_DIVIDED = re.compile(
    rf"{_NUMBERED}(?:[\w-]+\s+){{0,2}}?(?P<what>sections?|parts?|paragraphs?|chapters?|days?|rounds?|"
    rf"verses?|stanzas?|scenes?|versions?|pieces?)\b",
    re.IGNORECASE,
)
_BULLET_NUMBER = re.compile(
    rf"{_NUMBERED}(?:[\w-]+\s+){{0,2}}?bullet(?:ed)?[\s-]*(?:points?|items?)?\b(?!\s+(?:per|"
    rf"for each|each))",
    re.IGNORECASE,
)
_EXACT_NUMBER = re.compile(
    rf"\b(?:exactly|list|name|give(?: me)?|provide|with|"
    rf"of)\s+(?P<lo>{SPELLED_OR_DIGITS})\s+(?!words?|sentences?|paragraphs?)",
    re.IGNORECASE,
)
_PLACEHOLDERS = re.compile(rf"{_NUMBERED}(?:[\w-]+\s+){{0,2}}?place-?holders?\b", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\b(?:include|contain|use|add|with|represented)\b[^.!?\n]{0,30}\bplace-?holders?\b", re.IGNORECASE)
_POSTSCRIPT = re.compile(r"\bpost\s?-?script\b|(?<![\w.])P\.\s?P\.\s?S\b|(?<![\w.])P\.\s?S\.", re.IGNORECASE)
_TITLE = re.compile(r"double (?:angular|angle) brackets|<<[^<>\n]{1,60}>>", re.IGNORECASE)
_TWO = re.compile(r"\b(?:6|six)\s+(?:\*|asteri[sx]k\w*|stars?)|(?<!\*)\*{6,7}(?!\*)", re.IGNORECASE)
_THREE_STARS = re.compile(r"(?<!\*)\*\*\*(?!\*)")


def _format(text: str, prompt: str) -> Iterator[Constraint]:
    low = text.lower()
    m = _JSON.search(text) if "json" in low else None
    if m and (_JSON_SURE.search(text) or not _TALKS_OF_JSON.search(text[: m.start()] + text[m.end() :])):
        yield Constraint("detectable_format:json_format", {}, *m.span())
    if "My answer is" in text and len(set(re.findall(r"My answer is (yes|no|maybe)", text))) >= 2:
        at = text.index("My answer is")
        yield Constraint("detectable_format:constrained_response", {}, at, at + 12)
    m = _TITLE.search(text)
    if m:
        yield Constraint("detectable_format:title", {}, *m.span())
    m = _TWO.search(text)
    if m:
        yield Constraint("combination:two_responses", {}, *m.span())
    m = _POSTSCRIPT.search(text)
    if m and re.search(
        r"\b(?:add|includ\w*|end\w*|with|start\w*|contain|append|finish|have|put|make sure)\b", text, re.IGNORECASE
    ):
        marker = "P.P.S" if re.search(r"P\.\s?P\.\s?S", text, re.IGNORECASE) else "P.S."
        yield Constraint("detectable_content:postscript", {"postscript_marker": marker}, *m.span())
    m = _PLACEHOLDERS.search(text)
    n = bounds(m)[0] if m else None
    if m is None and re.search(r"square brackets|represented|\[[^\]\n]+\]", text):
        m = _PLACEHOLDER.search(text)
    if m:
        yield Constraint("detectable_content:number_placeholders", {"num_placeholders": n or 1}, *m.span())
    yield from _highlights(text)
    yield from _bullets(text)


def _highlights(text: str) -> Iterator[Constraint]:
    if not _MARKDOWN.search(text):
        return
    m = _HIGHLIGHT.search(text)
    if m:
        lo = m.group("lo") or m.group("b_lo")
        yield Constraint("detectable_format:number_highlighted_sections", {"num_highlights": number(lo)}, *m.span())
        return
    m = _HIGHLIGHT_PLAIN.search(text)
    if m and re.search(r"\*[^*\n]+\*|\"\*\"|asterisk|markdown", text):
        start, end = _sentence(text, m.start())
        times = _TIMES.search(text, start, end) or _DIVIDED.search(text)
        yield Constraint(
            "detectable_format:number_highlighted_sections",
            {"num_highlights": (bounds(times)[0] or 1) if times else 1},
            *m.span(),
        )


def _bullets(text: str) -> Iterator[Constraint]:
    if "bullet" not in text.lower():
        return
    m = _BULLET_NUMBER.search(text)
    if m is None and re.search(r"\bin bullet|bullet(?:ed)? points?|bullets\b|bullet(?:ed)? list", text, re.IGNORECASE):
        m = _EXACT_NUMBER.search(text)
    if m and not (
        m.groupdict().get("most") or m.groupdict().get("least") or m.groupdict().get("hi") or m.groupdict().get("ormore")
    ):
        yield Constraint("detectable_format:number_bullet_lists", {"num_bullets": number(m.group("lo"))}, *m.span())


def _divisions(text: str, prompt: str) -> Iterator[Constraint]:
    """Sections with a named mark, paragraphs between dividers, paragraphs with a given first word."""
    mark = _SECTION_MARK.search(text)
    if mark:
        word = mark.group("word") or mark.group("word2")
        numbers = [m for m in _DIVIDED.finditer(text)]
        m = next((x for x in numbers if x.group("what").lower().rstrip("s") == word.lower()), numbers[0] if numbers else None)
        if m:
            yield Constraint(
                "detectable_format:multiple_sections", {"section_spliter": word, "num_sections": bounds(m)[0] or 1}, *m.span()
            )
    stars = _THREE_STARS.search(text)
    divider = stars or re.search(r"\bmarkdown divider\b|\bthree asterisks?\b|\b3 asterisks?\b", text, re.IGNORECASE)
    if divider and not mark:
        yield Constraint("length_constraints:number_paragraphs", {"num_paragraphs": _between_dividers(text)}, *divider.span())
    m = _FIRST_WORD.search(text)
    if m:
        yield from _first_word(text, m)


def _between_dividers(text: str) -> int:
    """Return how many parts the prompt wants between dividers: as its template shows, as it says, or two."""
    shown = len(re.findall(r"^[ \t]*\*\*\*[ \t]*$", text, re.MULTILINE))
    if shown > 1:
        return shown + 1
    said = [m for m in _DIVIDED.finditer(text) if m.group("what").lower() not in ("day", "days")]
    said.sort(key=lambda m: not m.group("what").lower().startswith("paragraph"))
    return (bounds(said[0])[0] or 2) if said else 2


_ORDINAL = {
    w: n for n, w in enumerate(("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"), 1)
}
_NTH = (
    rf"(?:(?P<nth>{'|'.join(_ORDINAL)}|last|\d{{1,2}}(?:st|nd|rd|th))\s+paragraph|paragraph\s+(?P<num>\d{{1,2}}|"
    rf"{'|'.join(list(_SPELLED)[:10])}))"
)
_FIRST_WORD = re.compile(
    rf"\b{_NTH}\b[^.!?\n]{{0,30}}\b(?:start|begin)\w*\s+with\s+(?:the\s+)?(?:word\s+)?(?P<term>{_QUOTED}|[\w'-]+)|"
    rf"\b(?:start|"
    rf"begin)\w*\s+(?:the\s+)?{_NTH.replace('?P<', '?P<b_')}\s+with\s+(?:the\s+)?(?:word\s+)?(?P<term2>{_QUOTED}|[\w'-]+)",
    re.IGNORECASE,
)


def _first_word(text: str, m: re.Match[str]) -> Iterator[Constraint]:
    total = next((x for x in _DIVIDED.finditer(text) if x.group("what").lower().startswith("paragraph")), None)
    if total is None:
        return
    count = bounds(total)[0] or 1
    given = m.group("nth") or m.group("num") or m.group("b_nth") or m.group("b_num")
    low = given.lower()
    nth = _ORDINAL.get(low) or (count if low == "last" else int(re.sub(r"\D", "", low)) if low[0].isdigit() else number(low))
    term = (m.group("term") or m.group("term2")).strip("\"'“”‘’`")
    yield Constraint(
        "length_constraints:nth_paragraph_first_word",
        {"first_word": term, "num_paragraphs": count, "nth_paragraph": nth},
        *m.span(),
    )


# start, end, repetition

_ENDS = re.compile(
    rf"\b(?:end|ends|ending|finish|conclude|close)\b[^.!?\n\"“”'‘:]{{0,60}}?\b(?:with|by saying|"
    rf"using)\b[^\"“”‘.!?\n:]{{0,60}}[:]?\s*(?P<term>{_QUOTED})"
    r"|\b(?:end|ends|ending|finish|conclude)\b[^.!?\n\"“”'‘:]{0,60}?\bwith\b[^.!?\n\"“”'‘:]{0,30}\b(?:phrase|words?|"
    r"sentence|line)(?:\s+of)?\s*[:]\s*(?P<bare>[^\n]+)"
    r"|\b(?:very )?end of (?:your|the) (?:entire )?(?:response|answer|reply)\b[^.!?\n:]{0,40}\b(?:read|say|"
    r"be)\b[^:\n\"“]{0,20}[:]?\s*(?P<read>[^\n]+)"
    rf"|\blast (?:sentence|line|words?)\b[^.!?\n\"“]{{0,50}}?\b(?:should|must)\b[^.!?\n\"“]{{0,20}}(?P<last>{_QUOTED})",
    re.IGNORECASE,
)
_ENDS_ELSE = re.compile(
    r"\b(?:words?|letters?|each|every|lines?|nouns?|names?|sentences|verbs?|rhym\w*|"
    r"paragraphs?)\s+(?:that\s+|which\s+|should\s+|\w+\s+)?$",
    re.IGNORECASE,
)
_REPEAT = re.compile(
    r"\brepeat\b\s+(?:back\s+|only\s+)?(?:(?:the|this|my|your|exact|exactly|entire|same|whole|following|above|user|"
    r"original)\s+){0,4}(?:request|prompt|question|sentence|"
    r"instructions?|task|message|text|input|query|paragraph|phrase|statement)\b(?P<tail>[^\n]{0,120})|"
    r"\brepeat the (?:exact )?(?:request|prompt)",
    re.IGNORECASE,
)
_REPEAT_SURE = re.compile(
    r"word[ -]for[ -]word|without (?:any )?chang|exactly|first|before|above|below|verbatim|"
    r"\bitself\b|exact",
    re.IGNORECASE,
)


def _start_and_end(text: str, prompt: str) -> Iterator[Constraint]:
    m = _ENDS.search(text)
    if m and not _ENDS_ELSE.search(text[max(0, m.start() - 40) : m.start()]):
        raw = next(g for g in (m.group("term"), m.group("bare"), m.group("read"), m.group("last")) if g)
        phrase = _phrase(raw)
        if len(re.findall(r"\w", phrase)) > 1 and _MASK not in phrase:
            yield Constraint("startend:end_checker", {"end_phrase": phrase}, *m.span())
    m = _REPEAT.search(text)
    if m and _REPEAT_SURE.search(text[max(0, m.start() - 60) : m.end() + 80]):
        yield Constraint("combination:repeat_prompt", {"prompt_to_repeat": _request(prompt, m)}, *m.span())


def _phrase(raw: str) -> str:
    """Return an end phrase without its quotation marks or the remark in brackets behind it."""
    raw = raw.strip()
    m = re.match(_QUOTED, raw)
    if m:
        return m.group()[1:-1]
    return re.sub(
        r"\s*(?:\((?:no|do not|don't|nothing)\b.*|,? and no other words.*|\.\s+(?:no other|do not|don't|"
        r"nothing)\b.*)$",
        "",
        raw,
        flags=re.IGNORECASE,
    ).strip('"“”')


_ABOUT_REPEATING = re.compile(
    r"\b(?:repeat|do not say|don't say|before (?:saying|giving|answering)|give your (?:answer|"
    r"response|reply)|do not (?:change|include|output)|"
    r"say anything)\w*\b",
    re.IGNORECASE,
)


def _request(prompt: str, m: re.Match[str]) -> str:
    """Return the request to repeat: the paragraphs of `prompt` that do not speak of repeating."""
    blocks = [(b.start(), b.group()) for b in re.finditer(r"[^\n]+(?:\n(?!\n)[^\n]+)*", prompt)]
    own = next((i for i, (at, b) in enumerate(blocks) if at <= m.start() < at + len(b)), 0)
    lines = [x for x in blocks[own][1].split("\n") if not _ABOUT_REPEATING.search(x)] if blocks else []
    before = [b for _, b in blocks[:own]]
    after = [b for _, b in blocks[own + 1 :]]
    if before or (lines and not after):
        return "\n\n".join([*before, *(["\n".join(lines)] if lines and not before else [])]).strip()
    kept = [b for b in after if not _ABOUT_REPEATING.search(b)] or after
    return "\n\n".join(kept).strip() or prompt[: m.start()].strip()


# language

_LANGUAGE = re.compile(
    rf"\b(?:in|using|only|entirely|completely|the)\s+(?:(?:only|entirely|completely|just|all|simple|"
    rf"fluent|standard)\s+)?(?:in\s+)?(?:the\s+)?"
    rf"(?P<name>{'|'.join(LANGUAGES)})\b(?!\s+(?:restaurant|food|cuisine|culture|history|literature|"
    rf"music|style|art|dish|recipe|"
    r"class|lesson|market|people|movie|film|revolution|numbers|alphabet|words?|verbs?|grammar|"
    r"(?-i:[A-Z])))(?P<own>\s+language)?",
    re.IGNORECASE,
)
_ONLY_LANGUAGE = re.compile(r"no other language|\b(?:only|entire(?:ly)?|completely|throughout|whole)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(?:write|respond|answer|reply|compose|draft|response|speak)\b", re.IGNORECASE)
_TRANSLATES = re.compile(
    r"\btranslat\w*|\bmean(?:s|ing)?\b|\bhow (?:do|would|to)\b[^.!?\n]{0,20}\bsay\b|\bword for\b|"
    r"\bfrom\s+\w+\s+(?:to|into)\b|\bpronounce",
    re.IGNORECASE,
)


def _language(text: str, prompt: str) -> Iterator[Constraint]:
    for m in _LANGUAGE.finditer(text):
        start, end = _sentence(text, m.start())
        clause = text[start : min(end + 60, len(text))]
        if not (m.group("own") or _ONLY_LANGUAGE.search(clause) or _WRITES.search(text[start : m.start()])):
            continue
        if _TRANSLATES.search(text[start:end]) and "no other language" not in text.lower():
            continue
        if m.group(0).lower().startswith("the") and not (m.group("own") and _ONLY_LANGUAGE.search(clause)):
            continue
        yield Constraint("language:response_language", {"language": LANGUAGES[m.group("name").lower()]}, *m.span())
        return


_READERS: tuple[Callable[[str, str], Iterator[Constraint]], ...] = (
    _words_and_phrases,
    _letters,
    _case_and_marks,
    _format,
    _divisions,
    _start_and_end,
    _language,
)
