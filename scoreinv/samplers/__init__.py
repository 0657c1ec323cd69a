"""Samplers: one file per method."""

from typing import Annotated

from pydantic import Field

from scoreinv.samplers.daps import DAPS
from scoreinv.samplers.dds import DDS
from scoreinv.samplers.diffpir import DiffPIR
from scoreinv.samplers.dps import DPS
from scoreinv.samplers.langevin import Langevin
from scoreinv.samplers.langevin_projection import LangevinProjection
from scoreinv.samplers.pigdm import PiGDM
from scoreinv.samplers.predictor_corrector import PredictorCorrector
from scoreinv.samplers.projection import Projection
from scoreinv.samplers.red_diff import REDDiff
from scoreinv.samplers.score_sde import ScoreSDE

AnySampler = Annotated[
    DDS
    | DiffPIR
    | DAPS
    | REDDiff
    | Projection
    | LangevinProjection
    | Langevin
    | ScoreSDE
    | PredictorCorrector
    | DPS
    | PiGDM,
    Field(discriminator="kind"),
]

__all__ = [
    "DAPS",
    "DDS",
    "DPS",
    "AnySampler",
    "DiffPIR",
    "Langevin",
    "LangevinProjection",
    "PiGDM",
    "PredictorCorrector",
    "Projection",
    "REDDiff",
    "ScoreSDE",
]
