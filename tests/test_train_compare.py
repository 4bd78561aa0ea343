"""Two runs, two arms: the statistics against scipy and brute force, the verdicts, and what must not be compared."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from curation.train.compare import (
    compare_arms,
    holm,
    max_t,
    mcnemar,
    paired_bootstrap,
    permutation_test,
    render,
    wilson,
)
from curation.train.eval_cli import compare
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from curation.errors import CurationError


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_binomial_test_and_symmetric(gains: int, losses: int) -> None:
    want = binomtest(gains, gains + losses).pvalue if gains + losses else 1.0
    assert mcnemar(gains, losses) == pytest.approx(want)
    assert mcnemar(gains, losses) == mcnemar(losses, gains)


def test_mcnemar_rules_of_thumb() -> None:
    assert mcnemar(5, 0) == pytest.approx(0.0625) and mcnemar(6, 0) == pytest.approx(0.03125) and mcnemar(0, 0) == 1.0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys_interval(case: tuple[int, int]) -> None:
    passed, n = case
    want = binomtest(passed, n).proportion_ci(method="wilson")
    assert wilson(passed, n) == pytest.approx((want.low, want.high), abs=1e-6)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_holm_by_hand_and_in_order() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {} and holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_value_nor_its_rank(p: dict[str, float]) -> None:
    corrected = holm(p)
    assert all(p[k] <= corrected[k] <= 1 for k in p)
    ranked = sorted(p, key=lambda k: p[k])
    assert all(corrected[x] <= corrected[y] for x, y in itertools.pairwise(ranked))


def brute_permutation(a: list[float], b: list[float]) -> float:
    values, k = a + b, len(a)
    seen = abs(sum(a) / k - sum(b) / len(b))
    hits = total = 0
    for pick in itertools.combinations(range(len(values)), k):
        x = [values[i] for i in pick]
        y = [values[i] for i in range(len(values)) if i not in pick]
        total += 1
        hits += abs(sum(x) / len(x) - sum(y) / len(y)) >= seen - 1e-12
    return hits / total


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=4), st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_permutation_is_brute_force_and_symmetric(a: list[int], b: list[int]) -> None:
    x, y = [v / 20 for v in a], [v / 20 for v in b]
    assert permutation_test(x, y) == pytest.approx(brute_permutation(x, y))
    assert permutation_test(x, y) == pytest.approx(permutation_test(y, x))


def test_the_smallest_p_values_of_few_runs() -> None:
    assert permutation_test([0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.8, 0.9]) == pytest.approx(2 / 70)
    assert permutation_test([0.1, 0.2, 0.3], [0.6, 0.7, 0.8]) == pytest.approx(0.1)
    assert permutation_test([0.5] * 4, [0.5] * 4) == 1.0


def test_many_runs_are_drawn_not_listed_and_the_draw_is_seeded() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(12).tolist(), (rng.random(12) + 2).tolist()
    assert permutation_test(a, b, seed=3) == permutation_test(a, b, seed=3) < 0.001


def test_bootstrap_covers_the_mean_and_resamples_whole_groups() -> None:
    rng = np.random.default_rng(1)
    difference = rng.choice([-1.0, 0.0, 1.0], size=400, p=[0.1, 0.6, 0.3])
    low, high = paired_bootstrap(difference, [str(i) for i in range(400)])
    spread = 1.96 * difference.std() / 20
    assert low == pytest.approx(difference.mean() - spread, abs=0.01)
    assert high == pytest.approx(difference.mean() + spread, abs=0.01)
    assert paired_bootstrap(np.ones(8), list("aabbccdd")) == (1.0, 1.0)
    wide = paired_bootstrap(np.repeat(difference[:40], 10), [str(i // 10) for i in range(400)])
    assert wide[1] - wide[0] > 2 * (high - low), "ten copies of a prompt are no more evidence than one"


def test_bootstrap_by_brute_force_on_two_groups() -> None:
    low, high = paired_bootstrap(np.array([1.0, 1.0, 0.0]), ["a", "a", "b"], draws=20_000)
    means = sorted(np.mean([x for g in pick for x in g]) for pick in itertools.product([[1.0, 1.0], [0.0]], repeat=2))
    assert (low, high) == (means[0], means[-1])


# ---- whole comparisons


def result(
    passed: list[bool], *, behaviours: tuple[str, ...] = ("label", "json"), groups: bool = False
) -> dict[str, Any]:
    probes = [
        {
            "id": f"p{i}",
            "prompt": f"prompt {i}",
            "behaviour": behaviours[i % len(behaviours)],
            "passed": ok,
            "group": f"g{i // 2 if groups else i}",
            "checks": [{"id": "answer:label", "passed": ok}],
        }
        for i, ok in enumerate(passed)
    ]
    return {"probes": probes, "metrics": {"stop_rate": sum(passed) / len(passed), "guess_rate": None}}


def write(folder: Path, value: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "battery.json").write_text(json.dumps(value))
    return folder


def test_flips_are_named_and_a_clear_gain_is_improved(tmp_path: Path) -> None:
    a = write(tmp_path / "a", result([False] * 40 + [True] * 2))
    b = write(tmp_path / "b", result([True] * 40 + [False] + [True]))
    found = compare_arms([a], [b])
    assert found["test"] == "mcnemar" and not found["worse"]
    label = found["behaviours"]["label"]
    assert label["gains"] == [f"p{i}" for i in range(0, 40, 2)] and label["losses"] == ["p40"]
    assert label["p"] == pytest.approx(binomtest(1, 21).pvalue) and label["p_holm"] == label["p"]
    assert found["behaviours"]["json"]["p_holm"] == pytest.approx(2 * 2 * 0.5**20), "the smaller of two is doubled"
    assert label["verdict"] == found["overall"]["verdict"] == "improved"
    assert label["a"]["wilson"] == pytest.approx(list(wilson(1, 21)))
    text = render(found)
    assert "Improved beyond chance: label 0.05 to 0.95" in text and "stop_rate" in text and "guess_rate" not in text


def test_one_behaviour_much_worse_fails_the_comparison(tmp_path: Path) -> None:
    a = write(tmp_path / "a", result([True, False] * 30))
    b = write(tmp_path / "b", result([False, True] * 30))
    found = compare_arms([a], [b])
    assert found["overall"]["verdict"] == "cannot tell"
    assert found["behaviours"]["label"]["verdict"] == "worse" and found["behaviours"]["json"]["verdict"] == "improved"
    assert found["worse"]
    runner = CliRunner()
    done = runner.invoke(compare, [str(a), str(b), "--json"], standalone_mode=False)
    assert done.return_value == 1 and json.loads(done.output)["worse"] is True
    back = runner.invoke(compare, ["--a", str(b), "--b", str(b)], standalone_mode=False)
    assert back.return_value == 0 and "unchanged" in back.output


def test_the_same_run_twice_is_unchanged(tmp_path: Path) -> None:
    a = write(tmp_path / "a", result([True, False] * 10))
    found = compare_arms([a], [a])
    assert {x["verdict"] for x in found["behaviours"].values()} == {"unchanged"} and found["overall"]["p"] == 1.0


def arms(tmp_path: Path, chance_a: float, chance_b: float, runs: int) -> tuple[list[Path], list[Path]]:
    rng = random.Random(5)
    make = lambda name, chance: [  # noqa: E731
        write(tmp_path / f"{name}{k}", result([rng.random() < chance for _ in range(120)])) for k in range(runs)
    ]
    return make("a", chance_a), make("b", chance_b)


def test_four_seeds_an_arm_reach_p_029_and_show_the_seed_gap(tmp_path: Path) -> None:
    found = compare_arms(*arms(tmp_path, 0.5, 0.9, 4))
    overall = found["overall"]
    assert found["test"] == "permutation" and found["p_floor"] == pytest.approx(2 / 70)
    assert overall["p"] == pytest.approx(2 / 70) and overall["verdict"] == "improved"
    assert overall["seed_gap"] == pytest.approx(max(np.ptp(overall["a"]["seeds"]), np.ptp(overall["b"]["seeds"])))
    assert overall["a"]["spread"] == [min(overall["a"]["seeds"]), max(overall["a"]["seeds"])]
    assert "A/A gap" in render(found)


def test_four_seeds_can_tell_for_each_of_ten_behaviours(tmp_path: Path) -> None:
    names = tuple("abcdefghij")
    rng = random.Random(5)
    sides = [
        [
            write(tmp_path / f"{arm}{k}", result([rng.random() < chance for _ in range(400)], behaviours=names))
            for k in range(4)
        ]
        for arm, chance in (("x", 0.95), ("y", 0.05))
    ]
    found = compare_arms(*sides)
    assert found["correction"] == "max-t" and found["worse"]
    assert all(x["verdict"] == "worse" and x["p_holm"] > 0.05 for x in found["behaviours"].values())
    assert all(x["p_corrected"] == pytest.approx(2 / 70) for x in found["behaviours"].values())


def test_max_t_is_mirrored_bounded_and_guards_against_many_behaviours() -> None:
    rng = np.random.default_rng(2)
    false_alarms = 0
    for _ in range(200):
        a, b = rng.normal(0.5, 0.05, (4, 10)), rng.normal(0.5, 0.05, (4, 10))
        corrected = max_t(a, b)
        assert np.allclose(corrected, max_t(b, a))
        assert corrected.min() >= 2 / 70 - 1e-12
        false_alarms += corrected.min() < 0.05
    assert false_alarms <= 14, "2 of 70 relabelings reach the smallest p, so about 6 of 200"


def test_three_seeds_cannot_tell_and_say_why(tmp_path: Path) -> None:
    found = compare_arms(*arms(tmp_path, 0.5, 0.9, 3))
    assert found["overall"]["verdict"] == "cannot tell" and not found["worse"]
    assert "p cannot go below 0.1; four an arm reach 0.029" in render(found)


def test_swapping_the_arms_mirrors_the_result(tmp_path: Path) -> None:
    a, b = arms(tmp_path, 0.8, 0.4, 2)
    there, back = compare_arms(a, b)["overall"], compare_arms(b, a)["overall"]
    assert there["difference"] == pytest.approx(-back["difference"]) and there["p"] == pytest.approx(back["p"])
    assert there["gains"] == back["losses"] and there["losses"] == back["gains"]


def test_different_batteries_are_refused_and_the_first_difference_is_named(tmp_path: Path) -> None:
    a = write(tmp_path / "a", result([True] * 6))
    other = result([True] * 6)
    other["probes"][3]["prompt"] = "another"
    with pytest.raises(CurationError, match="first difference at probe 4: 'p3' against 'p3'"):
        compare_arms([a], [write(tmp_path / "b", other)])
    with pytest.raises(CurationError, match="probe 6: 'p5' against 'none'"):
        compare_arms([a], [write(tmp_path / "c", result([True] * 5))])


def test_missing_and_damaged_results_say_what_to_do(tmp_path: Path) -> None:
    a = write(tmp_path / "a", result([True] * 4))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CurationError, match=r"no such file") as e:
        compare_arms([a], [tmp_path / "empty"])
    assert "curation eval" in e.value.hint
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "battery.json").write_text('{"probes": [{"id": 1}]}')
    with pytest.raises(CurationError, match="not a battery result"):
        compare_arms([a], [bad])
    with pytest.raises(CurationError, match="1 runs named"):
        CliRunner().invoke(compare, [str(a)], standalone_mode=False, catch_exceptions=False)
