"""Tuning: stopped and resumed, with failing trials, in every kind of place; and what it finds."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from scoreinv.baselines import TotalVariation
from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers import DDS
from storage.datasets import DatasetStore
from storage.errors import StoreError
from storage.listing import SliceRecord
from storage.shards import ShardedStore
from storage.sources import PhantomSource
from storage.verify import discard_damaged, problems_of
from tasks.recipes import Reconstruction, ReconstructRecipe, TuneRecipe
from tasks.rendering.search import Varied, search_png
from tasks.running.cluster import AnyCluster, Inline, LocalWorkers
from tasks.running.shards import Execution, TooManyFailures, map_shards
from tasks.tuning.search_spaces import (
    SearchRange,
    default_search,
    with_values,
)
from tasks.tuning.trials import (
    Progress,
    Trial,
    Tuning,
    best_of,
    discard_damaged_trials,
    read_trials,
    run_trials,
    validation_places,
)
from tasks.tuning.tune import prepared_tuning, trial_text, write_outcome
from tasks.tuning.tuned import best_text, trials_table
from tasks.workers.evaluate import image_columns
from tasks.workers.reconstruct import reconstruct_shard
from tasks.workers.stores import read_names
from tests.tasks import tiny

N_SLICES, N_TRIALS = 4, 13
"""More trials than the sampler begins with at random, so that it learns from some."""

DDS_RANGES = (
    SearchRange(key="renoise.eta", low=0, high=1),
    SearchRange(key="grid.sigma_max", low=0.1, high=3, is_log=True),
    SearchRange(key="n_cg", low=1, high=4),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a data set, its measurements, and a prior."""
    workspace = tmp_path_factory.mktemp("study")
    tiny.measurements(workspace, tiny.dataset(workspace, n=12))
    tiny.prior(workspace / "priors" / "tiny" / "prior")
    return workspace


@pytest.fixture
def workspace(study: Path, tmp_path: Path) -> Path:
    """A copy of it, to tune in."""
    return Path(shutil.copytree(study, tmp_path / "workspace"))


def recipe(**changes: Any) -> TuneRecipe:
    choice = Reconstruction(method=tiny.sampler(2), prior="priors/tiny", seed=5)
    given = {"reconstruction": choice, "search": DDS_RANGES, "n_slices": N_SLICES, "n_trials": N_TRIALS}
    return TuneRecipe(**{"measurements": "measurements/tiny", **given, **changes})


def tv(**changes: Any) -> TuneRecipe:
    """Without a network."""
    choice = Reconstruction(method=TotalVariation(weight=1e-4, n_iters=10))
    return recipe(**{"reconstruction": choice, "search": (), "n_trials": 3, **changes})


def execution(workspace: Path, *, cluster: AnyCluster = Inline(), batch_size: int = 2) -> Execution:  # noqa: B008
    return Execution(workspace=str(workspace), cluster=cluster, batch_size=batch_size)


def tuned(what: TuneRecipe, how: Execution) -> tuple[Tuning, list[Trial]]:
    tuning, _ = prepared_tuning(what, how)
    events = list(run_trials(tuning, how))
    trials = read_trials(tuning.uri)
    assert [event.trial for event in events if event.trial] == trials[len(trials) - n_ended(events) :]
    return tuning, trials


def n_ended(events: list[Progress]) -> int:
    return sum(event.trial is not None for event in events)


def without_seconds(trials: list[Trial]) -> list[Trial]:
    return [trial.model_copy(update={"seconds": 0.0}) for trial in trials]


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.json")}


# ---- trials ----------------------------------------------------------------------------------------------------


def test_a_tuning_that_is_stopped_and_resumed_repeats_nothing_and_makes_the_same_trials(
    study: Path, workspace: Path, tmp_path: Path
) -> None:
    calm, expected = tuned(recipe(), execution(Path(shutil.copytree(study, tmp_path / "calm"))))
    assert len(expected) == N_TRIALS
    assert expected[0].values == {"renoise.eta": 1.0, "grid.sigma_max": 3.0, "n_cg": 5}
    how, kept = execution(workspace), dict[str, int]()
    tuning, _ = prepared_tuning(recipe(), how)
    while len(read_trials(tuning.uri)) < N_TRIALS:
        with closing(run_trials(tuning, how)) as events:
            # A trial has two units of work and its end: each run stops in the middle of another one.
            assert len(list(islice(events, 4))) > 0
        now = times(Path(tuning.uri))
        assert {name: now[name] for name in kept} == kept
        kept = now
    assert without_seconds(read_trials(tuning.uri)) == without_seconds(expected)
    assert list(run_trials(tuning, how)) == []
    assert times(Path(tuning.uri)) == kept
    assert Path(tuning.uri).name == Path(calm.uri).name


