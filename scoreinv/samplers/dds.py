"""DDS: DDIM steps with a few conjugate gradient steps on the denoised image.

Chung, Lee and Ye 2024, "Decomposed diffusion sampler", arXiv:2303.05754, in (x, sigma) space:

    denoised = D(x, sigma)
    z = CG steps on the data, from denoised
    x = z + sigma_next temperature (sqrt(1 - eta^2) eps + eta n),   eps = (x - denoised) / sigma

One network call a level, no gradient through the network. The data step is a proximal step with the noise of the
data, so that noisy data are not followed into their noise. ``Renoise`` says what its options do.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.data_step import denoised_std, proximal
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from scoreinv.samplers.sampler import Sampler
from scoreinv.spec import note_moved


class DDS(Sampler):
    """The fast default: about 50 network calls."""

    moved: ClassVar[Mapping[str, str]] = {
        "noise_floor": "data_floor",
        "eta": "renoise.eta",
        "temperature": "renoise.temperature",
    }

    label: ClassVar[str] = "DDS"
    kind: Literal["dds"] = "dds"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=50, sigma_max=0.5, sigma_min=0.005), title="Noise levels")
    renoise: Renoise = Field(Renoise(), title="Renoising")
    n_cg: int = Field(
        5, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per level."
    )
    strength: float = Field(
        1.0, gt=0, description="How far a denoised pixel may be off, in times a guess: more follows noisy data further."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_options(cls, given: Any) -> Any:
        return _translated(given) if isinstance(given, dict) else given

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        data_image = problem.operator.adjoint(problem.y)
        x, levels = self.begin(problem, noise)
        for level in levels:
            denoised = denoiser(x, level.sigma.flatten())
            eps = (x - denoised) / level.sigma
            std = self.strength * denoised_std(level.sigma)
            consistent = proximal(problem, data_image, denoised, std=std, n_iters=self.n_cg)
            x = self.renoise.step(consistent, eps, level, noise)
            yield Step(level.index, level.of_grid_next, x)


def _translated(given: dict[str, Any]) -> dict[str, Any]:
    """The options as they are called now, of a recipe that calls them as an earlier version did."""
    given = dict(given)
    if given.pop("is_mirrored", False):
        note_moved("is_mirrored", "symmetry: flip")
        given["symmetry"] = "flip"
    if factor := given.pop("start_factor", 0):
        note_moved("start_factor", "start.kind: graded_tv with start.factor")
        given["start"] = {**given["start"], "kind": "graded_tv", "factor": factor}
    if "fresh_share" in given:
        note_moved("fresh_share", "renoise.fresh_above, a level")
        grid = SigmaGrid.model_validate(given.get("grid", DDS.model_fields["grid"].default))
        n_fresh = sum(index < given["fresh_share"] * grid.n_levels for index in range(grid.n_levels))
        given["renoise"] = {**given.get("renoise", {}), "fresh_above": float(grid.levels()[n_fresh])}
        del given["fresh_share"]
    return given
