"""The projector of a scan whose matrix is too large to be held: its blocks come from a file of this machine.

Where views are symmetric (``Geometry.fold``) only those that are different are stored. For equispaced parallel beams
this is a quarter of them: an image goes through the file in four positions at once,

    view[v] of x = view[fold.views[v]] of moved(x, fold.moves[v]), reversed where fold.are_reversed[v],

which takes no more time than one position through all views, as each entry that is read serves four products.
"""

from functools import lru_cache

import torch
from torch import Tensor

from scoreinv.operators.geometry import Fold, Geometry, moved, moved_back
from scoreinv.operators.projection_matrix import rows_times
from scoreinv.operators.stored_matrix import stored_matrix

COLUMNS = 8
"""Images that go through the file together, each position of one counted. With more, the products leave the
processor's caches: at 512 pixels, 32 take longer per image than 8."""


def project(geometry: Geometry, x: Tensor) -> Tensor:
    """Sinograms (n, n_views, n_bins) of images (n, size, size)."""
    fold = _fold(geometry)
    return torch.cat([_project(fold, part) for part in torch.split(x, _n_together(fold))])


def backproject(geometry: Geometry, y: Tensor) -> Tensor:
    """Images (n, size, size) of sinograms (n, n_views, n_bins): the exact adjoint."""
    fold = _fold(geometry)
    return torch.cat([_backproject(fold, part) for part in torch.split(y, _n_together(fold))])


@lru_cache(maxsize=32)
def _fold(geometry: Geometry) -> Fold:
    """The geometry's own, or one in which every view is itself."""
    n_views = geometry.data_shape[0]
    return geometry.fold() or Fold(geometry, tuple(range(n_views)), (0,) * n_views, (False,) * n_views)


def _n_together(fold: Fold) -> int:
    return max(1, COLUMNS // len(set(fold.moves)))


def _project(fold: Fold, x: Tensor) -> Tensor:
    moves = sorted(set(fold.moves))
    images = torch.cat([moved(x, move) for move in moves])
    matrix = stored_matrix(fold.geometry, x.dtype, is_transposed=False)
    seen = torch.cat([rows_times(block, images) for block in matrix.blocks(x.device)], dim=1)
    seen = seen.view(len(moves), len(x), *fold.geometry.data_shape)
    y = seen[[moves.index(move) for move in fold.moves], :, list(fold.views)].transpose(0, 1)
    return torch.where(_reversed(fold, x.device), y.flip(-1), y)


def _backproject(fold: Fold, y: Tensor) -> Tensor:
    moves, size = sorted(set(fold.moves)), fold.geometry.size
    y = torch.where(_reversed(fold, y.device), y.flip(-1), y)
    seen = y.new_zeros(len(moves), len(y), *fold.geometry.data_shape)
    for move, part in zip(moves, seen, strict=True):
        chosen = [view for view, its_move in enumerate(fold.moves) if its_move == move]
        part.index_add_(1, torch.tensor([fold.views[view] for view in chosen], device=y.device), y[:, chosen])
    images = _sum_over_blocks(fold.geometry, seen.view(len(moves) * len(y), -1)).view(len(moves), len(y), size, size)
    return torch.stack([moved_back(image, move) for image, move in zip(images, moves, strict=True)]).sum(0)


def _sum_over_blocks(geometry: Geometry, y: Tensor) -> Tensor:
    """Images (n, size * size) of sinograms (n, n_views * n_bins)."""
    images, first = y.new_zeros(len(y), geometry.size**2), 0
    for block in stored_matrix(geometry, y.dtype, is_transposed=True).blocks(y.device):
        images += rows_times(block, y[:, first : first + block.shape[1]])
        first += block.shape[1]
    return images


def _reversed(fold: Fold, device: torch.device) -> Tensor:
    return torch.tensor(fold.are_reversed, device=device)[:, None]
