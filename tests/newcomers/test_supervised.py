"""What a newcomer writes for a learned baseline of their own: an unrolled network with a loss on edges.

Between the two lines of dashes stands all of it; nothing in the library is touched.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from scoreinv.baselines import Direct, Learned
from scoreinv.contract import ImageContract
from scoreinv.measurement import GaussianNoise
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.training.data import MeasuredBatches, measured
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.objectives import Examples, Models, Objective

# ----------------------------------------------------------------------------------------------------------------------
MEASUREMENT = CartesianMRI(acceleration=3, noise=GaussianNoise(noise_std=0.01))
IMAGE = ImageContract(modality="mri", size=32, pixel_mm=8.0, low=0, high=1)


class Unrolled(nn.Module):
    """Three gradient steps on the data, each followed by a small network (Hammernik et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.ones(3))
        self.refine = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.SiLU(), nn.Conv2d(24, 1, 3, padding=1)) for _ in range(3)
        )

    def forward(self, problem: InverseProblem) -> Tensor:
        x = problem.operator.direct(problem.y)
        for rate, refine in zip(self.rates, self.refine, strict=True):
            x = x + rate * problem.operator.adjoint(problem.residual(x))
            x = x + refine(x)
        return x


class Edges(Objective):
    """Mean absolute error of the image and of its differences."""

    def loss(self, models: Models, examples: Examples, group: str) -> Tensor:
        problem, images = examples
        error = models[group](problem) - images
        return error.abs().mean() + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def phantoms(n: int, generator: torch.Generator) -> Tensor:
    """Heads of many contrasts, turned at random."""
    head = torch.from_numpy(rasterise(SHEPP_LOGAN, IMAGE.size)).float()
    powers, turns = 0.5 + torch.rand(n, generator=generator), torch.randint(4, (n,), generator=generator).tolist()
    return torch.stack([(head**p).rot90(turn) for p, turn in zip(powers, turns, strict=True)])[:, None]


def unrolled() -> nn.Module:
    """The network, trained."""
    torch.manual_seed(0)
    spec = TrainSpec(n_images=1600, batch_size=8, learning_rate=3e-3, warmup_images=80, ema_half_life=100)
    state = TrainState.fresh({"model": Unrolled()}, spec)
    for _ in train(state, MeasuredBatches(phantoms, MEASUREMENT, IMAGE), Edges(), spec):
        pass
    return state.ema.model


# ----------------------------------------------------------------------------------------------------------------------


def test_a_network_and_a_loss_of_ones_own_train_and_reconstruct() -> None:
    noise = Noise(1, ["a", "b", "c"])
    problem, truth = measured(phantoms(3, torch.Generator().manual_seed(5)), MEASUREMENT, IMAGE, noise)
    model = unrolled()
    with torch.no_grad():
        learned = reconstruct(Learned(), problem, model, noise=noise)
    naive = reconstruct(Direct(), problem, noise=noise)
    gain = psnr(learned.x, truth, data_range=1.0) - psnr(naive.x, truth, data_range=1.0)
    assert learned.nfe == 1
    assert float(gain.min()) > 1
    assert float(gain.mean()) > 2


def test_it_takes_less_than_sixty_lines() -> None:
    _, written, _ = Path(__file__).read_text().split("# " + 118 * "-")
    assert 30 < len(written.strip().splitlines()) < 60
