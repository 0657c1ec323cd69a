"""A GPU with too little memory for a batch: the batch is halved until it fits, and the images are the same."""

from typing import Any

import numpy as np
import pytest
import torch

from tasks.recipes import Reconstruction
from tasks.workers.reconstruct import Inputs, draw_samples


def give_room_for(n_images: int, inputs: Inputs) -> tuple[list[int], Any]:
    """The sizes of the batches that the network sees from now on, and what takes the limit away."""
    seen: list[int] = []

    def require_room(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        seen.append(len(arguments[0]))
        if len(arguments[0]) > n_images:
            raise torch.cuda.OutOfMemoryError

    assert isinstance(inputs.model, torch.nn.Module)
    return seen, inputs.model.register_forward_pre_hook(require_room)


def test_a_batch_that_does_not_fit_is_halved(choice: Reconstruction, inputs: Inputs) -> None:
    """Two samples of six slices, eight at a time, where there is room for three: then two at a time."""
    seen, limit = give_room_for(3, inputs)
    scarce = draw_samples(choice, inputs, 8, lambda fraction: None).samples
    limit.remove()
    assert seen[:2] == [8, 4]
    assert set(seen[2:]) == {2}
    ample = draw_samples(choice, inputs, 8, lambda fraction: None).samples
    np.testing.assert_allclose(scarce, ample, rtol=0, atol=1e-4)


def test_where_not_even_one_image_fits_it_is_said(choice: Reconstruction, inputs: Inputs) -> None:
    _, limit = give_room_for(0, inputs)
    with pytest.raises(MemoryError, match="one image at a time does not fit into the GPU's memory"):
        draw_samples(choice, inputs, 8, lambda fraction: None)
    limit.remove()
