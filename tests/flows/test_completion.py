"""What bash offers when Tab is pressed, asked of a real bash."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

bash = shutil.which("bash")
pytestmark = pytest.mark.skipif(bash is None, reason="needs bash")

ASK = """
source script.bash
COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=($1)
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_scoreinv 2> >(grep -v compopt >&2)
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the script that the command prints, a recipe and a folder of scans."""
    place = tmp_path_factory.mktemp("completion")
    made = subprocess.run(
        [sys.executable, "-m", "flows.cli", "completion", "bash"], cwd=ROOT, capture_output=True, check=True
    )
    (place / "script.bash").write_bytes(made.stdout)
    (place / "mine.yaml").write_text("title: x")
    (place / "images").mkdir()
    return place


OFFERS = {
    "scoreinv rec": {"reconstruct"},
    "scoreinv --v": {"--version"},
    "scoreinv completion ": {"bash"},
    "scoreinv ingest --w": {"--workspace", "--workers"},
    "scoreinv ingest --device c": {"cpu", "cuda"},
    "scoreinv ingest so": {"source."},
    "scoreinv ingest source.sel": {"source.select."},
    "scoreinv ingest source.kind=d": {"dicom"},
    "scoreinv ingest source.kind=dicom source.takes_any_values=": {"true", "false"},
    "scoreinv ingest source.path=im": {"images"},
    "scoreinv ingest --workspace im": {"images"},
    "scoreinv pipeline smo": {"smoke"},
    "scoreinv pipeline mi": {"mine.yaml"},
    "scoreinv pipeline smoke studies.7.sim": {"studies.7.simulation."},
    "scoreinv pipeline smoke studies.12.simulation.measurement.kind=s": {"sparse_view_ct"},
    "scoreinv demo sm": set(),
    "scoreinv reconstruct reconstruction.prior=": {"ct-128", "ct-256", "ct-320", "mri-128", "mri-240"},
    "scoreinv tune metric=s": {"ssim", "ssim_circle"},
    "scoreinv train execution.cluster.kind=": {"inline", "local", "remote", "slurm", "kubernetes"},
    "scoreinv nothing x": set(),
}


@pytest.mark.parametrize("line", OFFERS)
def test_bash_offers_what_may_come_next(folder: Path, line: str) -> None:
    asked = subprocess.run(
        [str(bash), "-c", ASK, "bash", line], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert asked.stderr == ""
    assert {word for word in asked.stdout.split("\n") if word} == OFFERS[line]
