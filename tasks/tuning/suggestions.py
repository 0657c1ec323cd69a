"""What to try next: Optuna's tree-structured Parzen estimator.

Bergstra et al. 2011, "Algorithms for hyper-parameter optimization"; Watanabe 2023, arXiv:2304.11127. A
suggestion follows from the trials before it and a seed alone, never from a sampler's hidden state: a tuning
that was stopped and resumed therefore makes the same ones as one that was not.
"""

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from scoreinv.problem import Method
from scoreinv.spec import digest_of
from tasks.tuning.search_spaces import Search, SearchRange, Value, Values, is_allowed, is_whole, options

N_ATTEMPTS = 50
"""So many suggestions in a row that cannot be used say that there is nothing new in the space."""

N_DIGITS = 4
"""Significant ones of a suggestion: a recipe is for people to read, and no method feels the fifth."""

Tried = Sequence[tuple[Values, float | None]]
"""Values and the score they gave, larger being better; None where they failed."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def suggest(method: Method, search: Search, tried: Tried, *, seed: int) -> Values | None:
    """Values worth trying that the method allows and that were not tried yet; None if there are none left."""
    space = {one.key: _distribution(one, is_whole(options(method)[one.key])) for one in search}
    known = [values for values, _ in tried]
    for attempt in range(N_ATTEMPTS):
        study = optuna.create_study(direction="maximize", sampler=_sampler(seed, len(tried), attempt))
        study.add_trials([_frozen(space, values, score) for values, score in tried if _all_held(search, values)])
        values = study.ask(space).params
        readable = {one.key: _rounded(one, values[one.key]) for one in search}
        if readable not in known and is_allowed(method, readable):
            return readable
    return None


def _sampler(seed: int, number: int, attempt: int) -> TPESampler:
    return TPESampler(seed=int(digest_of(seed, number, attempt), 16) % 2**32)


def _frozen(space: Mapping[str, BaseDistribution], values: Values, score: float | None) -> FrozenTrial:
    # The sampler learns nothing from failed trials, but keeps away from pruned ones as from bad ones.
    state = TrialState.PRUNED if score is None else TrialState.COMPLETE
    return create_trial(state=state, value=score, params=dict(values), distributions=dict(space))


def _all_held(search: Search, values: Values) -> bool:
    """The method as it was given may lie outside the ranges."""
    return all(one.holds(values[one.key]) for one in search)


def _distribution(one: SearchRange, is_int: bool) -> BaseDistribution:
    if one.choices:
        return CategoricalDistribution(one.choices)
    low, high = one.bounds
    return (
        IntDistribution(int(low), int(high), log=one.is_log) if is_int else FloatDistribution(low, high, log=one.is_log)
    )


def _rounded(one: SearchRange, value: Value) -> Value:
    if one.choices or not isinstance(value, float):
        return value
    low, high = one.bounds
    return min(max(float(f"{value:.{N_DIGITS}g}"), low), high)
