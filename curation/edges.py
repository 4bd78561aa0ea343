"""Prompts that no plain answer fits, and what a response does about it: what is absent, impossible or in conflict."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import heads
from .constraints import Constraint, extract
from .heads import load, plain
from .refusal import ACTIONS, acting, classify
from .verifiers import verify

KINDS = ("missing_context", "conflicting", "false_premise", "out_of_scope")
WANTED = {"missing_context": "ask", "conflicting": "name_conflict", "false_premise": "correct", "out_of_scope": "decline"}
DEEDS = ("asked", "named", "corrected", "declined", "answered")
READ = 600  # characters of a prompt that the heads look at


@dataclass(frozen=True)
class Finding:
    """What a prompt lacks or wants that cannot be: characters `start` to `end` of `field`, and how sure that is."""

    kind: str
    what: str
    field: str
    start: int
    end: int
    score: float


# ---- what a prompt speaks of and does not hold

#: Something a person would have to see, hear or open.
_MEDIA = (r"(?:image|picture|photo(?:graph)?|pic|painting|illustration|sketch|drawing|screenshot|video|audio|recording|"
    r"chart|graph|map|"
          r"flag|logo|file|attachment|document|spreadsheet|clip|cartoon|poster|object|animal|bird|plant|flower|colou?r|"
          r"piece|song)")
_TEXT = (r"(?:article|report|blog(?: post| article)?|post|news(?: article| story)?|essay|paper|passage|story|paragraph|"
    r"document|review)")
#: A bracket that stands where a picture or file should be. One that describes it ("[photo of a dog]") is a caption.
_STAND_IN = re.compile(
    r"[\[<(]\s*(?:(?:insert|attached?|see|your|the|an?)\s+)*(?:image|picture|photo(?:graph)?|pic|painting|video|audio|file|"
    r"screenshot|"
    r"document|table|chart|graph|link|url|text|article)s?(?:\s+(?:file|here|attached|attachment|link|url|goes here|below|"
    r"above|\d+))*"
    r"\s*[\]>)]|!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])|[\[<(]?\b[\w-]+\.(?:jpe?g|png|gif|bmp|webp|svg|mp3|wav|mp4|mov|avi|"
    r"docx?|pptx?)\b"
    r"[\]>)]?", re.IGNORECASE)
_CAPTION = re.compile(r"[\[<(]\s*(?:an?\s+)?(?:image|picture|photo(?:graph)?|painting|video)\s+(?:of|with|"
    r"showing)\s+\S[^\]>)]*[\]>)]",
                      re.IGNORECASE)
_SEES = re.compile(
    rf"\b(?:this|the|that|provided|given|attached|following|these|below|above|hidden|using|my|i "
    rf"gave)\b[^.?!\n]{{0,40}}\b{_MEDIA}s?\b|"
    rf"\b{_MEDIA}s?\b[^.?!\n]{{0,30}}\b(?:shown|provided|given|attached|below|above|here)\b|"
    rf"\b(?:describe|caption|crop|identify|classify|analy[sz]e|edit|resize|recogni[sz]e|"
    rf"transcribe)\b[^.?!\n]{{0,60}}\b{_MEDIA}\b",
    re.IGNORECASE)
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]+", re.IGNORECASE)
#: What can only be done with what stands behind an address.
_READS = re.compile(
    r"\b(?:summari[sz]e|summary|rate|review|analy[sz]e|critique|evaluate|improve(?:ments?)?|main (?:point|idea|topic|argument)s?|"
    r"headline of|about page|visit|read|describe|classify|identify|extract|transcribe|translate|paraphrase|(?:who|what|"
    r"when|where|which)\b"
    r"[^.?]{0,60}\b(?:article|page|site|video|song|post)|sentiment|tone|topic|genre|instrument|author|find|outline|key "
    r"(?:points?|facts?)|"
    r"compare|explain|caption|list|write an? [^.]{0,40}(?:summary|review|caption))\b", re.IGNORECASE)
#: Tasks on the address itself.
_ADDRESS = re.compile(
    r"\b(?:url|link|domain|address|hostname|protocol|html|markdown|cite|citation|mla|apa|bibliograph\w*|reference|regex|"
    r"shorten|normali[sz]e|"
    r"redirect|hyperlink|parse|encode|decode|e-?mail|query string|tag|slug|website name|valid|anchor|href|script|code|"
    r"function|python|"
    r"scrape|crawl|api|request|curl|download)\b", re.IGNORECASE)
#: "The article is titled X" and nothing more of it.
_TITLED = re.compile(
    rf"^\W*(?:the\s+)?(?:{_TEXT}\s*(?:'s)?\s*)?(?:(?:title|titled|headline|name)\b|{_TEXT}\s+(?:title|titled|headline|is "
    rf"titled|is called)\b)"
    r"[\s:\"'“”]", re.IGNORECASE)
_WORKS_ON = re.compile(
    rf"\b(?:summari[sz]e|summary|rate|review|critique|evaluate|analy[sz]e|essential argument|main (?:point|idea|argument)|"
    rf"key points?|"
    rf"conclusions?|sentiment|tone)\b[^?!\n]{{0,60}}\b{_TEXT}\b|\b{_TEXT}\b[^?!\n]{{0,40}}\b(?:summari[sz]e|summary|rate|"
    rf"review|critique|"
    r"evaluate)\b", re.IGNORECASE)
_KNOWN_WORK = re.compile(r"\b(?:book|novel|movie|film|song|play|album)\b", re.IGNORECASE)
_TITLE_WORDS = 22  # a longer input holds more than a title


def absent(instruction: str, given: str) -> Finding | None:
    """Return what the prompt hands over in name only: a picture, a file, the text behind a link, an article but its title."""
    for field, text in (("input", given), ("instruction", instruction)):
        if not text or len(text) > 1200:
            continue
        m = _STAND_IN.search(text)
        if m and not _CAPTION.search(text) and _alone(text, m, field) and _SEES.search(instruction):
            return Finding("file", shown(m.group()), field, m.start(), m.end(), 0.95)
        m = _URL.search(text)
        if m and len(text) - len(m.group()) < (160 if field == "instruction" else 60) and _READS.search(instruction) \
                and not _ADDRESS.search(_URL.sub(" ", instruction)) and not _ADDRESS.search(_URL.sub(" ", given)):
            return Finding("link", shown(m.group()), field, m.start(), m.end(), 0.9)
    if given and len(given.split()) <= _TITLE_WORDS and "\n" not in given.strip() and _TITLED.match(given) \
            and _WORKS_ON.search(instruction) and not _KNOWN_WORK.search(instruction + given):
        return Finding("article", shown(given), "input", 0, len(given), 0.85)
    return None


def shown(text: str) -> str:
    """Return a short form for a message."""
    return text if len(text) <= 60 else text[:59] + "…"


def _alone(text: str, m: re.Match[str], field: str) -> bool:
    """Return whether the stand-in is all there is: an input with much beside it holds the matter in words."""
    return field == "instruction" or len(text) - (m.end() - m.start()) <= 40


# ---- what no text can do

_MAKES = re.compile(
    r"^\W*(?:please |can you |could you )?(?:create|design|draw|make|generate|construct|build|compose|produce|sketch|paint|"
    r"render|show|"
    r"convert|crop|edit|record|post|play|develop|give|illustrate|visuali[sz]e|add|resize)\b[^.?!\n]{0,80}?\b(?:logo|image|"
    r"picture|photo|"
    r"drawing|painting|illustration|animation|video|infographic|poster|mind ?map|3d (?:model|visuali[sz]ation)|melody|song|"
    r"audio|speech|"
    r"flow ?chart|pie chart|bar chart|bar graph|line graph|graph|chart|diagram|mock-?up|artwork|meme|sketch|gif|banner|"
    r"collage|comic|"
    r"visual|visuali[sz]ation|text-to-speech|map|sound)s?\b", re.IGNORECASE)
#: An answer that pretends: a made-up picture, a tag, a bracket, "Created a ...".
_PRETENDS = re.compile(
    r"!\[[^\]]*\]\s*\(|^\W*<(?:img|audio|video|image|iframe)\b|"
    r"^\s*<(?!(?:html|head|body|table|section|script|style|div|main|form|span)\b)[a-z][\w ,'-]{2,80}>\s*$|"
    r"^\s*\[(?:insert|image|output|"
    r"cropped|picture|"
    r"photo|logo|video|audio|poster|chart|graph|attached)[^\]]*\]\s*$|https?://\S*(?:imgur|ibb\.co|giphy|imgflip|"
    r"yourwebsite|freesound)\S*|"
    r"^\W*(?:created|generated|drew|designed|made|rendered|attached)\b[^.\n]{3,100}\.?\s*$|^\W*a 3d model of [^.\n]{3,90}\.?\s*$",
    re.IGNORECASE | re.MULTILINE)
_MARKUP_TASK = re.compile(r"\b(?:html|markdown|tag|code|css|svg|latex|script|alt text|embed)\b", re.IGNORECASE)
_WEB = re.compile(
    r"^\W*(?:please |can you |could you )?(?:search (?:the )?(?:web|internet|net|online)|google\b(?! (?:sheet|doc|form|"
    r"analytics|ad|map|"
    r"play|cloud|search query))|browse|look up online|visit (?:a|the|this) (?:web ?)?(?:site|page)|go to (?:the )?(?:web "
    r"?site|https?)|"
    r"find (?:\w+ ){0,3}(?:online|internet|web) (?:sources?|articles?|resources?)|find (?:the|an?) (?:\w+ )?article (?:in|"
    r"on|from|that)|"
    r"tell the model to search)\b|\b(?:search|look) (?:\w+ ){0,6}?on (?:the )?(?:internet|web)\b", re.IGNORECASE)
_NOW = re.compile(
    r"\b(?:current|today's|latest|right now|at the moment|live|real[- ]time|up[- ]to[- ]date)\b[^.?!\n]{0,24}\b(?:weather|"
    r"temperature|forecast|"
    r"stock|price|exchange rate|score|time|news|headlines?|revenue|growth rate|market cap\w*|traffic|interest rates?)\b",
    re.IGNORECASE)
_QUERY_TASK = re.compile(r"\b(?:query|queries|write|sentence|rewrite|classify|sql|function|code|program|script|app|explain|"
    r"advice|tips|how|estimate|assum\w+)\b",
                         re.IGNORECASE)
_NUMBER = re.compile(r"\d")
_OWNS_UP = re.compile(
    r"\b(?:as of|as an ai|(?:can ?not|can't|unable|not able|don't have|do not have|no access|not possible|limitation|could "
    r"not|couldn't|"
    r"please (?:provide|share|check|visit)|i need|not provided|not attached|isn't attached|does not exist|assum\w+|without "
    r"(?:seeing|access))|"
    r"hypothetical\w*|fictional|for example|example)\b", re.IGNORECASE)


def owns_up(response: str) -> bool:
    """Return whether a response says what it lacks, asks, or states what it assumes."""
    head = response[:500]
    return _OWNS_UP.search(head) is not None or ("?" in head and verify("answer:ask", response))


def wants_picture(instruction: str) -> bool:
    """Return whether the prompt asks for a picture, a sound or a film, which no text is."""
    return _MAKES.match(instruction) is not None and not _MARKUP_TASK.search(instruction)


def impossible(instruction: str, given: str, response: str) -> Finding | None:
    """Return the deed that no text can do, where the response pretends to have done it."""
    m = _MAKES.match(instruction)
    if m and wants_picture(instruction):
        claim = _PRETENDS.search(response)
        if claim and "```" not in response and (claim.start() < 200 or response[claim.start()] == "!"):
            return Finding("picture or sound", shown(m.group().strip()), "response", claim.start(), claim.end(), 0.95)
    m = _WEB.search(instruction)
    if m and response.strip() and not re.search(r"\b(?:query|sql|search terms?|keywords?)\b", instruction, re.I):
        return Finding("search", shown(m.group().strip()), "instruction", m.start(), m.end(), 0.9)
    m = _NOW.search(instruction)
    if m and not given and _NUMBER.search(response) and len(response.split()) < 60 and not _QUERY_TASK.search(instruction):
        return Finding("news", shown(m.group().strip()), "instruction", m.start(), m.end(), 0.7)
    return None


# ---- instructions that exclude each other

_EXCLUDE: tuple[tuple[str, str, str], ...] = (
    (r"\b(?:in )?(?:exactly )?one word\b(?! (?:at a|per|each|to describe))", r"\b(?:(?:two|three|four|five|\d+) "
        r"(?:sentences|paragraphs|words)|"
     r"detailed|in detail|essay|at length|step by step|explain why)\b", "one word and more than one"),
    (r"\bin (?:exactly )?(?:one|a single) sentence\b", r"\b(?:(?:two|three|four|five|six|\d+) (?:sentences|paragraphs)|at "
        r"least \d{3,} words|essay)\b",
     "one sentence and several"),
    (r"\b(?:only|just) (?:with )?(?:yes or no|\"?yes\"? or \"?no\"?)\b|\byes or no only\b", r"\b(?:explain|in detail|"
        r"reasons?|why|elaborate|justify)\b",
     "only yes or no and an explanation"),
    (r"\b(?:all )?(?:in )?(?:lower ?case|small letters)(?: only)?\b", r"\b(?:all caps|upper ?case only|in (?:all )?capital "
        r"letters|in upper ?case)\b",
     "lower case and upper case"),
    (r"\b(?:without|no|do not use|don't use)(?: any)? (?:commas?)\b", r"\bcomma[- ]separated\b", "no commas and commas between"),
    (r"\b(?:without|no|do not use|don't use)(?: any)? (?:bullet points?|bullets|lists?)\b", r"\b(?:as|in|use) (?:a "
        r")?(?:bullet(?:ed)? (?:points?|list)|"
     r"numbered list)\b", "no list and a list"),
    (r"\b(?:very )?(?:short|brief|concise)ly?\b(?: answer| reply| response)?", r"\b(?:at least (?:[5-9]\d\d|\d{4,}) words|"
        r"as long as possible)\b",
     "short and very long"),
    (r"\b(?:in|into|only) (?:english)\b(?! and| or)", r"\b(?:entirely|only|answer|reply|respond|write) in (?:french|german|"
        r"spanish|italian|chinese|japanese)\b",
     "two languages"),
    (r"\bformal(?:ly)?\b(?= (?:tone|style|and|but|language)|[.,])", r"\b(?:very |use )?(?:casual|slang|"
        r"informal)(?:ly)?\b", "formal and casual"),
)
_CONFLICTS = tuple((re.compile(a, re.IGNORECASE), re.compile(b, re.IGNORECASE), what) for a, b, what in _EXCLUDE)
_EITHER = re.compile(r"\b(?:or|versus|vs|difference|between|compare|from|convert|change|turn|rewrite|translate|"
    r"then)\b", re.IGNORECASE)


_GIVEN = re.compile(r"\b(?:these|the|this|those|following|given|of|from|between|below|above|"
    r"provided)\s+(?:\w+\s+)?$", re.IGNORECASE)


def _ordered(rule: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the first match that asks for something; "these two sentences" speaks of what is given."""
    return next((m for m in rule.finditer(text) if not _GIVEN.search(text, max(0, m.start() - 30), m.start())), None)


