"""What can be tuned: every method has ranges of its own, and a range that does not fit says what would."""

import math
from typing import Any

import pytest

from scoreinv.baselines import Direct
from scoreinv.problem import Method
from scoreinv.samplers import DDS, Projection
from tasks.recipes import Reconstruction, TuneRecipe
from tasks.tuning.search_spaces import (
    DEFAULT_SEARCH,
    Search,
    SearchRange,
    check_search,
    default_search,
    may_be_wider,
    options,
    with_values,
)
from tests.cases import METHODS

NOTHING_TO_TUNE = {"direct", "li", "learned", "nmar", "predictor_corrector", "heun"}
"""The first has no option; how far a learned image follows the data is a choice, and so are LI's neighbours and NMAR's
tissues; the last two use no data, so no value of it is right for them."""

BY_KIND = {method.kind: method for method in METHODS.values()}


def recipe(method: Method, search: Search = ()) -> TuneRecipe:
    choice = {"method": method.model_dump(), "prior": "ct-128"}
    return TuneRecipe(
        measurements="measurements/ab12", reconstruction=Reconstruction.model_validate(choice), search=search
    )


def has_numbers(method: Method) -> bool:
    return any(isinstance(value, int | float) for value in map(option_of(method), options(method)))


def option_of(method: Method) -> Any:
    def value(key: str) -> Any:
        found: Any = method
        for name in key.split("."):
            found = getattr(found, name)
        return found

    return value


WIDER: dict[str, tuple[SearchRange, Any, bool]] = {
    "inside": (SearchRange(key="grid.sigma_max", low=0.1, high=10, is_log=True), 1.0, False),
    "near the upper end": (SearchRange(key="grid.sigma_max", low=0.1, high=10, is_log=True), 9.0, True),
    "near the lower end": (SearchRange(key="grid.sigma_max", low=0.1, high=10, is_log=True), 0.11, True),
    "the method ends there, too": (SearchRange(key="renoise.eta", low=0, high=1), 0.99, False),
    "only this side is free": (SearchRange(key="renoise.eta", low=0.4, high=1), 0.41, True),
    "most": (SearchRange(key="n_cg", low=1, high=20, is_log=True), 20, True),
    "least": (SearchRange(key="n_cg", low=1, high=20, is_log=True), 1, False),
    "choices": (SearchRange(key="n_cg", choices=(1, 20)), 20, False),
    "given outside": (SearchRange(key="n_cg", low=1, high=20), 30, False),
}


@pytest.mark.parametrize(("one", "value", "expected"), WIDER.values(), ids=WIDER)
def test_a_best_value_at_an_end_asks_for_a_wider_range(one: SearchRange, value: Any, expected: bool) -> None:
    assert may_be_wider(DDS(), one, value) == expected


def test_every_method_with_a_number_has_ranges() -> None:
    wanted = {kind for kind, method in BY_KIND.items() if has_numbers(method)} - NOTHING_TO_TUNE
    assert set(DEFAULT_SEARCH) == wanted
    assert {"tv", "dds", "projection"} <= wanted
    for kind in NOTHING_TO_TUNE:
        with pytest.raises(ValueError, match=f"method '{kind}' has no numbers to tune by default"):
            default_search(BY_KIND[kind])


@pytest.mark.parametrize("kind", DEFAULT_SEARCH)
def test_the_ranges_of_a_method_are_its_own_and_hold_its_defaults(kind: str) -> None:
    method = type(BY_KIND[kind])()
    search = default_search(method)
    check_search(method, search)
    for one in search:
        assert one.holds(option_of(method)(one.key)), one.key
    n_calls = {with_values(method, {one.key: end}).n_calls for one in search for end in one.choices or one.bounds}
    assert n_calls == {method.n_calls}, "the number of network calls is not to be tuned"


MISTAKES: dict[str, tuple[Method, Search, str]] = {
    "unknown": (
        DDS(),
        (SearchRange(key="etaa", low=0, high=1),),
        "method 'dds' has no option 'etaa': choose grid.n_levels",
    ),
    "kind": (DDS(), (SearchRange(key="kind", choices=("tv",)),), "has no option 'kind'"),
    "group": (DDS(), (SearchRange(key="grid", low=0, high=1),), "has no option 'grid'"),
    "too high": (
        DDS(),
        (SearchRange(key="renoise.eta", low=0, high=2),),
        "renoise.eta=2.0 is not allowed: Input should be less than or",
    ),
    "too low": (DDS(), (SearchRange(key="grid.sigma_max", low=0.001, high=2),), "sigma_min=0.005 must be below"),
    "fraction": (DDS(), (SearchRange(key="n_cg", low=1, high=2.5),), "n_cg counts: low and high must be whole"),
    "word": (Projection(), (SearchRange(key="transform", low=0, high=1),), "transform is not a number: give choices"),
    "wrong word": (
        Projection(),
        (SearchRange(key="transform", choices=("residul",)),),
        "transform=residul is not allowed",
    ),
    "twice": (DDS(), 2 * (SearchRange(key="renoise.eta", low=0, high=1),), "search names renoise.eta more than once"),
}


@pytest.mark.parametrize(("method", "search", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_range_that_does_not_fit_says_what_would(method: Method, search: Search, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        check_search(method, search)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        recipe(method, search)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "low must be below high"),
        ({"low": 1, "high": 1}, "low must be below high"),
        ({"low": 0, "high": 1, "is_log": True}, "a logarithm needs low above 0"),
        ({"low": 0, "choices": (1,)}, "choices stand in place of low"),
        ({"low": 0, "high": math.inf}, "finite"),
    ],
)
def test_a_range_is_two_ends_or_choices(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchRange(key="renoise.eta", **options)


def test_a_method_without_numbers_cannot_be_tuned() -> None:
    with pytest.raises(ValueError, match="method 'direct' has no numbers to tune"):
        recipe(Direct())


def test_options_by_their_earlier_names_are_read_by_their_new_ones() -> None:
    found = {key: SearchRange(key=key, low=0, high=1).key for key in ("eta", "temperature", "noise_floor", "strength")}
    assert found == {
        "eta": "renoise.eta",
        "temperature": "renoise.temperature",
        "noise_floor": "data_floor",
        "strength": "strength",
    }
