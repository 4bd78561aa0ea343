"""The workbench's entry: page set-up, the token, the list of pages. Streamlit runs this file as a script."""

from __future__ import annotations

import hmac
import os

import numpy as np
import streamlit as st
from curation.app import state
from curation.app.views import behaviour, browse, coverage, duplicates, gate, history, overview, refusals, review, train
from curation.app.views import map as map_page
from PIL import Image

from curation.errors import CurationError


def admitted() -> bool:
    """Return whether this browser session may see the data: always, unless a token or a login is asked for and not yet given."""
    if os.environ.get("CURATION_APP_LOGIN") == "oidc" and not st.user.get("is_logged_in"):
        st.title("Curation workbench")
        st.button("Log in", key="login", on_click=st.login, help="By the provider in .streamlit/secrets.toml")
        return False
    token = os.environ.get("CURATION_APP_TOKEN")
    if not token or st.session_state.get("admitted"):
        return True
    st.title("Curation workbench")
    given = st.text_input("Token", type="password", help="The secret that `curation app --token` was started with.")
    if given and hmac.compare_digest(given.encode(), token.encode()):
        st.session_state["admitted"] = True
        st.rerun()
    if given:
        st.error("This is not the token.")
    return False


def _icon() -> Image.Image:
    """Return the page's icon, a tick on blue. A named icon would be fetched from the internet."""
    icon = np.full((32, 32, 3), (36, 89, 169), np.uint8)
    for x in range(7, 26):
        y = 15 + (x - 7) if x < 14 else 22 - (x - 14)
        icon[y - 2: y + 3, x] = 255
    return Image.fromarray(icon)


def main() -> None:
    st.set_page_config(page_title="Curation workbench", page_icon=_icon(), layout="wide")
    st.html("<style>.stMainBlockContainer { padding: 4.2rem 2rem 3rem; }</style>")
    if not admitted():
        return
    pages = [
        overview.as_page(), browse.as_page(), review.as_page(),
        duplicates.as_page(), map_page.as_page(),
        refusals.as_page(), coverage.as_page(),
        gate.as_page(), train.as_page(), behaviour.as_page(), history.as_page()]
    chosen = st.navigation(pages, position="top")
    try:
        state.folder()
        chosen.run()
    except CurationError as e:
        st.error("This cannot be shown yet.", icon=":material/error:")
        st.text(e.what)
        if e.hint:
            st.code(e.hint, language=None, wrap_lines=True)


main()
