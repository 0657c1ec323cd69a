"""Simulation-based calibration of the samplers: are samples draws of the posterior, where that is known?

    python -m benchmarks.sbc                        all samplers, 64 images, 15 samples of each

Images are drawn of a prior whose denoiser is exact (a mixture of Gaussians, 16 x 16), data of the images, samples of
the data. If samples are draws of the posterior, the image is one of them: along any direction its rank among its
samples is uniform (Cook, Gelman and Rubin 2006, doi:10.1198/106186006X136976; Talts et al. 2018, arXiv:1804.06788). So
the range of 15 samples holds it 14 times of 16, and its mean rank is a half. Directions are white noise, and the part
of it that no data tell of: there the prior alone decides.

The first row is of exact draws of the posterior: what chance leaves in the table. Noise is white in MRI, and in CT
differs from ray to ray. Samplers have options of their own, which suit a posterior that is known; those that presets
give them for real images are colder.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from scoreinv.denoiser import MixtureDenoiser
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.linear import LinearOperator
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.samplers import DAPS, DDS, DPS, DiffPIR, Langevin, LangevinProjection, PiGDM, Projection, ScoreSDE
from scoreinv.samplers.renoise import Renoise
from scoreinv.samplers.sampler import Sampler

SIZE = 16
N_MEANS = 6
STD = 0.05
"""Of the images around the mean of their part of the mixture."""

N_DIRECTIONS = 32

LARGEST = 1e-3
"""Of A's singular values, relative to the largest: below it no data tell of a direction."""

PAPER: tuple[type[Sampler], ...] = (ScoreSDE, Langevin, LangevinProjection, Projection)
"""Those of Song et al. 2022, with fewer levels."""

SAMPLERS: tuple[Method, ...] = (
    DAPS(),
    DDS(renoise=Renoise(temperature=1.0)),
    DiffPIR(),
    PiGDM(),
    DPS(),
    *(method(grid=method().grid.model_copy(update={"n_levels": 500})) for method in PAPER),
)


class Oracle(NamedTuple):
    """A prior that is known, and what is measured of its images.

    Attributes:
        prior: its exact denoiser.
        operator: A.
        noise_std: as problems have it, of one image.
        matrix: A with data of real numbers, those alone that tell something.
        std: the noise of these.
        tells: which of all numbers these are.
    """

    prior: MixtureDenoiser
    operator: LinearOperator
    noise_std: Tensor
    matrix: Tensor
    std: Tensor
    tells: Tensor

    def images(self, n: int) -> Tensor:
        """Draws of the prior (n, 1, SIZE, SIZE)."""
        generator = torch.Generator().manual_seed(3)
        parts = torch.randint(len(self.prior.means), (n,), generator=generator)
        noise = torch.randn(n, 1, SIZE, SIZE, generator=generator)
        return self.prior.means[parts][:, None] + self.prior.std * noise

    def problem(self, images: Tensor) -> InverseProblem:
        """Their data, under noise."""
        clean = self.operator.forward(images)
        noise_std = self.noise_std.expand(len(images), *self.noise_std.shape[1:])
        noise = Noise(1, [str(i) for i in range(len(images))], purpose="measurement").normal_like(clean)
        return InverseProblem(self.operator, clean + of_each_number(self.noise_std, clean) * noise, noise_std)

    def exact(self, problem: InverseProblem, n_samples: int) -> Tensor:
        """Draws of the posterior itself, (n, n_samples, SIZE * SIZE)."""
        y, a = flat(problem.y)[:, self.tells].double() / self.std, self.matrix / self.std[:, None]
        means, generator = self.prior.means.flatten(1).double(), torch.Generator().manual_seed(4)
        variance = self.prior.std**2
        of_data = variance * a @ a.T + torch.eye(len(a), dtype=torch.float64)
        misses = y[:, None] - means @ a.T
        gain = variance * torch.linalg.solve(of_data, a).T
        logits = -0.5 * (misses * torch.linalg.solve(of_data, misses.flatten(0, 1).T).T.view_as(misses)).sum(-1)
        chosen = torch.distributions.Categorical(logits=logits)
        torch.manual_seed(5)
        parts = chosen.sample((n_samples,)).T
        mean = means[parts] + torch.gather(misses, 1, parts[..., None].expand(-1, -1, len(a))) @ gain.T
        # A draw of the prior, moved by what its own data miss, is a draw of the posterior.
        prior = self.prior.std * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        noise = torch.randn(*mean.shape[:2], len(a), generator=generator, dtype=torch.float64)
        return (mean + prior - (prior @ a.T + noise) @ gain.T).float()