def conflict(instruction: str) -> Finding | None:
    """Return two instructions of one prompt that exclude each other, as the span from the one to the other.

    First by phrases (_EXCLUDE), then by the constraints that `constraints.extract` reads: numbers that leave no answer, two
    cases, two languages, a word wanted and forbidden, JSON and what no JSON is.
    """
    for one, other, what in _CONFLICTS:
        a = _ordered(one, instruction)
        b = _ordered(other, instruction) if a else None
        if a and b:
            start, end = min(a.start(), b.start()), max(a.end(), b.end())
            apart = a.end() <= b.start() or b.end() <= a.start()
            between = instruction[min(a.end(), b.end()):max(a.start(), b.start())]
            if apart and not _EITHER.search(between) and not _EITHER.match(instruction):
                return Finding("conflict", what, "instruction", start, end, 0.8)
    return _stated(instruction) if len(instruction) <= _READ_ORDERS and _MAY_CLASH.search(instruction) else None


#: What stands in every prompt with constraints that can exclude each other; nothing else is read for them.
_MAY_CLASH = re.compile(
    r"json|lower\s?case|small letters|capital|upper\s?case|\bcaps\b|\blanguage\b"
    r"|\b(words|sentences|bullets?)\b(?s:.)*\b\1\b"
    r"|\b(?:do not|don't|avoid|without|exclude)\b(?s:.)*\b(?:words?|keywords?|include|mention|use|appear)\b"
    r"|\b(?:include|mention|use|appear)\b(?s:.)*\b(?:do not|don't|avoid|without|exclude)\b", re.IGNORECASE)
