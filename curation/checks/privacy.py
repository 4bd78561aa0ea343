"""Personal data and secrets in a row: contact data, numbers of cards and papers, addresses, names; keys and passwords."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Annotated, Any, Literal, get_args

import numpy as np
import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field
from stdnum import iban, luhn
from stdnum.exceptions import ValidationError

from .. import addresses
from ..options import Share
from ..presidio import analyzer
from ..text import shorten
from .base import Findings, check

Kind = Literal["email", "card", "iban", "ssn", "ip", "id", "birth", "address", "phone", "postcode"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Kinds = Annotated[tuple[Kind, ...], Field(min_length=1)]


def _country(region: str) -> str:
    if region.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("phonenumbers knows no such country")
    return region.upper()


Region = Annotated[str, AfterValidator(_country), Field(description="the two letters of a country, such as US or GB")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$", description="the code of a language, such as en or de")]
_NAMES = {
    "email": "an e-mail address", "phone": "a phone number", "card": "a payment card number",
    "iban": "a bank account number (IBAN)", "ssn": "a US social security number", "ip": "an IP address",
    "address": "a postal address", "postcode": "a postcode", "birth": "a date of birth", "id": "the number of a paper or account",
    "name": "a name",
}


@dataclass(frozen=True)
class Hit:
    """A piece of personal data: characters [start, end) of the text.

    `fictional`: nobody can own the value. `sure`: alone it tells who somebody is; otherwise it is for a reader to say.
    """

    kind: str
    start: int
    end: int
    score: float
    fictional: bool = False
    sure: bool = True


# --- e-mail ----------------------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?<![\w.+%-])\w[\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w@])")
# RFC 2606 and 6761, and domains that writers make up for a letter.
_FICTIONAL_DOMAIN = re.compile(
    r"(?:^|[.@])(?:example|test|invalid|localhost)$|(?:^|[.@])example\.(?:com|org|net)(?:\.[a-z]{2})?$|(?:^|[.@])(?:example|domain|yourdomain|mydomain|email|mail|company|"
    r"yourcompany|mycompany|abc|xyz|abccompany|xyzcompany|acme|acmecorp|business|website|yourwebsite|mywebsite|test|"
    r"sample|university|school|provider|host|site|server|foo|bar|\w)\.(?:com|org|net|edu|co|co\.uk|io|tld)$", re.IGNORECASE)


_NOBODY = re.compile(r"(?:user(?:name)?|name|your[._]?(?:name|email)|example|someone|somebody|email|test|demo|sample)\d{0,4}|"
                     r"my[._](?:\w+[._])?(?:email|mail|address|account)")


#: mailboxes of an office and not of a person: those of RFC 2142, and what firms call theirs
_OFFICE = re.compile(
    r"(?:(?:customer|client|consumer|technical|tech|web|global|online|user|human|public|media|investor|member)s?[._-]?)?"
    r"(?:services?|support|care|relations|resources|help(?:[._-]?desk)?|success)|"
    r"info|information|marketing|sales|abuse|noc|security|postmaster|hostmaster|usenet|news|webmaster|www|uucp|ftp|"
    r"no[._-]?reply|do[._-]?not[._-]?reply|contact(?:[._-]?us)?|hello|enquir(?:y|ies)|inquir(?:y|ies)|admin(?:istrator|istration)?|"
    r"office|press|media|jobs|careers|recruit(?:ing|ment)|hr|billing|orders?|returns|feedback|team|alerts?|notifications?|"
    r"newsletter|complaints|privacy|legal|reception|reservations?|bookings?|donations?|membership|"
    r"kontakt|kunden(?:betreuung|service|dienst)|atencion|contacto|servicio|ventas|assistenza|informazioni")


def _emails(text: str, region: str) -> Iterator[Hit]:
    for m in _EMAIL.finditer(text):
        name, _, domain = m.group().lower().partition("@")
        fictional = _NOBODY.fullmatch(name) is not None or bool(_FICTIONAL_DOMAIN.search(domain))
        yield Hit("email", m.start(), m.end(), 1.0, fictional, sure=_OFFICE.fullmatch(name) is None)


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
    r"(?<![\w./:$€£#@-])(?:\+|00)?\(?\d{1,4}\)?(?:[ ./-]{0,2}\(?\d{1,5}\)?){1,6}"
    r"(?:[ ,]{0,2}(?:x|ext\.?|extension) ?\d{1,5})?(?![\w%°$€£@]|[.,:/]\d|-\d)", re.IGNORECASE)
_NORTH_AMERICAN = re.compile(r"(?:(?:\+?1|001)[ .-]?)?(?:\([2-9]\d{2}\)[ .-]?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4}"
                             r"(?:[ ,]{0,2}(?:x|ext\.?|extension) ?\d{1,5})?", re.IGNORECASE)
_PHONE_BEFORE = re.compile(
    r"\b(?:tele(?:phone)?|phone|tel|mobile|cell(?:ular|phone)?|fax|call(?:ed|ing)?(?: me| us| him| her| them)?|"
    r"dial(?:ed)?|ring|text(?: me| us)?|sms|whats ?app|hotline|helpline|desk|office|contact(?: me| us)?(?: on| at)?|"
    r"reach(?:ed|able)?|number is|messages? to|voicemail|ph|hospital at|direct line|switchboard)\b"
    r"[^\d\n]{0,24}\n?[^\d\n]{0,4}$",
    re.IGNORECASE)
#: words that leave no doubt: seven digits behind them are enough
_PHONE_NEXT = re.compile(
    r"(?:\b(?:call|text|ring|dial|phone|reach|contact) (?:me|us|him|her|them)(?: \w+)?(?: at| on)|"
    r"\b(?:tel|telephone|phone|mobile|cell|fax)(?: (?:number|no\.?))?(?: is|[.:])+|"
    r"\b(?:my|our|his|her|their) (?:\w+ )?number is:?)\s*$", re.IGNORECASE)
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
        start = m.start() + (m.group()[0] == "(" and ")" not in m.group())
        end, value = m.end(), text[start: m.end()]
        digits = re.sub(r"\D", "", re.split(r"(?i)\s*,?\s*(?:x|ext)", value)[0])
        if not 7 <= len(digits) <= 15 or set(digits) <= {"0", "1"} or _ROUND.fullmatch(value):
            continue
        score = _phone_score(text, start, end, value, digits, region)
        spelt = _SPELT.match(text, end) if digits.removeprefix("1")[:3] in _TOLL_FREE and len(digits) < 10 else None
        if score:
            yield Hit("phone", start, spelt.end() if spelt else end, score, spelt is not None or _fictional_phone(digits))


def _phone_score(text: str, start: int, end: int, value: str, digits: str, region: str) -> float:
    """Return how surely a candidate is a phone number, 0 = not one."""
    head = text[max(0, start - 60): start]
    if _YEARS.fullmatch(value) or _DATE.fullmatch(value) or _NOT_PHONE.search(head):
        return 0.0
    context = bool(_PHONE_BEFORE.search(head) or _PHONE_AFTER.match(text, end)) or _in_contact_block(text, start, end)
    international = value.startswith(("+", "00")) and len(digits) >= 9
    if international and _possible(("+" + digits.lstrip("0")) if value.startswith("00") else value, None):
        return 1.0
    if _NORTH_AMERICAN.fullmatch(value) and _possible(value, "US"):
        return 1.0 if context else 0.9
    enough = len(digits) >= 9 or len(value) > len(digits) or _possible(value, region) or _PHONE_NEXT.search(head)
    return 0.85 if context and enough else 0.0


def _in_contact_block(text: str, start: int, end: int) -> bool:
    """Return whether a number that begins or looks like a phone's fills a line, and a line beside it is an e-mail address."""
    head, tail = text[max(0, start - 100): start], text[end: end + 100]
    before, _, own = head.rpartition("\n")
    rest, _, after = tail.partition("\n")
    if own.strip(" >*-") or rest.strip() or not text[start: end].startswith(("0", "(", "+")):
        return False
    above, below = before.rpartition("\n")[2], after.partition("\n")[0]
    return any(_EMAIL.fullmatch(line.strip(" >*-")) for line in (above, below))


