"""The paper's two experiments run in small, as their headers say; fine-tuning fits the prior that it begins with."""

import shlex
from pathlib import Path

import pytest

from flows.recipe_files import RECIPES, load_recipe
from scoreinv.shipped import prior_contract
from storage.scores import read_scores
from tasks.planning.presets import BASELINES, PRESETS
from tasks.recipes import PipelineRecipe
from tests.flows.conftest import Command


def small_command(name: str) -> list[str]:
    """The words of the command that a recipe's header gives under "In small"."""
    text = (RECIPES / f"{name}.yaml").read_text().partition("# In small")[2].partition("\ntitle:")[0]
    lines = [line.removeprefix("#").removesuffix("\\") for line in text.splitlines()[1:]]
    return shlex.split(" ".join(lines))[1:]


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("name", "size"), [("paper-lidc-320", 320), ("paper-brats-240", 240)])
def test_the_papers_experiments_run_in_small(command: Command, tmp_path: Path, name: str, size: int) -> None:
    words = small_command(name)
    assert words[:2] == ["pipeline", name]
    code, out, err = command(*words)
    assert code == 0, err
    page = Path(out.strip().splitlines()[-1]).read_text()
    assert f"slices of {size} x {size} pixels" in page
    assert "PSNR of volume&#39;s range" in page
    (scores,) = (tmp_path / "workspace" / "scores").iterdir()
    rows = read_scores(str(scores))
    assert {row["method"] for row in rows} == {"direct", "projection", "dds"}
    assert all(isinstance(row["psnr_volume"], float) for row in rows)


def test_the_papers_numbers_are_in_its_recipes() -> None:
    """Song et al. 2022, as released: the poster's settings, whatever else moves."""
    names = ("paper-lidc-320", "paper-brats-240")
    ct, mri = (load_recipe(PipelineRecipe, RECIPES / f"{name}.yaml").studies[0] for name in names)
    assert len(ct.simulation.measurement.angles()) == 23
    select = mri.ingest.source.select
    assert (select.skip_first, select.skip_last, mri.ingest.source.scale) == (40, 25, "range")
    for study, strength, snr in ((ct, 0.841, 0.246), (mri, 1.0, 0.517)):
        method = study.reconstructions[1].method
        assert (method.kind, method.strength, method.snr) == ("projection", strength, snr)
        assert method.n_calls in (2000, 2001)


def test_fine_tuning_goes_on_from_the_shipped_prior_and_shows_both() -> None:
    (study,) = load_recipe(PipelineRecipe, RECIPES / "fine-tune-ct-128.yaml").studies
    assert study.training is not None
    recipe, contract = study.training.train, prior_contract("ct-128")
    assert recipe.training.n_images > contract.images_seen + recipe.training.cooldown_images, "it counts those seen"
    assert recipe.network.model_dump(mode="json") == contract.network
    assert recipe.objective.preconditioning.model_dump(mode="json") == contract.preconditioning
    assert study.ingest is not None
    assert study.ingest.image == study.training.ingest[0].image == contract.image
    methods = {one.prior: one.method for one in study.reconstructions}
    assert methods["ct-128"] == methods["trained"] == PRESETS["ct"]["balanced"].method
    assert BASELINES["ct"].method in [one.method for one in study.reconstructions]
