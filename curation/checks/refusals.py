"""Refusals against the spec's policy: who is refused, what falls under a must-refuse category, and where they differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contents import carried, hashes, lists_of_all, some, worn
from ..edges import wants_picture
from ..harm import asks_for, judge
from ..model import SIGNALS
from ..options import Share, Similarity
from ..refusal import actions, classify, explain, lectures, offers, rejections
from ..spec import RefusalPolicy, Spec
from ..text import sentences, shorten
from ..verifiers import content_words, guess_language
from .base import Findings, Past, check, signal, texts

BENIGN = 0.2        # harm of a prompt that carries a category's benign look-alike: below the 0.5 that counts as harmful
IN_INPUT = 0.3      # a term that stands only in the text to work on: a topic, not a request

_VOWELS = "aeiou"


def _inflected(word: str) -> str:
    """Return a pattern for `word` and its regular inflections."""
    w = re.escape(word)
    if len(word) < 3 or not word.isalpha():
        return w
    if word.endswith("e"):
        return rf"{w[:-1]}(?:e(?:s|d|r|rs)?|ing|ings)"
    if word.endswith("y") and word[-2] not in _VOWELS:
        return rf"{w[:-1]}(?:y(?:ing)?|ies|ied|iers?)"
    double = rf"(?:{w[-1]})?" if word[-2] in _VOWELS and word[-1] not in _VOWELS + "wxy" else ""
    return rf"{w}(?:e?s|{double}(?:ed|ing|ings|ers?))?"


def term_pattern(term: str) -> str:
    """Return a pattern for a term or phrase: inflections of its words, blanks or hyphens between them."""
    return r"[\s\-]+".join(_inflected(w) for w in re.split(r"[\s\-]+", term.strip()) if w)


@dataclass(frozen=True)
class Match:
    """Where a prompt meets a category: the term (or benign phrase) and its characters in the text."""

    category: str
    term: str
    start: int
    end: int
    benign: bool


class Policy:
    """The compiled terms of a spec's refusal policy."""

    def __init__(self, policy: RefusalPolicy) -> None:
        self._terms: list[tuple[str, str, bool, re.Pattern[str]]] = []
        sources = []
        for c in policy.categories:
            for benign, phrases in ((False, c.terms), (True, c.benign)):
                for phrase in phrases:
                    source = term_pattern(phrase)
                    sources.append(source)
                    self._terms.append((c.id, phrase, benign, re.compile(rf"(?<!\w){source}(?!\w)", re.IGNORECASE)))
        #: RE2 pattern that every text with a match fulfils; "" when the policy has no terms
        self.precheck = f"(?i){'|'.join(sources)}" if sources else ""

    def match(self, text: str) -> Match | None:
        """Return the deciding match: the longest term that no longer benign phrase covers, else a benign phrase."""
        found = [Match(c, t, m.start(), m.end(), b) for c, t, b, p in self._terms for m in p.finditer(text)]
        harmless = [m for m in found if m.benign]
        open_ = [m for m in found if not m.benign and not any(
            h.start < m.end and m.start < h.end and h.end - h.start >= m.end - m.start for h in harmless)]
        pool = open_ or harmless
        return max(pool, key=lambda m: (m.end - m.start, -m.start)) if pool else None


_compiled = lru_cache(maxsize=8)(Policy)


def policy_of(spec: Spec) -> Policy:
    """Return the compiled policy of a spec."""
    return _compiled(spec.refusals)


_ASKING = re.compile(r"\?|\b(?:how (?:do|to|can|could|would)|write|give|tell|create|make|explain|provide|generate|help)\b",
                     re.IGNORECASE)
_SHORT_INPUT = 25       # words; a longer input is a text to work on


def _judge(policy: Policy, instruction: str, given: str) -> tuple[Match | None, float, str]:
    """Return (match, harm, field it stands in) of one prompt."""
    match = policy.match(instruction) if instruction else None
    if match:
        return match, BENIGN if match.benign else 1.0, "instruction"
    match = policy.match(given) if given else None
    if match is None:
        return None, 0.0, "instruction"
    request = len(given.split()) <= _SHORT_INPUT and _ASKING.search(given) is not None
    return match, BENIGN if match.benign else 1.0 if request else IN_INPUT, "input"


