"""How much prompts resemble references: the nearest by TF-IDF, scored by the words and numbers that both have.

What a word weighs is counted over the references alone, so a prompt's scores do not depend on other prompts. The kernels
hold no interpreter lock and make no Python object a prompt.
"""

# mypy: disable-error-code="call-arg,var-annotated,assignment"
# The kernels are typed by numba when they are compiled; mypy knows neither its intrinsics nor its integer widths.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit

from .words import K1, ONE, ZERO, Table, Words, bits_of, find, mix, numbers_of, runs_of, spread, table_of, words_of

#: References looked at for each prompt: the nearest by TF-IDF over words that few references share.
CANDIDATES = 5
#: A word in more than this share of the references proposes no candidates (it counts in the score).
BROAD = 0.05
#: Cosine below which a reference is no candidate.
FAR = 0.08
#: Word weight (idf, natural logarithm) added to both sides: what a few words have in common may be chance.
CHANCE = 30.0
#: Word weight in common (about eight words that few references have), or share of all words, from which on two texts have
#: more than a subject in common.
TELLING, SAME = 50.0, 0.8
#: Texts that are thought to stand beside the references when words are weighed, so that a battery of twenty probes weighs
#: them much as a benchmark of ten thousand does, and the share of them that has each function word of English.
BESIDE, USUAL = 10_000, 0.2
#: Prompts read at once: about 150 MB for prompts of 100 words.
BLOCK = 50_000


#: Words of English that stand in any text, whatever it is about.
FUNCTION_WORDS = """
    a about after again all also am an and any are as at be because been before being between both but by can could did do
    does doing down during each few for from further get give given go had has have having he her here hers him his how i
    if in into is it its itself just let like make many may me might more most much must my no nor not now of off on once
    one only or other our out over own please put same she should so some such take than that the their them then there
    these they this those through to too under until up upon us use used using very was we were what when where which while
    who whom whose why will with within without would write you your yours
"""


@dataclass(frozen=True)
class Book:
    """The references as the kernels need them. A term is a word or a pair of words."""

    terms: Table
    idf: np.ndarray             # float32 (terms): log((1 + texts) / (1 + those that have it)) + 1, BESIDE included
    first: np.ndarray           # int64 (terms + 1): postings of term t are first[t]:first[t + 1]; broad terms have none
    posting: np.ndarray         # int32: a reference
    weight: np.ndarray          # float32: TF-IDF of the term in it, references of unit length
    stems: Table
    stem_idf: np.ndarray        # float32 (stems)
    stem_first: np.ndarray      # int64 (references + 1)
    stem: np.ndarray            # int32: the distinct stems of each reference, ascending
    total: np.ndarray           # float32 (references): summed stem_idf
    number: np.ndarray          # float64
    number_first: np.ndarray    # int64 (references + 1)
    unseen: float               # weight of a word that no reference has

    def __len__(self) -> int:
        return len(self.total)

    def itself(self, ref: np.ndarray) -> np.ndarray:
        """Return the scores that references would have for themselves."""
        numbers = np.diff(self.number_first)[ref] > 0
        return self.total[ref] / (self.total[ref] + CHANCE) * np.where(numbers, 1.0, 0.75)


def book_of(texts: pa.Array) -> Book:
    """Return the references of `nearest`."""
    words = words_of(texts, stems=True)
    n = len(words)
    key, owner = _placed(words.word, words)
    pair, of, _ = runs_of(words, 2)
    function = words_of(pa.array([FUNCTION_WORDS]), stems=True)
    function_words, function_stems = (np.unique(_placed(x, function)[0]) for x in (function.word, function.stem))
    terms, idf, term, text, count = _counted(np.concatenate([key, pair]), np.concatenate([owner, of]), n, function_words)
    weight = count.astype(np.float32) * idf[term]
    length = np.sqrt(np.bincount(text, weight.astype(np.float64) ** 2, minlength=n))
    weight = (weight / np.maximum(length, 1e-9)[text]).astype(np.float32)
    held = np.bincount(term, minlength=len(terms))
    order = np.lexsort((text, term))
    order = order[held[term[order]] <= max(20, BROAD * n)]
    first = np.concatenate([[0], np.cumsum(np.bincount(term[order], minlength=len(terms)))])
    stems, stem_idf, stem, by, _ = _counted(*_placed(words.stem, words), n, function_stems)
    sort = np.lexsort((stem, by))
    stem_first = np.concatenate([[0], np.cumsum(np.bincount(by, minlength=n))])
    total = np.bincount(by, stem_idf[stem].astype(np.float64), minlength=n).astype(np.float32)
    number, number_first = numbers_of(texts)
    return Book(table_of(terms), idf, first, text[order].astype(np.int32), weight[order], table_of(stems), stem_idf,
                stem_first, stem[sort].astype(np.int32), total, number, number_first, float(np.log(1 + n + BESIDE) + 1))


