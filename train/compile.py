"""From a set to the tokens that are trained: render, mask, cut, prove, pack. What is not trained is listed.

The trainer never sees messages. It sees `input_ids` and `labels` (-100 = not trained), compiled once and saved with
a fingerprint, so that a person can look at exactly what will be learned and every engine learns the same.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curation.errors import CurationError
from curation.text import fold, shorten

from .runs import read_json, write_json

IGNORE = -100  # the label that every loss skips
VERSION = 1  # rises when the same set gives other tokens
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("row", pa.int64()),
        ("uid", pa.string()),
    ]
)
MARKERS = re.compile(r"\{%-?\s*generation\b")
Messages = list[dict[str, str]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LeftOut:
    """A row that is not trained, or not whole."""

    split: str
    row: int
    uid: str
    reason: str  # no answer | control token | template error | answer changed | no end of turn | too long | cut
    detail: str
    tokens: int  # length before cutting, 0 = never tokenised
    kept: bool  # True for a cut row


@dataclass(frozen=True)
class Tokens:
    """The compiled rows of one split, in columns. Row i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: np.ndarray  # int32, all rows end to end
    labels: np.ndarray  # int32, IGNORE = not trained
    offsets: np.ndarray  # int64, (n_rows + 1,)
    row: np.ndarray  # int64, row number in the dataset
    uid: list[str]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def lengths(self) -> np.ndarray:
        """Return the tokens of each row, (n_rows,) int64."""
        return np.diff(self.offsets)

    @property
    def n_supervised(self) -> int:
        """Return how many tokens carry a label."""
        return int((self.labels != IGNORE).sum())


# ---- rendering ------------------------------------------------------------------------------------------------------


