"""A dataset folder: immutable row versions, flags, signals and the verdict log. Every write is atomic."""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .errors import CurationError
from .model import CODES, FLAGS, ROWS, SIGNALS

_VERSION = re.compile(r"^(\d{4})\.arrow$")
FILES = 16  # files at most that the rows of a version are read from; the next append writes them as one


@contextlib.contextmanager
def atomic(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success it is synced and renamed to `path`, on failure removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temp = Path(name)
    try:
        text = None if "b" in mode else "utf-8"
        with open(fd, mode, encoding=text, newline="\n" if text else None) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temp, 0o644)
        temp.replace(path)
        sync_folder(path.parent)
    finally:
        temp.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make a rename in `path` survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    with atomic(path, "w") as f:
        json.dump(value, f, indent=1, sort_keys=True, ensure_ascii=False)
        f.write("\n")


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table as an Arrow file, atomically."""
    with atomic(path) as f, pa.ipc.new_file(f, table.schema) as writer:
        writer.write_table(table.unify_dictionaries())


def read_arrow(path: Path) -> pa.Table:
    """Return the memory-mapped table of an Arrow file. Raises CurationError when it is damaged."""
    with _damage(path), pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def read_sparing(paths: Sequence[Path]) -> tuple[pa.Table, Callable[[], None]]:
    """Return the memory-mapped table of Arrow files, and what gives the pages read so far back to the system.

    They stay in the system's cache: reading them again costs little. For a process that reads large files bit by bit.
    """
    mapped, tables = [], []
    for path in paths:
        with _damage(path), path.open("rb") as f:
            mapped.append(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
            tables.append(pa.ipc.open_file(pa.py_buffer(mapped[-1])).read_all())

    def spare() -> None:
        for pages in mapped:
            pages.madvise(mmap.MADV_DONTNEED)

    return put_together(tables), spare


def put_together(tables: Sequence[pa.Table], columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of tables of ROWS one behind the other, of the `columns` asked for."""
    some = [table.select(list(columns)) if columns is not None else table for table in tables]
    return some[0] if len(some) == 1 else pa.concat_tables(some).unify_dictionaries()


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError, ValueError) as e:  # an empty file: ValueError
        raise CurationError(f"{path}: not a readable Arrow file ({e})", "remove it and run the verb that wrote it again") from e


def empty_flags() -> pa.Table:
    return FLAGS.empty_table()


def spelled_out(table: pa.Table) -> pa.Table:
    """Return a table with codes as texts, which Python reads twenty times as fast: for what is to be a long list."""
    types = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    return table.cast(pa.schema(types, table.schema.metadata))


class _Codes:
    """A growing dictionary for one column, so that a streamed Arrow file needs only dictionary deltas."""

    def __init__(self, there: pa.ChunkedArray) -> None:
        """`there`: the column of rows before, with one dictionary, which is gone on with."""
        known = there.chunk(0).dictionary.to_pylist() if there.num_chunks else []
        # Not empty: to Arrow a first value after an empty dictionary is another dictionary, not a longer one.
        self.known: dict[str, int] = {value: k for k, value in enumerate(known or [""])}

    def encode(self, column: pa.Array) -> pa.DictionaryArray:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        small = pc.dictionary_encode(column.cast(pa.string()))
        codes = np.array([self.known.setdefault(v, len(self.known)) for v in small.dictionary.to_pylist()] or [0], np.int32)
        index = small.indices
        taken = pa.array(
            codes[index.fill_null(0).to_numpy(zero_copy_only=False)],
            pa.int32(),
            mask=index.is_null().to_numpy(zero_copy_only=False),
        )
        return pa.DictionaryArray.from_arrays(taken, pa.array(list(self.known), pa.string()))


