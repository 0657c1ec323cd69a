"""A calibration put among those that ship: the same half widths, and a card that says of whom they are."""

import sys
from pathlib import Path

import pytest

from benchmarks import ship_calibration
from scoreinv import shipped
from scoreinv.calibration import Calibration


@pytest.mark.parametrize("name", shipped.calibration_names())
def test_what_ships_is_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text = shipped.calibration_json(name)
    folder = tmp_path / "scoreinv" / "calibrations"
    folder.mkdir(parents=True)
    words = ["ship_calibration", name, "anew", "--people", "people of a collection (CC0)", "--root", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    ship_calibration.main()
    assert (folder / "anew.json").read_bytes() == text
    card, calibration = (folder / "anew.md").read_text(), Calibration.model_validate_json(text)
    assert f"- of people of a collection (CC0); {calibration.n_slices} slices" in card
    assert calibration.prior_sha256 in card
    assert ("is_cross_validated" in card) == name.endswith("-checked")
    assert f"| {100 * calibration.covered[1]:.1f} |" in card