_READ_ORDERS = 2000     # characters; a longer prompt holds material, whose own words are no orders
_LOWER, _UPPER, _SHOUTED = "change_case:english_lowercase", "change_case:english_capital", "change_case:capital_word_frequency"
_JSON, _LANGUAGE = "detectable_format:json_format", "language:response_language"
#: What a text that is JSON as a whole cannot also be.
_NO_JSON = frozenset((
    "detectable_format:number_bullet_lists", "combination:two_responses", "combination:repeat_prompt", "startend:end_checker",
    "startend:quotation", "length_constraints:number_paragraphs"))
#: Counts of the whole answer, by the argument that holds the number.
_COUNTS = {"length_constraints:number_words": "num_words", "length_constraints:number_sentences": "num_sentences"}
_BULLETS = "detectable_format:number_bullet_lists"
#: What `extract` reads the first of only. A second number of bullets is looked for as well, of paragraphs not: a divider that is
#: shown looks like one.
_ONCE = frozenset((_LOWER, _UPPER, _SHOUTED, _LANGUAGE, _BULLETS))
#: Between two numbers: what follows is a task of its own, with a length of its own.
_NEXT_TASK = re.compile(r"\b(?:write|describe|explain|compose|create|give|provide|summari[sz]e|tell|then)\b", re.IGNORECASE)
_IN_ENGLISH = re.compile(
    r"\b(?:be|are|is|written|write|answer|respond|reply) (?:\w+ )?in english\b(?! and (?!(?:in )?(?:all|contain))| or)",
    re.IGNORECASE)