def _possible(value: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(value, region))
    except phonenumbers.NumberParseException:
        return False


#: the end of a toll-free number that spells a word, and the same in figures: 1-800-799-SAFE (7233)
_SPELT = re.compile(r"[-. ]?[A-Z]{3,7}(?![\w@])(?: ?\(\d{3,7}\))?")
_TOLL_FREE = ("800", "888", "877", "866", "855", "844", "833")


def _fictional_phone(digits: str) -> bool:
    """Return whether the number is nobody's own: the exchange 555, toll-free, or digits that only count or repeat."""
    local = digits[-10:]
    steps = {(int(b) - int(a)) % 10 for a, b in pairwise(local)}
    if len(steps) == 1 or local[:3] in _TOLL_FREE:
        return True
    return (len(local) == 10 and (local[3:6] == "555" or local[:3] == "555")) or local in (
        "1234567890", "0123456789") or local[-7:-4] == "555" or len(set(digits)) <= 2


# --- postal address --------------------------------------------------------------------------------------------------

def _addresses(text: str, region: str) -> Iterator[Hit]:
    for a in addresses.find(text):
        yield Hit("address", a.start, a.end, a.score, a.made_up, a.sure)


def _meets(taken: list[tuple[int, int]], span: tuple[int, int]) -> bool:
    return any(a < span[1] and span[0] < b for a, b in taken)


