"""Whether a card trains as one process with room enough does: with too little memory, and in two processes."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.gpu.setting import Row, Setting
from scoreinv.training.checkpoint import build_models
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.objectives import MODEL, Denoising

ROOM_BYTES = 3 * 2**30
"""Of a card, when it is to have too little: far less than a batch takes."""


class Share(Denoising):
    """The part of a batch that belongs to one of several processes; the batch and its noise are the same for all."""

    rank: int = 0
    n_ranks: int = 1

    def examples(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, ...]:
        whole = super().examples(batch, torch.Generator().manual_seed(0))
        return tuple(one[self.rank :: self.n_ranks] for one in whole)


class Watched(Denoising):
    """Notes how many images go through the network at once; where there is no GPU, more than ``room`` are too many."""

    room: int = 0

    def loss(self, models: Any, examples: Any, group: str = MODEL) -> Tensor:
        n = len(examples[-1])
        SEEN.append(n)
        if self.room and n > self.room:
            raise torch.cuda.OutOfMemoryError(f"{n} images are too many for a test")
        return super().loss(models, examples, group)


SEEN: list[int] = []


def memory(setting: Setting) -> Iterator[Row]:
    """A batch that does not fit goes through in halves, with the gradient of the whole."""
    n, is_gpu = setting.choice(4, 64), setting.device.type == "cuda"
    base = setting.plan.objective.model_dump()
    whole = gradient(setting, Denoising(**base), n)
    if is_gpu:
        total = torch.cuda.get_device_properties(setting.device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, ROOM_BYTES / total))
    SEEN.clear()
    parts = gradient(setting, Watched(**base, room=0 if is_gpu else n // 2), n)
    yield {"batch": n, "at_once": SEEN[-1], "tries": sorted(set(SEEN), reverse=True), **_beside(parts, whole)}


def ranks(setting: Setting) -> Iterator[Row]:
    """Two processes on one device, joined by gloo, against one."""
    n, base = setting.choice(4, 16), setting.plan.objective.model_dump()
    with tempfile.TemporaryDirectory() as folder:
        other = multiprocessing.get_context("spawn").Process(target=run_rank, args=(setting, 1, n, folder), daemon=True)
        other.start()
        whole = gradient(setting, Share(**base), n)
        run_rank(setting, 0, n, folder)
        other.join()
        found = [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]
    row: Row = {"batch": n, "ranks_differ": float((found[0] - found[1]).abs().max())}
    yield row | _beside(found[0], whole)


def run_rank(setting: Setting, rank: int, n: int, folder: str) -> None:
    """One of the two: leaves its gradient."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    timeout = timedelta(seconds=60)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2, timeout=timeout)
    found = gradient(
        setting, Share(**setting.plan.objective.model_dump(), rank=rank, n_ranks=2), n, rank=rank, n_ranks=2
    )
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def gradient(setting: Setting, objective: Denoising, n: int, *, rank: int = 0, n_ranks: int = 1) -> Tensor:
    """Of one step over n images, as one vector on the CPU, in float32 without TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    plan, device = setting.plan, setting.device
    spec = TrainSpec(n_images=n, batch_size=n, warmup_images=0, clip_norm=1e9, is_bfloat16=False)
    model = build_models(objective, plan.network, plan.image)[MODEL].to(device)
    side = plan.image.size
    images = torch.rand(n, plan.image.n_channels, side, side, generator=torch.Generator().manual_seed(1)).to(device)
    state = TrainState.fresh({MODEL: model}, spec)
    next(train(state, lambda _n, _generator: images, objective, spec, rank=rank, n_ranks=n_ranks))
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]).cpu()


def _beside(found: Tensor, expected: Tensor) -> Row:
    return {"gradient_norm": float(expected.norm()), "difference": float((found - expected).norm() / expected.norm())}