class _Seen:
    """Numbers the copies of a content: among rows that are there already and those that come."""

    LOOKS = 8  # batches whose uids are looked up among the rows there; for more, all of these are learnt by heart

    def __init__(self, there: pa.ChunkedArray | None) -> None:
        """`there`: uids with copy numbers."""
        self.there, self.looks = there, 0
        self.last: dict[str, int] = {}  # uid -> number of its last copy, 0 = the first row of the content
        marked = there.filter(pc.match_substring(there, "#")) if there is not None else pa.array([], pa.string())
        self.copies = len(marked)
        self.of = Counter(uid.partition("#")[0] for uid in marked.to_pylist())

    def numbers(self, uids: pa.Array) -> list[int]:
        """Return the copy number of each of the next rows, 0 for the first of its content."""
        if self.there is not None:
            all_of_them = self.looks == self.LOOKS
            met = self.there if all_of_them else self.there.filter(pc.is_in(self.there, value_set=uids))
            for uid in met.to_pylist():
                self.last.setdefault(uid, self.of[uid])
            self.looks += 1
            self.there = None if all_of_them else self.there
        out = []
        for uid in uids.to_pylist():
            self.last[uid] = self.last.get(uid, -1) + 1
            out.append(self.last[uid])
        self.copies += sum(k > 0 for k in out)
        return out


@dataclass(frozen=True)
class Imported:
    """What an import did. `new` and `gone` count uids against the version before."""

    version: str
    rows: int
    copies: int  # rows whose content another row already has
    new: int
    gone: int
    hash: str  # 32 hex digits over uids and everything carried, in order


