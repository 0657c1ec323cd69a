"""The example script: each kind of file in, a picture out."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from scoreinv.shipped import examples_folder, prior_contract

SCRIPT = Path(__file__).parents[2] / "examples" / "first_reconstruction.py"
CT, MRI = (prior_contract(name).image for name in ("ct-128", "mri-128"))
DICOM = examples_folder() / "ct" / "Lung_Dx-A0001" / "1-24.dcm"
NIFTI = examples_folder() / "mri" / "patient19" / "study2_T1W_4slices.nii.gz"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = spec_from_file_location("first_reconstruction", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    monkeypatch.setattr(sys, "argv", ["first_reconstruction.py", *map(str, words)])
    return script.arguments()


def test_a_dicom_slice_becomes_a_picture(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, DICOM, "--output", "mine.png"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "mine.png\n"), done.stderr
    with Image.open(tmp_path / "mine.png") as picture:
        assert picture.width > 2 * picture.height
        # Three images and not three black squares.
        thirds = np.array_split(np.asarray(picture.convert("L"), float), 3, axis=1)
    assert all(third.std() > 30 for third in thirds)


@pytest.mark.parametrize("number", [0, 3])
def test_a_slice_of_a_volume_is_chosen(script: ModuleType, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    wanted = options(script, monkeypatch, NIFTI, "--prior", "mri-128", "--slice", number)
    image = script.read_image(wanted, MRI)
    assert (image.shape, image.dtype) == ((128, 128), np.float32)
    from storage.resample import prepare
    from storage.sources import NiftiSource

    source = NiftiSource(path=str(NIFTI))
    record = source.listing().slices[number]
    np.testing.assert_array_equal(image, prepare(next(source.load([record])), record.spacing_mm, MRI)[0])


def test_pictures_and_arrays_fill_the_grid(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 256 * 256).reshape(256, 256).round()
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "8.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "16.png")
    np.save(tmp_path / "hu.npy", -1000 + 2000 * grey / 255)
    wanted = grey.reshape(128, 2, 128, 2).mean((1, 3)) / 255
    for name in ("8.png", "16.png", "hu.npy"):
        image = script.read_image(options(script, monkeypatch, tmp_path / name), CT)
        np.testing.assert_allclose(image, wanted, atol=1e-4)
    # Half as wide, it covers a quarter of the grid.
    small = options(script, monkeypatch, tmp_path / "8.png", "--pixel-mm", CT.pixel_mm / 4)
    assert script.read_image(small, CT).sum() == pytest.approx(wanted.sum() / 4, rel=1e-3)


def test_a_mistake_is_one_message(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    np.save(tmp_path / "volume.npy", np.zeros((3, 4, 5)))
    mistakes = {
        "there is no file nowhere.dcm": ["nowhere.dcm"],
        "(rows, columns) was wanted, got float64 (3, 4, 5)": [tmp_path / "volume.npy"],
        "has slices 0 to 3, --slice 9 was asked for": [NIFTI, "--prior", "mri-128", "--slice", "9"],
        "modality='mri'": [DICOM, "--prior", "mri-128"],
    }
    for message, words in mistakes.items():
        options(script, monkeypatch, *words)
        with pytest.raises(SystemExit) as ended:
            script.main()
        assert message in str(ended.value)
