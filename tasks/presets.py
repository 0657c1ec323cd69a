"""The presets a plan chooses from: the numbers to tune are all here.

What one costs is not written here: a plan times it where it would run.
"""

from typing import Literal, NamedTuple

from scoreinv.baselines import TotalVariation
from scoreinv.contract import Modality
from scoreinv.methods import AnyMethod
from scoreinv.samplers import DDS
from scoreinv.samplers.grid import SigmaGrid

PresetName = Literal["fast", "balanced", "best"]


class Preset(NamedTuple):
    """A method, and how many of its samples make the image."""

    method: AnyMethod
    n_samples: int = 1


def _ct(n_calls: int) -> DDS:
    grid = SigmaGrid(n_levels=n_calls, sigma_max=0.3, sigma_min=0.003)
    return DDS(grid=grid, n_cg=10, strength=2.0, noise_floor=5e-4)


def _mri(n_calls: int) -> DDS:
    # From the TV image rather than the zero-filled one: 1.3 dB better without skull (people held out), 0.3 dB with it
    # (people the prior has seen), 8 slices each. Below this first level TV's ghosts outside the head survive.
    grid = SigmaGrid(n_levels=n_calls, sigma_max=0.3, sigma_min=0.005)
    return DDS(grid=grid, start=TotalVariation(weight=4e-5, n_iters=200))


# The data step of DDS takes the noise's deviation from the measurements, so these serve noisy data as well.
PRESETS: dict[Modality, dict[PresetName, Preset]] = {
    "ct": {"fast": Preset(_ct(20)), "balanced": Preset(_ct(50)), "best": Preset(_ct(50), n_samples=8)},
    "mri": {"fast": Preset(_mri(20)), "balanced": Preset(_mri(50)), "best": Preset(_mri(50), n_samples=8)},
}

BASELINES: dict[Modality, Preset] = {
    "ct": Preset(TotalVariation(weight=5e-5)),
    "mri": Preset(TotalVariation(weight=4e-5)),
}
"""Tuned on other subjects than the examples', without measurement noise."""
