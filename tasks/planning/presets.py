"""The presets a plan chooses from: the numbers to tune are all here.

What one costs is not written here: a plan times it where it would run.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from scoreinv.baselines import CGLS, Direct, TotalVariation, Wavelet
from scoreinv.measurement import AnyNoise, GaussianNoise, PoissonNoise
from scoreinv.methods import AnyMethod
from scoreinv.modality import Modality
from scoreinv.samplers import (
    DAPS,
    DDS,
    DPIR,
    DPS,
    Bregman,
    DiffPIR,
    Langevin,
    LangevinProjection,
    PiGDM,
    Projection,
    REDDiff,
    ScoreSDE,
)
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from scoreinv.samplers.start import DirectStart, GradedTVStart, TVStart

PresetName = Literal["fast", "balanced", "best", "samples"]


class Preset(NamedTuple):
    """A method, and how many of its samples make the image."""

    method: AnyMethod
    n_samples: int = 1


def ct(n_calls: int) -> Bregman:
    """The preset of CT with so many calls."""
    # From FBP, at a first level above what noise of 1e4 photons leaves in it: 0.1 is 0.1 dB better without noise and
    # 6 dB worse on the noisiest of the held-out people. The relaxation helps 10 calls without noise (0.7: 0.1 dB more),
    # but smooths noisy images, and the more so the more calls. A memory of 0.8 is 0.1 dB better at 23 views without
    # noise and 1.1 dB worse at 1e4 photons (held-out people).
    grid = _falling(n_calls)
    relaxation = 0.3 if n_calls < 20 else 0.0
    return Bregman(grid=grid, symmetry="flip", memory=0.6, relaxation=relaxation, first_noise=0.0, n_cg=7)


def mri(n_calls: int) -> Bregman:
    """The preset of MRI with so many calls."""
    # From the TV image rather than the zero-filled one, with half the noise of a level at which the network leaves TV's
    # ghosts. Where TV has found nearly all, an image begins lower, at eight times the error that its start seems to
    # have. A last level of 0.08 gives the same PSNR but leaves noise in the background (0.02 of SSIM). More calls bear
    # more memory.
    grid = SigmaGrid(n_levels=n_calls, sigma_max=0.2, sigma_min=0.05)
    memory = 0.8 if n_calls < 20 else 0.85
    return Bregman(grid=grid, start=_GRADED, symmetry="flip", memory=memory, relaxation=0.8, first_noise=0.5)


def samples(modality: Modality) -> Preset:
    """The preset whose samples lie about as far apart as their mean errs."""
    # All noise is fresh and whole: calm samples agree more than they are right. From a first level of 0.1, intervals of
    # MRI hold 78 % in place of 85 (``python -m benchmarks.options --samples 8``, held-out people).
    start = _WARM if modality == "mri" else DirectStart()
    return Preset(DAPS(grid=_falling(_CALLS["best"]), start=start), n_samples=8)


def _falling(n_levels: int) -> SigmaGrid:
    return SigmaGrid(n_levels=n_levels, sigma_max=0.3, sigma_min=0.01, spacing="geometric")


_WARM = TVStart(weight=4e-5, n_iters=200)
_GRADED = GradedTVStart(weight=_WARM.weight, n_iters=_WARM.n_iters, n_inner=3, factor=8.0)

# All are one image, near the truth and without a spread (benchmarks/results/few_calls.md says how they were found). 50
# calls of DDS, which `best` was, are 0.2 dB worse than 20 of these at 23 views and 2.0 dB at 90 (held-out people); the
# mean of eight gains little. For intervals take a calibration. The data steps take the noise's deviation from the data,
# so all serve noisy data as well.
_CALLS: dict[PresetName, int] = {"fast": 10, "balanced": 20, "best": 50}

OF_CALLS: dict[Modality, Callable[[int], AnyMethod]] = {"ct": ct, "mri": mri}
"""The preset of one image with other numbers of calls."""

PRESETS: dict[Modality, dict[PresetName, Preset]] = {
    modality: {name: Preset(of_calls(n)) for name, n in _CALLS.items()} | {"samples": samples(modality)}
    for modality, of_calls in OF_CALLS.items()
}

LEAST_PHOTONS, MOST_NOISE = 1e4, 0.03
"""The noisiest data that presets were tried at (benchmarks/settings.py)."""


def noise_note(noise: AnyNoise) -> str:
    """Whether data are noisier than any that presets were tried at, in a sentence; empty if not."""
    if isinstance(noise, PoissonNoise) and noise.n_photons < LEAST_PHOTONS:
        return f"presets were tried with {LEAST_PHOTONS:g} photons and more: with fewer, look at what they make of it"
    if isinstance(noise, GaussianNoise) and noise.noise_std > MOST_NOISE:
        return f"presets were tried up to noise_std={MOST_NOISE:g}: with more noise, look at what they make of it"
    return ""


BASELINES: dict[Modality, Preset] = {
    "ct": Preset(TotalVariation(weight=5e-5)),
    "mri": Preset(TotalVariation(weight=4e-5)),
}
"""Tuned on other subjects than the examples', without measurement noise, which they follow by themselves."""

