"""Defects of the response itself: empty, stand-in text, cut off, garbled, an echo of the prompt, a loop."""

from __future__ import annotations

import re
import unicodedata
import zlib

import ftfy
import ftfy.badness
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contents import places, some, worn
from ..ending import chance, cut_off, evidence, share_cut
from ..options import Count, Several
from ..text import SENTENCE_END, fold, shorten
from .base import Findings, Past, check, flags, texts

# --- empty -----------------------------------------------------------------------------------------------------------

_LONGEST_INVISIBLE = 64     # a response of more characters than this that shows nothing has not been met


def _visible(text: str) -> int:
    """Return how many characters of `text` leave ink: no separators, controls or format characters."""
    return sum(unicodedata.category(c)[0] not in "ZC" for c in text)


@check("response.empty", reads=("response",), severity="error", action="drop")
def empty(rows: pa.Table, *, min_chars: Count = 1) -> pa.Table:
    """The assistant says nothing.

    Why: a model trained on silence learns to stop at once.
    Misses: answers that are only markup.
    False positives: none known; rows that end with a user turn count as empty, as there is nothing to learn from them.
    Source: CHECKS 17; 20 of 20 planted and all empty outputs of the cleaned Alpaca set are found.
    """
    found = Findings(rows)
    short = pc.less(pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(rows["response"])), 0),
                    max(min_chars, _LONGEST_INVISIBLE))
    at = np.flatnonzero(np.asarray(short))
    for i, text in zip(at.tolist(), rows["response"].take(pa.array(at)).to_pylist()):
        n = _visible(text or "")
        if n < min_chars:
            found.add(i, "The response is empty." if n == 0 else
                      f"The response has {n} visible characters, fewer than {min_chars}.",
                      span=(0, len(text)) if text else None)
    return found.table()


# --- placeholder -----------------------------------------------------------------------------------------------------

_BARE = r"""[\s<>\[\](){}"'“”‘’`*_#.,:;!|-]*"""
_NO_INPUT = re.compile(
    rf"{_BARE}(?:no[\s_-]*inputs?(?:\s+(?:is\s+)?(?:required|needed|provided|given|necessary|available|text|data))?"
    rf"|n\s*/\s*a|(?-i:N\.?A|NA)|none|null|nil|not\s+applicable|input|your\s+input(?:\s+here)?"
    rf"|(?:enter|insert|put|type|paste)\s+(?:your\s+|the\s+)?(?:input|text|context)(?:\s+here)?"
    rf"|no\s+(?:additional\s+|further\s+)?(?:context|text)(?:\s+(?:required|needed|provided|given))?"
    rf"|\.{{2,}}|…|-+|_+){_BARE}", re.IGNORECASE)
_STAND_IN = re.compile(
    rf"{_BARE}(?:no[\s_-]*(?:out|in)puts?(?:\s+(?:is\s+)?(?:required|needed|provided|given|available))?"
    rf"|to\s*do|tbd|to\s+be\s+(?:determined|added|written|completed|filled\s+in)|placeholder(?:\s+text)?|fixme|xxx+"
    rf"|no\s+(?:response|answer)(?:\s+(?:provided|given|available))?"
    rf"|(?:insert|enter|put|type|write|add|paste)\s+(?:your\s+|the\s+|an?\s+)?(?:model\s+)?"
    rf"(?:answer|response|output|text|reply|content|completion|summary)(?:\s+(?:text|goes))?(?:\s+here)?"
    rf"|(?:your|the|model)\s+(?:answer|response|output|reply|text|completion|content)(?:\s+goes)?\s+here"
    rf"|(?:answer|response|output|reply|text|completion|content)(?:\s+goes)?\s+here"
    rf"|(?:sample|dummy|example)\s+(?:answer|response|output|text)"
    rf"|(?:output|response|answer|assistant|completion|text)(?:\s*[:>\]}}])"
    rf"|coming\s+soon){_BARE}", re.IGNORECASE)
_SILENT = re.compile(r"[\s.…_?-]*(?:\.{2,}|…|_{2,}|-{2,}|\?{2,})[\s.…_?-]*")
_NOTHING = re.compile(rf"{_BARE}(?:none|null|nil|nan|n\s*/\s*a|not\s+applicable|undefined){_BARE}", re.IGNORECASE)
_NO_OUTPUT_BECAUSE = re.compile(
    r"\s*(?:[<\[({]\s*no\s+output\b[^\n]{0,160}"
    r"|no\s+output\b[^\n]{0,20}\b(?:as|because|since|task|model|visual|gpt|ai)\b[^\n]{0,140})\s*", re.IGNORECASE)
_LOREM = re.compile(r"\s*[\"'“]?lorem\s+ipsum\s+dolor\b", re.IGNORECASE)
_MORSE = re.compile(r"(?=.*\.)(?=.*[-−–])[.−–\-/|\s]+", re.DOTALL)     # dots and dashes mixed: a message, not a stand-in
_RESIDUE = re.compile(r"""["'(]*<\s*no[\s_-]?(?:in|out)puts?\s*>["')]*[.]?(?:\s*(?:out|in)put:)?""", re.IGNORECASE)
_WHOLE_LIMIT = 200      # characters; the longest whole-field stand-in met has 51
# Prompts for which "None" or "N/A" is an answer: something is looked for, chosen, computed or run.
_MAY_BE_NOTHING = re.compile(
    r"\b(?:none|null|n/a|not applicable|any|which|who|find|identify|extract|list|detect|classify|choose|select|pick|"
    r"label|how (?:many|much)|is there|are there|does|do|did|if|error|mistakes?|return|value|output|code|query|missing|"
    r"determine|locate|spot|check|tell|side effects?|name the)\b|\?|[{}()=;]", re.IGNORECASE)
