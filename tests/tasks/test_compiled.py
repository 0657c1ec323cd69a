"""Compiled networks give the images of the others, and are refused where nothing can compile them."""

import os
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.unrolled import Unrolled
from scoreinv.training.device import compile_networks
from storage.shards import ShardedStore
from tasks.recipes import Reconstruction
from tasks.running.shards import Execution
from tasks.workers.priors import load_prior, require_compiler
from tasks.workers.reconstruct import reconstruct_shard
from tests.tasks import tiny

needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler here")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ShardedStore:
    workspace = tmp_path_factory.mktemp("workspace")
    return tiny.measurements(workspace, tiny.dataset(workspace, n=2, shard_size=2))


@needs_compiler
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-5), ("bfloat16", 1e-3)])
def test_compiled_reconstructions_agree_to_rounding(
    tmp_path: Path, data: ShardedStore, precision: Literal["float32", "bfloat16"], tolerance: float
) -> None:
    choice = Reconstruction(method=tiny.sampler(5), prior=tiny.prior(tmp_path / "prior"), precision=precision)
    images = []
    for name, is_compiled in (("eager", False), ("compiled", True)):
        job, store = tiny.reconstruction(data, tmp_path / name, choice)
        reconstruct_shard(job.model_copy(update={"is_compiled": is_compiled}), 0, print)
        images.append(store.read("sample", 0, 2))
    assert images[0].std() > 0.01
    np.testing.assert_allclose(images[1], images[0], atol=tolerance, rtol=0)
    # It is another network, although of the same prior: nothing that was loaded before changes.
    eager, compiled = (load_prior(choice.prior, "cpu", precision, flag)[0] for flag in (False, True))
    assert eager.network._compiled_call_impl is None
    assert compiled.network._compiled_call_impl is not None
    assert list(eager.state_dict()) == list(compiled.state_dict())


@needs_compiler
def test_every_network_of_a_reconstructor_is_compiled() -> None:
    spec = Unrolled(n_passes=2, refiner=tiny.NETWORK)
    network = spec.build(tiny.MRI)
    operator = CartesianMRI(acceleration=2).operator(tiny.SIZE)
    images = torch.rand(2, *operator.image_shape, generator=torch.Generator().manual_seed(0))
    problem = InverseProblem(operator, operator.forward(images))
    for parameter in network.parameters():
        parameter.data.add_(0.02)
    with torch.no_grad():
        eager = network(problem)
        compile_networks(network.network)
        compiled = network(problem)
    parts = list(network.network["passes"].children())
    assert all(part._compiled_call_impl is not None for part in parts)
    torch.testing.assert_close(compiled, eager, atol=2e-5, rtol=0)


def test_without_a_compiler_the_prior_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler, 'no-such-compiler' is not there: install it, or"):
        load_prior(tiny.prior(tmp_path), "cpu", "float32", True)
    load_prior(tiny.prior(tmp_path), "cpu", "float32")


def test_on_a_gpu_triton_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.workers.priors.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package triton on a GPU"):
        require_compiler(torch.device("cuda"))


def test_nothing_is_compiled_unless_asked_for() -> None:
    assert not Execution().is_compiled
