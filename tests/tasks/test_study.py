"""What a report says of a study: means over the slices that have a metric, and what was left out."""

import math
from pathlib import Path

import numpy as np

from scoreinv.baselines import Direct, TotalVariation
from scoreinv.measurement import GaussianNoise
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import Method
from scoreinv.samplers import DDS
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from storage.listing import Rejected, SliceRecord
from storage.scores import write_scores
from storage.shards import ShardedStore
from tasks.comparison import people_of
from tasks.means import left_out, mean_of
from tasks.recipes import Reconstruction, Simulation
from tasks.rendering import MethodRow, markdown_table, render_report
from tasks.rendering.tables import METRICS
from tasks.study import (
    Result,
    _heading,
    _left_out,
    _method_row,
    _naive,
    _slices,
    _told_apart,
    illustrated_section,
    section_of,
)
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


def test_the_naive_image_comes_first_wherever_its_recipe_stands(tmp_path: Path) -> None:
    store = tiny.measurements(tmp_path, tiny.dataset(tmp_path, n=2, shard_size=2))

    def naive(*methods: Method) -> str:
        made = [Result(store, Reconstruction(method=one, prior="mri-128"), MEASURED) for one in methods]
        return _naive(made).reconstruction.method.kind

    assert naive(TotalVariation(), Direct(), DDS()) == "direct"
    assert naive(DDS(), TotalVariation()) == "tv"
    assert naive(DDS()) == "dds"


CHOICES = {
    "sampled": Reconstruction(method=DDS(), prior="mri-128", n_samples=4),
    "tv": Reconstruction(method=TotalVariation()),
    "direct": Reconstruction(method=Direct()),
}


def study(workspace: Path, *, psnr: dict[str, float], fails: tuple[str, int] = ("", 0)) -> str:
    """The scores of a workspace with finished results by these names, whose images are noise.

    One may fail on the slice in one place.
    """
    dataset = tiny.dataset(workspace, n=4, shard_size=2)
    data = tiny.measurements(workspace, dataset)
    rows: list[dict[str, str | float | int | None]] = []
    for name in psnr:
        _, store = tiny.reconstruction(data, workspace / "reconstructions" / name, CHOICES[name])
        store.attrs["dataset"] = "datasets/tiny"
        truth = dataset.images(0, 4).copy()
        mine = [scored(store, one, estimate, psnr[name]) for one in dataset.records for estimate in estimates(store)]
        if name == fails[0]:
            truth[fails[1]] = np.nan
            mine[fails[1]] |= {"psnr": math.nan, "nmse": math.nan, "ssim": math.nan, "failure": "no number"}
        for shard in store.pending():
            arrays = {layout: truth[shard.start : shard.stop] + np.float32(0.1) for layout in store.layouts}
            store.write(shard, arrays, record={"nfe": 1, "seconds": 1.0, "seconds_per_slice": 1.0})
        store.finish()
        rows += mine
    refs = [f"reconstructions/{name}" for name in psnr]
    attrs = {"recipe": {"reconstructions": refs}, "dataset": "datasets/tiny"}
    scores = ShardedStore.create(str(workspace / "scores" / "tiny"), n=4, shard_size=4, arrays={}, attrs=attrs)
    scores.write(scores.plan()[0], {}, record={"rows": []})
    scores.finish()
    write_scores(scores.uri, rows)
    return scores.uri


def estimates(store: ShardedStore) -> list[str]:
    return [name for name in ("sample", "mean") if name in store.layouts]


def scored(store: ShardedStore, one: SliceRecord, estimate: str, psnr: float) -> dict[str, str | float | int | None]:
    about = {"slice_id": one.slice_id, "subject_id": one.subject_id, "reconstruction": store.uri.rsplit("/", 1)[-1]}
    own = psnr + (estimate == "mean") + 0.1 * int(one.slice_id[-1])
    return {**about, "estimate": estimate, "nfe": 1, "seconds": 1.0, "psnr": own, "nmse": 0.1, "ssim": 0.5}


