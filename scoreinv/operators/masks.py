"""Which columns of k-space are acquired: bool masks (size,), true = acquired, the centre at size//2.

Acceleration is all over acquired columns. The central ``n_acs`` columns (auto-calibration signal) are
always acquired. Randomness comes from a private generator, so a mask is a function of its arguments.
"""

import torch
from torch import Tensor

from scoreinv.errors import UserError

DENSITY_POWER = 2.0
"""Of the polynomial sampling density (1 - |k| / k_max)^power (Lustig, Donoho and Pauly 2007 use 1 to 6)."""


def n_columns(size: int, acceleration: float) -> int:
    """How many columns of ``size`` are acquired."""
    return max(1, round(size / acceleration))


def default_n_acs(size: int, acceleration: float) -> int:
    """8 % of the columns at fourfold and 4 % at eightfold acceleration (Zbontar et al. 2018, arXiv:1811.08839)."""
    return max(1, round(0.32 * size / acceleration))


def paper_mask(size: int, n_keep: int, *, n_acs: int | None = None) -> Tensor:
    """The equispaced mask of Song et al. 2022 (arXiv:2111.08005), after the rule of fastMRI.

    Of 240 columns, ``n_keep`` = 10, 30 and 60 gives 10, 31 and 60 columns. The centre holds
    size * n_keep / 1000 of them; the others follow at a distance that makes up for it.

    Raises:
        ValueError: if the centre alone is as many columns as are to be kept.
    """
    low = max(1, round(size * n_keep / 1000)) if n_acs is None else n_acs
    if low >= n_keep:
        raise UserError(
            f"the paper's mask keeps {low} central columns, which must be fewer than the {n_keep} of {size} that "
            "are kept in all: lower n_acs or the acceleration, or choose another pattern"
        )
    wanted = size / n_keep
    distance = wanted * (low - size) / (low * wanted - size)
    columns = torch.arange(round(distance) // 2, size - 1, distance, dtype=torch.float64).round().long()
    mask = _centre(size, low)
    mask[columns] = True
    return mask


def equispaced_mask(size: int, n_keep: int, *, n_acs: int) -> Tensor:
    """Exactly ``n_keep`` columns: the centre, and the rest at even distances over what is left."""
    mask, outside = _centre_and_outside(size, n_keep, n_acs)
    n_rest = n_keep - n_acs
    mask[outside[((torch.arange(n_rest) + 0.5) * len(outside) / max(n_rest, 1)).long()]] = True
    return mask


def random_mask(size: int, n_keep: int, *, n_acs: int, seed: int) -> Tensor:
    """Exactly ``n_keep`` columns: the centre, and the rest drawn without preference."""
    return _drawn(size, n_keep, n_acs=n_acs, seed=seed, power=0.0)


def variable_density_mask(size: int, n_keep: int, *, n_acs: int, seed: int) -> Tensor:
    """Exactly ``n_keep`` columns: the centre, and the rest drawn more densely near it."""
    return _drawn(size, n_keep, n_acs=n_acs, seed=seed, power=DENSITY_POWER)


def _drawn(size: int, n_keep: int, *, n_acs: int, seed: int, power: float) -> Tensor:
    mask, outside = _centre_and_outside(size, n_keep, n_acs)
    if n_keep > n_acs:
        density = (1 - (outside - size // 2).abs() / (size // 2 + 1)) ** power
        drawn = torch.multinomial(density, n_keep - n_acs, generator=torch.Generator().manual_seed(seed))
        mask[outside[drawn]] = True
    return mask


def _centre(size: int, n_acs: int) -> Tensor:
    start = (size - n_acs + 1) // 2
    mask = torch.zeros(size, dtype=torch.bool)
    mask[start : start + n_acs] = True
    return mask


def _centre_and_outside(size: int, n_keep: int, n_acs: int) -> tuple[Tensor, Tensor]:
    if n_acs > n_keep:
        raise UserError(f"n_acs={n_acs} is more than the {n_keep} of {size} columns that are acquired: lower it")
    mask = _centre(size, n_acs)
    return mask, torch.nonzero(~mask).flatten()
