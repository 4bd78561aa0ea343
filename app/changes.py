"""Texts before and after as word diffs: a component that draws text nodes only, what goes struck out, what comes underlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curation.clusters import word_diff

from .component import component

CUT = 4_000         # characters of a text that are compared
AROUND = 60         # characters kept on either side of a change


def parts_of(before: str, after: str) -> list[list[str]]:
    """Return how `after` comes from `before` as [[op, text], ...]; long unchanged stretches are cut to their ends."""
    parts = word_diff(before[:CUT], after[:CUT])
    out = []
    for k, (op, text) in enumerate(parts):
        if op == "equal" and len(text) > 2 * AROUND + 3:
            left = text[:AROUND] if k else ""
            right = text[-AROUND:] if k + 1 < len(parts) else ""
            text = f"{left} … {right}"
        out.append([op, text])
    return out


def show(changes: Sequence[dict[str, Any]], *, key: str) -> None:
    """Draw changes, each {"head", "say", "parts": [[op, text], ...]} with op equal, delete or insert."""
    component("changes", "cd-changes")(key=key, height="content", data={"changes": list(changes)})