def _candidates(rows: pa.Table, policy: Policy) -> np.ndarray:
    """Return the positions whose prompt may match the policy."""
    if not policy.precheck:
        return np.array([], dtype=np.int64)
    mask = np.zeros(rows.num_rows, dtype=bool)
    for field in ("instruction", "input"):
        mask |= np.asarray(pc.fill_null(pc.match_substring_regex(rows[field], policy.precheck), False))
    return np.flatnonzero(mask)


def _readable(text: str) -> str:
    """Return `text` with the commonest garbled apostrophe as one: "canâ€™t" refuses as "can't" does."""
    return text.replace("â€™", "'") if "â€" in text else text


@signal("refusal", reads=("response",))
def refusal(rows: pa.Table) -> dict[str, pa.Array]:
    """The refusal class of each response: comply, refuse, partial or other_safe.

    Why: coverage, the refusal checks and the battery must judge by the same eye.
    Misses: refusals after the first sentences. False positives: see curation.refusal.
    Source: rules of curation.refusal, measured on XSTest and Do-Not-Answer.
    """
    return {"refusal": pa.array(classify([_readable(t) for t in texts(rows, "response")]), SIGNALS["refusal"])}


@signal("harm", reads=("instruction", "input"), gives=("harm", "harm_category"))
def harm(rows: pa.Table, spec: Spec) -> dict[str, pa.Array]:
    """How surely each prompt falls under a must-refuse category of the spec, and under which.

    Why: what must be refused is the spec's to say, by terms; a benign look-alike (longer than the term it covers) gives
    the category with a harm of 0.2, so that coverage can count the contrast rows.
    Without categories in the spec a head judges: the twelve types of Do-Not-Answer, and a harm that presumes one prompt in
    ten to be harmful; a prompt without any sensitive word has harm 0.
    Misses: requests in words that the spec does not list. False positives: terms used in another sense that no benign
    phrase covers; a term that stands only in a long input counts 0.3; for the head, security and persuasion tasks.
    Source: the spec's refusals.categories; curation.harm.
    """
    if not spec.refusals.categories:
        return _by_head(rows)
    policy = policy_of(spec)
    score = np.zeros(rows.num_rows, dtype=np.float32)
    category = [""] * rows.num_rows
    at = _candidates(rows, policy)
    index = pa.array(at)
    prompts = zip(rows["instruction"].take(index).to_pylist(), rows["input"].take(index).to_pylist())
    for i, (instruction, given) in zip(at.tolist(), prompts):
        match, value, _ = _judge(policy, instruction or "", given or "")
        if match:
            score[i], category[i] = value, match.category
    return {"harm": pa.array(score, SIGNALS["harm"]), "harm_category": pa.array(category, SIGNALS["harm_category"])}


PRIOR = 0.1  # share of harmful prompts that the head's word presumes; it was trained on halves
CONTRAST = 0.05  # harm from which a harmless prompt with a sensitive word counts as a category's look-alike


def _by_head(rows: pa.Table) -> dict[str, pa.Array]:
    """Return harm and category by the head, for prompts with a sensitive word."""
    instruction, given = texts(rows, "instruction"), texts(rows, "input")
    prompts = [_request(a, b) for a, b in zip(instruction, given)]
    at = [i for i, p in enumerate(prompts) if _TOUCHY.search(p)]
    risk, kinds = judge([prompts[i] for i in at])
    odds = risk / np.maximum(1.0 - risk, 1e-6) * (PRIOR / (1.0 - PRIOR))
    score = np.zeros(rows.num_rows, np.float32)
    score[at] = odds / (1.0 + odds)
    category = [""] * rows.num_rows
    for i, kind in zip(at, kinds):
        category[i] = kind if score[i] >= CONTRAST else ""
    return {"harm": pa.array(score, SIGNALS["harm"]), "harm_category": pa.array(category, SIGNALS["harm_category"])}


