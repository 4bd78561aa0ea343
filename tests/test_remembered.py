"""What checks of a run share: made once for equal columns, made anew for others, gone after the run."""

from __future__ import annotations

import gc
import weakref

import pyarrow as pa

from curation.remembered import remembered, remembering

ONE, EQUAL, OTHER = (pa.chunked_array([[1, 2], [x]]) for x in (3, 3, 4))


class Made:
    """Something made, and how often."""

    times = 0

    def __init__(self) -> None:
        type(self).times += 1


def test_equal_columns_are_worked_through_once_and_others_anew() -> None:
    Made.times = 0
    with remembering():
        first = remembered("a", (ONE,), Made)
        assert remembered("a", (EQUAL,), Made) is first and Made.times == 1
        assert remembered("b", (ONE,), Made) is not first and Made.times == 2
        assert remembered("a", (OTHER,), Made) is not first and Made.times == 3
        assert remembered("a", (ONE,), Made) is not first and Made.times == 4    # only the last is held
        assert remembered("a", (ONE.combine_chunks(),), Made) is not None and Made.times == 5   # of another form


def test_nothing_is_held_outside_a_run_or_after_it() -> None:
    Made.times = 0
    assert remembered("a", (ONE,), Made) is not remembered("a", (ONE,), Made) and Made.times == 2
    with remembering():
        held = weakref.ref(remembered("a", (ONE,), Made))
        assert held() is not None
        with remembering():
            assert remembered("a", (ONE,), Made) is not held()
        assert remembered("a", (ONE,), Made) is held()
    gc.collect()
    assert held() is None
