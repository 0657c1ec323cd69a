"""What a report says of a study: means over the slices that have a metric, and what was left out."""

import math
import shutil
from pathlib import Path

from scoreinv.baselines import Direct, TotalVariation
from scoreinv.measurement import GaussianNoise
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import Method
from scoreinv.samplers import DDS
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from storage.listing import Rejected
from storage.shards import ShardedStore
from tasks.means import left_out, mean_of
from tasks.recipes import Reconstruction, Simulation
from tasks.rendering import MethodRow, markdown_table
from tasks.rendering.tables import METRICS
from tasks.study import Result, _best, _heading, _left_out, _method_row, _shown, _slices, _told_apart
from tests.tasks import tiny

MEASURED = Simulation(measurement=CartesianMRI())


def row(slice_id: str = "", **metrics: float | None) -> dict[str, object]:
    return {"slice_id": slice_id, "nfe": 5, "seconds": 2.0, **metrics}


def alone(name: str, rows: list[dict[str, object]]) -> MethodRow:
    """The method's row where no other method is in the table."""
    return _method_row(name, rows, {metric: left_out(rows, metric) for metric in METRICS})


def test_a_slice_without_a_metric_does_not_spoil_the_mean_of_the_others() -> None:
    values = ((30.0, 0.1, 0.7), (32.0, 0.2, math.nan), (31.0, 0.3, 0.9))
    rows = [row(str(i), psnr=psnr, nmse=nmse, ssim=ssim) for i, (psnr, nmse, ssim) in enumerate(values)]
    result = alone("DDS", rows)
    assert (result.n, result.nfe, result.seconds_per_slice) == (3, 5, 2.0)
    assert result.metrics["psnr"] == (31.0, 1.0)
    mean, deviation = result.metrics["ssim"]
    assert math.isclose(mean, 0.8)
    assert math.isclose(deviation, math.sqrt(0.02))
    assert result.counts == {"psnr": 3, "nmse": 3, "ssim": 2}


def test_an_empty_truth_counts_in_no_mean() -> None:
    rows = [row("a", psnr=30.0, nmse=0.1), row("b", psnr=95.0, nmse=math.inf), row("c", psnr=32.0, nmse=0.3)]
    result = alone("DDS", rows)
    assert result.metrics["psnr"][0] == 31
    assert result.counts == {"psnr": 2, "nmse": 2}
    assert "1 (all metrics)" in markdown_table([result])
    assert alone("DDS", rows[1:2]).metrics["psnr"] == (95.0, 0.0)


def test_a_metric_that_no_slice_has_is_not_in_the_table() -> None:
    result = alone("FBP", [row("a", psnr=30.0, coverage_90=None), row("b", psnr=30.0, coverage_90=None)])
    assert set(result.metrics) == {"psnr"}


def test_an_exact_slice_is_left_out_and_only_exact_ones_make_an_infinite_mean() -> None:
    result = alone("x", [row("a", psnr=math.inf), row("b", psnr=20.0), row("c", psnr=30.0)])
    assert result.metrics["psnr"][0] == 25
    assert "Of the 3 slices" in markdown_table([result])
    exact = alone("x", [row("a", psnr=math.inf), row("b", psnr=math.inf)])
    assert exact.metrics["psnr"] == (math.inf, 0.0)
    assert "leave out" not in markdown_table([exact])


def test_methods_are_compared_on_the_slices_that_all_have() -> None:
    scores = {"tv": (math.inf, 30.0, 20.0), "dds": (60.0, 31.0, 21.0), "broken": (math.nan, math.nan, math.nan)}
    rows = [row(str(i), psnr=x) | {"reconstruction": name} for name, xs in scores.items() for i, x in enumerate(xs)]
    out = left_out(rows, "psnr")
    assert out == {"0"}
    assert mean_of([one for one in rows if one["reconstruction"] == "dds"], "psnr", out)[::2] == (26.0, 2)
    assert mean_of([one for one in rows if one["reconstruction"] == "tv"], "psnr", out)[::2] == (25.0, 2)
    assert math.isnan(mean_of([one for one in rows if one["reconstruction"] == "broken"], "psnr", out).mean)