class NotRendered(Exception):
    """This row cannot be trained with this template; the arguments are the reason and its detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Renderer:
    """Turns messages into tokens and a mask of what is trained: each answer and the token that ends its turn.

    Templates with `{% generation %}` markers say themselves what the assistant wrote. For the others the text of
    each answer is found by rendering the conversation with and without it. Either way the mask is proven: what it
    covers must decode to the answers, each with its end-of-turn token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise CurationError(
                "the tokenizer of this base has no chat template",
                "take the instruct variant of the base, or save a chat template with its tokenizer",
            )
        self.tokenizer = tokenizer
        self.template = tokenizer.get_chat_template()
        self.marked = bool(MARKERS.search(self.template))
        special = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.special_ids = set(special.values())
        self.control = re.compile(
            "|".join(re.escape(text) for text in sorted(special, key=len, reverse=True)) or "(?!)"
        )
        self.eot = self._end_of_turn()
        self.eot_text = tokenizer.decode([self.eot], skip_special_tokens=False)

    def opening(self) -> list[int]:
        """Return the tokens that the template puts before an answer, at least one."""
        turns = [{"role": "user", "content": "zq question zq"}]
        asked = self.tokenizer.apply_chat_template(turns, tokenize=False)
        opened = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        header = opened[len(_common(opened, asked)) :]
        return self.tokenizer(header, add_special_tokens=False)["input_ids"] or [self.eot]

    def _end_of_turn(self) -> int:
        """Return the id of the special token that the template puts behind an answer."""
        answer = "zq answer zq"
        turns = [{"role": "user", "content": "zq question zq"}, {"role": "assistant", "content": answer}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False)
        behind = text.rpartition(answer)[2]
        ids = self.tokenizer(behind, add_special_tokens=False)["input_ids"]
        found = next((i for i in ids if i in self.special_ids), None)
        if found is None:
            raise CurationError(
                f"the chat template puts no end-of-turn token behind an answer (it writes {behind!r})",
                "a model trained on this would never stop: let the template end each answer with the eos token",
            )
        return int(found)

    def __call__(self, batch: Sequence[Messages]) -> list[tuple[list[int], list[bool]] | NotRendered]:
        """Return (ids, mask) a conversation, or why it cannot be trained."""
        rendered: list[tuple[list[int], list[bool]] | NotRendered] = [None] * len(batch)  # type: ignore[list-item]
        good: list[int] = []
        for i, messages in enumerate(batch):
            refusal = self._refusal(messages)
            if refusal is not None:
                rendered[i] = refusal
            else:
                good.append(i)
        for i, pair in zip(good, self._tokens([batch[i] for i in good])):
            rendered[i] = pair if isinstance(pair, NotRendered) else self._proven(batch[i], *pair)
        return rendered

    def _refusal(self, messages: Messages) -> NotRendered | None:
        if not any(turn["role"] == "assistant" for turn in messages):
            return NotRendered("no answer", "no assistant turn")
        for k, turn in enumerate(messages):
            found = self.control.search(turn["content"])
            if found:
                return NotRendered("control token", f"turn {k} contains {found[0]!r}, which would end or open a turn")
        return None

    def _tokens(self, batch: list[Messages]) -> list[tuple[list[int], list[bool]] | NotRendered]:
        from jinja2.exceptions import TemplateError

        if not batch:
            return []
        if not self.marked:
            return [self._by_difference(messages) for messages in batch]
        try:
            out = self.tokenizer.apply_chat_template(batch, return_dict=True, return_assistant_tokens_mask=True)
        except (TemplateError, TypeError, ValueError) as error:
            if len(batch) > 1:  # one conversation spoils the batch: find it
                return [pair for messages in batch for pair in self._tokens([messages])]
            return [NotRendered("template error", shorten(str(error)))]
        masks = [[bool(m) for m in mask] for mask in out["assistant_masks"]]
        return list(zip(out["input_ids"], masks))

    def _by_difference(self, messages: Messages) -> tuple[list[int], list[bool]] | NotRendered:
        """Find each answer in the text by rendering the turns before it and up to it."""
        from jinja2.exceptions import TemplateError

        def render(turns: Messages, *, opened: bool = False) -> str:
            return self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened)

        try:
            full = render(messages)
            spans = []
            for k, turn in enumerate(messages):
                if turn["role"] != "assistant":
                    continue
                before = len(_common(full, render(messages[:k], opened=True))) if k else 0
                at = full.find(turn["content"].strip(), before)
                if at < 0:
                    return NotRendered("answer changed", f"the template does not repeat the answer of turn {k}")
                # A space between header and answer (Llama 2) belongs to the answer: the model must write it.
                start = before if full[before:at].isspace() else at
                behind = at + len(turn["content"].strip())
                end = full.find(self.eot_text, behind)
                if end < 0 or full[behind:end].strip():
                    return NotRendered("no end of turn", f"{self.eot_text!r} does not follow the answer of turn {k}")
                spans.append((start, end + len(self.eot_text)))
        except (TemplateError, TypeError, ValueError) as error:
            return NotRendered("template error", shorten(str(error)))
        out = self.tokenizer(full, add_special_tokens=False, return_offsets_mapping=True)
        mask = np.zeros(len(out["input_ids"]), dtype=bool)
        starts = np.array([start for start, _ in out["offset_mapping"]])
        ends = np.array([end for _, end in out["offset_mapping"]])
        for start, end in spans:
            mask |= (starts >= start) & (ends <= end) & (ends > starts)
        return out["input_ids"], mask.tolist()

    def _proven(
        self, messages: Messages, ids: list[int], mask: list[bool]
    ) -> tuple[list[int], list[bool]] | NotRendered:
        """Return the pair when its masked runs decode to the answers, else what is wrong."""
        answers = [turn["content"] for turn in messages if turn["role"] == "assistant"]
        found = runs(mask)
        if len(found) != len(answers):
            return NotRendered(
                "answer changed", f"the mask covers {len(found)} stretches, the row has {len(answers)} answers"
            )
        for (start, end), answer in zip(found, answers):
            if self.eot not in ids[start:end]:
                return NotRendered("no end of turn", f"{self.eot_text!r} lies outside the mask")
            text = self.tokenizer.decode(ids[start:end], skip_special_tokens=False)
            body, _, rest = text.rpartition(self.eot_text)
            if rest.strip() or "".join(body.split()) != "".join(answer.split()):
                return NotRendered("answer changed", f"the mask covers {shorten(text)!r}")
        if mask[0]:
            return NotRendered("answer changed", "the first token would be trained, with nothing before it")
        return ids, mask


