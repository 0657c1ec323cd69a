"""Samplers: one file per method."""

from scoreinv.samplers.bregman import Bregman
from scoreinv.samplers.daps import DAPS
from scoreinv.samplers.dds import DDS
from scoreinv.samplers.diffpir import DiffPIR
from scoreinv.samplers.dpir import DPIR
from scoreinv.samplers.dps import DPS
from scoreinv.samplers.heun import Heun
from scoreinv.samplers.langevin import Langevin
from scoreinv.samplers.langevin_projection import LangevinProjection
from scoreinv.samplers.pigdm import PiGDM
from scoreinv.samplers.predictor_corrector import PredictorCorrector
from scoreinv.samplers.projection import Projection
from scoreinv.samplers.red_diff import REDDiff
from scoreinv.samplers.score_sde import ScoreSDE

__all__ = [
    "DAPS",
    "DDS",
    "DPIR",
    "DPS",
    "Bregman",
    "DiffPIR",
    "Heun",
    "Langevin",
    "LangevinProjection",
    "PiGDM",
    "PredictorCorrector",
    "Projection",
    "REDDiff",
    "ScoreSDE",
]