def test_files_that_were_left_out_are_named_with_the_reason() -> None:
    assert _left_out([]) == []
    rejected = [Rejected(file=f"{i}.dcm", reason="truncated") for i in range(7)]
    (text,) = _left_out(rejected)
    assert "0.dcm (truncated)" in text
    assert "4.dcm" in text
    assert "5.dcm" not in text
    assert text.endswith("and 2 more.")


def test_methods_of_one_name_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    store = tiny.measurements(tmp_path, tiny.dataset(tmp_path, n=2, shard_size=2))

    def names(*choices: tuple[Method, int]) -> list[str]:
        made = [Reconstruction(method=method, prior="mri-128", n_samples=n) for method, n in choices]
        return [one.name for one in _told_apart([Result(store, choice, MEASURED) for choice in made])]

    cool = DDS(renoise=Renoise(temperature=0.6))
    wide = DDS(renoise=Renoise(temperature=0.6), grid=SigmaGrid(n_levels=50, sigma_max=1.0, sigma_min=0.005))
    assert names((DDS(), 1), (TotalVariation(), 1)) == ["DDS (50 calls)", "FISTA-TV"]
    assert names((DDS(), 8), (cool, 1)) == [
        "DDS (50 calls, renoise.temperature 1.0)",
        "DDS (50 calls, renoise.temperature 0.6)",
    ]
    assert names((cool, 1), (wide, 1))[1] == "DDS (50 calls, grid.sigma_max 1.0)"
    assert names((DDS(), 1), (DDS(), 8))[1] == "DDS (50 calls, n_samples 8)"
    assert names((TotalVariation(weight=0.1), 1), (TotalVariation(weight=0.2), 1))[0] == "FISTA-TV (weight 0.1)"


def test_results_of_one_name_are_told_apart_by_prior_weights_and_seed(tmp_path: Path) -> None:
    store = tiny.measurements(tmp_path, tiny.dataset(tmp_path, n=2, shard_size=2))

    def names(*pairs: tuple[Reconstruction, str]) -> list[str]:
        made = [ShardedStore.open(store.uri) for _ in pairs]
        for one, (_, sha256) in zip(made, pairs, strict=True):
            one.attrs["prior_sha256"] = sha256
        results = [Result(one, choice, MEASURED) for one, (choice, _) in zip(made, pairs, strict=True)]
        return [one.name for one in _told_apart(results)]

    def drawn(**changes: object) -> Reconstruction:
        return Reconstruction.model_validate({"method": DDS(), "prior": "priors/a", **changes})

    first, second = "1" * 64, "2" * 64
    assert names((drawn(), first), (drawn(seed=7), first)) == ["DDS (50 calls, seed 0)", "DDS (50 calls, seed 7)"]
    assert names((drawn(), first), (drawn(prior="priors/b"), second)) == [
        "DDS (50 calls, prior priors/a)",
        "DDS (50 calls, prior priors/b)",
    ]
    assert names((drawn(), first), (drawn(), second))[1] == f"DDS (50 calls, weights {second[:12]})"
    # By two versions of the code: the digest is all that differs.
    assert names((drawn(), first), (drawn(), first))[0] == f"DDS (50 calls, {store.uri.rsplit('/', 1)[-1]})"


