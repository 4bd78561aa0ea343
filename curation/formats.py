"""Any source of rows into ROWS batches, streamed, with every refused line accounted for; and rows back into files."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import logging
import os
import pickle
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .errors import CurationError
from .model import MESSAGES, ROWS
from .text import nearest, normalise

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

BLOCK = 4 << 20         # bytes of whole lines handed to a worker at once; 1 to 8 MB take the same CPU time
MAX_LINE = 16 << 20     # bytes; 1 M tokens of context are about 4 MB, so a longer line is a broken file
MAX_ARRAY_GAP = 192 << 20   # bytes held while looking for the end of one element of a JSON array
BATCH_ROWS = 1 << 16    # most rows in one batch handed out
SHOWN = 2000            # characters of a refused line kept in rejected.jsonl
ALONE = 8               # blocks (32 MB) from which starting processes pays: they take about 0.5 s to start
PEEK_BLOCKS = 8         # blocks searched for a first readable line before the format counts as unknown
PEEK_ROWS = 200         # rows whose field names decide the shape
HUB_SECONDS = 3.0       # wait for the hub's first answer; beyond it the local cache alone is used

FORMATS = ("alpaca", "sharegpt", "messages", "prompt-completion")
MAPPED = ("instruction", "input", "response", "messages", "system", "history", "family", "id", "split")
SKIP_HINT = "mend it, or add --skip-bad to put refused lines aside in rejected.jsonl and go on"

#: ROWS as handed out here: dictionary columns as plain strings (the store encodes them).
PLAIN_ROWS = pa.schema([pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in ROWS])
#: What parsing gives: row and source come later, where the order of blocks is known.
_PARSED = pa.schema([*((name, pa.string()) for name in (
    "uid", "id", "system", "instruction", "input", "response", "family", "split", "meta")), ("messages", MESSAGES)])

_PROMPTS = ("instruction", "prompt", "query", "question", "user", "human", "input")
_RESPONSES = ("output", "response", "completion", "answer", "assistant", "reply", "target")
_CONVERSATIONS = {"conversations": "ShareGPT rows", "messages": "OpenAI messages", "conversation": "conversation rows"}
_OWN = {"uid", "messages", "instruction", "input", "response", "system", "meta"}
_ROLE = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bard": "assistant", "bing": "assistant",
    "model": "assistant", "bot": "assistant", "function_call": "assistant", "tool_call": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool", "ipython": "tool",
}
_CALLS = ("function_call", "tool_call")
_NEXT = {
    "": ("system", "user"), "system": ("user",), "user": ("assistant",),
    "assistant": ("user", "tool"), "tool": ("assistant", "tool"),
}
_SPACED_KEY = re.compile(rb'"[ \t\r]+:')
_SPACED = (b" :", b"\t:", b"\r:")      # looked for first: the pattern alone would cost half the parsing time
_ARRAY_TOKEN = re.compile(rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*(?:"|(\\?\Z))|[\[\]{}\n]')    # group 1: cut off
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of such a byte
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?\Z")
_ABSENT = object()

_Splits = Iterator[tuple[pa.RecordBatch, str | None]]   # batches and the split they belong to, where it is known
_Text = Callable[[], str]
_Object = tuple[int, dict[str, Any] | str, _Text, int]  # line, its object or the reason for refusal, its text, bytes


class _Bad(Exception):
    """A line that is refused; the text says why."""


class Refusal(NamedTuple):
    """A line that was not taken in: its number, the reason, and the start of its text."""

    line: int       # from 1 in text files; in Parquet, Arrow and HF datasets the row, from 0
    reason: str
    text: str       # first 2,000 characters; bytes that are not UTF-8 as \\xNN


class _Chunk(NamedTuple):
    batch: pa.RecordBatch
    bad: list[Refusal]
    done: int       # bytes (text files) or rows (tables) read so far


class _Block(NamedTuple):
    first: int              # line number of the first line in data
    data: bytes             # whole lines, without the last line end
    at: list[int] | None    # line numbers where they do not simply count up from `first`
    bad: list[Refusal]      # refused before parsing: too long, cut short
    done: int


@dataclass(frozen=True)
class Shape:
    """How the fields of one source make a row: the kind, and the field name for each part ("" = none).

    A part that the first rows do not have keeps its usual name, so that a field met later is not taken for another.
    """

    name: str
    kind: str               # pair | turns | completion | rows
    instruction: str = ""
    input: str = ""
    response: str = ""
    messages: str = ""
    system: str = ""
    history: str = ""
    family: str = ""
    id: str = ""
    split: str = ""

    def sentence(self, seen: Iterable[str]) -> tuple[str, str]:
        """Return the name, the fields among `seen` that make up the turns, and where the family comes from."""
        names = (self.instruction, self.input, self.response, self.messages, self.system, self.history)
        text = f"{self.name} ({', '.join(name for name in names if name in seen)})"
        return text, f"; family from {self.family!r}" if self.family in seen else ""


# ---------------------------------------------------------------- which shape

def detect(objects: list[dict[str, Any]], mapping: Mapping[str, str], place: str) -> Shape:
    """Return the shape of rows with these fields; `place` (a file name) goes into the error."""
    seen = list(dict.fromkeys(key for each in objects for key in each))
    have = set(seen)
    _check_mapping(mapping, seen, place)
    for guess in (_mapped_shape, _own_shape, _turns_shape, _completion_shape, _pair_shape):
        shape = guess(have, objects, mapping)
        if shape is not None:
            return shape
    shown = ", ".join(repr(name) for name in seen[:12]) or "none"
    raise CurationError(
        f"{place}: unknown format: no pair of prompt and response among the fields {shown}",
        "say which field is which with --map, e.g. --map instruction=FIELD --map response=FIELD; known without it: "
        "instruction/output, prompt/completion, prompt/response, question/answer, conversations, messages",
    )


def _check_mapping(mapping: Mapping[str, str], seen: list[str], place: str) -> None:
    for part, name in mapping.items():
        if part not in MAPPED:
            close = nearest(part, MAPPED)
            raise CurationError(
                f"--map {part}={name}: {part!r} is not a part of a row",
                (f"did you mean {close!r}? " if close else "") + f"parts: {', '.join(MAPPED)}",
            )
        if name not in seen:
            close = nearest(name, seen)
            raise CurationError(
                f"{place}: --map {part}={name}: there is no field {name!r}",
                (f"did you mean {close!r}? " if close else "") + f"fields: {', '.join(seen[:20])}",
            )


def _side(have: set[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return the field names of family, id, split, system and history: mapped, found, or the usual one."""
    taken = set(mapping.values())

    def of(part: str, *names: str) -> str:
        free = [name for name in names if name not in taken]
        return mapping.get(part) or next((name for name in free if name in have), free[0] if free else "")

    return {
        "family": of("family", "family", "category"), "id": of("id", "id"), "split": of("split", "split"),
        "system": of("system", "system"), "history": of("history", "history"),
    }


def _mapped_shape(have: set[str], objects: list[dict[str, Any]], mapping: Mapping[str, str]) -> Shape | None:
    side = _side(have, mapping)
    if "messages" in mapping:
        return Shape("mapped conversations", "turns", messages=mapping["messages"], **{**side, "history": ""})
    if "instruction" in mapping and "response" in mapping:
        parts = {part: mapping.get(part, "") for part in ("instruction", "input", "response")}
        return Shape("mapped rows", "pair", **parts, **side)
    if "instruction" in mapping or "response" in mapping:
        names = {part: mapping[part] for part in ("instruction", "response") if part in mapping}
        others = have - set(names.values())
        names.setdefault("instruction", next((n for n in _PROMPTS if n in others), ""))
        names.setdefault("response", next((n for n in _RESPONSES if n in others), ""))
        if names["instruction"] and names["response"]:
            return Shape("mapped rows", "pair", input=mapping.get("input", ""), **names, **side)
    return None