def _common(a: str, b: str) -> str:
    """Return the common beginning of two strings."""
    if a.startswith(b):
        return b
    return a[: next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))]


def runs(mask: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the stretches of True as (start, end), end exclusive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, dtype=np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]


def cut(ids: list[int], mask: list[bool], *, max_length: int, eot: int) -> tuple[list[int], list[bool]] | None:
    """Return the row cut to `max_length` tokens, its last one the end of a turn; None when no answer is left.

    A cut inside an answer puts the end-of-turn token back; a cut inside a prompt goes back to the answer before it.
    """
    if mask[max_length - 1] and any(mask[: max_length - 1]):
        return [*ids[: max_length - 1], eot], [*mask[: max_length - 1], True]
    ends = [end for _, end in runs(mask) if end <= max_length]
    return (ids[: ends[-1]], mask[: ends[-1]]) if ends else None


def answers_alone(tokens: Tokens, renderer: Renderer) -> Tokens:
    """Return the last answer of each row without what was asked: the answer's header, then its trained tokens."""
    header = np.array(renderer.opening(), dtype=np.int32)
    ids, labels = [], []
    for start, end in pairwise(tokens.offsets.tolist()):
        a, b = runs(tokens.labels[start:end] != IGNORE)[-1]
        ids.append(np.concatenate([header, tokens.ids[start + a : start + b]]))
        labels.append(np.concatenate([np.full(len(header), IGNORE, np.int32), tokens.labels[start + a : start + b]]))
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in ids])]).astype(np.int64)
    return Tokens(np.concatenate(ids), np.concatenate(labels), offsets, tokens.row, tokens.uid)


# ---- compiling a set ------------------------------------------------------------------------------------------------


def read_split(set_dir: Path, split: str) -> pa.Table:
    """Return row, uid, family and messages of one split of a set."""
    path = set_dir / f"{split}.parquet"
    if not path.exists():
        raise CurationError(f"{path} does not exist", "a set has train.parquet and validation.parquet: curation export")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise CurationError(f"{path} is not Parquet: {shorten(str(error))}", "export the set again") from None
    missing = [name for name in ("row", "uid", "messages") if name not in table.column_names]
    if missing:
        raise CurationError(
            f"{path} has no column {missing[0]!r} (it has {', '.join(table.column_names)})", "curation export"
        )
    return table


def set_card(set_dir: Path) -> dict[str, Any]:
    """Return the manifest of a set; without one, the hash of its files under the same keys."""
    if (set_dir / "manifest.json").exists():
        return read_json(set_dir / "manifest.json")
    files = [set_dir / "train.parquet", set_dir / "validation.parquet"]
    digest = xxhash.xxh3_128_hexdigest(b"".join(path.read_bytes() for path in files if path.exists()))
    return {"hash": digest, "name": set_dir.name, "spec_hash": "", "counts": {}, "gate": "not applied"}


