"""Makes the pictures in docs/images: the workbench on sample_data (and on a further file), light and dark.

    python docs/screenshots.py [--also NAME=FILE]

Needs the extras `app` and `test`; the browser is $CHROMIUM, /usr/bin/chromium or the one playwright has installed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
LIMIT = 300_000         # bytes of a picture
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")
#: name of the picture -> place in the workbench
PLACES = {"overview": "/", "browse": "/browse?severity={severity}&order=worst+flag+first&row={row}",
          "review": "/review?queue={severity}s", "gate": "/gate",
          "refusals": "/refusals?cell=weapons|should+refuse|redirected", "coverage": "/coverage", "spec": "/coverage?view=Spec",
          "duplicates": "/duplicates", "map": "/map?map_colour=cluster&cluster=0"}

#: the same for pages that need trained runs; of these the sample set gets two short ones
TRAINED = {"train": "/train", "history": "/history", "behaviour": "/behaviour?slice=refusal&behaviour=refusal&probe=refusal-00",
           "behaviour-against": "/behaviour?b_view=Run+against+run", "behaviour-blind": "/behaviour?b_view=Blind+choice"}


def curation(*argv: str) -> None:
    """Run a verb; a failed gate is no fault here."""
    done = subprocess.run([sys.executable, "-m", "curation.cli", *argv])
    if done.returncode not in (0, 1):
        raise SystemExit(f"curation {' '.join(argv)} ended with {done.returncode}")


def make_set(folder: Path, pairs: Path, spec: Path | None) -> None:
    """Import, take or write a spec, check, and let the policy decide."""
    curation("import", str(pairs), "--to", str(folder))
    if spec is not None:
        for name in ("spec.yaml", "battery.jsonl"):
            shutil.copy(spec.with_name(name), folder / name)
    else:
        curation("init", str(folder))
    curation("check", str(folder), "--set", "dup.near.floor=0.6")
    curation("map", str(folder))


def train_on(folder: Path) -> None:
    """Let the policy decide, export, and train and ask two short runs."""
    curation("review", str(folder), "--apply-policy")
    curation("export", str(folder), "--override", "for the pictures")
    curation("train", str(folder / "vetted" / "1"), "--seeds", "0-1", "--steps", "300", "--eval")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yield the address of a workbench on `folder`."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "curation.cli", "app", str(folder), "--no-browser", "--port", str(port)],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if " is at http" in line:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def take(url: str, name: str, row: int, severity: str, schemes: Sequence[str], places: Mapping[str, str]) -> None:
    """Save one picture of each place and colour scheme."""
    path = next((p for p in (os.environ.get("CHROMIUM"), "/usr/bin/chromium") if p and Path(p).exists()), None)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=list(FLAGS))
        for scheme in schemes:
            tab = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme=scheme).new_page()
            for place, where in places.items():
                tab.goto(url + where.format(row=row, severity=severity))
                settle(tab)
                file = IMAGES / f"{name}-{place}-{scheme}.png"
                tab.screenshot(path=file)
                if file.stat().st_size > LIMIT:
                    raise SystemExit(f"{file.name} has {file.stat().st_size:,} bytes, at most {LIMIT:,} are wanted")
                click.echo(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")
        browser.close()


def settle(tab: Any) -> None:
    """Wait until the page is drawn."""
    tab.wait_for_selector("[data-testid=stMainBlockContainer] > * [data-testid=stElementContainer]")
    for _ in range(2):
        tab.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
        tab.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')", timeout=60_000)
        tab.wait_for_timeout(1500)


def first_flagged(folder: Path) -> tuple[int, str]:
    """Return a row with a flagged span and the severity of its flag, an error if there is one."""
    from curation.store import Store

    flags = [f for f in Store(folder).flags().to_pylist() if f["start"] is not None and f["severity"] != "info"]
    best = min(flags, key=lambda f: (f["severity"] != "error", f["row"]), default={"row": 0, "severity": "error"})
    return best["row"], best["severity"]


@click.command()
@click.option("--also", multiple=True, metavar="NAME=FILE", help="A further set to picture, light only.")
def main(also: tuple[str, ...]) -> None:
    """Make the pictures in docs/images."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    sets = [("sample", ROOT / "sample_data" / "pairs.jsonl", ROOT / "sample_data" / "spec.yaml", ("light", "dark"))]
    sets += [(a.partition("=")[0], Path(a.partition("=")[2]).resolve(), None, ("light",)) for a in also]
    with tempfile.TemporaryDirectory() as temp:
        os.chdir(temp)          # the pages print the folder's path: a short relative one
        for name, pairs, spec, schemes in sets:
            folder = Path(name)
            make_set(folder, pairs, spec)
            with served(folder) as url:
                take(url, name, *first_flagged(folder), schemes, PLACES)
                if spec is not None:
                    train_on(folder)
                    take(url, name, 0, "", schemes, TRAINED)


if __name__ == "__main__":
    main()
