"""How a GPU is kept busy: what the CPU draws is sent to it without waiting, and large draws are made on it.

A step is made of calls that the CPU only begins; a GPU works them off behind it. Whoever reads a number of the GPU, or
sends it ordinary memory, waits for all that was begun. So small draws (which images, how they are varied, noise levels)
are made on the CPU, the same for every device, and go through pinned memory; the noise of the images is drawn on the
GPU. On a CPU everything is drawn as if there were no other device.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from scoreinv.spec import MAX_SEED

ModelT = TypeVar("ModelT", bound=nn.Module)


def sent(draws: Tensor, device: torch.device) -> Tensor:
    """Draws of the CPU on a device, for which nobody waits."""
    if device.type != "cuda":
        return draws.to(device)
    return draws.pin_memory().to(device, non_blocking=True)


def normal_like(images: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws with the shape and the device of ``images``; from a generator of the CPU.

    A GPU draws them itself, from a seed that the generator gives: the same ones on the same kind of device, others than
    a CPU's.
    """
    if images.device.type == "cpu":
        return torch.randn(images.shape, generator=generator)
    seed = int(torch.randint(MAX_SEED, (), generator=generator))
    own = torch.Generator(images.device).manual_seed(seed)
    return torch.randn(images.shape, generator=own, device=images.device)


def laid_out(model: ModelT, device: torch.device, *, is_bfloat16: bool = True, is_compiled: bool = False) -> ModelT:
    """A model on a device, its weights in the layout in which it trains fastest there.

    Channels last is fastest where a CPU runs convolutions in bfloat16, and what a compiler starts from. In float32 on a
    CPU backward convolutions take 15 % less time contiguous, unlike everything else. On a GPU torch's GroupNorm leaves
    the channels-last layout, so that every convolution would turn its images round (pytorch issue 111824).
    """
    is_contiguous = not is_compiled if device.type == "cuda" else not is_bfloat16
    layout = torch.contiguous_format if is_contiguous else torch.channels_last
    return model.to(device).to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def compile_networks(network: nn.Module) -> None:
    """Compile a model's network, or each of its networks where it is made of several: containers are never called."""
    if isinstance(network, nn.ModuleList | nn.ModuleDict):
        for part in network.children():
            compile_networks(part)
    else:
        network.compile()


def prefer_speed(device: torch.device) -> None:
    """For the rest of this process: TF32 for what a GPU computes in float32, and the fastest of its convolutions."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