def test_results_of_several_measurements_are_told_apart_whatever_the_method(tmp_path: Path) -> None:
    dataset = tiny.dataset(tmp_path, n=2, shard_size=2)
    store = tiny.measurements(tmp_path, dataset)
    tv, direct = (Reconstruction(method=method) for method in (TotalVariation(), Direct()))

    def names(*simulations: Simulation) -> list[str]:
        made = [Result(store, choice, one) for choice, one in zip((direct, tv, tv), simulations, strict=True)]
        return [one.name for one in _told_apart(made)]

    four, eight = (Simulation(measurement=CartesianMRI(acceleration=a)) for a in (4, 8))
    noisy = Simulation(measurement=CartesianMRI(acceleration=8, noise=GaussianNoise(noise_std=0.1)))
    assert names(four, four, four)[:1] == ["zero-filled"]
    assert names(four, four, eight) == [
        "zero-filled (MRI, 4 times faster)",
        "FISTA-TV (MRI, 4 times faster)",
        "FISTA-TV (MRI, 8 times faster)",
    ]
    assert names(eight, noisy, eight)[1:] == [
        "FISTA-TV (MRI, 8 times faster, noise.kind gaussian)",
        "FISTA-TV (MRI, 8 times faster, noise.kind none)",
    ]
    assert names(eight, eight, eight.model_copy(update={"seed": 3}))[2] == "FISTA-TV (MRI, 8 times faster, seed 3)"
    made = [Result(store, tv, one) for one in (four, eight)]
    slices = _slices(str(tmp_path), "datasets/tiny", store)
    assert _heading(made, slices) == "MRI, 4 times faster and MRI, 8 times faster, 2 slices of 16 x 16 pixels"


def test_pictures_are_of_the_method_with_the_highest_psnr_by_the_image_that_stands_for_it(tmp_path: Path) -> None:
    made = tiny.measurements(tmp_path, tiny.dataset(tmp_path, n=2, shard_size=2))
    stores = [
        ShardedStore.open(str(shutil.copytree(made.uri, tmp_path / name))) for name in ("first", "second", "third")
    ]
    one, many = (Reconstruction(method=DDS(), prior="mri-128", n_samples=n) for n in (1, 4))
    pairs = zip(stores, (one, many, one), strict=True)
    results = [Result(store, choice, MEASURED) for store, choice in pairs]

    def best(*scores: tuple[int, str, float]) -> int:
        rows = [{"reconstruction": results[i].digest, "estimate": e, "psnr": value} for i, e, value in scores]
        return results.index(_best(results, rows))

    assert best((0, "sample", 30), (0, "sample", 34), (1, "sample", 40), (1, "mean", 31), (2, "sample", 30)) == 0
    assert best((0, "sample", 30), (1, "sample", 28), (1, "mean", 31), (2, "sample", 30)) == 1
    assert best((0, "sample", 30), (1, "mean", 29), (2, "sample", 30)) == 2
    assert best((0, "sample", 30)) == 0


def test_the_spread_is_that_of_the_best_method_or_of_the_best_that_has_samples(tmp_path: Path) -> None:
    made = tiny.measurements(tmp_path, tiny.dataset(tmp_path, n=2, shard_size=2))
    choices = {
        "naive": Reconstruction(method=Direct()),
        "one": Reconstruction(method=DDS(), prior="mri-128"),
        "many": Reconstruction(method=DDS(), prior="mri-128", n_samples=4),
        "more": Reconstruction(method=DDS(), prior="mri-128", n_samples=8),
    }
    results = {
        name: Result(ShardedStore.open(str(shutil.copytree(made.uri, tmp_path / name))), choice, MEASURED)
        for name, choice in choices.items()
    }

    def shown(**psnr: float) -> list[str]:
        chosen = [results[name] for name in psnr]
        rows = [{"reconstruction": results[n].digest, "estimate": results[n].estimate, "psnr": psnr[n]} for n in psnr]
        return [one.digest for one in _shown(chosen, rows)]

    assert shown(naive=20, one=33, many=30, more=31) == ["naive", "one", "more"]
    assert shown(naive=20, one=30, many=33, more=31) == ["naive", "many", "many"]
    assert shown(naive=20, one=30) == ["naive", "one", "one"]