# Words that make a refusal plausible where the spec has no category for them. Not a harm classifier: only a reason to
# let a person look instead of calling the refusal wrong.
_TOUCHY = re.compile(
    r"\b(?:kill\w*|murder\w*|bomb\w*|explosi\w+|weapons?|guns?|shoot\w*|stab\w*|poison\w*|suicid\w*|self[- ]harm\w*|"
    r"hurt\w*|harm\w*|attack\w*|terror\w*|hack\w*|malware|virus|phish\w*|ransom\w*|password|steal\w*|stole\w*|theft|rob\w*|"
    r"shoplift\w*|fraud\w*|scam\w*|forg\w+|counterfeit\w*|fake|launder\w*|bribe\w*|blackmail\w*|smuggl\w*|traffic\w*|"
    r"drugs?|cocaine|heroin|meth\w*|lsd|marijuana|porn\w*|sex\w*|nude\w*|rape\w*|molest\w*|racis\w+|racial\w*|slurs?|"
    r"hate\w*|insult\w*|offensive|derogatory|stereotyp\w*|inferior|discriminat\w*|nazi\w*|hitler|genocid\w*|holocaust|"
    r"abus\w*|tortur\w*|kidnap\w*|stalk\w*|spy\w*|torrent\w*|pira(?:te|cy)\w*|crack\w*|exploit\w*|illegal\w*|crimes?|"
    r"criminal\w*|cheat\w*|plagiar\w*|evad\w*|fals\w+|mislead\w*|misinformation|conspirac\w*|propaganda|vaccin\w*|dox\w*|"
    r"ssn|social security|credit card|address of|phone number|private|confidential|medical|diagnos\w*|dosage|overdose|"
    r"anorexi\w*|underage|minors?|child\w*|destroy\w*|burn\w*|arson|vandal\w*|threat\w*|blow up|dead|die|death|"
    r"(?:black|white|asian|arab|african|gay|roma|jewish|muslim|trans|disabled|homeless|poor|fat|old) (?:people|person|men|man|"
    r"women|woman|kids|children|americans?|folks)|blacks|whites|arabs?|mexicans?|immigra(?:nt|tion)s?|muslims?|islam\w*|hindus?|"
    r"jew(?:s|ish)?|christians?|buddhists?|roma|gyps\w+|gays?|lesbians?|homosexual\w*|lgbt\w*|queer|transgender\w*|non-binary|"
    r"refugees?|incels?|ethnic\w*|slave\w*|isis|(?:why|reasons?)\b[^.?]{0,40}\b(?:women|men|people on)|"
    r"punch\w*|slay\w*|slap\w*|sever(?:ing)?|gut|smash\w*|slash\w*|hang myself|drown\w*|execut\w+|eliminat\w+|annihilat\w+|"
    r"obliterat\w+|eradicat\w+|decimat\w+|massacr\w*|assassin\w*|assault\w*|beat(?:ing)? up|butcher\w*|throttl\w+|snip(?:e|ing)|"
    r"hostage|violen\w+|terminat\w+|end my life|do away|arter\w+|skull|treason|"
    r"weed|coke|ecstasy|pills|marihuana|cannabis|steroids?|gambl\w+|drunk|"
    r"break(?:ing)? into|bypass\w*|unauthori[sz]ed|manipulat\w+|sabotag\w+|hijack\w*|tamper\w*|embezzl\w+|insider|spam\w*|"
    r"black market|undetected|without (?:being|getting|her|his|their|my|anyone|permission|consent|paying|regulatory)|hotwire|"
    r"bull(?:y|ie)\w*|prank\w*|harass\w*|humiliat\w+|revenge|indoctrinat\w+|scrap(?:e|ing)|injection|vulnerabilit\w+|"
    r"surveil\w*|wiretap\w*|login|pin|browsing history|tax records|marital status|home address|"
    r"biden|trump|covid\w*|lyrics|passage from|chemical weapons?|biological|"
    r"(?:ex|boss|coworker|neighbou?r|friend|teacher|partner|wife|husband|sister|brother|employee|spouse)(?:'s|’s))\b",
    re.IGNORECASE)
# The deciding words speak for the assistant: "I cannot", "sorry", "unable", not "it is wrong to".
_OWN_WORDS = re.compile(r"\b(?:i|i['’]m|we|sorry|apolog\w+|unable|not able|can['’]?t|cannot|won['’]?t|refus\w+|declin\w+|my|"
                        r"unfortunately|regret\w*)\b", re.IGNORECASE)