def _own_shape(have: set[str], objects: list[dict[str, Any]], mapping: Mapping[str, str]) -> Shape | None:
    if not have >= _OWN:
        return None
    side = {**_side(have, mapping), "system": "", "history": ""}
    return Shape("rows of a dataset folder", "rows", messages="messages", **side)


def _turns_shape(have: set[str], objects: list[dict[str, Any]], mapping: Mapping[str, str]) -> Shape | None:
    for name, title in _CONVERSATIONS.items():
        if name in have and any(isinstance(each.get(name), (list, dict, str)) for each in objects):
            return Shape(title, "turns", messages=name, **{**_side(have, mapping), "history": ""})
    return None


def _completion_shape(have: set[str], objects: list[dict[str, Any]], mapping: Mapping[str, str]) -> Shape | None:
    if not have >= {"prompt", "completion"}:
        return None
    side = {**_side(have, mapping), "history": ""}
    return Shape("TRL prompt/completion rows", "completion", instruction="prompt", response="completion", **side)


def _pair_shape(have: set[str], objects: list[dict[str, Any]], mapping: Mapping[str, str]) -> Shape | None:
    have = have - {name for part, name in mapping.items() if part != "input"}
    prompt = next((name for name in _PROMPTS if name in have), "")
    response = next((name for name in _RESPONSES if name in have and name != prompt), "")
    if not prompt or not response:
        return None
    side = _side(have | set(mapping.values()), mapping)
    extra = mapping.get("input", "")
    if prompt == "instruction" and not extra:
        extra = next((name for name in ("input", "context", "query") if name in have), "input")
    name = "Alpaca rows" if (prompt, response) == ("instruction", "output") else "prompt/response rows"
    if "input" in mapping.values() and extra == "input" and mapping.get("input") != "input":
        extra = ""
    if (prompt, extra, response) == ("instruction", "context", "response"):
        name = "Dolly rows"
    return Shape(name, "pair", instruction=prompt, input=extra, response=response, **side)


# ---------------------------------------------------------------- one object into one row

def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{str(value).lower()}, a truth value"
    if isinstance(value, (int, float)):
        return f"a number ({value})"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return f"a {type(value).__name__}"


def _not_text(name: str, value: object, rest: Mapping[str, Any]) -> _Bad:
    if value is _ABSENT:
        there = ", ".join(list(rest)[:8])
        return _Bad(f"missing field {name!r}" + (f" (other fields: {there})" if there else ""))
    return _Bad(f"field {name!r} is {_kind(value)}, expected text")


def _order(roles: list[str]) -> None:
    """Raise unless the roles are [system] user assistant (user|tool ... assistant)*, ending with the assistant."""
    if not roles:
        raise _Bad("the conversation is empty")
    before = ""
    for k, role in enumerate(roles):
        if role not in _NEXT[before]:
            place = f"turn {k} is {role!r} after {before!r}" if before else f"the first turn is {role!r}"
            raise _Bad(f"roles out of order: {place}, expected {' or '.join(_NEXT[before])}")
        before = role
    if before != "assistant":
        raise _Bad(f"roles out of order: the last turn is {before!r}, expected assistant")


def _content(turn: dict[str, Any], k: int) -> str:
    """Return the text of a turn; text parts joined, tool calls as one line of JSON after the text."""
    value = turn.pop("content", _ABSENT)
    if value is _ABSENT:
        value = turn.pop("value", _ABSENT)
    if value is _ABSENT and not turn.get("tool_calls"):
        raise _Bad(f"turn {k}: no content")
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) != len(parts):
            raise _Bad(f"turn {k}: content has a part that is not text")
        value = "".join(texts)
    calls = turn.pop("tool_calls", None)
    if calls:
        text = _compact(calls)
        return f"{value}\n{text}" if isinstance(value, str) and value else text
    if not isinstance(value, str):
        raise _Bad(f"turn {k}: content is {_kind(value)}, expected text")
    return value


def _turn_list(value: object) -> list[Any]:
    """Return the turns of a field: a list, a JSON text of one, or an object of equally long lists."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except ValueError:
            raise _Bad("the conversation is text that is not JSON") from None
    if isinstance(value, dict) and value and all(isinstance(v, list) for v in value.values()):
        if len({len(v) for v in value.values()}) != 1:
            raise _Bad("the conversation's lists differ in length")
        value = [dict(zip(value, turn)) for turn in zip(*value.values())]
    if not isinstance(value, list):
        raise _Bad(f"the conversation is {_kind(value)}, expected a list of turns")
    return value


def _turns(value: object, offset: int = 0) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Return (roles, contents, other fields of each turn) of a list of turns; an empty system turn is left out."""
    roles: list[str] = []
    contents: list[str] = []
    extras: list[dict[str, Any]] = []
    for k, turn in enumerate(value if type(value) is list else _turn_list(value), offset):
        if not isinstance(turn, dict):
            raise _Bad(f"turn {k} is {_kind(turn)}, expected an object with role and content")
        if "human" in turn and "assistant" in turn and "role" not in turn:
            pair = [("user", turn.pop("human")), ("assistant", turn.pop("assistant"))]
            more = _turns([{"role": role, "content": text} for role, text in pair], k)
            roles, contents, extras = roles + more[0], contents + more[1], [*extras, turn, {}]
            continue
        name = turn.pop("role", None) or turn.pop("from", None)
        role = _ROLE.get(name) or _ROLE.get(name.lower()) if isinstance(name, str) else None
        if role is None:
            raise _Bad(f"turn {k}: role {name!r} is not known" if name else f"turn {k}: no role")
        text = _content(turn, k)
        if role == "system" and not text:
            continue
        if name in _CALLS:
            turn["from"] = name
        roles.append(role)
        contents.append(text)
        extras.append({key: v for key, v in turn.items() if v is not None} if turn else turn)
    return roles, contents, extras


def _plain(value: object) -> str:
    """Return what JSON has no word for as text: bytes as base64, dates and decimals as written."""
    return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else str(value)


def _compact(value: object) -> str:
    try:
        return orjson.dumps(value, default=_plain).decode()
    except TypeError as error:  # nested deeper than 254
        raise _Bad(f"a field cannot be kept as JSON: {error}") from None


