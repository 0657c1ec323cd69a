"""Score SDE: Algorithm 1 with the gradient of the data's likelihood added to the score, in both of its steps.

Song et al. 2021 (arXiv:2011.13456), as the baseline of Song, Shen, Xing and Ermon 2022 (arXiv:2111.08005). With fresh
noise n for each step,

    y_t = y + sigma A n
    score = (D(x, sigma) - x) / sigma^2 + gradient of log p(y_t | x)          see ``likelihood``
    x = corrector, then predictor of Algorithm 1, with this score

and at the end one Tweedie step of the prior alone; 2 n_levels + 1 network calls. Other than released it works for
every operator, knows the noise of the data, and no step overshoots. The paper has rate 1.231 and snr 0.608 for BraTS;
with fewer levels than its 1000 a smaller rate finds better images.

Not an exact posterior sampler: p(y_t | x) takes x for the image itself, which is right only towards small sigma. By
then only the corrector can still move the image, and where images vary much more than sigma it is slow.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.likelihood import noisy_likelihood
from scoreinv.samplers.predictor_corrector import PAPER_GRID, correct, predict
from scoreinv.samplers.sampler import Sampler


class ScoreSDE(Sampler):
    """The paper's predecessor: the data as a gradient, not as a projection."""

    label: ClassVar[str] = "Score SDE"
    kind: Literal["score_sde"] = "score_sde"
    grid: SigmaGrid = Field(PAPER_GRID, title="Noise levels")
    data_floor: float = Field(1e-3, gt=0, lt=1, description="Data count as noisy by at least so much.")
    rate: float = Field(0.5, gt=0, description="Deviation of the noisy data around the noisy image, in units of sigma.")
    snr: float = Field(
        0.4, ge=0, lt=1, title="SNR", description="Signal-to-noise ratio of the corrector; 0: no corrector."
    )
    n_cg: int = Field(
        5, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per network call."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels * (2 if self.snr > 0 else 1) + 1

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        likelihood = noisy_likelihood(problem, rate=self.rate, n_cg=self.n_cg)
        x, levels = self.begin(problem, noise)
        for level in levels:
            sigma, sigma_next = level.sigma, level.sigma_next
            if self.snr > 0:
                # The corrector's step where the score is that of noise alone; it may be longer by (rate sigma)^2.
                usual = 2 * (self.snr * sigma) ** 2
                conditional = likelihood.condition(denoiser, step=usual, noise=noise)
                longest = (self.rate * sigma) ** 2 + usual
                x = correct(conditional, x, sigma, noise, snr=self.snr, longest=longest)
            conditional = likelihood.condition(denoiser, step=sigma**2 - sigma_next**2, noise=noise)
            x = predict(conditional, x, sigma, sigma_next, noise)
            yield Step(level.index, level.of_grid_next, x)
        yield Step(self.grid.n_levels, 0.0, denoiser(x, levels[-1].sigma.flatten()))