_POSTCODE = re.compile(r"(?P<mine>\b(?:my|our|his|her|their) (?:\w+ )?|(?:^|\n)[^\w\n]{0,6}(?=[^\n]{0,12}:))?"
                       r"\b(?:zip(?:[ -]?code)?|post(?:al)?[ -]?code)(?: is| of|:|\b)\s*:?\s*"
                       r"(?P<value>\d{3} \d{2}(?![\w-])|\d{3,6}(?:-\d{3,4})?(?-i: [A-Z]{2})?|"
                       r"[A-Z]\d[A-Z] ?\d[A-Z]\d|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2})(?!\w)(?P<end>\s*(?:$|\n))?", re.IGNORECASE)


def _postcodes(text: str, region: str) -> Iterator[Hit]:
    """Yield postcodes: sure where somebody says that it is theirs, or where it fills a line of a form."""
    for m in _POSTCODE.finditer(text):
        mine = (m.group("mine") or "").strip()
        form = m.group("mine") is not None and not mine[:1].isalpha() and m.group("end") is not None
        yield Hit("postcode", *m.span("value"), 0.7, sure=mine[:1].isalpha() or form)


# --- date of birth and numbers of papers ------------------------------------------------------------------------------

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
_BIRTH = re.compile(
    r"\b(?P<word>date of birth|d\.?o\.?b\.?|birth ?date|birthday|(?P<mine>(?:I was|I am|I'm) )?born(?: on)?)"
    r"(?: is| was|:)?\s*:?\s*"
    rf"(?:on )?(?P<value>\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH},? \d{{4}}|"
    rf"{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})", re.IGNORECASE)


def _births(text: str, region: str) -> Iterator[Hit]:
    for m in _BIRTH.finditer(text):
        # "Nadal, born 3 June 1986" is in every encyclopedia; "date of birth: 3/6/1986" is on a form.
        form = m.group("mine") is not None or not m.group("word").lower().startswith(("born", "birthday"))
        yield Hit("birth", *m.span("value"), 0.85 if form else 0.4, sure=form)


