"""Random numbers that belong to a slice, not to a batch.

Every draw comes from a stream that is opened by (purpose, seed, slice, sample) alone, so that a result does not change
with batch size, order, worker count or retries (the habit of Karras et al. 2024, arXiv:2312.02696). The purpose keeps
apart what must be independent: a sampler that drew the very noise of the data it explains would find it there again.
Draws are made on the CPU and then moved, so that all devices see the same noise. While a GPU works on one level, the
noise of the next is drawn in a thread beside it: eight images of 512 x 512 take 0.1 s.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Purpose = Literal["measurement", "context", "sampling", "training", "picture", "timing"]
"""What the numbers of a stream are for; streams of different purposes are independent. A trial of a tuning samples with
the streams of a reconstruction, so that the best recipe gives the very images that were scored."""

_WORDS = slice(24, 24 + 8 * 624)
"""Where torch keeps the 624 words of its Mersenne Twister, each in 8 bytes, in a generator's state."""


class _Ahead(NamedTuple):
    """Draws that are being made before anybody asked for them, and where the streams stood before."""

    shape: tuple[int, ...]
    draws: "Future[Tensor]"
    states: list[Tensor]


class Noise:
    """Standard normal draws for a batch, one independent stream for each (slice, sample)."""

    def __init__(
        self, seed: int, slices: Sequence[str], samples: Sequence[int] | None = None, *, purpose: Purpose = "sampling"
    ) -> None:
        """Open the streams of a batch.

        Args:
            seed: of the run.
            slices: the identity of the slice in each place of the batch.
            samples: which posterior sample each place holds; all 0 if not given.
            purpose: what the draws are for.

        Raises:
            ValueError: if the two sequences differ in length.
        """
        samples = [0] * len(slices) if samples is None else samples
        if len(samples) != len(slices):
            raise ValueError(f"{len(slices)} slices need as many sample indices, got {len(samples)}")
        self._seed, self._keys = seed, list(zip(slices, samples, strict=True))
        self._generators = [stream(purpose, seed, name, sample) for name, sample in self._keys]
        self._ahead: _Ahead | None = None

    def __len__(self) -> int:
        return len(self._generators)

    def of(self, purpose: Purpose) -> "Noise":
        """The streams of the same seed, slices and samples for a purpose, from their beginning."""
        names, samples = [name for name, _ in self._keys], [sample for _, sample in self._keys]
        return Noise(self._seed, names, samples, purpose=purpose)

    def normal(self, shape: Sequence[int], *, device: torch.device | None = None) -> Tensor:
        """Standard normal draws (batch, *shape), float32."""
        draws = self._drawn_ahead(tuple(shape))
        if draws is None:
            draws = self._draw(shape)
        if device is not None and device.type != "cpu":
            self.draw_ahead(shape)
        return draws.to(device)

    def draw_ahead(self, shape: Sequence[int]) -> None:
        """Begin to draw what the next ``normal`` of this shape returns; whatever is asked for, it stays the same."""
        self._rewind()
        states = [g.get_state() for g in self._generators]
        self._ahead = _Ahead(tuple(shape), _drawer().submit(self._draw, shape), states)

    def _draw(self, shape: Sequence[int]) -> Tensor:
        return torch.stack([torch.randn(*shape, generator=g) for g in self._generators])

    def _drawn_ahead(self, shape: tuple[int, ...]) -> Tensor | None:
        """What was drawn ahead, if it is of this shape; else the streams stand where they would without it."""
        if self._ahead is None or self._ahead.shape != shape:
            self._rewind()
            return None
        draws, self._ahead = self._ahead.draws.result(), None
        return draws

    def _rewind(self) -> None:
        if self._ahead is not None:
            self._ahead.draws.result()
            for generator, state in zip(self._generators, self._ahead.states, strict=True):
                generator.set_state(state)
            self._ahead = None

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal draws with the shape, dtype and device of ``x`` (batch, ...)."""
        if x.is_complex():
            parts = self.normal((*x.shape[1:], 2), device=x.device)
            return torch.view_as_complex(parts).to(x.dtype)
        return self.normal(x.shape[1:], device=x.device).to(x.dtype)

    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson draws with the given rates (batch, ...)."""
        self._rewind()
        draws = [torch.poisson(r.cpu(), generator=g) for r, g in zip(rate, self._generators, strict=True)]
        return torch.stack(draws).to(rate.device)


def stream(purpose: Purpose, *key: int | str) -> torch.Generator:
    """A generator whose whole state, 19,968 bits, is a hash of a purpose and a key.

    torch itself keeps the low 32 bits of a seed, so that of 400,000 seeds about twenty pairs give the same numbers.
    Here two streams are the same only where SHAKE-256 gives the same 2,496 bytes for two keys, which nobody has seen.
    """
    text = json.dumps([purpose, *key], separators=(",", ":"))
    words = np.frombuffer(hashlib.shake_256(text.encode()).digest(4 * 624), "<u4")
    state = _unused_state().copy()
    state[_WORDS] = words.astype(np.uint64).view(np.uint8)
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(state))
    return generator


@lru_cache(maxsize=1)
def _drawer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="noise")


@lru_cache(maxsize=1)
def _unused_state() -> np.ndarray:
    """The state of a generator that has drawn nothing.

    Raises:
        RuntimeError: if this torch keeps it in another way than the known ones.
    """
    state: np.ndarray = torch.Generator().manual_seed(5489).get_state().numpy()
    # The generator's authors seed it with 5489 by default; these are the first words that follow.
    if state[_WORDS].view(np.uint64)[:2].tolist() != [5489, 1301868182]:
        raise RuntimeError(
            f"torch {torch.__version__} keeps the state of its random numbers in a way that is not known here: "
            "install a version that this package was tested with"
        )
    return state
