"""Every method there is: samplers and baselines behind one interface."""

from typing import Annotated

from pydantic import Field

from scoreinv.baselines import CGLS, NMAR, Direct, External, Learned, LinearInterpolation, TotalVariation, Wavelet
from scoreinv.samplers import (
    DAPS,
    DDS,
    DPIR,
    DPS,
    Bregman,
    DiffPIR,
    Heun,
    Langevin,
    LangevinProjection,
    PiGDM,
    PredictorCorrector,
    Projection,
    REDDiff,
    ScoreSDE,
)

AnyMethod = Annotated[
    Direct
    | TotalVariation
    | DDS
    | DiffPIR
    | DPIR
    | Bregman
    | DAPS
    | REDDiff
    | Projection
    | LangevinProjection
    | Langevin
    | ScoreSDE
    | PredictorCorrector
    | Heun
    | DPS
    | PiGDM
    | Wavelet
    | CGLS
    | External
    | Learned
    | LinearInterpolation
    | NMAR,
    Field(discriminator="kind"),
]
