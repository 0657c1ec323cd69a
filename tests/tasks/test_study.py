"""What a report says of a study: means over the slices that have a metric, and what was left out."""

import math

from storage.datasets import Rejected
from tasks.study import _left_out, _method_row


def row(**metrics: float | None) -> dict[str, object]:
    return {"nfe": 5, "seconds": 2.0, **metrics}


def test_a_slice_without_a_metric_does_not_spoil_the_mean_of_the_others() -> None:
    rows = [row(psnr=30.0, nmse=0.1), row(psnr=32.0, nmse=math.nan), row(psnr=31.0, nmse=0.3)]
    result = _method_row("DDS", rows)
    assert (result.n, result.nfe, result.seconds_per_slice) == (3, 5, 2.0)
    assert result.metrics["psnr"] == (31.0, 1.0)
    mean, deviation = result.metrics["nmse"]
    assert math.isclose(mean, 0.2)
    assert math.isclose(deviation, math.sqrt(0.02))


def test_a_metric_that_no_slice_has_is_not_in_the_table() -> None:
    result = _method_row("FBP", [row(psnr=30.0, coverage_90=None), row(psnr=30.0, coverage_90=None)])
    assert set(result.metrics) == {"psnr"}


def test_a_perfect_slice_makes_an_infinite_mean() -> None:
    assert _method_row("x", [row(psnr=30.0), row(psnr=math.inf)]).metrics["psnr"] == (math.inf, 0.0)


def test_files_that_were_left_out_are_named_with_the_reason() -> None:
    assert _left_out([]) == []
    rejected = [Rejected(file=f"{i}.dcm", reason="truncated") for i in range(7)]
    (text,) = _left_out(rejected)
    assert "0.dcm (truncated)" in text
    assert "4.dcm" in text
    assert "5.dcm" not in text
    assert text.endswith("and 2 more.")
