"""How numerical libraries behave in a worker: what they find in their environment, and how many threads they take."""

import os

import torch

KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""For glibc: keep freed memory, in huge pages. Networks ask for the same large blocks again and again; fetching their
pages from the kernel each time made a network call on a CPU take up to twice the time, and Dask asks for just that."""


def limit_threads() -> None:
    """Give torch the threads that the environment grants, one if it says nothing."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