class _Columns:
    """Rows being built, column by column. `take` adds one object or raises _Bad and adds nothing."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.take: Callable[[dict[str, Any]], None] = {
            "pair": self._pair, "turns": self._conversation, "completion": self._completion, "rows": self._own,
        }[shape.kind]
        self._roles: list[str] = []
        self._contents: list[str] = []
        self._offsets: list[int] = [0]
        self._rows: list[tuple[str | None, ...]] = []

    def _pair(self, row: dict[str, Any]) -> None:
        shape = self.shape
        instruction = row.pop(shape.instruction, _ABSENT)
        if type(instruction) is not str:
            raise _not_text(shape.instruction, instruction, row)
        response = row.pop(shape.response, _ABSENT)
        if type(response) is not str:
            raise _not_text(shape.response, response, row)
        given = self._optional(row, shape.input) if shape.input else ""
        user = f"{instruction}\n{given}" if given else instruction
        roles, contents = ["user", "assistant"], [user, response]
        if shape.history and (history := row.pop(shape.history, None)):
            earlier = self._earlier(history)
            roles, contents = ["user", "assistant"] * (len(earlier) // 2) + roles, earlier + contents
        system = self._optional(row, shape.system) if shape.system else ""
        if system:
            roles, contents = ["system", *roles], [system, *contents]
        self._add(row, roles, contents, system, instruction, given, response)

    @staticmethod
    def _optional(row: dict[str, Any], name: str) -> str:
        value = row.pop(name, None)
        if value is None:
            return ""
        if type(value) is not str:
            raise _not_text(name, value, row)
        return value

    def _earlier(self, history: object) -> list[str]:
        """Return the flat texts of [[prompt, response], ...]."""
        if isinstance(history, str):
            history = _turn_list(history)
        good = isinstance(history, list) and all(
            isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(t, str) for t in pair)
            for pair in history
        )
        if not good:
            raise _Bad(f"field {self.shape.history!r} is not a list of [prompt, response] pairs")
        return [text for pair in history for text in pair]  # type: ignore[attr-defined]

    def _conversation(self, row: dict[str, Any]) -> None:
        value = row.pop(self.shape.messages, _ABSENT)
        if value is _ABSENT:
            raise _not_text(self.shape.messages, value, row)
        self._converse(row, *_turns(value))

    def _completion(self, row: dict[str, Any]) -> None:
        parts: list[tuple[list[str], list[str], list[dict[str, Any]]]] = []
        for name, role in ((self.shape.instruction, "user"), (self.shape.response, "assistant")):
            value = row.pop(name, _ABSENT)
            if value is _ABSENT or value is None or isinstance(value, (int, float)):
                raise _not_text(name, value, row)
            offset = len(parts[0][0]) if parts else 0
            parts.append(([role], [value], [{}]) if isinstance(value, str) else _turns(value, offset))
        (roles, contents, extras), (roles2, contents2, extras2) = parts
        self._converse(row, roles + roles2, contents + contents2, extras + extras2)

    def _own(self, row: dict[str, Any]) -> None:
        roles, contents, extras = _turns(row.pop("messages", None))
        instruction, given = row.pop("instruction", None), row.pop("input", None)
        for name in ("row", "uid", "system", "response", "source"):
            row.pop(name, None)
        meta = row.pop("meta", None) or "{}"
        try:
            kept = orjson.loads(meta)
        except ValueError:
            raise _Bad("field 'meta' is not JSON") from None
        row.update(kept if isinstance(kept, dict) else {"meta": kept})
        self._converse(row, roles, contents, extras, (instruction, given))

    def _converse(
        self, row: dict[str, Any], roles: list[str], contents: list[str], extras: list[dict[str, Any]],
        view: tuple[str | None, str | None] = (None, None),
    ) -> None:
        if self.shape.system and (system := self._optional(row, self.shape.system)):
            if roles and roles[0] == "system" and contents[0] != system:
                raise _Bad("two different system prompts: a field and a turn")
            if not roles or roles[0] != "system":
                roles, contents, extras = ["system", *roles], [system, *contents], [{}, *extras]
        _order(roles)
        if any(extras):
            row["turns"] = extras
        user = contents[len(roles) - 1 - roles[::-1].index("user")]
        instruction, given = view
        if not given or f"{instruction}\n{given}" != user:
            instruction, given = user, ""
        system = contents[0] if roles[0] == "system" else ""
        self._add(row, roles, contents, system, instruction or "", given, contents[-1])

    def _label(self, row: dict[str, Any], name: str) -> str | None:
        """Take a short text out of the row: numbers as written; what is neither stays among the other fields."""
        value = row.pop(name, None)
        if type(value) is str:
            return value or None
        if isinstance(value, (dict, list)):
            row[name] = value
            return None
        return None if value is None else str(value)

    def _add(
        self, row: dict[str, Any], roles: list[str], contents: list[str],
        system: str, instruction: str, given: str, response: str,
    ) -> None:
        shape = self.shape
        label = self._label
        self._rows.append((
            uid(roles, contents),
            label(row, shape.id) if shape.id else None,
            system, instruction, given, response,
            label(row, shape.family) if shape.family else None,
            label(row, shape.split) if shape.split else None,
            _compact(row) if row else "{}",
        ))
        self._roles += roles
        self._contents += contents
        self._offsets.append(len(self._roles))

    def batch(self) -> pa.RecordBatch:
        """Return the rows so far; `row` and `source` are added where the order of blocks is known."""
        turns = pa.StructArray.from_arrays(
            [pa.array(self._roles, pa.string()), pa.array(self._contents, pa.string())],
            fields=list(MESSAGES.value_type),
        )
        messages = pa.ListArray.from_arrays(pa.array(self._offsets, pa.int32()), turns, type=MESSAGES)
        texts = zip(*self._rows) if self._rows else ((),) * (len(_PARSED) - 1)
        return pa.RecordBatch.from_arrays([*(pa.array(column, pa.string()) for column in texts), messages], schema=_PARSED)


def uid(roles: list[str], contents: list[str]) -> str:
    """Return text.uid_of for texts known to hold no lone surrogate (a third faster)."""
    text = "\x1e".join([f"{role}\x1f{normalise(content)}" for role, content in zip(roles, contents)])
    return xxhash.xxh3_128_hexdigest(text.encode())


# ---------------------------------------------------------------- lines of JSON

def _show(line: bytes | str) -> str:
    if isinstance(line, str):
        return line[:SHOWN].encode("utf-8", "backslashreplace").decode()
    return line[: 4 * SHOWN].decode("utf-8", "backslashreplace")[:SHOWN]


def _why(line: bytes) -> str:
    """Return why a line that orjson refused is not JSON: the byte, the lone surrogate or the column."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line is not UTF-8"
    if "\0" in text:
        return f"malformed JSON: NUL byte at column {text.index(chr(0)) + 1}"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"malformed JSON: {error.msg} at column {error.pos + 1}"
    except RecursionError:
        return "malformed JSON: nested too deep"
    except ValueError as error:
        return f"malformed JSON: {error}"
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "a lone surrogate (half of a \\ud83d\\ude00 pair) is not text"
    if re.search(r"\b(NaN|Infinity)\b", text):
        return "malformed JSON: NaN and Infinity are not JSON"
    return "malformed JSON"


def _count_keys(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_count_keys(v) for v in value.values() if type(v) is dict or type(v) is list)
    if isinstance(value, list):
        return sum(_count_keys(v) for v in value if type(v) is dict or type(v) is list)
    return 0


def _no_duplicates(line: bytes) -> None:
    """Raise when an object in the line names a key twice (exact; a parser would silently keep the last)."""

    def pairs(items: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in items}) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise _Bad(f"duplicate key {twice!r}")

    try:
        json.loads(line, object_pairs_hook=pairs)
    except ValueError as error:     # a number of more than 4,300 digits
        raise _Bad(f"malformed JSON: {error}") from None


