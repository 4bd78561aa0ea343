"""The map for its page: places of rows, the picture of a view, the rows inside a lasso, clusters with names, the component.

What a lasso costs is `inside(places, corners_of(code, places.whole))`; `places_of` is kept between clicks, as are `drawn` (the
picture of a view) and `islands` (the clusters).
"""

from __future__ import annotations

import base64
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curation.text import shorten

from . import state
from .component import component
from .pairs import texts_at

SIDE = 640          # pixels of the picture on each side
POINTED = 48        # one row of each of 48 x 48 places of the view can be pointed at
POINTED_TEXT = 90   # characters of its text
SHOWN = 12          # names with a colour of their own; what is rarer is "other"
EDGE = 0.04         # margin around the rows, as a share of the map
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
STEPS = 36**3 - 1   # a corner of a lasso is two numbers of three such digits
CORNERS = 400       # corners a lasso may have
PEAK = 1.5          # a cluster stands out when its densest place is so many times as dense as the way to a denser one
MOST = 30           # clusters that are named
NAMED_BY = 200      # rows nearest to the middle of a cluster that name it
AGAINST = 20_000    # rows against which a word is distinctive
THIN = 0.25         # of the rows an average cluster has: below, a cluster is thin
WORD = re.compile(r"[^\W\d_]{3,}")
STOP = frozenset(re.findall(r"\S+", """
the and for are was were has have had not but you your they their this that these those with from about into what which how why
who whom whose where when can could would will should does did its all any one two more most some other than then there here just
like give make tell please write following given using use used
"""))
View = tuple[float, float, float, float]        # left, bottom, right, top, in units of the map


# ---- places


@dataclass(frozen=True)
class Places:
    """Where the rows lie, ordered by height, so that a lasso looks only at the rows at its own height."""

    row: np.ndarray     # (n,) int32
    x: np.ndarray       # (n,) float32
    y: np.ndarray       # (n,) float32, ascending
    whole: View         # a square that holds all rows, with a margin

    def __len__(self) -> int:
        return len(self.row)


def places_of(x: np.ndarray, y: np.ndarray) -> Places:
    """Return the places of rows 0 to n - 1; a row without a place (NaN) is left out."""
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    order = known[np.argsort(y[known], kind="stable")]
    a, b = x[order].astype(np.float32), y[order].astype(np.float32)
    if not len(order):
        return Places(order.astype(np.int32), a, b, (-1.0, -1.0, 1.0, 1.0))
    middle = [(float(v.min()) + float(v.max())) / 2 for v in (a, b)]
    half = max(float(a.max() - a.min()), float(b.max() - b.min()), 1e-3) / 2 * (1 + 2 * EDGE)
    return Places(order.astype(np.int32), a, b,
                  (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half))


def inside(places: Places, corners: np.ndarray) -> np.ndarray:
    """Return the rows inside a polygon, ascending: (k,) int64. `corners`: (m, 2) in units of the map; the even-odd rule.

    Each edge is compared only with the rows at its height, so at a million rows a lasso of a hundred corners takes a
    few dozen milliseconds.
    """
    if len(corners) < 3:
        return np.zeros(0, np.int64)
    odd = np.zeros(len(places), bool)
    corners = np.asarray(corners, np.float64)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        # half open: a row at the height of a corner belongs to one of its two edges
        lo, hi = np.searchsorted(places.y, np.array([min(y0, y1), max(y0, y1)]).astype(places.y.dtype))
        slope = (x1 - x0) / (y1 - y0)
        odd[lo:hi] ^= places.x[lo:hi] < x0 + (places.y[lo:hi] - y0) * slope
    return np.sort(places.row[odd].astype(np.int64))


def nearest(places: Places, x: float, y: float, reach: float) -> int | None:
    """Return the row nearest to a point, None when none lies within `reach` (units of the map)."""
    lo, hi = np.searchsorted(places.y, [y - reach, y + reach])
    far = (places.x[lo:hi].astype(np.float64) - x) ** 2 + (places.y[lo:hi].astype(np.float64) - y) ** 2
    if not len(far) or far.min() > reach**2:
        return None
    return int(places.row[lo + int(far.argmin())])