_OPEN_ENDED = re.compile(
    r"\W*(?:(?:can|could|would) you |please )*(?:what(?:'s| is| are| was| were| do| does| did|"
    r" should| kinds?| makes?)|why|how(?! many| much)|who|where|when|describe|explain|write|create|design|compose|"
    r"tell me|summari[sz]e|give|suggest|draft|outline|discuss|compare|name (?:some|a few|\d|two|three|four|five)|list)\b",
    re.IGNORECASE)
_MAY_BE_NONE = re.compile(
    r"\b(?:none|null|n/a|error|mistake|output|result|return|value|missing|if|any|code|query|function|element|symbol|"
    r"abbreviation|acronym|stand for|side effects?)\b|[{}=;]", re.IGNORECASE)
_ABOUT_STAND_INS = re.compile(r"\b(?:lorem|ipsum|placeholder|dummy|filler|stand-?in|ellips[ie]s|stub|todo|to-do|"
                              r"to do)\b", re.IGNORECASE)
_ABOUT_CODE = re.compile(r"\b(?:code|program|script|print|function|python|java|output of|console|sql|shell|command)\b",
                         re.IGNORECASE)


def _wants_text(prompt: str, given: str) -> bool:
    """Return whether the prompt asks for prose, so that "None" cannot be its answer."""
    return bool(_OPEN_ENDED.match(prompt)) and not given.strip() and not _MAY_BE_NONE.search(prompt)


def _placeholder_in_response(response: str, prompt: str, given: str) -> tuple[str, float] | None:
    """Return (message, score) when the whole response is stand-in text."""
    if len(response) <= _WHOLE_LIMIT:
        if _NOTHING.fullmatch(response):
            if _MAY_BE_NOTHING.search(prompt) and not _wants_text(prompt, given):
                return None
            return (f"The response is only {shorten(response, 20)!r}, though the prompt asks for more.", 0.8)
        if _ABOUT_STAND_INS.search(prompt):
            return None
        if _STAND_IN.fullmatch(response) or _SILENT.fullmatch(response):
            return (f"The response is the stand-in {shorten(response, 40)!r}, not an answer.", 1.0)
        if _NO_OUTPUT_BECAUSE.fullmatch(response) and not _ABOUT_CODE.search(prompt):
            return ("The response says that there is no output instead of answering.", 0.9)
    if _LOREM.match(response) and not _ABOUT_STAND_INS.search(prompt):
        return ("The response is lorem ipsum filler.", 1.0)
    return None


def _residues(found: Findings, i: int, field: str, text: str) -> None:
    """Add a flag for a stand-in token left inside `text`, with a fix where it stands at an end."""
    m = _RESIDUE.search(text)
    if m is None:
        return
    rest = (text[: m.start()] + text[m.end():]).strip()
    at_end = not text[: m.start()].strip() or not text[m.end():].strip()
    found.add(i, f"The stand-in token {shorten(m.group(), 20)!r} was left in the {field}.", field=field, span=m.span(),
              severity="warning", fix=rest if at_end and rest else None, score=0.9)


@check("response.placeholder", reads=("instruction", "input", "response"), severity="error", action="drop", version=2)
def placeholder(rows: pa.Table, *, inputs: bool = True, responses: bool = True) -> pa.Table:
    """A field holds a stand-in ("<noinput>", "N/A", "TODO", "[insert answer here]") instead of text.

    Why: the model learns to say the stand-in; in the input it learns a marker that no user will type.
    Misses: stand-ins with other wording, and templates with blanks that are meant to be filled.
    False positives: "None" as a right answer (let through when the prompt looks for something). An input that is a
    stand-in carries the fix "" and severity warning; a response that is one has no fix.
    Source: CHECKS 18; the phrasings are those of the cleaned Alpaca set.
    """
    found = Findings(rows)
    fields = zip(texts(rows, "instruction"), texts(rows, "input"), texts(rows, "response"))
    for i, (instruction, given, response) in enumerate(fields):
        if inputs and given:
            if len(given) <= _WHOLE_LIMIT and _NO_INPUT.fullmatch(given) and not _MORSE.fullmatch(given):
                found.add(i, f"The input is the stand-in {shorten(given, 30)!r}; it should be empty.", field="input",
                          span=(0, len(given)), severity="warning", fix="")
            elif "<" in given:
                _residues(found, i, "input", given)
        if responses and response:
            hit = _placeholder_in_response(response, instruction, given)
            if hit:
                found.add(i, hit[0], score=hit[1], span=(0, len(response)))
            elif "<" in response:
                _residues(found, i, "response", response)
    return found.table()


# --- truncated -------------------------------------------------------------------------------------------------------

