"""What a training minimises, as ``scoreinv.training.loop.train`` needs to know it.

The modules that are trained have names, and each is a group of parameters with an optimiser of its own. In every step
a batch is made into examples, in which nothing is left to chance, and each group in turn goes down the gradient of its

    loss(models, examples, group),

the mean over the examples. So examples can be cut into parts that fit into memory, and a step can be done again.

A new objective needs a ``loss`` to be handed to ``train``. Those that recipes can name also make the models (``build``)
and the batches (``batches``, ``factor``), and tell how good a model is (``errors``, ``sigmas``); see ``Denoising``.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoreinv.spec import Spec
from scoreinv.training.data import Batch

Examples = tuple[Any, ...]
"""What a loss is computed from: tensors (batch, ...) and what has ``part(places)``, as a problem has; images last."""

Models = Mapping[str, nn.Module]

MODEL = "model"
"""The group whose average is validated and published; its module has its weights in ``network``."""


class Objective(Spec):
    """A loss for each group of parameters."""

    def examples(self, batch: Batch, generator: torch.Generator) -> Examples:
        """A batch with everything that is random drawn from the generator; here nothing."""
        return batch if isinstance(batch, tuple) else (batch,)

    @abstractmethod
    def loss(self, models: Models, examples: Examples, group: str) -> Tensor:
        """The loss of a group of parameters: of each example (batch,), or their mean."""
