"""What a training's processes are told."""

from scoreinv.spec import Spec
from tasks.recipes import TrainRecipe
from tasks.running.shards import Launch


class TrainJob(Spec):
    """What to train, from which stores, where to and how."""

    recipe: TrainRecipe
    datasets: tuple[str, ...]
    target: str
    """The folder of the model."""
    trunk: str
    """The folder that it shares with trainings of other lengths."""
    initial: str = ""
    initial_sha256: str = ""
    coarse: str = ""
    """Of the prior that has, or is, the coarse part of what is published."""
    coarse_sha256: str = ""
    launch: Launch = Launch()
    device: str = "auto"

    def trunk_digest(self) -> str:
        """What checkpoints of trainings of all lengths have in common."""
        return self.recipe.trunk(self.initial_sha256)
