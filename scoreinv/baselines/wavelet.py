"""Sparsity in wavelets by FISTA: the method of compressed sensing.

    minimise  1/2 |A x - y|^2 + weight |A|^2 |W x|_1   over x >= 0

(Lustig, Donoho and Pauly 2007, "Sparse MRI"), with W the details of an orthogonal wavelet transform; the coarsest
approximation is free, so that no mean is pulled down. Each gradient step is followed by soft thresholds on W x.

One W leaves the blocks of its grid. So the thresholding is the mean over those of all circular shifts of the grid
(cycle spinning; Coifman and Donoho 1995), which is again the proximal step of one convex function, the proximal
average (Yu 2013), close to the mean of |W x|_1. The mean over all shifts is the undecimated transform: with the
filters l and h of the wavelet over sqrt(2), dilated from scale to scale, their responses satisfy |l|^2 + |h|^2 = 1 at
every frequency, so that the adjoint is the inverse for every image size. It runs in the Fourier domain.

Images of several channels share their thresholds: |W x| is the length over the channels, of complex images the modulus.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.baselines.fista import feasible, fista, weights_under_noise
from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Needs, Step

Family = Literal["haar", "db2", "db4", "sym4", "sym8"]


class Wavelet(Method):
    """Images of few wavelets that explain the data."""

    label: ClassVar[str] = "l1-wavelet"
    needs: ClassVar[Needs] = "nothing"
    is_stochastic: ClassVar[bool] = False
    kind: Literal["wavelet"] = "wavelet"
    version: ClassVar[int] = 2
    weight: float = Field(3e-4, ge=0, description="Of the wavelet coefficients, relative to the squared norm of A.")
    noise_weight: float = Field(
        1.0, ge=0, title="Weight of noise", description="Added to it, relative to the noise that a gradient step adds."
    )
    n_iters: int = Field(200, ge=1)
    family: Family = Field("haar", description="haar suits flat regions, longer filters smooth ones.")
    n_scales: int = Field(4, ge=1, le=8, description="The coarsest wavelets are 2 to this power pixels wide and more.")

    @property
    def n_calls(self) -> int:
        return 0

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        height, width = problem.operator.image_shape[-2:]
        responses = undecimated(height, width, family=self.family, n_scales=self.n_scales).to(problem.y.device)
        weights = weights_under_noise(problem, self.weight, self.noise_weight)
        return fista(problem, lambda v: feasible(shrink(v, weights, responses=responses)), n_iters=self.n_iters)


def shrink(v: Tensor, weight: Tensor | float, *, responses: Tensor) -> Tensor:
    """The mean over all shifts of W of argmin_x 1/2 |x - v|^2 + weight |W x|_1.

    A coefficient of scale j is 2^j times as large in one orthogonal transform as in the undecimated one.

    Args:
        v: images (batch, n_channels, height, width).
        weight: the threshold of one orthogonal transform, one or one for each image (batch, 1, 1, 1).
        responses: of the undecimated transform, from ``undecimated``.
    """
    size, n_scales = v.shape[-2:], len(responses) // 3
    relative = torch.tensor([0.0, *(2.0**-j for j in range(1, n_scales + 1) for _ in range(3))]).to(v)[:, None, None]
    thresholds = relative * torch.as_tensor(weight).to(v)[..., None]
    coefficients = torch.fft.irfft2(torch.fft.rfft2(v)[:, :, None] * responses, s=size)
    small = _at_most(coefficients, thresholds)
    synthesised: Tensor = torch.fft.irfft2((torch.fft.rfft2(small) * responses.conj()).sum(2), s=size)
    return v - synthesised


def _at_most(coefficients: Tensor, thresholds: Tensor) -> Tensor:
    """Coefficients (batch, n_channels, n_responses, height, width), shortened to the thresholds over the channels."""
    if coefficients.shape[1] == 1:
        return coefficients.clamp(-thresholds, thresholds)
    lengths = coefficients.square().sum(1, keepdim=True).sqrt()
    return coefficients * (thresholds / lengths.clamp_min(1e-30)).clamp_max(1)


def undecimated(height: int, width: int, *, family: Family, n_scales: int) -> Tensor:
    """Frequency responses (1 + 3 n_scales, height, width // 2 + 1), complex64; their squares sum to 1.

    First the coarsest approximation, then three details a scale, from fine to coarse, for ``torch.fft.rfft2``.
    """
    # Imported when chosen: where images are only learned from it need not be installed.
    import pywt

    wavelet = pywt.Wavelet(family)
    rows, columns = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
    low = torch.ones(height, width // 2 + 1, dtype=torch.complex128)
    details = []
    for scale in range(n_scales):
        along_rows, along_columns = (
            [response(taps, dilation=2**scale, frequencies=f) for taps in (wavelet.dec_lo, wavelet.dec_hi)]
            for f in (rows, columns)
        )
        approximation, *finer = (low * torch.outer(r, c) for r, c in itertools.product(along_rows, along_columns))
        details += finer
        low = approximation
    return torch.stack([low, *details]).to(torch.complex64)


def response(taps: Sequence[float], *, dilation: int, frequencies: Tensor) -> Tensor:
    """Sum of taps[n] exp(-2 pi i f dilation n) / sqrt(2) at each frequency f, in cycles per pixel."""
    places = dilation * torch.arange(len(taps), dtype=torch.float64)
    waves = torch.exp(-2j * math.pi * torch.outer(frequencies, places))
    return waves @ torch.tensor(taps, dtype=torch.complex128) / math.sqrt(2)
