"""What a size changes is told apart from what an image shows."""

import torch
from torch import Tensor

from benchmarks.sizes import SIGMAS, errors_of, middle, rms


def pixelwise(x: Tensor, sigma: Tensor) -> Tensor:
    return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)


def brighter_where_small(x: Tensor, sigma: Tensor) -> Tensor:
    return pixelwise(x, sigma) + 1 / x.shape[-1]


def test_a_denoiser_that_sees_no_size_has_the_same_errors_in_the_common_part_of_two_sizes() -> None:
    larger = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    for denoiser, is_same in ((pixelwise, True), (brighter_where_small, False)):
        small, large = (errors_of(denoiser, middle(larger, side), noise) for side in (8, 16))
        assert small.shape == (len(SIGMAS), 3, 1, 8, 8)
        assert torch.allclose(rms(small, 8), rms(large, 8)) == is_same
