"""Personal data in a row: e-mail, phone, card, account, social security number, IP and street addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc
from stdnum import iban, luhn
from stdnum.exceptions import ValidationError

from .base import Findings, check

Kind = Literal["email", "phone", "card", "iban", "ssn", "ip", "address"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_NAMES = {
    "email": "an e-mail address", "phone": "a phone number", "card": "a payment card number",
    "iban": "a bank account number (IBAN)", "ssn": "a US social security number", "ip": "an IP address",
    "address": "a street address",
}


@dataclass(frozen=True)
class Hit:
    """A piece of personal data: characters [start, end) of the text; `fictional` when nobody can own the value."""

    kind: str
    start: int
    end: int
    score: float
    fictional: bool = False


# --- e-mail ----------------------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?<![\w.+%-])\w[\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w@])")
# RFC 2606 and 6761, and domains that writers make up for a letter.
_FICTIONAL_DOMAIN = re.compile(
    r"(?:^|[.@])(?:example|test|invalid|localhost)$|(?:^|[.@])(?:example|domain|yourdomain|mydomain|email|mail|company|"
    r"yourcompany|mycompany|abc|xyz|abccompany|xyzcompany|acme|acmecorp|business|website|yourwebsite|mywebsite|test|"
    r"sample|university|school|provider|host|site|server|foo|bar|\w)\.(?:com|org|net|edu|co|co\.uk|io|tld)$", re.IGNORECASE)


def _emails(text: str, region: str) -> Iterator[Hit]:
    for m in _EMAIL.finditer(text):
        yield Hit("email", m.start(), m.end(), 1.0, bool(_FICTIONAL_DOMAIN.search(m.group().partition("@")[2])))


# --- payment card and IBAN -------------------------------------------------------------------------------------------

_CARD = re.compile(r"(?<![\w.,/-])(?:\d[ -]?){11,18}\d(?![\w/]|[.,]\d|-\d)")
_CARD_WORDS = re.compile(r"\b(?:card|credit|debit|visa|master ?card|amex|american express|discover|jcb|cc|cvv|payment|"
                         r"maestro|diners)\b", re.IGNORECASE)
# Issuer prefixes and lengths: Visa, Mastercard, Amex, Discover, JCB, Diners, Maestro.
_ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011|65\d{2}|64[4-9]\d)\d{12}|35\d{14}|(?:1800|2131)\d{11}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|(?:5018|5020|5038|5[678]\d{2}|6304|6759|676[1-3]|0604|6390)\d{8,15}")
_TEST_CARDS = frozenset({"4111111111111111", "4242424242424242", "5555555555554444", "378282246310005",
                         "4012888888881881", "5105105105105100", "6011111111111117", "4000056655665556"})


def _cards(text: str, region: str) -> Iterator[Hit]:
    for m in _CARD.finditer(text):
        digits = re.sub(r"\D", "", m.group())
        if not luhn.is_valid(digits) or len(set(digits)) < 3:
            continue
        known = _ISSUER.fullmatch(digits) is not None
        near = _CARD_WORDS.search(text, max(0, m.start() - 60), min(len(text), m.end() + 30)) is not None
        if known or near:
            yield Hit("card", m.start(), m.end(), 1.0 if known and near else 0.9, digits in _TEST_CARDS)


_IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}(?![^\W_])")
_EXAMPLE_IBANS = frozenset({"GB82WEST12345698765432", "DE89370400440532013000", "GB29NWBK60161331926819",
                            "FR1420041010050500013M02606"})


def _ibans(text: str, region: str) -> Iterator[Hit]:
    for m in _IBAN.finditer(text):
        value = m.group()
        while value:    # the pattern may take a following word along when blanks separate the groups
            if len(value) >= 15 and _iban_ok(value):
                compact = value.replace(" ", "").upper()
                yield Hit("iban", m.start(), m.start() + len(value), 1.0, compact in _EXAMPLE_IBANS)
                break
            value = value.rpartition(" ")[0]


def _iban_ok(value: str) -> bool:
    try:
        iban.validate(value, check_country=False)
    except ValidationError:
        return False
    return True


# --- social security number and IP address ---------------------------------------------------------------------------

_SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
_SSN_WORDS = re.compile(r"\b(?:ssn|social|security|taxpayer|tin)\b", re.IGNORECASE)
_FAKE_SSNS = frozenset({"123456789", "078051120", "219099999", "111111111", "222222222", "333333333"})


def _ssns(text: str, region: str) -> Iterator[Hit]:
    for m in _SSN.finditer(text):
        near = _SSN_WORDS.search(text, max(0, m.start() - 50), m.end() + 20) is not None
        if m.group(1) == "-" or near:
            yield Hit("ssn", m.start(), m.end(), 1.0 if near else 0.9, re.sub(r"\D", "", m.group()) in _FAKE_SSNS)


_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:){2,7}[0-9A-Fa-f:]{0,20}[0-9A-Fa-f](?![\w:])")
_VERSION_WORDS = re.compile(r"(?:\bv|version|ver\.?|release|build|firmware|driver|section|chapter|clause|paragraph|"
                            r"chrome/|safari/|java|\boid)\W*$", re.IGNORECASE)
_PUBLIC_SERVERS = frozenset({"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220",
                             "1.2.3.4", "4.4.4.4"})


def _ips(text: str, region: str) -> Iterator[Hit]:
    for pattern in (_IPV4, _IPV6):
        for m in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(m.group())
            except ValueError:
                continue
            if _VERSION_WORDS.search(text[max(0, m.start() - 12): m.start()]):
                continue
            if address.version == 6 and sum(bool(g) for g in m.group().split(":")) < 4:
                continue    # "a::b" is C++ or a time more often than an address
            # Private, loopback and documentation ranges lead to nobody (RFC 1918, 5737, 3849).
            if address.is_global and not address.is_multicast and str(address) not in _PUBLIC_SERVERS:
                yield Hit("ip", m.start(), m.end(), 0.9)


# --- phone -----------------------------------------------------------------------------------------------------------

_PHONE = re.compile(
    r"(?<![\w./:$€£#@-])(?:\+|00)?\(?\d{1,4}\)?(?:[ .-]{0,2}\(?\d{1,5}\)?){1,6}"
    r"(?:[ ,]{0,2}(?:x|ext\.?|extension) ?\d{1,5})?(?![\w%°$€£@]|[.,:/]\d|-\d)", re.IGNORECASE)
_NORTH_AMERICAN = re.compile(r"(?:(?:\+?1|001)[ .-]?)?(?:\([2-9]\d{2}\)[ .-]?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4}"
                             r"(?:[ ,]{0,2}(?:x|ext\.?|extension) ?\d{1,5})?", re.IGNORECASE)
_PHONE_BEFORE = re.compile(
    r"\b(?:tele(?:phone)?|phone|tel|mobile|cell(?:ular|phone)?|fax|call(?:ed|ing)?(?: me| us| him| her| them)?|"
    r"dial(?:ed)?|ring|text(?: me| us)?|sms|whats ?app|hotline|helpline|desk|office|contact(?: me| us)?(?: on| at)?|"
    r"reach(?:ed|able)?|number is|messages? to|voicemail|ph|hospital at|direct line|switchboard)\b"
    r"[^\d\n]{0,24}\n?[^\d\n]{0,4}$",
    re.IGNORECASE)
_PHONE_AFTER = re.compile(r"\s*[-,(]?\s*(?:office|fax|mobile|cell|phone|home|work|tel)\b", re.IGNORECASE)
_NOT_PHONE = re.compile(
    r"\b(?:order|invoice|tracking|account|isbn|issn|zip|postal|id|ticket|flight|serial|case|reference|ref|part|model|sku|"
    r"patent|policy|article|version|year|years|page|pages|pp|doi|vat|population|route|room|equation|sum|calculate|"
    r"sequence|numbers?:|digits|binary|score|price|cost|total|routing|passport|licen[cs]e|pin|lot)\b"
    r"[^\d\n]{0,16}$", re.IGNORECASE)
_YEARS = re.compile(r"(?:1[5-9]|20)\d\d ?[-–. ]{1,3}(?:1[5-9]|20)?\d\d")
_DATE = re.compile(r"\d{1,4}[./ -]\d{1,2}[./ -]\d{1,4}")
_ROUND = re.compile(r"\d{1,3}(?:[ .]000)+")


def _phones(text: str, region: str) -> Iterator[Hit]:
    for m in _PHONE.finditer(text):
        value = m.group()
        digits = re.sub(r"\D", "", re.split(r"(?i)\s*,?\s*(?:x|ext)", value)[0])
        if not 7 <= len(digits) <= 15 or set(digits) <= {"0", "1"} or _ROUND.fullmatch(value):
            continue
        score = _phone_score(text, m.start(), m.end(), value, digits, region)
        if score:
            yield Hit("phone", m.start(), m.end(), score, _fictional_phone(digits))


def _phone_score(text: str, start: int, end: int, value: str, digits: str, region: str) -> float:
    """Return how surely a candidate is a phone number, 0 = not one."""
    head = text[max(0, start - 60): start]
    if _YEARS.fullmatch(value) or _DATE.fullmatch(value) or _NOT_PHONE.search(head):
        return 0.0
    context = bool(_PHONE_BEFORE.search(head) or _PHONE_AFTER.match(text, end))
    international = value.startswith(("+", "00")) and len(digits) >= 9
    if international and _possible(("+" + digits.lstrip("0")) if value.startswith("00") else value, None):
        return 1.0
    if _NORTH_AMERICAN.fullmatch(value) and _possible(value, "US"):
        return 1.0 if context else 0.9
    return 0.85 if context and (len(digits) >= 9 or _possible(value, region) or len(value) > len(digits)) else 0.0


def _possible(value: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(value, region))
    except phonenumbers.NumberParseException:
        return False


_TOLL_FREE = ("800", "888", "877", "866", "855", "844", "833")


def _fictional_phone(digits: str) -> bool:
    """Return whether the number is nobody's own: the exchange 555, toll-free, or digits that only count or repeat."""
    local = digits[-10:]
    steps = {(int(b) - int(a)) % 10 for a, b in pairwise(local)}
    if len(steps) == 1 or local[:3] in _TOLL_FREE:
        return True
    return (len(local) == 10 and (local[3:6] == "555" or local[:3] == "555")) or local in (
        "1234567890", "0123456789") or local[-7:-4] == "555" or len(set(digits)) <= 2