_SLACK = 1.25           # a bare "300 words" is about 300


def _stated(instruction: str) -> Finding | None:
    """Return the first two constraints of a prompt that no answer can keep both of."""
    found = _orders(instruction)
    for i, a in enumerate(found):
        for b in found[i + 1:]:
            if a.end <= b.start or b.end <= a.start:
                what = _excludes(a, b) or _excludes(b, a)
                between = instruction[min(a.end, b.end):max(a.start, b.start)]
                apart = a.id == b.id and (_EITHER.search(between) or (a.id != _LANGUAGE and _NEXT_TASK.search(between)))
                if what and not apart:
                    return Finding("conflict", what, "instruction", min(a.start, b.start), max(a.end, b.end), 0.8)
    return None


def _orders(instruction: str) -> list[Constraint]:
    """Return the constraints of a prompt, those included that `extract` reads once only and that come again behind."""
    found = extract(instruction)
    for first in [c for c in found if c.id in _ONCE]:
        again = (replace(c, start=c.start + first.end, end=c.end + first.end) for c in extract(instruction[first.end:])
                 if c.id in _ONCE)
        found += [c for c in again if c not in found and (c.id != _BULLETS or "bullet" in instruction[c.start:c.end].lower())]
    if any(c.id == _LANGUAGE for c in found):
        found += [Constraint(_LANGUAGE, {"language": "en"}, *m.span()) for m in _IN_ENGLISH.finditer(instruction)]
    return sorted(found, key=lambda c: c.start)


