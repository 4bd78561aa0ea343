"""What a check is: a function over columns, its options read from its own signature, its findings as FLAGS."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, create_model, model_validator

from ..contents import taken
from ..model import ACTIONS, CODES, FLAGS, SEVERITIES, SIGNALS


@dataclass(frozen=True)
class Unit:
    """A declared check or signal. `needs` names what the engine hands over beside the rows."""

    id: str
    scope: str  # "row": any batch of rows will do; "dataset": all rows at once
    reads: tuple[str, ...]  # columns of ROWS it is handed (row and uid always)
    needs: tuple[str, ...]  # of: spec, vectors, references, past, and names of signals
    version: int
    options: type[BaseModel]  # pydantic model made from the keyword-only arguments
    run: Callable[..., Any]
    doc: str
    severity: str = "info"
    action: str = "none"  # what the policy does with a flag unless the spec says otherwise
    gives: tuple[str, ...] = ()  # signals: columns it returns
    group: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.id.split(".")[0])


CHECKS: dict[str, Unit] = {}
SIGNAL_UNITS: dict[str, Unit] = {}
RESOURCES = ("spec", "vectors", "references", "past")  # what is not a signal but may be asked for by name


class Past(Protocol):
    """What a set-wide check may keep for its next run in the same folder under the same options, spec part and code.

    A check that asks for it must find the same flags with it as without it. Off a folder nothing is ever kept.
    """

    @property
    def earlier(self) -> np.ndarray:
        """(n,) int64: for each present row its position in the rows that the arrays of `load` speak of, -1 when new.

        A row is earlier when all columns that the check reads, and the signals it asks for, are as they were; no
        position is given twice. Row numbers and uids do not count, so earlier rows may have been moved.
        """
        ...

    def load(self) -> dict[str, np.ndarray] | None:
        """Return what was saved last (read-only), None when nothing was or it can no longer be used."""
        ...

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays of numbers or truth values that speak of the present rows, whole or not at all."""
        ...


def _options(
    name: str, fn: Callable[..., Any], agree: Callable[[Any], str] | None = None
) -> tuple[type[BaseModel], tuple[str, ...]]:
    """Return (options model, resources and signals asked for) from the signature of `fn`; `agree` as in `check`."""
    fields: dict[str, Any] = {}
    needs = []
    hints = inspect.get_annotations(fn, eval_str=True)
    for p in list(inspect.signature(fn).parameters.values())[1:]:
        if p.kind is p.KEYWORD_ONLY and p.default is not p.empty:
            fields[p.name] = (hints[p.name], p.default)
        else:
            assert p.name in RESOURCES or p.name in SIGNALS, f"{name} asks for {p.name!r}, which nothing supplies"
            needs.append(p.name)

    def agreeing(options: Any) -> Any:
        wrong = agree(options) if agree else ""
        if wrong:
            raise ValueError(wrong)
        return options

    together: Any = model_validator(mode="after")(agreeing)
    model = create_model(
        name.replace(".", "_") + "_options",
        __config__=ConfigDict(extra="forbid", frozen=True),
        __validators__={"agreeing": together},
        **fields,
    )
    return model, tuple(needs)


def check(
    id: str,
    *,
    reads: Sequence[str],
    severity: str = "warning",
    action: str = "review",
    scope: str = "row",
    version: int = 1,
    agree: Callable[[Any], str] | None = None,
) -> Callable[[Callable[..., pa.Table]], Callable[..., pa.Table]]:
    """Declare a check. The function takes the rows and what it asks for by name, and returns a FLAGS table.

    Keyword-only arguments with a default are its options. Their types say which values are allowed (see curation.options),
    and `agree` says what is wrong between several of them, "" for nothing; the function itself need not look again: a value
    out of range is refused before any check runs. Arguments without a default are supplied by the engine:
    `spec`, `vectors`, `references` (the option `reference` names their file), `past` (what the check kept in its last
    run, see Past) or the name of a signal (an Arrow array as long as the rows).

    A "row" check judges each row by the columns and signals it is handed and by nothing else: not by its number, its
    uid, or the other rows of the batch. So its findings on a row hold until the row or an asked signal changes.
    """
    assert severity in SEVERITIES and action in ACTIONS and scope in ("row", "dataset"), (severity, action, scope)

    def register(fn: Callable[..., pa.Table]) -> Callable[..., pa.Table]:
        assert id not in CHECKS or CHECKS[id].run.__module__ == fn.__module__, f"two checks are called {id}"
        options, needs = _options(id, fn, agree)
        CHECKS[id] = Unit(id, scope, tuple(reads), needs, version, options, fn, inspect.getdoc(fn) or "", severity, action)
        return fn

    return register