# --- street address --------------------------------------------------------------------------------------------------

_ADDRESS = re.compile(
    r"(?<![\w-])\d{1,5}[A-Za-z]? (?:[NSEW]\.? )?(?:[A-Z][\w'’.]{1,20} ){1,3}"
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Terrace|Circle|Cir|Parkway|"
    r"Pkwy|Highway|Hwy)\b\.?"
    r"(?:,? (?:Apt|Suite|Ste|Unit|#)\.? ?\w{1,6})?"
    r"(?P<town>,? ?\n?[A-Z][a-z]+(?: [A-Z][a-z]+){0,2},? ?\n?[A-Z]{2}\.?,? \d{5}(?:-\d{4})?)?")
_ADDRESS_BEFORE = re.compile(r"\b(?:ship(?:ped)?(?: it)? to|deliver(?:ed)?(?: it)? to|lives? at|living at|resides? at|"
                             r"address(?: is)?:?|mailed? to|reside(?:nce)? at|home at|house at)\s*$", re.IGNORECASE)
_FICTIONAL_STREET = re.compile(r"^\d{1,5} (?:Main|Any|Elm|Maple|Oak|Fake|Evergreen|First|Example|Sesame|Baker) "
                               r"|^(?:123|1234|456|221B?|1600) |Pennsylvania Ave")