WAVELETS: dict[Modality, Wavelet] = {"ct": Wavelet(weight=1e-4), "mri": Wavelet(weight=3e-4)}
"""The other classical method, tuned as the baselines were."""


_SHORT = SigmaGrid(n_levels=50, sigma_max=0.1, sigma_min=0.01, spacing="geometric")
_LONG = SigmaGrid(n_levels=50, sigma_max=1.0, sigma_min=0.005, spacing="geometric")
_DPIR = SigmaGrid(n_levels=50, sigma_max=0.15, sigma_min=0.003, spacing="geometric")
_CALM = Renoise(temperature=0.7)


def _solvers(modality: Modality) -> tuple[AnyMethod, ...]:
    start = _WARM if modality == "mri" else DirectStart()
    # Guided by a likelihood, MRI wants all of the noise: calm, PiGDM loses 1.1 dB and DPS 2.6; CT gains 3.3 and 0.3.
    guided = Renoise() if modality == "mri" else _CALM
    # Whoever replaces data trusts those of CT more: Algorithm 2 gains 1.6 dB there (4 held-out people).
    trust = {"strength": 0.95, "snr": 0.78} if modality == "ct" else {"strength": 0.58, "snr": 0.72}
    return (
        DiffPIR(grid=_SHORT, start=start, symmetry="flip", renoise=_CALM, data_floor=1e-3),
        DPIR(grid=_DPIR, start=start, data_floor=1e-3, symmetry="flip", strength=1.0, n_cg=7),
        DAPS(grid=_SHORT, start=start, symmetry="flip", renoise=_CALM),
        PiGDM(grid=_SHORT, start=start, symmetry="flip", renoise=guided),
        DPS(grid=_SHORT, start=start, zeta=4.4, symmetry="flip", renoise=guided),
        REDDiff(grid=_SHORT, start=start, rate=0.01),
        ScoreSDE(grid=_LONG, rate=0.55, snr=0.72),
        Langevin(grid=_LONG, rate=0.55, snr=0.72),
        LangevinProjection(grid=_LONG, strength=0.83, snr=0.79),
        Projection(grid=_LONG, **trust),
        _dds(modality),
    )


def _dds(modality: Modality) -> DDS:
    """What the presets were before Bregman, as near to the truth as any with fresh noise: at the first levels alone."""
    start, grid = (_GRADED if modality == "mri" else DirectStart()), _falling(_CALLS["best"])
    if modality == "mri":
        grid = grid.model_copy(update={"sigma_min": 0.08})
    renoise = Renoise(temperature=_CALM.temperature, fresh_above=0.29)
    return DDS(grid=grid, start=start, data_floor=1e-3, symmetry="flip", renoise=renoise)


SOLVERS: dict[Modality, tuple[AnyMethod, ...]] = {"ct": _solvers("ct"), "mri": _solvers("mri")}
"""Every other solver without noise, 50 levels. Their own defaults suit a posterior that is known; images want a lower
first level and less noise. One grid, mirrored calls and a temperature serve nearly all, in both modalities: against
options that ``scoreinv tune`` found for each alone, DiffPIR, RED-diff, PiGDM and DDS are up to 1.2 dB better, DAPS 0.3
dB worse in CT and 1.0 better in MRI, DPS 0.5 worse in CT (4 slices of held-out people; ``python -m benchmarks.options``
tries one at a time)."""

PAPER: dict[Modality, tuple[str, ...]] = {
    "ct": ("projection",),
    "mri": ("langevin", "score_sde", "langevin_projection", "projection"),
}
"""The samplers that Song et al. 2022 compare, by their kind."""

COMPARED: dict[Modality, tuple[AnyMethod, ...]] = {
    modality: (
        Direct(),
        CGLS(),
        BASELINES[modality].method,
        WAVELETS[modality],
        *others,
        PRESETS[modality]["balanced"].method,
    )
    for modality, others in SOLVERS.items()
}
"""Every method; the preset is the last."""
