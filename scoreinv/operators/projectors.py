"""Ways to compute line integrals: one pair (project, backproject) for each, all with the same conventions.

``matrix`` is the reference: the geometry's own rows, the exact transpose, every device; held in memory, or in a file of
this machine where it is large. The others are for people who have them, and for parallel beams: ``torch_radon`` (CUDA)
and ``astra`` (its CPU projector with linear interpolation). They are imported when chosen.

Here images are (n, size, size) and sinograms (n, n_views, n_bins): channels have been put beside each other.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoreinv.errors import MissingPackage, UserError
from scoreinv.operators import large_projector
from scoreinv.operators.geometry import Geometry
from scoreinv.operators.linear import ProjectorName
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.operators.projection_matrix import n_bytes, projection_matrix, rows_times

Map = Callable[[Tensor], Tensor]

IN_MEMORY_BYTES = 512e6
"""A matrix and its transpose together: larger ones lie in a file. 256 pixels and 180 views take 430 MB."""


class Projector(NamedTuple):
    """Sinograms of images, and the way back, its adjoint; differentiable."""

    project: Map
    backproject: Map


def projector(geometry: Geometry, name: ProjectorName) -> Projector:
    """The pair of that name.

    Raises:
        MissingPackage: if its package is not installed.
        UserError: if it is for other lines.
    """
    require(name)
    if name == "astra":
        beam = _parallel(geometry)
        pair = partial(_astra_project, beam), partial(_astra_backproject, beam)
    elif name == "torch_radon":
        beam = _parallel(geometry)
        pair = partial(_torch_radon_project, beam), partial(_torch_radon_backproject, beam)
    elif 2 * n_bytes(geometry) > IN_MEMORY_BYTES:
        pair = partial(large_projector.project, geometry), partial(large_projector.backproject, geometry)
    else:
        pair = partial(_matrix_project, geometry), partial(_matrix_backproject, geometry)
    there, back = pair
    return Projector(partial(_linear, there, back), partial(_linear, back, there))


def require(name: ProjectorName) -> None:
    """Nothing, if the projector can be imported.

    Raises:
        MissingPackage: if its package is not installed.
    """
    package, advice = {
        "matrix": ("torch", ""),
        "astra": ("astra", "install it with: pip install 'scoreinv[astra]'"),
        "torch_radon": ("torch_radon", "build it from github.com/matteo-ronchetti/torch-radon, which needs CUDA"),
    }[name]
    if find_spec(package) is None:
        raise MissingPackage(
            f"projector={name!r} needs the package {package!r}: {advice}; or choose projector='matrix'"
        )


def _parallel(geometry: Geometry) -> ParallelBeam:
    if not isinstance(geometry, ParallelBeam):
        raise UserError(
            f"projector='astra' and 'torch_radon' are for parallel beams, not for {type(geometry).__name__}: "
            "choose projector='matrix'"
        )
    return geometry


def _linear(there: Map, back: Map, x: Tensor) -> Tensor:
    result: Tensor = _Linear.apply(x, there, back)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    """x -> there(x) with the gradient back(g), to any order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Map, back: Map) -> Tensor:
        ctx.there, ctx.back = there, back
        return there(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _linear(ctx.back, ctx.there, gradient), None, None


def _matrix_project(geometry: Geometry, x: Tensor) -> Tensor:
    return rows_times(projection_matrix(geometry, x.dtype, x.device), x).view(len(x), *geometry.data_shape)


def _matrix_backproject(geometry: Geometry, y: Tensor) -> Tensor:
    matrix = projection_matrix(geometry, y.dtype, y.device, transposed=True)
    return rows_times(matrix, y).view(len(y), geometry.size, geometry.size)


def _astra_project(geometry: ParallelBeam, x: Tensor) -> Tensor:
    return _astra_run(geometry, x, forward=True)


def _astra_backproject(geometry: ParallelBeam, y: Tensor) -> Tensor:
    return _astra_run(geometry, y, forward=False)


def _astra_run(geometry: ParallelBeam, batch: Tensor, *, forward: bool) -> Tensor:
    """Results of ASTRA's CPU projector for a batch (batch, rows, columns), computed in float32, one by one."""
    import astra

    volume = astra.create_vol_geom(geometry.size, geometry.size)
    scan = astra.create_proj_geom("parallel", geometry.bin_spacing, geometry.n_bins, np.array(geometry.angles))
    shape = geometry.data_shape if forward else (geometry.size, geometry.size)
    results = np.zeros((len(batch), *shape), dtype=np.float32)
    handle = astra.create_projector("linear", scan, volume)
    try:
        for item, result in zip(np.ascontiguousarray(batch.detach().cpu().float().numpy()), results, strict=True):
            pair = (item, result) if forward else (result, item)
            _astra_step(handle, scan, volume, pair, "FP" if forward else "BP")
    finally:
        astra.projector.delete(handle)
    return torch.from_numpy(results).to(batch)


def _astra_step(handle: int, scan: Any, volume: Any, pair: tuple[Any, Any], algorithm: str) -> None:
    """Fill the sinogram (FP) or the image (BP) of a pair (image, sinogram) in place."""
    import astra

    image, sinogram = astra.data2d.link("-vol", volume, pair[0]), astra.data2d.link("-sino", scan, pair[1])
    options = astra.astra_dict(algorithm)
    options["ProjectorId"], options["ProjectionDataId"] = handle, sinogram
    options["VolumeDataId" if algorithm == "FP" else "ReconstructionDataId"] = image
    run = astra.algorithm.create(options)
    astra.algorithm.run(run)
    astra.algorithm.delete(run)
    astra.data2d.delete([image, sinogram])


def _torch_radon_project(geometry: ParallelBeam, x: Tensor) -> Tensor:
    y: Tensor = _torch_radon(geometry).forward(_on_cuda(x))
    return y.to(x)


def _torch_radon_backproject(geometry: ParallelBeam, y: Tensor) -> Tensor:
    x: Tensor = _torch_radon(geometry).backward(_on_cuda(y))
    return x.to(y)


def _on_cuda(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        raise UserError(f"torch_radon needs CUDA tensors, got {tensor.device}: move them, or choose projector='matrix'")
    return tensor.float().contiguous()


@lru_cache(maxsize=8)
def _torch_radon(geometry: ParallelBeam) -> Any:
    """The package's own projector, written to the interface of its version 2; not tested, for want of CUDA."""
    import torch_radon

    volume = torch_radon.Volume2D()
    volume.set_size(geometry.size, geometry.size)
    return torch_radon.ParallelBeam(
        geometry.n_bins, torch.tensor(geometry.angles, dtype=torch.float32), geometry.bin_spacing, volume
    )