def _placed(values: np.ndarray, words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Return (values at the places of the words, the text of each)."""
    text = np.repeat(np.arange(len(words)), words.count)
    within = np.arange(len(text)) - np.repeat(np.cumsum(words.count) - words.count, words.count)
    return values[words.start[text] + within], text


def _counted(
    key: np.ndarray, text: np.ndarray, n: int, usual: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (distinct keys, their idf, and of each distinct pair of key and text: key's place, text, how often).

    usual: keys of which USUAL of the texts thought to stand beside are full.
    """
    keys, place = np.unique(key, return_inverse=True)
    both, count = np.unique(place * max(1, n) + text, return_counts=True)
    term, text = both // max(1, n), both % max(1, n)
    held = np.bincount(term, minlength=len(keys)) + BESIDE * USUAL * np.isin(keys, usual)
    return keys, (np.log((1 + n + BESIDE) / (1 + held)) + 1).astype(np.float32), term, text, count


def nearest(book: Book, prompts: pa.Array, also: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (reference, score, telling) of each prompt's candidates, (prompts, CANDIDATES + columns of `also`); -1: none.

    score = sqrt(c / (r + CHANCE) * c / (p + CHANCE)) * (1 + numbers) / 2, in [0, 1]. r, p and c are the word weights
    (idf of word stems) of the reference, of the prompt and of what both have; `numbers` is the share of their numbers
    that both have, one half where neither has any. telling: c without
    words that are numbers is TELLING, or SAME of sqrt(r * p). `also`: more references to score for each prompt, int32,
    -1 for none.
    """
    n = len(prompts)
    also = np.full((n, 0), -1, np.int32) if also is None else np.ascontiguousarray(also, np.int32)
    assert len(also) == n, (len(also), n)
    ref = np.full((n, CANDIDATES + also.shape[1]), -1, np.int32)
    score, telling = np.zeros(ref.shape, np.float32), np.zeros(ref.shape, np.bool_)
    b = book
    for at in range(0, n, BLOCK):
        part = prompts.slice(at, BLOCK)
        words = words_of(part, stems=True)
        number, number_first = numbers_of(part)

        def work(lo: int, hi: int, at: int = at, words: Words = words, number: np.ndarray = number,
                 number_first: np.ndarray = number_first) -> None:
            out = slice(at, at + len(words))
            _nearest(lo, hi, words.word, words.stem, words.start, words.count, number, number_first, also[out],
                     b.terms.key, b.terms.slot, b.terms.sieve, bits_of(b.terms), b.idf, b.first, b.posting, b.weight,
                     b.stems.key, b.stems.slot, b.stems.sieve, bits_of(b.stems), b.stem_idf, b.stem_first, b.stem, b.total,
                     b.number, b.number_first, b.unseen, ref[out], score[out], telling[out])

        spread(work, len(words))
    return ref, score, telling


@njit(nogil=True)
def _agreement(a, i, m, b, j, n):
    """Share of the numbers a[i:m] and b[j:n], each sorted, that both have; one half where there is none."""
    total = (m - i) + (n - j)
    if total == 0:
        return 0.5
    common = 0
    while i < m and j < n:
        if a[i] == b[j]:
            common += 1
            i += 1
            j += 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return common / (total - common)


@njit(nogil=True)
def _cosines(terms, key, slot, sieve, bits, idf, first, posting, weight, unseen, sums, touched):
    """Add up, per reference, the products of TF-IDF of the sorted terms; return (references touched, length of the prompt)."""
    square = 0.0
    n = 0
    j = 0
    while j < terms.size:
        k = j + 1
        while k < terms.size and terms[k] == terms[j]:
            k += 1
        t = find(terms[j], key, slot, sieve, bits)
        w = (k - j) * (np.float64(idf[t]) if t >= 0 else unseen)
        square += w * w
        if t >= 0:
            for x in range(first[t], first[t + 1]):
                r = posting[x]
                if sums[r] == 0.0:
                    touched[n] = r
                    n += 1
                sums[r] += np.float32(w) * weight[x]
        j = k
    return n, np.sqrt(square)


@njit(nogil=True)
def _best(sums, touched, n, far, best, ref):
    """Put the references with the largest sums, ties to the first, into `ref`; clear the sums; return how many."""
    held = 0
    for x in range(n):
        r = touched[x]
        s = sums[r]
        sums[r] = 0.0
        last = held - 1
        if s < far or (held == CANDIDATES and (s < best[last] or (s == best[last] and r > ref[last]))):
            continue
        at = min(held, CANDIDATES - 1)
        while at > 0 and (best[at - 1] < s or (best[at - 1] == s and ref[at - 1] > r)):
            best[at] = best[at - 1]
            ref[at] = ref[at - 1]
            at -= 1
        best[at] = s
        ref[at] = r
        held = min(held + 1, CANDIDATES)
    return held


@njit(nogil=True)
def _added(ref, held, also):
    """Put the references of `also` that are not there yet behind the first `held`; return how many there are."""
    for x in range(also.size):
        known = also[x] < 0
        for y in range(held):
            known = known or ref[y] == also[x]
        if not known:
            ref[held] = also[x]
            held += 1
    return held


@njit(nogil=True)
def _known(stems, key, slot, sieve, bits, idf, unseen):
    """Return (places of the distinct stems that references have, ascending; weight of all distinct stems)."""
    own = np.sort(stems)
    ids = np.empty(own.size, np.int64)
    weighs = 0.0
    m = 0
    for j in range(own.size):
        if j > 0 and own[j] == own[j - 1]:
            continue
        t = find(own[j], key, slot, sieve, bits)
        if t >= 0:
            weighs += idf[t]
            ids[m] = t
            m += 1
        else:
            weighs += unseen
    return ids[:m], weighs


@njit(nogil=True)
def _shared(ids, other, key, idf):
    """Return (weight of the stems in both, of those among them that are numbers)."""
    common = 0.0
    figures = 0.0
    j = 0
    k = 0
    while j < ids.size and k < other.size:
        if ids[j] == other[k]:
            common += idf[ids[j]]
            if key[ids[j]] & ONE == ZERO:
                figures += idf[ids[j]]
            j += 1
            k += 1
        elif ids[j] < other[k]:
            j += 1
        else:
            k += 1
    return common, figures


@njit(nogil=True, cache=True)
def _nearest(lo, hi, word, stem, start, count, number, number_first, also, key, slot, sieve, bits, idf, first, posting, weight,
             stem_key, stem_slot, stem_sieve, stem_bits, stem_idf, stem_first, ref_stem, total, ref_number, ref_number_first,
             unseen, ref, score, telling):
    """Fill in ref, score and telling of prompts [lo, hi)."""
    sums = np.zeros(total.size, np.float32)
    touched = np.empty(total.size, np.int32)
    best = np.empty(CANDIDATES, np.float32)
    for i in range(lo, hi):
        n = count[i]
        if n == 0:
            continue
        terms = np.empty(2 * n - 1, np.uint64)
        for j in range(n):
            terms[j] = word[start[i] + j]
            if j > 0:
                terms[n + j - 1] = mix(terms[j - 1] * K1 + terms[j])
        terms.sort()
        many, length = _cosines(terms, key, slot, sieve, bits, idf, first, posting, weight, unseen, sums, touched)
        held = _best(sums, touched, many, np.float32(FAR * length), best, ref[i])
        held = _added(ref[i], held, also[i])
        if held == 0:
            continue
        ids, weighs = _known(stem[start[i]:start[i] + n], stem_key, stem_slot, stem_sieve, stem_bits, stem_idf, unseen)
        for x in range(held):
            r = ref[i, x]
            common, figures = _shared(ids, ref_stem[stem_first[r]:stem_first[r + 1]], stem_key, stem_idf)
            agree = _agreement(number, number_first[i], number_first[i + 1], ref_number, ref_number_first[r],
                               ref_number_first[r + 1])
            said = common - figures
            telling[i, x] = said >= TELLING or said >= SAME * np.sqrt(weighs * total[r])
            score[i, x] = common / np.sqrt((weighs + CHANCE) * (total[r] + CHANCE)) * (1.0 + agree) / 2.0


def warm() -> None:
    """Compile every kernel of this file into the on-disk cache."""
    texts = pa.array(["one two three", "One Two four 5"])
    nearest(book_of(texts), texts)


def usual(ref: np.ndarray, score: np.ndarray, which: np.ndarray, rank: int) -> np.ndarray:
    """Return for each reference of `which` the score that `rank` prompts exceed which have it among their nearest, else 0.

    ref, score: as `nearest` gives them.
    """
    flat = np.flatnonzero(np.isin(ref, which))
    refs, scores = ref.ravel()[flat], score.ravel()[flat]
    order = np.lexsort((-scores, refs))
    refs, scores = refs[order], scores[order]
    at = np.searchsorted(refs, which) + rank
    within = at < np.searchsorted(refs, which, "right")
    out = np.zeros(len(which))
    out[within] = scores[at[within]]
    return out