def _object(line: bytes, spaced: bool) -> dict[str, Any]:
    """Return the object in a line. For duplicate keys, `":` is counted against the keys; a difference is examined."""
    try:
        value = orjson.loads(line)
    except ValueError:
        raise _Bad(_why(line)) from None
    if type(value) is not dict:
        raise _Bad(f"the line is {_kind(value)}, expected an object")
    colons = line.count(b'":')
    try:
        if (spaced and _SPACED_KEY.search(line)) or (colons != len(value) and colons != _count_keys(value)):
            _no_duplicates(line)
    except RecursionError:
        raise _Bad("malformed JSON: nested too deep") from None
    return value


def _too_long(size: int) -> str:
    return f"the line is {size:,} bytes long or longer; one row may have {MAX_LINE:,}"


def _parse(block: _Block, shape: Shape, stop: bool) -> _Chunk:
    """Return the rows of a block of JSON lines; with `stop`, nothing after the first refused line."""
    columns = _Columns(shape)
    take = columns.take
    bad = list(block.bad)
    data = block.data
    spaced = any(mark in data for mark in _SPACED)
    for k, line in enumerate(data.split(b"\n") if data else ()):
        try:
            if len(line) > MAX_LINE:
                raise _Bad(_too_long(len(line)))
            take(_object(line, spaced))
        except _Bad as error:
            if not line or line.isspace():
                continue
            bad.append(Refusal(block.at[k] if block.at else block.first + k, str(error), _show(line)))
            if stop:
                break
    return _Chunk(columns.batch(), sorted(bad), block.done)


class _Bytes:
    """A stream of bytes that notes why it broke off instead of raising, and how far the file has been read."""

    def __init__(self, raw: IO[bytes], total: int, name: str) -> None:
        self.name = name
        self.total = total
        self.broken = ""
        self._raw = raw
        self.gzip = raw.peek(2)[:2] == b"\x1f\x8b" if isinstance(raw, io.BufferedReader) else False
        self._in: IO[bytes] = gzip.GzipFile(fileobj=raw) if self.gzip else raw  # type: ignore[assignment]
        self._head = b""
        self.bom = self.peek(3) == b"\xef\xbb\xbf"
        if self.bom:
            self._head = self._head[3:]

    @property
    def done(self) -> int:
        return self._raw.tell() if self.total else 0

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (more := self._next(size - len(self._head))):
            self._head += more
        return self._head[:size]

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head + self._next(size - len(head)) if len(head) < size else head

    def _next(self, size: int) -> bytes:
        if not self.gzip:
            return self._in.read(size)
        parts: list[bytes] = []
        try:
            while size > 0 and not self.broken and (part := self._in.read1(size)):  # type: ignore[attr-defined]
                parts.append(part)
                size -= len(part)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.broken = f"the gzip data ends early or is damaged ({error})"
        return b"".join(parts)

    def close(self) -> None:
        self._raw.close()


def _blocks(stream: _Bytes) -> Iterator[_Block]:
    """Yield blocks of whole lines; a line beyond MAX_LINE is passed over without being held."""
    rest, line = b"", 1
    while data := stream.read(BLOCK):
        buffer = rest + data if rest else data
        cut = buffer.rfind(b"\n")
        if cut < 0 and len(buffer) <= MAX_LINE:
            rest = buffer
            continue
        if cut < 0:
            size, rest = _pass_over(stream, len(buffer))
            yield _Block(line, b"", None, [Refusal(line, _too_long(size), _show(buffer[: 4 * SHOWN]))], stream.done)
            line += 1
            continue
        yield _Block(line, buffer[:cut], None, [], stream.done)
        line += buffer.count(b"\n", 0, cut + 1)
        rest = buffer[cut + 1 :]
    if stream.broken:
        yield _Block(line, b"", None, [Refusal(line, stream.broken, _show(rest))], stream.done)
    elif rest:
        yield _Block(line, rest, None, [], stream.done)


def _pass_over(stream: _Bytes, size: int) -> tuple[int, bytes]:
    """Read to the next line end; return (bytes of the line, bytes after it)."""
    while data := stream.read(1 << 20):
        cut = data.find(b"\n")
        if cut >= 0:
            return size + cut, data[cut + 1 :]
        size += len(data)
    return size, b""


class _ArrayScan:
    """The elements of a JSON array, found by brackets outside strings; each becomes one line of a block."""

    def __init__(self) -> None:
        self.buffer = b""
        self.line = 1           # line number at the start of buffer
        self.opened = False     # the array's own bracket was seen
        self.closed = False

    def scan(self) -> tuple[list[bytes], list[int]]:
        """Return (elements, line numbers) of all whole elements in the buffer, and drop them from it."""
        depth = int(self.opened)
        line, start, used, start_line = self.line, 0, 0, self.line
        found: list[bytes] = []
        at: list[int] = []
        buffer = self.buffer
        for token in _ARRAY_TOKEN.finditer(buffer):
            mark = token.group()
            if mark == b"\n":
                line += 1
            elif mark == b"{" or mark == b"[":
                depth += 1
                if depth == 1:
                    used, self.line, self.opened = token.end(), line, True
                elif depth == 2:
                    self._gap(buffer[used : token.start()], found, at)
                    start, start_line = token.start(), line
            elif mark == b"}" or mark == b"]":
                depth -= 1
                if depth == 1:
                    found.append(buffer[start : token.end()].replace(b"\n", b"\r"))
                    at.append(start_line)
                    used, self.line = token.end(), line
                elif depth == 0:
                    self._gap(buffer[used : token.start()], found, at)
                    used, self.line, self.closed = token.end(), line, True
                    break
            elif token.group(1) is not None:    # the string goes on beyond the buffer
                break
        self.buffer = buffer[used:]
        return found, at

    def _gap(self, gap: bytes, found: list[bytes], at: list[int]) -> None:
        """Keep what stands between elements beside commas, from `line` on: it is no row and must be named."""
        text = gap.lstrip(b", \t\r\n")
        if text:
            at.append(self.line + gap[: len(gap) - len(text)].count(b"\n"))
            found.append(text.rstrip(b", \t\r\n").replace(b"\n", b"\r"))


def _array_blocks(stream: _Bytes) -> Iterator[_Block]:
    """Yield blocks with one element of a JSON array a line, in bounded memory."""
    scan = _ArrayScan()
    size = BLOCK
    while not scan.closed and (data := stream.read(size)):
        scan.buffer += data
        found, at = scan.scan()
        if found:
            size = BLOCK
            yield _Block(0, b"\n".join(found), at, [], stream.done)
        elif not scan.closed:
            if len(scan.buffer) > MAX_ARRAY_GAP:
                break
            size = max(BLOCK, len(scan.buffer))
    reason = stream.broken
    if not reason and not scan.closed:
        reason = "the array is not closed: an element has no end, and nothing after it could be read"
    if not reason and (scan.buffer.strip() or stream.read(1 << 16).strip()):
        reason = "there is text after the end of the array"
    if reason:
        yield _Block(scan.line, b"", None, [Refusal(scan.line, reason, _show(scan.buffer.strip()))], stream.done)


# ---------------------------------------------------------------- workers

