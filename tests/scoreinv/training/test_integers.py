"""Images become integers only where these give every value back."""

import pytest
import torch

from scoreinv.training.augment import Augmentation
from scoreinv.training.data import ImageBatches
from scoreinv.training.integers import Integers, as_integers


def lattice(scale: int, *, n: int = 5) -> torch.Tensor:
    """Images of whole numbers from 0 to ``scale``, both among them, over ``scale``, the first one black."""
    whole = torch.randint(scale + 1, (n, 1, 16, 16), generator=torch.Generator().manual_seed(scale))
    whole[0], whole[1, 0, 0, :2] = 0, torch.tensor([0, scale])
    return whole / scale


@pytest.mark.parametrize("scale", [1, 255, 1000, 2000, 4095, 32767, 32768, 65535])
def test_every_value_comes_back(scale: int) -> None:
    images = lattice(scale)
    found = as_integers(images)
    assert found is not None
    assert found.values.dtype == torch.int16
    assert torch.equal(found.images(torch.arange(len(images))), images)


def test_images_that_are_no_integers_stay_as_they_are() -> None:
    images = lattice(2000)
    resampled = torch.nn.functional.avg_pool2d(images, 3)
    assert as_integers(resampled) is None
    # One value alone, far from those in which the scale is looked for.
    images = lattice(2000, n=700)
    images[650, 0, 3, 7] += 1e-4
    assert as_integers(images) is None
    assert as_integers(lattice(65536)) is None
    assert as_integers(-lattice(1000)) is None


def test_batches_of_integers_are_those_of_the_images() -> None:
    images, weights = lattice(1000, n=9), torch.ones(9, dtype=torch.float64)
    integers = as_integers(images)
    assert isinstance(integers, Integers)
    drawn = [
        ImageBatches(kept, 8, weights=weights, augmentation=Augmentation(), device=torch.device("cpu"))(
            4, torch.Generator().manual_seed(3)
        )
        for kept in (images, integers)
    ]
    assert torch.equal(*drawn)
    with pytest.raises(ValueError, match="9 images came with 3 weights"):
        ImageBatches(integers, 8, weights=weights[:3], augmentation=Augmentation(), device=torch.device("cpu"))
