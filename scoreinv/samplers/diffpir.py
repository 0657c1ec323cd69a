"""DiffPIR: a proximal step on each denoised image, then noise that agrees with its result.

Zhu et al. 2023, "Denoising diffusion models for plug-and-play image restoration", arXiv:2305.08995, in
(x, sigma) space:

    z = argmin_z |A z - y|^2 / 2 + rho |z - D(x, sigma)|^2 / 2,   rho = strength noise_std^2 / sigma^2
    eps = (x - z) / sigma                                         from z, not from the denoised image
    x = z + sigma_next (sqrt(1 - zeta) eps + sqrt(zeta) n)       zeta = eta^2 of the renoising

One network call a level, no gradient through the network; the proximal step by a few conjugate gradient steps. With
strength 1 and data of known noise the samples lie around the posterior's mean; the paper tunes the strength, usually
to 3 to 25, which smooths. They spread less than the posterior: where there are no data, with zeta 1 half of its
variance, with 0.3 from 0.6 to 0.95 of it. A single sample is the nearer to the mean the less it spreads.

Noiseless data count as noisy by ``data_floor``: without noise the prior would have no weight in z.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.data_step import proximal
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from scoreinv.samplers.sampler import Sampler
from scoreinv.spec import note_moved


class DiffPIR(Sampler):
    """The robust choice for noisy data."""

    label: ClassVar[str] = "DiffPIR"
    version: ClassVar[int] = 2
    kind: Literal["diffpir"] = "diffpir"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=100, sigma_max=1.0, sigma_min=0.01), title="Noise levels")
    data_floor: float = Field(3e-3, gt=0, lt=1, description="Data count as noisy by at least so much.")
    renoise: Renoise = Field(
        Renoise(eta=0.55),
        title="Renoising",
        description="eta 1 comes nearest to the mean, 0.55 (the paper's zeta of 0.3) spreads nearly enough.",
    )
    strength: float = Field(
        1.0, gt=0, description="lambda: weight of the denoised image against data of known noise; the paper tunes it."
    )
    n_cg: int = Field(
        10, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per level."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_zeta(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "zeta" not in given:
            return given
        note_moved("zeta", "renoise.eta, its root")
        rest = {name: value for name, value in given.items() if name != "zeta"}
        return {**rest, "renoise": {"eta": given["zeta"] ** 0.5, **given.get("renoise", {})}}

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        data_image = problem.operator.adjoint(problem.y)
        x, levels = self.begin(problem, noise)
        for level in levels:
            denoised = denoiser(x, level.sigma.flatten())
            std = level.sigma / self.strength**0.5
            consistent = proximal(problem, data_image, denoised, std=std, n_iters=self.n_cg)
            x = self.renoise.step(consistent, (x - consistent) / level.sigma, level, noise)
            yield Step(level.index, level.of_grid_next, x)
