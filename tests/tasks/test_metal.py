"""Metal through the stores: contexts are kept per slice, and its pixels do not count in scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scoreinv.baselines import LinearInterpolation
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import simulate
from scoreinv.noise import Noise
from scoreinv.operators.metal_ct import MetalCT
from storage.datasets import DatasetStore
from storage.scores import read_scores, write_scores
from storage.shards import ShardedStore
from storage.sources import PhantomSource
from tasks.checks import check_pipeline
from tasks.measure import measurement_store
from tasks.recipes import MeasureRecipe, PipelineRecipe, Reconstruction, Simulation
from tasks.running.cluster import Inline
from tasks.running.shards import Execution, map_shards
from tasks.workers.evaluate import Candidate, EvaluateJob, evaluate_shard
from tasks.workers.measure import MeasureJob, measure_shard
from tasks.workers.reconstruct import reconstruct_shard
from tasks.workers.stores import as_images, read_measured
from tests.tasks import tiny

IMAGE = ImageContract(modality="ct", size=48, pixel_mm=4.0, low=-1000, high=1000)
SPEC = MetalCT(n_views=30, metal="hip_head")


def measured_images(workspace: Path) -> tuple[DatasetStore, ShardedStore]:
    """Phantoms of two people, and their data with metal."""
    source = PhantomSource(modality="ct", n_volumes=2, n_slices=1)
    dataset = DatasetStore.create(
        str(workspace / "datasets" / "tiny"), source.listing(), contract=IMAGE, recipe={}, shard_size=1
    )
    for shard in dataset.shards.pending():
        dataset.ingest(shard, source.load)
    dataset.finish()
    recipe = MeasureRecipe(dataset="datasets/tiny", simulation=Simulation(measurement=SPEC))
    store = measurement_store(recipe, dataset, str(workspace / "measurements" / "tiny"))
    job = MeasureJob(dataset=dataset.uri, target=store.uri, simulation=recipe.simulation)
    for shard in store.pending():
        measure_shard(job, shard.index, print)
    store.finish()
    return dataset, store


def scores(folder: Path, dataset: DatasetStore, data: ShardedStore, store: ShardedStore) -> list[dict[str, Any]]:
    target = ShardedStore.create(str(folder), n=2, shard_size=1, arrays={}, attrs={})
    candidate = Candidate(uri=store.uri, measurements=data.uri, measurement=SPEC)
    job = EvaluateJob(dataset=dataset.uri, candidates=(candidate,), target=target.uri)
    list(map_shards(evaluate_shard, job, target, Execution(cluster=Inline())))
    write_scores(target.uri, [row for record in target.records() for row in record["rows"]])
    return read_scores(target.uri)


def test_what_was_found_of_metal_is_kept_with_each_slice(tmp_path: Path) -> None:
    dataset, data = measured_images(tmp_path)
    kept = read_measured(data, [1, 0])
    names = [record.slice_id for record in dataset.records]
    images = as_images(dataset.images(0, 2), IMAGE)
    expected = simulate(SPEC, images, IMAGE, Noise(0, names, purpose="measurement")).part(torch.tensor([1, 0]))
    torch.testing.assert_close(kept.y, expected.y)
    assert kept.context.keys() == expected.context.keys()
    assert kept.context["metal"].any()
    for name, value in expected.context.items():
        torch.testing.assert_close(kept.context[name], value)


def test_pixels_of_metal_do_not_count(tmp_path: Path) -> None:
    dataset, data = measured_images(tmp_path)
    job, store = tiny.reconstruction(data, tmp_path / "r", Reconstruction(method=LinearInterpolation()))
    for shard in store.pending():
        reconstruct_shard(job, shard.index, print)
    store.finish()
    metal = read_measured(data, [0, 1]).context["metal"].numpy()[:, 0]
    sample = store.read("sample", 0, 2)
    found = [scores(tmp_path / "scores", dataset, data, store)]
    for name, at in (("metal", metal), ("beside", np.roll(metal, 8, -1) & ~metal)):
        _, other = tiny.reconstruction(data, tmp_path / name, Reconstruction(method=LinearInterpolation()))
        for shard in other.pending():
            changed = np.where(at, 1.0, sample).astype(np.float32)[shard.start : shard.stop]
            other.write(shard, {"sample": changed}, record={"nfe": 0, "seconds": 1.0, "seconds_per_slice": 1.0})
        other.finish()
        found.append(scores(tmp_path / f"scores-{name}", dataset, data, other))
    # No ray that counts passes through metal, so the residual is the same as well.
    for metric in ("psnr", "ssim", "nmse", "psnr_volume", "data_residual"):
        as_found, in_metal, beside = ([row[metric] for row in rows] for rows in found)
        assert in_metal == as_found
        assert all(a != b for a, b in zip(beside, as_found, strict=True))


def test_methods_for_metal_are_refused_beforehand_where_there_is_none(tmp_path: Path) -> None:
    study = {
        "name": "metal",
        "ingest": {"source": {"kind": "phantom", "modality": "ct"}, "image": IMAGE.model_dump()},
        "simulation": {"measurement": {"kind": "metal_ct"}},
        "reconstructions": [{"method": {"kind": "direct"}}, {"method": {"kind": "nmar"}}],
    }
    check_pipeline(PipelineRecipe.model_validate({"studies": [study]}), str(tmp_path))
    study["simulation"] = {"measurement": {"kind": "sparse_view_ct"}}
    with pytest.raises(UserError, match=r"study metal: reconstructions.1.method.kind='nmar' .* take metal_ct"):
        check_pipeline(PipelineRecipe.model_validate({"studies": [study]}), str(tmp_path))
