"""Suggestions: better than chance, and the same whoever asks and whenever."""

import math
from typing import Any

import numpy as np

from scoreinv.samplers import DDS
from tasks.tuning.search_spaces import Search, SearchRange, Values, with_values
from tasks.tuning.suggestions import suggest

DDS_RANGES = (
    SearchRange(key="renoise.eta", low=0, high=1),
    SearchRange(key="grid.sigma_max", low=0.1, high=3, is_log=True),
    SearchRange(key="n_cg", low=1, high=4),
)


def searched(search: Search, score: Any, n: int, *, seed: int) -> list[tuple[Values, float | None]]:
    tried: list[tuple[Values, float | None]] = []
    while len(tried) < n and (values := suggest(DDS(), search, tried, seed=seed)) is not None:
        tried.append((values, score(values)))
    return tried


def bowl(values: Values) -> float:
    """Best at eta 0.3 and sigma_max 0.5."""
    return -((values["renoise.eta"] - 0.3) ** 2) - (math.log10(values["grid.sigma_max"] / 0.5)) ** 2  # type: ignore[operator,arg-type]


def test_suggestions_learn_from_the_trials() -> None:
    """Forty of them beat forty at random, for each of three seeds."""
    rng = np.random.default_rng(0)
    at_random = [
        max(bowl({"renoise.eta": a, "grid.sigma_max": 10**b}) for a, b in rng.uniform((0, -1), (1, 0.477), (40, 2)))
        for _ in range(500)
    ]
    for seed in (1, 2, 3):
        tried = searched(DDS_RANGES[:2], bowl, 40, seed=seed)
        assert max(score or -9 for _, score in tried) > np.median(at_random)
        late = np.mean([score for _, score in tried[-10:]])
        assert late > np.mean([score for _, score in tried[:10]])


def test_suggestions_keep_away_from_failures() -> None:
    """Half of the range fails."""
    tried = searched(DDS_RANGES[:2], lambda v: None if v["renoise.eta"] > 0.5 else bowl(v), 40, seed=0)
    assert sum(score is None for _, score in tried[-20:]) < sum(score is None for _, score in tried[:10])


def test_suggestions_follow_from_the_trials_and_the_seed_alone() -> None:
    tried = searched(DDS_RANGES, bowl, 15, seed=3)
    assert searched(DDS_RANGES, bowl, 15, seed=3) == tried
    assert suggest(DDS(), DDS_RANGES, tried[:12], seed=3) == tried[12][0]
    assert searched(DDS_RANGES, bowl, 15, seed=4) != tried
    for values, _ in tried:
        assert with_values(DDS(), values).n_cg == values["n_cg"]
        assert all(one.holds(values[one.key]) for one in DDS_RANGES)


def test_a_small_space_is_searched_once_and_then_it_ends() -> None:
    search = (SearchRange(key="n_cg", low=1, high=3), SearchRange(key="renoise.eta", choices=(0.0, 1.0)))
    tried = searched(search, lambda values: float(values["n_cg"]), 100, seed=0)
    assert len(tried) == 6 == len({(values["n_cg"], values["renoise.eta"]) for values, _ in tried})


def test_a_method_given_outside_the_ranges_is_tried_all_the_same() -> None:
    outside: Values = {"renoise.eta": 0.95, "n_cg": 5}
    search = (SearchRange(key="renoise.eta", low=0.1, high=0.5), SearchRange(key="n_cg", low=1, high=4))
    values = suggest(DDS(), search, [(outside, 30.0)], seed=0)
    assert values is not None
    assert all(one.holds(values[one.key]) for one in search)


def test_values_that_do_not_go_together_are_not_suggested() -> None:
    search = (
        SearchRange(key="grid.sigma_max", low=0.02, high=2),
        SearchRange(key="grid.sigma_min", low=0.005, high=0.9),
    )
    for values, _ in searched(search, lambda _: 0.0, 20, seed=0):
        assert values["grid.sigma_min"] < values["grid.sigma_max"]  # type: ignore[operator]
