"""The table of intervals in other settings: what is held and how wide, as calibrated and as views left out say."""

import torch

from benchmarks.settings import People
from benchmarks.transfer import held
from scoreinv.calibration import ACTIVITIES, Calibration, Estimate
from scoreinv.contract import ImageContract

CT = ImageContract(modality="ct", size=16, pixel_mm=5.0, low=-1000, high=1000)
N_CELLS = 2 * (len(ACTIVITIES) + 1)


def test_widths_follow_what_is_expected_of_each_slice() -> None:
    calibration = Calibration(
        image=CT,
        method={},
        measurement={},
        typical=(0.1,) * N_CELLS,
        bounds=(0.2,),
        levels=(0.9,),
        half_widths=((0.1,) * N_CELLS,),
        covered=(0.9,),
        covered_by_class=((0.9, 0.9),),
        n_people=2,
        n_slices=2,
    )
    images = torch.full((2, 1, 16, 16), 0.5)
    images[..., :4, :] = 0.0
    truth = images.clone()
    # Of the first person half of the body is off by more than the calibrated width, of the second nothing.
    truth[0, ..., 4:10, :] += 0.15
    truth[..., :4, :] = 1.0
    people = People(truth, truth, ["a", "b"], ["a", "b"], CT)
    estimate = Estimate(images, expected=torch.tensor([0.04, 0.01]))
    unscaled = calibration.model_copy(update={"typical": ()})
    plain, scaled = (list(held(one, estimate, people)) for one in (unscaled, calibration))
    assert (plain[0].split(" ")[0], plain[2]) == ("75.0", "200")
    assert (scaled[0].split(" ")[0], scaled[2]) == ("100.0", "300")
