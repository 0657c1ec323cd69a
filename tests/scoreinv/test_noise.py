"""Draws belong to (purpose, seed, slice, sample) and to nothing else, and have the moments they should."""

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import torch

from scoreinv.noise import Noise, Purpose, stream


def test_a_slice_sees_the_same_noise_in_every_batch() -> None:
    alone, together = Noise(0, ["b"]), Noise(0, ["a", "b", "c"])
    for _ in range(3):
        assert torch.equal(alone.normal((2, 3))[0], together.normal((2, 3))[1])


def test_all_kinds_of_draws_are_the_same_in_every_batch() -> None:
    alone, together = Noise(7, ["b"], [2]), Noise(7, ["a", "b"], [0, 2])
    assert torch.equal(
        alone.normal_like(torch.zeros(1, 5, dtype=torch.complex64))[0],
        together.normal_like(torch.zeros(2, 5, dtype=torch.complex64))[1],
    )
    assert torch.equal(alone.poisson(torch.full((1, 9), 30.0))[0], together.poisson(torch.full((2, 9), 30.0))[1])


def test_the_order_of_the_batch_does_not_matter() -> None:
    forth, back = Noise(0, ["a", "b"], [0, 1]).normal((4,)), Noise(0, ["b", "a"], [1, 0]).normal((4,))
    assert torch.equal(forth, back.flip(0))


@pytest.mark.parametrize(
    "other", [Noise(1, ["a"]), Noise(0, ["b"]), Noise(0, ["a"], [1]), Noise(0, ["a"], purpose="measurement")]
)
def test_other_keys_give_uncorrelated_draws(other: Noise) -> None:
    n = 100_000
    pair = torch.cat([Noise(0, ["a"]).normal((n,)), other.normal((n,))])
    assert abs(pair.corrcoef()[0, 1].item()) < 4 / math.sqrt(n)


def test_names_with_slashes_are_not_taken_for_samples() -> None:
    assert not torch.equal(Noise(0, ["a/1"], [0]).normal((4,)), Noise(0, ["a"], [1]).normal((4,)))


def test_purposes_have_streams_of_their_own() -> None:
    first = {tuple(Noise(0, ["a"], purpose=purpose).normal((4,))[0].tolist()) for purpose in get_args(Purpose)}
    assert len(first) == len(get_args(Purpose))


def test_the_streams_of_a_purpose_begin_anew_whatever_was_drawn_before() -> None:
    noise = Noise(3, ["a", "b"], [1, 0])
    noise.normal((7,))
    again = noise.of("measurement").normal((5,))
    assert torch.equal(again, Noise(3, ["a", "b"], [1, 0], purpose="measurement").normal((5,)))


def test_names_and_seeds_may_be_anything() -> None:
    names = ["", "a", 'a"', "a,0", "ä", "name\udce4", "a\n", "0"]
    draws = [Noise(seed, [name]).normal((4,)) for name in names for seed in (-1, 0, 2**32, 2**80)]
    assert len({tuple(draw[0].tolist()) for draw in draws}) == len(draws)


def test_the_whole_state_of_a_stream_is_a_hash_of_its_key() -> None:
    """torch's own seeding would keep 32 bits of it."""
    key = json.dumps(["sampling", 5, "a", 2], separators=(",", ":")).encode()
    words = np.frombuffer(hashlib.shake_256(key).digest(4 * 624), "<u4")
    state = np.random.MT19937()
    state.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    # Of the raw 32 bits torch keeps 24 for a uniform number in single precision.
    expected = (state.random_raw(1000) & 0xFFFFFF) / 2**24
    drawn = torch.rand(1000, generator=stream("sampling", 5, "a", 2))
    np.testing.assert_array_equal(drawn.numpy(), expected.astype(np.float32))


def test_no_two_of_400_000_streams_are_the_same() -> None:
    """A seed of 32 bits would give about 19 pairs; the first 128 bits of the states tell the streams apart here."""
    text = '["sampling",0,"slice {}",{}]'
    states = {
        hashlib.shake_256(text.format(name, sample).encode()).digest(16)
        for name in range(50_000)
        for sample in range(8)
    }
    assert len(states) == 400_000
    drawn = {torch.rand(8, generator=stream("sampling", 0, f"slice {i}", 0)).numpy().tobytes() for i in range(10_000)}
    assert len(drawn) == 10_000