class _Worker:
    """One parsing process. Its requests and answers are length-prefixed frames on its standard streams."""

    def __init__(self, shape: Shape, stop: bool) -> None:
        # The package's __init__ brings in checks and their libraries, which a parser never uses: it gets an empty one.
        code = (
            "import sys, types; package = types.ModuleType('curation'); package.__path__ = [sys.argv[1]]; "
            "sys.modules['curation'] = package; from curation.formats import work; work()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(Path(__file__).resolve().parent)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=1 << 20,
        )
        self._send(pickle.dumps((shape, stop)))

    def _send(self, data: bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(struct.pack("<Q", len(data)))
        pipe.write(data)
        pipe.flush()

    def parse(self, block: _Block) -> _Chunk:
        """Send a block, wait for its rows."""
        try:
            self._send(pickle.dumps(block._replace(data=b"")))
            self._send(block.data)
            assert self._process.stdout is not None
            bad, data = pickle.loads(_frame(self._process.stdout)), _frame(self._process.stdout)
        except (BrokenPipeError, EOFError) as error:
            raise RuntimeError(f"a parsing process ended with code {self._process.wait()}") from error
        return _Chunk(pa.ipc.read_record_batch(pa.py_buffer(data), _PARSED), bad, block.done)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    log.debug("a parsing process was ended while it was sent a block")


def _frame(pipe: IO[bytes]) -> bytes:
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    size = struct.unpack("<Q", head)[0]
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def work() -> None:
    """Parse blocks from standard input until it ends: the whole life of a parsing process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the process that reads our answers ends us
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    shape, stop = pickle.loads(_frame(incoming))
    while True:
        try:
            block: _Block = pickle.loads(_frame(incoming))
        except EOFError:
            return
        chunk = _parse(block._replace(data=_frame(incoming)), shape, stop)
        try:
            for part in (pickle.dumps(chunk.bad), chunk.batch.serialize()):
                outgoing.write(struct.pack("<Q", len(part)))
                outgoing.write(part)
            outgoing.flush()
        except BrokenPipeError:     # the reader was killed
            os.dup2(os.open(os.devnull, os.O_WRONLY), outgoing.fileno())
            return
        del block, chunk, part


def _parsed(blocks: Iterator[_Block], shape: Shape, stop: bool, workers: int) -> Iterator[_Chunk]:
    """Yield the rows of all blocks in order; fewer than ALONE are parsed here, more by `workers` processes."""
    first = [block for _, block in zip(range(ALONE), blocks)]
    if workers < 2 or len(first) < ALONE:
        for block in chain(first, blocks):
            yield _parse(block, shape, stop)
        return
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    team = [_Worker(shape, stop) for _ in range(workers)]
    for worker in team:
        idle.put(worker)

    def run(block: _Block) -> _Chunk:
        worker = idle.get()
        try:
            return worker.parse(block)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[_Chunk]] = deque()
    try:
        for block in chain(first, blocks):
            waiting.append(pool.submit(run, block))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for worker in team:
            worker.close()
        pool.shutdown()


# ---------------------------------------------------------------- CSV

_CsvRow = tuple[int, list[str] | str, str]      # line, cells or the reason for refusal, text


class _CsvLines:
    """The physical lines of a CSV text for csv.reader; remembers those of the row under way."""

    def __init__(self, stream: _Bytes) -> None:
        self._lines = self._split(stream)
        self.number = 0             # of the last line handed out, from 1
        self.pending: list[str] = []
        self.long = 0               # bytes of a line of this row that was beyond MAX_LINE

    @staticmethod
    def _split(stream: _Bytes) -> Iterator[tuple[str, int]]:
        for block in _blocks(stream):
            for refusal in block.bad:
                yield refusal.text, -1 if refusal.reason == stream.broken else MAX_LINE
            for line in block.data.split(b"\n") if block.data or not block.bad else ():
                yield line.decode("utf-8", "surrogateescape") + "\n", 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text, self.long = next(self._lines)
        self.number += 1
        self.pending.append(text)
        return text


def _csv_rows(lines: _CsvLines, delimiter: str, stream: _Bytes) -> Iterator[_CsvRow]:
    """Yield (line number, cells or the reason for refusal, text) for every row of a CSV text."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.pending.clear()
        first = lines.number + 1
        try:
            cells: list[str] | str = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = f"malformed CSV: {error}"
        text = "".join(lines.pending)
        if lines.long:
            cells = stream.broken if lines.long < 0 else _too_long(lines.long)
        elif not text.isascii() and (byte := _NOT_UTF8.search(text)):
            cells = f"byte 0x{ord(byte.group()) - 0xDC00:02x} is not UTF-8"
        elif "\0" in text:
            cells = "NUL byte"
        if cells:
            yield first, cells, text.rstrip("\r\n")


def _csv_objects(rows: Iterator[_CsvRow], header: list[str]) -> Iterator[_Object]:
    value: dict[str, Any] | str
    for line, cells, text in rows:
        if isinstance(cells, str):
            value = cells
        elif len(cells) != len(header):
            value = f"{len(cells)} cells, but the header names {len(header)} columns"
        else:
            value = dict(zip(header, cells))
        yield line, value, text.__str__, len(text)


def _object_chunks(
    objects: Iterable[_Object], shape: Shape, stop: bool, done: Callable[[], int]
) -> Iterator[_Chunk]:
    """Yield the rows of objects, at most 8,192 rows or about BLOCK bytes a chunk."""
    columns, bad, count, size = _Columns(shape), list[Refusal](), 0, 0
    for line, value, text, length in objects:
        try:
            if isinstance(value, str):
                raise _Bad(value)
            columns.take(value)
        except _Bad as error:
            bad.append(Refusal(line, str(error), _show(text())))
            if stop:
                break
        count, size = count + 1, size + length
        if count == 8192 or size > BLOCK:
            yield _Chunk(columns.batch(), bad, done())
            columns, bad, count, size = _Columns(shape), [], 0, 0
    yield _Chunk(columns.batch(), bad, done())


# ---------------------------------------------------------------- tables

def _table_objects(batches: _Splits) -> Iterator[_Object]:
    """Yield the objects of Arrow batches; `split`, where known, becomes a field."""
    row = 0
    for batch, split in batches:
        for k in range(0, batch.num_rows, 1024):
            part = batch.slice(k, 1024)
            size = part.nbytes // part.num_rows
            for n, value in enumerate(_pylist(part)):
                if isinstance(value, dict) and split is not None:
                    value.setdefault("split", split)
                yield row, value, partial(_cells, part, n), size
                row += 1


def _cells(part: pa.RecordBatch, n: int) -> str:
    """Return row `n` of a batch as JSON, for a person to look at."""
    value = _pylist(part.slice(n, 1))[0]
    try:
        return value if isinstance(value, str) else _compact(value)
    except _Bad as error:
        return str(error)


def _pylist(part: pa.RecordBatch) -> list[dict[str, Any] | str]:
    try:
        return part.to_pylist()
    except (UnicodeDecodeError, pa.ArrowInvalid) as error:
        if part.num_rows == 1:
            return [f"a value that is not text: {error}"]
        return [value for k in range(part.num_rows) for value in _pylist(part.slice(k, 1))]


def _parquet(path: Path) -> tuple[_Splits, int]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, "Parquet", error) from None

    def batches() -> _Splits:
        with file:
            try:
                for batch in file.iter_batches(batch_size=8192):
                    yield batch, None
            except (pa.ArrowInvalid, OSError) as error:
                raise _unreadable(path, "Parquet", error) from None

    return batches(), file.metadata.num_rows


def _arrow(path: Path) -> tuple[_Splits, int]:
    def batches() -> _Splits:
        try:
            with pa.memory_map(str(path)) as source:
                if source.read(6) == b"ARROW1":
                    file = pa.ipc.open_file(source)
                    for k in range(file.num_record_batches):
                        yield file.get_batch(k), None
                else:
                    source.seek(0)
                    for batch in pa.ipc.open_stream(source):
                        yield batch, None
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(path, "Arrow", error) from None

    return batches(), 0


