"""The shipped priors with the presets on the shipped slices: what nobody may lose by a tenth of a decibel unseen.

Two slices of two people whom the priors have not seen, 128 x 128, with data simulated on a finer grid. The numbers are
those of the code as it is (``python -m tests.test_quality`` prints them); another machine changes the third decimal.
Who makes them better writes the better ones down.
"""

import pytest
import torch

from scoreinv.measurement import GaussianNoise, MeasurementSpec, PoissonNoise, simulate
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.priors import load_prior
from scoreinv.problem import InverseProblem, Method, reconstruct
from tasks.planning.presets import BASELINES, PRESETS
from tests.test_priors import images

NAMES = ["a", "b"]
TOLERANCE_DB = 0.05

MEASUREMENTS: dict[str, MeasurementSpec] = {
    "ct": SparseViewCT(n_views=23),
    "ct at 1e4 photons": SparseViewCT(n_views=23, noise=PoissonNoise(n_photons=1e4)),
    "mri": CartesianMRI(acceleration=8),
    "mri with noise": CartesianMRI(acceleration=8, noise=GaussianNoise(noise_std=0.02)),
}

FOUND: dict[tuple[str, str], list[float]] = {
    ("ct", "fast"): [32.86, 35.21],
    ("ct", "balanced"): [33.0, 35.26],
    ("ct", "tv"): [27.32, 30.16],
    ("ct at 1e4 photons", "fast"): [31.15, 32.76],
    ("ct at 1e4 photons", "tv"): [26.42, 28.72],
    ("mri", "fast"): [24.91, 32.86],
    ("mri", "balanced"): [26.45, 33.28],
    ("mri", "tv"): [20.77, 21.07],
    ("mri with noise", "fast"): [26.06, 30.76],
    ("mri with noise", "tv"): [21.67, 20.49],
}
"""PSNR in dB of both slices, by measurement and method."""


def method_of(name: str, spec: MeasurementSpec) -> Method:
    """The baseline, or a preset by its name."""
    return BASELINES[spec.modality].method if name == "tv" else PRESETS[spec.modality][name].method  # type: ignore[index]


def measured(measurement: str, method: str) -> list[float]:
    """PSNR in dB of both slices."""
    spec = MEASUREMENTS[measurement]
    model, contract = load_prior(f"{spec.modality}-128")
    fine, truth = (images(contract, fine_factor=factor)[[1, 6]] for factor in (2, 1))
    problem = InverseProblem.of(spec, simulate(spec, fine, contract.image, Noise(0, NAMES)), contract.image)
    with torch.no_grad():
        x = reconstruct(method_of(method, spec), problem, model, noise=Noise(0, NAMES)).x.clamp(0, 1)
    return psnr(x, truth, data_range=1.0).tolist()


@pytest.mark.parametrize(("measurement", "method"), FOUND)
def test_no_preset_has_lost_a_tenth_of_a_decibel(measurement: str, method: str):
    assert measured(measurement, method) == pytest.approx(FOUND[measurement, method], abs=TOLERANCE_DB)


if __name__ == "__main__":
    for key in FOUND:
        print(f"    {key}: {[round(value, 2) for value in measured(*key)]},".replace("'", '"'), flush=True)