def test_streams_are_uncorrelated_with_each_other() -> None:
    """Over 300 streams of 2,000 numbers the correlations are as small as those of independent numbers."""
    n_streams, n = 300, 2000
    draws = Noise(0, [str(i) for i in range(n_streams)]).normal((n,)).double()
    above = draws.corrcoef()[torch.triu_indices(n_streams, n_streams, 1).unbind()]
    assert float(above.std()) == pytest.approx(n**-0.5, rel=0.03)
    assert float(above.abs().max()) < 6 * n**-0.5


def test_successive_draws_differ() -> None:
    noise = Noise(0, ["a"])
    assert not torch.equal(noise.normal((4,)), noise.normal((4,)))


def test_normal_draws_have_the_moments_of_a_standard_normal() -> None:
    n = 200_000
    draws = Noise(0, ["a"]).normal((n,)).double()
    moments = [draws.pow(k).mean().item() for k in (1, 2, 3, 4)]
    deviations = [math.sqrt(v / n) for v in (1, 2, 15, 96)]  # of the mean of the k-th power: E x^2k - (E x^k)^2
    for moment, expected, deviation in zip(moments, (0, 1, 0, 3), deviations, strict=True):
        assert moment == pytest.approx(expected, abs=4 * deviation)


def test_complex_draws_have_unit_deviation_in_both_parts() -> None:
    n = 100_000
    draws = Noise(0, ["a"]).normal_like(torch.zeros(1, n, dtype=torch.complex64))
    parts = torch.view_as_real(draws)[0].T
    assert draws.shape == (1, n)
    torch.testing.assert_close(parts.cov(), torch.eye(2), atol=0.02, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_draws_take_shape_and_dtype_of_their_model(dtype: torch.dtype) -> None:
    like = torch.zeros(2, 1, 3, 4, dtype=dtype)
    draws = Noise(0, ["a", "b"]).normal_like(like)
    assert (draws.shape, draws.dtype) == (like.shape, dtype)


def test_double_precision_sees_the_noise_of_single_precision() -> None:
    single = Noise(0, ["a"]).normal_like(torch.zeros(1, 50))
    double = Noise(0, ["a"]).normal_like(torch.zeros(1, 50, dtype=torch.float64))
    assert torch.equal(single.double(), double)


@pytest.mark.parametrize("rate", [0.5, 40.0])
def test_poisson_draws_have_mean_and_variance_of_their_rate(rate: float) -> None:
    n = 100_000
    draws = Noise(0, ["a"]).poisson(torch.full((1, n), rate))
    assert draws.mean().item() == pytest.approx(rate, abs=4 * math.sqrt(rate / n))
    assert draws.var().item() == pytest.approx(rate, rel=0.03)
    assert torch.equal(draws, draws.round())


def test_every_slice_needs_a_sample_index() -> None:
    with pytest.raises(ValueError, match="2 slices need as many sample indices, got 1"):
        Noise(0, ["a", "b"], [0])


def test_the_number_of_streams_is_the_batch() -> None:
    assert len(Noise(0, ["a", "a", "b"], [0, 1, 0])) == 3


def test_what_is_drawn_ahead_is_what_would_have_been_drawn():
    """Whether or not the next draw is of the shape that was expected."""

    def draws(*, ahead: bool) -> list[torch.Tensor]:
        noise, made = Noise(3, ["a", "b"], [0, 5]), []
        for shape in ((1, 4, 4), (1, 4, 4), (2, 3), (1, 4, 4)):
            made.append(noise.normal(shape))
            if ahead:
                noise.draw_ahead((1, 4, 4))
        made.append(noise.poisson(torch.full((2, 5), 7.0)))
        made.append(noise.normal_like(torch.zeros(2, 3, dtype=torch.complex64)))
        return made

    for plain, ahead in zip(draws(ahead=False), draws(ahead=True), strict=True):
        assert torch.equal(plain, ahead)


def test_a_draw_that_was_made_ahead_is_not_made_again(monkeypatch: pytest.MonkeyPatch):
    noise, threads = Noise(0, ["a"]), []
    drawn = Noise._draw

    def recorded(self: Noise, shape: Sequence[int]) -> torch.Tensor:
        threads.append(threading.current_thread() is threading.main_thread())
        return drawn(self, shape)

    monkeypatch.setattr(Noise, "_draw", recorded)
    noise.draw_ahead((1, 4, 4))
    noise.normal((1, 4, 4))
    assert threads == [False]
    noise.normal((1, 4, 4))
    assert threads == [False, True]