def _unreadable(path: Path, what: str, error: Exception) -> CurationError:
    reason = str(error).split("\n")[0].rstrip(".")
    what = f"{path}: not a readable {what} file: {reason}"
    return CurationError(what, "the file is cut short or damaged: fetch or write it again")


# ---------------------------------------------------------------- Hugging Face datasets

@contextmanager
def _offline() -> Iterator[None]:
    """For the time of the block, let `datasets` use its local cache alone."""
    import datasets.config
    import huggingface_hub.constants as constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def hub_reachable(seconds: float = HUB_SECONDS) -> bool:
    """Tell whether the hub (or the proxy on the way to it) takes a connection within `seconds`."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    place = urlsplit(proxy or os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    answered = threading.Event()

    def ask() -> None:
        try:
            socket.create_connection((place.hostname or "", place.port or 443), timeout=seconds).close()
        except OSError as error:
            log.debug("the hub does not answer: %s", error)
        else:
            answered.set()

    asking = threading.Thread(target=ask, daemon=True)  # a thread, since looking up a name heeds no time limit
    asking.start()
    asking.join(seconds)
    return answered.is_set()


def _hub(name: str, subset: str | None, split: str | None) -> Any:
    """Return the dataset `name` of the hub, from the local cache when the hub does not answer."""
    import datasets

    clients = [sys.modules[client] for client in ("httpx", "httpx2") if client in sys.modules]  # of the hub's library
    faults = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError, *(c.HTTPError for c in clients))
    reachable = hub_reachable()
    try:
        if reachable:
            return datasets.load_dataset(name, subset, split=split)
        with _offline():
            return datasets.load_dataset(name, subset, split=split)
    except faults as error:
        reason = str(error).split("\n")[0]
        if reachable:
            what = f"{name}: the hub's dataset cannot be read: {reason}"
            raise CurationError(what, "check the id, --subset and --split") from None
        raise CurationError(
            f"{name}: no such file, and as a hub id it is neither in the local cache nor is the hub reachable",
            f"check the path; or, where there is a network: hf download {name} --repo-type dataset --local-dir FOLDER, "
            "then import its files",
        ) from None


def _folder(path: Path) -> Any:
    """Return the dataset that was saved in a folder by `save_to_disk`."""
    import datasets

    if not any((path / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
        files = sorted(p.name for p in path.iterdir() if p.is_file())[:8]
        raise CurationError(
            f"{path}: not a folder written by datasets.save_to_disk (files: {', '.join(files) or 'none'})",
            "name one file in it",
        )
    try:
        return datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise _unreadable(path, "dataset", error) from None


def _dataset_batches(
    data: Any, split: str | None, place: str
) -> tuple[_Splits, int]:
    """Return the batches of a Dataset, or of one or all splits of a DatasetDict, and the number of rows."""
    many = isinstance(data, dict)
    parts: dict[str | None, Any] = dict(data) if many else {str(data.split) if data.split else None: data}
    if split is not None and many:
        if split not in data:
            raise CurationError(f"{place}: there is no split {split!r}", f"splits: {', '.join(data)}")
        parts = {split: data[split]}

    def batches() -> _Splits:
        for name, part in parts.items():
            for table in part.with_format("arrow").iter(batch_size=8192):
                for batch in table.to_batches():
                    yield batch, name

    return batches(), sum(len(part) for part in parts.values())


# ---------------------------------------------------------------- reading

@dataclass
class Reading:
    """An iterator of ROWS batches (dictionary columns as plain strings), at most 65,536 rows each.

    Rows are numbered in file order over the accepted lines, from 0; `uid` is without the #k of identical copies.
    `accepted`, `refused` and rejected.jsonl are complete once the iterator is exhausted. Without `skip_bad` the
    first refused line raises CurationError.
    """

    detected: str       # one sentence
    source: str         # name of the file or dataset
    _chunks: Iterator[_Chunk] = field(repr=False)
    _total: int = 0
    _unit: str = ":"    # between the name and the line number in errors
    _skip_bad: bool = False
    _rejected: Path | None = None
    _progress: Progress | None = field(default=None, repr=False)
    accepted: int = 0
    refused: int = 0
    _started: bool = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        assert not self._started, "a Reading is read once"
        self._started = True
        temporary = self._rejected.with_name(self._rejected.name + ".tmp") if self._rejected else None
        sink: IO[bytes] | None = None
        try:
            for chunk in self._chunks:
                if chunk.bad:
                    if not self._skip_bad:
                        self._refuse(chunk.bad[0])
                    if temporary and sink is None:
                        temporary.parent.mkdir(parents=True, exist_ok=True)
                        sink = temporary.open("wb")
                    self._put_aside(chunk.bad, sink)
                yield from self._numbered(chunk.batch)
                if self._progress:
                    self._progress(chunk.done, self._total)
            self._finish(temporary, sink)
        finally:
            if sink is not None:
                sink.close()
            self._chunks.close()  # type: ignore[attr-defined]

    def _refuse(self, bad: Refusal) -> None:
        raise CurationError(f"{self.source}{self._unit}{bad.line}: {bad.reason}", SKIP_HINT)

    def _put_aside(self, bad: list[Refusal], sink: IO[bytes] | None) -> None:
        self.refused += len(bad)
        if sink is not None:
            sink.write(b"".join(orjson.dumps(refusal._asdict()) + b"\n" for refusal in bad))
            sink.flush()

    def _numbered(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for k in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(k, BATCH_ROWS)
            n = part.num_rows
            row = pa.array(np.arange(self.accepted, self.accepted + n, dtype=np.int64))
            self.accepted += n
            columns = {
                **dict(zip(part.schema.names, part.columns)), "row": row, "source": pa.repeat(self.source, n),
                "id": pc.coalesce(part["id"], row.cast(pa.string())),
            }
            yield pa.RecordBatch.from_arrays([columns[name] for name in PLAIN_ROWS.names], schema=PLAIN_ROWS)

    def _finish(self, temporary: Path | None, sink: IO[bytes] | None) -> None:
        if temporary is None or self._rejected is None:
            return
        if sink is None:
            self._rejected.unlink(missing_ok=True)  # one from an earlier run would tell of lines that are fine now
            return
        os.fsync(sink.fileno())
        sink.close()
        os.replace(temporary, self._rejected)
        _sync_folder(self._rejected.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sentence(container: str, shape: Shape, objects: list[dict[str, Any]], encoding: str = "") -> str:
    what, family = shape.sentence({key for each in objects for key in each})
    return f"{container}, {what}{encoding}{family}"


def read(
    source: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    rejected: Path | None = None,
    progress: Progress | None = None,
    split: str | None = None,
    subset: str | None = None,
    workers: int = 2,
    fields: list[str] | None = None,
) -> Reading:
    """Open a source of rows and say what it is.

    `source`: a file (JSONL, JSON array, CSV, TSV, Parquet, Arrow; text formats also gzipped), a folder written by
    `datasets.save_to_disk`, a hub id, or "-" for standard input. `mapping`: part of a row -> field name, for sources
    whose names are not known. `split` and `subset` choose from datasets. `workers`: processes that parse JSON
    lines where there are more than 32 MB of them. `progress` gets (bytes done, bytes in all) for text files, rows for
    tables; the total is 0 where it is not known. `fields` is filled with the names of the fields that the first rows
    have, also when the format turns out to be unknown.

    A tool call becomes the text of its assistant turn, an empty system turn is left out, and what else a turn carries
    goes to meta as `turns`. Every other field goes to meta.
    """
    options = _Options(dict(mapping or {}), skip_bad, rejected, progress, workers, fields)
    name = str(source)
    if (split or subset) and (name == "-" or Path(source).is_file()):
        raise CurationError(f"{name}: a file has no splits or subsets to choose from", "leave --split and --subset out")
    if name == "-":
        return _read_stream(_Bytes(sys.stdin.buffer, 0, "stdin"), "", options)  # type: ignore[arg-type]
    path = Path(source)
    if path.is_dir():
        batches, total = _dataset_batches(_folder(path), split, name)
        return _read_table("HF dataset folder", path.name or name, batches, total, options)
    if not path.exists():
        if not _HUB_ID.match(name) or path.suffix.lower() in _SUFFIXES:
            raise CurationError(f"{name}: no such file or folder", "check the path; '-' reads standard input")
        batches, total = _dataset_batches(_hub(name, subset, split), split, name)
        return _read_table("hub dataset", name, batches, total, options)
    return _read_file(path, options)


_SUFFIXES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".gz", ".parquet", ".arrow", ".feather"}
_FOREIGN = {
    b"PK\x03\x04": ("a zip or Excel file", "unpack it, or save the sheet as CSV"),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed", "decompress it: zstd -d FILE"),
    b"BZh": ("bzip2-compressed", "decompress it: bunzip2 FILE"),
    b"\xfd7zXZ": ("xz-compressed", "decompress it: unxz FILE"),
    b"\xff\xfe": ("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"\xfe\xff": ("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
}


@dataclass(frozen=True)
class _Options:
    mapping: dict[str, str]
    skip_bad: bool
    rejected: Path | None
    progress: Progress | None
    workers: int
    fields: list[str] | None

    def shape(self, objects: list[dict[str, Any]], place: str) -> Shape:
        """Return the shape of a source with these first rows; their fields are noted for the caller."""
        if self.fields is not None:
            self.fields[:] = dict.fromkeys(key for each in objects for key in each)
        return detect(objects, self.mapping, place)


def _read_file(path: Path, options: _Options) -> Reading:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise CurationError(f"{path}: cannot be opened: {error.strerror}", "check path and permissions") from None
    head = raw.peek(8)[:8]
    if head.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        raw.close()
        batches, total = _parquet(path)
        return _read_table("Parquet", path.name, batches, total, options)
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")) or path.suffix.lower() in {".arrow", ".feather"}:
        raw.close()
        batches, total = _arrow(path)
        return _read_table("Arrow", path.name, batches, total, options)
    stream = _Bytes(raw, path.stat().st_size, path.name)
    try:
        suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
        return _read_stream(stream, suffixes[-1] if suffixes else "", options)
    except BaseException:
        stream.close()
        raise


def _read_stream(stream: _Bytes, suffix: str, options: _Options) -> Reading:
    """Open a text stream: what it holds is told by its first bytes, CSV and TSV also by the file's suffix."""
    head = stream.peek(1 << 16)
    for mark, (what, hint) in _FOREIGN.items():
        if head.startswith(mark):
            raise CurationError(f"{stream.name}: {what} is not read", hint)
    if head.startswith((b"PAR1", b"ARROW1")):
        what = f"{stream.name}: Parquet and Arrow cannot be read from a stream"
        raise CurationError(what, "give the path of a plain file")
    start = head.lstrip()[:1]
    if not start and len(head) < 1 << 16:
        if stream.broken:
            raise CurationError(f"{stream.name}:1: {stream.broken}", "fetch or write the file again")
        raise CurationError(f"{stream.name}: the file is empty", "give a file with at least one row")
    encoding = ", UTF-8" + (" with BOM" if stream.bom else "") + (", gzip" if stream.gzip else "")
    if start == b"[" and suffix not in {".csv", ".tsv"}:
        return _read_lines("JSON array", stream, _array_blocks(stream), encoding, options)
    table = suffix in {".csv", ".tsv"}
    if not table and (start == b"{" or suffix in {".jsonl", ".ndjson", ".json"}):
        return _read_lines("JSONL", stream, _blocks(stream), encoding, options)
    line = head.split(b"\n")[0]
    if table or any(mark in line for mark in (b",", b"\t", b";")):
        return _read_csv(stream, suffix, line, encoding, options)
    raise CurationError(
        f"{stream.name}: unknown format: starts with {_show(line)[:40]!r}, expected JSON lines, a JSON array or CSV",
        "write one JSON object a line, or a CSV file with a header line",
    )