def compile_table(
    table: pa.Table,
    split: str,
    renderer: Renderer,
    *,
    max_length: int,
    truncate: bool,
    progress: Progress | None = None,
) -> tuple[Tokens, list[LeftOut]]:
    """Return the tokens of a split and the rows that are not in them, or not whole."""
    all_ids, all_labels = array("i"), array("i")  # four bytes a token, a list takes eight to forty
    offsets, rows, uids = [0], [], []
    left_out: list[LeftOut] = []
    done = 0
    for batch in table.select(["row", "uid", "messages"]).to_batches(max_chunksize=256):
        numbers, names = batch.column(0).to_pylist(), batch.column(1).to_pylist()
        for row, uid, result in zip(numbers, names, renderer(batch.column(2).to_pylist())):
            if isinstance(result, NotRendered):
                left_out.append(LeftOut(split, row, uid, result.reason, result.detail, 0, False))
                continue
            ids, mask = result
            if len(ids) > max_length:
                length = len(ids)
                shorter = cut(ids, mask, max_length=max_length, eot=renderer.eot) if truncate else None
                reason, what = ("cut", "cut to") if shorter else ("too long", "longer than")
                detail = f"{length} tokens, {what} {max_length}"
                left_out.append(LeftOut(split, row, uid, reason, detail, length, shorter is not None))
                if shorter is None:
                    continue
                ids, mask = shorter
            all_ids.extend(ids)
            all_labels.extend(token if on else IGNORE for token, on in zip(ids, mask))
            offsets.append(len(all_ids))
            rows.append(row)
            uids.append(uid)
        done += len(numbers)
        if progress:
            progress(done, table.num_rows)
    tokens = Tokens(
        np.frombuffer(all_ids, dtype=np.int32) if all_ids else np.empty(0, np.int32),
        np.frombuffer(all_labels, dtype=np.int32) if all_labels else np.empty(0, np.int32),
        np.array(offsets, dtype=np.int64),
        np.array(rows, dtype=np.int64),
        uids,
    )
    return tokens, left_out


def fingerprint(set_hash: str, tokenizer: Any, settings: dict[str, Any]) -> str:
    """Return 32 hex digits that change with the set, the tokenizer, its template or a setting of the compiler."""
    parts = [str(VERSION), set_hash, tokenizer.backend_tokenizer.to_str(), tokenizer.get_chat_template()]
    parts.append(json.dumps(settings, sort_keys=True))
    return xxhash.xxh3_128_hexdigest("\x1e".join(parts).encode("utf-8", "surrogatepass"))


def compile_set(
    set_dir: Path, tokenizer: Any, *, max_length: int, truncate: bool = False, progress: Progress | None = None
) -> tuple[Tokens, Tokens, list[LeftOut], dict[str, Any]]:
    """Return (train, validation, rows left out, report) for a set; refuse to go on when it cannot be trained.

    The report holds the fingerprint, the counts and the reasons; it is what `compile.json` says.
    """
    if not tokenizer.is_fast:
        raise CurationError("this base has a slow tokenizer, whose tokens have no place in the text", "use a fast one")
    renderer = Renderer(tokenizer)
    card = set_card(set_dir)
    train_table, held_table = read_split(set_dir, "train"), read_split(set_dir, "validation")
    refuse_battery_prompts(set_dir, train_table)
    train, left_out = compile_table(
        train_table, "train", renderer, max_length=max_length, truncate=truncate, progress=progress
    )
    held, left_held = compile_table(held_table, "validation", renderer, max_length=max_length, truncate=truncate)
    settings = {"max_length": max_length, "truncate": truncate}
    left_out = left_out + left_held
    report = {
        "fingerprint": fingerprint(card["hash"], tokenizer, settings),
        "set_hash": card["hash"],
        **settings,
        "mask": "generation markers" if renderer.marked else "prefix differences",
        "end_of_turn": renderer.eot_text,
        "splits": {
            split: _counts(split, table.num_rows, tokens, left_out)
            for split, table, tokens in (("train", train_table, train), ("validation", held_table, held))
        },
    }
    _refuse_untrainable(train, left_out, renderer)
    return train, held, left_out, report


def _counts(split: str, total: int, tokens: Tokens, left_out: list[LeftOut]) -> dict[str, Any]:
    mine = [entry for entry in left_out if entry.split == split]
    n = len(tokens.ids)
    return {
        "rows": total,
        "used": len(tokens),
        "cut": sum(entry.kept for entry in mine),
        "left_out": sum(not entry.kept for entry in mine),
        "reasons": dict(Counter(entry.reason for entry in mine).most_common()),
        "tokens": n,
        "supervised": tokens.n_supervised,
        "supervised_share": round(tokens.n_supervised / n, 4) if n else 0.0,
        "longest": int(tokens.lengths.max()) if len(tokens) else 0,
    }


