"""The library's core needs torch, numpy, pydantic and safetensors, and nothing else."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFUSED = ("scipy", "skimage", "pywt", "zarr", "fsspec", "dask", "distributed", "prefect", "yaml", "filelock")

SCRIPT = f"""
import sys


class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED!r}:
            raise ImportError(f"{{name}} is not needed")


import torch

sys.meta_path.insert(0, Refused())
import scoreinv.measurement, scoreinv.methods, scoreinv.metrics.image, scoreinv.operators, scoreinv.priors
import scoreinv.training.objectives
from scoreinv.contract import ImageContract
from scoreinv.operators.ct import SparseViewCT

operator = SparseViewCT(n_views=4).operator(16)
image = torch.rand(2, 1, 16, 16)
assert operator.direct(operator.forward(image)).shape == image.shape
"""


def test_networks_methods_and_operators_are_there_without_other_packages() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
