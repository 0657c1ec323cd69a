"""Reconstructions on the card: slices a second of the presets, and whether the batch changes an image.

The network is the one that is packed, or has random weights: a call takes as long. Data are those of held-out people.
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu.packed import read_images, read_weights
from benchmarks.gpu.setting import Row, Setting, wait
from benchmarks.gpu.training import peak_gib
from scoreinv.denoiser import ScoreModel
from scoreinv.measurement import simulate
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.training.checkpoint import build_model, load_weights


def presets(setting: Setting) -> Iterator[Row]:
    """Slices a second of each preset against the batch, in both precisions; until one is too large."""
    images = _images(setting)
    for precision in ("float32", "bfloat16"):
        model = _model(setting, precision)
        for name, method in _methods(setting).items():
            for batch in (1, 2) if setting.is_small else (1, 8, 32, 128):
                row: Row = {"preset": name, "calls": method.n_calls, "precision": precision, "batch": batch}
                try:
                    yield row | _rate(setting, method, model, images, batch)
                except torch.cuda.OutOfMemoryError:
                    yield row | {"error": "out of memory"}
                    break


def _rate(setting: Setting, method: Method, model: ScoreModel, images: Tensor, batch: int) -> Row:
    problem, names = _problem(setting, images, batch)
    # A few levels choose convolutions and make matrices, which the first batch of a run does once.
    _reconstructed(_with_levels(method, 3), problem, names, model)
    wait(setting.device)
    start = time.perf_counter()
    _reconstructed(method, problem, names, model)
    wait(setting.device)
    return {"slices_per_second": round(batch / (time.perf_counter() - start), 3), "peak_gib": peak_gib(setting.device)}


def batches(setting: Setting) -> Iterator[Row]:
    """The largest difference between images of a batch of 32 and the same ones alone; a data range is 1."""
    images, n = _images(setting), setting.choice(3, 32)
    name, method = min(_methods(setting).items(), key=lambda item: item[1].n_calls)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for precision in ("float32", "bfloat16"):
        model = _model(setting, precision)
        problem, names = _problem(setting, images, n)
        together = _reconstructed(method, problem, names, model)
        for place in (0, n - 1):
            alone = problem.part(torch.tensor([place], device=setting.device))
            x = _reconstructed(method, alone, names[place : place + 1], model)
            difference = float((x[0] - together[place]).abs().max())
            yield {"preset": name, "precision": precision, "batch": n, "place": place, "difference": difference}


def _methods(setting: Setting) -> dict[str, Method]:
    """The presets, by their names."""
    methods = setting.plan.methods
    return {name: _with_levels(one, 4) if setting.is_small else one for name, one in methods.items()}


def _with_levels(method: Method, n: int) -> Method:
    """The same with so many noise levels."""
    return method.model_copy(update={"grid": dict(method)["grid"].model_copy(update={"n_levels": n})})


def _reconstructed(method: Method, problem: InverseProblem, names: list[str], model: ScoreModel) -> Tensor:
    with torch.no_grad():
        return reconstruct(method, problem, model, noise=Noise(0, names)).x


def _images(setting: Setting) -> Tensor:
    return read_images(setting.packed, size=setting.plan.image.size).held_out


def _problem(setting: Setting, images: Tensor, batch: int) -> tuple[InverseProblem, list[str]]:
    """Data of so many images, each perhaps several times, under other names."""
    plan, names = setting.plan, [str(place) for place in range(batch)]
    chosen = images[torch.arange(batch) % len(images)]
    data = simulate(plan.measurement, chosen, plan.image, Noise(0, names)).to(setting.device)
    return InverseProblem.of(plan.measurement, data, plan.image), names


def _model(setting: Setting, precision: str) -> ScoreModel:
    plan, weights = setting.plan, read_weights(setting.packed)
    model = build_model(plan.network, plan.objective.preconditioning, n_channels=plan.image.n_channels)
    model = load_weights(model, weights) if weights else _with_random_weights(model)
    model.sigma_min = plan.objective.levels.sigma_min
    model.autocast_dtype = torch.bfloat16 if precision == "bfloat16" else None
    return model.to(setting.device)


def _with_random_weights(model: ScoreModel) -> ScoreModel:
    """A new one answers by zero, which hides what a batch does."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.eval().requires_grad_(False).parameters():
        parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return model
