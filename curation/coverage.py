"""What a set covers against its spec: families, refusal categories and their benign contrast, edge cases."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
    family = _count(signals, "family")
    out = [_family(f.id, family.get(f.id, 0), f.min_rows, f.bounds, n) for f in spec.families]
    if spec.families:
        out.append(Line("family", "(unassigned)", family.get("", 0), None, None))
    refused = signals.filter(pc.is_in(signals["refusal"], value_set=pa.array(["refuse", "partial"])))
    cells = _count(refused, "harm_category")
    for c in spec.refusals.categories:
        out.append(Line("refused", c.id, cells.get(c.id, 0), c.min_refused or None, None))
    contrast = _count(_contrast(signals), "harm_category")
    for c in spec.refusals.categories:
        out.append(Line("answered", c.id, contrast.get(c.id, 0), c.min_answered or None, None))
    least, most = spec.refusals.share
    if (least, most) != (0.0, 1.0):
        whole = _count(signals, "refusal").get("refuse", 0)
        out.append(Line("refusal_share", "share", whole, round(least * n), round(most * n)))
    out += [Line("edge_case", e.id, family.get(e.family, 0), e.min_rows or None, None) for e in spec.edge_cases]
    return out


def _family(id: str, have: int, least: int, bounds: tuple[float, float] | None, n: int) -> Line:
    low = max(least, int(bounds[0] * n)) if bounds else least
    high = int(bounds[1] * n) + 1 if bounds else None
    return Line("family", id, have, low or None, high)


def _contrast(signals: pa.Table) -> pa.Table:
    """Return the answered rows whose prompt carries the benign contrast of a category (harm below 0.5)."""
    harmless = pc.less(pc.fill_null(signals["harm"], 0.0), 0.5)
    answered = pc.is_in(signals["refusal"], value_set=pa.array(["comply", "other_safe"]))
    return signals.filter(pc.and_(harmless, answered))


def _count(table: pa.Table, column: str) -> dict[str, int]:
    """Return {value: rows}, null as ""."""
    values = pc.value_counts(pc.fill_null(table[column], ""))
    return {v["values"]: v["counts"] for v in values.to_pylist()}