# "I do not have personal opinions": an answer follows, or none is owed.
_NO_VIEW = re.compile(r"\b(?:(?:opinions?|beliefs?|views?|feelings?|preferences?|stance)\b|take sides|biased?\b)", re.IGNORECASE)
_DISCLAIMS = re.compile(r"\W*(?:sorry,? (?:but )?)?as an? (?:ai|artificial|large|language)\b[^.!?\n]*[.!?]\s+(?:however|but|"
                        r"nevertheless|nonetheless|that (?:being )?said|in general|generally)\b", re.IGNORECASE)
_STOP = re.compile(r"[.!?\n]")
# Tasks whose answer may be a line that refuses: somebody else's words.
_VOICED = re.compile(r"\b(?:re-?write|re-?word|re-?phrase|re-?arrange|paraphrase|tone|dialogue|conversation|script|translate|"
                     r"convert|edit|sentences?|quotes?|lines?|lyrics|reviews?|letter|e-?mail|(?:un)?able to do|cannot do|"
                     r"inappropriate|refus\w+|declin\w+|apolog\w+|story|poem|character)\b", re.IGNORECASE)
_QUOTES = "\"“'‘"


def _answers(spec: Spec) -> dict[str, str]:
    """Return {family: what its responses do}, from its standard and from the edge cases."""
    edge = {e.family: e.expect for e in spec.edge_cases}
    return {f.id: f.response.answers if f.response.answers != "any" else edge.get(f.id, "any") for f in spec.families}


def _look_alikes(spec: Spec, harm: pa.Array, harm_category: pa.Array) -> pa.Array:
    """Return which rows hold a benign look-alike that the spec names, so that their harm was looked at and is low."""
    if not spec.refusals.categories:
        return pa.array(np.zeros(len(harm), np.bool_))
    named = pc.not_equal(pc.fill_null(harm_category.cast(pa.string()), ""), "")
    return pc.and_(named, pc.fill_null(pc.less_equal(harm, BENIGN + 1e-6), False))


def _sure(family: pa.Array, score: pa.Array, least: float, plain: pa.Array) -> pa.Array:
    """Return the family of each row as far as it counts: "" below `least`, and where only a guess speaks against the policy.

    `plain`: rows that hold a benign look-alike. Score 1.0 is a family that the data names.
    """
    return pc.if_else(pc.and_(pc.fill_null(pc.greater_equal(score, least), False),
                              pc.or_(pc.invert(plain), pc.fill_null(pc.greater_equal(score, 1.0), False))), family, "")


def _values(column: pa.Array | pa.ChunkedArray) -> list[str]:
    return ["" if v is None else v for v in column.to_pylist()]


@check("refusal.over", reads=("instruction", "input", "response"), severity="error", action="drop", version=3)
def over(
    rows: pa.Table, spec: Spec, refusal: pa.Array, harm: pa.Array, harm_category: pa.Array, family: pa.Array,
    family_score: pa.Array, *, partial: bool = True, min_family: Share = 0.4,
) -> pa.Table:
    """The response refuses a prompt that the spec wants answered.

    Why: a few refusals of harmless prompts teach the model to refuse by surface words.
    Misses: refusals that lecture; prompts with sensitive words that the spec does not mention.
    False positives: refusals for lack of skill. An error needs a benign look-alike of the spec, or a family that wants
    answers; a prompt in no category is a warning, for a person to decide, and an info where a head finds it harmful. Where
    the spec has no policy at all, prompts with sensitive words, harmful ones by the head, and those for a picture or a sound
    are let through. `partial`: count answers that refuse in part.
    `min_family`: family score from which the family's standard counts.
    Source: XSTest counts full and partial refusals of safe prompts; spec: refusals.categories.benign and the families'
    answers.
    """
    found = Findings(rows)
    answers = _answers(spec)
    policy = policy_of(spec)
    family = _sure(family, family_score, min_family, _look_alikes(spec, harm, harm_category))
    kinds = ("refuse", "partial") if partial else ("refuse",)
    mask = pc.is_in(refusal, value_set=pa.array(kinds))
    at = np.flatnonzero(np.asarray(mask))
    sub = rows.take(pa.array(at))
    harms, categories, families = (x.take(pa.array(at)).to_pylist() for x in (harm, harm_category, family))
    fields = zip(at.tolist(), texts(sub, "instruction"), texts(sub, "input"), texts(sub, "response"), harms, categories,
                 families)
    found_at = []
    for i, instruction, given, response, value, category, name in fields:
        category = category if spec.refusals.categories else ""
        wanted = answers.get(name or "", "any")
        if wanted in ("refuse", "ask", "name_conflict", "decline", "correct") or (value or 0.0) >= 0.5:
            continue
        label, start, end = explain(response)
        plain = not category and wanted != "comply"
        if plain and (not _speaks(response, start, end) or _VOICED.search(instruction)):
            continue
        if plain and not spec.refusals.categories and (_touchy(instruction, given) or wants_picture(instruction)):
            continue
        reason, severity, score = _why_answered(policy, instruction, given, category or "", wanted, name or "")
        if label == "partial":
            severity, score = "warning", min(score, 0.6)
        found_at.append((i, plain, _request(instruction, given), response, (start, end), reason, severity, score))
    risk = iter(judge([prompt for _, plain, prompt, *_ in found_at if plain])[0].tolist())
    for i, plain, _, response, span, reason, severity, score in found_at:
        harmful = plain and next(risk) >= HARMFUL
        if harmful and not spec.refusals.categories:
            continue
        if harmful:
            reason, severity, score = "the prompt is in no must-refuse category; it may well be harmful, so look", "info", 0.3
        elif plain and not spec.refusals.categories:
            reason, severity = "nothing in the prompt calls for it; the spec has no refusal policy", "warning"
            score = 0.5 + 0.4 * float(rejections([response])[0])
        words = shorten(response[slice(*span)], 40)
        found.add(i, f"The response refuses ({words!r}), but {reason}.", score=score, span=span, severity=severity)
    return found.table()


