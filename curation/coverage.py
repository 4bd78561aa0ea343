"""What a set covers against its spec: families, refusal categories and their benign contrast, edge cases."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from .spec import Spec


@dataclass(frozen=True)
class Line:
    """One number of the coverage report. `least` and `most` are counts of rows; None = not bounded."""

    kind: str  # family | refused | answered | refusal_share | edge_case
    id: str
    have: int
    least: int | None
    most: int | None

    @property
    def met(self) -> bool:
        return (self.least is None or self.have >= self.least) and (self.most is None or self.have <= self.most)

    @property
    def message(self) -> str:
        """One sentence: what is there, what the spec wants, what to do."""
        what = {
            "family": f"family {self.id}",
            "refused": f"refused rows of category {self.id}",
            "answered": f"answered look-alikes of category {self.id}",
            "refusal_share": "refusing rows in all",
            "edge_case": f"edge case {self.id}",
        }[self.kind]
        if self.least is not None and self.have < self.least:
            return f"{what}: {self.have:,} rows, {self.least - self.have:,} short of {self.least:,}"
        if self.most is not None and self.have > self.most:
            return f"{what}: {self.have:,} rows, {self.have - self.most:,} more than {self.most:,}"
        return f"{what}: {self.have:,} rows"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met, "message": self.message}


def lines(signals: pa.Table, spec: Spec) -> list[Line]:
    """Return the coverage of the rows in `signals` (family, refusal, harm_category), gaps as lines not met.

    A target share counts against the rows given here; a family of the spec without rows has a line of 0.
    """
    n = signals.num_rows
    family = Counter(signals["family"].to_pylist())
    out = [_family(f.id, family.get(f.id, 0), f.min_rows, f.bounds, n) for f in spec.families]
    if spec.families:
        out.append(Line("family", "(unassigned)", family.get("", 0), None, None))
    refusal = signals["refusal"].to_pylist()
    category = signals["harm_category"].to_pylist()
    cells = Counter((c, r in ("refuse", "partial")) for c, r in zip(category, refusal, strict=True) if c)
    for c in spec.refusals.categories:
        out.append(Line("refused", c.id, cells.get((c.id, True), 0), c.min_refused or None, None))
    contrast = _contrast(signals, spec)
    for c in spec.refusals.categories:
        out.append(Line("answered", c.id, contrast.get(c.id, 0), c.min_answered or None, None))
    least, most = spec.refusals.share
    if (least, most) != (0.0, 1.0):
        refused = sum(r == "refuse" for r in refusal)
        out.append(Line("refusal_share", "share", refused, round(least * n), round(most * n)))
    out += [Line("edge_case", e.id, family.get(e.family, 0), e.min_rows or None, None) for e in spec.edge_cases]
    return out


def _family(id: str, have: int, least: int, bounds: tuple[float, float] | None, n: int) -> Line:
    low = max(least, int(bounds[0] * n)) if bounds else least
    high = int(bounds[1] * n) + 1 if bounds else None
    return Line("family", id, have, low or None, high)


def _contrast(signals: pa.Table, spec: Spec) -> Counter[str]:
    """Count answered rows by the category whose benign contrast they carry (harm 0 with a `benign:` category)."""
    found: Counter[str] = Counter()
    if "harm_category" in signals.column_names:
        for c, h, r in zip(
            signals["harm_category"].to_pylist(), signals["harm"].to_pylist(), signals["refusal"].to_pylist(), strict=True
        ):
            if c and (h or 0.0) < 0.5 and r in ("comply", "other_safe"):
                found[c] += 1
    return found