def _refuse_untrainable(train: Tokens, left_out: list[LeftOut], renderer: Renderer) -> None:
    if len(train):
        return
    reasons = Counter(entry.reason for entry in left_out if entry.split == "train")
    if reasons and reasons.most_common(1)[0][0] == "no end of turn":
        raise CurationError(
            f"the end-of-turn token {renderer.eot_text!r} is outside the mask of every row: the model would never stop",
            "move {% endgeneration %} of the chat template behind the end-of-turn token",
        )
    first = next((entry for entry in left_out if entry.split == "train"), None)
    told = ", ".join(f"{n} × {reason}" for reason, n in reasons.most_common()) or "the set has no training rows"
    example = f"; row {first.row}: {first.detail}" if first else ""
    raise CurationError(
        f"nothing is left to train on: {told}{example}", "curation train SET --dry-run lists the reasons"
    )


def prompt_key(messages: Sequence[dict[str, str]]) -> str:
    """Return what two prompts share when they are the same: their turns, folded, without the system turn."""
    return "\x1e".join(f"{turn['role']}\x1f{fold(turn['content'])}" for turn in messages if turn["role"] != "system")


def refuse_battery_prompts(set_dir: Path, train: pa.Table) -> None:
    """Raise a CurationError when a prompt of the set's battery is also a prompt of a training row."""
    path = set_dir / "battery.jsonl"
    if not path.exists():
        return
    probes: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            probe = json.loads(line)
            probes[prompt_key(probe["messages"])] = str(probe["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise CurationError(
                f"{path}:{number}: not a probe ({error!r})", "curation export writes the battery"
            ) from None
    shared: list[tuple[int, str]] = []
    for row, key in _prompts(train):
        if key in probes:
            shared.append((row, probes[key]))
    if shared:
        told = ", ".join(f"row {row} = probe {probe}" for row, probe in shared[:3])
        raise CurationError(
            f"{len(shared)} training prompts are also in the battery, which would then measure memory: {told}",
            "export the set again (the gate keeps the battery apart), or take those rows out",
        )


def _prompts(table: pa.Table) -> Iterator[tuple[int, str]]:
    """Yield (row, key) for every beginning of a conversation that an answer follows."""
    for batch in table.select(["row", "messages"]).to_batches(max_chunksize=4096):
        for row, messages in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist()):
            for k, turn in enumerate(messages):
                if turn["role"] == "assistant":
                    yield row, prompt_key(messages[:k])


# ---- on disk --------------------------------------------------------------------------------------------------------


def save(run_dir: Path, train: Tokens, held: Tokens, left_out: Sequence[LeftOut], report: dict[str, Any]) -> None:
    """Write the compiled tokens, the list of rows left out and the report into a run folder."""
    folder = run_dir / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    for name, tokens in (("train", train), ("validation", held)):
        part = folder / f"{name}.arrow.part"
        table = to_table(tokens)
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        part.replace(folder / f"{name}.arrow")
    lines = [json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in left_out]
    (run_dir / "left_out.jsonl").write_text("".join(lines), "utf-8")
    write_json(folder / "compile.json", report)


