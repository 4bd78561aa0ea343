"""Texts before and after as word diffs: a component that draws text nodes only, what goes struck out, what comes underlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent
_component: Any = None


def show(changes: Sequence[dict[str, Any]], *, key: str) -> None:
    """Draw changes, each {"head", "say", "parts": [[op, text], ...]} with op equal, delete or insert."""
    global _component
    if _component is None:
        _component = st.components.v2.component(
            "curation_changes", html="<div class='cd-changes'></div>", css=(_HERE / "changes.css").read_text(encoding="utf-8"),
            js=(_HERE / "changes.js").read_text(encoding="utf-8"), isolate_styles=False)
    _component(key=key, height="content", data={"changes": list(changes)})
