"""The answers component: a prompt with the answers to it, to read or to choose between; every text a text node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .component import component

WHOLE = 20_000              # characters of a text that are shown
KINDS = {"comply": "complies", "refuse": "refuses", "partial": "refuses in part", "other_safe": "neither complies nor refuses"}


def cut(text: str) -> str:
    """Return what is shown of a text, and how much is not."""
    return text if len(text) <= WHOLE else f"{text[:WHOLE]} … ({len(text) - WHOLE:,} characters not shown)"


def turns(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the turns of a probe; results written by an earlier version hold the last one alone."""
    messages = result.get("messages") or [{"role": "user", "content": result["prompt"]}]
    return [{"role": m["role"], "text": cut(m["content"])} for m in messages]


def notes(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what the verifiers said of an answer, and what kind of answer it is: {"mark": ok, no or info, "text"}."""
    out = []
    for check in result.get("checks", ()):
        given = ", ".join(f"{k} = {_short(v)}" for k, v in (check.get("kwargs") or {}).items() if v is not None)
        loosely = "; passes when read loosely" if check.get("loose") and not check["passed"] else ""
        out.append({"mark": "ok" if check["passed"] else "no", "text": f"{check['id']}{f' ({given})' if given else ''}{loosely}"})
    about = [KINDS.get(result.get("refusal", ""), ""), "" if result.get("stopped", True) else "ran to the limit without an end",
             "repeats itself" if result.get("looped") else "",
             "" if result.get("exact") is None else f"{'' if result['exact'] else 'not '}the very text that was wanted"]
    return [*out, {"mark": "info", "text": "; ".join(a for a in about if a)}]


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def show(result: Mapping[str, Any], answered: Sequence[tuple[str, Mapping[str, Any]]], *, key: str) -> None:
    """Draw a probe with the answers of runs: (title, result) each."""
    component("answers", "ca-answers")(key=key, height="content", data={
        "mode": "read", "turns": turns(result), "wanted": cut(result.get("wanted") or ""),
        "answers": [{"title": title, "text": cut(r["output"]), "notes": notes(r)} for title, r in answered]})
