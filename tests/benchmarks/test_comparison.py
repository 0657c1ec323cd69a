"""The tables of a benchmark: the best of a column is bold, whichever way is better."""

from benchmarks.comparison import Study, table
from tasks.people import compared


def test_the_best_of_a_column_is_bold_whichever_way_is_better() -> None:
    means = {"FBP": {"a": 30.0, "b": 32.0}, "TV": {"a": 20.0, "b": 24.0}}
    study = Study("23 views", [], {"psnr": compared(means, None), "mae_soft": compared(means, None)})
    psnr, soft = (list(table([study], metric)) for metric in ("psnr", "mae_soft"))
    assert psnr[0] == soft[0] == "| method | 23 views |"
    assert [line.split(" [")[0] for line in psnr[2:]] == ["| FBP | **31.00**", "| TV | 22.00"]
    assert [line.split(" [")[0] for line in soft[2:]] == ["| FBP | 31.0", "| TV | **22.0**"]
