"""Where pixels lie, as two channels that a network can be told.

The unit is half the side of the images that the network was trained on, -1 and 1 at the middles of their outermost
pixels: at the same pixel size it is the same number of millimetres in images of any size. Larger images go on beyond
+-1, and a crop has the coordinates of its place in the whole image.
"""

import torch
from torch import Tensor


def position_of(x: Tensor, size: int = 0, place: Tensor | None = None) -> Tensor:
    """Row and column of every pixel of images x (batch, n_channels, height, width), (batch, 2, height, width).

    Args:
        x: the images; only their shape, type and device are used.
        size: pixels along each side of the trained images; 0: as many as x has.
        place: of the middle of each image, from the middle of the whole one that it was cut from, in pixels (batch, 2).
    """
    rows, columns = (_axis(x, n, size or n) for n in x.shape[-2:])
    position = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(len(x), -1, -1, -1)
    if place is None:
        return position
    unit = x.new_tensor([2 / max((size or n) - 1, 1) for n in x.shape[-2:]])
    return position + (place.to(x) * unit)[:, :, None, None]


def _axis(x: Tensor, n: int, size: int) -> Tensor:
    """n places one pixel apart, about 0; for n = size exactly those from -1 to 1."""
    return torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) * ((n - 1) / max(size - 1, 1))