_PAPER = re.compile(
    r"\b(?:passport|driv(?:er['’]?s?|ing) licen[cs]e|national id(?:entity)?(?: card)?|identity card|"
    r"tax(?:payer)? id(?:entification)?|medical record|patient id|health insurance|insurance policy|bank account|account|"
    r"routing|social insurance|national insurance|vehicle identification|licen[cs]e plate|vin)"
    r"(?: (?:number|no\.?|id|#))?(?: is| was|:|#)*\s*[:#]?\s*"
    r"(?P<value>(?=[A-Z0-9-]*\d{4})[A-Z]{0,3}-?\d[A-Z0-9-]{4,16})(?![\w.])", re.IGNORECASE)


def _papers(text: str, region: str) -> Iterator[Hit]:
    for m in _PAPER.finditer(text):
        digits = re.sub(r"\D", "", m.group("value"))
        if len(digits) >= 5 and not _YEARS.fullmatch(m.group("value")):
            yield Hit("id", *m.span("value"), 0.85, digits in "01234567890123456789" or len(set(digits)) < 3)


# --- names -----------------------------------------------------------------------------------------------------------

_NAME_PART = (r"(?:[A-ZÀ-ÞĀ-Ž]\.(?= [A-Z])|[A-ZÀ-ÞĀ-Ž][\w'’-]*|(?:de|da|dos|du|van|von|der|den|bin|al|el|la|della|di)"
              r"(?= [A-ZÀ-ÞĀ-Ž]))")
_FULL_NAME = rf"{_NAME_PART}(?: {_NAME_PART}){{0,3}}"
_SAID_NAME = re.compile(
    rf"(?:\b(?:[Mm]y (?:full |last |first )?name is|[Nn]ame on (?:the|my) \w+\?? (?:is|User:)|people call me|call me|"
    rf"I am called|[Ss]igned,|[Yy]ours (?:sincerely|truly|faithfully),|[Ss]incerely,|[Rr]egards,)|(?:^|\n)\W{{0,4}}"
    rf"(?:[Ff]ull |[Ff]irst |[Ll]ast |[Pp]atient |[Cc]ustomer )?[Nn]ame:|"
    rf"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Sir|Madam|Lady)\b\.?)\s+(?P<value>{_FULL_NAME})")
_RUN = re.compile(rf"(?<![\w@/.'’-]){_NAME_PART}(?: {_NAME_PART}){{0,4}}")
_NO_NAME = frozenset(re.findall(r"\S+", """
i i'm i'd i'll i've monday tuesday wednesday thursday friday saturday sunday january february march april may june july august
september october november december english ok okay mr mrs ms dr am pm tv dvd cd pc usa uk us eu un ai faq pin atm ssn iban zip id
"""))


def find_names(text: str) -> list[Hit]:
    """Return what looks like the name of a person, place or organisation: announced ones, then runs of capitals.

    No list of names is asked: a capital inside a sentence, or two in a row at its start, is a candidate (score 0.5).
    """
    hits = [Hit("name", *m.span("value"), 0.8, sure=False) for m in _SAID_NAME.finditer(text)]
    taken = [(h.start, h.end) for h in hits]
    for m in _RUN.finditer(text):
        words = m.group().split()
        head = text[: m.start()].rstrip(" \"'“‘(>*-")
        first = not head or head[-1] in ".!?:\n" or "\n" in text[len(head): m.start()]
        shouted = len(words) > 3 and all(w.isupper() for w in words)
        plain = [w for w in words if w.strip(".'’").lower() not in _NO_NAME and not shouted]
        few = not plain or (len(plain) == 1 and len(plain[0]) < 3) or (first and len(plain) < 2)
        if few or _meets(taken, m.span()):
            continue
        hits.append(Hit("name", m.start(), m.end(), 0.5, sure=False))
    return sorted(hits, key=lambda h: h.start)


# --- the check -------------------------------------------------------------------------------------------------------