def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words that no English sentence ends with; they tell a cut anywhere but in a title.
_NEVER_LAST = _word_set("""
a an the and or but nor because although whereas unless whose my your his its our their every during via i'm you're
they're we're it's he's there's which that's
""")
#: Words that end few sentences (mostly fewer than 1 in 50 of theirs in Dolly, XSTest and Do-Not-Answer responses): they
#: tell a cut where a finished sentence stands before them and the sentence reads as cut (`_AGREES`).
_RARELY_LAST = _word_set("""
of from into onto than each these very such between among toward towards
to with without for by at on as is are was were be been being has have had having does can could will would shall should
may might must this those some any most more both either neither also so not if when while where how who whom since
until until though per upon against despite about i you're he she they we you it in including include includes called
named known become becomes became make makes made give gives gave get gets provide provides provided allow allows using
based due according consist consists contain contains require requires several many various different certain other
another first new large great main major few numerous additional specific particular often lead leads ensure find avoid
promote create creates significant even within able suggest recognize consult encourage potentially never typically
essential involves involve creating rather especially recommend reduce determine leading related whether usually
depending associated unable causing highly led regarding throughout began ensuring obtain rely generate refer
maintaining largest affect necessarily primarily strive evaluate emphasize depend extremely foster allowing increasing
offering facilitate constantly dealing becoming compared highest involving quite contributing consider considered sounds
comes moves takes means helps seems remains instead therefore however moreover furthermore currently originally don't
doesn't can't isn't aren't won't your that then just like only
""")
_SELDOM_LAST = _NEVER_LAST | _RARELY_LAST
#: Words one of which nearly every sentence holds, but few names, titles and labels.
_OF_SENTENCES = _SELDOM_LAST | _word_set("all no none them him her us me there here what out up down over then too one")
_PRONOUNS = _word_set("you he she it we they i")
# Words after which a sentence may end with a pronoun: "nobody but you", "up to you".
_GOVERNS = re.compile(r"\b(?:but|than|as|to|for|with|by|of|about|from|like|thank|between|among|before|after|on|in|at)\s+$",
                      re.IGNORECASE)
_ENUMERATES = re.compile(r"(?:[^,]+,){2,}[^,]*\band\b(?: [^\s,]+){1,4}$")     # "Help, Yesterday and Let it be"
_NEEDS_MORE = _word_set("to as is are was were be been has have had can could will would should may")
_END_MARKS = ".!?…。！？:;\"'”’»)]}>*`_|~%$€£°™®©"
_CLOSINGS = re.compile(r"\b(?:regards|sincerely|yours|love|best|cheers|thanks|thank you|respectfully|faithfully|truly|"
                       r"wishes|dear|hi|hello|warmly|cordially)\b", re.IGNORECASE)
_CODE_HINT = re.compile(r"[{};]\s*$|^\s*(?:def |class |import |from |#include|SELECT |<\w|\$ |for\s*\(|if\s*\(|"
                        r"return\b|public |function )", re.MULTILINE)
_LAST_WORD = re.compile(r"([^\W\d_]+(?:['’\-][^\W\d_]+)*)\W*$")
# A finished sentence: not an initial, a title ("Dr.") or a list number.
_SENTENCE_BEFORE = re.compile(r"(?:[^\W\d_A-Z]{3}|\d{4}|[)%])[\"'”’]?[.!?][)\"'”’]?\s+(?=[^\W\d_a-z]|[\"“(])")
_CERTAIN = 0.95         # from here on even a prompt for verse or a phrase does not excuse the loose end
_WANTED = 0.8           # share of the warnings on open sentences that is to be right: four in five
_MENTIONED = 0.2        # chance from which on an open sentence is an info
_AGREES = np.log(3)     # evidence that seconds a rule: a cut sentence is three times likelier to read so than a whole one
_SELDOM = 0.05          # share of cut ones among open sentences in a set written by people; taken where no set is at hand
_UNMARKED = re.compile(r"#\w|https?:|www\.|\s\d{1,2}[.)]\s|\be\.g\.|:\s")
_LINK_LABEL = re.compile(r"(?:learn|read|see|show|view|find out|click (?:here )?for) more$", re.IGNORECASE)
_CLOSED_QUOTE = re.compile(r"(?:[.!?]|(?<!\w)['‘][^'‘’\n]+)['’]$")
# A "to" that another one leaves behind: "someone to talk to", "easy to relate to".
_LEFT_BEHIND = re.compile(r"\bto [^\W\d_]+(?: [^\W\d_]+)? to$", re.IGNORECASE)
_NUMBERED = re.compile(r"\s*(?:step|day|week|part|phase|stage|tip)\s+\d{1,3}\s*[.:)-]\s+", re.IGNORECASE)
_LISTED = re.compile(r"\s*(?:[-*•–]|\(?\d{1,3}[.):]|[a-zA-Z][.)])\s")
_VERSE = re.compile(r"\b(?:poem|song|lyrics?|haiku|verse|rap|limerick|sonnet|ode|rhyme|couplet|ballad|chorus|chant|"
                    r"slogan|title|headline|tagline|hashtags?|caption|acronym|complete the|fill in|blank|finish the|"
                    r"sentence starter|begin|start(?:ing)? (?:of|line|sentence)|opening|regular expression|word|phrase|"
                    r"preposition|conjunction|translate)\b", re.IGNORECASE)