def _excludes(a: Constraint, b: Constraint) -> str:
    """Return why no answer keeps both constraints, "" if one may; asked in both orders."""
    both = (a.id, b.id)
    if both == (_LOWER, _UPPER):
        return "lower case and upper case"
    if both == (_LOWER, _SHOUTED):
        return "lower case and words in capitals" if b.kwargs["capital_relation"] == "at least" else ""
    if a.id == _LANGUAGE and b.id in (_LANGUAGE, _LOWER, _UPPER):
        other = b.kwargs["language"] if b.id == _LANGUAGE else "en"
        possible = a.kwargs["language"] == other or (b.id != _LANGUAGE and a.kwargs["language"] not in _NO_CASE)
        return "" if possible else "two languages"
    if a.id == _JSON and b.id in _NO_JSON:
        return "JSON and what is no JSON"
    if both == (_BULLETS, _BULLETS):
        counts = {a.kwargs["num_bullets"], b.kwargs["num_bullets"]}
        return "two numbers of bullets" if len(counts) == 2 and min(counts) > 1 else ""        # "one bullet" is an example
    if a.id == b.id and a.id in _COUNTS:
        name = _COUNTS[a.id]
        return ("more and fewer of one thing" if (a.kwargs["relation"], b.kwargs["relation"]) == ("at least", "less than")
                and a.kwargs[name] >= _SLACK * (b.kwargs[name] - 1) else "")
    if b.id == "keywords:forbidden_words":
        barred = {w.lower() for w in b.kwargs["forbidden_words"]}
        if a.id == "keywords:existence" and barred & {w.lower() for w in a.kwargs["keywords"]}:
            return "a word wanted and forbidden"
        if a.id == "keywords:frequency" and a.kwargs["relation"] == "at least" and a.kwargs["keyword"].lower() in barred:
            return "a word wanted and forbidden"
    return ""