def test_more_trials_continue_fewer(workspace: Path) -> None:
    few, first = tuned(tv(n_trials=2), execution(workspace))
    more, all_of_them = tuned(tv(n_trials=4), execution(workspace))
    assert more.uri == few.uri
    assert all_of_them[:2] == first
    assert len(all_of_them) == 4
    assert tuned(tv(n_trials=1), execution(workspace))[1] == all_of_them


def test_whatever_decides_the_trials_decides_the_address(workspace: Path) -> None:
    how = execution(workspace)
    base = prepared_tuning(tv(), how)[1]
    written_out = tv(search=default_search(TotalVariation()))
    assert prepared_tuning(written_out, how)[1] == base
    others = [tv(seed=1), tv(n_slices=3), tv(metric="ssim"), tv(subjects=("phantom-1",))]
    assert len({base, *(prepared_tuning(other, how)[1] for other in others)}) == 1 + len(others)


def test_a_worker_process_finds_the_same(study: Path, workspace: Path, tmp_path: Path) -> None:
    what = recipe(n_trials=2)
    alone = tuned(what, execution(Path(shutil.copytree(study, tmp_path / "alone"))))[1]
    shared = tuned(what, execution(workspace, cluster=LocalWorkers(n_workers=1), batch_size=1))[1]
    assert [trial.values for trial in shared] == [trial.values for trial in alone]
    for one, other in zip(shared, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert one.nfe == other.nfe == 2


def test_trials_lie_under_any_uri(workspace: Path) -> None:
    what, how = tv(n_trials=2), execution(workspace)
    here, expected = tuned(what, how)
    away = here._replace(uri=f"memory://{workspace.name}/tuning")
    assert [event.trial is None for event in run_trials(away, how)] == [True, True, False] * 2
    assert without_seconds(read_trials(away.uri)) == without_seconds(expected)


@pytest.mark.parametrize("content", ["", "{}", "flipped"])
def test_a_damaged_record_is_named_and_made_again_of_its_slices(workspace: Path, content: str) -> None:
    tuning, trials = tuned(tv(n_trials=3), execution(workspace))
    record = Path(tuning.uri) / "trials" / "0001" / "trial.json"
    record.write_text(record.read_text().replace("1", "2", 1) if content == "flipped" else content)
    with pytest.raises(StoreError, match=f"{record} is damaged: the tune command makes it again"):
        read_trials(tuning.uri)
    assert problems_of("tuning", tuning.uri)[0] == f"{record} is damaged"
    before = times(Path(tuning.uri))
    discard_damaged_trials(tuning.uri)
    list(run_trials(tuning, execution(workspace)))
    assert read_trials(tuning.uri) == trials
    now = times(Path(tuning.uri))
    assert {name for name in now if now[name] != before[name]} == {"trials/0001/trial.json"}


@pytest.mark.parametrize("name", ["plan.json", "done/0.json", "done/1.json"])
def test_a_damaged_slice_is_measured_again_and_the_other_trials_stay(workspace: Path, name: str) -> None:
    tuning, trials = tuned(tv(n_trials=3), execution(workspace))
    write_outcome(tuning, trials, "tuning/x")
    (Path(tuning.uri) / "trials" / "0001" / name).write_text('{"n": 2}')
    assert [one for one in problems_of("tuning", tuning.uri) if name in one]
    discard_damaged("tuning", tuning.uri)
    discard_damaged_trials(tuning.uri)
    list(run_trials(tuning, execution(workspace)))
    assert problems_of("tuning", tuning.uri) == []
    assert without_seconds(read_trials(tuning.uri)) == without_seconds(trials)


def test_two_tunings_at_once_help_each_other(study: Path, workspace: Path, tmp_path: Path) -> None:
    """Step by step in turn, with batches of another size, so that their shards would be others too."""
    expected = tuned(tv(n_trials=4), execution(Path(shutil.copytree(study, tmp_path / "calm"))))[1]
    hows = [execution(workspace, batch_size=size) for size in (2, 1)]
    tunings = [prepared_tuning(tv(n_trials=4), how)[0] for how in hows]
    assert tunings[0].uri == tunings[1].uri
    runs = [run_trials(tuning, how) for tuning, how in zip(tunings, hows, strict=True)]
    for _ in zip_longest(*runs):
        pass
    found = read_trials(tunings[0].uri)
    assert [trial.values for trial in found] == [trial.values for trial in expected]
    assert [trial.score for trial in found] == pytest.approx([trial.score for trial in expected], abs=1e-3)


# ---- failures --------------------------------------------------------------------------------------------------


def test_values_that_give_no_image_fail_alone(workspace: Path) -> None:
    """A noise level beyond single precision."""
    what = recipe(search=(SearchRange(key="grid.sigma_max", choices=(3.0, 1e39, 1.0)),))
    tuning, trials = tuned(what, execution(workspace))
    assert {trial.values["grid.sigma_max"]: trial.score is None for trial in trials} == {
        3.0: False,
        1e39: True,
        1.0: False,
    }
    (failed,) = [trial for trial in trials if trial.score is None]
    assert "is not finite" in failed.error
    assert trial_text("psnr", [trials[0], failed]).endswith("is not finite")
    assert best_of(trials).score == max(trial.score for trial in trials if trial.score is not None)
    write_outcome(tuning, trials, "tuning/x")
    assert trials_table(what, trials)[-1]["psnr"] == "failed"


def with_empty_ends(workspace: Path) -> DatasetStore:
    """The phantoms of the tiny data set, the first and the last slice of all empty, as heads have them."""
    source = PhantomSource(modality="mri", n_volumes=2, n_slices=6)
    listing = source.listing()
    unchecked = tuple(record.model_copy(update={"checksum": ""}) for record in listing.slices)
    ends = (unchecked[0].slice_id, unchecked[-1].slice_id)

    def load(records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        for record, values in zip(records, source.load(records), strict=True):
            yield values * (record.slice_id not in ends)

    listing = listing.model_copy(update={"slices": unchecked})
    uri = str(workspace / "datasets" / "tiny")
    store = DatasetStore.create(uri, listing, contract=tiny.MRI, recipe={}, shard_size=4)
    for shard in store.shards.pending():
        store.ingest(shard, load)
    store.finish()
    return store


def test_empty_slices_fail_no_trial_and_count_in_none(tmp_path: Path) -> None:
    tiny.measurements(tmp_path, with_empty_ends(tmp_path))
    what = tv(n_slices=12, n_trials=2)
    tuning, trials = tuned(what, execution(tmp_path, batch_size=4))
    for trial in trials:
        scores = [float(str(row["psnr"])) for row in trial.rows]
        assert [i for i, score in enumerate(scores) if np.isnan(score)] == [0, 11]
        assert trial.score == pytest.approx(np.mean(scores[1:-1]))
    assert "over 10 of 12 slices" in best_text(what, trials, tuning.uri)


def failing_at(eta: float, error: Exception) -> Any:
    """DDS that raises for one value of eta."""
    steps = DDS.steps

    def broken(self: DDS, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        if self.renoise.eta == eta:
            raise error
        yield from steps(self, problem, denoiser, noise)

    return broken


ETAS = (SearchRange(key="renoise.eta", choices=(1.0, 0.5, 0.0)),)


def test_an_error_of_the_method_is_kept_as_the_reason(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DDS, "steps", failing_at(0.5, ArithmeticError("it diverged")))
    _, trials = tuned(recipe(search=ETAS), execution(workspace))
    errors = {trial.values["renoise.eta"]: trial.error for trial in trials}
    assert errors == {1.0: "", 0.5: "ArithmeticError: it diverged", 0.0: ""}


@pytest.mark.parametrize("error", [MemoryError("too little memory"), RuntimeError("CUDA error: unspecified")])
def test_an_error_of_the_machine_stops_the_run_and_the_trial_is_made_later(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    how = execution(workspace).model_copy(update={"retries": 0})
    tuning, _ = prepared_tuning(recipe(search=ETAS), how)
    with monkeypatch.context() as patch:
        patch.setattr(DDS, "steps", failing_at(0.5, error))
        with pytest.raises(TooManyFailures, match=str(error)):
            list(run_trials(tuning, how))
    before = len(read_trials(tuning.uri))
    _, trials = tuned(recipe(search=ETAS), how)
    assert before < 3 == len(trials)
    assert all(trial.score is not None for trial in trials)


def test_nothing_is_best_if_all_failed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DDS, "steps", failing_at(1.0, ArithmeticError("it diverged")))
    tuning, trials = tuned(recipe(n_trials=1), execution(workspace))
    with pytest.raises(ValueError, match="all 1 trials failed, the method as given with: ArithmeticError: it diverged"):
        write_outcome(tuning, trials, "tuning/x")


# ---- the outcome -----------------------------------------------------------------------------------------------


def test_the_best_recipe_gives_the_images_that_were_scored(workspace: Path) -> None:
    n_samples = 2
    choice = recipe().reconstruction.model_copy(update={"n_samples": n_samples})
    what = recipe(reconstruction=choice, n_trials=3)
    tuning, trials = tuned(what, execution(workspace))
    write_outcome(tuning, trials, "tuning/x")
    best, text = best_of(trials), (Path(tuning.uri) / "best.yaml").read_text()
    found = ReconstructRecipe.model_validate_json(json.dumps(yaml.safe_load(text)))
    assert found.measurements == what.measurements
    assert found.reconstruction == choice.model_copy(update={"method": with_values(choice.method, best.values)})
    assert f"as given  psnr {trials[0].score:.4g}" in text
    assert f"best      psnr {best.score:.4g}" in text

    data = ShardedStore.open(str(workspace / "measurements" / "tiny"))
    job, store = tiny.reconstruction(data, workspace / "r", found.reconstruction)
    job = job.model_copy(update={"prior": str(workspace / "priors" / "tiny" / "prior")})
    list(map_shards(reconstruct_shard, job, store, Execution(cluster=Inline())))
    images = store.read("mean", 0, store.n)
    truth = DatasetStore.open(str(workspace / "datasets" / "tiny")).images(0, store.n)
    columns = image_columns(torch.from_numpy(images)[:, None], torch.from_numpy(truth)[:, None])
    places = list(tuning.job.places)
    assert float(columns["psnr"][places].mean()) == pytest.approx(best.score, abs=1e-3)
    assert [row["slice_id"] for row in best.rows] == read_names(data, places)
    assert best.nfe == 2 * n_samples


def test_the_gain_is_that_of_the_slices(workspace: Path) -> None:
    tuning, trials = tuned(tv(n_trials=1), execution(workspace))
    rows = tuple(
        {**row, "psnr": float(str(row["psnr"])) + gain} for row, gain in zip(trials[0].rows, (1, 2, 3, 4), strict=True)
    )
    better = trials[0].model_copy(update={"number": 1, "rows": rows, "score": (trials[0].score or 0) + 2.5})
    write_outcome(tuning, [trials[0], better], "tuning/x")
    error = np.std([1, 2, 3, 4], ddof=1) / 2
    assert "near an end" not in (Path(tuning.uri) / "best.yaml").read_text()
    assert f"gain      2.5, with a standard error of {error:.2g}" in (Path(tuning.uri) / "best.yaml").read_text()


def test_pictures_hold_failures_and_words() -> None:
    varied = [
        Varied("weight", [1e-4, 1e-3, 1e-2], True),
        Varied("transform", ["residual", "fourier_slice", "residual"], False),
    ]
    pictures = {
        search_png(varied[:n], scores, metric="psnr", title="TV")
        for n in (1, 2)
        for scores in ([1.0, 2.0, 3.0], [None, 2.0, 3.0], [None] * 3)
    }
    assert len(pictures) == 6
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


# ---- slices ----------------------------------------------------------------------------------------------------


def test_slices_are_spread_evenly_over_the_wanted_subjects(study: Path) -> None:
    records = DatasetStore.open(str(study / "datasets" / "tiny")).records
    first, second = dict.fromkeys(record.subject_id for record in records)
    assert validation_places(records, tv(n_slices=4)) == (1, 4, 7, 10)
    assert validation_places(records, tv(n_slices=99)) == tuple(range(12))
    assert validation_places(records, tv(n_slices=2, subjects=(second,))) == (7, 10)
    assert validation_places(records, tv(n_slices=99, subjects=(first,))) == tuple(range(6))
    with pytest.raises(ValueError, match=f"there is no subject nobody: choose of {first}, {second}"):
        validation_places(records, tv(subjects=("nobody",)))
