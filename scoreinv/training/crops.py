"""Crops: random squares of training images, with their places.

Every square that lies within the image is equally likely, so that a pixel at the border is seen less often than one in
the middle, where the anatomy is.
"""

import torch
from torch import Tensor

from scoreinv.errors import UserError
from scoreinv.training.data import Batches
from scoreinv.training.device import sent


class CroppedBatches:
    """One random square of each of the images of other batches.

    Args:
        images: batches of images.
        side: of the squares, in pixels.
    """

    def __init__(self, images: Batches, side: int) -> None:
        self.images = images
        self.side = side

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Places (n, 2) and crops (n, n_channels, side, side).

        A place is the way from the middle of the image to that of the crop, in pixels.
        """
        batch = self.images(n, generator)
        images = batch if isinstance(batch, Tensor) else batch[1]
        room = images.shape[-1] - self.side
        if room < 0:
            raise UserError(f"crops of {self.side} pixels do not fit into images of {images.shape[-1]}: lower crop")
        # Drawn and read on the CPU: a GPU would have to be waited for.
        corners = torch.randint(room + 1, (n, 2), generator=generator)
        squares = [_square(one, self.side, corner) for one, corner in zip(images, corners.tolist(), strict=True)]
        return sent((corners - room / 2).to(images.dtype), images.device), torch.stack(squares)


def _square(image: Tensor, side: int, corner: list[int]) -> Tensor:
    row, column = corner
    return image[:, row : row + side, column : column + side]