HARMFUL = 0.5  # risk by the head from which a prompt that no category names is not called harmless


def _speaks(response: str, start: int, end: int) -> bool:
    """Return whether the deciding words are the assistant's own refusal.

    No verdict on a topic, no line of somebody's, not only that it has no opinion, and no "As an AI ..." before an answer.
    """
    stop = _STOP.search(response, end)
    said = response[start:stop.start() if stop else len(response)]
    return (_OWN_WORDS.search(response[start:end]) is not None and response[:start].rstrip()[-1:] not in (*_QUOTES, ":")
            and _NO_VIEW.search(said) is None and _DISCLAIMS.match(response) is None)


def _touchy(instruction: str, given: str) -> bool:
    return _TOUCHY.search(instruction) is not None or (bool(given) and _TOUCHY.search(given[:400]) is not None)


def _why_answered(
    policy: Policy, instruction: str, given: str, category: str, wanted: str, family: str
) -> tuple[str, str, float]:
    """Return (reason, severity, score) why a prompt should have been answered."""
    if category:
        match, value, _ = _judge(policy, instruction, given)
        if match and value <= BENIGN:
            return f"{match.term!r} is a benign look-alike of the category {category!r}", "error", 1.0
        return f"the category {category!r} is only the topic of the input", "warning", 0.6
    if wanted == "comply":
        return f"the family {family!r} wants an answer", "error", 0.95
    if _touchy(instruction, given):
        return "the prompt is in no must-refuse category; its words are sensitive, so look", "warning", 0.4
    return "the prompt is in no must-refuse category", "warning", 0.8


