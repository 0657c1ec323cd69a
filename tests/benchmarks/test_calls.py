"""Which slices a comparison takes, and how a preset gets its number of calls."""

import argparse

import pytest

from benchmarks.calls import chosen_places, with_calls
from tasks.planning.presets import COMPARED, PRESETS

SUBJECTS = ["a"] * 9 + ["b"] * 2 + ["c"] * 5


def options(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"subjects": [], "slices": 4, "per_person": None, **given})


def test_slices_are_spread_over_all_or_over_each_person():
    assert chosen_places(SUBJECTS, options()) == [2, 6, 10, 14]
    assert chosen_places(SUBJECTS, options(per_person=3)) == [1, 4, 7, 9, 10, 11, 13, 15]
    assert chosen_places(SUBJECTS, options(per_person=1, subjects=["a", "c"])) == [4, 13]


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_every_compared_method_takes_the_calls_it_is_given(modality):
    for method in COMPARED[modality]:
        if method.needs != "nothing":
            assert (with_calls(method, 10, modality) or method).n_calls <= 10
    assert with_calls(PRESETS[modality]["balanced"].method, 10, modality) == PRESETS[modality]["fast"].method