def _addresses(text: str, region: str) -> Iterator[Hit]:
    for m in _ADDRESS.finditer(text):
        head = text[max(0, m.start() - 40): m.start()]
        near = _ADDRESS_BEFORE.search(head) is not None
        if m.group("town") or near:
            made_up = _FICTIONAL_STREET.search(m.group()) is not None and not m.group("town")
            yield Hit("address", m.start(), m.end(), 0.9 if m.group("town") else 0.7, made_up)


# --- the check -------------------------------------------------------------------------------------------------------

#: kind -> (finder, what a text must hold for the finder to be worth running: plain text, or a pattern of RE2)
_FINDERS: dict[str, tuple[Callable[[str, str], Iterator[Hit]], str]] = {
    "email": (_emails, r"@"),
    "card": (_cards, r"(?:\d[ -]?){12}"),
    "iban": (_ibans, r"[A-Za-z]{2}\d{2} ?[A-Za-z0-9]{4}"),
    "ssn": (_ssns, r"\d{3}[- ]\d{2}[- ]\d{4}"),
    "ip": (_ips, r"\d\.\d{1,3}\.\d{1,3}\.\d|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]"),
    "phone": (_phones, r"\d[ .()-]{0,3}\d[ .()-]{0,3}\d[ .()-]{0,3}\d[ .()-]{0,3}\d[ .()-]{0,3}\d[ .()-]{0,3}\d"),
    "address": (_addresses, r"\d[A-Za-z]? (?:[NSEW]\.? )?[A-Z]"),
}


