"""The map: a place in the plane for every row, rows that ask for like things side by side, kept from version to version."""

from __future__ import annotations

import html
import json
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from .errors import CurationError, needs
from .gate import effective
from .neighbours import nearest
from .selection import space_of
from .spec import Spec
from .store import Store, atomic
from .text import shorten
from .vectors import Vectors

Progress = Callable[[str, int, int], None]

ANCHORS = 20_000    # rows that are laid out; every other row is placed by the anchors nearest to it
NEAR = 15           # neighbours that the layout keeps together
PLACED = 5          # anchors that decide the place of another row
FEW = 4000          # up to so many anchors every one is looked at for each row, beyond that those of the nearest cells
CELL = 200          # anchors a cell
FAR = 0.35          # a row whose nearest anchor has a smaller cosine is not like anything on the map
STALE = 0.1         # share of such rows from which on a new layout is advised
SIDE = 900          # pixels of the image
SHOWN = 4000        # rows that can be pointed at in the HTML, at most
LEGEND = 12         # colours; what is rarer is "other"
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
           "#b8860b", "#008b8b", "#c7c7c7")


@dataclass(frozen=True)
class Map:
    """Where the rows of the newest version lie. Coordinates are float32; the anchors fill -1 to 1 in both."""

    row: np.ndarray         # (n,) int64
    xy: np.ndarray          # (n, 2) float32
    anchors: int
    fitted: bool            # laid out now, not taken from before
    far: float              # share of rows unlike any anchor
    kept: float | None      # share of neighbours in the plane that are neighbours by cosine too; None when not fitted now
    embedded: str = ""      # what the prompts were embedded with, and why

    @property
    def sentence(self) -> str:
        how = f"laid out anew on {self.anchors:,} rows" if self.fitted else f"placed by the {self.anchors:,} rows laid out before"
        text = f"{len(self.row):,} rows on the map, {how}"
        if self.kept is not None:
            text += f"; of the {NEAR} nearest rows by cosine {self.kept:.0%} are among the {3 * NEAR} nearest on it"
        if self.far > STALE:
            text += f"\n{self.far:.0%} of the rows are unlike anything that was laid out; --refit makes room for them"
        return text

    def frame(self) -> Any:
        """Return the places as a DataFrame: row, map_x, map_y."""
        import pandas as pd

        return pd.DataFrame({"row": self.row, "map_x": self.xy[:, 0], "map_y": self.xy[:, 1]})

    def as_dict(self) -> dict[str, Any]:
        return {"rows": len(self.row), "anchors": self.anchors, "fitted": self.fitted, "far": self.far, "kept": self.kept,
                "embedded": self.embedded}


def lay_out(
    store: Store, *, refit: bool = False, vectors: Vectors | None = None, model: str = "", progress: Progress | None = None
) -> Map:
    """Give every row of the newest version a place, keep it as the signals map_x and map_y, and return the map.

    The first call lays out up to 20,000 rows, drawn by the hash of their uids, with UMAP, and keeps their vectors and
    places in map/anchors.npz. Every row is then placed by the anchors nearest to it, so a row keeps its place as long as
    the anchors stand, whatever rows come or go. `refit` lays out anew and turns, mirrors and scales the result to lie
    over the old places (Procrustes).
    """
    rows = store.rows(columns=["row", "uid", "instruction", "input"])
    path = store.path / "map" / "anchors.npz"
    before = _load(path)
    vectors = vectors or Vectors(store.path)
    space = space_of(store, rows, vectors, model)
    made = "" if vectors.used is None else vectors.used.hash
    if before is not None and (before[0].shape[1] != space.shape[1] or before[2] != made):
        if not refit:
            raise CurationError(
                f"{path}: the map was laid out with other vectors ({vectors.why or 'another model'})",
                "curation map FOLDER --refit lays it out anew; --model full or --model static takes the model of before",
            )
        before = None
    kept = None
    anchors, places = before[:2] if before is not None else (space[:0], np.zeros((0, 2), np.float32))
    if before is None or refit:
        at = _draw(rows["uid"].to_pylist())
        fresh = np.asarray(space[at], np.float32)
        laid = _layout(fresh, progress)
        kept = _kept(fresh, laid)
        if before is not None and len(places):
            laid = _turned(laid, place(fresh, anchors, places)[0])
        anchors, places = fresh, laid.astype(np.float32)
        _save(path, anchors, places, made)
    xy, cosine = place(space, anchors, places, progress)
    row = rows["row"].to_numpy()
    store.add_signals("map", {"map_x": pa.array(xy[:, 0]), "map_y": pa.array(xy[:, 1])})
    return Map(row, xy, len(anchors), kept is not None, float((cosine < FAR).mean()), kept, vectors.why)


