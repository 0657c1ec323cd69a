"""A prior that is published anew under its old name: long-lived workers notice, and no store mixes two."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from scoreinv.denoiser import EDMPreconditioning
from scoreinv.training.checkpoint import build_model, weights_bytes
from storage.models import load, publish, read_contract, remove_all_but
from storage.shards import ShardedStore
from tasks.recipes import Reconstruction
from tasks.running.cluster import Inline
from tasks.running.shards import Execution, TooManyFailures, map_shards
from tasks.workers import priors
from tasks.workers.priors import load_prior
from tasks.workers.reconstruct import ReconstructJob, reconstruct_shard
from tests.tasks import tiny

INLINE = Execution(cluster=Inline(), retries=0)
N_SLICES = 4


def publish_another(uri: str) -> None:
    """Other weights of the same network at the same place, as a training that goes on does."""
    model = build_model(tiny.NETWORK, EDMPreconditioning(), seed=2)
    for parameter in model.parameters():
        parameter.data.sub_(0.03)
    weights = weights_bytes(model)
    contract = read_contract(uri).model_copy(update={"sha256": hashlib.sha256(weights).hexdigest(), "images_seen": 8})
    publish(uri, weights, contract)


@pytest.fixture
def data(tmp_path: Path) -> ShardedStore:
    return tiny.measurements(tmp_path, tiny.dataset(tmp_path, n=N_SLICES))


@pytest.fixture
def prior(tmp_path: Path) -> str:
    return tiny.prior(tmp_path / "prior")


def job_for(data: ShardedStore, prior: str, folder: Path) -> tuple[ReconstructJob, ShardedStore]:
    """As the reconstruct task makes it."""
    job, store = tiny.reconstruction(data, folder, Reconstruction(method=tiny.sampler(2), prior=prior))
    return job.model_copy(update={"prior_sha256": read_contract(prior).sha256}), store


def images(store: ShardedStore) -> np.ndarray:
    return store.read("sample", 0, store.n)


def test_a_process_that_has_a_prior_notices_a_new_one(prior: str) -> None:
    old, old_contract = load_prior(prior, "cpu", "float32")
    assert load_prior(prior, "cpu", "float32")[0] is old
    publish_another(prior)
    new, new_contract = load_prior(prior, "cpu", "float32")
    assert (old_contract.images_seen, new_contract.images_seen) == (0, 8)
    x, sigma = torch.rand(1, 1, tiny.SIZE, tiny.SIZE), torch.ones(1)
    assert not torch.allclose(old(x, sigma), new(x, sigma))
    assert load_prior(prior, "cpu", "float32", sha256=old_contract.sha256)[0] is old


def test_a_prior_published_during_a_reconstruction_is_in_none_of_its_shards(
    data: ShardedStore, prior: str, tmp_path: Path
) -> None:
    calm_job, calm = job_for(data, prior, tmp_path / "calm")
    list(map_shards(reconstruct_shard, calm_job, calm, INLINE))
    job, store = job_for(data, prior, tmp_path / "disturbed")
    events = map_shards(reconstruct_shard, job, store, INLINE)
    next(events)
    publish_another(prior)
    # As a worker that starts now.
    priors._loaded.cache_clear()
    list(events)
    np.testing.assert_array_equal(images(store), images(calm))

    new_job, new = job_for(data, prior, tmp_path / "new")
    list(map_shards(reconstruct_shard, new_job, new, INLINE))
    assert not np.allclose(images(new), images(calm), atol=1e-3)


def test_weights_that_are_gone_stop_the_run_with_what_to_do(data: ShardedStore, prior: str, tmp_path: Path) -> None:
    job, store = job_for(data, prior, tmp_path / "r")
    publish_another(prior)
    remove_all_but(prior, {load(prior)[1].sha256})
    priors._loaded.cache_clear()
    with pytest.raises(TooManyFailures, match="was published anew since this run began .* run the same command again"):
        list(map_shards(reconstruct_shard, job, store, INLINE))
    assert len(store.pending()) == N_SLICES
