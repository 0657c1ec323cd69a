"""Image metrics against scikit-image, closed forms and stored values.

The stored values were computed with numpy and scikit-image alone.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from scoreinv.metrics.image import (
    class_errors,
    inscribed_circle,
    nmse,
    psnr,
    published_scores,
    scale_error,
    ssim,
    volume_psnr,
)


def grid(size: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, size, dtype=torch.float64)] * 2, indexing="ij")
    return rows, columns


def three_images(size: int = 64) -> Tensor:
    """A disc in air, a grating and a ramp, (3, 1, size, size), in [0, 1]."""
    rows, columns = grid(size)
    disc = 0.55 * (rows**2 + columns**2 < 0.6) + 0.2 * ((rows - 0.2) ** 2 + columns**2 < 0.05)
    grating = 0.5 + 0.4 * torch.sin(9 * rows) * torch.cos(5 * columns)
    ramp = (rows + columns + 2) / 4
    return torch.stack([disc, grating, ramp])[:, None]


def disturbed(truth: Tensor) -> Tensor:
    """The images with a deterministic error that has structure, an offset and values outside [0, 1]."""
    rows, columns = grid(truth.shape[-1])
    error = 0.05 * torch.sin(40 * rows + 11 * columns) + 0.02 * columns - 0.01
    return truth + torch.tensor([1.0, 0.5, 2.0])[: len(truth)].view(-1, 1, 1, 1) * error


@pytest.mark.parametrize("data_range", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(64, 64), (41, 70)])
def test_ssim_equals_the_interior_of_skimage(shape: tuple[int, int], data_range: float) -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64).cumsum(-1) / shape[1]
    images = truth + 0.1 * torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    _, full = structural_similarity(images[0, 0].numpy(), truth[0, 0].numpy(), data_range=data_range, **options)
    assert float(ssim(images, truth, data_range=data_range)) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-12)


def test_psnr_of_a_known_error() -> None:
    truth = torch.zeros(2, 1, 16, 16)
    images = torch.stack([truth[0] + 0.1, truth[1] + 0.01])
    torch.testing.assert_close(
        psnr(images, truth, data_range=1.0), torch.tensor([20.0, 40.0]).double(), rtol=0, atol=1e-5
    )
    more = 20 * math.log10(2000)
    torch.testing.assert_close(psnr(images, truth, data_range=2000.0), more + torch.tensor([20.0, 40.0]).double())


def test_a_volumes_range_changes_the_scale_and_clips() -> None:
    """CT on [-1000, 1000] HU of volumes up to 3071: the same error counts 6.2 dB more."""
    truth, error = torch.full((3, 1, 16, 16), 0.5), 0.1
    lowest, highest = torch.tensor([0.0, 0.0, 0.4]), torch.tensor([1.0, 4071 / 2000, 0.55])
    found = volume_psnr(truth + error, truth, lowest=lowest, highest=highest)
    # Of the third volume's range of 0.15 only a third is missed, as nothing is brighter than its brightest.
    expected = torch.tensor([20, 20 + 20 * math.log10(4071 / 2000), 20 * math.log10(3)]).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert bool(volume_psnr(truth, truth, lowest=lowest, highest=lowest).isnan().all())
    assert bool(volume_psnr(truth, truth, lowest=torch.full((3,), math.nan), highest=highest).isnan().all())


def test_psnr_equals_skimage() -> None:
    truth = three_images()
    expected = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1.0)
        for a, b in zip(truth, disturbed(truth), strict=True)
    ]
    np.testing.assert_allclose(psnr(disturbed(truth), truth, data_range=1.0), expected, rtol=1e-12)


def test_a_perfect_image() -> None:
    truth = three_images()
    assert torch.isinf(psnr(truth, truth, data_range=1.0)).all()
    torch.testing.assert_close(ssim(truth, truth, data_range=1.0), torch.ones(3).double())
    assert not nmse(truth, truth).any()
    assert not scale_error(truth, truth).any()


def test_nmse_of_a_scaled_image() -> None:
    torch.testing.assert_close(nmse(0.9 * three_images(), three_images()), torch.full((3,), 0.01).double())


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("psnr", [28.276381, 34.296981, 22.255781]),
        ("ssim", [0.611241, 0.978412, 0.227508]),
        ("nmse", [0.010058065, 0.001288899, 0.020303454]),
    ],
)
def test_golden_values(metric: str, expected: list[float]) -> None:
    truth, images = three_images(), disturbed(three_images())
    values = {
        "psnr": psnr(images, truth, data_range=1.0),
        "ssim": ssim(images, truth, data_range=1.0),
        "nmse": nmse(images, truth),
    }
    np.testing.assert_allclose(values[metric], expected, rtol=3e-6)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [("plain", [30.550499, 0.681253]), ("circle", [31.074840, 0.712063]), ("circle_peaks", [26.441497, 0.665091])],
)
def test_golden_values_of_the_published_variants(variant: str, expected: list[float]) -> None:
    truth = three_images()[:1]
    scores = published_scores(disturbed(truth), truth, data_range=1.0, variant=variant)
    np.testing.assert_allclose([float(scores["psnr"]), float(scores["ssim"])], expected, rtol=3e-6)


def test_plain_variant_is_clipping_alone() -> None:
    truth, images = three_images(), disturbed(three_images())
    scores = published_scores(images, truth, data_range=1.0, variant="plain")
    torch.testing.assert_close(scores["psnr"], psnr(images.clamp(0, 1), truth.clamp(0, 1), data_range=1.0))
    torch.testing.assert_close(scores["ssim"], ssim(images.clamp(0, 1), truth.clamp(0, 1), data_range=1.0))


def test_variants_do_not_depend_on_the_unit() -> None:
    truth, images = three_images(), disturbed(three_images())
    for variant in ("plain", "circle", "circle_peaks"):
        ours = published_scores(images, truth, data_range=1.0, variant=variant)
        scaled = published_scores(2500 * images, 2500 * truth, data_range=2500.0, variant=variant)
        torch.testing.assert_close(ours["ssim"], scaled["ssim"])
        torch.testing.assert_close(ours["psnr"], scaled["psnr"])


def test_circle_forgives_errors_outside_of_it() -> None:
    truth = three_images()
    images = torch.where(inscribed_circle(truth), truth, truth + 0.3)
    assert torch.isinf(published_scores(images, truth, data_range=1.0, variant="circle")["psnr"]).all()
    assert psnr(images, truth, data_range=1.0).max() < 20


def test_inscribed_circle_has_the_area_of_a_circle() -> None:
    share = inscribed_circle(torch.empty(1, 1, 200, 200)).float().mean()
    assert float(share) == pytest.approx(math.pi / 4, rel=2e-3)


def test_peak_normalisation_forgives_a_wrong_scale() -> None:
    """An image whose air and tissue are shifted and scaled scores as well as one that is right."""
    truth = three_images()[:1]
    images = 0.1 + 0.8 * truth
    plain = published_scores(images, truth, data_range=1.0, variant="plain")["psnr"]
    peaks = published_scores(images, truth, data_range=1.0, variant="circle_peaks")["psnr"]
    assert float(plain) < 25 < 40 < float(peaks)


def test_downsampling_starts_at_one_and_a_half_times_256() -> None:
    for side, factor in ((320, 1), (512, 2)):
        truth = three_images(side)[1:2]
        images = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
        pooled = (torch.nn.functional.avg_pool2d(x, factor) for x in (images, truth))
        torch.testing.assert_close(
            ssim(images, truth, data_range=1.0, downsample=True), ssim(*pooled, data_range=1.0), rtol=0, atol=1e-12
        )


def test_scale_error_finds_what_is_only_a_scale() -> None:
    truth = three_images()
    noise = 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    honest, scaled = truth + noise, 0.7 * (truth + noise) + 0.1
    assert scale_error(honest, truth).max() < 0.5
    assert scale_error(scaled, truth).min() > 2
    best = psnr(honest, truth, data_range=1.0) + scale_error(honest, truth)
    again = psnr(scaled, truth, data_range=1.0) + scale_error(scaled, truth)
    torch.testing.assert_close(best, again)


def test_scale_error_of_a_constant_image_is_that_of_its_offset() -> None:
    truth = torch.tensor([0.0, 1.0]).double().repeat(1, 1, 4, 2)
    gain = 10 * math.log10((0.5**2 + 1.5**2) / 2 / 0.25)
    assert float(scale_error(torch.full_like(truth, 1.5), truth)) == pytest.approx(gain)


def test_images_of_a_batch_do_not_mix() -> None:
    truth = three_images().float()
    images = disturbed(three_images()).float()

    def metrics(a: Tensor, b: Tensor) -> list[Tensor]:
        published = published_scores(a, b, data_range=1.0, variant="circle_peaks")
        return [
            psnr(a, b, data_range=1.0),
            ssim(a, b, data_range=1.0),
            nmse(a, b),
            scale_error(a, b),
            *published.values(),
        ]

    for together, *alone in zip(
        metrics(images, truth), *(metrics(images[i : i + 1], truth[i : i + 1]) for i in range(3)), strict=True
    ):
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-13, atol=0)


@pytest.mark.parametrize("data_range", [0.0, -1.0, math.nan, math.inf])
def test_a_data_range_that_is_none_is_refused(data_range: float) -> None:
    with pytest.raises(ValueError, match="data_range must be positive"):
        psnr(three_images(), three_images(), data_range=data_range)


@pytest.mark.parametrize(
    ("images", "truth", "message"),
    [
        (torch.zeros(2, 1, 16, 16), torch.zeros(1, 1, 16, 16), r"\(2, 1, 16, 16\) but the truth has \(1, 1, 16, 16\)"),
        (torch.zeros(16, 16), torch.zeros(16, 16), "need images"),
        (torch.zeros(1, 1, 16, 16, dtype=torch.complex64), torch.zeros(1, 1, 16, 16), "two channels"),
        (torch.zeros(1, 1, 16, 10), torch.zeros(1, 1, 16, 10), "at least 11 pixels"),
    ],
)
def test_what_cannot_be_compared_is_refused(images: Tensor, truth: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ssim(images, truth, data_range=1.0)


def test_complex_images_count_by_their_magnitude_in_every_metric() -> None:
    truth = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images = (truth + 0.1 * torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    phase = torch.linspace(0, 6, 16)
    turned, turned_truth = (torch.cat([x * phase.cos(), x * phase.sin()], 1) for x in (images, truth))
    for metric in (
        partial(psnr, data_range=1.0),
        partial(ssim, data_range=1.0),
        nmse,
        scale_error,
        lambda a, b: published_scores(a, b, data_range=1.0, variant="circle")["psnr"],
    ):
        torch.testing.assert_close(metric(turned, turned_truth), metric(images, truth), rtol=1e-4, atol=1e-4)


def test_errors_of_a_class_are_of_the_pixels_whose_truth_is_in_it() -> None:
    truth = torch.tensor([0.0, 0.3, 0.5, 0.8]).repeat_interleave(64).view(1, 1, 16, 16).repeat(2, 1, 1, 1)
    truth[1] = 0.3
    error = torch.tensor([0.4, -0.1, 0.2, 0.05]).repeat_interleave(64).view(1, 1, 16, 16)
    classes = {"low": (-math.inf, 0.1), "middle": (0.3, 0.5), "both": (0.3, 0.8)}
    found = class_errors(truth + error, truth, classes=classes)
    assert found["low"][0] == pytest.approx(0.4)
    assert found["middle"][0] == pytest.approx(0.1)
    assert found["both"][0] == pytest.approx(0.15)
    assert math.isnan(found["low"][1])
    few = torch.where(torch.arange(256).view(1, 1, 16, 16) < 15, 0.9, 0.3)
    assert math.isnan(class_errors(few, few, classes={"few": (0.8, 1.0)})["few"])
