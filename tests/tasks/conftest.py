"""What the tests of tasks share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tasks.recipes import Reconstruction
from tasks.workers.reconstruct import Inputs, load_inputs
from tests.tasks import tiny


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a worker: the order of sums, and with it the last bit, depends on the number of threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def choice(tmp_path: Path) -> Reconstruction:
    """Two samples of a small sampler."""
    return Reconstruction(method=tiny.sampler(3), prior=tiny.prior(tmp_path / "prior"), n_samples=2, seed=5)


@pytest.fixture
def inputs(tmp_path: Path, choice: Reconstruction) -> Inputs:
    """All slices of its measurements, in one shard."""
    data = tiny.measurements(tmp_path, tiny.dataset(tmp_path, n=tiny.N_SLICES, shard_size=tiny.N_SLICES))
    job, _ = tiny.reconstruction(data, tmp_path / "out", choice)
    return load_inputs(job, range(tiny.N_SLICES))
