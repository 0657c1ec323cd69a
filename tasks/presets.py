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


def _dds(n_calls: int) -> DDS:
    return DDS(grid=SigmaGrid(n_levels=n_calls, sigma_max=1.0, sigma_min=0.01))


# The data step of DDS takes the noise's deviation from the measurements, so these serve noisy data as well.
PRESETS: dict[Modality, dict[PresetName, Preset]] = {
    "ct": {"fast": Preset(_dds(20)), "balanced": Preset(_dds(50)), "best": Preset(_dds(50), n_samples=8)},
    "mri": {"fast": Preset(_dds(20)), "balanced": Preset(_dds(50)), "best": Preset(_dds(50), n_samples=8)},
}

BASELINES: dict[Modality, Preset] = {
    "ct": Preset(TotalVariation(weight=1e-4)),
    "mri": Preset(TotalVariation(weight=3e-4)),
}
"""Tuned on other subjects than the examples', without measurement noise."""
