"""Every method there is: samplers and baselines behind one interface."""

from typing import Annotated

from pydantic import Field

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.learned import Learned
from scoreinv.baselines.tv import TotalVariation
from scoreinv.baselines.wavelet import Wavelet
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

AnyMethod = Annotated[
    Direct
    | TotalVariation
    | DDS
    | DiffPIR
    | DAPS
    | REDDiff
    | Projection
    | LangevinProjection
    | Langevin
    | ScoreSDE
    | PredictorCorrector
    | DPS
    | PiGDM
    | Wavelet
    | Learned,
    Field(discriminator="kind"),
]