def oracles() -> dict[str, Oracle]:
    """White noise in MRI, in CT noise that differs threefold between rays."""
    phantom = torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()
    waves = torch.fft.fftfreq(SIZE)
    low = torch.exp(-30 * (waves**2 + waves[:, None] ** 2))
    noise = torch.randn(N_MEANS, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    fields = torch.fft.ifft2(torch.fft.fft2(noise) * low).real
    prior = MixtureDenoiser(phantom + 0.15 * fields / fields.std(), STD)
    ct, mri = SparseViewCT(n_views=5).operator(SIZE), CartesianMRI(acceleration=4).operator(SIZE)
    per_ray = 0.1 * (1 + 2 * torch.rand(1, *ct.data_shape, generator=torch.Generator().manual_seed(6)))
    return {
        "MRI": _oracle(prior, mri, torch.full((1,), 0.05)),
        "CT, noise of each ray": _oracle(prior, ct, per_ray),
    }


def _oracle(prior: MixtureDenoiser, operator: LinearOperator, noise_std: Tensor) -> Oracle:
    basis = torch.eye(SIZE * SIZE).view(-1, *operator.image_shape)
    data = operator.forward(basis)
    matrix = flat(data).T.double()
    levels = of_each_number(noise_std, data).expand(1, *data.shape[1:])
    std = flat(torch.complex(levels, levels) if data.is_complex() else levels)[0].double()
    tells = matrix.abs().sum(1) > 0
    return Oracle(prior, operator, noise_std, matrix[tells], std[tells], tells)


def of_each_number(noise_std: Tensor, data: Tensor) -> Tensor:
    """The noise of one image, (1,) or (1, *data_shape), so that it broadcasts to data."""
    return noise_std.view(1, *[1] * (data.ndim - noise_std.ndim), *noise_std.shape[1:])


def flat(y: Tensor) -> Tensor:
    """Data as real numbers (batch, n)."""
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1)


def directions(oracle: Oracle) -> dict[str, Tensor]:
    """Of which ranks are taken, (N_DIRECTIONS, SIZE * SIZE) each."""
    white = torch.randn(N_DIRECTIONS, SIZE * SIZE, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    _, values, rows = torch.linalg.svd(oracle.matrix, full_matrices=True)
    unseen = rows[int((values > LARGEST * values[0]).sum()) :]
    return {"all": white.float(), "unseen": (white @ unseen.T @ unseen).float()}


def ranks(images: Tensor, samples: Tensor, along: Tensor) -> Tensor:
    """How many of its samples lie below each image, (n, n_directions); images (n, ...), samples (n, n_samples, ...)."""
    of_image, of_samples = images.flatten(1) @ along.T, samples.flatten(2) @ along.T
    return (of_samples < of_image[:, None]).sum(1)


def samples_of(method: Method, problem: InverseProblem, prior: Callable[..., Tensor], n_samples: int) -> Tensor:
    """(n, n_samples, 1, SIZE, SIZE), all in one batch."""
    n = len(problem.y)
    places = torch.arange(n).repeat_interleave(n_samples)
    noise = Noise(0, [str(int(place)) for place in places], [k % n_samples for k in range(n * n_samples)])
    with torch.no_grad():
        x = reconstruct(method, problem.part(places), prior, noise=noise).x
    return x.view(n, n_samples, *x.shape[1:])


def cells(images: Tensor, samples: Tensor, along: dict[str, Tensor]) -> Iterator[str]:
    """For each set of directions how often the samples' range holds the image, and the mean rank."""
    n_samples = samples.shape[1]
    for one in along.values():
        found = ranks(images, samples, one)
        held = ((found > 0) & (found < n_samples)).double().mean()
        yield f"{100 * held:.1f} %"
        yield f"{float(found.double().mean()) / n_samples:.2f}"


def table(n: int, n_samples: int, methods: tuple[Method, ...] = SAMPLERS) -> Iterator[str]:
    """One row for each sampler, for each measurement how often ranges hold all and unseen directions."""
    known = oracles()
    heads = [head for name in known for head in (f"{name}: held", "mean rank", "unseen held", "mean rank")]
    yield f"| sampler | calls | {' | '.join(heads)} |"
    yield "| --- |" + " ---: |" * (len(heads) + 1)
    parts = []
    for oracle in known.values():
        images = oracle.images(n)
        parts.append((oracle, images, oracle.problem(images), directions(oracle)))
    exact = [cell for one, x, problem, along in parts for cell in cells(x, one.exact(problem, n_samples), along)]
    yield f"| exact draws | | {' | '.join(exact)} |"
    for method in methods:
        made = [
            cell
            for one, x, problem, along in parts
            for cell in cells(x, samples_of(method, problem, one.prior, n_samples), along)
        ]
        yield f"| {method.label} | {method.n_calls} | {' | '.join(made)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--samples", type=int, default=15, help="of each (default: %(default)s)")
    kinds = [one.kind for one in SAMPLERS]
    parser.add_argument("--samplers", nargs="*", choices=kinds, default=kinds, help="kinds (default: all)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    promised = (options.samples - 1) / (options.samples + 1)
    print(f"{options.images} images, {options.samples} samples of each: ranges should hold {100 * promised:.1f} %.\n")
    methods = tuple(one for one in SAMPLERS if one.kind in options.samplers)
    for line in table(options.images, options.samples, methods):
        print(line, flush=True)


if __name__ == "__main__":
    main()