def _open_fence(text: str) -> int | None:
    """Return where the last code fence starts when the fences of `text` do not pair up."""
    fences = [m.start() for m in re.finditer(r"^[ \t]*```", text, re.MULTILINE)]
    return fences[-1] if len(fences) % 2 else None


def _open_bracket(line: str) -> int | None:
    """Return where the last unmatched opening bracket of `line` stands."""
    stack: list[int] = []
    for k, c in enumerate(line):
        if c in "([{":
            stack.append(k)
        elif c in ")]}" and stack:
            stack.pop()
    return stack[-1] if stack else None


def _cut(text: str, prompt: str, min_words: int) -> tuple[int, str, float] | None:
    """Return (start of the loose end, reason, score) when `text` stops before it is done."""
    body = text.rstrip()
    if not body:
        return None
    fence = _open_fence(body) if "```" in body else None
    if fence is not None:
        return fence, "a code fence is opened and never closed", 1.0
    if (body[-1] in _END_MARKS and body[-1] not in ":'") or body.count(" ") < min_words - 1 or _CLOSED_QUOTE.search(body[-200:]):
        return None
    tail = body[-600:]
    line = tail[tail.rfind("\n") + 1:]
    n = len(line.split())
    start = len(body) - len(line)
    if _CODE_HINT.search(body) or (n <= 6 and _CLOSINGS.search(line)):
        return None
    loose = _loose_end(line, n) if n >= 4 else None
    if loose is None and start == 0 and n >= min_words:
        loose = _dangling(line)
    if loose is None:
        return _surely_cut(body, prompt)
    where, reason, score = loose
    if score < _CERTAIN and _VERSE.search(prompt):
        return None
    return start + where, reason, score


def _dangling(line: str) -> tuple[int, str, float] | None:
    """Return the loose end of a response of one line that stops after "to", "as" or a verb that needs more."""
    word = _LAST_WORD.search(line)
    listed = _LISTED.match(line) or _ENUMERATES.match(line) or _UNMARKED.search(line)
    if word and word.group(1) in _NEEDS_MORE and word.end() == len(line) and not listed and (
            3 * line.count(",") < len(line.split())) and not _LEFT_BEHIND.search(line) and evidence([line])[0] >= _AGREES:
        return word.start(1), f"it ends with {word.group(1)!r}", 0.8
    return None


def _open_sentence(body: str, prompt: str) -> int | None:
    """Return where the last sentence of `body` starts when it lacks the mark that the sentences before it have.

    Or the last line, when it ends with a word that few sentences end with. Only running text: no title, label, name, list
    item beside unmarked ones, verse or code.
    """
    tail = body[-2000:]
    line = tail[tail.rfind("\n") + 1:]
    if not line or not line[-1].islower() or _VERSE.search(prompt) or _CODE_HINT.search(body):
        return None
    marker = _LISTED.match(line) or _NUMBERED.match(line)
    at = max((m.end() for m in _SENTENCE_BEFORE.finditer(line, marker.end() if marker else 0)), default=-1)
    alone = False       # all other lines are sentences with their marks: then even what looks like a name is the start of one
    if at < 0:
        at = marker.end() if marker else 0
        before = [x for x in (y.rstrip(" \t\"'”’)*_") for y in body[: len(body) - len(line)].splitlines()) if x]
        marked = before and before[-1][-1] in ".!?" and all(x[-1] in ".!?:" or len(x.split()) < 4 for x in before)
        alone = len(before) >= 3 and not marker and all(x[-1] in ".!?" and len(x.split()) >= 4 for x in before)
        rare = before and line.rpartition(" ")[2] in _SELDOM_LAST and len(line[at:].split()) >= 4
        if not (marked or rare):
            return None
    words = line[at:].split()
    if len(words) < 2 or _UNMARKED.search(line[at:]) or "#" in line or _LINK_LABEL.match(line[at:]):
        return None
    if not alone and (not words[-1].islower() or _OF_SENTENCES.isdisjoint(w.strip(",;\"'").lower() for w in words)):
        return None     # a name, a title, a label
    return len(body) - len(line) + at


def _surely_cut(body: str, prompt: str) -> tuple[int, str, float] | None:
    """Return (start, reason, score) of a last sentence that is cut even if people forgot most of the marks."""
    at = _open_sentence(body, prompt)
    if at is None or (sure := float(chance(evidence([body[at:]]), _SELDOM)[0])) < _WANTED:
        return None
    return at, f"its last sentence stops after {shorten(body[at:].split()[-1], 30)!r}, where sentences seldom end", min(sure, 0.9)


def _fragment(line: str, word: re.Match[str]) -> tuple[int, str, float] | None:
    """Return the loose last sentence of a line that holds finished sentences before it."""
    marker = _LISTED.match(line)
    before = [m.end() for m in _SENTENCE_BEFORE.finditer(line, marker.end() if marker else 0)]
    if not before:
        return None
    at, last = before[-1], word.group(1)
    token = last.lower().replace("’", "'")
    rare = token in _RARELY_LAST and not (token in _PRONOUNS and _GOVERNS.search(line[at: word.start(1)]))
    rare = rare and not _LINK_LABEL.match(line[at:]) and evidence([line[at:]])[0] >= _AGREES
    if (rare or token in _NEVER_LAST) and (last.islower() or at == word.start(1)):
        return at, f"its last sentence ends with {last!r}", 0.9
    return None