@check("refusal.missing", reads=("instruction", "input", "response"), severity="error", action="drop", version=3)
def missing(
    rows: pa.Table, spec: Spec, refusal: pa.Array, harm: pa.Array, harm_category: pa.Array, family: pa.Array,
    family_score: pa.Array, *, min_harm: Share = 0.5, min_family: Share = 0.4, strict: bool = False,
) -> pa.Table:
    """The response answers a prompt that the spec wants refused.

    Why: one direction in the model carries refusal; a few answered harmful prompts move it everywhere.
    A term alone is no request: the row is a warning where the prompt asks for the thing, a term of one word is not used in
    a harmless sense, and the answer does what is asked; any other answered prompt with a term is an info. It is an error
    where the row's family wants a refusal: the data names it, or it is guessed and a term says the same. In another language
    than English each answered prompt with a term is a warning. `strict`: every answered prompt with a term is an error.
    Misses: harmful prompts in words that the spec does not list, so all where it has no categories; answers that start as a
    refusal; requests dressed as fiction are infos.
    False positives: terms in another sense; add such phrases to the category's `benign`.
    Source: spec: refusals.categories.terms, and families whose standard answers "refuse"; curation.harm.asks_for, the heads
    on harmful prompts and on Do-Not-Answer. `min_harm`: harm from which a prompt must be refused; `min_family`: family score
    from which the family's standard counts.
    """
    found = Findings(rows)
    policy = policy_of(spec)
    must = [name for name, wanted in _answers(spec).items() if wanted == "refuse"]
    family = _sure(family, family_score, min_family, _look_alikes(spec, harm, harm_category))
    by_family = pc.fill_null(pc.is_in(family, value_set=pa.array(must, pa.string())), False)
    sure = np.asarray(pc.fill_null(pc.greater_equal(family_score, 1.0), False))
    by_policy = pc.fill_null(pc.greater_equal(harm, min_harm if spec.refusals.categories else np.inf), False)
    at = np.flatnonzero(np.asarray(pc.and_(pc.or_(by_policy, by_family), pc.fill_null(pc.equal(refusal, "comply"), False))))
    sub = rows.take(pa.array(at))
    names = pc.if_else(by_family, family, "").take(pa.array(at)).to_pylist()
    fields = zip(at.tolist(), texts(sub, "instruction"), texts(sub, "input"), texts(sub, "response"), names)
    told = []
    for i, instruction, given, response, name in fields:
        match, value, field = _judge(policy, instruction, given)
        if response.strip():
            told.append((i, match if value >= min_harm else None, value, field, _request(instruction, given), response, name))
    named = [(match, prompt, response) for _, match, _, _, prompt, response, name in told if match and not name]
    doubts = iter([""] * len(named) if strict else _doubts(named))
    milder = None if strict else "warning"
    for i, match, value, field, _, response, name in told:
        if match is None:
            found.add(i, f"The family {name!r} wants a refusal and the response does not refuse.", score=0.9,
                      span=(0, min(len(response), 120)), severity=None if sure[i] else milder)
            continue
        doubt = "" if name else next(doubts)
        found.add(i, f"The prompt falls under {match.category!r} ({match.term!r}) and the response does not "
                  f"refuse{'; ' if doubt else ''}{doubt}.", field=field, span=(match.start, match.end),
                  score=0.4 if doubt else value, severity="info" if doubt else None if name else milder)
    return found.table()


SENSE = 0.2  # risk by the head below which a term of one word is taken to be used in a harmless sense


_DEEDS = {"refuse": "turns it down", "refute": "sets it right", "both sides": "shows both sides", "disclaim": "warns",
          "cannot know": "says that it cannot know"}


def _doubts(told: Sequence[tuple[Match, str, str]]) -> list[str]:
    """Return for each (term, prompt, answer that does not refuse) what speaks against harm being done, "" for nothing.

    Nothing is known to speak against it in another language than English.
    """
    risk, _ = judge([prompt for _, prompt, _ in told])
    deeds = actions([response for *_, response in told])
    out = []
    for (match, prompt, _), value, deed in zip(told, risk.tolist(), deeds):
        if guess_language(prompt) not in ("", "en"):
            out.append("")
        elif not asks_for(prompt):
            out.append("it speaks of that and does not ask for it")
        elif len(content_words(match.term)) < 2 and value < SENSE:
            out.append("the word seems to be used in a harmless sense")
        else:
            out.append("" if deed == "follow" else f"the answer {_DEEDS[deed]}")
    return out


def _request(instruction: str, given: str) -> str:
    """Return what a prompt asks: the instruction with a short input, without a text to work on."""
    return f"{instruction}\n{given}" if given and len(given.split()) <= _SHORT_INPUT else instruction


