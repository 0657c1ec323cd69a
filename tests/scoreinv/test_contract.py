"""Contracts turn image values into attenuation, and say why a prior does not fit the data."""

from typing import Any

import pytest
from pydantic import ValidationError

from scoreinv.contract import WATER_PER_MM, ImageContract, PriorContract

CT = ImageContract(modality="ct", size=256, pixel_mm=1.5, low=-1000, high=1000)
MRI = ImageContract(modality="mri", size=256, pixel_mm=1.5, low=0, high=1)


def prior(image: ImageContract = CT) -> PriorContract:
    """A prior for these images."""
    return PriorContract(
        name="chest",
        image=image,
        network={"kind": "ncsnpp"},
        preconditioning={"kind": "ve"},
        sigma_min=0.01,
        sigma_max=128,
        training_data=["LIDC (CC BY 3.0)"],
        licence="Apache-2.0",
        images_seen=1000,
        sha256="0" * 64,
    )


def test_a_pixel_of_water_attenuates_as_water_does() -> None:
    water = (0 - CT.low) / (CT.high - CT.low)
    assert water * CT.attenuation_per_pixel() == pytest.approx(WATER_PER_MM * 1.5)


def test_the_window_does_not_change_what_water_attenuates() -> None:
    wide = CT.model_copy(update={"high": 3000.0})
    assert 1000 / 4000 * wide.attenuation_per_pixel() == pytest.approx(0.5 * CT.attenuation_per_pixel())


def test_attenuation_needs_ct_values_that_vanish_in_air() -> None:
    with pytest.raises(ValueError, match="got mri with low=0"):
        MRI.attenuation_per_pixel()
    with pytest.raises(ValueError, match=r"got ct with low=-500"):
        CT.model_copy(update={"low": -500.0}).attenuation_per_pixel()


def test_data_under_the_priors_own_contract_fit() -> None:
    assert prior().mismatch(CT) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "mri"}, "prior 'chest' was trained for modality=ct but the data have modality=mri"),
        ({"size": 320}, "ingest the data with size=256, or choose another prior"),
        ({"low": -1024.0}, "low=-1000.0 but the data have low=-1024.0"),
        ({"high": 3200.0}, "high=1000.0 but the data have high=3200.0"),
        ({"pixel_mm": 1.3}, "1.5 mm a pixel but the data have 1.3 mm: ingest the data at 1.5 mm"),
        ({"pixel_mm": 1.7}, "1.5 mm a pixel but the data have 1.7 mm"),
    ],
)
def test_a_mismatch_names_the_field_both_values_and_the_remedy(change: dict[str, Any], message: str) -> None:
    said = prior().mismatch(CT.model_copy(update=change))
    assert said is not None
    assert message in said


@pytest.mark.parametrize("pixel_mm", [1.4, 1.6])
def test_pixels_may_differ_by_a_tenth(pixel_mm: float) -> None:
    assert prior().mismatch(CT.model_copy(update={"pixel_mm": pixel_mm})) is None


@pytest.mark.parametrize("change", [{"size": 4}, {"pixel_mm": 0}, {"modality": "pet"}, {"spacing": 1}], ids=str)
def test_impossible_contracts_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        ImageContract.model_validate(CT.model_dump() | change)


def test_a_prior_contract_survives_json() -> None:
    assert PriorContract.model_validate_json(prior().model_dump_json()) == prior()