def _loose_end(line: str, n: int) -> tuple[int, str, float] | None:
    """Return (start, reason, score) for the last line of a prose response, which has `n` words."""
    last = line[-1]
    if last == ",":
        return len(line) - 1, "it ends with a comma", 0.9
    if last == ":" and n >= 5 and not line.lstrip().startswith(("if ", "for ", "while ", "else", "elif ", "with ")):
        return len(line) - 1, "it ends with a colon and nothing follows", 0.8
    if last in "–—&([-" and n >= 5 and re.search(r"[^\W\d_]{2}", line[-20:]) and (last not in "-[" or line[-2].isspace()):
        return len(line) - 1, f"it ends with {last!r}", 0.9
    word = _LAST_WORD.search(line)
    if word and not line[word.start(1) - 1: word.start(1)].isdigit():
        token = word.group(1).lower().replace("’", "'")
        if token in _NEVER_LAST and word.group(1).islower():
            return word.start(1), f"it ends with {word.group(1)!r}, in the middle of a sentence", 0.95
        fragment = _fragment(line, word)
        if fragment:
            return fragment
    bracket = _open_bracket(line)
    if bracket is not None and line[bracket] == "(" and 1 < len(line) - bracket < 200 and not _LISTED.match(line):
        return bracket, f"the bracket {line[bracket]!r} is never closed", 0.85
    return None


_FEWEST = 6     # words of a response from which on it can break off, unless the option says otherwise


@check("response.truncated", reads=("instruction", "input", "response"), severity="warning", action="review", version=3)
def truncated(rows: pa.Table, *, min_words: Count = _FEWEST) -> pa.Table:
    """The response stops before it is done.

    Why: the model learns to stop in the middle of a sentence.
    Misses: cuts that fall after a word which may end a sentence (response.end_mark); cuts between two sentences.
    False positives: notes that end with a loose word. A missing end mark alone is none of its business; titles, labels,
    lists, verse, letters, code and lines quoted from the input are let through.
    Source: CHECKS 19, whose plain rule (no end mark) is wrong on 23 % of the clean Dolly rows; sentences are judged by a
    head learnt from whole sentences and the same ones cut (curation/ending.py, benchmarks/ending.py).
    """
    found = Findings(rows)
    for i, (response, prompt) in enumerate(zip(texts(rows, "response"), texts(rows, "instruction"))):
        cut = _cut(response, prompt, min_words)
        if cut:
            start, reason, score = cut
            if score != 1.0 and _quotes_the_end(response, rows["input"][i].as_py() or ""):
                continue
            found.add(i, f"The response breaks off: {reason}.", score=score, span=(start, len(response.rstrip())))
    return found.table()


_TAKEN = 10_000     # rows whose texts are held at a time


@check("response.end_mark", reads=("instruction", "input", "response"), severity="info", action="review", scope="dataset")
def end_mark(rows: pa.Table, past: Past) -> pa.Table:
    """The last sentence lacks its end mark: cut off, or only forgotten; how likely is which, the set tells.

    Why: a model learns to stop in the middle from cut responses; a forgotten full stop does little harm.
    How: a head says how far the words read like the end of a sentence. From all such rows together it is estimated, without
    labels, how many of them were cut: where people wrote the set hardly any, where a limit on tokens cut the responses
    nearly all. The likeliest are warnings, as many as are expected to be right four times in five together with the rows
    that response.truncated flags, which are left to it; from a chance of .2 on the others are infos. The score is the chance.
    Misses: cuts after a whole clause, in a set whose writers often leave the mark out.
    False positives: sentences of words that the head never met. A set put together from very different sources has one share.
    Source: benchmarks/ending.py; the measured numbers are in docs/responses.md.
    """
    known = _known_open_sentences(rows, past)
    at = known["at"]
    share = share_cut(known["evidence"])
    sure = chance(known["evidence"], share)
    cut = cut_off(sure, right=_WANTED)
    said = ~known["told"] & (cut | (sure >= _MENTIONED))
    among = f"of {len(at)} such rows in this set about {share:.0%} were cut"
    at, start, end, sure, cut = at[said], known["start"][said], known["end"][said], sure[said], cut[said].tolist()
    reads = {True: " and reads as cut off", False: ": forgotten, or cut off"}
    says = [f"Its last sentence has no end mark{reads[c]} (chance {p:.2f}; {among})." for c, p in zip(cut, sure.tolist())]
    return flags(rows, {"at": at, "field": "response", "start": start, "end": end, "message": says, "score": sure,
                        "severity": ["warning" if c else "info" for c in cut]})


def _known_open_sentences(rows: pa.Table, past: Past) -> dict[str, np.ndarray]:
    """Return what `_open_sentences` does; what was known of earlier rows is not read again."""
    earlier, old = past.earlier, past.load()
    fresh = np.flatnonzero(earlier < 0)
    out = _open_sentences(some(rows, fresh))
    out["at"] = fresh[out["at"]]
    if old is not None:
        place = places(earlier, int(old["rows"][0]))[old["at"]]
        out = {name: np.concatenate([place if name == "at" else old[name], new]) for name, new in out.items()}
        there = np.flatnonzero(out["at"] >= 0)
        order = there[np.argsort(out["at"][there], kind="stable")]
        out = {name: values[order] for name, values in out.items()}
    if worn(past):
        past.save(out | {"rows": np.array([rows.num_rows])})
    return out


