"""Consistency inside a family: label forms, wrong labels, shape, boilerplate, spelling, units, dates, language, tone."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contents import carried, places, some, taken, worn
from ..grouping import groups
from ..options import Amount, Count, Majority, Share
from ..spec import ResponseStandard, Spec, ToneGuide
from ..text import fold, sentences, shorten
from ..verifiers import function_words, guess_language
from ..voice import asides, code_spans, quote_spans, spoken, without
from .base import Findings, Past, check, texts


def standard_of(spec: Spec, name: str) -> ResponseStandard:
    """Return what a row of a family owes: the family's own words over those of every response."""
    family = spec.family(name) if name else None
    if family is None:
        return spec.standards
    given = {k: getattr(family.response, k) for k in family.response.model_fields_set}
    return spec.standards.model_copy(update=given)


# --- labels ----------------------------------------------------------------------------------------------------------

LABEL_WORDS = 4         # a label is at most this long once the words around it are taken off
LABEL_CHARS = 60
MOST_LABELS = 12        # CHECKS 6: a closed set has at most 12
_AROUND = frozenset(re.findall(
    r"\S+", "the this that it its is was be a an label labels answer sentiment class category classification output result "
    "review text sentence statement type tag of would i my final correct"))
_NEGATION = re.compile(r"\b(?:not|no|neither|nor|never|un\w+|non)\b|n't", re.IGNORECASE)
_TOKEN = re.compile(r"[^\W_]+(?:['’&/+-][^\W_]+)*|[+-]\d+")


def label_key(response: str) -> str:
    """Return a label without case, punctuation and the words that only lead up to it; "" when it is no label."""
    if len(response) > LABEL_CHARS or "\n" in response.strip():
        return ""
    tokens = _TOKEN.findall(fold(response))
    core = [t for t in tokens if t not in _AROUND] or tokens
    return " ".join(core) if 0 < len(core) <= LABEL_WORDS else ""


@dataclass(frozen=True)
class Labels:
    """The closed label set of a group: key -> commonest form, the key of each row ("" = none of them)."""

    form: dict[str, str]
    share: dict[str, float]     # of the rows with a key, how many have its commonest form
    keys: list[str]
    covered: float              # of all rows, how many carry a label of the set


def labels_of(responses: Sequence[str]) -> Labels | None:
    """Return the closed label set that `responses` draw on, None when they do not."""
    keys = [label_key(r) for r in responses]
    least = max(3, 0.02 * len(keys))
    common = {k: n for k, n in Counter(keys).most_common(MOST_LABELS + 1) if k and n >= least}
    if not 2 <= len(common) <= MOST_LABELS:
        return None
    covered = sum(common.values()) / len(keys)
    if covered < 0.8:
        return None
    surfaces: dict[str, Counter[str]] = defaultdict(Counter)
    for k, r in zip(keys, responses):
        if k in common:
            surfaces[k][r.strip()] += 1
    top = {k: c.most_common(1)[0] for k, c in surfaces.items()}
    return Labels({k: form for k, (form, _) in top.items()}, {k: n / surfaces[k].total() for k, (_, n) in top.items()},
                  [k if k in common else "" for k in keys], covered)


def _shortened(response: str, labels: Labels) -> str:
    """Return the one label that `response` abbreviates or wraps, "" when there is none or more than one."""
    said = " ".join(_TOKEN.findall(fold(response)))
    if not said or len(said.split()) > LABEL_WORDS + 6 or _NEGATION.search(said):
        return ""
    whole = [k for k in labels.form if re.search(rf"(?<!\w){re.escape(k)}(?!\w)", said)]
    longest = [k for k in whole if not any(k != other and k in other for other in whole)]
    begun = [k for k in labels.form if len(said) >= 2 and k.startswith(said)]
    found = longest or begun
    return found[0] if len(found) == 1 else ""


@check("consistency.label_form", reads=("instruction", "input", "response", "family"), severity="warning", action="fix",
       scope="dataset")
def label_form(rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, *, least: Count = 20,
               majority: Share = 0.6, min_family: Share = 0.4) -> pa.Table:
    """The response gives a label of its family in another form than the others: "positive." for "Positive".

    Why: a program that compares strings sees four labels where there are two, and the model learns to vary.
    Where the spec names the labels, constraint.format holds the rows to the letter; here they only get a repair (info).
    Misses: open label sets, and families below `least` rows.
    False positives: short answers that happen to hold a label word; a label set that grows (a rare new label).
    Source: CHECKS 6: at most 12 labels that cover four fifths of the family. `least`: rows a family must have.
    `majority`: share that the commonest form must have; below it the flag is info. The fix is the commonest form.
    """
    found = Findings(rows)
    for shown, name, at in groups(rows, family, family_score, least=least, min_family=min_family):
        responses = texts(taken(rows, at), "response")
        named = standard_of(spec, name).labels if name else ()
        if named:
            _repairs(found, at, responses, named)
            continue
        labels = labels_of(responses)
        if labels is None:
            continue
        for i, key, response in zip(at.tolist(), labels.keys, responses):
            _label_flag(found, i, key or _shortened(response, labels), response, labels, shown, majority)
    return found.table()


def _repairs(found: Findings, at: np.ndarray, responses: Sequence[str], named: Sequence[str]) -> None:
    """Add an info flag with the spec's label as its fix where a response says that label in another form."""
    keys = {label_key(v): v for v in named}
    labels = Labels(keys, dict.fromkeys(keys, 1.0), [], 1.0)
    for i, response in zip(at.tolist(), responses):
        body = response.strip()
        if not body or body in named or len(keys) < len(named):
            continue
        key = label_key(body)
        key = key if key in keys else _shortened(body, labels)
        if key:
            found.add(i, f"{shorten(body, 30)!r} is the label {keys[key]!r} in another form; constraint.format counts it.",
                      span=(0, len(response)), score=0.9, fix=keys[key], severity="info")


def _label_flag(found: Findings, i: int, key: str, response: str, labels: Labels, shown: str, majority: float) -> None:
    body = response.strip()
    if not body or (key and body == labels.form[key]):
        return
    if key:
        share = labels.share[key]
        found.add(i, f"{shorten(body, 30)!r} is written {labels.form[key]!r} in {share:.0%} of the {shown}.",
                  span=(0, len(response)), score=round(max(share, 0.5), 3), fix=labels.form[key],
                  severity=None if share >= majority else "info")
        return
    short = len(body) <= LABEL_CHARS and "\n" not in body
    known = ", ".join(sorted(labels.form.values())[:6])
    if short and labels.covered >= 0.9:
        found.add(i, f"{shorten(body, 30)!r} is none of the labels of the {shown}: {known}.", span=(0, len(response)),
                  score=round(labels.covered, 3), severity=None if labels.covered >= 0.95 else "info")


_FOLDS = 5
_HEAD_ROWS = 20_000     # rows a head is fitted on; more only cost time
_LEAST_KAPPA = 0.5      # agreement of the head with the labels, beyond chance, below which its doubts say nothing
_SURE_KAPPA = 0.7       # ... from which a confident doubt is a warning
_KNOWN = 0.5            # mean probability of a label on its own rows below which it is never proposed
_SURE_MARGIN = 0.5      # probability of the other label over that of the given one, for a warning


@check("consistency.wrong_label", reads=("instruction", "input", "response", "family"), severity="warning", action="review",
       scope="dataset")
