"""The table of widenings: a larger gain holds a lesion that data tell of, and people are covered as often."""

import torch

from benchmarks.lesions import LESIONS, planted
from benchmarks.settings import People
from benchmarks.widening import table
from scoreinv.calibration import Estimate
from scoreinv.contract import ImageContract
from scoreinv.operators.ct import SparseViewCT

SIZE, N = 64, 12
CT = ImageContract(modality="ct", size=SIZE, pixel_mm=5.0, low=-1000, high=1000)


def test_a_larger_gain_holds_the_lesion_and_covers_people_as_often() -> None:
    axis = torch.arange(2 * SIZE) - SIZE + 0.5
    fine = ((axis**2 + axis[:, None] ** 2 < 50**2).float() * 0.5).expand(N, 1, -1, -1)
    images = torch.nn.functional.avg_pool2d(fine, 2)
    names = [str(i) for i in range(N)]
    people = People(images, fine, names, names, CT)
    noise = 1e-3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    (lesion,) = (one for one in LESIONS["ct"] if one.name("ct") == "soft tissue, 15 mm, +60 HU")
    given = planted(lesion, people, SparseViewCT(n_views=23))
    assert given is not None
    # The images have nothing of the lesion, and the data tell of a tenth of it.
    seen = Estimate(images + noise, lacks=0.1 * (given.truth - images))
    plain = Estimate(images + noise, lacks=torch.zeros_like(images))
    name = lesion.name("ct")
    rows = [line.split(" | ") for line in table([0.0, 12.0], plain, people, {name: given}, {name: seen})]
    assert rows[0][-1].removesuffix(" |") == name
    (none, held), covered = ([row[-1].removesuffix(" |") for row in rows[2:]], {row[1] for row in rows[2:]})
    assert (none, held) == ("0 %", "100 %")
    assert len(covered) == 1
    assert 0.9 <= float(covered.pop().removesuffix("%")) / 100 < 0.95
