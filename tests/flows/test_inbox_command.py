"""What the options of the commands inbox and deploy say, as the form has it."""

import pytest

from flows.cli import _parser
from flows.inbox_command import choices_of
from scoreinv.errors import UserError


def chosen(*options: str) -> dict[str, object]:
    return choices_of(_parser().parse_args(["deploy", "--inbox", "scans/heads", *options]))


def test_only_what_is_not_usual_is_said() -> None:
    assert chosen() == {}
    assert chosen("--preset", "balanced", "--files", "dicom") == {}
    assert chosen("--modality", "mri", "--files", "nifti", "--preset", "fast", "--prior", "mri-128") == {
        "files": "MRI in NIfTI files",
        "preset": "fast",
        "prior": "mri-128",
    }


def test_a_measurement_that_is_not_there_is_refused() -> None:
    assert chosen("--measurement", "MRI, 4 times faster") == {"measurement": "MRI, 4 times faster"}
    with pytest.raises(UserError, match="there is no measurement 'MRI, 3 times faster': choose sparse-view CT, 23"):
        chosen("--measurement", "MRI, 3 times faster")
