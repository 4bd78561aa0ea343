"""Components of our own: a script and a style sheet of this folder, registered once a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent


@cache
def component(name: str, root: str) -> Any:
    """Return the component of NAME.js, behind common.js, and NAME.css, drawn into a div of class `root` without a frame."""
    css, common, js = ((_HERE / file).read_text(encoding="utf-8") for file in (f"{name}.css", "common.js", f"{name}.js"))
    return st.components.v2.component(f"curation_{name}", html=f"<div class='{root}'></div>", css=css, js=common + js,
                                      isolate_styles=False)
