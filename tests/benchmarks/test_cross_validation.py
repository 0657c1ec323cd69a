"""The table of what views that are left out tell: what is expected is near what is true, and ranks people alike."""

import pytest
import torch

from benchmarks.cross_validation import table
from benchmarks.settings import People, settings_named
from scoreinv.contract import ImageContract
from scoreinv.denoiser import MixtureDenoiser

SIZE, N = 32, 4
CT = ImageContract(modality="ct", size=SIZE, pixel_mm=12.0, low=-1000, high=1000)


def test_what_is_expected_is_near_what_is_true_and_ranks_people_alike() -> None:
    axis = torch.arange(2 * SIZE) - SIZE + 0.5
    disc = (axis**2 + axis[:, None] ** 2 < 25**2).float()
    # The prior knows discs of a half; people have them brighter and brighter, which it pulls down.
    fine = torch.stack([disc * (0.5 + 0.1 * i) for i in range(N)])[:, None]
    images = torch.nn.functional.avg_pool2d(fine, 2)
    names = [str(i) for i in range(N)]
    people = People(images, fine, names, names, CT)
    prior = MixtureDenoiser(images[:1, 0], 0.05)
    row = list(table(settings_named("ct", ["23 views, 1e6 photons"]), people, prior))[-1]
    expected, whole, part, below, rank = row.strip("| ").split(" | ")[1:]
    assert abs(float(expected) - float(part)) < 3
    # The three numbers are rounded each.
    assert float(below.split(" ± ")[0][1:]) == pytest.approx(abs(float(whole) - float(expected)), abs=0.011)
    assert float(rank) > 0.7