#: kind -> (finder, what a text must hold for the finder to be worth running: plain text, or a pattern of RE2)
_FINDERS: dict[str, tuple[Callable[[str, str], Iterator[Hit]], str]] = {
    "email": (_emails, r"@"),
    "card": (_cards, r"(?:\d[ -]?){12}"),
    "iban": (_ibans, r"[A-Za-z]{2}\d{2} ?[A-Za-z0-9]{4}"),
    "ssn": (_ssns, r"\d{3}[- ]\d{2}[- ]\d{4}"),
    "ip": (_ips, r"\d\.\d{1,3}\.\d{1,3}\.\d|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]"),
    "phone": (_phones, r"(?:\d[ ./()-]{0,3}){6}\d"),
    "id": (_papers, r"(?i)(?:passport|licen[cs]e|national id|identity card|tax|medical record|patient|insurance|account|routing|"
                    r"identification|\bvin\b)[^\n]{0,30}\d{2}"),
    "birth": (_births, r"(?i)(?:birth|born|\bd\.?o\.?b)[^\n]{0,24}\d"),
    "address": (_addresses, r"\d[A-Za-z/-]{0,2}\d{0,4}[A-Za-z]?,?[ \n][\pL\d>]|[\pL.'’],?[ \n]\d|corner of"),
    "postcode": (_postcodes, r"(?i)zip|post"),
}


_MAY_HOLD = re.compile(r"[@\d:]|corner of")     # every kind needs one of these


def find(text: str, *, kinds: tuple[Kind, ...] = KINDS, region: str = "US") -> list[Hit]:
    """Return the personal data of a text, in order, without overlaps (the earlier kind of `KINDS` order wins)."""
    taken: list[Hit] = []
    for kind in KINDS:
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
def pii(rows: pa.Table, *, kinds: Kinds = KINDS, region: Region = "US") -> pa.Table:
    """The row holds personal data: e-mail, phone, card, IBAN, social security or paper number, IP, address, date of birth.

    Earlier turns and the system prompt are read too: a flag there names the turn (field "row") and has no fix.

    Why: a model repeats what it has seen, to anyone.
    Misses: names (privacy.names, on request), ages; local phone numbers that no word announces; addresses that neither a
    unit, a street word nor a word before them gives away.
    False positives: numbers of public offices. Where a place stands, a postcode alone, the birthday of somebody in
    an encyclopedia and the mailbox of an office (support@, info@: RFC 2142) are info. Values that are nobody's own
    (example.com, 555 and toll-free numbers, test cards, private IP ranges) are flagged as info, or not at all, and carry no fix.
    Source: CHECKS 43: shape, then a checksum or register where there is one (stdnum: Luhn, IBAN; phonenumbers).
    `region`: two-letter country whose local phone numbers count; the fix masks every value of the field at once.
    """
    found = Findings(rows)
    for field in ("instruction", "input", "response"):
        may = {kind: np.asarray(pc.fill_null(pc.match_substring_regex(rows[field], _FINDERS[kind][1]), False)) for kind in kinds}
        at = np.flatnonzero(np.logical_or.reduce(list(may.values()))) if kinds else np.zeros(0, np.int64)
        for i, text in zip(at.tolist(), rows[field].take(pa.array(at)).to_pylist()):
            hits = find(text, kinds=tuple(k for k in kinds if may[k][i]), region=region)
            sure = [h for h in hits if h.sure]
            clean = mask(text, sure) if hits else ""
            for hit in hits:
                fix = clean if hit.sure else mask(text, sorted([*sure, hit], key=lambda h: h.start))
                _report(found, i, hit, field, field, fix=None if hit.fictional else fix)
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
              severity="info" if hit.fictional or not hit.sure else None)


