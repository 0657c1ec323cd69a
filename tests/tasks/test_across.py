"""Methods over settings: which sections of a report belong together, and how they are drawn."""

import io
import math

import numpy as np
import pytest
from PIL import Image as Pillow

from scoreinv.contract import ImageContract, ReconstructorContract
from scoreinv.measurement import GaussianNoise
from scoreinv.operators.ct import SparseViewCT
from tasks.across import Setting, across
from tasks.people import compared
from tasks.recipes import Simulation
from tasks.rendering import render_report
from tasks.rendering.content import People
from tasks.rendering.curves import curve_lines, curves_png

NEEDS = {"FBP": "nothing", "TV": "nothing", "Neumann network": "reconstructor", "Bregman": "prior"}
IMAGE = ImageContract(modality="ct", size=32, pixel_mm=10, low=-1000, high=1000)


def people(level: float, *methods: str, n: int = 3) -> People:
    means = {"psnr": {name: {f"p{k}": level + i + k for k in range(n)} for i, name in enumerate(methods)}}
    return People("", {"psnr": compared(means["psnr"], None)}, means, "psnr")


def network(n_views: int) -> ReconstructorContract:
    shared = {"name": "a", "image": IMAGE, "network": {}, "training_data": [], "licence": "", "images_seen": 0}
    measured = SparseViewCT(n_views=n_views).model_dump(mode="json")
    return ReconstructorContract(**shared, sha256="", measurement=measured)


def setting(
    n_views: int, level: float, *, dataset: str = "datasets/a", noise: float = 0.0, trained: int = 23
) -> Setting:
    measurement = SparseViewCT(n_views=n_views, **({"noise": GaussianNoise(noise_std=noise)} if noise else {}))
    names = tuple(NEEDS) if n_views != 10 else ("FBP", "TV", "Bregman")
    return Setting(dataset, Simulation(measurement=measurement), people(level, *names), NEEDS, [network(trained)])


def test_settings_that_differ_in_one_number_are_drawn_in_its_order() -> None:
    others = [setting(23, 25, noise=0.1), setting(45, 40, dataset="datasets/b")]
    found = across([setting(90, 40), setting(23, 30), *others, setting(10, 20)])
    assert found is not None
    assert (found.axis, found.values, found.trained_at) == ("number of views", [10, 23, 90], 23)
    assert [curve.method for curve in found.curves] == list(NEEDS)
    means = {c.method: [p and p.mean for p in c.points] for c in found.curves}
    assert means["FBP"] == [21, 31, 41]
    assert means["Neumann network"] == [None, 33, 43]
    lines = {line.method: line.cells for line in curve_lines(found)}
    assert [cell[2] for cell in lines["Bregman"]] == [True, True, True]
    assert lines["Neumann network"][0] == ("", "", False)
    assert lines["FBP"][1][0] == "31.00"


def test_settings_that_differ_otherwise_or_have_one_person_are_not_drawn() -> None:
    assert across([]) is None
    assert across([setting(23, 30), setting(45, 30, noise=0.1)]) is None
    assert across([setting(23, 30), setting(45, 30)._replace(people=None)]) is None


def test_networks_of_several_trainings_mark_nothing() -> None:
    found = across([setting(23, 30), setting(45, 35, trained=45)])
    assert found is not None
    assert found.trained_at is None


def test_the_picture_and_the_page_show_every_method() -> None:
    found = across([setting(23, 30), setting(10, 20), setting(90, 40)])
    assert found is not None
    picture = np.asarray(Pillow.open(io.BytesIO(curves_png(found))).convert("RGB"))
    assert len({tuple(colour) for colour in picture.reshape(-1, 3)[::7].tolist()}) > 20
    page = render_report("t", [], versions={}, generated="", across=found)
    assert "All methods over the number of views" in page
    assert all(page.count(f'<th scope="row">{name}</th>') == 1 for name in NEEDS)
    assert "All methods over" not in render_report("t", [], versions={}, generated="")


@pytest.mark.parametrize("n", [1, 2])
def test_one_person_has_no_interval_and_is_drawn_all_the_same(n: int) -> None:
    pair = [one._replace(people=people(30, "FBP", n=n)) for one in (setting(23, 30), setting(45, 30))]
    found = across(pair)
    assert found is not None
    low = [point.low for point in found.curves[0].points if point]
    assert all(map(math.isnan, low)) == (n == 1)
    assert curves_png(found)