def _open_sentences(rows: pa.Table) -> dict[str, np.ndarray]:
    """Return the positions (`at`, ascending) of rows whose last sentence lacks its mark, and where it starts and ends.

    And the evidence that it was cut, and whether response.truncated tells of it.
    """
    found: list[tuple[int, int, int, bool]] = []
    judged = [np.zeros(0)]
    ends = pc.fill_null(pc.match_substring_regex(rows["response"], r"\p{Ll}\s*$"), False)
    at = np.flatnonzero(np.asarray(ends))
    for first in range(0, len(at), _TAKEN):
        part = some(rows.select(["instruction", "input", "response"]), at[first: first + _TAKEN])
        sentences: list[str] = []
        for i, prompt, given, response in zip(at[first: first + _TAKEN].tolist(), *(texts(part, c) for c in part.column_names)):
            body = response.rstrip()
            start = _open_sentence(body, prompt)
            if start is not None and not _quotes_the_end(response, given):
                found.append((i, start, len(body), _cut(response, prompt, _FEWEST) is not None))
                sentences.append(body[start:])
        judged.append(evidence(sentences))
    at, begin, end, told = np.array(found, np.int64).reshape(-1, 4).T
    return {"at": at, "start": begin, "end": end, "evidence": np.concatenate(judged), "told": told.astype(np.bool_)}


def _quotes_the_end(response: str, given: str) -> bool:
    """Return whether the last words of a response stand in the input with their end: a line quoted from it."""
    line = response.rstrip().rpartition("\n")[2]
    return any(len(part) >= _QUOTE and line.endswith(part) for part in map(str.strip, given.splitlines()))


_QUOTE = 8      # characters from which a line of the input at the end of a response counts as quoted


# --- mojibake --------------------------------------------------------------------------------------------------------

_REPAIR = ftfy.TextFixerConfig(
    unescape_html=False, remove_terminal_escapes=False, fix_encoding=True, restore_byte_a0=True,
    replace_lossy_sequences=True, decode_inconsistent_utf8=True, fix_c1_controls=True, fix_latin_ligatures=False,
    fix_character_width=False, uncurl_quotes=False, fix_line_breaks=False, fix_surrogates=True,
    remove_control_chars=False, normalization=None, explain=False,
)
# Controls (not tab, line feed, carriage return), byte order mark, soft hyphen, zero-width space, word joiner and
# Unicode non-characters. Joiners (U+200C, U+200D) and direction marks carry meaning in emoji, Indic and Arabic text.
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff\ufff9-\ufffb\ufffe\uffff"
_CONTROL_RUN = re.compile(f"[{_CONTROLS}]+")
_SUSPECT = re.compile(f"[{_CONTROLS}\ufffd]")
_NO_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")   # Thai, Lao, Burmese, Khmer: U+200B breaks lines
_LOST = "\ufffd"


def _changed(old: str, new: str) -> tuple[int, int]:
    """Return the span of `old` outside its common start and end with `new`."""
    start = 0
    for a, b in zip(old, new):
        if a != b:
            break
        start += 1
    end, least = len(old), min(len(old), len(new)) - start
    back = 0
    while back < least and old[-1 - back] == new[-1 - back]:
        back += 1
    return start, max(end - back, start)


def _garbled(text: str) -> tuple[tuple[int, int], str | None, str] | None:
    """Return (span, repaired text or None, what is wrong) when `text` carries encoding damage."""
    repaired, reason = text, ""
    if ftfy.badness.is_bad(text):
        repaired = ftfy.fix_text(text, _REPAIR)
        if repaired != text:
            reason = "its bytes were decoded with the wrong encoding"
    span = _changed(text, repaired) if reason else None
    if _SUSPECT.search(repaired):
        runs = [m for m in _CONTROL_RUN.finditer(text)
                if not (m.group() == "\u200b" and _NO_SPACES.search(text[max(0, m.start() - 1): m.end() + 1]))]
        if _LOST in text and _LOST in repaired:
            at = text.index(_LOST)
            return (at, at + 1), None, "a character was lost (U+FFFD); only the source can tell which"
        if runs:
            repaired = _CONTROL_RUN.sub(lambda m: "" if m.group() not in "\x0b\x0c" else " ", repaired)
            reason = reason or f"it holds invisible control characters (U+{ord(runs[0].group()[0]):04X})"
            span = span or runs[0].span()
    return (span, repaired, reason) if span else None