class Store:
    """A dataset folder. `Store(path)` opens it, `Store.create(path)` makes it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._held = 0  # the thread that holds the lock on new row versions, 0 = none here
        if not (self.path / "rows").is_dir():
            raise CurationError(
                f"{self.path} is not a dataset folder (it has no rows/)", f"curation import FILE --to {self.path}"
            )

    @classmethod
    def create(cls, path: str | Path) -> Store:
        """Make the folder if need be and open it."""
        try:
            (Path(path) / "rows").mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise CurationError(f"{path} is a file, not a folder", "name another folder") from None
        return cls(path)

    # ---- rows

    def versions(self) -> list[str]:
        """Return the row versions that are complete, oldest first."""
        there = {p.name for p in (self.path / "rows").iterdir()}
        return sorted(m[1] for name in there if (m := _VERSION.match(name)) and f"{m[1]}.json" in there)

    @property
    def version(self) -> str:
        """The newest row version. Raises CurationError when nothing has been imported."""
        versions = self.versions()
        if not versions:
            raise CurationError(f"{self.path} has no rows yet", f"curation import FILE --to {self.path}")
        return versions[-1]

    def rows_path(self, version: str | None = None) -> Path:
        return self.path / "rows" / f"{version or self.version}.arrow"

    def parts(self, version: str | None = None) -> list[str]:
        """Return the versions whose files hold the rows of a version, in order.

        Rows added behind are a file of their own, which rests on the files of the version they were added to.
        """
        out = [version or self.version]
        while (base := self.about(out[-1]).get("rests_on")) is not None:
            at = self.path / "rows" / f"{base['version']}.json"
            if not at.exists() or self.rows_hash(base["version"]) != base["hash"]:
                raise CurationError(f"{self.rows_path(out[-1])} rests on version {base['version']}, which is gone or another one",
                                    "bring the file back, or import the rows anew")
            out.append(base["version"])
        return out[::-1]

    def rows(self, version: str | None = None, *, columns: Sequence[str] | None = None, as_pandas: bool = False) -> Any:
        """Return the rows of a version (default: the newest) as a memory-mapped table, or as a DataFrame."""
        path = self.rows_path(version)
        if not path.exists() or not path.with_suffix(".json").exists():
            raise CurationError(f"{self.path} has no row version {version}", f"versions: {', '.join(self.versions())}")
        table = put_together([read_arrow(self.rows_path(part)) for part in self.parts(version)], columns)
        return table.to_pandas() if as_pandas else table

    def rows_hash(self, version: str | None = None) -> str:
        """Return the content hash of a version, 32 hex digits."""
        return json.loads((self.path / "rows" / f"{version or self.version}.json").read_text())["hash"]

    def about(self, version: str | None = None) -> dict[str, Any]:
        """Return what the import wrote of a version: source, detected format, counts, hash."""
        return json.loads((self.path / "rows" / f"{version or self.version}.json").read_text())

    def import_rows(
        self, batches: Iterable[pa.RecordBatch], *, source: str, detected: str = "", append: bool = False
    ) -> Imported:
        """Write a new row version from batches of ROWS columns, in bounded memory; nothing changes on failure.

        The store numbers the rows, appends "#k" to the uid of the k-th further copy of a content, and encodes
        family, source and split. Verdicts hang on uids and so carry over. With `append` the rows of the newest version
        come first, with their numbers and uids; the batches follow. Two that import at once take turns.
        """
        with self.changing():
            return self._import(batches, source=source, detected=detected, append=append)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the right to write a new row version; another process waits. A thread may hold it twice."""
        if self._held == threading.get_ident():
            yield
            return
        with (self.path / "rows" / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._held = threading.get_ident()
            try:
                yield
            finally:
                self._held = 0

    def _import(self, batches: Iterable[pa.RecordBatch], *, source: str, detected: str, append: bool) -> Imported:
        before = self.version if self.versions() else None
        version = f"{int(self.versions()[-1]) + 1 if self.versions() else 1:04d}"
        base = before if append else None
        rests = base is not None and len(self.parts(base)) < FILES
        there = self.rows(base).unify_dictionaries() if base is not None else ROWS.empty_table()
        codes = {name: _Codes(there[name]) for name in ("family", "source", "split")}
        seen = _Seen(there["uid"] if base is not None else None)
        digest = Digest()
        n = held = there.num_rows
        self.rows_path(version).with_suffix(".json").unlink(missing_ok=True)  # of a file that somebody removed
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        with atomic(self.rows_path(version)) as f, pa.ipc.new_file(f, ROWS, options=options) as writer:
            for batch in there.to_batches():
                digest.feed_rows(batch)
                if not rests:
                    writer.write_batch(self._encoded(batch, codes))
            for batch in batches:
                batch = self._finish(batch, n, seen, codes)
                digest.feed_rows(batch)
                n += batch.num_rows
                writer.write_batch(batch)
            if n == held:
                raise CurationError(f"{source}: no rows to import", "the file holds no usable rows")
        about = {"source": source, "detected": detected, "rows": n, "copies": seen.copies, "hash": digest.hexdigest(),
                 "appended_to": base, "rests_on": {"version": base, "hash": self.rows_hash(base)} if rests else None}
        new, gone = (n - held, 0) if base is not None else self._turnover(before, self.rows_path(version))
        write_json(self.path / "rows" / f"{version}.json", {**about, "new": new, "gone": gone})
        return Imported(version, n, seen.copies, new, gone, digest.hexdigest())

    def _turnover(self, before: str | None, after: Path) -> tuple[int, int]:
        """Return how many uids of the rows file `after` are not in version `before`, and how many of `before` not in it."""
        new = read_arrow(after)["uid"]
        if before is None:
            return len(new), 0
        old = self.rows(before, columns=["uid"])["uid"]
        missing = [len(a) - (pc.sum(pc.is_in(a, value_set=b)).as_py() or 0) for a, b in ((new, old), (old, new))]
        return missing[0], missing[1]

    def _finish(self, batch: pa.RecordBatch, start: int, seen: _Seen, codes: Mapping[str, _Codes]) -> pa.RecordBatch:
        """Return a batch as it is written: numbered from `start`, copies marked in their uids, dictionaries grown."""
        numbers = seen.numbers(batch.column("uid"))
        columns = {name: batch.column(name) for name in ROWS.names[2:]}
        marked = [f"{uid}#{k}" if k else uid for uid, k in zip(batch.column("uid").to_pylist(), numbers, strict=True)]
        columns["uid"] = pa.array(marked, pa.string()) if any(numbers) else batch.column("uid")
        columns["row"] = pa.array(np.arange(start, start + batch.num_rows, dtype=np.int64))
        return self._encoded(columns, codes)

    @staticmethod
    def _encoded(batch: pa.RecordBatch | Mapping[str, pa.Array], codes: Mapping[str, _Codes]) -> pa.RecordBatch:
        """Return columns as a batch of ROWS under the dictionaries of `codes`."""
        columns = {name: codes[name].encode(batch[name]) if name in codes else batch[name] for name in ROWS.names}
        arrays = [columns[f.name] if f.type == CODES else columns[f.name].cast(f.type) for f in ROWS]
        return pa.RecordBatch.from_arrays(arrays, schema=ROWS)

    # ---- flags and signals

    @contextlib.contextmanager
    def checking(self, *, alone: bool = False) -> Iterator[None]:
        """Say that a check runs, so that nobody removes what it has found so far; several may run at once.

        `alone`: hold off checks instead. Raises CurationError while one runs.
        """
        (self.path / "flags").mkdir(exist_ok=True)
        with (self.path / "flags" / ".lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
            except BlockingIOError:
                raise CurationError(f"a check runs on {self.path}", "wait until it has ended, or stop it") from None
            yield

    def flags_path(self, key: str) -> Path:
        """`key` = <check>@<version>-<hash>, as engine.cache_key gives it."""
        return self.path / "flags" / f"{key}.arrow"

    def write_current(self, state: dict[str, Any]) -> None:
        """Remember which flag and signal files belong together: flags/current.json."""
        write_json(self.path / "flags" / "current.json", state)

    def current(self) -> dict[str, Any] | None:
        """Return what the last `check` left (rows version, options, keys), or None before the first."""
        path = self.path / "flags" / "current.json"
        return json.loads(path.read_text()) if path.exists() else None

    def flags(self, checks: Sequence[str] | None = None) -> pa.Table:
        """Return the flags of the last check run, of all or of the named checks, ordered by row.

        Empty before the first run and after an import that made a new version.
        """
        state = self.current()
        if state is None or state["rows_hash"] != self.rows_hash():
            return empty_flags()
        wanted = [k for c, k in sorted(state["flags"].items()) if checks is None or c in checks]
        tables = [read_arrow(self.flags_path(k)).cast(FLAGS) for k in wanted]  # older files spell messages out
        if not tables:
            return empty_flags()
        table = pa.concat_tables(tables).unify_dictionaries()
        return table.sort_by([("row", "ascending")]) if table.num_rows else table

    def signals(self) -> pa.Table | None:
        """Return all current signals as one table of row, uid and a column a signal; None before a check run."""
        state = self.current()
        if state is None or state["rows_hash"] != self.rows_hash():
            return None
        table = self.rows(columns=["row", "uid"])
        for _, key in sorted(state["signals"].items()):
            for name, column in self.signal_columns(key).items():
                table = table.append_column(name, column)
        for path in sorted((self.path / "signals").glob(f"asked.*-{self.rows_hash()}.arrow")):
            for name, column in self.signal_columns(path.stem).items():
                if name not in table.column_names:
                    table = table.append_column(name, column)
        return table

    def signal_columns(self, key: str) -> dict[str, pa.ChunkedArray]:
        """Return the columns of one file of signals, as long as the rows it is of; `key`: its name without ".arrow"."""
        table = read_arrow(self.path / "signals" / f"{key}.arrow")
        return {name: table[name] for name in table.column_names if name in SIGNALS}    # older files hold row and uid too

    def add_signals(self, name: str, columns: Mapping[str, pa.Array]) -> None:
        """Keep signals of the newest rows that a verb computed on request; `signals()` returns them beside the checks' own.

        `columns`: {signal: values, one a row}. The same name replaces what it gave before.
        """
        n = self.rows(columns=["row"]).num_rows
        for column, values in columns.items():
            assert column in SIGNALS and len(values) == n, (column, len(values), n)
        table = pa.table({column: values.cast(SIGNALS[column]) for column, values in columns.items()})
        write_arrow(self.path / "signals" / f"asked.{name}-{self.rows_hash()}.arrow", table)

    # ---- verdicts

    @property
    def verdicts(self) -> VerdictLog:
        return VerdictLog(self.path / "verdicts.sqlite")


class Digest:
    """A hash over the columns of ROWS that does not depend on how they are cut into batches.

    Lengths and bytes of each column run through hashes of their own, so value boundaries count.
    """

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}

    def feed_rows(self, batch: pa.RecordBatch) -> None:
        """Take in the columns of ROWS but the number."""
        for name in ROWS.names[1:]:
            self.feed(name, batch.column(name))

    def feed(self, name: str, column: pa.Array) -> None:
        if pa.types.is_list(column.type):
            self._add(name + "#", pc.list_value_length(column))
            for i, part in enumerate(column.flatten().flatten()):
                self.feed(f"{name}.{i}", part)
            return
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        self._add(name + "#", pc.binary_length(column))
        texts = column.fill_null("")
        buffer = texts.buffers()[2]
        if buffer is not None and len(texts):
            offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
            self._part(name).update(memoryview(buffer)[offsets[0] : offsets[-1]])

    def _add(self, name: str, lengths: pa.Array) -> None:
        self._part(name).update(lengths.fill_null(-1).to_numpy(zero_copy_only=False).astype("<i4").tobytes())

    def _part(self, name: str) -> Any:
        return self.parts.setdefault(name, xxhash.xxh3_128())

    def hexdigest(self) -> str:
        text = "".join(f"{k}={self.parts[k].hexdigest()};" for k in sorted(self.parts))
        return xxhash.xxh3_128_hexdigest(text.encode())


_TABLES = """
CREATE TABLE IF NOT EXISTS actions (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, kind TEXT NOT NULL, note TEXT NOT NULL,
    undoes INTEGER REFERENCES actions(id), session TEXT, seq INTEGER, UNIQUE (session, seq));
CREATE TABLE IF NOT EXISTS entries (
    action INTEGER NOT NULL REFERENCES actions(id), uid TEXT NOT NULL, verdict TEXT NOT NULL, field TEXT,
    before TEXT, after TEXT, reason TEXT NOT NULL, check_id TEXT, score REAL);
CREATE INDEX IF NOT EXISTS entries_uid ON entries (uid);
CREATE INDEX IF NOT EXISTS entries_action ON entries (action);
CREATE INDEX IF NOT EXISTS actions_undoes ON actions (undoes) WHERE undoes IS NOT NULL;
"""

#: Kinds of action, weakest first: a person's verdict outranks a selection, that an accepted fix, a fix the policy.
KINDS = ("policy", "fix", "selection", "person")
#: Kinds that decide nothing: a blind second reading of a row, and a row put before a second reader (verdict "ask").
READING, ASKING = "second", "ask"
#: Kind that puts a word on rows or takes it off (verdicts "tag" and "untag", the word in `after`); it decides nothing.
TAGGING = "tag"
_ENTRIES = (
    "SELECT a.id, a.at, a.actor, a.kind, e.uid, e.verdict, e.reason, e.check_id, e.score, e.field, e.after "
    "FROM entries e JOIN actions a ON a.id = e.action "
)


@dataclass(frozen=True)
class Entry:
    """One verdict on one row. For `edit`: `field`, `before` and `after`.

    `field`: instruction, input or response (views of the last user and assistant turn), or messages[k], the turn at
    place k from 0.
    """

    uid: str
    verdict: str  # accept | reject | edit | clear; ask (of kind ASKING); tag, untag (of kind TAGGING)
    reason: str = ""
    field: str | None = None
    before: str | None = None
    after: str | None = None
    check_id: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Decision:
    """What holds for a row now."""

    verdict: str  # accept | reject
    actor: str
    kind: str
    at: str
    reason: str
    action: int
    check_id: str | None
    score: float | None
    by_edit: bool = False  # the row was edited, and not accepted since


def _prepare(db: sqlite3.Connection, tries: int = 200) -> None:
    """Set the file up. Two that make it at once take turns: SQLite does not wait by itself for a change to WAL."""
    for left in reversed(range(tries)):
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(_TABLES)
            return
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or not left:
                raise
            time.sleep(0.05)


_LOGS = 4       # logs whose state a process keeps
_PARTS = 500    # uids or actions named in one statement


def _mark(path: Path, db: sqlite3.Connection) -> tuple[int, int]:
    """Return what tells one log file from another that later lies at its place."""
    about = path.stat()
    first = db.execute("SELECT at FROM actions ORDER BY id LIMIT 1").fetchone()
    return about.st_ino, hash(first)


class _Held:
    """The state of one verdict log up to an action, brought forward by what was added behind it."""

    def __init__(self, mark: tuple[int, int]) -> None:
        self.mark = mark
        self.last = 0                                       # newest action that is read
        self.last_at: str | None = None
        self.dead: set[int] = set()                         # actions that do not hold
        self.kinds: dict[str, dict[str, Decision]] = {kind: {} for kind in KINDS}
        self.decisions: dict[str, Decision] = {}
        self.edits: dict[str, dict[str, str]] = {}

    def continues(self, mark: tuple[int, int], db: sqlite3.Connection) -> bool:
        """Return whether the log is the one that was read, with nothing or more behind what was read of it."""
        if not self.last:
            return False
        found = db.execute("SELECT at FROM actions WHERE id = ?", (self.last,)).fetchone()
        return mark == self.mark and found is not None and found[0] == self.last_at

    def read_on(self, db: sqlite3.Connection) -> None:
        """Take in every action behind `last`; rows of an action that an undo changes are reckoned anew."""
        newest = db.execute("SELECT id, at FROM actions ORDER BY id DESC LIMIT 1").fetchone()
        if newest is None or newest[0] == self.last:
            return
        before = self.last
        self.last, self.last_at = newest
        changed: set[int] = set()
        if db.execute("SELECT 1 FROM actions WHERE undoes IS NOT NULL AND id > ? LIMIT 1", (before,)).fetchone():
            dead = VerdictLog._undone(db)
            changed = {x for x in dead ^ self.dead if x <= before}
            self.dead = dead
        anew = self._uids_of(db, changed)
        self._forget(anew)
        for part in _parts(sorted(anew)):
            marks = ",".join("?" * len(part))
            self._take(db.execute(f"{_ENTRIES} WHERE e.uid IN ({marks}) AND a.id <= ? ORDER BY a.id, e.rowid", (*part, before)))
        self._take(db.execute(f"{_ENTRIES} WHERE a.id > ? ORDER BY a.id, e.rowid", (before,)))

    @staticmethod
    def _uids_of(db: sqlite3.Connection, actions: set[int]) -> set[str]:
        found: set[str] = set()
        for part in _parts(sorted(actions)):
            marks = ",".join("?" * len(part))
            found.update(r[0] for r in db.execute(f"SELECT uid FROM entries WHERE action IN ({marks})", part))
        return found

    def _forget(self, uids: set[str]) -> None:
        for uid in uids:
            for kind in self.kinds.values():
                kind.pop(uid, None)
            self.decisions.pop(uid, None)
            self.edits.pop(uid, None)

    def _take(self, entries: Iterable[tuple[Any, ...]]) -> None:
        """Lay entries, oldest first, over what holds."""
        for action, at, actor, kind, uid, verdict, reason, check_id, score, field, after in entries:
            if action in self.dead or kind not in self.kinds:
                continue
            if verdict == "clear":
                self.kinds[kind].pop(uid, None)
            else:
                if verdict == "edit":
                    fields = self.edits.setdefault(uid, {})
                    fields.pop(field, None)
                    fields[field] = after
                said = "accept" if verdict == "edit" else verdict
                self.kinds[kind][uid] = Decision(said, actor, kind, at, reason, action, check_id, score, verdict == "edit")
            top = next((self.kinds[k][uid] for k in reversed(KINDS) if uid in self.kinds[k]), None)
            if top is None:
                self.decisions.pop(uid, None)
            else:
                self.decisions[uid] = top


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for at in range(0, len(values), _PARTS):
        yield values[at : at + _PARTS]


_HELD: dict[str, _Held] = {}
_LOCK = threading.Lock()


class VerdictLog:
    """The append-only log of decisions. Nothing is rewritten; undo is one more line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            _prepare(db)
            yield db
        except sqlite3.DatabaseError as e:
            raise CurationError(f"{self.path}: {e}", "is the disk full, or the file not a verdict log?") from e
        finally:
            db.close()

    def append(
        self,
        entries: Iterable[Entry],
        *,
        actor: str,
        kind: str = "person",
        note: str = "",
        session: str | None = None,
        seq: int | None = None,
    ) -> int:
        """Store one action with its entries in one transaction and return its number.

        All entries of an action are undone together. A (session, seq) that is already stored is not stored
        again: its number comes back, so a client may repeat what it is not sure was taken.
        """
        assert kind in (*KINDS, READING, ASKING, TAGGING), f"kind {kind!r} is not one of {(*KINDS, READING, ASKING, TAGGING)}"
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                if session is not None:
                    old = db.execute("SELECT id FROM actions WHERE session=? AND seq=?", (session, seq)).fetchone()
                    if old:
                        db.execute("ROLLBACK")
                        return int(old[0])
                action = self._action(db, actor, kind, note, None, session, seq)
                db.executemany(
                    "INSERT INTO entries VALUES (?,?,?,?,?,?,?,?,?)",
                    ((action, e.uid, e.verdict, e.field, e.before, e.after, e.reason, e.check_id, e.score) for e in entries),
                )
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return action

    def undo(self, action: int | None = None, *, actor: str) -> int:
        """Take an action back (default: the newest that still holds) and return the number of the undone action.

        Undoing an undo brings the action back. Raises CurationError when there is nothing to undo.
        """
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                undone = self._undone(db)
                if action is None:
                    row = db.execute("SELECT id FROM actions WHERE undoes IS NULL ORDER BY id DESC").fetchall()
                    action = next((r[0] for r in row if r[0] not in undone), None)
                    if action is None:
                        raise CurationError("there is nothing to undo", "curation review FOLDER --history lists actions")
                found = db.execute("SELECT kind FROM actions WHERE id=?", (action,)).fetchone()
                if found is None:
                    raise CurationError(f"there is no action {action}", "curation review FOLDER --history lists actions")
                if action in undone:
                    raise CurationError(f"action {action} is already undone", "undo the action that undid it to bring it back")
                self._action(db, actor, found[0], f"undo of {action}", action, None, None)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return int(action)

    @staticmethod
    def _action(
        db: sqlite3.Connection, actor: str, kind: str, note: str, undoes: int | None, session: str | None, seq: int | None
    ) -> int:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        cursor = db.execute(
            "INSERT INTO actions (at, actor, kind, note, undoes, session, seq) VALUES (?,?,?,?,?,?,?)",
            (at, actor, kind, note, undoes, session, seq),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    @staticmethod
    def _undone(db: sqlite3.Connection) -> set[int]:
        """Return the numbers of the actions that do not hold. Later undos decide first, so an undone undo is void."""
        dead: set[int] = set()
        for id_, undoes in db.execute("SELECT id, undoes FROM actions WHERE undoes IS NOT NULL ORDER BY id DESC"):
            if id_ not in dead:
                dead.add(undoes)
        return dead

    def decisions(self) -> dict[str, Decision]:
        """Return what holds for each uid now. The kind that comes last in KINDS decides; of one kind the later one.

        `edit` counts as accept of the edited row; `clear` takes the earlier verdicts of its own kind away. What this
        process has read of a log is kept, so a call costs what is new in it.
        """
        return self._held(lambda held: dict(held.decisions), {})

    def edits(self) -> dict[str, dict[str, str]]:
        """Return the newest text of each edited field: {uid: {field: text}}, the field edited last at the end."""
        return self._held(lambda held: {uid: dict(fields) for uid, fields in held.edits.items()}, {})

    def decision(self, uid: str) -> Decision | None:
        """Return what holds for one uid now."""
        return self._held(lambda held: held.decisions.get(uid), None)

    def edit(self, uid: str) -> dict[str, str]:
        """Return the newest text of each edited field of one uid."""
        return self._held(lambda held: dict(held.edits.get(uid, {})), {})

    def holds(self, action: int) -> bool:
        """Return whether an action is in the log and not undone."""
        if not self.path.exists():
            return False
        with self._open() as db:
            there = db.execute("SELECT 1 FROM actions WHERE id = ?", (action,)).fetchone() is not None
            return there and action not in self._undone(db)

    def recent(self, actor: str, limit: int = 10) -> list[dict[str, Any]]:
        """Return the newest actions of one actor that hold, newest first: id, at, kind, note. Undos are left out."""
        if not self.path.exists():
            return []
        with self._open() as db:
            dead, out = self._undone(db), []
            for row in db.execute(
                "SELECT id, at, kind, note FROM actions WHERE actor = ? AND undoes IS NULL ORDER BY id DESC", (actor,)
            ):
                if row[0] not in dead:
                    out.append(dict(zip(("id", "at", "kind", "note"), row, strict=True)))
                if len(out) == limit:
                    break
        return out

    def _held(self, give: Callable[[_Held], Any], nothing: Any) -> Any:
        """Return what `give` takes from the state of the log as it is now; `nothing` where there is no log."""
        if not self.path.exists():
            return nothing
        with self._open() as db, _LOCK:
            db.execute("BEGIN")     # every statement sees the same log
            try:
                key, mark = str(self.path.resolve()), _mark(self.path, db)
                held = _HELD.pop(key, None)
                if held is None or not held.continues(mark, db):
                    held = _Held(mark)
                held.read_on(db)
                _HELD[key] = held
                while len(_HELD) > _LOGS:
                    del _HELD[next(iter(_HELD))]
                return give(held)
            finally:
                db.execute("ROLLBACK")

    def tags(self) -> dict[str, set[str]]:
        """Return {tag: uids that carry it now}, tags in alphabetical order."""
        if not self.path.exists():
            return {}
        with self._open() as db:
            dead = self._undone(db)
            found = db.execute(
                "SELECT a.id, e.uid, e.verdict, e.after FROM actions a JOIN entries e ON e.action = a.id "
                "WHERE a.kind = ? ORDER BY a.id, e.rowid", (TAGGING,)
            ).fetchall()
        state: dict[str, set[str]] = {}
        for action, uid, verdict, tag in found:
            if action not in dead:
                (set.add if verdict == "tag" else set.discard)(state.setdefault(tag, set()), uid)
        return {tag: state[tag] for tag in sorted(state) if state[tag]}

    def readings(self) -> list[dict[str, Any]]:
        """Return every entry that holds of a person, of a second reading and of an asking, oldest first.

        Each is {action, at, actor, kind, uid, verdict, reason, alone}; alone: the action is about this row and no other.
        """
        if not self.path.exists():
            return []
        with self._open() as db:
            dead = self._undone(db)
            found = db.execute(
                "SELECT a.id, a.at, a.actor, a.kind, e.uid, e.verdict, e.reason FROM entries e JOIN actions a "
                "ON a.id = e.action WHERE a.kind IN ('person', ?, ?) ORDER BY a.id, e.rowid",
                (READING, ASKING),
            ).fetchall()
        one: dict[int, str | None] = {}
        for action, *_, uid, _verdict, _reason in found:
            one[action] = uid if one.get(action, uid) == uid else None
        names = ("action", "at", "actor", "kind", "uid", "verdict", "reason")
        return [
            {**dict(zip(names, r, strict=True)), "alone": one[r[0]] is not None} for r in found if r[0] not in dead
        ]

    def history(self, uid: str | None = None) -> list[dict[str, Any]]:
        """Return every action, newest first: id, at, actor, kind, note, undoes, undone, rows; of one uid if given."""
        if not self.path.exists():
            return []
        with self._open() as db:
            dead = self._undone(db)
            where = "WHERE e.uid = ?" if uid else ""
            rows = db.execute(
                "SELECT a.id, a.at, a.actor, a.kind, a.note, a.undoes, COUNT(e.uid), "
                "MIN(e.verdict), MIN(e.reason) FROM actions a LEFT JOIN entries e ON e.action = a.id "
                f"{where} GROUP BY a.id ORDER BY a.id DESC",
                (uid,) if uid else (),
            ).fetchall()
        names = ("id", "at", "actor", "kind", "note", "undoes", "rows", "verdict", "reason")
        return [dict(zip(names, r, strict=True), undone=r[0] in dead) for r in rows]

    def timeline(self, uid: str) -> list[dict[str, Any]]:
        """Return everything ever written of one uid, newest first: the entry, its action, and undone, undone_at, undone_by."""
        if not self.path.exists():
            return []
        names = ("action", "at", "actor", "kind", "note", "verdict", "field", "before", "after", "reason", "check_id")
        with self._open() as db:
            dead = self._undone(db)
            found = db.execute(
                "SELECT a.id, a.at, a.actor, a.kind, a.note, e.verdict, e.field, e.before, e.after, e.reason, e.check_id "
                "FROM entries e JOIN actions a ON a.id = e.action WHERE e.uid = ? ORDER BY a.id DESC, e.rowid", (uid,)
            ).fetchall()
            undos = db.execute("SELECT undoes, at, actor, id FROM actions WHERE undoes IS NOT NULL ORDER BY id").fetchall()
        by = {undoes: (at, actor) for undoes, at, actor, id_ in undos if id_ not in dead}
        out = [dict(zip(names, r, strict=True), undone=r[0] in dead) for r in found]
        return [{**e, **dict(zip(("undone_at", "undone_by"), by.get(e["action"], ("", "")), strict=True))} for e in out]

    def entries(self, action: int, *, limit: int = 100) -> list[dict[str, Any]]:
        """Return up to `limit` entries of one action in their order, each with every field of an Entry."""
        if not self.path.exists():
            return []
        names = ("uid", "verdict", "reason", "field", "before", "after", "check_id", "score")
        with self._open() as db:
            found = db.execute(
                f"SELECT {', '.join(names)} FROM entries WHERE action = ? ORDER BY rowid LIMIT ?", (action, limit)
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in found]
