"""Random numbers that belong to a slice, not to a batch.

Every draw comes from a generator that is seeded by (seed, slice, sample) alone, so that a result does
not change with batch size, order, worker count or retries (the habit of Karras et al. 2024,
arXiv:2312.02696). Draws are made on the CPU and then moved, so that all devices see the same noise.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Standard normal draws for a batch, one independent stream for each (slice, sample)."""

    def __init__(self, seed: int, slices: Sequence[str], samples: Sequence[int] | None = None) -> None:
        """Open the streams of a batch.

        Args:
            seed: of the run.
            slices: the identity of the slice in each place of the batch.
            samples: which posterior sample each place holds; all 0 if not given.

        Raises:
            ValueError: if the two sequences differ in length.
        """
        samples = [0] * len(slices) if samples is None else samples
        if len(samples) != len(slices):
            raise ValueError(f"{len(slices)} slices need as many sample indices, got {len(samples)}")
        self._generators = [_generator(seed, name, sample) for name, sample in zip(slices, samples, strict=True)]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, shape: Sequence[int], *, device: torch.device | None = None) -> Tensor:
        """Standard normal draws (batch, *shape), float32."""
        return torch.stack([torch.randn(*shape, generator=g) for g in self._generators]).to(device)

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal draws with the shape, dtype and device of ``x`` (batch, ...)."""
        if x.is_complex():
            parts = self.normal((*x.shape[1:], 2), device=x.device)
            return torch.view_as_complex(parts).to(x.dtype)
        return self.normal(x.shape[1:], device=x.device).to(x.dtype)

    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson draws with the given rates (batch, ...)."""
        draws = [torch.poisson(r.cpu(), generator=g) for r, g in zip(rate, self._generators, strict=True)]
        return torch.stack(draws).to(rate.device)


def _generator(seed: int, name: str, sample: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}/{sample}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
