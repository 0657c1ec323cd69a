"""How honest posterior samples are: do they spread as much as they err, and do they explain the data?

Samples are (n_samples, batch, n_channels, height, width), the truth (batch, n_channels, height, width). The checks are
exact for any number of samples: if truth and samples come from one Gaussian, coverage is nominal and
the spread-skill ratio is 1.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from scoreinv.linalg import spread
from scoreinv.problem import InverseProblem

Interval = Literal["gaussian", "quantile"]


class Ensemble(NamedTuple):
    """What is kept of K samples: their mean and deviation, (batch, n_channels, height, width), and K.

    The variance is the sum of squares over K - 1.
    """

    mean: Tensor
    std: Tensor
    n_samples: int


def coverage(
    samples: Tensor, truth: Tensor, *, levels: Sequence[float], interval: Interval, mask: Tensor | None = None
) -> Tensor:
    """Share of pixels whose truth lies in the central interval of each nominal level, (n_levels, batch).

    Args:
        samples: (n_samples, batch, n_channels, height, width).
        truth: (batch, n_channels, height, width).
        levels: nominal probabilities, such as 0.9.
        interval: ``gaussian``: mean +- t s sqrt(1 + 1/K) with Student's t for K - 1 degrees of freedom, which
            predicts one more draw of a Gaussian from K draws. ``quantile``: between the samples' quantiles at
            the plotting positions rank / (K + 1), which needs no shape but more samples.
        mask: bool, broadcasts to the truth: the pixels that count. Air is easy, and there is much of it.

    Raises:
        ValueError: if shapes do not fit, a level is not between 0 and 1, or K is too small for a level.
    """
    samples, truth = _checked(samples, truth)
    if interval == "gaussian":
        ensemble = ensemble_of(samples)
        return torch.stack([ensemble_coverage(ensemble, truth, level=level, mask=mask) for level in levels])
    bounds = (_quantile_bounds(samples, level) for level in levels)
    return torch.stack([_share_between(low, high, truth, mask) for low, high in bounds])


def ensemble_of(samples: Tensor) -> Ensemble:
    """Mean and deviation of samples (n_samples, batch, n_channels, height, width)."""
    _require_samples(samples)
    return Ensemble(samples.mean(0), samples.std(0), len(samples))


def ensemble_coverage(ensemble: Ensemble, truth: Tensor, *, level: float, mask: Tensor | None = None) -> Tensor:
    """``coverage`` with the Gaussian interval of one level, from mean and deviation alone, (batch,)."""
    from scipy.special import stdtrit  # half a second, which a command may not need

    _require_level(level)
    mean, std, truth = _checked_ensemble(ensemble, truth)
    n = ensemble.n_samples
    half = float(stdtrit(n - 1, (1 + level) / 2)) * (1 + 1 / n) ** 0.5 * std
    return _share_between(mean - half, mean + half, truth, mask)


def ensemble_spread_skill(ensemble: Ensemble, truth: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """``spread_skill`` from mean and deviation alone, (batch,)."""
    mean, std, truth = _checked_ensemble(ensemble, truth)
    variance = _masked_mean(std**2, mask) * (ensemble.n_samples + 1) / ensemble.n_samples
    return (variance / _masked_mean((mean - truth) ** 2, mask)).sqrt()


def spread_skill(samples: Tensor, truth: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Spread over error, sqrt((K + 1) / K * mean variance) / RMSE of the mean, (batch,); 1 is right.

    Below 1 the samples are too sure, above 1 too unsure. The factor (K + 1) / K corrects for the error of a
    mean of K samples (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1).
    """
    samples, truth = _checked(samples, truth)
    return ensemble_spread_skill(ensemble_of(samples), truth, mask=mask)


def data_residual(images: Tensor, problem: InverseProblem) -> Tensor:
    """The mean of |A x - y|^2 / noise_std^2 over the m real numbers that were measured, (batch,).

    At the truth it is 1 within +- sqrt(2 / m). Below 1 the noise was fitted, above 1 the data are not explained.
    What the operator never reaches, such as unacquired k-space, does not count.

    Raises:
        ValueError: if data are noiseless.
    """
    if bool((problem.noise_std <= 0).any()):
        least = float(problem.noise_std.min())
        raise ValueError(f"a data residual in units of the noise needs noise, got noise_std={least:g}")
    deviations = spread(problem.noise_std, problem.y) if problem.noise_std.ndim == 1 else problem.noise_std
    ratio = problem.residual(images) / deviations
    parts = torch.view_as_real(ratio) if ratio.is_complex() else ratio[..., None]
    reached = _reached(problem)[..., None].expand_as(parts)
    squares = parts.double().square() * reached
    return squares.flatten(1).sum(1) / reached.flatten(1).sum(1)


def _reached(problem: InverseProblem) -> Tensor:
    """Bool (batch, *data_shape): where white noise as an image leaves a trace in the data."""
    probe = torch.randn(1, *problem.operator.image_shape, generator=torch.Generator().manual_seed(0))
    n_images = problem.operator.n_images
    reached = problem.operator.forward(probe.to(problem.y.device).expand(n_images, -1, -1, -1)).abs() > 0
    return reached.expand(len(problem.y), *problem.operator.data_shape)


def _share_between(low: Tensor, high: Tensor, truth: Tensor, mask: Tensor | None) -> Tensor:
    return _masked_mean(((low <= truth) & (truth <= high)).double(), mask)


def _quantile_bounds(samples: Tensor, level: float) -> tuple[Tensor, Tensor]:
    _require_level(level)
    ranks = (len(samples) + 1) * (1 - level) / 2 - 1
    if ranks < -1e-9:
        needed = math.ceil(2 / (1 - level) - 1 - 1e-9)
        raise ValueError(f"a {level:.0%} interval of quantiles needs {needed} samples, got {len(samples)}")
    ordered = samples.sort(0).values
    whole = int(ranks + 1e-9)
    share = max(ranks - whole, 0.0)
    low = torch.lerp(ordered[whole], ordered[whole + 1], share)
    high = torch.lerp(ordered[-1 - whole], ordered[-2 - whole], share)
    return low, high


def _masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    weights = torch.ones_like(x) if mask is None else mask.to(x).expand_as(x)
    return (x * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


def _checked(samples: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    _require_samples(samples)
    if samples.shape[1:] != truth.shape:
        raise ValueError(
            f"samples have shape {tuple(samples.shape)}, the truth {tuple(truth.shape)}: "
            "samples need one axis more, in front"
        )
    return samples.double(), truth.double()


def _checked_ensemble(ensemble: Ensemble, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if ensemble.n_samples < 2:
        raise ValueError(f"a deviation needs 2 samples or more, got n_samples={ensemble.n_samples}")
    if not ensemble.mean.shape == ensemble.std.shape == truth.shape:
        raise ValueError(
            f"mean {tuple(ensemble.mean.shape)}, deviation {tuple(ensemble.std.shape)} and truth {tuple(truth.shape)} "
            "must have one shape"
        )
    return ensemble.mean.double(), ensemble.std.double(), truth.double()


def _require_samples(samples: Tensor) -> None:
    if samples.ndim != 5 or len(samples) < 2:
        raise ValueError(
            f"need 2 samples or more, (n_samples, batch, n_channels, height, width), got {tuple(samples.shape)}"
        )


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a nominal level lies between 0 and 1, got {level}")
