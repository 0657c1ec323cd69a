"""The whole run in small: every part finds what it should, and none can stop the others."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu.packed import Trained, read_plan, read_weights
from benchmarks.gpu.publishing import publish_result
from benchmarks.gpu.results import FILE, add_row, rows_of
from benchmarks.gpu.running import PARTS, main, part, run_part
from benchmarks.gpu.showing import page
from storage.models import load
from storage.verify import problems_of
from tasks.workers.priors import load_prior
from tasks.workers.training.curve import read_curve
from tests.benchmarks.gpu.conftest import Packed

LACKING = ("scipy", "skimage", "pywt", "zarr", "fsspec", "dask", "prefect", "yaml", "filelock", "storage", "tasks")


def options_for(packed: Path, result: Path, **changes: Any) -> argparse.Namespace:
    result.mkdir(exist_ok=True)
    given = {"packed": packed, "result": result, "to": result, "seconds": 1.0, "earlier": None}
    return argparse.Namespace(**{**given, "device": "cpu", "small": True, "training": 0.0, **changes})


@pytest.fixture(scope="module")
def result(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all parts, in this process but for the two that train together."""
    folder = tmp_path_factory.mktemp("result")
    n_threads = torch.get_num_threads()
    for name in PARTS:
        part(options_for(packed.folder, folder, name=name))
        add_row(folder, name, {"status": "done", "seconds": 1.0})
    torch.set_num_threads(n_threads)
    return folder


def found(result: Path, name: str) -> list[dict[str, Any]]:
    return [row for row in rows_of(result, name) if "status" not in row]


def test_rates_are_measured(result: Path) -> None:
    card = {name: value for row in found(result, "card") for name, value in row.items()}
    assert card["device"] == "CPU"
    assert card["copy_gb_per_second"] > 0
    assert [row["product"] for row in found(result, "card") if "product" in row] == ["float32", "TF32", "bfloat16"]
    assert {row["batch"] for row in found(result, "training rates")} == {2, 4}
    assert all(row["images_per_second"] > 0 for row in found(result, "training rates"))


def test_presets_are_timed_for_each_batch_and_precision(result: Path) -> None:
    rows = found(result, "presets")
    assert len({(row["preset"], row["precision"], row["batch"]) for row in rows}) == len(rows) == 8
    assert all(row["slices_per_second"] > 0 for row in rows)


def test_a_batch_changes_no_image(result: Path) -> None:
    rows = found(result, "batch")
    assert [row["place"] for row in rows] == [0, 2, 0, 2]
    # Rounding, after twenty calls.
    assert all(row["difference"] < 2e-3 for row in rows if row["precision"] == "float32")


def test_the_projector_on_the_device_is_that_of_the_cpu(result: Path) -> None:
    for row in found(result, "projector"):
        assert max(row["forward_difference"], row["adjoint_difference"]) < 1e-5
        assert row["device_forward_ms"] > 0


def test_half_a_batch_and_two_processes_give_the_gradient_of_one(result: Path) -> None:
    (halved,), (ranks,) = found(result, "memory"), found(result, "two processes")
    assert halved["tries"] == [4, 2]
    assert ranks["ranks_differ"] == 0
    for row in (halved, ranks):
        assert row["gradient_norm"] > 0
        assert row["difference"] < 1e-4


def test_the_best_weights_of_the_training_are_there(result: Path, packed: Packed) -> None:
    rows = [row for row in found(result, "training") if "validation_rmse" in row]
    trained = Trained.model_validate_json((result / "trained.json").read_text())
    best = [row for row in rows if row["is_best"]][-1]
    errors = [np.log(values).mean() for row in rows for values in row["rmse_by_half_life"].values()]
    assert np.log(best["validation_rmse"]).mean() == pytest.approx(min(errors))
    assert (trained.images_seen, trained.half_life) == (best["images_seen"], best["half_life"])
    assert trained.n_images == 18
    assert trained.recipe == packed.recipe.model_dump(mode="json")


def test_a_training_goes_on_from_an_earlier_result(result: Path, packed: Packed, tmp_path: Path) -> None:
    part(options_for(packed.folder, tmp_path, name="training", earlier=result, seconds=0.1))
    before = Trained.model_validate_json((result / "trained.json").read_text()).images_seen
    first = found(tmp_path, "training")[0]
    assert first["images_before"] == before > 0
    assert found(tmp_path, "training")[1]["images_seen"] > before


def test_what_was_trained_becomes_a_prior(result: Path, packed: Packed, tmp_path: Path) -> None:
    ref = publish_result(result, str(tmp_path))
    prior = tmp_path / ref / "prior"
    _, contract = load(str(prior))
    trained = Trained.model_validate_json((result / "trained.json").read_text())
    assert (contract.name, contract.images_seen) == ("tiny", trained.images_seen)
    assert contract.slices == read_plan(packed.folder).slices != ()
    assert problems_of("priors", str(tmp_path / ref)) == []
    model, _ = load_prior(str(prior), "cpu", "float32")
    assert torch.isfinite(model(torch.rand(1, 1, 16, 16), torch.ones(1))).all()
    assert "Phantoms (public domain)" in (prior / "card.md").read_text()
    assert (prior / "samples.png").exists()
    assert len(read_curve(str(tmp_path / ref))) >= 1
    assert load(str(prior))[0] == read_weights(result)


def test_a_page_shows_the_card_and_every_part(result: Path) -> None:
    text = page(rows_of(result))
    assert "Measured on: CPU" in text
    assert all(f"## {title}" in text for title in ("The card", "Presets, slices a second", "A training"))
    rows = [*rows_of(result, "card"), {"part": "memory", "status": "failed", "seconds": 3.0, "error": "no room"}]
    assert "After 3.0 s this part was: failed (no room)." in page([*rows, {"part": "batch", "preset": "fast"}])
    assert "The run was ended before this part was." in page([*rows, {"part": "batch", "preset": "fast"}])
    assert "Not measured" in page([])


def test_a_line_that_was_cut_off_is_no_line(tmp_path: Path) -> None:
    add_row(tmp_path, "card", {"device": "x"})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"part": "card", "pro')
    assert rows_of(tmp_path) == [{"part": "card", "device": "x"}]


def test_a_part_that_fails_or_runs_over_its_time_is_reported(packed: Packed, tmp_path: Path) -> None:
    assert run_part("projector", 0.05, options_for(packed.folder, tmp_path / "over"))["status"] == "out of time"
    failed = run_part("projector", 300, options_for(tmp_path / "nothing", tmp_path / "failed"))
    assert failed["status"] == "failed"
    assert "plan.json" in str(failed["error"])
    main(options_for(packed.folder, tmp_path / "late", parts=["card", "memory"], seconds=-1.0))
    assert [row["status"] for row in rows_of(tmp_path / "late")] == ["left out, as the time was up"] * 2


def test_few_packages_are_enough(packed: Packed, tmp_path: Path) -> None:
    """In the packed folder, with every other package out of reach."""
    for name in LACKING:
        (tmp_path / "lacking" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "lacking" / f"{name}.py").write_text(f"raise ImportError('{name} is not here')\n")
    arguments = ["part", "memory", str(packed.folder), str(tmp_path), "--seconds", "1", "--device", "cpu", "--small"]
    code = (
        f"import sys; sys.path[:0] = [{str(packed.folder)!r}, {str(tmp_path / 'lacking')!r}]\n"
        f"from benchmarks.gpu.__main__ import main\nmain({arguments!r})"
    )
    # Not the repository's own code.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / FILE).read_text())["tries"] == [4, 2]
