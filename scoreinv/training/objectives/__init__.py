"""Objectives: what a training minimises, one file each."""

from typing import Annotated

from pydantic import Field

from scoreinv.training.objectives.adversarial import Adversarial
from scoreinv.training.objectives.denoising import Denoising
from scoreinv.training.objectives.objective import MODEL, Examples, Models, Objective
from scoreinv.training.objectives.supervised import Supervised

AnyObjective = Annotated[Denoising | Supervised | Adversarial, Field(discriminator="kind")]

__all__ = ["MODEL", "Adversarial", "AnyObjective", "Denoising", "Examples", "Models", "Objective", "Supervised"]
