"""One option of a check changed in a spec: nothing else moves, comments stay."""

import pytest

from curation.checks import CHECKS
from curation.errors import CurationError
from curation.spec import parse
from curation.spec_edit import with_option

GIVEN = [
    ("", "checks:\n  dup.near: {threshold: 0.7}\n"),
    ("# only a comment", "# only a comment\nchecks:\n  dup.near: {threshold: 0.7}\n"),
    ("name: x # mine", "name: x # mine\nchecks:\n  dup.near: {threshold: 0.7}\n"),
    ("checks: {}\n  # dup.near: off\n", "checks: {dup.near: {threshold: 0.7}}\n  # dup.near: off\n"),
    ("checks: {dup.exact: off}\n", "checks: {dup.near: {threshold: 0.7}, dup.exact: off}\n"),
    ("checks:\n  # why\n  dup.exact: off # x\n", "checks:\n  # why\n  dup.near: {threshold: 0.7}\n  dup.exact: off # x\n"),
    ("checks:\n  dup.near: {unit: word}\n", "checks:\n  dup.near: {threshold: 0.7, unit: word}\n"),
    ("checks:\n    dup.near:\n        unit: word #\n", "checks:\n    dup.near:\n        threshold: 0.7\n        unit: word #\n"),
    ("checks:\n  dup.near: {threshold: 0.85}  # é\nname: x\n", "checks:\n  dup.near: {threshold: 0.7}  # é\nname: x\n"),
    ("checks:\n  dup.near:\n    threshold: 0.85   # was\n", "checks:\n  dup.near:\n    threshold: 0.7   # was\n"),
    ("{name: x}\n", "{checks: {dup.near: {threshold: 0.7}}, name: x}\n"),
    ('"checks":\n  "dup.near": {"threshold": 1}\n', '"checks":\n  "dup.near": {"threshold": 0.7}\n'),
]


@pytest.mark.parametrize(("text", "wanted"), GIVEN)
def test_the_option_is_set_and_the_rest_stays(text: str, wanted: str) -> None:
    new = with_option(text, "dup.near", "threshold", 0.7, CHECKS)
    assert new == wanted
    assert with_option(new, "dup.near", "threshold", 0.7, CHECKS) == new
    assert parse(new, checks=CHECKS).checks["dup.near"].threshold == 0.7  # type: ignore[union-attr]


def test_what_is_off_stays_off() -> None:
    with pytest.raises(CurationError, match=r"switches dup\.near off"):
        with_option("checks:\n  dup.near: off\n", "dup.near", "threshold", 0.7)


def test_an_alias_is_left_to_a_person() -> None:
    text = "checks:\n  dup.near: &a {threshold: 0.8}\n  dup.leak: *a\n"
    with pytest.raises(CurationError, match="without touching something else") as e:
        with_option(text, "dup.leak", "threshold", 0.7)
    assert "by hand" in e.value.hint