_MAY_HOLD = re.compile(r"[@\d:]")     # every kind needs one of these


def find(text: str, *, kinds: tuple[Kind, ...] = KINDS, region: str = "US") -> list[Hit]:
    """Return the personal data of a text, in order, without overlaps (the earlier kind of `KINDS` order wins)."""
    taken: list[Hit] = []
    for kind in ("email", "card", "iban", "ssn", "ip", "phone", "address"):
        if kind in kinds:
            for hit in _FINDERS[kind][0](text, region):
                if all(hit.end <= t.start or hit.start >= t.end for t in taken):
                    taken.append(hit)
    return sorted(taken, key=lambda h: h.start)


def mask(text: str, hits: list[Hit]) -> str:
    """Return `text` with each value that is not fictional replaced by its kind: [EMAIL], [PHONE] ..."""
    parts, at = [], 0
    for hit in hits:
        if not hit.fictional:
            parts += [text[at: hit.start], f"[{hit.kind.upper()}]"]
            at = hit.end
    return "".join([*parts, text[at:]])


@check("privacy.pii", reads=("messages", "instruction", "input", "response"), severity="warning", action="fix")
def pii(rows: pa.Table, *, kinds: tuple[Kind, ...] = KINDS, region: str = "US") -> pa.Table:
    """The row holds personal data: e-mail, phone, card, IBAN, social security number, IP or street address.

    Earlier turns and the system prompt are read too: a flag there names the turn (field "row") and has no fix.

    Why: a model repeats what it has seen, to anyone.
    Misses: names, ages, dates of birth; local phone numbers that no word announces; addresses outside the US form.
    False positives: numbers of public offices. Values that are nobody's own (example.com, 555 and toll-free numbers,
    test cards, private IP ranges) are flagged as info, or not at all, and carry no fix.
    Source: CHECKS 43: shape, then a checksum or register where there is one (stdnum: Luhn, IBAN; phonenumbers).
    `region`: two-letter country whose local phone numbers count; the fix masks every value of the field at once.
    """
    found = Findings(rows)
    for field in ("instruction", "input", "response"):
        mask_of = np.zeros(rows.num_rows, dtype=bool)
        for kind in kinds:
            mask_of |= np.asarray(pc.fill_null(pc.match_substring_regex(rows[field], _FINDERS[kind][1]), False))
        at = np.flatnonzero(mask_of)
        for i, text in zip(at.tolist(), rows[field].take(pa.array(at)).to_pylist()):
            hits = find(text, kinds=kinds, region=region)
            clean = mask(text, hits) if hits else ""
            for hit in hits:
                _report(found, i, hit, field, field, fix=None if hit.fictional else clean)
    for i, turns in _long_rows(rows):
        last = {turn["role"]: k for k, turn in enumerate(turns)}
        shown = {last.get("user"), last.get("assistant")}
        for k, turn in enumerate(turns):
            content = turn["content"] or ""
            if k not in shown and _MAY_HOLD.search(content):
                for hit in find(content, kinds=kinds, region=region):
                    _report(found, i, hit, "row", f"{turn['role']} turn {k}", turn=k)
    return found.table()


def _long_rows(rows: pa.Table) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """Yield (position, turns) of the rows that have more turns than the columns show."""
    at = np.flatnonzero(np.asarray(pc.fill_null(pc.greater(pc.list_value_length(rows["messages"]), 2), False)))
    for k in range(0, len(at), 1000):
        part = at[k: k + 1000]
        yield from zip(part.tolist(), rows["messages"].take(pa.array(part)).to_pylist())


def _report(
    found: Findings, i: int, hit: Hit, field: str, where: str, *, turn: int = -1, fix: str | None = None
) -> None:
    what = f"The {where} holds {_NAMES[hit.kind]}"
    message = f"{what} that looks made up." if hit.fictional else f"{what}; mask it as [{hit.kind.upper()}]."
    found.add(i, message, field=field, turn=turn, span=(hit.start, hit.end), score=hit.score, fix=fix,
              severity="info" if hit.fictional else None)
