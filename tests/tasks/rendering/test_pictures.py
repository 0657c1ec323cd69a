"""Pictures of a report: values as shades, errors on one scale, and what is enlarged."""

import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from scoreinv.modality import Window
from tasks.people import OverPeople
from tasks.rendering import (
    Picture,
    panel_png,
    scales_of,
)
from tasks.rendering.content import Across, Curve
from tasks.rendering.curves import COLOURS, curves_png
from tasks.rendering.figures import MAX_SIDE, MISSING, shrunk, side_for, view_png
from tasks.rendering.tables import MINUS
from tasks.rendering.views import View, columns_of, inset_of, nice_ceiling, scale_bar_mm
from tests.tasks.rendering.pages import WINDOWS, Page, errors_of, panel, picture_of, pictures, pixels, report, section


def test_every_method_is_pictured_in_every_window_with_its_error() -> None:
    page = Page(report(section()))
    alts = [alt.replace(", Volume 7, slice 12", "") for alt, _ in page.images]
    in_windows = [f"{part}, {window}" for part in ("", ", enlarged") for window in ("usual window", "bone")]
    assert alts == [
        *(f"Truth{view}" for view in in_windows),
        *(f"FBP{view}" for view in in_windows),
        "Error of FBP",
        *(f"TV{view}" for view in in_windows),
        "Error of TV",
        *(f"DDS{view}" for view in in_windows),
        "Error of DDS",
        "Spread of 8 samples of DDS",
    ]
    assert {name for name, alt in re.findall(r'<img class="(\w+)" alt="(Error|Spread)', report(section()))} == {"only"}
    images = dict(zip(alts, (pixels(png) for _, png in page.images), strict=True))
    truth, errors = images["Truth, usual window"], [images[f"Error of {one}"].max(2).mean() for one in ("FBP", "DDS")]
    assert truth.shape == (48, 64, 3)
    assert images["Truth, enlarged, bone"].shape == (11, 11, 3)
    assert errors[0] > 2 * errors[1]
    assert len(np.unique(images["Spread of 8 samples of DDS"].reshape(-1, 3), axis=0)) == 1


def test_errors_of_all_slices_of_a_study_share_one_scale() -> None:
    easy, hard = (panel(pictures=pictures(panel().truth, errors)) for errors in (errors_of(1), errors_of(5)))
    together, alone = scales_of([easy, hard]), scales_of([easy])
    assert together.error == scales_of([hard]).error
    assert alone.error.high < together.error.high
    first, second = (columns_of(one, together)[3].error for one in (easy, hard))
    assert first is not None
    assert second is not None
    assert first.scale == second.scale
    assert 2 * pixels(view_png(first)).mean() < pixels(view_png(second)).mean()


def test_one_method_that_fails_does_not_darken_the_others() -> None:
    sound = scales_of([panel()]).error.high
    broken = [*panel().pictures, replace(panel().pictures[1], method="broken", image=panel().truth + 1e5)]
    assert scales_of([panel(pictures=broken)]).error.high < 2 * sound


def test_the_enlarged_region_is_where_the_naive_image_errs_most() -> None:
    truth = np.zeros((50, 80))
    naive = truth.copy()
    naive[30:38, 60:68] = 50
    found = inset_of(panel(truth=truth, pictures=[Picture("FBP", naive), Picture("TV", truth + 500)]))
    assert found.side == 11
    assert 27 <= found.top <= 30
    assert 57 <= found.left <= 60
    assert found.of(naive).sum() == 50 * 64
    blind = inset_of(panel(truth=None, pictures=[Picture("FBP", naive), Picture("TV", truth)]))
    assert blind == found
    air = truth.copy()
    air[:, 45:] = -1000
    naive[5:13, 20:28] = 10
    in_body = inset_of(panel(truth=air, above_air=-900, pictures=[Picture("FBP", naive - truth + air)]))
    assert in_body.of(naive).sum() == 10 * 64, "an error in air is no reason to look there"
    air[:, 46:50], air[:10, 60:], naive[:10, 60:] = -1000, 0, 90
    beside = inset_of(panel(truth=air, above_air=-900, pictures=[Picture("FBP", naive - truth + air)]))
    assert beside == in_body, "nor is one in what lies beside the body"


def test_the_window_maps_low_to_black_and_high_to_white() -> None:
    ramp = np.linspace(-1700, 1600, 300)[None].repeat(4, 0)
    grey = picture_of(ramp)[0, :, 0]
    np.testing.assert_allclose(grey, 255 * np.clip((ramp[0] + 1000) / 1400, 0, 1), atol=2, rtol=0)
    shown = panel(truth=ramp, pictures=[Picture("FBP", ramp)])
    bone = pixels(view_png(columns_of(shown, scales_of([shown]))[0].images[1]))[0, :, 0]
    np.testing.assert_allclose(bone, 255 * np.clip((ramp[0] + 500) / 1800, 0, 1), atol=2, rtol=0)


def test_errors_of_both_signs_have_their_own_colour() -> None:
    scale = scales_of([panel()]).error
    values = np.zeros((8, 8))
    values[:, :4], values[:, 4:] = -100, 100
    error = pixels(view_png(View("", values, scale)))
    (low, high) = error[0, 0], error[0, -1]
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert pixels(view_png(View("", 0 * values, scale))).max() < 20


def test_missing_values_are_shown_as_missing() -> None:
    std = np.full((48, 64), 5.0)
    std[:10] = np.nan
    shown = panel(pictures=[replace(panel().pictures[2], std=std)])
    view = columns_of(shown, scales_of([shown]))[1].spread
    assert view is not None
    picture = pixels(view_png(view))
    assert (picture[:10] == MISSING).all()
    assert not (picture[10:] == MISSING).all(-1).any()
    assert "mean spread 5 HU" in Page(report(section(panels=[shown]))).text


