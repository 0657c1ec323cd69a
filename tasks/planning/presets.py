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
from scoreinv.samplers.start import GradedTVStart, TVStart

PresetName = Literal["fast", "balanced", "best"]


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
    grid = SigmaGrid(n_levels=n_calls, sigma_max=0.3, sigma_min=0.01, spacing="geometric")
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


_GRADED = GradedTVStart(weight=4e-5, n_iters=200, n_inner=3, factor=8.0)


def dds_ct(n_calls: int) -> DDS:
    """DDS for CT as it was tuned on held-out people."""
    grid = SigmaGrid(n_levels=n_calls, sigma_max=0.3, sigma_min=0.003)
    # Without noise only data_floor / strength counts. Under noise, a strength of 0.8 is 1.0 dB better than 2.0 with
    # the same ratio (4 slices of held-out people; `scoreinv tune` found 0.79 under noise).
    return DDS(
        grid=grid,
        data_floor=2e-4,
        symmetry="flip",
        renoise=Renoise(temperature=0.6, fresh_above=0.22),
        n_cg=7,
        strength=0.8,
    )


def dds_mri(n_calls: int) -> DDS:
    """DDS for MRI as it was tuned on held-out people."""
    # From the TV image rather than the zero-filled one: 1.3 dB better without skull (people held out), 0.3 dB with it
    # (people the prior has seen), 8 slices each. Below this first level TV's ghosts outside the head survive, so only
    # what TV seems to have found begins lower: every image at eight times the error that its start seems to have. It
    # ends at a quarter of its first level: levels further down take it to the prior's own errors. Against 5 times, a
    # last level of 0.005, more fresh noise and temperature 0.6: 0.4 to 1.2 dB on held-out heads, imitations of other
    # contrasts, small ends, and stripped FLAIR.
    grid = SigmaGrid(n_levels=n_calls, sigma_max=0.3, sigma_min=0.08)
    # The strength matters for noisy data alone: at 1, such high last levels leave noise in the background.
    return DDS(
        grid=grid,
        start=_GRADED,
        symmetry="flip",
        renoise=Renoise(temperature=0.75, fresh_above=0.29),
        strength=0.3,
    )


# All are one image, near the truth and without a spread (benchmarks/results/few_calls.md says how they were found). 50
# calls of DDS, which `best` was, are 0.2 dB worse than 20 of these at 23 views and 2.0 dB at 90 (held-out people); the
# mean of eight gains little. For a spread take DAPS, or DDS with fresh noise at all levels and temperature 1, and for
# intervals a calibration. The data steps take the noise's deviation from the data, so all serve noisy data as well.
PRESETS: dict[Modality, dict[PresetName, Preset]] = {
    "ct": {"fast": Preset(ct(10)), "balanced": Preset(ct(20)), "best": Preset(ct(50))},
    "mri": {"fast": Preset(mri(10)), "balanced": Preset(mri(20)), "best": Preset(mri(50))},
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


OF_CALLS: dict[Modality, Callable[[int], AnyMethod]] = {"ct": ct, "mri": mri}
"""The preset of one image with other numbers of calls."""

BASELINES: dict[Modality, Preset] = {
    "ct": Preset(TotalVariation(weight=5e-5)),
    "mri": Preset(TotalVariation(weight=4e-5)),
}
"""Tuned on other subjects than the examples', without measurement noise, which they follow by themselves."""

WAVELETS: dict[Modality, Wavelet] = {"ct": Wavelet(weight=1e-4), "mri": Wavelet(weight=3e-4)}
"""The other classical method, tuned as the baselines were."""


def _grid(sigma_max: float, sigma_min: float) -> SigmaGrid:
    return SigmaGrid(n_levels=50, sigma_max=sigma_max, sigma_min=sigma_min)


_LONG = SigmaGrid(n_levels=50, sigma_max=1.0, sigma_min=0.005, spacing="geometric")
_DPIR = SigmaGrid(n_levels=50, sigma_max=0.15, sigma_min=0.003, spacing="geometric")
_WARM = TVStart(weight=4e-5, n_iters=200)

SOLVERS: dict[Modality, tuple[AnyMethod, ...]] = {
    "ct": (
        DiffPIR(
            grid=_grid(0.18, 0.009),
            strength=0.15,
            symmetry="flip",
            renoise=Renoise(eta=0.995, temperature=0.7, fresh_above=0.132),
            data_floor=1.2e-3,
        ),
        DPIR(grid=_DPIR, data_floor=1e-3, symmetry="flip", strength=1.0, n_cg=7),
        DAPS(grid=_grid(0.26, 0.002), symmetry="flip", renoise=Renoise(temperature=0.7), data_floor=8e-4),
        PiGDM(grid=_grid(0.5, 0.005), symmetry="flip", renoise=Renoise(temperature=0.7, fresh_above=0.367)),
        DPS(
            grid=_grid(0.11, 0.005),
            zeta=4.4,
            symmetry="flip",
            renoise=Renoise(eta=0.89, temperature=0.7, fresh_above=0.0807),
        ),
        REDDiff(grid=_grid(0.58, 0.01), strength=2.1, rate=0.01, data_floor=1.4e-2),
        ScoreSDE(grid=_LONG, rate=0.55, snr=0.72),
        Langevin(grid=_LONG, rate=0.55, snr=0.72),
        LangevinProjection(grid=_LONG, strength=1.0, snr=0.386),
        Projection(grid=_LONG, strength=0.95, snr=0.78),
        dds_ct(50),
    ),
    "mri": (
        DiffPIR(
            grid=_grid(0.11, 0.005),
            start=_WARM,
            strength=1.5,
            symmetry="flip",
            renoise=Renoise(eta=0.975, temperature=0.7),
            data_floor=1.1e-3,
        ),
        DPIR(grid=_DPIR, start=_WARM, data_floor=1e-3, symmetry="flip", strength=1.0, n_cg=7),
        DAPS(grid=_grid(0.11, 0.025), start=_WARM, data_floor=3.2e-3),
        PiGDM(grid=_grid(0.11, 0.025), start=_WARM, renoise=Renoise(eta=0.51)),
        DPS(grid=_grid(0.11, 0.005), start=_WARM, zeta=4.4, renoise=Renoise(eta=0.89)),
        REDDiff(grid=_grid(0.27, 0.001), start=_WARM, strength=0.14, rate=0.01, data_floor=1.4e-2),
        ScoreSDE(grid=_LONG, rate=0.55, snr=0.72),
        Langevin(grid=_LONG, rate=0.55, snr=0.72),
        LangevinProjection(grid=_LONG, strength=0.83, snr=0.79),
        Projection(grid=_LONG, strength=0.58, snr=0.72),
        dds_mri(50),
    ),
}
"""Every other solver with what ``scoreinv tune`` found for it without noise: 7 to 16 trials of 50 levels (the last four
67 or 100, CT's Projection 200) on 2 to 4 slices of held-out people, MRI with the prior after 52,000 images. Their own
defaults suit a posterior that is known; images want a lower first level and less noise. Mirrored calls, a low
temperature and fresh noise at the first levels alone, which all samplers that add noise have, give 0.1 to 2.4 dB more
(3 slices of held-out people); where they were tried and gave nothing they are left out. DPIR has 12 trials in CT."""

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
