"""Every method there is: samplers and baselines behind one interface."""

from typing import Annotated

from pydantic import Field

from scoreinv.baselines import Direct
from scoreinv.samplers import DDS, PredictorCorrector, Projection

AnyMethod = Annotated[DDS | Projection | PredictorCorrector | Direct, Field(discriminator="kind")]