def _read_lines(container: str, stream: _Bytes, blocks: Iterator[_Block], encoding: str, options: _Options) -> Reading:
    """Open JSON lines, or the elements of an array as such: the shape is told by the first rows that can be read."""
    peeked: list[_Block] = []
    objects: list[dict[str, Any]] = []
    bad: list[Refusal] = []
    for block in blocks:
        peeked.append(block)
        bad += block.bad
        for k, line in enumerate(block.data.split(b"\n", 4 * PEEK_ROWS)[: 4 * PEEK_ROWS]):
            try:
                objects.append(_object(line, True))
            except _Bad as error:
                if line.strip():
                    bad.append(Refusal(block.at[k] if block.at else block.first + k, str(error), ""))
            if len(objects) >= PEEK_ROWS:
                break
        if objects or len(peeked) >= PEEK_BLOCKS:
            break
    if not objects:
        if not bad:
            raise CurationError(f"{stream.name}: there is no row in it", "give a file with at least one row")
        first = min(bad)
        raise CurationError(f"{stream.name}:{first.line}: {first.reason}", _whole_object_hint(peeked, container))
    if bad and not options.skip_bad:
        first = min(bad)
        raise CurationError(f"{stream.name}:{first.line}: {first.reason}", SKIP_HINT)
    shape = options.shape(objects, stream.name)
    return Reading(
        _sentence(container, shape, objects, encoding), stream.name,
        _closing(_parsed(chain(peeked, blocks), shape, not options.skip_bad, options.workers), stream),
        stream.total, ":", options.skip_bad, options.rejected, options.progress,
    )


def _whole_object_hint(peeked: list[_Block], container: str) -> str:
    """Return the way out for a file none of whose lines can be read: often one object around the list of rows."""
    if container == "JSONL" and not any(block.bad for block in peeked):
        try:
            value = orjson.loads(b"\n".join(block.data for block in peeked))
        except ValueError:
            return f"no line of it is a row: give JSON lines, a JSON array or CSV; {SKIP_HINT}"
        if isinstance(value, dict) and sum(len(block.data.splitlines()) for block in peeked) > 1:
            key = next((k for k, v in value.items() if isinstance(v, list)), None)
            if key:
                return f"the file is one object with the list {key!r}: jq -c '.{key}[]' FILE > NEW.jsonl"
            return "the file is one object over several lines: jq -c . FILE > NEW.jsonl"
        if isinstance(value, dict):
            return SKIP_HINT
    return f"no line near the start could be read as a row: give JSON lines, a JSON array or CSV; {SKIP_HINT}"


def _closing(chunks: Iterator[_Chunk], stream: _Bytes) -> Iterator[_Chunk]:
    try:
        yield from chunks
    finally:
        chunks.close()  # type: ignore[attr-defined]
        if stream.name != "stdin":
            stream.close()


