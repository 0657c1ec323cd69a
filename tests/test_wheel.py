"""What a person gets who installs the wheel: the command, its recipes, its example slices and its priors."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from scoreinv.shipped import calibration_json, calibration_names, prior_names, prior_weights

ROOT = Path(__file__).parents[1]
LEFT_BEHIND = ("PYTHONPATH", "PYTHONHOME", "PREFECT_API_URL")
"""What would lead a process back into the checkout, or to another server."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the files that git knows: setuptools leaves its work in the folder that it builds from."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    done = subprocess.run([*build, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fresh environment that holds the wheel; what scoreinv depends on is taken from this one."""
    place = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(place)
    scripts, site = (Path(sysconfig.get_path(key, "venv", {"base": str(place)})) for key in ("scripts", "purelib"))
    # Files of a folder that is named so are found, but its own .pth files, which lead to the checkout, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--no-deps", "--no-index", wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return scripts


def outside(folder: Path, *command: str | Path) -> "subprocess.CompletedProcess[str]":
    """A command run in a folder outside the checkout, with nothing that leads back."""
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_BEHIND}
    environment |= {"PREFECT_HOME": str(folder / "prefect"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_everything_is_found_in_the_wheel_and_nothing_in_the_checkout(bin_folder: Path, tmp_path: Path) -> None:
    code = (
        "import flows, tasks, storage, scoreinv, scoreinv.shipped as shipped\n"
        "for module in (flows, tasks, storage, scoreinv): print(module.__file__)\n"
        "print(shipped.recipes_folder(), shipped.examples_folder(), sep='\\n')\n"
        "print({name: len(shipped.prior_weights(name)) for name in shipped.prior_names()})\n"
        "print({name: len(shipped.calibration_json(name)) for name in shipped.calibration_names()})\n"
    )
    done = outside(tmp_path, bin_folder / "python", "-c", code)
    assert done.returncode == 0, done.stderr
    *places, priors, calibrations = done.stdout.splitlines()
    assert all(place.startswith(str(bin_folder.parent)) for place in places), done.stdout
    assert priors == str({name: len(prior_weights(name)) for name in prior_names()})
    assert calibrations == str({name: len(calibration_json(name)) for name in calibration_names()})


def test_every_recipe_slice_template_and_licence_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        found = {name: content.read(name) for name in content.namelist()}
    templates = "tasks/rendering/templates"
    pairs = [
        ("deployments/recipes", "scoreinv/data/recipes"),
        ("examples", "scoreinv/data/examples"),
        (templates, templates),
    ]
    for folder, installed in pairs:
        wanted = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert wanted
        for path in wanted:
            assert found[f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"] == path.read_bytes()
    assert found["scoreinv/xrays.json"] == (ROOT / "scoreinv/xrays.json").read_bytes()
    licences = {name.split("/licenses/")[1] for name in found if ".dist-info/licenses/" in name}
    assert {"LICENSE", "examples/README.md", "scoreinv/priors/ct-128.md"} <= licences
    assert {name.split("/")[0].split("-")[0] for name in found} == {"scoreinv", "storage", "tasks", "flows"}


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--dry-run"], ["plan", "--help"]], ids=" ".join)
def test_the_command_works_outside_the_checkout(bin_folder: Path, tmp_path: Path, arguments: list[str]) -> None:
    done = outside(tmp_path, bin_folder / "scoreinv", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if "demo" in arguments:
        assert "path: shipped:ct" in done.stdout


def test_a_pipeline_runs_outside_the_checkout(bin_folder: Path, tmp_path: Path) -> None:
    done = outside(tmp_path, bin_folder / "scoreinv", "pipeline", "smoke", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "Smoke test on phantoms" in Path(done.stdout.strip()).read_text()


def test_the_example_slices_are_read_outside_the_checkout(bin_folder: Path, tmp_path: Path) -> None:
    code = (
        "from storage.sources import DicomSource, NiftiSource\n"
        "for source in (DicomSource(path='shipped:ct'), NiftiSource(path='shipped:mri')):\n"
        "    listing = source.listing()\n"
        "    print(len(listing.slices), *listing.subjects())\n"
    )
    done = outside(tmp_path, bin_folder / "python", "-c", code)
    assert done.returncode == 0, done.stderr
    # The DICOM slices are in the order of their series.
    assert done.stdout.splitlines() == ["8 CMB-CRC-MSB-01068 Lung_Dx-A0001", "8 patient09 patient19"]