def wrong_label(rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, *, least: Count = 60,
                margin: Share = 0.2, min_family: Share = 0.4) -> pa.Table:
    """The label of the row is not the one that the other rows of its family teach.

    Confident learning: a linear head on words and word pairs, fitted on four fifths of the family, gives each row of
    the last fifth a probability for each label. A label's threshold is the mean probability it gets on the rows that
    carry it. A row is doubtful when another label passes its threshold and leads the given one by `margin`.
    Why: a few wrong labels cost more than as many missing rows; nobody sees them by reading.
    Misses: families whose labels do not follow from words (entailment, arithmetic): there the head agrees with too few
    labels and the check stays silent. Families below `least` rows.
    False positives: irony, negation and rare words; a doubt by less than a clear lead is info.
    Source: Northcutt, Jiang, Chuang 2021 (confident learning), with thresholds by class and no pruning by rate.
    """
    found = Findings(rows)
    for shown, name, at in groups(rows, family, family_score, least=least, min_family=min_family):
        sub = taken(rows, at)
        labels = labels_of(texts(sub, "response"))
        if labels is None:
            continue
        named = {label_key(v) for v in standard_of(spec, name).labels} if name else set()
        keep = np.array([bool(k) and (not named or k in named) for k in labels.keys])
        if keep.sum() < least or len({k for k, ok in zip(labels.keys, keep) if ok}) < 2:
            continue
        asked = [f"{b or a}" for a, b in zip(texts(sub, "instruction"), texts(sub, "input"))]
        doubt = doubtful([t for t, ok in zip(asked, keep) if ok], [k for k, ok in zip(labels.keys, keep) if ok])
        if doubt is None:
            continue
        best, lead, kappa = doubt
        for i, b, by in zip(at[keep].tolist(), best, lead.tolist()):
            if b and by > margin:
                sure = by >= _SURE_MARGIN and kappa >= _SURE_KAPPA
                found.add(i, f"The other rows of the {shown} teach {labels.form[b]!r} here (lead {by:.2f}).",
                          score=round(min(1.0, 0.5 + by / 2), 3), severity=None if sure else "info",
                          span=(0, len(rows["response"][i].as_py() or "")))
    return found.table()


