"""What a local Dask worker does before it takes work: the slow import, once, and its manners."""

import os
import signal

import torch

KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""For glibc: keep freed memory, in huge pages. Networks ask for the same large blocks again and again; fetching their
pages from the kernel each time made a network call on a CPU take up to twice the time, and Dask asks for just that."""


def dask_setup(worker: object) -> None:
    """Called by Dask (``--preload tasks.workers.setup``) when a worker starts."""
    # A terminal sends Ctrl-C to workers as well; the process that started them ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
