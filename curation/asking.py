"""What a prompt orders, and of what: its verb and its noun, by word lists and word order; no tagger, no model."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Verbs that a prompt orders with, as they stand at its beginning.
VERBS = frozenset(re.findall(r"\S+", """
add analyse analyze answer apply argue arrange assess assign assume balance brainstorm break build calculate categorise
categorize change check choose cite classify combine come comment compare compile complete compose compute conduct
construct contrast convert copy correct count create critique debate decide define delete derive describe design detect
determine develop devise diagnose differentiate discuss distinguish divide draft draw edit elaborate estimate evaluate
examine expand explain explore express extract fill find fix form formulate gather generate give guess highlight
identify illustrate imagine implement improve indicate infer insert interpret introduce invent judge justify label list
locate make match measure mention merge modify move multiply name note offer order organise organize outline output
paraphrase parse perform pick plan point predict prepare present print produce proofread propose prove provide punctuate
put rank rate read rearrange recommend reformat remove rename reorder rephrase replace reply report
research respond restate return reverse review revise rewrite round run say scan search select separate set shorten
show simplify simulate solve sort speak specify spell split state structure submit substitute suggest sum summarise
summarize support synthesise synthesize take talk tell test think transcribe transform translate turn update use verify
visualise visualize write
"""))
_ASKS = frozenset(re.findall(r"\S+", """
what how why who whom whose which when where is are was were do does did can could should would will has have
"""))
_BEFORE = frozenset(re.findall(r"\S+", """
i he she they we there here best top different main a an the this that these those my your his her its our their some
any all each every one two three four five six seven eight nine ten following given below above me us you it them him
more most very new good
"""))
_AFTER = frozenset(re.findall(r"\S+", """
of for to in on at by with from about into onto over under between that whether which who whose where when how why what and or
but so as if than is are was were be using based such including not without within after before during does do did can
could should would will has have there
"""))
_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[.,:;!?\n(\"“]")
_SEEN = 400         # characters of a prompt that are read, and as many at its end: the order often follows a passage
NO_VERB = ("", "")


def verb_noun(prompt: str) -> tuple[str, str]:
    """Return what a prompt orders and of what: ("write", "story"), ("ask what", "capital"), or ("", "").

    The verb is the first one of VERBS that opens a clause, else the word a begins with; the noun is the last
    word of what follows, up to a preposition, a conjunction or a mark. No tagger is used: "water the plants" has no verb
    here, and the noun of "name a red and a blue flower" is "red".
    """
    head = _TOKEN.findall(prompt[:_SEEN].lower())
    found = _ordered(head)
    if not found and len(prompt) > _SEEN:
        found = _ordered(_TOKEN.findall(prompt[-_SEEN:].lower()))
    if found:
        return found
    for i, word in enumerate(head):
        if word in _ASKS and (i == 0 or not head[i - 1][0].isalpha()):
            return f"ask {word}", _noun(head[i + 1 :])
    return NO_VERB


_OPENS = frozenset(re.findall(r"\S+", """
please can could would you to and then now i want like need kindly just must should
"""))


def _ordered(words: Sequence[str]) -> tuple[str, str] | None:
    for i, word in enumerate(words):
        if words[i + 1 : i + 2] == [":"]:       # "Review: ...", "Answer:" are labels
            continue
        if word in VERBS and (i == 0 or not words[i - 1][0].isalpha() or words[i - 1] in _OPENS):
            return word, _noun(words[i + 1 :])
    return None


def _noun(words: Sequence[str]) -> str:
    """Return the last word of the first noun phrase, singular, or ""."""
    phrase: list[str] = []
    for word in words[:14]:
        if not word[0].isalpha() or word in _AFTER:
            if phrase or word in ".?!\n":
                break
            continue
        if word in _BEFORE and not phrase:
            continue
        if word in _BEFORE:
            break
        phrase.append(word)
    return _singular(phrase[-1]) if phrase else ""


def _singular(word: str) -> str:
    if len(word) < 4 or word.endswith(("ss", "us", "is", "ous", "news", "species", "series")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word
