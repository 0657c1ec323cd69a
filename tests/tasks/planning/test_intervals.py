"""Shipped calibrations are of the priors and the presets that ship, and a plan takes those that hold."""

import pytest

from scoreinv.calibration import Use
from scoreinv.measurement import GaussianNoise, MeasurementSpec, PoissonNoise
from scoreinv.operators.ct import LimitedAngleCT, SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.shipped import calibration_names, prior_contract
from tasks.planning.intervals import intervals_for
from tasks.planning.presets import PRESETS, PresetName
from tasks.workers.calibrate import load_calibration

CT = SparseViewCT(n_views=23)
MRI = CartesianMRI(acceleration=8)


def use(prior: str, measurement: MeasurementSpec, preset: PresetName = "balanced", *, is_exact: bool = False) -> Use:
    contract = prior_contract(prior)
    chosen = PRESETS[contract.image.modality][preset]
    return Use(contract.image, chosen.method, contract.sha256, chosen.n_samples, measurement, is_exact)


@pytest.mark.parametrize("name", calibration_names())
def test_what_ships_is_of_the_prior_and_the_preset_of_today(name: str) -> None:
    """Make it anew where this fails: ``python -m benchmarks.ship_calibration``."""
    prior = name.removesuffix("-checked")
    measurement = CT if prior.startswith("ct") else MRI
    calibration = load_calibration(name)
    assert calibration.mismatch(use(prior, measurement)) is None
    assert calibration.elsewhere(measurement, is_exact=False) == ""
    assert bool(calibration.typical) == name.endswith("-checked")
    found = intervals_for(use(prior, measurement))
    assert (found.calibration, found.is_cross_validated) == (prior, False)
    assert f"of {calibration.n_people} people" in found.why


def test_of_other_views_those_that_are_left_out_tell_how_wide_intervals_are() -> None:
    found = intervals_for(use("ct-128", SparseViewCT(n_views=45)))
    assert (found.calibration, found.is_cross_validated) == ("ct-128-checked", True)
    assert "calibrated at n_views=23 but the data were measured with n_views=45" in found.why
    assert "twice the calls" in found.why


@pytest.mark.parametrize(
    ("prior", "measurement", "why"),
    [
        ("ct-128", SparseViewCT(n_views=23, noise=PoissonNoise(n_photons=1e5)), "noise="),
        ("ct-128", SparseViewCT(n_views=1), "n_views=1"),
        ("ct-128", LimitedAngleCT(n_views=60, arc_degrees=90), "no calibration ships for this prior"),
        ("mri-128", CartesianMRI(acceleration=4), "acceleration=4"),
        ("mri-128", CartesianMRI(acceleration=8, noise=GaussianNoise(noise_std=0.01)), "noise="),
    ],
)
def test_where_none_holds_there_are_none_and_it_says_why(prior: str, measurement: MeasurementSpec, why: str) -> None:
    found = intervals_for(use(prior, measurement))
    assert (found.calibration, found.is_cross_validated) == ("", False)
    assert why in found.why
    assert "`scoreinv calibrate` makes one" in found.why


def test_none_is_taken_for_another_preset_or_for_images_on_the_very_grid() -> None:
    assert (
        "no calibration ships for this prior, preset and kind of data" in intervals_for(use("ct-128", CT, "fast")).why
    )
    assert intervals_for(use("ct-128", CT, is_exact=True)).calibration == ""
