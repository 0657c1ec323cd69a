"""Two processes train one model: their gradients are averaged, their images differ."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from scoreinv.training.levels import stratified
from scoreinv.training.loop import step_generator, train
from scoreinv.training.loss import denoising_loss
from scoreinv.training.objectives import MODEL, Denoising

SCRIPT = Path(__file__).with_name("two_ranks.py")


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_ranks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes ended with."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {"GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0", **os.environ}
    processes = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(rank), "2", str(folder)], env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(180) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_both_end_with_the_same_weights(ranks: list[dict[str, Any]]) -> None:
    for part in ("model", "ema", "reconstructor", "discriminator"):
        for name, value in ranks[0][part].items():
            assert torch.equal(value, ranks[1][part][name]), name


def flat(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in parameters.values()])


def test_each_group_of_parameters_equals_that_of_one_process(ranks: list[dict[str, Any]]) -> None:
    script = load_script()
    spec, state, objective = script.SPEC, script.fresh_pair(), script.ADVERSARIAL

    def both(n: int, _: torch.Generator) -> torch.Tensor:
        generators = [step_generator(spec.seed, rank, state.images_seen) for rank in range(2)]
        return torch.cat([script.draw(n // 2, generator) for generator in generators])

    for _ in train(state, objective.batches(both, script.IMAGE), objective, spec):
        pass
    before = script.fresh_pair().models
    for part, group in (("reconstructor", "model"), ("discriminator", "discriminator")):
        start, one = (flat(dict(models[group].named_parameters())) for models in (before, state.models))
        two = flat({name: ranks[0][part][name] for name, _ in state.models[group].named_parameters()})
        # As a whole: where a gradient is rounding alone, Adam makes it a step.
        assert float((two - one).norm()) < 0.02 * float((one - start).norm()), part


def test_each_sees_its_own_images(ranks: list[dict[str, Any]]) -> None:
    assert all(first != second for first, second in zip(ranks[0]["losses"], ranks[1]["losses"], strict=True))
    assert ranks[0]["norms"] == ranks[1]["norms"]


def test_it_equals_one_process_that_sees_the_images_of_both(ranks: list[dict[str, Any]]) -> None:
    script = load_script()
    spec, state, levels = script.SPEC, script.fresh(), Denoising().levels
    for images_seen in range(0, spec.n_images, spec.batch_size):
        state.optimizers[MODEL].param_groups[0]["lr"] = spec.rate(images_seen)
        state.optimizers[MODEL].zero_grad()
        losses = []
        for rank in range(2):
            generator = step_generator(spec.seed, rank, images_seen)
            images = script.draw(spec.batch_size // 2, generator)
            sigma = levels.draw(stratified(len(images), generator))
            normal = torch.randn(images.shape, generator=generator)
            losses.append(denoising_loss(state.model, images, sigma, normal, levels).mean())
        (sum(losses) / 2).backward()
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), spec.clip_norm)
        state.optimizers[MODEL].step()
    for name, value in state.model.state_dict().items():
        torch.testing.assert_close(ranks[0]["model"][name], value, atol=2e-5, rtol=1e-4)