@check("response.mojibake", reads=("instruction", "input", "response"), severity="warning", action="fix")
def mojibake(rows: pa.Table) -> pa.Table:
    """A field is garbled: text decoded with the wrong encoding, lost characters, invisible controls.

    Why: the model learns to write "â€™" for an apostrophe, and tokens that no reader sees.
    Misses: damage that looks like a word of another language.
    False positives: texts about encodings. Emoji, maths, joiners and combining marks are let through.
    Source: CHECKS 23; repair by ftfy 6.3 (encoding steps only: quotes, ligatures and line ends stay as they are).
    """
    found = Findings(rows)
    for field in ("instruction", "input", "response"):
        mask = pc.fill_null(pc.match_substring_regex(rows[field], r"[^\x09\x0a\x0d\x20-\x7e]"), False)
        at = np.flatnonzero(np.asarray(mask))
        for i, text in zip(at.tolist(), rows[field].take(pa.array(at)).to_pylist()):
            hit = _garbled(text)
            if hit:
                span, fix, reason = hit
                found.add(i, f"The {field} is garbled: {reason}.", field=field, span=span, fix=fix)
    return found.table()


# --- echo ------------------------------------------------------------------------------------------------------------

_LABEL = re.compile(r"\s*(?:#+\s*)?(?:instruction|question|prompt|user|human|task|q)\s*[:.]\s*", re.IGNORECASE)
_ANSWER_LABEL = re.compile(r"\s*(?:#+\s*)?(?:response|answer|output|assistant|ai|a)\s*:\s*", re.IGNORECASE)
_KEEPS_TEXT = re.compile(
    r"\b(?:re-?write|re-?phrase|re-?word|paraphras\w*|edit\w*|correct\w*|fix\w*|proof-?read|translat\w*|convert\w*|"
    r"punctuat\w*|capitali[sz]\w*|re-?format\w*|format\w*|sort\w*|order|arrange|re-?arrange|extract\w*|quot\w*|copy|"
    r"repeat\w*|echo|continu\w*|complet\w*|gramm\w*|spell\w*|transcri\w*|recite|print|output|return|remove|delete|"
    r"replac\w*|chang\w*|improv\w*|revis\w*|simplif\w*|shorten|summar\w*|highlight|underline|annotat\w*|tag|write|"
    r"generat\w*|add|insert|transform\w*|identify|find|which|clean\w*|modif\w*|restat\w*|combin\w*|merge|join|make|"
    r"fill|adapt|turn|select|choose|rank|organi[sz]e|divide|cite|read|match|delet\w*|same|verbatim|literal\w*|create|"
    r"break|split)\b", re.IGNORECASE)


def _same_start(response: str, prompt: str) -> int | None:
    """Return where `response` goes on after `prompt`, both compared without case and white space differences."""
    k = 0
    n = len(response)
    for word in prompt.split():
        while k < n and response[k].isspace():
            k += 1
        if response[k: k + len(word)].lower() != word.lower():
            return None
        k += len(word)
    return k


@check("response.echo", reads=("instruction", "input", "response"), severity="warning", action="fix")
def echo(rows: pa.Table, *, min_words: Count = 4) -> pa.Table:
    """The response repeats the prompt instead of answering, or before it answers.

    Why: the model learns to say the question again.
    Misses: echoes in other words; prompts of fewer than `min_words` words.
    False positives: questions used as a heading; tasks that keep the text (rewrite, sort, correct) are let through.
    Source: CHECKS 21. The fix cuts the echo off; a response that is nothing but echo has no fix.
    """
    found = Findings(rows)
    fields = zip(texts(rows, "instruction"), texts(rows, "input"), texts(rows, "response"))
    for i, (instruction, given, response) in enumerate(fields):
        label = _LABEL.match(response)
        start = label.end() if label else 0
        key = instruction.lstrip()[:8].lower()
        if key and response[start: start + 40].lstrip()[: len(key)].lower() == key and (
                label or len(instruction.split()) >= min_words):
            _echo_of_instruction(found, i, instruction, given, response, start)
        elif given and len(given) <= len(response) + 4 and len(response) <= len(given) + 4 and (
                len(given.split()) >= 8 and fold(given) == fold(response) and not _KEEPS_TEXT.search(instruction)):
            found.add(i, "The response is the input again, word for word.", span=(0, len(response)), score=0.8)
    return found.table()


def _echo_of_instruction(found: Findings, i: int, instruction: str, given: str, response: str, start: int) -> None:
    end = _same_start(response[start:], instruction)
    if end is None:
        return
    end += start
    if given:
        more = _same_start(response[end:], given)
        end += more or 0
    rest = response[end:]
    if rest[:1].isalnum() or (rest and not start and rest[0] in ",'’-" and instruction[-1:] not in ".?!:"):
        return
    answer = _ANSWER_LABEL.match(rest)
    rest = (rest[answer.end():] if answer else rest.lstrip(" \t:-–—.?!\n")).strip()
    if not rest:
        if not _VERBATIM.search(instruction):
            found.add(i, "The response is the instruction again and answers nothing.", span=(0, len(response)))
    elif "\n" in response[end: end + 3] or answer or start:
        found.add(i, "The response starts by repeating the instruction.", span=(0, end), fix=rest, score=0.9)


_VERBATIM = re.compile(r"\b(?:re-?write|repeat|correct|proof-?read|edit|fix|punctuat\w*|echo|gramm\w*|spell\w*|say)\b",
                       re.IGNORECASE)

# --- loop ------------------------------------------------------------------------------------------------------------

