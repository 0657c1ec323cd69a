"""Statistics over people: a person counts once, and the interval holds the truth as often as it says."""

import math

import numpy as np
import pytest

from benchmarks.people import best_baseline, mean_of_each, people_of, table_of_methods, table_of_people
from tasks.people import gains, means_of_people, over_people


def row(person: str, slice_id: str, psnr: float, *, method: str = "tv", prior: str = "") -> dict[str, object]:
    about = {"subject_id": person, "slice_id": slice_id, "method": method, "prior": prior, "nfe": 0, "nmse": 0.1}
    return {**about, "estimate": "sample", "reconstruction": method, "psnr": psnr}


def test_somebody_with_many_slices_counts_once():
    rows = [row("ann", str(i), 30.0) for i in range(9)] + [row("bob", "b", 40.0)]
    assert over_people(means_of_people(rows, "psnr")).mean == 35.0


def test_a_slice_that_is_left_out_does_not_count_nor_does_who_has_no_other():
    rows = [row("ann", "1", 30.0), row("ann", "2", 50.0), row("bob", "3", 40.0)]
    assert means_of_people(rows, "psnr", {"2", "3"}) == {"ann": 30.0}


def test_an_interval_of_95_percent_holds_the_mean_nineteen_times_of_twenty():
    draws = np.random.default_rng(0).normal(3.0, 1.0, (200, 15))
    intervals = [over_people(dict(enumerate(map(float, one)))) for one in draws]
    held = sum(one.low < 3.0 < one.high for one in intervals)
    assert 178 <= held <= 197


def test_one_person_has_no_interval_and_equal_people_one_of_no_width():
    assert math.isnan(over_people({"ann": 3.0}).low)
    assert over_people({"ann": 3.0, "bob": 3.0}) == (3.0, 3.0, 3.0, 2)
    with pytest.raises(ValueError, match="nobody is left"):
        over_people({})


def test_gains_are_of_the_same_person():
    assert gains({"ann": 3.0, "bob": 5.0, "eve": 1.0}, {"bob": 1.0, "ann": 2.0}) == {"ann": 1.0, "bob": 4.0}


def test_people_count_alike_in_benchmarks_however_many_slices_they_have():
    assert mean_of_each(["a", "a", "b", "a"], [1.0, 2.0, 10.0, 3.0]) == {"a": 2.0, "b": 10.0}


def test_the_table_names_the_best_baseline_and_the_least_gain_of_anybody():
    one = [row("ann", "1", 30.0), row("bob", "2", 32.0), row("ann", "1", 31.0, method="wavelet")]
    one += [row("bob", "2", 33.0, method="wavelet"), row("ann", "1", 36.0, method="dds", prior="ct-256")]
    other = [row("eve", "3", 20.0), row("eve", "3", 26.0, method="wavelet")]
    people = people_of([[*one, row("bob", "2", 34.0, method="dds", prior="ct-256")], other], "psnr")
    assert best_baseline(people)[0] == "wavelet"
    dds = next(line for line in table_of_methods(people, "psnr") if line.startswith("| dds, ct-256 |"))
    assert dds.startswith("| dds, ct-256 |  | 2 | 35.00 [34.00, 36.00] | 3.00 [1.00, 5.00]")
    assert dds.endswith("| 1.00 |")
    assert "| eve | 20.00 | 26.00 |  |" in table_of_people(people)
