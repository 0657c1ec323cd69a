"""How near what views that are left out tell of an image comes to its true error.

    python -m benchmarks.cross_validation ct-256 workspace/datasets/DIGEST --settings "23 views" "10 views"

The preset in settings of ``benchmarks/settings.py``, people and slices as there: the PSNR that is expected of its
image, that of the image itself and of the one that was made without these views, means over people; by how much the
first is below the second, with its deviation over people; and how well it ranks people (Spearman's correlation).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.people import mean_of_each
from benchmarks.settings import People, Setting, arguments, data_of, methods_of, read_people, settings_named
from scoreinv.cross_validation import N_LEFT_OUT, expected_mse, parts
from scoreinv.denoiser import ScoreModel
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, reconstruct
from tasks.rendering.tables import signed
from tasks.workers.evaluate import expected_psnr
from tasks.workers.priors import load_prior

COMPLETE = (
    "10 views",
    "15 views",
    "23 views",
    "45 views",
    "90 views",
    "23 views, 1e5 photons",
    "23 views, 1e4 photons",
)
"""Settings whose views see everything."""


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--left-out", type=int, default=N_LEFT_OUT, help="about so many views (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    people = read_people(options.datasets, options.subjects, options.slices)
    denoiser, _ = load_prior(options.prior, "cpu", "bfloat16")
    for line in table(
        settings_named("ct", options.settings or COMPLETE), people, denoiser, n_left_out=options.left_out
    ):
        print(line, flush=True)


def table(
    settings: Sequence[Setting], people: People, denoiser: ScoreModel, *, n_left_out: int = N_LEFT_OUT
) -> Iterator[str]:
    """One row for each setting."""
    n = len(set(people.people))
    yield f"{n} people, {len(people.people)} slices\n"
    yield "| setting | expected | the image | made without these views | expected below the image | rank correlation |"
    yield "| --- |" + " ---: |" * 5
    for setting in settings:
        made = psnrs(checked_images(setting, people, denoiser, n_left_out=n_left_out), people)
        found = [list(mean_of_each(people.people, one.tolist()).values()) for one in made]
        expected, whole, part = (np.array(one) for one in found)
        below = whole - expected
        cells = (f"{one.mean():.2f}" for one in (expected, whole, part))
        rank = float(spearmanr(expected, whole).statistic)
        yield (
            f"| {setting.name} | {' | '.join(cells)} | {signed(float(below.mean()), 2)} ± {below.std(ddof=1):.2f} | "
            f"{rank:.2f} |"
        )


def psnrs(made: "Checked", people: People) -> tuple[Tensor, Tensor, Tensor]:
    """Of each slice: expected, of the image, and of the image that was made without the views that tell it."""
    true = [(one - people.images).square().mean((1, 2, 3)) for one in (made.images, made.without)]
    found = [expected_psnr(one.tolist()) for one in (made.expected, *true)]
    return found[0], found[1], found[2]


class Checked(NamedTuple):
    """The preset's images of a problem, those without the views that are left out, and what these expect, (batch,)."""

    problem: InverseProblem
    images: Tensor
    without: Tensor
    expected: Tensor


def checked_images(setting: Setting, people: People, denoiser: ScoreModel, *, n_left_out: int = N_LEFT_OUT) -> Checked:
    """The people's images in a setting, and what views that are left out say of them."""
    problem = InverseProblem.of(setting.measurement, data_of(setting, people), people.contract)
    kept, left_out = parts(problem, n_left_out=n_left_out)
    method = methods_of("ct")["preset"]
    with torch.no_grad():
        images, without = (
            reconstruct(method, one, denoiser, noise=Noise(0, people.names)).x for one in (problem, kept)
        )
    return Checked(problem, images, without, expected_mse(without, left_out))


if __name__ == "__main__":
    main()