def test_no_value_at_all_still_makes_a_page() -> None:
    hollow = np.full((48, 64), np.nan)
    shown = panel(pictures=[Picture("FBP", hollow), Picture("DDS", hollow, std=hollow, n_samples=2)])
    text = Page(report(section(panels=[shown]))).text
    assert "mean spread n/a" in text
    assert "mean |error| n/a" in text
    assert panel_png(shown, scales_of([shown]))


def test_without_samples_there_is_no_row_of_spreads_and_without_a_truth_none_of_errors() -> None:
    plain = [replace(one, std=None) for one in panel().pictures]
    text = report(section(panels=[panel(pictures=plain)]))
    assert len(Page(text).images) == 3 * 4 + 4 + 3
    assert "Spread of" not in "".join(alt for alt, _ in Page(text).images)
    assert "--rows:4" in text
    blind = report(section(panels=[panel(truth=None)]))
    assert len(Page(blind).images) == 3 * 4 + 1
    assert "Error of" not in blind
    assert "--rows:4" in blind


def test_a_single_window_is_told_and_leaves_nothing_to_choose() -> None:
    text = report(section(panels=[panel(windows=WINDOWS[:1])]))
    page = Page(text)
    assert f"Grey values: usual window, {MINUS}1000 to 400 HU." in page.text
    assert not [name for name in re.findall(r'class="(\w*)"', text) if name in ("pick0", "w0")]


def test_large_images_are_averaged() -> None:
    image = np.random.default_rng(0).normal(size=(512, 700))
    small = shrunk(image)
    assert small.shape == (170, 233)
    assert max(small.shape) <= MAX_SIDE
    assert small[3, 5] == pytest.approx(image[9:12, 15:18].mean())
    assert shrunk(small) is small


def test_a_page_of_many_images_shows_them_smaller() -> None:
    assert side_for(10) == side_for(250) == MAX_SIDE
    assert side_for(1000) == MAX_SIDE // 2
    assert side_for(100_000) == 120
    noise = np.random.default_rng(0).normal(size=(256, 256))
    busy = panel(truth=300 * noise, pictures=[Picture(f"method {i}", 200 * noise) for i in range(8)])
    assert len(report(section(panels=[busy] * 2))) < 6_500_000
    assert len(report(section(panels=[busy] * 16))) < 10_000_000


def test_panel_png_is_small_and_shows_the_naive_and_the_best_methods() -> None:
    shown = panel()
    png = panel_png(shown, scales_of([shown]))
    height, width, _ = pixels(png).shape
    assert len(png) < 100_000
    assert width / height == pytest.approx(7.44 / 5.0, rel=0.05)
    noise = np.random.default_rng(0).normal(size=(160, 160)) * 500
    many = [Picture(f"method {i}", i * noise, scores={"psnr": 20.0 + i}) for i in range(12)]
    crowd = panel(truth=noise, pictures=many)
    png = panel_png(crowd, scales_of([crowd]))
    assert len(png) < 150_000
    assert pixels(png).shape[1] < 1500


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 1), (math.nan, 1), (math.inf, 1), (1.0, 1), (1.2, 1.5), (0.31, 0.5), (810, 1000)]
)
def test_nice_ceiling(value: float, expected: float) -> None:
    assert nice_ceiling(value) == pytest.approx(expected)


@pytest.mark.parametrize(("pixel_mm", "expected"), [(1.0, 10), (1.5, 20), (6.0, 100), (0.01, 0.1)])
def test_scale_bar_is_round_and_below_a_third_of_the_image(pixel_mm: float, expected: float) -> None:
    assert scale_bar_mm(panel(pixel_mm=pixel_mm)) == pytest.approx(expected)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    (width,) = set(re.findall(r'class="length" style="width:([\d.]+)%"', report(section())))
    assert float(width) / 100 * 64 * 1.5 == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": [Picture("FBP", np.zeros((2, 2)))]}, "one shape"),
        ({"pictures": []}, "one shape"),
        ({"windows": [Window("flat", 1, 1)]}, "low < high"),
        ({"windows": []}, "low < high"),
        ({"pixel_mm": 0.0}, "pixel_mm > 0"),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        panel(**changes)


def test_a_calibrated_interval_is_shown_in_place_of_a_spread_and_named() -> None:
    both = panel()
    with_widths = [
        replace(one, half_width=np.full(one.image.shape, 12.0)) if one.std is not None else one for one in both.pictures
    ]
    shown = replace(both, pictures=with_widths)
    page = Page(report(section(panels=[shown])))
    alts = [alt for alt, _ in page.images]
    assert any(alt.startswith("Half width of 90 % intervals of DDS") for alt in alts)
    assert not any(alt.startswith("Spread of") for alt in alts)
    assert "mean half width of 90 % 12 HU" in page.text
    assert scales_of([shown]).doubt == "half width of 90 %"
    assert scales_of([both]).doubt == "spread"
    assert scales_of([shown, both]).doubt == "half width of 90 % or spread"


def test_a_chart_keeps_the_colour_of_every_line_in_few_bytes() -> None:
    values, points = np.linspace(1, 5, 5), [OverPeople(0, 0, 0, 5)] * 5
    curves = [
        Curve(f"method {i}", "prior", [one._replace(mean=i + x) for one, x in zip(points, values, strict=True)])
        for i in range(len(COLOURS))
    ]
    png = curves_png(Across("views", values.tolist(), "psnr", curves))
    with Pillow.open(io.BytesIO(png)) as picture:
        assert picture.mode == "P"
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in COLOURS:
        assert (np.abs(colours - 255 * np.array(colour)).max(1) < 12).sum() > 50
