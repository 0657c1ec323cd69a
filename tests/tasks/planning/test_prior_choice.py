"""Which prior is chosen, and what is said where none fits."""

import re
from pathlib import Path

import pytest

from scoreinv.contract import ImageContract, Modality, PriorContract
from storage.fingerprint import Fingerprint
from storage.models import shipped
from tasks.planning.prior_choice import choose_prior, grid_for, known_priors, misfit
from tests.tasks import tiny

CT = ImageContract(modality="ct", size=128, pixel_mm=3.5, low=-1000, high=1000)


def prior(image: ImageContract, *, images_seen: int = 1000) -> PriorContract:
    return PriorContract(
        name="some",
        image=image,
        network={},
        preconditioning={},
        sigma_min=0.01,
        sigma_max=50,
        training_data=[],
        licence="CC0",
        images_seen=images_seen,
        sha256="0",
    )


def images(
    modality: Modality = "ct", *, width: float = 440, pixel: float = 0.86, values: tuple[float, float] = (-500, 900)
) -> Fingerprint:
    """Of one image size; values evenly spread."""
    low, high = values
    return Fingerprint(
        modality=modality,
        n_slices=8,
        n_volumes=2,
        n_subjects=2,
        is_complete=True,
        rows=(512, 512, 512),
        columns=(512, 512, 512),
        pixel_mm=(pixel, pixel, pixel),
        width_mm=(width, width, width),
        body_values=tuple(low + (high - low) * k / 1000 for k in range(1001)),
        rejected=(),
    )


def changed(**changes: float | str) -> PriorContract:
    return prior(CT.model_copy(update=changes))


BETTER = {
    "modality": (changed(), changed(modality="mri", low=0, high=1)),
    "window": (changed(high=1000), changed(high=400)),
    "field of view": (changed(), changed(pixel_mm=4.5)),
    "detail": (changed(size=256, pixel_mm=1.75), changed()),
    "training": (prior(CT, images_seen=2000), prior(CT, images_seen=1000)),
    "window before detail": (changed(), changed(size=256, pixel_mm=1.75, high=400)),
}


@pytest.mark.parametrize(("better", "worse"), BETTER.values(), ids=BETTER)
def test_the_better_of_two_is_chosen_in_any_order(better: PriorContract, worse: PriorContract) -> None:
    for priors in ({"better": better, "worse": worse}, {"worse": worse, "better": better}):
        assert choose_prior(priors, images(), None).name == "better"


def test_the_others_that_fit_are_named() -> None:
    priors = {"a": changed(), "b": changed(high=400), "c": changed(modality="mri")}
    assert choose_prior(priors, images(), None).others == ("b",)


MISFITS = {
    "modality": (images("mri"), "it is for ct"),
    "narrow": (images(width=240), "its field of view is 448 mm wide, these are 240 mm"),
    "wide": (images(width=800), "its field of view is 448 mm wide, these are 800 mm"),
    "coarse": (images(pixel=8), "its pixels are 3.5 mm, these are 8 mm"),
}


@pytest.mark.parametrize(("found", "reason"), MISFITS.values(), ids=MISFITS)
def test_where_none_fits_each_is_named_with_the_reason_and_training_is_explained(
    found: Fingerprint, reason: str
) -> None:
    with pytest.raises(ValueError, match="no prior fits") as error:
        choose_prior({"mine": changed()}, found, None)
    assert f"(mine: {reason})" in str(error.value)
    named = re.search(r"copy (\S+/prior-(\w+)-\d+\.yaml)", str(error.value))
    assert named
    assert named[2] == found.modality
    assert Path(named[1]).is_file()
    with pytest.raises(ValueError, match="there is none at all"):
        choose_prior({}, found, None)


@pytest.mark.parametrize(("width", "size"), [(440, 128), (240, 80), (800, 240), (100, 64), (2000, 256)])
def test_a_prior_of_several_sizes_serves_the_one_whose_field_of_view_is_nearest(width: float, size: int) -> None:
    """Its own as long as that fits; 2000 and 100 mm are more and less than the range can show."""
    several = changed().model_copy(update={"sizes": (64, 256)})
    found = images(width=width)
    assert grid_for(several, found).size == size
    assert grid_for(changed(), found) == CT
    assert (misfit(several, found, None) is None) == (240 <= width <= 800)
    assert misfit(several, found, CT.model_copy(update={"size": 200})) is None


def test_a_grid_that_is_fixed_decides_alone() -> None:
    """The images of a data set are as they are, however wide their source was."""
    priors = {"mine": changed()}
    assert choose_prior(priors, images(width=240), CT).name == "mine"
    with pytest.raises(ValueError, match="128 pixels of 3.5 mm but the data have 64 of 3.5 mm"):
        choose_prior(priors, images(), CT.model_copy(update={"size": 64}))


def test_known_are_those_that_ship_and_those_that_were_published_here(tmp_path: Path) -> None:
    tiny.prior(tmp_path / "priors" / "abc" / "prior")
    (tmp_path / "priors" / "unfinished").mkdir()
    found = known_priors(str(tmp_path))
    assert set(found) == {*shipped(), "priors/abc"}
    assert found["priors/abc"].image == tiny.MRI
