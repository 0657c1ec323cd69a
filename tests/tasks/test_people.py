"""Statistics over people: a person counts once, and the interval holds the truth as often as it says."""

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from benchmarks.people import best_baseline, mean_of_each, people_of, table_of_methods, table_of_people
from tasks.people import compared, gains, holm, means_of_people, over_people, signed_rank_p


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


def test_the_interval_of_very_many_people_is_that_of_few_in_proportion():
    draws = np.random.default_rng(0).normal(3.0, 1.0, 1001)
    whole, part = (over_people(dict(enumerate(map(float, one)))) for one in (draws, draws[:1000]))
    assert (whole.low, whole.high) == pytest.approx((part.low, part.high), abs=0.005)


def test_one_person_has_no_interval_and_equal_people_one_of_no_width():
    assert math.isnan(over_people({"ann": 3.0}).low)
    assert over_people({"ann": 3.0, "bob": 3.0}) == (3.0, 3.0, 3.0, 2)
    with pytest.raises(ValueError, match="nobody is left"):
        over_people({})


def test_gains_are_of_the_same_person():
    assert gains({"ann": 3.0, "bob": 5.0, "eve": 1.0}, {"bob": 1.0, "ann": 2.0}) == {"ann": 1.0, "bob": 4.0}


def test_the_signed_rank_test_is_exact_for_few_people():
    # All n gains of one sign: two of 2^n ways, one at either end.
    assert signed_rank_p({i: 1.0 + i for i in range(8)}) == pytest.approx(2 / 2**8)
    assert signed_rank_p({"ann": 1.0, "bob": -2.0, "eve": 3.0}) == pytest.approx(6 / 8)
    assert signed_rank_p({"ann": 0.0, "bob": 0.0}) == 1
    draws = np.random.default_rng(0).normal(0.4, 1.0, (20, 15))
    assert [signed_rank_p(dict(enumerate(one))) for one in draws] == pytest.approx([wilcoxon(x).pvalue for x in draws])
    # Ranks 2, 2, 2, 4 with one of the first negative: sums of 0 to 2 or 8 to 10 are as far out, 8 of 16 ways.
    assert signed_rank_p({"ann": 1.0, "bob": -1.0, "eve": 1.0, "joe": 2.0, "sue": 0.0}) == pytest.approx(8 / 16)


def test_many_people_are_tested_by_the_normal_distribution():
    draws = np.random.default_rng(0).normal(0.2, 1.0, (5, 51))
    exact = [wilcoxon(one, method="exact").pvalue for one in draws]
    assert [signed_rank_p(dict(enumerate(one))) for one in draws] == pytest.approx(exact, rel=0.05)


def test_nobody_has_no_p():
    assert math.isnan(signed_rank_p({}))


def test_holms_correction_multiplies_the_smallest_by_all_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_chance_alone_finds_something_in_one_of_twenty_families_at_most():
    draws = np.random.default_rng(0).normal(size=(300, 4, 12))
    found = [min(holm([signed_rank_p(dict(enumerate(one))) for one in family])) < 0.05 for family in draws]
    assert sum(found) / len(found) < 0.08


def test_methods_are_compared_with_the_reference_on_people_whom_both_have():
    people = [f"p{i}" for i in range(8)]
    means = {
        "fbp": {one: 20.0 + i for i, one in enumerate(people)},
        "tv": {one: 25.0 + 1.5 * i for i, one in enumerate(people)},
        "dds": dict.fromkeys(people[:1], 30.0) | {"somebody else": 40.0},
        "same": {one: 20.0 + i for i, one in enumerate(people)},
        "none": {},
    }
    table = compared(means, "fbp")
    assert list(table) == ["fbp", "tv", "dds", "same"]
    assert (table["fbp"].gain, table["fbp"].mean.n) == (None, 8)
    assert math.isnan(table["fbp"].p)
    assert table["tv"].gain == over_people({str(i): 5 + 0.5 * i for i in range(8)})
    assert table["tv"].p == pytest.approx(3 * 2 / 2**8), "three methods are compared"
    assert (table["dds"].mean.n, table["dds"].gain.n, table["dds"].gain.mean) == (2, 1, 10)
    assert (table["same"].gain.mean, table["same"].p) == (0, 1)
    assert all(one.gain is None for one in compared(means, None).values())
    with pytest.raises(ValueError, match="none of the methods"):
        compared(means, "wavelet")


def test_two_exact_images_differ_by_nothing_that_counts():
    exact = {"ann": math.inf, "bob": math.inf}
    assert compared({"a": exact, "b": exact}, "a")["b"].gain is None


def test_people_count_alike_in_benchmarks_however_many_slices_they_have():
    assert mean_of_each(["a", "a", "b", "a"], [1.0, 2.0, 10.0, 3.0]) == {"a": 2.0, "b": 10.0}


def test_the_table_names_the_best_baseline_and_the_least_gain_of_anybody():
    one = [row("ann", "1", 30.0), row("bob", "2", 32.0), row("ann", "1", 31.0, method="wavelet")]
    one += [row("bob", "2", 33.0, method="wavelet"), row("ann", "1", 36.0, method="dds", prior="ct-256")]
    other = [row("eve", "3", 20.0), row("eve", "3", 26.0, method="wavelet")]
    people = people_of([[*one, row("bob", "2", 34.0, method="dds", prior="ct-256")], other], "psnr")
    assert best_baseline(people, "psnr")[0] == "wavelet"
    assert best_baseline(people, "nmse")[0] == "tv", "lower is better"
    dds = next(line for line in table_of_methods(people, "psnr") if line.startswith("| dds, ct-256 |"))
    assert dds.startswith("| dds, ct-256 |  | 2 | 35.00 [34.00, 36.00] | 3.00 [1.00, 5.00] | 0.5 |")
    assert dds.endswith("| 1.00 |")
    assert "| eve | 20.00 | 26.00 |  |" in table_of_people(people)