#: Languages whose script has no capitals: "in Hindi" and "in capital letters" name two languages.
_NO_CASE = frozenset(("ar", "bn", "zh", "fa", "gu", "he", "hi", "ja", "kn", "ko", "ml", "mr", "ne", "pa", "ta", "te", "th", "ur"))


# ---- judged by heads

#: Words that say how open a task is, by what they stand for; a word may stand for several things.
_WORDS = {
    "asker": "i i'm i'd i've i'll me mine my we our us myself",
    "fact": (
        "who when where capital population price cost rate winner won score weather temperature time date release record number "
        "size height distance age salary definition meaning formula history cause causes symptoms effects benefits difference "
        "differences types founder author members version value percentage statistics"),
    "rank": "highest largest most lowest biggest longest tallest oldest fastest smallest least top first richest deadliest",
    "taste": (
        "best good great nice better ideal perfect favorite favourite suitable reliable affordable cheap healthy effective "
        "interesting simple easy quality popular recommended personalized personal custom improve comfortable unique fun "
        "creative quick beginner delicious trendy"),
    "when": (
        "today yesterday tomorrow last next past current currently latest recent recently upcoming now week weekend month year "
        "decade season january february march april may june july august september october november december"),
    "near": "near nearby nearest local locally area city town neighborhood neighbourhood around",
    "unnamed": (
        "this these those following given specific certain particular some any various different several someone something it "
        "them set text file article document data dataset"),
    "open": "a an any some",
    "shape": (
        "list table step-by-step guide plan schedule report summary overview tutorial recipe script function program code "
        "command query essay article story poem review itinerary menu routine presentation template email"),
    "counsel": (
        "recommend recommendation recommendations suggest suggestion suggestions advice tips idea ideas guide plan help assist"),
    "tell": "explain describe outline define list what's name tell detail identify",
    "deed": "buy book order purchase reserve schedule send register subscribe install download post set remind call",
    "machine": (
        "python java javascript sql bash linux function script html css regex api database folder directory command git excel c "
        "c++ unix windows shell"),
    "limit": "minutes minute hours hour days weeks months years people person dollars words pages under within between than",
    "bound": "in for from between during since on under within about with of",
    "the": "the",
}
_STANDS_FOR: dict[str, tuple[str, ...]] = {}
for _name, _words in _WORDS.items():
    for _word in _words.split():
        _STANDS_FOR[_word] = (*_STANDS_FOR.get(_word, ()), _name)
_WORD = re.compile(r"[a-z0-9][\w'+#-]*")
_FIGURE = re.compile(r"\d+")
_NAMED = re.compile(r" [A-Z][\w'.&+-]*(?: [A-Z][\w'.&+-]*)*")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+|\n+")


