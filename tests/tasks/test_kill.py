"""Reconstruction that is killed, interrupted, resumed: the same images in the end, each slice once."""

import os
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from storage.shards import ShardedStore
from tasks.recipes import Reconstruction
from tasks.running.cluster import Inline, LocalWorkers, connect, kept_running
from tasks.running.shards import Execution, map_shards
from tasks.workers.reconstruct import ReconstructJob, reconstruct_shard
from tests.tasks import tiny

INLINE = Execution(cluster=Inline())
N_SLICES = 12


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardedStore, str]:
    """Measurements in shards of one slice, and the URI of a prior."""
    workspace = tmp_path_factory.mktemp("study")
    images = tiny.dataset(workspace, n=N_SLICES)
    return tiny.measurements(workspace, images), tiny.prior(workspace / "prior")


def choice(prior: str, *, n_levels: int = 4, n_samples: int = 3) -> Reconstruction:
    return Reconstruction(method=tiny.sampler(n_levels), prior=prior, n_samples=n_samples, seed=5)


def undisturbed(job: ReconstructJob, store: ShardedStore) -> ShardedStore:
    list(map_shards(reconstruct_shard, job, store, INLINE))
    store.finish()
    return store


def images(store: ShardedStore) -> np.ndarray:
    return np.stack([store.read(name, 0, store.n) for name in ("mean", "std", "sample")])


def test_a_killed_worker_costs_nothing_but_time(study: tuple[ShardedStore, str], tmp_path: Path) -> None:
    data, prior = study
    slow = choice(prior, n_levels=40)
    job, store = tiny.reconstruction(data, tmp_path / "killed", slow)
    with kept_running(LocalWorkers(n_workers=2)) as running, connect(running) as client:
        events = map_shards(reconstruct_shard, job, store, Execution(cluster=running))
        done = [next(event for event in events if event.fraction == 1).shard]
        before = set(client.run(os.getpid).values())
        os.kill(min(before), signal.SIGKILL)
        done += [event.shard for event in events if event.fraction == 1]
    assert sorted(done) == list(range(N_SLICES))
    store.finish()
    assert store.verify() == []
    assert np.isfinite(images(store)).all()
    assert store.content_digest() == undisturbed(*tiny.reconstruction(data, tmp_path / "calm", slow)).content_digest()


def test_an_interrupted_run_is_resumed_by_another_and_only_the_rest_is_done(
    study: tuple[ShardedStore, str], tmp_path: Path
) -> None:
    """Batches of another size are bitwise the same here only up to the order of sums: 1e-4 is allowed."""
    data, prior = study
    job, store = tiny.reconstruction(data, tmp_path / "resumed", choice(prior), batch_size=1)
    with closing(map_shards(reconstruct_shard, job, store, INLINE)) as events:
        first = [next(events).shard for _ in range(5)]
    assert [shard.index for shard in store.pending()] == [i for i in range(N_SLICES) if i not in first]

    with_larger_batches = job.model_copy(update={"batch_size": 3})
    rest = list(map_shards(reconstruct_shard, with_larger_batches, store, INLINE))
    assert sorted(first + [event.shard for event in rest]) == list(range(N_SLICES))
    store.finish()
    calm = undisturbed(*tiny.reconstruction(data, tmp_path / "calm", choice(prior), batch_size=3))
    np.testing.assert_allclose(images(store), images(calm), rtol=0, atol=1e-4)


def test_the_same_batches_give_the_same_bits_however_often_it_was_stopped(
    study: tuple[ShardedStore, str], tmp_path: Path
) -> None:
    data, prior = study
    job, store = tiny.reconstruction(data, tmp_path / "stopped", choice(prior))
    while store.pending():
        with closing(map_shards(reconstruct_shard, job, store, INLINE)) as events:
            next(events)
    calm = undisturbed(*tiny.reconstruction(data, tmp_path / "calm", choice(prior)))
    assert store.content_digest() == calm.content_digest()


def test_shards_of_another_size_hold_the_same_images(tmp_path: Path) -> None:
    """What a slice becomes does not depend on its neighbours in the shard."""
    results = []
    for name, shard_size in (("ones", 1), ("fours", 4)):
        dataset = tiny.dataset(tmp_path / name, n=4, shard_size=shard_size)
        data = tiny.measurements(tmp_path / name, dataset)
        prior = tiny.prior(tmp_path / name / "prior")
        results.append(images(undisturbed(*tiny.reconstruction(data, tmp_path / name / "r", choice(prior)))))
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-4)


def test_what_is_kept_of_the_samples_is_their_mean_and_deviation(
    study: tuple[ShardedStore, str], tmp_path: Path
) -> None:
    """Samples drawn one by one, with their own seeds, are those that a run of three draws."""
    data, prior = study
    three = undisturbed(*tiny.reconstruction(data, tmp_path / "three", choice(prior)))
    two = undisturbed(*tiny.reconstruction(data, tmp_path / "two", choice(prior, n_samples=2)))
    a = three.read("sample", 0, N_SLICES)
    b = 2 * two.read("mean", 0, N_SLICES) - a
    c = 3 * three.read("mean", 0, N_SLICES) - a - b
    np.testing.assert_allclose(two.read("sample", 0, N_SLICES), a, atol=1e-4)
    np.testing.assert_allclose(three.read("std", 0, N_SLICES), np.stack([a, b, c]).std(0, ddof=1), atol=1e-3)
    assert float(three.read("std", 0, N_SLICES).mean()) > 1e-3
