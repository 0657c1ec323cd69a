"""The table of settings: every one makes data, and the gain is over the best of the other methods."""

import pytest

from benchmarks.settings import data_of, methods_of, settings_named, settings_of, table
from scoreinv.contract import ImageContract, Modality
from scoreinv.errors import UserError
from tasks.checks import require_fit
from tasks.rendering.tables import MINUS
from tests.benchmarks.test_lesions import people


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_every_setting_can_be_measured_and_has_a_name_of_its_own(modality: Modality) -> None:
    low, high = (-1000, 1000) if modality == "ct" else (0, 1)
    image = ImageContract(modality=modality, size=128, pixel_mm=2.0, low=low, high=high)
    found = settings_of(modality)
    assert len({one.name for one in found}) == len(found) >= 16
    for one in found:
        require_fit(one.measurement, image)
    assert list(methods_of(modality)) == ["TV", "wavelet", "DPIR", "preset"]


def test_the_preset_is_compared_with_the_best_of_the_others_person_by_person() -> None:
    first, second, *_ = settings_of("ct")
    ahead = {"TV": {"a": 30.0, "b": 32.0}, "DPIR": {"a": 29.0, "b": 30.0}, "preset": {"a": 32.0, "b": 33.0}}
    behind = {"TV": {"a": 30.0, "b": 32.0}, "DPIR": {"a": 33.0, "b": 34.0}, "preset": {"a": 32.0, "b": 33.0}}
    lines = table([(first, ahead), (second, behind)], 2)
    assert lines[2].startswith(f"| {first.name} | 31.00 | 29.50 | 32.50 | +1.50 [")
    assert lines[3].startswith(f"| {second.name} | 31.00 | 33.50 | 32.50 | {MINUS}1.00 ")
    assert lines[-1] == "2 people. Of 2 settings the preset is ahead by 1 dB in 1 and behind by more than 0.1 dB in 1."


def test_a_setting_that_is_not_there_is_told_with_those_that_are() -> None:
    assert [one.name for one in settings_named("ct", ["45 views", "10 views"])] == ["10 views", "45 views"]
    assert settings_named("ct", []) == settings_of("ct")
    with pytest.raises(UserError, match=r"no setting of ct is called '23': there are '10 views'"):
        settings_named("ct", ["23 views", "23"])


def test_astra_s_strips_measure_what_our_matrix_does() -> None:
    pytest.importorskip("astra", exc_type=ImportError)  # its libraries may be missing, too
    found = {one.name: one for one in settings_of("ct")}
    ours, theirs = (data_of(found[name], people()).y for name in ("23 views", "23 views, ASTRA's strips"))
    assert float((theirs - ours).norm() / ours.norm()) < 1e-4