def doubtful(asked: Sequence[str], labels: Sequence[str], *, seed: int = 0) -> tuple[list[str], np.ndarray, float] | None:
    """Return (the better label or "" by row, its lead in probability, kappa of the head), None when the head is no judge.

    Rows with the same text fall into one fold, so no row is judged by its own copy.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import cohen_kappa_score
    from sklearn.pipeline import make_pipeline

    names = sorted(set(labels))
    y = np.array([names.index(label) for label in labels])
    _, owner = np.unique(np.array([fold(a) for a in asked], dtype=object).astype(str), return_inverse=True)
    part = np.random.default_rng(seed).permutation(owner.max() + 1)[owner] % _FOLDS
    x = HashingVectorizer(n_features=2**16, ngram_range=(1, 2), alternate_sign=False, norm=None).transform(asked)
    p = np.zeros((len(y), len(names)))
    for k in range(_FOLDS):
        fit, held = np.flatnonzero(part != k)[:_HEAD_ROWS], np.flatnonzero(part == k)
        if not len(held) or len(set(y[fit].tolist())) < len(names):
            return None
        head = make_pipeline(TfidfTransformer(sublinear_tf=True),
                             LogisticRegression(C=10.0, max_iter=300))
        p[held] = head.fit(x[fit], y[fit]).predict_proba(x[held])
    kappa = float(cohen_kappa_score(y, p.argmax(axis=1)))
    if kappa < _LEAST_KAPPA:
        return None
    line = np.arange(len(y))
    threshold = np.array([p[y == k, k].mean() for k in range(len(names))])
    other = p.copy()
    other[line, y] = -1.0
    best = other.argmax(axis=1)
    known = threshold >= _KNOWN      # a class that the head cannot tell is no better answer
    doubt = known[best] & (p[line, best] >= threshold[best]) & (p[line, best] > p[line, y])
    return [names[b] if d else "" for b, d in zip(best, doubt)], p[line, best] - p[line, y], kappa


# --- shape -----------------------------------------------------------------------------------------------------------

_SHAPES: tuple[tuple[str, str, str], ...] = (       # name, what has it, what lacks it; patterns of RE2
    ("list", "a list", r"(?m)^[ \t]*(?:[-*•–]|\d{1,3}[.)])[ \t]+\S"),
    ("heading", "a markdown heading", r"(?m)^#{1,6} \S"),
    ("bold", "bold text", r"\*\*[^*\s][^*]*\*\*"),
    ("fence", "a code block", r"```"),
    ("end", "a full stop at the end", r"[.!?…。！？][\"')\]”’*]*\s*$"),
    ("lower", "a start in lower case", r"^\s*[\"'“‘(\[*]*\p{Ll}"),
)


_LETTER = r"^\s*[\"'“‘(\[*]*\p{L}"     # what begins with a figure has no case
#: a prompt that asks for a list, or for something of each of several things, or holds a list itself
_WANTS_LIST = re.compile(r"\b(?:lists?|listed|bullet\w*|numbered|itemi[sz]e|outline|steps?|each|following|these|those|items|"
                         r"key points)\b|^[ \t]*(?:[-*•–]|\d{1,3}[.)])[ \t]+\S", re.IGNORECASE | re.MULTILINE)


@check("consistency.shape", reads=("instruction", "input", "response", "family"), severity="info", action="review",
       scope="dataset", version=2)
def shape(rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, *, least: Count = 50, uniform: Majority = 0.97,
          spread: Amount = 4.5, min_family: Share = 0.4) -> pa.Table:
    """The response has another shape than its family: length, list, heading, bold, code block, final stop, small first letter.

    Why: style is learnt first; a family answered in two shapes is answered in a mixture.
    Misses: families below `least` rows, and families that have no one shape. Limits the spec sets are constraint.length's.
    False positives: families that mix subtasks. A list is none where the prompt asks for one or holds one. A drift is a fact,
    not a fault, so the flag is info until the spec gives the check a severity of its own.
    Source: CHECKS 8 and 11. `uniform`: share of a family that must agree, in length too, for the rest to be odd.
    `spread`: robust z-score (0.6745 (x - median) /
    MAD, on log words) from which a length is odd; 3.5 is the usual mark (Iglewicz, Hoaglin 1993), lengths have long tails.
    """
    found = Findings(rows)
    for shown, name, at in groups(rows, family, family_score, least=least, min_family=min_family):
        sub = pc.fill_null(taken(rows["response"], at), "")
        empty = np.asarray(pc.equal(pc.utf8_trim_whitespace(sub), ""))
        if (~empty).sum() < least:
            continue
        for kind, what, pattern in _SHAPES:
            has = np.asarray(pc.match_substring_regex(sub, pattern))
            share = has[~empty].mean()
            if share >= uniform or share <= 1 - uniform:
                odd = ~empty & (has != (share >= uniform))
                odd &= ~_asked_for_list(rows, at, odd) if kind == "list" else True
                odd &= np.asarray(pc.match_substring_regex(sub, _LETTER)) if kind == "lower" else True
                common = max(share, 1 - share)
                message = (f"No {what.removeprefix('a ')}; {common:.0%} of the {shown} have {what}." if share >= uniform else
                           f"The response has {what}; {common:.0%} of the {shown} have none.")
                for k in np.flatnonzero(odd).tolist():
                    text = sub[k].as_py()
                    found.add(int(at[k]), message, score=round(float(common), 3), span=_where(kind, pattern, text))
        standard = standard_of(spec, name)
        if standard.min_words is None and standard.max_words is None:
            _lengths(found, at, sub, empty, shown, spread, 1 - uniform)
    return found.table()


def _asked_for_list(rows: pa.Table, at: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """Return (n,) bool: the rows among the odd ones of a group whose prompt asks for a list or is one."""
    out, where = np.zeros(len(at), bool), np.flatnonzero(odd)
    sub = taken(rows.select(["instruction", "input"]), at[where])
    out[where] = [bool(_WANTS_LIST.search(f"{a}\n{b}")) for a, b in zip(texts(sub, "instruction"), texts(sub, "input"))]
    return out


def _where(kind: str, pattern: str, text: str) -> tuple[int, int]:
    if kind == "end":
        return max(0, len(text.rstrip()) - 20), len(text.rstrip())
    if kind == "lower":
        return 0, min(len(text), 20)
    m = re.search(pattern, text)
    return m.span() if m else (0, len(text))


def _lengths(found: Findings, at: np.ndarray, sub: pa.ChunkedArray, empty: np.ndarray, shown: str, spread: float,
             most: float) -> None:
    """Add a flag for each odd length, unless more than the share `most` of the group are odd: then it has no one length."""
    n = np.asarray(pc.count_substring_regex(sub, r"\S+"))
    logs = np.log1p(n.astype(float))
    middle = float(np.median(logs[~empty]))
    mad = max(float(np.median(np.abs(logs[~empty] - middle))), 0.15)     # a family of one-word labels has a MAD of 0
    z = 0.6745 * (logs - middle) / mad
    odd = ~empty & (np.abs(z) > spread)
    for k in np.flatnonzero(odd).tolist() if odd.sum() <= most * (~empty).sum() else ():
        found.add(int(at[k]), f"{n[k]} words; half of the {shown} have between {np.expm1(middle - mad):.0f} and "
                  f"{np.expm1(middle + mad):.0f}.", score=round(min(1.0, abs(float(z[k])) / (2 * spread)), 3),
                  span=(0, len(sub[k].as_py())))


# --- boilerplate -----------------------------------------------------------------------------------------------------

_MAKERS = r"(?:OpenAI|Anthropic|Google(?: DeepMind)?|Meta(?: AI)?|Microsoft|Mistral(?: AI)?|Alibaba|Cohere|DeepSeek|xAI)"
_MACHINE = (r"(?:(?:large |conversational |virtual |digital |artificial |computer |text-based |intelligent |helpful |"
            r"advanced |honest )*(?:AI\b(?:[- ](?:powered|based|driven))?|A\.I\.|artificial intelligence\b|language model\b|"
            r"machine learning model\b|LLM\b|chat ?bot\b|GPT\b|(?:virtual|digital) assistant\b)"
            r"(?: (?:large )?(?:language |chat ?)?(?:model|assistant|chat ?bot|bot|program|system|tool|agent|companion))?)")
#: the response speaks of itself as a machine
SELF = re.compile(
    rf"\b(?:(?:as|being|since I(?: am|['’]m)|because I(?: am|['’]m)|given that I(?: am|['’]m)|although I(?: am|['’]m)|"
    rf"while I(?: am|['’]m)|I(?: am|['’]m))(?: \w+ly)?(?: just| only| merely| simply)? an? {_MACHINE}"
    rf"|I(?: am|['’]m) (?:Chat ?GPT|GPT-?\d|Claude|Bard|Gemini|LLaMA|Llama|Copilot|Bing)\b"
    rf"|(?:I was|I am|I['’]m|model|assistant|AI),? (?:\w+ )?(?:trained|developed|created|made|built|designed) by {_MAKERS}"
    rf"|as of my (?:last|latest|most recent|knowledge|training) (?:\w+ )?(?:update|cut-?off|training|data)"
    rf"|my (?:knowledge|training)(?: data)? (?:cut-?off|only goes|ends|ended|was last|is limited|does not (?:go|extend|include))"
    rf"|my (?:training data|programming) (?:only|does|did|was|is|do)"
    rf"|I was last (?:updated|trained)"
    rf"|(?:do not|don['’]t) have (?:access to )?(?:real-time|up-to-date|current) (?:information|data|access))", re.IGNORECASE)
_QUICK_SELF = (
    r"(?i)\b(?:AI|A\.I\.|artificial intelligence|language model|machine learning model|LLM|chat ?bot|(?:Chat ?)?GPT|assistant|"
    r"Claude|Bard|Gemini|LLaMA|Copilot|Bing)\b|OpenAI|Anthropic|my (?:last|latest|knowledge|training|programming)|"
    r"last (?:updated|trained)|(?:real-time|up-to-date|current) (?:information|data|access)")
_ABOUT_AI = re.compile(
    r"\b(?:AI|A\.I\.|artificial intelligence|chat ?bots?|language models?|LLMs?|GPT\S*|OpenAI|robots?|machine learning|"
    r"virtual assistant|digital assistant|voice assistant|assistant|automat\w+|Claude|Gemini|Bard|who are you|what are you|"
    r"your (?:name|creator|developer|training|purpose)|act as|pretend|role-?play|imagine you)\b", re.IGNORECASE)
_TO_YOU = re.compile(r"\b(?:are|do|did|have|can|could|would|were|will) you\b(?! (?:please |kindly )?(?:write|give|tell|explain|"
                     r"provide|help|list|make|create|describe|suggest|summari|recommend|generate|name|translate))|"
                     r"\byour (?:favou?rite|opinion|thoughts?|view|day|dream|feelings?|experience|life|family)|"
                     r"\byou (?:feel|think|believe|prefer|like|love|hate|remember|enjoy)\b", re.IGNORECASE)
#: what follows the confession and starts the answer proper
_TURN = re.compile(r",? (?:but|however|nevertheless|that said|still|yet),? (?:(?:I can (?:say|tell you|offer|share|provide)"
                   r"(?: you)?(?: that)?|it is (?:generally|widely) (?:said|thought) that|here(?:'s| is| are))[,:]? )?"
                   r"|,? I can (?:say|tell you|confirm|inform you)(?: that)?[,:]? ", re.IGNORECASE)
_OPENERS = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|absolutely|definitely|okay|ok|great question|good question|great|"
    r"i(?:'d| would) be (?:happy|glad|delighted) to help(?: you)?(?: with that)?|happy to help|"
    r"thank you for (?:your question|asking|reaching out)|glad you asked)"
    r"(?: thing)?[!.,](?!\w)\s*)+(?=\S)", re.IGNORECASE)
_CLOSERS = re.compile(
    r"\s*(?:(?:i hope (?:this|that|it)(?: \w+)? (?:helps|helped|is helpful|answers your question)|"
    r"(?:please )?(?:feel free to|don['’]t hesitate to|do not hesitate to) (?:ask|reach out|contact|let me know)[^.!?\n]{0,60}|"
    r"(?:please )?let me know if you (?:have|need|would like|want|'d like)[^.!?\n]{0,60}|"
    r"is there anything else (?:i can|you)[^.!?\n]{0,40}|if you (?:have|need) (?:any|more|further)[^.!?\n]{0,40}"
    r"(?:feel free|let me know|don['’]t hesitate|just ask)[^.!?\n]{0,40})[.!?]?\s*)+\Z", re.IGNORECASE)
HEAD = 200              # characters in which a confession counts as an opening (CHECKS 9)
_REST_WORDS = 3         # words that must stay after a repair


@check("consistency.boilerplate", reads=("instruction", "input", "response"), severity="warning", action="fix")
def boilerplate(rows: pa.Table, refusal: pa.Array, *, fillers: bool = False) -> pa.Table:
    """The response answers, but first confesses to be a machine, names its maker or its knowledge cut-off.

    Why: five such rows in a hundred and the model opens everything with them.
    Misses: personas other than a machine. Refusals are not looked at: refusal.style is about those.
    False positives: characters in a story who are machines. Prompts about AI are left alone; prompts that ask "you" for
    an opinion or a life are info, for there the confession may be the honest answer.
    Source: CHECKS 9: phrases within the first 200 characters; later ones are info. `fillers`: also report "Sure!" and
    "I hope this helps" (info, with a fix). The fix drops the confession where the answer proper begins at a clear turn.
    """
    found = Findings(rows)
    mask = np.asarray(pc.fill_null(pc.match_substring_regex(rows["response"], _QUICK_SELF), False))
    classes = refusal.to_pylist()
    at = [i for i in np.flatnonzero(mask).tolist() if classes[i] in ("comply", "other_safe", "partial")]
    sub = rows.take(pa.array(at, pa.int64()))
    for i, instruction, given, response in zip(at, texts(sub, "instruction"), texts(sub, "input"), texts(sub, "response")):
        m = SELF.search(response)
        if m is None or _ABOUT_AI.search(instruction) or _ABOUT_AI.search(given[:500]) or _quoted(response, m.start()):
            continue
        early = m.start() < HEAD
        fix = without_confession(response, m) if early else None
        personal = _TO_YOU.search(instruction) is not None or (classes[i] != "comply" and fix is None)
        found.add(i, f"The response speaks as a machine: {shorten(m.group(), 50)!r}.", span=m.span(),
                  score=0.95 if early else 0.7, fix=fix, severity=None if early and not personal else "info")
    if fillers:
        _fillers(found, rows)
    return found.table()


def _quoted(text: str, at: int) -> bool:
    """Return whether position `at` lies inside a quotation."""
    before = text[:at]
    return before.count('"') % 2 == 1 or before.count("“") > before.count("”")


def without_confession(response: str, m: re.Match[str]) -> str | None:
    """Return `response` from where the answer proper begins, None when no clear turn marks the place."""
    if response[: m.start()].strip(" \n\"'“,") not in ("", "Sorry", "I'm sorry", "Please note that"):
        return None
    stop = re.search(r"[.!?](?:\s+|$)", response[m.end():])
    end_of_sentence = m.end() + stop.end() if stop else len(response)
    turn = _TURN.search(response, m.end(), end_of_sentence)
    rest = response[turn.end():] if turn else response[end_of_sentence:]
    rest = re.sub(r"\A(?:however|but|that said|nevertheless),? ", "", rest.lstrip(" :,\n"), flags=re.IGNORECASE)
    if len(rest.split()) < _REST_WORDS or SELF.search(rest[:HEAD]):
        return None
    return rest[0].upper() + rest[1:]


def _fillers(found: Findings, rows: pa.Table) -> None:
    for i, response in enumerate(texts(rows, "response")):
        for pattern, what in ((_OPENERS, "opens"), (_CLOSERS, "ends")):
            m = pattern.search(response)
            if m is None:
                continue
            rest = (response[m.end():] if what == "opens" else response[: m.start()]).strip()
            if len(rest.split()) >= _REST_WORDS:
                found.add(i, f"The response {what} with filler: {shorten(m.group(), 40)!r}.", span=m.span(), score=0.8,
                          fix=rest[0].upper() + rest[1:], severity="info")


# --- spelling, units, dates ------------------------------------------------------------------------------------------

#: verbs in -ize of which the British form is always -ise; those in -ise everywhere (advise, exercise, promise) are none of them
_IZE = re.findall(r"\S+", """
agon antagon apolog author brutal burglar canon capital caramel categor central character civil colon commercial computer critic
crystall custom decentral demon digit disorgan dramat econom emphas energ equal familiar fantas fertil final formal general global
harmon homogen hospital human hypothes ideal immun industrial initial internal item legal liberal local magnet marginal material
maxim mechan memor mesmer metabol minim mobil modern monet monopol moral national natural neutral normal optim organ ostrac oxid
pasteur patron penal personal philosoph plagiar polar popular pressur priorit privat public pulver random rational real recogn
reorgan revital revolution romantic sanit scrutin sensit serial social special stabil standard steril stigmat strateg styl subsid
summar symbol sympath synchron synthes tantal terror theor token trivial urban util vandal verbal victim visual vocal
""")
_IZE_ENDS = ("e", "es", "ed", "ing", "er", "ers", "ation", "ations")
# Pairs US/UK. Words that are right in both (practice, program, check, meter, tire, draft, license as a verb) are left out.
_PAIRS = dict(re.findall(r"(\S+)/(\S+)", """
color/colour colors/colours colored/coloured coloring/colouring colorful/colourful favor/favour favors/favours favored/favoured
favorite/favourite favorites/favourites favorable/favourable flavor/flavour flavors/flavours flavored/flavoured
flavorful/flavourful honor/honour honors/honours honored/honoured honorable/honourable humor/humour labor/labour
neighbor/neighbour neighbors/neighbours neighborhood/neighbourhood neighborhoods/neighbourhoods behavior/behaviour
behaviors/behaviours behavioral/behavioural harbor/harbour rumor/rumour rumors/rumours savor/savour vapor/vapour vigor/vigour
odor/odour odors/odours armor/armour endeavor/endeavour endeavors/endeavours center/centre centers/centres centered/centred
theater/theatre theaters/theatres fiber/fibre fibers/fibres liter/litre liters/litres kilometer/kilometre kilometers/kilometres
centimeter/centimetre centimeters/centimetres millimeter/millimetre millimeters/millimetres meters/metres
defense/defence offense/offence pretense/pretence traveled/travelled traveling/travelling traveler/traveller
travelers/travellers canceled/cancelled canceling/cancelling labeled/labelled labeling/labelling modeling/modelling
modeled/modelled fueled/fuelled jewelry/jewellery skillful/skilful fulfill/fulfil enrollment/enrolment enroll/enrol
gray/grey mold/mould plow/plough pajamas/pyjamas skeptical/sceptical skeptic/sceptic aluminum/aluminium
maneuver/manoeuvre estrogen/oestrogen pediatric/paediatric anemia/anaemia encyclopedia/encyclopaedia
organize/organise organizes/organises organized/organised organizing/organising organization/organisation
organizations/organisations realize/realise realizes/realises realized/realised realizing/realising recognize/recognise
recognizes/recognises recognized/recognised recognizing/recognising minimize/minimise minimizing/minimising
maximize/maximise maximizing/maximising optimize/optimise optimizing/optimising optimization/optimisation
summarize/summarise summarizes/summarises summarized/summarised emphasize/emphasise emphasizes/emphasises
emphasized/emphasised prioritize/prioritise prioritizing/prioritising customize/customise customized/customised
specialize/specialise specialized/specialised utilize/utilise utilizes/utilises utilized/utilised utilizing/utilising
apologize/apologise analyze/analyse analyzes/analyses analyzed/analysed analyzing/analysing paralyzed/paralysed
criticize/criticise criticized/criticised memorize/memorise revolutionize/revolutionise standardize/standardise
visualize/visualise categorize/categorise categorized/categorised civilization/civilisation globalization/globalisation
industrialization/industrialisation catalyze/catalyse paralyze/paralyse paralyzing/paralysing
arbor/arbour ardor/ardour candor/candour clamor/clamour demeanor/demeanour fervor/fervour parlor/parlour rancor/rancour
rigor/rigour savior/saviour saviors/saviours splendor/splendour tumor/tumour tumors/tumours valor/valour vaporize/vaporise
flavoring/flavouring flavorings/flavourings favoring/favouring honoring/honouring harbors/harbours rumors/rumours odors/odours
laborer/labourer laborers/labourers neighboring/neighbouring armored/armoured behaviorally/behaviourally colorless/colourless
caliber/calibre luster/lustre meager/meagre saber/sabre somber/sombre specter/spectre
signaled/signalled signaling/signalling leveled/levelled leveling/levelling marveled/marvelled marveling/marvelling
tunneling/tunnelling quarreled/quarrelled counselor/counsellor counselors/counsellors counseling/counselling fueling/fuelling
totaled/totalled rivaled/rivalled dialed/dialled dialing/dialling unraveled/unravelled
cozy/cosy mustache/moustache artifact/artefact artifacts/artefacts aging/ageing airplane/aeroplane airplanes/aeroplanes
"""))
_PAIRS |= {f"{stem}iz{end}": f"{stem}is{end}" for stem in _IZE for end in _IZE_ENDS}
del _PAIRS["analyzes"]      # "analyses" is also the plural noun, in both
_TO_UK, _TO_US = dict(_PAIRS), {b: a for a, b in _PAIRS.items()}
_MADE = {f"{stem}i{z}{end}" for z in "sz" for stem in _IZE for end in _IZE_ENDS}      # those that a short pattern finds
_US, _UK = (
    rf"(?i)\b(?:{'|'.join(sorted(set(words) - _MADE, key=len, reverse=True))}"
    rf"|(?:{'|'.join(_IZE)})i{z}(?:{'|'.join(_IZE_ENDS)}))\b"
    for words, z in ((_TO_UK, "z"), (_TO_US, "s")))
_MONTH = (r"(?:January|February|March|April|May|June|July|August|September|October|November|December|Jan|Feb|Mar|Apr|Jun|Jul|"
          r"Aug|Sept?|Oct|Nov|Dec)")
_NUMBER = r"\d[\d,.]*[ -]?"
#: kind -> {variant: (RE2 pattern, what to call it)}
_VARIANTS: dict[str, dict[str, tuple[str, str]]] = {
    "spelling": {"us": (_US, "American spelling"), "uk": (_UK, "British spelling")},
    "units": {
        "metric": (rf"(?i){_NUMBER}(?:km|cm|mm|kg|kilomet(?:er|re)s?|centimet(?:er|re)s?|millimet(?:er|re)s?|met(?:er|re)s?|"
                   r"kilograms?|grams?|lit(?:er|re)s?|ml|°C|degrees Celsius|km/h)(?:\b|$)", "metric units"),
        "imperial": (rf"(?i){_NUMBER}(?:miles?|feet|foot|ft|inch(?:es)?|yards?|lbs?|pounds? (?:of|in weight)|ounces?|oz|gallons?|"
                     r"°F|degrees Fahrenheit|mph|fl\.? oz|quarts?|pints?)(?:\b|$)", "imperial units")},
    "dates": {
        "day_first": (rf"\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\.?,? \d{{4}}\b", "dates like 3 June 1986"),
        "month_first": (rf"\b{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}\b", "dates like June 3, 1986"),
        "iso": (r"\b(?:1[5-9]|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\b", "dates like 1986-06-03")},
}
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")
_CONVERTS = re.compile(r"\b(?:convert|conversion|how many|spell|british|american|UK|US|format|metric|imperial|translate|"
                       r"iso|units?)\b", re.IGNORECASE)


@check("consistency.terms", reads=("instruction", "input", "response", "family"), severity="info", action="fix", scope="dataset",
       version=2)
def terms(rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, past: Past, *, least: Count = 20,
          majority: Share = 0.9, min_family: Share = 0.4) -> pa.Table:
    """The response spells, measures or dates in another way than the spec says, or than its family does.

    Why: a reader notices "colour" beside "color" at once, and the model will produce both.
    Misses: words outside the tables (200 pairs, and 140 verbs in -ize with their forms); numeric dates such as 03/04/2020,
    which cannot be told apart.
    False positives: quotations and names ("Labour Party"): a capital inside a sentence is left alone, as are code and
    prompts about spelling, formats or conversion, variants that the prompt itself uses, and measures given in both units.
    Source: CHECKS 10. With a word of the spec (standards.tone.spelling, units, dates) the flag is a warning; by
    `majority` of at least `least` rows that use either, it is info. Spelling and written dates carry a fix.
    """
    found = Findings(rows)
    tone = spec.standards.tone      # where it or a family's own may be set, groups below `least` matter too
    few = 1 if spec.families or any(getattr(tone, kind) != "any" for kind in _VARIANTS) else least
    parts = list(groups(rows, family, family_score, least=few, min_family=min_family))
    said, known = _said(rows, past), _Spans.of(past)
    for kind, variants in _VARIANTS.items():
        uses, stands = ({v: (said[f"{kind} {v}"] & bit) > 0 for v in variants} for bit in (_USES, _STANDS))
        left = np.logical_or.reduce(list(uses.values()))
        for shown, name, at in [*parts, ("the set", "", None)]:
            mine = np.flatnonzero(left) if at is None else at[left[at]]
            wanted = getattr(standard_of(spec, name).tone, kind)
            if wanted == "any" and len(mine) < least:
                continue
            left[mine] = False
            _variants(found, rows, mine, kind, uses, stands, shown, wanted, majority, known)
    if worn(past):
        past.save(said | known.arrays(rows.num_rows))
    return found.table()


_BESIDE = 25                # characters in which a measure in other units is the same one again
_USES, _STANDS = 1, 2      # the response uses a variant; so does its prompt


def _said(rows: pa.Table, past: Past) -> dict[str, np.ndarray]:
    """Return {"kind variant": (n,) uint8 of _USES and _STANDS}, that of earlier rows as it was; code is left out."""
    earlier, old = past.earlier, past.load()
    fresh = np.flatnonzero(earlier < 0)
    part = some(rows, fresh)
    response, instruction, given = (pc.fill_null(part[c], "") for c in ("response", "instruction", "input"))
    apart = np.asarray(pc.match_substring_regex(response, "```"))
    out = {}
    for kind, variants in _VARIANTS.items():
        for variant, (pattern, _) in variants.items():
            new = np.asarray(pc.match_substring_regex(response, pattern)) & ~apart
            at = pa.array(np.flatnonzero(new))
            asked = pc.binary_join_element_wise(instruction.take(at), given.take(at), "\n")
            stands = np.asarray(pc.match_substring_regex(asked, pattern))
            mine = np.where(new, _USES, 0).astype(np.uint8)
            mine[new] |= np.where(stands, _STANDS, 0).astype(np.uint8)
            name = f"{kind} {variant}"
            out[name] = carried(old[name] if old else None, earlier, mine)
    return out


class _Spans:
    """Where responses use a variant, of (kind, variant, row): those that were looked up, here or in an earlier run."""

    CODES = tuple((kind, v) for kind, variants in _VARIANTS.items() for v in variants)

    def __init__(self, looked: np.ndarray, spans: np.ndarray) -> None:
        """`looked`: (k, 3) int64 of code, row and how many spans; `spans`: (m, 2) start and end, in the same order."""
        self.looked, self.spans = [looked], [spans]
        first = np.cumsum(looked[:, 2]) - looked[:, 2]
        self.known: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []    # of each code: rows, ascending; first span; number
        for code in range(len(self.CODES)):
            mine = np.flatnonzero(looked[:, 0] == code)
            mine = mine[np.argsort(looked[mine, 1], kind="stable")]
            self.known.append((looked[mine, 1], first[mine], looked[mine, 2]))

    @classmethod
    def of(cls, past: Past) -> _Spans:
        """Return what an earlier run looked up, of the rows that are still there."""
        old = past.load()
        if old is None:
            return cls(np.zeros((0, 3), np.int64), np.zeros((0, 2), np.int64))
        looked = old["looked"].copy()
        looked[:, 1] = places(past.earlier, int(old["rows"][0]))[looked[:, 1]]
        there = looked[:, 1] >= 0
        return cls(looked[there], old["spans"][np.repeat(there, looked[:, 2])])

    def arrays(self, rows: int) -> dict[str, np.ndarray]:
        """Return what is known as arrays for a past; `rows`: how many there are."""
        return {"looked": np.concatenate(self.looked), "spans": np.concatenate(self.spans), "rows": np.array([rows])}

    def look(self, rows: pa.Table, kind: str, v: str, at: np.ndarray) -> list[list[list[int]]]:
        """Return the spans of each row at ascending positions `at`, names and quotations aside; to be asked once for each row.

        None where the prompt is about them.
        """
        code = self.CODES.index((kind, v))
        known, first, number = self.known[code]
        place = np.minimum(np.searchsorted(known, at), max(len(known) - 1, 0))
        held = known[place] == at if len(known) else np.zeros(len(at), np.bool_)
        out: list[list[list[int]]] = [[] for _ in range(len(at))]
        spans, lo, n = self.spans[0], first[place[held]], number[place[held]]
        every = spans[np.repeat(lo - np.cumsum(n) + n, n) + np.arange(n.sum())].tolist()
        for k, end, many in zip(np.flatnonzero(held).tolist(), np.cumsum(n).tolist(), n.tolist()):
            out[k] = every[end - many : end]
        self._read(rows, code, at[~held], [out[k] for k in np.flatnonzero(~held).tolist()])
        return out

    def _read(self, rows: pa.Table, code: int, at: np.ndarray, out: list[list[list[int]]]) -> None:
        """Add the spans of rows that were not looked up yet to `out`, and to what is known."""
        kind, v = self.CODES[code]
        part, pattern = taken(rows.select(["instruction", "response"]), at), _VARIANTS[kind][v][0]
        for spans, instruction, text in zip(out, texts(part, "instruction"), texts(part, "response")):
            met = () if _CONVERTS.search(instruction) else _places(pattern, text)
            spans += [[*m.span()] for m in met if not (_is_name(kind, text, m) or _given_in_both(kind, v, text, m))]
        self.looked.append(np.column_stack([np.full(len(at), code), at, [len(spans) for spans in out]]).astype(np.int64))
        self.spans.append(np.array([span for spans in out for span in spans], np.int64).reshape(-1, 2))


def _variants(found: Findings, rows: pa.Table, at: np.ndarray, kind: str, uses: dict[str, np.ndarray],
              stands: dict[str, np.ndarray], shown: str, wanted: str, majority: float, known: _Spans) -> None:
    """Add a flag for each row of a group that uses another variant than the wanted or the commonest one."""
    variants = _VARIANTS[kind]
    counts = {v: int(uses[v][at].sum()) for v in variants}
    total = sum(counts.values())
    best = wanted if wanted != "any" else max(counts, key=lambda v: counts[v])
    share = counts[best] / total if total else 0.0
    if wanted == "any" and share < majority:
        return
    why = "the spec asks for" if wanted != "any" else f"{share:.0%} of the {shown.removeprefix('the ')} that use either have"
    score, severity = (1.0, "warning") if wanted != "any" else (round(share, 3), None)
    for v, (_, what) in variants.items():
        if v == best:
            continue
        mine = at[uses[v][at] & ~stands[v][at]]
        if not len(mine):
            continue
        response = texts(taken(rows.select(["response"]), mine), "response")
        for i, text, spans in zip(mine.tolist(), response, known.look(rows, kind, v, mine)):
            if spans:
                start, end = spans[0]
                found.add(i, f"{text[start:end]!r}: {what}; {why} {variants[best][1]}.", span=(start, end), score=score,
                          fix=_respelt(kind, best, text, spans), severity=severity)


def _places(pattern: str, text: str) -> list[re.Match[str]]:
    """Return where a pattern of _VARIANTS is met; spellings are looked up word by word, four times as fast as all at once."""
    words = {_US: _TO_UK, _UK: _TO_US}.get(pattern)
    return [m for m in re.finditer(r"\w+" if words else pattern, text) if words is None or m.group().lower() in words]


def _is_name(kind: str, text: str, m: re.Match[str]) -> bool:
    """Return whether a spelling is part of a name or a quotation: a capital that does not begin a sentence."""
    if kind != "spelling":
        return False
    head = text[: m.start()].rstrip()
    inside = m.group()[0].isupper() and bool(head) and head[-1] not in ".!?:\n-*•" and "\n" not in text[len(head): m.start()]
    return inside or _quoted(text, m.start())


def _given_in_both(kind: str, v: str, text: str, m: re.Match[str]) -> bool:
    """Return whether a measure stands beside itself in other units: "5 miles (8 km)"."""
    beside = text[max(0, m.start() - _BESIDE): m.start()], text[m.end(): m.end() + _BESIDE]
    return kind == "units" and any(
        re.search(pattern, part) for other, (pattern, _) in _VARIANTS[kind].items() if other != v for part in beside)


def _respelt(kind: str, best: str, text: str, spans: Sequence[Sequence[int]]) -> str | None:
    """Return `text` with the spans in the wanted variant, None when that cannot be done with certainty."""
    parts, at = [], 0
    for start, end in spans:
        new = _other(kind, best, text[start:end])
        if new is None:
            return None
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])


@lru_cache(maxsize=4096)
def _other(kind: str, best: str, said: str) -> str | None:
    if kind == "spelling":
        new = (_TO_UK if best == "uk" else _TO_US)[said.lower()]
        return new.upper() if said.isupper() else new.capitalize() if said[0].isupper() else new
    if kind != "dates":
        return None
    year = re.search(r"\d{4}", said)
    month = next((k for k, m in enumerate(_MONTHS) if re.search(rf"\b{m[:3]}", said)), None)
    day = re.search(r"(?<!\d)\d{1,2}(?=\D|$)(?!\d)", said.replace(year.group(), "")) if year else None
    if re.match(r"\d{4}-", said):
        month, day = int(said[5:7]) - 1, re.search(r"\d\d$", said)
    if year is None or month is None or day is None:
        return None
    d = int(day.group())
    forms = {"day_first": f"{d} {_MONTHS[month]} {year.group()}", "month_first": f"{_MONTHS[month]} {d}, {year.group()}",
             "iso": f"{year.group()}-{month + 1:02d}-{d:02d}"}
    return forms[best]


# --- language --------------------------------------------------------------------------------------------------------

_ENGLISH = r"(?i)\b(?:the|and|of|to|is|in|a|for|that|with|are|it|you|on|as|this|be|was|by|or|an|from|not|have|at|can)\b"
_LEAST_ENGLISH = 0.12   # share of English function words from which a text is taken for English without a closer look
_LANGUAGE_WORDS = 15    # words below which no language is called (CHECKS 16)
_TRANSLATES = re.compile(
    r"\b(?:translat\w*|translation|in (?:\w+ )?(?:english|french|german|spanish|italian|portuguese|chinese|mandarin|japanese|"
    r"korean|russian|arabic|hindi|dutch|polish|turkish|latin|greek|swedish|hebrew|vietnamese|indonesian|swahili|urdu|bengali|"
    r"farsi|persian|thai|czech|finnish|danish|norwegian|hungarian|romanian|ukrainian|tamil|tagalog)|language|say\b.*\bin\b|"
    r"french|german|spanish|italian|portuguese|chinese|japanese|korean|russian|latin|lorem)\b",
    re.IGNORECASE)


#: texts that exist in words of their own: who asks for one gets it in its language
_OWN_WORDS = re.compile(
    r"\b(?:lyrics|anthem|mottos?|oath|prayer|mantra|hymn|recite|original|transliterat\w*|pinyin|"
    r"romaji|pronounc\w*|pronunciation|placeholder text|dummy text|filler text)\b", re.IGNORECASE)
_DUMMY = re.compile(r"\blorem ipsum\b|\bdolor sit amet\b", re.IGNORECASE)
_OWN_SCRIPT = ("zh", "ja", "th", "ko", "ar", "fa", "ur", "he", "hi", "ru", "uk", "bg", "el")
_NO_PROSE = re.compile(r"\S*[/@\\<>{}=_|]\S*|\S+\.\S+")     # addresses, code, tables
_LONG_WORD = re.compile(r"[^\W\d_]{2,}")


def _prose(text: str) -> str:
    """Return the lines of `text` that read on, without single letters; "" when they are too few: lists tell no language.

    Three and more lines of which none ends a sentence, or has a comma in it, are titles or names.
    """
    every = [line for line in text.splitlines() if line.strip()]
    if len(every) >= 3 and not any(re.search(r"[.!?:;…][\"'”»)]*\s*$|,", line) for line in every):
        return ""
    lines = [_LONG_WORD.findall(_NO_PROSE.sub(" ", line)) for line in every if 4 * line.count(",") <= line.count(" ")]
    running = [w for line in lines if len(line) >= 4 and sum(w[0].islower() for w in line[1:]) >= 0.5 * len(line) for w in line]
    return " ".join(running) if len(running) >= 10 else ""


_DISTINCT, _LONG = 3, 2     # function words, and those of three letters and more, that a language shows before it is called


def _called(text: str) -> str:
    """Return the language of `text` when it speaks for itself: by its script, or by several different function words.

    Syllables, names, units and transliterations hit on short function words of many languages, but not on three of one.
    """
    guess = guess_language(text)
    if guess in _OWN_SCRIPT or not guess:
        return guess
    said = {w for w in function_words(text, guess) if len(w) > 1}
    return guess if len(said) >= _DISTINCT and sum(len(w) > 2 for w in said) >= _LONG else ""


def languages(column: pa.ChunkedArray) -> list[str]:
    """Return the language of each text, "" when it is too short or unknown; plain English is seen without a closer look.

    Code and dummy text are left out of account, and so are quotations unless what stands around them is in their language.
    """
    text = pc.fill_null(column, "")
    n = np.asarray(pc.count_substring_regex(text, r"\S+"))
    english = np.asarray(pc.count_substring_regex(text, _ENGLISH)) >= _LEAST_ENGLISH * np.maximum(n, 1)
    out = np.where(english & (n >= _LANGUAGE_WORDS), "en", "").astype(object)
    dense = np.asarray(pc.utf8_length(text)) >= 40      # scripts without blanks have few "words"
    for i in np.flatnonzero(~english & ((n >= _LANGUAGE_WORDS) | (dense & (n < _LANGUAGE_WORDS)))).tolist():
        body = text[i].as_py()[:1000]
        body = without(body, code_spans(body))
        told = without(body, quote_spans(body))
        guess = guess_language(body)
        if told != body and guess_language(told) != guess:      # the quotations are in a language of their own
            body, guess = told, guess_language(told)
        if guess in _OWN_SCRIPT:
            out[i] = guess
        elif not _DUMMY.search(body):
            out[i] = _called(_prose(body))
    return out.tolist()


def _language_asked(instruction: str, said: str) -> str:
    """Return the language of a prompt that is surely not in `said`, "" when it may be; words of both say nothing."""
    prompt = instruction[:600]
    prompt = without(prompt, asides(prompt))
    asked = guess_language(prompt)
    if asked == said or asked in _OWN_SCRIPT:
        return "" if asked == said else asked
    theirs, ours = len(function_words(prompt, "en", but=said)), len(function_words(prompt, said, but="en"))
    if ours and ours >= theirs:
        return ""
    if asked not in ("", "en") and len(function_words(prompt, asked, but="en")) > max(1, theirs):
        return asked
    return "en" if theirs or (prompt.isascii() and len(prompt.split()) >= 4 and not ours) else ""


@check("consistency.language", reads=("system", "instruction", "input", "response"), severity="warning", action="review")
def language(rows: pa.Table, spec: Spec) -> pa.Table:
    """The response is in a language that is neither its prompt's nor one of the spec's.

    Why: a model that was shown answers in the wrong language switches languages.
    Misses: texts below 15 words, and a wrong language among those that the spec allows.
    False positives: texts of their own words (songs, oaths) that the prompt does not call so. Prompts that name a language,
    ask for a translation, an anthem, an oath or dummy text are left alone; lists of names and titles, code, quotations, formulas,
    syllables and transliterations are no evidence of a language.
    Source: CHECKS 16. English is told by its function words, other languages by script or by three different function
    words, two of them of three letters and more. The prompt must be in another language by words that the two do not share.
    """
    found = Findings(rows)
    allowed = {tag.split("-")[0].lower() for tag in spec.language}
    said = languages(rows["response"])
    at = [i for i, v in enumerate(said) if v and v not in allowed]
    if not at:
        return found.table()
    sub = rows.take(pa.array(at, pa.int64()))
    for i, *fields in zip(at, *(texts(sub, name) for name in ("system", "instruction", "input", "response"))):
        system, instruction, given, response = fields
        if any(_TRANSLATES.search(text) for text in (system, instruction, given[:200])) or _OWN_WORDS.search(instruction):
            continue
        asked = "" if given.strip() and said[i] in (guess_language(given[:600]), _called(given[:600])) else (
            _language_asked(instruction, said[i]))
        if asked:
            found.add(i, f"The prompt is in {asked!r}, the response in {said[i]!r}.", span=(0, len(response)), score=0.9)
    return found.table()


# --- the spec's tone guide -------------------------------------------------------------------------------------------

HEDGES = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|presumably|arguably|conceivably|seemingly|apparently|it (?:would )?seems?|it appears|"
    r"(?:it )?(?:may|might|could) (?:well )?be(?! \w+(?:ed|en|wn|ing|ept|ilt|ade|one)\b)|"
    r"(?<!the )(?<!what )(?<!this )(?<!that )(?<!some )(?<!same )(?<!one )(?<!any )(?<!each )(?<!every )(?<!which )(?<!new )"
    r"(?<!other )(?<!right )(?<!first )(?<!your )(?<!\ba )(?:sort of|kind of)|"
    r"somewhat|more or less|in some (?:cases|ways)|to some extent|tends? to|"
    r"it is possible that|i (?:think|believe(?! in\b)|would guess|guess|suppose)|generally speaking|"
    r"as far as i (?:know|can tell))\b", re.IGNORECASE)
#: slang, exclamation marks in a row, emoji and contractions; "cool" where it is praise, for else it is a temperature
INFORMAL = re.compile(
    r"\b(?:gonna|wanna|gotta|kinda|sorta|ain't|y'all|dunno|lemme|yeah|yep|yup|nope|nah|hey|awesome|guys|stuff|lol|omg|btw|tbh|"
    r"super[ -](?:duper|easy|simple|fun|cool)|no (?:worries|biggie|problemo)|you bet|dude|folks|woohoo|catch (?:you|ya) later|"
    r"easy peasy|no-brainer|"
    r"(?:so|pretty|super|really|totally|how|sounds|looks) cool(?=[.!?,]|$)|cool (?:idea|stuff|trick|thing|fact|feature)s?)\b"
    r"|\A\s*cool[!,.]|!{2,}|[\U0001F300-\U0001FAFF]|[\u2600-\u27BF]\uFE0F|[\u2639\u263A\u2764\u2728]"
    r"|\b\w+(?:n['’]t|['’]ll|['’]re|['’]ve)\b|\b(?:it|that|there|here|what|who|let|i)['’](?:s|m|d)\b", re.IGNORECASE)
#: words against the reader; "whatever" and "figure it out" only where they wave the question away
RUDE = re.compile(
    r"\b(?:(?:stupid|dumb|silly|idiotic|ridiculous) (?:question|idea)|obviously you (?:do|did|have|are)(?:n['’]t| not)|"
    r"(?:you|only an?|any|what an?) (?:complete |total |little )?(?:idiot|moron|fool|imbecile|dimwit)s?|"
    r"(?:just|so|oh|please) shut up|as i (?:already )?told you|you should (?:already )?know (?:this|that|better)|"
    r"are you (?:serious|kidding|stupid|dumb|blind|deaf)\b(?= ?(?:\?|or))|figure it out (?:for )?yourself|"
    r"not my problem|(?:just )?google it|look it up yourself|read the damn manual|(?:you are|you're|stop) wasting my time|"
    r"do your own (?:home)?work|you people never|why would you even|i am not your servant|if you can (?:even )?read)\b"
    r"|(?:\A|[.!?]\s+)(?:whatever[.!]|shut up\b|that(?:'s| is) (?:dumb|stupid|ridiculous)[.!])", re.IGNORECASE)
_VOWELS = re.compile(r"[aeiouy]+")
_ENDED = re.compile(r"[.!?…][\"')\]”’*]*\s*$")


def reading_grade(text: str) -> float | None:
    """Return the Flesch-Kincaid grade of the sentences of `text`, None below 30 words or for text that is not plain prose.

    Lines that no sentence ends (headings, items, titles) and strings of names between commas are left out: they have no grammar
    to be hard.
    """
    lines = [line for line in text.splitlines() if _ENDED.search(line)]
    said = [s for line in lines for s in sentences(line) if len(s.split()) > 1 and 4 * s.count(",") <= len(s.split())]
    told = " ".join(said)
    words = re.findall(r"[A-Za-z]+(?:['’][a-z]+)?", told)
    if len(words) < 30 or len(words) < 0.7 * len(told.split()):
        return None
    syllables = sum(_syllables(w.lower()) for w in words)
    return 0.39 * len(words) / len(said) + 11.8 * syllables / len(words) - 15.59


def _syllables(word: str) -> int:
    n = len(_VOWELS.findall(word))
    if word.endswith("e") and not word.endswith(("le", "ee")) and n > 1:
        n -= 1
    return max(1, n)


@check("consistency.tone", reads=("instruction", "input", "response"), severity="warning", action="review", version=2)
def tone(rows: pa.Table, spec: Spec, family: pa.Array, family_score: pa.Array, refusal: pa.Array, *, min_family: Share = 0.4
         ) -> pa.Table:
    """The response breaks the spec's tone guide: preferred terms, register, politeness, hedging, reading level.

    Why: the tone a product wants is decided once, in the spec, and every row teaches it.
    Misses: what no word shows (irony, coldness). Without a tone guide in the spec the check does nothing.
    False positives: dialogue without quotation marks; reading level on lists of names. Refusals are left alone, and so are
    quotations, code and its comments, which are not the assistant's voice; a wanted phrase may stand anywhere.
    Source: standards.tone and families[].response.tone of the spec; the reading level is Flesch-Kincaid (1975), the
    words for hedging, informal and rude speech stand in the check's file. Preferred terms carry a fix.
    """
    found = Findings(rows)
    plain = ToneGuide()
    if spec.standards.tone == plain and all(f.response.tone == plain for f in spec.families):
        return found.table()
    guides: dict[str, ToneGuide] = {}
    classes = refusal.to_pylist()
    for i, (name, score, response) in enumerate(zip(family.to_pylist(), family_score.to_pylist(), texts(rows, "response"))):
        key = name if name and (score or 0.0) >= min_family else ""
        if key not in guides:
            guides[key] = standard_of(spec, key).tone
        guide = guides[key]
        if guide != plain and response.strip() and classes[i] == "comply":
            for message, span, fix in tone_faults(response, guide):
                found.add(i, message, span=span, fix=fix)
    return found.table()


_SPEAKER = re.compile(r"^[ \t]*\**(?P<who>[A-Z][\w.'’-]*(?: [\w.'’-]+){0,3})\**[ \t]*:\**[ \t]+\S.*$", re.MULTILINE)


def _parts(text: str) -> list[tuple[int, int]]:
    """Return the spans of the lines that others speak in a dialogue: at least two names lead lines, one of them twice."""
    lines = list(_SPEAKER.finditer(text))
    names = Counter(m["who"] for m in lines)
    return [m.span() for m in lines] if len(names) > 1 and max(names.values()) > 1 else []


def _exchanged(text: str, met: Sequence[re.Match[str]], prefer: str) -> str:
    """Return `text` with `prefer` in place of each match, with a capital where the match had one."""
    parts, at = [], 0
    for m in met:
        parts += [text[at: m.start()], prefer[:1].upper() + prefer[1:] if m.group()[0].isupper() else prefer]
        at = m.end()
    return "".join([*parts, text[at:]])


def tone_faults(response: str, guide: ToneGuide) -> Iterator[tuple[str, tuple[int, int] | None, str | None]]:
    """Yield (message, span, fix) of each way in which `response` breaks the tone guide; wanted phrases count anywhere."""
    apart = _parts(response) or asides(response)
    for avoid, prefer in guide.prefer.items():
        pattern = re.compile(rf"(?<!\w){re.escape(avoid)}(?!\w)", re.IGNORECASE)
        met = list(spoken(pattern, response, apart))
        if met:
            yield f"{met[0].group()!r}: the spec prefers {prefer!r}.", met[0].span(), _exchanged(response, met, prefer)
    if guide.any_of and not any(re.search(re.escape(p), response, re.IGNORECASE) for p in guide.any_of):
        yield f"None of the phrases the spec wants one of: {', '.join(map(repr, guide.any_of[:4]))}.", None, None
    for wanted, pattern, why in ((guide.formality == "formal", INFORMAL, "is informal; the spec asks for a formal tone"),
                                 (guide.polite, RUDE, "is impolite; the spec asks for politeness")):
        m = next(spoken(pattern, response, apart), None) if wanted else None
        if m:
            yield f"{m.group()!r} {why}.", m.span(), None
    hedges = list(spoken(HEDGES, response, apart)) if guide.max_hedges is not None else []
    own = without(response, apart).split() if len(hedges) > 1 else []
    n = sum(any(c.isalnum() for c in word) for word in own)
    if guide.max_hedges is not None and len(hedges) > 1 and 100 * len(hedges) > n * guide.max_hedges:
        yield (f"{len(hedges)} hedges in {n} words ({hedges[0].group()!r} ...); the spec allows {guide.max_hedges:g} in 100.",
               hedges[0].span(), None)
    grade = reading_grade(response) if guide.max_grade is not None else None
    if grade is not None and guide.max_grade is not None and grade > guide.max_grade:
        yield f"Reading level {grade:.1f} (Flesch-Kincaid grade); the spec allows {guide.max_grade:g}.", None, None
