"""Which slices a comparison takes, over what it means, and how a preset gets its number of calls."""

import argparse

import pytest
import torch

from benchmarks.calls import chosen_places, means_by_group, with_calls
from tasks.planning.presets import COMPARED, PRESETS

SUBJECTS = ["a"] * 9 + ["b"] * 2 + ["c"] * 5


def options(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"subjects": [], "slices": 4, "per_person": None, **given})


def test_slices_are_spread_over_all_or_over_each_person():
    assert chosen_places(SUBJECTS, options()) == [2, 6, 10, 14]
    assert chosen_places(SUBJECTS, options(per_person=3)) == [1, 4, 7, 9, 10, 11, 13, 15]
    assert chosen_places(SUBJECTS, options(per_person=1, subjects=["a", "c"])) == [4, 13]


def test_people_count_alike_however_many_slices_they_have():
    assert means_by_group(torch.tensor([1.0, 2.0, 3.0, 10.0]), ["a", "a", "a", "b"]) == [2.0, 10.0]


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_every_compared_method_takes_the_calls_it_is_given(modality):
    for method in COMPARED[modality]:
        if method.needs != "nothing":
            assert (with_calls(method, 10, modality) or method).n_calls <= 10
    assert with_calls(PRESETS[modality]["balanced"].method, 10, modality) == PRESETS[modality]["fast"].method