def corners_of(code: str, whole: View) -> np.ndarray:
    """Return the corners of a lasso from its code in the address: (m, 2); empty for a code that is none."""
    if len(code) % 6 or len(code) > 6 * CORNERS or set(code) - set(DIGITS):
        return np.zeros((0, 2))
    flat = np.array([int(code[k: k + 3], 36) for k in range(0, len(code), 3)], float).reshape(-1, 2) / STEPS
    return flat * [whole[2] - whole[0], whole[3] - whole[1]] + [whole[0], whole[1]]


def code_of(corners: Sequence[tuple[float, float]], whole: View) -> str:
    """Return the code of a lasso, six digits of base 36 a corner: as the browser makes it."""
    def digits(value: float, low: float, high: float) -> str:
        n = round(min(1.0, max(0.0, (value - low) / (high - low))) * STEPS)
        return DIGITS[n // 1296] + DIGITS[n // 36 % 36] + DIGITS[n % 36]

    return "".join(digits(x, whole[0], whole[2]) + digits(y, whole[1], whole[3]) for x, y in corners)


# ---- colours and the picture


@dataclass(frozen=True)
class Colour:
    """What a row is coloured by. `names`: one a code, or of two names the share of the second is shown."""

    code: np.ndarray            # (n,) uint8 by row number
    names: tuple[str, ...]
    share: bool = False         # codes are 0 and 1; a place shows its share of 1
    faint: int = -1             # a code that gives way to every other one at a place, -1 for none

    @property
    def counts(self) -> list[int]:
        return [int(c) for c in np.bincount(self.code, minlength=len(self.names))]


def by_name(codes: state.Codes) -> Colour:
    """Return the colours of categories: the 12 commonest have their own, the rest is "other"."""
    counts = np.bincount(codes.code, minlength=len(codes.names))
    order = np.lexsort((np.arange(len(counts)), -counts))
    rank = np.full(len(counts), SHOWN, np.uint8)
    rank[order[:SHOWN]] = np.arange(min(SHOWN, len(order)))
    names = [codes.names[k] for k in order[:SHOWN]] + (["other"] if len(order) > SHOWN else [])
    return Colour(rank[codes.code] if len(counts) else np.zeros(len(codes.code), np.uint8), tuple(names))


def by_verdict(verdicts: state.Verdicts) -> Colour:
    code = np.zeros(len(verdicts.accepted), np.uint8)
    code[verdicts.accepted] = 1
    code[verdicts.edited & ~verdicts.rejected] = 2
    code[verdicts.rejected] = 3
    return Colour(code, ("undecided", "accepted", "edited", "rejected"), faint=0)


def by_flag(index: state.Index, check: str = "") -> Colour:
    """Return the colours by share of flagged rows: with a flag of `check`, or with any error or warning."""
    if check:
        hit = np.zeros(index.n, np.uint8)
        hit[index.flag_row[index.flag_check.mask([check])]] = 1
        return Colour(hit, ("no flag", check), share=True)
    return Colour((index.worst >= 2).astype(np.uint8), ("no flag", "error or warning"), share=True)


def picture(places: Places, colour: Colour, view: View, side: int = SIDE) -> bytes:
    """Return what lies at each pixel of a view: two planes of side x side bytes, compressed by zlib.

    The first holds the code of a place (or its share, 0 to 255), the second its density: 0 where no row lies, else 1 to
    255, logarithmic. The browser gives the colours, so they fit the theme and a name can be lit up without a request.
    """
    at, cell = _cells(places, view, side)
    radius = 2 if len(at) <= 5000 else 1 if len(at) <= 100_000 else 0
    code = colour.code[places.row[at]]
    total = _spread(np.bincount(cell, minlength=side * side).reshape(side, side), radius)
    what = np.zeros((side, side), np.uint8)
    if colour.share:
        hit = _spread(np.bincount(cell[code == 1], minlength=side * side).reshape(side, side), radius)
        what = np.round(255 * hit / np.maximum(total, 1)).astype(np.uint8)
    else:
        most = np.zeros((side, side), np.int64)
        for k in range(len(colour.names)):
            here = _spread(np.bincount(cell[code == k], minlength=side * side).reshape(side, side), radius)
            if k == colour.faint:
                what[here > 0] = k
                continue
            more = here > most
            what[more], most[more] = k, here[more]
    top = np.log1p(max(1, int(total.max())))
    density = np.where(total > 0, 1 + np.round(254 * np.log1p(total) / top), 0).astype(np.uint8)
    return zlib.compress(np.stack([what, density]).tobytes(), 6)


def _cells(places: Places, view: View, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (positions in `places` of the rows in a view, the pixel of each: line * side + column, line 0 on top)."""
    lo, hi = np.searchsorted(places.y, np.array([view[1], view[3]], places.y.dtype))
    column = ((places.x[lo:hi] - np.float32(view[0])) * np.float32(side / (view[2] - view[0]))).astype(np.int32)
    held = np.flatnonzero((column >= 0) & (column < side) & (places.x[lo:hi] >= view[0]))
    line = ((np.float32(view[3]) - places.y[lo:hi][held]) * np.float32(side / (view[3] - view[1]))).astype(np.int32)
    return lo + held, np.clip(line, 0, side - 1) * side + column[held]


def _spread(grid: np.ndarray, radius: int) -> np.ndarray:
    """Return the sums over discs of `radius` pixels."""
    if not radius:
        return grid
    out = np.zeros_like(grid)
    wide = np.pad(grid, radius)
    n = len(grid)
    for dx in range(-radius, radius + 1):
        for dy in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius + 1:
                out += wide[radius + dy: radius + dy + n, radius + dx: radius + dx + n]
    return out


def pointed(places: Places, colour: Colour, view: View, rows: pa.Table) -> dict[str, list[Any]]:
    """Return the rows that can be pointed at in a view: x and y (0 to 1 from the left and the top), row, code, text."""
    at, cell = _cells(places, view, POINTED)
    first = np.full(POINTED * POINTED, -1)
    first[cell[::-1]] = at[::-1]
    at = first[first >= 0]
    at = at[np.argsort(places.row[at])]
    row = places.row[at].astype(np.int64)
    texts = texts_at(rows["instruction"], row).to_pylist()
    return {"x": np.round((places.x[at] - view[0]) / (view[2] - view[0]), 4).astype(float).tolist(),
            "y": np.round((view[3] - places.y[at]) / (view[3] - view[1]), 4).astype(float).tolist(),
            "row": row.tolist(), "code": colour.code[row].tolist(),
            "text": [shorten(" ".join(t[:400].split()), POINTED_TEXT) for t in texts]}


# ---- clusters of the map


@dataclass(frozen=True)
class Islands:
    """Clusters of the map: crowds of rows with thinner land around them, the largest first."""

    label: np.ndarray       # (n,) int16 by row number; -1 = in no cluster
    middle: np.ndarray      # (k, 2) float32: where it is densest
    size: np.ndarray        # (k,) int64
    flagged: np.ndarray     # (k,) int64: rows with an error or a warning
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.size)

    @property
    def thin(self) -> np.ndarray:
        """(k,) bool: clusters with less than a quarter of the rows of an average one."""
        return self.size < THIN * max(1.0, float(self.size.mean() if len(self) else 0))


def islands(places: Places, rows: pa.Table, worst: np.ndarray) -> Islands:
    """Return the clusters of the map, named by the prompts in their middle. `worst`: (n,) as in state.Index."""
    n = len(worst)
    label = np.full(n, -1, np.int16)
    grid = 96 if len(places) >= 20_000 else 64 if len(places) >= 2000 else 40
    at, cell = _cells(places, places.whole, grid)
    peak_of = _hills(np.bincount(cell, minlength=grid * grid).reshape(grid, grid))
    sizes = np.bincount(peak_of[cell], minlength=grid * grid)
    least = max(3, len(places) // 500)
    peaks = [int(p) for p in np.argsort(-sizes, kind="stable")[:MOST] if sizes[p] >= least]
    number = np.full(grid * grid, -1, np.int16)
    number[peaks] = np.arange(len(peaks), dtype=np.int16)
    label[places.row[at]] = number[peak_of[cell]]
    step = (places.whole[2] - places.whole[0]) / grid
    line, column = np.divmod(np.array(peaks, np.int64), grid)
    middle = np.stack([places.whole[0] + (column + 0.5) * step, places.whole[3] - (line + 0.5) * step], axis=1).astype(np.float32)
    inner = label >= 0
    size = np.bincount(label[inner], minlength=len(peaks))
    flagged = np.bincount(label[inner & (worst >= 2)], minlength=len(peaks))
    return Islands(label, middle, size, flagged, _names(places, label, middle, rows))


def _hills(count: np.ndarray) -> np.ndarray:
    """Return for each cell the densest cell of the hill it belongs to; hills grow from dense cells down to thin ones.

    A hill that is less than PEAK times as high as the saddle to a higher one is a part of that one.
    """
    from scipy.ndimage import gaussian_filter

    side = len(count)
    flat = gaussian_filter(count.astype(float), 1.0, mode="constant").ravel()
    own = np.arange(side * side)
    top = np.full(side * side, -1)          # hill of a cell that was visited
    order = np.argsort(-flat, kind="stable")

    def root(k: int) -> int:
        while own[k] != k:
            own[k] = own[own[k]]
            k = int(own[k])
        return k

    for k in order[flat[order] > 1e-6].tolist():
        line, column = divmod(k, side)
        near = {root(int(top[m])) for i in (-1, 0, 1) for j in (-1, 0, 1)
                if 0 <= line + i < side and 0 <= column + j < side and top[m := k + i * side + j] >= 0}
        if not near:
            top[k] = k
            continue
        highest = max(near, key=lambda r: (flat[r], -r))
        top[k] = highest
        for other in near - {highest}:
            if flat[other] < PEAK * flat[k]:
                own[other] = highest
    return np.array([root(int(t)) if t >= 0 else k for k, t in enumerate(top)])


def _names(places: Places, label: np.ndarray, middle: np.ndarray, rows: pa.Table) -> tuple[str, ...]:
    """Return a name for each cluster: words that its middle asks with more often than the rest of the map does."""
    if not len(middle):
        return ()
    mine = label[places.row]
    some = [np.arange(0, len(places), max(1, len(places) // AGAINST))]
    for k, (x, y) in enumerate(middle):
        own = np.flatnonzero(mine == k)
        far = (places.x[own] - x) ** 2 + (places.y[own] - y) ** 2
        some.append(own[np.argpartition(far, NAMED_BY)[:NAMED_BY]] if len(own) > NAMED_BY else own)
    row = np.unique(places.row[np.concatenate(some)].astype(np.int64))
    words = dict(zip(row.tolist(), map(_words, texts_at(rows["instruction"], row).to_pylist()), strict=True))
    around = Counter(w for at in some[0] for w in words[int(places.row[at])])
    taken: set[str] = set()
    return tuple(_name([words[int(r)] for r in places.row[own]], around, len(some[0]), taken) for own in some[1:])


def _words(prompt: str) -> set[str]:
    return {w for w in WORD.findall(prompt[:400].lower()) if w not in STOP}


def _name(near: Sequence[set[str]], around: Counter[str], n: int, taken: set[str]) -> str:
    """Return up to three words that set some prompts apart, a number behind a name that is taken."""
    inside = Counter(w for words in near for w in words)
    rate = {w: c / len(near) for w, c in inside.items() if c >= max(2, len(near) // 25)}
    lift = {w: r * float(np.log(r * n / max(1, around[w]))) for w, r in rate.items()}
    most = sorted((w for w, v in lift.items() if v > 0), key=lambda w: (-lift[w], w))[:3]
    name = stem = shorten(", ".join(most), 40) or "mixed"
    for k in itertools.count(2):
        if name not in taken:
            break
        name = f"{stem} {k}"
    taken.add(name)
    return name


# ---- the component


@dataclass(frozen=True)
class Drawn:
    """What the browser draws of one view; equal keys are equal pictures."""

    key: str
    image: str                  # base64 of `picture`
    points: Mapping[str, list[Any]] = field(default_factory=dict)


def drawn(places: Places, colour: Colour, view: View, rows: pa.Table, key: str) -> Drawn:
    """Return what the browser draws of a view."""
    return Drawn(key, base64.b64encode(picture(places, colour, view)).decode(), pointed(places, colour, view, rows))


def show(what: Drawn, colour: Colour, view: View, whole: View, labels: Sequence[Mapping[str, Any]], *, lasso: str,
         on: Mapping[str, Any]) -> None:
    """Draw the map. What the browser says lies in session_state["map"]: view, and the triggers lasso and spot.

    `lasso`: the code of the lasso to draw; `on`: callbacks for view, lasso and spot.
    """
    component("map", "cm-map")(
        key="map", height="content", default={"view": None}, on_view_change=on["view"], on_lasso_change=on["lasso"],
        on_spot_change=on["spot"],
        data={"key": what.key, "image": what.image, "points": what.points, "view": list(view), "whole": list(whole),
              "names": list(colour.names), "counts": colour.counts, "share": colour.share, "faint": colour.faint,
              "labels": list(labels), "lasso": lasso})
