"""Images of another program are judged beside those made here."""

from pathlib import Path

import numpy as np
import pytest

from flows.evaluate import evaluate_flow
from flows.reconstruct import reconstruct_flow
from flows.report import report_flow
from scoreinv.baselines import Direct, External
from scoreinv.errors import UserError
from storage.scores import read_scores
from storage.shards import ShardedStore
from tasks.external import keep_images
from tasks.recipes import EvaluateRecipe, Reconstruction, ReconstructRecipe, ReportRecipe
from tasks.running.cluster import Inline
from tasks.running.shards import Execution
from tasks.workers.stores import read_names
from tests.tasks import tiny
from tests.tasks.test_acquired import acquired


def made(workspace: Path) -> tuple[str, list[str], np.ndarray]:
    """Measurements, whose they are, and an image of each."""
    ref, _ = acquired(workspace)
    names = read_names(ShardedStore.open(str(workspace / ref)), range(4))
    return ref, names, np.linspace(0, 1, 4 * tiny.SIZE**2, dtype=np.float32).reshape(4, tiny.SIZE, tiny.SIZE)


def test_images_find_their_slices_by_name_and_their_address_by_content(tmp_path: Path) -> None:
    ref, names, images = made(tmp_path)
    mine = keep_images(str(tmp_path), ref, images[::-1], names[::-1], name="mine")
    assert np.array_equal(ShardedStore.open(str(tmp_path / mine)).read("sample", 0, 4), images)
    assert keep_images(str(tmp_path), ref, images, names, name="mine") == mine
    assert keep_images(str(tmp_path), ref, images + 1, names, name="mine") != mine


def test_images_that_are_not_those_of_the_slices_are_refused(tmp_path: Path) -> None:
    ref, names, images = made(tmp_path)
    for wrong, whose, message in (
        (images[:3], names[:3], "3 images for 4 slices: give each one, such as"),
        (images, [names[0], *names[:3]], "4 images for 4 slices"),
        (images[:, 1:], names, "images have shape"),
        (images * np.nan, names, "hold values that are no numbers"),
    ):
        with pytest.raises(UserError, match=message):
            keep_images(str(tmp_path), ref, wrong, whose, name="mine")


@pytest.mark.usefixtures("prefect_server")
def test_they_stand_in_the_report_and_cannot_be_made_here(tmp_path: Path) -> None:
    ref, names, images = made(tmp_path)
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    direct = ReconstructRecipe(measurements=ref, reconstruction=Reconstruction(method=Direct()))
    theirs = keep_images(str(tmp_path), ref, images, names, name="Our U-Net", seconds_per_slice=2.5)
    recipe = EvaluateRecipe(reconstructions=(reconstruct_flow(direct, execution), theirs))
    scores = evaluate_flow(recipe, execution)
    assert {row["seconds"] for row in read_scores(str(tmp_path / scores)) if row["method"] == "external"} == {2.5}
    assert "Our U-Net" in (tmp_path / report_flow(ReportRecipe(scores=(scores,)), execution)).read_text()
    with pytest.raises(UserError, match="the images of 'mine' are made elsewhere"):
        External(name="mine").steps(None, None, None)  # type: ignore[arg-type]