def signal(
    id: str,
    *,
    reads: Sequence[str],
    gives: Sequence[str] | None = None,
    scope: str = "row",
    version: int = 1,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a signal. The function returns {column: values as long as the rows} for each column of `gives`."""

    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        columns = tuple(gives or (id,))
        assert all(c in SIGNALS for c in columns), columns
        options, needs = _options(id, fn)
        SIGNAL_UNITS[id] = Unit(id, scope, tuple(reads), needs, version, options, fn, inspect.getdoc(fn) or "", gives=columns)
        return fn

    return register


def same_code(text: str | None, n: int) -> pa.Array:
    """Return a column of `n` times the same text, or null, as codes."""
    if text is None:
        return pa.nulls(n, CODES)
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text]))


def flags(rows: pa.Table, found: Mapping[str, Any]) -> pa.Table:
    """Return a FLAGS table from columns.

    `found["at"]`: positions in `rows` (0-based, within this batch). Other keys are FLAGS columns as sequences or
    arrays of the same length, or one value for all: `message` is a must; `score` defaults to 1.0, `field` to "row", `turn`
    to -1, `start`, `end` and `fix` to null, `related` to []. `check` and `severity` are filled in by the engine
    when absent (a check may give a severity of its own for each flag).
    """
    at = np.asarray(found["at"], dtype=np.int64)
    n = len(at)

    def column(name: str, default: Any) -> pa.Array:
        value = found.get(name, default)
        type_ = FLAGS.field(name).type
        plain = pa.string() if pa.types.is_dictionary(type_) else type_
        if plain != type_ and (value is None or isinstance(value, str)):
            return same_code(value, n)
        if isinstance(value, pa.DictionaryArray):
            return value
        if value is None or isinstance(value, (str, int, float)):
            value = pa.repeat(pa.scalar(value, plain), n)
        value = value.cast(plain) if isinstance(value, (pa.Array, pa.ChunkedArray)) else pa.array(value, plain)
        return value.dictionary_encode() if plain != type_ else value

    return pa.table(
        {
            "row": taken(rows["row"], at),
            "uid": taken(rows["uid"], at),
            "check": column("check", None),
            "severity": column("severity", None),
            "score": column("score", 1.0),
            "field": column("field", "row"),
            "turn": column("turn", -1),
            "start": column("start", None),
            "end": column("end", None),
            "message": column("message", ""),
            "related": pa.ListArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n + 1), pa.array([], pa.int64()))
            if "related" not in found else column("related", None),
            "fix": column("fix", None),
        }
    ).cast(FLAGS)


class Findings:
    """Collects flags one by one for checks that look at texts in a loop."""

    COLUMNS = ("at", "score", "field", "turn", "start", "end", "message", "related", "fix", "severity")

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows
        self.found: list[tuple[Any, ...]] = []  # a flag each: its values of COLUMNS

    def add(
        self,
        at: int,
        message: str,
        *,
        score: float = 1.0,
        field: str = "response",
        turn: int = -1,
        span: tuple[int, int] | None = None,
        related: Sequence[int] = (),
        fix: str | None = None,
        severity: str | None = None,
    ) -> None:
        """Add a flag on the row at position `at` of the batch; `span` = (start, end) characters in `field`."""
        start, end = span or (None, None)
        self.found.append((at, score, field, turn, start, end, message, list(related), fix, severity))

    def table(self) -> pa.Table:
        values = zip(*self.found, strict=True) if self.found else ([] for _ in self.COLUMNS)
        return flags(self.rows, dict(zip(self.COLUMNS, values, strict=True)))


def texts(rows: pa.Table, column: str) -> list[str]:
    """Return a text column as a list of str, null as ""."""
    return ["" if v is None else v for v in rows[column].to_pylist()]


def first_line(unit: Unit) -> str:
    """Return the one-line description of a check."""
    return unit.doc.split("\n", 1)[0]
