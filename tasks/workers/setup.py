"""What a local Dask worker does before it takes work: the slow import, once, and its manners."""

import os
import signal

import torch


def dask_setup(worker: object) -> None:
    """Called by Dask (``--preload tasks.workers.setup``) when a worker starts."""
    # A terminal sends Ctrl-C to workers as well; the process that started them ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