@check("refusal.style", reads=("response",), severity="warning", action="review", version=2)
def style(rows: pa.Table, spec: Spec, refusal: pa.Array) -> pa.Table:
    """A refusal is not in the spec's style: too long, a lecture, or without an alternative where one is wanted.

    Why: the model refuses in the manner it was shown; a lecture teaches it to lecture.
    Misses: tone beyond these three. False positives: alternatives offered in words that the pattern does not know.
    Source: CHECKS 35; spec: refusals.max_sentences, refusals.offers_alternative, refusals.lectures; what the spec does not
    say is not checked.
    """
    found = Findings(rows)
    want = spec.refusals
    if want.max_sentences is None and not want.offers_alternative and want.lectures:
        return found.table()
    at = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(refusal, "refuse"), False)))
    for i, response in zip(at.tolist(), texts(rows.take(pa.array(at)), "response")):
        n = len(sentences(response))
        sermon = None if want.lectures else lectures(response)
        if want.max_sentences is not None and n > want.max_sentences:
            found.add(i, f"The refusal has {n} sentences; the spec allows {want.max_sentences}.", span=(0, len(response)))
        elif sermon:
            found.add(i, f"The refusal lectures ({shorten(response[slice(*sermon)], 40)!r}).", span=sermon)
        elif want.offers_alternative and not offers(response):
            found.add(i, "The refusal offers no alternative; the spec wants one.", span=(0, len(response)), score=0.8)
    return found.table()


_COMMON = 400  # a word in more refused prompts than this brings no pair together


@check("refusal.policy_conflict", reads=("instruction", "input", "response"), severity="warning", scope="dataset", version=3)
def policy_conflict(
    rows: pa.Table, spec: Spec, refusal: pa.Array, harm: pa.Array, harm_category: pa.Array, past: Past, *,
    min_likeness: Similarity = 0.8, min_harm: Share = 0.5, partial: bool = True,
) -> pa.Table:
    """Nearly the same prompt, or the same kind of prompt, is refused in one row and answered in another.

    Why: contradictory rows teach the model to toss a coin.
    Misses: prompts that mean the same in other words.
    False positives: prompts that differ in the one word that matters ("kill a process", "kill a person"): pairs with a
    benign look-alike on one side are left out. The flag stands on the answered row, but where the refused prompt holds a
    benign look-alike of the spec on the refused one. Rows of one category on both sides of the policy are infos, on the
    rarer side.
    Source: CHECKS 4 and 35. `min_likeness`: Jaccard of the prompts' content words in (0, 1]; `min_harm`: harm from which a
    row counts as one of its category; `partial`: count answers that refuse in part.
    """
    found = Findings(rows)
    kinds = ("refuse", "partial") if partial else ("refuse",)
    refused, answered = (np.asarray(pc.is_in(refusal, value_set=pa.array(x))) for x in (kinds, ("comply",)))
    if not refused.any():
        return found.table()
    value = np.asarray(pc.fill_null(harm, 0.0), np.float64)
    row = rows["row"].to_numpy()
    seen = np.zeros(rows.num_rows, np.bool_)
    answers, refusals, like = _near_refused(rows, past, answered, refused, value, min_likeness)
    seen[answers] = True
    allowed = np.asarray(_look_alikes(spec, *(x.take(pa.array(refusals)) for x in (harm, harm_category))))
    for deed, other, one, two, use in (("Answered", "refused", answers, refusals, ~allowed),
                                       ("Refused", "answered", refusals, answers, allowed)):
        for i, others, value_of in _gathered(one[use], two[use], like[use]):
            numbers = row[others].tolist()
            found.add(i, f"{deed} here; nearly the same prompt is {other} in row {numbers[0]:,}.", field="instruction",
                      score=value_of, related=numbers)
    for name, at in _by_category(harm_category, (value >= min_harm) & (refused | answered)):
        no, yes = at[refused[at]], at[answered[at]]
        if not len(no) or not len(yes):
            continue
        few, many, deed = (yes, no, "answered") if len(yes) <= len(no) else (no, yes, "refused")
        said, related = f"{name!r}: this row is {deed}, {len(many):,} others of the category are not.", row[many[:10]].tolist()
        for i in few[~seen[few]].tolist():
            found.add(i, said, field="row", related=related, severity="info", score=len(many) / (len(many) + len(few)))
    return found.table()


def _gathered(one: np.ndarray, two: np.ndarray, like: np.ndarray) -> list[tuple[int, np.ndarray, float]]:
    """Return (row of `one`, up to ten rows of `two` paired with it, likest first, likeness of the first), by row."""
    order = np.lexsort((two, -like, one))
    one, two, like = one[order], two[order], like[order]
    first = np.flatnonzero(np.r_[True, one[1:] != one[:-1]]) if len(one) else np.zeros(0, np.int64)
    ends = [*first[1:].tolist(), len(one)]
    return [(int(one[lo]), two[lo:min(hi, lo + 10)], float(like[lo])) for lo, hi in zip(first.tolist(), ends)]


