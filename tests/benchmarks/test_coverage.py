"""The table of coverage: names of classes, and people who count alike."""

import torch

from benchmarks.coverage import class_names, table
from scoreinv.calibration import ACTIVITIES, Calibration, Estimate
from scoreinv.contract import ImageContract

IMAGE = ImageContract(modality="ct", size=32, pixel_mm=4.0, low=-1000, high=1000)
BOUNDS = (0.025, 0.25, 0.425, 0.6, 0.65)


def calibration(half_width: float) -> Calibration:
    n = (len(BOUNDS) + 1) * (len(ACTIVITIES) + 1)
    return Calibration(
        image=IMAGE,
        method={"kind": "tv"},
        measurement={"kind": "sparse_view_ct"},
        bounds=BOUNDS,
        half_widths=((half_width,) * n,) * 3,
        covered=(0.8, 0.9, 0.95),
        covered_by_class=((0.8,) * 6, (0.9,) * 6, (None,) * 6),
        n_people=3,
        n_slices=3,
    )


def test_classes_are_called_by_their_tissue_or_their_range() -> None:
    assert class_names("ct") == ["air", "lung", "-500 to -150 HU", "soft tissue", "200 to 300 HU", "bone"]
    assert class_names("mri")[:2] == ["below 0.05", "0.05 to 0.15"]


def test_a_person_of_many_slices_counts_as_one_of_few() -> None:
    """Three slices of one person are all outside, the one of another is inside: half of the people are covered."""
    images = torch.full((4, 1, 32, 32), 0.5)
    truth = images + torch.tensor([0.2, 0.2, 0.2, 0.0]).view(4, 1, 1, 1)
    lines = list(table(calibration(0.1), Estimate(images), truth, ["a", "a", "a", "b"], "ct"))
    (soft,) = (line for line in lines if line.startswith("| soft tissue"))
    assert soft == "| soft tissue | 50.0 | 50.0 | 50.0 | 200 | 2 |"