def _read_csv(stream: _Bytes, suffix: str, line: bytes, encoding: str, options: _Options) -> Reading:
    delimiter = "\t" if suffix == ".tsv" else max(",\t;", key=lambda mark: line.count(mark.encode()))
    lines = _CsvLines(stream)
    rows = _csv_rows(lines, delimiter, stream)
    number, header, _ = next(rows, (1, [], ""))
    if isinstance(header, str):
        raise CurationError(f"{stream.name}:{number}: the header: {header}", "mend the first line: it has the names")
    header = [name.strip() for name in header]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise CurationError(f"{stream.name}:{number}: the header names {twice[0]!r} twice", "rename one of the columns")
    objects = _csv_objects(rows, header)
    peeked = list(first for _, first in zip(range(PEEK_ROWS), objects))
    if not peeked:
        raise CurationError(f"{stream.name}: there is no row after the header", "give a file with at least one row")
    objects_seen: list[dict[str, Any]] = [dict.fromkeys(header, "")]
    shape = options.shape(objects_seen, stream.name)
    container = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons"}[delimiter]
    chunks = _object_chunks(chain(peeked, objects), shape, not options.skip_bad, lambda: stream.done)
    return Reading(
        _sentence(container, shape, objects_seen, encoding), stream.name, _closing(chunks, stream),
        stream.total, ":", options.skip_bad, options.rejected, options.progress,
    )


def _read_table(
    container: str, name: str, batches: _Splits, total: int, options: _Options
) -> Reading:
    objects = _table_objects(batches)
    peeked = [first for _, first in zip(range(PEEK_ROWS), objects)]
    if not peeked:
        raise CurationError(f"{name}: there is no row in it", "give a file with at least one row")
    values = [value for _, value, _, _ in peeked if isinstance(value, dict)]
    shape = options.shape(values, name)
    detected = _sentence(container, shape, values)     # before a row is taken apart
    done = [0]

    def counted() -> Iterator[_Object]:
        for each in chain(peeked, objects):
            done[0] += 1
            yield each

    chunks = _object_chunks(counted(), shape, not options.skip_bad, lambda: done[0])
    return Reading(
        detected, name, chunks, total, " row ", options.skip_bad, options.rejected, options.progress
    )


# ---------------------------------------------------------------- writing

def _batches(rows: pa.Table | Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    return rows.to_batches(max_chunksize=8192) if isinstance(rows, pa.Table) else rows


def write(rows: pa.Table | Iterable[pa.RecordBatch], path: Path, format: str, *, carry: bool = False) -> int:
    """Write rows as JSONL in one of FORMATS and return their number. Same rows, same bytes; atomic.

    Each line holds the turns in the format's own fields, then `id` and `family` ("" when unknown). A row's `tools`
    go along where the format has a place for them; with `carry`, all other fields in meta too, unless
    the format uses their name. prompt-completion is written as lists of messages for every row, so that all lines
    have one type. A name that ends in .gz is compressed.
    """
    if format not in FORMATS:
        close = nearest(format, FORMATS)
        hint = (f"did you mean {close!r}? " if close else "") + f"formats: {', '.join(FORMATS)}"
        raise CurationError(f"{format!r} is not a format", hint)
    make = dict(zip(FORMATS, (_as_alpaca, _as_sharegpt, _as_messages, _as_completion)))
    count = 0
    with _atomic(path) as sink:
        out: IO[bytes] = gzip.GzipFile("", "wb", 6, sink, mtime=0) if path.suffix == ".gz" else sink  # type: ignore[assignment]
        for batch in _batches(rows):
            out.write(b"".join(_lines(batch, make[format], carry)))
            count += batch.num_rows
        if out is not sink:
            out.close()
    return count


@contextmanager
def _atomic(path: Path) -> Iterator[IO[bytes]]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


_Turns = list[dict[str, str]]


def _lines(
    batch: pa.RecordBatch, make: Callable[[_Turns, str, str, str], dict[str, Any]], carry: bool
) -> Iterator[bytes]:
    names = ("id", "messages", "instruction", "input", "family", "meta")
    for row, turns, instruction, given, family, meta in zip(*(batch[name].to_pylist() for name in names)):
        line = make(turns, instruction, given, row)
        line["id"], line["family"] = row, family or ""
        if carry or ('"tools"' in meta and make in (_as_messages, _as_sharegpt)):
            others = orjson.loads(meta)
            kept = others if carry else {"tools": others["tools"]} if "tools" in others else {}
            line.update((key, value) for key, value in kept.items() if key not in line)
        yield orjson.dumps(line) + b"\n"


def _as_alpaca(turns: _Turns, instruction: str, given: str, row: str) -> dict[str, Any]:
    system = turns[0]["content"] if turns[0]["role"] == "system" else ""
    talk = turns[1:] if system else turns
    if any(turn["role"] == "tool" for turn in talk):
        raise CurationError(f"row {row!r} has a tool turn, for which Alpaca has no place", "write sharegpt or messages")
    texts = [turn["content"] for turn in talk]
    if (f"{instruction}\n{given}" if given else instruction) != texts[-2]:
        instruction, given = texts[-2], ""
    line: dict[str, Any] = {"instruction": instruction, "input": given, "output": texts[-1]}
    line["system"], line["history"] = system, [texts[k : k + 2] for k in range(0, len(texts) - 2, 2)]
    return line


def _as_sharegpt(turns: _Turns, instruction: str, given: str, row: str) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    return {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]}


def _as_messages(turns: _Turns, instruction: str, given: str, row: str) -> dict[str, Any]:
    return {"messages": turns}


def _as_completion(turns: _Turns, instruction: str, given: str, row: str) -> dict[str, Any]:
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def _plain_table(rows: pa.Table | Iterable[pa.RecordBatch]) -> pa.Table:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches(list(rows), PLAIN_ROWS)
    return table.cast(pa.schema([PLAIN_ROWS.field(name) for name in table.schema.names]))


def write_parquet(rows: pa.Table | Iterable[pa.RecordBatch], path: Path) -> int:
    """Write all columns of the rows as Parquet (zstd) and return their number; atomic, same rows, same bytes."""
    import pyarrow.parquet as pq

    table = _plain_table(rows)
    with _atomic(path) as sink:
        pq.write_table(table, sink, compression="zstd", row_group_size=BATCH_ROWS)
    return table.num_rows


def _dataset(rows: pa.Table | Iterable[pa.RecordBatch]) -> Any:
    """Return the rows as a datasets.Dataset whose fingerprint depends on nothing but them."""
    import datasets

    table = _plain_table(rows).combine_chunks()
    mark = xxhash.xxh3_64()
    for batch in table.to_batches():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        mark.update(sink.getvalue())
    return datasets.Dataset(table, fingerprint=mark.hexdigest())


def write_hf(
    rows: pa.Table | Iterable[pa.RecordBatch] | Mapping[str, pa.Table | Iterable[pa.RecordBatch]], folder: Path
) -> int:
    """Write all columns of the rows as a folder for `datasets.load_from_disk` and return their number.

    A mapping of split names to rows gives a DatasetDict. An existing folder of that name is replaced once the new one
    is complete.
    """
    import datasets

    if isinstance(rows, Mapping):
        data: Any = datasets.DatasetDict({name: _dataset(part) for name, part in rows.items()})
        count = sum(len(part) for part in data.values())
    else:
        data = _dataset(rows)
        count = len(data)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        data.save_to_disk(str(temporary))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if shown:
            datasets.enable_progress_bars()
    return count