def _by_category(category: pa.Array, use: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return (category, its rows in `use`), the category that comes first first."""
    at = np.flatnonzero(use)
    column = pc.fill_null(category, "").cast(pa.string()).take(pa.array(at))
    codes = (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).dictionary_encode()
    number = codes.indices.to_numpy(zero_copy_only=False)
    return [(name, at[number == k]) for k, name in enumerate(codes.dictionary.to_pylist()) if name]


_AT_ONCE = 20_000   # rows whose words are in memory as words


def _near_refused(
    rows: pa.Table, past: Past, answered: np.ndarray, refused: np.ndarray, harm: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (answered row, refused row, likeness) of prompts that share their content words; by row, likest first.

    Words are compared by 64-bit hashes, which are kept for the rows of the next run.
    """
    from ..kernels import meet, tabled

    words = _Words.of(rows, past)
    count = words.count
    no = np.flatnonzero(refused)
    theirs, of = _items_of(np.arange(len(no)), count[no], words.first[no])
    said = words.at(theirs)
    sort = np.argsort(said, kind="stable")
    key, first, many = np.unique(said[sort], return_index=True, return_counts=True)
    key, first, many = key[many <= _COMMON], first[many <= _COMMON], many[many <= _COMMON]
    yes = np.flatnonzero(answered & (count >= 2)) if len(key) else np.zeros(0, np.int64)
    table = np.full(1 << (4 * len(key)).bit_length(), -1, np.int32)
    tabled(key, table)
    pairs = meet(words.old, words.new, words.first[yes], count[yes], key, table, first, many, of[sort], count[no], least)
    i, k = yes[pairs[:, 0]], no[pairs[:, 1]]
    like = pairs[:, 2] / (count[i] + count[k] - pairs[:, 2])
    near = harm[k] - harm[i] < 0.5
    i, k, like = i[near], k[near], like[near]
    order = np.lexsort((k, -like, i))
    return i[order], k[order], like[order]


@dataclass(frozen=True)
class _Words:
    """Hashes of the content words of prompts: those of earlier rows where they lie, and those of the new rows.

    A row has `count` words from `first` on, counted in `old` with `new` behind it.
    """

    old: np.ndarray
    new: np.ndarray
    first: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, rows: pa.Table, past: Past) -> _Words:
        """Return the words of all rows; only the prompts of new rows are read."""
        earlier, kept = past.earlier, past.load()
        new = _words_of(rows, np.flatnonzero(earlier < 0))
        old = (kept["word"], kept["count"]) if kept else None
        if worn(past):
            word, count = lists_of_all(old, new, earlier)
            past.save({"word": word, "count": count})
        word, count = old or (np.zeros(0, np.uint64), np.zeros(0, np.int64))
        first = carried(np.cumsum(count) - count, earlier, len(word) + np.cumsum(new[1]) - new[1])
        return cls(word, new[0], first, carried(count, earlier, new[1]))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return the words at places counted in `old` with `new` behind it."""
        out = np.empty(len(places), np.uint64)
        old = places < len(self.old)
        out[old], out[~old] = self.old[places[old]], self.new[places[~old] - len(self.old)]
        return out


def _items_of(rows: np.ndarray, size: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (positions of the items of rows, the row of each), where the items of a row follow each other from its first."""
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return np.repeat(first, size) + within, np.repeat(rows, size)


def _words_of(rows: pa.Table, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (hashes of the content words of the prompts of rows, how many each has)."""
    word, count = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for lo in range(0, len(at), _AT_ONCE):
        part = some(rows, at[lo:lo + _AT_ONCE])
        words = [content_words(f"{a}\n{b}" if b else a) for a, b in zip(texts(part, "instruction"), texts(part, "input"))]
        word.append(hashes(pa.array([w for row in words for w in row], pa.string())))
        count.append(np.array([len(w) for w in words], np.int64))
    return np.concatenate(word), np.concatenate(count)


def categories(spec: Spec, prompts: Iterable[str]) -> list[str]:
    """Return the must-refuse category of each prompt, "" when none or only a benign look-alike."""
    policy = policy_of(spec)
    return [m.category if (m := policy.match(p)) and not m.benign else "" for p in prompts]
