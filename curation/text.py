"""Pure functions on strings: normalisation, content ids, words, sentences, spans."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import xxhash

SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"')\]”’]*\s+")
WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*", re.UNICODE)
#: Scripts written without blanks: every character counts as a word.
SOLID = "\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LINE_ENDS = re.compile(r"\r\n?")
_UNIT = "\x1f"  # between role and content
_RECORD = "\x1e"  # between turns


def normalise(text: str) -> str:
    """Return `text` as it counts for identity: NFC, line ends as \\n, no white space at the ends."""
    if "\r" in text:
        text = _LINE_ENDS.sub("\n", text)
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return text.strip()


def uid_of(turns: Iterable[tuple[str, str]]) -> str:
    """Return the content id of a conversation: 32 hex digits (XXH3-128 of its normalised turns).

    Case and inner white space count, line-end style and outer white space do not. Lone surrogates
    (possible in JSON escapes) are hashed as they are.
    """
    text = _RECORD.join(f"{role}{_UNIT}{normalise(content)}" for role, content in turns)
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def fold(text: str) -> str:
    """Return `text` for comparing: NFKC, case-folded, white space collapsed to one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """Return the words of `text`: runs of letters and digits, with inner apostrophes and hyphens."""
    return WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Return the sentences of `text`, split after an end mark and white space, and at line breaks."""
    return [s for line in text.splitlines() for s in SENTENCE_END.split(line.strip()) if s]


def shorten(text: str, width: int = 80) -> str:
    """Return `text` on one line, at most `width` characters, with an ellipsis when cut."""
    line = " ".join(text[: 4 * width].split())
    return line if len(line) <= width else line[: width - 1] + "…"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name most like `name`, or None when nothing is close."""
    import difflib

    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None