def to_table(tokens: Tokens) -> pa.Table:
    """Return the tokens as a table of SCHEMA, with the fingerprintable layout that is saved."""
    offsets = pa.array(tokens.offsets.astype(np.int32)) if tokens.offsets[-1] < 2**31 else None
    if offsets is None:
        raise CurationError(
            f"{tokens.offsets[-1]:,} tokens are more than one compiled file holds (2^31)", "split the set"
        )
    columns = [
        pa.ListArray.from_arrays(offsets, pa.array(tokens.ids)),
        pa.ListArray.from_arrays(offsets, pa.array(tokens.labels)),
        pa.array(tokens.row),
        pa.array(tokens.uid, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def load(run_dir: Path, split: str) -> Tokens:
    """Return the compiled tokens of a run folder, memory-mapped."""
    path = run_dir / "compiled" / f"{split}.arrow"
    if not path.exists():
        raise CurationError(f"{path} does not exist", "the run was never compiled: start it without --resume")
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
    if not table.num_rows:
        none = np.zeros(0, dtype=np.int32)
        return Tokens(none, none, np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), [])
    ids, labels = table.column("input_ids").chunk(0), table.column("labels").chunk(0)
    return Tokens(
        ids.values.to_numpy(),
        labels.values.to_numpy(),
        ids.offsets.to_numpy().astype(np.int64),
        table.column("row").to_numpy(),
        table.column("uid").to_pylist(),
    )


#: Packs up to which it matters that the last one is full: of 400 an empty one is a quarter of a percent.
FEW = 400


# ---- packing --------------------------------------------------------------------------------------------------------


def best_fit(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Return packs of positions whose lengths add up to at most `capacity`: best fit, longest first.

    Each position is in exactly one pack; the order among equal lengths is that of `lengths`. A length above
    `capacity` is a programming mistake.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    assert not len(lengths) or lengths.max() <= capacity, f"a row has {lengths.max()} tokens, a pack holds {capacity}"
    packs: list[list[int]] = []
    by_room: dict[int, list[int]] = {}  # room left -> packs with exactly that room
    rooms: list[int] = []  # the keys of by_room, sorted
    for position in np.argsort(-lengths, kind="stable"):
        length = int(lengths[position])
        at = bisect_left(rooms, length)
        if at == len(rooms):
            packs.append([])
            pack, room = len(packs) - 1, capacity
        else:
            room = rooms[at]
            pack = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[at]
        packs[pack].append(int(position))
        if room - length not in by_room:
            by_room[room - length] = []
            insort(rooms, room - length)
        by_room[room - length].append(pack)
    return packs


def even(lengths: Sequence[int] | np.ndarray, capacity: int) -> int:
    """Return a capacity near `capacity` that best fit fills evenly, so that no pack is left half empty at the end.

    It is the smallest one that needs as many packs, or, where one row alone fills a pack and nothing can shrink, the
    smallest one up to a tenth above that needs one pack less. Of more than FEW packs the last one does not count.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    n, total = len(best_fit(lengths, capacity)), int(lengths.sum())
    if not 0 < n <= FEW:
        return capacity
    found = [capacity]
    for packs, most in ((n, capacity), (n - 1, capacity + capacity // 10)):
        low = max(int(lengths.max()), -(-total // max(1, packs)))
        if packs and low <= most and len(best_fit(lengths, most)) <= packs:
            while low < most:
                middle = (low + most) // 2
                if len(best_fit(lengths, middle)) <= packs:
                    most = middle
                else:
                    low = middle + 1
            found.append(most)
    return max(found, key=lambda size: (fill(lengths, size), -size))


def fill(lengths: Sequence[int] | np.ndarray, capacity: int) -> float:
    """Return the share of the room of all packs, the last one included, that best fit fills with tokens of rows."""
    packs = len(best_fit(lengths, capacity))
    return float(np.sum(lengths) / (packs * capacity)) if packs else 0.0


# ---- showing --------------------------------------------------------------------------------------------------------


def paint(tokens: Tokens, tokenizer: Any, n: int) -> list[tuple[int, list[tuple[str, bool]]]]:
    """Return the first `n` rows as (row, [(text, trained)]): the stretches of text, in order, as they are trained."""
    painted = []
    for i in range(min(n, len(tokens))):
        span = slice(int(tokens.offsets[i]), int(tokens.offsets[i + 1]))
        ids, on = tokens.ids[span], tokens.labels[span] != IGNORE
        edges = [0, *(np.flatnonzero(np.diff(on)) + 1).tolist(), len(ids)]
        parts = [
            (tokenizer.decode(ids[a:b].tolist(), skip_special_tokens=False), bool(on[a])) for a, b in pairwise(edges)
        ]
        painted.append((int(tokens.row[i]), parts))
    return painted