def test_every_method_is_pictured_beside_the_truth_with_what_is_known_of_it(tmp_path: Path) -> None:
    uri = study(tmp_path, psnr={"tv": 30.0, "sampled": 33.0, "direct": 20.0})
    section = illustrated_section(str(tmp_path), uri, n_pictures=2)
    assert len(section.panels) == 2
    for panel in section.panels:
        assert [one.method for one in panel.pictures] == [
            "zero-filled",
            "FISTA-TV",
            "DDS (50 calls), mean of 4 samples",
        ]
        assert [one.std is None for one in panel.pictures] == [True, True, False]
        assert panel.truth is not None
        assert abs(panel.pictures[0].image - panel.truth).max() <= 0.1 + 1e-6
        assert panel.pictures[2].scores["psnr"] >= 34
    assert section.baseline == "zero-filled"
    assert list(section.stores.values()) == [
        "scores/tiny",
        "reconstructions/direct",
        "reconstructions/tv",
        "reconstructions/sampled",
        "measurements/tiny",
        "datasets/tiny",
    ]
    assert section_of(str(tmp_path), uri).panels == ()


def test_a_method_without_an_image_of_a_slice_says_so_and_is_pictured_all_the_same(tmp_path: Path) -> None:
    uri = study(tmp_path, psnr={"tv": 30.0, "direct": 20.0}, fails=("tv", 1))
    section = illustrated_section(str(tmp_path), uri, n_pictures=4)
    assert "FISTA-TV failed on 1 of 4 slices: phantom-0#1 (no number)." in section.intro
    assert [(row.method, row.n, row.n_failed) for row in section.rows] == [("zero-filled", 4, 0), ("FISTA-TV", 4, 1)]
    assert {row.counts["psnr"] for row in section.rows} == {3}
    assert "| FISTA-TV | 4, 1 failed |" in markdown_table(section.rows)
    page = render_report("Study", [section], versions={}, generated="", missing=["DDS: shard 3: gone"])
    assert page.count("1 failed</span>") >= 2
    assert "<li>DDS: shard 3: gone</li>" in page


def test_people_are_compared_with_the_best_method_without_a_prior(tmp_path: Path) -> None:
    uri = study(tmp_path, psnr={"tv": 30.0, "sampled": 33.0, "direct": 20.0})
    people = illustrated_section(str(tmp_path), uri, n_pictures=1).people
    assert people is not None
    assert people.reference == "FISTA-TV"
    assert set(people.compared) == {"psnr", "ssim", "nmse"}
    gains = {method: one.gain and round(one.gain.mean, 6) for method, one in people.compared["psnr"].items()}
    assert gains == {
        "zero-filled": -10,
        "FISTA-TV": None,
        "DDS (50 calls), one sample": 3,
        "DDS (50 calls), mean of 4 samples": 4,
    }
    assert people.compared["psnr"]["FISTA-TV"].mean.n == len(people.names) == 2
    assert len(people.slices) == 4
    assert {len(one.values) for one in people.slices} == {4}
    assert people.slices[0].name.startswith("slice at")


def test_one_person_has_no_statistics_over_people() -> None:
    rows = [row("a", psnr=30.0) | {"subject_id": "ann", "reconstruction": "x", "estimate": "sample"}]
    names = {("x", "sample"): "TV"}
    assert people_of(rows, names, classical=["TV"], places={}) is None
    two = [*rows, {**rows[0], "subject_id": "bob", "slice_id": "b"}]
    found = people_of(two, names, classical=(), places={})
    assert found is not None
    assert (found.reference, found.slices[1].name) == ("", "b")
    blind = [{**one, "psnr": None, "data_residual": 1.0} for one in two]
    assert people_of(blind, names, classical=["TV"], places={}) is None
