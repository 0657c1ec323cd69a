"""Contracts turn image values into attenuation, and say why a prior does not fit the data."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from scoreinv.contract import (
    WATER_PER_MM,
    ImageContract,
    ModelContract,
    PriorContract,
    ReconstructorContract,
    parse_contract,
)
from scoreinv.measurement import MeasurementSpec, PoissonNoise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI

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
        ({"size": 320}, "256 pixels of 1.5 mm but the data have 320 of 1.5 mm: ingest the data with size=256 and"),
        ({"low": -1024.0}, "low=-1000.0 but the data have low=-1024.0"),
        ({"high": 3200.0}, "high=1000.0 but the data have high=3200.0"),
        ({"n_channels": 2}, "n_channels=1 but the data have n_channels=2"),
        (
            {"pixel_mm": 1.3},
            "but the data have 256 of 1.3 mm: ingest the data with size=256 and pixel_mm=1.5, or choose another",
        ),
        ({"pixel_mm": 1.7}, "a side of 256 pixels of 1.5 mm but the data have 256 of 1.7 mm"),
    ],
)
def test_a_mismatch_names_the_field_both_values_and_the_remedy(change: dict[str, Any], message: str) -> None:
    said = prior().mismatch(CT.model_copy(update=change))
    assert said is not None
    assert message in said


@pytest.mark.parametrize("pixel_mm", [1.4, 1.6])
def test_pixels_may_differ_by_a_tenth(pixel_mm: float) -> None:
    assert prior().mismatch(CT.model_copy(update={"pixel_mm": pixel_mm})) is None


def test_a_prior_may_serve_a_range_of_sizes_at_its_pixel_size() -> None:
    wide = PriorContract.model_validate(prior().model_dump() | {"sizes": (128, 512)})
    assert (prior().served_sizes(), wide.served_sizes()) == ((256, 256), (128, 512))
    for size in (128, 200, 512):
        assert wide.mismatch(CT.model_copy(update={"size": size})) is None
    for change in ({"size": 120}, {"size": 513}, {"pixel_mm": 3.0}):
        said = wide.mismatch(CT.model_copy(update=change))
        assert said is not None
        assert "for images with a side of 128 to 512 pixels of 1.5 mm" in said
    assert parse_contract(wide.model_dump_json().encode()) == wide


@pytest.mark.parametrize("sizes", [(300, 512), (64, 128)])
def test_a_range_without_the_priors_own_size_is_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match="must hold the prior's own size=256"):
        PriorContract.model_validate(prior().model_dump() | {"sizes": sizes})


@pytest.mark.parametrize("change", [{"size": 4}, {"pixel_mm": 0}, {"modality": "pet"}, {"spacing": 1}], ids=str)
def test_impossible_contracts_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        ImageContract.model_validate(CT.model_dump() | change)


def test_a_prior_contract_survives_json() -> None:
    assert PriorContract.model_validate_json(prior().model_dump_json()) == prior()


def test_a_contract_from_before_there_were_reconstructors_is_a_priors() -> None:
    old = prior().model_dump(mode="json", exclude={"kind"})
    del old["image"]["n_channels"]
    assert parse_contract(json.dumps(old).encode()) == prior()
    with pytest.raises(ValueError, match="measurement"):
        parse_contract(json.dumps({**old, "kind": "reconstructor"}).encode())
    with pytest.raises(ValueError, match="valid dictionary"):
        parse_contract(b"[]")


FEW_VIEWS = SparseViewCT(n_views=23)


def reconstructor(measurement: MeasurementSpec = FEW_VIEWS) -> ReconstructorContract:
    """One for these images and this measurement."""
    shared = prior().model_dump(include=set(ModelContract.model_fields) - {"kind"})
    return ReconstructorContract(**shared, measurement=measurement.model_dump(mode="json"))


def test_a_reconstructor_serves_its_measurement_and_says_which_others_it_does_not() -> None:
    contract = parse_contract(reconstructor().model_dump_json().encode())
    assert isinstance(contract, ReconstructorContract)
    assert contract == reconstructor()
    assert contract.other_measurement(SparseViewCT(n_views=23)) is None
    said = contract.other_measurement(SparseViewCT(n_views=60))
    assert said is not None
    assert "reconstructor 'chest' was trained for n_views=23 but the data were measured with n_views=60" in said
    said = contract.other_measurement(CartesianMRI())
    assert said is not None
    assert "trained for kind=sparse_view_ct but the data were measured with kind=cartesian_mri" in said
    assert contract.other_measurement(SparseViewCT(noise=PoissonNoise(n_photons=1e4))) is not None
    said = contract.mismatch(MRI)
    assert said is not None
    assert "or choose another reconstructor" in said


def test_options_that_came_later_are_at_their_default_in_an_old_contract() -> None:
    old = reconstructor().model_copy(update={"measurement": {"kind": "sparse_view_ct", "n_views": 23}})
    assert old.other_measurement(FEW_VIEWS) is None
    assert old.other_measurement(FEW_VIEWS.model_copy(update={"n_full": 100})) is not None