def cues(prompt: str) -> list[str]:
    """Return the named cues of a prompt: how open it is, what it names, how it begins and how it asks.

    Of the first READ characters: kinds of words (up to 2 of each), proper names, figures, sentences, the words with which
    the first and the last sentence begin.
    """
    low = plain(prompt, READ)
    words, counts, superlatives = _WORD.findall(low), dict.fromkeys(_WORDS, 0), 0
    for word in words:
        if word in _STANDS_FOR:
            for name in _STANDS_FOR[word]:
                counts[name] += 1
        elif len(word) > 5 and word.endswith("est"):
            superlatives += 1
    parts = [s for s in _SENTENCE_END.split(low) if s.strip()] or [""]
    first, last = _WORD.findall(parts[0][:40]) or [""], _WORD.findall(parts[-1]) or [""]
    names = _names(prompt[:READ])
    figures = len(_FIGURE.findall(low)) + low.count("$") + low.count("%")
    return [
        *[f"{name} {k if k < 2 else 2}" for name, k in counts.items()],
        f"sentences {min(len(parts), 4)}", f"words {min(9, len(words) // 5)}", f"figures {min(figures, 2)}",
        f"proper {min(sum(map(len, names)), 4)}", f"names {min(len(names), 3)}",
        f"acronym {any(len(w) > 1 and w.isupper() for name in names for w in name)}",
        f"quotes {chr(34) in low or f' {chr(39)}' in low}", f"superlative {min(superlatives, 2)}", f"question {'?' in low}",
        f"begins {first[0]}", f"asks {last[0]}", f"asks {' '.join(last[:2])}", f"asks {last[0]} {min(len(parts), 3)}",
        f"last {min(len(last) // 4, 6)}",
    ]


def _names(text: str) -> list[list[str]]:
    """Return the runs of capitalised words inside sentences, without the asker's "I"."""
    found = []
    for m in _NAMED.finditer(text):
        if text[m.start() - 1] not in ".!?:":
            run = [w for w in m.group().split() if w != "I" and not w.startswith(("I'", "I\u2019"))]
            found += [run] if run else []
    return found


def judge(prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return (needs context, kinds, names): (n,) and (n, kinds) float32 probabilities and the names of the kinds.

    The first says how likely the task is too vague to do without a question. English only.
    """
    bank = load("prompts")
    kinds = bank.heads["edge"].classes
    if not len(prompts):
        return np.zeros(0, np.float32), np.zeros((0, len(kinds)), np.float32), kinds
    x, named = bank.features([plain(p, READ) for p in prompts]), heads.cues([cues(p) for p in prompts])
    return bank.probabilities("vague", x, named)[:, 1], bank.probabilities("edge", x, named), kinds


# ---- what a response does about it

_CORRECTS = re.compile(
    r"\b(?:actually|in fact|there (?:is|are|was|were) no\b|there (?:is|has|have|was)n't|no such|did(?: not|n't)|does(?: not|n't)|"
    r"(?:was|is|are|were) not\b|(?:was|is|are|were)n't|never\b|not (?:true|accurate|correct|quite)|misconception|contrary "
    r"to|incorrect|"
    r"mistaken|myth|fictional|does not exist|no evidence|premise|has not|have not|hasn't|cannot have)\b", re.IGNORECASE)


_EVADES = tuple(ACTIONS.index(a) for a in ("refuse", "refute", "cannot know"))


def evades(responses: Sequence[str]) -> np.ndarray:
    """Return (n,) float32: how likely each response refuses, refutes or says that it cannot know (Do-Not-Answer's actions).

    For responses that `deed` calls answered: its patterns know few of the ways to correct what a prompt takes for granted.
    """
    return acting(responses)[:, _EVADES].sum(axis=1)


def deed(response: str, prompt: str) -> str:
    """Return what a response does about a prompt that no plain answer fits: one of DEEDS."""
    if not response.strip():
        return "answered"
    if verify("answer:name_conflict", response, prompt=prompt):     # before "asked": who names a conflict asks which to follow
        return "named"
    if verify("answer:ask", response, prompt=prompt):
        return "asked"
    label = classify([response])[0]
    if label in ("refuse", "other_safe"):
        return "declined"
    return "corrected" if _CORRECTS.search(response[:250]) else "declined" if label == "partial" else "answered"
