"""Seconds and memory of a CT scan whose matrix is too large to be held: 512 x 512 pixels, 720 views.

    python benchmarks/large_scans.py

Three processes take part, one after the other, on one thread each: the first makes the files, in a folder that is
removed afterwards; the second finds them; the third holds the same matrices in memory as smaller scans do, of every
tenth view, and is given times ten. The first two also simulate the data from an image of 1024 x 1024 pixels. Takes two
minutes of a processor and 6 GB of disk. Writes benchmarks/results/large_scans.md.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scoreinv.operators import projectors
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.stored_matrix import FOLDER

RESULTS = Path(__file__).parent / "results" / "large_scans.md"
SIZE, N_VIEWS, BATCH, SHARE = 512, 720, 8, 10

Row = tuple[str, float]
"""What was done, and its processor seconds."""


def seconds(call: Callable[[], object]) -> float:
    """Of the processor."""
    start = time.process_time()
    call()
    return time.process_time() - start


def memory(name: str) -> int:
    """MB of this process: VmHWM is the most it held, mapped pages counted; RssAnon is its own and nobody else's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024


def measure(role: str) -> dict[str, object]:
    """Processor seconds of each operation, and the memory that the process took."""
    torch.set_num_threads(1)
    is_small = role == "memory"
    if is_small:
        projectors.IN_MEMORY_BYTES = float("inf")
    spec = SparseViewCT(n_views=N_VIEWS // SHARE if is_small else N_VIEWS, n_full=N_VIEWS)
    operator = spec.operator(SIZE)
    x, fine = torch.rand(BATCH, *operator.image_shape), torch.rand(1, 1, 2 * SIZE, 2 * SIZE)
    y = torch.rand(BATCH, *operator.data_shape)
    rows = [
        ("projection, first use", seconds(lambda: operator.forward(x[:1]))),
        ("backprojection, first use", seconds(lambda: operator.adjoint(y[:1]))),
        ("projection of one image", seconds(lambda: operator.forward(x[:1]))),
        ("backprojection of one image", seconds(lambda: operator.adjoint(y[:1]))),
        (f"projection of {BATCH} images", seconds(lambda: operator.forward(x))),
        (f"backprojection of {BATCH} images", seconds(lambda: operator.adjoint(y))),
    ]
    if not is_small:
        rows.append(("simulation from 1024 x 1024, first use", seconds(lambda: operator.simulate(fine))))
        rows.append(("simulation from 1024 x 1024", seconds(lambda: operator.simulate(fine))))
    scale = SHARE if is_small else 1
    return {"rows": {name: scale * value for name, value in rows}, "most": memory("VmHWM"), "own": memory("RssAnon")}


def in_a_process(role: str, folder: str) -> dict[str, object]:
    """What a process of its own measures."""
    environment = {**os.environ, FOLDER: folder, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, role]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def report(found: dict[str, dict[str, object]], n_bytes: int) -> str:
    """The page."""
    names = list(found["makes"]["rows"])
    lines = [
        "| "
        + " | ".join([name, *(f"{one['rows'][name]:.2f}" if name in one["rows"] else "" for one in found.values())])
        + " |"
        for name in names
    ]
    memories = [
        f"| {text} | {found['makes'][key]} | {found['finds'][key]} | |"
        for key, text in (("most", "most memory, MB, mapped pages counted"), ("own", "of its own at the end, MB"))
    ]
    return "\n".join(
        [
            "# CT scans whose matrix is too large to be held",
            "",
            f"Processor seconds, one thread, float32, {SIZE} x {SIZE} pixels, {N_VIEWS} views. Written by "
            f"`python benchmarks/large_scans.py`. Python {platform.python_version()}, torch {torch.__version__}.",
            "",
            "| | makes the files | finds them | in memory (a tenth of the views, times ten) |",
            "|---|---|---|---|",
            *lines,
            *memories,
            "",
            f"The files take {n_bytes / 1e9:.1f} GB: a quarter of the views, as the others are the same of a turned or "
            "mirrored image. What the system keeps of them in memory is shared by all processes.",
            "",
        ]
    )


def main() -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        found = {role: in_a_process(role, folder) for role in ("makes", "finds", "memory")}
        n_bytes = sum(path.stat().st_size for path in Path(folder).glob("*.csr"))
    page = report(found, n_bytes)
    print(page)
    RESULTS.write_text(page)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