@check("privacy.names", reads=("instruction", "input", "response"), severity="info", action="none")
def names(rows: pa.Table, *, on: bool = False) -> pa.Table:
    """The row names a person, a place or an organisation; waits to be asked for (`on`).

    Why: a set drawn from mail or support chats holds customers' names; most public sets name public persons.
    Misses: names in lower case, and single names that begin a sentence. No list of names is asked.
    False positives: titles, products and anything else that is written with a capital; that is why it is info and off.
    Source: CHECKS 43 (names need a trained recogniser for more; see docs/privacy.md for Presidio). The fix masks one name.
    """
    found = Findings(rows)
    if not on:
        return found.table()
    for field in ("instruction", "input", "response"):
        for i, text in enumerate(rows[field].to_pylist()):
            for hit in find_names(text or ""):
                found.add(i, f"The {field} names {shorten(text[hit.start:hit.end], 40)!r}; mask it as [NAME].", field=field,
                          span=(hit.start, hit.end), score=hit.score, fix=mask(text, [hit]))
    return found.table()


@check("privacy.presidio", reads=("instruction", "input", "response"), severity="warning", action="review")
def presidio(
    rows: pa.Table, *, on: bool = False, model: str = "", language: Language = "en", entities: tuple[str, ...] = (),
    min_score: Share = 0.4,
) -> pa.Table:
    """Presidio takes something in the row for personal data; waits to be asked for (`on`) and for the extra `presidio`.

    Why: a second opinion beside privacy.pii, and with a model of spaCy's the names and places that no pattern finds.
    Misses: without a `model` names, places and street addresses; values below `min_score`. Earlier turns are not read.
    False positives: by pattern alone few; a model marks public persons and cities as readily as customers.
    Source: CHECKS 43; Presidio's predefined recognisers. `model`: name or folder of an installed spaCy model, nothing is
    downloaded; `language`: two letters; `entities`: Presidio's names, none = all but dates, web addresses and UUIDs;
    `min_score`: 0 to 1; 0.4 is what Presidio gives at least where a word nearby names the value. The message names version
    and model. The fix masks what was found in the field.
    """
    found = Findings(rows)
    if not on:
        return found.table()
    seer = analyzer(model, language)
    chosen = seer.chosen(entities)
    for field in ("instruction", "input", "response"):
        for i, text in enumerate(rows[field].to_pylist()):
            hits = [Hit(s.entity, s.start, s.end, s.score) for s in seer.find(text or "", entities=chosen, min_score=min_score)]
            clean = mask(text, hits) if hits else None
            for hit in hits:
                found.add(i, f"{seer.name} takes this in the {field} for {hit.kind}; mask it as [{hit.kind}].", field=field,
                          span=(hit.start, hit.end), score=hit.score, fix=clean)
    return found.table()


# --- secrets ---------------------------------------------------------------------------------------------------------

#: what a text must hold for the detectors to be worth running: a login in an address, a key block, a password, a long token
_MAY_BE_SECRET = (r"://[^\s/@]+:[^\s@]+@|PRIVATE KEY|PuTTY-User-Key|(?i:passw(?:or)?d|passphrase|secret|api[_ -]?key|token|pwd)"
                  r"[\w\"' -]{0,20}[:=]|[A-Za-z0-9_/+=.:-]{20}")
_ASSIGNED = re.compile(
    r"(?i)\b(?P<name>[\w.-]{0,40}(?:passw(?:or)?d|passphrase|pwd|secret|api[_-]?key|access[_-]?key|auth[_-]?token|token))[\"']?"
    r"\s*(?:=|:=|:)\s*(?P<quote>[\"'`]?)(?P<value>[^\s\"'`<>{}()\[\],;]{8,120})(?P=quote)")
_KEY_BLOCK = re.compile(r"-{0,5}BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-{0,5}[^-]{0,8000}"
                        r"-{0,5}END (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-{0,5}")
_PIECE = 2000       # characters of a text that the detectors are given at once: some of their patterns are quadratic
_PLACEHOLDER = re.compile(r"(?i)^(?:your|my|the|some|enter|insert|change|replace|put)|"
                          r"^(?:user|username|admin|root|foo|name)?[:_-]?(?:pass(?:word|wd)?|pw|pwd|secret|key|token)\d{0,3}$|x{4,}|\*{3,}|\.{3}|^\$|%s|^os\.|^env|process\.env|"
                          r"^(?:none|null|true|false|string|required|test\w{0,6}|example\w*|placeholder|password\w{0,4})$")


