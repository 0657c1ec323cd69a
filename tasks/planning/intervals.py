"""Which shipped calibration gives the images of a plan their intervals, if one does."""

from typing import NamedTuple

from scoreinv.calibration import Calibration, Use
from scoreinv.cross_validation import checked
from scoreinv.errors import UserError
from scoreinv.shipped import calibration_names
from tasks.workers.calibrate import load_calibration

MAKE_ONE = "`scoreinv calibrate` makes one of people whose truth is known"


class Intervals(NamedTuple):
    """The calibration by its name, empty if there is none; whether it takes views that are left out; and why."""

    calibration: str
    is_cross_validated: bool
    why: str


def intervals_for(use: Use) -> Intervals:
    """The calibration of data measured alike; or one that follows views that are left out, where they can be."""
    known = {name: load_calibration(name) for name in calibration_names()}
    fitting = {name: one for name, one in known.items() if not one.mismatch(use)}
    plain = {name: one for name, one in fitting.items() if not one.typical}
    if not fitting:
        return Intervals("", False, f"none, no calibration ships for this prior, preset and kind of data: {MAKE_ONE}")
    elsewhere = {name: one.elsewhere(use.measurement, is_exact=use.is_exact) for name, one in fitting.items()}
    for name, one in plain.items():
        if not elsewhere[name]:
            return Intervals(name, False, f"calibration {name}, of {one.n_people} people and data measured alike")
    for name, one in fitting.items():
        if one.typical and _has_its_noise(one, use) and _can_be_checked(use):
            why = f"{elsewhere[name]}, so views are left out to tell how far each image is off: twice the calls"
            return Intervals(name, True, f"calibration {name}, of {one.n_people} people; {why}")
    return Intervals("", False, f"none, as {next(iter(elsewhere.values()))}: {MAKE_ONE}")


def _has_its_noise(calibration: Calibration, use: Use) -> bool:
    """Views that are left out make good for other views, but hardly for other noise (docs/trust.md)."""
    noise = use.measurement.noise.model_dump(mode="json")
    return calibration.measurement["noise"] == noise and calibration.is_exact == use.is_exact


def _can_be_checked(use: Use) -> bool:
    try:
        checked(use.measurement.operator(use.image.size, n_channels=use.image.n_channels))
    except UserError:
        return False
    return True
