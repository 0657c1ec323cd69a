"""The presets a plan chooses from: the numbers to tune are all here.

What one costs is not written here: a plan times it where it would run.
"""

from typing import Literal, NamedTuple

from scoreinv.baselines import Direct, TotalVariation, Wavelet
from scoreinv.contract import Modality
from scoreinv.methods import AnyMethod
from scoreinv.samplers import (
    DAPS,
    DDS,
    DPS,
    DiffPIR,
    Langevin,
    LangevinProjection,
    PiGDM,
    Projection,
    REDDiff,
    ScoreSDE,
)
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
    # From the TV image rather than the zero-filled one: 0.4 dB better without skull, 0.7 dB with it.
    grid = SigmaGrid(n_levels=n_calls, sigma_max=0.2, sigma_min=0.005)
    return DDS(grid=grid, start=TotalVariation(weight=4e-5, n_iters=200))


# The data step of DDS takes the noise's deviation from the measurements, so these serve noisy data as well.
PRESETS: dict[Modality, dict[PresetName, Preset]] = {
    "ct": {"fast": Preset(_ct(20)), "balanced": Preset(_ct(50)), "best": Preset(_ct(50), n_samples=8)},
    "mri": {"fast": Preset(_mri(20)), "balanced": Preset(_mri(50)), "best": Preset(_mri(50), n_samples=8)},
}

CT_TV, MRI_TV = TotalVariation(weight=5e-5), TotalVariation(weight=4e-5)
BASELINES: dict[Modality, Preset] = {"ct": Preset(CT_TV), "mri": Preset(MRI_TV)}
"""Tuned on other subjects than the examples', without measurement noise."""

_SHORT = SigmaGrid(n_levels=50, sigma_max=0.5, sigma_min=0.005)
_LONG = SigmaGrid(n_levels=50, sigma_max=1.0, sigma_min=0.005, spacing="geometric")


def _compared(tv: TotalVariation, dds: DDS, *, floor: float, strength: float) -> tuple[AnyMethod, ...]:
    return (
        Direct(),
        tv,
        Wavelet(weight=1e-4),
        dds,
        DiffPIR(grid=_SHORT, zeta=1.0),
        DAPS(grid=_SHORT),
        PiGDM(grid=_SHORT),
        DPS(grid=_SHORT),
        REDDiff(grid=_SHORT, noise_floor=floor),
        ScoreSDE(grid=_LONG),
        Langevin(grid=_LONG),
        LangevinProjection(grid=_LONG),
        Projection(grid=_LONG, strength=strength, snr=0.2),
    )


COMPARED: dict[Modality, tuple[AnyMethod, ...]] = {
    "ct": _compared(CT_TV, _ct(50), floor=1e-2, strength=0.9),
    "mri": _compared(MRI_TV, _mri(50), floor=3e-2, strength=1.0),
}
"""Every method with the numbers it is compared with, for any number of levels: of one network call each, or a few."""
