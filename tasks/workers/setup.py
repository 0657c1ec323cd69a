"""What a local Dask worker does before it takes work: the slow import, once, and its share of the CPU."""

import os

import torch


def dask_setup(worker: object) -> None:
    """Called by Dask (``--preload tasks.workers.setup``) when a worker starts."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
