"""What the card does by itself: matrix products, copies, and the sparse projector of CT beside the CPU's."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.setting import Row, Setting, device_name, seconds_of
from scoreinv.operators.ct import SparseViewCT

N_VIEWS = 23


def card(setting: Setting) -> Iterator[Row]:
    """Its name and memory, what is installed, and its rates."""
    device = setting.device
    row: Row = {"device": device_name(device), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if device.type == "cuda":
        traits = torch.cuda.get_device_properties(device)
        row |= {"memory_gib": round(traits.total_memory / 2**30, 1), "multiprocessors": traits.multi_processor_count}
    yield row
    yield from _products(setting)
    # Four bytes are read and four are written for each number.
    n = setting.choice(2**18, 2**30)
    one, other = (torch.zeros(n, device=device) for _ in range(2))
    seconds = seconds_of(lambda: other.copy_(one), device, at_least=_time(setting))
    yield {"copy_gb_per_second": round(8 * n / seconds / 1e9, 1)}


def _products(setting: Setting) -> Iterator[Row]:
    n, device = setting.choice(128, 8192), setting.device
    kinds = {"float32": (torch.float32, False), "TF32": (torch.float32, True), "bfloat16": (torch.bfloat16, True)}
    for name, (dtype, is_tf32) in kinds.items():
        torch.backends.cuda.matmul.allow_tf32 = is_tf32
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        # Called at once, so the variables are those of this round.
        seconds = seconds_of(lambda: a @ b, device, at_least=_time(setting))  # noqa: B023
        yield {"product": name, "size": n, "tflop_per_second": round(2 * n**3 / seconds / 1e12, 3)}


def _time(setting: Setting) -> float:
    return 0.01 if setting.is_small else 1.0


def projector(setting: Setting) -> Iterator[Row]:
    """A and its adjoint as CSR on the device and on the CPU: milliseconds an image, and the largest difference."""
    size = setting.plan.image.size
    operator = SparseViewCT(n_views=N_VIEWS).operator(size)
    for batch in (1, 2) if setting.is_small else (1, 8, 32):
        x = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0))
        y = operator.forward(x)
        row: Row = {"size": size, "views": N_VIEWS, "batch": batch}
        for name, device in {"cpu": torch.device("cpu"), "device": setting.device}.items():
            there, back = x.to(device), y.to(device)
            forward = seconds_of(lambda: operator.forward(there), device, at_least=_time(setting))  # noqa: B023
            adjoint = seconds_of(lambda: operator.adjoint(back), device, at_least=_time(setting))  # noqa: B023
            row |= {f"{name}_forward_ms": _ms(forward, batch), f"{name}_adjoint_ms": _ms(adjoint, batch)}
        there = x.to(setting.device)
        row["forward_difference"] = _difference(operator.forward(there).cpu(), y)
        row["adjoint_difference"] = _difference(operator.adjoint(y.to(setting.device)).cpu(), operator.adjoint(y))
        yield row


def _ms(seconds: float, batch: int) -> float:
    return round(1000 * seconds / batch, 4)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest, relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())