@lru_cache(maxsize=1)
def detectors() -> list[tuple[str, list[re.Pattern[str]]]]:
    """Return (type of secret, its patterns) of the detectors that go by shape."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    classes: dict[str, Any] = dict(sorted(get_mapping_from_secret_type_to_class().items()))
    return [(kind, list(plugin.denylist)) for kind, plugin in classes.items()
            if issubclass(plugin, RegexBasedDetector) and "IP" not in kind]


def find_secrets(text: str) -> list[tuple[str, int, int, bool]]:
    """Return (kind, start, end, placeholder) of the keys and passwords in `text`, in order, without overlaps."""
    blocks = _KEY_BLOCK.finditer(text) if "PRIVATE KEY" in text and "END " in text else ()
    found: list[tuple[str, int, int, bool]] = [("Private Key", *m.span(), False) for m in blocks]
    spans = [(a, b) for _, a, b, _ in found]
    for kind, patterns in detectors():
        for pattern, start in product(patterns, range(0, len(text), _PIECE)):
            for m in pattern.finditer(text, start, min(len(text), start + _PIECE + 200)):
                part = m.span(1) if m.re.groups and m.group(1) else m.span()
                if part[0] < part[1] and not _meets(spans, part):
                    spans.append(part)
                    found.append((kind, *part, _PLACEHOLDER.search(text[slice(*part)]) is not None))
    for m in _ASSIGNED.finditer(text):
        value = m.group("value")
        if not _meets(spans, m.span("value")) and _random(value):
            spans.append(m.span("value"))
            found.append(("Password or key", *m.span("value"), _PLACEHOLDER.search(value) is not None))
    return sorted(found, key=lambda f: f[1])


def _random(value: str) -> bool:
    """Return whether a value looks drawn and not written: letters and digits mixed, not a word, a path or a call."""
    kinds = sum(bool(re.search(p, value)) for p in ("[a-z]", "[A-Z]", r"\d", r"[^\w.]"))
    turns = len(re.findall(r"[a-z](?=[A-Z])|[A-Z](?=[a-z])", value))
    mixed = kinds == 2 and re.search(r"\d", value) is not None and len(set(value)) >= 8 and "." not in value
    return kinds >= 3 or (turns >= 5 and value.isalpha()) or mixed


@check("privacy.secret", reads=("instruction", "input", "response"), severity="warning", action="fix")
def secret(rows: pa.Table) -> pa.Table:
    """The row holds a key, a token or a password.

    Why: a model repeats what it has seen, and a leaked key works for whoever asks.
    Misses: passwords in running text, keys of services that no detector knows. False positives: keys from documentation
    and made-up ones in lessons; a plain placeholder (your_password, xxxx) is info. No key is ever tried out.
    Source: the patterns of detect-secrets (24 kinds), a login in a web address, and assignments to a name such as
    DB_PASSWORD whose value mixes letters and digits. The fix masks every secret of the field as [SECRET].
    """
    found = Findings(rows)
    for field in ("instruction", "input", "response"):
        mask_of = np.asarray(pc.fill_null(pc.match_substring_regex(rows[field], _MAY_BE_SECRET), False))
        at = np.flatnonzero(mask_of)
        for i, text in zip(at.tolist(), rows[field].take(pa.array(at)).to_pylist()):
            hits = find_secrets(text)
            clean = mask(text, [Hit("secret", a, b, 1.0) for _, a, b, placeholder in hits if not placeholder]) if hits else ""
            for kind, start, end, placeholder in hits:
                what = f"The {field} holds a secret ({kind})"
                found.add(i, f"{what} that looks like a placeholder." if placeholder else f"{what}; mask it as [SECRET].",
                          field=field, span=(start, end), score=0.5 if placeholder else 0.95,
                          fix=None if placeholder else clean, severity="info" if placeholder else None)
    return found.table()