def _draw(uids: Sequence[str]) -> np.ndarray:
    """Return the positions of up to ANCHORS rows, those with the smallest hashes of their uids; copies count once."""
    once = {u.partition("#")[0]: i for i, u in reversed(list(enumerate(uids)))}
    order = sorted(once.items(), key=lambda x: xxhash.xxh3_64_intdigest(x[0].encode()))
    return np.sort(np.array([i for _, i in order[:ANCHORS]], np.int64))


def _load(path: Path) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Return vectors and places of the anchors and the hash of the model, None before the first layout."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as held:
            return held["vectors"].astype(np.float32), held["places"], str(held["model"])
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as e:
        raise CurationError(f"{path}: not a readable map ({e})", "remove it and run curation map again") from e


def _save(path: Path, anchors: np.ndarray, places: np.ndarray, model: str) -> None:
    with atomic(path) as f:
        np.savez(f, vectors=anchors, places=places, model=np.array(model))


# ---- the layout


def _layout(space: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Return (n, 2) places of the rows of `space`, centred, within -1 to 1. Few rows or copies only lie on two axes."""
    n = len(space)
    spread = np.linalg.matrix_rank(space[:50] - space[:1]) if n else 0
    if n <= NEAR + 2 or spread < 2:
        return _scaled(_axes(space))
    needs("umap", "train")
    index, cosine = nearest(space, NEAR - 1, progress=progress)
    own = np.arange(n, dtype=index.dtype)[:, None]
    near = np.concatenate([own, index], axis=1), np.concatenate([np.zeros((n, 1), np.float32), 1 - cosine], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # that a seed means one thread, and that it cannot place new rows itself
        from umap import UMAP

        laid = UMAP(n_neighbors=NEAR, min_dist=0.1, metric="cosine", random_state=0, init=_axes(space) * 10,
                    precomputed_knn=near).fit_transform(space)
    return _scaled(laid)


def _axes(space: np.ndarray) -> np.ndarray:
    """Return the first two principal components, each with its larger side positive; flat axes are 0."""
    n = len(space)
    if n < 2:
        return np.zeros((n, 2), np.float32)
    centred = space.astype(np.float64) - space.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred / n)
    out = centred @ vectors[:, ::-1][:, :2]
    out *= np.sign(out[np.abs(out).argmax(axis=0), [0, 1]]) + (np.abs(out).max(axis=0) == 0)
    return (out / max(np.abs(out).max(), 1e-9)).astype(np.float32)


def _scaled(places: np.ndarray) -> np.ndarray:
    if not len(places):
        return places.astype(np.float32)
    low, high = places.min(axis=0), places.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-9)
    return ((places - (low + high) / 2) / half).astype(np.float32)


def _turned(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Return `new` moved, turned or mirrored, and scaled as a whole to lie as near to `old` as it can."""
    a, b = new - new.mean(axis=0), old - old.mean(axis=0)
    u, s, v = np.linalg.svd(a.T.astype(np.float64) @ b)
    size = (a.astype(np.float64) ** 2).sum()
    scale = s.sum() / size if size > 0 and s.sum() > 0 else 1.0
    return (scale * a @ (u @ v) + old.mean(axis=0)).astype(np.float32)


def place(
    space: np.ndarray, anchors: np.ndarray, places: np.ndarray, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return places (n, 2) and the cosine to the nearest anchor (n,); a row equal to an anchor takes its place.

    Of several equal anchors that is the first. The nearest anchors are weighed by how much nearer they are than the last of
    them, cubed: a row lies beside the anchors most like it and not between two crowds.
    """
    index, cosine = nearest(anchors, PLACED + 1, space, cell=None if len(anchors) <= FEW else CELL, progress=progress)
    if index.shape[1] == 0:
        return np.zeros((len(space), 2), np.float32), np.zeros(len(space), np.float32)
    far = np.where(index >= 0, 1 - cosine, 2.0).astype(np.float64)
    weight = np.maximum(far[:, -1:] - far, 0) ** 3 / np.maximum(far, 1e-6)
    weight[:, 0] += 1e-12           # all equally far: the nearest decides
    weight /= weight.sum(axis=1, keepdims=True)
    xy = (weight[:, :, None] * places[np.maximum(index, 0)]).sum(axis=1)
    same = cosine[:, 0] > 1 - 1e-6
    xy[same] = places[_first_equal(anchors)[index[same, 0]]]
    return xy.astype(np.float32), cosine[:, 0]


def _first_equal(vectors: np.ndarray) -> np.ndarray:
    """Return for each vector the first that is equal to it; which of these is found nearest is a matter of the last bit."""
    whole = np.ascontiguousarray(vectors)
    _, first, of = np.unique(whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1]))).ravel(), return_index=True,
                             return_inverse=True)
    return np.asarray(first[of])


def _kept(space: np.ndarray, places: np.ndarray, rows: int = 2000) -> float:
    """Return the share of the NEAR nearest rows by cosine that are among the 3 x NEAR nearest on the map."""
    n = len(space)
    some = np.random.default_rng(0).permutation(n)[:rows]
    k, wide = min(NEAR, n - 1), min(3 * NEAR, n - 1)
    if k < 1:
        return 1.0
    want = nearest(space, k + 1, space[some])[0]
    hits = 0
    for i, near in zip(some.tolist(), want.tolist(), strict=True):
        far = ((places - places[i]) ** 2).sum(axis=1)
        far[i] = -1
        there = set(np.argpartition(far, wide)[: wide + 1].tolist())
        hits += len(there & set([j for j in near if j != i][:k]))
    return hits / (k * len(some))


# ---- pictures


def draw(
    store: Store, spec: Spec, laid: Map, folder: Path, *, colour: str = "family", names: Sequence[str] | None = None
) -> dict[str, str]:
    """Write map.png and map.html into `folder` and return their paths.

    `colour`: family, cluster or verdict; `names`: what `colours` returned for it, when that was asked before.
    """
    names = colours(store, spec, colour) if names is None else names
    texts = store.rows(columns=["instruction"])["instruction"]
    common = [name for name, _ in sorted(Counter(names).items(), key=lambda x: (-x[1], x[0]))[:LEGEND]]
    code = np.array([common.index(x) if x in common else LEGEND for x in names], np.int64)
    legend = [(x, int((code == k).sum()), COLOURS[k]) for k, x in enumerate(common)]
    if (code == LEGEND).any():
        legend.append(("other", int((code == LEGEND).sum()), COLOURS[LEGEND]))
    image = png(laid.xy, code)
    with atomic(folder / "map.png") as f:
        f.write(image)
    some = np.sort(np.random.default_rng(0).permutation(len(laid.row))[:SHOWN])
    points = [
        [float(round(x, 4)), float(round(y, 4)), int(c), int(r), shorten(texts[int(i)].as_py() or "", 90)]
        for i, (x, y), c, r in zip(some, laid.xy[some].tolist(), code[some], laid.row[some], strict=True)
    ]
    with atomic(folder / "map.html", "w") as f:
        f.write(page(spec.name, colour, legend, points, image, laid.sentence))
    return {"png": str(folder / "map.png"), "html": str(folder / "map.html")}


def colours(store: Store, spec: Spec, colour: str) -> list[str]:
    """Return what each row is coloured by: its family, cluster or verdict. Raises CurationError where there is none."""
    if colour == "verdict":
        state = effective(store, spec)
        return np.where(state.rejected, "rejected", np.where(state.accepted, "accepted", "undecided")).tolist()
    signals = store.signals()
    if colour == "cluster" and (signals is None or "cluster" not in signals.column_names):
        raise CurationError(f"{store.path} has no clusters yet", f"curation clusters {store.path}")
    if signals is None or (colour == "family" and not spec.families):
        values = store.rows(columns=["family"])["family"].cast(pa.string()).to_pylist()     # as the data names them
    else:
        values = signals[colour].to_pylist()
    return [f"cluster {v}" if isinstance(v, int) else (v or "(unassigned)") for v in values]


def _pixels(xy: np.ndarray) -> np.ndarray:
    """Return (n, 2) pixel columns and lines; what lies outside -1.05 to 1.05 is put on the edge."""
    at = (np.clip(xy, -1.05, 1.05) * [1, -1] / 1.05 + 1) / 2 * (SIDE - 1)
    return np.clip(np.round(at), 0, SIDE - 1).astype(np.int64)


def png(xy: np.ndarray, code: np.ndarray) -> bytes:
    """Return the map as a PNG of SIDE x SIDE pixels: the colour of the rows at a place, the fuller the more there are."""
    import io

    from PIL import Image

    at = _pixels(xy)
    radius = 2 if len(xy) <= 5000 else 1 if len(xy) <= 100_000 else 0
    palette = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in COLOURS], np.float64)
    total = np.zeros((SIDE, SIDE))
    mixed = np.zeros((SIDE, SIDE, 3))
    for dx in range(-radius, radius + 1):
        for dy in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius:
                column, line = (np.clip(at[:, k] + d, 0, SIDE - 1) for k, d in ((0, dx), (1, dy)))
                cell = line * SIDE + column
                total += np.bincount(cell, minlength=SIDE * SIDE).reshape(SIDE, SIDE)
                for k in range(3):
                    mixed[:, :, k] += np.bincount(cell, palette[code, k], SIDE * SIDE).reshape(SIDE, SIDE)
    full = np.log1p(total) / max(np.log1p(total.max()), 1e-9)
    strength = np.where(total > 0, 0.35 + 0.65 * full, 0)[:, :, None]
    ground = 255.0
    image = ground * (1 - strength) + strength * mixed / np.maximum(total, 1)[:, :, None]
    sink = io.BytesIO()
    Image.fromarray(np.round(image).astype(np.uint8), "RGB").save(sink, "PNG", optimize=True)
    return sink.getvalue()


STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:72rem;padding:0 1rem}
.map{position:relative;width:min(100%,900px);aspect-ratio:1;border:1px solid #8885;background:#fff}
.map img{position:absolute;inset:0;width:100%;height:100%}
#tip{min-height:3em;white-space:pre-wrap;overflow-wrap:anywhere}li{list-style:none}ul{padding:0;columns:3 14rem}
i{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:.5em}.small{opacity:.75;font-size:.9em}
"""
SCRIPT = """
const data=JSON.parse(document.getElementById('points').textContent),map=document.querySelector('.map'),
tip=document.getElementById('tip');
map.addEventListener('pointermove',e=>{const b=map.getBoundingClientRect(),x=((e.clientX-b.left)/b.width*2-1)*1.05,
y=-((e.clientY-b.top)/b.height*2-1)*1.05;let best=null,d=.0016;for(const p of data.points){
const q=(p[0]-x)**2+(p[1]-y)**2;if(q<d){d=q;best=p}}
tip.textContent=best?'row '+best[3]+' ('+data.legend[best[2]]+')\\n'+best[4]:''});
"""


def page(
    name: str, colour: str, legend: Sequence[tuple[str, int, str]], points: Sequence[Sequence[Any]], image: bytes, sentence: str
) -> str:
    """Return the map as one HTML file that loads nothing. Every text of the data is escaped and shown as text only."""
    import base64
    import hashlib

    e = html.escape
    labels = [x for x, _, _ in legend]
    labels += [""] * (LEGEND + 1 - len(labels))
    if legend and legend[-1][0] == "other":
        labels[LEGEND] = "other"
    value = json.dumps({"points": points, "legend": labels}, ensure_ascii=True).replace("<", "\\u003c")
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
    items = "".join(f"<li><i style='background:{c}'></i>{e(shorten(x, 60))} <span class=small>{n:,}</span>" for x, n, c in legend)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f'<meta http-equiv=Content-Security-Policy content="{policy}">'
        f"<title>{e(name)}: map</title><style>{STYLE}</style><h1>{e(name)}</h1><p>{e(sentence)}</p>"
        f"<div class=map><img alt='map of the rows, coloured by {e(colour)}' src='data:image/png;base64,"
        f"{base64.b64encode(image).decode()}'></div><p id=tip class=small></p><ul>{items}</ul>"
        f"<p class=small>Coloured by {e(colour)}; the fuller the colour, the more rows. Point at a place to see a row there"
        f" ({len(points):,} rows can be pointed at). Distances across the map mean little: only what lies close is alike."
        f"</p><script type='application/json' id=points>{value}</script><script>{SCRIPT}</script></html>\n"
    )
