"""The contract of what a recipe trains, before and after it is trained."""

import torch

import scoreinv
from scoreinv.contract import Contract, ImageContract, PriorContract, ReconstructorContract
from scoreinv.training.objectives import Adversarial, Denoising, Supervised
from tasks.recipes import TrainRecipe


def contract_of(recipe: TrainRecipe, image: ImageContract, *, images_seen: int = 0, sha256: str = "") -> Contract:
    """The contract of weights that a recipe leads to."""
    shared = {
        "name": recipe.name,
        "image": image,
        "network": recipe.network.model_dump(mode="json"),
        "training_data": list(recipe.training_data),
        "licence": recipe.licence,
        "images_seen": images_seen,
        "sha256": sha256,
        "versions": {"scoreinv": scoreinv.__version__, "torch": torch.__version__},
    }
    objective = recipe.objective
    if isinstance(objective, Denoising):
        own = {
            "preconditioning": objective.preconditioning.model_dump(mode="json"),
            "sigma_min": objective.levels.sigma_min,
            "sigma_max": objective.levels.sigma_max,
            "sizes": objective.sizes(image) if objective.crop else None,
        }
        return PriorContract.model_validate(shared | own)
    measurement = _supervised(objective).measurement.model_dump(mode="json")
    return ReconstructorContract.model_validate(shared | {"measurement": measurement})


def _supervised(objective: Supervised | Adversarial) -> Supervised:
    return objective.supervised if isinstance(objective, Adversarial) else objective
