"""The spec as fields for a form: which parts it has, what each field holds, and which mistake belongs beside which field."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from curation.errors import CurationError
from curation.spec import EdgeCase, Family, HarmCategory, Spec
from curation.spec_edit import data_at, value_of, with_item, with_value, without

Place = tuple[str | int, ...]
LONG = 60       # characters from which a field is drawn with several lines
LISTS: dict[str, type[BaseModel]] = {"families": Family, "edge_cases": EdgeCase}
#: What a field means, where its name does not say it.
HELP = {
    "target": "Share of the vetted set: 0.1, or the least and the most: [0.08, 0.2]",
    "min_rows": "Least number of rows", "examples": "Prompts as a user would type them, one a line: - \"text\"",
    "labels": "The closed set of answers: [yes, no]", "json_keys": "Keys that each JSON object has: [name, city]",
    "banned": "Phrases that must not occur", "required": "Phrases that must occur", "answers": "What a response does",
    "prefer": "Avoided word: preferred word, as {utilise: use}", "any_of": "Phrases of which each response holds one",
    "formality": "formal: no contractions, slang or emoji", "max_hedges": "“perhaps”, “it seems” in 100 words",
    "max_grade": "Reading level, school grade", "terms": "Words that put a prompt in this category",
    "benign": "Phrases that resemble a term and are harmless", "min_refused": "Rows that must show the refusal",
    "min_answered": "Rows that must show a harmless look-alike answered",
    "share": "Least and most share of refusing rows: [0.01, 0.05]",
    "offers_alternative": "Whether a refusal leads to something that helps", "lectures": "Whether a refusal may moralise",
    "max_error_rate": "Share of rows with an open error flag, 0 to 1",
    "max_warning_rate": "Share of rows with an open warning flag",
    "coverage": "Whether families, categories and edge cases must meet their numbers",
    "min_reviewed": "Rows that a person has decided", "validation": "Share of rows held out", "file": "JSONL of probes",
    "per_family": "Probes taken from the held-out rows of each family", "expect": "What the right response does",
    "keep": "Which of several copies stays: [verdict, flags, longest]", "language": "Languages of the set: [en]",
}


@dataclass(frozen=True)
class Field:
    """One field of the form. `text` is what the file says, as YAML, "" = the default holds."""

    place: Place
    label: str
    text: str
    default: str
    options: tuple[str, ...]    # of a choice, () = free text
    help: str
    plain: bool = False         # text as it is: names, descriptions, ids

    @property
    def name(self) -> str:
        return ".".join(map(str, self.place))

    @property
    def long(self) -> bool:
        return len(self.text) > LONG or "\n" in self.text


def parts_of(data: Any) -> dict[str, Place]:
    """Return {title: place} of the parts that a spec is edited in."""
    out: dict[str, Place] = {"The set": (), "Every response": ("standards",)}
    for i, family in enumerate(_list(data, ("families",))):
        out[f"Family: {_id(family, i)}"] = ("families", i)
    out["Refusals"] = ("refusals",)
    for i, category in enumerate(_list(data, ("refusals", "categories"))):
        out[f"Harm: {_id(category, i)}"] = ("refusals", "categories", i)
    for i, edge in enumerate(_list(data, ("edge_cases",))):
        out[f"Edge case: {_id(edge, i)}"] = ("edge_cases", i)
    return out | {"Gate": ("gate",), "Split": ("split",), "Battery": ("battery",)}


def _list(data: Any, place: Place) -> list[Any]:
    found = data_at(data, place)
    return found if isinstance(found, list) else []


def _id(item: Any, i: int) -> str:
    return str(item["id"]) if isinstance(item, dict) and item.get("id") else f"number {i + 1}"


def fields_of(data: Any, place: Place) -> list[Field]:
    """Return the fields of a part, nested ones after plain ones; lists of parts have parts of their own."""
    return list(_fields(data, place, _model_at(place), ""))


def _model_at(place: Place) -> type[BaseModel]:
    if place[:1] in (("families",), ("edge_cases",)):
        return LISTS[str(place[0])]
    if place[:2] == ("refusals", "categories"):
        return HarmCategory
    model: type[BaseModel] = Spec
    for part in place:
        found = model.model_fields[str(part)].annotation
        assert isinstance(found, type) and issubclass(found, BaseModel), f"{place} is no part of a spec"
        model = found
    return model


def _fields(data: Any, place: Place, model: type[BaseModel], before: str) -> Iterator[Field]:
    nested = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested.append((name, kind))
        elif not _is_parts(kind) and not (model is Spec and name in ("version", "checks")):
            default = "" if info.is_required() else _default(info.default)
            here = (*place, name)
            yield Field(here, f"{before}{name.replace('_', ' ')}", _text(data_at(data, here, _ABSENT)), default, _options(kind),
                        HELP.get(name, ""), kind is str or kind == str | None)
    for name, kind in nested if place else ():
        yield from _fields(data, (*place, name), kind, f"{before}{name} · ")


_ABSENT = object()


def _is_parts(kind: Any) -> bool:
    return any(isinstance(a, type) and issubclass(a, BaseModel) for a in typing.get_args(kind))


def _options(kind: Any) -> tuple[str, ...]:
    if kind is bool:
        return ("true", "false")
    if typing.get_origin(kind) is Literal:
        return tuple(map(str, typing.get_args(kind)))
    return ()


def _default(value: Any) -> str:
    return "none" if value is None or value in ((), {}, "") else _text(list(value) if isinstance(value, tuple) else value)


def _text(value: Any) -> str:
    """Return a value as one types it: plain text as it is, lists of long texts one a line, the rest as YAML on one line."""
    if value is _ABSENT or value is None:
        return ""
    if isinstance(value, str):
        return value
    texts = value if isinstance(value, list) and all(isinstance(x, str) for x in value) else []
    if sum(map(len, texts)) > LONG or any("\n" in x for x in texts):
        return "\n".join(f"- {json.dumps(x, ensure_ascii=False)}" for x in value)
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False).removesuffix(
        "\n").removesuffix("\n...").strip()


def changed(text: str, field: Field, typed: str) -> str:
    """Return the spec `text` with a field as it was typed; an empty field leaves its default to hold.

    Raises CurationError for what is no YAML. Fields that hold plain text take it as it is.
    """
    if not typed.strip():
        return without(text, field.place)
    return with_value(text, field.place, typed if field.plain else value_of(typed))


def added(text: str, what: str, id: str) -> tuple[str, str]:
    """Return (the spec with a further family or kind of harm, the title of its part). Raises CurationError without a name."""
    if not id.strip():
        raise CurationError("a name is missing", "type it beside the button")
    place: Place = ("families",) if what == "Family" else ("refusals", "categories")
    item = {"id": id.strip()} if what == "Family" else {"id": id.strip(), "terms": [id.strip()]}
    return with_item(text, place, item), f"{what}: {id.strip()}"


def beside(field: Field, problems: Sequence[tuple[int, str]]) -> list[str]:
    """Return what is wrong with a field, without its name."""
    return [message.removeprefix(field.name).lstrip(": ") for _, message in problems if _of(message, field.name)]


def elsewhere(fields: Sequence[Field], problems: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the mistakes that belong to none of the fields on screen."""
    return [p for p in problems if not any(_of(p[1], f.name) for f in fields)]


def _of(message: str, name: str) -> bool:
    return message.startswith((f"{name}:", f"{name}.", f"{name} "))