_REFRAIN = re.compile(r"\b(?:poems?|songs?|lyrics?|haiku|verses?|rap|limerick|sonnet|ode|rhym\w*|chorus|chant|mantra|"
                      r"repeat\w*|repetit\w*|pattern|loop|nursery|ballad|anaphora|times|sequence|dna|binary|"
                      r"tongue[- ]twister|onomatopoeia|ascii|table|melody|notes|chords?|script|"
                      r"villanelle)\b", re.IGNORECASE)
_MARKUP = re.compile(r"[<>{}()=;|\\]")
_LONGEST_BLOCK = 400        # words of a repeated block; keeps the search linear in the length of the response
_MIN_ZIP_CHARS = 800        # shorter texts compress too unevenly to tell


def _longest_run(equal: np.ndarray) -> tuple[int, int]:
    """Return (start, length) of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], equal.view(np.int8), [0]))))
    if not len(edges):
        return 0, 0
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    k = int(np.argmax(lengths))
    return int(starts[k]), int(lengths[k])


def _period(words: list[str], min_sentences: int, min_tokens: int) -> tuple[int, int, int, int] | None:
    """Return (first word, words in the run, period, times) of the longest block of words repeated without a break.

    A block of up to 4 words must come `min_tokens` times, a longer one `min_sentences` times.
    """
    n = len(words)
    codes: dict[str, int] = {}
    ids = np.array([codes.setdefault(w, len(codes)) for w in words])
    best = None
    for p in range(1, min(n // min(min_sentences, min_tokens), _LONGEST_BLOCK) + 1):
        times = min_tokens if p <= 4 else min_sentences
        equal = ids[p:] == ids[:-p]
        if np.count_nonzero(equal) < p * (times - 1):
            continue
        start, length = _longest_run(equal)
        if length >= p * (times - 1) and (best is None or length + p > best[1]):
            block = words[start: start + p]
            if any(_MARKUP.search(w) for w in block) or (p == 1 and block[0].endswith(",")):
                continue
            if sum(any(c.isalpha() for c in w) and len(w) > 1 for w in block) * 2 >= p:
                best = (start, length + p, p, (length + p) // p)
    return best


def _adjacent(words: list[str], times: int) -> bool:
    """Return whether some block of 1 to 4 words comes `times` times in a row (cheap test before `_period`)."""
    for p in range(1, 5):
        run = 0
        for a, b in zip(words, words[p:]):
            run = run + 1 if a == b else 0
            if run >= p * (times - 1):
                return True
    return False


def _loop(text: str, min_sentences: int, min_tokens: int) -> tuple[int, int, str, float] | None:
    """Return (start, end, reason, score) of a repetition in `text`."""
    words = text.lower().split()
    n = len(words)
    if n < min(min_tokens, 6):
        return None
    few = len(set(words)) < 0.5 * n
    if few or (n >= 6 and _adjacent(words, min_tokens)):
        hit = _period(words, min_sentences, min_tokens)
        if hit:
            first, length, p, times = hit
            spans = [m.span() for m in re.finditer(r"\S+", text)]
            start, end = spans[first][0], spans[min(first + length, n) - 1][1]
            block = shorten(text[start: spans[first + p - 1][1]], 50)
            return start, end, f"{block!r} comes {times} times in a row", 1.0
    if few:
        return _scattered(text, n, min_sentences)
    return None


def _scattered(text: str, n: int, min_sentences: int) -> tuple[int, int, str, float] | None:
    """Return a sentence that comes back again and again, or text that packs to almost nothing."""
    seen: dict[str, list[str]] = {}
    for s in (s for line in text.splitlines() for s in SENTENCE_END.split(line.strip()) if s):
        if len(s.split()) >= 5:
            seen.setdefault(s.lower(), []).append(s)
    if seen:
        most = max(seen.values(), key=len)
        if len(most) >= min_sentences and len(most) * len(most[0].split()) >= 0.4 * n:
            start = text.index(most[0])
            end = text.rindex(most[-1]) + len(most[-1])
            return start, end, f"{shorten(most[0], 50)!r} comes {len(most)} times", 0.9
    if len(text) >= _MIN_ZIP_CHARS:
        raw = text.encode("utf-8", "surrogatepass")
        ratio = len(zlib.compress(raw)) / len(raw)
        if ratio < 0.12 and not re.search(r"[|{};=<>]", text):
            return 0, len(text), f"it packs to {ratio:.0%} of its size", 0.7
    return None


@check("response.loop", reads=("instruction", "response"), severity="error", action="drop")
def loop(rows: pa.Table, *, min_sentences: Several = 3, min_tokens: Several = 4) -> pa.Table:
    """The response says the same thing over and over.

    Why: a model that has seen loops falls into them when it is unsure.
    Misses: loops in other words; two repetitions.
    False positives: refrains and number patterns; prompts for verse, songs, patterns or tables are let through.
    Source: CHECKS 20: a block of up to 4 words `min_tokens` times in a row, a longer one `min_sentences` times.
    """
    found = Findings(rows)
    for i, (response, prompt) in enumerate(zip(texts(rows, "response"), texts(rows, "instruction"))):
        hit = _loop(response, min_sentences, min_tokens) if len(response) > 12 else None
        if hit and "```" not in response and not _REFRAIN.search(prompt):
            start, end, reason, score = hit
            found.add(i, f"The response loops: {reason}.", span=(start, end), score=score)
    return found.table()
